//! All logs of one shard in one log directory: the only way into this crate.
//! Owner: `Shard` of `ringway-partition`.
//! Invariant: acknowledged means flushed; see `docs/testing.md`, D1–D9.
//! Not here: what batches mean (`partition`), how I/O is done (`runtime`, `sim`), one log's parts (`log.rs`).

pub use crate::append::{AppendError, AppendFacts, Appended, Batch};
pub use crate::event::{
    BatchFacts, LogCounts, LogEvent, QuarantineFacts, ReadFailure, SegmentFacts, StartReport,
};
pub use crate::read::{ReadStart, ReadTicket, TimeFound};
pub use crate::settings::{Durability, LogSettings, LogsConfig, Upkeep};

use crate::blocks::Blocks;
use crate::checkpoint::{self, Checkpoint};
use crate::directory::DirectoryFacts;
use crate::io::{IoDone, IoOut, Now};
use crate::keeper::{Keeper, prune};
use crate::log::{Creating, Log, Phase, Truncation};
use crate::ops::{Op, Ops};
use crate::poison::doubt_unflushed;
use crate::read::FrameList;
use crate::recover::Recovery;
use crate::scrub::Scrub;
use crate::stall::Stalls;
use crate::start::Starting;
use crate::stop::Stopping;
use crate::turn::{Shared, Turn};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How often retention is looked at.
const RETENTION_INTERVAL_NS: u64 = 5_000_000_000;

