//! One segment of a log: its file, its facts, its index, and how far ahead it is allocated.
//! Owner: `Log`.
//! Invariant: `file_bytes` is durable size; nothing is written beyond it.
//! Not here: making and rolling segments (`roll.rs`).

use crate::blocks::BLOCK_BYTES;
use crate::event::SegmentFacts;
use crate::frame::{Head, REGION, align_up};
use crate::index::{SEALED_ENTRIES_MAX, SparseIndex};
use crate::io::FileId;

/// First extent of a segment, and least growth.
const EXTENT_BYTES_MIN: u64 = 4 << 20;
/// Largest extent.
const EXTENT_BYTES_MAX: u64 = 64 << 20;
/// First extent of a new log: a topic with many idle partitions shall not cost 4 MiB of zeros each.
const NEW_LOG_BYTES: u64 = 512 << 10;
/// Groups of this size and more go into space that was not zeroed (P17).
pub(crate) const ZERO_BELOW_BYTES: u64 = 256 << 10;

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    /// Open file; a sealed segment may be closed.
    pub(crate) file: Option<FileId>,
    pub(crate) opening: bool,
    /// Durable size of the file; of a segment never opened in this life what the snapshot says.
    pub(crate) file_bytes: u64,
    /// Name durable: groups may be submitted.
    pub(crate) ready: bool,
    pub(crate) sealed: bool,
    /// Trimmed, or not to be.
    pub(crate) trimmed: bool,
    /// One past the last frame.
    pub(crate) end_position: u64,
    pub(crate) end_offset: u64,
    pub(crate) frame_bytes: u64,
    /// Greatest timestamp of flushed frames and the base offset of its batch.
    pub(crate) max_timestamp: (i64, u64),
    pub(crate) index: SparseIndex,
    /// Monotonic time of the first append of this life.
    pub(crate) first_append_ns: Option<u64>,
    /// An extend in flight, to this size.
    pub(crate) extending: Option<u64>,
    /// Largest extent so far.
    pub(crate) extent: u64,
}

impl Segment {
    pub(crate) fn new(base: u64) -> Segment {
        Segment {
            base,
            file: None,
            opening: false,
            file_bytes: 0,
            ready: false,
            sealed: false,
            trimmed: true,
            end_position: 0,
            end_offset: base,
            frame_bytes: 0,
            max_timestamp: (-1, base),
            index: SparseIndex::default(),
            first_append_ns: None,
            extending: None,
            extent: 0,
        }
    }

    /// A frame that stands at `position`, in order.
    pub(crate) fn note(&mut self, head: &Head, position: u64) {
        self.index.note(head.base_offset, position, head.max_timestamp);
        self.end_position = position + u64::from(head.frame_len);
        self.end_offset = head.next_offset();
        self.frame_bytes += u64::from(head.frame_len);
        self.raise_time((head.max_timestamp, head.base_offset));
    }

    pub(crate) fn raise_time(&mut self, time: (i64, u64)) {
        if time.0 > self.max_timestamp.0 {
            self.max_timestamp = time;
        }
    }

    pub(crate) fn seal(&mut self) {
        self.sealed = true;
        self.trimmed = false;
        self.index.thin(SEALED_ENTRIES_MAX);
    }

    pub(crate) fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            base_offset: self.base,
            end_offset: self.end_offset,
            frame_bytes: self.frame_bytes,
            file_bytes: self.file_bytes,
            max_timestamp: self.max_timestamp.0,
            sealed: self.sealed,
        }
    }

    /// Bytes of the chunk that starts at region `index`; 0 behind the end.
    pub(crate) fn chunk_len(&self, index: u32) -> usize {
        let left = self.file_bytes.saturating_sub(u64::from(index) * REGION);
        usize::try_from(left.min(REGION)).unwrap_or(BLOCK_BYTES)
    }

    /// The size to grow to, when the write position has come near the end of what is allocated.
    pub(crate) fn growth(&self, used: u64, limit: u64) -> Option<u64> {
        let cap = align_up(limit, REGION);
        // Half an extent, so that a new log's small one lasts until somebody writes to it.
        let ahead = self.extent / 2;
        if self.extending.is_some() || self.file.is_none() {
            return None;
        }
        if used > self.file_bytes {
            let least = align_up(used, REGION);
            let next = (self.extent * 2).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
            return Some(least.max((self.file_bytes + next).min(cap)));
        }
        if used + ahead <= self.file_bytes || self.file_bytes >= cap {
            return None;
        }
        let next = (self.extent * 2).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
        Some((self.file_bytes + next).min(cap))
    }
}

/// First extent of a segment that must hold at least `frame` bytes.
pub(crate) fn first_extent(segment_bytes: u64, frame: u64, new_log: bool) -> u64 {
    let wish = if new_log { NEW_LOG_BYTES } else { EXTENT_BYTES_MIN };
    align_up(wish.min(segment_bytes.max(1)).max(frame), REGION)
}

/// The segment that holds `offset`: the last whose base is not above it.
pub(crate) fn holder(segments: &[Segment], offset: u64) -> Option<usize> {
    segments.partition_point(|segment| segment.base <= offset).checked_sub(1)
}

/// The segment with this base.
pub(crate) fn by_base(segments: &[Segment], base: u64) -> Option<usize> {
    segments.binary_search_by_key(&base, |segment| segment.base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_grows_ahead_of_need_and_never_far_beyond_its_limit() {
        let mut segment = Segment::new(0);
        segment.file = Some(FileId(1));
        segment.file_bytes = EXTENT_BYTES_MIN;
        segment.extent = EXTENT_BYTES_MIN;
        assert_eq!(segment.growth(1 << 20, 1 << 30), None);
        let new = Segment { file_bytes: NEW_LOG_BYTES, extent: NEW_LOG_BYTES, ..segment.clone() };
        assert_eq!(new.growth(0, 1 << 30), None, "an idle log stays small");
        assert_eq!(new.growth(300 << 10, 1 << 30), Some(NEW_LOG_BYTES + EXTENT_BYTES_MIN));
        assert_eq!(segment.growth(3 << 20, 1 << 30), Some(12 << 20));
        assert_eq!(segment.growth(3 << 20, 5 << 20), Some(5 << 20));
        assert_eq!(segment.growth(9 << 20, 5 << 20), Some(9 << 20), "one frame may exceed");
        segment.file_bytes = 5 << 20;
        assert_eq!(segment.growth(5 << 20, 5 << 20), None);
        segment.extending = Some(1);
        assert_eq!(segment.growth(9 << 20, 1 << 30), None);
    }
}
