//! What one shard's thread holds: the real `Shard`, its blocks, its door and sessions.
//! Owner: `Process`.
//! Invariant: every slice handed out by the sessions or the shard is released here or by them.
//! Not here: when anything happens (`node.rs`).

use crate::rng::{hash_bytes, mix};
use ringway_doors::session::{Dialects, Door, DoorOut, Part, ReceiveInto, Session};
use ringway_log::blocks::{BLOCK_BYTES, Blocks};
use ringway_log::io::Now;
use ringway_log::read::FrameList;
use ringway_partition::request::{Fetched, FetchedPart, Reply};
use ringway_partition::shard::Shard;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, CRC_FROM};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// One shard's thread.
pub struct Room {
    /// The logic; absent only while it starts.
    pub shard: Option<Shard>,
    /// Its memory.
    pub blocks: Blocks,
    /// What its sessions share.
    pub door: Door,
    /// By connection.
    pub sessions: BTreeMap<u32, Session>,
    /// The turn's end is in the queue.
    pub turn_planned: bool,
    /// The earliest wake in the queue.
    pub wake_at_ns: Option<u64>,
}

/// What became of bytes offered to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// This many.
    Bytes(usize),
    /// None now.
    Paused,
    /// There is no such session any more.
    Gone,
}

impl Room {
    /// Bytes the session of `connection` can take now.
    #[must_use]
    pub fn room_for(&self, connection: u32) -> Took {
        let Some(session) = self.sessions.get(&connection) else { return Took::Gone };
        match session.receive_into() {
            ReceiveInto::Provided if self.blocks.free_count() == 0 => Took::Paused,
            ReceiveInto::Provided => Took::Bytes(BLOCK_BYTES),
            ReceiveInto::Large { from, to, .. } => Took::Bytes((to - from) as usize),
            ReceiveInto::Nothing => Took::Paused,
        }
    }

    /// Hands bytes to a session, as a receive of the ring would.
    pub fn receive(&mut self, now: Now, connection: u32, bytes: &[u8], out: &mut DoorOut) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        match session.receive_into() {
            ReceiveInto::Large { block, from, .. } => {
                let at = (from - self.blocks.frozen_end(block)) as usize;
                self.blocks.tail_mut(block)[at..at + bytes.len()].copy_from_slice(bytes);
                let count = u32::try_from(bytes.len()).unwrap_or(0);
                session.landed(now, count, &mut self.door, &mut self.blocks, out);
            }
            ReceiveInto::Provided | ReceiveInto::Nothing => {
                let Some(block) = self.blocks.take() else { return };
                self.blocks.tail_mut(block)[..bytes.len()].copy_from_slice(bytes);
                let end = u32::try_from(bytes.len()).unwrap_or(0);
                let slice = self.blocks.freeze(block, 0, end);
                self.blocks.release_block(block);
                session.receive(now, slice, &mut self.door, &mut self.blocks, out);
            }
        }
    }

    /// Opens a session.
    pub fn accept(&mut self, now: Now, connection: u32) {
        let peer = format!("10.0.0.{}:{}", connection % 250, 40_000 + connection % 20_000);
        self.sessions.insert(connection, Session::new(connection, peer, Dialects::Auto, now));
    }

    /// The connection is gone.
    pub fn hang_up(&mut self, connection: u32, out: &mut DoorOut) {
        if let Some(mut session) = self.sessions.remove(&connection) {
            session.end(&mut self.blocks, out);
        }
    }

    /// Bytes of what a session sends, with the holds given back.
    pub fn gather(&mut self, out: &mut DoorOut) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in out.parts.drain(..) {
            match part {
                Part::Bytes(range) => {
                    bytes.extend_from_slice(&out.bytes[range.start as usize..range.end as usize]);
                }
                Part::Slice(slice) => {
                    bytes.extend_from_slice(self.blocks.bytes(slice));
                    self.blocks.release(slice);
                }
            }
        }
        out.bytes.clear();
        bytes
    }

    /// What the checker's own fetch found, in plain values.
    pub fn read_back(&mut self, reply: Reply) -> ReadBack {
        match reply {
            Reply::Fetched(parts) => {
                ReadBack::Parts(parts.into_iter().map(|part| self.part(part)).collect())
            }
            Reply::Offset { offset, .. } => ReadBack::Offset(offset),
            Reply::Failed { code, message } => ReadBack::Failed(code, message),
            Reply::Produced { .. } | Reply::Meta(_) | Reply::ProducerId { .. } => ReadBack::Other,
            Reply::Group(_) => ReadBack::Other,
            Reply::Log(facts) => ReadBack::Listed(
                facts.quarantined.iter().map(|range| (range.from, range.to)).collect(),
            ),
        }
    }

    fn part(&mut self, part: FetchedPart) -> PartSeen {
        let mut frames = Vec::new();
        match part.fetched {
            Fetched::Owned(bytes) => see_all(&bytes, &mut frames),
            Fetched::Frames(mut list) => {
                self.frames(&list, &mut frames);
                list.release(&mut self.blocks);
            }
        }
        PartSeen {
            key: Some(part.key),
            code: Some(part.code),
            high_watermark: part.high_watermark,
            log_start: part.log_start,
            frames,
        }
    }

    fn frames(&self, list: &FrameList, into: &mut Vec<FrameSeen>) {
        let mut bytes = Vec::new();
        for frame in &list.frames {
            bytes.clear();
            for slice in &list.slices[frame.slices.start as usize..frame.slices.end as usize] {
                bytes.extend_from_slice(self.blocks.bytes(*slice));
            }
            see_all(&bytes, into);
        }
    }
}

