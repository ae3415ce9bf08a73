//! A frame's header as the disk holds it: parsed into plain numbers, believed only with the secret.
//! Owner: nobody, plain values.
//! Invariant: a [`Head`] exists only for a data header whose CRC, with the secret, is right.
//! Not here: the layout and stamping (`ringway_wire::header`), place and chain (`scan.rs`).

use crate::event::BatchFacts;
use ringway_wire::header::header_crc;
use ringway_wire::ids::LogKey;

/// Bytes of a header; never cut by a 64 KiB boundary of the file.
pub(crate) const HEADER_BYTES: usize = 128;
/// Where the Kafka batch starts in a frame.
pub(crate) const KAFKA_AT: usize = 67;
/// Where the bytes under Kafka's CRC-32C start in a frame.
pub(crate) const CRC_FROM: usize = 88;
/// `frame_len` − Kafka's batchLength.
const FRAME_OVER_BATCH_LENGTH: i64 = 79;
/// A region of a file that one pooled block mirrors.
pub(crate) const REGION: u64 = crate::blocks::BLOCK_BYTES as u64;

/// What recovery and reads want to know of one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) frame_len: u32,
    /// Plain CRC, without the secret: the next frame's `prev_crc`.
    pub(crate) crc: u32,
    pub(crate) append_time_ns: u64,
    pub(crate) topic_id: u64,
    pub(crate) partition: u32,
    pub(crate) log_epoch: u32,
    pub(crate) prev_crc: u32,
    pub(crate) prev_frame_len: u32,
    pub(crate) flushed_upto: u64,
    pub(crate) base_offset: u64,
    pub(crate) batch_length: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) kafka_crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Whether these bytes may start a batch header at all: the cheap look before the CRC.
pub(crate) fn has_magic(bytes: &[u8]) -> bool {
    bytes.len() >= 3 && bytes[0] == b'V' && bytes[1] == b'2' && bytes[2] == 2
}

/// Length of a frame in memory that was verified before: no CRC again.
pub(crate) fn verified_head(bytes: &[u8], secret: u32) -> Head {
    let bytes: &[u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().unwrap_or(&[0; HEADER_BYTES]);
    Head::fields(bytes, secret)
}

impl Head {
    /// Magic, version, kind data, `header_crc` with the secret, length at least a header.
    pub(crate) fn parse(bytes: &[u8], secret: u32) -> Option<Head> {
        if !has_magic(bytes) {
            return None;
        }
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if bytes[4] != 0 {
            return None;
        }
        let head = Head::fields(bytes, secret);
        let right = head.crc == header_crc(bytes) && head.frame_len as usize >= HEADER_BYTES;
        right.then_some(head)
    }

    fn fields(bytes: &[u8; HEADER_BYTES], secret: u32) -> Head {
        Head {
            frame_len: u32::from_le_bytes(array(bytes, 8)),
            crc: u32::from_le_bytes(array(bytes, 12)) ^ secret,
            append_time_ns: u64::from_le_bytes(array(bytes, 16)),
            topic_id: u64::from_le_bytes(array(bytes, 24)),
            partition: u32::from_le_bytes(array(bytes, 32)),
            log_epoch: u32::from_le_bytes(array(bytes, 36)),
            prev_crc: u32::from_le_bytes(array(bytes, 40)),
            prev_frame_len: u32::from_le_bytes(array(bytes, 44)),
            flushed_upto: u64::from_le_bytes(array(bytes, 48)),
            base_offset: u64::from_be_bytes(array(bytes, 67)),
            batch_length: i32::from_be_bytes(array(bytes, 75)),
            leader_epoch: i32::from_be_bytes(array(bytes, 79)),
            kafka_crc: u32::from_be_bytes(array(bytes, 84)),
            attributes: i16::from_be_bytes(array(bytes, 88)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 90)),
            max_timestamp: i64::from_be_bytes(array(bytes, 102)),
            producer_id: i64::from_be_bytes(array(bytes, 110)),
            producer_epoch: i16::from_be_bytes(array(bytes, 118)),
            base_sequence: i32::from_be_bytes(array(bytes, 120)),
            record_count: i32::from_be_bytes(array(bytes, 124)),
        }
    }

    /// Offset of the last record.
    pub(crate) fn last_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::try_from(self.last_offset_delta).unwrap_or(0))
    }

    /// Offset after the last record.
    pub(crate) fn next_offset(&self) -> u64 {
        self.last_offset().saturating_add(1)
    }

    /// Belongs to this log at all.
    pub(crate) fn of(&self, key: LogKey) -> bool {
        self.topic_id == key.topic_id && self.partition == key.partition
    }

    /// What a header of this log says about itself is consistent (3.3).
    pub(crate) fn is_sound(&self, key: LogKey) -> bool {
        self.of(key)
            && self.flushed_upto <= self.base_offset
            && i64::from(self.batch_length) == i64::from(self.frame_len) - FRAME_OVER_BATCH_LENGTH
            && self.last_offset_delta >= 0
    }

    /// The facts told to the partition.
    pub(crate) fn batch_facts(&self) -> BatchFacts {
        BatchFacts {
            base_offset: self.base_offset,
            last_offset: self.last_offset(),
            leader_epoch: self.leader_epoch,
            attributes: self.attributes,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            max_timestamp: self.max_timestamp,
            append_time_ns: self.append_time_ns,
        }
    }
}

/// Rounds up to a multiple of `to`, a power of two.
pub(crate) fn align_up(n: u64, to: u64) -> u64 {
    (n + to - 1) & !(to - 1)
}

/// Bytes of a file that can be read: whole blocks (C1). Only somebody else can have cut a file inside one.
pub(crate) fn whole_blocks(file_bytes: u64, block: u64) -> u64 {
    file_bytes & !(block - 1)
}

/// Where a header may stand that would start at `p`: at `p`, or behind the 64 KiB boundary it would cross.
pub(crate) fn header_place(p: u64) -> u64 {
    if REGION - p % REGION < HEADER_BYTES as u64 { align_up(p, REGION) } else { p }
}

/// The region that holds `p`.
pub(crate) fn region_of(p: u64) -> u32 {
    u32::try_from(p / REGION).unwrap_or(u32::MAX)
}

/// Place of `p` inside its region.
pub(crate) fn within(p: u64) -> u32 {
    u32::try_from(p % REGION).unwrap_or(0)
}
