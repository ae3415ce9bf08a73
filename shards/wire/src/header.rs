//! The two 128-byte headers as flat views: the batch header (version 2) and the envelope header (version 1).
//! Owner: nobody, pure functions over bytes.
//! Invariant: the layout is `formats.md` §1 and §2 to the byte; `const` asserts and golden bytes pin it.
//! Not here: payloads (`batch.rs`, `native.rs`), which frames a recovery believes (`log`).

use rkyv::Archive;
use rkyv::rancor::Failure;
use std::mem::{align_of, offset_of, size_of};

/// Bytes of either header.
pub const HEADER_LEN: usize = 128;
/// Where the Kafka RecordBatch begins in a frame.
pub const KAFKA_AT: usize = 67;
/// Where the bytes under Kafka's CRC-32C begin in a frame (`attributes`).
pub const CRC_FROM: usize = 88;
/// Where the records begin in a frame.
pub const RECORDS_AT: usize = 128;
/// Bytes of a RecordBatch v2 before its records.
pub const KAFKA_HEADER_LEN: usize = 61;
/// `frame_len` − `batchLength`: 67 native bytes and the 12 that `batchLength` does not count.
pub const FRAME_OVER_BATCH_LENGTH: u32 = 79;
/// Byte 0 and 1 of every native frame.
pub const MAGIC: [u8; 2] = *b"V2";
/// Byte 2 of an envelope.
pub const ENVELOPE_VERSION: u8 = 1;
/// Byte 2 of a batch frame.
pub const BATCH_VERSION: u8 = 2;

/// Native flag: control batch (attribute bit 5).
pub const FLAG_CONTROL: u8 = 1;
/// Native flag: transactional batch (attribute bit 4).
pub const FLAG_TRANSACTIONAL: u8 = 1 << 1;
/// Native flag: the broker stamped the timestamps (attribute bit 3).
pub const FLAG_LOG_APPEND_TIME: u8 = 1 << 2;
/// Native flag: written by the cleaner.
pub const FLAG_COMPACTED: u8 = 1 << 3;

/// Attribute bits 0–2: codec.
pub const ATTRIBUTE_CODEC: i16 = 0b111;
/// Attribute bit 3: timestamps are append times.
pub const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
/// Attribute bit 4: part of a transaction.
pub const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
/// Attribute bit 5: control batch.
pub const ATTRIBUTE_CONTROL: i16 = 1 << 5;
/// Attribute bit 6: `baseTimestamp` is a delete horizon.
pub const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;

/// The native flags that follow from Kafka's attributes; a frame that says otherwise is damaged.
#[inline]
#[must_use]
pub const fn flags_of_attributes(attributes: i16) -> u8 {
    // Attribute bits 5, 4, 3 are flag bits 0, 1, 2.
    let mut flags = 0;
    if attributes & ATTRIBUTE_CONTROL != 0 {
        flags |= FLAG_CONTROL;
    }
    if attributes & ATTRIBUTE_TRANSACTIONAL != 0 {
        flags |= FLAG_TRANSACTIONAL;
    }
    if attributes & ATTRIBUTE_LOG_APPEND_TIME != 0 {
        flags |= FLAG_LOG_APPEND_TIME;
    }
    flags
}

/// Bytes of the frame whose Kafka part says `batch_length`; `None` below the 49 of an empty batch or
/// above what a `u32` holds.
#[inline]
#[must_use]
pub const fn frame_len_of_batch_length(batch_length: i32) -> Option<u32> {
    if batch_length < 49 {
        return None;
    }
    batch_length.cast_unsigned().checked_add(FRAME_OVER_BATCH_LENGTH)
}

/// `batchLength` of a frame of `frame_len` bytes; `None` below 128 or above what an `i32` holds.
#[inline]
#[must_use]
pub const fn batch_length_of_frame_len(frame_len: u32) -> Option<i32> {
    let Some(length) = frame_len.checked_sub(FRAME_OVER_BATCH_LENGTH) else { return None };
    if length < 49 || length > i32::MAX.cast_unsigned() {
        return None;
    }
    Some(length.cast_signed())
}

