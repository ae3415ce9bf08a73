//! The Kafka door: heads of requests, which API takes them, answers in their order.
//! Owner: one `Session`.
//! Invariant: a request starts when its turn has come (`order.rs`) and is answered once, unless it asked for no answer.
//! Not here: what each API says (one file each), frames (`input.rs`).

mod api_versions;
mod call;
mod create_topics;
mod delete_topics;
mod describe_configs;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod produce;
mod sync_group;

use crate::door::{Close, DoorConfig, Taken};
use crate::order::Order;
use crate::turn::{Turn, close, release_reply};
use bytes::Bytes;
use call::{Asked, Head, decode, malformed};
use kafka_protocol::messages::FindCoordinatorRequest;
use ringway_log::blocks::{Blocks, Slice};
use ringway_partition::request::{Reply, Request};
use ringway_wire::kafka::api::{
    API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, DESCRIBE_CONFIGS, FETCH, FIND_COORDINATOR,
    HEARTBEAT, INIT_PRODUCER_ID, JOIN_GROUP, LEAVE_GROUP, LIST_OFFSETS, METADATA, OFFSET_COMMIT,
    OFFSET_FETCH, PRODUCE, SYNC_GROUP,
};
use ringway_wire::kafka::request_header::RequestHeader;
use ringway_wire::kafka::shape::check_shape;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// Key, version, correlation and an empty client id.
const HEAD_BYTES_MIN: u32 = 10;
/// The first frame's length begins with a zero byte: that tells Kafka from other dialects.
const FIRST_FRAME_BYTES: u32 = 16 << 20;

/// A request whose answer is being made.
enum Body {
    Produce(produce::Waiting),
    Call(Box<Calling>),
}

/// Any request but Produce.
struct Calling {
    head: Head,
    replies: Vec<Option<Reply>>,
    call: Call,
}

/// What an API remembers between asking and answering.
enum Call {
    CreateTopics(create_topics::Waiting),
    DeleteTopics(delete_topics::Waiting),
    Fetch(fetch::Waiting),
    FindCoordinator(FindCoordinatorRequest),
    Heartbeat,
    InitProducerId,
    JoinGroup(join_group::Waiting),
    LeaveGroup,
    ListOffsets(list_offsets::Waiting),
    Metadata(metadata::Waiting),
    OffsetCommit(offset_commit::Waiting),
    OffsetFetch(offset_fetch::Waiting),
    SyncGroup,
}

/// One connection's Kafka side.
pub(crate) struct KafkaDoor {
    order: Order<Body>,
}

/// A request's head and where its body begins.
struct Parsed {
    head: Head,
    /// Only an ApiVersions of the future may be unserved here.
    served: bool,
    body_at: usize,
}

impl KafkaDoor {
    /// Nothing under way.
    pub(crate) fn new() -> KafkaDoor {
        KafkaDoor { order: Order::new() }
    }

    /// Length of the frame that `bytes` begin, `None` when they are too few to tell.
    ///
    /// # Errors
    /// When the length is out of bounds.
    pub(crate) fn measure(
        bytes: &[u8],
        first: bool,
        config: &DoorConfig,
    ) -> Result<Option<usize>, Close> {
        let Some(&length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(length);
        let limit = config.kafka_request_bytes_max;
        let limit = if first { limit.min(FIRST_FRAME_BYTES - 1) } else { limit };
        if length > limit {
            return Err(close("oversized_frame", format!("{length} bytes, at most {limit}")));
        }
        if length < HEAD_BYTES_MIN {
            return Err(close("malformed_frame", format!("{length} bytes hold no request")));
        }
        Ok(Some(length as usize + LENGTH_BYTES))
    }

    /// Starts a request, or leaves it for later.
    ///
    /// # Errors
    /// When the connection must be closed for it.
    pub(crate) fn frame(&mut self, frame: Slice, turn: &mut Turn<'_>) -> Result<Taken, Close> {
        let parsed = match parse(turn.blocks.bytes(frame)) {
            Ok(parsed) => parsed,
            // Those before it are answered first.
            Err(_) if !self.order.may_start(false) => return Ok(Taken::Blocked),
            Err(close) => return Err(close),
        };
        let key = parsed.head.key;
        if !self.order.may_start(key == PRODUCE) {
            return Ok(Taken::Blocked);
        }
        if key == PRODUCE {
            return self.produce(&parsed, frame, turn);
        }
        turn.door.counts.kafka_requests += 1;
        match key {
            API_VERSIONS => {
                let Parsed { head, served, body_at } = parsed;
                api_versions::start(head, served, frame, body_at, turn);
            }
            FETCH => {
                if let Some((ask, waiting)) =
                    fetch::start(parsed.head, frame, parsed.body_at, turn)?
                {
                    self.ask(parsed.head, vec![ask], Call::Fetch(waiting), turn);
                }
            }
            _ => self.decoded(&parsed, frame, turn)?,
        }
        Ok(Taken::Yes)
    }

    /// The shard answers.
    ///
    /// # Errors
    /// When the connection must be closed for it.
    pub(crate) fn reply(
        &mut self,
        id: u32,
        reply: Reply,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        match self.order.answer(id) {
            None => {
                turn.drop_reply(reply);
                return Ok(());
            }
            Some((Body::Produce(waiting), piece)) => waiting.answer(piece, reply),
            Some((Body::Call(calling), piece)) => {
                if let Some(place) = calling.replies.get_mut(piece as usize) {
                    *place = Some(reply);
                }
            }
        }
        self.send_answered(turn)
    }

    /// Requests not yet answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.order.len()
    }

