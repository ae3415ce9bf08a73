//! `--enumerate`: every short workload, a crash at every request and answer of its last step, every subset
//! of what was pending, recovery, and the same again inside the recovery (reliability: small workloads
//! with a crash at each persistence point find nearly all crash bugs of file systems).
//! Owner: `main.rs`.
//! Invariant: nothing is drawn: the same states in the same order, each judged once.
//! Not here: long lives (`world.rs`), damage (`damage.rs`).

use crate::checker::Violation;
use crate::clock::SECOND;
use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::rng::mix;
use crate::stand::{KEY, Moment, Stand};
use crate::tally::Tally;
use std::collections::BTreeSet;

/// Pending pieces whose every subset is tried.
const PIECES_MAX: usize = 8;
/// The same inside a recovery.
const PIECES_INSIDE_MAX: usize = 2;
/// Checkpoints before a workload begins.
const PRELUDE_CHECKPOINTS: u32 = 3;
/// Longest workload.
const STEPS_MAX: usize = 3;
/// Roll limit: one small batch fits beside another, a large one does not.
const SEGMENT_BYTES: u64 = 16_384;

/// One step of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// Two small batches in one group.
    Append,
    /// A batch that needs a new segment.
    Roll,
    /// Old segments go.
    Retention,
    /// A checkpoint is due.
    Checkpoint,
    /// The newest batch is truncated away: log_epoch rises.
    Truncate,
    /// A cut, and another shard owns the log: checkpoints of the first are still there.
    Move,
}

const OPS: [Op; 6] = [Op::Append, Op::Roll, Op::Retention, Op::Checkpoint, Op::Truncate, Op::Move];

/// Runs this worker's share of all workloads.
///
/// # Errors
/// A workload fails on a sound disk.
pub fn run(job: u64, jobs: u64, tally: Tally) -> Result<Tally, String> {
    let mut search = Search {
        stand: Stand::new(KEY, SEGMENT_BYTES),
        seen: BTreeSet::new(),
        seen_inside: BTreeSet::new(),
        tally,
    };
    search.stand.settings.retention_bytes = Some(1);
    let empty = search.stand.disk.clone();
    for (number, ops) in (0..).zip(workloads()) {
        if number % jobs == job && !search.tally.is_full() {
            search.stand.reset(empty.clone(), Ledger::default());
            search.workload(&ops)?;
        }
    }
    Ok(search.tally)
}

