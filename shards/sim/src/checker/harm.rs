//! What damage of the medium excuses: which batches may be missing, and that all of it is named (D1 on
//! damaged media, D6).
//! Owner: `Checker`, one per log.
//! Invariant: a batch once missing keeps its offsets: nothing else may ever stand there.
//! Not here: doing damage (`rot.rs`).

use super::{Checker, Quarantine, Shadow, find};
use crate::room::FrameSeen;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// One log's damage.
#[derive(Clone, Debug, Default)]
pub(super) struct Harm {
    /// Batches whose bytes changed, by base offset.
    harmed: BTreeMap<u64, FrameSeen>,
    /// Whole batches that may be missing beside them.
    spares: u64,
    /// … and that are.
    spent: u64,
    /// Batches that a recovery found and a later one did not serve.
    lost: BTreeMap<u64, FrameSeen>,
}

impl Harm {
    /// Whether a batch may be missing from what is served now; from now on it is.
    fn excuses(&mut self, frame: &FrameSeen, served: &[FrameSeen]) -> bool {
        let harmed = self.harmed.get(&frame.base).is_some_and(|one| one.hash == frame.hash);
        if !harmed && !self.lost.contains_key(&frame.base) {
            // A batch in a swapped block may be found and served where it does not belong: then what is
            // missing instead of it is whole. One batch is lost for one harmed all the same.
            let found = self.harmed.values().filter(|one| is_there(served, one.base, one.hash));
            if self.spares == 0 || self.spent >= self.spares + found.count() as u64 {
                return false;
            }
            self.spent += 1;
        }
        self.lost.insert(frame.base, *frame);
        true
    }

    /// A batch that was named as lost is found after all, in a block that changed places with another: its
    /// producer may have sent it again meanwhile, and nothing but the list of damaged ranges, which may be lost
    /// too, says that it was given up.
    pub(super) fn came_back(&self, frame: &FrameSeen) -> bool {
        self.spares > 0 && self.lost.get(&frame.base).is_some_and(|one| one.hash == frame.hash)
    }

    fn holder(batches: &BTreeMap<u64, FrameSeen>, offset: u64) -> Option<&FrameSeen> {
        let (_, frame) = batches.range(..=offset).next_back()?;
        (offset <= frame.last).then_some(frame)
    }

    /// Whether some damaged or lost batch lies in `from..to`.
    fn lies_in(&self, (from, to): (u64, u64)) -> bool {
        [&self.harmed, &self.lost].into_iter().any(|batches| {
            Harm::holder(batches, from).is_some() || batches.range(from..to).next().is_some()
        })
    }

    /// Another batch than this one had its offsets.
    fn other_owner(&self, frame: &FrameSeen) -> Option<u64> {
        let owner = Harm::holder(&self.lost, frame.last)?;
        (owner.last >= frame.base && owner.hash != frame.hash).then_some(owner.base)
    }
}

impl Checker {
    /// Logs in which the last recovery found something.
    #[must_use]
    pub fn logs_with_batches(&self) -> Vec<LogKey> {
        let found = self.logs.iter().filter(|(_, shadow)| !shadow.kept.is_empty());
        found.map(|(key, _)| *key).collect()
    }

    /// Bytes of a batch have changed on the medium.
    pub fn harms(&mut self, key: LogKey, frame: FrameSeen) {
        self.logs.entry(key).or_default().harm.harmed.insert(frame.base, frame);
    }

    /// So many whole batches of a log may be missing beside those harmed.
    pub fn spares(&mut self, key: LogKey, batches: u64) {
        self.logs.entry(key).or_default().harm.spares += batches;
    }

    /// Whether a consumer may be told that this offset is damaged.
    #[must_use]
    pub fn may_be_damaged(&self, key: LogKey, offset: u64) -> bool {
        let harmed = |shadow: &Shadow| {
            let Shadow { harm, quarantined, .. } = shadow;
            harm.spares > 0
                || harm.lies_in((offset, offset + 1))
                || quarantined.iter().any(|(from, to)| (*from..*to).contains(&offset))
        };
        match self.rules.quarantine {
            Quarantine::Never => false,
            Quarantine::Anywhere => true,
            Quarantine::Harmed => self.logs.get(&key).is_some_and(harmed),
        }
    }

