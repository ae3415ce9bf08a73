//! A few 64 KiB chunks of a log's segments in memory: what scans and cold reads look at.
//! Owner: one recovery or one cold read.
//! Invariant: a chunk is looked at only when all its reads are done; unreadable pieces are zeros, which decode as nothing.
//! Not here: what the bytes mean (`scan.rs`).

use crate::blocks::{Blocks, Slice};
use crate::frame::REGION;
use crate::io::{Errno, FileId, IoOk, IoRequest};
use crate::ops::LogOp;
use crate::segment::Segment;
use crate::turn::Turn;
use std::collections::VecDeque;

/// One chunk: the region `index` of segment `base`.
#[derive(Debug)]
struct Chunk {
    base: u64,
    index: u32,
    file: FileId,
    /// Owns one hold.
    slice: Slice,
    /// Reads in flight, or the wait to be read block by block.
    loading: u16,
    /// Reads of the whole chunk, then of the block at hand, that failed.
    attempt: u8,
    /// To be read block by block once no other chunk is.
    waits: bool,
    /// Pieces of a block each that the device did not give, as bits.
    unreadable: u16,
}

/// The chunks, oldest first.
#[derive(Debug)]
pub(crate) struct Window {
    chunks: VecDeque<Chunk>,
    max: usize,
    reader: u64,
    /// A chunk is being read block by block.
    blockwise: bool,
}

/// What a scan lacks to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The segment at this place of the list is not open.
    Open(usize),
    /// This chunk of it is not in memory.
    Chunk(usize, u32),
}

/// How a request for chunks went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// On its way, or there already.
    Yes,
    /// No free block now.
    NoMemory,
}

/// Chunks that a scan looks at together.
const TOGETHER: u32 = 3;

impl Window {
    /// At most `max` chunks: a scan looks at [`TOGETHER`] and reads ahead.
    pub(crate) fn new(max: usize, reader: u64) -> Window {
        Window { chunks: VecDeque::new(), max, reader, blockwise: false }
    }

    fn place(&self, base: u64, index: u32) -> Option<usize> {
        self.chunks.iter().rposition(|chunk| chunk.index == index && chunk.base == base)
    }

    /// The chunk's bytes, once read.
    pub(crate) fn loaded(&self, base: u64, index: u32) -> Option<Slice> {
        let chunk = &self.chunks[self.place(base, index)?];
        (chunk.loading == 0).then_some(chunk.slice)
    }

