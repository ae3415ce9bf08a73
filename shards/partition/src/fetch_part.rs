//! One partition of a fetch: its read, its bytes, its line of the reply.
//! Owner: a row of `Fetches`.
//! Invariant: slices it holds are sent or released exactly once.
//! Not here: when a fetch is answered (`fetch.rs`).

use crate::mesh::{Mesh, Waiter};
use crate::request::{FetchPart, Fetched, FetchedPart, Reply, Request};
use crate::turn::{Ground, Turn};
use crate::waiters::WaitNode;
use ringway_log::blocks::Blocks;
use ringway_log::logs::{ReadFailure, ReadStart, ReadTicket};
use ringway_log::read::FrameList;
use ringway_wire::batch_writer::empty_frame;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, HEADER_LEN, KAFKA_AT, Line};
use ringway_wire::ids::shard_of;
use std::cmp::Ordering;

/// One part of a row.
pub(crate) struct Part {
    pub(crate) asked: FetchPart,
    code: ErrorCode,
    high_watermark: u64,
    log_start: u64,
    leader_epoch: i32,
    /// Where the read begins: the offset asked for, or behind ranges that are passed over.
    from: u64,
    /// Records passed over, because they are quarantined.
    pub(crate) skipped: u64,
    frames: FrameList,
    copied: Option<Copied>,
    /// Ask in flight.
    tag: Option<u32>,
    /// Place in the partition's list, while waiting.
    pub(crate) node: Option<WaitNode>,
    /// Bytes it had when the wait began.
    pub(crate) found: u32,
    /// The partition's `visible_bytes` when it was last looked at.
    pub(crate) mark: u64,
}

/// Whole frames outside the blocks: what another shard sent, or one made here.
struct Copied {
    bytes: Vec<u8>,
    kafka_bytes: u32,
    records: u64,
}

/// How a part's read began.
pub(crate) enum Started {
    /// It holds its bytes, or an error, or nothing.
    Done,
    /// [`Part::landed`] follows.
    Reading(ReadTicket),
    /// No block for a cold read.
    NoBlock,
}

/// Reads one part of a partition of this shard into itself, `left` bytes at most; once `any` other
/// part has bytes, a first batch above the limit is left out (F2).
pub(crate) fn read(turn: &mut Turn<'_>, part: &mut Part, left: u32, any: bool) -> Started {
    part.release(turn.blocks);
    part.code = ErrorCode::None;
    let Some(upto) = bounds(turn.ground, part) else { return Started::Done };
    if any && left == 0 {
        return Started::Done;
    }
    let FetchPart { key, bytes_max, .. } = part.asked;
    let limit = bytes_max.min(left);
    let skips = skips_quarantined(turn.ground, part);
    let Turn { ground, blocks, out, .. } = turn;
    let io = &mut out.io;
    while part.from < upto {
        match ground.logs.read(key, part.from, upto, limit, blocks, io, &mut part.frames) {
            ReadStart::Done => {
                if any && part.bytes() > limit {
                    part.release(blocks);
                }
            }
            ReadStart::Waiting(ticket) => return Started::Reading(ticket),
            ReadStart::Empty => {}
            ReadStart::OutOfRange => part.code = ErrorCode::OffsetOutOfRange,
            ReadStart::Quarantined { until } if skips => {
                part.pass(until);
                continue;
            }
            ReadStart::Quarantined { .. } => part.meet_damage(),
            ReadStart::Gap { until } => {
                part.from = until;
                continue;
            }
            ReadStart::Busy => return Started::NoBlock,
        }
        break;
    }
    part.step_over();
    Started::Done
}

/// Whether the topic wants fetches to go on behind damage.
pub(crate) fn skips_quarantined(ground: &Ground, part: &Part) -> bool {
    let partition = ground.partitions.get(part.asked.key);
    partition.is_some_and(|partition| partition.topic.config.skip_quarantined)
}

