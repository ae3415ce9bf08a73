//! Consumer groups as clients send and read them, every version served.

use super::kafka_data::key;
use super::peer::*;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use ringway_partition::request::{
    CommittedOffset, GroupReply, GroupRequest, JoinGroup, MetaAnswer, MetaOp, Reply, Request,
};
use ringway_wire::error_code::ErrorCode;
use std::sync::Arc;

fn group() -> GroupId {
    GroupId(text("readers"))
}

fn asked(request: Request) -> GroupRequest {
    let Request::Group(asked) = request else { panic!("{request:?}") };
    assert_eq!(asked.group(), "readers");
    asked
}

#[test]
fn coordinators_are_found_in_every_version() {
    for version in 0..=6 {
        let mut peer = Peer::new();
        let request = |key: &str| {
            let request = FindCoordinatorRequest::default();
            if version >= 4 {
                request.with_coordinator_keys(vec![text(key)])
            } else {
                request.with_key(text(key))
            }
        };
        // The offsets topic is made first; until it is known clients ask again.
        peer.send(&frame(version, 1, &request("readers")));
        let created = Reply::Meta(MetaAnswer::Created { topic_id: 3, partitions: 50 });
        let asked = peer.answer_next(created);
        assert!(matches!(asked,
            Request::Meta(MetaOp::CreateTopic { name, partitions: 50, internal: true, .. })
                if name == "__consumer_offsets"));
        let code = |response: &FindCoordinatorResponse| {
            response.coordinators.first().map_or(response.error_code, |row| row.error_code)
        };
        assert_eq!(code(&peer.response::<FindCoordinatorRequest>(version).1), 15);
        let mut catalog = catalog();
        catalog.insert(topic(3, "__consumer_offsets", 50));
        peer.door.catalog = Arc::new(catalog);
        let mut ids = Vec::new();
        for key in ["a", "b", "readers"] {
            peer.send(&frame(version, 1, &request(key)));
            let (_, response) = peer.response::<FindCoordinatorRequest>(version);
            assert_eq!(code(&response), 0);
            let first = response.coordinators.first();
            let found = (response.node_id, response.port);
            let (id, port) = first.map_or(found, |row| (row.node_id, row.port));
            assert_eq!(port, 19092 + id.0);
            ids.push(id.0);
        }
        assert!(ids.contains(&0) && ids.contains(&1), "{ids:?}");
        if version >= 1 {
            peer.send(&frame(version, 1, &request("t").with_key_type(1)));
            assert_eq!(code(&peer.response::<FindCoordinatorRequest>(version).1), 53);
        }
        peer.finish();
    }
}

#[test]
fn members_join_in_every_version() {
    for version in 0..=9 {
        for instance in [None, Some("instance")] {
            let instance = instance.filter(|_| version >= 5);
            let mut peer = Peer::new();
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"topics"));
            let rebalance_timeout_ms = if version == 0 { -1 } else { 60_000 };
            let request = JoinGroupRequest::default()
                .with_group_id(group())
                .with_session_timeout_ms(10_000)
                .with_rebalance_timeout_ms(rebalance_timeout_ms)
                .with_group_instance_id(instance.map(text))
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            peer.send(&frame(version, 1, &request));
            let reply = GroupReply::Joined {
                code: ErrorCode::None,
                generation: 4,
                protocol_type: "consumer".to_owned(),
                protocol: "range".to_owned(),
                leader: "m-1".to_owned(),
                member: "m-1".to_owned(),
                members: vec![("m-1".to_owned(), b"topics".to_vec())],
            };
            let expected = JoinGroup {
                group: "readers".to_owned(),
                member: String::new(),
                member_id_required: version >= 4 && instance.is_none(),
                client_id: "tester".to_owned(),
                client_host: "10.0.0.1:5".to_owned(),
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: if version == 0 { 10_000 } else { 60_000 },
                protocol_type: "consumer".to_owned(),
                protocols: vec![("range".to_owned(), b"topics".to_vec())],
            };
            let request_asked = asked(peer.answer_next(Reply::Group(reply)));
            assert_eq!(request_asked, GroupRequest::Join(expected));
            let (_, response) = peer.response::<JoinGroupRequest>(version);
            assert_eq!((response.generation_id, response.error_code), (4, 0));
            assert_eq!(response.protocol_name.as_deref(), Some(&*text("range")));
            assert_eq!(response.members[0].metadata, &b"topics"[..]);
            peer.send(&frame(version, 2, &request));
            peer.answer_next(Reply::Group(GroupReply::Failed(ErrorCode::NotCoordinator)));
            assert_eq!(peer.response::<JoinGroupRequest>(version).1.error_code, 16);
            peer.finish();
        }
    }
}

