//! Fetch against another codec, in every version, and with each byte missing.
//! Owner: the test build.
//! Invariant: what `kafka-protocol` encodes we read.
//! Not here: hostile input at random (`tests/properties.rs`).

use super::*;
use crate::ids::TopicUuid;
use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{
    FetchPartition as TheirPartition, FetchTopic, ForgottenTopic,
};
use kafka_protocol::messages::{FetchRequest as Theirs, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

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
