//! All block memory of a shard: receive buffers, open groups, the hot tail, cold reads.
//! Owner: the shard; `runtime/block_pool.rs` maps the memory and hands it in once.
//! Invariant: bytes of a frozen slice never change while anybody holds it.
//! Not here: mapping, registering, the kernel (`runtime`).

/// Size of a pooled block. A block of the tail mirrors the 64 KiB of its segment that start at a
/// multiple of this, so that a header is never cut by a block's edge.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Names bytes in [`Blocks`]. Receiving one means owning one hold: pass it on or release it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Index of the block.
    pub block: u32,
    /// Guards against use after release.
    pub generation: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Slice {
    /// Number of bytes named.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it names no byte.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// The part `from..to` of it (relative), without a hold of its own.
    ///
    /// # Panics
    /// When the part lies outside.
    #[must_use]
    pub fn part(self, from: usize, to: usize) -> Slice {
        assert!(from <= to && to <= self.len(), "part {from}..{to} of {} bytes", self.len());
        let at = |n: usize| self.start + u32::try_from(n).unwrap_or(u32::MAX);
        Slice { start: at(from), end: at(to), ..self }
    }
}

/// Large blocks come in multiples of this, so that one given back fits the next.
const LARGE_STEP: usize = 256 * 1024;
/// Memory of large blocks kept to be used again: mapping and clearing it anew costs more than the
/// copy of a frame. Four frames of 1 MB and what is around them.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// Memory of one pooled block.
pub enum Piece {
    /// Mapped, and never given back while the process lives: the kernel may know it.
    Mapped(&'static mut [u8]),
    /// Of the heap: gone with its owner.
    Heap(Box<[u8]>),
}

impl Piece {
    /// [`BLOCK_BYTES`] zeros of the heap.
    #[must_use]
    pub fn zeroed() -> Piece {
        Piece::Heap(vec![0; BLOCK_BYTES].into_boxed_slice())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Mapped(bytes) => bytes,
            Piece::Heap(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Piece::Mapped(bytes) => bytes,
            Piece::Heap(bytes) => bytes,
        }
    }
}

enum Memory {
    Pooled(Piece),
    Large(Box<[u8]>),
    /// A large block's index after its memory was given back.
    Absent,
}

struct Block {
    memory: Memory,
    frozen_end: u32,
    holds: u32,
    generation: u32,
}

/// The block memory of one shard.
pub struct Blocks {
    blocks: Vec<Block>,
    free: Vec<u32>,
    free_large: Vec<u32>,
    /// Memory of large blocks given back, at most [`SPARE_BYTES_MAX`].
    spare_large: Vec<Box<[u8]>>,
    spare_bytes: usize,
    pooled: usize,
    large_bytes: usize,
    large_bytes_max: usize,
}

impl Blocks {
    /// Takes over `memory`, pieces of [`BLOCK_BYTES`]; `large_bytes_max` bounds all large blocks together.
    ///
    /// # Panics
    /// When a piece has another size.
    #[must_use]
    pub fn new(memory: Vec<Piece>, large_bytes_max: usize) -> Blocks {
        let pooled = memory.len();
        let blocks: Vec<Block> = memory
            .into_iter()
            .map(|piece| {
                assert_eq!(piece.bytes().len(), BLOCK_BYTES, "a pooled block has one size");
                Block { memory: Memory::Pooled(piece), frozen_end: 0, holds: 0, generation: 0 }
            })
            .collect();
        let free = (0..u32::try_from(pooled).unwrap_or(u32::MAX)).rev().collect();
        Blocks {
            blocks,
            free,
            free_large: Vec::new(),
            spare_large: Vec::new(),
            spare_bytes: 0,
            pooled,
            large_bytes: 0,
            large_bytes_max,
        }
    }

    /// A free pooled block with one hold, or none: then evict tail or pause receiving.
    pub fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.blocks[block as usize].holds = 1;
        Some(block)
    }

    /// A block of at least `bytes` outside the pool, for one frame too large for a receive buffer. `None` when
    /// `large_bytes_max` is used up: the caller waits, nothing is buffered beyond it.
    pub fn take_large(&mut self, bytes: usize) -> Option<u32> {
        // One frame may always be received, else a limit set too low would stop a connection for ever.
        if self.large_bytes > 0 && self.large_bytes + bytes > self.large_bytes_max {
            return None;
        }
        let memory = self.large_memory(bytes);
        self.large_bytes += memory.len();
        let memory = Memory::Large(memory);
        if let Some(block) = self.free_large.pop() {
            let slot = &mut self.blocks[block as usize];
            slot.memory = memory;
            slot.holds = 1;
            return Some(block);
        }
        let block = u32::try_from(self.blocks.len()).ok()?;
        self.blocks.push(Block { memory, frozen_end: 0, holds: 1, generation: 0 });
        Some(block)
    }

