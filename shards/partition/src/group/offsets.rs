//! Committed offsets of the groups of this shard: kept in memory, replayed from `__consumer_offsets`.
//! Owner: `Coordinator`.
//! Invariant: an offset is in the table only once its record is below the high watermark (G16).
//! Not here: who may commit (`classic.rs`), bytes of records (`offset_records.rs`).

use super::offset_records::{OffsetKey, OffsetValue};
use super::{OFFSETS_TOPIC, partition_of_group};
use crate::catalog::{Catalog, Topic};
use crate::request::CommittedOffset;
use crate::turn::{Reader, Turn, copied};
use ringway_log::logs::{ReadFailure, ReadStart};
use ringway_log::read::FrameList;
use ringway_wire::batch::RecordBatchView;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::compression::{Codec, decompress};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::KAFKA_AT;
use ringway_wire::ids::LogKey;
use ringway_wire::records::Records;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of the log read at once while replaying.
const REPLAY_BYTES: u32 = 1 << 20;
/// Decompressed records of one batch at most; our own are never compressed.
const RECORDS_BYTES_MAX: usize = 64 << 20;
/// A replay that found no block looks again after this.
const RETRY_NS: u64 = 5_000_000;

/// How far a partition of `__consumer_offsets` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its log serves; everything below `next` is in the table.
    Replaying { next: u64 },
    /// All of it is in the table.
    Ready,
    /// Its log does not answer.
    Failed,
}

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

/// All of them.
#[derive(Default)]
pub(super) struct Offsets {
    /// The offsets topic this is about.
    topic_id: Option<u64>,
    phases: BTreeMap<u32, Phase>,
    /// Partitions whose replay found no block.
    starved: BTreeSet<u32>,
    /// Group → partition → offset.
    groups: BTreeMap<String, BTreeMap<LogKey, Stored>>,
    writer: Option<BatchWriter>,
}

/// The offsets topic, when there is one.
pub(super) fn topic(catalog: &Catalog) -> Option<&Arc<Topic>> {
    catalog.topics.get(OFFSETS_TOPIC)
}

/// The log that holds `group`.
pub(super) fn log_of(catalog: &Catalog, group: &str) -> Option<LogKey> {
    let topic = topic(catalog)?;
    let partition = partition_of_group(group, topic.partitions);
    Some(LogKey { topic_id: topic.id, partition })
}

impl Offsets {
    /// A log serves and clients may be told offsets: replays it if it is one of ours.
    pub(super) fn open(&mut self, turn: &mut Turn<'_>, key: LogKey) {
        let ours = self.topic_id == Some(key.topic_id);
        if ours && turn.ground.serving && !self.phases.contains_key(&key.partition) {
            let next = turn.ground.logs.start_offset(key);
            self.phases.insert(key.partition, Phase::Replaying { next });
            self.replay(turn, key.partition);
        }
    }

    /// Whether groups of `partition` can be served.
    pub(super) fn check(&self, partition: u32) -> ErrorCode {
        match self.phases.get(&partition) {
            Some(Phase::Ready) => ErrorCode::None,
            Some(Phase::Failed) => ErrorCode::CoordinatorNotAvailable,
            Some(Phase::Replaying { .. }) | None => ErrorCode::CoordinatorLoadInProgress,
        }
    }

    /// Which topic holds the offsets now. True: another than before, and everything committed is gone.
    pub(super) fn follow(&mut self, topic_id: Option<u64>) -> bool {
        if self.topic_id == topic_id {
            return false;
        }
        self.topic_id = topic_id;
        self.phases.clear();
        self.starved.clear();
        self.groups.clear();
        true
    }

    fn replay(&mut self, turn: &mut Turn<'_>, partition: u32) {
        while let Some(Phase::Replaying { next }) = self.phases.get(&partition).copied() {
            let Some(topic_id) = self.topic_id else { return };
            let key = LogKey { topic_id, partition };
            let Some(found) = turn.ground.partitions.get(key) else { return };
            let upto = found.leader.high_watermark();
            if next >= upto {
                self.phases.insert(partition, Phase::Ready);
                return;
            }
            let mut frames = FrameList::default();
            let Turn { ground, blocks, out, .. } = &mut *turn;
            let io = &mut out.io;
            let bytes = REPLAY_BYTES;
            match ground.logs.read(key, next, upto, bytes, blocks, io, &mut frames) {
                ReadStart::Done => self.replayed(turn, partition, frames),
                ReadStart::Waiting(ticket) => {
                    turn.ground.readers.insert(ticket, Reader::Offsets { partition });
                    return;
                }
                ReadStart::Quarantined { until } => self.skip(turn, partition, until),
                ReadStart::Gap { until } => {
                    self.phases.insert(partition, Phase::Replaying { next: until });
                }
                ReadStart::Busy => {
                    self.starved.insert(partition);
                    return;
                }
                ReadStart::Empty | ReadStart::OutOfRange => {
                    self.phases.insert(partition, Phase::Failed);
                    turn.warn(format!("{OFFSETS_TOPIC}-{partition} cannot be read at {next}"));
                }
            }
        }
    }

    fn skip(&mut self, turn: &mut Turn<'_>, partition: u32, until: u64) {
        turn.warn(format!(
            "{OFFSETS_TOPIC}-{partition} is quarantined below {until}: replay goes on"
        ));
        self.phases.insert(partition, Phase::Replaying { next: until });
    }

