//! The shape table against `kafka-protocol`: filled requests of every key and version pass, damaged ones do not.
//! Owner: the test build.
//! Invariant: each field of each served request occurs here with a value.
//! Not here: hostile input at random (`tests/properties.rs`).

use super::*;
use crate::kafka::api::APIS;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

const ELEMENTS_MAX: u32 = 1000;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn encoded(request: &impl Encodable, version: i16) -> Vec<u8> {
    let mut frame = BytesMut::new();
    request.encode(&mut frame, version).unwrap();
    frame.to_vec()
}

/// A request with every field of `version` set and two elements in every array.
fn filled(key: i16, version: i16) -> Vec<u8> {
    match key {
        API_VERSIONS => {
            let mut request = ApiVersionsRequest::default();
            if version >= 3 {
                request.client_software_name = text("librdkafka");
                request.client_software_version = text("2.0.2");
            }
            encoded(&request, version)
        }
        METADATA => encoded(&metadata(version), version),
        LIST_OFFSETS => encoded(&list_offsets(version), version),
        FIND_COORDINATOR => encoded(&find_coordinator(version), version),
        JOIN_GROUP => encoded(&join_group(version), version),
        SYNC_GROUP => encoded(&sync_group(version), version),
        HEARTBEAT => {
            let mut request = HeartbeatRequest::default()
                .with_group_id(GroupId(text("g")))
                .with_generation_id(3)
                .with_member_id(text("m"));
            if version >= 3 {
                request.group_instance_id = Some(text("i"));
            }
            encoded(&request, version)
        }
        LEAVE_GROUP => encoded(&leave_group(version), version),
        OFFSET_COMMIT => encoded(&offset_commit(version), version),
        OFFSET_FETCH => encoded(&offset_fetch(version), version),
        INIT_PRODUCER_ID => {
            let mut request = InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(text("tx"))))
                .with_transaction_timeout_ms(60_000);
            if version >= 3 {
                request.producer_id = ProducerId(5);
                request.producer_epoch = 1;
            }
            encoded(&request, version)
        }
        CREATE_TOPICS => encoded(&create_topics(), version),
        DELETE_TOPICS => encoded(&delete_topics(version), version),
        DESCRIBE_CONFIGS => encoded(&describe_configs(version), version),
        _ => panic!("no request for key {key}"),
    }
}

fn metadata(version: i16) -> MetadataRequest {
    use metadata_request::MetadataRequestTopic;
    let topic = |name| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
    let mut request = MetadataRequest::default().with_topics(Some(vec![topic("a"), topic("b")]));
    request.allow_auto_topic_creation = version < 4 || version % 2 == 0;
    request.include_topic_authorized_operations = version >= 8;
    request
}

fn list_offsets(version: i16) -> ListOffsetsRequest {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition = |index| {
        let mut partition =
            ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-2);
        if version >= 4 {
            partition.current_leader_epoch = 6;
        }
        partition
    };
    let topic = |name| {
        ListOffsetsTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(vec![partition(0), partition(1)])
    };
    let mut request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic("a"), topic("b")]);
    if version >= 2 {
        request.isolation_level = 1;
    }
    if version >= 10 {
        request.timeout_ms = 5000;
    }
    request
}

fn find_coordinator(version: i16) -> FindCoordinatorRequest {
    let mut request = FindCoordinatorRequest::default();
    if version < 4 {
        request.key = text("group");
    } else {
        request.coordinator_keys = vec![text("group"), text("other")];
    }
    request
}

fn join_group(version: i16) -> JoinGroupRequest {
    use join_group_request::JoinGroupRequestProtocol;
    let protocol = |name| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(Bytes::from_static(b"subscription"))
    };
    let mut request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_session_timeout_ms(10_000)
        .with_member_id(text("m"))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")]);
    if version >= 1 {
        request.rebalance_timeout_ms = 30_000;
    }
    if version >= 5 {
        request.group_instance_id = Some(text("i"));
    }
    if version >= 8 {
        request.reason = Some(text("rejoin"));
    }
    request
}

