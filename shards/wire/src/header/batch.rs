//! The batch header: the native line, little-endian, then Kafka's 61 bytes.
//! Owner: nobody, pure functions over bytes.
//! Invariant: the layout is `formats.md` §1 to the byte; [`stamp`] is the only writer of the native line.
//! Not here: Kafka's own fields (`header/kafka.rs`), which frames a recovery believes (`log`).

use super::kafka::{KafkaHeader, KafkaLayout};
use super::{
    BATCH_VERSION, Encoding, FRAME_OVER_BATCH_LENGTH, HEADER_LEN, HeaderError, KAFKA_AT,
    KAFKA_HEADER_LEN, MAGIC, RECORDS_AT, check_front, chunk, flat, frame_len_of_batch_length,
};
use rkyv::Archive;
use std::mem::{align_of, offset_of, size_of};

const HEADER_LEN_U32: u32 = 128;

/// What a batch frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A batch, from a producer or on disk.
    Data = 0,
    /// A batch is durable; 128 bytes, no records.
    ProduceAck = 1,
    /// Refused; the payload says why (`native.rs`).
    Error = 2,
    /// A batch for a consumer.
    Deliver = 4,
}

impl Kind {
    /// Numbers that have a meaning.
    pub const KNOWN: &'static [u8] = &[0, 1, 2, 4];

    /// The kind with this number.
    #[inline]
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Kind> {
        match byte {
            0 => Some(Kind::Data),
            1 => Some(Kind::ProduceAck),
            2 => Some(Kind::Error),
            4 => Some(Kind::Deliver),
            _ => None,
        }
    }
}

/// Layout of [`BatchHeader`]: the native line little-endian, then Kafka's 61 bytes.
#[derive(Archive)]
#[rkyv(archived = BatchHeader)]
pub struct BatchLayout {
    magic: [u8; 2],
    version: u8,
    encoding: u8,
    kind: u8,
    flags: u8,
    reserved: [u8; 2],
    frame_len: u32,
    header_crc: u32,
    append_time_ns: u64,
    topic_id: u64,
    partition: u32,
    log_epoch: u32,
    prev_crc: u32,
    prev_frame_len: u32,
    flushed_upto: u64,
    correlation: u64,
    zero: [u8; 3],
    kafka: KafkaLayout,
}

const _: () = {
    assert!(size_of::<BatchHeader>() == HEADER_LEN && align_of::<BatchHeader>() == 1);
    assert!(HEADER_LEN == KAFKA_AT + KAFKA_HEADER_LEN && RECORDS_AT == HEADER_LEN);

    assert!(offset_of!(BatchHeader, magic) == 0);
    assert!(offset_of!(BatchHeader, version) == 2);
    assert!(offset_of!(BatchHeader, encoding) == 3);
    assert!(offset_of!(BatchHeader, kind) == 4);
    assert!(offset_of!(BatchHeader, flags) == 5);
    assert!(offset_of!(BatchHeader, reserved) == 6);
    assert!(offset_of!(BatchHeader, frame_len) == 8);
    assert!(offset_of!(BatchHeader, header_crc) == 12);
    assert!(offset_of!(BatchHeader, append_time_ns) == 16);
    assert!(offset_of!(BatchHeader, topic_id) == 24);
    assert!(offset_of!(BatchHeader, partition) == 32);
    assert!(offset_of!(BatchHeader, log_epoch) == 36);
    assert!(offset_of!(BatchHeader, prev_crc) == 40);
    assert!(offset_of!(BatchHeader, prev_frame_len) == 44);
    assert!(offset_of!(BatchHeader, flushed_upto) == 48);
    assert!(offset_of!(BatchHeader, correlation) == 56);
    assert!(offset_of!(BatchHeader, zero) == 64);
    assert!(offset_of!(BatchHeader, kafka) == KAFKA_AT);
};

impl BatchHeader {
    /// Views the first 128 bytes as a batch header: magic, version, encoding and kind are known ones.
    /// Whether the rest is believed is for [`BatchHeader::check_crc`] and [`BatchHeader::check_lengths`].
    ///
    /// # Errors
    /// [`HeaderError`]: short, magic, version, encoding, kind, in this order.
    #[inline]
    pub fn access(bytes: &[u8]) -> Result<&BatchHeader, HeaderError> {
        let header = flat::<BatchHeader>(bytes)?;
        check_front(header.magic, header.version, BATCH_VERSION)?;
        if Encoding::from_u8(header.encoding).is_none() {
            return Err(HeaderError::Encoding { expected: 3, actual: header.encoding });
        }
        if Kind::from_u8(header.kind).is_none() {
            return Err(HeaderError::Kind { expected: Kind::KNOWN, actual: header.kind });
        }
        Ok(header)
    }

