//! A Kafka RecordBatch v2 in contiguous bytes: what makes one valid, and its fields.
//! Owner: nobody; a view borrows the bytes.
//! Invariant: a view exists only over bytes whose lengths agree; nothing is decompressed here.
//! Not here: walking records (`records.rs`), sequences and offsets (`partition`).

use crate::compression::Codec;
use crate::crc32c::crc32c;
use crate::error_code::ErrorCode;
use crate::header::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_DELETE_HORIZON, ATTRIBUTE_TRANSACTIONAL, KAFKA_HEADER_LEN,
    KafkaHeader,
};
use crate::records::Records;

/// Bytes of a batch before those that `batchLength` counts.
pub const BATCH_OVERHEAD: usize = 12;
/// Where the bytes under the CRC begin in a batch.
pub const BATCH_CRC_FROM: usize = 21;
/// Where the magic byte stands: also in the old message formats.
const MAGIC_AT: usize = 16;

/// Why bytes are not a batch that a producer may send (kafka.md P1–P5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// No bytes at all.
    #[error("no record batch")]
    Empty,
    /// Fewer bytes than a batch header, or than `batchLength` says.
    #[error("record batch cut off: expected {expected} bytes, got {actual}")]
    Short {
        /// Bytes needed.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// `batchLength` below its least value.
    #[error("batch length {actual}, expected at least 49")]
    Length {
        /// What it says.
        actual: i32,
    },
    /// Bytes behind the batch: a second batch, or garbage.
    #[error("{actual} bytes where one batch has {expected}")]
    Trailing {
        /// Bytes of the first batch.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// An old message format, or none.
    #[error("magic {actual}, expected 2")]
    Magic {
        /// What it says.
        actual: u8,
    },
    /// The checksum does not fit.
    #[error("bad CRC-32C: expected {expected:08x}, got {actual:08x}")]
    Crc {
        /// Computed.
        expected: u32,
        /// What it says.
        actual: u32,
    },
    /// Record count not positive, or not `lastOffsetDelta` + 1.
    #[error("{count} records with last offset delta {last_offset_delta}")]
    Count {
        /// Records.
        count: i32,
        /// Last offset delta.
        last_offset_delta: i32,
    },
    /// Control batches are the broker's own.
    #[error("control batch from a client")]
    Control,
    /// Transactional, and no producer id.
    #[error("transactional batch without producer id")]
    NoProducer,
    /// Idempotent, and no sequence.
    #[error("producer {producer_id} with base sequence {base_sequence}")]
    Sequence {
        /// Producer.
        producer_id: i64,
        /// Its sequence.
        base_sequence: i32,
    },
    /// Only the cleaner sets a delete horizon.
    #[error("delete horizon set by a client")]
    DeleteHorizon,
    /// Codec 5, 6 or 7.
    #[error("compression codec {codec} is unknown")]
    Codec {
        /// Its number.
        codec: i16,
    },
}

impl BatchError {
    /// What the client is told.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            BatchError::Short { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => {
                ErrorCode::CorruptMessage
            }
            BatchError::Codec { .. } => ErrorCode::UnsupportedCompressionType,
            BatchError::Empty
            | BatchError::Trailing { .. }
            | BatchError::Magic { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::NoProducer
            | BatchError::Sequence { .. }
            | BatchError::DeleteHorizon => ErrorCode::InvalidRecord,
        }
    }
}

/// One batch whose lengths agree with its bytes.
#[derive(Clone, Copy)]
pub struct RecordBatchView<'a> {
    bytes: &'a [u8],
    header: &'a KafkaHeader,
}

