//! Walking what a fetch brought: native frames or Kafka batches, and the records inside.

use crate::error::ClientError;
use ringway_wire::batch::{BatchError, RecordBatchView};
use ringway_wire::compression::{Codec, decompress};
use ringway_wire::header::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_LOG_APPEND_TIME, BatchHeader, HEADER_LEN, KAFKA_AT,
};
use ringway_wire::records::{Headers, Records};

/// Most bytes the records of one batch may decompress to: twice Ringway's largest message.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// One record as a consumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp, ms.
    pub timestamp_ms: i64,
    /// Key; `None` is not the empty key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` deletes in compacted topics.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: Headers<'a>,
}

/// The batches of a native fetch's `frames`, each with its native header.
pub fn frames(
    bytes: &[u8],
) -> impl Iterator<Item = Result<(&BatchHeader, RecordBatchView<'_>), ClientError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let frame = first_frame(rest);
        rest = match &frame {
            Ok((header, _)) => rest.get(frame_bytes(header)..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(frame)
    })
}

fn frame_bytes(header: &BatchHeader) -> usize {
    usize::try_from(header.frame_len()).unwrap_or(usize::MAX).max(HEADER_LEN)
}

fn first_frame(bytes: &[u8]) -> Result<(&BatchHeader, RecordBatchView<'_>), ClientError> {
    let header = BatchHeader::access(bytes).map_err(|error| malformed(&error))?;
    let wanted = frame_bytes(header);
    let truncated = ClientError::Truncated { what: "frame", wanted, left: bytes.len() };
    let frame = bytes.get(KAFKA_AT..wanted).ok_or(truncated)?;
    let view = RecordBatchView::parse(frame).map_err(|error| malformed(&error))?;
    Ok((header, view))
}

/// The whole batches of a Kafka fetch; a last one that is cut off is left out, as Kafka clients do. Their
/// CRC is for the caller to check ([`RecordBatchView::check_crc`]).
pub fn batches(bytes: &[u8]) -> impl Iterator<Item = Result<RecordBatchView<'_>, ClientError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || match RecordBatchView::parse_first(rest) {
        Ok((view, after)) => {
            rest = after;
            Some(Ok(view))
        }
        Err(BatchError::Empty | BatchError::Short { .. }) => None,
        Err(error) => {
            rest = &[];
            Some(Err(malformed(&error)))
        }
    })
}

/// Calls `each` for every record of a batch, decompressing it if need be; control batches have none.
///
/// # Errors
/// The records are not sound, or decompress to more than [`DECOMPRESSED_BYTES_MAX`].
pub fn walk(
    view: &RecordBatchView<'_>,
    mut each: impl FnMut(Delivered<'_>),
) -> Result<(), ClientError> {
    let header = view.header();
    if header.attributes() & ATTRIBUTE_CONTROL != 0 {
        return Ok(());
    }
    let unpacked;
    let records = match view.codec() {
        Some(Codec::None) => view.records(),
        Some(codec) => {
            unpacked = decompress(codec, view.record_bytes(), DECOMPRESSED_BYTES_MAX)
                .map_err(|error| malformed(&error))?;
            Records::new(&unpacked, header.record_count())
        }
        None => return Err(malformed(&"unknown codec")),
    };
    let append_time = header.attributes() & ATTRIBUTE_LOG_APPEND_TIME != 0;
    for record in records {
        let record = record.map_err(|error| malformed(&error))?;
        each(Delivered {
            offset: header.base_offset().saturating_add(i64::from(record.offset_delta)),
            timestamp_ms: if append_time {
                header.max_timestamp()
            } else {
                header.base_timestamp().saturating_add(record.timestamp_delta)
            },
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
    }
    Ok(())
}

fn malformed(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Malformed { what: "record batch", detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_wire::batch_writer::{BatchOptions, BatchWriter};

    fn batch(codec: Codec, values: &[&str]) -> Vec<u8> {
        let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
        for (at, value) in values.iter().enumerate() {
            let timestamp = 1000 + i64::try_from(at).unwrap();
            writer.push(timestamp, Some(b"k"), Some(value.as_bytes()), &[]).unwrap();
        }
        writer.finish().unwrap();
        writer.batch().to_vec()
    }

    fn texts(view: &RecordBatchView<'_>) -> Vec<(i64, i64, String)> {
        let mut seen = Vec::new();
        walk(view, |record| {
            let text = String::from_utf8_lossy(record.value.unwrap()).into_owned();
            seen.push((record.offset, record.timestamp_ms, text));
        })
        .unwrap();
        seen
    }

    #[test]
    fn a_cut_last_batch_is_left_out() {
        let mut bytes = batch(Codec::None, &["a", "b"]);
        let second = batch(Codec::None, &["c"]);
        for cut in 0..second.len() {
            let mut both = bytes.clone();
            both.extend_from_slice(&second[..cut]);
            assert_eq!(batches(&both).map(Result::unwrap).count(), 1, "cut at {cut}");
        }
        bytes.extend_from_slice(&second);
        let seen: Vec<_> = batches(&bytes).map(|view| texts(&view.unwrap()).len()).collect();
        assert_eq!(seen, [2, 1]);
    }

    #[test]
    fn records_come_out_of_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = batch(codec, &["one", "two"]);
            let view = RecordBatchView::parse(&bytes).unwrap();
            let wanted = vec![(0, 1000, "one".to_owned()), (1, 1001, "two".to_owned())];
            assert_eq!(texts(&view), wanted, "{codec:?}");
        }
    }

    #[test]
    fn damage_is_an_error_and_ends_the_walk() {
        let mut bytes = batch(Codec::None, &["a"]);
        bytes[16] = 1; // magic of an older format
        let seen: Vec<_> = batches(&bytes).collect();
        assert!(matches!(seen[..], [Err(ClientError::Malformed { .. })]));
        let seen: Vec<_> = frames(&bytes).collect();
        assert!(matches!(seen[..], [Err(ClientError::Malformed { .. })]));
    }
}
