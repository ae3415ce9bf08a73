//! One shard: everything that happens to it goes through `step`.
//! Owner: the shard loop of `runtime`, or the simulator's world.
//! Invariant: a request is answered once; a wait is a row with a deadline.
//! Not here: what each request does (one file each), time, threads.

use crate::catalog::Catalog;
use crate::fetch::Fetch;
use crate::group::coordinator::Coordinator;
use crate::log_events;
use crate::openings::Openings;
use crate::partition::Partitions;
use crate::produce_rows::Produce;
use crate::refused_turns::RefusedTurns;
use crate::request::{
    GroupRequest, Input, JobResult, LogFacts, MeshMessage, MetaAnswer, Out, Reply, Request,
    RequestId,
};
use crate::rules::Rules;
use crate::turn::{Ground, OWN_OFFSETS_TOPIC, OWN_PRODUCER_IDS, Turn, mesh_asker, mesh_id};
use ringway_log::blocks::{BLOCK_BYTES, Blocks};
use ringway_log::directory::DirectoryFacts;
use ringway_log::io::Now;
use ringway_log::logs::{Logs, LogsConfig};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, ShardId, shard_of};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::shard_config::{GroupConfig, ShardConfig, ShardCounts};
pub use ringway_log::logs::Upkeep;

/// Largest single cold read beyond its first frame: one block's worth of headers and then some.
const COLD_READ_BYTES_MAX: u32 = 1 << 20;
/// Part of the pool that the tail cache never takes, unless the largest frame needs more.
const RESERVE_SHARE: usize = 8;
/// Times the logs plan within one tick: an answer may bring the next append.
const PLANS_PER_TICK_MAX: u32 = 4;

/// One shard's logic.
pub struct Shard {
    ground: Ground,
    rules: Rules,
}

impl Shard {
    /// Starts recovery of this shard's logs; `out` holds the first requests.
    pub fn start(
        config: ShardConfig,
        facts: Arc<DirectoryFacts>,
        catalog: Arc<Catalog>,
        now: Now,
        blocks: &mut Blocks,
        out: &mut Out,
    ) -> Shard {
        let logs_config = LogsConfig {
            shard: config.shard,
            flush_group_bytes_max: config.flush_group_bytes_max,
            frame_bytes_max: config.frame_bytes_max,
            checkpoint_interval_ns: config.checkpoint_interval_ms.saturating_mul(1_000_000),
            cold_read_bytes_max: COLD_READ_BYTES_MAX,
            reserve_blocks: reserve_blocks(blocks.pooled_count(), config.frame_bytes_max),
            shard_count: catalog.shard_count,
            upkeep: config.upkeep,
        };
        let mut openings = Openings::default();
        let mut partitions = Partitions::default();
        let mine = openings.at_start(&config, &catalog, &facts.known_logs(), &mut partitions);
        let leader_epoch = i32::try_from(facts.start_counter).unwrap_or(i32::MAX);
        let logs = Logs::start(logs_config, facts, mine, now, blocks, &mut out.io);
        let ground = Ground {
            config,
            catalog,
            logs,
            partitions,
            turns: RefusedTurns::default(),
            leader_epoch,
            counts: ShardCounts::default(),
            serving: false,
            stopping: false,
            readers: BTreeMap::new(),
            own_replies: Vec::new(),
            appended: false,
        };
        let mut shard = Shard { ground, rules: Rules { openings, ..Rules::default() } };
        let mut turn = Turn { now, ground: &mut shard.ground, blocks, out };
        log_events::drain(&mut shard.rules, &mut turn);
        shard
    }

    /// Everything that can happen. Effects are appended to `out`.
    pub fn step(&mut self, now: Now, input: Input, blocks: &mut Blocks, out: &mut Out) {
        let Shard { ground, rules } = self;
        let mut turn = Turn { now, ground, blocks, out };
        match input {
            Input::Request(id, request) => rules.request(&mut turn, id, request),
            Input::Gone(id) => rules.gone(&mut turn, id),
            Input::Io(done) => {
                let Turn { ground, blocks, out, .. } = &mut turn;
                let ours = ground.logs.on_io(now, done, blocks, &mut out.io);
                assert!(ours, "the logs alone ask for I/O");
            }
            Input::Catalog(catalog) => rules.catalog(&mut turn, catalog),
            Input::Meta(id, answer) => rules.meta(&mut turn, id, answer),
            Input::Mesh(from, message) => rules.mesh_message(&mut turn, from, message),
            Input::Job(job, JobResult::Time(found)) => {
                rules.searches.job_done(&mut turn, job, found);
            }
            Input::Job(job, JobResult::NullKeys(checked)) => {
                rules.produces.job_done(&mut turn, job, checked);
            }
            Input::PeersRecovered => {
                turn.ground.serving = true;
                turn.ground.logs.peers_recovered(&mut turn.out.io);
                rules.groups.serve(&mut turn);
            }
            Input::Stop => rules.stop(&mut turn),
            Input::Tick => return rules.tick(&mut turn),
        }
        rules.settle(&mut turn);
    }

