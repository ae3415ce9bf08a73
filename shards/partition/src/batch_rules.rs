//! What a produced batch must look like (kafka.md §4.7).
//! Owner: nobody, pure functions over one batch.
//! Invariant: a batch that passes has the length, offsets and sequences its header says.
//! Not here: layout (`wire/header.rs`), the CRC of appended batches (`log/append`), records.

use crate::producer_state::Sequenced;
use crate::topic_config::TopicConfig;
use ringway_wire::batch::{BatchError, RecordBatchView, check_producer_header};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{ATTRIBUTE_CODEC, ATTRIBUTE_TRANSACTIONAL, KafkaHeader};

/// Kafka's "no timestamp".
const NO_TIMESTAMP: i64 = -1;

/// What the append needs of a checked batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Present when the producer is idempotent.
    pub(crate) sequenced: Option<Sequenced>,
    /// 12 + batchLength.
    pub(crate) bytes: u32,
    /// Its records can be walked only after decompression.
    pub(crate) compressed: bool,
}

type Refusal = (ErrorCode, String);

/// Applies every rule that the header alone decides.
pub(crate) fn check(bytes: &[u8], config: &TopicConfig, wall_ms: i64) -> Result<Checked, Refusal> {
    let batch = RecordBatchView::parse(bytes).map_err(refusal)?;
    let header = batch.header();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if length > config.message_bytes_max {
        let limit = config.message_bytes_max;
        let message = format!("batch of {length} bytes is above max.message.bytes = {limit}");
        return Err((ErrorCode::MessageTooLarge, message));
    }
    check_producer_header(header).map_err(refusal)?;
    producer(header)?;
    timestamps(header, config, wall_ms)?;
    let sequenced = sequenced(header);
    let compressed = header.attributes() & ATTRIBUTE_CODEC != 0;
    Ok(Checked { sequenced, bytes: length, compressed })
}

fn sequenced(header: &KafkaHeader) -> Option<Sequenced> {
    (header.producer_id() >= 0).then(|| Sequenced {
        producer_id: header.producer_id(),
        epoch: header.producer_epoch(),
        first: header.base_sequence(),
        last_offset_delta: header.last_offset_delta(),
    })
}

/// What a refused batch says about its producer; none when it is not whole: such bytes say nothing.
pub(crate) fn sequenced_whole(bytes: &[u8]) -> Option<Sequenced> {
    let batch = RecordBatchView::parse(bytes).ok()?;
    let header = batch.header();
    check_producer_header(header).and_then(|()| batch.check_crc()).ok()?;
    sequenced(header)
}

/// CRC-32C of a batch that will not be appended (the append hashes in its copying pass).
pub(crate) fn check_crc(bytes: &[u8]) -> Result<(), Refusal> {
    RecordBatchView::parse(bytes).and_then(|batch| batch.check_crc()).map_err(refusal)
}

fn refusal(error: BatchError) -> Refusal {
    (error.code(), error.to_string())
}

/// P4 and T6: no transaction is ever open here, and an epoch goes with every producer id.
fn producer(header: &KafkaHeader) -> Result<(), Refusal> {
    let (id, epoch) = (header.producer_id(), header.producer_epoch());
    if header.attributes() & ATTRIBUTE_TRANSACTIONAL != 0 {
        let message = format!("no transaction of producer {id} is open here");
        return Err((ErrorCode::InvalidTxnState, message));
    }
    if id >= 0 && epoch < 0 {
        return Err((ErrorCode::InvalidRecord, format!("producer {id} with epoch {epoch}")));
    }
    Ok(())
}

/// P11: `CreateTime` lies within the topic's window around the wall clock.
fn timestamps(header: &KafkaHeader, config: &TopicConfig, wall_ms: i64) -> Result<(), Refusal> {
    if config.log_append_time {
        return Ok(());
    }
    let earliest = wall_ms.saturating_sub(config.timestamp_before_ms_max);
    let latest = wall_ms.saturating_add(config.timestamp_after_ms_max);
    for timestamp in [header.base_timestamp(), header.max_timestamp()] {
        if timestamp != NO_TIMESTAMP && !(earliest..=latest).contains(&timestamp) {
            let message = format!("timestamp {timestamp} is outside {earliest}..={latest}");
            return Err((ErrorCode::InvalidTimestamp, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_wire::batch_writer::{BatchOptions, BatchWriter};

    const NOW_MS: i64 = 1_700_000_000_000;

    fn batch(options: BatchOptions) -> Vec<u8> {
        let mut writer = BatchWriter::new(options);
        writer.push(NOW_MS, Some(b"k"), Some(b"v"), &[]).expect("small");
        writer.finish().expect("one record");
        writer.batch().to_vec()
    }

    fn code(bytes: &[u8], config: &TopicConfig) -> ErrorCode {
        check(bytes, config, NOW_MS).map_or_else(|(code, _)| code, |_| ErrorCode::None)
    }

    #[test]
    fn p1_p2_one_whole_batch_of_magic_two() {
        let config = TopicConfig::default();
        let good = batch(BatchOptions::default());
        assert_eq!(code(&good, &config), ErrorCode::None);
        assert_eq!(code(&[], &config), ErrorCode::InvalidRecord);
        assert_eq!(code(&[good.as_slice(), &[0]].concat(), &config), ErrorCode::InvalidRecord);
        assert_eq!(code(&good[..good.len() - 1], &config), ErrorCode::CorruptMessage);
        let mut old = good.clone();
        old[16] = 1;
        assert_eq!(code(&old, &config), ErrorCode::InvalidRecord);
        let mut flipped = good;
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        assert!(matches!(check_crc(&flipped), Err((ErrorCode::CorruptMessage, _))));
    }

    #[test]
    fn p4_transactional_batches_are_refused_by_state() {
        let options = BatchOptions {
            attributes: ATTRIBUTE_TRANSACTIONAL,
            producer_id: 4,
            producer_epoch: 0,
            base_sequence: 0,
            ..BatchOptions::default()
        };
        assert_eq!(code(&batch(options), &TopicConfig::default()), ErrorCode::InvalidTxnState);
        let options = BatchOptions { producer_id: 4, base_sequence: 0, ..BatchOptions::default() };
        assert_eq!(code(&batch(options), &TopicConfig::default()), ErrorCode::InvalidRecord);
    }

    #[test]
    fn p8_the_limit_counts_twelve_and_batch_length() {
        let good = batch(BatchOptions::default());
        let len = good.len().to_string();
        let below = (good.len() - 1).to_string();
        for (limit, expected) in [(&len, ErrorCode::None), (&below, ErrorCode::MessageTooLarge)] {
            let config = TopicConfig::from_overrides([("max.message.bytes", Some(limit.as_str()))]);
            assert_eq!(code(&good, &config.expect("valid")), expected);
        }
    }

    #[test]
    fn p11_create_times_outside_the_window_are_refused_append_times_never() {
        let good = batch(BatchOptions::default());
        let window = |name, value| TopicConfig::from_overrides([(name, Some(value))]).expect("ok");
        let before = window("message.timestamp.before.max.ms", "1000");
        let late = check(&good, &before, NOW_MS + 1001).expect_err("too old");
        assert_eq!(late.0, ErrorCode::InvalidTimestamp);
        assert!(check(&good, &before, NOW_MS + 1000).is_ok());
        let after = window("message.timestamp.after.max.ms", "1000");
        assert!(check(&good, &after, NOW_MS - 1001).is_err());
        let append_time = window("message.timestamp.type", "LogAppendTime");
        assert!(check(&good, &append_time, 0).is_ok());
    }
}
