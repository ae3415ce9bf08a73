//! Bounds of a shard's logs and settings of one log.
//! Owner: the shard hands them in; `Logs` keeps them.
//! Invariant: recovery judges lengths by the file, never by a setting of today.
//! Not here: names of settings (`partition/topic_config.rs`).

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
    /// What the logs do by themselves.
    pub upkeep: Upkeep,
}

/// Bounds of what a shard's logs do by themselves; the default never scrubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// Frame bytes flushed after which a checkpoint is due before its interval has passed: what a start
    /// after a crash scans.
    pub checkpoint_bytes: u64,
    /// A write older than this has stalled (P15), ns.
    pub io_stall_ns: u64,
    /// Every sealed segment is read once in this time (Q5), ns; `None` = never.
    pub scrub_interval_ns: Option<u64>,
    /// Bytes read for it in a second by this shard.
    pub scrub_bytes_per_s: u64,
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep {
            checkpoint_bytes: 256 << 20,
            io_stall_ns: 30_000_000_000,
            scrub_interval_ns: None,
            scrub_bytes_per_s: 16 << 20,
        }
    }
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

impl LogSettings {
    /// Whether segments go by age or size.
    pub(crate) fn has_retention(&self) -> bool {
        self.retention_bytes.is_some() || self.retention_ns.is_some()
    }
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the flush that covers it.
    Fsync,
}
