//! Produce: validates a batch, drops duplicates, appends, answers once the high watermark has passed it.
//! Owner: `Partition` owns the rows, `Shard` calls.
//! Invariant: nothing is acknowledged above the high watermark; a payload's hold is always given back.
//! Not here: copying and CRC (`log/append`), what a batch must look like (`batch_rules.rs`).

use crate::batch_rules::{self, Checked};
use crate::job::check_keys;
use crate::partition::Partition;
use crate::produce_rows::{Held, Keys, Produce, Unflushed, payload_bytes, release};
use crate::producer_state::{Sequenced, Verdict};
use crate::refused_turns::{RefusedTurns, out_of_turn};
use crate::request::{Job, Payload, Reply, RequestId};
use crate::turn::{Ground, Turn};
use ringway_log::blocks::Blocks;
use ringway_log::io::Now;
use ringway_log::logs::{AppendError, AppendFacts, Appended, Batch};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Partitions with held produces.
#[derive(Default)]
pub(crate) struct HeldProduces {
    keys: BTreeSet<LogKey>,
    rows: usize,
    /// Looks at keys in flight, and for which log.
    looks: BTreeMap<u64, LogKey>,
    next_look: u64,
}

/// Why a batch is not in the log.
enum Hindrance {
    /// Try again after the next flush.
    Busy,
    /// This job has to look at its keys first.
    Look(Job),
    /// Tell the producer.
    Refused(ErrorCode, String),
}

impl From<(ErrorCode, String)> for Hindrance {
    fn from((code, message): (ErrorCode, String)) -> Hindrance {
        Hindrance::Refused(code, message)
    }
}

impl HeldProduces {
    /// Rows waiting for room.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Takes one produce: answered now, or by a later flush.
    pub(crate) fn request(&mut self, turn: &mut Turn<'_>, id: RequestId, produce: Produce) {
        let key = produce.key;
        if let Err((code, message)) = admit(turn.ground, &produce) {
            turn.ground.counts.refused_batches += 1;
            return refuse(turn, id, &produce, code, message);
        }
        let partition = turn.ground.partitions.get_mut(key);
        if partition.is_some_and(|partition| !partition.held.is_empty()) {
            return self.hold(turn, Held { id, produce, keys: Keys::Unknown });
        }
        if let Some(held) = self.attempt(turn, Held { id, produce, keys: Keys::Unknown }) {
            self.hold(turn, held);
        }
    }

    /// One attempt to append; gives the produce back when it has to wait.
    fn attempt(&mut self, turn: &mut Turn<'_>, mut held: Held) -> Option<Held> {
        let (id, key) = (held.id, held.produce.key);
        match append(turn.ground, turn.blocks, turn.now, &held) {
            Ok(row) => wait(turn, key, row),
            Err(Hindrance::Busy) => return Some(held),
            Err(Hindrance::Look(job)) => {
                held.keys = Keys::Looking(self.next_look);
                self.looks.insert(self.next_look, key);
                turn.out.jobs.push((self.next_look, job));
                self.next_look += 1;
                return Some(held);
            }
            Err(Hindrance::Refused(code, message)) => {
                turn.ground.counts.refused_batches += 1;
                refuse(turn, id, &held.produce, code, message);
                return None;
            }
        }
        release(turn.blocks, &held.produce.payload);
        None
    }

    /// A job has looked at the keys of a held batch.
    pub(crate) fn job_done(
        &mut self,
        turn: &mut Turn<'_>,
        job: u64,
        checked: Result<(), (ErrorCode, String)>,
    ) {
        let Some(key) = self.looks.remove(&job) else { return };
        let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
        let found = partition.held.iter().position(|held| held.keys == Keys::Looking(job));
        let Some(at) = found else { return };
        if let Err((code, message)) = checked {
            if let Some(held) = partition.held.remove(at) {
                self.rows -= 1;
                turn.ground.counts.refused_batches += 1;
                refuse(turn, held.id, &held.produce, code, message);
            }
        } else {
            partition.held[at].keys = Keys::Sound;
        }
        self.retry(turn, key);
    }

