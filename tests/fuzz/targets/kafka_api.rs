//! A Kafka connection: requests of every API and version, sound and damaged, through door, shard and log.
//! Input: one byte that says how to cut, then frames with their sizes.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use ringway_fuzz::canary;
use ringway_fuzz::memory::measured;
use ringway_fuzz::node::Node;
use ringway_fuzz::requests::{
    self, any_request, check_response, damage_frame, mutate_body, mutate_frames, reread_request,
};
use ringway_wire::kafka::api;
use ringway_wire::kafka::fetch::FetchRequest;
use ringway_wire::kafka::produce::ProduceRequest;
use ringway_wire::kafka::request_header::RequestHeader;
use ringway_wire::kafka::shape::check_shape;

/// `kafka_elements_max` of a default configuration.
const ELEMENTS_MAX: u32 = 200_000;
/// More requests make runs slow and find nothing that fewer do not.
const FRAMES_MAX: usize = 6;
/// All reasons for which a peer may lose its connection, the last one when the rest of a frame does not come.
const REASONS: [&str; 6] = [
    "malformed_frame",
    "unsupported_version",
    "oversized_frame",
    "unknown_protocol",
    "json_not_served",
    "slow_frame",
];

/// A request that the decoders accept and that has an answer.
struct Expected {
    key: i16,
    version: i16,
    correlation: i32,
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&cut, stream)) = input.split_first() else { return Corpus::Reject };
    let frames = requests::frames(stream);
    if frames.len() > FRAMES_MAX || stream.starts_with(b"V") {
        return Corpus::Reject;
    }
    let mut expected = Vec::new();
    let mut sound = true;
    for frame in &frames {
        match frame.get(4..).filter(|body| frame.len() >= 4 && whole(frame, body)) {
            Some(body) if sound => sound = decode(body, &mut expected),
            _ => sound = false,
        }
    }
    let mut node = Node::start();
    node.send(stream, 1 + usize::from(cut) * 7);
    judge(&node, &expected, sound, frames.iter().any(|frame| length_is_absurd(frame)));
    Corpus::Keep
});

fn whole(frame: &[u8], body: &[u8]) -> bool {
    frame.first_chunk().is_some_and(|size| u32::from_be_bytes(*size) as usize == body.len())
}

/// Shorter than any head, or longer than a broker takes.
fn length_is_absurd(frame: &[u8]) -> bool {
    frame.first_chunk().is_some_and(|size| !(10..=100 << 20).contains(&u32::from_be_bytes(*size)))
}

/// Answers come in the order of the requests, each readable at its version, none for what is damaged.
fn judge(node: &Node, expected: &[Expected], sound: bool, stream_is_lost: bool) {
    let mut answers = 0;
    for answer in requests::frames(&node.sent) {
        assert!(whole(answer, &answer[4..]), "half an answer was sent");
        let Some(request) = expected.get(answers) else { panic!("an answer to nothing") };
        let correlation = check_response(request.key, request.version, &answer[4..]);
        assert_eq!(correlation, request.correlation, "answers out of order");
        answers += 1;
    }
    // An error of a produce that wants no answer is told by closing (W4): what follows it is lost.
    let reason = node.close.as_ref().map(|close| close.reason);
    if reason == Some("acks0_error") {
        return;
    }
    // Behind a length that no request has, the stream means nothing: closed at once. So it is when the rest
    // of a frame does not come while earlier ones wait.
    let lost = stream_is_lost && matches!(reason, Some("malformed_frame" | "oversized_frame"))
        || reason == Some("slow_frame");
    let all = answers == expected.len() || lost;
    assert!(all, "{answers} of {} answered, closed: {:?}", expected.len(), node.close);
    assert!(reason.is_none_or(|reason| !sound && REASONS.contains(&reason)), "{:?}", node.close);
}

/// Decodes one request as the door does and compares with what another decoder makes of it.
fn decode(frame: &[u8], expected: &mut Vec<Expected>) -> bool {
    let room = 4 * frame.len() + (64 << 10);
    let Ok(header) = measured(room, || RequestHeader::parse(frame)) else { return false };
    let (key, version, at) = (header.key, header.version, header.body_at);
    assert!(at <= frame.len());
    if key == api::API_VERSIONS && version >= 0 {
        // Answered whatever its body holds; a version of the future in the oldest form (V4).
        let version = if header.api.is_some() { version } else { 0 };
        expected.push(Expected { key, version, correlation: header.correlation });
        return true;
    }
    if header.api.is_none() {
        return false;
    }
    let mut answered = true;
    let accepted = match key {
        api::PRODUCE => measured(room, || match ProduceRequest::parse(frame, at, version) {
            Ok(request) => {
                answered = request.acks != 0;
                for part in request.partitions() {
                    assert!(
                        part.records.start <= part.records.end && part.records.end <= frame.len()
                    );
                }
                true
            }
            Err(_) => false,
        }),
        api::FETCH => measured(room, || match FetchRequest::parse(frame, at, version) {
            Ok(request) => {
                look_for_canary(&request, version);
                true
            }
            Err(_) => false,
        }),
        _ => measured(room, || check_shape(frame, at, key, version, ELEMENTS_MAX).is_ok()),
    };
    if !accepted {
        return false;
    }
    let body = &frame[at..];
    // 16 times for what is decoded, once more for what is written anew.
    let again = measured(20 * frame.len() + (64 << 10), || reread_request(key, version, body));
    let Some((left, again)) = again else {
        // Its tags hold what a later version means by them; the door refuses the rest of this kind.
        return match key {
            api::PRODUCE | api::FETCH => remember(expected, &header, answered),
            _ => false,
        };
    };
    assert_eq!(left, 0, "API {key} v{version}: the shape covers the whole body");
    if key != api::PRODUCE && key != api::FETCH {
        let shape = check_shape(&again, 0, key, version, ELEMENTS_MAX);
        assert!(shape.is_ok(), "API {key} v{version}: written anew: {shape:?}");
    }
    remember(expected, &header, answered)
}

fn remember(expected: &mut Vec<Expected>, header: &RequestHeader<'_>, answered: bool) -> bool {
    if answered {
        let correlation = header.correlation;
        expected.push(Expected { key: header.key, version: header.version, correlation });
    }
    true
}

fn look_for_canary(request: &FetchRequest<'_>, version: i16) {
    if version >= 7 && request.topics == 2 {
        if request.partitions().count() >= 2 && request.forgotten > 0 {
            canary("kafka_api: partitions to forget after two topics");
        }
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_frames((data, size, max_size, seed), any_request, |frames, at, dice| {
        match dice.below(6) {
            0 => *frames = vec![any_request(dice)],
            1 if frames.len() < FRAMES_MAX => frames.insert(at, any_request(dice)),
            2 if frames.len() > 1 => drop(frames.remove(at)),
            3 | 4 => damage_frame(&mut frames[at], dice),
            _ => mutate_body(&mut frames[at], 4, dice, max_size),
        }
    })
});
