//! Cuts and crashes whose outcome is chosen piece by piece instead of drawn.
//! Owner: `File`.
//! Invariant: the same pieces, asked in the same order, give the same file.
//! Not here: which outcomes are tried (`enumerate.rs`).

use super::{File, SECTOR};
use crate::rng::{hash_bytes, mix};

impl File {
    /// Pieces of it that power may take or leave: its size, and every unflushed write in pieces of
    /// `unit` sectors.
    #[must_use]
    pub fn chances(&self, unit: usize) -> usize {
        let pieces = |bytes: usize| bytes.div_ceil(unit * SECTOR);
        let writes = self.pending.iter().map(|write| pieces(write.bytes.len())).sum::<usize>();
        usize::from(self.size != self.durable_size) + writes
    }

    /// Power goes: a piece survives where `keep` says so.
    pub fn cut_by(&mut self, unit: usize, keep: &mut dyn FnMut() -> bool) {
        if self.size != self.durable_size {
            if keep() {
                self.settle_size();
            }
            self.size = self.durable_size;
        }
        let mut writes = std::mem::take(&mut self.pending);
        writes.sort_by_key(|write| write.completed.unwrap_or(u64::MAX));
        for write in writes {
            for (index, piece) in write.bytes.chunks(unit * SECTOR).enumerate() {
                if keep() {
                    self.store(write.at + index * unit * SECTOR, piece);
                }
            }
        }
    }

    /// Writes in flight, which a dying process leaves to chance.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.iter().filter(|write| write.completed.is_none()).count()
    }

    /// The process dies: a write in flight still lands where `keep` says so, volatile like all of them.
    pub fn crash_by(&mut self, order: &mut u64, keep: &mut dyn FnMut() -> bool) {
        self.pending.retain_mut(|write| {
            if write.completed.is_some() {
                return true;
            }
            write.completed = Some(*order);
            *order += 1;
            keep()
        });
    }

    /// Folds everything that a later process or cut can see of it into a hash.
    #[must_use]
    pub fn fingerprint(&self, hash: u64) -> u64 {
        let mut hash = mix(mix(hash, self.size as u64), self.durable_size as u64);
        for (index, page) in self.pages.iter().enumerate() {
            if let Some(page) = page.as_deref().filter(|page| page.iter().any(|byte| *byte != 0)) {
                hash = mix(hash_bytes(hash, page), index as u64);
            }
        }
        for write in &self.pending {
            hash = hash_bytes(mix(hash, write.at as u64), &write.bytes);
        }
        hash
    }
}