/// Why bytes are not the header they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too few bytes.
    #[error("header too short: expected {expected} bytes, got {actual}")]
    Short {
        /// Bytes a header needs.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// Not "V2".
    #[error("bad magic: expected {expected:02x?}, got {actual:02x?}")]
    Magic {
        /// "V2".
        expected: [u8; 2],
        /// What stood there.
        actual: [u8; 2],
    },
    /// Another version than this reader's.
    #[error("bad version: expected {expected}, got {actual}")]
    Version {
        /// 1 or 2.
        expected: u8,
        /// What stood there.
        actual: u8,
    },
    /// A kind (batch) or type (envelope) without a meaning.
    #[error("bad kind: expected one of {expected:?}, got {actual}")]
    Kind {
        /// The known ones.
        expected: &'static [u8],
        /// What stood there.
        actual: u8,
    },
    /// An encoding without a meaning.
    #[error("bad encoding: expected at most {expected}, got {actual}")]
    Encoding {
        /// The greatest known one.
        expected: u8,
        /// What stood there.
        actual: u8,
    },
    /// The header's checksum does not fit its bytes.
    #[error("bad header checksum: expected {expected:08x}, got {actual:08x}")]
    Crc {
        /// Computed from the bytes.
        expected: u32,
        /// What stood there (without the secret).
        actual: u32,
    },
    /// A frame shorter than its header, or longer than the reader's limit.
    #[error("bad frame length: expected 128 to {limit}, got {actual}")]
    FrameLen {
        /// The reader's limit.
        limit: u32,
        /// What stood there.
        actual: u32,
    },
    /// The two lengths of a data frame contradict each other.
    #[error("bad batch length: expected {expected} from the frame length, got {actual}")]
    BatchLength {
        /// `frame_len` − 79.
        expected: i64,
        /// What stood there.
        actual: i32,
    },
}

/// How the values of the records, or the payload of an envelope, are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// JSON.
    Json = 0,
    /// JSON inside one gob byte slice.
    Gob = 1,
    /// Bytes as they are.
    Plain = 2,
    /// Not said, for example from Kafka; batches only.
    Unspecified = 3,
}

impl Encoding {
    /// The encoding with this number.
    #[inline]
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Encoding> {
        match byte {
            0 => Some(Encoding::Json),
            1 => Some(Encoding::Gob),
            2 => Some(Encoding::Plain),
            3 => Some(Encoding::Unspecified),
            _ => None,
        }
    }
}

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

/// What an envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Asks; answered by one response or error with its correlation id.
    Request = 0,
    /// Answers.
    Response = 1,
    /// Needs no answer.
    Event = 2,
    /// Answers that it failed.
    Error = 3,
}

impl MessageType {
    /// Numbers that have a meaning.
    pub const KNOWN: &'static [u8] = &[0, 1, 2, 3];

    /// The type with this number.
    #[inline]
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<MessageType> {
        match byte {
            0 => Some(MessageType::Request),
            1 => Some(MessageType::Response),
            2 => Some(MessageType::Event),
            3 => Some(MessageType::Error),
            _ => None,
        }
    }
}

/// Layout of [`KafkaHeader`]: every field big-endian as it travels.
#[derive(Archive)]
#[rkyv(archived = KafkaHeader)]
pub struct KafkaLayout {
    base_offset: [u8; 8],
    batch_length: [u8; 4],
    leader_epoch: [u8; 4],
    magic: u8,
    crc: [u8; 4],
    attributes: [u8; 2],
    last_offset_delta: [u8; 4],
    base_timestamp: [u8; 8],
    max_timestamp: [u8; 8],
    producer_id: [u8; 8],
    producer_epoch: [u8; 2],
    base_sequence: [u8; 4],
    record_count: [u8; 4],
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

/// Layout of [`EnvelopeHeader`]: big-endian, strings NUL-padded.
#[derive(Archive)]
#[rkyv(archived = EnvelopeHeader)]
pub struct EnvelopeLayout {
    magic: [u8; 2],
    version: u8,
    encoding: u8,
    message_type: u8,
    flags: u8,
    reserved: [u8; 2],
    payload_len: [u8; 4],
    message_id: [u8; 32],
    source_id: [u8; 32],
    target_id: [u8; 32],
    correlation_id: [u8; 20],
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "the compiler evaluates it and refuses an overflow"
)]
const _: () = {
    assert!(size_of::<BatchHeader>() == HEADER_LEN && align_of::<BatchHeader>() == 1);
    assert!(size_of::<EnvelopeHeader>() == HEADER_LEN && align_of::<EnvelopeHeader>() == 1);
    assert!(size_of::<KafkaHeader>() == KAFKA_HEADER_LEN && align_of::<KafkaHeader>() == 1);
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

    assert!(KAFKA_AT + offset_of!(KafkaHeader, base_offset) == 67);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, batch_length) == 75);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, leader_epoch) == 79);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, magic) == 83);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, crc) == 84);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, attributes) == CRC_FROM);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, last_offset_delta) == 90);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, base_timestamp) == 94);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, max_timestamp) == 102);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, producer_id) == 110);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, producer_epoch) == 118);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, base_sequence) == 120);
    assert!(KAFKA_AT + offset_of!(KafkaHeader, record_count) == 124);

    assert!(offset_of!(EnvelopeHeader, magic) == 0);
    assert!(offset_of!(EnvelopeHeader, version) == 2);
    assert!(offset_of!(EnvelopeHeader, encoding) == 3);
    assert!(offset_of!(EnvelopeHeader, message_type) == 4);
    assert!(offset_of!(EnvelopeHeader, flags) == 5);
    assert!(offset_of!(EnvelopeHeader, reserved) == 6);
    assert!(offset_of!(EnvelopeHeader, payload_len) == 8);
    assert!(offset_of!(EnvelopeHeader, message_id) == 12);
    assert!(offset_of!(EnvelopeHeader, source_id) == 44);
    assert!(offset_of!(EnvelopeHeader, target_id) == 76);
    assert!(offset_of!(EnvelopeHeader, correlation_id) == 108);
};

