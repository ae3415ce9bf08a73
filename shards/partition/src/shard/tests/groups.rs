//! Groups over the real offsets topic.

use super::world::World;
use crate::group::{OFFSETS_TOPIC, partition_of_group};
use crate::request::{CommittedOffset, GroupReply, GroupRequest, JoinGroup, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};

fn one(key: LogKey, offset: i64) -> CommittedOffset {
    CommittedOffset { key, offset, leader_epoch: 2, metadata: "note".to_owned() }
}

fn commit(group: &str, offsets: Vec<CommittedOffset>) -> GroupRequest {
    let (group, member) = (group.to_owned(), String::new());
    GroupRequest::Commit { group, generation: -1, member, offsets }
}

fn fetch(group: &str, partitions: Option<Vec<LogKey>>) -> GroupRequest {
    GroupRequest::Fetch { group: group.to_owned(), partitions }
}

fn join(group: &str, member: &str) -> GroupRequest {
    GroupRequest::Join(JoinGroup {
        group: group.to_owned(),
        member: member.to_owned(),
        member_id_required: true,
        client_id: "client".to_owned(),
        client_host: "host".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), b"subscription".to_vec())],
    })
}

/// A world whose offsets topic exists.
fn ready(shards: u32) -> (World, LogKey) {
    ready_with(World::new(shards))
}

fn ready_with(mut world: World) -> (World, LogKey) {
    let key = LogKey { topic_id: world.topic("t", 1, &[]), partition: 0 };
    world.group(0, fetch("any", None));
    (world, key)
}

#[test]
fn b7_the_first_group_call_makes_the_offsets_topic() {
    let mut world = World::new(1);
    // The call waits while the topic is made: a refused client would stay away for seconds.
    let reply = world.group(0, fetch("g", None));
    assert_eq!(reply, GroupReply::Offsets { code: ErrorCode::None, offsets: Vec::new() });
    world.finish();
}

#[test]
fn g1_an_unknown_group_has_no_offsets_and_no_error() {
    let (mut world, key) = ready(1);
    let reply = world.group(0, fetch("nobody", Some(vec![key])));
    let GroupReply::Offsets { code, offsets } = reply else { panic!() };
    assert_eq!(code, ErrorCode::None);
    assert_eq!((offsets[0].offset, offsets[0].leader_epoch), (-1, -1));
    assert_eq!(offsets[0].metadata, "");
    world.finish();
}

#[test]
fn g16_a_commit_is_answered_and_seen_after_its_flush() {
    let (mut world, key) = ready(1);
    world.disk.hold_writes = true;
    let id = world.ask(0, Request::Group(commit("g", vec![one(key, 42)])));
    assert!(!world.is_answered(id));
    let GroupReply::Offsets { offsets, .. } = world.group(0, fetch("g", Some(vec![key]))) else {
        panic!()
    };
    assert_eq!(offsets[0].offset, -1, "not durable, not seen");
    world.release_disk();
    assert_eq!(world.group_reply(id), GroupReply::Committed(vec![(key, ErrorCode::None)]));
    let GroupReply::Offsets { offsets, .. } = world.group(0, fetch("g", None)) else { panic!() };
    assert_eq!(offsets, [one(key, 42)]);
    world.finish();
}

#[test]
fn g10_metadata_and_unknown_partitions_are_judged_one_by_one() {
    let (mut world, key) = ready(1);
    let long = CommittedOffset { metadata: "x".repeat(4097), ..one(key, 1) };
    let unknown = one(LogKey { topic_id: 99, partition: 0 }, 1);
    let reply = world.group(0, commit("g", vec![long, one(key, 7), unknown.clone()]));
    let expected = vec![
        (key, ErrorCode::OffsetMetadataTooLarge),
        (key, ErrorCode::None),
        (unknown.key, ErrorCode::UnknownTopicOrPartition),
    ];
    assert_eq!(reply, GroupReply::Committed(expected));
    world.finish();
}

#[test]
fn z9_offsets_are_replayed_from_the_log_after_a_crash() {
    let (mut world, key) = ready(2);
    for n in 0..30 {
        for group in ["a", "b", "c"] {
            let reply = world.group(0, commit(group, vec![one(key, n)]));
            assert_eq!(reply, GroupReply::Committed(vec![(key, ErrorCode::None)]));
        }
    }
    world.crash();
    for group in ["a", "b", "c"] {
        let GroupReply::Offsets { code, offsets } = world.group(1, fetch(group, None)) else {
            panic!()
        };
        assert_eq!(code, ErrorCode::None);
        assert_eq!(offsets, [one(key, 29)], "{group}");
    }
    world.finish();
}

#[test]
fn z9_a_call_waits_until_its_coordinator_is_replayed() {
    let (mut world, key) = ready(1);
    world.group(0, commit("g", vec![one(key, 5)]));
    world.crash_holding_reads();
    let id = world.ask(0, Request::Group(fetch("g", None)));
    assert_eq!(world.shard(0).counts().waiting_rows, 1);
    world.release_disk();
    let GroupReply::Offsets { offsets, .. } = world.group_reply(id) else { panic!() };
    assert_eq!(offsets, [one(key, 5)]);
    world.finish();
}

