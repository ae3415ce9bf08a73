//! Segments go: by age, by size, beyond a truncated end (P8, P9).
//! Owner: `Log`.
//! Invariant: the log start stands in both checkpoint generations before the first unlink; oldest first, each synced.
//! Not here: segments that come (`roll.rs`).

use crate::event::LogEvent;
use crate::io::{Dir, ENOENT, Errno, IoOk, IoRequest, SegmentName};
use crate::log::{Log, Truncation};
use crate::ops::LogOp;
use crate::turn::Turn;

/// How soon a failed unlink is tried again.
const RETRY_NS: u64 = 1_000_000_000;

impl Log {
    /// Decides how far the log start may move. True: something is to be done.
    pub(crate) fn apply_retention(&mut self, turn: &mut Turn<'_>) -> bool {
        if !self.is_live() || self.is_poisoned() || self.truncation.is_some() {
            return false;
        }
        let rolled = self.roll_expired(turn);
        let [Some(newest), Some(older)] = self.checkpointed else { return rolled };
        // Only segments below the flushed end of both generations.
        let safe = newest.segment.min(older.segment);
        let mut left: u64 = self.segments.iter().map(|segment| segment.frame_bytes).sum();
        let mut wanted = self.dropping.start_wanted;
        for pair in self.segments.windows(2) {
            let (oldest, next) = (&pair[0], &pair[1]);
            let by_size =
                self.settings.retention_bytes.is_some_and(|keep| left - oldest.frame_bytes >= keep);
            let by_age = self.is_expired(oldest.max_timestamp.0, turn);
            if !oldest.sealed || !(by_size || by_age) {
                break;
            }
            if next.base > safe {
                // Older generations still stand on it: two newer ones let it go.
                turn.shared.checkpoint_urgent |= next.base <= self.flushed.segment;
                break;
            }
            left -= oldest.frame_bytes;
            wanted = wanted.max(next.base);
        }
        if wanted == self.dropping.start_wanted {
            return rolled;
        }
        self.dropping.start_wanted = wanted;
        turn.shared.checkpoint_urgent = true;
        true
    }

    fn is_expired(&self, max_timestamp: i64, turn: &Turn<'_>) -> bool {
        let Some(keep) = self.settings.retention_ns else { return false };
        let keep_ms = i64::try_from(keep / 1_000_000).unwrap_or(i64::MAX);
        max_timestamp >= 0 && max_timestamp.saturating_add(keep_ms) < turn.now.wall_ms()
    }

    /// An active segment whose newest record is too old is rolled, so that it can go.
    fn roll_expired(&mut self, turn: &mut Turn<'_>) -> bool {
        let (time, base) = (self.active().max_timestamp.0, self.active_base());
        let whole = self.is_flushed() && self.active().ready && self.head.offset > base;
        let rolls = whole && self.is_expired(time, turn);
        if rolls {
            self.roll_over(turn.shared);
        }
        rolls
    }

    /// An empty new segment becomes the flushed end, so that checkpoints let the old one go.
    fn move_mark(&mut self, turn: &mut Turn<'_>) {
        let (base, ready) = (self.active_base(), self.active().ready);
        let empty = self.head.position == 0 && self.head.offset == base;
        if ready
            && empty
            && self.is_flushed()
            && self.flushed.segment != base
            && self.flushed.offset == base
        {
            (self.flushed.segment, self.flushed.position) = (base, 0);
            turn.shared.checkpoint_dirty = true;
        }
    }

    /// Moves the log start when it is durable, then unlinks what lies below, one by one.
    pub(crate) fn plan_drop(&mut self, turn: &mut Turn<'_>) {
        if self.is_poisoned() {
            return;
        }
        self.move_mark(turn);
        let wanted = self.dropping.start_wanted;
        if self.log_start < wanted {
            let durable = |seen: &Option<crate::log::Checkpointed>| {
                seen.is_some_and(|seen| seen.log_start >= wanted)
            };
            if !self.checkpointed.iter().all(durable) {
                turn.shared.checkpoint_urgent = true;
                return;
            }
            self.log_start = wanted;
            self.quarantine.trim(wanted);
            self.table.trim(wanted);
            turn.tell(LogEvent::StartMoved { key: self.key, start: wanted });
        }
        self.unlink_oldest(turn);
    }

