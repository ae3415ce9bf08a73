//! Requests are read back, and replies made, by `kafka-protocol`: an encoder not ours.

use super::*;
use bytes::Bytes;
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ringway_wire::error_code::ErrorCode;

fn session() -> KafkaSession {
    KafkaSession::new("test-client")
}

/// Splits off one request and checks its header.
fn open(out: &[u8], key: i16, version: i16, flexible: bool) -> Bytes {
    let length = i32::from_be_bytes(out[..4].try_into().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), out.len() - 4, "one whole frame");
    let mut bytes = Bytes::copy_from_slice(&out[4..]);
    let header = kp::RequestHeader::decode(&mut bytes, if flexible { 2 } else { 1 }).unwrap();
    assert_eq!((header.request_api_key, header.request_api_version), (key, version));
    assert_eq!(header.client_id.unwrap().as_str(), "test-client");
    bytes
}

fn frame(correlation: i32, body: &impl Encodable, version: i16, header_tags: bool) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&correlation.to_be_bytes());
    if header_tags {
        frame.push(0);
    }
    body.encode(&mut frame, version).unwrap();
    let length = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Feeds a frame byte by byte: nothing may come before its last one.
fn answer(session: &mut KafkaSession, frame: &[u8]) -> KafkaReply {
    let (last, first) = frame.split_last().unwrap();
    for byte in first {
        session.receive(&[*byte]);
        assert_eq!(session.next_reply(), Ok(None));
    }
    session.receive(&[*last]);
    let reply = session.next_reply().unwrap().unwrap();
    assert_eq!(session.next_reply(), Ok(None));
    assert_eq!(session.in_flight(), 0);
    reply
}

fn name(name: &'static str) -> kp::TopicName {
    kp::TopicName(StrBytes::from_static_str(name))
}

#[test]
fn produce_reads_back_and_its_answer_names_the_offset() {
    let mut session = session();
    let mut out = Vec::new();
    let request =
        ProduceRequest { topic: "t", partition: 3, acks: -1, timeout_ms: 1500, batch: &[7; 300] };
    let correlation = session.produce(&mut out, &request).unwrap();
    let mut bytes = open(&out, 0, 9, true);
    let read = kp::ProduceRequest::decode(&mut bytes, 9).unwrap();
    assert!(bytes.is_empty());
    assert_eq!((read.acks, read.timeout_ms), (-1, 1500));
    let part = &read.topic_data[0].partition_data[0];
    assert_eq!((read.topic_data[0].name.as_str(), part.index), ("t", 3));
    assert_eq!(part.records.as_deref(), Some(&[7; 300][..]));

    use kp::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    let part = PartitionProduceResponse::default().with_index(3).with_base_offset(912);
    let topic =
        TopicProduceResponse::default().with_name(name("t")).with_partition_responses(vec![part]);
    let body = kp::ProduceResponse::default().with_responses(vec![topic]);
    let reply = answer(&mut session, &frame(correlation, &body, 9, true));
    let error = ErrorCode::None;
    let wanted =
        KafkaReply::Produced { correlation, partition: 3, error, base_offset: 912, message: None };
    assert_eq!(reply, wanted);
}

#[test]
fn produce_without_acks_awaits_nothing() {
    let mut session = session();
    let request =
        ProduceRequest { topic: "t", partition: 0, acks: 0, timeout_ms: 1, batch: &[1; 61] };
    session.produce(&mut Vec::new(), &request).unwrap();
    assert_eq!(session.in_flight(), 0);
}