    /// Names the requests nobody waits for any more.
    pub(crate) fn end(&mut self, gone: &mut impl FnMut(u32), blocks: &mut Blocks) {
        self.order.clear(gone, |body| {
            if let Body::Call(calling) = body {
                calling.replies.into_iter().flatten().for_each(|r| release_reply(r, blocks));
            }
        });
    }

    fn produce(
        &mut self,
        parsed: &Parsed,
        frame: Slice,
        turn: &mut Turn<'_>,
    ) -> Result<Taken, Close> {
        let first_id = self.order.next_id();
        match produce::start(parsed.head, frame, parsed.body_at, first_id, turn) {
            Ok((waiting, asked)) => {
                turn.door.counts.kafka_requests += 1;
                self.order.push(true, asked, Body::Produce(waiting));
                self.send_answered(turn)?;
                Ok(Taken::Yes)
            }
            Err(_) if !self.order.may_start(false) => Ok(Taken::Blocked),
            Err(close) => Err(close),
        }
    }

    fn send_answered(&mut self, turn: &mut Turn<'_>) -> Result<(), Close> {
        while let Some(body) = self.order.pop_answered() {
            match body {
                Body::Produce(waiting) => waiting.finish(turn)?,
                Body::Call(calling) => finish(*calling, turn)?,
            }
        }
        Ok(())
    }

    fn ask(&mut self, head: Head, asks: Vec<Request>, call: Call, turn: &mut Turn<'_>) {
        let count = u32::try_from(asks.len()).unwrap_or(u32::MAX);
        let first_id = self.order.next_id();
        let replies = asks.iter().map(|_| None).collect();
        for (id, ask) in (0..count).zip(asks) {
            turn.ask(first_id.wrapping_add(id), ask);
        }
        self.order.push(false, count, Body::Call(Box::new(Calling { head, replies, call })));
    }

    fn later<W>(
        &mut self,
        head: Head,
        asked: Asked<W>,
        call: impl FnOnce(W) -> Call,
        turn: &mut Turn<'_>,
    ) {
        if let Some((asks, waiting)) = asked {
            self.ask(head, asks, call(waiting), turn);
        }
    }

