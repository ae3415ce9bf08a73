//! Appends: a batch is hashed, copied once into the open group and gets its line.
//! Owner: `Log`.
//! Invariant: a refused batch leaves no trace; offsets are contiguous; a header never crosses a 64 KiB boundary.
//! Not here: writing the group (`group.rs`), what a batch means (`partition`).

use crate::blocks::{Blocks, Slice};
use crate::event::LogCounts;
use crate::frame::{
    CRC_FROM, HEADER_BYTES, KAFKA_AT, REGION, align_up, header_place, region_of, within,
};
use crate::io::{Errno, Now};
use crate::log::{Group, Log, Phase, Roll, RoomWanted};
use crate::turn::Shared;
use ringway_wire::crc32c::{crc32c, recombine};
use ringway_wire::header::{Encoding, Kind, Line, flags_of_attributes, stamp};

/// A batch to append: one contiguous Kafka RecordBatch v2, already validated but for its CRC.
#[derive(Clone, Copy, Debug)]
pub enum Batch<'a> {
    /// In this shard's blocks. The caller releases its hold afterwards.
    Slice(Slice),
    /// Owned elsewhere (crossed the mesh, or made by the shard itself).
    Bytes(&'a [u8]),
}

/// Facts the partition adds to a batch.
#[derive(Clone, Copy, Debug)]
pub struct AppendFacts {
    /// Stamped into partitionLeaderEpoch.
    pub leader_epoch: i32,
    /// Encoding byte of the native line.
    pub encoding: u8,
    /// `Some(ms)`: LogAppendTime, stamped into maxTimestamp with attribute bit 3, CRC recombined.
    pub log_append_time_ms: Option<i64>,
}

/// A batch in the open group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// The `append_time_ns` of its native line.
    pub append_time_ns: u64,
}

/// Why an append was refused; nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// CRC-32C of the batch is wrong.
    #[error("batch CRC is {computed:08x}, its header says {stored:08x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// No segment can hold it.
    #[error("batch of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// Its frame.
        bytes: u64,
        /// Limit.
        limit: u64,
    },
    /// Open group full while the previous one is in flight, or no free block: keep the request and
    /// try again after the next [`crate::event::LogEvent::Flushed`] of this log (transient).
    #[error("log is busy")]
    Busy,
    /// Poisoned: nothing more until restart.
    #[error("log is poisoned: {0}")]
    Poisoned(String),
    /// The disk has no room for the next extent (transient, P16).
    #[error("no space for the next extent")]
    NoSpace,
    /// A group of this size needs a checkpoint that could not be written (transient).
    #[error("the checkpoint that must stand before a batch of this size failed: {0}")]
    Checkpoint(Errno),
    /// Unknown log.
    #[error("no such log")]
    Unknown,
}

/// Bytes of a Kafka batch header.
const BATCH_HEADER_BYTES: usize = 61;
/// Where CRC, attributes, lastOffsetDelta, maxTimestamp and recordCount stand in a Kafka batch.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const MAX_TIMESTAMP_AT: usize = 35;
const RECORD_COUNT_AT: usize = 57;
/// Attribute bit of LogAppendTime.
const LOG_APPEND_TIME: i16 = 1 << 3;

/// What an append reads from a batch's own header.
#[derive(Clone, Copy)]
struct BatchHead {
    frame_len: u32,
    attributes: i16,
    last_delta: u32,
    max_timestamp: i64,
    records: i32,
    /// What goes to bytes 84..128 − 17 of the frame instead, when the broker stamps the time.
    stamped: Option<(u32, i16, i64)>,
}

/// Where a frame goes.
#[derive(Clone, Copy)]
struct Spot {
    position: u64,
    /// A new group begins at this block.
    opens_at: Option<u64>,
    rolls: bool,
}