#[test]
fn fetch_reads_back_in_both_versions() {
    for version_11 in [false, true] {
        let version = if version_11 { 11 } else { 12 };
        let mut session = session();
        let mut out = Vec::new();
        let part =
            |topic, partition| FetchPart { topic, partition, offset: 40, bytes_max: 1 << 20 };
        let parts = [part("a", 0), part("a", 2), part("b", 1)];
        let request = FetchRequest {
            wait_ms_max: 500,
            bytes_min: 1,
            bytes_max: 1 << 24,
            version_11,
            parts: &parts,
        };
        let correlation = session.fetch(&mut out, &request).unwrap();
        let mut bytes = open(&out, 1, version, !version_11);
        let read = kp::FetchRequest::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty());
        assert_eq!((read.max_wait_ms, read.min_bytes, read.max_bytes), (500, 1, 1 << 24));
        assert_eq!((read.replica_id, read.session_epoch), (kp::BrokerId(-1), -1));
        let seen: Vec<(String, Vec<i32>)> = read
            .topics
            .iter()
            .map(|t| (t.topic.to_string(), t.partitions.iter().map(|p| p.partition).collect()))
            .collect();
        assert_eq!(seen, [("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![1])]);
        assert_eq!(read.topics[1].partitions[0].fetch_offset, 40);

        use kp::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
        let data = PartitionData::default()
            .with_partition_index(1)
            .with_high_watermark(44)
            .with_log_start_offset(4)
            .with_aborted_transactions(Some(vec![AbortedTransaction::default()]))
            .with_records(Some(Bytes::from_static(b"batches")));
        let topic = FetchableTopicResponse::default()
            .with_topic(name("b"))
            .with_partitions(vec![data.clone(), data.with_records(None).with_partition_index(2)]);
        let body = kp::FetchResponse::default().with_responses(vec![topic]);
        let frame = frame(correlation, &body, version, !version_11);
        let KafkaReply::Fetched { error, parts, .. } = answer(&mut session, &frame) else {
            panic!("not a fetch reply")
        };
        assert_eq!(error, ErrorCode::None);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].topic.as_str(), parts[0].partition), ("b", 1));
        assert_eq!((parts[0].high_watermark, parts[0].log_start), (44, 4));
        assert_eq!(&parts[0].records[..], b"batches");
        assert!(parts[1].records.is_empty());
    }
}

#[test]
fn metadata_answer_lists_brokers_and_partitions() {
    let mut session = session();
    let mut out = Vec::new();
    let correlation = session.metadata(&mut out, Some(&["t"]), true).unwrap();
    let read = kp::MetadataRequest::decode(&mut open(&out, 3, 12, true), 12).unwrap();
    assert!(read.allow_auto_topic_creation);
    assert_eq!(read.topics.unwrap()[0].name.as_ref().unwrap().as_str(), "t");

    use kp::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    let broker = MetadataResponseBroker::default()
        .with_node_id(kp::BrokerId(1024))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(19092);
    let part = MetadataResponsePartition::default()
        .with_leader_id(kp::BrokerId(1024))
        .with_leader_epoch(5)
        .with_replica_nodes(vec![kp::BrokerId(1024)]);
    let topic =
        MetadataResponseTopic::default().with_name(Some(name("t"))).with_partitions(vec![part]);
    let body = kp::MetadataResponse::default()
        .with_controller_id(kp::BrokerId(1024))
        .with_brokers(vec![broker])
        .with_topics(vec![topic]);
    let reply = answer(&mut session, &frame(correlation, &body, 12, true));
    let KafkaReply::Metadata { brokers, controller, topics, .. } = reply else {
        panic!("not metadata")
    };
    assert_eq!(brokers, [Broker { id: 1024, host: "127.0.0.1".into(), port: 19092 }]);
    assert_eq!((controller, topics[0].name.as_str()), (1024, "t"));
    let wanted =
        PartitionMetadata { error: ErrorCode::None, index: 0, leader: 1024, leader_epoch: 5 };
    assert_eq!(topics[0].partitions, [wanted]);
}

#[test]
fn api_versions_reads_both_bodies() {
    use kp::api_versions_response::ApiVersion;
    let key = ApiVersion::default().with_api_key(18).with_min_version(0).with_max_version(4);
    for (version, error) in [(3, ErrorCode::None), (0, ErrorCode::UnsupportedVersion)] {
        let mut session = session();
        let mut out = Vec::new();
        let correlation = session.api_versions(&mut out).unwrap();
        kp::ApiVersionsRequest::decode(&mut open(&out, 18, 3, true), 3).unwrap();
        let body = kp::ApiVersionsResponse::default()
            .with_error_code(error.code())
            .with_api_keys(vec![key.clone()]);
        let reply = answer(&mut session, &frame(correlation, &body, version, false));
        let ranges = vec![(18, 0, 4)];
        assert_eq!(reply, KafkaReply::ApiVersions { correlation, error, ranges });
    }
}

