//! One log's turn: which part does what, in which order; and which answer goes to which part.
//! Owner: `Logs`, for logs with something to do.
//! Invariant: everything a log asks of the disk is asked here or in an answer; groups first, they are what clients wait for.
//! Not here: the parts themselves.

use crate::event::LogEvent;
use crate::io::{Dir, Errno, IoOk, IoRequest, SmallFile};
use crate::log::{Creating, Log, Phase, Removing, Truncation};
use crate::ops::LogOp;
use crate::segment::Segment;
use crate::snapshot;
use crate::turn::Turn;

/// Open segments of a shard above which sealed ones are closed.
const OPEN_FILES_MAX: usize = 512;

impl Log {
    /// Does what is due. `ticket` is free for a read of its own.
    pub(crate) fn plan(&mut self, ticket: u64, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Live => {}
            Phase::Creating(_) => return self.plan_creation(turn),
            Phase::Removing(_) => return self.plan_removal(turn),
            Phase::Recovering(_) | Phase::Offline(_) | Phase::Gone => return,
        }
        if self.is_poisoned() {
            // Reads below the flushed offset go on, nothing else (P13).
            return self.plan_reads(turn);
        }
        if self.truncation.is_none() {
            if self.submit(turn) {
                self.roll_ahead(turn);
            }
        } else {
            self.plan_truncation(ticket, turn);
            self.plan_truncation_end(turn);
        }
        self.plan_segments(turn);
        if turn.shared.started {
            self.plan_aside(turn);
            if self.truncation.is_none() {
                self.plan_drop(turn);
            }
        }
        if !self.reads.is_empty() {
            self.plan_reads(turn);
        }
        self.save_quarantine(turn);
        self.plan_snapshot(turn);
        if turn.shared.open_files > OPEN_FILES_MAX {
            self.close_idle(turn);
        }
    }

    /// Closes sealed segments nobody reads; the next read opens them again.
    fn close_idle(&mut self, turn: &mut Turn<'_>) {
        if !self.reads.is_empty() || self.truncation.is_some() {
            return;
        }
        let settled = self.flushed.offset;
        let idle = |segment: &&mut Segment| {
            segment.sealed
                && segment.trimmed
                && segment.extending.is_none()
                && segment.end_offset <= settled
        };
        let files: Vec<_> = self
            .segments
            .iter_mut()
            .filter(idle)
            .filter_map(|segment| segment.file.take())
            .collect();
        for file in files {
            self.close_file(Some(file), turn);
        }
    }

    /// An answer.
    pub(crate) fn on_io(&mut self, op: LogOp, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        if let Phase::Recovering(recovery) = &mut self.phase {
            return recovery.on_io(op, result, turn);
        }
        if let LogOp::Chunk { reader, base, index, piece } = op {
            return self.on_chunk((reader, (base, index, piece)), result, turn);
        }
        self.busy = self.busy.saturating_sub(1);
        match op {
            LogOp::Group => self.complete(result, turn),
            LogOp::Prepare
            | LogOp::Adopt
            | LogOp::SyncNew
            | LogOp::Extend { .. }
            | LogOp::Trim(_) => {
                self.on_segment_io(op, result, turn);
            }
            LogOp::Unlink => self.on_unlinked(&result, turn),
            LogOp::SyncUnlinked => self.on_unlink_synced(&result, turn),
            LogOp::SetAside => self.on_set_aside(&result, turn),
            LogOp::SyncAside => self.on_aside_synced(&result, turn),
            LogOp::Open(base) => self.on_open(base, result, turn),
            LogOp::Quarantine => self.on_quarantine(result, turn),
            LogOp::PartitionMeta => self.on_partition_meta(result, turn),
            LogOp::Snapshot => self.on_snapshot(result, turn),
            LogOp::RemoveLog | LogOp::SyncRemoved => self.on_removed(op, turn),
            LogOp::Close
            | LogOp::List
            | LogOp::ReadSnapshot
            | LogOp::ReadQuarantine
            | LogOp::Flush
            | LogOp::SyncRecovered
            | LogOp::Chunk { .. } => {}
        }
    }

    /// Whether a durable checkpoint may let it go on.
    pub(crate) fn waits_for_checkpoint(&self) -> bool {
        let drops = self.log_start < self.dropping.start_wanted || self.has_beyond();
        self.is_live() && (self.group.is_some() || self.truncation.is_some() || drops)
    }

    /// The oldest tail block may go: flushed, and no group stands in it.
    pub(crate) fn may_evict_front(&self) -> bool {
        let Some(front) = self.tail.blocks.front() else { return false };
        let busy = |segment: u64, start: u64| front.base == segment && front.region_end() > start;
        // Asked for every block while the pool is short: looks at the front alone.
        if self.in_flight_slices.first().is_some_and(|slice| slice.block == front.block) {
            return false;
        }
        !self.group.is_some_and(|group| busy(self.active_base(), group.start))
    }

    /// Writes the snapshot that was handed in; asks for one when it is due.
    fn plan_snapshot(&mut self, turn: &mut Turn<'_>) {
        if self.snapshot.due && self.snapshot.body.is_none() && !turn.shared.stopping {
            self.snapshot.due = false;
            self.snapshot.bytes_since = 0;
            turn.tell(LogEvent::SnapshotDue(self.key));
        }
        if self.snapshot.writing.is_some() || self.truncation.is_some() {
            return;
        }
        let Some((offset, body)) = self.snapshot.body.take() else { return };
        self.snapshot.writing = Some(offset);
        let id = turn.id(self.slot, LogOp::Snapshot);
        turn.ask(IoRequest::WriteSmall { id, file: SmallFile::Snapshot(self.key), body });
        self.busy += 1;
    }

    /// Takes the partition's state over, with the flushed end it describes: a later flush must not move
    /// that end, or recovery would skip the batches between.
    pub(crate) fn take_snapshot(&mut self, state: &[u8]) {
        let body = snapshot::encode(self.epoch, self.flushed, &self.flushed_segments(), state);
        self.snapshot.body = Some((self.flushed.offset, body));
    }

    /// Segments as they are at the flushed end.
    fn flushed_segments(&self) -> Vec<Segment> {
        let mark = self.flushed;
        let below = |segment: &&Segment| segment.base <= mark.segment;
        let mut segments: Vec<Segment> = self.segments.iter().filter(below).cloned().collect();
        if let Some(last) = segments.last_mut() {
            if last.base == self.active_base() {
                last.frame_bytes -= self.unflushed_bytes();
            } else if last.end_offset > mark.offset {
                last.frame_bytes -= self.in_flight.map_or(0, |group| group.frame_bytes);
            }
            (last.end_position, last.end_offset) = (mark.position, mark.offset);
        }
        segments
    }

    fn on_snapshot(&mut self, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        let Some(offset) = self.snapshot.writing.take() else { return };
        match result {
            Ok(_) => self.snapshot.offset = offset,
            Err(errno) => {
                let text = format!("log {}: snapshot: errno {}", self.key, errno.0);
                turn.tell(LogEvent::Warning(text));
            }
        }
    }

    /// The log shall go.
    pub(crate) fn begin_removal(&mut self) {
        self.group = None;
        self.truncation = None::<Truncation>;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Removing(Removing::Draining)) {
            // Recovery ends first: its reads are in flight.
            Phase::Recovering(recovery) if recovery.is_busy() => {
                self.doomed = true;
                Phase::Recovering(recovery)
            }
            Phase::Live
            | Phase::Creating(Creating::Segment | Creating::Meta | Creating::MetaWritten)
            | Phase::Recovering(_)
            | Phase::Offline(_)
            | Phase::Removing(_)
            | Phase::Gone => Phase::Removing(Removing::Draining),
        };
    }

    fn plan_removal(&mut self, turn: &mut Turn<'_>) {
        if self.phase_is(Removing::Draining) {
            self.end_reads(turn);
            self.plan_reads(turn);
            let idle = self.busy == 0 && self.reads.is_empty();
            if !idle {
                return;
            }
            self.tail.clear(turn.blocks);
            let files: Vec<_> = self.segments.drain(..).map(|segment| segment.file).collect();
            for file in files {
                self.close_file(file, turn);
            }
            if let crate::log::Roll::Prepared(file, _) = self.roll {
                self.close_file(Some(file), turn);
                self.roll = crate::log::Roll::Idle;
            }
            let id = turn.id(self.slot, LogOp::RemoveLog);
            turn.ask(IoRequest::RemoveLog { id, log: self.key });
            self.busy += 1;
            self.phase = Phase::Removing(Removing::Files);
        }
    }

    fn phase_is(&self, step: Removing) -> bool {
        matches!(self.phase, Phase::Removing(now) if now == step)
    }

    fn on_removed(&mut self, op: LogOp, turn: &mut Turn<'_>) {
        if op == LogOp::RemoveLog {
            self.phase = Phase::Removing(Removing::Directory);
            let id = turn.id(self.slot, LogOp::SyncRemoved);
            turn.ask(IoRequest::SyncDir { id, dir: Dir::Partitions(self.key.topic_id) });
            self.busy += 1;
            return;
        }
        self.phase = Phase::Gone;
        turn.shared.checkpoint_dirty = true;
        turn.tell(LogEvent::Removed(self.key));
    }
}
