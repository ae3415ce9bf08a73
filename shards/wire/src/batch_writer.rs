//! Builds record batches behind room for the native line: for clients, internal topics and tests.
//! Owner: whoever produces; reused from batch to batch, its memory stays.
//! Invariant: what it finishes passes `RecordBatchView::from_producer` (control batches apart).
//! Not here: sending, sequences over several batches.

use crate::compression::{Codec, CompressionError, compress};
use crate::crc32c::crc32c;
use crate::header::{
    CRC_FROM, HEADER_LEN, KAFKA_AT, Line, RECORDS_AT, batch_length_of_frame_len, stamp,
};
use crate::varint;

/// A record of 1 GiB or more is refused: Kafka's lengths are 32 bits, and no limit of ours is near.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// `batchLength` of a batch without records.
const EMPTY_BATCH_LENGTH: i32 = 49;
/// Kafka's time of no record.
const NO_TIMESTAMP: i64 = -1;

/// What all records of a batch share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Attribute bits 3 and up; the codec's bits are set by `codec`.
    pub attributes: i16,
    /// How to compress.
    pub codec: Codec,
    /// −1 without idempotence.
    pub producer_id: i64,
    /// −1 without idempotence.
    pub producer_epoch: i16,
    /// −1 without idempotence.
    pub base_sequence: i32,
}

