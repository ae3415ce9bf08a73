//! Look-ups by time, held against what is known of a log (kafka.md O1).
//! Owner: `Checker`.
//! Invariant: only batches known when the question was sent can prove an answer wrong.
//! Not here: asking (`consumer.rs`).

use super::{Checker, Quarantine};
use crate::rng::Rng;
use ringway_wire::ids::LogKey;

/// A question and what was known when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// Wanted is the first record of this time, ms, or a later one.
    pub at_ms: i64,
    /// The answer is no later than this batch.
    known: Option<u64>,
}

impl Checker {
    /// A question worth asking: around the time of some batch, or later than all.
    pub fn look_up(&self, key: LogKey, now_ms: i64, rng: &mut Rng) -> LookUp {
        let times: Vec<i64> = self.timed(key).map(|(_, time_ms)| time_ms).collect();
        let at_ms = if times.is_empty() || rng.percent(15) {
            now_ms + rng.pick(&[0, 3_600_000, 86_400_000])
        } else {
            rng.pick(&times) + rng.pick(&[-1, 0, 0, 1])
        };
        let at_ms = at_ms.max(0);
        let late = |(base, time_ms): (u64, i64)| (time_ms >= at_ms).then_some(base);
        LookUp { at_ms, known: self.timed(key).filter_map(late).min() }
    }

    /// Base offset and time of every batch that is known to be there.
    fn timed(&self, key: LogKey) -> impl Iterator<Item = (u64, i64)> + '_ {
        let shadow = self.logs.get(&key);
        let kept = shadow.into_iter().flat_map(|shadow| &shadow.kept);
        let told = shadow.into_iter().flat_map(|shadow| shadow.acked.iter().chain(&shadow.exposed));
        let of_told = |(base, hash): (&u64, &u64)| Some((*base, self.sent.get(hash)?.time_ms?));
        kept.map(|frame| (frame.base, frame.max_timestamp)).chain(told.filter_map(of_told))
    }

    /// The answer: offset and time of a record, or that there is none. `retained`: old segments may have gone.
    pub fn looked_up(
        &mut self,
        key: LogKey,
        asked: LookUp,
        found: Option<(u64, i64)>,
        retained: bool,
    ) {
        if self.rules.quarantine == Quarantine::Anywhere {
            return;
        }
        let LookUp { at_ms, known } = asked;
        let owed = known.filter(|base| !retained && !self.may_be_damaged(key, *base));
        let counts = &mut self.seen.look_ups;
        let Some((offset, time_ms)) = found else {
            counts.none += 1;
            if let Some(base) = owed {
                self.fail("TIME", || {
                    format!("{key}: nothing at {at_ms} ms, but the batch at {base}")
                });
            }
            return;
        };
        counts.found += 1;
        counts.exact += u64::from(known == Some(offset));
        self.told_end(key, offset + 1);
        let there = self.timed(key).find(|(base, _)| *base == offset);
        if time_ms < at_ms || there.is_some_and(|(_, right)| right != time_ms) {
            self.fail("TIME", || {
                format!("{key}: {time_ms} ms at {offset} for {at_ms} ms, known of it: {there:?}")
            });
        }
        if let Some(base) = owed.filter(|base| *base < offset) {
            self.fail("TIME", || {
                format!("{key}: {offset} is the first at {at_ms} ms, but the batch at {base} is before it")
            });
        }
    }
}