impl KafkaHeader {
    /// Views the first 61 bytes of a RecordBatch; its fields are not checked (`batch.rs` does).
    ///
    /// # Errors
    /// [`HeaderError::Short`].
    #[inline]
    pub fn access(bytes: &[u8]) -> Result<&KafkaHeader, HeaderError> {
        let short = HeaderError::Short { expected: KAFKA_HEADER_LEN, actual: bytes.len() };
        let Some(header) = bytes.first_chunk::<KAFKA_HEADER_LEN>() else { return Err(short) };
        rkyv::api::low::access::<KafkaHeader, Failure>(header).map_err(|_| short)
    }

    /// Offset of the first record.
    #[inline]
    #[must_use]
    pub const fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.base_offset)
    }

    /// Bytes of the batch after this field.
    #[inline]
    #[must_use]
    pub const fn batch_length(&self) -> i32 {
        i32::from_be_bytes(self.batch_length)
    }

    /// `partitionLeaderEpoch`.
    #[inline]
    #[must_use]
    pub const fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.leader_epoch)
    }

    /// 2 for the only form served.
    #[inline]
    #[must_use]
    pub const fn kafka_magic(&self) -> u8 {
        self.magic
    }

    /// CRC-32C from `attributes` to the end.
    #[inline]
    #[must_use]
    pub const fn kafka_crc(&self) -> u32 {
        u32::from_be_bytes(self.crc)
    }

    /// Codec and flags.
    #[inline]
    #[must_use]
    pub const fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.attributes)
    }

    /// Offset of the last record − `base_offset`.
    #[inline]
    #[must_use]
    pub const fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.last_offset_delta)
    }

    /// What record timestamps count from, ms; a delete horizon when attribute bit 6 is set.
    #[inline]
    #[must_use]
    pub const fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.base_timestamp)
    }

    /// The delete horizon, ms, where the cleaner has set one (M6).
    #[inline]
    #[must_use]
    pub const fn delete_horizon(&self) -> Option<i64> {
        if self.attributes() & ATTRIBUTE_DELETE_HORIZON == 0 {
            return None;
        }
        Some(self.base_timestamp())
    }

    /// Greatest timestamp, ms, as its producer or the append said.
    #[inline]
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.max_timestamp)
    }

    /// −1 without idempotence.
    #[inline]
    #[must_use]
    pub const fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.producer_id)
    }

    /// −1 without idempotence.
    #[inline]
    #[must_use]
    pub const fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.producer_epoch)
    }

    /// −1 without idempotence.
    #[inline]
    #[must_use]
    pub const fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.base_sequence)
    }

    /// Records of the batch.
    #[inline]
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.record_count)
    }
}

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

const HEADER_LEN_U32: u32 = 128;

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

/// The name that does not fit its field of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}: {actual} > {limit}")]
pub struct IdError {
    /// Which field.
    pub field: &'static str,
    /// Too long, or holds the NUL that would end it.
    pub reason: &'static str,
    /// Its bytes, or where the NUL stands.
    pub actual: usize,
    /// Bytes the field holds, or 0.
    pub limit: usize,
}

/// Everything of an envelope header; ids as text without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeLine<'a> {
    /// Encoding of the payload; never `Unspecified`.
    pub encoding: Encoding,
    /// Request, response, event, error.
    pub message_type: MessageType,
    /// Compression and chunking; 0 to peers that did not offer them.
    pub flags: u8,
    /// Bytes 6 and 7, preserved from what was received.
    pub reserved: [u8; 2],
    /// Payload bytes.
    pub payload_len: u32,
    /// Method or event name, ≤ 32 bytes.
    pub message_id: &'a [u8],
    /// Sender, ≤ 32 bytes.
    pub source_id: &'a [u8],
    /// Receiver, ≤ 32 bytes.
    pub target_id: &'a [u8],
    /// Echoed in the answer, ≤ 20 bytes.
    pub correlation_id: &'a [u8],
}

