//! The hot tail: blocks that mirror the end of a log's segments, read without the disk.
//! Owner: `Log` owns its blocks, `TailOrder` the order in which all logs give theirs up.
//! Invariant: a log's blocks are contiguous and end at its write position; every frame in them was verified at append.
//! Not here: filling them (`append.rs`), writing them (`group.rs`).

use crate::blocks::{Blocks, Slice};
use crate::frame::{REGION, region_of};
use std::collections::VecDeque;

/// Pieces of a block for which the first frame is known.
const PIECES: usize = 16;
const PIECE_BYTES: u32 = 4096;
const NO_FRAME: u32 = u32::MAX;

/// The first frame that starts in a piece.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    at: u32,
}

/// One block of the tail.
#[derive(Debug)]
pub(crate) struct TailBlock {
    pub(crate) block: u32,
    pub(crate) generation: u32,
    /// Segment it mirrors.
    pub(crate) base: u64,
    /// 64 KiB region of the segment.
    pub(crate) region: u32,
    /// Offset of the first frame that starts here or later.
    pub(crate) first_offset: u64,
    /// Order of taking, over all logs.
    pub(crate) serial: u64,
    pieces: [Piece; PIECES],
}

impl TailBlock {
    /// Names bytes of it, without a hold.
    pub(crate) fn slice(&self, start: u32, end: u32) -> Slice {
        Slice { block: self.block, generation: self.generation, start, end }
    }

    /// One past the last byte of the region, in the segment.
    pub(crate) fn region_end(&self) -> u64 {
        (u64::from(self.region) + 1) * REGION
    }

    fn note(&mut self, offset: u64, at: u32) {
        let piece = &mut self.pieces[(at / PIECE_BYTES) as usize % PIECES];
        if piece.at == NO_FRAME {
            *piece = Piece { offset, at };
        }
    }

    /// The last noted frame not above `offset`.
    fn floor(&self, offset: u64) -> Option<(u64, u32)> {
        let known =
            self.pieces.iter().rev().find(|piece| piece.at != NO_FRAME && piece.offset <= offset);
        known.map(|piece| (piece.offset, piece.at))
    }
}

/// The tail of one log.
#[derive(Debug, Default)]
pub(crate) struct LogTail {
    pub(crate) blocks: VecDeque<TailBlock>,
}

/// A frame's start in the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailPlace {
    /// Index into the log's blocks.
    pub(crate) index: usize,
    /// Position in the block.
    pub(crate) at: u32,
    /// Base offset of the frame that starts there.
    pub(crate) offset: u64,
}

impl LogTail {
    /// First offset that can be read from here.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.first_offset)
    }

    /// Where to start walking to find `offset`.
    pub(crate) fn find(&self, offset: u64) -> Option<TailPlace> {
        let after = self.blocks.partition_point(|block| block.first_offset <= offset);
        let index = after.checked_sub(1)?;
        let (offset, at) = self.blocks[index].floor(offset)?;
        Some(TailPlace { index, at, offset })
    }

    /// Index of the block that mirrors `position` of segment `base`; blocks of the end are found fastest.
    pub(crate) fn index_of(&self, base: u64, position: u64) -> Option<usize> {
        let region = region_of(position);
        self.blocks.iter().rposition(|block| block.base == base && block.region == region)
    }

    /// A block that mirrors `position` and what follows; `first_offset` is the next frame's.
    pub(crate) fn push(
        &mut self,
        blocks: &mut Blocks,
        block: u32,
        base: u64,
        position: u64,
        first_offset: u64,
        serial: u64,
    ) {
        let start = crate::frame::within(position);
        let front = blocks.freeze(block, 0, start);
        let generation = front.generation;
        blocks.release(front);
        let region = region_of(position);
        let pieces = [Piece { offset: 0, at: NO_FRAME }; PIECES];
        self.blocks.push_back(TailBlock {
            block,
            generation,
            base,
            region,
            first_offset,
            serial,
            pieces,
        });
    }

    /// A frame was added that starts at `position` of segment `base`; `next_offset` follows it.
    pub(crate) fn frame_added(&mut self, base: u64, position: u64, offset: u64, next_offset: u64) {
        let Some(index) = self.index_of(base, position) else { return };
        self.blocks[index].note(offset, crate::frame::within(position));
        for reached in self.blocks.iter_mut().skip(index + 1) {
            reached.first_offset = next_offset;
        }
    }

    /// Takes back the newest block.
    pub(crate) fn pop(&mut self, blocks: &mut Blocks) {
        if let Some(last) = self.blocks.pop_back() {
            blocks.release_block(last.block);
        }
    }

    /// Gives the oldest block up.
    pub(crate) fn evict(&mut self, blocks: &mut Blocks) {
        if let Some(first) = self.blocks.pop_front() {
            blocks.release_block(first.block);
        }
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self, blocks: &mut Blocks) {
        while !self.blocks.is_empty() {
            self.evict(blocks);
        }
    }
}

/// Blocks of all logs, oldest first: (slot of the log, serial of the block).
#[derive(Debug, Default)]
pub(crate) struct TailOrder {
    pub(crate) queue: VecDeque<(u32, u64)>,
    next_serial: u64,
}

impl TailOrder {
    /// A block was taken for the log in `slot`.
    pub(crate) fn enter(&mut self, slot: u32) -> u64 {
        self.next_serial += 1;
        self.queue.push_back((slot, self.next_serial));
        self.next_serial
    }
}
