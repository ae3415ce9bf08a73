//! Fetch: one question for all partitions, answered with frames by reference.
//! Owner: one Kafka connection.
//! Invariant: of a frame only Kafka's bytes (67 and on) leave, frame after frame; no session is ever opened.
//! Not here: waiting and limits (`partition/fetch.rs`), reading (`log`).

use super::call::{Head, known_epoch, log_key, malformed, respond};
use crate::door::Close;
use crate::turn::{BATCH_AT, FETCH_WAIT_NS_MAX, Turn, refusal};
use kafka_protocol::messages::FetchResponse;
use ringway_log::blocks::Slice;
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{FetchPart, Fetched, FetchedPart, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::kafka::fetch::FetchRequest;
use ringway_wire::kafka::primitives::{put_count, put_no_tags, put_string};
use ringway_wire::kafka::response_frame::ResponseFrame;
use ringway_wire::kafka::topic_ref::TopicRef;
use std::ops::Range;

const LOG_START_FROM: i16 = 5;
const SESSIONS_FROM: i16 = 7;
const REPLICA_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;

/// Where a frame says how long it is.
const FRAME_LEN_AT: Range<usize> = 8..12;

struct TopicRow {
    /// Into `Waiting::names`: the name, or the id's 16 bytes.
    name: Range<usize>,
    by_id: bool,
    partitions: u32,
}

struct PartRow {
    index: i32,
    /// Why it was not asked; `None` = the next part of the shard's answer.
    refused: Option<ErrorCode>,
}

/// A request that waits for data.
pub(crate) struct Waiting {
    read_committed: bool,
    names: Vec<u8>,
    topics: Vec<TopicRow>,
    parts: Vec<PartRow>,
}

/// Asks for all partitions that exist, or answers at once when there is none.
///
/// # Errors
/// When the body is malformed.
pub(crate) fn start(
    head: Head,
    frame: Slice,
    body_at: usize,
    turn: &mut Turn<'_>,
) -> Result<Option<(Request, Waiting)>, Close> {
    let bytes = turn.blocks.bytes(frame);
    let request = FetchRequest::parse(bytes, body_at, head.version)
        .map_err(|error| malformed(head, error))?;
    if request.session_id != 0 && request.session_epoch > 0 {
        // None was ever opened: the client starts over without one.
        let code = ErrorCode::FetchSessionIdNotFound.code();
        respond(head, &FetchResponse::default().with_error_code(code), turn)?;
        return Ok(None);
    }
    let (waiting, parts) = collect(&request, &turn.door.catalog);
    if parts.is_empty() {
        waiting.answer(head, Vec::new(), turn);
        return Ok(None);
    }
    // An error of one partition ends the waiting of all (F4).
    let refused = waiting.parts.iter().any(|part| part.refused.is_some());
    let wait_ms = if refused { 0 } else { u64::try_from(request.max_wait_ms).unwrap_or(0) };
    let wait_ns = wait_ms.saturating_mul(1_000_000).min(FETCH_WAIT_NS_MAX);
    let limit = turn.door.config.fetch_bytes_max;
    let ask = Request::Fetch {
        bytes_min: u32::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: u32::try_from(request.max_bytes).unwrap_or(0).min(limit),
        deadline_ns: turn.now.mono_ns.saturating_add(wait_ns),
        parts: parts.clone(),
    };
    for part in &parts {
        turn.count_owner(part.key);
    }
    Ok(Some((ask, waiting)))
}

/// What to ask, and what to remember for the answer.
fn collect(request: &FetchRequest<'_>, catalog: &Catalog) -> (Waiting, Vec<FetchPart>) {
    let mut waiting = Waiting {
        read_committed: request.isolation_level == 1,
        names: Vec::new(),
        topics: Vec::new(),
        parts: Vec::new(),
    };
    let mut asks = Vec::new();
    let mut topic = Err(ErrorCode::UnknownTopicOrPartition);
    let mut place = None;
    for part in request.partitions() {
        if place != Some(part.topic_place) {
            place = Some(part.topic_place);
            waiting.topic(part.topic, part.topic_partitions);
            topic = match part.topic {
                TopicRef::Name(name) => {
                    catalog.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition)
                }
                TopicRef::Id(id) => catalog.by_uuid.get(&id).ok_or(ErrorCode::UnknownTopicId),
            };
        }
        let ask = topic.and_then(|topic| {
            let key = log_key(topic, part.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let offset =
                u64::try_from(part.fetch_offset).map_err(|_| ErrorCode::OffsetOutOfRange)?;
            Ok(FetchPart {
                key,
                offset,
                bytes_max: u32::try_from(part.partition_max_bytes).unwrap_or(0),
                leader_epoch: known_epoch(part.current_leader_epoch),
            })
        });
        waiting.parts.push(PartRow { index: part.partition, refused: ask.err() });
        asks.extend(ask);
    }
    (waiting, asks)
}

impl Waiting {
    fn topic(&mut self, topic: TopicRef<'_>, partitions: u32) {
        let from = self.names.len();
        let by_id = match topic {
            TopicRef::Name(name) => {
                self.names.extend_from_slice(name.as_bytes());
                false
            }
            TopicRef::Id(id) => {
                self.names.extend_from_slice(&id.0);
                true
            }
        };
        self.topics.push(TopicRow { name: from..self.names.len(), by_id, partitions });
    }

    /// Answers with what the shard has found.
    pub(crate) fn finish(self, head: Head, reply: Reply, turn: &mut Turn<'_>) {
        if let Reply::Fetched(parts) = reply {
            return self.answer(head, parts, turn);
        }
        let (code, _) = refusal(reply);
        let refused = self
            .parts
            .into_iter()
            .map(|part| PartRow { refused: part.refused.or(Some(code)), ..part });
        let parts = refused.collect();
        Waiting { parts, ..self }.answer(head, Vec::new(), turn);
    }

    fn answer(self, head: Head, fetched: Vec<FetchedPart>, turn: &mut Turn<'_>) {
        let flexible = head.version >= FLEXIBLE_FROM;
        let from = turn.out.bytes.len();
        let Head { key, version, correlation } = head;
        let frame = ResponseFrame::begin(&mut turn.out.bytes, key, version, correlation);
        let parts_before = turn.out.parts.len();
        let mut unsent = from;
        let bytes = &mut turn.out.bytes;
        // Throttle time; then no error and session 0.
        bytes.extend_from_slice(&[0; 4]);
        if head.version >= SESSIONS_FROM {
            bytes.extend_from_slice(&[0; 6]);
        }
        put_count(bytes, flexible, self.topics.len());
        let mut parts = self.parts.iter();
        let mut fetched = fetched.into_iter();
        for topic in &self.topics {
            let bytes = &mut turn.out.bytes;
            let name = self.names.get(topic.name.clone()).unwrap_or_default();
            match std::str::from_utf8(name) {
                Ok(name) if !topic.by_id => put_string(bytes, flexible, name),
                Ok(_) | Err(_) => bytes.extend_from_slice(name),
            }
            put_count(bytes, flexible, topic.partitions as usize);
            for part in parts.by_ref().take(topic.partitions as usize) {
                let found = if part.refused.is_none() { fetched.next() } else { None };
                unsent = self.partition(head, part, found, unsent, turn);
            }
            put_no_tags(&mut turn.out.bytes, flexible);
        }
        put_no_tags(&mut turn.out.bytes, flexible);
        let referred = turn.out.parts.iter().skip(parts_before).map(|part| match part {
            crate::door::Part::Slice(slice) => slice.len(),
            crate::door::Part::Bytes(_) => 0,
        });
        let referred = referred.sum();
        frame.end(&mut turn.out.bytes, referred);
        turn.send_from(unsent);
        for part in fetched {
            turn.drop_reply(Reply::Fetched(vec![part]));
        }
    }

    /// Writes one partition; returns where the bytes not yet sent begin.
    fn partition(
        &self,
        head: Head,
        part: &PartRow,
        found: Option<FetchedPart>,
        unsent: usize,
        turn: &mut Turn<'_>,
    ) -> usize {
        let flexible = head.version >= FLEXIBLE_FROM;
        let code = match (&found, part.refused) {
            (_, Some(code)) => code,
            (Some(found), None) => found.code,
            (None, None) => ErrorCode::UnknownServerError,
        };
        let offset =
            |value: Option<u64>| value.map_or(-1, |value| i64::try_from(value).unwrap_or(-1));
        let high_watermark = offset(found.as_ref().map(|found| found.high_watermark));
        let log_start = offset(found.as_ref().map(|found| found.log_start));
        let bytes = &mut turn.out.bytes;
        bytes.extend_from_slice(&part.index.to_be_bytes());
        bytes.extend_from_slice(&code.code().to_be_bytes());
        bytes.extend_from_slice(&high_watermark.to_be_bytes());
        // Last stable offset: without transactions everything below the high watermark is.
        bytes.extend_from_slice(&high_watermark.to_be_bytes());
        if head.version >= LOG_START_FROM {
            bytes.extend_from_slice(&log_start.to_be_bytes());
        }
        // Aborted transactions: none for those who ask, no list for the others.
        match (self.read_committed, flexible) {
            (true, _) => put_count(bytes, flexible, 0),
            (false, true) => bytes.push(0),
            (false, false) => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
        }
        if head.version >= REPLICA_FROM {
            bytes.extend_from_slice(&(-1i32).to_be_bytes());
        }
        let unsent = match found.map(|found| found.fetched) {
            None => {
                // Length 0, not null: librdkafka (F3).
                put_count(bytes, flexible, 0);
                unsent
            }
            Some(Fetched::Owned(frames)) => {
                let total = batches(&frames).map(<[u8]>::len).sum();
                put_count(bytes, flexible, total);
                batches(&frames).for_each(|batch| bytes.extend_from_slice(batch));
                unsent
            }
            Some(Fetched::Frames(mut list)) => {
                put_count(bytes, flexible, list.kafka_bytes());
                let mut unsent = unsent;
                for frame in &list.frames {
                    let mut skip = BATCH_AT;
                    for at in frame.slices.clone() {
                        let Some(&slice) = list.slices.get(at as usize) else { continue };
                        let cut = skip.min(slice.len());
                        skip -= cut;
                        unsent = turn.send_slice(unsent, slice.part(cut, slice.len()));
                    }
                }
                // Every hold went to a part or was given back by `send_slice`.
                list.slices.clear();
                unsent
            }
        };
        put_no_tags(&mut turn.out.bytes, flexible);
        unsent
    }
}

/// Kafka's bytes of each of the whole frames that stand back to back in `frames`.
fn batches(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = frames.get(FRAME_LEN_AT)?.first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let batch = frames.get(BATCH_AT..length)?;
        frames = frames.get(length..)?;
        Some(batch)
    })
}
