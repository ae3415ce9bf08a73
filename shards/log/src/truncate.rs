//! Truncation to an offset (P9, Z4): the end moves back logically, durably, under a new log_epoch.
//! Owner: `Log`.
//! Invariant: two checkpoint generations hold the new life before anything is appended; bytes stay until they are overwritten.
//! Not here: who orders it (`partition`; one node alone never does).

use crate::checkpoint::Mark;
use crate::event::LogEvent;
use crate::log::{Head, Log, Truncation};
use crate::scan::Placed;
use crate::segment::by_base;
use crate::turn::Turn;

impl Log {
    /// Goes on with a truncation. `ticket` names the read that looks for the frame.
    pub(crate) fn plan_truncation(&mut self, ticket: u64, turn: &mut Turn<'_>) {
        let Some(Truncation::Wanted(offset)) = self.truncation else { return };
        if self.in_flight.is_some()
            || self.dropping.unlinking
            || self.dropping.sync_due
            || self.is_poisoned()
        {
            return;
        }
        self.forget_open_group(turn);
        if offset >= self.head.offset || offset < self.log_start {
            self.truncation_done(turn);
            return;
        }
        self.truncation = Some(Truncation::Seeking(offset));
        self.seek_place(offset, ticket, turn);
    }

    /// Frames that were never written are simply not there any more.
    fn forget_open_group(&mut self, turn: &mut Turn<'_>) {
        let Some(group) = self.group.take() else { return };
        let Mark { segment, position, offset, crc, len } = self.flushed;
        let base = self.active_base();
        let position = if base == segment { position } else { 0 };
        self.head = Head { position, offset, crc, len };
        let active = self.active();
        active.frame_bytes -= group.frame_bytes;
        (active.end_position, active.end_offset) = (position, offset);
        active.index.truncate(offset, position);
        self.tail.clear(turn.blocks);
    }

    /// The frame that holds the offset is found: the log ends where it starts.
    pub(crate) fn cut_at(&mut self, place: Placed, turn: &mut Turn<'_>) {
        let head = place.head;
        let offset = head.base_offset;
        let base = self.segments[place.si].base;
        self.tail.clear(turn.blocks);
        let gone: Vec<_> = self.segments.drain(place.si + 1..).collect();
        for segment in &gone {
            self.close_file(segment.file, turn);
        }
        self.dropping
            .aside
            .extend(gone.iter().filter(|segment| segment.ready).map(|segment| segment.base));
        let previous_end = self.head.offset;
        let (crc, len) = (head.prev_crc, head.prev_frame_len);
        let position = place.position;
        self.flushed = Mark { segment: base, position, offset, crc, len };
        self.head = Head { position, offset, crc, len };
        let segment = self.active();
        segment.sealed = false;
        segment.trimmed = true;
        segment.index.truncate(offset, position);
        (segment.end_position, segment.end_offset) = (position, offset);
        self.epoch = self.table.greatest_epoch().max(self.epoch) + 1;
        self.table.push(self.epoch, offset, offset.min(previous_end));
        self.snapshot.offset = self.snapshot.offset.min(offset);
        self.truncation = Some(Truncation::Checkpoints(2));
        turn.shared.checkpoint_urgent = true;
    }

    /// A checkpoint that holds the new life is durable.
    pub(crate) fn truncation_checkpointed(&mut self) {
        match self.truncation {
            Some(Truncation::Checkpoints(left)) if left > 1 => {
                self.truncation = Some(Truncation::Checkpoints(left - 1));
            }
            Some(Truncation::Checkpoints(_)) => {
                // Not before: a cut would leave the log as it was, and ranges of it without their names.
                self.quarantine.truncate(self.flushed.offset);
                self.truncation = Some(Truncation::Aside);
            }
            Some(Truncation::Wanted(_) | Truncation::Seeking(_) | Truncation::Aside) | None => {}
        }
    }

    /// Goes on once both generations are durable.
    pub(crate) fn plan_truncation_end(&mut self, turn: &mut Turn<'_>) {
        match self.truncation {
            Some(Truncation::Checkpoints(_)) => turn.shared.checkpoint_urgent = true,
            // An old list would hide what is appended where its ranges were.
            Some(Truncation::Aside) if !self.has_beyond() && self.quarantine.is_saved() => {
                self.truncation_done(turn);
            }
            Some(Truncation::Wanted(_) | Truncation::Seeking(_) | Truncation::Aside) | None => {}
        }
    }

    /// Appends are possible again.
    pub(crate) fn truncation_done(&mut self, turn: &mut Turn<'_>) {
        self.truncation = None;
        assert!(by_base(&self.segments, self.active_base()).is_some(), "the end has a segment");
        turn.tell(LogEvent::Recovered {
            key: self.key,
            start: self.log_start,
            end: self.flushed.offset,
            log_epoch: self.epoch,
            notices: Vec::new(),
        });
    }
}