#[test]
fn offsets_are_listed_committed_and_fetched() {
    let mut session = session();
    let mut out = Vec::new();
    let correlation = session.list_offsets(&mut out, "t", &[0, 1], LATEST).unwrap();
    let read = kp::ListOffsetsRequest::decode(&mut open(&out, 2, 7, true), 7).unwrap();
    assert_eq!(read.topics[0].partitions[1].timestamp, -1);
    use kp::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let part = ListOffsetsPartitionResponse::default().with_partition_index(1).with_offset(77);
    let topic =
        ListOffsetsTopicResponse::default().with_name(name("t")).with_partitions(vec![part]);
    let body = kp::ListOffsetsResponse::default().with_topics(vec![topic]);
    let reply = answer(&mut session, &frame(correlation, &body, 7, true));
    let KafkaReply::Offsets { parts, .. } = reply else { panic!("not offsets") };
    assert_eq!((parts[0].partition, parts[0].offset), (1, 77));

    out.clear();
    let commit = CommitPart { topic: "t", partition: 1, offset: 78 };
    let who = MemberOf { group: "g", member: "m", generation: 3 };
    let correlation = session.offset_commit(&mut out, &who, &[commit]).unwrap();
    let read = kp::OffsetCommitRequest::decode(&mut open(&out, 8, 8, true), 8).unwrap();
    assert_eq!((read.member_id.as_str(), read.generation_id_or_member_epoch), ("m", 3));
    assert_eq!(read.topics[0].partitions[0].committed_offset, 78);
    use kp::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let part = OffsetCommitResponsePartition::default().with_partition_index(1).with_error_code(16);
    let topic =
        OffsetCommitResponseTopic::default().with_name(name("t")).with_partitions(vec![part]);
    let body = kp::OffsetCommitResponse::default().with_topics(vec![topic]);
    let reply = answer(&mut session, &frame(correlation, &body, 8, true));
    let parts = vec![("t".to_owned(), 1, ErrorCode::NotCoordinator)];
    assert_eq!(reply, KafkaReply::OffsetsCommitted { correlation, parts });

    out.clear();
    let correlation = session.offset_fetch(&mut out, "g", "t", &[1]).unwrap();
    let read = kp::OffsetFetchRequest::decode(&mut open(&out, 9, 7, true), 7).unwrap();
    assert_eq!(read.topics.unwrap()[0].partition_indexes, [1]);
    use kp::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
    let part =
        OffsetFetchResponsePartition::default().with_partition_index(1).with_committed_offset(78);
    let topic =
        OffsetFetchResponseTopic::default().with_name(name("t")).with_partitions(vec![part]);
    let body = kp::OffsetFetchResponse::default().with_topics(vec![topic]);
    let reply = answer(&mut session, &frame(correlation, &body, 7, true));
    let KafkaReply::OffsetsFetched { parts, .. } = reply else { panic!("not offsets") };
    assert_eq!((parts[0].partition, parts[0].offset), (1, 78));
}

#[test]
fn topics_are_created_and_deleted() {
    let mut session = session();
    let mut out = Vec::new();
    let spec = TopicSpec { name: "t", partitions: 8, configs: &[("segment.bytes", "16777216")] };
    let correlation = session.create_topics(&mut out, &[spec], 5000).unwrap();
    let read = kp::CreateTopicsRequest::decode(&mut open(&out, 19, 7, true), 7).unwrap();
    assert_eq!((read.topics[0].num_partitions, read.topics[0].replication_factor), (8, -1));
    assert_eq!(read.topics[0].configs[0].name.as_str(), "segment.bytes");
    use kp::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
    let result = CreatableTopicResult::default()
        .with_name(name("t"))
        .with_error_code(36)
        .with_configs(Some(vec![CreatableTopicConfigs::default()]))
        .with_topic_config_error_code(29);
    let body = kp::CreateTopicsResponse::default().with_topics(vec![result]);
    let reply = answer(&mut session, &frame(correlation, &body, 7, true));
    let error = ErrorCode::TopicAlreadyExists;
    // The generated encoder writes an absent message as an empty string.
    let KafkaReply::TopicsCreated { results, .. } = reply else { panic!("not a creation") };
    assert_eq!((results[0].name.as_str(), results[0].error), ("t", error));

    out.clear();
    let correlation = session.delete_topics(&mut out, &["t"], 5000).unwrap();
    let read = kp::DeleteTopicsRequest::decode(&mut open(&out, 20, 6, true), 6).unwrap();
    assert_eq!(read.topics[0].name.as_ref().unwrap().as_str(), "t");
    let result =
        kp::delete_topics_response::DeletableTopicResult::default().with_name(Some(name("t")));
    let body = kp::DeleteTopicsResponse::default().with_responses(vec![result]);
    let reply = answer(&mut session, &frame(correlation, &body, 6, true));
    let KafkaReply::TopicsDeleted { results, .. } = reply else { panic!("not a deletion") };
    assert_eq!((results[0].name.as_str(), results[0].error), ("t", ErrorCode::None));
}

