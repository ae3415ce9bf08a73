//! Replies leave in the order of the requests, whatever order the shard answers in (W1).

use super::kafka_data::{key, produce};
use super::peer::*;
use crate::session::ReceiveInto;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::*;
use ringway_partition::request::{Reply, Request};
use std::collections::VecDeque;

fn list_offsets() -> ListOffsetsRequest {
    let part = |index| ListOffsetsPartition::default().with_partition_index(index);
    let topic = ListOffsetsTopic::default().with_name(name("gpu"));
    ListOffsetsRequest::default()
        .with_topics(vec![topic.with_partitions(vec![part(0).with_timestamp(-1), part(1)])])
}

fn mixed(correlation: i32) -> Vec<u8> {
    match correlation % 5 {
        0 => frame(8, correlation, &list_offsets()),
        1 => frame(12, correlation, &MetadataRequest::default()),
        2 => {
            let parts = [(0, Some(batch(1, 80))), (1, Some(batch(1, 90))), (9, None)];
            frame(9, correlation, &produce(9, 1, &parts))
        }
        _ => frame(7, correlation, &produce(7, -1, &[(3, Some(batch(2, 3000)))])),
    }
}

/// Answers the question at `at` of those under way.
fn answer_at(peer: &mut Peer, at: usize) {
    peer.asked.rotate_left(at);
    let (id, request) = peer.next();
    let reply = if let Request::Produce { key, .. } = request {
        produced(u64::from(key.partition))
    } else {
        assert!(matches!(request, Request::ListOffsets { .. }), "{request:?}");
        Reply::Offset { offset: 5, timestamp_ms: -1, leader_epoch: 0 }
    };
    peer.answer(id, reply);
}

#[test]
fn a_thousand_mixed_requests_are_answered_in_order() {
    let bytes: Vec<u8> = (0..1000).flat_map(mixed).collect();
    for (seed, piece) in [(1u64, 100), (2, 5_000), (3, 65_536), (4, 1_000_000)] {
        let mut peer = Peer::new();
        let mut seed = seed;
        let mut sent = 0;
        let mut next = 0;
        let mut asked_before: VecDeque<bool> = VecDeque::new();
        while next < 1000 {
            sent += peer.send_in(&bytes[sent..], piece);
            // Beside Produce only Produce is under way.
            asked_before.clear();
            asked_before.extend(peer.asked.iter().map(|(_, r)| is_produce(r)));
            assert!(asked_before.iter().all(|&p| p) || asked_before.iter().all(|&p| !p));
            if !peer.asked.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 33).expect("small") % peer.asked.len();
                answer_at(&mut peer, at);
            }
            while let Some(frame) = peer.take_frame() {
                let correlation = i32::from_be_bytes(*frame.first_chunk().expect("a correlation"));
                assert_eq!(correlation, next);
                next += 1;
            }
        }
        assert_eq!((sent, peer.close.clone()), (bytes.len(), None));
        assert_eq!(peer.door.counts.kafka_requests, 1000);
        peer.finish();
    }
}

fn is_produce(request: &Request) -> bool {
    matches!(request, Request::Produce { .. })
}

#[test]
fn anything_else_waits_until_every_produce_is_answered() {
    let mut peer = Peer::new();
    let one = |correlation| frame(7, correlation, &produce(7, 1, &[(3, Some(batch(1, 80)))]));
    let all = [one(1), one(2), frame(12, 3, &MetadataRequest::default()), one(4)].concat();
    peer.send(&all);
    assert_eq!(peer.asked.len(), 2);
    assert_eq!(peer.session.receive_into(), ReceiveInto::Nothing);
    let (first, _) = peer.next();
    peer.answer_next(produced(1));
    assert!(peer.sent.is_empty());
    peer.answer(first, produced(0));
    assert_eq!(peer.response::<ProduceRequest>(7).0, 1);
    assert_eq!(peer.response::<ProduceRequest>(7).0, 2);
    assert_eq!(peer.response::<MetadataRequest>(12).0, 3);
    assert_eq!(peer.session.receive_into(), ReceiveInto::Provided);
    peer.answer_next(produced(2));
    assert_eq!(peer.response::<ProduceRequest>(7).0, 4);
    peer.finish();
}

