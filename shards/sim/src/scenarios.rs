//! Schedules written down: the lives in which a bug once showed, or that a design note fears.
//! Owner: nobody, a table.
//! Invariant: each runs many workloads, so that a change of the generator does not blunt it.
//! Not here: what is checked (`checker.rs`).

use crate::clock::MS;
use crate::plan::{End, LifePlan};

/// A schedule.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Why it is here.
    pub why: &'static str,
    /// Its lives; a recovery without faults follows the last.
    pub lives: Vec<LifePlan>,
}

/// Every schedule.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let cut = LifePlan::plain;
    let with = |end: End, work_ns: u64| LifePlan { end, ..LifePlan::plain(work_ns) };
    let on = |shards: u32, end: End| LifePlan { shards: Some(shards), ..with(end, 8 * MS) };
    let again =
        |ends: &[(u64, bool)]| LifePlan { recovery_ends: ends.to_vec(), ..LifePlan::plain(6 * MS) };
    vec![
        Scenario {
            name: "snapshot_at_the_roll",
            why: "a snapshot stamped with a later flushed end made recovery skip batches: retries were \
                  appended twice",
            lives: vec![with(End::Crash, 60 * MS), cut(60 * MS), with(End::Crash, 60 * MS)],
        },
        Scenario {
            name: "late_write_under_a_new_life",
            why: "what a crash left in the device's cache must not come back over the next life's writes",
            lives: vec![
                with(End::Crash, 4 * MS),
                cut(4 * MS),
                with(End::Crash, 4 * MS),
                cut(4 * MS),
            ],
        },
        Scenario {
            name: "truncated_inside_a_block_again_and_again",
            why: "each life appends behind a torn tail and is torn in turn",
            lives: (0..8).map(|_| cut(3 * MS)).collect(),
        },
        Scenario {
            name: "recovery_never_comes_through",
            why: "four cuts and crashes inside one recovery leave what one uninterrupted run gives",
            lives: vec![
                cut(20 * MS),
                again(&[(20, true), (60, false), (90, true), (140, true)]),
                again(&[(5, false), (200, true), (30, false), (250, true)]),
            ],
        },
        Scenario {
            name: "shards_come_and_go",
            why: "checkpoints of shards that are no more must neither win nor be needed",
            lives: vec![
                on(2, End::Crash),
                on(1, End::Cut),
                on(3, End::Stop),
                LifePlan { recovery_ends: vec![(150, true)], ..on(1, End::Cut) },
                on(2, End::Cut),
            ],
        },
        Scenario {
            name: "limits_fall_and_rise",
            why: "recovery must keep frames that today's limits would refuse",
            lives: vec![
                cut(30 * MS),
                LifePlan { lowered: Some(true), ..cut(6 * MS) },
                LifePlan { lowered: Some(false), ..with(End::Stop, 6 * MS) },
                LifePlan { lowered: Some(true), ..cut(6 * MS) },
            ],
        },
        Scenario {
            name: "stop_cut_off",
            why: "a clean stop that the power ends is an unclean one",
            lives: (1..9).map(|n| with(End::StopCutOff(n * n * 3), 5 * MS)).collect(),
        },
        Scenario {
            name: "newest_checkpoint_damaged",
            why: "the older generation carries the life table too",
            lives: (0..5).map(|_| LifePlan { damage: true, ..cut(8 * MS) }).collect(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Pool;
    use crate::world::run_scripted;

    #[test]
    fn every_schedule_holds_for_many_workloads() {
        let mut pool = Pool::default();
        for scenario in all() {
            for seed in 1..=12 {
                let (outcome, back) =
                    run_scripted(seed, &scenario.lives, std::mem::take(&mut pool));
                pool = back;
                assert!(
                    outcome.violation.is_none(),
                    "{} {seed}: {:?}",
                    scenario.name,
                    outcome.violation
                );
            }
        }
    }
}