    fn hold(&mut self, turn: &mut Turn<'_>, held: Held) {
        let key = held.produce.key;
        if self.rows >= turn.ground.config.waiting_rows_max {
            let message = format!("{} produces wait for room already", self.rows);
            return refuse(turn, held.id, &held.produce, ErrorCode::RequestTimedOut, message);
        }
        let Some(partition) = turn.ground.partitions.get_mut(key) else {
            unreachable!("admitted for {key}")
        };
        partition.held.push_back(held);
        self.keys.insert(key);
        self.rows += 1;
    }

    /// Tries the held produces of `key` again, in order, until one is refused room again.
    pub(crate) fn retry(&mut self, turn: &mut Turn<'_>, key: LogKey) {
        if !self.keys.contains(&key) {
            return;
        }
        while let Some(held) = pop_held(turn, key) {
            if let Some(held) = self.attempt(turn, held) {
                if let Some(partition) = turn.ground.partitions.get_mut(key) {
                    partition.held.push_front(held);
                }
                return;
            }
            self.rows -= 1;
        }
        self.keys.remove(&key);
    }

    /// End of a turn: deadlines may have passed. Returns when the next one passes.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) -> Option<u64> {
        let mut next = None;
        for key in self.keys.iter().copied().collect::<Vec<LogKey>>() {
            self.expire(turn, key, &mut next);
        }
        next
    }

    /// Room may have come without a flush of the log itself: blocks of other logs were freed.
    pub(crate) fn retry_idle(&mut self, turn: &mut Turn<'_>) {
        for key in self.keys.iter().copied().collect::<Vec<LogKey>>() {
            let logs = &turn.ground.logs;
            if logs.end_offset(key) == logs.flushed_offset(key) {
                self.retry(turn, key);
            }
        }
    }

    fn expire(&mut self, turn: &mut Turn<'_>, key: LogKey, next: &mut Option<u64>) {
        let now_ns = turn.now.mono_ns;
        let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
        let late = |held: &Held| held.produce.deadline_ns < now_ns;
        let mut expired = VecDeque::new();
        if partition.held.iter().any(late) {
            (expired, partition.held) = partition.held.drain(..).partition(late);
        }
        let dues = partition.held.iter().map(|held| held.produce.deadline_ns.saturating_add(1));
        *next = dues.chain(*next).min();
        self.rows -= expired.len();
        if partition.held.is_empty() {
            self.keys.remove(&key);
        }
        for Held { id, produce, .. } in expired {
            let message = "no room in the log before the deadline";
            refuse(turn, id, &produce, ErrorCode::RequestTimedOut, message);
        }
    }

    /// Everything below `upto` is flushed: moves the high watermark, answers, retries. True: it moved.
    pub(crate) fn flushed(&mut self, turn: &mut Turn<'_>, key: LogKey, upto: u64) -> bool {
        let Some(partition) = turn.ground.partitions.get_mut(key) else { return false };
        let moved = partition.leader.advance(upto);
        release_acknowledged(turn, key);
        self.retry(turn, key);
        moved
    }

    /// Nothing more is appended to `key`: all its rows fail.
    pub(crate) fn fail(
        &mut self,
        turn: &mut Turn<'_>,
        key: LogKey,
        code: ErrorCode,
        message: &str,
    ) {
        let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
        let unflushed = std::mem::take(&mut partition.unflushed);
        let held = std::mem::take(&mut partition.held);
        self.rows -= held.len();
        self.keys.remove(&key);
        for row in unflushed.iter().filter(|row| !row.answered) {
            turn.refuse(row.id, code, message);
        }
        for row in held {
            refuse(turn, row.id, &row.produce, code, message);
        }
    }

    /// Clean stop: what waits for room will find none.
    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>) {
        while let Some(key) = self.keys.pop_first() {
            while let Some(held) = pop_held(turn, key) {
                self.rows -= 1;
                let message = "the broker is stopping";
                refuse(turn, held.id, &held.produce, ErrorCode::NotLeaderOrFollower, message);
            }
        }
    }
}

