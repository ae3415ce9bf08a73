//! What the logs report, turned into state of partitions and answers.
//! Owner: `Shard`, at the end of every step.
//! Invariant: a partition serves only after its log said `Recovered` or `Created`.
//! Not here: what waits for what (`produce.rs`, `fetch.rs`, `list_offsets.rs`).

use crate::leader::BecomeLeader;
use crate::partition::{Partition, Standing};
use crate::producer_state::{ProducerStates, Reader as Bytes};
use crate::request::Notice;
use crate::rules::Rules;
use crate::turn::{Reader, Turn};
use ringway_log::logs::{BatchFacts, LogEvent, ReadFailure, ReadTicket};
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;

/// First byte of a snapshot body.
const SNAPSHOT_VERSION: u8 = 1;

/// Takes all events there are.
pub(crate) fn drain(rules: &mut Rules, turn: &mut Turn<'_>) {
    while let Some(event) = turn.ground.logs.next_event() {
        apply(rules, turn, event);
    }
}

fn apply(rules: &mut Rules, turn: &mut Turn<'_>, event: LogEvent) {
    match event {
        LogEvent::Snapshot(key, body) => snapshot(turn, key, &body),
        LogEvent::Replayed(key, facts) => replayed(turn, key, &facts),
        LogEvent::Recovered { key, start, end, notices, .. } => {
            for line in notices {
                turn.warn(line);
            }
            serve(rules, turn, key, start, end);
        }
        LogEvent::Created { key, .. } => serve(rules, turn, key, 0, 0),
        LogEvent::Started(report) => {
            rules.openings.started(turn);
            turn.out.notices.push(Notice::Recovered {
                logs: report.logs,
                dropped_batches: report.dropped_batches,
                quarantined: report.quarantined,
                scanned_bytes: report.scanned_bytes,
            });
        }
        LogEvent::Flushed { key, upto } => {
            if rules.produces.flushed(turn, key, upto) {
                rules.fetches.wake(turn, &mut rules.mesh, key);
            }
        }
        LogEvent::StartMoved { key, start } => {
            if let Some(partition) = turn.ground.partitions.get_mut(key) {
                partition.epochs.trim(start);
            }
        }
        LogEvent::ReadDone(ticket, result) => read_done(rules, turn, ticket, result),
        LogEvent::TimeDone(ticket, found) => {
            if let Some(Reader::Search { row }) = turn.ground.readers.remove(&ticket) {
                rules.searches.time_done(turn, row, found);
            }
        }
        LogEvent::SnapshotDue(key) => put_snapshot(turn, key),
        LogEvent::Refused(key) => refused(rules, turn, key),
        LogEvent::Offline(key, why) => offline(rules, turn, key, why),
        LogEvent::Poisoned(key, cause) => poisoned(rules, turn, key, cause),
        LogEvent::Warning(line) => turn.warn(line),
        LogEvent::Removed(_) => {}
        LogEvent::Stopped(checkpoint_generation) => {
            turn.out.notices.push(Notice::Stopped { checkpoint_generation });
        }
    }
}

/// The log is there: what waited for it goes on.
fn serve(rules: &mut Rules, turn: &mut Turn<'_>, key: LogKey, start: u64, end: u64) {
    open(turn, key, start, end);
    rules.produces.retry(turn, key);
    rules.groups.log_opened(turn, key);
}

fn read_done(
    rules: &mut Rules,
    turn: &mut Turn<'_>,
    ticket: ReadTicket,
    result: Result<FrameList, ReadFailure>,
) {
    match (turn.ground.readers.remove(&ticket), result) {
        (Some(Reader::Fetch { row, part }), result) => {
            rules.fetches.read_done(turn, &mut rules.mesh, row, part, result);
        }
        (Some(Reader::Search { row }), result) => rules.searches.read_done(turn, row, result),
        (Some(Reader::Offsets { partition }), result) => {
            rules.groups.read_done(turn, partition, result);
        }
        (None, Ok(mut frames)) => frames.release(turn.blocks),
        (None, Err(_)) => {}
    }
}

