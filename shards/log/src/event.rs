//! What happened in the logs, and the plain facts they tell.
//! Owner: `Logs` makes them, the shard takes them.
//! Invariant: an event is told once, in the order things happened.
//! Not here: what to do about it (`ringway-partition`).

use crate::read::{FrameList, ReadTicket};
use ringway_wire::ids::LogKey;

/// Facts of one batch, from its header alone: what producer state and leader epochs are rebuilt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// Kafka leader epoch.
    pub leader_epoch: i32,
    /// Kafka attributes.
    pub attributes: i16,
    /// −1 = not idempotent.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// First sequence.
    pub base_sequence: i32,
    /// ms.
    pub max_timestamp: i64,
    /// ns.
    pub append_time_ns: u64,
}

/// Facts of one segment, derived from headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Offset of its first record.
    pub base_offset: u64,
    /// One past its last record.
    pub end_offset: u64,
    /// Frame bytes.
    pub frame_bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Greatest timestamp, ms, −1 = none.
    pub max_timestamp: i64,
    /// No more appends.
    pub sealed: bool,
}

/// A damaged range that is named and never served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineFacts {
    /// Segment, by its base offset.
    pub segment: u64,
    /// First damaged byte.
    pub position: u64,
    /// Where readable frames go on in this segment, `None` = in the next one.
    pub until_position: Option<u64>,
    /// First offset lost.
    pub from: u64,
    /// First offset after it.
    pub to: u64,
    /// `header`, `payload`, `place`, `missing`, `unreadable`.
    pub reason: &'static str,
    /// `recovery`, `read` or `scrub`.
    pub found_by: &'static str,
    /// When, Unix ms.
    pub found_ms: u64,
}

/// What happened in the logs since the last look.
#[derive(Debug)]
pub enum LogEvent {
    /// Recovery found this snapshot body (opaque here; made by `put_snapshot`).
    Snapshot(LogKey, Vec<u8>),
    /// Recovery passed this batch, after the snapshot, in offset order.
    Replayed(LogKey, BatchFacts),
    /// This log is recovered: readable up to `end`, which is flushed.
    Recovered {
        /// Which.
        key: LogKey,
        /// First offset kept.
        start: u64,
        /// Log end = flushed offset.
        end: u64,
        /// log_epoch of this life: stamped as Kafka's leader epoch too while the node is alone (F9).
        log_epoch: u32,
        /// Said to the operator: torn tail or quarantine with segment, position, offset.
        notices: Vec<String>,
    },
    /// Recovery of this log failed: it stays offline, the others go on.
    Offline(LogKey, String),
    /// All logs known at start are recovered and the step-9 checkpoints are durable.
    Started(StartReport),
    /// A log made by `create` can take appends.
    Created {
        /// Which.
        key: LogKey,
        /// log_epoch of this life.
        log_epoch: u32,
    },
    /// Everything below `upto` is on this disk.
    Flushed {
        /// Which.
        key: LogKey,
        /// Exclusive.
        upto: u64,
    },
    /// The log start moved durably (retention).
    StartMoved {
        /// Which.
        key: LogKey,
        /// First offset kept.
        start: u64,
    },
    /// A waiting read ended.
    ReadDone(ReadTicket, Result<FrameList, ReadFailure>),
    /// A waiting time look-up ended.
    TimeDone(ReadTicket, Option<u64>),
    /// `put_snapshot` is wanted for state up to the flushed offset (roll, 16 MiB, clean stop).
    SnapshotDue(LogKey),
    /// The disk has no room for the next extent: what waits for room fails, until an append finds some
    /// (P16). Told again with every allocation refused.
    Refused(LogKey),
    /// Poisoned: waiting and new appends fail (P11–P14).
    Poisoned(LogKey, String),
    /// One line for the operator.
    Warning(String),
    /// A removed log's files are gone.
    Removed(LogKey),
    /// Clean stop is complete; generation of the last checkpoint.
    Stopped(u64),
}

/// Sums over all logs recovered at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartReport {
    /// Logs.
    pub logs: u32,
    /// Batches dropped as torn tails (counted by evidence, at least 1 per torn tail with bytes).
    pub dropped_batches: u64,
    /// Ranges quarantined in this start.
    pub quarantined: u64,
    /// Bytes read by scans.
    pub scanned_bytes: u64,
}

/// Why a waiting read failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The batch is damaged; its range is quarantined.
    Quarantined {
        /// First offset after it.
        until: u64,
    },
    /// The log went away, or its device did not answer.
    Gone,
}

/// Plain counts since start, copied to the shard's counters once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Batches appended.
    pub appended_batches: u64,
    /// Records appended.
    pub appended_records: u64,
    /// Frame bytes appended.
    pub appended_bytes: u64,
    /// Bytes written to segments, padding included.
    pub written_bytes: u64,
    /// Writes of groups submitted.
    pub group_writes: u64,
    /// Bytes read from disk for fetches.
    pub cold_read_bytes: u64,
    /// Bytes served from the tail in memory.
    pub tail_read_bytes: u64,
    /// Segments made.
    pub rolls: u64,
    /// Segments removed by retention.
    pub retired_segments: u64,
    /// Batches dropped by recovery.
    pub dropped_batches: u64,
    /// Quarantined ranges known.
    pub quarantined: u64,
    /// Bytes read by scrubs.
    pub scrubbed_bytes: u64,
    /// Damaged ranges that scrubs found.
    pub scrub_found: u64,
    /// Times that a scrub has read every sealed segment.
    pub scrub_passes: u64,
    /// Logs poisoned.
    pub poisoned: u64,
    /// Logs without room to grow now.
    pub full: u64,
    /// Logs whose write is older than `io_stall_ns` now (P15).
    pub stalled: u64,
    /// Bytes of tail held in memory.
    pub tail_bytes: u64,
    /// Logs known at start whose recovery has ended.
    pub recovered: u64,
    /// Bytes read by recoveries.
    pub scanned_bytes: u64,
    /// Recoveries that ended at a header torn in two.
    pub torn_headers: u64,
    /// Recoveries that ended at a batch with a whole header and a torn payload.
    pub torn_payloads: u64,
    /// Headers behind a break that a producer had forged: all but the secret was right.
    pub forged_headers: u64,
    /// Headers behind a break that an earlier life had left.
    pub stale_headers: u64,
    /// Checkpoint files found damaged, and recoveries that could not start from the newest entry.
    pub unusable_checkpoints: u64,
}
