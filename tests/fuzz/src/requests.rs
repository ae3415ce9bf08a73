//! Sound Kafka requests of every API and version served, their damage, and what reads them back.
//! Owner: the Kafka targets.
//! Invariant: what `any_request` makes, a broker that serves the version must be able to read.
//! Not here: what a broker answers (the targets).

use crate::node::{TOPICS, WALL_MS, topic_id, topic_uuid};
use crate::{Dice, give_back, libfuzzer_mutate};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    self as theirs, BrokerId, GroupId, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::compression::Codec;
use ringway_wire::crc32c::crc32c;
use ringway_wire::kafka::api::{self, APIS, Api};

/// Calls `$each!` with the message of every API that is decoded by `kafka-protocol`.
#[macro_export]
macro_rules! for_message {
    ($key:expr, $each:ident) => {
        match $key {
            api::PRODUCE => $each!(ProduceRequest, ProduceResponse),
            api::FETCH => $each!(FetchRequest, FetchResponse),
            api::LIST_OFFSETS => $each!(ListOffsetsRequest, ListOffsetsResponse),
            api::METADATA => $each!(MetadataRequest, MetadataResponse),
            api::OFFSET_COMMIT => $each!(OffsetCommitRequest, OffsetCommitResponse),
            api::OFFSET_FETCH => $each!(OffsetFetchRequest, OffsetFetchResponse),
            api::FIND_COORDINATOR => $each!(FindCoordinatorRequest, FindCoordinatorResponse),
            api::JOIN_GROUP => $each!(JoinGroupRequest, JoinGroupResponse),
            api::HEARTBEAT => $each!(HeartbeatRequest, HeartbeatResponse),
            api::LEAVE_GROUP => $each!(LeaveGroupRequest, LeaveGroupResponse),
            api::SYNC_GROUP => $each!(SyncGroupRequest, SyncGroupResponse),
            api::API_VERSIONS => $each!(ApiVersionsRequest, ApiVersionsResponse),
            api::CREATE_TOPICS => $each!(CreateTopicsRequest, CreateTopicsResponse),
            api::DELETE_TOPICS => $each!(DeleteTopicsRequest, DeleteTopicsResponse),
            api::INIT_PRODUCER_ID => $each!(InitProducerIdRequest, InitProducerIdResponse),
            api::DESCRIBE_CONFIGS => $each!(DescribeConfigsRequest, DescribeConfigsResponse),
            key => panic!("API {key} is served and no target knows it"),
        }
    };
}

/// What `kafka-protocol` makes of a request's body: bytes it leaves over and the body written anew.
pub fn reread_request(key: i16, version: i16, body: &[u8]) -> Option<(usize, Bytes)> {
    let mut left = Bytes::copy_from_slice(body);
    macro_rules! reread {
        ($request:ident, $response:ident) => {{
            let request = theirs::$request::decode(&mut left, version).ok()?;
            let mut again = BytesMut::new();
            request.encode(&mut again, version).ok()?;
            Some((left.len(), again.freeze()))
        }};
    }
    for_message!(key, reread)
}

/// Reads an answer, size field left out; panics unless it is one to `key` at `version`, byte by byte.
/// Returns its correlation.
pub fn check_response(key: i16, version: i16, frame: &[u8]) -> i32 {
    let mut left = Bytes::copy_from_slice(frame);
    macro_rules! read {
        ($request:ident, $response:ident) => {{
            use kafka_protocol::protocol::HeaderVersion;
            let header = theirs::$response::header_version(version);
            let header =
                theirs::ResponseHeader::decode(&mut left, header).expect("head of an answer");
            if let Err(error) = theirs::$response::decode(&mut left, version) {
                panic!("API {key} v{version}: unreadable answer: {error}");
            }
            assert_eq!(left.len(), 0, "API {key} v{version}: bytes behind the answer");
            header.correlation_id
        }};
    }
    for_message!(key, read)
}

