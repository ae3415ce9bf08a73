//! A native connection: control messages in envelopes and batches, sound and damaged, through door, shard and log.
//! Input: one byte that says how to cut, then the stream.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use ringway_fuzz::memory::measured;
use ringway_fuzz::node::{Node, WALL_MS, topic_id};
use ringway_fuzz::{Dice, canary, give_back, libfuzzer_mutate};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::header::{
    BATCH_VERSION, BatchHeader, Encoding, EnvelopeHeader, EnvelopeLine, HEADER_LEN, Kind,
    MessageType, header_crc,
};
use ringway_wire::native::control::{self, CreateTopic};
use ringway_wire::native::{BROKER, Envelope, FrameStart, frame_start, produce_line, put_envelope};

const PAYLOAD_MAX: u32 = 50 << 20;
/// What a control message may hold.
const CONTROL_BYTES_MAX: usize = 256 << 10;
/// More messages make runs slow and find nothing that fewer do not.
const FRAMES_MAX: usize = 6;
/// All reasons for which a stream that makes no sense may lose its connection.
const REASONS: [&str; 4] = ["malformed_frame", "oversized_frame", "bad_magic", "bad_version"];

/// What the stream holds behind its last whole frame.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rest {
    Nothing,
    /// The begin of a frame.
    Part,
    /// No frame.
    Damage,
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&cut, stream)) = input.split_first() else { return Corpus::Reject };
    if stream.first() != Some(&b'V') {
        return Corpus::Reject;
    }
    let room = 4 * input.len() + (64 << 10);
    let (frames, rest) = measured(room, || frames(stream));
    if frames.len() > FRAMES_MAX {
        return Corpus::Reject;
    }
    let mut asked = Asked::default();
    for (place, frame) in frames.iter().enumerate() {
        if from_broker(frame) {
            // Nothing a client may send: what follows is not looked at.
            break;
        }
        if is_batch(frame) {
            let header = BatchHeader::access(frame).expect("frame_start accepted it");
            asked.batches.push(header.correlation());
            continue;
        }
        let envelope = measured(room, || Envelope::parse(frame)).expect("frame_start accepted it");
        round_trip(&envelope);
        measured(room, || decode(&envelope));
        if envelope.header.message_type() == MessageType::Request {
            asked.messages.push(envelope.header.correlation_id().to_vec());
        }
        if place > 0 {
            look_for_canary(&envelope);
        }
    }
    let whole = talk(stream, usize::MAX);
    let pieces = talk(stream, 1 + usize::from(cut) * 3);
    // Both times the same answers; their order, and what they know of each other, may differ.
    let reason = whole.close.as_ref().map(|close| close.reason);
    assert_eq!(reason, pieces.close.as_ref().map(|close| close.reason));
    judge(&whole, asked.clone(), rest, &frames);
    judge(&pieces, asked, rest, &frames);
    Corpus::Keep
});

/// What waits for an answer: requests by their correlation, batches by theirs.
#[derive(Clone, Debug, Default)]
struct Asked {
    messages: Vec<Vec<u8>>,
    batches: Vec<u64>,
}

fn is_batch(frame: &[u8]) -> bool {
    frame[2] == BATCH_VERSION
}

/// An answer, or a batch that is none to store: no client may send it.
fn from_broker(frame: &[u8]) -> bool {
    if is_batch(frame) {
        return BatchHeader::access(frame).expect("frame_start accepted it").kind() != Kind::Data;
    }
    let header = EnvelopeHeader::access(frame).expect("frame_start accepted it");
    matches!(header.message_type(), MessageType::Response | MessageType::Error)
}

/// What a message holds must not take much more than its text.
fn decode(envelope: &Envelope<'_>) {
    let Ok(content) = envelope.content() else { return };
    let _ = serde_json::from_slice::<control::Hello>(content);
    let _ = serde_json::from_slice::<control::MetadataRequest>(content);
    let _ = serde_json::from_slice::<control::CreateTopic>(content);
    let _ = serde_json::from_slice::<control::Fetch>(content);
    let _ = serde_json::from_slice::<control::ListOffsets>(content);
}

