//! Rules of classic groups, by number of kafka.md §4.3.

use super::*;

const MS: u64 = 1_000_000;

/// A group with a clock and a count of calls, so that every call is seen answered once.
struct World {
    group: Group,
    now_ns: u64,
    calls: u32,
    open: Vec<RequestId>,
    replies: Replies,
}

impl World {
    fn new(initial_delay_ms: u64) -> World {
        let limits = Limits { members_max: 3, initial_delay_ns: initial_delay_ms * MS };
        World { group: Group::new(limits), now_ns: 0, calls: 0, open: Vec::new(), replies: vec![] }
    }

    fn id(&mut self) -> RequestId {
        self.calls += 1;
        let id = RequestId { connection: 1, request: self.calls };
        self.open.push(id);
        id
    }

    fn join_with(&mut self, join: &JoinGroup, new_id: &str) -> RequestId {
        let id = self.id();
        self.group.join(self.now_ns, id, join, new_id.to_owned(), &mut self.replies);
        id
    }

    /// A new member called `name`, or one that joins again.
    fn join(&mut self, name: &str) -> RequestId {
        let known = self.group.members.contains_key(name);
        let member = if known { name } else { "" };
        self.join_with(&call(member, &["range"]), name)
    }

    fn sync(&mut self, name: &str, assignments: &[(&str, &[u8])]) -> RequestId {
        let id = self.id();
        let assignments = assignments.iter().map(|(m, a)| ((*m).to_owned(), a.to_vec())).collect();
        let generation = self.group.generation;
        let sync = Sync { generation, member: name.to_owned(), protocol: None, assignments };
        self.group.sync(self.now_ns, id, sync, &mut self.replies);
        id
    }

    fn leave(&mut self, name: &str) -> ErrorCode {
        self.group.leave(self.now_ns, name, &mut self.replies)
    }

    fn heartbeat(&mut self, name: &str) -> ErrorCode {
        let generation = self.group.generation;
        self.group.heartbeat(self.now_ns, name, generation)
    }

    /// Lets time pass as the coordinator does: from wake-up to wake-up.
    fn pass(&mut self, ms: u64) {
        let end_ns = self.now_ns + ms * MS;
        while let Some(at) = self.group.wake_at_ns().filter(|at| *at <= end_ns) {
            self.now_ns = at.max(self.now_ns);
            self.group.tick(self.now_ns, &mut self.replies);
        }
        self.now_ns = end_ns;
    }

    /// The answer to `id`, once.
    fn answer(&mut self, id: RequestId) -> Option<GroupReply> {
        let at = self.replies.iter().position(|(to, _)| *to == id)?;
        let open = self.open.iter().position(|open| *open == id).expect("answered once");
        self.open.remove(open);
        Some(self.replies.remove(at).1)
    }

    fn code(&mut self, id: RequestId) -> Option<ErrorCode> {
        Some(match self.answer(id)? {
            GroupReply::Joined { code, .. } | GroupReply::Synced { code, .. } => code,
            other => panic!("{other:?}"),
        })
    }

    /// A stable group of `names` in its first generations, first one leading.
    fn stable(names: &[&str]) -> World {
        let mut world = World::new(0);
        let mut joins = vec![world.join(names[0])];
        for name in &names[1..] {
            joins.push(world.join(name));
        }
        if names.len() > 1 {
            // Everybody before the last joins again.
            for name in &names[..names.len() - 1] {
                joins.push(world.join(name));
            }
        }
        world.sync(names[0], &[]);
        for name in &names[1..] {
            world.sync(name, &[]);
        }
        world.replies.clear();
        world.open.clear();
        assert_eq!(world.group.state, State::Stable, "{names:?}");
        world
    }
}

fn call(member: &str, protocols: &[&str]) -> JoinGroup {
    JoinGroup {
        group: "g".to_owned(),
        member: member.to_owned(),
        member_id_required: false,
        client_id: "client".to_owned(),
        client_host: "host".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: protocols.iter().map(|p| ((*p).to_owned(), p.as_bytes().to_vec())).collect(),
    }
}

#[test]
fn g2_a_new_member_comes_back_with_the_id_it_was_given() {
    let mut world = World::new(0);
    let required = JoinGroup { member_id_required: true, ..call("", &["range"]) };
    let first = world.join_with(&required, "a");
    assert_eq!(world.code(first), Some(ErrorCode::MemberIdRequired));
    let second = world.join_with(&call("a", &["range"]), "unused");
    assert_eq!(world.code(second), Some(ErrorCode::None));
    let stranger = world.join_with(&call("b", &["range"]), "unused");
    assert_eq!(world.code(stranger), Some(ErrorCode::UnknownMemberId));
}

