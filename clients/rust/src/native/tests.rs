//! Requests are read, and answers made, with the broker's own codec.

use super::*;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, Kind, MessageType};
use ringway_wire::native::control::ErrorReply;
use ringway_wire::native::{
    Envelope, ProduceAck, correlation_number, deliver_header, put_error_frame, put_produce_ack,
};

fn batch(values: &[&str]) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchOptions::default());
    for value in values {
        writer.push(1000, None, Some(value.as_bytes()), &[]).unwrap();
    }
    writer.finish().unwrap();
    writer.batch().to_vec()
}

/// The answer a broker gives to a request envelope.
fn answer(request: &[u8], message_type: MessageType, body: &impl Serialize) -> Vec<u8> {
    let envelope = Envelope::parse(request).unwrap();
    let mut out = Vec::new();
    let content = serde_json::to_vec(body).unwrap();
    put_envelope(&mut out, &envelope.answer(message_type), &content).unwrap();
    out
}

fn deliver(produced: &[u8], correlation: u64) -> Vec<u8> {
    let stored = BatchHeader::access(produced).unwrap();
    let kafka = produced[KAFKA_AT..].first_chunk().unwrap();
    let mut frame = deliver_header(stored, kafka, correlation).to_vec();
    frame.extend_from_slice(&produced[HEADER_LEN..]);
    frame
}

/// Feeds byte by byte: nothing may come before the last one.
fn feed(session: &mut NativeSession, bytes: &[u8]) -> NativeReply {
    let (last, first) = bytes.split_last().unwrap();
    for byte in first {
        session.receive(&[*byte]);
        assert_eq!(session.next_reply(), Ok(None));
    }
    session.receive(&[*last]);
    session.next_reply().unwrap().unwrap()
}

