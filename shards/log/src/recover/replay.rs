//! Derived state of a recovered log: from the snapshot, then from the headers behind it.
//! Owner: one recovery, once its end is known.
//! Invariant: a doubted snapshot is dropped and everything comes from headers; frames are told in offset order.
//! Not here: what the partition makes of them (`partition`).

use super::{Phase, REPLAY_FRAMES_MAX, Recovery};
use crate::checkpoint::Mark;
use crate::event::LogEvent;
use crate::scan::{At, Placed};
use crate::segment::{Segment, by_base, holder};
use crate::snapshot::Snapshot;
use crate::turn::Turn;
use crate::verdict::{Scan, Step};

impl Recovery {
    pub(super) fn start_replay(&mut self, turn: &mut Turn<'_>) -> bool {
        let _ = turn;
        let Some(result) = &self.result else { return false };
        let good = self.snapshot.take().filter(|snapshot| {
            let mark = &snapshot.mark;
            mark.offset <= self.end.o
                && mark.offset >= result.log_start
                // Told without a frame behind it that proves the link: the end itself must be the one.
                && (mark.offset < self.end.o || (mark.crc, mark.len) == (self.end.crc, self.end.len))
                && !result.table.undone(snapshot.epoch, mark.offset)
                && self.resume(mark).is_some()
        });
        let at = match &good {
            Some(snapshot) => {
                for told in &snapshot.segments {
                    if let Some(at) = by_base(&self.segments, told.base) {
                        let (file, bytes) = (self.segments[at].file, self.segments[at].file_bytes);
                        self.segments[at] = told.clone();
                        if file.is_some() {
                            (self.segments[at].file, self.segments[at].file_bytes) = (file, bytes);
                        }
                    }
                }
                let mark = snapshot.mark;
                let (si, p) = self.resume(&mark).unwrap_or((0, 0));
                let (crc, len) = (mark.crc, mark.len);
                At { si, p, o: mark.offset, crc, len, any: len == 0, floor: 0 }
            }
            None => {
                let si = holder(&self.segments, result.log_start).unwrap_or(0);
                for segment in &mut self.segments {
                    *segment = Segment {
                        file: segment.file,
                        file_bytes: segment.file_bytes,
                        ..Segment::new(segment.base)
                    };
                }
                At::start_of(si, self.segments[si].base)
            }
        };
        self.snapshot = good;
        // What the replay passes it judges again: with what stands before, and as the next start will, whose
        // checkpoint lies behind it (D7).
        let (from, end) = (at.o, self.end.o);
        self.damaged.retain(|range| range.from < from || range.from >= end);
        (self.replay_started, self.replayed_bytes) = (false, 0);
        let stop = Some((self.segments[self.end.si].base, self.end.p));
        self.scan = Some(Scan::new(at, self.end.o, stop, None, false));
        self.enter(Phase::Replay)
    }

    /// Where the log goes on behind a snapshot: in its segment, or in the next when retention took that one.
    fn resume(&self, mark: &Mark) -> Option<(usize, u64)> {
        let same = by_base(&self.segments, mark.segment).map(|si| (si, mark.position));
        same.or_else(|| by_base(&self.segments, mark.offset).map(|si| (si, 0)))
    }

    /// Tells the snapshot once the replay has proved that the log goes on from it.
    fn tell_snapshot(&mut self, turn: &mut Turn<'_>) {
        self.replay_started = true;
        if let Some(snapshot) = self.snapshot.take() {
            self.snapshot_offset = snapshot.mark.offset;
            turn.tell(LogEvent::Snapshot(self.key, snapshot.body));
        }
    }

    fn replay_frame(&mut self, placed: &Placed, turn: &mut Turn<'_>) {
        self.tell_snapshot(turn);
        self.segments[placed.si].note(&placed.head, placed.position);
        self.replayed_bytes += u64::from(placed.head.frame_len);
        turn.tell(LogEvent::Replayed(self.key, placed.head.batch_facts()));
    }

    /// Frames from `offset` on that the scan has seen.
    fn replay_passed(&mut self, offset: u64, turn: &mut Turn<'_>) -> bool {
        let passed = self.passed.take_from(offset);
        // Nothing was read behind the snapshot: the first of them proves it.
        let goes_on = |snapshot: &Snapshot, first: &Placed| {
            let (mark, head) = (snapshot.mark, &first.head);
            let linked =
                mark.len == 0 || (head.prev_crc, head.prev_frame_len) == (mark.crc, mark.len);
            head.base_offset == mark.offset && linked
        };
        let proved = self.snapshot.as_ref().is_none_or(|snapshot| match passed.first() {
            Some(first) => goes_on(snapshot, first),
            // The end itself is the one, or it would not have been begun with.
            None => snapshot.mark.offset == self.end.o,
        });
        if !proved {
            self.snapshot = None;
            return self.start_replay(turn);
        }
        for placed in &passed {
            self.replay_frame(placed, turn);
        }
        self.tell_snapshot(turn);
        self.settle(turn)
    }

    pub(super) fn replay_on(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let mut left = REPLAY_FRAMES_MAX;
        loop {
            // Just there, and only there: from a place beside it the same disk would be judged in another way by a start
            // whose checkpoint lies elsewhere (D7).
            if self.passed.begins_at(&scan.at) {
                self.damaged.extend(scan.damaged);
                return self.replay_passed(scan.at.o, turn);
            }
            let table = self.result.as_ref().map(|result| &result.table);
            let step = scan.step(&self.view(turn, table));
            let doubted = !self.replay_started && !scan.damaged.is_empty();
            if doubted && self.snapshot.take().is_some() {
                // The log does not go on where the snapshot says: everything from the headers.
                return self.start_replay(turn);
            }
            match step {
                Ok(Step::Frame(placed)) => {
                    self.replay_frame(&placed, turn);
                    left -= 1;
                    if left == 0 {
                        turn.retry(self.slot, 0);
                        self.scan = Some(scan);
                        return false;
                    }
                }
                Ok(Step::Damaged) => {}
                Ok(Step::End) => {
                    self.damaged.extend(scan.damaged);
                    return self.replay_passed(scan.at.o, turn);
                }
                Err(missing) => {
                    self.scan = Some(scan);
                    return self.fetch(missing, turn);
                }
            }
        }
    }
}
