//! All logs of one shard in one log directory: the only way into this crate.
//! Owner: `Shard` of `ringway-partition`.
//! Invariant: acknowledged means flushed; see `docs/testing.md`, D1–D9.
//! Not here: what batches mean (`partition`), how I/O is done (`runtime`, `sim`).

use crate::blocks::{Blocks, Slice};
use crate::directory::DirectoryFacts;
use crate::io::{IoDone, IoOut, Now};
use crate::read::FrameList;
use ringway_wire::ids::LogKey;
use std::sync::Arc;

/// Bounds and intervals of a shard's logs.
#[derive(Clone, Debug)]
pub struct LogsConfig {
    /// This shard's number, names its checkpoints.
    pub shard: u32,
    /// Largest flush group, bytes (P2).
    pub flush_group_bytes_max: u32,
    /// Largest frame accepted by an append, bytes.
    pub frame_bytes_max: u32,
    /// Checkpoint interval, ns.
    pub checkpoint_interval_ns: u64,
    /// Bytes of the largest single cold read beyond its first frame.
    pub cold_read_bytes_max: u32,
    /// Pooled blocks kept free for receiving, cold reads and new groups: the tail cache is evicted to keep it.
    pub reserve_blocks: usize,
    /// Clear of restarts with another shard count: the shards of this life.
    pub shard_count: u32,
}

/// Settings of one log, from its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Roll limit, bytes.
    pub segment_bytes: u64,
    /// Roll limit, age of the segment's first append.
    pub segment_ns: u64,
    /// Frame bytes kept, `None` = no limit.
    pub retention_bytes: Option<u64>,
    /// Age kept by a segment's greatest timestamp, `None` = no limit.
    pub retention_ns: Option<u64>,
    /// When appends count as flushed.
    pub durability: Durability,
    /// Written to `partition.meta` when the log is made.
    pub topic_name: String,
    /// Likewise.
    pub topic_uuid: [u8; 16],
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the flush that covers it.
    Fsync,
}

/// A batch to append: one contiguous Kafka RecordBatch v2, already validated but for its CRC.
#[derive(Clone, Copy, Debug)]
pub enum Batch<'a> {
    /// In this shard's blocks. The caller releases its hold afterwards.
    Slice(Slice),
    /// Owned elsewhere (crossed the mesh, or made by the shard itself).
    Bytes(&'a [u8]),
}

/// Facts the partition adds to a batch.
#[derive(Clone, Copy, Debug)]
pub struct AppendFacts {
    /// Stamped into partitionLeaderEpoch.
    pub leader_epoch: i32,
    /// Encoding byte of the native line.
    pub encoding: u8,
    /// `Some(ms)`: LogAppendTime, stamped into maxTimestamp with attribute bit 3, CRC recombined.
    pub log_append_time_ms: Option<i64>,
}

/// A batch in the open group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// The `append_time_ns` of its native line.
    pub append_time_ns: u64,
}

/// Why an append was refused; nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// CRC-32C of the batch is wrong.
    #[error("batch CRC is {computed:08x}, its header says {stored:08x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// No segment can hold it.
    #[error("batch of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// Its frame.
        bytes: u64,
        /// Limit.
        limit: u64,
    },
    /// Open group full while the previous one is in flight, or no free block: keep the request and
    /// try again after the next [`LogEvent::Flushed`] of this log (transient).
    #[error("log is busy")]
    Busy,
    /// Poisoned: nothing more until restart.
    #[error("log is poisoned: {0}")]
    Poisoned(String),
    /// The disk has no room for the next extent (transient).
    #[error("no space for the next extent")]
    NoSpace,
    /// Unknown log.
    #[error("no such log")]
    Unknown,
}

/// Names a read that waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub u64);

/// How a read ended or goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadStart {
    /// The frames are in the list given.
    Done,
    /// Answered later by [`LogEvent::ReadDone`].
    Waiting(ReadTicket),
    /// Nothing to read yet: the offset is the end.
    Empty,
    /// Below log start or beyond the end.
    OutOfRange,
    /// The range is quarantined up to `until`.
    Quarantined {
        /// First offset after it.
        until: u64,
    },
    /// No blocks for a cold read now: ask again later (transient).
    Busy,
}

/// Where a time look-up leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFound {
    /// The first batch whose maxTimestamp is not below the time; the record is inside it.
    Batch {
        /// Its base offset.
        base_offset: u64,
    },
    /// Answered later by [`LogEvent::TimeDone`] (the index is on disk).
    Waiting(ReadTicket),
    /// No such batch.
    None,
}

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
    /// Logs poisoned.
    pub poisoned: u64,
    /// Bytes of tail held in memory.
    pub tail_bytes: u64,
}

/// All logs of one shard. Every method that may ask for I/O takes `io`; events gather inside and are
/// taken with [`Logs::next_event`].
pub struct Logs {
    _config: LogsConfig,
}

impl Logs {
    /// Starts recovery (start steps 7–9) of every log of `mine`; `settings` of logs that the metadata
    /// does not know are absent: orphans are opened by nobody and never deleted.
    pub fn start(
        config: LogsConfig,
        facts: Arc<DirectoryFacts>,
        mine: Vec<(LogKey, LogSettings)>,
        now: Now,
        blocks: &mut Blocks,
        io: &mut IoOut,
    ) -> Logs {
        let _ = (facts, mine, now, blocks, io);
        Logs { _config: config }
    }