/// A request frame with its size.
pub fn frame(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let flexible = Api::of(key).is_some_and(|api| api.is_flexible(version));
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&[0; 4]);
    theirs::RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text("fuzz")))
        .encode(&mut frame, if flexible { 2 } else { 1 })
        .expect("a header");
    frame.extend_from_slice(body);
    let mut frame = frame.to_vec();
    fix_size(&mut frame);
    frame
}

/// Makes the size field say how much follows.
pub fn fix_size(frame: &mut [u8]) {
    let size = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
}

/// Splits a stream into whole frames with their sizes; what is left over is the last piece.
pub fn frames(stream: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut frames) = (stream, Vec::new());
    while let Some(size) = rest.first_chunk() {
        let whole = 4 + u32::from_be_bytes(*size) as usize;
        if whole > rest.len() {
            break;
        }
        let (frame, behind) = rest.split_at(whole);
        frames.push(frame);
        rest = behind;
    }
    if !rest.is_empty() {
        frames.push(rest);
    }
    frames
}

/// A sound request of one API, any version or a given one.
pub fn any_request(dice: &mut Dice) -> Vec<u8> {
    let api = dice.pick(APIS);
    let version = api.min + dice.below((api.max - api.min + 1) as usize) as i16;
    request(dice, api.key, version)
}

/// A sound request.
pub fn request(dice: &mut Dice, key: i16, version: i16) -> Vec<u8> {
    let mut body = BytesMut::new();
    if encode(dice, key, version, &mut body).is_none() {
        // A field that this version lacks.
        body.clear();
        macro_rules! default {
            ($request:ident, $response:ident) => {
                theirs::$request::default().encode(&mut body, version).expect("a default request")
            };
        }
        for_message!(key, default);
    }
    frame(key, version, dice.next() as i32, &body)
}

fn encode(dice: &mut Dice, key: i16, version: i16, body: &mut BytesMut) -> Option<()> {
    let done = match key {
        api::PRODUCE => produce(dice, version).encode(body, version),
        api::FETCH => fetch(dice, version).encode(body, version),
        api::LIST_OFFSETS => list_offsets(dice).encode(body, version),
        api::METADATA => metadata(dice, version).encode(body, version),
        api::OFFSET_COMMIT => offset_commit(dice, version).encode(body, version),
        api::OFFSET_FETCH => offset_fetch(dice, version).encode(body, version),
        api::FIND_COORDINATOR => find_coordinator(dice, version).encode(body, version),
        api::JOIN_GROUP => join_group(dice).encode(body, version),
        api::HEARTBEAT => theirs::HeartbeatRequest::default()
            .with_group_id(group(dice))
            .with_generation_id(dice.below(3) as i32)
            .with_member_id(member(dice))
            .encode(body, version),
        api::LEAVE_GROUP => leave_group(dice, version).encode(body, version),
        api::SYNC_GROUP => sync_group(dice, version).encode(body, version),
        api::API_VERSIONS => api_versions(version).encode(body, version),
        api::CREATE_TOPICS => create_topics(dice).encode(body, version),
        api::DELETE_TOPICS => delete_topics(dice, version).encode(body, version),
        api::INIT_PRODUCER_ID => init_producer_id(dice, version).encode(body, version),
        api::DESCRIBE_CONFIGS => describe_configs(dice).encode(body, version),
        key => panic!("API {key} has no generator"),
    };
    done.ok()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(dice: &mut Dice) -> GroupId {
    GroupId(text(dice.pick(&["g", "h", "", "a group with a longer name"])))
}

fn member(dice: &mut Dice) -> StrBytes {
    text(dice.pick(&["", "m", "fuzz-1"]))
}

fn optional(dice: &mut Dice, words: &[&'static str]) -> Option<StrBytes> {
    (!dice.one_in(3)).then(|| text(dice.pick(words)))
}

/// A topic there is, mostly: name and Kafka's id.
fn topic(dice: &mut Dice) -> (TopicName, uuid::Uuid) {
    let place = dice.below(TOPICS.len() + 1);
    let name = TOPICS.get(place).map_or("unknown", |topic| topic.0);
    (TopicName(text(name)), uuid::Uuid::from_bytes(topic_uuid(topic_id(place))))
}

/// Mostly one or more: what is empty reaches little.
fn many<T>(dice: &mut Dice, max: usize, mut one: impl FnMut(&mut Dice) -> T) -> Vec<T> {
    let count = if dice.one_in(8) { 0 } else { 1 + dice.below(max) };
    (0..count).map(|_| one(dice)).collect()
}

fn partition(dice: &mut Dice) -> i32 {
    dice.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2, -1, i32::MAX])
}

