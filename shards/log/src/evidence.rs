//! With which header behind a break a log goes on, although blocks may have come to lie in wrong places.
//! Owner: one look ahead of a scan.
//! Invariant: of headers in the order of their places, the longest row of rising offsets counts; without
//! misplaced blocks that is all of them, and it begins with the smallest offset.
//! Not here: what is evidence at all (`verdict.rs`).

use crate::scan::Placed;
use std::collections::VecDeque;

/// Rows remembered, the longest ones: more headers than this out of place in one stretch can hide what follows.
const ROWS_MAX: usize = 256;

/// Of all rows of one length, the one that ends with the smallest offset: the easiest to go on with.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: Placed,
    last: Placed,
}

/// The longest rows of rising offsets behind one break, by length: the longest increasing subsequence as
/// patience sorting finds it (Schensted 1961).
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// Each one header longer than the one before; their last offsets rise too.
    rows: VecDeque<Row>,
    /// Rows shorter than these were forgotten.
    forgotten: bool,
}

impl Rows {
    /// The next piece of evidence, by place.
    pub(crate) fn add(&mut self, placed: Placed) {
        let base = placed.head.base_offset;
        let at = self.rows.partition_point(|row| row.last.head.base_offset < base);
        let Some(before) = at.checked_sub(1) else {
            if !self.forgotten {
                self.put(0, Row { first: placed, last: placed });
            }
            return;
        };
        if before == 0 && !self.forgotten && placed.position < self.rows[0].first.end() {
            // A header inside the bytes that the first one claims: those are not its own.
            self.put(0, Row { first: placed, last: placed });
        } else {
            self.put(at, Row { first: self.rows[before].first, last: placed });
        }
    }

    fn put(&mut self, at: usize, row: Row) {
        match self.rows.get_mut(at) {
            // Of two lives at one offset the later one counts; of a copy and what stands behind it, the latter.
            Some(known) => {
                let (old, new) = (&known.last.head, &row.last.head);
                let stale = old.base_offset == new.base_offset && old.log_epoch > new.log_epoch;
                *known = if stale { *known } else { row };
            }
            None => {
                if self.rows.len() == ROWS_MAX {
                    self.rows.pop_front();
                    self.forgotten = true;
                }
                self.rows.push_back(row);
            }
        }
    }

    /// Where the log goes on: the first header of the longest row.
    pub(crate) fn best(&self) -> Option<Placed> {
        self.rows.back().map(|row| row.first)
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
        let mut rows = Rows::default();
        for (at, base) in (0u64..).zip(bases) {
            rows.add(placed(at, *base));
        }
        rows.best().map(|placed| placed.head.base_offset)
    }

    #[test]
    fn one_row_begins_with_the_smallest_offset() {
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
        let mut rows = Rows::default();
        let mut wide = placed(0, 4);
        wide.head.frame_len = 6_000;
        for one in [wide, placed(1, 5), placed(2, 6)] {
            rows.add(one);
        }
        assert_eq!(rows.best().map(|placed| placed.head.base_offset), Some(5));
    }

    #[test]
    fn blocks_that_lie_too_early_inside_each_other_hide_nothing() {
        assert_eq!(best(&[93, 95, 20, 21, 109, 28, 29, 30, 110]), Some(20));
        assert_eq!(best(&[93, 95, 20, 21, 109, 28, 0, 1, 29, 30, 97, 31, 110]), Some(20));
    }

    #[test]
    fn of_two_lives_at_one_offset_the_later_one_counts() {
        for epochs in [[3, 5], [5, 3]] {
            let mut rows = Rows::default();
            for (at, log_epoch) in (0u64..).zip(epochs) {
                let mut one = placed(at, 7);
                one.head.log_epoch = log_epoch;
                rows.add(one);
            }
            assert_eq!(rows.best().map(|placed| placed.head.log_epoch), Some(5));
        }
    }

    #[test]
    fn a_segment_of_headers_takes_bounded_memory_and_keeps_its_first() {
        let mut rows = Rows::default();
        (0..100_000).for_each(|at| rows.add(placed(at, 50 + at)));
        rows.add(placed(100_000, 3));
        assert_eq!(rows.best().map(|placed| placed.head.base_offset), Some(50));
        assert!(rows.rows.len() <= ROWS_MAX);
    }

    #[test]
    fn of_a_copy_and_its_source_the_source_counts() {
        let mut rows = Rows::default();
        for (at, base) in (0u64..).zip([5u64, 6, 7, 5, 6, 7, 8]) {
            rows.add(placed(at, base));
        }
        assert_eq!(rows.best().map(|placed| placed.position), Some(3 * 4096));
    }
}