    /// What it holds of a frame before is never read: only received bytes are frozen.
    fn large_memory(&mut self, bytes: usize) -> Box<[u8]> {
        let bytes = bytes.next_multiple_of(LARGE_STEP);
        if let Some(at) = self.spare_large.iter().position(|spare| spare.len() == bytes) {
            self.spare_bytes -= bytes;
            return self.spare_large.swap_remove(at);
        }
        vec![0; bytes].into_boxed_slice()
    }

    /// The bytes above the frozen end: the only ones that may still be written.
    ///
    /// # Panics
    /// When nobody holds the block.
    pub fn tail_mut(&mut self, block: u32) -> &mut [u8] {
        let slot = &mut self.blocks[block as usize];
        assert!(slot.holds > 0, "block {block} is free");
        let from = slot.frozen_end as usize;
        &mut slot.memory.bytes_mut()[from..]
    }

    /// Copies the bytes `from` names to `at` of `block`, above its frozen end.
    ///
    /// # Panics
    /// When `from` was released, lies in the same block, or the target is free, frozen or too short.
    pub fn copy(&mut self, from: Slice, block: u32, at: u32) {
        let pair = [from.block as usize, block as usize];
        let Ok([source, target]) = self.blocks.get_disjoint_mut(pair) else {
            panic!("copy within block {block}");
        };
        assert!(source.holds > 0 && source.generation == from.generation, "{from:?} was released");
        assert!(target.holds > 0 && at >= target.frozen_end, "block {block} is frozen at {at}");
        let bytes = &source.memory.bytes()[from.start as usize..from.end as usize];
        target.memory.bytes_mut()[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Where [`Blocks::tail_mut`] starts.
    #[must_use]
    pub fn frozen_end(&self, block: u32) -> u32 {
        self.blocks[block as usize].frozen_end
    }

    /// Freezes bytes up to `end` for good and names `start..end`, with a new hold.
    ///
    /// # Panics
    /// When the block is free or shorter.
    pub fn freeze(&mut self, block: u32, start: u32, end: u32) -> Slice {
        let slot = &mut self.blocks[block as usize];
        assert!(slot.holds > 0, "block {block} is free");
        assert!(start <= end && end as usize <= slot.memory.bytes().len(), "{start}..{end}");
        slot.frozen_end = slot.frozen_end.max(end);
        slot.holds += 1;
        Slice { block, generation: slot.generation, start, end }
    }

    /// One more hold on the same bytes.
    ///
    /// # Panics
    /// When the slice was released before.
    pub fn hold(&mut self, slice: Slice) -> Slice {
        let slot = self.live(slice);
        slot.holds += 1;
        slice
    }

    /// Gives a slice's hold back.
    ///
    /// # Panics
    /// When it was released before.
    pub fn release(&mut self, slice: Slice) {
        self.live(slice);
        self.release_block(slice.block);
    }

    /// Gives back the hold that `take` or `take_large` gave.
    ///
    /// # Panics
    /// When nobody holds the block.
    pub fn release_block(&mut self, block: u32) {
        let slot = &mut self.blocks[block as usize];
        assert!(slot.holds > 0, "block {block} released twice");
        slot.holds -= 1;
        if slot.holds > 0 {
            return;
        }
        slot.generation = slot.generation.wrapping_add(1);
        slot.frozen_end = 0;
        if matches!(slot.memory, Memory::Pooled(_)) {
            if cfg!(debug_assertions) {
                slot.memory.bytes_mut().fill(0xDB);
            }
            self.free.push(block);
        } else {
            let memory = std::mem::replace(&mut slot.memory, Memory::Absent);
            self.free_large.push(block);
            if let Memory::Large(memory) = memory {
                self.large_bytes -= memory.len();
                self.spare_bytes += memory.len();
                self.spare_large.push(memory);
                while self.spare_bytes > SPARE_BYTES_MAX {
                    self.spare_bytes -= self.spare_large.remove(0).len();
                }
            }
        }
    }

    /// The bytes a slice names.
    ///
    /// # Panics
    /// When it was released before: use after release is a broken invariant, not an input error.
    #[must_use]
    pub fn bytes(&self, slice: Slice) -> &[u8] {
        let slot = &self.blocks[slice.block as usize];
        assert!(slot.holds > 0 && slot.generation == slice.generation, "{slice:?} was released");
        &slot.memory.bytes()[slice.start as usize..slice.end as usize]
    }

    /// The target of a read, for disks alone: bytes that were named by `freeze` before the read was
    /// asked for and that nobody looks at until it is done.
    ///
    /// # Panics
    /// When it was released before.
    pub fn target_mut(&mut self, slice: Slice) -> &mut [u8] {
        let range = slice.start as usize..slice.end as usize;
        &mut self.live(slice).memory.bytes_mut()[range]
    }

    /// Pooled blocks nobody holds.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    /// Pooled blocks in all.
    #[must_use]
    pub fn pooled_count(&self) -> usize {
        self.pooled
    }

    /// Sum of all holds: at rest it equals the blocks of the tail cache, an oracle for leaks.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.holds)).sum()
    }

    /// Gives the pooled memory back for a life to come; whoever still names a slice loses it.
    #[must_use]
    pub fn into_memory(self) -> Vec<Piece> {
        let pooled = |block: Block| match block.memory {
            Memory::Pooled(piece) => Some(piece),
            Memory::Large(_) | Memory::Absent => None,
        };
        self.blocks.into_iter().filter_map(pooled).collect()
    }

    fn live(&mut self, slice: Slice) -> &mut Block {
        let slot = &mut self.blocks[slice.block as usize];
        assert!(slot.holds > 0 && slot.generation == slice.generation, "{slice:?} was released");
        slot
    }
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Memory::Pooled(piece) => piece.bytes(),
            Memory::Large(bytes) => bytes,
            Memory::Absent => &[],
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Pooled(piece) => piece.bytes_mut(),
            Memory::Large(bytes) => bytes,
            Memory::Absent => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize) -> Blocks {
        Blocks::new((0..count).map(|_| Piece::zeroed()).collect(), 1 << 20)
    }

