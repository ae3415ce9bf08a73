//! Produce, Fetch and ListOffsets as clients send and read them, every version served.

use super::peer::*;
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use ringway_log::blocks::BLOCK_BYTES;
use ringway_log::read::{Frame, FrameList};
use ringway_partition::request::{
    FetchPart, Fetched, FetchedPart, OffsetAt, Payload, Reply, Request,
};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;

pub(super) const fn key(partition: u32) -> LogKey {
    LogKey { topic_id: 7, partition }
}

pub(super) fn produce(version: i16, acks: i16, parts: &[(i32, Option<Vec<u8>>)]) -> ProduceRequest {
    let rows = parts.iter().map(|(index, records)| {
        PartitionProduceData::default()
            .with_index(*index)
            .with_records(records.clone().map(Bytes::from))
    });
    let mut data = TopicProduceData::default().with_partition_data(rows.collect());
    if version >= 13 {
        data.topic_id = super::kafka_meta::uuid(7);
    } else {
        data.name = name("gpu");
    }
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![data])
}

#[test]
fn produce_is_asked_and_answered_in_every_version() {
    for version in 3..=13 {
        let mut peer = Peer::new();
        let parts = [(1, Some(batch(3, 100))), (9, Some(batch(1, 61))), (2, Some(batch(2, 70)))];
        let request = produce(version, -1, &parts);
        peer.send(&frame(version, 77, &request));
        assert_eq!(peer.door.counts.produce_records, 5);
        assert_eq!(peer.door.counts.kafka_foreign_requests, 1);
        for (partition, size) in [(1, 100), (2, 70)] {
            let Request::Produce { key: asked, acks, deadline_ns, payload, encoding } =
                peer.asked[usize::from(partition == 2)].1.clone()
            else {
                panic!("not a produce")
            };
            assert_eq!((asked, acks, encoding), (key(partition), -1, 3));
            assert_eq!(deadline_ns, peer.now.mono_ns + 1_000_000_000);
            let Payload::Received(slice) = payload else { panic!("copied") };
            let sent = batch(if partition == 1 { 3 } else { 2 }, size);
            assert_eq!(peer.blocks.bytes(slice), sent);
        }
        let (first, _) = peer.next();
        let (second, _) = peer.next();
        let message = "batch of 70 bytes is damaged".to_owned();
        peer.answer(first, Reply::Failed { code: ErrorCode::CorruptMessage, message });
        assert!(peer.sent.is_empty());
        let (append_time_ns, log_append_time) = (1_700_000_000_123_000_000, true);
        let reply =
            Reply::Produced { base_offset: 41, append_time_ns, log_append_time, log_start: 4 };
        peer.answer(second, reply);
        let (correlation, response) = peer.response::<ProduceRequest>(version);
        assert_eq!(correlation, 77);
        let rows = &response.responses[0].partition_responses;
        let codes: Vec<_> = rows.iter().map(|row| (row.index, row.error_code)).collect();
        assert_eq!(codes, [(1, 2), (9, 3), (2, 0)]);
        assert_eq!(rows[2].base_offset, 41);
        assert_eq!(rows[2].log_append_time_ms, 1_700_000_000_123);
        assert_eq!(rows[2].log_start_offset, if version >= 5 { 4 } else { -1 });
        let told = rows[0].error_message.as_deref();
        assert_eq!(told.is_some(), version >= 8, "version {version}");
        peer.finish();
    }
}