/// A Produce request of a few batches, some of them damaged.
pub fn produce(dice: &mut Dice, version: i16) -> theirs::ProduceRequest {
    use theirs::produce_request::{PartitionProduceData, TopicProduceData};
    let topics = many(dice, 2, |dice| {
        let (name, id) = topic(dice);
        let parts = many(dice, 2, |dice| {
            let records = batch(dice);
            let records = (!dice.one_in(16)).then(|| Bytes::from(records));
            PartitionProduceData::default().with_index(partition(dice)).with_records(records)
        });
        let topic = TopicProduceData::default().with_partition_data(parts);
        if version >= 13 { topic.with_topic_id(id) } else { topic.with_name(name) }
    });
    let transactional = dice.one_in(16).then(|| TransactionalId(text("t")));
    theirs::ProduceRequest::default()
        .with_transactional_id(transactional)
        .with_acks(dice.pick(&[-1, -1, -1, -1, 1, 1, 1, 0, 2]))
        .with_timeout_ms(dice.pick(&[1000, 1000, 1000, 1000, 0, -1, i32::MAX]))
        .with_topic_data(topics)
}

/// A batch as a producer sends it; one in four has a field that is wrong, its checksum being right.
pub fn batch(dice: &mut Dice) -> Vec<u8> {
    let codec =
        dice.pick(&[Codec::None, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]);
    let mut options = BatchOptions { codec, ..BatchOptions::default() };
    if dice.one_in(3) {
        options.producer_id = dice.pick(&[1000, 1001]);
        options.producer_epoch = dice.pick(&[0, 0, 1]);
        options.base_sequence = dice.below(4) as i32;
    }
    let mut writer = BatchWriter::new(options);
    for n in 0..1 + dice.below(4) {
        let len = dice.pick(&[0, 3, 40, 200]);
        let value = dice.bytes(len);
        let key = (!dice.one_in(4)).then_some(b"key".as_slice());
        let header: (&[u8], Option<&[u8]>) = (b"h", Some(b"1"));
        let headers = [header];
        let headers = &headers[..dice.below(2)];
        writer.push(WALL_MS + n as i64, key, Some(&value), headers).expect("a small record");
    }
    writer.finish().expect("at least one record");
    let mut batch = writer.batch().to_vec();
    if dice.one_in(4) {
        damage_batch(&mut batch, dice);
    }
    batch
}

/// Changes one field of a batch to a value that means something; mostly with a checksum to fit.
pub fn damage_batch(batch: &mut Vec<u8>, dice: &mut Dice) {
    if batch.len() < 61 {
        return;
    }
    match dice.below(10) {
        0 => batch[16] = dice.pick(&[0, 1, 2, 3]),
        1 => batch[22] = dice.next() as u8,
        2 => batch[23..27].copy_from_slice(&edge(dice).to_be_bytes()),
        3 => batch[57..61].copy_from_slice(&edge(dice).to_be_bytes()),
        4 => batch[8..12].copy_from_slice(&edge(dice).to_be_bytes()),
        5 => {
            let time = dice.pick(&[-1, 0, WALL_MS + 3_600_001, i64::MAX, i64::MIN]);
            let at = dice.pick(&[27, 35]);
            batch[at..at + 8].copy_from_slice(&time.to_be_bytes());
        }
        6 => batch[43..51].copy_from_slice(&i64::from(edge(dice)).to_be_bytes()),
        7 => batch[51..53].copy_from_slice(&(edge(dice) as i16).to_be_bytes()),
        8 => batch[53..57].copy_from_slice(&edge(dice).to_be_bytes()),
        _ => batch[..8].copy_from_slice(&i64::from(edge(dice)).to_be_bytes()),
    }
    if !dice.one_in(10) {
        fix_crc(batch);
    }
}

