//! The native dialect as its clients send and read it.

use super::peer::*;
use crate::session::ReceiveInto;
use ringway_log::blocks::BLOCK_BYTES;
use ringway_log::read::{Frame, FrameList};
use ringway_partition::request::{
    Fetched, FetchedPart, LogFacts, MetaAnswer, MetaOp, OffsetAt, Payload, Reply, Request,
};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, Encoding, HEADER_LEN, Kind, Line, MessageType};
use ringway_wire::ids::LogKey;
use ringway_wire::native::control::*;
use ringway_wire::native::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn envelope(id: &str, correlation: u64, body: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let correlation = CorrelationText::new(correlation);
    let json = serde_json::to_vec(body).expect("json");
    put_envelope(&mut out, &request_line(id, &correlation), &json).expect("fits");
    out
}

/// A data frame with `values` records of `size` bytes.
fn data(correlation: u64, partition: u32, values: usize, size: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchOptions::default());
    for _ in 0..values {
        writer.push(1, None, Some(&vec![b'x'; size]), &[]).expect("fits");
    }
    writer.finish().expect("fits");
    let line = produce_line(7, partition, correlation, Encoding::Json, 0, 0);
    writer.frame(&line).to_vec()
}

/// The same as it lies on disk.
fn stored(base_offset: u64, values: usize, size: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchOptions::default());
    for _ in 0..values {
        writer.push(1, None, Some(&vec![b'x'; size]), &[]).expect("fits");
    }
    writer.finish().expect("fits");
    let line = produce_line(7, 0, 0, Encoding::Json, 0, 0);
    let (log_epoch, prev_crc, prev_frame_len) = (3, 9, 300);
    let line = Line { base_offset, log_epoch, prev_crc, prev_frame_len, flushed_upto: 5, ..line };
    writer.frame(&line).to_vec()
}

/// The next envelope: type, correlation, body.
fn answer<T: DeserializeOwned>(peer: &mut Peer, kind: MessageType) -> (Vec<u8>, T) {
    let Ok(FrameStart::Envelope(length)) = frame_start(&peer.sent, u32::MAX) else {
        panic!("no envelope, {:?}", peer.close)
    };
    let frame: Vec<u8> = peer.sent.drain(..length).collect();
    let envelope = Envelope::parse(&frame).expect("whole");
    assert_eq!(envelope.header.message_type(), kind);
    assert_eq!(envelope.header.source_id(), BROKER);
    let body = serde_json::from_slice(envelope.content().expect("plain")).expect("json");
    (envelope.header.correlation_id().to_vec(), body)
}

fn refused(peer: &mut Peer) -> ErrorCode {
    answer::<ErrorReply>(peer, MessageType::Error).1.code()
}

/// The next batch frame.
fn batch_frame(peer: &mut Peer) -> Vec<u8> {
    let Ok(FrameStart::Batch(length)) = frame_start(&peer.sent, u32::MAX) else {
        panic!("no batch frame, {:?}", peer.close)
    };
    peer.sent.drain(..length).collect()
}

#[test]
fn hello_tells_whom_one_reached_and_what_is_allowed() {
    let mut peer = Peer::new();
    let body = Hello { version: 1, ..Hello::default() };
    peer.send(&envelope(HELLO, 4, &body));
    let (correlation, reply) = answer::<HelloReply>(&mut peer, MessageType::Response);
    assert_eq!((&correlation[..], reply.version, reply.shards), (&b"4"[..], 1, 2));
    assert_eq!(reply.limits.heartbeat_ms, 10_000);
    assert_eq!(reply.software, "ringway 0");
    peer.finish();
}

#[test]
fn metadata_tells_where_partitions_are() {
    let mut peer = Peer::new();
    let topics = Some(vec!["gpu".to_owned(), "nobody".to_owned()]);
    peer.send(&envelope(METADATA, 1, &MetadataRequest { topics }));
    let (_, reply) = answer::<MetadataReply>(&mut peer, MessageType::Response);
    assert_eq!(reply.shards[1].address, "127.0.0.1:19093");
    let codes: Vec<_> = reply.topics.iter().map(|topic| (topic.topic_id, topic.code)).collect();
    assert_eq!(codes, [(7, 0), (0, 3)]);
    let shards: Vec<_> = reply.topics[0].partitions.iter().map(|part| part.shard).collect();
    assert_eq!(shards, [0, 1, 0, 1]);
    peer.finish();
}

