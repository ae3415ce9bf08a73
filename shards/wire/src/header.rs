//! The two 128-byte headers as flat views: the batch header (version 2) and the envelope header (version 1).
//! Owner: nobody, pure functions over bytes.
//! Invariant: the layout is `formats.md` §1 and §2 to the byte; `const` asserts and golden bytes pin it.
//! Not here: payloads (`batch.rs`, `native.rs`), which frames a recovery believes (`log`).

mod batch;
mod envelope;
mod kafka;

pub use batch::{BatchHeader, BatchLayout, Kind, Line, header_crc, stamp};
pub use envelope::{EnvelopeHeader, EnvelopeLayout, EnvelopeLine, IdError, MessageType};
pub use kafka::{KafkaHeader, KafkaLayout};

use rkyv::rancor::Failure;

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