    #[test]
    fn a_block_returns_when_its_last_hold_goes() {
        let mut blocks = pool(1);
        let block = blocks.take().expect("free block");
        blocks.tail_mut(block)[..3].copy_from_slice(b"abc");
        let first = blocks.freeze(block, 0, 3);
        let second = blocks.hold(first.part(1, 3));
        blocks.release_block(block);
        blocks.release(first);
        assert_eq!(blocks.bytes(second), b"bc");
        assert_eq!(blocks.take(), None);
        blocks.release(second);
        assert_eq!(blocks.holds(), 0);
        assert!(blocks.take().is_some());
    }

    #[test]
    fn bytes_are_copied_from_block_to_block() {
        let mut blocks = pool(2);
        let source = blocks.take().expect("free block");
        let target = blocks.take().expect("free block");
        blocks.tail_mut(source)[..3].copy_from_slice(b"abc");
        let slice = blocks.freeze(source, 1, 3);
        blocks.copy(slice, target, 5);
        assert_eq!(&blocks.tail_mut(target)[5..7], b"bc");
    }

    #[test]
    #[should_panic(expected = "was released")]
    fn bytes_of_a_released_slice_are_refused() {
        let mut blocks = pool(1);
        let block = blocks.take().expect("free block");
        let slice = blocks.freeze(block, 0, 1);
        blocks.release(slice);
        blocks.release_block(block);
        assert!(blocks.bytes(slice).is_empty(), "not reached");
    }

    #[test]
    fn large_blocks_are_bounded_and_given_back() {
        let mut blocks = pool(0);
        let first = blocks.take_large(1 << 20).expect("within the bound");
        assert_eq!(blocks.take_large(1), None);
        blocks.release_block(first);
        assert_eq!(blocks.take_large(1), Some(first));
    }

    #[test]
    fn memory_of_large_blocks_is_used_again_and_bounded() {
        let mut blocks = Blocks::new(Vec::new(), 1 << 30);
        let first = blocks.take_large(1_000_000).expect("room");
        let memory = blocks.tail_mut(first).as_ptr();
        blocks.release_block(first);
        let again = blocks.take_large(900_000).expect("room");
        assert_eq!(blocks.tail_mut(again).as_ptr(), memory);
        blocks.release_block(again);
        let many: Vec<u32> = (0..64).filter_map(|_| blocks.take_large(1 << 20)).collect();
        many.into_iter().for_each(|block| blocks.release_block(block));
        assert!(blocks.spare_bytes <= SPARE_BYTES_MAX && blocks.large_bytes == 0);
    }
}
