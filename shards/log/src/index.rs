//! Sparse index of one segment: offset and time to a position from which a reader walks headers.
//! Owner: `Segment`.
//! Invariant: an entry names the start of a frame; `times` of entries never fall. Never evidence: what it leads to is checked.
//! Not here: reading (`cold.rs`). Nothing of it is written beside segments (no `.idx` files): thinned
//! entries go into the snapshot, the rest is rebuilt by walking headers.

/// Distance of entries in the active segment, bytes.
pub(crate) const STRIDE_BYTES: u64 = 4096;
/// Entries kept of a sealed segment: 4 KiB of memory each.
pub(crate) const SEALED_ENTRIES_MAX: usize = 256;
/// Entries of a sealed segment in a snapshot.
pub(crate) const SNAPSHOT_ENTRIES_MAX: usize = 32;

/// A frame's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    /// Greatest timestamp of all frames of this segment before this one.
    pub(crate) time_before: i64,
}

/// The entries, by offset, position and time at once.
#[derive(Clone, Debug)]
pub(crate) struct SparseIndex {
    entries: Vec<IndexEntry>,
    /// Greatest timestamp seen so far.
    max_time: i64,
    stride: u64,
    next_at: u64,
}

impl Default for SparseIndex {
    fn default() -> SparseIndex {
        SparseIndex {
            entries: Vec::new(),
            max_time: i64::MIN,
            stride: STRIDE_BYTES,
            next_at: STRIDE_BYTES,
        }
    }
}

impl SparseIndex {
    /// Tells of a frame, in order.
    pub(crate) fn note(&mut self, offset: u64, position: u64, max_timestamp: i64) {
        if position >= self.next_at {
            self.next_at = position - position % self.stride + self.stride;
            self.entries.push(IndexEntry { offset, position, time_before: self.max_time });
        }
        self.max_time = self.max_time.max(max_timestamp);
    }

    /// The last entry not above `offset`; none: the segment's start.
    pub(crate) fn floor(&self, offset: u64) -> Option<IndexEntry> {
        let at = self.entries.partition_point(|entry| entry.offset <= offset);
        at.checked_sub(1).map(|at| self.entries[at])
    }

    /// The first entry above `offset`; none: the segment's end.
    pub(crate) fn ceiling(&self, offset: u64) -> Option<IndexEntry> {
        let at = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(at).copied()
    }

    /// The last entry before which every timestamp is below `at_ms`.
    pub(crate) fn floor_time(&self, at_ms: i64) -> Option<IndexEntry> {
        let at = self.entries.partition_point(|entry| entry.time_before < at_ms);
        at.checked_sub(1).map(|at| self.entries[at])
    }

    /// Forgets frames at or above `offset`.
    pub(crate) fn truncate(&mut self, offset: u64, position: u64) {
        self.entries.retain(|entry| entry.offset < offset);
        self.next_at = position - position % self.stride + self.stride;
    }

    /// Keeps at most `max` entries, evenly.
    pub(crate) fn thin(&mut self, max: usize) {
        self.entries = self.thinned(max);
        self.entries.shrink_to_fit();
    }

    /// At most `max` entries, evenly spread.
    pub(crate) fn thinned(&self, max: usize) -> Vec<IndexEntry> {
        let step = self.entries.len().div_ceil(max.max(1)).max(1);
        self.entries.iter().step_by(step).copied().collect()
    }

    /// From a snapshot.
    pub(crate) fn from_entries(
        entries: Vec<IndexEntry>,
        max_time: i64,
        position: u64,
    ) -> SparseIndex {
        let next_at = position - position % STRIDE_BYTES + STRIDE_BYTES;
        SparseIndex { entries, max_time, stride: STRIDE_BYTES, next_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_leads_to_a_frame_at_or_before_what_is_sought() {
        let mut index = SparseIndex::default();
        for frame in 0u64..1000 {
            let time = if frame % 2 == 0 { i64::try_from(frame).unwrap_or(0) } else { 0 };
            index.note(frame * 3, frame * 300, time);
        }
        for thin in [false, true] {
            if thin {
                index.thin(16);
                assert!(index.entries.len() <= 16);
            }
            for offset in 0..3000 {
                let floor =
                    index.floor(offset).map_or((0, 0), |entry| (entry.offset, entry.position));
                assert!(floor.0 <= offset && floor.1 == floor.0 * 100);
                assert!(thin || offset - floor.0 < 3 * 16);
            }
            let floor = index.floor_time(500).map_or(0, |entry| entry.offset);
            assert!(floor <= 1500, "frame 500 is the first with that time");
        }
    }
}
