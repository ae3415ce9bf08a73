//! What one call on a session may touch, and how bytes and requests leave it.
//! Owner: `Session`, for the length of one call.
//! Invariant: parts name bytes in the order in which they were written.
//! Not here: any dialect.

use crate::door::{Close, Door, DoorOut, Part};
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::Now;
use ringway_partition::request::{Fetched, GroupReply, MetaAnswer, Reply, Request, RequestId};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};

/// Slices at least this long are sent by reference, shorter ones are copied beside the headers:
/// an entry of a gather list costs more than copying a few KiB.
pub(crate) const BY_REFERENCE_BYTES_MIN: usize = 4096;

/// A fetch waits so long at most, ns, whatever its client asks for: its row and its connection would live
/// on for weeks. The client then asks again.
pub(crate) const FETCH_WAIT_NS_MAX: u64 = 3_600_000_000_000;

/// Where in a stored frame Kafka's RecordBatch begins.
pub(crate) const BATCH_AT: usize = 67;

/// The surroundings of one call.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) connection: u32,
    pub(crate) peer: &'a str,
    pub(crate) door: &'a mut Door,
    pub(crate) blocks: &'a mut Blocks,
    pub(crate) out: &'a mut DoorOut,
}

impl Turn<'_> {
    /// Asks the shard under the session's own number `id`.
    pub(crate) fn ask(&mut self, id: u32, request: Request) {
        let id = RequestId { connection: self.connection, request: id };
        self.out.requests.push((id, request));
    }

    /// Everything in `out.bytes` from `from` on is to be sent now.
    pub(crate) fn send_from(&mut self, from: usize) {
        let range = position(from)..position(self.out.bytes.len());
        if range.is_empty() {
            return;
        }
        match self.out.parts.last_mut() {
            // Replies of one turn become one piece.
            Some(Part::Bytes(last)) if last.end == range.start => last.end = range.end,
            _ => self.out.parts.push(Part::Bytes(range)),
        }
    }

    /// Sends the slice by reference when it is worth it, else copies and releases it. `from` is where
    /// the bytes not yet sent begin; the new such place is returned.
    pub(crate) fn send_slice(&mut self, from: usize, slice: Slice) -> usize {
        if slice.len() < BY_REFERENCE_BYTES_MIN {
            self.out.bytes.extend_from_slice(self.blocks.bytes(slice));
            self.blocks.release(slice);
            return from;
        }
        self.send_from(from);
        self.out.parts.push(Part::Slice(slice));
        self.out.bytes.len()
    }

    /// Counts a request for a partition of another shard (B3).
    pub(crate) fn count_owner(&mut self, key: LogKey) {
        if shard_of(key, self.door.catalog.shard_count) != self.door.shard {
            self.door.counts.kafka_foreign_requests += 1;
        }
    }

    /// Gives back what a reply holds that nobody waits for.
    pub(crate) fn drop_reply(&mut self, reply: Reply) {
        release_reply(reply, self.blocks);
    }
}

/// Gives back every hold in `reply`.
pub(crate) fn release_reply(reply: Reply, blocks: &mut Blocks) {
    if let Reply::Fetched(parts) = reply {
        for part in parts {
            if let Fetched::Frames(mut frames) = part.fetched {
                frames.release(blocks);
            }
        }
    }
}

/// Code and message of an answer that is not what was asked for.
pub(crate) fn refusal(reply: Reply) -> (ErrorCode, String) {
    if let Reply::Failed { code, message } | Reply::Meta(MetaAnswer::Failed { code, message }) =
        reply
    {
        return (code, message);
    }
    if let Reply::Group(GroupReply::Failed(code)) = reply {
        return (code, String::new());
    }
    (ErrorCode::UnknownServerError, "the shard answered another question".to_owned())
}

/// A position in `DoorOut::bytes`.
pub(crate) fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A reason to close with its details.
pub(crate) fn close(reason: &'static str, detail: impl Into<String>) -> Close {
    Close { reason, detail: detail.into() }
}