/// Makes the checksum fit.
pub fn fix_crc(batch: &mut [u8]) {
    if batch.len() >= 61 {
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn edge(dice: &mut Dice) -> i32 {
    dice.pick(&[-1, 0, 1, 2, 3, 4, 100, 1000, i32::MAX, i32::MIN])
}

fn fetch(dice: &mut Dice, version: i16) -> theirs::FetchRequest {
    use theirs::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    let topics = many(dice, 3, |dice| {
        let (name, id) = topic(dice);
        let parts = many(dice, 2, |dice| {
            let part = FetchPartition::default()
                .with_partition(partition(dice))
                .with_fetch_offset(dice.pick(&[0, 0, 1, 5, -1, i64::MAX]))
                .with_partition_max_bytes(dice.pick(&[1 << 20, 0, -1, i32::MAX]));
            if version >= 9 {
                part.with_current_leader_epoch(dice.pick(&[-1, 0, 1, 9]))
            } else {
                part
            }
        });
        let topic = FetchTopic::default().with_partitions(parts);
        if version >= 13 { topic.with_topic_id(id) } else { topic.with_topic(name) }
    });
    let request = theirs::FetchRequest::default()
        .with_max_wait_ms(dice.pick(&[0, 0, 0, 100, -1, 60_000, i32::MAX]))
        .with_min_bytes(dice.pick(&[0, 1, 1, 1 << 20, -1]))
        .with_max_bytes(dice.pick(&[1 << 20, 0, i32::MAX]))
        .with_isolation_level(dice.pick(&[0, 1]))
        .with_topics(topics);
    if version < 7 {
        return request;
    }
    let forgotten = many(dice, 1, |dice| {
        let (name, id) = topic(dice);
        let forgotten = ForgottenTopic::default().with_partitions(many(dice, 2, partition));
        if version >= 13 { forgotten.with_topic_id(id) } else { forgotten.with_topic(name) }
    });
    request
        .with_session_id(dice.pick(&[0, 0, 1]))
        .with_session_epoch(dice.pick(&[-1, -1, 0, 1]))
        .with_forgotten_topics_data(forgotten)
}

fn list_offsets(dice: &mut Dice) -> theirs::ListOffsetsRequest {
    use theirs::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let topics = many(dice, 2, |dice| {
        let parts = many(dice, 2, |dice| {
            let times = [-1, -2, -3, -4, -5, -9, 0, WALL_MS, i64::MAX];
            let part = ListOffsetsPartition::default().with_partition_index(partition(dice));
            part.with_timestamp(dice.pick(&times))
        });
        ListOffsetsTopic::default().with_name(topic(dice).0).with_partitions(parts)
    });
    theirs::ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics)
}

fn metadata(dice: &mut Dice, version: i16) -> theirs::MetadataRequest {
    use theirs::metadata_request::MetadataRequestTopic;
    let topics = many(dice, 3, |dice| {
        let (name, id) = topic(dice);
        let topic = MetadataRequestTopic::default().with_name(Some(name));
        if version >= 12 && dice.one_in(2) {
            return topic.with_name(None).with_topic_id(id);
        }
        topic
    });
    let none = version > 0 && dice.one_in(3);
    let request = theirs::MetadataRequest::default().with_topics((!none).then_some(topics));
    if version >= 4 { request.with_allow_auto_topic_creation(dice.one_in(2)) } else { request }
}

fn offset_commit(dice: &mut Dice, version: i16) -> theirs::OffsetCommitRequest {
    use theirs::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let topics = many(dice, 2, |dice| {
        let parts = many(dice, 2, |dice| {
            let part = OffsetCommitRequestPartition::default()
                .with_partition_index(partition(dice))
                .with_committed_offset(dice.pick(&[0, 1, -1, i64::MAX]))
                .with_committed_metadata(optional(dice, &["", "note"]));
            if version >= 6 {
                part.with_committed_leader_epoch(dice.pick(&[-1, 0, 7]))
            } else {
                part
            }
        });
        OffsetCommitRequestTopic::default().with_name(topic(dice).0).with_partitions(parts)
    });
    theirs::OffsetCommitRequest::default()
        .with_group_id(group(dice))
        .with_generation_id_or_member_epoch(dice.pick(&[-1, -1, 0, 1]))
        .with_member_id(member(dice))
        .with_topics(topics)
}

fn offset_fetch(dice: &mut Dice, version: i16) -> theirs::OffsetFetchRequest {
    use theirs::offset_fetch_request as parts;
    let request = theirs::OffsetFetchRequest::default();
    if version >= 8 {
        let groups = many(dice, 2, |dice| {
            let topics = many(dice, 2, |dice| {
                let partitions = many(dice, 2, partition);
                parts::OffsetFetchRequestTopics::default()
                    .with_name(topic(dice).0)
                    .with_partition_indexes(partitions)
            });
            let topics = (!dice.one_in(3)).then_some(topics);
            parts::OffsetFetchRequestGroup::default().with_group_id(group(dice)).with_topics(topics)
        });
        return request.with_groups(groups);
    }
    let topics = many(dice, 2, |dice| {
        let partitions = many(dice, 2, partition);
        let topic = parts::OffsetFetchRequestTopic::default().with_name(topic(dice).0);
        topic.with_partition_indexes(partitions)
    });
    let all = version >= 2 && dice.one_in(3);
    request.with_group_id(group(dice)).with_topics((!all).then_some(topics))
}

fn find_coordinator(dice: &mut Dice, version: i16) -> theirs::FindCoordinatorRequest {
    let request = theirs::FindCoordinatorRequest::default();
    let request = if version >= 4 {
        request.with_coordinator_keys(many(dice, 3, |dice| group(dice).0))
    } else {
        request.with_key(group(dice).0)
    };
    if version >= 1 { request.with_key_type(dice.pick(&[0, 0, 1, 2])) } else { request }
}

fn join_group(dice: &mut Dice) -> theirs::JoinGroupRequest {
    use theirs::join_group_request::JoinGroupRequestProtocol;
    let protocols = many(dice, 2, |dice| {
        let metadata = Bytes::from(dice.bytes(3));
        let name = text(dice.pick(&["range", "sticky"]));
        JoinGroupRequestProtocol::default().with_name(name).with_metadata(metadata)
    });
    theirs::JoinGroupRequest::default()
        .with_group_id(group(dice))
        .with_session_timeout_ms(dice.pick(&[10_000, 10_000, 0, i32::MAX]))
        .with_rebalance_timeout_ms(dice.pick(&[-1, 100, 100, i32::MAX]))
        .with_member_id(member(dice))
        .with_protocol_type(text(dice.pick(&["consumer", "consumer", "connect", ""])))
        .with_protocols(protocols)
}

fn sync_group(dice: &mut Dice, version: i16) -> theirs::SyncGroupRequest {
    use theirs::sync_group_request::SyncGroupRequestAssignment;
    let assignments = many(dice, 2, |dice| {
        let assignment = Bytes::from(dice.bytes(4));
        SyncGroupRequestAssignment::default()
            .with_member_id(member(dice))
            .with_assignment(assignment)
    });
    let request = theirs::SyncGroupRequest::default()
        .with_group_id(group(dice))
        .with_generation_id(dice.below(3) as i32)
        .with_member_id(member(dice))
        .with_assignments(assignments);
    if version < 5 {
        return request;
    }
    let (kind, name) = (optional(dice, &["consumer"]), optional(dice, &["range"]));
    request.with_protocol_type(kind).with_protocol_name(name)
}

fn leave_group(dice: &mut Dice, version: i16) -> theirs::LeaveGroupRequest {
    use theirs::leave_group_request::MemberIdentity;
    let request = theirs::LeaveGroupRequest::default().with_group_id(group(dice));
    if version >= 3 {
        let members = many(dice, 2, |dice| MemberIdentity::default().with_member_id(member(dice)));
        return request.with_members(members);
    }
    request.with_member_id(member(dice))
}

fn api_versions(version: i16) -> theirs::ApiVersionsRequest {
    let request = theirs::ApiVersionsRequest::default();
    if version < 3 {
        return request;
    }
    request.with_client_software_name(text("fuzz")).with_client_software_version(text("1"))
}

fn create_topics(dice: &mut Dice) -> theirs::CreateTopicsRequest {
    use theirs::create_topics_request as parts;
    let topics = many(dice, 2, |dice| {
        let assignments = if dice.one_in(4) {
            many(dice, 2, |dice| {
                let brokers = many(dice, 2, |dice| BrokerId(partition(dice)));
                let index = partition(dice);
                parts::CreatableReplicaAssignment::default()
                    .with_partition_index(index)
                    .with_broker_ids(brokers)
            })
        } else {
            Vec::new()
        };
        let configs = many(dice, 2, |dice| {
            let name = dice.pick(&["retention.ms", "cleanup.policy", "segment.bytes", "no.such"]);
            let value = optional(dice, &["1", "-1", "compact", "99999999999999999999"]);
            parts::CreatableTopicConfig::default().with_name(text(name)).with_value(value)
        });
        let name = dice.pick(&["new", "newer", "events", "", "no/such", ".."]);
        parts::CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(dice.pick(&[1, 1, 2, -1, 0, i32::MAX]))
            .with_replication_factor(dice.pick(&[1, 1, -1, 3]))
            .with_assignments(assignments)
            .with_configs(configs)
    });
    let validate_only = dice.one_in(4);
    theirs::CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000)
        .with_validate_only(validate_only)
}

