//! Fetch: an envelope that counts, then as many deliver frames.
//! Owner: one native connection.
//! Invariant: nothing that tells about the disk leaves in a frame's native line (P5).
//! Not here: waiting and limits (`partition/fetch.rs`), reading (`log`).

use super::answer::Asker;
use crate::turn::{FETCH_WAIT_NS_MAX, Turn, refusal};
use ringway_log::blocks::Slice;
use ringway_log::read::FrameList;
use ringway_partition::request::{FetchPart, Fetched, FetchedPart, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, HEADER_LEN, KAFKA_AT, MessageType};
use ringway_wire::ids::LogKey;
use ringway_wire::native::control::{Fetch, FetchReply};
use ringway_wire::native::deliver_header;

/// The question to the shard; a partition we do not have is refused at once.
pub(crate) fn start(asker: &Asker, fetch: Fetch, turn: &mut Turn<'_>) -> Option<Request> {
    let key = LogKey { topic_id: fetch.topic_id, partition: fetch.partition };
    let topic = turn.door.catalog.by_id.get(&key.topic_id);
    if topic.is_none_or(|topic| key.partition >= topic.partitions) {
        asker.refuse(ErrorCode::UnknownTopicOrPartition, format!("no partition {key}"), turn);
        return None;
    }
    let bytes_max = fetch.bytes_max.min(turn.door.config.fetch_bytes_max);
    let wait_ns = (u64::from(fetch.wait_ms_max) * 1_000_000).min(FETCH_WAIT_NS_MAX);
    let part = FetchPart { key, offset: fetch.offset, bytes_max, leader_epoch: -1 };
    Some(Request::Fetch {
        parts: vec![part],
        bytes_min: fetch.bytes_min,
        bytes_max,
        deadline_ns: turn.now.mono_ns.saturating_add(wait_ns),
    })
}

/// Answers with what the shard has found.
pub(crate) fn finish(asker: &Asker, reply: Reply, turn: &mut Turn<'_>) {
    let Reply::Fetched(parts) = reply else {
        let (code, message) = refusal(reply);
        return asker.refuse(code, message, turn);
    };
    let mut parts = parts.into_iter();
    let Some(part) = parts.next() else {
        return asker.refuse(ErrorCode::UnknownServerError, "the shard found no partition", turn);
    };
    if part.code != ErrorCode::None {
        let FetchedPart { key, log_start, high_watermark, .. } = part;
        let message = format!(
            "{}: partition {key} has offsets {log_start} to {high_watermark}",
            part.code.name()
        );
        asker.refuse(part.code, message, turn);
        return turn.drop_reply(Reply::Fetched(vec![part]));
    }
    let mut counts = FetchReply {
        high_watermark: part.high_watermark,
        log_start_offset: part.log_start,
        ..FetchReply::default()
    };
    let lengths: Vec<u32> = match &part.fetched {
        Fetched::Frames(list) => list.frames.iter().map(|frame| frame.frame_len).collect(),
        Fetched::Owned(frames) => owned(frames).map(|(header, _)| header.frame_len()).collect(),
    };
    counts.batches = u32::try_from(lengths.len()).unwrap_or(u32::MAX);
    counts.bytes = lengths.iter().copied().map(u64::from).sum();
    let correlation = asker.correlation();
    let from = turn.out.bytes.len();
    asker.put(MessageType::Response, &counts, turn);
    let unsent = match part.fetched {
        Fetched::Frames(list) => deliver(list, correlation, from, turn),
        Fetched::Owned(frames) => {
            for (header, frame) in owned(&frames) {
                put_header(header, frame, correlation, turn);
                let records = frame.get(HEADER_LEN..).unwrap_or_default();
                turn.out.bytes.extend_from_slice(records);
            }
            from
        }
    };
    turn.send_from(unsent);
}

/// Writes every frame behind a line stamped anew; returns where the bytes not yet sent begin.
fn deliver(mut list: FrameList, correlation: u64, from: usize, turn: &mut Turn<'_>) -> usize {
    let mut unsent = from;
    for frame in &list.frames {
        let mut first = true;
        for at in frame.slices.clone() {
            let Some(&slice) = list.slices.get(at as usize) else { continue };
            let mut rest = slice;
            if std::mem::take(&mut first) {
                stamp(slice, correlation, turn);
                rest = slice.part(HEADER_LEN.min(slice.len()), slice.len());
            }
            unsent = turn.send_slice(unsent, rest);
        }
    }
    // Every hold went to a part or was given back by `send_slice`.
    list.slices.clear();
    unsent
}

fn stamp(slice: Slice, correlation: u64, turn: &mut Turn<'_>) {
    let bytes = turn.blocks.bytes(slice);
    let kafka = bytes.get(KAFKA_AT..).and_then(<[u8]>::first_chunk);
    if let (Ok(header), Some(kafka)) = (BatchHeader::access(bytes), kafka) {
        let delivered = deliver_header(header, kafka, correlation);
        turn.out.bytes.extend_from_slice(&delivered);
    }
}

fn put_header(header: &BatchHeader, frame: &[u8], correlation: u64, turn: &mut Turn<'_>) {
    if let Some(kafka) = frame.get(KAFKA_AT..).and_then(<[u8]>::first_chunk) {
        turn.out.bytes.extend_from_slice(&deliver_header(header, kafka, correlation));
    }
}

/// The whole frames that stand back to back in `frames`.
fn owned(mut frames: &[u8]) -> impl Iterator<Item = (&BatchHeader, &[u8])> {
    std::iter::from_fn(move || {
        let header = BatchHeader::access(frames).ok()?;
        let (frame, rest) = frames.split_at_checked(header.frame_len() as usize)?;
        frame.get(..HEADER_LEN)?;
        frames = rest;
        Some((header, frame))
    })
}
