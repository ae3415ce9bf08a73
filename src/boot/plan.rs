//! From settings to what each floor is started with.

use super::Prepared;
use super::listeners::Listeners;
use crate::config::Config;
use crate::config::log::{Log, Use};
use crate::report::{self, Level};
use ringway_doors::session::DoorConfig;
use ringway_partition::catalog::{Broker, Catalog};
use ringway_partition::group::OFFSETS_TOPIC;
use ringway_partition::shard::{GroupConfig, ShardConfig, Upkeep};
use ringway_runtime::counters::ShardCounters;
use ringway_runtime::directory::DirectIo;
use ringway_runtime::mesh::ShardEnds;
use ringway_runtime::shard_loop::{RunLimits, ShardSeed};
use ringway_wire::ids::BROKERS_PER_NODE;
use std::net::SocketAddr;
use std::sync::Arc;

const NS_PER_MS: u64 = 1_000_000;
/// Queued and pinned bytes towards one connection (L8).
const CONN_SEND_BYTES_MAX: usize = 2 << 20;
/// Descriptors that are no connections: two per open segment and what the process itself needs (L13).
const FILES_RESERVED: u64 = 512;
/// Header and native line around the largest native payload.
const FRAME_HEADER_BYTES: u32 = 128;

/// O_DIRECT as the runtime wants to be told.
pub(super) fn direct_io(log: &Log) -> DirectIo {
    match log.direct_io {
        Use::Prefer => DirectIo::Auto,
        Use::Require => DirectIo::Require,
        Use::Off => DirectIo::Off,
    }
}

/// Brokers as clients see them.
pub(super) fn brokers(config: &Config, listeners: &Listeners, shards: u32) -> Vec<Broker> {
    let first = config.node.id * BROKERS_PER_NODE;
    let broker = |(id, address): (i32, &SocketAddr)| {
        let host = config.kafka.advertised_host().map_or(address.ip().to_string(), str::to_owned);
        let port = config.kafka.advertised_port().unwrap_or(address.port());
        Broker { id, host, port, rack: config.node.rack.clone() }
    };
    if config.kafka.advertises_shards(shards) {
        (first..).zip(&listeners.kafka_shards).map(broker).collect()
    } else {
        vec![broker((first, &listeners.kafka))]
    }
}

/// One seed per shard; takes the listeners.
pub(super) fn seeds(
    prepared: &mut Prepared,
    catalog: &Arc<Catalog>,
    doors: &Arc<DoorConfig>,
    ends: Vec<ShardEnds>,
    counters: &[Arc<ShardCounters>],
) -> Vec<ShardSeed> {
    let config = &prepared.config;
    let shards = ends.len();
    let limits = RunLimits {
        memory_bytes: usize::try_from(prepared.memory_bytes_max).unwrap_or(usize::MAX) / shards,
        connections_max: connections_max(config, prepared.files_max, shards),
        drain_timeout_ns: config.limits.drain_timeout_ms * NS_PER_MS,
        busy_poll_us: 0,
    };
    let listeners = std::mem::take(&mut prepared.listeners.seeds);
    (0..)
        .zip(ends)
        .zip(listeners)
        .zip(counters)
        .map(|(((shard, ends), listeners), counters)| ShardSeed {
            shard: shard_config(config, catalog, (shard, shards)),
            doors: Arc::clone(doors),
            facts: Arc::clone(&prepared.facts),
            catalog: Arc::clone(catalog),
            directory: prepared.directory.clone(),
            listeners,
            limits: limits.clone(),
            ends,
            counters: Arc::clone(counters),
        })
        .collect()
}

