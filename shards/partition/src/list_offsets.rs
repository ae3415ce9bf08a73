//! ListOffsets: specials at once, times by index, one batch read and a walk of its records (O1–O3).
//! Owner: `Shard`.
//! Invariant: no answer names an offset at or above the high watermark, the watermark itself apart.
//! Not here: the walk (`job.rs`), the index (`log`).

use crate::partition::Partition;
use crate::request::{Job, OffsetAt, Reply, RequestId};
use crate::turn::{Reader, Turn, copied};
use ringway_log::logs::{ReadFailure, ReadStart, TimeFound};
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{ATTRIBUTE_LOG_APPEND_TIME, BatchHeader, HEADER_LEN};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// Batches looked into for one question: a batch may claim a maxTimestamp that no record has (M5).
const BATCHES_MAX: u32 = 64;

struct Search {
    id: RequestId,
    key: LogKey,
    at_ms: i64,
    /// Batches looked into.
    looked: u32,
    /// Of the batch being walked.
    leader_epoch: i32,
    /// First offset behind it.
    next: u64,
}

/// Searches that wait for the disk or a job.
#[derive(Default)]
pub(crate) struct Searches {
    rows: BTreeMap<u32, Search>,
    next_row: u32,
}

impl Searches {
    /// Searches in flight.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes a ListOffsets: answers it now, or after a read and a job.
    pub(crate) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        key: LogKey,
        at: OffsetAt,
        leader_epoch: i32,
    ) {
        let Some(partition) = turn.ground.partitions.get(key) else {
            let message = format!("no partition {key}");
            return turn.refuse(id, ErrorCode::UnknownTopicOrPartition, message);
        };
        if !turn.ground.serving {
            return turn.refuse(id, ErrorCode::NotLeaderOrFollower, "the broker is starting");
        }
        if let Some((code, message)) = partition.unreadable() {
            return turn.refuse(id, code, message);
        }
        let fenced = partition.check_epoch(leader_epoch);
        if fenced != ErrorCode::None {
            let message = format!("leader epoch is {}", partition.leader.epoch());
            return turn.refuse(id, fenced, message);
        }
        let high_watermark = partition.leader.high_watermark();
        let current = partition.leader.epoch();
        match at {
            OffsetAt::Latest => turn.reply(id, special(high_watermark, current)),
            OffsetAt::Earliest => {
                let start = turn.ground.logs.start_offset(key);
                let epoch = turn.ground.partitions.get(key).map_or(-1, |p| epoch_at(p, start));
                turn.reply(id, special(start, epoch));
            }
            OffsetAt::MaxTimestamp => match turn.ground.logs.max_timestamp(key) {
                Some((at_ms, base)) if base < high_watermark => {
                    if let Some(row) = self.insert(turn, id, key, at_ms) {
                        self.read(turn, row, base);
                    }
                }
                Some(_) | None => turn.reply(id, none()),
            },
            OffsetAt::Time(at_ms) => {
                if let Some(row) = self.insert(turn, id, key, at_ms) {
                    self.find(turn, row, high_watermark);
                }
            }
        }
    }

    fn insert(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        key: LogKey,
        at_ms: i64,
    ) -> Option<u32> {
        if self.rows.len() >= turn.ground.config.waiting_rows_max {
            let message = format!("{} searches wait already", self.rows.len());
            turn.refuse(id, ErrorCode::RequestTimedOut, message);
            return None;
        }
        while self.rows.contains_key(&self.next_row) {
            self.next_row = self.next_row.wrapping_add(1);
        }
        let row = self.next_row;
        self.next_row = self.next_row.wrapping_add(1);
        let search = Search { id, key, at_ms, looked: 0, leader_epoch: -1, next: 0 };
        self.rows.insert(row, search);
        Some(row)
    }

    fn find(&mut self, turn: &mut Turn<'_>, row: u32, upto: u64) {
        let Some(search) = self.rows.get(&row) else { return };
        let (key, at_ms) = (search.key, search.at_ms);
        let Turn { ground, blocks, out, .. } = turn;
        match ground.logs.find_time(key, at_ms, upto, blocks, &mut out.io) {
            TimeFound::Batch { base_offset } => self.read(turn, row, base_offset),
            TimeFound::Waiting(ticket) => {
                turn.ground.readers.insert(ticket, Reader::Search { row });
            }
            TimeFound::None => self.answer(turn, row, none()),
        }
    }

    /// The index was read.
    pub(crate) fn time_done(&mut self, turn: &mut Turn<'_>, row: u32, found: Option<u64>) {
        match found {
            Some(base_offset) => self.read(turn, row, base_offset),
            None => self.answer(turn, row, none()),
        }
    }

    /// Reads the batch at `from`.
    fn read(&mut self, turn: &mut Turn<'_>, row: u32, from: u64) {
        let Some(search) = self.rows.get(&row) else { return };
        let key = search.key;
        let Some(partition) = turn.ground.partitions.get(key) else {
            return self.fail(turn, row, ErrorCode::UnknownTopicOrPartition, "the topic is gone");
        };
        let upto = partition.leader.high_watermark();
        let mut frames = FrameList::default();
        let Turn { ground, blocks, out, .. } = turn;
        match ground.logs.read(key, from, upto, 1, blocks, &mut out.io, &mut frames) {
            ReadStart::Done => self.frame(turn, row, frames),
            ReadStart::Waiting(ticket) => {
                turn.ground.readers.insert(ticket, Reader::Search { row });
            }
            ReadStart::Gap { until } => self.read(turn, row, until),
            ReadStart::Empty | ReadStart::OutOfRange => self.answer(turn, row, none()),
            ReadStart::Quarantined { .. } => {
                self.fail(turn, row, ErrorCode::CorruptMessage, "the batch is quarantined");
            }
            ReadStart::Busy => {
                // Retriable for every client, and the asker decides how soon.
                self.fail(turn, row, ErrorCode::NotLeaderOrFollower, "no block for a cold read");
            }
        }
    }

    /// The batch was read.
    pub(crate) fn read_done(
        &mut self,
        turn: &mut Turn<'_>,
        row: u32,
        result: Result<FrameList, ReadFailure>,
    ) {
        match result {
            Ok(frames) => self.frame(turn, row, frames),
            Err(ReadFailure::Quarantined { .. }) => {
                self.fail(turn, row, ErrorCode::CorruptMessage, "the batch is quarantined");
            }
            Err(ReadFailure::Gone) => {
                self.fail(turn, row, ErrorCode::KafkaStorageError, "the log does not answer");
            }
        }
    }

    fn frame(&mut self, turn: &mut Turn<'_>, row: u32, mut frames: FrameList) {
        frames.frames.truncate(1);
        let bytes = copied(&frames, turn.blocks);
        frames.release(turn.blocks);
        let Some(search) = self.rows.get_mut(&row) else { return };
        let Some(Ok(header)) = bytes.get(..HEADER_LEN).map(BatchHeader::access) else {
            return self.answer(turn, row, none());
        };
        search.looked += 1;
        search.leader_epoch = header.leader_epoch();
        search.next = header.last_offset().unwrap_or(header.base_offset()) + 1;
        let (key, at_ms) = (search.key, search.at_ms);
        if header.max_timestamp() < at_ms {
            return self.go_on(turn, row);
        }
        if header.attributes() & ATTRIBUTE_LOG_APPEND_TIME != 0 {
            // All records of such a batch have its time.
            let found = (header.base_offset(), header.max_timestamp());
            return self.found(turn, row, found);
        }
        let Some(partition) = turn.ground.partitions.get(key) else {
            return self.fail(turn, row, ErrorCode::UnknownTopicOrPartition, "the topic is gone");
        };
        let message_bytes_max = partition.topic.config.message_bytes_max;
        let job = Job::FindTime { frame: bytes, at: at_ms, message_bytes_max };
        turn.out.jobs.push((u64::from(row), job));
    }

    /// The job ended.
    pub(crate) fn job_done(&mut self, turn: &mut Turn<'_>, job: u64, found: Option<(u64, i64)>) {
        let Ok(row) = u32::try_from(job) else { return };
        match found {
            Some(found) => self.found(turn, row, found),
            None => self.go_on(turn, row),
        }
    }

    /// The batch promised a time that it does not hold: the next one.
    fn go_on(&mut self, turn: &mut Turn<'_>, row: u32) {
        match self.rows.get(&row) {
            Some(search) if search.looked < BATCHES_MAX => {
                let next = search.next;
                self.read(turn, row, next);
            }
            Some(_) => self.answer(turn, row, none()),
            None => {}
        }
    }

    fn found(&mut self, turn: &mut Turn<'_>, row: u32, (offset, timestamp_ms): (u64, i64)) {
        let Some(search) = self.rows.get(&row) else { return };
        let leader_epoch = search.leader_epoch;
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.answer(turn, row, Reply::Offset { offset, timestamp_ms, leader_epoch });
    }

    fn answer(&mut self, turn: &mut Turn<'_>, row: u32, reply: Reply) {
        if let Some(search) = self.rows.remove(&row) {
            turn.reply(search.id, reply);
        }
    }

    fn fail(&mut self, turn: &mut Turn<'_>, row: u32, code: ErrorCode, message: &str) {
        self.answer(turn, row, Reply::Failed { code, message: message.to_owned() });
    }
}

/// Epoch of the batch at the log start.
fn epoch_at(partition: &Partition, offset: u64) -> i32 {
    let entries = partition.epochs.entries_upto(offset);
    entries.last().map_or(partition.leader.epoch(), |&(epoch, _)| epoch)
}

fn special(offset: u64, leader_epoch: i32) -> Reply {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    Reply::Offset { offset, timestamp_ms: -1, leader_epoch }
}

fn none() -> Reply {
    Reply::Offset { offset: -1, timestamp_ms: -1, leader_epoch: -1 }
}