/// Looks the partition up and checks the offset; where the read ends, or nothing to read.
fn bounds(ground: &Ground, part: &mut Part) -> Option<u64> {
    let key = part.asked.key;
    let Some(partition) = ground.partitions.get(key) else {
        part.code = ErrorCode::UnknownTopicOrPartition;
        return None;
    };
    if !ground.serving {
        part.code = ErrorCode::NotLeaderOrFollower;
        return None;
    }
    if let Some((code, _)) = partition.unreadable() {
        part.code = code;
        return None;
    }
    part.high_watermark = partition.leader.high_watermark();
    part.log_start = ground.logs.start_offset(key);
    part.leader_epoch = partition.leader.epoch();
    part.code = partition.check_epoch(part.asked.leader_epoch);
    if part.code != ErrorCode::None {
        return None;
    }
    let offset = part.asked.offset;
    // What is appended and not yet flushed is neither shown nor an error: the row waits for it.
    let end = ground.logs.end_offset(key).max(part.high_watermark);
    if offset < part.log_start || offset > end {
        part.code = ErrorCode::OffsetOutOfRange;
        return None;
    }
    match offset.cmp(&part.high_watermark) {
        Ordering::Less => Some(part.high_watermark),
        Ordering::Equal | Ordering::Greater => None,
    }
}

impl Part {
    pub(crate) fn new(asked: FetchPart) -> Part {
        Part {
            asked,
            code: ErrorCode::None,
            high_watermark: 0,
            log_start: 0,
            leader_epoch: -1,
            from: asked.offset,
            skipped: 0,
            frames: FrameList::default(),
            copied: None,
            tag: None,
            node: None,
            found: 0,
            mark: 0,
        }
    }

    /// Kafka bytes it holds.
    pub(crate) fn bytes(&self) -> u32 {
        let local = u32::try_from(self.frames.kafka_bytes()).unwrap_or(u32::MAX);
        local.saturating_add(self.copied.as_ref().map_or(0, |copied| copied.kafka_bytes))
    }

    /// Records it holds, by offsets.
    pub(crate) fn records(&self) -> u64 {
        let frames = &self.frames.frames;
        let local: u64 = frames.iter().map(|f| f.last_offset - f.base_offset + 1).sum();
        local + self.copied.as_ref().map_or(0, |copied| copied.records)
    }

    /// Whether its state answers the whole fetch at once (F4): an error, or its own limit reached.
    pub(crate) fn is_urgent(&self) -> bool {
        self.code != ErrorCode::None || (self.bytes() > 0 && self.bytes() >= self.asked.bytes_max)
    }

    /// Reads on behind a quarantined range.
    pub(crate) fn pass(&mut self, until: u64) {
        assert!(until > self.from, "a range ends behind what was sought in it");
        self.skipped += until - self.from;
        self.from = until;
    }

    /// The range at `from` is damaged: that is the answer, unless the reader has to step over others before it.
    fn meet_damage(&mut self) {
        if self.from == self.asked.offset {
            self.code = ErrorCode::CorruptMessage;
        }
    }

    /// Nothing was found behind the ranges that were passed over: a frame without records moves the reader's
    /// position behind them. Without it, a reader would stay before a range that ends the log.
    fn step_over(&mut self) {
        let FetchPart { key, offset, .. } = self.asked;
        let passed = self.from.min(self.high_watermark).saturating_sub(offset);
        if passed == 0 || self.code != ErrorCode::None || self.bytes() > 0 {
            return;
        }
        // What one batch cannot span is for the next fetch.
        let delta = i32::try_from(passed - 1).unwrap_or(i32::MAX);
        let line = Line {
            base_offset: offset,
            leader_epoch: self.leader_epoch,
            ..Line::delivered(key.topic_id, key.partition, 0)
        };
        self.copied = Some(Copied::new(empty_frame(&line, delta)));
    }

    /// Gives its bytes back.
    pub(crate) fn release(&mut self, blocks: &mut Blocks) {
        self.frames.release(blocks);
        self.copied = None;
    }

