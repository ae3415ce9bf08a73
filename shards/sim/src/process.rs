//! One life of the server: its settings, how far its start or stop has come, its rooms.
//! Owner: the node.
//! Invariant: nothing of it outlives a cut but the disk and the control plane.
//! Not here: events (`node.rs`).

use crate::clock::SECOND;
use crate::room::Room;
use ringway_doors::session::{Door, DoorConfig};
use ringway_log::blocks::{Blocks, Piece};
use ringway_log::directory::{DirectoryFacts, DirectoryStart};
use ringway_log::io::Now;
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{Notice, Out};
use ringway_partition::shard::{GroupConfig, Shard, ShardConfig, Upkeep};
use std::collections::BTreeMap;
use std::sync::Arc;

/// When and how fast closed segments are read again.
#[derive(Clone, Copy, Debug)]
pub struct Scrubbing {
    /// From the start of one pass to the next, ns; the first begins with the life.
    pub interval_ns: u64,
    /// Bytes that a shard may read for it in a second.
    pub bytes_per_s: u64,
}

/// Block memory that lives longer than processes.
#[derive(Default)]
pub struct Pool {
    spare: Vec<Piece>,
}

impl Pool {
    /// Memory of one shard: `count` blocks, never more: what a seed does must not depend on the seeds that
    /// ran before it in this process.
    pub fn take(&mut self, count: usize) -> Vec<Piece> {
        while self.spare.len() < count {
            self.spare.push(Piece::zeroed());
        }
        self.spare.split_off(self.spare.len() - count)
    }

    fn give(&mut self, memory: Vec<Piece>) {
        self.spare.extend(memory);
    }
}

/// Settings of one life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shards.
    pub shards: u32,
    /// Whether each shard is a broker of its own.
    pub advertise_shards: bool,
    /// Block of a new directory.
    pub block: u32,
    /// Pooled blocks of each shard.
    pub blocks: usize,
    /// Largest flush group, bytes.
    pub flush_group_bytes_max: u32,
    /// Largest frame, bytes.
    pub frame_bytes_max: u32,
    /// Where the ids of group members begin.
    pub id_seed: u64,
    /// Checkpoint interval, ms.
    pub checkpoint_interval_ms: u64,
    /// None: closed segments are read by nobody but clients and recovery.
    pub scrubbing: Option<Scrubbing>,
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Directory or logs are being recovered.
    Starting,
    /// The last shard has just recovered.
    Recovered,
    /// Open for connections.
    Serving,
    /// Asked to stop.
    Stopping,
    /// The last shard has just stopped.
    Stopped,
}

/// One life.
pub struct Process {
    /// Its settings.
    pub settings: Settings,
    /// Steps 3 and 4; gone once the shards run.
    pub start: Option<DirectoryStart>,
    /// How far it is.
    pub phase: Phase,
    /// One per shard.
    pub rooms: Vec<Room>,
    /// (shard, generation) of those that stopped.
    pub stopped: Vec<(u32, u64)>,
    /// The clean marker is on disk.
    pub marker_written: bool,
    catalog: Arc<Catalog>,
    recovered: u32,
    mesh_at: BTreeMap<(u32, u32), u64>,
    catalog_at: BTreeMap<u32, u64>,
}

impl Process {
    /// A process whose directory is being started.
    #[must_use]
    pub fn new(settings: Settings, start: DirectoryStart, catalog: Arc<Catalog>) -> Process {
        Process {
            settings,
            start: Some(start),
            phase: Phase::Starting,
            rooms: Vec::new(),
            stopped: Vec::new(),
            marker_written: false,
            catalog,
            recovered: 0,
            mesh_at: BTreeMap::new(),
            catalog_at: BTreeMap::new(),
        }
    }

