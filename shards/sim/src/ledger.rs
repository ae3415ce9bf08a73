//! What the log of a stand has promised, and whether a recovery kept it (D1–D7).
//! Owner: `Stand`.
//! Invariant: it knows only what was appended, told and read back.
//! Not here: many logs and clients (`checker.rs`).

use crate::checker::Violation;
use crate::rng::mix;
use crate::room::FrameSeen;
use std::collections::BTreeSet;

/// A batch as it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base: u64,
    /// Offset of its last record.
    pub last: u64,
    /// Its identity.
    pub hash: u64,
}

/// What a reader found: batches, and ranges that are named as damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// First offset kept.
    pub log_start: u64,
    /// End of what may be read.
    pub end: u64,
    /// Batches, in order.
    pub frames: Vec<FrameSeen>,
    /// `from..to` of every range that a read refused.
    pub holes: Vec<(u64, u64)>,
    /// Ranges that the log itself lists.
    pub listed: Vec<(u64, u64)>,
}

/// The promises of one log.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Batches in the order of their offsets, as the log has them.
    line: Vec<Appended>,
    /// Everything below was acknowledged.
    acked: u64,
    /// Log start, as told.
    start: u64,
    /// A truncation to this offset has begun and was not told done.
    truncating: Option<u64>,
    /// Batches that may never come back.
    dropped: BTreeSet<u64>,
}

impl Ledger {
    /// The log took a batch.
    pub fn appended(&mut self, base: u64, last: u64, hash: u64) {
        self.line.push(Appended { base, last, hash });
    }

    /// The log said that everything below `upto` is durable.
    pub fn flushed(&mut self, upto: u64) {
        self.acked = self.acked.max(upto);
    }

    /// The log said where it starts.
    pub fn start_moved(&mut self, start: u64) {
        self.start = self.start.max(start);
    }

    /// Somebody ordered a truncation.
    pub fn truncates(&mut self, offset: u64) {
        // Batches are whole: the one that holds the offset goes.
        let base = self.line.iter().find(|one| one.last >= offset).map_or(offset, |one| one.base);
        self.truncating = Some(base);
    }

    /// The log said that it ends at `end` now; at a start nothing was ordered.
    pub fn truncated(&mut self, end: u64) {
        if self.truncating.take().is_some() {
            self.drop_from(end);
            self.acked = self.acked.min(end);
        }
    }

    /// A start has told everybody that the log ends at `end`.
    pub fn exposed(&mut self, end: u64) {
        if end >= self.least() {
            self.drop_from(end);
            (self.acked, self.truncating) = (end, None);
        }
    }

    /// The log may not end below this.
    fn least(&self) -> u64 {
        self.acked.min(self.truncating.unwrap_or(u64::MAX))
    }

    fn drop_from(&mut self, end: u64) {
        let kept = self.line.partition_point(|one| one.base < end);
        self.dropped.extend(self.line.drain(kept..).map(|one| one.hash));
    }

    /// Batches as promised.
    #[must_use]
    pub fn line(&self) -> &[Appended] {
        &self.line
    }

    /// Everything below was acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// One number for all of it, to tell states apart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = mix(mix(self.acked, self.start), self.truncating.map_or(0, |at| at + 1));
        for one in &self.line {
            hash = mix(hash, one.hash);
        }
        self.dropped.iter().fold(hash, |hash, one| mix(hash, *one))
    }

    /// A recovery of undamaged media found this: right, and the promise from now on.
    ///
    /// # Errors
    /// What does not hold.
    pub fn judge(&mut self, found: &Found) -> Result<(), Violation> {
        if !found.holes.is_empty() || !found.listed.is_empty() {
            return fail("D6", format!("{:?} quarantined on undamaged media", found.listed));
        }
        let mut next = found.log_start;
        for frame in &found.frames {
            self.judge_frame(frame)?;
            if frame.base != next {
                return fail("D3", format!("offset {next} expected, batch at {}", frame.base));
            }
            next = frame.last + 1;
        }
        if next != found.end {
            return fail("D3", format!("readable up to {next}, end {}", found.end));
        }
        let least = self.least();
        if found.end < least {
            return fail("D1", format!("acknowledged up to {least}, the log ends at {next}"));
        }
        if found.log_start < self.start || found.log_start > least.max(self.start) {
            let start = found.log_start;
            return fail("D3", format!("log start {} was told, now {start}", self.start));
        }
        self.drop_from(found.end);
        (self.acked, self.start, self.truncating) = (found.end, found.log_start, None);
        Ok(())
    }

    fn judge_frame(&self, frame: &FrameSeen) -> Result<(), Violation> {
        let base = frame.base;
        if !frame.sound {
            return fail("D5", format!("the batch at {base} has a wrong CRC"));
        }
        if self.dropped.contains(&frame.hash) {
            return fail("D4", format!("the batch at {base} was dropped and is back"));
        }
        match self.line.iter().find(|one| one.base == base) {
            Some(one) if one.hash == frame.hash && one.last == frame.last => Ok(()),
            Some(_) => fail("D1", format!("another batch stands at {base}")),
            None => fail("D2", format!("nothing was appended at {base}")),
        }
    }

    /// A recovery of damaged media found this; `harmed` are the batches whose bytes were touched, and
    /// `more` whole ones may be missing beside them.
    ///
    /// # Errors
    /// A wrong byte served, or more missing than was harmed, or missing without being named.
    pub fn judge_damaged(
        &self,
        found: &Found,
        harmed: &BTreeSet<u64>,
        mut more: usize,
    ) -> Result<(), Violation> {
        if found.end < self.acked {
            return fail("D1", format!("{} was promised, end {}", self.acked, found.end));
        }
        for frame in &found.frames {
            self.judge_frame(frame)?;
        }
        let served: BTreeSet<u64> = found.frames.iter().map(|frame| frame.base).collect();
        for one in self.line.iter().filter(|one| one.base >= found.log_start) {
            let named = |(from, to): &(u64, u64)| *from <= one.base && one.last < *to;
            if served.contains(&one.base) {
                continue;
            }
            if !found.listed.iter().any(named) {
                return fail("D1", format!("the batch at {} is absent and not named", one.base));
            }
            if !harmed.contains(&one.base) && more > 0 {
                more -= 1;
            } else if !harmed.contains(&one.base) {
                let holes = &found.listed;
                return fail(
                    "D6",
                    format!("the batch at {} is whole and not served: {holes:?}", one.base),
                );
            }
        }
        Ok(())
    }
}

fn fail<T>(invariant: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { invariant, detail })
}
