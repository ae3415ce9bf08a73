//! What the small files of a stopped log say, for tools that change nothing.
//! Owner: `ringway log`, or any tool that can read the files.
//! Invariant: told as found; nothing here is believed by recovery because a tool believes it.
//! Not here: segments (`verify.rs`), reading files (the caller does).

use crate::checkpoint;
use crate::codec::{Reader, Writer};
use crate::directory::DirectoryFacts;
use crate::event::QuarantineFacts;
use crate::quarantine::Quarantine;
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet};

/// First bytes and version of `partition.meta`.
const NAME_MAGIC: [u8; 4] = *b"RWPM";
const NAME_VERSION: u16 = 1;

/// What `partition.meta` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionName {
    /// Topic name.
    pub topic: String,
    /// Topic uuid.
    pub uuid: [u8; 16],
    /// The log.
    pub key: LogKey,
}

/// Reads `partition.meta`; `None`: damaged or absent.
#[must_use]
pub fn partition_name(body: &[u8]) -> Option<PartitionName> {
    let mut from = Reader::open(body, NAME_MAGIC, NAME_VERSION).ok()?;
    let uuid = from.bytes()?.try_into().ok()?;
    let topic = String::from_utf8(from.bytes()?.to_vec()).ok()?;
    Some(PartitionName {
        topic,
        uuid,
        key: LogKey { topic_id: from.u64()?, partition: from.u32()? },
    })
}

/// The body of `partition.meta`: names what a numbered directory is, should the metadata be lost.
#[must_use]
pub fn partition_meta(topic: &str, uuid: [u8; 16], key: LogKey) -> Vec<u8> {
    let mut out = Writer::new(NAME_MAGIC, NAME_VERSION);
    out.bytes(&uuid);
    out.bytes(topic.as_bytes());
    out.u64(key.topic_id);
    out.u32(key.partition);
    out.finish()
}

/// One checkpoint file's entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointLine {
    /// Shard that wrote the file.
    pub shard: u32,
    /// Its generation.
    pub generation: u64,
    /// Flushed end: segment.
    pub segment: u64,
    /// Flushed end: byte.
    pub position: u64,
    /// Flushed end: next offset.
    pub offset: u64,
    /// First offset kept.
    pub log_start: u64,
    /// Bytes of a flush group at most.
    pub group_bytes_max: u64,
    /// Written by a clean stop.
    pub clean: bool,
    /// Lives: log_epoch, first offset, end of the life before.
    pub lives: Vec<(u32, u64, u64)>,
}

/// Every entry of a log in readable checkpoint files, the one recovery prefers first.
#[must_use]
pub fn checkpoint_lines(key: LogKey, facts: &DirectoryFacts) -> Vec<CheckpointLine> {
    let read = |(shard, _, body): &(u32, u64, Vec<u8>)| Some((*shard, checkpoint::decode(body)?));
    let files: Vec<_> = facts.checkpoints.iter().filter_map(read).collect();
    let line = |found: checkpoint::Found| {
        let entry = found.entry;
        let lives = entry.table.lives().iter();
        CheckpointLine {
            shard: found.shard,
            generation: found.generation,
            segment: entry.end.segment,
            position: entry.end.position,
            offset: entry.end.offset,
            log_start: entry.log_start,
            group_bytes_max: entry.bound,
            clean: entry.clean,
            lives: lives.map(|life| (life.epoch, life.start, life.previous_end)).collect(),
        }
    };
    checkpoint::entries_of(key, &files).into_iter().map(line).collect()
}

/// Every log that a readable checkpoint file tells of, in order, and whether one says that it holds offsets.
#[must_use]
pub fn checkpointed(facts: &DirectoryFacts) -> BTreeMap<LogKey, bool> {
    let mut logs = BTreeMap::new();
    for file in facts.checkpoints.iter().filter_map(|file| checkpoint::decode(&file.2)) {
        for entry in file.entries {
            *logs.entry(entry.key).or_default() |= entry.log_start < entry.end.offset;
        }
    }
    logs
}

/// Every log that a readable one of these checkpoint files tells of.
#[must_use]
pub fn checkpointed_keys(files: &[(u32, u64, Vec<u8>)]) -> BTreeSet<LogKey> {
    let files = files.iter().filter_map(|(_, _, body)| checkpoint::decode(body));
    files.flat_map(|file| file.entries).map(|entry| entry.key).collect()
}

/// The checkpoint files that cannot be read: shard and generation.
#[must_use]
pub fn damaged_checkpoints(facts: &DirectoryFacts) -> Vec<(u32, u64)> {
    let damaged = facts.checkpoints.iter().filter(|file| checkpoint::decode(&file.2).is_none());
    damaged.map(|(shard, generation, _)| (*shard, *generation)).collect()
}

/// The ranges of a log's `quarantine` file; `None`: damaged.
#[must_use]
pub fn quarantine_list(body: &[u8]) -> Option<Vec<QuarantineFacts>> {
    Quarantine::open(body).map(|list| list.facts())
}
