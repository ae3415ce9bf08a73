//! Ranges that the broker names damaged, held against what can be read there now.
//! Owner: the verifier of one log.
//! Invariant: what the broker does not serve is told, whether a record stands there or none.
//! Not here: damage that a scan finds (`verdict.rs`); who names a range first (`recover.rs`, `cold.rs`).

use crate::event::QuarantineFacts;
use crate::finding::{Finding, FindingKind};
use crate::life_table::LifeTable;
use crate::quarantine::Quarantine;
use crate::verdict::given_up;
use std::ops::Range;

/// The ranges of one log, and the readable offsets in them.
#[derive(Debug)]
pub(crate) struct Named {
    ranges: Vec<Finding>,
    /// In order, never touching each other.
    readable: Vec<Range<u64>>,
}

impl Named {
    /// The list decides, as it does at a start. Without one that can be read every recorded gap counts: a list
    /// that is there and does not name one knows that it was given up for good.
    pub(crate) fn new(list: Option<&[u8]>, table: Option<&LifeTable>, log_start: u64) -> Named {
        let kind = FindingKind::GivenUp;
        let mut ranges: Vec<Finding> = match list.and_then(Quarantine::open) {
            Some(list) => {
                let range = |range: QuarantineFacts| Finding {
                    kind,
                    segment: range.segment,
                    position: range.position,
                    until_position: range.until_position,
                    offset: range.from.max(log_start),
                    until: range.to,
                };
                list.facts().into_iter().map(range).collect()
            }
            None => {
                let gaps = table.into_iter().flat_map(|table| given_up(table, log_start));
                gaps.map(|range| Finding { kind, ..Finding::from(&range) }).collect()
            }
        };
        ranges.retain(|range| range.offset < range.until);
        Named { ranges, readable: Vec::new() }
    }

    /// The next readable frame.
    pub(crate) fn readable(&mut self, frame: Range<u64>) {
        if !self.ranges.iter().any(|range| range.offset < frame.end && frame.start < range.until) {
            return;
        }
        match self.readable.last_mut() {
            Some(last) if last.end == frame.start => last.end = frame.end,
            Some(_) | None => self.readable.push(frame),
        }
    }

    /// What is left of the ranges below `next` besides the damage that was `found`.
    pub(crate) fn findings(&self, found: &[Finding], next: u64) -> Vec<Finding> {
        let damaged = found.iter().filter(|finding| finding.is_damage());
        let mut damaged: Vec<_> = damaged.map(|finding| finding.offset..finding.until).collect();
        damaged.sort_unstable_by_key(|range| range.start);
        let mut findings = Vec::new();
        for range in &self.ranges {
            for piece in outside(&(range.offset..range.until.min(next)), &damaged) {
                let lost = outside(&piece, &self.readable);
                let unserved = outside(&piece, &lost);
                let kinds = [(FindingKind::GivenUp, lost), (FindingKind::Unserved, unserved)];
                for (kind, pieces) in kinds {
                    findings.extend(pieces.into_iter().map(|piece| Finding {
                        kind,
                        offset: piece.start,
                        until: piece.end,
                        ..*range
                    }));
                }
            }
        }
        findings
    }
}

/// The parts of `range` that lie in none of `holes`, which come in order of their starts.
fn outside(range: &Range<u64>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut from, mut parts) = (range.start, Vec::new());
    for hole in holes {
        let end = hole.start.min(range.end);
        if from < end {
            parts.push(from..end);
        }
        from = from.max(hole.end);
    }
    if from < range.end {
        parts.push(from..range.end);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_range_lies_outside_all_holes() {
        let parts = |range: Range<u64>, holes: &[(u64, u64)]| -> Vec<(u64, u64)> {
            let holes: Vec<_> = holes.iter().map(|(from, to)| *from..*to).collect();
            outside(&range, &holes).into_iter().map(|part| (part.start, part.end)).collect()
        };
        assert_eq!(parts(3..9, &[]), [(3, 9)]);
        let holes = [(0, 4), (5, 6), (5, 7), (8, 20), (30, 40)];
        assert_eq!(parts(3..9, &holes), [(4, 5), (7, 8)]);
        assert_eq!(parts(3..9, &[(0, 9)]), []);
        assert_eq!(parts(9..9, &[]), []);
    }

    #[test]
    fn without_a_list_every_recorded_gap_is_named_and_with_one_only_what_it_names() {
        let mut table = LifeTable::default();
        table.push(1, 0, 0);
        table.push(2, 20, 15);
        table.push(3, 40, 30);
        let told = |named: &Named, found: &[Finding]| -> Vec<_> {
            let findings = named.findings(found, 100);
            findings.iter().map(|one| (one.kind, one.offset, one.until)).collect()
        };
        let gap = |from, to| (FindingKind::GivenUp, from, to);
        let lost = Named::new(Some(b"rubbish"), Some(&table), 17);
        assert_eq!(told(&lost, &[]), [gap(17, 20), gap(30, 40)]);
        let known = Finding { offset: 30, until: 40, ..lost.ranges[0] };
        assert_eq!(told(&lost, &[known]), [gap(17, 20)]);
        let given_up = Quarantine::default().encode();
        assert_eq!(told(&Named::new(Some(&given_up), Some(&table), 0), &[]), []);
    }

    #[test]
    fn readable_records_of_a_named_range_are_told_apart_from_lost_ones() {
        let mut table = LifeTable::default();
        table.push(1, 0, 0);
        table.push(2, 20, 10);
        let mut named = Named::new(None, Some(&table), 0);
        for frame in [5..12, 12..13, 16..18, 20..30] {
            named.readable(frame);
        }
        let findings = named.findings(&[], 19);
        let told: Vec<_> = findings.iter().map(|one| (one.kind, one.offset, one.until)).collect();
        let (lost, unserved) = (FindingKind::GivenUp, FindingKind::Unserved);
        assert_eq!(told, [(lost, 13, 16), (lost, 18, 19), (unserved, 10, 13), (unserved, 16, 18)]);
    }
}