#[test]
fn g2_a_given_id_lapses_after_the_session_timeout() {
    let mut world = World::new(0);
    let required = JoinGroup { member_id_required: true, ..call("", &["range"]) };
    world.join_with(&required, "a");
    assert!(!world.group.is_empty());
    world.pass(10_000);
    assert!(world.group.is_empty());
    let late = world.join_with(&call("a", &["range"]), "unused");
    assert_eq!(world.code(late), Some(ErrorCode::UnknownMemberId));
}

#[test]
fn g4_the_last_member_leaves_while_others_are_pending() {
    let mut world = World::stable(&["a"]);
    let required = JoinGroup { member_id_required: true, ..call("", &["range"]) };
    world.join_with(&required, "b");
    assert_eq!(world.leave("a"), ErrorCode::None);
    world.pass(10_000);
    assert_eq!(world.group.state, State::Empty);
    assert!(world.group.is_empty());
}

#[test]
fn g5_a_member_waiting_in_join_or_sync_is_not_expired() {
    let mut world = World::stable(&["a", "b"]);
    // c starts a rebalance and waits 9.9 s for b, longer than nothing was heard of a and c.
    let c = world.join("c");
    let a = world.join("a");
    for _ in 0..5 {
        world.pass(9_900);
        assert_eq!(world.heartbeat("b"), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(world.answer(c), None);
    let b = world.join("b");
    for id in [a, b, c] {
        assert_eq!(world.code(id), Some(ErrorCode::None));
    }
    // Followers wait for the leader; their clocks start at the answer.
    let synced = world.sync("b", &[]);
    world.pass(9_000);
    assert_eq!(world.heartbeat("a"), ErrorCode::None);
    assert_eq!(world.heartbeat("c"), ErrorCode::None);
    world.pass(5_000);
    world.sync("a", &[("b", b"share")]);
    let Some(GroupReply::Synced { assignment, .. }) = world.answer(synced) else { panic!() };
    assert_eq!(assignment, b"share");
    world.pass(9_999);
    assert!(world.group.members.contains_key("b"));
    world.pass(2);
    assert!(!world.group.members.contains_key("b"));
}

#[test]
fn g8_calls_are_judged_by_member_generation_and_state() {
    let mut world = World::stable(&["a", "b"]);
    let generation = world.group.generation;
    assert_eq!(world.group.heartbeat(0, "x", generation), ErrorCode::UnknownMemberId);
    assert_eq!(world.group.heartbeat(0, "a", generation - 1), ErrorCode::IllegalGeneration);
    assert_eq!(world.group.heartbeat(0, "a", generation), ErrorCode::None);
    assert_eq!(world.leave("x"), ErrorCode::UnknownMemberId);
    let other = JoinGroup { protocol_type: "connect".to_owned(), ..call("", &["range"]) };
    let id = world.join_with(&other, "c");
    assert_eq!(world.code(id), Some(ErrorCode::InconsistentGroupProtocol));
    let id = world.join_with(&call("", &["sticky"]), "c");
    assert_eq!(world.code(id), Some(ErrorCode::InconsistentGroupProtocol));
    let id = world.join_with(&call("", &[]), "c");
    assert_eq!(world.code(id), Some(ErrorCode::InconsistentGroupProtocol));
    world.join("c");
    let id = world.join("d");
    assert_eq!(world.code(id), Some(ErrorCode::GroupMaxSizeReached));
    assert_eq!(world.heartbeat("a"), ErrorCode::RebalanceInProgress);
    let id = world.sync("a", &[]);
    assert_eq!(world.code(id), Some(ErrorCode::RebalanceInProgress));
}

#[test]
fn g8_sync_of_another_protocol_is_inconsistent() {
    let mut world = World::stable(&["a"]);
    let id = world.id();
    let sync = Sync {
        generation: world.group.generation,
        member: "a".to_owned(),
        protocol: Some(("consumer".to_owned(), "sticky".to_owned())),
        assignments: Vec::new(),
    };
    world.group.sync(0, id, sync, &mut world.replies);
    assert_eq!(world.code(id), Some(ErrorCode::InconsistentGroupProtocol));
}

#[test]
fn g9_commits_count_by_generation_member_and_state() {
    let mut world = World::stable(&["a", "b"]);
    let generation = world.group.generation;
    let check = |world: &mut World, member: &str, generation| {
        world.group.check_commit(world.now_ns, member, generation)
    };
    assert_eq!(check(&mut world, "a", generation), ErrorCode::None);
    assert_eq!(check(&mut world, "", -1), ErrorCode::UnknownMemberId);
    assert_eq!(check(&mut world, "a", generation - 1), ErrorCode::IllegalGeneration);
    // A current member may still commit while the others join.
    world.join("a");
    assert_eq!(check(&mut world, "b", generation), ErrorCode::None);
    world.join("b");
    assert_eq!(check(&mut world, "b", generation + 1), ErrorCode::RebalanceInProgress);
    let mut empty = World::new(0);
    assert_eq!(empty.group.check_commit(0, "", -1), ErrorCode::None);
}

#[test]
fn g11_all_join_the_first_leads_and_gets_the_list() {
    let mut world = World::stable(&["a", "b"]);
    let leader = world.join("a");
    let follower = world.join("b");
    let Some(GroupReply::Joined { leader: lead, members, generation, .. }) = world.answer(leader)
    else {
        panic!()
    };
    assert_eq!((lead.as_str(), members.len()), ("a", 2));
    let Some(GroupReply::Joined { members, generation: same, .. }) = world.answer(follower) else {
        panic!()
    };
    assert!(members.is_empty());
    assert_eq!(generation, same);
}

#[test]
fn g11_laggards_are_removed_when_the_rebalance_times_out() {
    let mut world = World::stable(&["a", "b"]);
    let a = world.join("a");
    for _ in 0..7 {
        world.pass(9_000);
        world.heartbeat("b");
    }
    assert_eq!(world.code(a), Some(ErrorCode::None));
    assert_eq!(world.group.members.len(), 1);
    assert_eq!(world.heartbeat("b"), ErrorCode::UnknownMemberId);
}

#[test]
fn g11_the_leader_leaving_hands_the_lead_to_the_next_joiner() {
    let mut world = World::stable(&["a", "b", "c"]);
    world.leave("a");
    world.join("c");
    let b = world.join("b");
    let Some(GroupReply::Joined { leader, .. }) = world.answer(b) else { panic!() };
    assert_eq!(leader, "b");
}

#[test]
fn g11_the_protocol_is_voted_among_those_all_support() {
    let mut world = World::new(10);
    let a = world.join_with(&call("", &["sticky", "range"]), "a");
    world.join_with(&call("", &["range", "roundrobin"]), "b");
    world.join_with(&call("", &["roundrobin", "range"]), "c");
    world.pass(60_000);
    let Some(GroupReply::Joined { protocol, .. }) = world.answer(a) else { panic!() };
    assert_eq!(protocol, "range");
}

#[test]
fn g11_a_follower_with_the_same_metadata_does_not_disturb_a_stable_group() {
    let mut world = World::stable(&["a", "b"]);
    let again = world.join_with(&call("b", &["range"]), "unused");
    assert_eq!(world.code(again), Some(ErrorCode::None));
    assert_eq!(world.group.state, State::Stable);
    let changed = world.join_with(&call("b", &["range", "sticky"]), "unused");
    assert_eq!(world.answer(changed), None);
    assert_eq!(world.heartbeat("a"), ErrorCode::RebalanceInProgress);
}

#[test]
fn g12_the_first_rebalance_waits_for_the_delay_and_for_those_still_coming() {
    let mut world = World::new(300);
    let a = world.join("a");
    world.pass(299);
    assert_eq!(world.answer(a), None);
    let b = world.join("b");
    world.pass(299);
    assert_eq!(world.answer(a), None, "b came during the first delay");
    world.pass(2);
    assert_eq!(world.code(a), Some(ErrorCode::None));
    assert_eq!(world.code(b), Some(ErrorCode::None));
    assert_eq!(world.group.generation, 1);
}

#[test]
fn sessions_end_without_heartbeats_and_the_rest_rebalances() {
    let mut world = World::stable(&["a", "b"]);
    for _ in 0..3 {
        world.pass(5_000);
        world.heartbeat("a");
    }
    assert_eq!(world.group.members.len(), 1);
    assert_eq!(world.heartbeat("a"), ErrorCode::RebalanceInProgress);
    world.pass(10_000);
    assert!(world.group.is_empty());
    assert_eq!(world.group.wake_at_ns(), None, "an empty group wakes nobody");
}

#[test]
fn whoever_does_not_sync_in_time_is_removed() {
    let mut world = World::new(0);
    world.join("a");
    world.join("b");
    world.join("a");
    let b = world.sync("b", &[]);
    for _ in 0..12 {
        world.pass(5_000);
        world.heartbeat("a");
    }
    assert_eq!(world.code(b), Some(ErrorCode::RebalanceInProgress));
    assert!(!world.group.members.contains_key("a"));
}

#[test]
fn every_call_is_answered_once_when_the_coordinator_goes_away() {
    let mut world = World::stable(&["a", "b"]);
    let a = world.join("a");
    world.group.end(ErrorCode::NotCoordinator, &mut world.replies);
    assert_eq!(world.code(a), Some(ErrorCode::NotCoordinator));
    assert!(world.open.is_empty());
}