impl BatchHead {
    /// The batch becomes one of append time: its CRC follows without another look at the records.
    fn stamp_time(&mut self, batch: &[u8], crc: u32, time: i64) {
        self.attributes |= LOG_APPEND_TIME;
        self.max_timestamp = time;
        let before: [u8; BATCH_HEADER_BYTES - ATTRIBUTES_AT] = be(batch, ATTRIBUTES_AT);
        let mut after = before;
        after[..2].copy_from_slice(&self.attributes.to_be_bytes());
        let at = MAX_TIMESTAMP_AT - ATTRIBUTES_AT;
        after[at..at + 8].copy_from_slice(&time.to_be_bytes());
        let records_len = (batch.len() - BATCH_HEADER_BYTES) as u64;
        let crc = recombine(crc, &before, &after, records_len);
        self.stamped = Some((crc, self.attributes, time));
    }
}

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Reads and verifies a batch: lengths, then the CRC over everything behind it.
fn examine(batch: &[u8], facts: AppendFacts, limit: u32) -> Result<BatchHead, AppendError> {
    let frame_len = (batch.len() + KAFKA_AT) as u64;
    let Some(fits) = u32::try_from(frame_len).ok().filter(|len| *len <= limit) else {
        return Err(AppendError::TooLarge { bytes: frame_len, limit: u64::from(limit) });
    };
    if batch.len() < BATCH_HEADER_BYTES {
        return Err(AppendError::Crc { stored: 0, computed: 0 });
    }
    let stored = u32::from_be_bytes(be(batch, CRC_AT));
    let attributes = i16::from_be_bytes(be(batch, ATTRIBUTES_AT));
    let last_delta = i32::from_be_bytes(be(batch, LAST_DELTA_AT));
    let batch_length = i64::from(i32::from_be_bytes(be(batch, 8)));
    let mut head = BatchHead {
        frame_len: fits,
        attributes,
        last_delta: u32::try_from(last_delta).unwrap_or(0),
        max_timestamp: i64::from_be_bytes(be(batch, MAX_TIMESTAMP_AT)),
        records: i32::from_be_bytes(be(batch, RECORD_COUNT_AT)),
        stamped: None,
    };
    let shaped = last_delta >= 0 && batch_length + 12 == i64::from(fits) - KAFKA_AT as i64;
    let computed = crc32c(&batch[ATTRIBUTES_AT..]);
    if computed != stored || !shaped {
        return Err(AppendError::Crc { stored, computed });
    }
    if let Some(time) = facts.log_append_time_ms {
        head.stamp_time(batch, stored, time);
    }
    Ok(head)
}

impl Log {
    /// See `Logs::append`.
    pub(crate) fn append(
        &mut self,
        batch: Batch<'_>,
        facts: AppendFacts,
        now: Now,
        blocks: &mut Blocks,
        shared: &mut Shared,
    ) -> Result<Appended, AppendError> {
        self.refuse_when_closed(shared)?;
        let head = match batch {
            Batch::Slice(slice) => {
                examine(blocks.bytes(slice), facts, shared.config.frame_bytes_max)?
            }
            Batch::Bytes(bytes) => examine(bytes, facts, shared.config.frame_bytes_max)?,
        };
        let spot = self.find_spot(head.frame_len, now, shared)?;
        if !self.cover(spot, head.frame_len, blocks, shared) {
            return Err(AppendError::Busy);
        }
        self.open(spot, now, blocks, shared);
        self.copy(batch, spot.position, blocks);
        let crc = self.stamp_line(&head, spot.position, facts, now, blocks, shared);
        Ok(self.advance(&head, spot.position, crc, now, &mut shared.counts))
    }

    fn refuse_when_closed(&self, shared: &Shared) -> Result<(), AppendError> {
        if let Some(reason) = &self.poison {
            return Err(AppendError::Poisoned(reason.clone()));
        }
        if let Phase::Offline(reason) = &self.phase {
            return Err(AppendError::Poisoned(reason.clone()));
        }
        if !self.is_live() {
            return Err(AppendError::Unknown);
        }
        if !shared.started || shared.stopping || self.truncation.is_some() || self.has_beyond() {
            return Err(AppendError::Busy);
        }
        Ok(())
    }

    /// Where a frame of this length goes, by the rules for groups (P1, P2), segments and space.
    fn find_spot(
        &mut self,
        frame_len: u32,
        now: Now,
        shared: &mut Shared,
    ) -> Result<Spot, AppendError> {
        let block = u64::from(shared.facts.block);
        let len = u64::from(frame_len);
        let limit = self.settings.segment_bytes;
        let mut spot = match &self.group {
            Some(group) => {
                let position = header_place(self.head.position);
                let size = align_up(position + len, block) - group.start;
                if size > self.bound_durable() {
                    self.widen(size, shared);
                    return Err(AppendError::Busy);
                }
                if position + len > limit {
                    return Err(AppendError::Busy);
                }
                Spot { position, opens_at: None, rolls: false }
            }
            None => {
                let position = align_up(self.head.position, block);
                Spot { position, opens_at: Some(position), rolls: false }
            }
        };
        if spot.opens_at.is_some() {
            if spot.position > 0 && (spot.position + len > limit || self.is_old(now)) {
                if !self.active().ready {
                    return Err(AppendError::Busy);
                }
                spot = Spot { position: 0, opens_at: Some(0), rolls: true };
            }
            let size = align_up(spot.position + len, block) - spot.position;
            if size > self.bound_durable() {
                self.widen(size, shared);
                let failed = shared.checkpoint_failure.map(AppendError::Checkpoint);
                return Err(failed.unwrap_or(AppendError::Busy));
            }
        }
        self.claim_room(spot.rolls, align_up(spot.position + len, block), now, shared)?;
        Ok(spot)
    }