fn delete_topics(dice: &mut Dice, version: i16) -> theirs::DeleteTopicsRequest {
    use theirs::delete_topics_request::DeleteTopicState;
    let request = theirs::DeleteTopicsRequest::default().with_timeout_ms(1000);
    if version < 6 {
        return request.with_topic_names(many(dice, 2, |dice| topic(dice).0));
    }
    request.with_topics(many(dice, 2, |dice| {
        let (name, id) = topic(dice);
        let state = DeleteTopicState::default();
        if dice.one_in(2) {
            state.with_name(Some(name))
        } else {
            state.with_name(None).with_topic_id(id)
        }
    }))
}

fn init_producer_id(dice: &mut Dice, version: i16) -> theirs::InitProducerIdRequest {
    let transactional = dice.one_in(8).then(|| TransactionalId(text("t")));
    let request = theirs::InitProducerIdRequest::default()
        .with_transactional_id(transactional)
        .with_transaction_timeout_ms(1000);
    if version < 3 {
        return request;
    }
    let id = dice.pick(&[-1, -1, 1000, 1001, i64::MAX]);
    request.with_producer_id(ProducerId(id)).with_producer_epoch(dice.pick(&[-1, -1, 0, i16::MAX]))
}

fn describe_configs(dice: &mut Dice) -> theirs::DescribeConfigsRequest {
    use theirs::describe_configs_request::DescribeConfigsResource;
    let resources = many(dice, 2, |dice| {
        let names = many(dice, 2, |dice| text(dice.pick(&["retention.ms", "num.partitions", "x"])));
        let keys = (!dice.one_in(2)).then_some(names);
        DescribeConfigsResource::default()
            .with_resource_type(dice.pick(&[2, 2, 4, 0, 9]))
            .with_resource_name(text(dice.pick(&["events", "0", "none"])))
            .with_configuration_keys(keys)
    });
    theirs::DescribeConfigsRequest::default().with_resources(resources)
}

