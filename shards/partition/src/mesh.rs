//! Requests that another shard of this node owns: forwarded with owned bytes, answered by tag.
//! Owner: `Shard`.
//! Invariant: every `Ask` gets exactly one `Answer`; a tag is used again only after it.
//! Not here: carrying messages (`runtime`, `sim`), which shard owns what (`wire/ids.rs`).

use crate::batch_rules::sequenced_whole;
use crate::deadlines::RowUse;
use crate::produce_rows::{payload_bytes, release};
use crate::refused_turns::out_of_turn;
use crate::request::{MeshMessage, Payload, Reply, Request, RequestId};
use crate::turn::Turn;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, ShardId};
use std::collections::BTreeMap;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A door's request, forwarded whole.
    Door(RequestId),
    /// A foreign part of a fetch row.
    FetchPart { row: RowUse, part: u32 },
    /// Nobody any more; the tag waits for its answer.
    Nobody,
}

struct Asked {
    to: ShardId,
    waiter: Waiter,
}

/// A batch that another shard owns is to be passed on. One that there is no room for keeps its turn here,
/// because its owner never hears of it. The sequence that it would pass by, if it would.
fn take_turn(turn: &mut Turn<'_>, key: LogKey, payload: &Payload, full: bool) -> Option<i32> {
    let Turn { ground, blocks, now, .. } = turn;
    if !full && ground.turns.is_empty() {
        return None;
    }
    let batch = sequenced_whole(payload_bytes(blocks, payload))?;
    let expected = ground.turns.expected(key, batch, now.mono_ns);
    if full {
        ground.turns.keep(key, batch, now.mono_ns);
    } else if expected.is_none() {
        ground.turns.forget(key, batch.producer_id);
    }
    expected
}

/// Tags in use.
#[derive(Default)]
pub(crate) struct Mesh {
    next_tag: u32,
    asked: BTreeMap<u32, Asked>,
    by_door: BTreeMap<RequestId, u32>,
}

impl Mesh {
    /// Requests waiting for another shard.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Hands a door's request to its owner.
    pub(crate) fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        to: ShardId,
        request: Request,
    ) {
        let full = self.asked.len() >= turn.ground.config.waiting_rows_max;
        let mut expected = None;
        if let Request::Produce { key, payload, .. } = &request {
            expected = take_turn(turn, *key, payload, full);
        }
        if full || expected.is_some() {
            if let Request::Produce { payload, .. } = &request {
                release(turn.blocks, payload);
            }
            let (code, message) = match expected {
                Some(first) => (ErrorCode::OutOfOrderSequenceNumber, out_of_turn(first)),
                None => {
                    let waiting = self.asked.len();
                    let message = format!("{waiting} requests wait for other shards already");
                    (ErrorCode::RequestTimedOut, message)
                }
            };
            return turn.refuse(id, code, message);
        }
        let tag = self.ask(turn, to, Waiter::Door(id), request);
        self.by_door.insert(id, tag);
    }

    /// Asks another shard and says who waits. The caller bounds how often.
    pub(crate) fn ask(
        &mut self,
        turn: &mut Turn<'_>,
        to: ShardId,
        waiter: Waiter,
        request: Request,
    ) -> u32 {
        assert_ne!(to, turn.ground.config.shard, "a shard does not ask itself");
        while self.asked.contains_key(&self.next_tag) {
            self.next_tag = self.next_tag.wrapping_add(1);
        }
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        self.asked.insert(tag, Asked { to, waiter });
        turn.ground.counts.foreign_requests += 1;
        let request = owned(turn, request);
        turn.out.mesh.push((to, MeshMessage::Ask { tag: u64::from(tag), request }));
        tag
    }

    /// Nobody waits for `tag` any more.
    pub(crate) fn forget(&mut self, turn: &mut Turn<'_>, tag: u32) {
        let Some(asked) = self.asked.get_mut(&tag) else { return };
        asked.waiter = Waiter::Nobody;
        turn.out.mesh.push((asked.to, MeshMessage::Forget { tag: u64::from(tag) }));
    }

    /// The connection of a forwarded request is gone.
    pub(crate) fn gone(&mut self, turn: &mut Turn<'_>, id: RequestId) {
        if let Some(tag) = self.by_door.remove(&id) {
            self.forget(turn, tag);
        }
    }

    /// Takes an answer. A door's is passed on at once; a fetch part's is given back.
    pub(crate) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        from: ShardId,
        tag: u64,
        reply: Reply,
    ) -> Option<(RowUse, u32, Reply)> {
        let asked = u32::try_from(tag).ok().and_then(|tag| self.asked.remove(&tag));
        let asked = asked.filter(|asked| asked.to == from)?;
        match asked.waiter {
            Waiter::Door(id) => {
                self.by_door.remove(&id);
                turn.reply(id, reply);
                None
            }
            Waiter::FetchPart { row, part } => Some((row, part, reply)),
            Waiter::Nobody => None,
        }
    }
}

/// A `Slice` never leaves its shard: the payload crosses as one copy.
fn owned(turn: &mut Turn<'_>, request: Request) -> Request {
    match request {
        Request::Produce { key, acks, deadline_ns, payload, encoding } => {
            let payload = match payload {
                Payload::Received(slice) => {
                    let bytes = turn.blocks.bytes(slice).to_vec();
                    turn.blocks.release(slice);
                    Payload::Owned(bytes)
                }
                Payload::Owned(bytes) => Payload::Owned(bytes),
            };
            Request::Produce { key, acks, deadline_ns, payload, encoding }
        }
        other @ (Request::Fetch { .. }
        | Request::ListOffsets { .. }
        | Request::Meta(_)
        | Request::InitProducerId { .. }
        | Request::Group(_)
        | Request::DescribeLog { .. }) => other,
    }
}
