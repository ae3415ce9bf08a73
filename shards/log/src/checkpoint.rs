//! Checkpoints: one file per shard and generation, an entry per log (reliability.md 3.2).
//! Owner: `keeper.rs` writes them; recovery chooses among all of them.
//! Invariant: the entry with the greatest (last log_epoch, generation) in a file with a right CRC is believed.
//! Not here: when to write one (`keeper.rs`).

use crate::codec::{Reader, Writer};
use crate::life_table::{Life, LifeTable};
use ringway_wire::ids::LogKey;

const MAGIC: [u8; 4] = *b"RWCK";
const VERSION: u16 = 1;

/// A flushed end: where the last frame ends and what the next one must be linked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Segment, by its base offset.
    pub(crate) segment: u64,
    /// One past the last frame.
    pub(crate) position: u64,
    /// Next offset.
    pub(crate) offset: u64,
    /// Header CRC (plain) of the last frame.
    pub(crate) crc: u32,
    /// Its length; 0: no frame is known, whatever comes is linked.
    pub(crate) len: u32,
}

/// One log in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: LogKey,
    pub(crate) end: Mark,
    pub(crate) log_start: u64,
    /// L, the bound of a flush group.
    pub(crate) bound: u64,
    pub(crate) table: LifeTable,
    /// Everything was flushed and nothing was appended after.
    pub(crate) clean: bool,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) generation: u64,
    pub(crate) entries: Vec<Entry>,
}

/// An entry and the file it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) shard: u32,
    pub(crate) generation: u64,
    pub(crate) entry: Entry,
}

/// Bytes of an entry without lives.
const ENTRY_BYTES: usize = 8 + 4 + 3 * 8 + 2 * 4 + 2 * 8 + 1 + 4;
const LIFE_BYTES: usize = 4 + 8 + 8;

pub(crate) fn encode<'a>(generation: u64, entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let entries: Vec<&Entry> = entries.collect();
    let mut out = Writer::new(MAGIC, VERSION);
    out.u64(generation);
    out.count(entries.len());
    for entry in entries {
        out.u64(entry.key.topic_id);
        out.u32(entry.key.partition);
        out.u64(entry.end.segment);
        out.u64(entry.end.position);
        out.u64(entry.end.offset);
        out.u32(entry.end.crc);
        out.u32(entry.end.len);
        out.u64(entry.log_start);
        out.u64(entry.bound);
        out.u8(u8::from(entry.clean));
        out.count(entry.table.lives().len());
        for life in entry.table.lives() {
            out.u32(life.epoch);
            out.u64(life.start);
            out.u64(life.previous_end);
        }
    }
    out.finish()
}

pub(crate) fn decode(body: &[u8]) -> Option<Checkpoint> {
    let mut from = Reader::open(body, MAGIC, VERSION).ok()?;
    let generation = from.u64()?;
    let count = from.count(ENTRY_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let key = LogKey { topic_id: from.u64()?, partition: from.u32()? };
        let end = Mark {
            segment: from.u64()?,
            position: from.u64()?,
            offset: from.u64()?,
            crc: from.u32()?,
            len: from.u32()?,
        };
        let (log_start, bound, clean) = (from.u64()?, from.u64()?, from.u8()? != 0);
        let lives = from.count(LIFE_BYTES)?;
        let mut table = Vec::with_capacity(lives);
        for _ in 0..lives {
            table.push(Life { epoch: from.u32()?, start: from.u64()?, previous_end: from.u64()? });
        }
        let table = LifeTable::from_lives(table);
        entries.push(Entry { key, end, log_start, bound, table, clean });
    }
    Some(Checkpoint { generation, entries })
}

/// All entries of one log, the greatest (last log_epoch, generation) first.
pub(crate) fn entries_of(key: LogKey, files: &[(u32, Checkpoint)]) -> Vec<Found> {
    let mut found = Vec::new();
    for (shard, file) in files {
        for entry in file.entries.iter().filter(|entry| entry.key == key) {
            let (shard, generation) = (*shard, file.generation);
            found.push(Found { shard, generation, entry: entry.clone() });
        }
    }
    found.sort_by_key(|one| std::cmp::Reverse((one.entry.table.last_epoch(), one.generation)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: u32, epoch: u32, offset: u64) -> Entry {
        let mut table = LifeTable::default();
        table.push(epoch, offset, offset);
        Entry {
            key: LogKey { topic_id: 7, partition },
            end: Mark { segment: 0, position: 4096, offset, crc: 9, len: 200 },
            log_start: 3,
            bound: 1 << 18,
            table,
            clean: true,
        }
    }

    #[test]
    fn a_checkpoint_survives_its_codec() {
        let entries = [entry(0, 1, 10), entry(1, 2, 20)];
        let body = encode(5, entries.iter());
        let again = decode(&body).expect("decodes");
        assert_eq!(again, Checkpoint { generation: 5, entries: entries.to_vec() });
        assert_eq!(decode(&body[..body.len() - 1]), None);
    }

    #[test]
    fn the_later_life_wins_over_the_higher_generation() {
        let files = [
            (0, Checkpoint { generation: 90, entries: vec![entry(0, 3, 10)] }),
            (2, Checkpoint { generation: 4, entries: vec![entry(0, 5, 20), entry(1, 9, 1)] }),
            (1, Checkpoint { generation: 91, entries: vec![entry(0, 3, 12)] }),
        ];
        let found = entries_of(LogKey { topic_id: 7, partition: 0 }, &files);
        let order: Vec<_> = found.iter().map(|one| (one.shard, one.generation)).collect();
        assert_eq!(order, [(2, 4), (1, 91), (0, 90)]);
    }
}