#[test]
fn offsets_of_a_deleted_topic_do_not_come_back_with_its_name() {
    let (mut world, key) = ready(1);
    world.group(0, commit("g", vec![one(key, 5)]));
    let delete = crate::request::MetaOp::DeleteTopic { topic_id: key.topic_id };
    let id = world.ask(0, Request::Meta(delete));
    world.reply(id);
    world.topic("t", 1, &[]);
    world.crash();
    let GroupReply::Offsets { offsets, .. } = world.group(0, fetch("g", None)) else { panic!() };
    assert!(offsets.is_empty(), "{offsets:?}");
    world.finish();
}

#[test]
fn b7_any_shard_takes_a_group_call_and_the_coordinator_answers() {
    let (mut world, key) = ready(2);
    let topic_id = 2;
    for group in ["a", "b", "c", "d"] {
        let partition = partition_of_group(group, 4);
        let owner = shard_of(LogKey { topic_id, partition }, 2);
        let other = usize::try_from(1 - owner).unwrap();
        let reply = world.group(other, commit(group, vec![one(key, 3)]));
        assert_eq!(reply, GroupReply::Committed(vec![(key, ErrorCode::None)]), "{group}");
    }
    assert_eq!(OFFSETS_TOPIC, "__consumer_offsets");
    world.finish();
}

#[test]
fn g2_g11_two_members_join_sync_and_beat() {
    let (mut world, _) = ready_with(World::with(1, 300, 256));
    let mut members = Vec::new();
    for _ in 0..2 {
        let GroupReply::Joined { code, member, .. } = world.group(0, join("g", "")) else {
            panic!()
        };
        assert_eq!(code, ErrorCode::MemberIdRequired);
        members.push(member);
    }
    assert_ne!(members[0], members[1]);
    let first = world.ask(0, Request::Group(join("g", &members[0])));
    assert!(!world.is_answered(first), "G12: others may be coming");
    let second = world.ask(0, Request::Group(join("g", &members[1])));
    world.pass(600);
    let GroupReply::Joined { leader, generation, members: rows, .. } = world.group_reply(first)
    else {
        panic!()
    };
    assert_eq!((leader.as_str(), rows.len()), (members[0].as_str(), 2));
    world.group_reply(second);
    let sync = |member: &String, assignments: Vec<(String, Vec<u8>)>| {
        Request::Group(GroupRequest::Sync {
            group: "g".to_owned(),
            generation,
            member: member.clone(),
            protocol: None,
            assignments,
        })
    };
    let follower = world.ask(0, sync(&members[1], Vec::new()));
    assert!(!world.is_answered(follower));
    let shares = members.iter().map(|m| (m.clone(), m.as_bytes().to_vec())).collect();
    let leader = world.ask(0, sync(&members[0], shares));
    for (id, member) in [(leader, &members[0]), (follower, &members[1])] {
        let GroupReply::Synced { assignment, .. } = world.group_reply(id) else { panic!() };
        assert_eq!(assignment, member.as_bytes());
    }
    let beat = |member: &str, generation| GroupRequest::Heartbeat {
        group: "g".to_owned(),
        generation,
        member: member.to_owned(),
    };
    let reply = world.group(0, beat(&members[0], generation));
    assert_eq!(reply, GroupReply::Heartbeat(ErrorCode::None));
    let reply = world.group(0, beat(&members[0], generation + 1));
    assert_eq!(reply, GroupReply::Heartbeat(ErrorCode::IllegalGeneration));
    assert_eq!(world.shard(0).counts().groups, 1);
    let leave = GroupRequest::Leave { group: "g".to_owned(), members: members.clone() };
    let left = members.iter().map(|m| (m.clone(), ErrorCode::None)).collect();
    assert_eq!(world.group(0, leave), GroupReply::Left(left));
    assert_eq!(world.shard(0).counts().groups, 0);
    world.finish();
}

#[test]
fn g8_session_timeouts_and_group_ids_are_checked() {
    let (mut world, _) = ready(1);
    let reply = world.group(0, join("", ""));
    assert!(matches!(reply, GroupReply::Joined { code: ErrorCode::InvalidGroupId, .. }));
    let GroupRequest::Join(call) = join("g", "") else { panic!() };
    let short = JoinGroup { session_timeout_ms: 999, ..call };
    let reply = world.group(0, GroupRequest::Join(short));
    assert!(matches!(reply, GroupReply::Joined { code: ErrorCode::InvalidSessionTimeout, .. }));
    let reply = world.group(0, join("g", "stranger"));
    assert!(matches!(reply, GroupReply::Joined { code: ErrorCode::UnknownMemberId, .. }));
    world.finish();
}

#[test]
fn an_expired_member_leaves_and_an_idle_group_table_wakes_nobody() {
    let mut world = World::new(1);
    world.group(0, fetch("any", None));
    let GroupReply::Joined { member, .. } = world.group(0, join("g", "")) else { panic!() };
    let id = world.ask(0, Request::Group(join("g", &member)));
    world.group_reply(id);
    world.pass(120_000);
    assert_eq!(world.shard(0).counts().groups, 0);
    assert_eq!(world.pass(60_000), 0);
    world.finish();
}
