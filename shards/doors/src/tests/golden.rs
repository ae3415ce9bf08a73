//! Requests as real clients sent them, captured from their system calls: librdkafka 2.0.2 (kcat) and 2.16.1
//! (confluent-kafka), kafka-python 3.0.12, aiokafka 0.14.0, each with its defaults.
//! Owner: `golden.txt`, one frame a line: client, key, version, bytes.
//! Invariant: every one is understood, and the cold ones survive decoding and encoding byte for byte.
//! Not here: made-up frames (`kafka_*.rs`).

use super::peer::*;
use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request as KafkaRequest;
use ringway_wire::kafka::api::{Api, FETCH, PRODUCE};
use ringway_wire::kafka::request_header::RequestHeader;

struct Golden {
    client: &'static str,
    key: i16,
    version: i16,
    frame: Vec<u8>,
}

fn golden() -> Vec<Golden> {
    let lines = include_str!("golden.txt").lines();
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().expect("four words");
            let (client, key, version, hex) = (word(), word(), word(), word());
            let pairs = (0..hex.len()).step_by(2);
            Golden {
                client,
                key: key.parse().expect("a key"),
                version: version.parse().expect("a version"),
                frame: pairs
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                    .collect(),
            }
        })
        .collect()
}

#[test]
fn every_request_of_real_clients_is_understood() {
    let golden = golden();
    assert!(golden.len() > 40);
    for Golden { client, key, version, frame } in golden {
        let mut peer = Peer::new();
        for (id, name) in [(20, "gold"), (21, "goldc"), (22, "goldk"), (23, "golda")] {
            let mut catalog = (*peer.door.catalog).clone();
            catalog.insert(topic(id, name, 2));
            peer.door.catalog = catalog.into();
        }
        peer.send(&frame);
        assert_eq!(peer.close, None, "{client} key {key} version {version}");
        let answered = !peer.sent.is_empty();
        assert!(answered == peer.asked.is_empty(), "{client} key {key} version {version}");
        // By id the topic was another server's.
        if (key == PRODUCE || key == FETCH) && version < 13 {
            assert!(!answered, "{client} key {key} version {version}: no topic was found");
        }
        assert_eq!(peer.door.counts.kafka_requests, 1);
        peer.finish();
    }
}

fn again<R: KafkaRequest>(client: &str, version: i16, body: &[u8]) {
    let mut bytes = Bytes::copy_from_slice(body);
    let request = R::decode(&mut bytes, version).expect("decodes");
    let mut encoded = Vec::new();
    request.encode(&mut encoded, version).expect("encodes");
    assert_eq!(encoded, body, "{client} key {} version {version}", R::KEY);
}

#[test]
fn the_protocol_crate_gives_back_what_real_clients_sent() {
    for Golden { client, key, version, frame } in golden() {
        let header = RequestHeader::parse(&frame[4..]).expect("head");
        assert_eq!((header.key, header.version), (key, version));
        assert!(Api::of(key).is_some_and(|api| api.serves(version)), "{client} {key} {version}");
        let body = &frame[4 + header.body_at..];
        match key {
            0 => again::<ProduceRequest>(client, version, body),
            1 => again::<FetchRequest>(client, version, body),
            2 => again::<ListOffsetsRequest>(client, version, body),
            3 => again::<MetadataRequest>(client, version, body),
            8 => again::<OffsetCommitRequest>(client, version, body),
            9 => again::<OffsetFetchRequest>(client, version, body),
            10 => again::<FindCoordinatorRequest>(client, version, body),
            11 => again::<JoinGroupRequest>(client, version, body),
            12 => again::<HeartbeatRequest>(client, version, body),
            13 => again::<LeaveGroupRequest>(client, version, body),
            14 => again::<SyncGroupRequest>(client, version, body),
            18 => again::<ApiVersionsRequest>(client, version, body),
            19 => again::<CreateTopicsRequest>(client, version, body),
            20 => again::<DeleteTopicsRequest>(client, version, body),
            22 => again::<InitProducerIdRequest>(client, version, body),
            32 => again::<DescribeConfigsRequest>(client, version, body),
            _ => panic!("key {key} is not served"),
        }
    }
}