#[test]
fn a_batch_is_asked_to_be_appended_and_acked_whatever_else_waits() {
    let mut peer = Peer::new();
    let fetch = Fetch {
        topic_id: 7,
        partition: 0,
        offset: 9,
        bytes_max: 1 << 20,
        bytes_min: 1,
        wait_ms_max: 500,
    };
    let frames = [data(11, 2, 3, 100), data(12, 3, 1, 5)];
    peer.send(&[&envelope(FETCH, 10, &fetch)[..], &frames[0], &frames[1]].concat());
    assert_eq!(peer.door.counts.native_frames, 3);
    assert_eq!(peer.door.counts.produce_records, 4);
    let (waiting, _) = peer.next();
    for (at, partition) in [(0, 2), (1, 3)] {
        let Request::Produce { key, acks, payload: Payload::Received(slice), encoding, .. } =
            peer.asked[at].1.clone()
        else {
            panic!("not a produce")
        };
        assert_eq!((key, acks, encoding), (LogKey { topic_id: 7, partition }, -1, 0));
        assert_eq!(peer.blocks.bytes(slice), &frames[at][67..]);
    }
    let (first, _) = peer.next();
    let (second, _) = peer.next();
    let message = "sequence 9 after 3".to_owned();
    let code = ErrorCode::OutOfOrderSequenceNumber;
    peer.answer(second, Reply::Failed { code, message });
    peer.answer(first, produced(41));
    let error = batch_frame(&mut peer);
    let header = BatchHeader::access(&error).expect("header");
    assert_eq!((header.kind(), header.correlation()), (Kind::Error, 12));
    let expected = (code, "sequence 9 after 3".to_owned());
    assert_eq!(error_payload(&error[HEADER_LEN..]), Ok(expected));
    let ack = batch_frame(&mut peer);
    let ack = produce_ack(BatchHeader::access(&ack).expect("header"));
    assert_eq!((ack.correlation, ack.base_offset, ack.partition), (11, 41, 2));
    assert_eq!(ack.append_time_ns, 5_000_000);
    assert_eq!(peer.finish(), [waiting]);
}

#[test]
fn a_batch_for_no_partition_is_refused_and_the_connection_lives() {
    let mut peer = Peer::new();
    peer.send(&data(3, 4, 1, 10));
    let error = batch_frame(&mut peer);
    assert_eq!(error_payload(&error[HEADER_LEN..]).expect("code").0.code(), 3);
    assert_eq!(peer.close, None);
    peer.finish();
}

#[test]
fn fetched_frames_are_delivered_without_evidence_about_the_disk() {
    for owned in [false, true] {
        let mut peer = Peer::new();
        let fetch = r#"{"topic_id":7,"partition":0,"offset":20,"wait_ms_max":500}"#;
        let fetch: serde_json::Value = serde_json::from_str(fetch).expect("json");
        peer.send(&envelope(FETCH, 77, &fetch));
        let frames = [stored(20, 1, 30), stored(21, 10, 1000)];
        let fetched = if owned {
            Fetched::Owned(frames.concat())
        } else {
            let pieces =
                [&frames[0][..], &frames[1][..5000], &frames[1][5000..]].map(|p| peer.slice(p));
            let frame = |at: usize, slices| Frame {
                base_offset: 0,
                last_offset: 0,
                frame_len: u32::try_from(frames[at].len()).expect("small"),
                slices,
            };
            let frames = vec![frame(0, 0..1), frame(1, 1..3)];
            Fetched::Frames(FrameList { frames, slices: pieces.to_vec() })
        };
        let key = LogKey { topic_id: 7, partition: 0 };
        let code = ErrorCode::None;
        let part = FetchedPart { key, code, high_watermark: 31, log_start: 2, fetched };
        let asked = peer.answer_next(Reply::Fetched(vec![part]));
        assert!(matches!(asked, Request::Fetch { bytes_max: 1_048_576, deadline_ns, .. }
            if deadline_ns == peer.now.mono_ns + 500_000_000));
        assert_eq!(peer.by_reference, if owned { 0 } else { 2 });
        let (correlation, counts) = answer::<FetchReply>(&mut peer, MessageType::Response);
        assert_eq!((&correlation[..], counts.batches), (&b"77"[..], 2));
        assert_eq!((counts.high_watermark, counts.log_start_offset), (31, 2));
        assert_eq!(counts.bytes, peer.sent.len() as u64);
        for frame in &frames {
            let delivered = batch_frame(&mut peer);
            assert_eq!(delivered[67..], frame[67..]);
            let header = BatchHeader::access(&delivered).expect("header");
            assert_eq!((header.kind(), header.correlation()), (Kind::Deliver, 77));
            assert_eq!((header.log_epoch(), header.flushed_upto()), (0, 0));
            assert_eq!((header.prev_crc(), header.prev_frame_len()), (0, 0));
        }
        peer.finish();
    }
}