    /// A cold read ended.
    pub(crate) fn landed(&mut self, turn: &mut Turn<'_>, result: Result<FrameList, ReadFailure>) {
        match result {
            Ok(frames) => {
                assert!(self.frames.frames.is_empty(), "one read at a time");
                self.frames = frames;
            }
            Err(ReadFailure::Quarantined { .. }) => self.meet_damage(),
            Err(ReadFailure::Gone) => {
                let known = turn.ground.partitions.get(self.asked.key).is_some();
                let gone = ErrorCode::UnknownTopicOrPartition;
                self.code = if known { ErrorCode::KafkaStorageError } else { gone };
            }
        }
        self.step_over();
    }

    /// Asks the shard that owns it.
    pub(crate) fn ask(
        &mut self,
        turn: &mut Turn<'_>,
        mesh: &mut Mesh,
        waiter: Waiter,
        bytes_min: u32,
        deadline_ns: u64,
    ) {
        let to = shard_of(self.asked.key, turn.ground.catalog.shard_count);
        if to == turn.ground.config.shard {
            // Ours, yet not in the table: the topic went away meanwhile.
            self.code = ErrorCode::UnknownTopicOrPartition;
            return;
        }
        let parts = vec![self.asked];
        let bytes_max = self.asked.bytes_max;
        let request = Request::Fetch { parts, bytes_min, bytes_max, deadline_ns };
        self.tag = Some(mesh.ask(turn, to, waiter, request));
    }

    /// Takes an ask that is still out back.
    pub(crate) fn forget(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh) {
        if let Some(tag) = self.tag.take() {
            mesh.forget(turn, tag);
        }
    }

    /// The owner answered.
    pub(crate) fn answered(&mut self, reply: Reply) {
        self.tag = None;
        let part = match reply {
            Reply::Fetched(parts) => parts.into_iter().next(),
            Reply::Failed { code, .. } => {
                self.code = code;
                return;
            }
            Reply::Produced { .. }
            | Reply::Offset { .. }
            | Reply::Meta(_)
            | Reply::ProducerId { .. }
            | Reply::Group(_)
            | Reply::Log(_) => None,
        };
        let Some(part) = part else {
            self.code = ErrorCode::UnknownServerError;
            return;
        };
        self.code = part.code;
        self.high_watermark = part.high_watermark;
        self.log_start = part.log_start;
        self.copied = match part.fetched {
            Fetched::Owned(bytes) => Some(Copied::new(bytes)),
            Fetched::Frames(frames) => {
                assert!(frames.slices.is_empty(), "slices never leave their shard");
                None
            }
        };
    }

    /// Its line of the reply.
    pub(crate) fn into_reply(self, turn: &Turn<'_>) -> FetchedPart {
        let key = self.asked.key;
        let now = turn.ground.partitions.get(key).map(|p| p.leader.high_watermark());
        FetchedPart {
            key,
            code: self.code,
            // It may have risen while other parts were read.
            high_watermark: now.unwrap_or(0).max(self.high_watermark),
            log_start: self.log_start,
            fetched: match self.copied {
                Some(copied) => Fetched::Owned(copied.bytes),
                None => Fetched::Frames(self.frames),
            },
        }
    }
}

impl Copied {
    /// Whole frames of this very process: their headers were verified by the shard that read or made them.
    fn new(bytes: Vec<u8>) -> Copied {
        let mut kafka_bytes = 0;
        let mut records = 0;
        let mut rest = bytes.as_slice();
        while let Some(Ok(header)) = rest.get(..HEADER_LEN).map(BatchHeader::access) {
            let len = header.frame_len() as usize;
            assert!(len >= HEADER_LEN && len <= rest.len(), "frames cross the mesh whole");
            kafka_bytes += len - KAFKA_AT;
            // By offsets; a frame without records only steps over them.
            if header.record_count() > 0 {
                records += u64::try_from(header.last_offset_delta()).unwrap_or(0) + 1;
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "frames cross the mesh whole");
        let kafka_bytes = u32::try_from(kafka_bytes).unwrap_or(u32::MAX);
        Copied { bytes, kafka_bytes, records }
    }
}
