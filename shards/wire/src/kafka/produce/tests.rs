//! Produce against another codec, in every version, and with each byte missing.
//! Owner: the test build.
//! Invariant: what `kafka-protocol` encodes we read.
//! Not here: hostile input at random (`tests/properties.rs`).

use super::*;
use crate::ids::TopicUuid;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest as Theirs, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

fn topic(
    version: i16,
    name: &'static str,
    id: u8,
    parts: &[(i32, &'static [u8])],
) -> TopicProduceData {
    let mut topic = TopicProduceData::default();
    if version >= 13 {
        topic.topic_id = uuid_of(id);
    } else {
        topic.name = TopicName(StrBytes::from_static_str(name));
    }
    topic.partition_data = parts
        .iter()
        .map(|(index, records)| {
            PartitionProduceData::default()
                .with_index(*index)
                .with_records(Some(Bytes::from_static(records)))
        })
        .collect();
    topic
}

/// Their id type, whose crate is not ours to name.
fn uuid_of<T: TryFrom<Vec<u8>, Error: std::fmt::Debug>>(id: u8) -> T {
    vec![id; 16].try_into().unwrap()
}

#[test]
fn requests_of_every_version_are_walked() {
    for version in 3..=13 {
        let theirs = Theirs::default()
            .with_transactional_id(Some(StrBytes::from_static_str("tx").into()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![
                topic(version, "first", 1, &[(0, b"abc"), (7, b"defgh")]),
                topic(version, "none", 2, &[]),
                topic(version, "last", 3, &[(2, b"")]),
            ]);
        let mut frame = BytesMut::from(&b"head"[..]);
        theirs.encode(&mut frame, version).unwrap();
        let request = ProduceRequest::parse(&frame, 4, version).unwrap();
        assert_eq!(request.transactional_id, Some("tx"));
        assert_eq!((request.acks, request.timeout_ms, request.topics), (-1, 30_000, 3));
        let named = |name, id| {
            if version >= 13 { TopicRef::Id(TopicUuid([id; 16])) } else { TopicRef::Name(name) }
        };
        let seen: Vec<_> = request
            .partitions()
            .map(|part| {
                (
                    part.topic,
                    part.topic_place,
                    part.topic_partitions,
                    part.partition,
                    &frame[part.records],
                )
            })
            .collect();
        let expected: Vec<(TopicRef<'_>, u32, u32, i32, &[u8])> = vec![
            (named("first", 1), 0, 2, 0, b"abc"),
            (named("first", 1), 0, 2, 7, b"defgh"),
            (named("last", 3), 2, 1, 2, b""),
        ];
        assert_eq!(seen, expected, "v{version}");
        for cut in 4..frame.len() {
            assert!(
                ProduceRequest::parse(&frame[..cut], 4, version).is_err(),
                "v{version} cut {cut}"
            );
        }
        frame.extend([0]);
        assert!(ProduceRequest::parse(&frame, 4, version).is_err(), "v{version} left over");
    }
    assert!(ProduceRequest::parse(&[0; 20], 0, 2).is_err());
    assert!(ProduceRequest::parse(&[0; 20], 0, 14).is_err());
}

#[test]
fn twelve_bytes_that_abort_a_trusting_decoder_are_an_error() {
    // Produce v9: null transactional id, acks, timeout, then 2^32 − 2 topics.
    let frame = [0, 0, 1, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
    let error = ProduceRequest::parse(&frame, 0, 9).unwrap_err();
    assert!(matches!(error, DecodeError::Count { count: 4_294_967_294, .. }), "{error}");
}