fn sync_group(version: i16) -> SyncGroupRequest {
    use sync_group_request::SyncGroupRequestAssignment;
    let assignment = |member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::from_static(b"partitions"))
    };
    let mut request = SyncGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id(2)
        .with_member_id(text("m"))
        .with_assignments(vec![assignment("m"), assignment("n")]);
    if version >= 3 {
        request.group_instance_id = Some(text("i"));
    }
    if version >= 5 {
        request.protocol_type = Some(text("consumer"));
        request.protocol_name = Some(text("range"));
    }
    request
}

fn leave_group(version: i16) -> LeaveGroupRequest {
    use leave_group_request::MemberIdentity;
    let member = |name| {
        let mut member = MemberIdentity::default()
            .with_member_id(text(name))
            .with_group_instance_id(Some(text("i")));
        if version >= 5 {
            member.reason = Some(text("closed"));
        }
        member
    };
    let mut request = LeaveGroupRequest::default().with_group_id(GroupId(text("g")));
    if version < 3 {
        request.member_id = text("m");
    } else {
        request.members = vec![member("m"), member("n")];
    }
    request
}

fn offset_commit(version: i16) -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = |index| {
        let mut partition = OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(99)
            .with_committed_metadata(Some(text("note")));
        if version >= 6 {
            partition.committed_leader_epoch = 1;
        }
        partition
    };
    let topic = |name| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(vec![partition(0), partition(1)])
    };
    let mut request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(4)
        .with_member_id(text("m"))
        .with_topics(vec![topic("a"), topic("b")]);
    if version >= 7 {
        request.group_instance_id = Some(text("i"));
    }
    if version <= 4 {
        request.retention_time_ms = 1000;
    }
    request
}

fn offset_fetch(version: i16) -> OffsetFetchRequest {
    use offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        let topic = |name| {
            OffsetFetchRequestTopic::default()
                .with_name(TopicName(text(name)))
                .with_partition_indexes(vec![0, 1])
        };
        request.group_id = GroupId(text("g"));
        request.topics = Some(vec![topic("a"), topic("b")]);
    } else {
        let topic = |name| {
            OffsetFetchRequestTopics::default()
                .with_name(TopicName(text(name)))
                .with_partition_indexes(vec![0, 1])
        };
        let group = |name| {
            let mut group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text(name)))
                .with_topics(Some(vec![topic("a"), topic("b")]));
            if version >= 9 {
                group.member_id = Some(text("m"));
                group.member_epoch = 2;
            }
            group
        };
        request.groups = vec![group("g"), group("h")];
    }
    request.require_stable = version >= 7;
    request
}

fn create_topics() -> CreateTopicsRequest {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let assignment = |index| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(vec![BrokerId(1), BrokerId(2)])
    };
    let config = |name, value| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = |name| {
        CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(3)
            .with_replication_factor(1)
            .with_assignments(vec![assignment(0), assignment(1)])
            .with_configs(vec![config("retention.ms", "1"), config("segment.ms", "2")])
    };
    CreateTopicsRequest::default()
        .with_topics(vec![topic("a"), topic("b")])
        .with_timeout_ms(1000)
        .with_validate_only(true)
}

fn delete_topics(version: i16) -> DeleteTopicsRequest {
    use delete_topics_request::DeleteTopicState;
    let mut request = DeleteTopicsRequest::default().with_timeout_ms(1000);
    if version >= 6 {
        let topic = |name| DeleteTopicState::default().with_name(Some(TopicName(text(name))));
        request.topics = vec![topic("a"), topic("b")];
    } else {
        request.topic_names = vec![TopicName(text("a")), TopicName(text("b"))];
    }
    request
}