#[test]
fn producer_id_and_coordinator_are_told() {
    let mut session = session();
    let mut out = Vec::new();
    let correlation = session.init_producer_id(&mut out, None).unwrap();
    let read = kp::InitProducerIdRequest::decode(&mut open(&out, 22, 4, true), 4).unwrap();
    assert_eq!((read.transactional_id, read.producer_id), (None, kp::ProducerId(-1)));
    let body = kp::InitProducerIdResponse::default()
        .with_producer_id(kp::ProducerId(4000))
        .with_producer_epoch(2);
    let reply = answer(&mut session, &frame(correlation, &body, 4, true));
    let error = ErrorCode::None;
    let wanted = KafkaReply::ProducerId { correlation, error, producer_id: 4000, epoch: 2 };
    assert_eq!(reply, wanted);

    out.clear();
    let correlation = session.find_coordinator(&mut out, "g").unwrap();
    let read = kp::FindCoordinatorRequest::decode(&mut open(&out, 10, 4, true), 4).unwrap();
    assert_eq!(read.coordinator_keys[0].as_str(), "g");
    let found = kp::find_coordinator_response::Coordinator::default()
        .with_node_id(kp::BrokerId(1025))
        .with_host(StrBytes::from_static_str("h"))
        .with_port(19093);
    let body = kp::FindCoordinatorResponse::default().with_coordinators(vec![found]);
    let reply = answer(&mut session, &frame(correlation, &body, 4, true));
    let broker = Broker { id: 1025, host: "h".into(), port: 19093 };
    assert_eq!(reply, KafkaReply::Coordinator { correlation, error, broker });
}

#[test]
fn members_join_sync_beat_and_leave() {
    let text = |text: &'static str| StrBytes::from_static_str(text);
    let mut session = session();
    let mut out = Vec::new();
    let join = JoinRequest {
        group: "g",
        member: "",
        session_timeout_ms: 6000,
        rebalance_timeout_ms: 50,
        metadata: &[7, 8],
    };
    let correlation = session.join_group(&mut out, &join).unwrap();
    let read = kp::JoinGroupRequest::decode(&mut open(&out, 11, 7, true), 7).unwrap();
    assert_eq!((read.group_id.0.as_str(), read.member_id.as_str()), ("g", ""));
    assert_eq!((read.session_timeout_ms, read.rebalance_timeout_ms), (6000, 50));
    assert_eq!(&read.protocols[0].metadata[..], [7, 8]);
    let other = kp::join_group_response::JoinGroupResponseMember::default()
        .with_member_id(text("b"))
        .with_metadata(Bytes::from_static(&[9]));
    let body = kp::JoinGroupResponse::default()
        .with_generation_id(3)
        .with_leader(text("a"))
        .with_member_id(text("a"))
        .with_members(vec![other]);
    let KafkaReply::GroupJoined { error, generation, leader, member, members, .. } =
        answer(&mut session, &frame(correlation, &body, 7, true))
    else {
        panic!("another reply")
    };
    assert_eq!((error, generation, leader.as_str()), (ErrorCode::None, 3, "a"));
    assert_eq!((member.as_str(), members.len(), members[0].0.as_str()), ("a", 1, "b"));

    out.clear();
    let who = MemberOf { group: "g", member: "a", generation: 3 };
    let shares = [("b".to_owned(), vec![1, 2])];
    let correlation = session.sync_group(&mut out, &who, &shares).unwrap();
    let read = kp::SyncGroupRequest::decode(&mut open(&out, 14, 5, true), 5).unwrap();
    assert_eq!((read.generation_id, read.member_id.as_str()), (3, "a"));
    assert_eq!(&read.assignments[0].assignment[..], [1, 2]);
    let body = kp::SyncGroupResponse::default().with_assignment(Bytes::from_static(&[5]));
    let reply = answer(&mut session, &frame(correlation, &body, 5, true));
    let assignment = Bytes::from_static(&[5]);
    assert_eq!(reply, KafkaReply::GroupSynced { correlation, error: ErrorCode::None, assignment });

    out.clear();
    let correlation = session.heartbeat(&mut out, &who).unwrap();
    let read = kp::HeartbeatRequest::decode(&mut open(&out, 12, 4, true), 4).unwrap();
    assert_eq!((read.generation_id, read.member_id.as_str()), (3, "a"));
    let error = ErrorCode::RebalanceInProgress;
    let body = kp::HeartbeatResponse::default().with_error_code(error.code());
    let reply = answer(&mut session, &frame(correlation, &body, 4, true));
    assert_eq!(reply, KafkaReply::Heartbeat { correlation, error });

    out.clear();
    let correlation = session.leave_group(&mut out, "g", "a").unwrap();
    let read = kp::LeaveGroupRequest::decode(&mut open(&out, 13, 4, true), 4).unwrap();
    assert_eq!(read.members[0].member_id.as_str(), "a");
    let error = ErrorCode::UnknownMemberId;
    let left = kp::leave_group_response::MemberResponse::default()
        .with_member_id(text("a"))
        .with_error_code(error.code());
    let body = kp::LeaveGroupResponse::default().with_members(vec![left]);
    let reply = answer(&mut session, &frame(correlation, &body, 4, true));
    assert_eq!(reply, KafkaReply::GroupLeft { correlation, error });
}