fn talk(stream: &[u8], piece: usize) -> Node {
    let mut node = Node::start();
    node.send(stream, piece);
    node
}

/// Whole frames, and what comes behind them.
fn frames(stream: &[u8]) -> (Vec<&[u8]>, Rest) {
    let (mut rest, mut frames) = (stream, Vec::new());
    while !rest.is_empty() {
        let end = match frame_start(rest, PAYLOAD_MAX) {
            Ok(FrameStart::Envelope(end)) if end > HEADER_LEN + CONTROL_BYTES_MAX => {
                return (frames, Rest::Damage);
            }
            Ok(FrameStart::Envelope(end) | FrameStart::Batch(end)) if end <= rest.len() => end,
            Ok(_) => return (frames, Rest::Part),
            Err(_) => return (frames, Rest::Damage),
        };
        let (frame, behind) = rest.split_at(end);
        frames.push(frame);
        rest = behind;
    }
    (frames, Rest::Nothing)
}

/// What is written from the fields of an envelope reads as the same fields.
fn round_trip(envelope: &Envelope<'_>) {
    let header = envelope.header;
    let line = EnvelopeLine {
        encoding: header.encoding(),
        message_type: header.message_type(),
        flags: header.flags(),
        reserved: [0; 2],
        payload_len: header.payload_len(),
        message_id: header.message_id(),
        source_id: header.source_id(),
        target_id: header.target_id(),
        correlation_id: header.correlation_id(),
    };
    let again = line.to_bytes().expect("ids that were read fit");
    let again = EnvelopeHeader::access(&again).expect("it was just written");
    assert_eq!(
        (again.message_id(), again.source_id(), again.target_id(), again.correlation_id()),
        (header.message_id(), header.source_id(), header.target_id(), header.correlation_id()),
    );
    assert_eq!(again.payload_len() as usize, envelope.payload.len());
    if let Ok(content) = envelope.content() {
        assert!(content.len() <= envelope.payload.len());
        if header.encoding() != Encoding::Gob {
            return;
        }
        let mut written = Vec::new();
        put_envelope(&mut written, &line, content).expect("ids fit");
        let read = Envelope::parse(&written).expect("it was just written");
        assert_eq!(read.content(), Ok(content), "gob does not come back");
    }
}

/// Every request and batch has one answer under its own correlation; nothing else is said but data.
fn judge(node: &Node, mut asked: Asked, rest: Rest, frames: &[&[u8]]) {
    let mut sent = &node.sent[..];
    while !sent.is_empty() {
        let (end, batch) = match frame_start(sent, PAYLOAD_MAX) {
            Ok(FrameStart::Envelope(end)) => (end, false),
            Ok(FrameStart::Batch(end)) => (end, true),
            other => panic!("an answer that is no frame: {other:?}"),
        };
        assert!(end <= sent.len(), "half an answer was sent");
        if batch {
            let header = BatchHeader::access(sent).expect("frame_start accepted it");
            if header.kind() != Kind::Deliver {
                assert!(matches!(header.kind(), Kind::ProduceAck | Kind::Error));
                let id = header.correlation();
                let place = asked.batches.iter().position(|asked| *asked == id);
                asked
                    .batches
                    .swap_remove(place.unwrap_or_else(|| panic!("nobody sent batch {id}")));
            }
        } else {
            let answer = Envelope::parse(&sent[..end]).expect("frame_start accepted it");
            let kind = answer.header.message_type();
            assert!(matches!(kind, MessageType::Response | MessageType::Error), "{kind:?}");
            let id = answer.header.correlation_id();
            let place = asked.messages.iter().position(|asked| asked == id);
            asked
                .messages
                .swap_remove(place.unwrap_or_else(|| panic!("an answer to nothing: {id:?}")));
        }
        sent = &sent[end..];
    }
    // What makes no sense ends the connection at once, whatever is being answered.
    let answered = asked.messages.is_empty() && asked.batches.is_empty();
    assert!(answered || node.close.is_some(), "requests without an answer: {asked:?}");
    let damaged = rest == Rest::Damage || frames.iter().any(|frame| from_broker(frame));
    match &node.close {
        None => assert!(!damaged, "damage goes unseen"),
        // Time passed while a fetch waited, and the rest of a frame never came.
        Some(close) if close.reason == "slow_frame" => assert_eq!(rest, Rest::Part),
        Some(close) => assert!(damaged && REASONS.contains(&close.reason), "{close:?}"),
    }
}

