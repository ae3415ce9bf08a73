//! Bounds and counts of one shard.
//! Owner: `boot.rs` fills the settings, `Shard` the counts.
//! Invariant: settings never change within a life.
//! Not here: settings of topics (`topic_config.rs`).

use ringway_log::logs::{LogCounts, Upkeep};

/// Bounds and settings of one shard.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This shard.
    pub shard: u32,
    /// Largest flush group, bytes.
    pub flush_group_bytes_max: u32,
    /// Largest frame, bytes.
    pub frame_bytes_max: u32,
    /// Checkpoint interval, ms.
    pub checkpoint_interval_ms: u64,
    /// What its logs do by themselves.
    pub upkeep: Upkeep,
    /// Waiting rows at most (fetches, produces, joins).
    pub waiting_rows_max: usize,
    /// Seed for made-up ids (member ids); the process draws it, the simulator fixes it.
    pub seed: u64,
    /// Group rules (G12).
    pub group: GroupConfig,
}

/// Kafka's group settings.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub members_max: usize,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: u32,
}

/// Counts since start, copied to the shard's counters once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Of the logs.
    pub log: LogCounts,
    /// Produce requests accepted.
    pub produced_batches: u64,
    /// Batches answered from the duplicate window.
    pub duplicate_batches: u64,
    /// Batches refused.
    pub refused_batches: u64,
    /// Records sent to consumers.
    pub fetched_records: u64,
    /// Quarantined records that fetches passed over (`on_quarantine = "skip"`).
    pub skipped_records: u64,
    /// Bytes sent to consumers.
    pub fetched_bytes: u64,
    /// Requests that crossed the mesh.
    pub foreign_requests: u64,
    /// Waiting rows now.
    pub waiting_rows: u64,
    /// Groups coordinated here now.
    pub groups: u64,
}
