//! Deadlines of rows: which comes first, without a timer per row.
//! Owner: whoever owns the rows.
//! Invariant: an entry whose row is gone or was used again never fires and never wakes anybody.
//! Not here: clocks (`runtime`, `sim`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A row and which use of it: a slot that was given to another row has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowUse {
    pub(crate) row: u32,
    pub(crate) generation: u32,
}

/// A heap of deadlines with lazy removal.
#[derive(Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(u64, RowUse)>>,
}

impl Deadlines {
    /// Adds one; `live` counts the rows alive, to bound what dead entries may occupy.
    pub(crate) fn insert(
        &mut self,
        at_ns: u64,
        row: RowUse,
        live: usize,
        is_live: impl Fn(RowUse) -> bool,
    ) {
        if self.heap.len() > 2 * live + 64 {
            self.heap.retain(|Reverse((_, row))| is_live(*row));
        }
        self.heap.push(Reverse((at_ns, row)));
    }

    /// The next live row whose deadline is not after `now_ns`.
    pub(crate) fn due(&mut self, now_ns: u64, is_live: impl Fn(RowUse) -> bool) -> Option<RowUse> {
        while let Some(Reverse((at_ns, row))) = self.heap.peek().copied() {
            let live = is_live(row);
            if live && at_ns > now_ns {
                return None;
            }
            self.heap.pop();
            if live {
                return Some(row);
            }
        }
        None
    }

    /// When the first live row is due.
    pub(crate) fn next_ns(&mut self, is_live: impl Fn(RowUse) -> bool) -> Option<u64> {
        while let Some(Reverse((at_ns, row))) = self.heap.peek().copied() {
            if is_live(row) {
                return Some(at_ns);
            }
            self.heap.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: u32) -> RowUse {
        RowUse { row, generation: 0 }
    }

    #[test]
    fn rows_come_due_in_order_and_dead_ones_never() {
        let mut deadlines = Deadlines::default();
        for (at, number) in [(30, 3), (10, 1), (20, 2)] {
            deadlines.insert(at, row(number), 3, |_| true);
        }
        let alive = |use_: RowUse| use_.row != 1;
        assert_eq!(deadlines.next_ns(alive), Some(20));
        assert_eq!(deadlines.due(19, alive), None);
        assert_eq!(deadlines.due(30, alive), Some(row(2)));
        assert_eq!(deadlines.due(30, alive), Some(row(3)));
        assert_eq!(deadlines.next_ns(alive), None);
    }

    #[test]
    fn dead_entries_are_bounded_by_the_live_ones() {
        let mut deadlines = Deadlines::default();
        for number in 0..10_000 {
            deadlines.insert(u64::MAX, row(number), 1, |use_| use_.row + 1 > number);
        }
        assert!(deadlines.heap.len() <= 67, "{}", deadlines.heap.len());
    }
}
