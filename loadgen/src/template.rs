//! A Kafka record batch made once and then only patched: heads of the values, timestamps, checksum.
//!
//! Written from Kafka's description of the format and not with the broker's writer, so that the two
//! check each other.

use crate::record::{Head, ValueWriter, filler};
use ringway_wire::crc32c::crc32c;

const HEADER_BYTES: usize = 61;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// One batch of records without keys, all values of one size.
#[derive(Clone, Debug)]
pub(crate) struct BatchTemplate {
    bytes: Vec<u8>,
    value_at: Vec<usize>,
    value_bytes: usize,
    writer: ValueWriter,
}

impl BatchTemplate {
    /// A batch of `count` values of `value_bytes` each.
    pub(crate) fn new(count: usize, value_bytes: usize) -> BatchTemplate {
        let filler = filler(value_bytes);
        let mut bytes = vec![0; HEADER_BYTES];
        let mut value_at = Vec::with_capacity(count);
        let mut record = Vec::with_capacity(value_bytes + 32);
        for index in 0..count {
            record.clear();
            record.push(0); // attributes
            put_varint(0, &mut record); // timestamp delta
            put_varint(i64::try_from(index).unwrap_or(i64::MAX), &mut record);
            put_varint(-1, &mut record); // no key
            put_varint(i64::try_from(value_bytes).unwrap_or(i64::MAX), &mut record);
            let value_in_record = record.len();
            record.resize(record.len() + crate::record::HEAD_BYTES, 0);
            record.extend_from_slice(&filler);
            put_varint(0, &mut record); // no headers
            put_varint(i64::try_from(record.len()).unwrap_or(i64::MAX), &mut bytes);
            value_at.push(bytes.len() + value_in_record);
            bytes.extend_from_slice(&record);
        }
        let length = u32::try_from(bytes.len() - 12).unwrap_or(u32::MAX);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&(-1i32).to_be_bytes()); // leader epoch
        bytes[16] = 2; // magic
        bytes[23..27].copy_from_slice(&count.saturating_sub(1).to_be_bytes());
        bytes[43..57].copy_from_slice(&[0xff; 14]); // no producer id, epoch, sequence
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let writer = ValueWriter::new(value_bytes);
        BatchTemplate { bytes, value_at, value_bytes, writer }
    }

    /// Records per batch.
    pub(crate) fn count(&self) -> usize {
        self.value_at.len()
    }

    /// The batch whose first record is `first` and whose others follow by sequence.
    pub(crate) fn fill(&mut self, first: Head, timestamp_ms: i64) -> &[u8] {
        let mut head = first;
        for at in &self.value_at {
            self.writer.write(&head, &mut self.bytes[*at..*at + self.value_bytes]);
            head.seq += 1;
        }
        self.bytes[27..35].copy_from_slice(&timestamp_ms.to_be_bytes());
        self.bytes[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
        let crc = crc32c(&self.bytes[CRC_FROM..]);
        self.bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        &self.bytes
    }

    /// The values alone, one after another, for servers without batches.
    pub(crate) fn fill_values(&mut self, first: Head) -> impl Iterator<Item = &[u8]> {
        let mut head = first;
        for at in &self.value_at {
            self.writer.write(&head, &mut self.bytes[*at..*at + self.value_bytes]);
            head.seq += 1;
        }
        self.value_at.iter().map(|at| &self.bytes[*at..*at + self.value_bytes])
    }
}

/// Zigzag varint.
fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use ringway_wire::batch::RecordBatchView;

    #[test]
    fn the_brokers_reader_accepts_what_is_written() {
        for (count, size) in [(1, 28), (1, 1000), (3, 100), (1000, 100)] {
            let mut template = BatchTemplate::new(count, size);
            for start in [0u64, 500] {
                let first = Head { run: 1, producer: 2, seq: start, due_ns: 99 };
                let bytes = template.fill(first, 1_700_000_000_000);
                let view = RecordBatchView::from_producer(bytes).unwrap();
                view.check_crc().unwrap();
                let heads: Vec<Head> = view
                    .records()
                    .map(|r| record::read(r.unwrap().value.unwrap()).unwrap())
                    .collect();
                assert_eq!(heads.len(), count);
                for (at, head) in heads.iter().enumerate() {
                    assert_eq!(*head, Head { seq: start + at as u64, ..first });
                }
            }
        }
    }

    #[test]
    fn values_alone_read_back() {
        let mut template = BatchTemplate::new(5, 64);
        let first = Head { run: 1, producer: 2, seq: 7, due_ns: 99 };
        let seqs: Vec<u64> =
            template.fill_values(first).map(|value| record::read(value).unwrap().seq).collect();
        assert_eq!(seqs, [7, 8, 9, 10, 11]);
    }
}
