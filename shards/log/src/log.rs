//! One log: the parts it is made of. Each part changes in one file; here they only meet.
//! Owner: `Logs`, by slot.
//! Invariant: log start ≤ flushed ≤ end; one group in flight; a group lies in one segment.
//! Not here: append (`append.rs`), groups (`group.rs`), segments (`roll.rs`), reads (`log_reads.rs`).

use crate::blocks::Slice;
use crate::checkpoint::{Entry, Mark};
use crate::cold::ColdRead;
use crate::event::LogEvent;
use crate::life_table::LifeTable;
use crate::quarantine::Quarantine;
use crate::recover::{Recovered, Recovery};
use crate::segment::{Segment, by_base};
use crate::settings::LogSettings;
use crate::tail::LogTail;
use crate::turn::Turn;
use ringway_wire::ids::LogKey;

/// Group bound a log starts with (P2).
pub(crate) const BOUND_BYTES_MIN: u64 = 256 << 10;

/// Where a log is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Made anew; the step that runs.
    Creating(Creating),
    Recovering(Box<Recovery>),
    Live,
    /// Could not be recovered; its last checkpoint entry is carried on.
    Offline(String),
    /// Waits for what is in flight, then its files go.
    Removing(Removing),
    /// Nothing is left.
    Gone,
}

/// Steps of making a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creating {
    Segment,
    Meta,
    MetaWritten,
}

/// Steps of removing a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removing {
    Draining,
    Files,
    Directory,
}

/// Where the next frame goes and what it is linked to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    /// One past the last frame in the active segment.
    pub(crate) position: u64,
    /// Next offset.
    pub(crate) offset: u64,
    pub(crate) crc: u32,
    pub(crate) len: u32,
}

/// The open group: frames that wait for the next write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// First byte, a multiple of the directory's block.
    pub(crate) start: u64,
    pub(crate) frames: u32,
    pub(crate) frame_bytes: u64,
    pub(crate) max_timestamp: (i64, u64),
}

/// The group being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    /// First byte.
    pub(crate) start: u64,
    /// When it was asked for.
    pub(crate) since_ns: u64,
    pub(crate) stall_told: bool,
    pub(crate) end: Mark,
    pub(crate) bytes: u32,
    pub(crate) frame_bytes: u64,
    pub(crate) max_timestamp: (i64, u64),
}

/// The segment after the active one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roll {
    #[default]
    Idle,
    Preparing,
    /// A file under a temporary name, with its size.
    Prepared(crate::io::FileId, u64),
    Adopting,
    Syncing,
}

/// Room that a refused frame lacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomWanted {
    /// Bytes its segment must have; 0 = nothing is wanted.
    pub(crate) end: u64,
    /// It belongs into the segment after the active one.
    pub(crate) rolls: bool,
}

/// What the newest two checkpoints say of this log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checkpointed {
    pub(crate) log_start: u64,
    pub(crate) segment: u64,
    pub(crate) bound: u64,
}

/// Snapshot of the partition's state.
#[derive(Debug, Default)]
pub(crate) struct SnapshotState {
    /// Offset of the newest one on disk.
    pub(crate) offset: u64,
    pub(crate) writing: Option<u64>,
    /// Handed in and not yet written: the offset it describes, and the file.
    pub(crate) body: Option<(u64, Vec<u8>)>,
    /// Frame bytes flushed since it was last asked for.
    pub(crate) bytes_since: u64,
    pub(crate) due: bool,
}

/// Steps of dropping segments: retention, and what lies beyond a truncated end.
#[derive(Debug, Default)]
pub(crate) struct Dropping {
    /// Log start wanted; unlinks follow once it stands in both generations.
    pub(crate) start_wanted: u64,
    /// An unlink or its sync is in flight.
    pub(crate) unlinking: bool,
    /// An unlinked name waits for its sync.
    pub(crate) sync_due: bool,
    /// Segments to be set aside.
    pub(crate) aside: Vec<u64>,
    pub(crate) aside_sync_due: bool,
    pub(crate) aside_busy: bool,
}

/// A truncation in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truncation {
    /// Waits for the group in flight, then looks for the frame.
    Wanted(u64),
    /// A cold read looks for the frame.
    Seeking(u64),
    /// Waits for two checkpoint generations; the number still missing.
    Checkpoints(u8),
    /// Segments beyond the end are set aside.
    Aside,
}