    /// What is accepted lies in space the log owns: a disk that fills up refuses, it never holds up what
    /// was accepted (P16). Room that is missing is asked for in the log's next turn.
    fn claim_room(
        &mut self,
        rolls: bool,
        end: u64,
        now: Now,
        shared: &mut Shared,
    ) -> Result<(), AppendError> {
        let refused = self.no_space_until.is_some_and(|until| now.mono_ns < until);
        let refusal = if refused { AppendError::NoSpace } else { AppendError::Busy };
        if self.no_space_until.is_some() && self.room_wanted.end > 0 {
            // A frame was refused: a smaller one that came behind it must not pass it.
            return Err(refusal);
        }
        let (next, active) = (matches!(self.roll, Roll::Prepared(..)), self.active().ready);
        let room = match self.roll {
            Roll::Prepared(_, bytes) if rolls || !active => bytes,
            Roll::Idle | Roll::Preparing | Roll::Prepared(..) | Roll::Adopting | Roll::Syncing => {
                if rolls {
                    0
                } else {
                    self.active().file_bytes
                }
            }
        };
        if end <= room {
            self.room_wanted = RoomWanted::default();
            return Ok(());
        }
        if rolls && next {
            // The prepared file is too small for this frame: it grows once it is the active one.
            self.roll_over(shared);
        }
        self.room_wanted = RoomWanted { end, rolls: rolls && !next };
        Err(refusal)
    }

    /// A larger group bound: usable once both checkpoints hold it.
    fn widen(&mut self, size: u64, shared: &mut Shared) {
        let max = u64::from(shared.config.flush_group_bytes_max).max(size);
        let wider = (self.bound * 2).min(max).max(size.min(max));
        // One step at a time: the one before must be durable, or a burst would reach the maximum at once.
        if wider > self.bound && (self.bound <= self.bound_durable() || size > self.bound * 2) {
            self.bound = wider;
            // Once a step: who waits for it must not have one written after the other.
            shared.checkpoint_urgent = true;
        }
    }

    fn is_old(&mut self, now: Now) -> bool {
        let age = self.settings.segment_ns;
        self.active().first_append_ns.is_some_and(|first| now.mono_ns.saturating_sub(first) >= age)
    }

    /// Takes blocks so that the frame's bytes have a place. False: none are free.
    fn cover(
        &mut self,
        spot: Spot,
        frame_len: u32,
        blocks: &mut Blocks,
        shared: &mut Shared,
    ) -> bool {
        let base = if spot.rolls { self.head.offset } else { self.active_base() };
        let end = spot.position + u64::from(frame_len);
        let mut region = region_of(spot.position);
        if let Some(last) = self.tail.blocks.back()
            && last.base == base
            && last.region >= region
        {
            region = last.region + 1;
        }
        let mut taken = 0;
        while u64::from(region) * REGION < end {
            let Some(block) = blocks.take() else {
                for _ in 0..taken {
                    self.tail.pop(blocks);
                }
                return false;
            };
            // A frame that starts earlier reaches into this block: the next one starts here or later.
            let starts_before = u64::from(region) * REGION > spot.position;
            let position = spot.position.max(u64::from(region) * REGION);
            let first = if starts_before { u64::MAX } else { self.head.offset };
            let serial = shared.tail.enter(self.slot);
            self.tail.push(blocks, block, base, position, first, serial);
            region += 1;
            taken += 1;
        }
        true
    }

    /// Begins a group or fills the gap before a header that would cross a boundary.
    fn open(&mut self, spot: Spot, now: Now, blocks: &mut Blocks, shared: &mut Shared) {
        if spot.rolls {
            self.roll_over(shared);
        }
        let Some(start) = spot.opens_at else {
            self.zero(self.head.position, spot.position, blocks);
            return;
        };
        let block = u64::from(shared.facts.block);
        assert!(start % block == 0, "a group starts on a fresh block");
        self.group = Some(Group { start, frames: 0, frame_bytes: 0, max_timestamp: (i64::MIN, 0) });
        self.active().first_append_ns.get_or_insert(now.mono_ns);
    }

    /// Zeros `from..to` of the active segment's blocks.
    pub(crate) fn zero(&mut self, from: u64, to: u64, blocks: &mut Blocks) {
        let mut at = from;
        while at < to {
            let upto = to.min(align_up(at + 1, REGION));
            if let Some(index) = self.tail.index_of(self.active_base(), at) {
                let block = self.tail.blocks[index].block;
                let frozen = blocks.frozen_end(block);
                let start = within(at).saturating_sub(frozen) as usize;
                let len = usize::try_from(upto - at).unwrap_or(0);
                blocks.tail_mut(block)[start..start + len].fill(0);
            }
            at = upto;
        }
    }