/// Answer to one of the checker's own requests.
#[derive(Clone, Debug)]
pub enum ReadBack {
    /// A fetch.
    Parts(Vec<PartSeen>),
    /// ListOffsets.
    Offset(i64),
    /// Ranges that a log lists as damaged.
    Listed(Vec<(u64, u64)>),
    /// Refused.
    Failed(ErrorCode, String),
    /// Anything else.
    Other,
}

/// One partition of the checker's fetch.
#[derive(Clone, Debug, Default)]
pub struct PartSeen {
    /// Which log.
    pub key: Option<LogKey>,
    /// Outcome.
    pub code: Option<ErrorCode>,
    /// Consumers may read below it.
    pub high_watermark: u64,
    /// First offset kept.
    pub log_start: u64,
    /// The batches.
    pub frames: Vec<FrameSeen>,
}

/// A batch as it came out of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameSeen {
    /// Offset of its first record.
    pub base: u64,
    /// Offset of its last record.
    pub last: u64,
    /// log_epoch, 0 when it did not come with its line.
    pub log_epoch: u32,
    /// Kafka's leader epoch.
    pub leader_epoch: i32,
    /// The batch's identity.
    pub hash: u64,
    /// Greatest time of its records, ms.
    pub max_timestamp: i64,
    /// Whether Kafka's CRC fits.
    pub sound: bool,
    /// It holds no records: it only moves its reader on.
    pub hollow: bool,
    /// Bytes of the frame.
    pub frame_len: u32,
}

/// A log, read from its start to its high watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadLog {
    /// Every batch.
    pub frames: Vec<FrameSeen>,
    /// Ranges that the log itself says are damaged, in order, each with the offset after it.
    pub quarantined: Vec<(u64, u64)>,
    /// First offset kept.
    pub log_start: u64,
    /// High watermark.
    pub end: u64,
}

impl ReadLog {
    /// What is left once retention has moved the start to `start`.
    #[must_use]
    pub fn from_start(mut self, start: u64) -> ReadLog {
        self.frames.retain(|frame| frame.last >= start);
        self.quarantined.retain(|range| range.1 > start);
        self.log_start = self.log_start.max(start);
        self
    }
}

/// Which batch it is: everything that Kafka's CRC covers but for what a broker may stamp, the kind of
/// time and the greatest one.
fn identity(covered: &[u8]) -> u64 {
    const LOG_APPEND_TIME: u8 = 0x08;
    const STAMPED: std::ops::Range<usize> = 14..22;
    let mut front = [0; STAMPED.start];
    front.copy_from_slice(&covered[..STAMPED.start]);
    front[1] &= !LOG_APPEND_TIME;
    mix(hash_bytes(1, &front), hash_bytes(2, &covered[STAMPED.end..]))
}

/// Reads whole frames standing back to back; a frame that makes no sense is seen as unsound.
pub fn see_all(bytes: &[u8], into: &mut Vec<FrameSeen>) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(header) = BatchHeader::access(rest) else {
            into.push(FrameSeen::default());
            return;
        };
        let len = header.frame_len() as usize;
        if len < 128 || len > rest.len() {
            into.push(FrameSeen::default());
            return;
        }
        into.push(FrameSeen {
            base: header.base_offset(),
            last: header.last_offset().unwrap_or(0),
            log_epoch: header.log_epoch(),
            leader_epoch: header.leader_epoch(),
            hash: identity(&rest[CRC_FROM..len]),
            max_timestamp: header.max_timestamp(),
            sound: ringway_wire::crc32c::crc32c(&rest[CRC_FROM..len]) == header.kafka_crc(),
            hollow: header.record_count() == 0,
            frame_len: header.frame_len(),
        });
        rest = &rest[len..];
    }
}

/// Reads Kafka batches standing back to back (a fetch reply); a cut last one is left out.
pub fn see_kafka(bytes: &[u8], into: &mut Vec<FrameSeen>) {
    let mut rest = bytes;
    while rest.len() >= 61 {
        let word = |at: usize| -> [u8; 4] { [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]] };
        let base =
            (u64::from(u32::from_be_bytes(word(0))) << 32) | u64::from(u32::from_be_bytes(word(4)));
        let len = 12 + u32::from_be_bytes(word(8)) as usize;
        if len < 61 || len > rest.len() {
            return;
        }
        let delta = u64::from(u32::from_be_bytes(word(23)));
        let time = (u64::from(u32::from_be_bytes(word(35))) << 32)
            | u64::from(u32::from_be_bytes(word(39)));
        into.push(FrameSeen {
            base,
            last: base + delta,
            log_epoch: 0,
            leader_epoch: i32::from_be_bytes(word(12)),
            hash: identity(&rest[21..len]),
            max_timestamp: time.cast_signed(),
            sound: ringway_wire::crc32c::crc32c(&rest[21..len]) == u32::from_be_bytes(word(17)),
            hollow: word(57) == [0; 4],
            frame_len: u32::try_from(len + 67).unwrap_or(0),
        });
        rest = &rest[len..];
    }
}