    /// A read of the replay ended.
    pub(super) fn read_done(
        &mut self,
        turn: &mut Turn<'_>,
        partition: u32,
        result: Result<FrameList, ReadFailure>,
    ) {
        match result {
            Ok(mut frames) => {
                if !matches!(self.phases.get(&partition), Some(Phase::Replaying { .. })) {
                    return frames.release(turn.blocks);
                }
                self.replayed(turn, partition, frames);
            }
            Err(ReadFailure::Quarantined { until }) => self.skip(turn, partition, until),
            Err(ReadFailure::Gone) => {
                self.phases.insert(partition, Phase::Failed);
            }
        }
        self.replay(turn, partition);
    }

    fn replayed(&mut self, turn: &mut Turn<'_>, partition: u32, mut frames: FrameList) {
        let last = frames.frames.last().map(|frame| frame.last_offset);
        let bytes = copied(&frames, turn.blocks);
        let lens: Vec<usize> = frames.frames.iter().map(|frame| frame.frame_len as usize).collect();
        frames.release(turn.blocks);
        let mut rest = bytes.as_slice();
        for len in lens {
            let (frame, behind) = rest.split_at(len);
            rest = behind;
            self.apply_batch(&turn.ground.catalog, &frame[KAFKA_AT..]);
        }
        let next = last.map_or(u64::MAX, |last| last + 1);
        self.phases.insert(partition, Phase::Replaying { next });
    }

    /// Applies every commit of a batch to the table.
    pub(super) fn apply_batch(&mut self, catalog: &Catalog, batch: &[u8]) {
        let Ok(batch) = RecordBatchView::parse(batch) else { return };
        let unpacked;
        let bytes = match batch.codec() {
            Some(Codec::None) | None => batch.record_bytes(),
            Some(codec @ (Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd)) => {
                let packed = batch.record_bytes();
                let Ok(bytes) = decompress(codec, packed, RECORDS_BYTES_MAX) else { return };
                unpacked = bytes;
                unpacked.as_slice()
            }
        };
        for record in Records::new(bytes, batch.header().record_count()).flatten() {
            let Some(key) = record.key.and_then(OffsetKey::decode) else { continue };
            let value = record.value.and_then(OffsetValue::decode);
            self.apply(catalog, &key, value);
        }
    }

    fn apply(&mut self, catalog: &Catalog, key: &OffsetKey, value: Option<OffsetValue>) {
        let uuid = value.as_ref().and_then(|value| value.topic);
        let topic = match uuid {
            Some(uuid) => catalog.by_uuid.get(&uuid),
            None => catalog.topics.get(&key.topic),
        };
        let (Some(topic), Ok(partition)) = (topic, u32::try_from(key.partition)) else { return };
        let log = LogKey { topic_id: topic.id, partition };
        match value {
            Some(OffsetValue { offset, leader_epoch, metadata, .. }) => {
                let rows = self.groups.entry(key.group.clone()).or_default();
                rows.insert(log, Stored { offset, leader_epoch, metadata });
            }
            None => {
                if let Some(rows) = self.groups.get_mut(&key.group) {
                    rows.remove(&log);
                    if rows.is_empty() {
                        self.groups.remove(&key.group);
                    }
                }
            }
        }
    }

    /// A batch that commits `offsets`; `None` when nothing of it can be stored.
    pub(super) fn batch(
        &mut self,
        catalog: &Catalog,
        now_ms: i64,
        group: &str,
        offsets: &[CommittedOffset],
    ) -> Option<Vec<u8>> {
        let options = BatchOptions::default();
        let writer = self.writer.get_or_insert_with(|| BatchWriter::new(options));
        writer.reset(options);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for one in offsets {
            let Some(topic) = catalog.by_id.get(&one.key.topic_id) else { continue };
            key.clear();
            value.clear();
            let partition = i32::try_from(one.key.partition).unwrap_or(-1);
            let (group, topic_name) = (group.to_owned(), topic.name.clone());
            OffsetKey { group, topic: topic_name, partition }.encode(&mut key);
            let stored = OffsetValue {
                offset: one.offset,
                leader_epoch: one.leader_epoch,
                metadata: one.metadata.clone(),
                commit_ms: now_ms,
                topic: Some(topic.uuid),
            };
            stored.encode(&mut value);
            writer.push(now_ms, Some(&key), Some(&value), &[]).ok()?;
        }
        writer.finish().ok()?;
        Some(writer.batch().to_vec())
    }

    /// What `group` has committed: all, or for the partitions asked, −1 where there is nothing (G1).
    pub(super) fn fetch(&self, group: &str, asked: Option<&[LogKey]>) -> Vec<CommittedOffset> {
        let rows = self.groups.get(group);
        let found = |key: LogKey, stored: &Stored| CommittedOffset {
            key,
            offset: stored.offset,
            leader_epoch: stored.leader_epoch,
            metadata: stored.metadata.clone(),
        };
        let Some(asked) = asked else {
            let rows = rows.into_iter().flatten();
            return rows.map(|(key, stored)| found(*key, stored)).collect();
        };
        let one = |key: &LogKey| match rows.and_then(|rows| rows.get(key)) {
            Some(stored) => found(*key, stored),
            None => {
                CommittedOffset { key: *key, offset: -1, leader_epoch: -1, metadata: String::new() }
            }
        };
        asked.iter().map(one).collect()
    }

    /// Offsets of deleted topics go with them.
    pub(super) fn forget_deleted(&mut self, catalog: &Catalog) {
        self.groups.retain(|_, rows| {
            rows.retain(|key, _| catalog.by_id.contains_key(&key.topic_id));
            !rows.is_empty()
        });
    }

    /// Replays that found no block go on. Returns when it is wanted again.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) -> Option<u64> {
        for partition in std::mem::take(&mut self.starved) {
            self.replay(turn, partition);
        }
        (!self.starved.is_empty()).then(|| turn.now.mono_ns + RETRY_NS)
    }
}
