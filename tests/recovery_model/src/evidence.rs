//! With which header behind a break a log goes on, although blocks may lie in wrong places.
//! Owner: one look ahead of a scan.
//! Invariant: without misplaced blocks the longest chain is all headers, and it begins with the smallest offset.
//! Not here: what is evidence at all (`scan.rs`).

use crate::mutants::Mutant;
use crate::scan::Placed;

/// A chain of rising offsets: its first header, and the offset and life of its last.
#[derive(Clone, Copy, Debug)]
struct Chain {
    first: Placed,
    last: u64,
    epoch: u32,
}

/// For each length the chain of rising offsets that ends lowest.
#[derive(Clone, Debug, Default)]
pub struct Chains(Vec<Chain>);

impl Chains {
    /// The next piece of evidence, by place.
    pub fn add(&mut self, placed: Placed) {
        let (last, epoch) = (placed.head.base, placed.head.epoch);
        let shorter = self.0.partition_point(|chain| chain.last < last);
        let claimed = shorter == 1 && placed.position < self.0[0].first.end();
        let (at, first) = match shorter {
            0 => (0, placed),
            // The bytes in which it lies are not those of the header that claims them.
            1 if claimed => (0, placed),
            _ => (shorter, self.0[shorter - 1].first),
        };
        let new = Chain { first, last, epoch };
        match self.0.get_mut(at) {
            Some(old) if old.last == last && old.epoch > epoch => {}
            Some(old) => *old = new,
            None => self.0.push(new),
        }
    }

    /// The first header of the longest chain.
    pub fn best(&self, mutant: Mutant) -> Option<Placed> {
        let longest = if mutant == Mutant::SmallestOffset { self.0.first() } else { self.0.last() };
        longest.map(|chain| chain.first)
    }
}
