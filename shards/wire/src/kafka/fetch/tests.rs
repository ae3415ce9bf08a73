//! Fetch against another codec, in every version, and with each byte missing.
//! Owner: the test build.
//! Invariant: what `kafka-protocol` encodes we read, what we encode it reads.
//! Not here: hostile input at random (`tests/properties.rs`).

use super::*;
use crate::ids::TopicUuid;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{
    FetchPartition as TheirPartition, FetchTopic, ForgottenTopic,
};
use kafka_protocol::messages::{FetchRequest as Theirs, FetchResponse as TheirResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

fn name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn theirs(version: i16) -> Theirs {
    let partition = |index, offset| {
        let mut partition = TheirPartition::default()
            .with_partition(index)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        if version >= 9 {
            partition.current_leader_epoch = 4;
        }
        if version >= 12 {
            partition.last_fetched_epoch = 3;
        }
        if version >= 17 {
            partition.replica_directory_id = vec![8; 16].try_into().unwrap();
        }
        partition
    };
    let mut topic =
        FetchTopic::default().with_partitions(vec![partition(0, 10), partition(5, 1 << 40)]);
    let mut forgotten = ForgottenTopic::default().with_partitions(vec![3, 4]);
    if version >= 13 {
        topic.topic_id = vec![1; 16].try_into().unwrap();
        forgotten.topic_id = vec![2; 16].try_into().unwrap();
    } else {
        topic.topic = name("first");
        forgotten.topic = name("gone");
    }
    let mut request = Theirs::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 26)
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    if version >= 7 {
        request.session_id = 6;
        request.session_epoch = 2;
        request.forgotten_topics_data = vec![forgotten];
    }
    if version >= 11 {
        request.rack_id = StrBytes::from_static_str("r1");
    }
    request
}

#[test]
fn requests_of_every_version_are_walked() {
    for version in 4..=18 {
        let mut frame = BytesMut::from(&b"head"[..]);
        theirs(version).encode(&mut frame, version).unwrap();
        let request = FetchRequest::parse(&frame, 4, version).unwrap();
        assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes), (500, 1, 1 << 26));
        assert_eq!((request.isolation_level, request.topics), (1, 1));
        let session = if version >= 7 { (6, 2, 2) } else { (0, -1, 0) };
        assert_eq!((request.session_id, request.session_epoch, request.forgotten), session);
        assert_eq!(request.rack_id, if version >= 11 { "r1" } else { "" });
        let parts: Vec<_> = request.partitions().collect();
        assert_eq!(parts.len(), 2, "v{version}");
        let topic =
            if version >= 13 { TopicRef::Id(TopicUuid([1; 16])) } else { TopicRef::Name("first") };
        let expected = FetchPartition {
            topic,
            topic_place: 0,
            topic_partitions: 2,
            partition: 5,
            current_leader_epoch: if version >= 9 { 4 } else { -1 },
            fetch_offset: 1 << 40,
            last_fetched_epoch: if version >= 12 { 3 } else { -1 },
            partition_max_bytes: 1 << 20,
        };
        assert_eq!(parts[1], expected, "v{version}");
        for cut in 4..frame.len() {
            assert!(
                FetchRequest::parse(&frame[..cut], 4, version).is_err(),
                "v{version} cut {cut}"
            );
        }
        frame.extend([0]);
        assert!(FetchRequest::parse(&frame, 4, version).is_err(), "v{version} left over");
    }
}

#[test]
fn responses_of_every_version_are_read_by_another_decoder() {
    for version in 4..=18 {
        let mut out = Vec::new();
        let topic =
            if version >= 13 { TopicRef::Id(TopicUuid([1; 16])) } else { TopicRef::Name("first") };
        let part = FetchedPartition {
            partition: 3,
            code: ErrorCode::None,
            high_watermark: 100,
            last_stable_offset: 100,
            log_start_offset: 2,
            records_len: 5,
        };
        let mut response = FetchResponse::begin(&mut out, version, 1, ErrorCode::None, 0, 1);
        response.topic(topic, 3);
        let place = response.partition(&part);
        response.partition_with(&part, |out| out.extend(b"fghij"));
        let empty = FetchedPartition { code: ErrorCode::OffsetOutOfRange, records_len: 0, ..part };
        response.partition(&empty);
        response.end();
        let whole = [&out[..place], b"abcde", &out[place..]].concat();
        assert_eq!(whole[..4], u32::try_from(whole.len() - 4).unwrap().to_be_bytes());
        let mut body = Bytes::from(whole).slice(if version >= 12 { 9.. } else { 8.. });
        let read = TheirResponse::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "v{version}");
        let parts = &read.responses[0].partitions;
        assert_eq!(parts[0].records.as_deref(), Some(&b"abcde"[..]));
        assert_eq!(parts[1].records.as_deref(), Some(&b"fghij"[..]));
        assert_eq!(parts[2].records.as_deref(), Some(&b""[..]));
        assert_eq!((parts[0].partition_index, parts[0].high_watermark), (3, 100));
        assert_eq!((parts[2].error_code, parts[0].last_stable_offset), (1, 100));
        assert_eq!(parts[0].log_start_offset, if version >= 5 { 2 } else { -1 });
    }
}