/// All of one to three steps.
fn workloads() -> Vec<Vec<Op>> {
    let mut all: Vec<Vec<Op>> = OPS.iter().map(|op| vec![*op]).collect();
    let mut last = all.clone();
    for _ in 1..STEPS_MAX {
        let longer = |ops: &Vec<Op>| {
            let ops = ops.clone();
            OPS.iter().map(move |op| ops.iter().copied().chain([*op]).collect::<Vec<Op>>())
        };
        last = last.iter().flat_map(longer).collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn perform(stand: &mut Stand, op: Op) -> Result<(), String> {
    match op {
        Op::Append => {
            stand.append(2, 300)?;
            stand.append(1, 200)?;
            stand.run()
        }
        Op::Roll => {
            stand.append(1, 6_000)?;
            stand.run()
        }
        Op::Retention => stand.wait(6 * SECOND),
        Op::Checkpoint => stand.wait(SECOND),
        Op::Truncate => match stand.ledger.line().last().copied() {
            Some(last) => stand.truncate(last.base),
            None => Ok(()),
        },
        Op::Move => {
            stand.cut();
            stand.shard = 1 - stand.shard;
            stand.start()
        }
    }
}

struct Search {
    stand: Stand,
    /// Disk and promise of every state that was recovered from, and of those inside a recovery.
    seen: BTreeSet<u64>,
    seen_inside: BTreeSet<u64>,
    tally: Tally,
}

impl Search {
    /// Crashes inside its last step: those inside the steps before belong to shorter workloads.
    fn workload(&mut self, ops: &[Op]) -> Result<(), String> {
        self.stand.shard = 0;
        self.stand.start()?;
        // More generations than another shard's start writes.
        for _ in 0..PRELUDE_CHECKPOINTS {
            self.stand.append(1, 200)?;
            self.stand.wait(SECOND)?;
        }
        let (last, before) = ops.split_last().ok_or("an empty workload")?;
        for op in before {
            perform(&mut self.stand, *op)?;
        }
        self.stand.moments = Some(Vec::new());
        perform(&mut self.stand, *last)?;
        let moments = self.stand.moments.take().unwrap_or_default();
        self.tally.crash_points += moments.len() as u64;
        for (point, moment) in moments.into_iter().enumerate() {
            for state in outcomes(&moment, PIECES_MAX) {
                if let Some(state) = without_newest_checkpoint(&state) {
                    let case = || format!("{ops:?}, point {point}, newest checkpoint lost");
                    self.recover(state, &case);
                }
                self.recover(state, &|| format!("{ops:?}, point {point}"));
            }
        }
        Ok(())
    }

    /// A recovery from this state, and from everything that a crash inside it can leave.
    fn recover(&mut self, state: Moment, case: &dyn Fn() -> String) {
        if self.tally.is_full() || !self.seen.insert(fingerprint(&state)) {
            return;
        }
        self.stand.reset(state.disk, state.ledger);
        self.stand.moments = Some(Vec::new());
        let result = self.judge_start().and_then(|()| self.judge_next());
        let moments = self.stand.moments.take().unwrap_or_default();
        self.tally.judge(result, case);
        self.tally.crash_points += moments.len() as u64;
        for (point, moment) in moments.into_iter().enumerate() {
            for state in outcomes(&moment, PIECES_INSIDE_MAX) {
                if self.seen_inside.insert(fingerprint(&state)) {
                    self.stand.reset(state.disk, state.ledger);
                    let result = self.judge_start();
                    self.tally.judge(result, || format!("{}, recovery point {point}", case()));
                }
            }
        }
    }

    fn judge_start(&mut self) -> Result<(), Violation> {
        self.tally.recoveries += 1;
        let broken = |detail: String| Violation { invariant: "D7", detail };
        self.stand.start().map_err(broken)?;
        let found = self.stand.read_all().map_err(broken)?;
        self.stand.ledger.judge(&found)
    }

    /// The log goes on: what is appended now survives a cut, and nothing else comes with it.
    fn judge_next(&mut self) -> Result<(), Violation> {
        let moments = self.stand.moments.take();
        let broken = |detail: String| Violation { invariant: "D7", detail };
        self.stand.append(1, 150).map_err(broken)?;
        self.stand.run().map_err(broken)?;
        self.stand.cut();
        let result = self.judge_start();
        self.stand.moments = moments;
        result
    }
}

/// The same with the older generation alone: it must do.
fn without_newest_checkpoint(state: &Moment) -> Option<Moment> {
    let checkpoints = state.disk.checkpoints();
    let (newest, _) = checkpoints.split_last().filter(|(_, older)| !older.is_empty())?;
    let mut state = state.clone();
    state.disk.replace_small(*newest, None);
    Some(state)
}

fn fingerprint(state: &Moment) -> u64 {
    mix(state.disk.fingerprint(), state.ledger.fingerprint())
}

/// Every state that a power cut or the death of the process at this moment can leave.
fn outcomes(moment: &Moment, pieces_max: usize) -> Vec<Moment> {
    let mut states = Vec::new();
    // Sectors by themselves where they are few; else larger pieces.
    let mut unit = 1;
    while moment.disk.chances(unit) > pieces_max && unit < 64 {
        unit *= 2;
    }
    let mut add = |chances: usize, end: &dyn Fn(&mut Disk, &mut dyn FnMut() -> bool)| {
        for subset in 0u32..1 << chances.min(pieces_max) {
            let mut disk = moment.disk.clone();
            let mut piece = 0;
            end(&mut disk, &mut || {
                piece += 1;
                // Beyond the limit all go the way of the last one.
                subset >> (piece - 1).min(pieces_max - 1) & 1 == 1
            });
            states.push(Moment { disk, ledger: moment.ledger.clone() });
        }
    };
    add(moment.disk.chances(unit), &|disk, keep| disk.cut_by(unit, keep));
    add(moment.disk.crash_chances(), &|disk, keep| disk.crash_by(keep));
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workloads_of_up_to_three_steps_are_there_once() {
        let all = workloads();
        assert_eq!(all.len(), 6 + 36 + 216);
        let unique: BTreeSet<String> = all.iter().map(|ops| format!("{ops:?}")).collect();
        assert_eq!(unique.len(), all.len());
    }

    #[test]
    fn two_sectors_in_flight_have_four_outcomes() {
        let mut stand = Stand::new(KEY, SEGMENT_BYTES);
        stand.start().expect("starts");
        stand.moments = Some(Vec::new());
        stand.append(1, 700).expect("appended");
        stand.run().expect("runs");
        let moments = stand.moments.take().expect("remembered");
        let most = moments.iter().map(|moment| outcomes(moment, PIECES_MAX).len()).max();
        assert!(most > Some(200), "a block in flight has 2^8 outcomes: {most:?}");
    }
}