#[test]
fn what_cannot_be_appended_is_refused_per_partition() {
    let refused = |version, acks, transactional: bool, records: Option<Vec<u8>>| {
        let mut peer = Peer::new();
        let mut request = produce(version, acks, &[(0, records)]);
        request.transactional_id = transactional.then(|| TransactionalId(text("t")));
        peer.send(&frame(version, 1, &request));
        let (_, response) = peer.response::<ProduceRequest>(version);
        peer.finish();
        ErrorCode::from_code(response.responses[0].partition_responses[0].error_code)
    };
    let mut zstd = batch(1, 80);
    zstd[22] = 4;
    assert_eq!(refused(9, 2, false, Some(batch(1, 80))), ErrorCode::InvalidRequiredAcks);
    assert_eq!(refused(9, 1, true, Some(batch(1, 80))), ErrorCode::InvalidTxnState);
    assert_eq!(refused(9, 1, false, None), ErrorCode::InvalidRecord);
    assert_eq!(refused(3, 1, false, Some(vec![])), ErrorCode::InvalidRecord);
    assert_eq!(refused(3, 1, false, Some(vec![0; 60])), ErrorCode::InvalidRecord);
    assert_eq!(refused(6, 1, false, Some(zstd)), ErrorCode::UnsupportedCompressionType);
}

#[test]
fn acks_0_is_not_answered_and_an_error_closes() {
    let mut peer = Peer::new();
    peer.send(&frame(7, 1, &produce(7, 0, &[(0, Some(batch(1, 80)))])));
    peer.answer_next(produced(0));
    assert!(peer.sent.is_empty() && peer.close.is_none());
    peer.send(&frame(7, 2, &produce(7, 0, &[(0, Some(batch(1, 80)))])));
    let message = String::new();
    peer.answer_next(Reply::Failed { code: ErrorCode::MessageTooLarge, message });
    assert_eq!(peer.close.as_ref().expect("closed").reason, "acks0_error");
    peer.finish();
}

#[test]
fn a_batch_larger_than_a_receive_buffer_is_received_once_into_a_large_block() {
    for size in [BLOCK_BYTES, 3 * BLOCK_BYTES + 17] {
        let mut peer = Peer::new();
        let records = batch(1000, size);
        let bytes = frame(9, 5, &produce(9, 1, &[(3, Some(records.clone()))]));
        assert_eq!(peer.send_in(&bytes, 40_000), bytes.len());
        let Request::Produce { payload: Payload::Received(slice), .. } = peer.asked[0].1 else {
            panic!("not received")
        };
        assert_eq!(peer.blocks.bytes(slice), records);
        peer.answer_next(produced(10));
        assert_eq!(peer.response::<ProduceRequest>(9).0, 5);
        peer.finish();
    }
}

fn fetch(version: i16, parts: &[(i32, i64)]) -> FetchRequest {
    let rows = parts.iter().map(|&(index, offset)| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20)
            .with_current_leader_epoch(if version >= 9 { 3 } else { -1 })
    });
    let mut topic = FetchTopic::default().with_partitions(rows.collect());
    if version >= 13 {
        topic.topic_id = super::kafka_meta::uuid(7);
    } else {
        topic.topic = name("gpu");
    }
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_session_epoch(if version >= 7 { 0 } else { -1 })
        .with_topics(vec![topic])
}

/// A stored frame whose Kafka part is `batch`.
pub(super) fn stored(batch: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xEE; 67];
    let length = u32::try_from(67 + batch.len()).expect("small");
    frame[8..12].copy_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(batch);
    frame
}

fn found(partition: u32, code: ErrorCode, fetched: Fetched) -> FetchedPart {
    FetchedPart { key: key(partition), code, high_watermark: 90, log_start: 10, fetched }
}

