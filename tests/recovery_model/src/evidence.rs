//! With which header behind a break a log goes on, although blocks may lie in wrong places.
//! Owner: one look ahead of a scan.
//! Invariant: without misplaced blocks there is one run, and it begins with the smallest offset.
//! Not here: what is evidence at all (`scan.rs`).

use crate::mutants::Mutant;
use crate::scan::Placed;

/// Runs remembered: each block that lies too far back begins one.
const RUNS_MAX: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Run {
    first: Placed,
    last: u64,
    frames: u64,
}

/// The runs of rising offsets behind one break.
#[derive(Clone, Debug, Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// The next piece of evidence, by place.
    pub fn add(&mut self, placed: Placed) {
        let (base, epoch) = (placed.head.base, placed.head.epoch);
        for run in self.0.iter_mut().filter(|run| base > run.last) {
            let claimed = placed.position < run.first.end();
            if run.frames == 1 && claimed {
                run.first = placed;
            } else {
                run.frames += 1;
            }
            run.last = base;
        }
        self.0.retain(|run| run.first.head.base != base || run.first.head.epoch >= epoch);
        let first = |run: &Run| (run.first.head.base, run.first.head.epoch);
        if self.0.iter().all(|run| base < first(run).0 || (base, epoch) == first(run)) {
            if self.0.len() == RUNS_MAX
                && let Some(shortest) = (0..RUNS_MAX).min_by_key(|at| self.0[*at].frames)
            {
                self.0.remove(shortest);
            }
            self.0.push(Run { first: placed, last: base, frames: 1 });
        }
    }

    /// The smallest offset among the longest runs; of two equal ones the later.
    pub fn best(&self, mutant: Mutant) -> Option<Placed> {
        let first = |run: &Run| std::cmp::Reverse(run.first.head.base);
        let length = |run: &Run| if mutant == Mutant::SmallestOffset { 0 } else { run.frames };
        self.0.iter().max_by_key(|run| (length(run), first(run))).map(|run| run.first)
    }
}