/// Damages one frame: a count, a cut, a doubled or exchanged stretch, another version or API.
pub fn damage_frame(frame: &mut Vec<u8>, dice: &mut Dice) {
    const COUNTS: [[u8; 4]; 7] = [
        [0, 0, 0, 1],
        [0, 0, 0, 2],
        [0x7F, 0xFF, 0xFF, 0xFF],
        [0xFF; 4],
        [0xFF, 0xFF, 0xFF, 0x07],
        [3, 2, 1, 0],
        [0x80, 0, 0, 0],
    ];
    if frame.len() < 16 {
        return;
    }
    let at = 12 + dice.below(frame.len() - 12);
    let len = (1 + dice.below(8)).min(frame.len() - at);
    match dice.below(7) {
        0 if at + 4 <= frame.len() => frame[at..at + 4].copy_from_slice(&dice.pick(&COUNTS)),
        0 | 1 => frame[at] = dice.pick(&[0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF]),
        2 => drop(frame.drain(at..at + len)),
        3 => {
            let stretch = frame[at..at + len].to_vec();
            frame.splice(at..at, stretch);
        }
        4 => {
            let other = 12 + dice.below(frame.len() - 12);
            let len = len.min(frame.len() - other);
            for n in 0..len {
                frame.swap(at + n, other + n);
            }
        }
        5 => {
            let version = i16::from_be_bytes([frame[6], frame[7]]);
            let version = version.wrapping_add(dice.pick(&[-1, 1, 1, 5]));
            frame[6..8].copy_from_slice(&version.to_be_bytes());
        }
        _ => {
            let api = dice.pick(APIS);
            frame[4..6].copy_from_slice(&api.key.to_be_bytes());
            let version = dice.pick(&[api.min, api.max, api.flexible_from]);
            frame[6..8].copy_from_slice(&version.to_be_bytes());
        }
    }
    if !dice.one_in(10) {
        fix_size(frame);
    }
}