impl<'a> RecordBatchView<'a> {
    /// Views bytes that hold exactly one batch.
    ///
    /// # Errors
    /// [`BatchError`]: empty, short, magic, length, trailing.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<RecordBatchView<'a>, BatchError> {
        let (batch, rest) = RecordBatchView::parse_first(bytes)?;
        if rest.is_empty() {
            return Ok(batch);
        }
        Err(BatchError::Trailing { expected: batch.bytes.len(), actual: bytes.len() })
    }

    /// Views the first batch in `bytes` and returns the bytes behind it, as a consumer reads a fetch.
    ///
    /// # Errors
    /// [`BatchError`]: empty, short (for a consumer: the reply was cut at its size limit), magic, length.
    #[inline]
    pub fn parse_first(bytes: &'a [u8]) -> Result<(RecordBatchView<'a>, &'a [u8]), BatchError> {
        if bytes.is_empty() {
            return Err(BatchError::Empty);
        }
        // Old formats are told from damage also when they are shorter than a batch header.
        if let Some(&actual) = bytes.get(MAGIC_AT).filter(|&&magic| magic != 2) {
            return Err(BatchError::Magic { actual });
        }
        let short = |expected| BatchError::Short { expected, actual: bytes.len() };
        let header = KafkaHeader::access(bytes).map_err(|_| short(KAFKA_HEADER_LEN))?;
        let actual = header.batch_length();
        let length = usize::try_from(actual).unwrap_or(0).saturating_add(BATCH_OVERHEAD);
        if length < KAFKA_HEADER_LEN {
            return Err(BatchError::Length { actual });
        }
        let (batch, rest) = bytes.split_at_checked(length).ok_or_else(|| short(length))?;
        Ok((RecordBatchView { bytes: batch, header }, rest))
    }

    /// Views and checks what a producer sent: structure, CRC, count, attributes (P1–P5).
    ///
    /// # Errors
    /// [`BatchError`]; none is transient but a CRC broken on the way.
    #[inline]
    pub fn from_producer(bytes: &'a [u8]) -> Result<RecordBatchView<'a>, BatchError> {
        let batch = RecordBatchView::parse(bytes)?;
        batch.check_crc()?;
        check_producer_header(batch.header)?;
        Ok(batch)
    }

    /// Whether the CRC-32C fits.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    #[inline]
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let expected = crc32c(self.bytes.get(BATCH_CRC_FROM..).unwrap_or_default());
        let actual = self.header.kafka_crc();
        if expected == actual { Ok(()) } else { Err(BatchError::Crc { expected, actual }) }
    }

    /// All of its bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its fields.
    #[inline]
    #[must_use]
    pub const fn header(&self) -> &'a KafkaHeader {
        self.header
    }

    /// The records as sent, compressed or not.
    #[inline]
    #[must_use]
    pub fn record_bytes(&self) -> &'a [u8] {
        self.bytes.get(KAFKA_HEADER_LEN..).unwrap_or_default()
    }

    /// How the records are compressed; `None` for an unknown codec.
    #[inline]
    #[must_use]
    pub const fn codec(&self) -> Option<Codec> {
        Codec::of_attributes(self.header.attributes())
    }

    /// Walks the records of an uncompressed batch; of a compressed one, walk what
    /// [`crate::compression::decompress`] gives with [`Records::new`].
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records::new(self.record_bytes(), self.header.record_count())
    }
}

