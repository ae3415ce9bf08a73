//! Walks a Produce request without building anything.
//! Owner: `produce.rs`.
//! Invariant: steps name ranges of the body that lie inside it.
//! Not here: what becomes of a step.

use super::reader::{Cut, Reader};
use std::ops::Range;

const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;

/// What stands before the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProduceHead {
    pub(crate) transactional: bool,
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) topics: u32,
}

/// The next thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProduceStep {
    /// A topic by name, with that many partitions.
    Name(Range<usize>, u32),
    /// A topic by id, with that many partitions.
    Id([u8; 16], u32),
    /// A partition of the last topic with its records.
    Partition(i32, Option<Range<usize>>),
    /// Nothing is left, not even a byte.
    End,
}

/// A walk; the same body must be given at every step.
pub(crate) struct ProduceWalk {
    reader: Reader,
    by_id: bool,
    topics: u32,
    partitions: u32,
    in_topic: bool,
}

impl ProduceWalk {
    /// Reads the head of a body that begins at `at`.
    ///
    /// # Errors
    /// When the body is cut.
    pub(crate) fn begin(
        version: i16,
        at: usize,
        bytes: &[u8],
    ) -> Result<(ProduceHead, ProduceWalk), Cut> {
        let mut reader = Reader { at, flexible: version >= FLEXIBLE_FROM };
        let transactional = reader.string(bytes)?.is_some();
        let acks = reader.i16(bytes)?;
        let timeout_ms = reader.i32(bytes)?;
        let by_id = version >= TOPIC_IDS_FROM;
        let topics = reader.count(if by_id { 17 } else { 2 }, bytes)?;
        let head = ProduceHead { transactional, acks, timeout_ms, topics };
        Ok((head, ProduceWalk { reader, by_id, topics, partitions: 0, in_topic: false }))
    }

    /// The next step.
    ///
    /// # Errors
    /// When the body is cut or longer than its message.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<ProduceStep, Cut> {
        let reader = &mut self.reader;
        if self.partitions > 0 {
            self.partitions -= 1;
            let index = reader.i32(bytes)?;
            let records = reader.blob(bytes)?;
            reader.tags(bytes)?;
            return Ok(ProduceStep::Partition(index, records));
        }
        if std::mem::take(&mut self.in_topic) {
            reader.tags(bytes)?;
        }
        if self.topics == 0 {
            reader.tags(bytes)?;
            return if reader.at == bytes.len() { Ok(ProduceStep::End) } else { Err(Cut) };
        }
        self.topics -= 1;
        self.in_topic = true;
        let step = if self.by_id {
            let id = reader.uuid(bytes)?;
            self.partitions = reader.count(5, bytes)?;
            ProduceStep::Id(id, self.partitions)
        } else {
            let name = reader.string(bytes)?.ok_or(Cut)?;
            self.partitions = reader.count(5, bytes)?;
            ProduceStep::Name(name, self.partitions)
        };
        Ok(step)
    }
}