/// One log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) key: LogKey,
    pub(crate) slot: u32,
    pub(crate) settings: LogSettings,
    pub(crate) phase: Phase,
    pub(crate) epoch: u32,
    pub(crate) table: LifeTable,
    /// Oldest first; the last one is appended to.
    pub(crate) segments: Vec<Segment>,
    pub(crate) head: Head,
    pub(crate) group: Option<Group>,
    pub(crate) in_flight: Option<InFlight>,
    /// Slices of the group in flight, each with a hold.
    pub(crate) in_flight_slices: Vec<Slice>,
    pub(crate) flushed: Mark,
    /// L: bytes a group may have, once both of `checkpointed` say so too.
    pub(crate) bound: u64,
    /// Newest first.
    pub(crate) checkpointed: [Option<Checkpointed>; 2],
    /// First offset kept, durably.
    pub(crate) log_start: u64,
    pub(crate) tail: LogTail,
    pub(crate) roll: Roll,
    pub(crate) room_wanted: RoomWanted,
    pub(crate) quarantine: Quarantine,
    pub(crate) poison: Option<String>,
    /// Allocation was refused; looked at again then.
    pub(crate) no_space_until: Option<u64>,
    pub(crate) last_group_bytes: u64,
    pub(crate) reads: Vec<ColdRead>,
    pub(crate) snapshot: SnapshotState,
    pub(crate) dropping: Dropping,
    pub(crate) truncation: Option<Truncation>,
    /// Checkpoint entry of an offline log.
    pub(crate) carried: Option<Entry>,
    /// Known at start: told as recovered even when made anew.
    pub(crate) known: bool,
    /// To be removed once its recovery has ended.
    pub(crate) doomed: bool,
    /// Requests in flight but for recovery's.
    pub(crate) busy: u32,
    /// In the list of logs to plan for.
    pub(crate) dirty: bool,
}

impl Log {
    pub(crate) fn new(key: LogKey, slot: u32, settings: LogSettings, phase: Phase) -> Log {
        Log {
            key,
            slot,
            settings,
            phase,
            epoch: 0,
            table: LifeTable::default(),
            segments: Vec::new(),
            head: Head::default(),
            group: None,
            in_flight: None,
            in_flight_slices: Vec::new(),
            flushed: Mark::default(),
            bound: BOUND_BYTES_MIN,
            checkpointed: [None; 2],
            log_start: 0,
            tail: LogTail::default(),
            roll: Roll::Idle,
            room_wanted: RoomWanted::default(),
            quarantine: Quarantine::default(),
            poison: None,
            no_space_until: None,
            last_group_bytes: 0,
            reads: Vec::new(),
            snapshot: SnapshotState::default(),
            dropping: Dropping::default(),
            truncation: None,
            carried: None,
            known: false,
            doomed: false,
            busy: 0,
            dirty: false,
        }
    }

    /// An empty log's first life.
    pub(crate) fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.table = LifeTable::default();
        self.table.push(epoch, 0, 0);
        self.segments = vec![Segment::new(0)];
    }

    /// Takes over what recovery found.
    pub(crate) fn take_over(&mut self, found: Recovered, turn: &mut Turn<'_>) {
        assert!(found.log_start <= found.mark.offset, "log start beyond the end");
        self.epoch = found.epoch;
        self.table = found.table;
        self.segments = found.segments;
        let Mark { position, offset, crc, len, .. } = found.mark;
        self.head = Head { position, offset, crc, len };
        self.flushed = found.mark;
        self.bound = found.bound.max(BOUND_BYTES_MIN);
        self.log_start = found.log_start;
        self.dropping.start_wanted = found.log_start;
        self.dropping.aside = found.beyond;
        self.quarantine = found.quarantine;
        self.snapshot.offset = found.snapshot_offset;
        self.flushed_behind_snapshot(found.replayed_bytes);
        turn.shared.counts.dropped_batches += found.dropped_batches;
        turn.tell(LogEvent::Recovered {
            key: self.key,
            start: self.log_start,
            end: offset,
            log_epoch: self.epoch,
            notices: found.notices,
        });
    }

    /// The segment appended to.
    ///
    /// # Panics
    /// Before the log has any.
    pub(crate) fn active(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// Base of the segment appended to.
    pub(crate) fn active_base(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.base)
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// Nothing accepted waits for the disk.
    pub(crate) fn is_flushed(&self) -> bool {
        self.in_flight.is_none() && self.group.is_none()
    }

    /// L as far as both checkpoints vouch for it: with the newest one lost, a start that looks ahead by the bound
    /// of the older would not see the evidence behind a larger group.
    pub(crate) fn bound_durable(&self) -> u64 {
        let bound = |told: &Option<Checkpointed>| told.map_or(0, |told| told.bound);
        self.checkpointed.iter().map(bound).min().unwrap_or(0).max(BOUND_BYTES_MIN)
    }

    /// The log as a checkpoint tells it; none: it has no files yet, or goes away.
    pub(crate) fn entry(&self, clean: bool) -> Option<Entry> {
        match &self.phase {
            Phase::Live => {}
            Phase::Offline(_) => return self.carried.clone(),
            Phase::Recovering(recovery) => return recovery.top().cloned(),
            Phase::Creating(_) | Phase::Removing(_) | Phase::Gone => return None,
        }
        let clean = clean && !self.is_poisoned() && self.is_flushed();
        Some(Entry {
            key: self.key,
            end: self.flushed,
            log_start: self.dropping.start_wanted,
            bound: self.bound,
            table: self.table.clone(),
            clean,
        })
    }

    /// Segment by base.
    pub(crate) fn segment_mut(&mut self, base: u64) -> Option<&mut Segment> {
        let at = by_base(&self.segments, base)?;
        Some(&mut self.segments[at])
    }
}