#[test]
fn a_produced_batch_is_a_frame_the_broker_accepts() {
    let mut session = NativeSession::new().with_encoding(Encoding::Plain);
    let mut out = Vec::new();
    let batch = batch(&["a", "b"]);
    let correlation = session.produce(&mut out, 9, 2, &batch).unwrap();
    assert_eq!(frame_start(&out, 1000), Ok(FrameStart::Batch(out.len())));
    let header = BatchHeader::access(&out).unwrap();
    assert_eq!((header.kind(), header.encoding()), (Kind::Data, Encoding::Plain));
    assert_eq!((header.topic_id(), header.partition()), (9, 2));
    assert_eq!(header.correlation(), correlation);
    assert_eq!(&out[83..], &batch[16..], "everything from Kafka's magic on is the batch's");

    let ack =
        ProduceAck { correlation, topic_id: 9, partition: 2, base_offset: 912, append_time_ns: 77 };
    let mut reply = Vec::new();
    put_produce_ack(&mut reply, &ack);
    let wanted = NativeReply::Acked { correlation, base_offset: 912, append_time_ns: 77 };
    assert_eq!(feed(&mut session, &reply), wanted);
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn answers_may_come_in_any_order() {
    let mut session = NativeSession::new();
    let mut out = Vec::new();
    let batch = batch(&["a"]);
    let sent: Vec<u64> = (0..5).map(|p| session.produce(&mut out, 1, p, &batch).unwrap()).collect();
    for &correlation in [&sent[3], &sent[0], &sent[4], &sent[2], &sent[1]] {
        let mut reply = Vec::new();
        put_error_frame(&mut reply, 1, 0, correlation, ErrorCode::MessageTooLarge, "912 > 1");
        session.receive(&reply);
        let code = ErrorCode::MessageTooLarge;
        let wanted = NativeReply::Error { correlation, code, message: "912 > 1".into() };
        assert_eq!(session.next_reply(), Ok(Some(wanted)));
    }
    let mut twice = Vec::new();
    put_error_frame(&mut twice, 1, 0, sent[0], ErrorCode::MessageTooLarge, "");
    session.receive(&twice);
    assert!(matches!(session.next_reply(), Err(ClientError::Unexpected { .. })));
}

#[test]
fn control_answers_come_back_by_what_was_asked() {
    let mut session = NativeSession::new();
    let mut out = Vec::new();
    let correlation = session.hello(&mut out).unwrap();
    let envelope = Envelope::parse(&out).unwrap();
    assert_eq!(envelope.header.message_id(), b"Hello");
    assert_eq!(correlation_number(envelope.header.correlation_id()), Some(correlation));
    let reply = HelloReply { version: 1, shards: 2, ..HelloReply::default() };
    let bytes = answer(&out, MessageType::Response, &reply);
    assert_eq!(feed(&mut session, &bytes), NativeReply::HelloOk { correlation, reply });

    out.clear();
    let correlation = session.metadata(&mut out, Some(&["t"])).unwrap();
    let reply = MetadataReply { node_id: 3, ..MetadataReply::default() };
    let bytes = answer(&out, MessageType::Response, &reply);
    assert_eq!(feed(&mut session, &bytes), NativeReply::Metadata { correlation, reply });

    out.clear();
    let correlation = session.create_topic(&mut out, "t", 8, BTreeMap::new()).unwrap();
    let error = ErrorReply::new(ErrorCode::TopicAlreadyExists, "topic t exists");
    let bytes = answer(&out, MessageType::Error, &error);
    let code = ErrorCode::TopicAlreadyExists;
    let message = "topic t exists".to_owned();
    assert_eq!(feed(&mut session, &bytes), NativeReply::Error { correlation, code, message });

    out.clear();
    let at = At::Named(NamedOffset::Latest);
    let request = ListOffsets { topic_id: 1, partition: 0, at };
    let correlation = session.list_offsets(&mut out, &request).unwrap();
    let reply = ListOffsetsReply { offset: 5, timestamp_ms: -1, leader_epoch: 1 };
    let bytes = answer(&out, MessageType::Response, &reply);
    assert_eq!(feed(&mut session, &bytes), NativeReply::Offset { correlation, reply });
}

const FETCH: Fetch = Fetch {
    topic_id: 1,
    partition: 0,
    offset: 0,
    bytes_max: 1 << 20,
    bytes_min: 1,
    wait_ms_max: 100,
};

fn fetched(session: &mut NativeSession, frames: &[Vec<u8>]) -> (u64, Vec<u8>) {
    let mut out = Vec::new();
    let correlation = session.fetch(&mut out, &FETCH).unwrap();
    let reply = FetchReply {
        high_watermark: 3,
        log_start_offset: 0,
        batches: u32::try_from(frames.len()).unwrap(),
        bytes: frames.iter().map(|f| f.len() as u64).sum(),
    };
    let mut bytes = answer(&out, MessageType::Response, &reply);
    bytes.extend(frames.iter().flatten());
    (correlation, bytes)
}

#[test]
fn a_fetch_comes_once_all_its_frames_are_here() {
    let mut session = NativeSession::new();
    let mut produced = Vec::new();
    NativeSession::new().produce(&mut produced, 1, 0, &batch(&["a", "b"])).unwrap();
    let frames = [deliver(&produced, 1), deliver(&produced, 1)];
    let (correlation, bytes) = fetched(&mut session, &frames);
    assert_eq!(correlation, 1);
    let NativeReply::Fetched { high_watermark, frames, .. } = feed(&mut session, &bytes) else {
        panic!("not a fetch")
    };
    assert_eq!(high_watermark, 3);
    let counts: Vec<i32> = crate::records::frames(&frames)
        .map(|frame| frame.unwrap().1.header().record_count())
        .collect();
    assert_eq!(counts, [2, 2]);

    let (_, bytes) = fetched(&mut session, &[]);
    assert!(matches!(feed(&mut session, &bytes), NativeReply::Fetched { .. }));
}

#[test]
fn every_flipped_bit_of_a_delivery_is_seen() {
    let mut produced = Vec::new();
    NativeSession::new().produce(&mut produced, 1, 0, &batch(&["some value"])).unwrap();
    let frame = deliver(&produced, 1);
    for bit in 0..frame.len() * 8 {
        let mut session = NativeSession::new();
        let mut damaged = frame.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (_, bytes) = fetched(&mut session, &[damaged]);
        session.receive(&bytes);
        assert!(session.next_reply().is_err(), "bit {bit}");
    }
}

#[test]
fn heartbeats_and_other_events_are_passed_over() {
    let mut session = NativeSession::new();
    let mut event = Vec::new();
    session.heartbeat(&mut event).unwrap();
    session.receive(&event);
    assert_eq!(session.next_reply(), Ok(None));
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn announced_sizes_are_bounded() {
    let mut session = NativeSession::new().with_payload_bytes_max(1000);
    let mut out = Vec::new();
    session.fetch(&mut out, &FETCH).unwrap();
    let reply = FetchReply { bytes: 1001, batches: 1, ..FetchReply::default() };
    session.receive(&answer(&out, MessageType::Response, &reply));
    assert_eq!(session.next_reply(), Err(ClientError::TooLarge { bytes: 1001, limit: 1000 }));
}

#[test]
fn garbage_gives_an_error_or_nothing_but_no_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut produced = Vec::new();
    NativeSession::new().produce(&mut produced, 1, 0, &batch(&["some value"])).unwrap();
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut session = NativeSession::new();
        let (_, mut bytes) = fetched(&mut session, &[deliver(&produced, 1)]);
        for _ in 0..=random() % 3 {
            let at = usize::try_from(random() % bytes.len() as u64).unwrap();
            bytes[at] = random().to_le_bytes()[0];
        }
        bytes.truncate(bytes.len() - usize::try_from(random() % 4).unwrap());
        session.receive(&bytes);
        refused += u32::from(session.next_reply().is_err());
    }
    assert!(refused > 4_000, "{refused}");
}
