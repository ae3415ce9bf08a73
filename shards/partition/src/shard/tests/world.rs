//! Shards with a disk in memory, a mesh and a control plane: every request is counted and answered once.

use super::disk::Disk;
use crate::catalog::{Broker, Catalog, Topic};
use crate::job;
use crate::request::{
    FetchPart, Fetched, FetchedPart, GroupReply, GroupRequest, Input, MetaAnswer, MetaOp, Notice,
    OffsetAt, Out, Payload, Reply, Request, RequestId,
};
use crate::shard::{GroupConfig, Shard, ShardConfig, Upkeep};
use crate::topic_config::TopicConfig;
use crate::turn::copied;
use ringway_log::blocks::{Blocks, Piece};
use ringway_log::directory::{DirectoryFacts, DirectoryProgress, DirectoryStart};
use ringway_log::io::{IoOut, Now};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, HEADER_LEN};
use ringway_wire::ids::{LogKey, TopicUuid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(super) const MS: u64 = 1_000_000;
const WALL_NS: u64 = 1_700_000_000_000 * MS;
/// The test's clients speak as one connection.
const CONNECTION: u32 = 7;

struct One {
    shard: Shard,
    blocks: Blocks,
    out: Out,
    wake_at_ns: Option<u64>,
}

/// Bytes of a fetched part, wherever they came from.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) code: ErrorCode,
    pub(super) high_watermark: u64,
    pub(super) log_start: u64,
    pub(super) bytes: Vec<u8>,
    /// First and last offset of every frame.
    pub(super) offsets: Vec<(u64, u64)>,
}

/// An answer whose slices were given back.
#[derive(Debug)]
pub(super) enum Answer {
    Fetched(Vec<Got>),
    Other(Reply),
}

pub(super) struct World {
    shards: Vec<One>,
    pub(super) disk: Disk,
    pub(super) now_ns: u64,
    catalog: Catalog,
    next_topic: u64,
    next_producer_id: i64,
    /// Answers of the control plane wait while this is set.
    pub(super) hold_meta: bool,
    meta: Vec<(usize, RequestId, MetaOp)>,
    requests: u32,
    asked: BTreeSet<RequestId>,
    gone: BTreeSet<RequestId>,
    answers: BTreeMap<RequestId, Answer>,
    pub(super) notices: Vec<Notice>,
    hold_reads_when_serving: bool,
    pub(super) group: GroupConfig,
    /// Blocks of each shard.
    pool: usize,
}

impl World {
    pub(super) fn new(shards: u32) -> World {
        World::with(shards, 0, 256)
    }

