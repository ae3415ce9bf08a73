//! Counts of an exhaustive mode, and what did not hold.
//! Owner: `flip.rs`, `damage.rs`, `enumerate.rs`; `main.rs` prints it.
//! Invariant: every case run is counted once.
//! Not here: judging.

use crate::checker::Violation;

/// Violations told at most; all are counted.
const TOLD_MAX: usize = 20;

/// What a mode met.
#[derive(Debug, Default)]
pub struct Tally {
    /// Violations after which a worker stops.
    pub violations_max: u64,
    /// Cases.
    pub cases: u64,
    /// Batches whose bytes were damaged, over all cases.
    pub harmed: u64,
    /// … and that were named as damaged.
    pub named: u64,
    /// Recoveries run.
    pub recoveries: u64,
    /// Places where a process died.
    pub crash_points: u64,
    /// Cases that did not hold.
    pub violations: u64,
    /// The first of them: invariant and what was done.
    pub told: Vec<(String, String)>,
}

impl Tally {
    /// Nothing met yet.
    #[must_use]
    pub fn new(violations_max: u64) -> Tally {
        Tally { violations_max, ..Tally::default() }
    }

    /// Whether enough is broken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.violations >= self.violations_max
    }

    /// Counts a case.
    pub fn judge(&mut self, result: Result<(), Violation>, case: impl FnOnce() -> String) {
        self.cases += 1;
        let Err(violation) = result else { return };
        self.violations += 1;
        if self.told.len() < TOLD_MAX {
            let text = format!("{}: {}", case(), violation.detail);
            self.told.push((violation.invariant.to_owned(), text));
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: Tally) {
        self.cases += other.cases;
        self.harmed += other.harmed;
        self.named += other.named;
        self.recoveries += other.recoveries;
        self.crash_points += other.crash_points;
        self.violations += other.violations;
        self.told.extend(other.told);
    }
}