    /// Whether a consumer may be led over all of these offsets as damaged.
    pub(super) fn is_harmed(&self, key: LogKey, (from, to): (u64, u64)) -> bool {
        (from..to).all(|offset| self.may_be_damaged(key, offset))
    }

    /// A batch that was promised by `invariant` is missing. None: damage excuses it, and it is named; else
    /// what does not hold, and how.
    pub(super) fn judge_missing(
        &mut self,
        key: LogKey,
        (invariant, missing): (&'static str, FrameSeen),
        (frames, quarantined): (&[FrameSeen], &[(u64, u64)]),
    ) -> Option<(&'static str, &'static str)> {
        if self.rules.quarantine != Quarantine::Harmed {
            return Some((invariant, "gone"));
        }
        let named = |range: &(u64, u64)| range.0 <= missing.base && missing.last < range.1;
        if !quarantined.iter().any(named) {
            return Some((invariant, "gone and not named as damaged"));
        }
        let shadow = self.logs.entry(key).or_default();
        let excused = shadow.harm.excuses(&missing, frames);
        (!excused).then_some(("D6", "whole on the disk and named as damaged"))
    }

    /// Batches of the last life that no recovery has found yet may lie in a range named as damaged: they were
    /// not dropped. Of a device that lies only the acknowledged ones are spared: their offsets are theirs, and
    /// one that can be read again when the list of ranges is lost (Q1) is what its producer was promised.
    pub(super) fn spare_unseen(&mut self, key: LogKey, quarantined: &[(u64, u64)]) {
        let Some(shadow) = self.logs.get_mut(&key) else { return };
        let Shadow { missing, acked, end, .. } = shadow;
        match self.rules.quarantine {
            Quarantine::Never => {}
            Quarantine::Harmed if quarantined.iter().any(|range| range.1 > *end) => {
                let dropped =
                    |hash: &u64| self.sent.get(hash).is_some_and(|sent| sent.dropped.is_some());
                missing.retain(dropped);
            }
            Quarantine::Harmed => {}
            Quarantine::Anywhere => {
                let records = |hash: &u64| self.sent.get(hash).map_or(1, |sent| sent.records);
                let inside = |base: u64, after: u64| {
                    quarantined.iter().any(|(from, to)| *from <= base && after <= *to)
                };
                for (base, hash) in acked.iter() {
                    if inside(*base, base + records(hash)) {
                        missing.remove(hash);
                    }
                }
            }
        }
    }

    /// Every range named as damaged has a reason, and no batch stands where a lost one stood.
    pub(super) fn check_damage(
        &mut self,
        key: LogKey,
        frames: &[FrameSeen],
        quarantined: &[(u64, u64)],
    ) {
        if self.rules.quarantine != Quarantine::Harmed {
            return;
        }
        let shadow = self.logs.entry(key).or_default();
        let known = |range: &(u64, u64)| {
            let before = |old: &(u64, u64)| old.0 < range.1 && range.0 < old.1;
            shadow.harm.lies_in(*range) || shadow.quarantined.iter().any(before)
        };
        let groundless = quarantined.iter().find(|range| !known(range)).copied();
        let again = frames
            .iter()
            .find_map(|frame| shadow.harm.other_owner(frame).map(|owner| (frame.base, owner)));
        if let Some((from, to)) = groundless {
            self.fail("D6", || {
                format!("{key}: {from}..{to} quarantined, nothing is damaged there")
            });
        }
        if let Some((base, owner)) = again {
            self.fail("D1", || {
                format!("{key}: another batch at {base}: those offsets are of the damaged one at {owner}")
            });
        }
    }

    /// An acknowledgement at an offset below the recovered end, where no readable batch begins: right only
    /// for the damaged batch that had it, or for a whole one that may be missing with it.
    pub(super) fn acked_in_damage(&mut self, hash: u64, key: LogKey, base: u64, records: u64) {
        let shadow = self.logs.entry(key).or_default();
        let batch = whole(base, hash, records);
        let own = match Harm::holder(&shadow.harm.lost, batch.last) {
            Some(lost) if lost.last >= base => (lost.base, lost.hash) == (base, hash),
            _ => shadow.harm.excuses(&batch, &shadow.kept),
        };
        if !own {
            self.fail("D1", || {
                format!("{key}: ack at {base}, an offset below the recovered end that is not this batch's")
            });
        }
    }
}

/// A batch that an acknowledgement or a consumer named, as a whole.
pub(super) fn whole(base: u64, hash: u64, records: u64) -> FrameSeen {
    FrameSeen { base, last: base + records.max(1) - 1, hash, sound: true, ..FrameSeen::default() }
}

/// Whether the batch at `base` is there.
pub(super) fn is_there(frames: &[FrameSeen], base: u64, hash: u64) -> bool {
    find(frames, base) == Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Rules;
    use crate::room::ReadLog;

    const LOG: LogKey = LogKey { topic_id: 1, partition: 0 };

    fn frame(base: u64, hash: u64) -> FrameSeen {
        FrameSeen { base, last: base, log_epoch: 1, hash, sound: true, ..FrameSeen::default() }
    }

    /// Three batches that a recovery found, on a medium that may harm them.
    fn recovered() -> Checker {
        let mut checker = Checker {
            rules: Rules { promises: true, quarantine: Quarantine::Harmed },
            ..Checker::default()
        };
        checker.life_begins(1);
        for hash in 10..13 {
            checker.sends(hash, LOG, (7, hash - 10, true), (1, None));
        }
        let frames = vec![frame(0, 10), frame(1, 11), frame(2, 12)];
        checker.recovered(LOG, ReadLog { frames, end: 3, ..ReadLog::default() });
        checker.life_begins(2);
        checker
    }

    fn after(checker: &mut Checker, frames: &[(u64, u64)], holes: &[(u64, u64)]) -> &'static str {
        let frames = frames.iter().map(|(base, hash)| frame(*base, *hash)).collect();
        let quarantined = holes.to_vec();
        checker.recovered(LOG, ReadLog { frames, quarantined, log_start: 0, end: 3 });
        checker.violation.take().map_or("", |violation| violation.invariant)
    }

