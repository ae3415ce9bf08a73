//! Segments come and grow: prepared ahead, adopted at the roll, extended before they are full, trimmed when sealed (P6, P17).
//! Owner: `Log`.
//! Invariant: a segment is written to only after the sync of its directory; an extent only once it is durable.
//! Not here: segments that go (`retention.rs`).

use crate::event::LogEvent;
use crate::frame::{REGION, align_up};
use crate::inspect::partition_meta;
use crate::io::{Dir, EDQUOT, EFBIG, ENOSPC, Errno, IoOk, IoRequest, SegmentName, SmallFile};
use crate::log::{Creating, Log, Phase, Roll};
use crate::ops::LogOp;
use crate::segment::{Segment, ZERO_BELOW_BYTES, first_extent};
use crate::settings::LogSettings;
use crate::turn::{Shared, Turn};

/// How often a refused allocation is tried again.
const NO_SPACE_RETRY_NS: u64 = 1_000_000_000;

/// Refused for lack of room, not failed (P16).
pub(crate) fn is_refusal(errno: Errno) -> bool {
    matches!(errno, ENOSPC | EDQUOT | EFBIG)
}

impl Log {
    /// The next group begins a new segment: named now, usable when it is adopted and synced.
    pub(crate) fn roll_over(&mut self, shared: &mut Shared) {
        assert!(self.group.is_none(), "a group lies in one segment");
        let base = self.head.offset;
        self.active().seal();
        assert!(self.active_base() < base, "a segment's name is given once");
        self.segments.push(Segment::new(base));
        self.head.position = 0;
        self.snapshot.due = true;
        shared.counts.rolls += 1;
        shared.checkpoint_dirty = true;
    }

    /// After a group was submitted: rolls while it is written when the segment has come to its end, so
    /// that the next group need not wait for the new one.
    pub(crate) fn roll_ahead(&mut self, turn: &mut Turn<'_>) {
        let limit = self.settings.segment_bytes;
        let prepared = matches!(self.roll, Roll::Prepared(..));
        if self.group.is_none() && prepared && self.head.position + limit / 32 >= limit {
            self.roll_over(turn.shared);
        }
    }

    /// Prepares, adopts, extends and trims as far as due.
    pub(crate) fn plan_segments(&mut self, turn: &mut Turn<'_>) {
        if self.is_poisoned() || self.waits_for_space(turn) {
            return;
        }
        self.plan_roll(turn);
        self.plan_growth(turn);
        self.plan_trim(turn);
        if self.roll != Roll::Preparing && self.active().extending.is_none() {
            // Nothing is lacking: what was refused before is not wanted any more.
            self.has_space(turn);
        }
    }

    fn waits_for_space(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(until) = self.no_space_until else { return false };
        if turn.now.mono_ns < until {
            turn.retry(self.slot, until - turn.now.mono_ns);
            return true;
        }
        false
    }

    fn plan_roll(&mut self, turn: &mut Turn<'_>) {
        let limit = self.settings.segment_bytes;
        let active_ready = self.active().ready;
        let wanted = self.room_wanted;
        let due = !active_ready || wanted.rolls || self.head.position >= limit / 4 * 3;
        match self.roll {
            Roll::Idle if due => {
                let base_offset = if active_ready { self.head.offset } else { self.active_base() };
                let name = SegmentName { log: self.key, base_offset };
                let new_log = matches!(self.phase, Phase::Creating(_));
                let frame = if wanted.rolls || !active_ready { wanted.end } else { 0 };
                let bytes = first_extent(limit, frame, new_log);
                let zero = self.last_group_bytes < ZERO_BELOW_BYTES;
                let id = turn.id(self.slot, LogOp::Prepare);
                turn.ask(IoRequest::Prepare { id, name, bytes, zero });
                self.busy += 1;
                self.roll = Roll::Preparing;
            }
            Roll::Prepared(file, bytes) if !active_ready => {
                let base_offset = self.active_base();
                let name = SegmentName { log: self.key, base_offset };
                let id = turn.id(self.slot, LogOp::Adopt);
                turn.ask(IoRequest::Adopt { id, file, name });
                self.busy += 1;
                self.roll = Roll::Adopting;
                let active = self.active();
                (active.file, active.file_bytes, active.extent) = (Some(file), bytes, bytes);
            }
            Roll::Idle | Roll::Preparing | Roll::Prepared(..) | Roll::Adopting | Roll::Syncing => {}
        }
    }

    fn plan_growth(&mut self, turn: &mut Turn<'_>) {
        let limit = self.settings.segment_bytes;
        let wanted = if self.room_wanted.rolls { 0 } else { self.room_wanted.end };
        let used = align_up(self.head.position, turn.block()).max(wanted);
        let zero = self.last_group_bytes < ZERO_BELOW_BYTES;
        let active = self.active();
        if !active.ready {
            return;
        }
        let Some(to) = active.growth(used, limit) else { return };
        let (base, from) = (active.base, active.file_bytes);
        let Some(file) = active.file else { return };
        active.extending = Some(to);
        let id = turn.id(self.slot, LogOp::Extend { base, to });
        turn.ask(IoRequest::Extend { id, file, from, to, zero });
        self.busy += 1;
    }