/// A mutator of connections: one byte that says how to cut, then frames. `change` gets the frames, never none,
/// and the place of one of them; `fresh` makes a sound one.
pub fn mutate_frames(
    (data, size, max_size, seed): (&mut [u8], usize, usize, u32),
    fresh: impl Fn(&mut Dice) -> Vec<u8>,
    change: impl FnOnce(&mut Vec<Vec<u8>>, usize, &mut Dice),
) -> usize {
    let mut dice = Dice::new(seed);
    let (cut, stream) = data[..size].split_first().map_or((0, &[][..]), |(cut, rest)| (*cut, rest));
    let mut all: Vec<Vec<u8>> = frames(stream).iter().map(|frame| frame.to_vec()).collect();
    if all.is_empty() {
        all.push(fresh(&mut dice));
    } else {
        let at = dice.below(all.len());
        change(&mut all, at, &mut dice);
    }
    let cut = if dice.one_in(8) { dice.pick(&[0, 1, 5, 40, 255]) } else { cut };
    let mut changed = [vec![cut], all.concat()].concat();
    if changed.len() > max_size {
        // A cut frame would be damage of its own; start small again.
        changed = [vec![cut], fresh(&mut dice)].concat();
    }
    give_back(&changed, data, max_size)
}

/// Lets libFuzzer change a frame behind its first `head` bytes.
pub fn mutate_body(frame: &mut Vec<u8>, head: usize, dice: &mut Dice, max_size: usize) {
    let mut body = frame.split_off(frame.len().min(head));
    libfuzzer_mutate(&mut body, max_size);
    frame.extend(body);
    if frame.len() >= 4 && !dice.one_in(10) {
        fix_size(frame);
    }
}