    /// Counts since start.
    #[must_use]
    pub fn counts(&self) -> ShardCounts {
        let waiting_rows = self.rules.waiting_rows();
        let groups = self.rules.groups.len() as u64;
        ShardCounts { log: self.ground.logs.counts(), waiting_rows, groups, ..self.ground.counts }
    }
}

/// Enough for one largest frame to be appended while the tail cache holds the rest.
fn reserve_blocks(pooled: usize, frame_bytes_max: u32) -> usize {
    let frame = frame_bytes_max as usize / BLOCK_BYTES + 2;
    (pooled / RESERVE_SHARE).max(frame).min(pooled / 2)
}

impl Rules {
    fn request(&mut self, turn: &mut Turn<'_>, id: RequestId, request: Request) {
        if let Some(owner) = Rules::owner(turn, &request) {
            if mesh_asker(id).is_some() {
                // The asker computes ownership as we do: only a broken catalog comes here.
                return turn.refuse(id, ErrorCode::NotLeaderOrFollower, "owned by another shard");
            }
            return self.mesh.forward(turn, id, owner, request);
        }
        match request {
            Request::Produce { key, acks, deadline_ns, payload, encoding } => {
                let produce = Produce { key, acks, deadline_ns, payload, encoding };
                self.produces.request(turn, id, produce);
            }
            Request::Fetch { parts, bytes_min, bytes_max, deadline_ns } => {
                let fetch = Fetch { parts, bytes_min, bytes_max, deadline_ns };
                self.fetches.request(turn, &mut self.mesh, id, fetch);
            }
            Request::ListOffsets { key, at, leader_epoch } => {
                self.searches.request(turn, id, key, at, leader_epoch);
            }
            Request::Meta(op) => turn.out.meta.push((id, op)),
            Request::InitProducerId { producer_id, epoch } => {
                self.producer_ids.request(turn, id, producer_id, epoch);
            }
            Request::Group(call) => self.group_call(turn, id, call),
            Request::DescribeLog { key } => describe(turn, id, key),
        }
    }

    /// A coordinator that is being made or replayed will serve in a moment: the call waits for it.
    fn group_call(&mut self, turn: &mut Turn<'_>, id: RequestId, call: GroupRequest) {
        let mut call = call;
        if self.groups.opens_soon(turn, call.group()) {
            match self.held_calls.hold(turn.now.mono_ns, id, call) {
                None => return,
                Some(back) => call = back,
            }
        }
        self.groups.request(turn, &mut self.produces, id, call);
    }

    fn retry_held_calls(&mut self, turn: &mut Turn<'_>) {
        for held in self.held_calls.take() {
            let over = held.until_ns <= turn.now.mono_ns;
            if over || turn.ground.stopping {
                self.groups.request(turn, &mut self.produces, held.id, held.call);
            } else if self.groups.opens_soon(turn, held.call.group()) {
                self.held_calls.put_back(held);
            } else {
                // The offsets topic may have given the group to another shard: routed anew.
                self.request(turn, held.id, Request::Group(held.call));
            }
        }
    }

    /// The other shard that must answer `request`, if one must. Fetches look at their parts
    /// themselves; metadata and producer ids are any shard's.
    fn owner(turn: &Turn<'_>, request: &Request) -> Option<ShardId> {
        let of = |key: LogKey| shard_of(key, turn.ground.catalog.shard_count);
        let owner = match request {
            Request::Produce { key, .. }
            | Request::ListOffsets { key, .. }
            | Request::DescribeLog { key } => of(*key),
            Request::Group(call) => of(Coordinator::offsets_log(turn, call.group())?),
            Request::Fetch { .. } | Request::Meta(_) | Request::InitProducerId { .. } => {
                return None;
            }
        };
        (owner != turn.ground.config.shard).then_some(owner)
    }

    fn gone(&mut self, turn: &mut Turn<'_>, id: RequestId) {
        self.mesh.gone(turn, id);
        self.held_calls.gone(id);
        self.fetches.gone(turn, &mut self.mesh, id);
    }