/// All logs of one shard. Every method that may ask for I/O takes `io`; events gather inside and are
/// taken with [`Logs::next_event`].
pub struct Logs {
    shared: Shared,
    logs: Vec<Log>,
    names: BTreeMap<LogKey, u32>,
    /// Slots to plan for; and the list of the turn before, to be filled again.
    dirty: Vec<u32>,
    spare: Vec<u32>,
    keeper: Keeper,
    starting: Starting,
    stopping: Option<Stopping>,
    next_ticket: u64,
    retention_at_ns: u64,
    stalls: Stalls,
    scrub: Scrub,
    /// Some log has a limit to what it keeps.
    keeps: bool,
    /// Checkpoint files of all shards are to be removed: every shard has its own.
    peers_recovered: bool,
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
        let read =
            |(shard, _, body): &(u32, u64, Vec<u8>)| Some((*shard, checkpoint::decode(body)?));
        let files: Vec<(u32, Checkpoint)> = facts.checkpoints.iter().filter_map(read).collect();
        let unusable_checkpoints = (facts.checkpoints.len() - files.len()) as u64;
        let generations = facts.checkpoints.iter().map(|(_, generation, _)| *generation);
        let keeper = Keeper::new(generations);
        let mut logs = Vec::with_capacity(mine.len());
        let mut names = BTreeMap::new();
        for (key, settings) in mine {
            let slot = u32::try_from(logs.len()).unwrap_or(u32::MAX);
            let entries = checkpoint::entries_of(key, &files);
            let recovery = Box::new(Recovery::new(key, slot, entries, &settings));
            logs.push(Log::new(key, slot, settings, Phase::Recovering(recovery)));
            names.insert(key, slot);
        }
        let slots = (0..u32::try_from(logs.len()).unwrap_or(u32::MAX)).collect();
        let shared = Shared {
            config,
            facts,
            ops: Ops::default(),
            events: VecDeque::new(),
            counts: LogCounts { unusable_checkpoints, ..LogCounts::default() },
            tail: crate::tail::TailOrder::default(),
            checkpoint_urgent: false,
            checkpoint_dirty: false,
            flushed_since_checkpoint: 0,
            checkpoint_failure: None,
            space_is_short: false,
            writes_in_flight: 0,
            retry: Vec::new(),
            scrub_at_ns: 0,
            open_files: 0,
            started: false,
            stopping: false,
        };
        let mut all = Logs {
            shared,
            logs,
            names,
            dirty: Vec::new(),
            spare: Vec::new(),
            keeper,
            starting: Starting::new(slots),
            stopping: None,
            next_ticket: 1,
            retention_at_ns: now.mono_ns + RETENTION_INTERVAL_NS,
            stalls: Stalls::default(),
            scrub: Scrub::default(),
            keeps: false,
            peers_recovered: false,
        };
        all.keeps = all.logs.iter().any(|log| log.settings.has_retention());
        all.plan(now, blocks, io);
        all
    }

    /// Every shard has reached `Started`: removes older checkpoint files of all shards. Appends are
    /// possible from `Started` on, high watermarks may be told from here on.
    pub fn peers_recovered(&mut self, io: &mut IoOut) {
        let _ = io;
        self.peers_recovered = true;
    }

    /// Makes a new, empty log; `Created` follows.
    pub fn create(&mut self, key: LogKey, settings: LogSettings, now: Now, io: &mut IoOut) {
        let _ = (now, io);
        if self.names.contains_key(&key) {
            return;
        }
        let slot = u32::try_from(self.logs.len()).unwrap_or(u32::MAX);
        self.keeps |= settings.has_retention();
        let mut log = Log::new(key, slot, settings, Phase::Creating(Creating::Segment));
        log.begin(self.shared.facts.start_counter + 1);
        self.logs.push(log);
        self.names.insert(key, slot);
        self.touch(slot);
    }

    /// New settings from the topic.
    pub fn configure(&mut self, key: LogKey, settings: LogSettings) {
        self.keeps |= settings.has_retention();
        if let Some(log) = self.log_mut(key) {
            log.settings = settings;
        }
    }

    /// Removes a log and its files; waiting reads end with `Gone`, `Removed` follows.
    pub fn remove(&mut self, key: LogKey, io: &mut IoOut) {
        let _ = io;
        let Some(slot) = self.names.remove(&key) else { return };
        self.logs[slot as usize].begin_removal();
        self.touch(slot);
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
        let Some(slot) = self.names.get(&key).copied() else { return Err(AppendError::Unknown) };
        let log = &mut self.logs[slot as usize];
        let result = log.append(batch, facts, now, blocks, &mut self.shared);
        // Also after a refusal: a wider bound or a roll may be due.
        self.touch(slot);
        result
    }

    /// End of a turn: submits open groups (one in flight per log), rolls, extends, checkpoints,
    /// applies retention, evicts tail. Returns when it wants to be called again at the latest.
    pub fn plan(&mut self, now: Now, blocks: &mut Blocks, io: &mut IoOut) -> Option<u64> {
        self.wake_retries(now);
        let mut turn = Turn { now, blocks, io, shared: &mut self.shared };
        if !self.starting.is_done() {
            for slot in self.starting.next_slots(&turn) {
                touch(&mut self.logs, &mut self.dirty, slot);
            }
        }
        let mut slots = std::mem::replace(&mut self.dirty, std::mem::take(&mut self.spare));
        for slot in slots.drain(..) {
            let log = &mut self.logs[slot as usize];
            log.dirty = false;
            if let Phase::Recovering(_) = log.phase {
                self.starting.recover(log, &mut turn);
            } else {
                self.next_ticket += 1;
                log.plan(self.next_ticket, &mut turn);
            }
        }
        self.spare = slots;
        if !self.starting.is_done() {
            self.starting.plan(&mut self.logs, &mut self.keeper, &mut turn);
        } else if let Some(stopping) = &mut self.stopping {
            let look = stopping.plan(&self.logs, &mut self.keeper, &mut turn);
            evict(&mut self.logs, &mut turn);
            return self.wake_at(now, look);
        } else {
            self.keeper.plan(&self.logs, &mut turn);
        }
        evict(&mut self.logs, &mut turn);
        let due = self.keeper.due_ns(&turn).filter(|_| self.starting.is_done());
        if std::mem::take(&mut self.peers_recovered) {
            remove_old_checkpoints(&mut turn);
        }
        if now.mono_ns >= self.retention_at_ns && self.starting.is_done() {
            self.retention_at_ns = now.mono_ns + RETENTION_INTERVAL_NS;
            for log in &mut self.logs {
                if log.apply_retention(&mut turn) {
                    turn.retry(log.slot, 0);
                }
            }
        }
        // A start longer than the interval must not be called again and again for it.
        let looks = self.keeps && self.starting.is_done();
        let retention = looks.then_some(self.retention_at_ns);
        let stall = self.stalls.plan(&mut self.logs, &mut turn);
        let scrub = if self.starting.is_done() {
            self.scrub.plan(&mut self.logs, &mut self.next_ticket, &mut turn)
        } else {
            None
        };
        let wake = [due, retention, stall, scrub].into_iter().flatten().min();
        self.wake_at(now, wake)
    }

    /// An answer of the disk. False: the id is not ours.
    pub fn on_io(&mut self, now: Now, done: IoDone, blocks: &mut Blocks, io: &mut IoOut) -> bool {
        let flush_failures = done.flush_failures;
        let Some((op, result)) = self.shared.ops.take(done) else { return false };
        let mut turn = Turn { now, blocks, io, shared: &mut self.shared };
        if turn.shared.ops.hear(flush_failures) {
            doubt_unflushed(&mut self.logs, op, &result, &mut turn);
        }
        match op {
            Op::Prune => {}
            Op::Checkpoint => {
                if self.keeper.on_written(result, &mut self.logs, &mut turn) {
                    self.starting.checkpointed();
                    if let Some(stopping) = &mut self.stopping {
                        stopping.checkpointed(&self.keeper, &mut turn);
                    }
                }
                for slot in 0..self.logs.len() {
                    if self.logs[slot].waits_for_checkpoint() {
                        touch(&mut self.logs, &mut self.dirty, u32::try_from(slot).unwrap_or(0));
                    }
                }
            }
            Op::Log(slot, op) => {
                self.logs[slot as usize].on_io(op, result, &mut turn);
                self.touch(slot);
            }
        }
        true
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
        let Some(slot) = self.names.get(&key).copied() else { return ReadStart::OutOfRange };
        self.next_ticket += 1;
        let mut turn = Turn { now: Now::default(), blocks, io, shared: &mut self.shared };
        let log = &mut self.logs[slot as usize];
        let start = log.read((from, upto, bytes_max), self.next_ticket, &mut turn, into);
        if matches!(start, ReadStart::Waiting(_)) {
            self.touch(slot);
        }
        start
    }

    /// Gives a waiting read up: its blocks come back when the disk is done.
    pub fn forget_read(&mut self, ticket: ReadTicket) {
        for slot in 0..self.logs.len() {
            if self.logs[slot].forget_read(ticket.0) {
                self.touch(u32::try_from(slot).unwrap_or(0));
                return;
            }
        }
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
        let Some(slot) = self.names.get(&key).copied() else { return TimeFound::None };
        self.next_ticket += 1;
        let mut turn = Turn { now: Now::default(), blocks, io, shared: &mut self.shared };
        let found = self.logs[slot as usize].find_time(at_ms, upto, self.next_ticket, &mut turn);
        self.touch(slot);
        found
    }

    /// Greatest timestamp below the flushed offset and the base offset of its batch (ListOffsets −3).
    #[must_use]
    pub fn max_timestamp(&self, key: LogKey) -> Option<(i64, u64)> {
        let log = self.log(key)?;
        let times = log.segments.iter().map(|segment| segment.max_timestamp);
        times
            .filter(|time| time.0 >= 0)
            .reduce(|best, time| if time.0 > best.0 { time } else { best })
    }

    /// Truncates logically to `offset` (Z4): a new log_epoch, two checkpoint generations, then
    /// `Flushed`-like event `Recovered` with the new end. Not called by one node alone.
    pub fn truncate(&mut self, key: LogKey, offset: u64, now: Now, io: &mut IoOut) {
        let _ = (now, io);
        if let Some(slot) = self.names.get(&key).copied() {
            self.logs[slot as usize].truncation.get_or_insert(Truncation::Wanted(offset));
            self.touch(slot);
        }
    }

    /// Stores derived state up to the flushed offset (P7).
    pub fn put_snapshot(&mut self, key: LogKey, body: Vec<u8>, io: &mut IoOut) {
        let _ = io;
        if let Some(slot) = self.names.get(&key).copied() {
            self.logs[slot as usize].take_snapshot(&body);
            self.touch(slot);
        }
    }

    /// Clean stop: flush, snapshot, checkpoint with clean flags; then `Stopped`.
    pub fn stop(&mut self, io: &mut IoOut) {
        let _ = io;
        self.shared.stopping = true;
        self.stopping.get_or_insert_with(Stopping::new);
    }

    /// Next thing that happened.
    pub fn next_event(&mut self) -> Option<LogEvent> {
        self.shared.events.pop_front()
    }

    /// First offset kept.
    #[must_use]
    pub fn start_offset(&self, key: LogKey) -> u64 {
        self.log(key).map_or(0, |log| log.log_start)
    }

    /// Log end offset: the next to be given.
    #[must_use]
    pub fn end_offset(&self, key: LogKey) -> u64 {
        self.log(key).map_or(0, |log| log.head.offset)
    }

    /// Everything below is on this disk.
    #[must_use]
    pub fn flushed_offset(&self, key: LogKey) -> u64 {
        self.log(key).map_or(0, |log| log.flushed.offset)
    }

    /// Segments, oldest first.
    #[must_use]
    pub fn segments(&self, key: LogKey) -> Vec<SegmentFacts> {
        self.log(key)
            .map_or_else(Vec::new, |log| log.segments.iter().map(|one| one.facts()).collect())
    }

    /// Damaged ranges, in order of offsets.
    #[must_use]
    pub fn quarantined(&self, key: LogKey) -> Vec<QuarantineFacts> {
        self.log(key).map_or_else(Vec::new, |log| log.quarantine.facts())
    }

    /// Counts since start.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        let (mut tail, mut quarantined, mut full) = (0, 0, 0);
        for log in &self.logs {
            tail += log.tail.blocks.len() as u64;
            quarantined += log.quarantine.len() as u64;
            full += u64::from(log.no_space_until.is_some() && !log.is_poisoned());
        }
        let tail_bytes = tail * crate::blocks::BLOCK_BYTES as u64;
        LogCounts { tail_bytes, quarantined, full, ..self.shared.counts }
    }

    fn log(&self, key: LogKey) -> Option<&Log> {
        self.names.get(&key).map(|slot| &self.logs[*slot as usize])
    }

    fn log_mut(&mut self, key: LogKey) -> Option<&mut Log> {
        self.names.get(&key).map(|slot| &mut self.logs[*slot as usize])
    }

    fn touch(&mut self, slot: u32) {
        touch(&mut self.logs, &mut self.dirty, slot);
    }

    fn wake_retries(&mut self, now: Now) {
        let mut at = 0;
        while at < self.shared.retry.len() {
            if self.shared.retry[at].1 <= now.mono_ns {
                let (slot, _) = self.shared.retry.swap_remove(at);
                if (slot as usize) < self.logs.len() {
                    self.touch(slot);
                }
            } else {
                at += 1;
            }
        }
    }

    fn wake_at(&self, now: Now, wish: Option<u64>) -> Option<u64> {
        let retries = self.shared.retry.iter().map(|(_, at)| *at).min();
        let dirty = (!self.dirty.is_empty()).then_some(now.mono_ns);
        [wish, retries, dirty].into_iter().flatten().min()
    }
}