    /// Gives the unused space of sealed segments back, once nothing of them is in flight.
    fn plan_trim(&mut self, turn: &mut Turn<'_>) {
        let flushed = self.flushed;
        let last = self.segments.len() - 1;
        let from = last.saturating_sub(2);
        for at in from..last {
            let segment = &mut self.segments[at];
            let written = segment.end_offset <= flushed.offset;
            let Some(file) = segment.file.filter(|_| !segment.trimmed && written) else { continue };
            if segment.extending.is_some() {
                continue;
            }
            segment.trimmed = true;
            let bytes = align_up(segment.end_position, REGION.min(turn.block()));
            if bytes >= segment.file_bytes {
                continue;
            }
            let base = segment.base;
            segment.file_bytes = bytes;
            let id = turn.id(self.slot, LogOp::Trim(base));
            turn.ask(IoRequest::Trim { id, file, bytes });
            self.busy += 1;
        }
    }

    /// Answers about segments.
    pub(crate) fn on_segment_io(
        &mut self,
        op: LogOp,
        result: Result<IoOk, Errno>,
        turn: &mut Turn<'_>,
    ) {
        if let (LogOp::Prepare, Ok(IoOk::File { file, bytes })) = (op, &result) {
            turn.shared.open_files += 1;
            self.roll = Roll::Prepared(*file, *bytes);
            self.has_space(turn);
            return;
        }
        if self.is_poisoned() || matches!(self.phase, Phase::Offline(_)) {
            return;
        }
        match (op, result) {
            (LogOp::Extend { base, to }, Ok(_)) => {
                self.has_space(turn);
                if let Some(segment) = self.segment_mut(base) {
                    segment.extent = to.saturating_sub(segment.file_bytes);
                    segment.extending = None;
                    segment.file_bytes = to;
                }
            }
            (LogOp::Prepare | LogOp::Extend { .. }, Err(errno)) if is_refusal(errno) => {
                if let LogOp::Extend { base, .. } = op
                    && let Some(segment) = self.segment_mut(base)
                {
                    segment.extending = None;
                } else {
                    self.roll = Roll::Idle;
                }
                self.lacks_space(errno, turn);
            }
            (LogOp::Adopt, Ok(_)) => {
                self.roll = Roll::Syncing;
                let id = turn.id(self.slot, LogOp::SyncNew);
                turn.ask(IoRequest::SyncDir { id, dir: Dir::Log(self.key) });
                self.busy += 1;
            }
            (LogOp::SyncNew, Ok(_)) => {
                self.roll = Roll::Idle;
                self.active().ready = true;
                self.made(turn);
            }
            // A sealed segment that keeps its unused space is no harm.
            (LogOp::Trim(_), _) => {}
            (op, Err(errno)) => self.poison(self.describe(op, errno), turn),
            (op, Ok(other)) => self.poison(format!("{op:?} gave {other:?}"), turn),
        }
    }

    /// An allocation was refused: what waits for room fails, the rest goes on, and it is tried again
    /// soon (P16). Said once for all logs of the shard.
    fn lacks_space(&mut self, errno: Errno, turn: &mut Turn<'_>) {
        if !std::mem::replace(&mut turn.shared.space_is_short, true) {
            let text = format!("log {}: produces are refused, it cannot grow: {errno}", self.key);
            turn.tell(LogEvent::Warning(text));
        }
        self.no_space_until = Some(turn.now.mono_ns + NO_SPACE_RETRY_NS);
        turn.retry(self.slot, NO_SPACE_RETRY_NS);
        turn.tell(LogEvent::Refused(self.key));
    }

    fn has_space(&mut self, turn: &mut Turn<'_>) {
        if self.no_space_until.take().is_some()
            && std::mem::replace(&mut turn.shared.space_is_short, false)
        {
            let text = format!("log {}: it can grow again, produces are taken", self.key);
            turn.tell(LogEvent::Warning(text));
        }
    }

    /// Steps of a log made anew: the segment first, since it makes the directories.
    pub(crate) fn plan_creation(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Creating(Creating::Segment) => {
                if let Roll::Prepared(..) = self.roll {
                    self.phase = Phase::Creating(Creating::Meta);
                    let LogSettings { topic_name, topic_uuid, .. } = &self.settings;
                    let body = partition_meta(topic_name, *topic_uuid, self.key);
                    let id = turn.id(self.slot, LogOp::PartitionMeta);
                    let file = SmallFile::PartitionMeta(self.key);
                    turn.ask(IoRequest::WriteSmall { id, file, body });
                    self.busy += 1;
                } else if !self.waits_for_space(turn) {
                    self.plan_roll(turn);
                }
            }
            Phase::Creating(Creating::MetaWritten) => self.plan_roll(turn),
            Phase::Creating(Creating::Meta)
            | Phase::Recovering(_)
            | Phase::Live
            | Phase::Offline(_)
            | Phase::Removing(_)
            | Phase::Gone => {}
        }
    }

    /// The answer about `partition.meta`.
    pub(crate) fn on_partition_meta(&mut self, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Creating(_)) {
            return;
        }
        match result {
            Ok(_) => self.phase = Phase::Creating(Creating::MetaWritten),
            Err(errno) => {
                self.phase = Phase::Creating(Creating::Segment);
                let text = format!("log {}: partition.meta: {errno}", self.key);
                turn.tell(LogEvent::Warning(text));
                self.lacks_space(errno, turn);
            }
        }
    }

    /// The active segment's name is durable: a new log begins its life.
    fn made(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.phase, Phase::Creating(_)) {
            return;
        }
        self.phase = Phase::Live;
        turn.shared.checkpoint_dirty = true;
        let (key, log_epoch) = (self.key, self.epoch);
        turn.tell(if self.known {
            LogEvent::Recovered { key, start: 0, end: 0, log_epoch, notices: Vec::new() }
        } else {
            LogEvent::Created { key, log_epoch }
        });
    }
}
