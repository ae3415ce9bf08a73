//! What every rule may touch while it handles one input: the shard's ground and this turn's effects.
//! Owner: `Shard` owns the ground; a `Turn` borrows it for one `step`.
//! Invariant: every answer leaves through [`Turn::reply`], whoever asked.
//! Not here: rules; each file of this crate holds its own.

use crate::catalog::Catalog;
use crate::partition::Partitions;
use crate::refused_turns::RefusedTurns;
use crate::request::{Fetched, MeshMessage, MetaOp, Notice, Out, Reply, RequestId};
use crate::shard_config::{ShardConfig, ShardCounts};
use ringway_log::blocks::Blocks;
use ringway_log::io::Now;
use ringway_log::logs::{Logs, ReadTicket};
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, ShardId, shard_of};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Connections from here on are the shard's own; doors count from 0.
const OWN: u32 = 1 << 31;
/// Own, and not on behalf of another shard.
const OWN_INSIDE: u32 = OWN | (1 << 30);
/// Asks for a block of producer ids.
pub(crate) const OWN_PRODUCER_IDS: u32 = OWN_INSIDE;
/// Asks for `__consumer_offsets`.
pub(crate) const OWN_OFFSETS_TOPIC: u32 = OWN_INSIDE | 1;
/// Appends to `__consumer_offsets`.
pub(crate) const OWN_OFFSETS_COMMIT: u32 = OWN_INSIDE | 2;

/// The id under which a request of another shard is answered: `tag` is that shard's number for it.
pub(crate) fn mesh_id(from: ShardId, tag: u32) -> RequestId {
    assert!(from < 1 << 30, "shard {from}");
    RequestId { connection: OWN | from, request: tag }
}

/// The shard that asked `id` through the mesh, if one did.
pub(crate) fn mesh_asker(id: RequestId) -> Option<ShardId> {
    (id.connection & OWN_INSIDE == OWN).then_some(id.connection & !OWN)
}

/// Who waits for a read of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Part of a fetch row.
    Fetch { row: u32, part: u32 },
    /// Row of a time search.
    Search { row: u32 },
    /// Replay of a partition of `__consumer_offsets`.
    Offsets { partition: u32 },
}

/// State that more than one rule needs.
pub(crate) struct Ground {
    pub(crate) config: ShardConfig,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) logs: Logs,
    pub(crate) partitions: Partitions,
    pub(crate) turns: RefusedTurns,
    /// Kafka's leader epoch of this life; one number for all partitions while the node is alone.
    pub(crate) leader_epoch: i32,
    pub(crate) counts: ShardCounts,
    /// Every shard is recovered: clients may be told offsets.
    pub(crate) serving: bool,
    /// Clean stop has begun.
    pub(crate) stopping: bool,
    /// Reads in flight.
    pub(crate) readers: BTreeMap<ReadTicket, Reader>,
    /// Answers to the shard's own requests, taken at the end of a step.
    pub(crate) own_replies: Vec<(RequestId, Reply)>,
    /// Something was appended since the logs last planned.
    pub(crate) appended: bool,
}

impl Ground {
    /// Whether this shard owns `key`.
    pub(crate) fn owns(&self, key: LogKey) -> bool {
        shard_of(key, self.catalog.shard_count) == self.config.shard
    }
}

/// One step's view.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) ground: &'a mut Ground,
    pub(crate) blocks: &'a mut Blocks,
    pub(crate) out: &'a mut Out,
}

impl Turn<'_> {
    /// Answers `id`: to a door, through the mesh, or to the shard itself.
    pub(crate) fn reply(&mut self, id: RequestId, reply: Reply) {
        if id.connection & OWN == 0 {
            self.out.replies.push((id, reply));
        } else if let Some(shard) = mesh_asker(id) {
            let reply = self.owned(reply);
            let answer = MeshMessage::Answer { tag: u64::from(id.request), reply };
            self.out.mesh.push((shard, answer));
        } else {
            self.ground.own_replies.push((id, reply));
        }
    }

    /// Answers `id` with an error.
    pub(crate) fn refuse(&mut self, id: RequestId, code: ErrorCode, message: impl Into<String>) {
        self.reply(id, Reply::Failed { code, message: message.into() });
    }

    /// One line for the operator.
    pub(crate) fn warn(&mut self, line: String) {
        self.out.notices.push(Notice::Warning(line));
    }

    /// Asks the control plane for the shard itself; the answer comes as `Input::Meta`.
    pub(crate) fn ask_control(&mut self, connection: u32, op: MetaOp) {
        self.out.meta.push((RequestId { connection, request: 0 }, op));
    }

    /// Slices never leave their shard: frames cross as one copy.
    fn owned(&mut self, reply: Reply) -> Reply {
        let Reply::Fetched(mut parts) = reply else { return reply };
        for part in &mut parts {
            if let Fetched::Frames(frames) = &mut part.fetched {
                let bytes = copied(frames, self.blocks);
                frames.release(self.blocks);
                part.fetched = Fetched::Owned(bytes);
            }
        }
        Reply::Fetched(parts)
    }
}

/// All bytes of whole frames, native lines included, back to back.
pub(crate) fn copied(frames: &FrameList, blocks: &Blocks) -> Vec<u8> {
    let total: usize = frames.frames.iter().map(|frame| frame.frame_len as usize).sum();
    let mut bytes = Vec::with_capacity(total);
    for frame in &frames.frames {
        let range = frame.slices.start as usize..frame.slices.end as usize;
        for slice in &frames.slices[range] {
            bytes.extend_from_slice(blocks.bytes(*slice));
        }
    }
    assert_eq!(bytes.len(), total, "frames are whole");
    bytes
}
