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
