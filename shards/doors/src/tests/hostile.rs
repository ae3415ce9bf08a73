//! Garbage, cut and oversized frames: a defined close, never a panic, never a hold left.

use super::kafka_data::produce;
use super::peer::*;
use crate::session::ReceiveInto;
use kafka_protocol::messages::*;
use proptest::prelude::*;
use ringway_wire::header::HEADER_LEN;
use ringway_wire::kafka::api::APIS;
use ringway_wire::native::control::{HELLO, Hello};
use ringway_wire::native::{CorrelationText, put_envelope, request_line};

/// Sends `bytes` whole and in pieces; says with what reason it was closed.
fn closed_with(bytes: &[u8]) -> Option<&'static str> {
    let reasons = [usize::MAX, 1, 7].map(|piece| {
        let mut peer = Peer::new();
        peer.send_in(bytes, piece);
        let reason = peer.close.as_ref().map(|close| close.reason);
        if reason.is_some() {
            assert_eq!(peer.session.receive_into(), ReceiveInto::Nothing);
            assert_eq!(peer.session.wake_at_ns(), None);
        }
        peer.finish();
        reason
    });
    assert_eq!(reasons[0], reasons[1]);
    assert_eq!(reasons[0], reasons[2]);
    reasons[0]
}

fn raw(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(10 + body.len()).expect("small");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 9, 0xFF, 0xFF]);
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn first_bytes_of_no_dialect_close() {
    assert_eq!(closed_with(b"GET / HTTP/1.1\r\n"), Some("unknown_protocol"));
    assert_eq!(closed_with(b"{\"type\":1}\n"), Some("json_not_served"));
    assert_eq!(closed_with(b"V1"), Some("bad_magic"));
    assert_eq!(closed_with(b"V2\x03"), Some("bad_version"));
    let mut peer = Peer::new();
    peer.send_in(&[0xFF; 100], 100);
    assert_eq!((peer.door.counts.unknown_protocol, peer.door.counts.malformed), (1, 0));
    peer.finish();
}

#[test]
fn lengths_are_checked_before_memory_is_taken() {
    let oversized = |length: u32, settings: crate::session::DoorConfig, first: &[u8]| {
        let mut peer = Peer::with(settings, catalog());
        peer.send_in(first, 100_000);
        peer.sent.clear();
        peer.send_in(&length.to_be_bytes(), 4);
        let reason = peer.close.as_ref().map(|close| close.reason);
        let large = matches!(peer.session.receive_into(), ReceiveInto::Large { .. });
        peer.finish();
        (reason, large)
    };
    let first = frame(12, 1, &MetadataRequest::default());
    // The first request is below 16 MiB: anything else is no Kafka.
    assert_eq!(oversized(16 << 20, config(), b""), (Some("unknown_protocol"), false));
    assert_eq!(oversized((16 << 20) - 1, config(), b""), (None, true));
    assert_eq!(oversized(16 << 20, config(), &first), (None, true));
    assert_eq!(oversized((100 << 20) + 1, config(), &first), (Some("oversized_frame"), false));
    let mut small = config();
    small.kafka_request_bytes_max = 1000;
    assert_eq!(oversized(1001, small.clone(), b""), (Some("oversized_frame"), false));
    assert_eq!(oversized(1000, small, b""), (None, true));
    assert_eq!(oversized(9, config(), b""), (Some("malformed_frame"), false));
    assert_eq!(oversized(u32::MAX, config(), &first), (Some("oversized_frame"), false));

    for (bytes, reason) in [
        ((50 << 20) + 1, Some("oversized_frame")),
        // A list of names takes many times its size once it is answered.
        (256 * 1024 + 1, Some("oversized_frame")),
        (256 * 1024, None),
    ] {
        let mut header = envelope();
        header[8..12].copy_from_slice(&u32::to_be_bytes(bytes));
        assert_eq!(closed_with(&header), reason, "{bytes} bytes");
    }
}

fn envelope() -> Vec<u8> {
    let mut out = Vec::new();
    let json = serde_json::to_vec(&Hello::default()).expect("json");
    let line = CorrelationText::new(1);
    put_envelope(&mut out, &request_line(HELLO, &line), &json).expect("fits");
    out
}

#[test]
fn unknown_keys_and_versions_close_and_are_counted() {
    for (key, version) in [(0, 2), (0, 14), (1, 3), (26, 1), (71, 0), (-1, 0), (18, -1), (2, 0)] {
        let mut peer = Peer::new();
        peer.send_in(&raw(key, version, &[]), 1000);
        assert_eq!(peer.close.as_ref().map(|c| c.reason), Some("unsupported_version"));
        assert_eq!((peer.door.counts.unsupported, peer.door.counts.malformed), (1, 0));
        peer.finish();
    }
}

#[test]
fn counts_that_would_exhaust_memory_close() {
    // Metadata 12 and Produce 9 with a compact count of 2^32 - 2, ListOffsets 1 with 2^31 - 1.
    let most = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
    let metadata = [&[0][..], &most, &[0]].concat();
    assert_eq!(closed_with(&raw(3, 12, &metadata)), Some("malformed_frame"));
    let produce = [&[0, 0][..], &[0, 1, 0, 0, 0, 1], &most].concat();
    assert_eq!(closed_with(&raw(0, 9, &produce)), Some("malformed_frame"));
    let list = [&[0xFF; 4][..], &i32::MAX.to_be_bytes()].concat();
    assert_eq!(closed_with(&raw(2, 1, &list)), Some("malformed_frame"));
    // More elements than allowed in one frame.
    let many = 300_000i32;
    let names: Vec<u8> = many.to_be_bytes().into_iter().chain(vec![0; 600_000]).collect();
    let mut peer = Peer::new();
    peer.send_in(&raw(3, 1, &names), usize::MAX);
    assert_eq!(peer.close.as_ref().map(|close| close.reason), Some("malformed_frame"));
    peer.finish();
}