/// No space for what the log needs next; it asks again by itself (P16).
fn refused(rules: &mut Rules, turn: &mut Turn<'_>, key: LogKey) {
    let opening = |partition: &Partition| partition.opening();
    if turn.ground.partitions.get(key).is_some_and(opening) {
        let message = format!("{key}: no space for its first segment");
        rules.produces.fail(turn, key, ErrorCode::KafkaStorageError, &message);
    } else {
        rules.produces.retry(turn, key);
    }
}

/// Recovery gave the log up: as visible as one that failed later, and only a recovery that succeeds clears it (P14).
fn offline(rules: &mut Rules, turn: &mut Turn<'_>, key: LogKey, why: String) {
    let message = format!("log {key} is offline: {why}");
    turn.out.notices.push(Notice::Poisoned { key, cause: format!("offline: {why}") });
    stop_serving(rules, turn, key, Standing::Offline(why), &message);
}

fn poisoned(rules: &mut Rules, turn: &mut Turn<'_>, key: LogKey, cause: String) {
    let message = format!("{key} is poisoned: {cause}");
    turn.out.notices.push(Notice::Poisoned { key, cause: cause.clone() });
    stop_serving(rules, turn, key, Standing::Poisoned(cause), &message);
}

fn stop_serving(
    rules: &mut Rules,
    turn: &mut Turn<'_>,
    key: LogKey,
    standing: Standing,
    message: &str,
) {
    if let Some(partition) = turn.ground.partitions.get_mut(key) {
        partition.standing = standing;
    }
    rules.produces.fail(turn, key, ErrorCode::KafkaStorageError, message);
}

/// The node tells itself to lead (Z3).
fn open(turn: &mut Turn<'_>, key: LogKey, start: u64, end: u64) {
    let leader_epoch = turn.ground.leader_epoch;
    let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
    partition.leader.become_leader(BecomeLeader { leader_epoch, in_sync: 1 }, end);
    partition.epochs.begin(leader_epoch, end);
    partition.epochs.trim(start);
    partition.standing = Standing::Serving;
}

fn snapshot(turn: &mut Turn<'_>, key: LogKey, body: &[u8]) {
    let (mono_ns, wall_ns) = (turn.now.mono_ns, turn.now.wall_ns);
    let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
    let mut bytes = Bytes(body);
    let decoded = (|| {
        let [version] = bytes.take::<1>()?;
        if version != SNAPSHOT_VERSION {
            return None;
        }
        for _ in 0..u32::from_le_bytes(bytes.take()?) {
            let epoch = i32::from_le_bytes(bytes.take()?);
            partition.epochs.begin(epoch, u64::from_le_bytes(bytes.take()?));
        }
        partition.producers = ProducerStates::decode(&mut bytes, mono_ns, wall_ns)?;
        bytes.0.is_empty().then_some(())
    })();
    if decoded.is_none() {
        // Its CRC was right: another version wrote it. Duplicates older than this are not known.
        turn.warn(format!("snapshot of {key} is not readable; producers start anew"));
    }
}

fn replayed(turn: &mut Turn<'_>, key: LogKey, facts: &BatchFacts) {
    let now = turn.now;
    let Some(partition) = turn.ground.partitions.get_mut(key) else { return };
    partition.epochs.observe(facts.leader_epoch, facts.base_offset);
    let age_ns = now.wall_ns.saturating_sub(facts.append_time_ns);
    partition.producers.replay(facts, now.mono_ns, age_ns);
}

fn put_snapshot(turn: &mut Turn<'_>, key: LogKey) {
    let Turn { ground, out, .. } = turn;
    let Some(partition) = ground.partitions.get(key) else { return };
    let upto = ground.logs.flushed_offset(key);
    let epochs = partition.epochs.entries_upto(upto);
    let mut body = vec![SNAPSHOT_VERSION];
    body.extend_from_slice(&u32::try_from(epochs.len()).unwrap_or(0).to_le_bytes());
    for (epoch, start) in epochs {
        body.extend_from_slice(&epoch.to_le_bytes());
        body.extend_from_slice(&start.to_le_bytes());
    }
    partition.producers.encode(upto, &mut body);
    ground.logs.put_snapshot(key, body, &mut out.io);
}
