//! Flush groups: what was appended is written durably, one group in flight per log, the rest joins the next.
//! Owner: `Log`.
//! Invariant: a group lies in one segment, on fresh blocks, inside durable space, within the bound a checkpoint holds; flushed moves only when its write is complete.
//! Not here: filling groups (`append.rs`).

use crate::checkpoint::Mark;
use crate::event::LogEvent;
use crate::frame::{REGION, align_up, region_of, within};
use crate::io::{ENOSPC, Errno, IoOk, IoRequest};
use crate::log::{InFlight, Log};
use crate::ops::LogOp;
use crate::turn::Turn;

/// Frame bytes after which the partition's state is asked for again.
const SNAPSHOT_EVERY_BYTES: u64 = 16 << 20;

/// How a write of a group failed, and whom it concerns.
pub(crate) enum WriteFailure {
    /// Fewer bytes than asked: this log alone.
    Short,
    /// The durable write failed: the device's cache is unknown for every log with unflushed writes.
    Durable(Errno),
}

impl Log {
    /// Writes the open group when nothing stands in its way. True: it is on its way.
    pub(crate) fn submit(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(group) = self.group else { return false };
        if self.in_flight.is_some() || self.is_poisoned() || group.frames == 0 {
            return false;
        }
        let block = turn.block();
        let end = align_up(self.head.position, block);
        let bytes = end - group.start;
        let (ready, room, file) = {
            let active = self.active();
            (active.ready, active.file_bytes, active.file)
        };
        let Some(file) = file.filter(|_| ready && end <= room) else { return false };
        if bytes > self.bound_durable() {
            turn.shared.checkpoint_urgent = true;
            return false;
        }
        self.zero(self.head.position, end, turn.blocks);
        let first = u32::try_from(turn.io.slices.len()).unwrap_or(u32::MAX);
        self.freeze_group(group.start, end, turn);
        let last = u32::try_from(turn.io.slices.len()).unwrap_or(u32::MAX);
        let id = turn.id(self.slot, LogOp::Group);
        self.busy += 1;
        let data = first..last;
        turn.ask(IoRequest::Write { id, file, at: group.start, data, durable: true });
        let (position, offset) = (self.head.position, self.head.offset);
        let segment = self.active_base();
        let mark = Mark { segment, position, offset, crc: self.head.crc, len: self.head.len };
        self.in_flight = Some(InFlight {
            end: mark,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            frame_bytes: group.frame_bytes,
            max_timestamp: group.max_timestamp,
        });
        self.group = None;
        self.last_group_bytes = bytes;
        turn.shared.counts.group_writes += 1;
        turn.shared.counts.written_bytes += bytes;
        true
    }

    /// Freezes `start..end` of the active segment, block by block, as the gather list.
    fn freeze_group(&mut self, start: u64, end: u64, turn: &mut Turn<'_>) {
        assert!(self.in_flight_slices.is_empty(), "one group in flight");
        let base = self.active_base();
        let Some(mut index) = self.tail.index_of(base, start) else {
            panic!("the group at {start} of segment {base} has no block");
        };
        let mut at = start;
        while at < end {
            let upto = end.min((u64::from(region_of(at)) + 1) * REGION);
            let tail = &self.tail.blocks[index];
            assert_eq!(
                (tail.base, tail.region),
                (base, region_of(at)),
                "tail blocks are contiguous"
            );
            let stop = within(at) + u32::try_from(upto - at).unwrap_or(0);
            let slice = turn.blocks.freeze(tail.block, within(at), stop);
            turn.io.slices.push(slice);
            self.in_flight_slices.push(slice);
            at = upto;
            index += 1;
        }
    }

    /// The group's write is done: durable, or the log is poisoned.
    pub(crate) fn complete(
        &mut self,
        result: Result<IoOk, Errno>,
        turn: &mut Turn<'_>,
    ) -> Option<WriteFailure> {
        for slice in self.in_flight_slices.drain(..) {
            turn.blocks.release(slice);
        }
        let group = self.in_flight.take()?;
        if self.is_poisoned() {
            return None;
        }
        match result {
            Ok(IoOk::Bytes(bytes)) if bytes == group.bytes => {}
            Ok(_) => return Some(WriteFailure::Short),
            Err(errno) => return Some(WriteFailure::Durable(errno)),
        }
        assert!(group.end.offset > self.flushed.offset, "flushed moves forward only");
        assert!(group.end.offset <= self.head.offset, "flushed beyond the end");
        self.flushed = group.end;
        let bytes = group.frame_bytes;
        if let Some(segment) = self.segment_mut(group.end.segment) {
            segment.raise_time(group.max_timestamp);
        }
        turn.shared.checkpoint_dirty = true;
        turn.tell(LogEvent::Flushed { key: self.key, upto: group.end.offset });
        self.snapshot.bytes_since += bytes;
        if self.snapshot.bytes_since >= SNAPSHOT_EVERY_BYTES {
            self.snapshot.due = true;
        }
        None
    }

    /// Bytes of frames appended but not flushed, in the active segment.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        let flying = self.in_flight.map_or(0, |group| group.frame_bytes);
        flying + self.group.map_or(0, |group| group.frame_bytes)
    }
}

/// What the operator is told of a failed write.
pub(crate) fn describe(failure: &WriteFailure, segment: u64) -> String {
    match failure {
        WriteFailure::Short => format!("short write to segment {segment}"),
        WriteFailure::Durable(errno) if *errno == ENOSPC => {
            format!("no space for a write into allocated space of segment {segment}")
        }
        WriteFailure::Durable(errno) => format!("write to segment {segment}: errno {}", errno.0),
    }
}
