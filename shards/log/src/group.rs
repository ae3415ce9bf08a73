//! Flush groups: what was appended is written durably, one group in flight per log, the rest joins the next.
//! Owner: `Log`.
//! Invariant: a group lies in one segment, on fresh blocks, inside durable space, within the bound a checkpoint holds; flushed moves only when its write is complete.
//! Not here: filling groups (`append.rs`).

use crate::checkpoint::Mark;
use crate::event::LogEvent;
use crate::frame::{REGION, align_up, region_of, within};
use crate::io::{Errno, IoOk, IoRequest};
use crate::log::{InFlight, Log};
use crate::ops::LogOp;
use crate::turn::Turn;

/// Frame bytes after which the partition's state is asked for again.
const SNAPSHOT_EVERY_BYTES: u64 = 16 << 20;

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
        let Some(file) = file.filter(|_| ready) else { return false };
        assert!(end <= room, "the log accepts only what it has room for");
        assert!(
            bytes <= self.bound_durable(),
            "P2: both checkpoints hold the bound of every group"
        );
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
            start: group.start,
            since_ns: turn.now.mono_ns,
            stall_told: false,
            end: mark,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            frame_bytes: group.frame_bytes,
            max_timestamp: group.max_timestamp,
        });
        self.group = None;
        turn.shared.writes_in_flight += 1;
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

    /// The group's write is done: durable, or the log is poisoned (P11).
    pub(crate) fn complete(&mut self, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        let failure = self.write_failure(&result);
        for slice in self.in_flight_slices.drain(..) {
            turn.blocks.release(slice);
        }
        let Some(group) = self.in_flight.take() else { return };
        turn.shared.writes_in_flight -= 1;
        if self.is_poisoned() {
            return;
        }
        if let Some(failure) = failure {
            return self.poison(failure, turn);
        }
        assert!(group.end.offset > self.flushed.offset, "flushed moves forward only");
        assert!(group.end.offset <= self.head.offset, "flushed beyond the end");
        self.flushed = group.end;
        let bytes = group.frame_bytes;
        if let Some(segment) = self.segment_mut(group.end.segment) {
            segment.raise_time(group.max_timestamp);
        }
        turn.shared.checkpoint_dirty = true;
        turn.shared.flushed_since_checkpoint += bytes;
        turn.tell(LogEvent::Flushed { key: self.key, upto: group.end.offset });
        self.flushed_behind_snapshot(bytes);
    }

    /// So many more frame bytes stand behind the newest snapshot.
    pub(crate) fn flushed_behind_snapshot(&mut self, bytes: u64) {
        self.snapshot.bytes_since += bytes;
        self.snapshot.due |= self.snapshot.bytes_since >= SNAPSHOT_EVERY_BYTES;
    }

    /// Why the write in flight does not count, if it does not.
    fn write_failure(&self, result: &Result<IoOk, Errno>) -> Option<String> {
        let asked = self.in_flight?.bytes;
        match result {
            Ok(IoOk::Bytes(bytes)) if *bytes == asked => None,
            Ok(_) => Some(format!("short {}: {result:?}", self.describe_write())),
            Err(errno) => Some(self.describe(LogOp::Group, *errno)),
        }
    }

    /// Bytes of frames appended but not flushed, in the active segment.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        let flying = self.in_flight.map_or(0, |group| group.frame_bytes);
        flying + self.group.map_or(0, |group| group.frame_bytes)
    }
}
