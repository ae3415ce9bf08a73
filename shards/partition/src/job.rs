//! Long CPU work as pure functions: run beside the loop, or at once in the simulator.
//! Owner: nobody.
//! Invariant: the same job always gives the same result.
//! Not here: who asked (`list_offsets.rs`), where it runs (`runtime`, `sim`).

use crate::request::{Job, JobResult};
use ringway_wire::batch::RecordBatchView;
use ringway_wire::compression::{Codec, decompress};
use ringway_wire::header::KAFKA_AT;
use ringway_wire::records::Records;

/// Decompressed records of one batch at most: enough for any honest batch, a bomb costs its sender.
const RECORDS_BYTES_MAX: usize = 256 << 20;
/// Records named in a refusal.
const UNKEYED_NAMED_MAX: usize = 16;

/// Does the work.
#[must_use]
pub fn run(job: &Job) -> JobResult {
    match job {
        Job::FindTime { frame, at } => JobResult::Time(find_time(frame, *at)),
        Job::NullKeys { batch } => JobResult::NullKeys(unkeyed(batch)),
    }
}

/// Why the records of a batch cannot be stored by key: the first few without one are named.
pub(crate) fn unkeyed(batch: &[u8]) -> Option<String> {
    let Ok(batch) = RecordBatchView::parse(batch) else { return Some("no batch".to_owned()) };
    let unpacked;
    let bytes = match batch.codec() {
        Some(Codec::None) | None => batch.record_bytes(),
        Some(codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd)) => {
            match decompress(codec, batch.record_bytes(), RECORDS_BYTES_MAX) {
                Ok(bytes) => unpacked = bytes,
                Err(error) => return Some(error.to_string()),
            }
            unpacked.as_slice()
        }
    };
    let mut unkeyed = Vec::new();
    for record in Records::new(bytes, batch.header().record_count()) {
        match record {
            Ok(record) if record.key.is_none() => unkeyed.push(record.offset_delta.to_string()),
            Ok(_) => {}
            Err(error) => return Some(error.to_string()),
        }
        if unkeyed.len() == UNKEYED_NAMED_MAX {
            break;
        }
    }
    let named = unkeyed.join(", ");
    (!unkeyed.is_empty()).then(|| format!("records {named} have no key and the topic is compacted"))
}

/// Offset and timestamp of the first record of a frame's batch at or after `at`.
fn find_time(frame: &[u8], at: i64) -> Option<(u64, i64)> {
    let batch = RecordBatchView::parse(frame.get(KAFKA_AT..)?).ok()?;
    let header = batch.header();
    let unpacked;
    let bytes = match batch.codec()? {
        Codec::None => batch.record_bytes(),
        codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd) => {
            unpacked = decompress(codec, batch.record_bytes(), RECORDS_BYTES_MAX).ok()?;
            unpacked.as_slice()
        }
    };
    for record in Records::new(bytes, header.record_count()) {
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

    fn frame(codec: Codec) -> Vec<u8> {
        let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
        for timestamp in [10, 30, 20, 40] {
            writer.push(timestamp, None, Some(b"value"), &[]).expect("small");
        }
        writer.finish().expect("records");
        let mut frame = vec![0; KAFKA_AT];
        frame.extend_from_slice(writer.batch());
        frame[KAFKA_AT..KAFKA_AT + 8].copy_from_slice(&100i64.to_be_bytes());
        frame
    }

    #[test]
    fn p7_records_without_key_are_named_in_any_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
            for key in [Some(&b"k"[..]), None, Some(b""), None] {
                writer.push(1, key, Some(b"v"), &[]).expect("small");
            }
            writer.finish().expect("records");
            let found = unkeyed(writer.batch()).expect("two have none");
            assert_eq!(found, "records 1, 3 have no key and the topic is compacted", "{codec:?}");
            let frame = frame(codec);
            let job = Job::NullKeys { batch: frame[KAFKA_AT..].to_vec() };
            assert!(matches!(run(&job), JobResult::NullKeys(Some(_))));
        }
    }

    #[test]
    fn o1_the_first_record_at_or_after_a_time_is_found_in_any_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let frame = frame(codec);
            for (at, expected) in
                [(0, Some((100, 10))), (11, Some((101, 30))), (31, Some((103, 40))), (41, None)]
            {
                let job = Job::FindTime { frame: frame.clone(), at };
                assert_eq!(run(&job), JobResult::Time(expected), "{codec:?} at {at}");
            }
        }
    }
}
