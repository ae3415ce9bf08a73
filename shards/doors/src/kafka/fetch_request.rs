//! Walks a Fetch request without building anything.
//! Owner: `fetch.rs`.
//! Invariant: steps name ranges of the body that lie inside it.
//! Not here: what becomes of a step.

use super::reader::{Cut, Reader};
use std::ops::Range;

const LOG_START_FROM: i16 = 5;
const SESSIONS_FROM: i16 = 7;
const EPOCH_FROM: i16 = 9;
const RACK_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;
const REPLICA_STATE_FROM: i16 = 15;

/// What stands before the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchHead {
    pub(crate) wait_ms_max: i32,
    pub(crate) bytes_min: i32,
    pub(crate) bytes_max: i32,
    pub(crate) read_committed: bool,
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
}

/// The next thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchStep {
    /// A topic by name, with that many partitions.
    Name(Range<usize>, u32),
    /// A topic by id, with that many partitions.
    Id([u8; 16], u32),
    /// A partition of the last topic.
    Partition { index: i32, leader_epoch: i32, offset: i64, bytes_max: i32 },
    /// Nothing is left, not even a byte.
    End,
}

/// A walk; the same body must be given at every step.
pub(crate) struct FetchWalk {
    reader: Reader,
    version: i16,
    topics: u32,
    partitions: u32,
    in_topic: bool,
}

impl FetchWalk {
    /// Reads the head of a body that begins at `at`.
    ///
    /// # Errors
    /// When the body is cut.
    pub(crate) fn begin(
        version: i16,
        at: usize,
        bytes: &[u8],
    ) -> Result<(FetchHead, FetchWalk), Cut> {
        let mut reader = Reader { at, flexible: version >= FLEXIBLE_FROM };
        if version < REPLICA_STATE_FROM {
            reader.i32(bytes)?;
        }
        let mut head = FetchHead {
            wait_ms_max: reader.i32(bytes)?,
            bytes_min: reader.i32(bytes)?,
            bytes_max: reader.i32(bytes)?,
            read_committed: reader.u8(bytes)? == 1,
            session_id: 0,
            session_epoch: -1,
        };
        if version >= SESSIONS_FROM {
            head.session_id = reader.i32(bytes)?;
            head.session_epoch = reader.i32(bytes)?;
        }
        let topics = reader.count(2, bytes)?;
        Ok((head, FetchWalk { reader, version, topics, partitions: 0, in_topic: false }))
    }

    /// The next step.
    ///
    /// # Errors
    /// When the body is cut or longer than its message.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<FetchStep, Cut> {
        if self.partitions > 0 {
            self.partitions -= 1;
            return self.partition(bytes);
        }
        if std::mem::take(&mut self.in_topic) {
            self.reader.tags(bytes)?;
        }
        if self.topics == 0 {
            self.end(bytes)?;
            return Ok(FetchStep::End);
        }
        self.topics -= 1;
        self.in_topic = true;
        if self.version >= TOPIC_IDS_FROM {
            let id = self.reader.uuid(bytes)?;
            self.partitions = self.reader.count(16, bytes)?;
            return Ok(FetchStep::Id(id, self.partitions));
        }
        let name = self.reader.string(bytes)?.ok_or(Cut)?;
        self.partitions = self.reader.count(16, bytes)?;
        Ok(FetchStep::Name(name, self.partitions))
    }

    fn partition(&mut self, bytes: &[u8]) -> Result<FetchStep, Cut> {
        let reader = &mut self.reader;
        let index = reader.i32(bytes)?;
        let leader_epoch = if self.version >= EPOCH_FROM { reader.i32(bytes)? } else { -1 };
        let offset = reader.i64(bytes)?;
        if self.version >= FLEXIBLE_FROM {
            // The epoch of the last record fetched: only a follower's leader compares it.
            reader.i32(bytes)?;
        }
        if self.version >= LOG_START_FROM {
            reader.i64(bytes)?;
        }
        let bytes_max = reader.i32(bytes)?;
        reader.tags(bytes)?;
        Ok(FetchStep::Partition { index, leader_epoch, offset, bytes_max })
    }

    /// What stands behind the topics: partitions a session forgets, the rack, tags.
    fn end(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let reader = &mut self.reader;
        if self.version >= SESSIONS_FROM {
            for _ in 0..reader.count(6, bytes)? {
                if self.version >= TOPIC_IDS_FROM {
                    reader.uuid(bytes)?;
                } else {
                    reader.string(bytes)?;
                }
                let count = reader.count(4, bytes)? as usize;
                reader.take(count * 4, bytes)?;
                reader.tags(bytes)?;
            }
        }
        if self.version >= RACK_FROM {
            reader.string(bytes)?;
        }
        reader.tags(bytes)?;
        if reader.at == bytes.len() { Ok(()) } else { Err(Cut) }
    }
}