/// Tells a producer no. What it sent later may not begin in its place: the turn is kept.
fn refuse(
    turn: &mut Turn<'_>,
    id: RequestId,
    produce: &Produce,
    code: ErrorCode,
    message: impl Into<String>,
) {
    let Turn { ground, blocks, now, .. } = turn;
    if let Some(batch) = batch_rules::sequenced_whole(payload_bytes(blocks, &produce.payload)) {
        let (key, now_ns) = (produce.key, now.mono_ns);
        let partition = ground.partitions.get(key);
        if !partition.is_some_and(|own| own.producers.knows(batch.producer_id, now_ns)) {
            ground.turns.keep(key, batch, now_ns);
        }
    }
    release(turn.blocks, &produce.payload);
    turn.refuse(id, code, message);
}

fn pop_held(turn: &mut Turn<'_>, key: LogKey) -> Option<Held> {
    turn.ground.partitions.get_mut(key)?.held.pop_front()
}

/// Answers all rows below the high watermark.
fn release_acknowledged(turn: &mut Turn<'_>, key: LogKey) {
    let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
    let high_watermark = partition.leader.high_watermark();
    let log_append_time = partition.topic.config.log_append_time;
    let log_start = turn.ground.logs.start_offset(key);
    loop {
        let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
        let Some(row) = partition.unflushed.front().copied() else { return };
        if row.last_offset >= high_watermark {
            return;
        }
        partition.unflushed.pop_front();
        partition.visible_bytes += u64::from(row.bytes);
        if !row.answered {
            turn.reply(row.id, produced(&row, log_append_time, log_start));
        }
    }
}

fn produced(row: &Unflushed, log_append_time: bool, log_start: u64) -> Reply {
    Reply::Produced {
        base_offset: row.base_offset,
        append_time_ns: row.append_time_ns,
        log_append_time,
        log_start,
    }
}

/// Rules that do not look at the batch.
fn admit(ground: &Ground, produce: &Produce) -> Result<(), (ErrorCode, String)> {
    if !matches!(produce.acks, -1..=1) {
        let message = format!("acks = {} is none of -1, 0, 1", produce.acks);
        return Err((ErrorCode::InvalidRequiredAcks, message));
    }
    let Some(partition) = ground.partitions.get(produce.key) else {
        let message = format!("no partition {}", produce.key);
        return Err((ErrorCode::UnknownTopicOrPartition, message));
    };
    if ground.stopping {
        return Err((ErrorCode::NotLeaderOrFollower, "the broker is stopping".to_owned()));
    }
    if !ground.serving {
        return Err((ErrorCode::NotLeaderOrFollower, "the broker is starting".to_owned()));
    }
    if let Some(refusal) = partition.unwritable() {
        return Err(refusal);
    }
    Ok(())
}

/// Keeps a row until the high watermark passes it; answers what is visible or asks for no wait.
fn wait(turn: &mut Turn<'_>, key: LogKey, row: Unflushed) {
    let log_start = turn.ground.logs.start_offset(key);
    let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
    let log_append_time = partition.topic.config.log_append_time;
    let visible = row.last_offset < partition.leader.high_watermark();
    if !visible {
        // A duplicate belongs before batches that came after its first arrival.
        let at = partition.unflushed.partition_point(|u| u.last_offset <= row.last_offset);
        partition.unflushed.insert(at, row);
    }
    if visible || row.answered {
        turn.reply(row.id, produced(&row, log_append_time, log_start));
    }
}