#[test]
fn a_request_cut_at_any_byte_closes_as_malformed() {
    let requests = [
        frame(9, 1, &produce(9, 1, &[(0, Some(batch(1, 70))), (1, Some(batch(1, 70)))])),
        frame(3, 1, &produce(3, 1, &[(0, Some(batch(1, 70)))])),
        frame(12, 1, &MetadataRequest::default()),
        frame(3, 1, &FindCoordinatorRequest::default().with_key(text("g"))),
    ];
    for request in requests {
        for cut in 14..request.len() {
            let mut bytes = request[..cut].to_vec();
            let length = u32::try_from(cut - 4).expect("small");
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            let mut peer = Peer::new();
            peer.send_in(&bytes, usize::MAX);
            let reason = peer.close.as_ref().map(|close| close.reason);
            assert_eq!(reason, Some("malformed_frame"), "cut at {cut} of {}", request.len());
            assert!(peer.asked.is_empty(), "half a request took effect");
            peer.finish();
        }
    }
}

#[test]
fn bytes_behind_a_body_close() {
    for key in APIS.iter().map(|api| api.key).filter(|&key| key != 18) {
        let api = APIS.iter().find(|api| api.key == key).expect("a row");
        assert_eq!(closed_with(&raw(key, api.max, &[0; 3])), Some("malformed_frame"), "{key}");
    }
}

#[test]
fn what_came_before_a_malformed_request_is_answered_first() {
    let mut peer = Peer::new();
    let one = frame(7, 1, &produce(7, 1, &[(3, Some(batch(1, 80)))]));
    peer.send(&[&one[..], &raw(26, 1, &[])].concat());
    assert_eq!(peer.close, None);
    peer.answer_next(produced(0));
    assert_eq!(peer.response::<ProduceRequest>(7).0, 1);
    assert_eq!(peer.close.as_ref().map(|c| c.reason), Some("unsupported_version"));
    peer.finish();
}

#[test]
fn damage_in_a_native_header_closes() {
    let good = envelope();
    for (at, value) in [(0, b'X'), (1, b'3'), (3, 9), (4, 7)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(closed_with(&bad).is_some(), "byte {at}");
    }
    let mut batch = vec![0; HEADER_LEN];
    batch[..4].copy_from_slice(b"V2\x02\x00");
    batch[8] = 128;
    assert_eq!(closed_with(&batch), Some("malformed_frame"));
    let mut response = good;
    response[4] = 1;
    assert_eq!(closed_with(&response), Some("malformed_frame"));
}

#[test]
fn a_large_frame_without_memory_pauses_and_goes_on_later() {
    let mut peer = Peer::new();
    let taken = peer.blocks.take_large(LARGE_BYTES_MAX).expect("room");
    let bytes = frame(9, 5, &produce(9, 1, &[(3, Some(batch(1, 100_000)))]));
    let sent = peer.send_in(&bytes, 50_000);
    assert_eq!(sent, 50_000);
    assert_eq!(peer.session.receive_into(), ReceiveInto::Nothing);
    assert_eq!(peer.session.wake_at_ns(), Some(peer.now.mono_ns + 10_000_000));
    peer.tick(10_000_000);
    assert_eq!(peer.session.receive_into(), ReceiveInto::Nothing);
    peer.blocks.release_block(taken);
    peer.tick(10_000_000);
    assert_eq!(peer.send_in(&bytes[sent..], 50_000), bytes.len() - sent);
    peer.answer_next(produced(0));
    assert_eq!(peer.response::<ProduceRequest>(9).0, 5);
    peer.finish();
}

#[test]
fn a_connection_that_ends_in_the_middle_of_a_large_frame_gives_its_memory_back() {
    let mut peer = Peer::new();
    let bytes = frame(9, 5, &produce(9, 1, &[(3, Some(batch(1, 100_000)))]));
    peer.send_in(&bytes[..90_000], 40_000);
    assert!(matches!(peer.session.receive_into(), ReceiveInto::Large { .. }));
    peer.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bodies_never_panic(
        at in 0..APIS.len(),
        back in 0i16..8,
        body in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()], 0..200),
        piece in 1usize..100,
    ) {
        let api = APIS[at];
        let version = (api.max - back).max(api.min);
        let mut peer = Peer::new();
        peer.send_in(&raw(api.key, version, &body), piece);
        peer.finish();
    }

    #[test]
    fn damaged_requests_never_panic(
        flips in proptest::collection::vec((0usize..400, any::<u8>()), 1..6),
        which in 0usize..4,
    ) {
        let parts = [(0, Some(batch(1, 70))), (1, Some(batch(1, 70)))];
        let mut bytes = match which {
            0 => frame(9, 1, &produce(9, 1, &parts)),
            1 => frame(13, 1, &produce(13, 1, &parts)),
            2 => frame(12, 1, &MetadataRequest::default()),
            _ => envelope(),
        };
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] ^= value;
        }
        let mut peer = Peer::new();
        peer.send_in(&bytes, 50);
        peer.finish();
    }
}
