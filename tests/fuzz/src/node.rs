//! One shard behind one connection: bytes in, bytes out, as `runtime` puts the same parts together.
//! Owner: one run of a target that speaks with a door.
//! Invariant: every wait is bounded; what does not end panics.
//! Not here: what is sent (`requests.rs`, the targets), what must come back (the targets).

use crate::disk::Disk;
use crate::process::{blocks, directory, give_back};
use ringway_doors::session::{
    Close, Dialects, Door, DoorConfig, DoorOut, Part, ReceiveInto, Session,
};
use ringway_log::blocks::{BLOCK_BYTES, Blocks};
use ringway_log::io::Now;
use ringway_log::logs::Upkeep;
use ringway_partition::catalog::{Broker, Catalog, Topic};
use ringway_partition::request::{Input, MetaAnswer, MetaOp, Notice, Out};
use ringway_partition::shard::{GroupConfig, Shard, ShardConfig};
use ringway_partition::topic_config::TopicConfig;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::TopicUuid;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// When every run begins, ms.
pub const WALL_MS: i64 = 1_700_000_000_000;
/// Topics there are, with their partitions and what sets each apart.
pub const TOPICS: [(&str, u32, &[(&str, &str)]); 4] = [
    ("events", 2, &[]),
    ("small", 1, &[("max.message.bytes", "300")]),
    ("compacted", 1, &[("cleanup.policy", "compact")]),
    ("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]),
];
/// Topics beyond it are refused, as a control plane bounds them too.
const TOPICS_MAX: usize = 10;
/// Partitions a created topic may have.
const PARTITIONS_MAX: u32 = 3;
/// Turns until everything asked must be answered.
const TURNS_MAX: u32 = 5_000;
/// And time: a fetch waits an hour at most, a group half an hour for a member, retention looks every 5 s.
const ANSWER_NS_MAX: u64 = 2 * 3_600 * 1_000_000_000;
/// Blocks of the pool.
const BLOCKS: usize = 48;
const CONNECTION: u32 = 9;

/// The shard, its connection and everything below.
pub struct Node {
    blocks: Blocks,
    shard: Option<Shard>,
    disk: Disk,
    door: Door,
    session: Session,
    catalog: Catalog,
    now: Now,
    recovered: bool,
    wake_at_ns: Option<u64>,
    door_out: DoorOut,
    next_producer_id: i64,
    /// Inputs of the shard so far.
    steps: u64,
    /// Asked by the session and not answered.
    open: BTreeSet<u32>,
    /// Everything sent to the peer.
    pub sent: Vec<u8>,
    /// Why the connection was closed.
    pub close: Option<Close>,
}

/// Number of the topic at a place of [`TOPICS`].
pub fn topic_id(place: usize) -> u64 {
    place as u64 + 1
}

/// Kafka's id of a topic.
pub fn topic_uuid(id: u64) -> [u8; 16] {
    let mut uuid = [0xAB; 16];
    uuid[8..].copy_from_slice(&id.to_be_bytes());
    uuid
}

fn topic(id: u64, name: &str, partitions: u32, internal: bool, config: TopicConfig) -> Topic {
    let (uuid, name) = (TopicUuid(topic_uuid(id)), name.to_owned());
    Topic { id, uuid, name, partitions, internal, config }
}

/// Segments of 256 KiB unless a topic says otherwise: a run on a small disk.
fn settings<'a>(
    given: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<TopicConfig, String> {
    let small = [("segment.bytes".to_owned(), (256 << 10).to_string())];
    let defaults = Arc::new(BTreeMap::from(small));
    TopicConfig::with_broker_defaults(defaults, given).map_err(|error| error.to_string())
}

fn catalog() -> Catalog {
    let broker = Broker { id: 0, host: "127.0.0.1".to_owned(), port: 19092, rack: None };
    let mut catalog = Catalog {
        version: 1,
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        brokers: vec![broker],
        shard_count: 1,
        advertise_shards: true,
        ..Catalog::default()
    };
    for (place, (name, partitions, given)) in TOPICS.iter().enumerate() {
        let config = settings(given.iter().map(|(key, value)| (*key, Some(*value))));
        let config = config.expect("settings of the harness");
        catalog.insert(topic(topic_id(place), name, *partitions, false, config));
    }
    catalog
}

fn door_config() -> DoorConfig {
    DoorConfig {
        kafka_request_bytes_max: 100 << 20,
        message_bytes_max: 50 << 20,
        conn_requests_max: 16,
        conn_send_bytes_max: 8 << 20,
        kafka_elements_max: 200_000,
        first_frame_ns: 5_000_000_000,
        kafka_idle_ns: 600_000_000_000,
        native_heartbeat_ns: 600_000_000_000,
        auto_create: true,
        fetch_bytes_max: 1 << 20,
        broker_configs: BTreeMap::from([("num.partitions".to_owned(), "1".to_owned())]),
        offsets_partitions: 2,
        software: "ringway 0".to_owned(),
    }
}

fn shard_config() -> ShardConfig {
    ShardConfig {
        shard: 0,
        flush_group_bytes_max: 256 << 10,
        frame_bytes_max: 128 << 10,
        checkpoint_interval_ms: 3_600_000,
        upkeep: Upkeep::default(),
        waiting_rows_max: 64,
        seed: 7,
        group: GroupConfig {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3,
            members_max: 100,
            offsets_partitions: 2,
        },
    }
}

impl Node {
    /// A shard that serves, on an empty disk, and a connection that has said nothing yet.
    pub fn start() -> Node {
        let mut blocks = blocks(BLOCKS);
        let mut disk = Disk::default();
        let facts = directory(&mut disk, &mut blocks);
        let now = Now { mono_ns: 1_000_000_000, wall_ns: WALL_MS as u64 * 1_000_000 };
        let catalog = catalog();
        let shared = Arc::new(catalog.clone());
        let door = Door::new(Arc::new(door_config()), Arc::clone(&shared), 0);
        let session = Session::new(CONNECTION, "10.0.0.1:5".to_owned(), Dialects::Auto, now);
        let mut out = Out::default();
        let facts = Arc::new(facts);
        let shard = Shard::start(shard_config(), facts, shared, now, &mut blocks, &mut out);
        let mut node = Node {
            blocks,
            shard: Some(shard),
            disk,
            door,
            session,
            catalog,
            now,
            recovered: false,
            wake_at_ns: None,
            door_out: DoorOut::default(),
            next_producer_id: 1000,
            steps: 0,
            open: BTreeSet::new(),
            sent: Vec::new(),
            close: None,
        };
        let mut inputs = VecDeque::new();
        node.effects(out, &mut inputs);
        node.run(inputs);
        for _ in 0..TURNS_MAX {
            if node.recovered {
                node.step(Input::PeersRecovered);
                // Until every partition is open; the first turn begins to open them.
                loop {
                    node.turn();
                    if node.disk.is_idle() {
                        return node;
                    }
                }
            }
            node.turn();
        }
        panic!("the shard does not recover");
    }

    /// Bytes arrive in pieces of at most `piece`, and everything they ask for is carried out.
    pub fn send(&mut self, bytes: &[u8], piece: usize) {
        let mut at = 0;
        let begun_ns = self.now.mono_ns;
        for _ in 0..TURNS_MAX {
            assert!(self.now.mono_ns - begun_ns < ANSWER_NS_MAX, "unanswered: {:?}", self.open);
            while at < bytes.len() && self.close.is_none() {
                let rest = &bytes[at..bytes.len().min(at.saturating_add(piece))];
                match self.arrive(rest) {
                    0 => break,
                    took => at += took,
                }
            }
            if self.close.is_some() || (at == bytes.len() && self.open.is_empty()) {
                return;
            }
            self.turn();
        }
        panic!("{at} of {} bytes taken, {} requests never answered", bytes.len(), self.open.len());
    }

    /// A fresh connection in place of the one there is.
    pub fn reconnect(&mut self) {
        if self.close.take().is_none() {
            self.session.end(&mut self.blocks, &mut self.door_out);
            let mut inputs = VecDeque::new();
            self.door_effects(&mut inputs);
            self.run(inputs);
        }
        let peer = "10.0.0.1:6".to_owned();
        self.session = Session::new(CONNECTION, peer, Dialects::Auto, self.now);
        self.sent.clear();
    }

    fn arrive(&mut self, rest: &[u8]) -> usize {
        let (now, door, out) = (self.now, &mut self.door, &mut self.door_out);
        let took = match self.session.receive_into() {
            ReceiveInto::Nothing => return 0,
            ReceiveInto::Provided => {
                let Some(block) = self.blocks.take() else { return 0 };
                let took = rest.len().min(BLOCK_BYTES);
                self.blocks.tail_mut(block)[..took].copy_from_slice(&rest[..took]);
                let slice = self.blocks.freeze(block, 0, took as u32);
                self.blocks.release_block(block);
                self.session.receive(now, slice, door, &mut self.blocks, out);
                took
            }
            ReceiveInto::Large { block, from, to } => {
                let took = rest.len().min((to - from) as usize);
                let at = (from - self.blocks.frozen_end(block)) as usize;
                self.blocks.tail_mut(block)[at..at + took].copy_from_slice(&rest[..took]);
                self.session.landed(now, took as u32, door, &mut self.blocks, out);
                took
            }
        };
        let mut inputs = VecDeque::new();
        self.door_effects(&mut inputs);
        self.run(inputs);
        took
    }

    /// The disk answers, and a moment passes; when nothing else can happen, as much as the shard waits for.
    fn turn(&mut self) {
        self.pass(100_000);
        let before = self.steps;
        while let Some(done) = self.disk.next_done() {
            self.step(Input::Io(done));
        }
        self.step(Input::Tick);
        if self.disk.is_idle() && self.steps == before + 1 {
            let wake = self.wake_at_ns.map_or(0, |at| at.saturating_sub(self.now.mono_ns));
            self.pass(wake);
            self.step(Input::Tick);
        }
        if self.session.wake_at_ns().is_some_and(|at| at <= self.now.mono_ns) {
            let (door, blocks) = (&mut self.door, &mut self.blocks);
            self.session.tick(self.now, door, blocks, &mut self.door_out);
            let mut inputs = VecDeque::new();
            self.door_effects(&mut inputs);
            self.run(inputs);
        }
    }

    fn pass(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.wall_ns += ns;
    }

    fn step(&mut self, input: Input) {
        self.run(VecDeque::from([input]));
    }

    fn run(&mut self, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            let mut out = Out::default();
            let shard = self.shard.as_mut().expect("it runs");
            let tick = matches!(input, Input::Tick);
            self.steps += 1;
            shard.step(self.now, input, &mut self.blocks, &mut out);
            if tick {
                self.wake_at_ns = out.wake_at_ns;
            }
            self.effects(out, &mut inputs);
        }
    }

    fn effects(&mut self, mut out: Out, inputs: &mut VecDeque<Input>) {
        self.disk.submit(&mut out.io, &mut self.blocks);
        assert!(out.mesh.is_empty(), "there is no other shard");
        for (id, op) in out.meta.drain(..) {
            let (answer, changed) = self.control(op);
            if changed {
                let shared = Arc::new(self.catalog.clone());
                self.door.catalog = Arc::clone(&shared);
                inputs.push_back(Input::Catalog(shared));
            }
            inputs.push_back(Input::Meta(id, answer));
        }
        for (number, job) in out.jobs.drain(..) {
            inputs.push_back(Input::Job(number, ringway_partition::job::run(&job)));
        }
        for notice in out.notices.drain(..) {
            match notice {
                Notice::Recovered { .. } => self.recovered = true,
                Notice::Poisoned { cause, .. } => panic!("poisoned without a fault: {cause}"),
                Notice::Warning(_) | Notice::Stopped { .. } => {}
            }
        }
        for (id, reply) in out.replies.drain(..) {
            assert_eq!(id.connection, CONNECTION, "a reply for nobody");
            assert!(self.open.remove(&id.request) || self.close.is_some(), "answered twice");
            let (door, blocks) = (&mut self.door, &mut self.blocks);
            self.session.reply(self.now, id.request, reply, door, blocks, &mut self.door_out);
            self.door_effects(inputs);
        }
    }

    fn door_effects(&mut self, inputs: &mut VecDeque<Input>) {
        let out = std::mem::take(&mut self.door_out);
        for part in out.parts {
            match part {
                Part::Bytes(range) => {
                    let range = range.start as usize..range.end as usize;
                    self.sent.extend_from_slice(&out.bytes[range]);
                }
                Part::Slice(slice) => {
                    self.sent.extend_from_slice(self.blocks.bytes(slice));
                    self.blocks.release(slice);
                }
            }
        }
        for (id, request) in out.requests {
            assert!(self.open.insert(id.request), "asked twice under one number");
            inputs.push_back(Input::Request(id, request));
        }
        for id in out.gone {
            assert!(self.open.remove(&id.request), "gone and never asked");
            inputs.push_back(Input::Gone(id));
        }
        if let Some(close) = out.close {
            assert!(self.close.is_none(), "closed twice");
            self.close = Some(close);
            self.session.end(&mut self.blocks, &mut self.door_out);
            self.door_effects(inputs);
        }
    }

    fn control(&mut self, op: MetaOp) -> (MetaAnswer, bool) {
        let failed =
            |code, message: &str| (MetaAnswer::Failed { code, message: message.to_owned() }, false);
        match op {
            MetaOp::CreateTopic { name, partitions, configs, validate_only, internal, .. } => {
                if self.catalog.topics.contains_key(&name) {
                    return failed(ErrorCode::TopicAlreadyExists, "there");
                }
                let given = configs.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
                let config = match settings(given) {
                    Ok(config) => config,
                    Err(text) => return failed(ErrorCode::InvalidConfig, &text),
                };
                let partitions = u32::try_from(partitions).unwrap_or(1);
                if partitions == 0 || partitions > PARTITIONS_MAX {
                    return failed(ErrorCode::InvalidPartitions, "too many");
                }
                if self.catalog.topics.len() >= TOPICS_MAX {
                    return failed(ErrorCode::InvalidPartitions, "enough topics");
                }
                if validate_only {
                    return (MetaAnswer::Created { topic_id: 0, partitions }, false);
                }
                self.catalog.version += 1;
                let id = 100 + self.catalog.version;
                self.catalog.insert(topic(id, &name, partitions, internal, config));
                (MetaAnswer::Created { topic_id: id, partitions }, true)
            }
            MetaOp::AlterTopic { .. } => failed(ErrorCode::InvalidConfig, "no settings change"),
            MetaOp::DeleteTopic { topic_id } => {
                self.catalog.version += 1;
                match self.catalog.remove(topic_id) {
                    Some(_) => (MetaAnswer::Deleted, true),
                    None => failed(ErrorCode::UnknownTopicOrPartition, "gone"),
                }
            }
            MetaOp::ReserveProducerIds { count } => {
                let first = self.next_producer_id;
                self.next_producer_id += i64::from(count);
                (MetaAnswer::ProducerIds { first, count }, false)
            }
        }
    }
}

impl Drop for Node {
    /// The process is killed; its memory serves the next run.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.shard = None;
        give_back(&mut self.blocks);
    }
}
