#![expect(unsafe_code, reason = "maps the arena and cuts it into blocks")]
//! Maps a shard's block memory.
//! Owner: the shard, for the life of the process.
//! Invariant: every block is aligned to 4096 and exists until the process ends.
//! Not here: who holds which block (`log/blocks.rs`).

use crate::error::StartError;
use crate::ring::map;
use ringway_log::blocks::{BLOCK_BYTES, Blocks, Piece};

/// Share of the memory kept for frames too large for a block (L6).
const LARGE_SHARE: usize = 8;

/// Reserves the blocks of one shard within `memory_bytes`, touched only when used. An eighth is kept for
/// frames too large for a block (L6).
///
/// # Errors
/// When the address space cannot be reserved.
pub fn blocks(memory_bytes: usize) -> Result<Blocks, StartError> {
    let large_bytes_max = memory_bytes / LARGE_SHARE;
    let count = (memory_bytes - large_bytes_max) / BLOCK_BYTES;
    let bytes = count * BLOCK_BYTES;
    if count == 0 {
        let cause = "less than one block".to_owned();
        return Err(StartError::Memory { bytes: memory_bytes, cause });
    }
    let arena =
        map(bytes).map_err(|error| StartError::Memory { bytes, cause: error.to_string() })?;
    // SAFETY: `map` gave `bytes` zeroed bytes that are never unmapped and that nobody else knows.
    let arena: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(arena.as_ptr(), bytes) };
    let pieces = arena.chunks_exact_mut(BLOCK_BYTES).map(Piece::Mapped);
    Ok(Blocks::new(pieces.collect(), large_bytes_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_within_the_limit() {
        let mut blocks = blocks(8 << 20).expect("8 MiB");
        assert_eq!(blocks.pooled_count(), (7 << 20) / BLOCK_BYTES);
        while let Some(block) = blocks.take() {
            assert_eq!(blocks.tail_mut(block).as_ptr().addr() % 4096, 0);
        }
        assert!(super::blocks(1000).is_err());
    }
}