    #[test]
    fn a_harmed_batch_may_be_missing_when_it_is_named_and_no_other() {
        let mut checker = recovered();
        checker.harms(LOG, frame(1, 11));
        assert!(checker.may_be_damaged(LOG, 1) && !checker.may_be_damaged(LOG, 2));
        assert_eq!(after(&mut checker, &[(0, 10), (2, 12)], &[(1, 2)]), "");
        assert_eq!(after(&mut checker, &[(0, 10)], &[(1, 3)]), "D6", "the third is whole");
    }

    #[test]
    fn a_missing_batch_that_nothing_names_is_found() {
        let mut checker = recovered();
        checker.harms(LOG, frame(1, 11));
        assert_eq!(after(&mut checker, &[(0, 10), (2, 12)], &[]), "D3");
        let mut checker = recovered();
        checker.harms(LOG, frame(2, 12));
        let (frames, quarantined) = (vec![frame(0, 10), frame(1, 11)], Vec::new());
        checker.recovered(LOG, ReadLog { frames, quarantined, log_start: 0, end: 2 });
        assert_eq!(checker.violation.map(|one| one.invariant), Some("D1"));
    }

    #[test]
    fn a_range_without_damage_is_found() {
        let mut checker = recovered();
        let frames = vec![frame(0, 10), frame(1, 11), frame(2, 12)];
        let quarantined = vec![(3, 5)];
        checker.recovered(LOG, ReadLog { frames, quarantined, log_start: 0, end: 5 });
        assert_eq!(checker.violation.map(|one| one.invariant), Some("D6"));
    }