#[test]
fn slots_are_bounded() {
    let mut settings = config();
    settings.conn_requests_max = 3;
    let mut peer = Peer::with(settings, catalog());
    let one = |correlation| frame(7, correlation, &produce(7, 1, &[(3, Some(batch(1, 80)))]));
    let all: Vec<u8> = (0..10).flat_map(one).collect();
    peer.send(&all);
    for correlation in 0..10 {
        assert_eq!(peer.asked.len(), 3.min(10 - usize::try_from(correlation).expect("small")));
        assert_eq!(
            peer.session.receive_into() == ReceiveInto::Nothing,
            peer.asked.len() == 3,
            "{correlation}"
        );
        let asked = peer.answer_next(produced(0));
        assert!(matches!(asked, Request::Produce { key: asked, .. } if asked == key(3)));
        assert_eq!(peer.response::<ProduceRequest>(7).0, correlation);
    }
    peer.finish();
}

/// L8: a peer that asks and does not read makes nobody hold more than its budget and one reply.
#[test]
fn requests_wait_while_replies_do_not_leave() {
    let mut settings = config();
    settings.conn_send_bytes_max = 1000;
    let mut peer = Peer::with(settings, catalog());
    let one = |correlation| frame(12, correlation, &MetadataRequest::default());
    let all: Vec<u8> = (0..50).flat_map(one).collect();
    peer.send(&all);
    let mut answered = 0;
    while answered < 50 {
        assert!(peer.sent.len() < 1000 + 500, "{} bytes answered at once", peer.sent.len());
        assert!(!peer.session.set_unsent(1001), "still full");
        peer.tick(1);
        let waiting = peer.session.receive_into() == ReceiveInto::Nothing;
        while !peer.sent.is_empty() {
            assert_eq!(peer.response::<MetadataRequest>(12).0, answered);
            answered += 1;
        }
        assert_eq!(waiting, answered < 50, "{answered}");
        assert_eq!(peer.session.set_unsent(0), waiting);
        peer.tick(1);
    }
    peer.finish();
}

#[test]
fn unanswered_requests_are_named_at_the_end_and_no_others() {
    let mut peer = Peer::new();
    let parts = [(0, Some(batch(1, 80))), (1, Some(batch(1, 80))), (2, Some(batch(1, 80)))];
    peer.send(&frame(9, 1, &produce(9, 1, &parts)));
    let (first, _) = peer.next();
    let (second, _) = peer.next();
    let (third, _) = peer.next();
    peer.answer(second, produced(1));
    assert_eq!(peer.finish(), [first, third]);
}

#[test]
fn a_reply_after_the_close_gives_its_holds_back() {
    use ringway_log::read::{Frame, FrameList};
    use ringway_partition::request::{Fetched, FetchedPart};
    use ringway_wire::error_code::ErrorCode;
    let mut peer = Peer::new();
    peer.send(&mixed(3));
    let (id, _) = peer.next();
    peer.send(&[0, 0, 0, 1]);
    assert_eq!(peer.close.as_ref().map(|close| close.reason), Some("malformed_frame"));
    let slice = peer.slice(&super::kafka_data::stored(&batch(1, 5000)));
    let frame = Frame { base_offset: 0, last_offset: 0, frame_len: 5067, slices: 0..1 };
    let fetched = Fetched::Frames(FrameList { frames: vec![frame], slices: vec![slice] });
    let (key, code) = (key(0), ErrorCode::None);
    let part = FetchedPart { key, code, high_watermark: 0, log_start: 0, fetched };
    peer.answer(id, Reply::Fetched(vec![part]));
    assert!(peer.sent.is_empty());
    peer.finish();
}

#[test]
fn time_limits_close_and_waiting_requests_keep_open() {
    let mut peer = Peer::new();
    peer.tick(0);
    assert_eq!(peer.session.wake_at_ns(), Some(peer.now.mono_ns + 5_000_000_000));
    peer.tick(5_000_000_000);
    assert_eq!(peer.close.as_ref().map(|close| close.reason), Some("first_frame_timeout"));
    peer.finish();

    let mut peer = Peer::new();
    peer.send(&mixed(3));
    assert_eq!(peer.session.wake_at_ns(), None);
    peer.tick(700_000_000_000);
    peer.answer_next(produced(0));
    assert_eq!(peer.session.wake_at_ns(), Some(peer.now.mono_ns + 600_000_000_000));
    peer.tick(600_000_000_000);
    assert_eq!(peer.close.as_ref().map(|close| close.reason), Some("idle"));
    assert_eq!(peer.door.counts.malformed, 0);
    peer.finish();

    let mut peer = Peer::new();
    peer.send(&mixed(1));
    peer.send(&[0, 0]);
    peer.tick(9_999_999_999);
    assert_eq!(peer.close, None);
    peer.tick(1);
    assert_eq!(peer.close.as_ref().map(|close| close.reason), Some("slow_frame"));
    peer.finish();
}
