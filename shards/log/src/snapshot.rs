//! A log's snapshot file: the partition's opaque state with the flushed end it describes, and facts of segments.
//! Owner: `Log` writes it when the partition hands a body in; recovery reads it.
//! Invariant: derived; doubted or lost, everything in it is rebuilt from headers.
//! Not here: what the body means (`partition`).

use crate::checkpoint::Mark;
use crate::codec::{Reader, Writer};
use crate::index::{IndexEntry, SNAPSHOT_ENTRIES_MAX, SparseIndex};
use crate::segment::Segment;

const MAGIC: [u8; 4] = *b"RWSN";
const VERSION: u16 = 1;
const SEGMENT_BYTES: usize = 8 * 8 + 4;
const INDEX_BYTES: usize = 3 * 8;

/// What was read back.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// log_epoch of the life that wrote it.
    pub(crate) epoch: u32,
    /// The flushed end it describes.
    pub(crate) mark: Mark,
    /// Segments up to that end, the last one active then.
    pub(crate) segments: Vec<Segment>,
    /// Opaque.
    pub(crate) body: Vec<u8>,
}

/// `segments` as they are at `mark`: the caller hands in only those that begin below it.
pub(crate) fn encode(epoch: u32, mark: Mark, segments: &[Segment], body: &[u8]) -> Vec<u8> {
    let mut out = Writer::new(MAGIC, VERSION);
    out.u32(epoch);
    out.u64(mark.segment);
    out.u64(mark.position);
    out.u64(mark.offset);
    out.u32(mark.crc);
    out.u32(mark.len);
    out.count(segments.len());
    for segment in segments {
        out.u64(segment.base);
        out.u64(segment.file_bytes);
        out.u64(segment.end_position);
        out.u64(segment.end_offset);
        out.u64(segment.frame_bytes);
        out.i64(segment.max_timestamp.0);
        out.u64(segment.max_timestamp.1);
        out.u64(0);
        let mut index = segment.index.thinned(SNAPSHOT_ENTRIES_MAX);
        index.retain(|entry| entry.offset < mark.offset);
        out.count(index.len());
        for entry in index {
            out.u64(entry.offset);
            out.u64(entry.position);
            out.i64(entry.time_before);
        }
    }
    out.bytes(body);
    out.finish()
}

pub(crate) fn decode(body: &[u8]) -> Option<Snapshot> {
    let mut from = Reader::open(body, MAGIC, VERSION).ok()?;
    let epoch = from.u32()?;
    let mark = Mark {
        segment: from.u64()?,
        position: from.u64()?,
        offset: from.u64()?,
        crc: from.u32()?,
        len: from.u32()?,
    };
    let count = from.count(SEGMENT_BYTES)?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        let mut segment = Segment::new(from.u64()?);
        segment.file_bytes = from.u64()?;
        segment.end_position = from.u64()?;
        segment.end_offset = from.u64()?;
        segment.frame_bytes = from.u64()?;
        segment.max_timestamp = (from.i64()?, from.u64()?);
        from.u64()?;
        let entries = from.count(INDEX_BYTES)?;
        let mut index = Vec::with_capacity(entries);
        for _ in 0..entries {
            let (offset, position) = (from.u64()?, from.u64()?);
            index.push(IndexEntry { offset, position, time_before: from.i64()? });
        }
        let time = segment.max_timestamp.0;
        segment.index = SparseIndex::from_entries(index, time, segment.end_position);
        segments.push(segment);
    }
    let body = from.bytes()?.to_vec();
    Some(Snapshot { epoch, mark, segments, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_survives_its_codec_and_a_damaged_one_is_none() {
        let mut segment = Segment::new(5);
        segment.frame_bytes = 777;
        segment.end_offset = 9;
        segment.max_timestamp = (42, 6);
        let mark = Mark { segment: 5, position: 900, offset: 9, crc: 1, len: 300 };
        let file = encode(3, mark, &[segment], b"state");
        let again = decode(&file).expect("decodes");
        assert_eq!((again.epoch, again.mark, again.body.as_slice()), (3, mark, &b"state"[..]));
        assert_eq!(again.segments[0].max_timestamp, (42, 6));
        assert!(decode(&file[1..]).is_none());
    }
}