    /// Whether any read is in flight.
    pub(crate) fn is_loading(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.loading > 0)
    }

    /// Puts in a chunk that was read already; `unreadable` as in [`Chunk`].
    pub(crate) fn insert(
        &mut self,
        (base, index): (u64, u32),
        slice: Slice,
        unreadable: u16,
        blocks: &mut Blocks,
    ) {
        if self.chunks.len() >= self.max {
            self.give(blocks, |_| true);
        }
        let file = FileId(u32::MAX);
        self.chunks.push_back(Chunk {
            base,
            index,
            file,
            slice,
            loading: 0,
            attempt: 0,
            waits: false,
            unreadable,
        });
    }

    /// Whether the device did not give some block of `from..to` of segment `base`, as far as it is in memory.
    pub(crate) fn is_unreadable(&self, base: u64, from: u64, to: u64, block: u64) -> bool {
        self.chunks.iter().any(|chunk| {
            let start = u64::from(chunk.index) * REGION;
            chunk.base == base
                && (0..u64::from(u16::BITS))
                    .filter(|bit| chunk.unreadable >> bit & 1 == 1)
                    .any(|bit| start + bit * block < to && from < start + (bit + 1) * block)
        })
    }

    /// Reads chunk `index` of `segment` and up to `ahead` − 1 after it.
    pub(crate) fn ask(
        &mut self,
        slot: u32,
        segment: &Segment,
        index: u32,
        ahead: u32,
        turn: &mut Turn<'_>,
    ) -> Asked {
        let Some(file) = segment.file else { return Asked::NoMemory };
        for next in index..index.saturating_add(ahead.max(1)) {
            let len = segment.chunk_len(next);
            if len == 0 {
                break;
            }
            if self.place(segment.base, next).is_some() {
                continue;
            }
            if self.chunks.len() >= self.max && !self.give_passed(segment.base, index, turn.blocks)
            {
                if next > index {
                    break;
                }
                self.give_farthest(index, turn.blocks);
            }
            // Blocks in reserve are for what is needed now, not for reading ahead.
            let spare = turn.blocks.free_count() > turn.shared.config.reserve_blocks / 2;
            let taken = if next == index || spare { turn.blocks.take() } else { None };
            let Some(block) = taken else {
                return if next == index { Asked::NoMemory } else { Asked::Yes };
            };
            let slice = turn.blocks.freeze(block, 0, u32::try_from(len).unwrap_or(0));
            turn.blocks.release_block(block);
            let base = segment.base;
            self.chunks.push_back(Chunk {
                base,
                index: next,
                file,
                slice,
                loading: 1,
                attempt: 0,
                waits: false,
                unreadable: 0,
            });
            let op = LogOp::Chunk { reader: self.reader, base, index: next, piece: None };
            let id = turn.id(slot, op);
            turn.ask(IoRequest::Read { id, file, at: u64::from(next) * REGION, into: slice });
        }
        Asked::Yes
    }

    /// Gives a chunk up that the scan, now at `index` of segment `base`, has passed. What was read ahead and not
    /// looked at yet stays: else it is read again and again.
    fn give_passed(&mut self, base: u64, index: u32, blocks: &mut Blocks) -> bool {
        self.give(blocks, |chunk| chunk.base != base || chunk.index + TOGETHER <= index)
    }

    /// Gives the chunk up that will be needed last.
    fn give_farthest(&mut self, index: u32, blocks: &mut Blocks) -> bool {
        let ahead = self.chunks.iter().filter(|chunk| chunk.loading == 0 && chunk.index > index);
        let Some(farthest) = ahead.map(|chunk| chunk.index).max() else { return false };
        self.give(blocks, |chunk| chunk.index == farthest)
    }

    /// Gives the oldest such chunk up that is not being read. False: there is none.
    fn give(&mut self, blocks: &mut Blocks, such: impl Fn(&Chunk) -> bool) -> bool {
        let at = self.chunks.iter().position(|chunk| chunk.loading == 0 && such(chunk));
        let Some(old) = at.and_then(|at| self.chunks.remove(at)) else { return false };
        blocks.release(old.slice);
        true
    }

    /// Gives a chunk up for lack of memory, to read `index` of segment `base`. False: nothing can be given.
    pub(crate) fn give_one(&mut self, base: u64, index: u32, blocks: &mut Blocks) -> bool {
        self.give_passed(base, index, blocks) || self.give_farthest(index, blocks)
    }

    /// An answer: once more as a whole, then block after block, what fails twice is zeros. The number of
    /// bytes that came. A chunk may wait for [`Window::begin_blockwise`] now.
    pub(crate) fn on_read(
        &mut self,
        slot: u32,
        (base, index, piece): (u64, u32, Option<u16>),
        result: Result<IoOk, Errno>,
        turn: &mut Turn<'_>,
    ) -> u64 {
        let Some(place) = self.place(base, index) else { return 0 };
        let block = u32::try_from(turn.block()).unwrap_or(4096);
        let chunk = &mut self.chunks[place];
        chunk.loading -= 1;
        let part = match piece {
            None => chunk.slice,
            Some(n) => {
                let from = u32::from(n) * block;
                chunk.slice.part(from as usize, ((from + block) as usize).min(chunk.slice.len()))
            }
        };
        let came = if result == Ok(IoOk::Bytes(part.end - part.start)) { part.len() } else { 0 };
        chunk.attempt += u8::from(came == 0);
        match piece {
            None if came > 0 => {}
            None if chunk.attempt == 1 => self.ask_piece(slot, place, None, turn),
            None => (chunk.loading, chunk.waits) = (chunk.loading + 1, true),
            Some(n) if came == 0 && chunk.attempt == 1 => {
                self.ask_piece(slot, place, Some(n), turn);
            }
            Some(n) => {
                if came == 0 {
                    chunk.unreadable |= 1u16.checked_shl(u32::from(n)).unwrap_or(0);
                    turn.blocks.target_mut(part).fill(0);
                }
                chunk.attempt = 0;
                self.blockwise = part.end < chunk.slice.end;
                if self.blockwise {
                    self.ask_piece(slot, place, Some(n + 1), turn);
                }
            }
        }
        came as u64
    }

    /// A chunk is being read block by block.
    pub(crate) fn is_blockwise(&self) -> bool {
        self.blockwise
    }

    /// Begins to read a waiting chunk block by block, unless one is read so. True: begun.
    pub(crate) fn begin_blockwise(&mut self, slot: u32, turn: &mut Turn<'_>) -> bool {
        let waiting = self.chunks.iter().position(|chunk| chunk.waits);
        let Some(place) = waiting.filter(|_| !self.blockwise) else { return false };
        let chunk = &mut self.chunks[place];
        (chunk.waits, chunk.attempt) = (false, 0);
        chunk.loading -= 1;
        self.blockwise = true;
        self.ask_piece(slot, place, Some(0), turn);
        true
    }

    /// Reads a chunk again: as a whole, or the block `piece` of it. Blocks of a log are read one after
    /// the other: side by side the kernel joins them into one request, and all fail with the bad one.
    fn ask_piece(&mut self, slot: u32, place: usize, piece: Option<u16>, turn: &mut Turn<'_>) {
        let block = u32::try_from(turn.block()).unwrap_or(4096);
        let chunk = &mut self.chunks[place];
        chunk.loading += 1;
        let (base, index, file, slice) = (chunk.base, chunk.index, chunk.file, chunk.slice);
        let (from, into) = match piece {
            None => (0, slice),
            Some(n) => {
                let from = u32::from(n) * block;
                let to = ((from + block) as usize).min(slice.len());
                (u64::from(from), slice.part(from as usize, to))
            }
        };
        let id = turn.id(slot, LogOp::Chunk { reader: self.reader, base, index, piece });
        turn.ask(IoRequest::Read { id, file, at: u64::from(index) * REGION + from, into });
    }

    /// Gives all memory back; reads must be done.
    ///
    /// # Panics
    /// While a read is in flight: its target belongs to the disk.
    pub(crate) fn clear(&mut self, blocks: &mut Blocks) {
        assert!(!self.is_loading(), "the disk still fills a chunk of this window");
        for chunk in self.chunks.drain(..) {
            blocks.release(chunk.slice);
        }
    }
}
