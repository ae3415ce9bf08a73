//! What was acknowledged and what was read back, per producer and partition; and what that proves.

use crate::ranges::Ranges;
use std::collections::BTreeMap;

/// One producer on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    /// Run of the generator.
    pub(crate) run: u32,
    /// Producer of that run.
    pub(crate) producer: u32,
    /// Partition.
    pub(crate) partition: u32,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Acknowledged and never read.
    pub(crate) lost: u64,
    /// Read more than once.
    pub(crate) duplicated: u64,
    /// Read after a later one of the same lane.
    pub(crate) reordered: u64,
    /// Bytes do not fit their checksum, in a record or its batch.
    pub(crate) corrupt: u64,
    /// Log offsets skipped between two batches.
    pub(crate) offset_gaps: u64,
    /// Read, of another run.
    pub(crate) foreign: u64,
}

impl Verdict {
    /// Whether the server kept its word.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.corrupt + self.offset_gaps == 0
    }

    /// Adds another reader's findings.
    pub(crate) fn add(&mut self, other: &Verdict) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.offset_gaps += other.offset_gaps;
        self.foreign += other.foreign;
    }
}

/// Records of one reader.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    seen: BTreeMap<Lane, Ranges>,
    /// Findings so far; `lost` only after [`Ledger::settle`].
    pub(crate) verdict: Verdict,
    /// Distinct records of the run checked.
    pub(crate) distinct: u64,
}

impl Ledger {
    /// A sound record was read.
    pub(crate) fn read(&mut self, lane: Lane, seq: u64) {
        let ranges = self.seen.entry(lane).or_default();
        let late = seq < ranges.end();
        if !ranges.insert(seq) {
            self.verdict.duplicated += 1;
            return;
        }
        self.distinct += 1;
        if late {
            self.verdict.reordered += 1;
        }
    }

    /// Counts what of `acked` was never read.
    pub(crate) fn settle(&mut self, acked: &BTreeMap<Lane, Ranges>) {
        let nothing = Ranges::default();
        self.verdict.lost = acked
            .iter()
            .map(|(lane, acked)| acked.missing_from(self.seen.get(lane).unwrap_or(&nothing)))
            .sum();
    }

    /// Without knowing what was acknowledged: holes between the first and the last record of each lane
    /// count as lost. A producer that had records refused leaves such holes too.
    pub(crate) fn settle_holes(&mut self) {
        self.verdict.lost = self.seen.values().map(Ranges::holes).sum();
    }

    /// Takes over another reader's records; their partitions are disjoint.
    pub(crate) fn merge(&mut self, other: Ledger) {
        self.verdict.add(&other.verdict);
        self.distinct += other.distinct;
        self.seen.extend(other.seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane { run: 1, producer: 2, partition: 3 };

    fn acked(upto: u64) -> BTreeMap<Lane, Ranges> {
        let mut ranges = Ranges::default();
        ranges.insert_run(0, upto);
        BTreeMap::from([(LANE, ranges)])
    }

    fn read(seqs: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        for &seq in seqs {
            ledger.read(LANE, seq);
        }
        ledger
    }

    #[test]
    fn all_read_once_in_order_is_clean() {
        let mut ledger = read(&[0, 1, 2, 3]);
        ledger.settle(&acked(3));
        assert_eq!(ledger.verdict, Verdict::default());
        assert!(ledger.verdict.is_clean());
        assert_eq!(ledger.distinct, 4);
    }

    #[test]
    fn lost_duplicated_and_reordered_are_told_apart() {
        let mut ledger = read(&[0, 1, 4, 2, 4, 0]);
        ledger.settle(&acked(7));
        let verdict = ledger.verdict;
        assert_eq!((verdict.lost, verdict.duplicated, verdict.reordered), (3, 2, 1));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_lane_never_read_is_lost_whole() {
        let mut ledger = Ledger::default();
        ledger.settle(&acked(7));
        assert_eq!(ledger.verdict.lost, 7);
    }

    #[test]
    fn holes_count_without_acknowledgements() {
        let mut ledger = read(&[5, 6, 9]);
        ledger.settle_holes();
        assert_eq!(ledger.verdict.lost, 2);
    }
}
