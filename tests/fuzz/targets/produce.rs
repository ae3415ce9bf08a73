//! Produce over Kafka: requests and batches, sound and damaged, into the log and out of it again.
//! Input: one byte that says how to cut, then Produce frames with their sizes.
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use ringway_fuzz::memory::measured;
use ringway_fuzz::node::{Node, TOPICS, WALL_MS, topic_id, topic_uuid};
use ringway_fuzz::requests::{
    self, damage_batch, damage_frame, fix_crc, mutate_body, mutate_frames,
};
use ringway_fuzz::{Dice, canary, libfuzzer_mutate};
use ringway_wire::crc32c::crc32c;
use ringway_wire::kafka::api;
use ringway_wire::kafka::produce::ProduceRequest;
use ringway_wire::kafka::request_header::RequestHeader;
use ringway_wire::kafka::topic_ref::TopicRef;
use std::collections::BTreeMap;

/// More requests make runs slow and find nothing that fewer do not.
const FRAMES_MAX: usize = 4;
const VERSION_MIN: i16 = 3;
const VERSION_MAX: i16 = 13;
const CODEC_ZSTD: i16 = 4;

/// One batch of one request, as this target reads it by itself.
struct Asked<'a> {
    topic: Option<usize>,
    partition: i32,
    batch: &'a [u8],
    verdict: Verdict,
}

/// What must become of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Taken,
    Refused,
    /// Only the producer's earlier batches tell.
    Depends,
}

/// What became of it: topic, partition, offset of its first record, the batch.
type Acknowledged<'a> = (usize, i32, i64, &'a [u8]);

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&cut, stream)) = input.split_first() else { return Corpus::Reject };
    let frames = requests::frames(stream);
    let produces =
        frames.iter().all(|frame| frame.len() > 12 && frame[4..6] == [0, api::PRODUCE as u8]);
    let first_is_kafka = stream.first() == Some(&0);
    if frames.is_empty() || frames.len() > FRAMES_MAX || !produces || !first_is_kafka {
        return Corpus::Reject;
    }
    let mut node = Node::start();
    let (mut acknowledged, mut told) = (Vec::new(), true);
    for frame in &frames {
        if node.close.is_some() {
            break;
        }
        node.sent.clear();
        node.send(frame, 1 + usize::from(cut) * 7);
        let size = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        match parse(&frame[4..]) {
            Some((version, acks, asked)) if size == frame.len() - 4 => {
                answered(&node, version, acks, &asked, &mut acknowledged);
                told &= acks != 0;
            }
            _ => assert!(node.sent.is_empty(), "half a request took effect"),
        }
    }
    node.reconnect();
    read_back(&mut node, &acknowledged, told);
    Corpus::Keep
});

/// Reads a request with the product's walker, held against another decoder.
fn parse(frame: &[u8]) -> Option<(i16, i16, Vec<Asked<'_>>)> {
    let room = 4 * frame.len() + (64 << 10);
    let header = measured(room, || RequestHeader::parse(frame)).ok()?;
    header.api?;
    let (at, version) = (header.body_at, header.version);
    let request = measured(room, || ProduceRequest::parse(frame, at, version)).ok()?;
    let mut body = Bytes::copy_from_slice(&frame[at..]);
    let theirs = theirs::ProduceRequest::decode(&mut body, version);
    if let Ok(theirs) = theirs {
        assert_eq!(body.len(), 0, "bytes behind the request");
        compare(frame, &request, &theirs);
    }
    let asked = request.partitions().map(|part| {
        let topic = (0..TOPICS.len()).find(|&place| match part.topic {
            TopicRef::Name(name) => name == TOPICS[place].0,
            TopicRef::Id(id) => id.0 == topic_uuid(topic_id(place)),
        });
        let batch = &frame[part.records.clone()];
        let partition = part.partition;
        let verdict = judge(&request, version, topic, partition, batch);
        Asked { topic, partition, batch, verdict }
    });
    Some((version, request.acks, asked.collect()))
}

fn compare(frame: &[u8], ours: &ProduceRequest<'_>, theirs: &theirs::ProduceRequest) {
    assert_eq!(ours.transactional_id, theirs.transactional_id.as_ref().map(|id| id.0.as_str()));
    assert_eq!((ours.acks, ours.timeout_ms), (theirs.acks, theirs.timeout_ms));
    let mut parts = ours.partitions();
    for (place, topic) in theirs.topic_data.iter().enumerate() {
        for theirs in &topic.partition_data {
            let ours = parts.next().expect("as many partitions");
            assert_eq!((ours.topic_place as usize, ours.partition), (place, theirs.index));
            let records = theirs.records.as_deref().unwrap_or_default();
            assert_eq!(&frame[ours.records], records);
        }
    }
    assert_eq!(parts.next(), None, "more partitions than there are");
}