impl EnvelopeLine<'_> {
    /// The 128 bytes.
    ///
    /// # Errors
    /// [`IdError`] for an id that is longer than its field or holds a NUL: it would be cut silently.
    pub fn to_bytes(&self) -> Result<[u8; HEADER_LEN], IdError> {
        let mut header = [0; HEADER_LEN];
        header[0..2].copy_from_slice(&MAGIC);
        header[2] = ENVELOPE_VERSION;
        header[3] = self.encoding as u8;
        header[4] = self.message_type as u8;
        header[5] = self.flags;
        header[6..8].copy_from_slice(&self.reserved);
        header[8..12].copy_from_slice(&self.payload_len.to_be_bytes());
        put_id(&mut header[12..44], "message_id", self.message_id)?;
        put_id(&mut header[44..76], "source_id", self.source_id)?;
        put_id(&mut header[76..108], "target_id", self.target_id)?;
        put_id(&mut header[108..128], "correlation_id", self.correlation_id)?;
        Ok(header)
    }
}

fn put_id(to: &mut [u8], field: &'static str, id: &[u8]) -> Result<(), IdError> {
    let limit = to.len();
    if let Some(actual) = id.iter().position(|&byte| byte == 0) {
        return Err(IdError { field, reason: "holds a NUL at", actual, limit: 0 });
    }
    let too_long = IdError { field, reason: "too long", actual: id.len(), limit };
    to.get_mut(..id.len()).ok_or(too_long)?.copy_from_slice(id);
    Ok(())
}

impl EnvelopeHeader {
    /// Views the first 128 bytes as an envelope header; magic, version, encoding and type are known ones.
    /// The payload length is the caller's to bound.
    ///
    /// # Errors
    /// [`HeaderError`]: short, magic, version, encoding, kind, in this order.
    #[inline]
    pub fn access(bytes: &[u8]) -> Result<&EnvelopeHeader, HeaderError> {
        let header = flat::<EnvelopeHeader>(bytes)?;
        check_front(header.magic, header.version, ENVELOPE_VERSION)?;
        if header.encoding > Encoding::Plain as u8 {
            return Err(HeaderError::Encoding { expected: 2, actual: header.encoding });
        }
        if MessageType::from_u8(header.message_type).is_none() {
            let expected = MessageType::KNOWN;
            return Err(HeaderError::Kind { expected, actual: header.message_type });
        }
        Ok(header)
    }

    /// Encoding of the payload.
    #[inline]
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        match Encoding::from_u8(self.encoding) {
            Some(encoding) => encoding,
            None => Encoding::Unspecified,
        }
    }

    /// Request, response, event, error.
    #[inline]
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        match MessageType::from_u8(self.message_type) {
            Some(message_type) => message_type,
            None => MessageType::Error,
        }
    }

    /// Bits 0–2 compression, bit 3 more chunks follow.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Bytes 6 and 7.
    #[inline]
    #[must_use]
    pub const fn reserved(&self) -> [u8; 2] {
        self.reserved
    }

    /// Bytes after the header.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        u32::from_be_bytes(self.payload_len)
    }

    /// Method or event name, without padding.
    #[inline]
    #[must_use]
    pub fn message_id(&self) -> &[u8] {
        until_nul(&self.message_id)
    }

    /// Sender, without padding.
    #[inline]
    #[must_use]
    pub fn source_id(&self) -> &[u8] {
        until_nul(&self.source_id)
    }

    /// Receiver, without padding.
    #[inline]
    #[must_use]
    pub fn target_id(&self) -> &[u8] {
        until_nul(&self.target_id)
    }

    /// What the answer echoes, without padding.
    #[inline]
    #[must_use]
    pub fn correlation_id(&self) -> &[u8] {
        until_nul(&self.correlation_id)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn chunk(bytes: &[u8]) -> Result<&[u8; HEADER_LEN], HeaderError> {
    let short = HeaderError::Short { expected: HEADER_LEN, actual: bytes.len() };
    bytes.first_chunk::<HEADER_LEN>().ok_or(short)
}

#[inline]
fn flat<T>(bytes: &[u8]) -> Result<&T, HeaderError>
where
    T: rkyv::Portable
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::low::LowValidator<'a, Failure>>,
{
    let short = HeaderError::Short { expected: HEADER_LEN, actual: bytes.len() };
    // Every bit pattern of a flat header is valid, so the only thing rkyv can refuse is the length.
    rkyv::api::low::access::<T, Failure>(chunk(bytes)?).map_err(|_| short)
}

#[inline]
fn check_front(magic: [u8; 2], version: u8, expected: u8) -> Result<(), HeaderError> {
    if magic != MAGIC {
        return Err(HeaderError::Magic { expected: MAGIC, actual: magic });
    }
    if version != expected {
        return Err(HeaderError::Version { expected, actual: version });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