    /// Whether `header_crc`, with `secret` taken off, fits these 128 bytes; returns the plain CRC, which is
    /// what the next frame's `prev_crc` must be. `secret` is 0 everywhere but on disk.
    ///
    /// # Errors
    /// [`HeaderError::Short`], [`HeaderError::Crc`].
    #[inline]
    pub fn check_crc(bytes: &[u8], secret: u32) -> Result<u32, HeaderError> {
        let header = chunk(bytes)?;
        let expected = header_crc(header);
        let stored = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        let actual = stored ^ secret;
        if actual == expected { Ok(expected) } else { Err(HeaderError::Crc { expected, actual }) }
    }

    /// Whether `frame_len` is 128 to `limit` and, where the frame carries a batch, agrees with `batchLength`.
    ///
    /// # Errors
    /// [`HeaderError::FrameLen`], [`HeaderError::BatchLength`].
    #[inline]
    pub fn check_lengths(&self, limit: u32) -> Result<(), HeaderError> {
        let actual = self.frame_len();
        if actual < HEADER_LEN_U32 || actual > limit {
            return Err(HeaderError::FrameLen { limit, actual });
        }
        let carries_batch = matches!(self.kind(), Kind::Data | Kind::Deliver);
        if carries_batch && frame_len_of_batch_length(self.batch_length()) != Some(actual) {
            let expected = i64::from(actual).saturating_sub(i64::from(FRAME_OVER_BATCH_LENGTH));
            return Err(HeaderError::BatchLength { expected, actual: self.batch_length() });
        }
        Ok(())
    }

    /// How the records' values are encoded.
    #[inline]
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        match Encoding::from_u8(self.encoding) {
            Some(encoding) => encoding,
            None => Encoding::Unspecified,
        }
    }

    /// What the frame is for.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match Kind::from_u8(self.kind) {
            Some(kind) => kind,
            None => Kind::Error,
        }
    }

    /// `FLAG_*` bits.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// 128 + payload.
    #[inline]
    #[must_use]
    pub const fn frame_len(&self) -> u32 {
        self.frame_len.to_native()
    }

    /// As stored: on disk with the secret.
    #[inline]
    #[must_use]
    pub const fn header_crc(&self) -> u32 {
        self.header_crc.to_native()
    }

    /// When the broker appended it, Unix ns.
    #[inline]
    #[must_use]
    pub const fn append_time_ns(&self) -> u64 {
        self.append_time_ns.to_native()
    }

    /// Topic.
    #[inline]
    #[must_use]
    pub const fn topic_id(&self) -> u64 {
        self.topic_id.to_native()
    }

    /// Partition.
    #[inline]
    #[must_use]
    pub const fn partition(&self) -> u32 {
        self.partition.to_native()
    }

    /// Life of the log that appended it.
    #[inline]
    #[must_use]
    pub const fn log_epoch(&self) -> u32 {
        self.log_epoch.to_native()
    }

    /// Plain header CRC of the frame before it in its log.
    #[inline]
    #[must_use]
    pub const fn prev_crc(&self) -> u32 {
        self.prev_crc.to_native()
    }

    /// `frame_len` of the frame before it.
    #[inline]
    #[must_use]
    pub const fn prev_frame_len(&self) -> u32 {
        self.prev_frame_len.to_native()
    }

    /// The writer's flushed offset when this was written.
    #[inline]
    #[must_use]
    pub const fn flushed_upto(&self) -> u64 {
        self.flushed_upto.to_native()
    }

    /// The client's number of the request, or of the subscription.
    #[inline]
    #[must_use]
    pub const fn correlation(&self) -> u64 {
        self.correlation.to_native()
    }

    /// Kafka's 61 bytes.
    #[inline]
    #[must_use]
    pub const fn kafka(&self) -> &KafkaHeader {
        &self.kafka
    }

    /// Offset of the first record; a negative one reads as a huge offset that no log has.
    #[inline]
    #[must_use]
    pub const fn base_offset(&self) -> u64 {
        self.kafka.base_offset().cast_unsigned()
    }

    /// Offset of the last record; `None` where the fields make no sense together.
    #[inline]
    #[must_use]
    pub const fn last_offset(&self) -> Option<u64> {
        let delta = self.kafka.last_offset_delta();
        if delta < 0 || self.kafka.base_offset() < 0 {
            return None;
        }
        // Fits: 2^63 − 1 + 2^31 − 1 < 2^64.
        self.base_offset().checked_add(delta.cast_unsigned() as u64)
    }

    /// Kafka's `batchLength`.
    #[inline]
    #[must_use]
    pub const fn batch_length(&self) -> i32 {
        self.kafka.batch_length()
    }

    /// Kafka's `partitionLeaderEpoch`.
    #[inline]
    #[must_use]
    pub const fn leader_epoch(&self) -> i32 {
        self.kafka.leader_epoch()
    }

    /// Kafka's magic.
    #[inline]
    #[must_use]
    pub const fn kafka_magic(&self) -> u8 {
        self.kafka.magic
    }

    /// Kafka's CRC-32C.
    #[inline]
    #[must_use]
    pub const fn kafka_crc(&self) -> u32 {
        self.kafka.kafka_crc()
    }

    /// Kafka's attributes.
    #[inline]
    #[must_use]
    pub const fn attributes(&self) -> i16 {
        self.kafka.attributes()
    }

    /// Kafka's `lastOffsetDelta`.
    #[inline]
    #[must_use]
    pub const fn last_offset_delta(&self) -> i32 {
        self.kafka.last_offset_delta()
    }

    /// See [`KafkaHeader::base_timestamp`].
    #[inline]
    #[must_use]
    pub const fn base_timestamp(&self) -> i64 {
        self.kafka.base_timestamp()
    }

    /// Greatest timestamp, ms.
    #[inline]
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.kafka.max_timestamp()
    }

    /// Producer id, −1 without idempotence.
    #[inline]
    #[must_use]
    pub const fn producer_id(&self) -> i64 {
        self.kafka.producer_id()
    }

    /// Producer epoch, −1 without idempotence.
    #[inline]
    #[must_use]
    pub const fn producer_epoch(&self) -> i16 {
        self.kafka.producer_epoch()
    }

    /// First sequence, −1 without idempotence.
    #[inline]
    #[must_use]
    pub const fn base_sequence(&self) -> i32 {
        self.kafka.base_sequence()
    }

    /// Records of the batch.
    #[inline]
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.kafka.record_count()
    }
}

