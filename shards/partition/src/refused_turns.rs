//! Turns of producers that a log does not know yet: a batch that was refused comes before all later ones.
//! Owner: `Shard`, for all its logs, also those it is yet to hear of.
//! Invariant: while a turn is kept, no later sequence of that producer and epoch begins in that log.
//! Not here: producers a log knows (`producer_state.rs`); nothing of it outlives the process, and neither do
//! the connections on which later batches are under way.

use crate::producer_state::{EXPIRE_NS, Sequenced};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// Turns kept at most; beyond it the oldest eighth goes.
const TURNS_MAX: usize = 16_384;

/// The first sequence that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RefusedTurn {
    epoch: i16,
    first: i32,
    refused_ns: u64,
}

/// All turns of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusedTurns(BTreeMap<(LogKey, i64), RefusedTurn>);

/// Whether sequence `one` comes after `other` on the circle 0…2^31−1.
fn is_after(one: i32, other: i32) -> bool {
    let ahead = one.wrapping_sub(other) & i32::MAX;
    ahead != 0 && ahead < 1 << 30
}

/// What a producer is told whose batch would pass by the sequence `first`.
pub(crate) fn out_of_turn(first: i32) -> String {
    format!("sequence {first} of this producer was refused here and has to come first")
}

impl RefusedTurns {
    /// `batch` of a producer that `log` does not know was refused.
    pub(crate) fn keep(&mut self, log: LogKey, batch: Sequenced, now_ns: u64) {
        let Sequenced { producer_id, epoch, first, .. } = batch;
        let key = (log, producer_id);
        if !self.0.contains_key(&key) && self.0.len() >= TURNS_MAX {
            self.make_room();
        }
        let new = RefusedTurn { epoch, first, refused_ns: now_ns };
        let turn = self.0.entry(key).or_insert(new);
        let later = turn.epoch > epoch || (turn.epoch == epoch && is_after(first, turn.first));
        if !later {
            *turn = new;
        }
        assert!(self.0.len() <= TURNS_MAX, "turns are bounded");
    }

    fn make_room(&mut self) {
        let mut ages: Vec<u64> = self.0.values().map(|turn| turn.refused_ns).collect();
        ages.sort_unstable();
        let oldest = ages[ages.len() / 8];
        let mut spare = self.0.len() / 8 + 1;
        self.0.retain(|_, turn| {
            let goes = spare > 0 && turn.refused_ns <= oldest;
            spare -= usize::from(goes);
            !goes
        });
    }

    /// The sequence that `log` waits for, when `batch` would begin behind it.
    pub(crate) fn expected(&self, log: LogKey, batch: Sequenced, now_ns: u64) -> Option<i32> {
        let turn = self.0.get(&(log, batch.producer_id))?;
        let fresh = now_ns.saturating_sub(turn.refused_ns) <= EXPIRE_NS;
        let waits = fresh && turn.epoch == batch.epoch && is_after(batch.first, turn.first);
        waits.then_some(turn.first)
    }

    /// No batch of an unknown producer was refused lately.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A batch of the producer was appended: from now on the log knows it.
    pub(crate) fn forget(&mut self, log: LogKey, producer_id: i64) {
        if !self.is_empty() {
            self.0.remove(&(log, producer_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogKey = LogKey { topic_id: 1, partition: 0 };

    fn batch(epoch: i16, first: i32) -> Sequenced {
        Sequenced { producer_id: 7, epoch, first, last_offset_delta: 0 }
    }

    #[test]
    fn nothing_begins_behind_the_lowest_sequence_that_was_refused() {
        let mut turns = RefusedTurns::default();
        for first in [20, 10, 30] {
            turns.keep(LOG, batch(0, first), 0);
        }
        let expected = |turns: &RefusedTurns, batch| turns.expected(LOG, batch, 0);
        assert_eq!(expected(&turns, batch(0, 20)), Some(10));
        assert_eq!(expected(&turns, batch(0, 10)), None);
        assert_eq!(expected(&turns, batch(0, 3)), None, "an earlier one may");
        assert_eq!(expected(&turns, batch(1, 20)), None, "another epoch begins anew");
        let other = LogKey { partition: 1, ..LOG };
        assert_eq!(turns.expected(other, batch(0, 20), 0), None);
        turns.forget(LOG, 7);
        assert_eq!(expected(&turns, batch(0, 20)), None);
    }

    #[test]
    fn a_refusal_of_an_earlier_epoch_changes_nothing_and_of_a_later_one_replaces() {
        let mut turns = RefusedTurns::default();
        turns.keep(LOG, batch(1, 10), 0);
        turns.keep(LOG, batch(0, 0), 0);
        assert_eq!(turns.expected(LOG, batch(1, 20), 0), Some(10));
        turns.keep(LOG, batch(2, 40), 0);
        assert_eq!(turns.expected(LOG, batch(1, 20), 0), None);
        assert_eq!(turns.expected(LOG, batch(2, 50), 0), Some(40));
    }

    #[test]
    fn sequences_wrap_and_turns_expire() {
        let mut turns = RefusedTurns::default();
        turns.keep(LOG, batch(0, i32::MAX), 5);
        assert_eq!(turns.expected(LOG, batch(0, 0), 5), Some(i32::MAX));
        assert_eq!(turns.expected(LOG, batch(0, i32::MAX - 1), 5), None);
        assert_eq!(turns.expected(LOG, batch(0, 0), 6 + EXPIRE_NS), None);
    }

    #[test]
    fn turns_are_bounded_and_the_oldest_go() {
        let mut turns = RefusedTurns::default();
        let count = i64::try_from(TURNS_MAX + 10).expect("small");
        for producer_id in 0..count {
            let now = u64::try_from(producer_id).expect("positive") / 4000;
            turns.keep(LOG, Sequenced { producer_id, ..batch(0, 1) }, now);
        }
        assert!(turns.0.len() <= TURNS_MAX && turns.0.len() > TURNS_MAX / 2);
        assert!(!turns.0.contains_key(&(LOG, 0)));
        assert!(turns.0.contains_key(&(LOG, count - 1)));
    }
}
