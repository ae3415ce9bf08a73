//! Long CPU work as pure functions: run beside the loop, or at once in the simulator.
//! Owner: nobody.
//! Invariant: the same job always gives the same result.
//! Not here: who asked (`list_offsets.rs`), where it runs (`runtime`, `sim`).

use crate::request::{Job, JobResult};
use ringway_wire::batch::RecordBatchView;
use ringway_wire::compression::{Codec, CompressionError, decompress};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::KAFKA_AT;
use ringway_wire::records::Records;
use std::borrow::Cow;

/// Bytes of records for each byte of a batch: telemetry shrinks less, a bomb far more (S09).
const EXPANSION_MAX: usize = 64;
/// However small a batch is, its records may take as much: equal ones shrink a hundredfold.
const RECORDS_BYTES_FREE: usize = 64 << 10;
/// Records named in a refusal.
const UNKEYED_NAMED_MAX: usize = 16;

/// Does the work.
#[must_use]
pub fn run(job: &Job) -> JobResult {
    match job {
        Job::FindTime { frame, at, message_bytes_max } => {
            JobResult::Time(find_time(frame, *at, *message_bytes_max))
        }
        Job::NullKeys { batch, message_bytes_max } => {
            JobResult::NullKeys(check_keys(batch, *message_bytes_max))
        }
    }
}

/// What the records of a batch of `packed` bytes may take unpacked: a job holds the shard up while it runs.
fn records_bytes_max(packed: usize, message_bytes_max: u32) -> usize {
    let expanded = packed.saturating_mul(EXPANSION_MAX).max(RECORDS_BYTES_FREE);
    expanded.min(usize::try_from(message_bytes_max).unwrap_or(usize::MAX))
}

fn unpack<'a>(
    batch: &RecordBatchView<'a>,
    message_bytes_max: u32,
) -> Result<Cow<'a, [u8]>, CompressionError> {
    let packed = batch.record_bytes();
    match batch.codec() {
        Some(Codec::None) | None => Ok(Cow::Borrowed(packed)),
        Some(codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd)) => {
            let cap = records_bytes_max(packed.len(), message_bytes_max);
            decompress(codec, packed, cap).map(Cow::Owned)
        }
    }
}

/// Whether the records of a batch can be stored by key; the first few without one are named.
pub(crate) fn check_keys(batch: &[u8], message_bytes_max: u32) -> Result<(), (ErrorCode, String)> {
    let invalid = |message: String| Err((ErrorCode::InvalidRecord, message));
    let batch = match RecordBatchView::parse(batch) {
        Ok(batch) => batch,
        Err(error) => return invalid(error.to_string()),
    };
    let bytes = match unpack(&batch, message_bytes_max) {
        Ok(bytes) => bytes,
        Err(error @ CompressionError::TooLarge { .. }) => {
            // The code upon which the Java client sends the records again in smaller batches.
            let packed = batch.record_bytes().len();
            let message = format!(
                "{error}: the records of a compacted topic may take max.message.bytes = \
                 {message_bytes_max} unpacked, and {EXPANSION_MAX} times the {packed} they take \
                 packed or {RECORDS_BYTES_FREE}; send smaller batches"
            );
            return Err((ErrorCode::MessageTooLarge, message));
        }
        Err(error @ CompressionError::Damaged { .. }) => return invalid(error.to_string()),
    };
    let mut unkeyed = Vec::new();
    for record in Records::new(&bytes, batch.header().record_count()) {
        match record {
            Ok(record) if record.key.is_none() => unkeyed.push(record.offset_delta.to_string()),
            Ok(_) => {}
            Err(error) => return invalid(error.to_string()),
        }
        if unkeyed.len() == UNKEYED_NAMED_MAX {
            break;
        }
    }
    if unkeyed.is_empty() {
        return Ok(());
    }
    invalid(format!("records {} have no key and the topic is compacted", unkeyed.join(", ")))
}