#[test]
fn overlong_and_negative_lengths_are_errors() {
    let mut long = session().with_reply_bytes_max(100);
    long.receive(&101i32.to_be_bytes());
    assert_eq!(long.next_reply(), Err(ClientError::TooLarge { bytes: 101, limit: 100 }));
    let mut negative = session();
    negative.receive(&(-1i32).to_be_bytes());
    assert!(matches!(negative.next_reply(), Err(ClientError::Malformed { .. })));
    let mut unasked = session();
    unasked.receive(&[0, 0, 0, 4, 0, 0, 0, 9]);
    assert_eq!(unasked.next_reply(), Err(ClientError::Unexpected { correlation: 9 }));
}

/// Every request in turn meets damaged bytes behind a right length and correlation.
#[test]
fn garbage_gives_an_error_or_a_reply_but_no_panic() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000u64 {
        let mut session = session();
        let mut out = Vec::new();
        let part = FetchPart { topic: "t", partition: 0, offset: 0, bytes_max: 1 };
        let fetch = FetchRequest {
            wait_ms_max: 0,
            bytes_min: 0,
            bytes_max: 1,
            version_11: round % 2 == 0,
            parts: &[part],
        };
        let produce =
            ProduceRequest { topic: "t", partition: 0, acks: 1, timeout_ms: 1, batch: &[] };
        let who = MemberOf { group: "g", member: "m", generation: 1 };
        let correlation = match round % 14 {
            0 | 1 => session.fetch(&mut out, &fetch),
            2 => session.produce(&mut out, &produce),
            3 => session.metadata(&mut out, None, false),
            4 => session.list_offsets(&mut out, "t", &[0], EARLIEST),
            5 => session.create_topics(&mut out, &[], 1),
            6 => session.delete_topics(&mut out, &[], 1),
            7 => session.init_producer_id(&mut out, Some((1, 2))),
            8 => session.find_coordinator(&mut out, "g"),
            9 => session.offset_fetch(&mut out, "g", "t", &[0]),
            10 => session.leave_group(&mut out, "g", "m"),
            11 => session.sync_group(&mut out, &who, &[]),
            12 => session.heartbeat(&mut out, &who),
            _ => session.api_versions(&mut out),
        }
        .unwrap();
        let length = random() % 200;
        let mut frame = i32::try_from(length + 4).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(&correlation.to_be_bytes());
        for _ in 0..length {
            // Mostly small bytes, so that counts and lengths are often plausible.
            let byte = random().to_le_bytes();
            frame.push(if byte[1] < 200 { byte[0] & 3 } else { byte[0] });
        }
        session.receive(&frame);
        assert!(session.next_reply() != Ok(None), "a whole frame was fed");
    }
}