    /// The APIs whose bodies are decoded into structs.
    fn decoded(&mut self, parsed: &Parsed, frame: Slice, turn: &mut Turn<'_>) -> Result<(), Close> {
        let head = parsed.head;
        let bytes = turn.blocks.bytes(frame);
        let elements_max = turn.door.config.kafka_elements_max;
        check_shape(bytes, parsed.body_at, head.key, head.version, elements_max)
            .map_err(|error| malformed(head, error))?;
        let body = Bytes::copy_from_slice(bytes.get(parsed.body_at..).unwrap_or_default());
        match head.key {
            METADATA => {
                let asked = metadata::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::Metadata, turn);
            }
            LIST_OFFSETS => {
                let asked = list_offsets::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::ListOffsets, turn);
            }
            CREATE_TOPICS => {
                let asked = create_topics::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::CreateTopics, turn);
            }
            DELETE_TOPICS => {
                let asked = delete_topics::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::DeleteTopics, turn);
            }
            DESCRIBE_CONFIGS => describe_configs::start(head, decode(head, body)?, turn)?,
            INIT_PRODUCER_ID => {
                let asked = init_producer_id::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, |()| Call::InitProducerId, turn);
            }
            _ => self.decoded_group(parsed, frame, body, turn)?,
        }
        Ok(())
    }

    /// The APIs of consumer groups.
    fn decoded_group(
        &mut self,
        parsed: &Parsed,
        frame: Slice,
        body: Bytes,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        let head = parsed.head;
        match head.key {
            FIND_COORDINATOR => {
                let asked = find_coordinator::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::FindCoordinator, turn);
            }
            OFFSET_COMMIT => {
                let asked = offset_commit::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::OffsetCommit, turn);
            }
            OFFSET_FETCH => {
                let asked = offset_fetch::start(head, decode(head, body)?, turn)?;
                self.later(head, asked, Call::OffsetFetch, turn);
            }
            JOIN_GROUP => {
                let request = decode(head, body)?;
                let client_id = client_id(turn.blocks.bytes(frame));
                let asked = join_group::start(head, client_id, request, turn.peer);
                self.later(head, asked, Call::JoinGroup, turn);
            }
            SYNC_GROUP => {
                let asked = sync_group::start(decode(head, body)?);
                self.later(head, asked, |()| Call::SyncGroup, turn);
            }
            HEARTBEAT => {
                let asked = heartbeat::start(decode(head, body)?);
                self.later(head, asked, |()| Call::Heartbeat, turn);
            }
            LEAVE_GROUP => {
                let asked = leave_group::start(head, decode(head, body)?);
                self.later(head, asked, |()| Call::LeaveGroup, turn);
            }
            // `parse` lets only keys of the table through, and all of them are above.
            key => return Err(close("unsupported_version", format!("key {key}"))),
        }
        Ok(())
    }
}

fn finish(calling: Calling, turn: &mut Turn<'_>) -> Result<(), Close> {
    let Calling { head, replies, call } = calling;
    let replies: Vec<Reply> = replies.into_iter().flatten().collect();
    match call {
        Call::CreateTopics(waiting) => create_topics::finish(head, waiting, replies, turn),
        Call::DeleteTopics(waiting) => delete_topics::finish(head, waiting, replies, turn),
        Call::Fetch(waiting) => {
            if let Some(reply) = replies.into_iter().next() {
                waiting.finish(head, reply, turn);
            }
            Ok(())
        }
        Call::FindCoordinator(request) => find_coordinator::finish(head, request, turn),
        Call::Heartbeat => heartbeat::finish(head, replies, turn),
        Call::InitProducerId => init_producer_id::finish(head, replies, turn),
        Call::JoinGroup(waiting) => join_group::finish(head, waiting, replies, turn),
        Call::LeaveGroup => leave_group::finish(head, replies, turn),
        Call::ListOffsets(waiting) => list_offsets::finish(head, waiting, replies, turn),
        Call::Metadata(waiting) => metadata::finish(head, waiting, replies, turn),
        Call::OffsetCommit(waiting) => offset_commit::finish(head, waiting, replies, turn),
        Call::OffsetFetch(waiting) => offset_fetch::finish(head, waiting, replies, turn),
        Call::SyncGroup => sync_group::finish(head, replies, turn),
    }
}

/// Reads the head of a whole frame.
///
/// # Errors
/// When key or version are not served, or the head is cut.
fn parse(frame: &[u8]) -> Result<Parsed, Close> {
    let request = frame.get(LENGTH_BYTES..).unwrap_or_default();
    let header = RequestHeader::parse(request)
        .map_err(|error| close("malformed_frame", error.to_string()))?;
    let RequestHeader { key, version, correlation, api, body_at, .. } = header;
    // An unknown version of this one is answered (V4).
    if api.is_none() && (!header.is_unknown_api_versions() || version < 0) {
        return Err(close("unsupported_version", format!("key {key} version {version}")));
    }
    let head = Head { key, version, correlation };
    Ok(Parsed { head, served: api.is_some(), body_at: LENGTH_BYTES + body_at })
}

/// The client's name for itself.
fn client_id(frame: &[u8]) -> &[u8] {
    let header = RequestHeader::parse(frame.get(LENGTH_BYTES..).unwrap_or_default()).ok();
    header.and_then(|header| header.client_id).unwrap_or_default()
}
