//! Damage at rest: what a medium does to bytes that were durable once.
//! Owner: `File`.
//! Invariant: only bytes below the size change; no write pends on the file.
//! Not here: what is damaged when (`rot.rs`, `damage.rs`).

use super::{File, PAGE};
use std::sync::Arc;

impl File {
    /// Bytes become others, durably.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        let end = bytes.len().min(self.size.saturating_sub(at));
        self.store(at, &bytes[..end]);
    }

    /// The file ends earlier, durably.
    pub fn end_early(&mut self, size: usize) {
        self.resize(self.size.min(size), true);
        // Should it grow again, the rest of its last page reads as zeros.
        let tail = self.size % PAGE;
        if tail > 0
            && let Some(Some(page)) = self.pages.get_mut(self.size / PAGE)
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
    }

    /// The page that holds `at` cannot be read any more.
    pub fn spoil(&mut self, at: usize) {
        self.unreadable.insert(at / PAGE);
    }

    /// Whether every byte of a read is there.
    #[must_use]
    pub fn is_readable(&self, at: usize, len: usize) -> bool {
        let pages = at / PAGE..(at + len.min(self.size.saturating_sub(at))).div_ceil(PAGE);
        self.unreadable.is_empty() || self.unreadable.range(pages).all(|page| self.is_cached(*page))
    }

    /// Whether the device holds a page whole that is not on the medium yet.
    fn is_cached(&self, page: usize) -> bool {
        let (from, to) = (page * PAGE, (page + 1) * PAGE);
        let completed = self.pending.iter().filter(|write| write.completed.is_some());
        completed
            .map(|write| (write.at, write.at + write.bytes.len()))
            .any(|(at, end)| at <= from && to <= end)
    }
}