/// Offset and timestamp of the first record of a frame's batch at or after `at`. Of a batch that may not be
/// unpacked, where it begins: whoever asked reads records that are too early, and misses none.
fn find_time(frame: &[u8], at: i64, message_bytes_max: u32) -> Option<(u64, i64)> {
    let batch = RecordBatchView::parse(frame.get(KAFKA_AT..)?).ok()?;
    let header = batch.header();
    batch.codec()?;
    let bytes = match unpack(&batch, message_bytes_max) {
        Ok(bytes) => bytes,
        Err(CompressionError::TooLarge { .. }) => {
            let first = u64::try_from(header.base_offset()).ok()?;
            return Some((first, header.max_timestamp()));
        }
        Err(CompressionError::Damaged { .. }) => return None,
    };
    for record in Records::new(&bytes, header.record_count()) {
        let record = record.ok()?;
        let timestamp = header.base_timestamp().wrapping_add(record.timestamp_delta);
        if timestamp >= at {
            let offset = header.base_offset().checked_add(i64::from(record.offset_delta))?;
            return Some((u64::try_from(offset).ok()?, timestamp));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_wire::batch_writer::{BatchOptions, BatchWriter};

    const MESSAGE_BYTES_MAX: u32 = 1_048_588;

    /// A batch of one record whose bytes are `unpacked` in all; it takes next to nothing packed.
    fn bomb(codec: Codec, unpacked: usize) -> Vec<u8> {
        let written = |value: usize, codec| {
            let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
            writer.push(7, Some(b"k"), Some(&vec![0; value]), &[]).expect("one record");
            writer.finish().expect("one record");
            writer.batch().to_vec()
        };
        let plain = written(unpacked, Codec::None);
        let around = RecordBatchView::parse(&plain).expect("sound").record_bytes().len() - unpacked;
        written(unpacked - around, codec)
    }

    fn as_frame(batch: &[u8]) -> Vec<u8> {
        let mut frame = [&[0; KAFKA_AT][..], batch].concat();
        frame[KAFKA_AT..KAFKA_AT + 8].copy_from_slice(&100i64.to_be_bytes());
        frame
    }

    fn frame(codec: Codec) -> Vec<u8> {
        let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
        for timestamp in [10, 30, 20, 40] {
            writer.push(timestamp, None, Some(b"value"), &[]).expect("small");
        }
        writer.finish().expect("records");
        as_frame(writer.batch())
    }

    #[test]
    fn s09_records_take_the_least_of_both_bounds_unpacked() {
        let free = RECORDS_BYTES_FREE;
        assert_eq!(records_bytes_max(10, MESSAGE_BYTES_MAX), free);
        assert_eq!(records_bytes_max(free / EXPANSION_MAX + 1, MESSAGE_BYTES_MAX), free + 64);
        assert_eq!(records_bytes_max(1 << 20, MESSAGE_BYTES_MAX), 1_048_588);
        assert_eq!(records_bytes_max(10, 1000), 1000);
        assert_eq!(records_bytes_max(usize::MAX, u32::MAX), 0xFFFF_FFFF);
    }

    #[test]
    fn s09_a_batch_at_a_bound_is_looked_into_and_one_byte_more_is_not() {
        // The second bound holds before the first, for a topic of small messages.
        for (limit, message_bytes_max) in [(RECORDS_BYTES_FREE, MESSAGE_BYTES_MAX), (900, 900)] {
            for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
                let (fits, above) = (bomb(codec, limit), bomb(codec, limit + 1));
                assert!(above.len() * EXPANSION_MAX < limit || limit == 900, "{}", above.len());
                assert_eq!(check_keys(&fits, message_bytes_max), Ok(()), "{codec:?}");
                let refused = check_keys(&above, message_bytes_max).expect_err("too large");
                assert_eq!(refused.0, ErrorCode::MessageTooLarge, "{codec:?}: {}", refused.1);
                let at = |batch: &[u8], at| find_time(&as_frame(batch), at, message_bytes_max);
                assert_eq!((at(&fits, 7), at(&fits, 8)), (Some((100, 7)), None), "{codec:?}");
                assert_eq!(at(&above, 7), Some((100, 7)), "{codec:?}");
                assert_eq!(at(&above, 8), Some((100, 7)), "not looked into: {codec:?}");
            }
        }
    }

    #[test]
    fn p7_records_without_key_are_named_in_any_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
            for key in [Some(&b"k"[..]), None, Some(b""), None] {
                writer.push(1, key, Some(b"v"), &[]).expect("small");
            }
            writer.finish().expect("records");
            let message = "records 1, 3 have no key and the topic is compacted".to_owned();
            let refused = Err((ErrorCode::InvalidRecord, message));
            assert_eq!(check_keys(writer.batch(), MESSAGE_BYTES_MAX), refused, "{codec:?}");
            let batch = frame(codec)[KAFKA_AT..].to_vec();
            let job = Job::NullKeys { batch, message_bytes_max: MESSAGE_BYTES_MAX };
            assert!(matches!(run(&job), JobResult::NullKeys(Err(_))));
        }
    }

    #[test]
    fn o1_the_first_record_at_or_after_a_time_is_found_in_any_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let frame = frame(codec);
            for (at, expected) in
                [(0, Some((100, 10))), (11, Some((101, 30))), (31, Some((103, 40))), (41, None)]
            {
                let (frame, message_bytes_max) = (frame.clone(), MESSAGE_BYTES_MAX);
                let job = Job::FindTime { frame, at, message_bytes_max };
                assert_eq!(run(&job), JobResult::Time(expected), "{codec:?} at {at}");
            }
        }
    }
}
