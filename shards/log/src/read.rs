//! Serves reads: from the tail in memory, else by a plan of disk reads.
//! Owner: `Logs`.
//! Invariant: no byte leaves before header_crc, place and CRC-32C were verified (P10).
//! Not here: who may read how far (`partition/fetch.rs`).

use crate::blocks::{Blocks, Slice};
use std::ops::Range;

/// Names a read that waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub u64);

/// How a read ended or goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadStart {
    /// The frames are in the list given.
    Done,
    /// Answered later by [`crate::event::LogEvent::ReadDone`].
    Waiting(ReadTicket),
    /// Nothing to read yet: the offset is the end.
    Empty,
    /// Below log start or beyond the end.
    OutOfRange,
    /// The range is quarantined up to `until`.
    Quarantined {
        /// First offset after it.
        until: u64,
    },
    /// Recorded as offsets that no record has, up to `until`: nothing is damaged or missing there.
    Gap {
        /// First offset after it.
        until: u64,
    },
    /// No blocks for a cold read now: ask again later (transient).
    Busy,
}

/// Where a time look-up leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFound {
    /// The first batch whose maxTimestamp is not below the time; the record is inside it.
    Batch {
        /// Its base offset.
        base_offset: u64,
    },
    /// Answered later by [`crate::event::LogEvent::TimeDone`] (the index is on disk).
    Waiting(ReadTicket),
    /// No such batch.
    None,
}

/// A whole frame somewhere in a shard's blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// Bytes of the frame, native line included.
    pub frame_len: u32,
    /// Its pieces in [`FrameList::slices`], from byte 0; the first holds at least the 128-byte header.
    pub slices: Range<u32>,
}

/// Frames with the slices they own: one hold per slice, to be sent or released.
#[derive(Debug, Default)]
pub struct FrameList {
    /// In offset order.
    pub frames: Vec<Frame>,
    /// Pieces of all frames.
    pub slices: Vec<Slice>,
}

impl FrameList {
    /// Bytes of all frames as a Kafka client counts them (from byte 67 of each).
    #[must_use]
    pub fn kafka_bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.frame_len as usize - 67).sum()
    }

    /// Gives every hold back.
    pub fn release(&mut self, blocks: &mut Blocks) {
        self.frames.clear();
        for slice in self.slices.drain(..) {
            blocks.release(slice);
        }
    }
}
