//! Clean stop of a shard's logs: flush, snapshots, a checkpoint with clean flags.
//! Owner: `Logs`.
//! Invariant: the clean flag is written for a log only when nothing of it is unflushed.
//! Not here: the clean marker (`boot.rs` writes it when every shard has stopped).

use crate::event::LogEvent;
use crate::keeper::Keeper;
use crate::log::Log;
use crate::turn::Turn;

/// How long a stop waits for snapshots it asked for.
const SNAPSHOT_WAIT_NS: u64 = 2_000_000_000;
/// How soon a stop looks again.
const LOOK_NS: u64 = 5_000_000;

/// Where the stop stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flushing,
    /// Snapshots were asked for; until when they are waited for.
    Snapshots(u64),
    Checkpoint,
    Stopped,
}

/// A clean stop in progress.
#[derive(Debug)]
pub(crate) struct Stopping {
    stage: Stage,
}

/// A log without room for its group does not hold the others up: it is not clean, that is all.
fn may_still_flush(log: &Log) -> bool {
    let hopeless = log.is_poisoned() || log.no_space_until.is_some();
    log.is_live() && !hopeless && !log.is_flushed()
}

fn waits_for_snapshot(log: &Log) -> bool {
    let snapshot = &log.snapshot;
    let missing = snapshot.offset < log.flushed.offset && snapshot.body.is_none();
    log.is_live()
        && !log.is_poisoned()
        && (missing || snapshot.body.is_some() || snapshot.writing.is_some())
}

impl Stopping {
    pub(crate) fn new() -> Stopping {
        Stopping { stage: Stage::Flushing }
    }

    /// A checkpoint became durable, with clean flags when it was ours.
    pub(crate) fn checkpointed(&mut self, keeper: &Keeper, turn: &mut Turn<'_>) {
        if self.stage == Stage::Checkpoint {
            self.stage = Stage::Stopped;
            turn.tell(LogEvent::Stopped(keeper.newest()));
        }
    }

    /// Goes on as far as possible; when to look again.
    pub(crate) fn plan(
        &mut self,
        logs: &[Log],
        keeper: &mut Keeper,
        turn: &mut Turn<'_>,
    ) -> Option<u64> {
        let look = Some(turn.now.mono_ns + LOOK_NS);
        if self.stage == Stage::Flushing {
            if logs.iter().any(may_still_flush) {
                // A group may wait for its bound to be durable.
                keeper.plan(logs, turn);
                return look;
            }
            for log in logs.iter().filter(|log| waits_for_snapshot(log)) {
                turn.tell(LogEvent::SnapshotDue(log.key));
            }
            self.stage = Stage::Snapshots(turn.now.mono_ns + SNAPSHOT_WAIT_NS);
        }
        if let Stage::Snapshots(until) = self.stage {
            if turn.now.mono_ns < until && logs.iter().any(waits_for_snapshot) {
                return look;
            }
            self.stage = Stage::Checkpoint;
        }
        if self.stage == Stage::Checkpoint && !keeper.is_writing() {
            keeper.write(logs, true, turn);
        }
        match self.stage {
            Stage::Stopped => None,
            Stage::Flushing | Stage::Snapshots(_) | Stage::Checkpoint => look,
        }
    }
}