    #[test]
    fn swapped_blocks_may_cost_so_many_whole_batches_and_no_more() {
        let mut checker = recovered();
        checker.harms(LOG, frame(1, 11));
        checker.spares(LOG, 1);
        assert_eq!(after(&mut checker, &[(0, 10)], &[(1, 3)]), "");
        assert_eq!(after(&mut checker, &[], &[(0, 3)]), "D6");
    }

    #[test]
    fn a_lost_batch_that_was_sent_again_may_come_back_where_blocks_changed_places_alone() {
        for (spares, found) in [(1, ""), (0, "D2")] {
            let mut checker = recovered();
            checker.harms(LOG, frame(2, 12));
            checker.spares(LOG, spares);
            assert_eq!(after(&mut checker, &[(0, 10), (1, 11)], &[(2, 3)]), "");
            checker.life_begins(3);
            let again = FrameSeen { log_epoch: 2, ..frame(3, 12) };
            let frames = vec![frame(0, 10), frame(1, 11), frame(2, 12), again];
            checker.recovered(LOG, ReadLog { frames, end: 4, ..ReadLog::default() });
            let violation = checker.violation.map_or("", |violation| violation.invariant);
            assert_eq!(violation, found, "{spares} spares");
        }
    }

    #[test]
    fn the_offsets_of_a_lost_batch_are_never_given_again() {
        let mut checker = recovered();
        checker.harms(LOG, frame(2, 12));
        assert_eq!(after(&mut checker, &[(0, 10), (1, 11)], &[(2, 3)]), "");
        checker.sends(13, LOG, (7, 3, true), (1, None));
        checker.acked(13, LOG, 2);
        assert_eq!(checker.violation.take().map(|one| one.invariant), Some("D1"));
        assert_eq!(after(&mut checker, &[(0, 10), (1, 11), (2, 13)], &[]), "D1");
    }

    #[test]
    fn a_retry_of_a_damaged_batch_may_be_told_its_old_offset() {
        let mut checker = recovered();
        checker.harms(LOG, frame(2, 12));
        assert_eq!(after(&mut checker, &[(0, 10), (1, 11)], &[(2, 3)]), "");
        checker.acked(12, LOG, 2);
        assert_eq!(checker.violation, None);
    }

    /// Two batches of life 1 on a device that lies, the first of them acknowledged; life 2 finds none of
    /// them, names `holes` and ends at `end`, and life 3 finds both.
    fn back_after(holes: &[(u64, u64)], end: u64) -> Option<String> {
        let mut checker = Checker {
            rules: Rules { promises: false, quarantine: Quarantine::Anywhere },
            ..Checker::default()
        };
        checker.life_begins(1);
        checker.sends(10, LOG, (7, 0, true), (1, None));
        checker.sends(11, LOG, (7, 1, true), (1, None));
        checker.acked(10, LOG, 0);
        checker.life_begins(2);
        let quarantined = holes.to_vec();
        checker.recovered(LOG, ReadLog { quarantined, end, ..ReadLog::default() });
        checker.life_begins(3);
        let frames = vec![frame(0, 10), frame(1, 11)];
        checker.recovered(LOG, ReadLog { frames, end: 2, ..ReadLog::default() });
        let violation = checker.violation?;
        let (_, what) = violation.detail.split_once(": ")?;
        Some(format!("{}: {what}", violation.invariant))
    }

    #[test]
    fn only_an_acknowledged_batch_comes_back_from_a_range_that_was_named() {
        let found = back_after(&[(0, 2)], 2).expect("the second was never acknowledged");
        assert!(found.starts_with("D4: the batch at 1 was dropped"), "{found}");
        let found = back_after(&[], 0).expect("nothing named the first");
        assert!(found.starts_with("D4: the batch at 0 was dropped"), "{found}");
    }
}