    /// Shards that run.
    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.rooms.len()).unwrap_or(0)
    }

    /// Makes the rooms, still without logic.
    pub fn make_rooms(&mut self, pool: &mut Pool) {
        let config = Arc::new(door_config(&self.settings));
        for shard in 0..self.settings.shards {
            self.rooms.push(Room {
                shard: None,
                blocks: Blocks::new(pool.take(self.settings.blocks), 16 << 20),
                door: Door::new(Arc::clone(&config), Arc::clone(&self.catalog), shard),
                sessions: BTreeMap::new(),
                turn_planned: false,
                wake_at_ns: None,
            });
        }
    }

    /// Starts the logic of one shard.
    pub fn start_shard(&mut self, shard: u32, facts: Arc<DirectoryFacts>, now: Now, out: &mut Out) {
        let config = shard_config(&self.settings, shard);
        let catalog = Arc::clone(&self.catalog);
        let room = &mut self.rooms[shard as usize];
        room.shard = Some(Shard::start(config, facts, catalog, now, &mut room.blocks, out));
    }

    /// Takes a notice into account; `Recovered` and `Stopped` are told once, by the last shard.
    pub fn note(&mut self, shard: u32, notice: &Notice) -> Phase {
        match notice {
            Notice::Recovered { .. } => {
                self.recovered += 1;
                if self.recovered == self.settings.shards {
                    return Phase::Recovered;
                }
            }
            Notice::Stopped { checkpoint_generation } => {
                self.stopped.push((shard, *checkpoint_generation));
                if self.stopped.len() == self.rooms.len() {
                    return Phase::Stopped;
                }
            }
            Notice::Warning(_) | Notice::Poisoned { .. } => {}
        }
        self.phase
    }

    /// When a message arrives: never before the one sent before it on the same way.
    pub fn mesh_at(&mut self, from: u32, to: u32, at: u64) -> u64 {
        in_order(self.mesh_at.entry((from, to)).or_default(), at)
    }

    /// Likewise for catalogs.
    pub fn catalog_at(&mut self, to: u32, at: u64) -> u64 {
        in_order(self.catalog_at.entry(to).or_default(), at)
    }

    /// Gives the block memory back.
    pub fn give_back(self, pool: &mut Pool) {
        for room in self.rooms {
            pool.give(room.blocks.into_memory());
        }
    }
}

fn in_order(last: &mut u64, at: u64) -> u64 {
    *last = at.max(*last + 1);
    *last
}

fn shard_config(settings: &Settings, shard: u32) -> ShardConfig {
    ShardConfig {
        shard,
        flush_group_bytes_max: settings.flush_group_bytes_max,
        frame_bytes_max: settings.frame_bytes_max,
        checkpoint_interval_ms: settings.checkpoint_interval_ms,
        upkeep: upkeep(settings.scrubbing),
        waiting_rows_max: 1000,
        seed: settings.id_seed,
        group: GroupConfig {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 0,
            members_max: 100,
            offsets_partitions: 2,
        },
    }
}

fn upkeep(scrubbing: Option<Scrubbing>) -> Upkeep {
    let rest = Upkeep::default();
    match scrubbing {
        None => rest,
        Some(Scrubbing { interval_ns, bytes_per_s }) => {
            Upkeep { scrub_interval_ns: Some(interval_ns), scrub_bytes_per_s: bytes_per_s, ..rest }
        }
    }
}

fn door_config(settings: &Settings) -> DoorConfig {
    DoorConfig {
        kafka_request_bytes_max: 4 << 20,
        message_bytes_max: 4 << 20,
        conn_requests_max: 64,
        conn_send_bytes_max: 2 << 20,
        kafka_elements_max: 10_000,
        first_frame_ns: 3_600 * SECOND,
        kafka_idle_ns: 3_600 * SECOND,
        native_heartbeat_ns: 3_600 * SECOND,
        auto_create: true,
        fetch_bytes_max: settings.frame_bytes_max.max(1 << 20),
        broker_configs: BTreeMap::new(),
        offsets_partitions: 2,
        software: "ringway sim".to_owned(),
    }
}
