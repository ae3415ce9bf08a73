//! With which header behind a break a log goes on, although blocks may have come to lie in wrong places.
//! Owner: one look ahead of a scan.
//! Invariant: of headers in the order of their places, the longest run of rising offsets counts; without
//! misplaced blocks there is one run, and it begins with the smallest offset.
//! Not here: what is evidence at all (`verdict.rs`).

use crate::scan::Placed;

/// Runs remembered: each block that lies too far back begins one.
const RUNS_MAX: usize = 4;

/// Headers whose offsets rise with their places.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Placed,
    last: u64,
    frames: u64,
}

/// The runs behind one break.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Vec<Run>);

impl Runs {
    /// The next piece of evidence, by place.
    pub(crate) fn add(&mut self, placed: Placed) {
        let (base, epoch) = (placed.head.base_offset, placed.head.log_epoch);
        for run in self.0.iter_mut().filter(|run| base > run.last) {
            if run.frames == 1 && placed.position < run.first.end() {
                // A header inside the bytes that the first one claims: those are not its own.
                run.first = placed;
            } else {
                run.frames += 1;
            }
            run.last = base;
        }
        // Of two lives at one offset the later one counts.
        self.0
            .retain(|run| run.first.head.base_offset != base || run.first.head.log_epoch >= epoch);
        let first = |run: &Run| (run.first.head.base_offset, run.first.head.log_epoch);
        if self.0.iter().all(|run| base < first(run).0 || (base, epoch) == first(run)) {
            if self.0.len() == RUNS_MAX
                && let Some(shortest) = (0..RUNS_MAX).min_by_key(|at| self.0[*at].frames)
            {
                self.0.remove(shortest);
            }
            self.0.push(Run { first: placed, last: base, frames: 1 });
        }
    }

    /// Where the log goes on: the smallest offset among the longest runs. Of two equal ones the later
    /// counts: the other is a copy that took the place of what is missing.
    pub(crate) fn best(&self) -> Option<Placed> {
        let first = |run: &Run| std::cmp::Reverse(run.first.head.base_offset);
        self.0.iter().max_by_key(|run| (run.frames, first(run))).map(|run| run.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Head, verified_head};

    fn placed(at: u64, base_offset: u64) -> Placed {
        let head = Head { base_offset, ..verified_head(&[0; 128], 0) };
        Placed { si: 0, position: at * 4096, head }
    }

    /// Headers at rising places with these offsets; where the log goes on.
    fn best(bases: &[u64]) -> Option<u64> {
        let mut runs = Runs::default();
        for (at, base) in (0u64..).zip(bases) {
            runs.add(placed(at, *base));
        }
        runs.best().map(|placed| placed.head.base_offset)
    }

    #[test]
    fn one_run_begins_with_the_smallest_offset() {
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[7]), Some(7));
        assert_eq!(best(&[7, 8, 12, 13]), Some(7));
    }

    #[test]
    fn a_block_that_lies_too_early_does_not_hide_what_follows_it() {
        assert_eq!(best(&[20, 21, 4, 5, 6, 22]), Some(4));
    }

    #[test]
    fn a_block_that_lies_too_late_does_not_hide_what_stands_before_it() {
        assert_eq!(best(&[4, 5, 6, 7, 0, 1, 12]), Some(4));
        assert_eq!(best(&[20, 21, 4, 5, 6, 7, 0, 1, 22]), Some(4));
    }

    #[test]
    fn a_header_inside_the_bytes_of_another_takes_its_place() {
        let mut runs = Runs::default();
        let mut wide = placed(0, 4);
        wide.head.frame_len = 6_000;
        for one in [wide, placed(1, 5), placed(2, 6)] {
            runs.add(one);
        }
        assert_eq!(runs.best().map(|placed| placed.head.base_offset), Some(5));
    }

    #[test]
    fn of_a_copy_and_its_source_the_source_counts() {
        let mut runs = Runs::default();
        for (at, base) in (0u64..).zip([5u64, 6, 7, 5, 6, 7, 8]) {
            runs.add(placed(at, base));
        }
        assert_eq!(runs.best().map(|placed| placed.position), Some(3 * 4096));
    }
}
