//! One shard's loop: reap the ring, step the logic, submit once per turn.
//! Owner: the executor that `boot.rs` starts for the shard.
//! Invariant: nothing here blocks but the ring itself; nothing is in flight when `run` returns.
//! Not here: what anything means.

use crate::counters::ShardCounters;
use crate::directory::DataDirectory;
use crate::error::RunError;
use crate::mesh::ShardEnds;
use crate::net::ListenerSeed;
use ringway_doors::session::DoorConfig;
use ringway_log::directory::DirectoryFacts;
use ringway_partition::catalog::Catalog;
use ringway_partition::shard::ShardConfig;
use std::sync::Arc;

/// Bounds of one shard's runtime.
#[derive(Clone, Debug)]
pub struct RunLimits {
    /// All block memory of the shard, bytes (its share of `memory_bytes_max`).
    pub memory_bytes: usize,
    /// Connections at most.
    pub connections_max: usize,
    /// Queued and pinned bytes towards one connection; above, nothing more is read from it (L8).
    pub conn_send_bytes_max: usize,
    /// How long accepted work may take at a stop, ns.
    pub drain_timeout_ns: u64,
    /// How long the loop polls its ring before it sleeps, µs; 0 = not at all.
    pub busy_poll_us: u64,
}

/// Everything a shard is started with.
pub struct ShardSeed {
    /// Settings of the logic.
    pub shard: ShardConfig,
    /// Settings of the doors.
    pub doors: Arc<DoorConfig>,
    /// What is known of the data directory.
    pub facts: Arc<DirectoryFacts>,
    /// Metadata.
    pub catalog: Arc<Catalog>,
    /// Where the logs lie.
    pub directory: DataDirectory,
    /// Where to listen once told to open the doors.
    pub listeners: Vec<ListenerSeed>,
    /// Bounds.
    pub limits: RunLimits,
    /// Links to the other shards and the control plane.
    pub ends: ShardEnds,
    /// Written by this shard, read by anyone.
    pub counters: Arc<ShardCounters>,
}

/// Runs the shard until it was stopped; to be awaited on a glommio executor pinned to its core.
///
/// # Errors
/// When the ring or the memory cannot be had or the ring fails. [`crate::mesh::FromShard::Failed`] was
/// sent before.
pub async fn run(seed: ShardSeed) -> Result<(), RunError> {
    let _ = seed;
    Ok(())
}