/// Everything of a batch header that is not Kafka's own, and the two Kafka fields outside Kafka's CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Encoding of the records' values.
    pub encoding: Encoding,
    /// What the frame is for.
    pub kind: Kind,
    /// `FLAG_*` bits.
    pub flags: u8,
    /// 128 + payload.
    pub frame_len: u32,
    /// Unix ns.
    pub append_time_ns: u64,
    /// Topic.
    pub topic_id: u64,
    /// Partition.
    pub partition: u32,
    /// Life of the log.
    pub log_epoch: u32,
    /// Plain header CRC of the frame before (what [`stamp`] returned for it).
    pub prev_crc: u32,
    /// Bytes of the frame before.
    pub prev_frame_len: u32,
    /// Flushed offset now.
    pub flushed_upto: u64,
    /// Client's number.
    pub correlation: u64,
    /// Offset of the first record.
    pub base_offset: u64,
    /// Kafka leader epoch.
    pub leader_epoch: i32,
}

impl Line {
    /// Of a frame on its way to a client: without evidence about a disk.
    #[must_use]
    pub const fn delivered(topic_id: u64, partition: u32, correlation: u64) -> Line {
        Line {
            encoding: Encoding::Unspecified,
            kind: Kind::Deliver,
            flags: 0,
            frame_len: HEADER_LEN_U32,
            append_time_ns: 0,
            topic_id,
            partition,
            log_epoch: 0,
            prev_crc: 0,
            prev_frame_len: 0,
            flushed_upto: 0,
            correlation,
            base_offset: 0,
            leader_epoch: 0,
        }
    }
}

/// Writes the native line over bytes 0..67 and patches baseOffset and partitionLeaderEpoch; bytes 75..79
/// and 83..128 stay. Stores `header_crc` XOR `secret` (0 for frames that travel) and returns the **plain**
/// CRC: that is the next frame's `prev_crc`, so a chain can be followed without knowing where it is stored.
#[inline]
pub fn stamp(header: &mut [u8; HEADER_LEN], line: &Line, secret: u32) -> u32 {
    header[0..2].copy_from_slice(&MAGIC);
    header[2] = BATCH_VERSION;
    header[3] = line.encoding as u8;
    header[4] = line.kind as u8;
    header[5] = line.flags;
    header[6..8].copy_from_slice(&[0; 2]);
    header[8..12].copy_from_slice(&line.frame_len.to_le_bytes());
    header[16..24].copy_from_slice(&line.append_time_ns.to_le_bytes());
    header[24..32].copy_from_slice(&line.topic_id.to_le_bytes());
    header[32..36].copy_from_slice(&line.partition.to_le_bytes());
    header[36..40].copy_from_slice(&line.log_epoch.to_le_bytes());
    header[40..44].copy_from_slice(&line.prev_crc.to_le_bytes());
    header[44..48].copy_from_slice(&line.prev_frame_len.to_le_bytes());
    header[48..56].copy_from_slice(&line.flushed_upto.to_le_bytes());
    header[56..64].copy_from_slice(&line.correlation.to_le_bytes());
    header[64..67].copy_from_slice(&[0; 3]);
    header[67..75].copy_from_slice(&line.base_offset.to_be_bytes());
    header[79..83].copy_from_slice(&line.leader_epoch.to_be_bytes());
    let crc = header_crc(header);
    header[12..16].copy_from_slice(&(crc ^ secret).to_le_bytes());
    crc
}

/// CRC-32 (IEEE) of bytes 0..12 and 16..128: everything but the field it is kept in.
#[inline]
#[must_use]
pub fn header_crc(header: &[u8; HEADER_LEN]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(&header[16..]);
    hasher.finalize()
}