fn describe_configs(version: i16) -> DescribeConfigsRequest {
    use describe_configs_request::DescribeConfigsResource;
    let resource = |name| {
        DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(vec![text("retention.ms"), text("segment.ms")]))
    };
    let mut request = DescribeConfigsRequest::default()
        .with_resources(vec![resource("a"), resource("b")])
        .with_include_synonyms(true);
    request.include_documentation = version >= 3;
    request
}

fn cold() -> impl Iterator<Item = (i16, i16)> {
    APIS.iter()
        .filter(|api| fields_of(api.key).is_some())
        .flat_map(|api| (api.min..=api.max).map(|version| (api.key, version)))
}

#[test]
fn filled_requests_of_every_cold_api_and_version_pass_and_no_part_of_them_does() {
    assert_eq!(cold().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>().len(), 14);
    for (key, version) in cold() {
        let mut frame = filled(key, version);
        let at = format!("key {key} v{version}");
        assert_eq!(check_shape(&frame, 0, key, version, ELEMENTS_MAX), Ok(()), "{at}");
        for cut in 0..frame.len() {
            let cut_off = check_shape(&frame[..cut], 0, key, version, ELEMENTS_MAX);
            assert!(cut_off.is_err(), "{at} cut {cut}");
        }
        frame.push(0);
        let left_over = check_shape(&frame, 0, key, version, ELEMENTS_MAX);
        assert!(matches!(left_over, Err(DecodeError::LeftOver { remaining: 1, .. })), "{at}");
    }
}

#[test]
fn default_requests_with_nulls_and_empty_lists_pass() {
    for version in 0..=13 {
        let request = MetadataRequest::default().with_topics((version >= 1).then_some(vec![]));
        assert_eq!(check_shape(&encoded(&request, version), 0, METADATA, version, 0), Ok(()));
    }
    for version in 1..=9 {
        let all =
            OffsetFetchRequest::default().with_topics((!(2..=7).contains(&version)).then(Vec::new));
        let frame = encoded(&all, version);
        assert_eq!(check_shape(&frame, 0, OFFSET_FETCH, version, 0), Ok(()), "v{version}");
    }
}

#[test]
fn thirteen_bytes_that_abort_a_trusting_decoder_are_refused() {
    // Metadata v12: header v2 of 11 bytes with null client id, then 2^31 topics.
    let metadata = [0xFF, 0xFF, 0xFF, 0xFF, 0x07];
    let error = check_shape(&metadata, 0, METADATA, 12, ELEMENTS_MAX).unwrap_err();
    assert!(matches!(error, DecodeError::Count { count: 2_147_483_646, .. }), "{error}");
    let old = [0x7F, 0xFF, 0xFF, 0xFF];
    assert!(check_shape(&old, 0, METADATA, 1, ELEMENTS_MAX).is_err());
}

#[test]
fn a_count_of_records_allocates_nothing() {
    // record_count = i32::MAX in 61 bytes: the third frame that aborts a trusting decoder.
    let mut batch = vec![0; 61];
    batch[8..12].copy_from_slice(&49i32.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crate::crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let view = crate::batch::RecordBatchView::parse(&batch).unwrap();
    let first = view.records().next().unwrap();
    assert!(first.is_err(), "no bytes, no record");
}

#[test]
fn elements_over_all_levels_are_bounded() {
    let frame = filled(LIST_OFFSETS, 9);
    // Two topics with two partitions each.
    assert_eq!(check_shape(&frame, 0, LIST_OFFSETS, 9, 6), Ok(()));
    let error = check_shape(&frame, 0, LIST_OFFSETS, 9, 5).unwrap_err();
    assert!(matches!(error, DecodeError::Elements { limit: 5, .. }), "{error}");
}

#[test]
fn what_passes_decodes_to_what_was_encoded() {
    for version in 0..=13 {
        let request = metadata(version);
        let frame = encoded(&request, version);
        check_shape(&frame, 0, METADATA, version, ELEMENTS_MAX).unwrap();
        let decoded = MetadataRequest::decode(&mut Bytes::from(frame), version).unwrap();
        assert_eq!(decoded.topics, request.topics);
    }
}
