//! Kafka's 61 bytes before the records of a batch, big-endian as they travel.
//! Owner: nobody, pure functions over bytes.
//! Invariant: the field order is Kafka's RecordBatch v2; `const` asserts pin where each lies in a frame.
//! Not here: the native line before them (`header/batch.rs`), records and their checks (`batch.rs`).

use super::{ATTRIBUTE_DELETE_HORIZON, CRC_FROM, HeaderError, KAFKA_AT, KAFKA_HEADER_LEN};
use rkyv::Archive;
use rkyv::rancor::Failure;
use std::mem::{align_of, offset_of, size_of};

/// Layout of [`KafkaHeader`]: every field big-endian as it travels.
#[derive(Archive)]
#[rkyv(archived = KafkaHeader)]
pub struct KafkaLayout {
    base_offset: [u8; 8],
    batch_length: [u8; 4],
    leader_epoch: [u8; 4],
    pub(super) magic: u8,
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

#[expect(
    clippy::arithmetic_side_effects,
    reason = "the compiler evaluates it and refuses an overflow"
)]
const _: () = {
    assert!(size_of::<KafkaHeader>() == KAFKA_HEADER_LEN && align_of::<KafkaHeader>() == 1);

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