impl std::fmt::Debug for RecordBatchView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordBatchView")
            .field("base_offset", &self.header.base_offset())
            .field("records", &self.header.record_count())
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// What a producer may write into count, attributes and producer fields (P3–P5).
///
/// # Errors
/// [`BatchError`]: codec, control, delete horizon, producer, sequence, count.
#[inline]
pub fn check_producer_header(header: &KafkaHeader) -> Result<(), BatchError> {
    let attributes = header.attributes();
    if Codec::of_attributes(attributes).is_none() {
        return Err(BatchError::Codec { codec: attributes & 0b111 });
    }
    if attributes & ATTRIBUTE_CONTROL != 0 {
        return Err(BatchError::Control);
    }
    if attributes & ATTRIBUTE_DELETE_HORIZON != 0 {
        return Err(BatchError::DeleteHorizon);
    }
    let producer_id = header.producer_id();
    if attributes & ATTRIBUTE_TRANSACTIONAL != 0 && producer_id < 0 {
        return Err(BatchError::NoProducer);
    }
    let base_sequence = header.base_sequence();
    if producer_id >= 0 && base_sequence < 0 {
        return Err(BatchError::Sequence { producer_id, base_sequence });
    }
    let (count, last_offset_delta) = (header.record_count(), header.last_offset_delta());
    if count <= 0 || last_offset_delta.checked_add(1) != Some(count) {
        return Err(BatchError::Count { count, last_offset_delta });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_writer::{BatchOptions, BatchWriter};

    fn batch() -> Vec<u8> {
        let mut writer = BatchWriter::new(BatchOptions::default());
        writer.push(1000, Some(b"key"), Some(b"value"), &[]).unwrap();
        writer.push(1005, None, Some(b"other"), &[(b"h", None)]).unwrap();
        writer.finish().unwrap();
        writer.batch().to_vec()
    }

    /// Changes a field under the CRC and makes the CRC fit again.
    fn changed(at: usize, to: &[u8]) -> Vec<u8> {
        let mut bytes = batch();
        bytes[at..at + to.len()].copy_from_slice(to);
        let crc = crc32c(&bytes[BATCH_CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn refused(bytes: &[u8]) -> (BatchError, i16) {
        let error = RecordBatchView::from_producer(bytes).unwrap_err();
        (error, error.code().code())
    }

    #[test]
    fn a_sound_batch_is_accepted() {
        let bytes = batch();
        let view = RecordBatchView::from_producer(&bytes).unwrap();
        assert_eq!(view.header().record_count(), 2);
        assert_eq!(view.header().max_timestamp(), 1005);
        assert_eq!(view.codec(), Some(Codec::None));
        let records: Vec<_> = view.records().map(|record| record.unwrap()).collect();
        assert_eq!(records[0].key, Some(&b"key"[..]));
        assert_eq!(records[1].timestamp_delta, 5);
        assert_eq!(records[1].headers.collect::<Vec<_>>(), [(&b"h"[..], None)]);
    }

    #[test]
    fn each_broken_rule_has_its_error_and_code() {
        let bytes = batch();
        let len = bytes.len();
        assert_eq!(refused(&[]), (BatchError::Empty, 87));
        assert_eq!(refused(&bytes[..60]).0, BatchError::Short { expected: 61, actual: 60 });
        assert_eq!(refused(&bytes[..len - 1]).1, 2);
        let twice = [&bytes[..], &bytes].concat();
        let trailing = BatchError::Trailing { expected: len, actual: 2 * len };
        assert_eq!(refused(&twice), (trailing, 87));
        assert_eq!(refused(&changed(16, &[1])), (BatchError::Magic { actual: 1 }, 87));
        // A message of the oldest format is shorter than a batch header.
        assert_eq!(refused(&[0; 30]), (BatchError::Magic { actual: 0 }, 87));
        let length = changed(8, &48i32.to_be_bytes());
        assert_eq!(refused(&length), (BatchError::Length { actual: 48 }, 2));
        assert_eq!(refused(&changed(8, &(-1i32).to_be_bytes())).1, 2);
        assert_eq!(refused(&changed(57, &0i32.to_be_bytes())).1, 87);
        assert_eq!(refused(&changed(23, &2i32.to_be_bytes())).1, 87);
        assert_eq!(refused(&changed(23, &i32::MAX.to_be_bytes())).1, 87);
        assert_eq!(refused(&changed(21, &[0, 0x20])), (BatchError::Control, 87));
        assert_eq!(refused(&changed(21, &[0, 0x40])), (BatchError::DeleteHorizon, 87));
        assert_eq!(refused(&changed(21, &[0, 0x10])), (BatchError::NoProducer, 87));
        assert_eq!(refused(&changed(21, &[0, 5])), (BatchError::Codec { codec: 5 }, 76));
        assert_eq!(refused(&changed(43, &7i64.to_be_bytes())).1, 87);
    }

    #[test]
    fn every_flipped_bit_is_found_or_outside_the_crc() {
        let good = batch();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // baseOffset and partitionLeaderEpoch are the broker's to write.
            let outside = bit / 8 < 8 || (12..16).contains(&(bit / 8));
            assert_eq!(RecordBatchView::from_producer(&bad).is_ok(), outside, "bit {bit}");
        }
    }
}