#[test]
fn assignments_are_handed_out_in_every_version() {
    for version in 0..=5 {
        let mut peer = Peer::new();
        let share = SyncGroupRequestAssignment::default()
            .with_member_id(text("m-1"))
            .with_assignment(Bytes::from_static(b"share"));
        let protocol = |name: &str| (version >= 5).then(|| text(name));
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(4)
            .with_member_id(text("m-1"))
            .with_protocol_type(protocol("consumer"))
            .with_protocol_name(protocol("range"))
            .with_assignments(vec![share]);
        peer.send(&frame(version, 1, &request));
        let reply = GroupReply::Synced {
            code: ErrorCode::None,
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            assignment: b"share".to_vec(),
        };
        let asked = asked(peer.answer_next(Reply::Group(reply)));
        let expected = GroupRequest::Sync {
            group: "readers".to_owned(),
            generation: 4,
            member: "m-1".to_owned(),
            protocol: (version >= 5).then(|| ("consumer".to_owned(), "range".to_owned())),
            assignments: vec![("m-1".to_owned(), b"share".to_vec())],
        };
        assert_eq!(asked, expected);
        let (_, response) = peer.response::<SyncGroupRequest>(version);
        assert_eq!(response.assignment, &b"share"[..]);
        peer.send(&frame(version, 2, &request));
        let message = String::new();
        peer.answer_next(Reply::Failed { code: ErrorCode::RebalanceInProgress, message });
        assert_eq!(peer.response::<SyncGroupRequest>(version).1.error_code, 27);
        peer.finish();
    }
}

#[test]
fn heartbeats_and_departures_in_every_version() {
    for version in 0..=5 {
        let mut peer = Peer::new();
        if version <= 4 {
            let request = HeartbeatRequest::default()
                .with_group_id(group())
                .with_generation_id(4)
                .with_member_id(text("m-1"));
            peer.send(&frame(version, 1, &request));
            let code = ErrorCode::RebalanceInProgress;
            peer.answer_next(Reply::Group(GroupReply::Heartbeat(code)));
            assert_eq!(peer.response::<HeartbeatRequest>(version).1.error_code, 27);
        }
        let mut request = LeaveGroupRequest::default().with_group_id(group());
        let member = |id| MemberIdentity::default().with_member_id(text(id));
        if version >= 3 {
            request.members = vec![member("m-1"), member("m-2")];
        } else {
            request.member_id = text("m-1");
        }
        peer.send(&frame(version, 2, &request));
        let all = if version >= 3 { vec!["m-1", "m-2"] } else { vec!["m-1"] };
        let codes = [ErrorCode::None, ErrorCode::UnknownMemberId];
        let left = all.iter().map(|id| (*id).to_owned()).zip(codes).collect();
        let asked = asked(peer.answer_next(Reply::Group(GroupReply::Left(left))));
        assert!(matches!(asked, GroupRequest::Leave { members, .. } if members == all));
        let (_, response) = peer.response::<LeaveGroupRequest>(version);
        let codes: Vec<i16> = response.members.iter().map(|row| row.error_code).collect();
        assert_eq!(response.error_code, 0);
        assert_eq!(codes, if version >= 3 { vec![0, 25] } else { vec![] });
        peer.finish();
    }
}