fn look_for_canary(envelope: &Envelope<'_>) {
    if envelope.header.message_id() != control::CREATE_TOPIC.as_bytes() {
        return;
    }
    if envelope.header.encoding() == Encoding::Gob {
        if let Ok(body) =
            serde_json::from_slice::<CreateTopic>(envelope.content().unwrap_or_default())
        {
            if body.partitions == 2 && body.configs.len() == 2 {
                canary(
                    "envelope: a topic of two partitions and two settings, in gob, behind another message",
                );
            }
        }
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    let input = &data[..size];
    let cut = input.first().copied().unwrap_or(0);
    let stream = input.get(1..).unwrap_or_default();
    let (kept, _) = frames(stream);
    let mut frames: Vec<Vec<u8>> = kept.iter().map(|frame| frame.to_vec()).collect();
    let at = dice.below(frames.len());
    match dice.below(6) {
        0 => frames = vec![message(&mut dice)],
        1 | 2 if frames.len() < FRAMES_MAX => frames.insert(at, message(&mut dice)),
        3 if frames.len() > 1 => drop(frames.remove(at)),
        4 if !frames.is_empty() => damage(&mut frames[at], &mut dice),
        _ if !frames.is_empty() => {
            let mut payload = frames[at].split_off(HEADER_LEN);
            let len = payload.len();
            libfuzzer_mutate(&mut payload, max_size);
            if is_batch(&frames[at]) {
                payload.resize(len, 0);
                frames[at].extend(payload);
            } else {
                frames[at].extend(payload);
                fix_length(&mut frames[at]);
            }
        }
        _ => frames = vec![message(&mut dice)],
    }
    let mut changed = vec![if dice.one_in(8) { dice.pick(&[0, 1, 42, 43, 255]) } else { cut }];
    changed.extend(frames.concat());
    if changed.len() > max_size {
        changed = [vec![cut], message(&mut dice)].concat();
    }
    give_back(&changed, data, max_size)
});

fn fix_length(frame: &mut [u8]) {
    let payload = (frame.len() - HEADER_LEN) as u32;
    frame[8..12].copy_from_slice(&payload.to_be_bytes());
}

/// A batch to store.
fn batch(dice: &mut Dice) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchOptions::default());
    let key = (!dice.one_in(4)).then_some(b"key".as_slice());
    writer.push(WALL_MS, key, Some(b"value"), &[]).expect("a small record");
    writer.finish().expect("one record");
    let (topic, correlation) = (topic_id(dice.below(5)), dice.below(100) as u64);
    let line = produce_line(topic, dice.below(3) as u32, correlation, Encoding::Plain, 0, 0);
    writer.frame(&line).to_vec()
}

