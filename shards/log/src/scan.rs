//! Which frame comes next: the accept rule of reliability.md 3.3, over whatever bytes are in memory.
//! Owner: recovery, cold reads and the verifier, each with a view of its own.
//! Invariant: a frame is accepted only with header CRC and secret right, inside its file, of this log, linked, and of a life that may stand there.
//! Not here: what to do when nothing is acceptable (`verdict.rs`).

use crate::blocks::Blocks;
use crate::frame::{HEADER_BYTES, Head, REGION, align_up, region_of, within};
use crate::life_table::LifeTable;
use crate::segment::Segment;
use crate::window::{Missing, Window};
use ringway_wire::ids::LogKey;

/// Facts of the log that decide about a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) key: LogKey,
    pub(crate) secret: u32,
    pub(crate) block: u64,
    /// None: no checkpoint was usable.
    pub(crate) table: Option<&'a LifeTable>,
}

/// Where a scan stands and what it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Place of the segment in the list.
    pub(crate) si: usize,
    /// End of the frame before.
    pub(crate) p: u64,
    /// Next offset.
    pub(crate) o: u64,
    /// Plain header CRC and length of the frame before.
    pub(crate) crc: u32,
    pub(crate) len: u32,
    /// Whatever link is accepted next.
    pub(crate) any: bool,
    /// log_epoch of the frame before.
    pub(crate) floor: u32,
}

impl At {
    /// Before the first frame of a segment, with no frame known before.
    pub(crate) fn start_of(si: usize, base: u64) -> At {
        At { si, p: 0, o: base, crc: 0, len: 0, any: true, floor: 0 }
    }

    /// Behind an accepted frame.
    pub(crate) fn advance(&mut self, place: &Placed) {
        self.si = place.si;
        self.p = place.end();
        self.o = place.head.next_offset();
        self.crc = place.head.crc;
        self.len = place.head.frame_len;
        self.any = false;
        self.floor = place.head.log_epoch;
    }
}

/// A header and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) si: usize,
    pub(crate) position: u64,
    pub(crate) head: Head,
}

impl Placed {
    pub(crate) fn end(&self) -> u64 {
        self.position + u64::from(self.head.frame_len)
    }

    /// Whether it reaches behind the block where the log ends, in the segment `base`: what came to lie there
    /// is written over by the next groups.
    pub(crate) fn is_behind(&self, base: u64, end: Option<(u64, u64)>, block: u64) -> bool {
        let reaches = |position| self.end() > align_up(position, block);
        end.is_some_and(|(segment, position)| base == segment && reaches(position))
    }
}

/// Segments of a log and the part of their bytes that is in memory.
pub(crate) struct View<'a> {
    pub(crate) segments: &'a [Segment],
    pub(crate) window: &'a Window,
    pub(crate) blocks: &'a Blocks,
    pub(crate) rules: Rules<'a>,
}

impl View<'_> {
    /// Size of a segment's file.
    pub(crate) fn file_bytes(&self, si: usize) -> Result<u64, Missing> {
        let segment = &self.segments[si];
        if segment.file.is_none() { Err(Missing::Open(si)) } else { Ok(segment.file_bytes) }
    }

    /// Bytes of the chunk `index`, empty behind the end of the file.
    pub(crate) fn chunk(&self, si: usize, index: u32) -> Result<&[u8], Missing> {
        if u64::from(index) * REGION >= self.file_bytes(si)? {
            return Ok(&[]);
        }
        let slice = self.window.loaded(self.segments[si].base, index);
        slice.map(|slice| self.blocks.bytes(slice)).ok_or(Missing::Chunk(si, index))
    }

    /// A believable header at `position` whose frame ends inside the file.
    pub(crate) fn header(&self, si: usize, position: u64) -> Result<Option<Placed>, Missing> {
        let file_bytes = self.file_bytes(si)?;
        let room = HEADER_BYTES as u64;
        if position + room > file_bytes || u64::from(within(position)) + room > REGION {
            return Ok(None);
        }
        let bytes = self.chunk(si, region_of(position))?;
        let at = within(position) as usize;
        let Some(head) = bytes.get(at..).and_then(|bytes| Head::parse(bytes, self.rules.secret))
        else {
            return Ok(None);
        };
        let placed = Placed { si, position, head };
        Ok((placed.end() <= file_bytes).then_some(placed))
    }

    /// Whether a life's epoch may stand at `base`.
    pub(crate) fn epoch_fits(&self, base: u64, epoch: u32, floor: u32) -> bool {
        self.rules.table.map_or(epoch >= floor, |table| table.allows(base, epoch, floor))
    }

    fn accept(&self, si: usize, position: u64, at: &At) -> Result<Option<Placed>, Missing> {
        let Some(placed) = self.header(si, position)? else { return Ok(None) };
        let head = &placed.head;
        if !head.is_sound(self.rules.key) {
            return Ok(None);
        }
        let mut any = at.any;
        if head.base_offset != at.o {
            let gap = self.rules.table.is_some_and(|table| {
                head.base_offset > at.o && table.is_gap(at.o, head.base_offset, head.log_epoch)
            });
            if !gap {
                return Ok(None);
            }
            any |= position == 0;
        }
        let linked = any || (head.prev_crc == at.crc && head.prev_frame_len == at.len);
        let fits = self.epoch_fits(head.base_offset, head.log_epoch, at.floor);
        Ok((linked && fits).then_some(placed))
    }

    /// Where the log goes on in the next segment when no frame says so: nothing of it is missing between the
    /// end of this segment and the name of the next, or a recorded gap alone.
    pub(crate) fn next_segment(&self, at: &At) -> Option<At> {
        let after = self.segments.get(at.si + 1)?;
        let gap = self.rules.table.is_some_and(|table| table.ends_gap(at.o, after.base));
        let (si, o, any) = (at.si + 1, after.base, at.any || gap);
        (after.base == at.o || gap).then_some(At { si, p: 0, o, any, ..*at })
    }

    /// The next acceptable frame: at the end of the one before, at the next block, or first in the next
    /// segment; the higher log_epoch wins.
    pub(crate) fn next(&self, at: &At) -> Result<Option<Placed>, Missing> {
        let mut best = self.accept(at.si, at.p, at)?;
        let mut take = |other: Option<Placed>| {
            if let Some(other) = other {
                let better = best.is_none_or(|best| {
                    best.head.base_offset == other.head.base_offset
                        && other.head.log_epoch > best.head.log_epoch
                });
                if better {
                    best = Some(other);
                }
            }
        };
        let fresh = align_up(at.p, self.rules.block);
        if fresh != at.p {
            take(self.accept(at.si, fresh, at)?);
        }
        if let Some(after) = self.segments.get(at.si + 1) {
            let gap = self.rules.table.is_some_and(|table| table.starts_at(after.base));
            if after.base == at.o || (after.base > at.o && gap) {
                let first = self.accept(at.si + 1, 0, at)?;
                take(first.filter(|first| first.head.base_offset == after.base));
            }
        }
        Ok(best)
    }
}
