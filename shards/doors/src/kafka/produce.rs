//! Produce: one append per partition, answered in place.
//! Owner: one Kafka connection.
//! Invariant: the answer is written when the request is parsed, with places that replies fill: topics and
//! partitions keep the order of the request, and a small one needs no memory of its own.
//! Not here: checking batches (`partition/produce.rs`).

use super::call::{Head, log_key, malformed};
use crate::door::Close;
use crate::turn::{Turn, close, position, refusal};
use ringway_log::blocks::Slice;
use ringway_partition::catalog::{Catalog, Topic};
use ringway_partition::request::{Payload, Reply, Request, RequestId};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use ringway_wire::kafka::primitives::{put_count, put_no_tags, put_string};
use ringway_wire::kafka::produce::ProduceRequest;
use ringway_wire::kafka::response_frame::ResponseFrame;
use ringway_wire::kafka::topic_ref::TopicRef;
use std::ops::Range;

/// A produce waits for room so long at most, ns, whatever its client asks for: its frame takes memory meanwhile.
/// Clients ask for 30 s and send again.
const TIMEOUT_NS_MAX: u64 = 300_000_000_000;
/// Reply buffers kept for later, and how large a kept one may be.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 4096;
/// Longest message told about a refused partition.
const MESSAGE_BYTES_MAX: usize = 500;

/// What is looked at of a RecordBatch v2.
const BATCH_HEADER_BYTES: usize = 61;
const ATTRIBUTES_LOW_AT: usize = 22;
const RECORD_COUNT_AT: Range<usize> = 57..61;
const CODEC_BITS: u8 = 0b111;
const ZSTD: u8 = 4;
/// Encoding of the values is nobody's knowledge here.
const ENCODING_UNSPECIFIED: u8 = 3;

const LOG_START_FROM: i16 = 5;
/// From this version on the peer understands zstd (P5).
const ZSTD_FROM: i16 = 7;
const MESSAGES_FROM: i16 = 8;
const FLEXIBLE_FROM: i16 = 9;

/// A request whose batches are being appended.
pub(crate) struct Waiting {
    frame: ResponseFrame,
    version: i16,
    /// acks = 0: nobody waits, but an error closes the connection (W4).
    silent: bool,
    failed: Option<(ErrorCode, String)>,
    /// The whole answer.
    bytes: Vec<u8>,
    /// Partitions still to be written of the topic at hand.
    topic_left: u32,
    /// Where the first asked partition's code is in `bytes`, and the others'.
    first_at: Option<u32>,
    rest_at: Vec<u32>,
}

/// Asks for every batch to be appended, under the numbers from `first_id` on. Returns what waits, and how
/// many were asked.
///
/// # Errors
/// When the body is malformed; nothing was asked then.
pub(crate) fn start(
    head: Head,
    frame: Slice,
    body_at: usize,
    first_id: u32,
    turn: &mut Turn<'_>,
) -> Result<(Waiting, u32), Close> {
    let bytes = turn.blocks.bytes(frame);
    // The whole body is walked here, before anything is asked: half a request must not take effect.
    let request = ProduceRequest::parse(bytes, body_at, head.version)
        .map_err(|error| malformed(head, error))?;
    let deadline_ns = deadline(request.timeout_ms, turn);
    // Borrowed, not cloned: the count of an `Arc` that all shards share would bounce between cores.
    let catalog = &*turn.door.catalog;
    let mut waiting = Waiting::new(head, &request, turn.door.spare.pop().unwrap_or_default());
    let first_request = turn.out.requests.len();
    let mut asked = 0;
    let mut topic = Err(ErrorCode::UnknownTopicOrPartition);
    let mut place = None;
    for part in request.partitions() {
        if place != Some(part.topic_place) {
            place = Some(part.topic_place);
            waiting.topic(part.topic, part.topic_partitions);
            topic = find(part.topic, catalog);
        }
        let batch = frame.part(part.records.start, part.records.end);
        let records = bytes.get(part.records).unwrap_or_default();
        let verdict = topic.and_then(|topic| judge(head, &request, topic, part.partition, records));
        waiting.partition(part.partition, verdict.err());
        if let Ok(key) = verdict {
            let payload = Payload::Received(batch);
            let (acks, encoding) = (request.acks, ENCODING_UNSPECIFIED);
            let id =
                RequestId { connection: turn.connection, request: first_id.wrapping_add(asked) };
            let ask = Request::Produce { key, acks, deadline_ns, payload, encoding };
            turn.out.requests.push((id, ask));
            turn.door.counts.produce_records += record_count(records);
            asked += 1;
        }
    }
    waiting.end();
    // The frame is borrowed no longer: each batch gets its hold.
    for at in first_request..turn.out.requests.len() {
        let Some((_, Request::Produce { key, payload: Payload::Received(batch), .. })) =
            turn.out.requests.get(at)
        else {
            continue;
        };
        let (key, batch) = (*key, *batch);
        turn.blocks.hold(batch);
        turn.count_owner(key);
    }
    Ok((waiting, asked))
}