/// A sound message of any kind, one with a body of another, or a batch.
fn message(dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(10) {
        return batch(dice);
    }
    let topic = dice.pick(&["events", "small", "compacted", "new", "", ".."]);
    let number = topic_id(dice.below(5));
    let offset = dice.pick(&["0", "1", "18446744073709551615", "-1"]);
    let settings = [
        "",
        "\"retention.ms\":\"1\"",
        "\"retention.ms\":\"1\",\"segment.bytes\":\"0\"",
        "\"x\":\"y\"",
    ];
    let messages = [
        (
            control::HELLO,
            "{\"version\":1,\"client\":\"fuzz\",\"compression\":[\"zstd\"]}".to_owned(),
        ),
        (control::METADATA, format!("{{\"topics\":[\"{topic}\",\"events\"]}}")),
        (control::METADATA, "{\"topics\":null}".to_owned()),
        (
            control::CREATE_TOPIC,
            format!(
                "{{\"name\":\"{topic}\",\"partitions\":{},\"configs\":{{{}}}}}",
                dice.pick(&[-1, 1, 2, 2, 0, i32::MAX]),
                dice.pick(&settings),
            ),
        ),
        (control::DELETE_TOPIC, format!("{{\"name\":\"{topic}\"}}")),
        (control::DESCRIBE_TOPIC, format!("{{\"name\":\"{topic}\"}}")),
        (
            control::LIST_OFFSETS,
            format!(
                "{{\"topic_id\":{number},\"partition\":0,\"at\":{}}}",
                dice.pick(&[
                    "\"latest\"",
                    "\"earliest\"",
                    "\"max_timestamp\"",
                    "5",
                    "{\"timestamp\":5}"
                ])
            ),
        ),
        (
            control::FETCH,
            format!(
                "{{\"topic_id\":{number},\"partition\":{},\"offset\":{offset},\"wait_ms_max\":{},\
                 \"bytes_min\":{}}}",
                dice.below(3),
                dice.pick(&[0, 0, 5, 60_000, u32::MAX]),
                // Waits for what is still on its way to the disk.
                dice.below(2),
            ),
        ),
        (control::HEARTBEAT, String::new()),
        ("Nonsense", "{}".to_owned()),
    ];
    let (id, _) = &messages[dice.below(messages.len())];
    let bodies: Vec<_> = messages.iter().filter(|(of, _)| of == id || dice.one_in(30)).collect();
    let body = &bodies[dice.below(bodies.len())].1;
    let correlation = [b'a' + dice.below(26) as u8, b'0' + dice.below(10) as u8];
    let line = EnvelopeLine {
        encoding: dice.pick(&[Encoding::Json, Encoding::Json, Encoding::Gob, Encoding::Plain]),
        message_type: if dice.one_in(10) { MessageType::Event } else { MessageType::Request },
        flags: 0,
        reserved: [0; 2],
        payload_len: 0,
        message_id: id.as_bytes(),
        source_id: b"",
        target_id: dice.pick(&[BROKER, BROKER, b"", b"nobody"]),
        correlation_id: &correlation,
    };
    let mut frame = Vec::new();
    put_envelope(&mut frame, &line, body.as_bytes()).expect("ids fit");
    frame
}

/// Changes one field of the header to a value that means something.
fn damage(frame: &mut [u8], dice: &mut Dice) {
    match dice.below(6) {
        0 => frame[3] = dice.pick(&[0, 1, 2, 3, 9]),
        1 => frame[4] = dice.pick(&[0, 1, 2, 3, 7]),
        2 => frame[5] = dice.pick(&[0, 1, 2, 4, 0xFF]),
        3 => {
            let said = dice.pick(&[0, 1, 127, 256 << 10, (256 << 10) + 1, u32::MAX]);
            frame[8..12].copy_from_slice(&said.to_be_bytes());
        }
        4 => frame[dice.pick(&[0, 1, 2])] = dice.pick(&[b'V', b'2', 1, 2, 3]),
        _ => {
            let at = 12 + dice.below(HEADER_LEN - 12);
            frame[at] = dice.pick(&[0, 0xFF, b'A']);
        }
    }
    // What a wrong checksum hides is never reached.
    if is_batch(frame) && !dice.one_in(10) {
        let header = frame.first_chunk().expect("a whole header");
        let crc = header_crc(header);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}