impl Default for BatchOptions {
    fn default() -> BatchOptions {
        BatchOptions {
            attributes: 0,
            codec: Codec::None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }
}

/// Why a batch cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It would exceed what one batch can hold.
    #[error("batch of {actual} bytes exceeds {limit}")]
    TooLarge {
        /// Bytes it would have.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nothing was pushed.
    #[error("batch without records")]
    Empty,
    /// The codec refused.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// A batch being built.
#[derive(Clone, Debug)]
pub struct BatchWriter {
    /// 128 bytes of header, then records.
    frame: Vec<u8>,
    options: BatchOptions,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchWriter {
    /// An empty batch.
    #[must_use]
    pub fn new(options: BatchOptions) -> BatchWriter {
        let frame = vec![0; HEADER_LEN];
        BatchWriter { frame, options, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Forgets the records, keeps the memory.
    pub fn reset(&mut self, options: BatchOptions) {
        self.frame.truncate(HEADER_LEN);
        self.options = options;
        self.count = 0;
        self.max_timestamp = i64::MIN;
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, uncompressed, as Kafka counts them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frame.len().saturating_sub(KAFKA_AT)
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends a record with its time in ms.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`]; the batch is as before.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), WriteError> {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        let mut body = 1usize
            .saturating_add(varint::len_i64(timestamp_delta))
            .saturating_add(varint::len_i64(i64::from(self.count)))
            .saturating_add(field_len(key))
            .saturating_add(field_len(value))
            .saturating_add(varint::len_i64(i64::try_from(headers.len()).unwrap_or(i64::MAX)));
        for (name, header) in headers {
            body = body.saturating_add(field_len(Some(name))).saturating_add(field_len(*header));
        }
        let actual = self.frame.len().saturating_add(body).saturating_add(5);
        let too_large = WriteError::TooLarge { actual, limit: BATCH_BYTES_MAX };
        if actual > BATCH_BYTES_MAX {
            return Err(too_large);
        }
        let count = self.count.checked_add(1).ok_or(too_large)?;
        varint::put_i64(&mut self.frame, i64::try_from(body).unwrap_or(i64::MAX));
        self.frame.push(0);
        varint::put_i64(&mut self.frame, timestamp_delta);
        varint::put_i64(&mut self.frame, i64::from(self.count));
        put_field(&mut self.frame, key);
        put_field(&mut self.frame, value);
        varint::put_i64(&mut self.frame, i64::try_from(headers.len()).unwrap_or(i64::MAX));
        for (name, header) in headers {
            put_field(&mut self.frame, Some(name));
            put_field(&mut self.frame, *header);
        }
        self.count = count;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        Ok(())
    }

    /// Compresses if asked and writes Kafka's header; then [`BatchWriter::batch`] and
    /// [`BatchWriter::frame`] are valid until the next push or reset.
    ///
    /// # Errors
    /// [`WriteError::Empty`], [`WriteError::TooLarge`], [`WriteError::Compression`].
    pub fn finish(&mut self) -> Result<(), WriteError> {
        if self.count == 0 {
            return Err(WriteError::Empty);
        }
        if self.options.codec != Codec::None {
            let records = self.frame.get(RECORDS_AT..).unwrap_or_default();
            let packed = compress(self.options.codec, records)?;
            self.frame.truncate(RECORDS_AT);
            self.frame.extend_from_slice(&packed);
        }
        let actual = self.frame.len();
        let length = u32::try_from(actual).ok().and_then(batch_length_of_frame_len);
        let length = length.ok_or(WriteError::TooLarge { actual, limit: BATCH_BYTES_MAX })?;
        self.seal(length, self.count.saturating_sub(1));
        Ok(())
    }

    /// Writes Kafka's header over what was gathered.
    fn seal(&mut self, length: i32, last_offset_delta: i32) {
        let options = self.options;
        let attributes = (options.attributes & !0b111) | options.codec as i16;
        let Some(header) = self.frame.first_chunk_mut::<HEADER_LEN>() else {
            unreachable!("a frame begins with its header")
        };
        header[67..75].fill(0);
        header[75..79].copy_from_slice(&length.to_be_bytes());
        header[79..83].copy_from_slice(&(-1i32).to_be_bytes());
        header[83] = 2;
        header[88..90].copy_from_slice(&attributes.to_be_bytes());
        header[90..94].copy_from_slice(&last_offset_delta.to_be_bytes());
        header[94..102].copy_from_slice(&self.base_timestamp.to_be_bytes());
        header[102..110].copy_from_slice(&self.max_timestamp.to_be_bytes());
        header[110..118].copy_from_slice(&options.producer_id.to_be_bytes());
        header[118..120].copy_from_slice(&options.producer_epoch.to_be_bytes());
        header[120..124].copy_from_slice(&options.base_sequence.to_be_bytes());
        header[124..128].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c(self.frame.get(CRC_FROM..).unwrap_or_default());
        if let Some(field) = self.frame.get_mut(84..88) {
            field.copy_from_slice(&crc.to_be_bytes());
        }
    }

    /// The finished batch as Kafka clients send it.
    #[must_use]
    pub fn batch(&self) -> &[u8] {
        self.frame.get(KAFKA_AT..).unwrap_or_default()
    }

    /// The finished batch as a native frame with `line` stamped on (its `frame_len` is set here).
    #[must_use]
    pub fn frame(&mut self, line: &Line) -> &[u8] {
        let frame_len = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        if let Some(header) = self.frame.first_chunk_mut::<HEADER_LEN>() {
            stamp(header, &Line { frame_len, ..*line }, 0);
        }
        &self.frame
    }
}

/// A frame without records over the offsets from `line.base_offset` on, `last_offset_delta` + 1 of them: what
/// Kafka leaves of a batch whose records are all gone, so that the positions of its readers move on.
#[must_use]
pub fn empty_frame(line: &Line, last_offset_delta: i32) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchOptions::default());
    (writer.base_timestamp, writer.max_timestamp) = (NO_TIMESTAMP, NO_TIMESTAMP);
    writer.seal(EMPTY_BATCH_LENGTH, last_offset_delta);
    writer.frame(line).to_vec()
}

fn field_len(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => {
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            varint::len_i64(length).saturating_add(bytes.len())
        }
    }
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::put_i64(out, -1),
        Some(bytes) => {
            varint::put_i64(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::RecordBatchView;
    use crate::compression::decompress;
    use crate::header::BatchHeader;
    use crate::records::Records;

    #[test]
    fn one_record_has_its_golden_bytes() {
        let mut writer = BatchWriter::new(BatchOptions::default());
        writer.push(1_700_000_000_000, Some(b"k"), Some(b"v"), &[]).unwrap();
        writer.finish().unwrap();
        let hex: String = writer.batch().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "0000000000000000",
            "0000003a",
            "ffffffff",
            "02",
            "CRCCRCCR",
            "0000",
            "00000000",
            "0000018bcfe56800",
            "0000018bcfe56800",
            "ffffffffffffffff",
            "ffff",
            "ffffffff",
            "00000001",
            "1000000002",
            "6b02",
            "7600",
        );
        let crc = format!("{:08x}", crc32c(&writer.batch()[21..]));
        assert_eq!(hex, expected.replace("CRCCRCCR", &crc));
    }

    #[test]
    fn every_codec_can_be_read_back() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let options = BatchOptions { codec, ..BatchOptions::default() };
            let mut writer = BatchWriter::new(options);
            for round in 0..2 {
                writer.reset(options);
                for n in 0..100i64 {
                    writer
                        .push(5000 - n, None, Some(format!("{round}-{n}").as_bytes()), &[])
                        .unwrap();
                }
                writer.finish().unwrap();
                let view = RecordBatchView::from_producer(writer.batch()).unwrap();
                assert_eq!(view.codec(), Some(codec));
                assert_eq!(view.header().max_timestamp(), 5000);
                let plain = decompress(codec, view.record_bytes(), 1 << 20).unwrap();
                let records = Records::new(&plain, view.header().record_count());
                for (n, record) in records.enumerate() {
                    let record = record.unwrap();
                    assert_eq!(record.value, Some(format!("{round}-{n}").as_bytes()));
                    assert_eq!(record.offset_delta as usize, n);
                    assert_eq!(record.timestamp_delta, -(n as i64));
                }
            }
        }
    }

    #[test]
    fn an_empty_frame_is_sound_and_spans_its_offsets() {
        let line = Line { base_offset: 1 << 40, leader_epoch: 3, ..Line::delivered(7, 2, 0) };
        for delta in [0, 199, i32::MAX] {
            let frame = empty_frame(&line, delta);
            let header = BatchHeader::access(&frame).unwrap();
            BatchHeader::check_crc(&frame, 0).unwrap();
            header.check_lengths(128).unwrap();
            let last = (1 << 40) + u64::try_from(delta).unwrap();
            assert_eq!((header.base_offset(), header.last_offset()), (1 << 40, Some(last)));
            assert_eq!((header.record_count(), header.leader_epoch()), (0, 3));
            assert_eq!((header.producer_id(), header.max_timestamp()), (-1, -1));
            let view = RecordBatchView::parse(&frame[KAFKA_AT..]).unwrap();
            view.check_crc().unwrap();
            assert_eq!(view.records().count(), 0);
            let refused = RecordBatchView::from_producer(&frame[KAFKA_AT..]);
            assert!(refused.is_err(), "no producer may send one");
        }
    }

    #[test]
    fn an_empty_batch_is_not_finished() {
        let mut writer = BatchWriter::new(BatchOptions::default());
        assert_eq!(writer.finish(), Err(WriteError::Empty));
    }
}