#[test]
fn a_fetch_that_finds_an_error_says_so() {
    let mut peer = Peer::new();
    let fetch = |partition| {
        let text = format!(r#"{{"topic_id":7,"partition":{partition},"offset":20}}"#);
        serde_json::from_str::<serde_json::Value>(&text).expect("json")
    };
    peer.send(&envelope(FETCH, 1, &fetch(4)));
    assert_eq!(refused(&mut peer), ErrorCode::UnknownTopicOrPartition);
    peer.send(&envelope(FETCH, 1, &fetch(3)));
    let key = LogKey { topic_id: 7, partition: 3 };
    let (code, fetched) = (ErrorCode::OffsetOutOfRange, Fetched::Owned(Vec::new()));
    let part = FetchedPart { key, code, high_watermark: 31, log_start: 2, fetched };
    peer.answer_next(Reply::Fetched(vec![part]));
    let (_, error) = answer::<ErrorReply>(&mut peer, MessageType::Error);
    assert_eq!(error.code(), code);
    assert!(error.error.contains("7/3 has offsets 2 to 31"), "{}", error.error);
    peer.finish();
}

#[test]
fn topics_are_made_described_and_deleted() {
    let mut peer = Peer::new();
    let configs = [("segment.bytes".to_owned(), "1048576".to_owned())].into();
    let create = CreateTopic { name: "new".to_owned(), partitions: 3, configs };
    peer.send(&envelope(CREATE_TOPIC, 1, &create));
    let asked = peer.answer_next(Reply::Meta(MetaAnswer::Created { topic_id: 8, partitions: 3 }));
    assert!(matches!(asked, Request::Meta(MetaOp::CreateTopic { partitions: 3, configs, .. })
        if configs == [("segment.bytes".to_owned(), Some("1048576".to_owned()))]));
    let (_, reply) = answer::<CreateTopicReply>(&mut peer, MessageType::Response);
    assert_eq!((reply.topic_id, reply.partitions, reply.name.as_str()), (8, 3, "new"));

    peer.send(&envelope(DESCRIBE_TOPIC, 2, &DescribeTopic { name: "gpu".to_owned() }));
    for log_end in 0..4 {
        let facts = LogFacts { log_end, ..LogFacts::default() };
        let asked = peer.answer_next(Reply::Log(facts));
        assert!(
            matches!(asked, Request::DescribeLog { key } if u64::from(key.partition) == log_end)
        );
    }
    let (_, reply) = answer::<DescribeTopicReply>(&mut peer, MessageType::Response);
    let ends: Vec<u64> = reply.partitions.iter().map(|part| part.log_end).collect();
    assert_eq!(ends, [0, 1, 2, 3]);
    assert!(reply.configs.contains_key("retention.ms"));
    assert_eq!(reply.uuid, "abababababababab0000000000000007");

    let configs =
        [("retention.ms".to_owned(), Some("5".to_owned())), ("segment.ms".to_owned(), None)];
    let alter = AlterTopic { name: "gpu".to_owned(), configs: configs.clone().into() };
    peer.send(&envelope(ALTER_TOPIC, 3, &alter));
    let asked = peer.answer_next(Reply::Meta(MetaAnswer::Altered));
    assert!(matches!(asked, Request::Meta(MetaOp::AlterTopic { topic_id: 7, configs: asked })
        if asked == configs));
    answer::<AlterTopicReply>(&mut peer, MessageType::Response);
    peer.send(&envelope(ALTER_TOPIC, 3, &alter));
    let (code, message) = (ErrorCode::InvalidConfig, "no".to_owned());
    peer.answer_next(Reply::Meta(MetaAnswer::Failed { code, message }));
    assert_eq!(refused(&mut peer), ErrorCode::InvalidConfig);

    peer.send(&envelope(DELETE_TOPIC, 3, &DeleteTopic { name: "gpu".to_owned() }));
    peer.answer_next(Reply::Meta(MetaAnswer::Deleted));
    answer::<DeleteTopicReply>(&mut peer, MessageType::Response);
    for id in [ALTER_TOPIC, DELETE_TOPIC, DESCRIBE_TOPIC] {
        peer.send(&envelope(id, 4, &DeleteTopic { name: "nobody".to_owned() }));
        assert_eq!(refused(&mut peer), ErrorCode::UnknownTopicOrPartition);
    }
    peer.finish();
}

#[test]
fn offsets_are_listed() {
    let mut peer = Peer::new();
    let list = ListOffsets { topic_id: 7, partition: 1, at: At::TimeMs(5) };
    peer.send(&envelope(LIST_OFFSETS, 1, &list));
    let asked = peer.answer_next(Reply::Offset { offset: 3, timestamp_ms: 6, leader_epoch: 1 });
    assert!(matches!(asked, Request::ListOffsets { at: OffsetAt::Time(5), .. }));
    let (_, reply) = answer::<ListOffsetsReply>(&mut peer, MessageType::Response);
    assert_eq!((reply.offset, reply.timestamp_ms), (3, 6));
    peer.finish();
}

#[test]
fn what_is_not_understood_is_refused_and_the_connection_lives() {
    let mut peer = Peer::new();
    peer.send(&envelope("Dance", 1, &()));
    assert_eq!(refused(&mut peer), ErrorCode::InvalidRequest);
    peer.send(&envelope(FETCH, 1, &"no object"));
    assert_eq!(refused(&mut peer), ErrorCode::InvalidRequest);
    let mut flagged = envelope(HELLO, 1, &Hello::default());
    flagged[5] = 1;
    peer.send(&flagged);
    assert_eq!(refused(&mut peer), ErrorCode::InvalidRequest);
    peer.send(&envelope(HEARTBEAT, 1, &()));
    let _: (_, serde_json::Value) = answer(&mut peer, MessageType::Response);
    assert_eq!(peer.close, None);
    peer.finish();
}

#[test]
fn a_peer_that_said_hello_is_closed_after_three_silent_intervals() {
    let mut peer = Peer::new();
    peer.send(&data(1, 4, 1, 10));
    peer.tick(100_000_000_000);
    assert_eq!(peer.close, None);
    peer.send(&envelope(HELLO, 1, &Hello::default()));
    assert_eq!(peer.session.wake_at_ns(), Some(peer.now.mono_ns + 30_000_000_000));
    peer.tick(29_000_000_000);
    let mut event = envelope(HEARTBEAT, 1, &());
    event[4] = 2;
    peer.send(&event);
    peer.tick(29_999_999_999);
    assert_eq!(peer.close, None);
    peer.tick(1);
    assert_eq!(peer.close.as_ref().map(|close| close.reason), Some("idle"));
    peer.finish();
}

#[test]
fn a_frame_larger_than_a_receive_buffer_goes_to_a_large_block() {
    let mut peer = Peer::new();
    let large = data(5, 1, 3, BLOCK_BYTES);
    let small = data(6, 1, 1, 10);
    let bytes = [&small[..], &large, &small].concat();
    for piece in [1000, 127, 65_536] {
        assert_eq!(peer.send_in(&bytes, piece), bytes.len());
        for frame in [&small, &large, &small] {
            let Request::Produce { payload: Payload::Received(slice), .. } = peer.asked[0].1 else {
                panic!("not a produce")
            };
            assert_eq!(peer.blocks.bytes(slice), &frame[67..]);
            peer.answer_next(produced(1));
        }
    }
    peer.finish();
}

#[test]
fn a_full_connection_pauses_until_an_answer() {
    let mut settings = config();
    settings.conn_requests_max = 2;
    let mut peer = Peer::with(settings, catalog());
    let frame = data(1, 0, 1, 10);
    let bytes = frame.repeat(5);
    peer.send(&bytes);
    assert_eq!(peer.asked.len(), 2);
    assert_eq!(peer.session.receive_into(), ReceiveInto::Nothing);
    for offset in 0..5 {
        peer.answer_next(produced(offset));
    }
    assert_eq!(peer.session.receive_into(), ReceiveInto::Provided);
    assert_eq!(peer.sent.len(), 5 * HEADER_LEN);
    peer.finish();
}