fn find<'a>(topic: TopicRef<'_>, catalog: &'a Catalog) -> Result<&'a Topic, ErrorCode> {
    match topic {
        TopicRef::Name(name) => {
            catalog.topics.get(name).map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicOrPartition)
        }
        TopicRef::Id(id) => {
            catalog.by_uuid.get(&id).map(|topic| &**topic).ok_or(ErrorCode::UnknownTopicId)
        }
    }
}

fn deadline(timeout_ms: i32, turn: &Turn<'_>) -> u64 {
    let timeout_ns = u64::try_from(timeout_ms).unwrap_or(0).saturating_mul(1_000_000);
    turn.now.mono_ns.saturating_add(timeout_ns.min(TIMEOUT_NS_MAX))
}

fn record_count(batch: &[u8]) -> u64 {
    let count = batch.get(RECORD_COUNT_AT).and_then(|count| count.first_chunk());
    u64::try_from(count.map_or(0, |count| i32::from_be_bytes(*count))).unwrap_or(0)
}

/// Whether a partition's batch goes to its log.
fn judge(
    head: Head,
    request: &ProduceRequest<'_>,
    topic: &Topic,
    index: i32,
    batch: &[u8],
) -> Result<LogKey, ErrorCode> {
    let key = log_key(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !(-1..=1).contains(&request.acks) {
        return Err(ErrorCode::InvalidRequiredAcks);
    }
    if request.transactional_id.is_some() {
        // No partition can have been added to a transaction: there are none (T6).
        return Err(ErrorCode::InvalidTxnState);
    }
    if batch.len() < BATCH_HEADER_BYTES {
        return Err(ErrorCode::InvalidRecord);
    }
    let codec = batch.get(ATTRIBUTES_LOW_AT).map_or(0, |low| low & CODEC_BITS);
    if codec == ZSTD && head.version < ZSTD_FROM {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    Ok(key)
}

impl Waiting {
    fn new(head: Head, request: &ProduceRequest<'_>, mut bytes: Vec<u8>) -> Waiting {
        bytes.clear();
        let Head { key, version, correlation } = head;
        let frame = ResponseFrame::begin(&mut bytes, key, version, correlation);
        // Topics without partitions are passed over in the answer, too.
        let mut topics = 0;
        let mut place = None;
        for part in request.partitions() {
            topics += usize::from(place != Some(part.topic_place));
            place = Some(part.topic_place);
        }
        put_count(&mut bytes, version >= FLEXIBLE_FROM, topics);
        Waiting {
            frame,
            version,
            silent: request.acks == 0,
            failed: None,
            bytes,
            topic_left: 0,
            first_at: None,
            rest_at: Vec::new(),
        }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    fn topic(&mut self, topic: TopicRef<'_>, partitions: u32) {
        let flexible = self.flexible();
        match topic {
            TopicRef::Name(name) => put_string(&mut self.bytes, flexible, name),
            TopicRef::Id(id) => self.bytes.extend_from_slice(&id.0),
        }
        put_count(&mut self.bytes, flexible, partitions as usize);
        self.topic_left = partitions;
    }

    /// Writes a partition as refused, or with places to be filled.
    fn partition(&mut self, index: i32, refused: Option<ErrorCode>) {
        self.bytes.extend_from_slice(&index.to_be_bytes());
        match refused {
            Some(code) => self.failed = Some((code, String::new())),
            None if self.first_at.is_none() => self.first_at = Some(position(self.bytes.len())),
            None => self.rest_at.push(position(self.bytes.len())),
        }
        let code = refused.unwrap_or(ErrorCode::None);
        self.bytes.extend_from_slice(&code.code().to_be_bytes());
        // Base offset and append time.
        self.bytes.extend_from_slice(&[0xFF; 16]);
        if self.version >= LOG_START_FROM {
            self.bytes.extend_from_slice(&[0xFF; 8]);
        }
        if self.flexible() {
            // No record errors, no message, no tags.
            self.bytes.extend_from_slice(&[1, 0, 0]);
        } else if self.version >= MESSAGES_FROM {
            self.bytes.extend_from_slice(&[0, 0, 0, 0, 0xFF, 0xFF]);
        }
        self.topic_left -= 1;
        if self.topic_left == 0 {
            put_no_tags(&mut self.bytes, self.version >= FLEXIBLE_FROM);
        }
    }

    fn end(&mut self) {
        // Throttle time.
        self.bytes.extend_from_slice(&[0; 4]);
        put_no_tags(&mut self.bytes, self.version >= FLEXIBLE_FROM);
    }

    /// The shard's answer for the `piece`-th partition asked.
    pub(crate) fn answer(&mut self, piece: u32, reply: Reply) {
        let at = match piece.checked_sub(1) {
            None => self.first_at,
            Some(rest) => self.rest_at.get(rest as usize).copied(),
        };
        let Some(at) = at.map(|at| at as usize) else { return };
        if let Reply::Produced { base_offset, append_time_ns, log_append_time, log_start } = reply {
            let time = if log_append_time { signed(append_time_ns / 1_000_000) } else { -1 };
            self.put(at + 2, &signed(base_offset).to_be_bytes());
            self.put(at + 10, &time.to_be_bytes());
            if self.version >= LOG_START_FROM {
                self.put(at + 18, &signed(log_start).to_be_bytes());
            }
            return;
        }
        let (code, message) = refusal(reply);
        self.put(at, &code.code().to_be_bytes());
        self.put_message(at, &message);
        self.failed = Some((code, message));
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    /// Replaces the null message of the partition whose code is at `at`; later places move.
    fn put_message(&mut self, at: usize, message: &str) {
        if self.version < MESSAGES_FROM || message.is_empty() {
            return;
        }
        let message = message.get(..message.floor_char_boundary(MESSAGE_BYTES_MAX));
        let message = message.unwrap_or_default();
        let flexible = self.flexible();
        let (null_at, null_len) = if flexible { (at + 27, 1) } else { (at + 30, 2) };
        let mut text = Vec::with_capacity(message.len() + 5);
        put_string(&mut text, flexible, message);
        let grown = position(text.len() - null_len);
        self.bytes.splice(null_at..null_at + null_len, text);
        for place in self.first_at.iter_mut().chain(&mut self.rest_at) {
            if *place as usize > at {
                *place += grown;
            }
        }
    }

    /// Sends the answer, all of whose places are filled.
    ///
    /// # Errors
    /// When a partition failed and nobody waits for an answer (W4).
    pub(crate) fn finish(mut self, turn: &mut Turn<'_>) -> Result<(), Close> {
        if self.silent {
            let failed = self.failed.take();
            self.give_back(&mut turn.door.spare);
            let Some((code, message)) = failed else { return Ok(()) };
            return Err(close("acks0_error", format!("{}: {message}", code.name())));
        }
        self.frame.end(&mut self.bytes, 0);
        let from = turn.out.bytes.len();
        turn.out.bytes.extend_from_slice(&self.bytes);
        turn.send_from(from);
        self.give_back(&mut turn.door.spare);
        Ok(())
    }

    fn give_back(self, spare: &mut Vec<Vec<u8>>) {
        if spare.len() < SPARE_MAX && self.bytes.capacity() <= SPARE_BYTES_MAX {
            spare.push(self.bytes);
        }
    }
}

/// An offset or time in Kafka's type.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