/// One attempt: a row that waits for the high watermark, of a batch appended now or found as a duplicate.
fn append(
    ground: &mut Ground,
    blocks: &mut Blocks,
    now: Now,
    held: &Held,
) -> Result<Unflushed, Hindrance> {
    let Held { id, produce, keys } = held;
    let Ground { partitions, logs, counts, appended, turns, .. } = ground;
    let Some(partition) = partitions.get_mut(produce.key) else {
        let message = format!("{} is gone", produce.key);
        return Err(Hindrance::Refused(ErrorCode::UnknownTopicOrPartition, message));
    };
    expect_ready(partition, held, now)?;
    let bytes = payload_bytes(blocks, &produce.payload);
    let checked = batch_rules::check(bytes, &partition.topic.config, now.wall_ms())?;
    let (id, answered) = (*id, produce.acks == 0);
    match checked
        .sequenced
        .map_or(Verdict::New, |batch| judge(partition, turns, batch, now.mono_ns))
    {
        Verdict::New => {}
        Verdict::Refused(code, message) => return Err(Hindrance::Refused(code, message)),
        Verdict::Duplicate { base_offset, last_offset, append_time_ns } => {
            batch_rules::check_crc(bytes)?;
            counts.duplicate_batches += 1;
            let bytes = 0;
            return Ok(Unflushed { id, answered, base_offset, last_offset, append_time_ns, bytes });
        }
    }
    if partition.topic.config.compact && *keys != Keys::Sound {
        expect_keys(bytes, &checked, partition.topic.config.message_bytes_max)?;
    }
    let batch = match &produce.payload {
        Payload::Received(slice) => Batch::Slice(*slice),
        Payload::Owned(bytes) => Batch::Bytes(bytes),
    };
    let facts = AppendFacts {
        leader_epoch: partition.leader.epoch(),
        encoding: produce.encoding,
        log_append_time_ms: partition.topic.config.log_append_time.then(|| now.wall_ms()),
    };
    let done = logs.append(produce.key, batch, facts, now, blocks).map_err(not_appended)?;
    *appended = true;
    counts.produced_batches += 1;
    if let Some(sequenced) = checked.sequenced {
        turns.forget(produce.key, sequenced.producer_id);
    }
    let Appended { base_offset, last_offset, append_time_ns } = done;
    record(partition, &checked, base_offset, append_time_ns, now);
    Ok(Unflushed { id, answered, base_offset, last_offset, append_time_ns, bytes: checked.bytes })
}

/// Rules that may change while a produce is held.
fn expect_ready(partition: &Partition, held: &Held, now: Now) -> Result<(), Hindrance> {
    if held.produce.deadline_ns < now.mono_ns {
        let message = "the deadline passed before the append".to_owned();
        return Err(Hindrance::Refused(ErrorCode::RequestTimedOut, message));
    }
    if let Some((code, message)) = partition.unwritable() {
        return Err(Hindrance::Refused(code, message));
    }
    if partition.opening() || matches!(held.keys, Keys::Looking(_)) {
        return Err(Hindrance::Busy);
    }
    let in_sync = partition.leader.in_sync();
    let needed = partition.topic.config.insync_replicas_min;
    if held.produce.acks == -1 && needed > in_sync {
        let message = format!("{in_sync} replicas in sync, min.insync.replicas = {needed}");
        return Err(Hindrance::Refused(ErrorCode::NotEnoughReplicas, message));
    }
    Ok(())
}

/// A compacted log takes no record without a key; those of a compressed batch only a job can see.
fn expect_keys(batch: &[u8], checked: &Checked, message_bytes_max: u32) -> Result<(), Hindrance> {
    if checked.compressed {
        return Err(Hindrance::Look(Job::NullKeys { batch: batch.to_vec(), message_bytes_max }));
    }
    Ok(check_keys(batch, message_bytes_max)?)
}

/// Whether a batch is its producer's next, also when the log knows no other of it.
fn judge(partition: &Partition, turns: &RefusedTurns, batch: Sequenced, now_ns: u64) -> Verdict {
    let verdict = partition.producers.check(batch, now_ns);
    if verdict != Verdict::New || partition.producers.knows(batch.producer_id, now_ns) {
        return verdict;
    }
    match turns.expected(partition.key, batch, now_ns) {
        Some(first) => Verdict::Refused(ErrorCode::OutOfOrderSequenceNumber, out_of_turn(first)),
        None => Verdict::New,
    }
}

fn record(
    partition: &mut Partition,
    checked: &Checked,
    base_offset: u64,
    append_time_ns: u64,
    now: Now,
) {
    let flushed = partition.leader.high_watermark();
    assert!(base_offset >= flushed, "an append lands at or above the high watermark");
    if let Some(sequenced) = checked.sequenced {
        let mono_ns = now.mono_ns;
        partition.producers.record(sequenced, base_offset, append_time_ns, mono_ns, flushed);
    }
}

fn not_appended(error: AppendError) -> Hindrance {
    let code = match error {
        AppendError::Busy => return Hindrance::Busy,
        AppendError::Crc { .. } => ErrorCode::CorruptMessage,
        AppendError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::Poisoned(_) | AppendError::NoSpace | AppendError::Checkpoint(_) => {
            ErrorCode::KafkaStorageError
        }
        AppendError::Unknown => ErrorCode::UnknownTopicOrPartition,
    };
    Hindrance::Refused(code, error.to_string())
}
