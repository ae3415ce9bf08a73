//! The life table of a log: which log_epoch owns which offsets (reliability.md 3.2).
//! Owner: `Log`; recovery works on a copy.
//! Invariant: starts rise strictly, epochs never fall; a new life replaces every entry at or above its start.
//! Not here: Kafka's leader epochs (`partition`).

/// One life that appended, or one truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) epoch: u32,
    pub(crate) start: u64,
    /// Where the log ended before: `[previous_end, start)` is a recorded gap.
    pub(crate) previous_end: u64,
}

impl Life {
    fn ends_gap(&self, o: u64, base: u64) -> bool {
        self.start == base && self.start > o && self.previous_end <= o
    }
}

/// Lives in order of start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifeTable(Vec<Life>);

impl LifeTable {
    pub(crate) fn from_lives(lives: Vec<Life>) -> LifeTable {
        LifeTable(lives)
    }

    pub(crate) fn lives(&self) -> &[Life] {
        &self.0
    }

    pub(crate) fn last_epoch(&self) -> u32 {
        self.0.last().map_or(0, |life| life.epoch)
    }

    pub(crate) fn greatest_epoch(&self) -> u32 {
        self.0.iter().map(|life| life.epoch).max().unwrap_or(0)
    }

    /// A new life from `start` on; what other lives wrote there is stale from now on.
    pub(crate) fn push(&mut self, epoch: u32, start: u64, previous_end: u64) {
        let same = self.0.iter().filter(|life| life.start == start);
        let end = same.map(|life| life.previous_end).min().unwrap_or(previous_end);
        self.0.retain(|life| life.start < start);
        self.0.push(Life { epoch, start, previous_end: end.min(previous_end) });
    }

    /// What was found from `first` on decides: these gaps, each its start, the end before it and the life behind
    /// it, and no others. A life that has nothing outside of them is forgotten, so that gaps never overlap.
    pub(crate) fn with_gaps(mut self, first: u64, gaps: &[(u64, u64, u32)]) -> LifeTable {
        let lost =
            |life: &Life| gaps.iter().any(|(to, from, _)| (*from..*to).contains(&life.start));
        self.0.retain(|life| !lost(life));
        for life in self.0.iter_mut().filter(|life| life.start > first) {
            life.previous_end = life.start;
        }
        for (start, previous_end, epoch) in gaps {
            let life = Life { epoch: *epoch, start: *start, previous_end: *previous_end };
            let at = self.0.partition_point(|life| life.start < *start);
            match self.0.get_mut(at).filter(|known| known.start == *start) {
                Some(known) => *known = life,
                None => self.0.insert(at, life),
            }
        }
        self
    }

    /// Whether a frame of `epoch` may stand at `base`; `floor` is the epoch of the frame before it.
    pub(crate) fn allows(&self, base: u64, epoch: u32, floor: u32) -> bool {
        if epoch < floor {
            return false;
        }
        let Some(owner) = self.0.iter().rev().find(|life| life.start <= base) else {
            return true;
        };
        let is_last = self.0.iter().all(|life| life.start <= owner.start);
        epoch == owner.epoch || (is_last && epoch > owner.epoch)
    }

    /// Whether the offsets from `o` to `base` were never given to anybody, says the table.
    pub(crate) fn is_gap(&self, o: u64, base: u64, epoch: u32) -> bool {
        self.0.iter().any(|life| life.epoch == epoch && life.ends_gap(o, base))
    }

    /// Whether a recorded gap goes from `o` to `base`, whoever goes on behind it.
    pub(crate) fn ends_gap(&self, o: u64, base: u64) -> bool {
        self.0.iter().any(|life| life.ends_gap(o, base))
    }

    /// Where the recorded gap that holds `offset` ends.
    pub(crate) fn gap_at(&self, offset: u64) -> Option<u64> {
        let life = self.0.get(self.0.partition_point(|life| life.start <= offset))?;
        (life.previous_end <= offset).then_some(life.start)
    }

    /// Whether some life could start a recorded gap's far side at `base`.
    pub(crate) fn starts_at(&self, base: u64) -> bool {
        self.0.iter().any(|life| life.start == base)
    }

    /// Whether a life later than `epoch` began below `offset`: what stood there then is gone.
    pub(crate) fn undone(&self, epoch: u32, offset: u64) -> bool {
        self.0.iter().any(|life| life.epoch > epoch && life.start < offset)
    }

    /// Forgets lives that lie wholly below the log start.
    pub(crate) fn trim(&mut self, log_start: u64) {
        let keep = self.0.iter().rposition(|life| life.start <= log_start).unwrap_or(0);
        self.0.drain(..keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_life_replaces_what_lies_above_its_start() {
        let mut table = LifeTable::default();
        table.push(1, 0, 0);
        table.push(2, 10, 10);
        table.push(3, 20, 18);
        table.push(4, 10, 12);
        let starts: Vec<_> = table.lives().iter().map(|life| (life.epoch, life.start)).collect();
        assert_eq!(starts, [(1, 0), (4, 10)]);
        assert_eq!(table.lives()[1].previous_end, 10, "the smallest previous end stays");
    }

    #[test]
    fn an_epoch_is_stale_outside_its_life() {
        let mut table = LifeTable::default();
        table.push(1, 0, 0);
        table.push(3, 10, 10);
        assert!(table.allows(5, 1, 0) && table.allows(10, 3, 1) && table.allows(12, 4, 3));
        assert!(!table.allows(10, 1, 1) && !table.allows(5, 3, 1) && !table.allows(12, 2, 1));
        assert!(!table.allows(12, 3, 4), "epochs never fall");
    }

    #[test]
    fn only_a_recorded_gap_is_a_gap() {
        let mut table = LifeTable::default();
        table.push(1, 0, 0);
        table.push(2, 20, 15);
        assert!(table.is_gap(15, 20, 2) && table.is_gap(17, 20, 2));
        assert!(!table.is_gap(14, 20, 2) && !table.is_gap(15, 20, 1) && !table.is_gap(15, 21, 2));
        let ends = [14, 15, 19, 20].map(|offset| table.gap_at(offset));
        assert_eq!(ends, [None, Some(20), Some(20), None]);
    }

    #[test]
    fn trimming_keeps_the_life_that_owns_the_start() {
        let mut table = LifeTable::default();
        table.push(1, 0, 0);
        table.push(2, 10, 10);
        table.push(3, 20, 20);
        table.trim(15);
        assert_eq!(table.lives().len(), 2);
        assert!(table.allows(15, 2, 0));
    }
}