    /// Every shard has reached `Started`: removes older checkpoint files of all shards. Appends are
    /// possible from `Started` on, high watermarks may be told from here on.
    pub fn peers_recovered(&mut self, io: &mut IoOut) {
        let _ = io;
    }

    /// Makes a new, empty log; `Created` follows.
    pub fn create(&mut self, key: LogKey, settings: LogSettings, now: Now, io: &mut IoOut) {
        let _ = (key, settings, now, io);
    }

    /// New settings from the topic.
    pub fn configure(&mut self, key: LogKey, settings: LogSettings) {
        let _ = (key, settings);
    }

    /// Removes a log and its files; waiting reads end with `Gone`, `Removed` follows.
    pub fn remove(&mut self, key: LogKey, io: &mut IoOut) {
        let _ = (key, io);
    }

    /// Copies a batch once into the open group, hashing in the same pass, and stamps its line.
    ///
    /// # Errors
    /// See [`AppendError`]; `Busy` and `NoSpace` are transient.
    pub fn append(
        &mut self,
        key: LogKey,
        batch: Batch<'_>,
        facts: AppendFacts,
        now: Now,
        blocks: &mut Blocks,
    ) -> Result<Appended, AppendError> {
        let _ = (key, batch, facts, now, blocks);
        Err(AppendError::Unknown)
    }

    /// End of a turn: submits open groups (one in flight per log), rolls, extends, checkpoints,
    /// applies retention, evicts tail. Returns when it wants to be called again at the latest.
    pub fn plan(&mut self, now: Now, blocks: &mut Blocks, io: &mut IoOut) -> Option<u64> {
        let _ = (now, blocks, io);
        None
    }

    /// An answer of the disk. False: the id is not ours.
    pub fn on_io(&mut self, now: Now, done: IoDone, blocks: &mut Blocks, io: &mut IoOut) -> bool {
        let _ = (now, done, blocks, io);
        false
    }

    /// Reads whole frames from the one that holds `from` (F1), below `upto`: at least one, more while
    /// they fit `bytes_max` (counted as Kafka bytes). On `Done` they are appended to `into`.
    #[expect(clippy::too_many_arguments, reason = "one read, each argument of its own type")]
    pub fn read(
        &mut self,
        key: LogKey,
        from: u64,
        upto: u64,
        bytes_max: u32,
        blocks: &mut Blocks,
        io: &mut IoOut,
        into: &mut FrameList,
    ) -> ReadStart {
        let _ = (key, from, upto, bytes_max, blocks, io, into);
        ReadStart::Empty
    }

    /// Gives a waiting read up: its blocks come back when the disk is done.
    pub fn forget_read(&mut self, ticket: ReadTicket) {
        let _ = ticket;
    }

    /// First batch with maxTimestamp ≥ `at_ms`, below `upto`.
    pub fn find_time(
        &mut self,
        key: LogKey,
        at_ms: i64,
        upto: u64,
        blocks: &mut Blocks,
        io: &mut IoOut,
    ) -> TimeFound {
        let _ = (key, at_ms, upto, blocks, io);
        TimeFound::None
    }

    /// Greatest timestamp below the flushed offset and the base offset of its batch (ListOffsets −3).
    #[must_use]
    pub fn max_timestamp(&self, key: LogKey) -> Option<(i64, u64)> {
        let _ = key;
        None
    }

    /// Truncates logically to `offset` (Z4): a new log_epoch, two checkpoint generations, then
    /// `Flushed`-like event `Recovered` with the new end. Not called by one node alone.
    pub fn truncate(&mut self, key: LogKey, offset: u64, now: Now, io: &mut IoOut) {
        let _ = (key, offset, now, io);
    }

    /// Stores derived state up to the flushed offset (P7).
    pub fn put_snapshot(&mut self, key: LogKey, body: Vec<u8>, io: &mut IoOut) {
        let _ = (key, body, io);
    }

    /// Clean stop: flush, snapshot, checkpoint with clean flags; then `Stopped`.
    pub fn stop(&mut self, io: &mut IoOut) {
        let _ = io;
    }

    /// Next thing that happened.
    pub fn next_event(&mut self) -> Option<LogEvent> {
        None
    }

    /// First offset kept.
    #[must_use]
    pub fn start_offset(&self, key: LogKey) -> u64 {
        let _ = key;
        0
    }

    /// Log end offset: the next to be given.
    #[must_use]
    pub fn end_offset(&self, key: LogKey) -> u64 {
        let _ = key;
        0
    }

    /// Everything below is on this disk.
    #[must_use]
    pub fn flushed_offset(&self, key: LogKey) -> u64 {
        let _ = key;
        0
    }

    /// Segments, oldest first.
    #[must_use]
    pub fn segments(&self, key: LogKey) -> Vec<SegmentFacts> {
        let _ = key;
        Vec::new()
    }

    /// Counts since start.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        LogCounts::default()
    }
}