    pub(super) fn with(shards: u32, initial_rebalance_delay_ms: i32, pool: usize) -> World {
        let brokers = (0..shards).map(|shard| Broker {
            id: i32::try_from(shard).unwrap(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
            rack: None,
        });
        let catalog = Catalog {
            version: 1,
            cluster_id: "c".to_owned(),
            brokers: brokers.collect(),
            node_id: 0,
            shard_count: shards,
            advertise_shards: true,
            ..Catalog::default()
        };
        let mut world = World {
            shards: Vec::new(),
            disk: Disk::default(),
            now_ns: 1_000 * MS,
            catalog,
            next_topic: 1,
            next_producer_id: 1000,
            hold_meta: false,
            meta: Vec::new(),
            requests: 0,
            asked: BTreeSet::new(),
            gone: BTreeSet::new(),
            answers: BTreeMap::new(),
            notices: Vec::new(),
            hold_reads_when_serving: false,
            group: GroupConfig {
                session_timeout_ms_min: 1000,
                session_timeout_ms_max: 60_000,
                initial_rebalance_delay_ms,
                members_max: 100,
                offsets_partitions: 4,
            },
            pool,
        };
        world.start();
        world
    }

    pub(super) fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall_ns: WALL_NS + self.now_ns }
    }

    pub(super) fn wall_ms(&self) -> i64 {
        self.now().wall_ms()
    }

    fn blocks(count: usize) -> Blocks {
        Blocks::new((0..count).map(|_| Piece::zeroed()).collect(), 8 << 20)
    }

    fn directory(&mut self) -> DirectoryFacts {
        let mut blocks = Blocks::new(Vec::new(), 0);
        let mut io = IoOut::default();
        let mut start = DirectoryStart::new([3; 16], 0x5EC2_E7AA, 4096, &mut io);
        let mut done: VecDeque<_> = self.disk.submit(0, &mut io, &mut blocks).into();
        while let Some(one) = done.pop_front() {
            match start.on_io(one, &mut io) {
                DirectoryProgress::Working => {}
                DirectoryProgress::Ready(facts) => return facts,
                DirectoryProgress::Refused(why) => panic!("{why}"),
            }
            done.extend(self.disk.submit(0, &mut io, &mut blocks));
        }
        panic!("the directory start stopped asking");
    }

    fn start(&mut self) {
        let facts = Arc::new(self.directory());
        let catalog = Arc::new(self.catalog.clone());
        for shard in 0..self.catalog.shard_count {
            let config = ShardConfig {
                shard,
                flush_group_bytes_max: 4 << 20,
                frame_bytes_max: 8 << 20,
                checkpoint_interval_ms: 1000,
                upkeep: Upkeep::default(),
                waiting_rows_max: 1000,
                seed: 42,
                group: self.group.clone(),
            };
            let mut blocks = World::blocks(self.pool);
            let mut out = Out::default();
            let (facts, catalog) = (Arc::clone(&facts), Arc::clone(&catalog));
            let shard = Shard::start(config, facts, catalog, self.now(), &mut blocks, &mut out);
            self.shards.push(One { shard, blocks, out, wake_at_ns: None });
        }
        self.run();
        let recovered = |notice: &&Notice| matches!(notice, Notice::Recovered { .. });
        let count = self.notices.iter().filter(recovered).count();
        assert_eq!(count, self.shards.len(), "{:?}", self.notices);
        self.notices.clear();
        self.disk.hold_reads = self.hold_reads_when_serving;
        for at in 0..self.shards.len() {
            self.step(at, Input::PeersRecovered);
        }
        self.run();
    }

    /// The process is killed and started again on the same disk.
    pub(super) fn crash(&mut self) {
        self.shards.clear();
        self.meta.clear();
        self.disk.restart();
        // Nobody is left to answer.
        let open: Vec<RequestId> =
            self.asked.iter().filter(|id| !self.answers.contains_key(id)).copied().collect();
        self.gone.extend(open);
        self.now_ns += 1000 * MS;
        self.start();
    }

    /// The same, and from serving on the disk answers no read until it is released.
    pub(super) fn crash_holding_reads(&mut self) {
        self.hold_reads_when_serving = true;
        self.crash();
        self.hold_reads_when_serving = false;
    }

    pub(super) fn stop(&mut self) {
        for at in 0..self.shards.len() {
            self.step(at, Input::Stop);
        }
        self.run();
        // The logs look every few milliseconds whether everything is flushed.
        self.pass(100);
    }

    pub(super) fn step(&mut self, at: usize, input: Input) {
        let now = self.now();
        let one = &mut self.shards[at];
        one.shard.step(now, input, &mut one.blocks, &mut one.out);
    }

    /// Turns until nothing moves any more at this time.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            for at in 0..self.shards.len() {
                self.step(at, Input::Tick);
                moved |= self.carry(at);
                let wake_at_ns = self.shards[at].out.wake_at_ns.take();
                moved |= wake_at_ns.is_some_and(|wake| wake <= self.now_ns);
                self.shards[at].wake_at_ns = wake_at_ns;
            }
            if !moved {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    /// Carries the effects of one shard's turn.
    fn carry(&mut self, at: usize) -> bool {
        let one = &mut self.shards[at];
        let done = self.disk.submit(at, &mut one.out.io, &mut one.blocks);
        let replies = std::mem::take(&mut one.out.replies);
        let mesh = std::mem::take(&mut one.out.mesh);
        let jobs = std::mem::take(&mut one.out.jobs);
        let meta = std::mem::take(&mut one.out.meta);
        self.notices.append(&mut one.out.notices);
        let mut moved = !(done.is_empty() && mesh.is_empty() && jobs.is_empty());
        for (id, reply) in replies {
            let answer = self.take_answer(at, reply);
            assert!(self.asked.contains(&id), "{id:?} was never asked");
            let before = self.answers.insert(id, answer);
            assert!(before.is_none(), "{id:?} was answered twice: {before:?}");
        }
        for one in done {
            self.step(at, Input::Io(one));
        }
        for (to, message) in mesh {
            let to = usize::try_from(to).unwrap();
            self.step(to, Input::Mesh(u32::try_from(at).unwrap(), message));
        }
        for (id, job) in jobs {
            self.step(at, Input::Job(id, job::run(&job)));
        }
        self.meta.extend(meta.into_iter().map(|(id, op)| (at, id, op)));
        if !self.hold_meta {
            for (at, id, op) in std::mem::take(&mut self.meta) {
                moved = true;
                let answer = self.control(op);
                self.step(at, Input::Meta(id, answer));
            }
        }
        moved
    }

    fn take_answer(&mut self, at: usize, reply: Reply) -> Answer {
        let Reply::Fetched(parts) = reply else { return Answer::Other(reply) };
        let blocks = &mut self.shards[at].blocks;
        Answer::Fetched(parts.into_iter().map(|part| got(part, blocks)).collect())
    }

    fn control(&mut self, op: MetaOp) -> MetaAnswer {
        match op {
            MetaOp::CreateTopic { name, partitions, configs, internal, .. } => {
                if self.catalog.topics.contains_key(&name) {
                    let code = ErrorCode::TopicAlreadyExists;
                    return MetaAnswer::Failed { code, message: name };
                }
                let configs: Vec<(&str, Option<&str>)> =
                    configs.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
                let config = TopicConfig::from_overrides(configs).expect("valid");
                let partitions = u32::try_from(partitions).unwrap();
                let topic_id = self.add_topic(&name, partitions, config, internal);
                MetaAnswer::Created { topic_id, partitions }
            }
            MetaOp::AlterTopic { .. } => unreachable!("tests change settings by `set_config`"),
            MetaOp::DeleteTopic { topic_id } => {
                self.catalog.remove(topic_id);
                self.tell_catalog();
                MetaAnswer::Deleted
            }
            MetaOp::ReserveProducerIds { count } => {
                let first = self.next_producer_id;
                self.next_producer_id += i64::from(count);
                MetaAnswer::ProducerIds { first, count }
            }
        }
    }

    pub(super) fn add_topic(
        &mut self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
        internal: bool,
    ) -> u64 {
        let id = self.next_topic;
        self.next_topic += 1;
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&id.to_le_bytes());
        let uuid = TopicUuid(uuid);
        let name = name.to_owned();
        self.catalog.insert(Topic { id, uuid, name, partitions, internal, config });
        self.tell_catalog();
        id
    }

    pub(super) fn set_config(&mut self, topic_id: u64, name: &str, value: &str) {
        let mut topic = (*self.catalog.by_id[&topic_id]).clone();
        topic.config.set(name, Some(value)).expect("valid");
        self.catalog.insert(topic);
        self.tell_catalog();
        self.run();
    }

    fn tell_catalog(&mut self) {
        self.catalog.version += 1;
        let catalog = Arc::new(self.catalog.clone());
        for at in 0..self.shards.len() {
            self.step(at, Input::Catalog(Arc::clone(&catalog)));
        }
    }

    /// A topic with `partitions`, ready.
    pub(super) fn topic(&mut self, name: &str, partitions: u32, configs: &[(&str, &str)]) -> u64 {
        let configs = configs.iter().map(|(name, value)| (*name, Some(*value)));
        let config = TopicConfig::from_overrides(configs).expect("valid");
        let id = self.add_topic(name, partitions, config, false);
        self.run();
        id
    }

    /// Asks shard `at` without letting anything happen yet.
    pub(super) fn ask_only(&mut self, at: usize, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId { connection: CONNECTION, request: self.requests };
        self.asked.insert(id);
        self.step(at, Input::Request(id, request));
        id
    }

    pub(super) fn ask(&mut self, at: usize, request: Request) -> RequestId {
        let id = self.ask_only(at, request);
        self.run();
        id
    }

    pub(super) fn gone(&mut self, at: usize, id: RequestId) {
        self.gone.insert(id);
        self.step(at, Input::Gone(id));
        self.run();
    }

    /// The same, and nothing happens yet.
    pub(super) fn gone_only(&mut self, at: usize, id: RequestId) {
        self.gone.insert(id);
        self.step(at, Input::Gone(id));
    }

    /// An answer, left where it is.
    pub(super) fn peek(&self, id: RequestId) -> Option<&Reply> {
        match self.answers.get(&id) {
            Some(Answer::Other(reply)) => Some(reply),
            Some(Answer::Fetched(_)) | None => None,
        }
    }

    /// Base offset, then base sequence and last offset delta, of the batches from `from` on.
    pub(super) fn headers(&mut self, key: LogKey, from: u64) -> Vec<(u64, (i32, u32))> {
        let bytes = self.fetch(key, from).bytes;
        let mut rest = bytes.as_slice();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let header = BatchHeader::access(&rest[..HEADER_LEN]).expect("a frame");
            let delta = u32::try_from(header.last_offset_delta()).unwrap();
            found.push((header.base_offset(), (header.base_sequence(), delta)));
            rest = &rest[header.frame_len() as usize..];
        }
        found
    }

    pub(super) fn is_answered(&self, id: RequestId) -> bool {
        self.answers.contains_key(&id)
    }

    pub(super) fn reply(&mut self, id: RequestId) -> Reply {
        match self.answers.insert(id, Answer::Fetched(Vec::new())) {
            Some(Answer::Other(reply)) => reply,
            other => panic!("{id:?}: {other:?}"),
        }
    }

    pub(super) fn fetched(&mut self, id: RequestId) -> Vec<Got> {
        match self.answers.insert(id, Answer::Fetched(Vec::new())) {
            Some(Answer::Fetched(parts)) => parts,
            other => panic!("{id:?}: {other:?}"),
        }
    }

    pub(super) fn code(&mut self, id: RequestId) -> ErrorCode {
        match self.reply(id) {
            Reply::Failed { code, .. } => code,
            Reply::Produced { .. } => ErrorCode::None,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn produce_request(&mut self, key: LogKey, acks: i16, batch: Vec<u8>) -> Request {
        let deadline_ns = self.now_ns + 30_000 * MS;
        Request::Produce { key, acks, deadline_ns, payload: Payload::Owned(batch), encoding: 3 }
    }

    /// Produces to shard 0 and gives the base offset.
    pub(super) fn produce(&mut self, key: LogKey, batch: Vec<u8>) -> u64 {
        let request = self.produce_request(key, -1, batch);
        let id = self.ask(0, request);
        match self.reply(id) {
            Reply::Produced { base_offset, .. } => base_offset,
            other => panic!("{other:?}"),
        }
    }

    /// The same from a block of the shard, as a door hands it over.
    pub(super) fn produce_slice(&mut self, key: LogKey, batch: &[u8]) -> RequestId {
        let blocks = &mut self.shards[0].blocks;
        let block = blocks.take().expect("free");
        blocks.tail_mut(block)[..batch.len()].copy_from_slice(batch);
        let slice = blocks.freeze(block, 0, u32::try_from(batch.len()).unwrap());
        blocks.release_block(block);
        let deadline_ns = self.now_ns + 30_000 * MS;
        let payload = Payload::Received(slice);
        self.ask(0, Request::Produce { key, acks: -1, deadline_ns, payload, encoding: 3 })
    }

    pub(super) fn fetch_request(&self, parts: Vec<FetchPart>, min: u32, wait_ms: u64) -> Request {
        let deadline_ns = self.now_ns + wait_ms * MS;
        Request::Fetch { parts, bytes_min: min, bytes_max: 1 << 20, deadline_ns }
    }

    /// Fetches one partition from shard 0 without waiting.
    pub(super) fn fetch(&mut self, key: LogKey, offset: u64) -> Got {
        let request = self.fetch_request(vec![part(key, offset)], 1, 0);
        let id = self.ask(0, request);
        self.fetched(id).pop().expect("one part")
    }

    pub(super) fn offset(&mut self, key: LogKey, at: OffsetAt) -> (i64, i64, i32) {
        let id = self.ask(0, Request::ListOffsets { key, at, leader_epoch: -1 });
        match self.reply(id) {
            Reply::Offset { offset, timestamp_ms, leader_epoch } => {
                (offset, timestamp_ms, leader_epoch)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn group(&mut self, at: usize, call: GroupRequest) -> GroupReply {
        let id = self.ask(at, Request::Group(call));
        self.group_reply(id)
    }

    pub(super) fn group_reply(&mut self, id: RequestId) -> GroupReply {
        match self.reply(id) {
            Reply::Group(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass from wake-up to wake-up; returns how often a shard woke by itself.
    pub(super) fn pass(&mut self, ms: u64) -> u64 {
        let end_ns = self.now_ns + ms * MS;
        let mut wakes = 0;
        loop {
            let next = self.shards.iter().filter_map(|one| one.wake_at_ns).min();
            let Some(at) = next.filter(|at| *at <= end_ns) else { break };
            wakes += 1;
            assert!(wakes < 100_000, "a shard spins");
            self.now_ns = at.max(self.now_ns);
            self.run();
        }
        self.now_ns = end_ns;
        self.run();
        wakes
    }

    pub(super) fn release_disk(&mut self) {
        for at in 0..self.shards.len() {
            let done = self.disk.release(at, &mut self.shards[at].blocks);
            for one in done {
                self.step(at, Input::Io(one));
            }
        }
        self.run();
    }

    pub(super) fn shard(&self, at: usize) -> &Shard {
        &self.shards[at].shard
    }

    pub(super) fn free_blocks(&self, at: usize) -> usize {
        self.shards[at].blocks.free_count()
    }

    /// Every request was answered once, but for those whose asker is gone.
    pub(super) fn finish(self) {
        for id in &self.asked {
            let answered = self.answers.contains_key(id) || self.gone.contains(id);
            assert!(answered, "{id:?} was never answered");
        }
    }
}

pub(super) fn part(key: LogKey, offset: u64) -> FetchPart {
    FetchPart { key, offset, bytes_max: 1 << 20, leader_epoch: -1 }
}

fn got(part: FetchedPart, blocks: &mut Blocks) -> Got {
    let (bytes, offsets) = match part.fetched {
        Fetched::Owned(bytes) => {
            let offsets = offsets_in(&bytes);
            (bytes, offsets)
        }
        Fetched::Frames(mut frames) => {
            let bytes = copied(&frames, blocks);
            let offsets = frames.frames.iter().map(|f| (f.base_offset, f.last_offset)).collect();
            frames.release(blocks);
            (bytes, offsets)
        }
    };
    let FetchedPart { code, high_watermark, log_start, .. } = part;
    Got { code, high_watermark, log_start, bytes, offsets }
}

/// First and last offset of every frame.
fn offsets_in(mut bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut offsets = Vec::new();
    while !bytes.is_empty() {
        let header = BatchHeader::access(&bytes[..HEADER_LEN]).expect("whole frames");
        let base = header.base_offset();
        offsets.push((base, base + u64::try_from(header.last_offset_delta()).expect("a delta")));
        bytes = &bytes[usize::try_from(header.frame_len()).expect("small")..];
    }
    offsets
}

/// A batch of `records` records of `bytes` each, all at `timestamp_ms`.
pub(super) fn batch(
    options: BatchOptions,
    timestamp_ms: i64,
    records: usize,
    bytes: usize,
) -> Vec<u8> {
    let mut writer = BatchWriter::new(options);
    let value = vec![b'x'; bytes];
    for _ in 0..records {
        writer.push(timestamp_ms, Some(b"key"), Some(&value), &[]).expect("small");
    }
    writer.finish().expect("records");
    writer.batch().to_vec()
}

/// A batch of an idempotent producer.
pub(super) fn sequenced(producer_id: i64, epoch: i16, sequence: i32, records: usize) -> Vec<u8> {
    let options = BatchOptions {
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    batch(options, i64::try_from(WALL_NS / MS).unwrap(), records, 10)
}
