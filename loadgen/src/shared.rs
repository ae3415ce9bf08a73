//! What the threads of a run tell one another: producers left, records to wait for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Producers not yet finished.
    pub(crate) producers_left: AtomicUsize,
    expected: Vec<AtomicU64>,
}

impl Shared {
    /// Nothing expected yet.
    pub(crate) fn new(producers: usize, partitions: usize) -> Shared {
        Shared {
            producers_left: AtomicUsize::new(producers),
            expected: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A reader of `partition` has `records` more to wait for.
    pub(crate) fn expect(&self, partition: u32, records: u64) {
        if let Some(expected) = self.at(partition) {
            expected.fetch_add(records, Ordering::AcqRel);
        }
    }

    /// Records a reader of `partition` has to wait for.
    pub(crate) fn expected(&self, partition: u32) -> u64 {
        self.at(partition).map_or(0, |expected| expected.load(Ordering::Acquire))
    }

    fn at(&self, partition: u32) -> Option<&AtomicU64> {
        self.expected.get(usize::try_from(partition).unwrap_or(usize::MAX))
    }
}
