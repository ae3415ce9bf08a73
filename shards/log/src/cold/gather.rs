//! The frame of a cold read whose pieces come in: held, hashed, given to the reader or called damaged.
//! Owner: `ColdRead`.
//! Invariant: a frame joins the reply only after its CRC-32C over all pieces was right (P10).
//! Not here: which frame it is (`cold.rs`), which chunks are in memory (`window.rs`).

use super::{ColdLog, ColdRead, ColdStep};
use crate::blocks::Blocks;
use crate::frame::{CRC_FROM, KAFKA_AT, REGION, region_of, within};
use crate::quarantine::Damage;
use crate::read::Frame;
use crate::scan::Placed;
use crate::verdict::Damaged;
use crate::window::Missing;
use crc_fast::{CrcAlgorithm, Digest};

/// A frame whose pieces are being gathered.
pub(super) struct Partial {
    pub(super) placed: Placed,
    /// Its segment, by base: it may be the one after that of the walk, and places move when segments go.
    pub(super) base: u64,
    pub(super) position: u64,
    digest: Digest,
    /// Into the slices of the list.
    pub(super) first_slice: usize,
    /// The device did not give all of it.
    unreadable: bool,
}

impl ColdRead {
    pub(super) fn gather_from(&mut self, placed: Placed, base: u64) {
        let first_slice = self.frames.slices.len();
        let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let (position, unreadable) = (placed.position, false);
        self.partial = Some(Partial { placed, base, position, digest, first_slice, unreadable });
    }

    /// Holds and hashes the pieces of a frame as they come in.
    pub(super) fn gather(
        &mut self,
        log: &ColdLog<'_>,
        blocks: &mut Blocks,
    ) -> Result<Option<ColdStep>, Missing> {
        let Some(mut partial) = self.partial.take() else { return Ok(None) };
        let placed = partial.placed;
        let base = partial.base;
        while partial.position < placed.end() {
            let index = region_of(partial.position);
            let Some(chunk) = self.window.loaded(base, index) else {
                let missing = Missing::Chunk(placed.si, index);
                self.partial = Some(partial);
                return Err(missing);
            };
            let region = u64::from(index) * REGION;
            let upto = placed.end().min(region + REGION);
            let from = within(partial.position) as usize;
            let to = usize::try_from(upto - region).unwrap_or(0).min(chunk.len());
            let piece = chunk.part(from, to);
            let block = log.rules.block;
            partial.unreadable |= self.window.is_unreadable(base, partial.position, upto, block);
            let skip = (placed.position + CRC_FROM as u64).saturating_sub(partial.position);
            let skip = usize::try_from(skip).unwrap_or(0).min(piece.len());
            partial.digest.update(&blocks.bytes(piece)[skip..]);
            if !self.is_scrub() {
                self.frames.slices.push(blocks.hold(piece));
            }
            partial.position = upto;
        }
        if partial.digest.finalize() != u64::from(placed.head.kafka_crc) {
            return Ok(Some(self.payload_is_wrong(&partial, log, blocks)));
        }
        self.take(&partial);
        Ok(None)
    }

    fn payload_is_wrong(
        &mut self,
        partial: &Partial,
        log: &ColdLog<'_>,
        blocks: &mut Blocks,
    ) -> ColdStep {
        for slice in self.frames.slices.drain(partial.first_slice..) {
            blocks.release(slice);
        }
        let Partial { placed, base, unreadable, .. } = partial;
        if self.try_again(*base, placed.end(), log.flushed) {
            return ColdStep::Wait;
        }
        let head = &placed.head;
        // Behind a recorded gap the walk stands before it.
        self.at.o = head.base_offset;
        ColdStep::Damaged(vec![Damaged {
            segment: *base,
            at: placed.position,
            until: placed.end(),
            from: head.base_offset,
            to: head.next_offset(),
            damage: if *unreadable { Damage::Unreadable } else { Damage::Payload },
        }])
    }

    /// A whole frame: for the reader, or, of a scrub, gone over.
    fn take(&mut self, partial: &Partial) {
        let placed = &partial.placed;
        self.at.advance(placed);
        if self.is_scrub() {
            // Should the next one be read again, then not this one too.
            (self.start, self.reread) = ((partial.base, self.at), None);
            return;
        }
        let index = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.kafka_bytes += placed.head.frame_len as usize - KAFKA_AT;
        self.frames.frames.push(Frame {
            base_offset: placed.head.base_offset,
            last_offset: placed.head.last_offset(),
            frame_len: placed.head.frame_len,
            slices: index(partial.first_slice)..index(self.frames.slices.len()),
        });
    }
}