    fn catalog(&mut self, turn: &mut Turn<'_>, catalog: Arc<Catalog>) {
        let gone = self.openings.changed(turn, catalog);
        for key in gone {
            let code = ErrorCode::UnknownTopicOrPartition;
            self.produces.fail(turn, key, code, "the topic was deleted");
            let rows = self.fetches.detach(turn, key);
            self.openings.remove(turn, key);
            self.fetches.finish_detached(turn, &mut self.mesh, rows);
        }
        self.groups.catalog_changed(turn);
    }

    fn meta(&mut self, turn: &mut Turn<'_>, id: RequestId, answer: MetaAnswer) {
        match id.connection {
            OWN_PRODUCER_IDS => self.producer_ids.answered(turn, answer),
            OWN_OFFSETS_TOPIC => self.groups.topic_answered(turn, answer),
            _ => turn.reply(id, Reply::Meta(answer)),
        }
    }

    fn mesh_message(&mut self, turn: &mut Turn<'_>, from: ShardId, message: MeshMessage) {
        match message {
            MeshMessage::Ask { tag, request } => {
                let tag = u32::try_from(tag).unwrap_or(u32::MAX);
                self.request(turn, mesh_id(from, tag), request);
            }
            MeshMessage::Answer { tag, reply } => {
                if let Some((row, part, reply)) = self.mesh.answered(turn, from, tag, reply) {
                    self.fetches.part_answered(turn, &mut self.mesh, row, part, reply);
                }
            }
            MeshMessage::Forget { tag } => {
                let tag = u32::try_from(tag).unwrap_or(u32::MAX);
                self.fetches.gone(turn, &mut self.mesh, mesh_id(from, tag));
            }
        }
    }

    fn stop(&mut self, turn: &mut Turn<'_>) {
        turn.ground.stopping = true;
        self.produces.stop(turn);
        self.fetches.stop(turn, &mut self.mesh);
        self.retry_held_calls(turn);
        self.groups.stop(turn);
        turn.ground.logs.stop(&mut turn.out.io);
    }

    /// The turn ends: open groups go to the disk, rows expire, and the next wake-up is known.
    fn tick(&mut self, turn: &mut Turn<'_>) {
        let mut wake = [None; 5];
        for _ in 0..PLANS_PER_TICK_MAX {
            wake[0] = self.produces.tick(turn);
            wake[1] = self.fetches.tick(turn, &mut self.mesh);
            wake[2] = self.groups.tick(turn);
            self.settle(turn);
            turn.ground.appended = false;
            let Turn { now, ground, blocks, out } = turn;
            wake[3] = ground.logs.plan(*now, blocks, &mut out.io);
            self.settle(turn);
            // The tail cache may just have given blocks to produces that found none.
            self.produces.retry_idle(turn);
            if !turn.ground.appended {
                break;
            }
        }
        wake[4] = self.held_calls.wake_at_ns();
        let again = turn.ground.appended.then_some(turn.now.mono_ns);
        turn.out.wake_at_ns = wake.into_iter().flatten().chain(again).min();
    }

    /// What the logs report, and what the shard answered to itself, until nothing is left.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        log_events::drain(self, turn);
        while !turn.ground.own_replies.is_empty() {
            for (id, reply) in std::mem::take(&mut turn.ground.own_replies) {
                self.groups.own_reply(turn, id, reply);
            }
            log_events::drain(self, turn);
        }
        if self.held_calls.len() > 0 {
            self.retry_held_calls(turn);
        }
    }

    fn waiting_rows(&self) -> u64 {
        let rows = self.produces.len()
            + self.fetches.len()
            + self.searches.len()
            + self.producer_ids.len()
            + self.mesh.len()
            + self.held_calls.len()
            + self.groups.commits();
        rows as u64
    }
}

fn describe(turn: &mut Turn<'_>, id: RequestId, key: LogKey) {
    let Some(partition) = turn.ground.partitions.get(key) else {
        let message = format!("no partition {key}");
        return turn.refuse(id, ErrorCode::UnknownTopicOrPartition, message);
    };
    if let Some((code, message)) = partition.unreadable() {
        return turn.refuse(id, code, message);
    }
    let high_watermark = partition.leader.high_watermark();
    let logs = &turn.ground.logs;
    let facts = LogFacts {
        log_start: logs.start_offset(key),
        high_watermark,
        // Z2: nothing above the high watermark is told, the log end included.
        log_end: high_watermark,
        segments: logs.segments(key),
        quarantined: logs.quarantined(key),
    };
    turn.reply(id, Reply::Log(facts));
}

#[cfg(test)]
mod tests;
