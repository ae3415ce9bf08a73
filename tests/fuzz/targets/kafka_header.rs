//! Kafka requests: header, then the body through its walker or the shape check and the cold decoder.
//! Input: a request without its size field.
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::Decodable;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use ringway_fuzz::memory::measured;
use ringway_fuzz::{Dice, canary, give_back, libfuzzer_mutate};
use ringway_wire::kafka::api::{self, APIS};
use ringway_wire::kafka::fetch::FetchRequest;
use ringway_wire::kafka::primitives::Reader;
use ringway_wire::kafka::produce::ProduceRequest;
use ringway_wire::kafka::request_header::RequestHeader;
use ringway_wire::kafka::shape::check_shape;
use ringway_wire::varint;

/// `kafka_elements_max` of a default configuration.
const ELEMENTS_MAX: u32 = 200_000;

fuzz_target!(|frame: &[u8]| {
    let limit = 4 * frame.len() + (64 << 10);
    let parsed = measured(limit, || RequestHeader::parse(frame));
    let Ok(header) = parsed else { return };
    assert!(header.body_at <= frame.len());
    look_for_canary(frame, &header);
    if header.api.is_none() {
        return;
    }
    let (at, version) = (header.body_at, header.version);
    match header.key {
        api::PRODUCE => measured(limit, || {
            if let Ok(request) = ProduceRequest::parse(frame, at, version) {
                for part in request.partitions() {
                    assert!(
                        part.records.start <= part.records.end && part.records.end <= frame.len()
                    );
                    assert!(part.topic_place < request.topics);
                }
            }
        }),
        api::FETCH => measured(limit, || {
            if let Ok(request) = FetchRequest::parse(frame, at, version) {
                assert!(request.partitions().all(|part| part.topic_place < request.topics));
            }
        }),
        key => {
            let shape = measured(limit, || check_shape(frame, at, key, version, ELEMENTS_MAX));
            if shape.is_ok() {
                measured(16 * frame.len() + (64 << 10), || decode_cold(key, version, &frame[at..]));
            }
        }
    }
});

/// Decodes a body that passed the shape check with the crate that trusts its counts.
fn decode_cold(key: i16, version: i16, body: &[u8]) {
    let mut body = Bytes::copy_from_slice(body);
    macro_rules! decode {
        ($request:ident) => {
            drop(theirs::$request::decode(&mut body, version))
        };
    }
    match key {
        api::API_VERSIONS => decode!(ApiVersionsRequest),
        api::METADATA => decode!(MetadataRequest),
        api::LIST_OFFSETS => decode!(ListOffsetsRequest),
        api::FIND_COORDINATOR => decode!(FindCoordinatorRequest),
        api::JOIN_GROUP => decode!(JoinGroupRequest),
        api::SYNC_GROUP => decode!(SyncGroupRequest),
        api::HEARTBEAT => decode!(HeartbeatRequest),
        api::LEAVE_GROUP => decode!(LeaveGroupRequest),
        api::OFFSET_COMMIT => decode!(OffsetCommitRequest),
        api::OFFSET_FETCH => decode!(OffsetFetchRequest),
        api::INIT_PRODUCER_ID => decode!(InitProducerIdRequest),
        api::CREATE_TOPICS => decode!(CreateTopicsRequest),
        api::DELETE_TOPICS => decode!(DeleteTopicsRequest),
        api::DESCRIBE_CONFIGS => decode!(DescribeConfigsRequest),
        key => panic!("API {key} passed the shape check and has no decoder"),
    }
}

fn look_for_canary(frame: &[u8], header: &RequestHeader<'_>) {
    if header.key != api::API_VERSIONS || header.version != 3 {
        return;
    }
    let mut reader = Reader::new(frame, 8);
    if reader.raw_string(false).is_err() {
        return;
    }
    let mut lengths = Vec::new();
    let sound = reader.tags(|_, bytes| lengths.push(bytes.len())).is_ok();
    if sound && lengths.len() == 3 {
        if lengths[1] == 3 {
            canary("kafka_header: second of three tags has three bytes");
        }
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    let mut input = data[..size].to_vec();
    match dice.below(4) {
        0 => rebuild_header(&mut input, &mut dice),
        1 => counts(&mut input, &mut dice),
        _ => libfuzzer_mutate(&mut input, max_size),
    }
    give_back(&input, data, max_size)
});

/// Keeps the body and writes another sound header before it: API, version, client id, tags.
fn rebuild_header(input: &mut Vec<u8>, dice: &mut Dice) {
    let body_at = RequestHeader::parse(input).map_or(0, |header| header.body_at);
    let body = input.split_off(body_at);
    let (mut key, mut version) = match RequestHeader::parse(input) {
        Ok(header) => (header.key, header.version),
        Err(_) => (api::METADATA, 12),
    };
    if dice.one_in(2) {
        let api = dice.pick(APIS);
        key = api.key;
        version = api.min + dice.below((api.max - api.min + 1) as usize) as i16;
    }
    input.clear();
    input.extend(key.to_be_bytes());
    input.extend(version.to_be_bytes());
    input.extend(dice.next().to_be_bytes()[..4].iter());
    let client = dice.below(8);
    input.extend((client as i16 - 1).to_be_bytes());
    input.extend(dice.bytes(client.saturating_sub(1)));
    if APIS.iter().any(|api| api.key == key && api.is_flexible(version)) {
        let tags = dice.below(5) as u32;
        varint::put_u32(input, tags);
        let mut tag = 0;
        for _ in 0..tags {
            tag += dice.below(3) as u32;
            varint::put_u32(input, tag);
            let len = dice.below(6);
            varint::put_u32(input, len as u32);
            input.extend(dice.bytes(len));
            tag += 1;
        }
    }
    input.extend(body);
}

/// Writes a count of interest somewhere behind the header.
fn counts(input: &mut [u8], dice: &mut Dice) {
    const COUNTS: [[u8; 4]; 6] = [
        [0, 0, 0, 1],
        [0, 0, 0, 2],
        [0x7F, 0xFF, 0xFF, 0xFF],
        [0xFF; 4],
        [0xFF, 0xFF, 0xFF, 0x07],
        [3, 2, 1, 0],
    ];
    if input.len() < 16 {
        return;
    }
    let at = 8 + dice.below(input.len() - 12);
    input[at..at + 4].copy_from_slice(&dice.pick(&COUNTS));
}