/// Kafka's rules for one batch (kafka.md §4.7), read from its bytes alone.
fn judge(
    request: &ProduceRequest<'_>,
    version: i16,
    topic: Option<usize>,
    partition: i32,
    batch: &[u8],
) -> Verdict {
    let Some(place) = topic else { return Verdict::Refused };
    let (name, partitions, _) = TOPICS[place];
    let there = (0..partitions as i32).contains(&partition);
    if !there || !(-1..=1).contains(&request.acks) || request.transactional_id.is_some() {
        return Verdict::Refused;
    }
    if batch.len() < 61 || batch[16] != 2 || int(batch, 8) as i64 + 12 != batch.len() as i64 {
        return Verdict::Refused;
    }
    let attributes = i16::from_be_bytes([batch[21], batch[22]]);
    let codec = attributes & 7;
    let (count, last) = (int(batch, 57), int(batch, 23));
    let crc_fits = crc32c(&batch[21..]) == int(batch, 17) as u32;
    // Transactional, control, delete horizon.
    let forbidden = attributes & 0x70 != 0;
    if codec > CODEC_ZSTD || (codec == CODEC_ZSTD && version < 7) || forbidden || !crc_fits {
        return Verdict::Refused;
    }
    if count <= 0 || last.checked_add(1) != Some(count) || (name == "small" && batch.len() > 300) {
        return Verdict::Refused;
    }
    // The clock moves on by less than an hour in a run.
    let times = [long(batch, 27), long(batch, 35)];
    if name != "stamped" && times.iter().any(|time| *time > WALL_MS + 2 * 3_600_000) {
        return Verdict::Refused;
    }
    let (producer, epoch, sequence) =
        (long(batch, 43), i16::from_be_bytes([batch[51], batch[52]]), int(batch, 53));
    if producer >= 0 {
        return if epoch < 0 || sequence < 0 { Verdict::Refused } else { Verdict::Depends };
    }
    // Keys lie behind the compression; a deadline may pass before there is room.
    let in_time = times.iter().all(|time| (-1..=WALL_MS + 3_600_000).contains(time));
    let clear = name != "compacted" && request.timeout_ms >= 1000 && (in_time || name == "stamped");
    if clear { Verdict::Taken } else { Verdict::Depends }
}

fn int(batch: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([batch[at], batch[at + 1], batch[at + 2], batch[at + 3]])
}

fn long(batch: &[u8], at: usize) -> i64 {
    i64::from(int(batch, at)) << 32 | i64::from(int(batch, at + 4) as u32)
}

/// Compares what was answered with what had to be.
fn answered<'a>(
    node: &Node,
    version: i16,
    acks: i16,
    asked: &[Asked<'a>],
    into: &mut Vec<Acknowledged<'a>>,
) {
    if acks == 0 {
        assert!(node.sent.is_empty(), "nobody waits for this answer");
        let must_close = asked.iter().any(|asked| asked.verdict == Verdict::Refused);
        assert!(!must_close || node.close.is_some(), "an error that nobody is told");
        return;
    }
    assert_eq!(node.close, None, "sound, and closed");
    requests::check_response(api::PRODUCE, version, &node.sent[4..]);
    let mut body = Bytes::copy_from_slice(&node.sent[if version >= 9 { 9 } else { 8 }..]);
    let response = theirs::ProduceResponse::decode(&mut body, version).expect("it was just read");
    let parts = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut expected = asked.iter();
    for part in parts {
        let asked = expected.next().expect("an answer to nothing");
        assert_eq!(part.index, asked.partition, "answers out of order");
        let taken = part.error_code == 0;
        assert_eq!(taken, part.base_offset >= 0);
        match asked.verdict {
            Verdict::Taken => assert!(taken, "a sound batch is refused: {part:?}"),
            Verdict::Refused => assert!(!taken, "accepted against the rules: {part:?}"),
            Verdict::Depends => {}
        }
        if taken {
            let topic = asked.topic.expect("a topic that is there");
            into.push((topic, asked.partition, part.base_offset, asked.batch));
            look_for_canary(topic, part.base_offset, asked.batch);
        }
    }
    assert!(expected.next().is_none(), "a batch without an answer");
}

/// The records of a batch, which the broker may not change: everything but offset, epoch and times.
fn kept(batch: &[u8]) -> [&[u8]; 3] {
    [&batch[23..35], &batch[43..57], &batch[57..]]
}