#[test]
fn fetch_is_asked_and_answered_in_every_version() {
    for version in 4..=18 {
        let mut peer = Peer::new();
        peer.send(&frame(version, 3, &fetch(version, &[(0, 20), (2, 30), (1, 40)])));
        let small = stored(&batch(1, 100));
        let large = stored(&batch(1, 9000));
        // The large frame lies in two blocks.
        let pieces = [&small[..], &large[..5000], &large[5000..]].map(|piece| peer.slice(piece));
        let frame = |base_offset, frame_len: usize, slices| Frame {
            base_offset,
            last_offset: base_offset,
            frame_len: u32::try_from(frame_len).expect("small"),
            slices,
        };
        let frames = vec![frame(20, small.len(), 0..1), frame(21, large.len(), 1..3)];
        let list = FrameList { frames, slices: pieces.to_vec() };
        let owned = Fetched::Owned([small.clone(), large.clone()].concat());
        let none = Fetched::Owned(Vec::new());
        let asked = peer.answer_next(Reply::Fetched(vec![
            found(0, ErrorCode::None, Fetched::Frames(list)),
            found(2, ErrorCode::OffsetOutOfRange, none),
            found(1, ErrorCode::None, owned),
        ]));
        let leader_epoch = if version >= 9 { 3 } else { -1 };
        let part = |partition, offset| FetchPart {
            key: key(partition),
            offset,
            bytes_max: 1 << 20,
            leader_epoch,
        };
        let Request::Fetch { parts, bytes_min, bytes_max, deadline_ns } = asked else {
            panic!("not a fetch")
        };
        assert_eq!(parts, [part(0, 20), part(2, 30), part(1, 40)]);
        assert_eq!((bytes_min, bytes_max), (1, 57_671_680));
        assert_eq!(deadline_ns, peer.now.mono_ns + 500_000_000);
        assert_eq!(peer.by_reference, 1);
        let (correlation, response) = peer.response::<FetchRequest>(version);
        assert_eq!((correlation, response.session_id, response.error_code), (3, 0, 0));
        let rows = &response.responses[0].partitions;
        let both = [batch(1, 100), batch(1, 9000)].concat();
        assert_eq!(rows[0].records.as_deref(), Some(&both[..]));
        assert_eq!(rows[2].records.as_deref(), Some(&both[..]));
        assert_eq!(rows[1].records.as_deref(), Some(&b""[..]));
        assert_eq!(rows[1].error_code, 1);
        assert_eq!((rows[0].high_watermark, rows[0].last_stable_offset), (90, 90));
        assert_eq!(rows[1].log_start_offset, if version >= 5 { 10 } else { -1 });
        peer.finish();
    }
}

#[test]
fn a_produce_waits_five_minutes_at_most() {
    for (timeout_ms, waits_ms) in
        [(-1, 0), (0, 0), (300_000, 300_000), (300_001, 300_000), (i32::MAX, 300_000)]
    {
        let mut peer = Peer::new();
        let request = produce(9, -1, &[(0, Some(batch(1, 61)))]).with_timeout_ms(timeout_ms);
        peer.send(&frame(9, 1, &request));
        let Request::Produce { deadline_ns, .. } = peer.asked[0].1 else { panic!("no produce") };
        assert_eq!(deadline_ns, peer.now.mono_ns + waits_ms * 1_000_000, "{timeout_ms}");
        peer.answer_next(produced(0));
        peer.finish();
    }
}

#[test]
fn a_fetch_waits_an_hour_at_most() {
    let mut peer = Peer::new();
    peer.send(&frame(12, 1, &fetch(12, &[(0, 0)]).with_max_wait_ms(i32::MAX)));
    let (_, asked) = peer.next();
    let Request::Fetch { deadline_ns, .. } = asked else { panic!("not a fetch") };
    assert_eq!(deadline_ns, peer.now.mono_ns + 3_600 * 1_000_000_000);
    peer.finish();
}

#[test]
fn partitions_that_do_not_exist_have_their_own_error() {
    for (version, by_topic) in [(12, 3), (13, 100)] {
        let mut peer = Peer::new();
        let mut request = fetch(version, &[(0, 0), (8, 0)]);
        let mut other = request.topics[0].clone();
        other.topic = if version < 13 { name("nobody") } else { other.topic };
        other.topic_id = if version < 13 { other.topic_id } else { super::kafka_meta::uuid(99) };
        request.topics.push(other);
        peer.send(&frame(version, 1, &request));
        // An error ends the waiting.
        assert!(matches!(peer.asked[0].1,
            Request::Fetch { deadline_ns, .. } if deadline_ns == peer.now.mono_ns));
        let none = Fetched::Owned(Vec::new());
        peer.answer_next(Reply::Fetched(vec![found(0, ErrorCode::None, none)]));
        let (_, response) = peer.response::<FetchRequest>(version);
        let codes: Vec<Vec<i16>> = response
            .responses
            .iter()
            .map(|topic| topic.partitions.iter().map(|part| part.error_code).collect())
            .collect();
        assert_eq!(codes, [[0, 3], [by_topic, by_topic]]);
        peer.finish();
    }
}

