//! Produce against another codec, in every version, and with each byte missing.
//! Owner: the test build.
//! Invariant: what `kafka-protocol` encodes we read, what we encode it reads.
//! Not here: hostile input at random (`tests/properties.rs`).

use super::*;
use crate::ids::TopicUuid;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ProduceRequest as Theirs, ProduceResponse as TheirResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

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

#[test]
fn responses_of_every_version_are_read_by_another_decoder() {
    for version in 3..=13 {
        let mut out = Vec::new();
        let mut response = ProduceResponse::begin(&mut out, version, 77, 2);
        let good = ProducedPartition {
            partition: 1,
            code: ErrorCode::None,
            base_offset: 1000,
            log_append_time_ms: -1,
            log_start_offset: 5,
            message: None,
        };
        let bad = ProducedPartition {
            partition: 2,
            code: ErrorCode::InvalidRecord,
            base_offset: -1,
            message: Some("0 records"),
            ..good
        };
        let (name, id) = (TopicRef::Name("a"), TopicRef::Id(TopicUuid([9; 16])));
        response.topic(if version >= 13 { id } else { name }, 2);
        response.partition(&good);
        response.partition(&bad);
        response.topic(if version >= 13 { id } else { name }, 1);
        response.partition(&good);
        response.end(0);
        assert_eq!(out[..4], u32::try_from(out.len() - 4).unwrap().to_be_bytes());
        let mut body = Bytes::from(out).slice(if version >= 9 { 9.. } else { 8.. });
        let read = TheirResponse::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "v{version}");
        assert_eq!(read.responses.len(), 2);
        let parts = &read.responses[0].partition_responses;
        assert_eq!((parts[0].index, parts[0].error_code, parts[0].base_offset), (1, 0, 1000));
        assert_eq!((parts[1].index, parts[1].error_code), (2, 87));
        let message = parts[1].error_message.as_ref().map(|text| text.as_str());
        assert_eq!(message, (version >= 8).then_some("0 records"));
        assert_eq!(parts[0].log_start_offset, if version >= 5 { 5 } else { -1 });
        if version >= 13 {
            assert_eq!(read.responses[0].topic_id.as_bytes(), &[9; 16]);
        } else {
            assert_eq!(read.responses[0].name.as_str(), "a");
        }
    }
}
