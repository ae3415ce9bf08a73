//! Reads of one log from its tail: frames by reference, without I/O and without a copy.
//! Owner: `Log`.
//! Invariant: only frames that were flushed are given; every slice given is held until its reader releases it.
//! Not here: what the tail keeps and lets go (`tail.rs`), reads from the disk (`log_reads.rs`).

use crate::blocks::{Blocks, Slice};
use crate::frame::{
    HEADER_BYTES, Head, KAFKA_AT, REGION, align_up, has_magic, header_place, region_of,
    verified_head, within,
};
use crate::log::Log;
use crate::read::{Frame, FrameList};
use crate::segment::by_base;
use crate::tail::TailPlace;
use crate::turn::Turn;

impl Log {
    /// Frames from the tail, by reference. The bytes of all of them; 0: not there.
    pub(crate) fn read_tail(
        &self,
        from: u64,
        upto: u64,
        bytes_max: u32,
        turn: &mut Turn<'_>,
        into: &mut FrameList,
    ) -> u64 {
        let Some(mut place) = self.tail.find(from) else { return 0 };
        let (block, secret) = (turn.block(), turn.secret());
        let (mut bytes, mut kafka_bytes) = (0u64, 0usize);
        loop {
            let tail = &self.tail.blocks[place.index];
            let position = u64::from(tail.region) * REGION + u64::from(place.at);
            let head = self.tail_head(place.index, place.at, secret, turn.blocks);
            assert_eq!(head.base_offset, place.offset, "the tail holds contiguous frames");
            let next = head.next_offset();
            if next > upto {
                return bytes;
            }
            if next > from {
                let more = head.frame_len as usize - KAFKA_AT;
                if bytes > 0 && kafka_bytes + more > bytes_max as usize {
                    return bytes;
                }
                self.give(place.index, place.at, &head, turn.blocks, into);
                bytes += u64::from(head.frame_len);
                kafka_bytes += more;
            }
            if next >= upto {
                return bytes;
            }
            let end = position + u64::from(head.frame_len);
            let Some((index, at)) = self.tail_next(place.index, end, block, turn.blocks) else {
                return bytes;
            };
            place = TailPlace { index, at, offset: next };
        }
    }

    fn tail_head(&self, index: usize, at: u32, secret: u32, blocks: &Blocks) -> Head {
        let header = self.tail.blocks[index].slice(at, at + 128);
        assert_eq!(header.len(), HEADER_BYTES);
        verified_head(blocks.bytes(header), secret)
    }

    /// Where the frame after one that ends at `end` starts: here, behind the boundary, at the next group, in the next segment.
    fn tail_next(
        &self,
        index: usize,
        end: u64,
        block: u64,
        blocks: &Blocks,
    ) -> Option<(usize, u32)> {
        let base = self.tail.blocks[index].base;
        if base != self.active_base() {
            let at = by_base(&self.segments, base)?;
            if self.segments[at].end_position == end {
                let next = self.segments.get(at + 1)?.base;
                let index = (index..self.tail.blocks.len())
                    .find(|at| self.tail.blocks[*at].base == next)?;
                return Some((index, 0));
            }
        }
        let place = |position: u64| {
            let region = region_of(position);
            let step = (region - self.tail.blocks[index].region) as usize;
            let found = self
                .tail
                .blocks
                .get(index + step)
                .filter(|block| block.base == base && block.region == region);
            found.map(|_| (index + step, within(position)))
        };
        let near = header_place(end);
        if near == end {
            let (index, at) = place(near)?;
            if has_magic(blocks.bytes(self.tail.blocks[index].slice(at, at + 128))) {
                return Some((index, at));
            }
        }
        place(align_up(end, block))
    }

    /// Hands a frame's pieces over, each with a hold.
    fn give(&self, index: usize, at: u32, head: &Head, blocks: &mut Blocks, into: &mut FrameList) {
        let count = |list: &FrameList| u32::try_from(list.slices.len()).unwrap_or(u32::MAX);
        let first = count(into);
        let (mut index, mut at, mut left) = (index, at, head.frame_len);
        while left > 0 {
            let room = u32::try_from(REGION).unwrap_or(0) - at;
            let take = left.min(room);
            let slice: Slice = self.tail.blocks[index].slice(at, at + take);
            into.slices.push(blocks.hold(slice));
            left -= take;
            (index, at) = (index + 1, 0);
        }
        into.frames.push(Frame {
            base_offset: head.base_offset,
            last_offset: head.last_offset(),
            frame_len: head.frame_len,
            slices: first..count(into),
        });
    }
}
