//! Start steps 8 and 9 over all logs of a shard: a few recoveries at a time, then two checkpoint generations.
//! Owner: `Logs`.
//! Invariant: no append before both generations are durable and what lies beyond ends is set aside.
//! Not here: one log's recovery (`recover.rs`).

use crate::event::{LogEvent, StartReport};
use crate::keeper::Keeper;
use crate::log::{Creating, Log, Phase};
use crate::recover::Progress;
use crate::turn::Turn;

/// Logs recovered at once: each may hold 16 chunks.
const RECOVERIES_MAX: usize = 16;
/// How soon step 9 looks again when its checkpoint was refused.
const RETRY_NS: u64 = 1_000_000_000;

/// Where the start stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Recovering,
    /// Generations still to be written.
    Checkpoints(u8),
    /// Segments beyond ends are set aside.
    Aside,
    Started,
}

/// The start of a shard's logs.
#[derive(Debug)]
pub(crate) struct Starting {
    stage: Stage,
    /// Slots whose recovery has not begun, last first.
    queue: Vec<u32>,
    running: usize,
    report: StartReport,
}

impl Starting {
    pub(crate) fn new(mut queue: Vec<u32>) -> Starting {
        let logs = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        queue.reverse();
        let report = StartReport { logs, ..StartReport::default() };
        Starting { stage: Stage::Recovering, queue, running: 0, report }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Started
    }

    /// Slots whose recovery begins now.
    pub(crate) fn next_slots(&mut self, turn: &Turn<'_>) -> Vec<u32> {
        let fits = (turn.blocks.pooled_count() / 20).clamp(1, RECOVERIES_MAX);
        let mut slots = Vec::new();
        while self.running < fits {
            let Some(slot) = self.queue.pop() else { break };
            self.running += 1;
            slots.push(slot);
        }
        slots
    }

    /// One log's recovery goes on.
    pub(crate) fn recover(&mut self, log: &mut Log, turn: &mut Turn<'_>) {
        let Phase::Recovering(recovery) = &mut log.phase else { return };
        match recovery.plan(turn) {
            Progress::Working => return,
            Progress::Absent { epoch } => {
                log.known = true;
                log.begin(epoch);
                log.phase = Phase::Creating(Creating::Segment);
            }
            Progress::Ready(found) => {
                self.report.dropped_batches += found.dropped_batches;
                self.report.quarantined += found.new_quarantined;
                self.report.scanned_bytes += found.scanned_bytes;
                log.phase = Phase::Live;
                log.take_over(*found, turn);
            }
            Progress::Offline(reason) => {
                log.carried = recovery.top().cloned();
                turn.tell(LogEvent::Offline(log.key, reason.clone()));
                log.phase = Phase::Offline(reason);
            }
        }
        self.running -= 1;
        turn.shared.counts.recovered += 1;
        if log.doomed {
            log.begin_removal();
        }
        turn.retry(log.slot, 0);
    }

    /// A checkpoint became durable.
    pub(crate) fn checkpointed(&mut self) {
        self.stage = match self.stage {
            Stage::Checkpoints(left) if left > 1 => Stage::Checkpoints(left - 1),
            Stage::Checkpoints(_) => Stage::Aside,
            other @ (Stage::Recovering | Stage::Aside | Stage::Started) => other,
        };
    }

    /// What follows once every log is recovered.
    pub(crate) fn plan(&mut self, logs: &mut [Log], keeper: &mut Keeper, turn: &mut Turn<'_>) {
        if self.stage == Stage::Recovering && self.running == 0 && self.queue.is_empty() {
            self.stage = Stage::Checkpoints(2);
        }
        if matches!(self.stage, Stage::Checkpoints(_))
            && !keeper.is_writing()
            && !keeper.write(logs, false, turn)
        {
            turn.retry(0, RETRY_NS);
        }
        if self.stage != Stage::Aside {
            return;
        }
        for log in logs.iter_mut().filter(|log| log.is_live()) {
            log.plan_aside(turn);
        }
        if !logs.iter().any(Log::has_beyond) {
            self.stage = Stage::Started;
            turn.shared.started = true;
            turn.tell(LogEvent::Started(std::mem::take(&mut self.report)));
        }
    }
}
