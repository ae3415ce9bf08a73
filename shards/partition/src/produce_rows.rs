//! Rows of produces: as asked, waiting for room, waiting for the high watermark.
//! Owner: `Partition`.
//! Invariant: a payload's hold lives in exactly one row.
//! Not here: what happens to them (`produce.rs`).

use crate::request::{Payload, RequestId};
use ringway_log::blocks::Blocks;
use ringway_wire::ids::LogKey;

/// A produce as asked.
#[derive(Debug)]
pub(crate) struct Produce {
    pub(crate) key: LogKey,
    pub(crate) acks: i16,
    pub(crate) deadline_ns: u64,
    pub(crate) payload: Payload,
    pub(crate) encoding: u8,
}

/// A produce that waits for room in the log (`AppendError::Busy`).
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: RequestId,
    pub(crate) produce: Produce,
    pub(crate) keys: Keys,
}

/// Whether the keys of a batch for a compacted topic were looked at (P7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Not yet, or not needed.
    Unknown,
    /// By this job.
    Looking(u64),
    /// All are there.
    Sound,
}

/// An appended batch that waits for the high watermark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unflushed {
    pub(crate) id: RequestId,
    /// acks = 0 was answered at the append.
    pub(crate) answered: bool,
    pub(crate) base_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) append_time_ns: u64,
    /// Kafka bytes; 0 for a duplicate.
    pub(crate) bytes: u32,
}

/// Gives a payload's hold back.
pub(crate) fn release(blocks: &mut Blocks, payload: &Payload) {
    if let Payload::Received(slice) = payload {
        blocks.release(*slice);
    }
}

/// The batch.
pub(crate) fn payload_bytes<'a>(blocks: &'a Blocks, payload: &'a Payload) -> &'a [u8] {
    match payload {
        Payload::Received(slice) => blocks.bytes(*slice),
        Payload::Owned(bytes) => bytes,
    }
}