/// A shard may have so many that all together leave room for segments (L13).
fn connections_max(config: &Config, files_max: u64, shards: usize) -> usize {
    let configured = config.limits.connections_max as usize;
    let room = usize::try_from(files_max.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX);
    let lowered = configured.min(room / shards).max(1);
    if lowered < configured {
        let text = format!(
            "{lowered} connections per shard instead of limits.connections_max = {configured}: only \
             {files_max} open files are allowed; raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        );
        report::log(Level::Warn, "boot", &text, &[("shards", shards.into())]);
    }
    lowered
}

/// The largest message that a shard started with this configuration can ever be told to take.
pub(super) fn message_bytes_ceiling(config: &Config) -> u32 {
    config.limits.message_bytes_max.max(config.broker.request_bytes_max)
}

/// What logs do by themselves; each shard has its share of what is allowed for the directory.
fn upkeep(log: &Log, shards: usize) -> Upkeep {
    let hours = Some(log.scrub_interval_h).filter(|hours| *hours > 0);
    Upkeep {
        io_stall_ns: log.io_stall_ms * NS_PER_MS,
        scrub_interval_ns: hours.map(|hours| hours * 3_600_000 * NS_PER_MS),
        scrub_bytes_per_s: (log.scrub_bytes_per_s_max / shards as u64).max(1),
        ..Upkeep::default()
    }
}

fn shard_config(config: &Config, catalog: &Catalog, (shard, shards): (u32, usize)) -> ShardConfig {
    let mut seed = [0; 8];
    assert!(getrandom::fill(&mut seed).is_ok(), "the kernel gives random numbers");
    let broker = &config.broker;
    ShardConfig {
        shard,
        flush_group_bytes_max: config.log.flush_group_bytes_max,
        frame_bytes_max: message_bytes_ceiling(config).saturating_add(FRAME_HEADER_BYTES),
        checkpoint_interval_ms: config.log.checkpoint_interval_ms,
        upkeep: upkeep(&config.log, shards),
        waiting_rows_max: config.limits.waiting_rows_max as usize,
        seed: u64::from_le_bytes(seed),
        group: GroupConfig {
            session_timeout_ms_min: broker.session_timeout_ms_min,
            session_timeout_ms_max: broker.session_timeout_ms_max,
            initial_rebalance_delay_ms: broker.initial_rebalance_delay_ms,
            members_max: broker.members_max as usize,
            offsets_partitions: offsets_partitions(config, catalog),
        },
    }
}

/// What groups are hashed over: the count of the topic once it exists, whatever the configuration says
/// by then, or committed offsets would be looked for in the wrong partition.
fn offsets_partitions(config: &Config, catalog: &Catalog) -> u32 {
    let topic = catalog.topics.get(OFFSETS_TOPIC);
    topic.map_or(config.broker.offsets_partitions, |topic| topic.partitions)
}

/// What every door of the process starts with.
pub(super) fn door_config(config: &Config, catalog: &Catalog) -> DoorConfig {
    let broker = &config.broker;
    let mut described = broker.described.clone();
    let listeners: Vec<String> =
        catalog.brokers.iter().map(|b| format!("PLAINTEXT://{}:{}", b.host, b.port)).collect();
    described.insert("advertised.listeners".to_owned(), listeners.join(","));
    described.insert("listeners".to_owned(), format!("PLAINTEXT://{}", config.kafka.bind));
    described.insert("broker.id".to_owned(), config.node.id.to_string());
    described.insert("broker.rack".to_owned(), config.node.rack.clone().unwrap_or_default());
    described.insert("log.dirs".to_owned(), config.node.data_dir.display().to_string());
    described.insert("default.replication.factor".to_owned(), "1".to_owned());
    described.insert("offsets.topic.replication.factor".to_owned(), "1".to_owned());
    described.insert("delete.topic.enable".to_owned(), "true".to_owned());
    DoorConfig {
        kafka_request_bytes_max: broker.request_bytes_max,
        message_bytes_max: config.limits.message_bytes_max,
        conn_requests_max: config.limits.conn_requests_max as usize,
        conn_send_bytes_max: CONN_SEND_BYTES_MAX,
        kafka_elements_max: config.limits.kafka_elements_max,
        first_frame_ns: config.limits.preauth_timeout_ms * NS_PER_MS,
        kafka_idle_ns: broker.idle_ms * NS_PER_MS,
        native_heartbeat_ns: u64::try_from(config.native_heartbeat.as_nanos()).unwrap_or(u64::MAX),
        auto_create: broker.auto_create,
        fetch_bytes_max: broker.fetch_bytes_max,
        broker_configs: described,
        offsets_partitions: offsets_partitions(config, catalog),
        software: format!("ringway {}", env!("CARGO_PKG_VERSION")),
    }
}