    fn unlink_oldest(&mut self, turn: &mut Turn<'_>) {
        if self.dropping.unlinking {
            return;
        }
        if self.dropping.sync_due {
            let id = turn.id(self.slot, LogOp::SyncUnlinked);
            turn.ask(IoRequest::SyncDir { id, dir: Dir::Log(self.key) });
            self.busy += 1;
            self.dropping.unlinking = true;
            return;
        }
        let Some(next) = self.segments.get(1).map(|next| next.base) else { return };
        if next <= self.log_start {
            self.give_scrub_up(self.segments[0].base, turn);
        }
        let oldest = &self.segments[0];
        let in_use = oldest.opening || oldest.extending.is_some() || self.reads_below(oldest.base);
        if next > self.log_start
            || in_use
            || self.in_flight.is_some_and(|group| group.end.segment == oldest.base)
        {
            return;
        }
        let oldest = self.segments.remove(0);
        while self.tail.blocks.front().is_some_and(|block| block.base == oldest.base) {
            self.tail.evict(turn.blocks);
        }
        self.close_file(oldest.file, turn);
        let name = SegmentName { log: self.key, base_offset: oldest.base };
        let id = turn.id(self.slot, LogOp::Unlink);
        turn.ask(IoRequest::Unlink { id, name });
        self.busy += 1;
        self.dropping.unlinking = true;
        turn.shared.counts.retired_segments += 1;
    }

    /// Gives a file back.
    pub(crate) fn close_file(&mut self, file: Option<crate::io::FileId>, turn: &mut Turn<'_>) {
        let Some(file) = file else { return };
        let id = turn.id(self.slot, LogOp::Close);
        turn.ask(IoRequest::Close { id, file });
        self.busy += 1;
        turn.shared.open_files -= 1;
    }

    /// Sets segments beyond the end aside, once the checkpoints that say so are durable.
    pub(crate) fn plan_aside(&mut self, turn: &mut Turn<'_>) {
        let waits = matches!(self.truncation, Some(Truncation::Checkpoints(_)));
        if self.dropping.aside_busy || waits {
            return;
        }
        if let Some(base_offset) = self.dropping.aside.last().copied() {
            let name = SegmentName { log: self.key, base_offset };
            let id = turn.id(self.slot, LogOp::SetAside);
            turn.ask(IoRequest::SetAside { id, name });
        } else if self.dropping.aside_sync_due {
            let id = turn.id(self.slot, LogOp::SyncAside);
            turn.ask(IoRequest::SyncDir { id, dir: Dir::Log(self.key) });
        } else {
            return;
        }
        self.busy += 1;
        self.dropping.aside_busy = true;
    }

    /// Whether segments still lie beyond the end.
    pub(crate) fn has_beyond(&self) -> bool {
        !self.dropping.aside.is_empty() || self.dropping.aside_sync_due
    }

    /// A segment's name is removed, or was not there.
    pub(crate) fn on_unlinked(&mut self, result: &Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        self.dropping.unlinking = false;
        self.dropping.sync_due = true;
        self.warn_unless_gone(LogOp::Unlink, result, turn);
    }

    /// Its directory is synced.
    pub(crate) fn on_unlink_synced(&mut self, result: &Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        self.dropping.unlinking = false;
        self.dropping.sync_due = !self.warn_unless_gone(LogOp::SyncUnlinked, result, turn);
    }

    /// A segment beyond the end is set aside.
    pub(crate) fn on_set_aside(&mut self, result: &Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        self.dropping.aside_busy = false;
        if self.warn_unless_gone(LogOp::SetAside, result, turn) {
            self.dropping.aside.pop();
            self.dropping.aside_sync_due = true;
        }
    }

    /// All of them are, durably.
    pub(crate) fn on_aside_synced(&mut self, result: &Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        self.dropping.aside_busy = false;
        let gone = self.warn_unless_gone(LogOp::SyncAside, result, turn);
        self.dropping.aside_sync_due = !gone;
        if gone && self.truncation == Some(Truncation::Aside) {
            self.truncation_done(turn);
        }
    }

    /// True: done, or there was nothing to do. Else it is said and tried again.
    fn warn_unless_gone(
        &self,
        op: LogOp,
        result: &Result<IoOk, Errno>,
        turn: &mut Turn<'_>,
    ) -> bool {
        if matches!(result, Ok(_) | Err(ENOENT)) {
            return true;
        }
        turn.tell(LogEvent::Warning(format!("log {}: {op:?}: {result:?}", self.key)));
        turn.retry(self.slot, RETRY_NS);
        false
    }
}
