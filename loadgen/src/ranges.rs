//! A set of numbers kept as ranges: sequences arrive nearly in order, so it stays tiny.

use std::collections::BTreeMap;

/// Numbers seen so far, as disjoint half-open ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    by_start: BTreeMap<u64, u64>,
    count: u64,
}

impl Ranges {
    /// One above the greatest number; 0 when empty.
    pub(crate) fn end(&self) -> u64 {
        self.by_start.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// How many numbers between the least and the greatest are not there.
    pub(crate) fn holes(&self) -> u64 {
        let start = self.by_start.first_key_value().map_or(0, |(start, _)| *start);
        self.end() - start - self.count
    }

    /// Adds `n`; false if it was there already.
    pub(crate) fn insert(&mut self, n: u64) -> bool {
        if let Some(mut last) = self.by_start.last_entry()
            && *last.get() == n
        {
            *last.get_mut() = n + 1;
            self.count += 1;
            return true;
        }
        let before = self.by_start.range(..=n).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| n < end) {
            return false;
        }
        let end = self.by_start.remove(&(n + 1)).unwrap_or(n + 1);
        match before {
            Some((start, old_end)) if old_end == n => self.by_start.insert(start, end),
            Some(_) | None => self.by_start.insert(n, end),
        };
        self.count += 1;
        true
    }

    /// Adds `from..to`, of which nothing is there yet.
    pub(crate) fn insert_run(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        assert!(from >= self.end(), "runs come in order: {from} after {}", self.end());
        self.count += to - from;
        if let Some(mut last) = self.by_start.last_entry()
            && *last.get() == from
        {
            *last.get_mut() = to;
            return;
        }
        self.by_start.insert(from, to);
    }

    /// How many of these numbers `other` lacks.
    pub(crate) fn missing_from(&self, other: &Ranges) -> u64 {
        let mut missing = 0;
        for (&start, &end) in &self.by_start {
            let before = other.by_start.range(..start).next_back();
            let inside = other.by_start.range(start..end);
            let covered: u64 = before
                .into_iter()
                .chain(inside)
                .map(|(&s, &e)| e.min(end).saturating_sub(s.max(start)))
                .sum();
            missing += end - start - covered;
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Ranges {
        let mut ranges = Ranges::default();
        for &n in numbers {
            ranges.insert(n);
        }
        ranges
    }

    #[test]
    fn numbers_in_any_order_become_one_range() {
        let ranges = of(&[0, 1, 5, 3, 2, 4, 6]);
        assert_eq!(ranges.by_start, BTreeMap::from([(0, 7)]));
        assert_eq!((ranges.count, ranges.end()), (7, 7));
    }

    #[test]
    fn a_number_comes_only_once() {
        let mut ranges = of(&[0, 1, 2, 9]);
        assert!(!ranges.insert(1));
        assert!(!ranges.insert(9));
        assert!(ranges.insert(5));
        assert_eq!(ranges.count, 5);
    }

    #[test]
    fn missing_counts_what_the_other_lacks() {
        let mut acked = Ranges::default();
        acked.insert_run(0, 10);
        acked.insert_run(20, 30);
        assert_eq!(acked.missing_from(&of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])), 10);
        let received = of(&[1, 2, 3, 9, 10, 11, 25, 29, 30]);
        assert_eq!(acked.missing_from(&received), 20 - 6);
        assert_eq!(acked.missing_from(&acked), 0);
        assert_eq!(Ranges::default().missing_from(&acked), 0);
    }

    #[test]
    fn ranges_agree_with_a_plain_set() {
        let mut state = 88_172_645_463_325_252u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..200 {
            let mut set = std::collections::BTreeSet::new();
            let mut ranges = Ranges::default();
            for _ in 0..60 {
                let n = random(50);
                assert_eq!(ranges.insert(n), set.insert(n), "{n}");
            }
            assert_eq!(ranges.count, set.len() as u64);
            let from = random(30);
            let mut asked = Ranges::default();
            asked.insert_run(from, from + 15);
            let missing = (from..from + 15).filter(|n| !set.contains(n)).count();
            assert_eq!(asked.missing_from(&ranges), missing as u64);
        }
    }
}
