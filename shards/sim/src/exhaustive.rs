//! The modes that try every case of a kind instead of drawing some.
//! Owner: `main.rs`.
//! Invariant: a mode that tried nothing has not held.
//! Not here: the cases (`flip.rs`, `damage.rs`, `enumerate.rs`).

use crate::tally::Tally;
use crate::{damage, enumerate, flip};

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhaustive {
    /// Every bit.
    Flip,
    /// Every block, every small file.
    Damage,
    /// Every short workload, every crash.
    Enumerate,
}

impl Exhaustive {
    /// By its argument.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Exhaustive> {
        match word {
            "--flip" => Some(Exhaustive::Flip),
            "--damage" => Some(Exhaustive::Damage),
            "--enumerate" => Some(Exhaustive::Enumerate),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Exhaustive::Flip => "flip",
            Exhaustive::Damage => "damage",
            Exhaustive::Enumerate => "enumerate",
        }
    }

    /// Runs the share of one worker of `jobs`, up to so many violations; `bytes`: first and count, for a mode
    /// that has a long run.
    ///
    /// # Errors
    /// The log cannot even be built.
    pub fn run(
        self,
        bytes: Option<(u64, u64)>,
        (job, jobs): (u64, u64),
        violations_max: u64,
    ) -> Result<Tally, String> {
        let tally = Tally::new(violations_max);
        match self {
            Exhaustive::Flip => flip::run(bytes, (job, jobs), tally),
            Exhaustive::Damage => damage::run(job, jobs, tally),
            Exhaustive::Enumerate => enumerate::run(job, jobs, tally),
        }
    }

    /// Whether everything held, and something was tried.
    #[must_use]
    pub fn holds(self, tally: &Tally) -> bool {
        let tried = match self {
            Exhaustive::Flip => tally.harmed > 0 && tally.harmed == tally.named,
            Exhaustive::Damage => tally.harmed > 0,
            Exhaustive::Enumerate => tally.crash_points > 0,
        };
        tally.violations == 0 && tally.cases > 0 && tried
    }

    /// One line.
    #[must_use]
    pub fn summary(self, tally: &Tally) -> String {
        let Tally { cases, harmed, named, recoveries, crash_points, violations, .. } = tally;
        match self {
            Exhaustive::Flip => format!(
                "flips {cases} of a batch {harmed} detected {named} violations {violations}"
            ),
            Exhaustive::Damage => format!(
                "damages {cases} batches harmed {harmed} quarantined {named} violations {violations}"
            ),
            Exhaustive::Enumerate => format!(
                "states {cases} crash points {crash_points} recoveries {recoveries} violations {violations}"
            ),
        }
    }
}
