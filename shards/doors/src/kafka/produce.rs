//! Produce: one append per partition, answered in place.
//! Owner: one Kafka connection.
//! Invariant: the answer is written when the request is parsed, with places that replies fill: topics and
//! partitions keep the order of the request, and a small one needs no memory of its own.
//! Not here: checking batches (`partition/produce.rs`).

use super::call::{Head, begin, log_key, malformed, set_length};
use super::produce_request::{ProduceHead, ProduceStep, ProduceWalk};
use super::reader::put_length;
use crate::door::Close;
use crate::turn::{Turn, close, position, refusal};
use ringway_log::blocks::Slice;
use ringway_partition::catalog::Topic;
use ringway_partition::request::{Payload, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, TopicUuid};
use std::ops::Range;
use std::sync::Arc;

/// Reply buffers kept for later, and how large a kept one may be.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 4096;
/// Longest message told about a refused partition.
const MESSAGE_CHARS_MAX: usize = 500;

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
    let cut = |_| malformed(head, "the body is cut or too long");
    let bytes = turn.blocks.bytes(frame);
    // The whole body is walked before anything is asked: half a request must not take effect.
    let (request, mut walk) = ProduceWalk::begin(head.version, body_at, bytes).map_err(cut)?;
    while walk.step(bytes).map_err(cut)? != ProduceStep::End {}
    let (_, mut walk) = ProduceWalk::begin(head.version, body_at, bytes).map_err(cut)?;

    let mut waiting = Waiting::new(head, &request, turn.door.spare.pop().unwrap_or_default());
    let mut asked = 0;
    let mut topic: Option<Arc<Topic>> = None;
    let mut missing = ErrorCode::UnknownTopicOrPartition;
    loop {
        match walk.step(turn.blocks.bytes(frame)).map_err(cut)? {
            ProduceStep::Name(name, partitions) => {
                let name = turn.blocks.bytes(frame).get(name).unwrap_or_default();
                put_length(name.len(), waiting.flexible(), false, &mut waiting.bytes);
                waiting.topic(name, partitions);
                let topics = &turn.door.catalog.topics;
                topic = std::str::from_utf8(name).ok().and_then(|name| topics.get(name)).cloned();
            }
            ProduceStep::Id(id, partitions) => {
                waiting.topic(&id, partitions);
                topic = turn.door.catalog.by_uuid.get(&TopicUuid(id)).cloned();
                missing = ErrorCode::UnknownTopicId;
            }
            ProduceStep::Partition(index, records) => {
                let batch = records.map(|records| frame.part(records.start, records.end));
                let verdict = match &topic {
                    None => Err(missing),
                    Some(topic) => judge(head, &request, topic, index, batch, turn),
                };
                waiting.partition(index, verdict.err());
                if let Ok((key, batch)) = verdict {
                    let ask = produce(key, &request, batch, turn);
                    turn.ask(first_id.wrapping_add(asked), ask);
                    asked += 1;
                }
            }
            ProduceStep::End => break,
        }
    }
    waiting.end();
    Ok((waiting, asked))
}

/// Whether a partition's batch goes to its log.
fn judge(
    head: Head,
    request: &ProduceHead,
    topic: &Topic,
    index: i32,
    batch: Option<Slice>,
    turn: &mut Turn<'_>,
) -> Result<(LogKey, Slice), ErrorCode> {
    let key = log_key(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if !(-1..=1).contains(&request.acks) {
        return Err(ErrorCode::InvalidRequiredAcks);
    }
    if request.transactional {
        // No partition can have been added to a transaction: there are none (T6).
        return Err(ErrorCode::InvalidTxnState);
    }
    let batch = batch.ok_or(ErrorCode::InvalidRecord)?;
    let bytes = turn.blocks.bytes(batch);
    if bytes.len() < BATCH_HEADER_BYTES {
        return Err(ErrorCode::InvalidRecord);
    }
    let codec = bytes.get(ATTRIBUTES_LOW_AT).map_or(0, |low| low & CODEC_BITS);
    if codec == ZSTD && head.version < ZSTD_FROM {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    let count = bytes.get(RECORD_COUNT_AT).and_then(|count| count.first_chunk());
    let count = u64::try_from(count.map_or(0, |count| i32::from_be_bytes(*count)));
    turn.door.counts.produce_records += count.unwrap_or(0);
    turn.count_owner(key);
    Ok((key, batch))
}

fn produce(key: LogKey, request: &ProduceHead, batch: Slice, turn: &mut Turn<'_>) -> Request {
    let timeout_ns = u64::try_from(request.timeout_ms).unwrap_or(0).saturating_mul(1_000_000);
    Request::Produce {
        key,
        acks: request.acks,
        deadline_ns: turn.now.mono_ns.saturating_add(timeout_ns),
        payload: Payload::Received(turn.blocks.hold(batch)),
        encoding: ENCODING_UNSPECIFIED,
    }
}

impl Waiting {
    fn new(head: Head, request: &ProduceHead, mut bytes: Vec<u8>) -> Waiting {
        bytes.clear();
        begin(head, &mut bytes);
        let flexible = head.version >= FLEXIBLE_FROM;
        put_length(request.topics as usize, flexible, true, &mut bytes);
        Waiting {
            version: head.version,
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

    fn topic(&mut self, name: &[u8], partitions: u32) {
        self.bytes.extend_from_slice(name);
        put_length(partitions as usize, self.flexible(), true, &mut self.bytes);
        self.topic_left = partitions;
        self.close_topic();
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
        self.close_topic();
    }

    fn close_topic(&mut self) {
        if self.topic_left == 0 && self.flexible() {
            self.bytes.push(0);
        }
    }

    fn end(&mut self) {
        // Throttle time.
        self.bytes.extend_from_slice(&[0; 4]);
        if self.flexible() {
            self.bytes.push(0);
        }
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
        let cut = message.char_indices().nth(MESSAGE_CHARS_MAX).map_or(message.len(), |(at, _)| at);
        let message = message.as_bytes().get(..cut).unwrap_or_default();
        let flexible = self.flexible();
        let (null_at, null_len) = if flexible { (at + 27, 1) } else { (at + 30, 2) };
        let mut text = Vec::with_capacity(message.len() + 5);
        put_length(message.len(), flexible, false, &mut text);
        text.extend_from_slice(message);
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
        set_length(&mut self.bytes, 0, 0);
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