    /// Copies the batch to byte 67 of its frame, over as many blocks as it takes.
    fn copy(&mut self, batch: Batch<'_>, position: u64, blocks: &mut Blocks) {
        let base = self.active_base();
        let len = match batch {
            Batch::Slice(slice) => slice.len(),
            Batch::Bytes(bytes) => bytes.len(),
        };
        let mut at = position + KAFKA_AT as u64;
        let mut done = 0;
        while done < len {
            let Some(index) = self.tail.index_of(base, at) else {
                panic!("position {at} of segment {base} has no block");
            };
            let block = self.tail.blocks[index].block;
            let start = within(at);
            let room = crate::blocks::BLOCK_BYTES - start as usize;
            let upto = len.min(done + room);
            match batch {
                Batch::Slice(slice) => blocks.copy(slice.part(done, upto), block, start),
                Batch::Bytes(bytes) => {
                    let from = (start - blocks.frozen_end(block)) as usize;
                    blocks.tail_mut(block)[from..from + upto - done]
                        .copy_from_slice(&bytes[done..upto]);
                }
            }
            at += (upto - done) as u64;
            done = upto;
        }
    }

    fn stamp_line(
        &mut self,
        head: &BatchHead,
        position: u64,
        facts: AppendFacts,
        now: Now,
        blocks: &mut Blocks,
        shared: &Shared,
    ) -> u32 {
        assert!(self.flushed.offset <= self.head.offset, "flushed beyond the end");
        let line = Line {
            encoding: Encoding::from_u8(facts.encoding).unwrap_or(Encoding::Unspecified),
            kind: Kind::Data,
            flags: flags_of_attributes(head.attributes),
            frame_len: head.frame_len,
            append_time_ns: now.wall_ns,
            topic_id: self.key.topic_id,
            partition: self.key.partition,
            log_epoch: self.epoch,
            prev_crc: self.head.crc,
            prev_frame_len: self.head.len,
            flushed_upto: self.flushed.offset,
            correlation: 0,
            base_offset: self.head.offset,
            leader_epoch: facts.leader_epoch,
        };
        let Some(index) = self.tail.index_of(self.active_base(), position) else {
            panic!("position {position} has no block");
        };
        let block = self.tail.blocks[index].block;
        let from = (within(position) - blocks.frozen_end(block)) as usize;
        let bytes = &mut blocks.tail_mut(block)[from..from + HEADER_BYTES];
        if let Some((crc, attributes, time)) = head.stamped {
            bytes[KAFKA_AT + CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
            bytes[CRC_FROM..CRC_FROM + 2].copy_from_slice(&attributes.to_be_bytes());
            let at = KAFKA_AT + MAX_TIMESTAMP_AT;
            bytes[at..at + 8].copy_from_slice(&time.to_be_bytes());
        }
        match bytes.first_chunk_mut::<HEADER_BYTES>() {
            Some(bytes) => stamp(bytes, &line, shared.facts.secret),
            None => panic!("a header crosses the end of its block"),
        }
    }

    /// The frame is in: offsets, chain, index and facts move on.
    fn advance(
        &mut self,
        head: &BatchHead,
        position: u64,
        crc: u32,
        now: Now,
        counts: &mut LogCounts,
    ) -> Appended {
        let base_offset = self.head.offset;
        let last_offset = base_offset + u64::from(head.last_delta);
        let time = (head.max_timestamp, base_offset);
        let end = position + u64::from(head.frame_len);
        let segment = self.active();
        segment.index.note(base_offset, position, head.max_timestamp);
        (segment.end_position, segment.end_offset) = (end, last_offset + 1);
        segment.frame_bytes += u64::from(head.frame_len);
        let base = segment.base;
        self.tail.frame_added(base, position, base_offset, last_offset + 1);
        if let Some(group) = &mut self.group {
            group.frames += 1;
            group.frame_bytes += u64::from(head.frame_len);
            if time.0 > group.max_timestamp.0 {
                group.max_timestamp = time;
            }
        }
        self.head.position = end;
        self.head.offset = last_offset + 1;
        (self.head.crc, self.head.len) = (crc, head.frame_len);
        counts.appended_batches += 1;
        counts.appended_records += u64::try_from(head.records).unwrap_or(0);
        counts.appended_bytes += u64::from(head.frame_len);
        Appended { base_offset, last_offset, append_time_ns: now.wall_ns }
    }
}