/// D1 and D2: everything acknowledged is read back where it was acknowledged, and nothing else is, unless
/// some of it was sent without a wish to be `told`.
fn read_back(node: &mut Node, acknowledged: &[Acknowledged<'_>], told: bool) {
    let mut written: BTreeMap<(usize, i32), BTreeMap<i64, &[u8]>> = BTreeMap::new();
    for &(topic, partition, offset, batch) in acknowledged {
        let there = written.entry((topic, partition)).or_default();
        if there.contains_key(&offset) {
            // A retry, told by its sequence (P9): the first one counts.
            assert!(long(batch, 43) >= 0, "offset {offset} given twice");
        } else {
            there.insert(offset, batch);
        }
    }
    for ((topic, partition), batches) in written {
        node.sent.clear();
        node.send(&fetch(TOPICS[topic].0, partition), usize::MAX);
        let mut body = Bytes::copy_from_slice(&node.sent[9..]);
        let response = theirs::FetchResponse::decode(&mut body, 12).expect("an answer to a fetch");
        let part = &response.responses[0].partitions[0];
        assert_eq!(part.error_code, 0);
        let mut rest = part.records.clone().unwrap_or_default();
        let mut next = 0;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let batch = rest.split_to(12 + int(&rest, 8) as usize);
            assert_eq!(long(&batch, 0), next, "a gap, or a batch twice");
            assert_eq!(crc32c(&batch[21..]), int(&batch, 17) as u32, "D5");
            next += i64::from(int(&batch, 23)) + 1;
            found.push(batch);
        }
        assert_eq!(part.high_watermark, next);
        assert!(found.len() == batches.len() || (!told && found.len() > batches.len()), "D1, D2");
        for (offset, sent) in batches {
            let batch = found.iter().find(|batch| long(batch, 0) == offset);
            let batch = batch.unwrap_or_else(|| panic!("D1: offset {offset} is lost"));
            assert_eq!(kept(batch), kept(sent), "D1: other records than were sent");
        }
    }
}

fn fetch(topic: &str, partition: i32) -> Vec<u8> {
    use theirs::fetch_request::{FetchPartition, FetchTopic};
    let part =
        FetchPartition::default().with_partition(partition).with_partition_max_bytes(1 << 20);
    let name = theirs::TopicName(kafka_protocol::protocol::StrBytes::from_string(topic.to_owned()));
    let topic = FetchTopic::default().with_topic(name).with_partitions(vec![part]);
    let request = theirs::FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    let mut body = bytes::BytesMut::new();
    request.encode(&mut body, 12).expect("a fetch request");
    requests::frame(api::FETCH, 12, 1, &body)
}

fn look_for_canary(topic: usize, offset: i64, batch: &[u8]) {
    if TOPICS[topic].0 != "stamped" || batch[22] & 7 != CODEC_ZSTD as u8 {
        return;
    }
    // One after the other, so that the fuzzer sees each step.
    if int(batch, 57) == 2 {
        if offset > 0 {
            canary("produce: two records under zstd, behind others in a topic of append times");
        }
    }
}

/// A sound request of any version.
fn any_produce(dice: &mut Dice) -> Vec<u8> {
    let version = VERSION_MIN + dice.below((VERSION_MAX - VERSION_MIN + 1) as usize) as i16;
    requests::request(dice, api::PRODUCE, version)
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_frames((data, size, max_size, seed), any_produce, |frames, at, dice| {
        match dice.below(11) {
            0 => *frames = vec![any_produce(dice)],
            1 | 2 if frames.len() < FRAMES_MAX => frames.insert(at, any_produce(dice)),
            // Sent again: a retry when it is numbered, else a batch behind the first one.
            3 | 8..=10 if frames.len() < FRAMES_MAX => frames.push(frames[at].clone()),
            4 => damage_frame(&mut frames[at], dice),
            5 | 6 => in_batch(&mut frames[at], dice, max_size),
            _ => mutate_body(&mut frames[at], 8, dice, max_size),
        }
    })
});

/// Damages one batch inside a frame; its length stays, so that the rest of the request stays sound.
fn in_batch(frame: &mut [u8], dice: &mut Dice, max_size: usize) {
    let Some(body) = frame.get(4..) else { return };
    let Ok(header) = RequestHeader::parse(body) else { return };
    let Ok(request) = ProduceRequest::parse(body, header.body_at, header.version) else { return };
    let places: Vec<_> =
        request.partitions().map(|part| part.records).filter(|at| at.len() >= 61).collect();
    if places.is_empty() {
        return;
    }
    let place = places[dice.below(places.len())].clone();
    let place = &mut frame[4 + place.start..4 + place.end];
    let mut batch = place.to_vec();
    if dice.one_in(2) {
        damage_batch(&mut batch, dice);
    } else {
        let len = batch.len();
        libfuzzer_mutate(&mut batch, max_size);
        batch.resize(len, 0);
        if !dice.one_in(10) {
            fix_crc(&mut batch);
        }
    }
    place.copy_from_slice(&batch);
}