#[test]
fn epoch_0_is_librdkafkas_way_to_say_that_it_knows_none() {
    let mut peer = Peer::new();
    let mut request = fetch(16, &[(0, 0), (1, 0), (2, 0)]);
    for (at, epoch) in [0, -1, 2].into_iter().enumerate() {
        request.topics[0].partitions[at].current_leader_epoch = epoch;
    }
    peer.send(&frame(16, 1, &request));
    let (_, asked) = peer.next();
    let Request::Fetch { parts, .. } = asked else { panic!("not a fetch") };
    let epochs: Vec<i32> = parts.iter().map(|part| part.leader_epoch).collect();
    assert_eq!(epochs, [-1, -1, 2]);
    peer.finish();
}

#[test]
fn a_fetch_session_is_never_known() {
    let mut peer = Peer::new();
    peer.send(&frame(12, 1, &fetch(12, &[(0, 0)]).with_session_id(4).with_session_epoch(2)));
    assert_eq!(peer.response::<FetchRequest>(12).1.error_code, 70);
    assert!(peer.asked.is_empty());
    peer.finish();
}

#[test]
fn a_fetch_still_waiting_at_the_end_is_named() {
    let mut peer = Peer::new();
    peer.send(&frame(12, 1, &fetch(12, &[(0, 0)])));
    let (id, _) = peer.next();
    assert_eq!(peer.finish(), [id]);
}

#[test]
fn list_offsets_is_asked_and_answered_in_every_version() {
    for version in 1..=10 {
        let mut peer = Peer::new();
        let times = [5, -1, -2, -3, -4, -5, -9];
        let parts = times.iter().map(|&timestamp| {
            ListOffsetsPartition::default().with_partition_index(1).with_timestamp(timestamp)
        });
        let absent = ListOffsetsPartition::default().with_partition_index(4);
        let topic = ListOffsetsTopic::default()
            .with_name(name("gpu"))
            .with_partitions(parts.chain([absent]).collect());
        peer.send(&frame(version, 1, &ListOffsetsRequest::default().with_topics(vec![topic])));
        let mut asked = Vec::new();
        while !peer.asked.is_empty() {
            let offset = i64::try_from(asked.len()).expect("small");
            let reply = Reply::Offset { offset, timestamp_ms: 8, leader_epoch: 6 };
            let Request::ListOffsets { at, .. } = peer.answer_next(reply) else { panic!() };
            asked.push(at);
        }
        let all = [
            OffsetAt::Time(5),
            OffsetAt::Latest,
            OffsetAt::Earliest,
            OffsetAt::MaxTimestamp,
            OffsetAt::Earliest,
        ];
        let known = 3 + usize::from(version >= 7) + usize::from(version >= 8);
        assert_eq!(asked, all[..known]);
        let (_, response) = peer.response::<ListOffsetsRequest>(version);
        let rows = &response.topics[0].partitions;
        let codes: Vec<i16> = rows.iter().map(|row| row.error_code).collect();
        let code = |served: bool| if served { 0 } else { 35 };
        let special = [code(version >= 7), code(version >= 8), code(version >= 9)];
        assert_eq!(codes, [&[0, 0, 0], &special[..], &[35, 3]].concat());
        assert_eq!((rows[1].offset, rows[1].timestamp), (1, 8));
        assert_eq!(rows[1].leader_epoch, if version >= 4 { 6 } else { -1 });
        peer.finish();
    }
}