#[test]
fn offsets_are_committed_in_every_version() {
    for version in 2..=9 {
        let mut peer = Peer::new();
        let part = |index, metadata: &str| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(100)
                .with_committed_leader_epoch(if version >= 6 { 2 } else { -1 })
                .with_committed_metadata(Some(text(metadata)))
        };
        let topic = |topic, parts| {
            OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(parts)
        };
        let long = "x".repeat(4097);
        let parts = vec![part(1, "note"), part(9, ""), part(2, &long), part(3, "")];
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(4)
            .with_member_id(text("m-1"))
            .with_topics(vec![topic("gpu", parts), topic("nobody", vec![part(0, "")])]);
        peer.send(&frame(version, 1, &request));
        let codes = vec![(key(1), ErrorCode::None), (key(3), ErrorCode::IllegalGeneration)];
        let asked = asked(peer.answer_next(Reply::Group(GroupReply::Committed(codes))));
        let GroupRequest::Commit { generation: 4, member, offsets, .. } = asked else { panic!() };
        let leader_epoch = if version >= 6 { 2 } else { -1 };
        let metadata = "note".to_owned();
        assert_eq!(
            offsets[0],
            CommittedOffset { key: key(1), offset: 100, leader_epoch, metadata }
        );
        assert_eq!((member.as_str(), offsets.len()), ("m-1", 2));
        let (_, response) = peer.response::<OffsetCommitRequest>(version);
        let codes: Vec<Vec<i16>> = response
            .topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|part| part.error_code).collect())
            .collect();
        assert_eq!(codes, [vec![0, 3, 12, 22], vec![3]]);
        peer.finish();
    }
}

#[test]
fn committed_offsets_are_fetched_in_every_version() {
    for version in 1..=9 {
        let mut peer = Peer::new();
        let mut request = OffsetFetchRequest::default();
        if version >= 8 {
            let topic = |topic, indexes| {
                OffsetFetchRequestTopics::default()
                    .with_name(name(topic))
                    .with_partition_indexes(indexes)
            };
            let row = OffsetFetchRequestGroup::default()
                .with_group_id(group())
                .with_topics(Some(vec![topic("gpu", vec![1, 2, 9]), topic("nobody", vec![0])]));
            request.groups = vec![row.clone(), row.with_topics(None)];
        } else {
            let topic = |topic, indexes| {
                OffsetFetchRequestTopic::default()
                    .with_name(name(topic))
                    .with_partition_indexes(indexes)
            };
            request.group_id = group();
            request.topics = Some(vec![topic("gpu", vec![1, 2, 9]), topic("nobody", vec![0])]);
        }
        peer.send(&frame(version, 1, &request));
        let metadata = "note".to_owned();
        let found = CommittedOffset { key: key(2), offset: 100, leader_epoch: 2, metadata };
        let offsets =
            |offsets| Reply::Group(GroupReply::Offsets { code: ErrorCode::None, offsets });
        let expected = Some(vec![key(1), key(2)]);
        let asked_first = asked(peer.answer_next(offsets(vec![found.clone()])));
        assert!(matches!(asked_first,
            GroupRequest::Fetch { partitions, .. } if partitions == expected));
        let plain = |index: i32, offset: i64, epoch: i32, metadata: &str| {
            (index, offset, if version >= 5 { epoch } else { -1 }, metadata.to_owned())
        };
        let all = [plain(1, -1, -1, ""), plain(2, 100, 2, "note"), plain(9, -1, -1, "")];
        if version >= 8 {
            peer.answer_next(offsets(vec![found]));
            let (_, response) = peer.response::<OffsetFetchRequest>(version);
            let rows = |at: usize| -> Vec<(i32, i64, i32, String)> {
                let parts = response.groups[at].topics[0].partitions.iter();
                let row = |p: &offset_fetch_response::OffsetFetchResponsePartitions| {
                    let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
                    (p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata)
                };
                parts.map(row).collect()
            };
            assert_eq!(rows(0), all);
            assert_eq!(rows(1), all[1..2]);
        } else {
            let (_, response) = peer.response::<OffsetFetchRequest>(version);
            let parts = response.topics[0].partitions.iter();
            let rows: Vec<_> = parts
                .map(|p| {
                    let metadata = p.metadata.as_deref().unwrap_or_default().to_owned();
                    (p.partition_index, p.committed_offset, p.committed_leader_epoch, metadata)
                })
                .collect();
            assert_eq!(rows, all);
            peer.send(&frame(version, 2, &request));
            let code = ErrorCode::CoordinatorLoadInProgress;
            peer.answer_next(Reply::Group(GroupReply::Failed(code)));
            let (_, response) = peer.response::<OffsetFetchRequest>(version);
            let first = response.topics[0].partitions[0].error_code;
            let expected = if version < 2 { (0, 14) } else { (14, 0) };
            assert_eq!((response.error_code, first), expected);
        }
        peer.finish();
    }
}