fn touch(logs: &mut [Log], dirty: &mut Vec<u32>, slot: u32) {
    let log = &mut logs[slot as usize];
    if !std::mem::replace(&mut log.dirty, true) {
        dirty.push(slot);
    }
}

/// Gives tail blocks up, oldest first over all logs, until the reserve is free. Blocks of a group stay.
fn evict(logs: &mut [Log], turn: &mut Turn<'_>) {
    let mut left = turn.shared.tail.queue.len();
    while left > 0 && turn.blocks.free_count() < turn.shared.config.reserve_blocks {
        left -= 1;
        let Some((slot, serial)) = turn.shared.tail.queue.pop_front() else { return };
        let log = &mut logs[slot as usize];
        let Some(front) = log.tail.blocks.front() else { continue };
        if front.serial > serial {
            continue;
        }
        if front.serial < serial || !log.may_evict_front() {
            turn.shared.tail.queue.push_back((slot, serial));
            continue;
        }
        log.tail.evict(turn.blocks);
    }
}

/// Step 9's end: files of earlier lives go, each shard removes its share.
fn remove_old_checkpoints(turn: &mut Turn<'_>) {
    let facts = Arc::clone(&turn.shared.facts);
    let (mine, shards) = (turn.shared.config.shard as usize, turn.shared.config.shard_count.max(1));
    for (shard, generation, _) in facts.checkpoints.iter().skip(mine).step_by(shards as usize) {
        prune(*shard, *generation, turn);
    }
}
