//! One classic group: who is in it, which generation holds, who gets what (kafka.md §4.3).
//! Owner: `Coordinator`.
//! Invariant: every call is answered once; a generation's assignments come from its leader alone.
//! Not here: committed offsets (`offsets.rs`), routing, the clock.

use super::member::{Member, ms_to_ns};
use crate::request::{GroupReply, JoinGroup, RequestId};
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;

/// Answers of a step.
pub(super) type Replies = Vec<(RequestId, GroupReply)>;

/// What a SyncGroup says.
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) generation: i32,
    pub(super) member: String,
    pub(super) protocol: Option<(String, String)>,
    pub(super) assignments: Vec<(String, Vec<u8>)>,
}

/// Bounds of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) members_max: usize,
    pub(super) initial_delay_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    PreparingRebalance {
        deadline_ns: u64,
        /// First rebalance of an empty group: waits for the whole delay, and again while more come.
        initial: Option<Initial>,
    },
    CompletingRebalance {
        deadline_ns: u64,
    },
    Stable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Initial {
    /// Not beyond the rebalance timeout.
    end_ns: u64,
    /// Somebody joined during the current delay.
    joined: bool,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    state: State,
    limits: Limits,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Member>,
    /// Ids given out by MEMBER_ID_REQUIRED, and when they lapse (G2).
    pending: BTreeMap<String, u64>,
    joins: u64,
}

impl Group {
    pub(super) fn new(limits: Limits) -> Group {
        Group {
            state: State::Empty,
            limits,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            joins: 0,
        }
    }

    /// Nobody is in it or on the way: it may be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// JoinGroup; `new_id` is used when the member has none.
    pub(super) fn join(
        &mut self,
        now_ns: u64,
        id: RequestId,
        join: &JoinGroup,
        new_id: String,
        replies: &mut Replies,
    ) {
        if let Some(code) = self.refuses(join) {
            return replies.push((id, joined_error(code, join.member.clone())));
        }
        if join.member.is_empty() {
            if join.member_id_required {
                let lapses_ns = now_ns + ms_to_ns(join.session_timeout_ms);
                self.pending.insert(new_id.clone(), lapses_ns);
                return replies.push((id, joined_error(ErrorCode::MemberIdRequired, new_id)));
            }
            return self.add(now_ns, id, join, new_id, replies);
        }
        if self.pending.remove(&join.member).is_some() {
            return self.add(now_ns, id, join, join.member.clone(), replies);
        }
        self.rejoin(now_ns, id, join, replies);
    }

    fn refuses(&self, join: &JoinGroup) -> Option<ErrorCode> {
        let known = self.members.contains_key(&join.member);
        let expected = known || self.pending.contains_key(&join.member);
        if !join.member.is_empty() && !expected {
            return Some(ErrorCode::UnknownMemberId);
        }
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return Some(ErrorCode::InconsistentGroupProtocol);
        }
        let others = || self.members.iter().filter(|(id, _)| **id != join.member);
        if others().next().is_some() {
            let common = |name: &String| others().all(|(_, member)| member.supports(name));
            if join.protocol_type != self.protocol_type
                || !join.protocols.iter().any(|(name, _)| common(name))
            {
                return Some(ErrorCode::InconsistentGroupProtocol);
            }
        }
        let full = self.members.len() + self.pending.len() >= self.limits.members_max;
        (full && !expected).then_some(ErrorCode::GroupMaxSizeReached)
    }

    fn add(
        &mut self,
        now_ns: u64,
        id: RequestId,
        join: &JoinGroup,
        member_id: String,
        replies: &mut Replies,
    ) {
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        let mut member = Member::new(self.joins, join, now_ns);
        self.joins += 1;
        member.joining = Some(id);
        let before = self.members.insert(member_id, member);
        assert!(before.is_none(), "a new member is new");
        if let State::PreparingRebalance { initial: Some(initial), .. } = &mut self.state {
            initial.joined = true;
        }
        self.rebalance(now_ns, replies);
    }

    fn rejoin(&mut self, now_ns: u64, id: RequestId, join: &JoinGroup, replies: &mut Replies) {
        let leads = self.leader == join.member;
        let Some(member) = self.members.get_mut(&join.member) else {
            unreachable!("refused before")
        };
        let same = member.protocols == join.protocols;
        let told_again = match self.state {
            // The answer of this generation got lost.
            State::CompletingRebalance { .. } => same,
            // A leader that joins again wants new assignments.
            State::Stable => same && !leads,
            State::PreparingRebalance { .. } | State::Empty => false,
        };
        member.touch(now_ns);
        if told_again {
            let reply = self.joined(&join.member);
            return replies.push((id, reply));
        }
        member.update(join);
        if let Some(lost) = member.joining.replace(id) {
            // The client gave the earlier call up; both are answered.
            replies.push((lost, joined_error(ErrorCode::UnknownMemberId, join.member.clone())));
        }
        self.rebalance(now_ns, replies);
    }

    /// Everybody has to join again, if that is not so already.
    fn rebalance(&mut self, now_ns: u64, replies: &mut Replies) {
        match self.state {
            State::PreparingRebalance { .. } => {}
            State::Empty => {
                let longest = self.longest_rebalance_ns();
                let delay_ns = self.limits.initial_delay_ns.min(longest);
                let initial = Initial { end_ns: now_ns + longest, joined: false };
                let deadline_ns = now_ns + delay_ns;
                self.state = State::PreparingRebalance { deadline_ns, initial: Some(initial) };
                if delay_ns == 0 {
                    self.state = State::PreparingRebalance { deadline_ns, initial: None };
                }
            }
            State::CompletingRebalance { .. } | State::Stable => {
                self.drop_assignments(now_ns, replies);
                let deadline_ns = now_ns + self.longest_rebalance_ns();
                self.state = State::PreparingRebalance { deadline_ns, initial: None };
            }
        }
        self.complete_if_all_joined(now_ns, replies);
    }

    fn drop_assignments(&mut self, now_ns: u64, replies: &mut Replies) {
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(id) = member.syncing.take() {
                member.touch(now_ns);
                replies.push((id, synced_error(ErrorCode::RebalanceInProgress)));
            }
        }
    }

    fn longest_rebalance_ns(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_ns).max().unwrap_or(0)
    }

    fn complete_if_all_joined(&mut self, now_ns: u64, replies: &mut Replies) {
        let State::PreparingRebalance { initial: None, .. } = self.state else { return };
        let all = self.members.values().all(|member| member.joining.is_some());
        if all && self.pending.is_empty() {
            self.complete_join(now_ns, replies);
        }
    }

    /// G11: laggards go, the protocol is voted, everybody is told.
    fn complete_join(&mut self, now_ns: u64, replies: &mut Replies) {
        self.members.retain(|_, member| member.joining.is_some());
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol.clear();
            self.leader.clear();
            return;
        }
        self.protocol = self.vote();
        if !self.members.contains_key(&self.leader) {
            let first = self.members.iter().min_by_key(|(_, member)| member.order);
            self.leader = first.map(|(id, _)| id.clone()).unwrap_or_default();
        }
        let deadline_ns = now_ns + self.longest_rebalance_ns();
        self.state = State::CompletingRebalance { deadline_ns };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in ids {
            let reply = self.joined(&member_id);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.touch(now_ns);
                if let Some(id) = member.joining.take() {
                    replies.push((id, reply));
                }
            }
        }
    }

    /// Each member votes for the first of its protocols that all have; ties go to the first joiner's.
    fn vote(&self) -> String {
        let common = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut by_order: Vec<&Member> = self.members.values().collect();
        by_order.sort_by_key(|member| member.order);
        let mut candidates: Vec<&str> = Vec::new();
        for member in &by_order {
            let choice = member.protocols.iter().find(|(name, _)| common(name));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
                if !candidates.contains(&name.as_str()) {
                    candidates.push(name);
                }
            }
        }
        let most = votes.values().max().copied().unwrap_or(0);
        let winner = candidates.into_iter().find(|name| votes.get(name) == Some(&most));
        winner.map(str::to_owned).unwrap_or_default()
    }

    /// What a member is told of the current generation.
    fn joined(&self, member_id: &str) -> GroupReply {
        let members = if self.leader == member_id {
            let rows = self.members.iter();
            rows.map(|(id, member)| (id.clone(), member.metadata(&self.protocol))).collect()
        } else {
            Vec::new()
        };
        GroupReply::Joined {
            code: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: member_id.to_owned(),
            members,
        }
    }

    /// SyncGroup.
    pub(super) fn sync(&mut self, now_ns: u64, id: RequestId, sync: Sync, replies: &mut Replies) {
        if let Some(code) = self.refuses_sync(&sync) {
            return replies.push((id, synced_error(code)));
        }
        let leads = self.leader == sync.member;
        let completing = matches!(self.state, State::CompletingRebalance { .. });
        let Some(member) = self.members.get_mut(&sync.member) else {
            unreachable!("refused before")
        };
        member.touch(now_ns);
        if let Some(lost) = member.syncing.replace(id) {
            replies.push((lost, synced_error(ErrorCode::UnknownMemberId)));
        }
        if completing && leads {
            for (member_id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
        }
        if self.state == State::Stable {
            self.answer_syncs(now_ns, replies);
        }
    }

    fn refuses_sync(&self, sync: &Sync) -> Option<ErrorCode> {
        if let Some(code) = self.not_current(&sync.member, sync.generation) {
            return Some(code);
        }
        if let Some((protocol_type, protocol)) = &sync.protocol
            && (*protocol_type != self.protocol_type || *protocol != self.protocol)
        {
            return Some(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Some(ErrorCode::UnknownMemberId),
            State::PreparingRebalance { .. } => Some(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance { .. } | State::Stable => None,
        }
    }

    /// Why a call of `member` in `generation` does not count (G8).
    fn not_current(&self, member: &str, generation: i32) -> Option<ErrorCode> {
        if !self.members.contains_key(member) {
            return Some(ErrorCode::UnknownMemberId);
        }
        (generation != self.generation).then_some(ErrorCode::IllegalGeneration)
    }

    fn answer_syncs(&mut self, now_ns: u64, replies: &mut Replies) {
        for member in self.members.values_mut() {
            if let Some(id) = member.syncing.take() {
                member.touch(now_ns);
                let reply = GroupReply::Synced {
                    code: ErrorCode::None,
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                replies.push((id, reply));
            }
        }
    }

    /// Heartbeat.
    pub(super) fn heartbeat(&mut self, now_ns: u64, member: &str, generation: i32) -> ErrorCode {
        if let Some(code) = self.not_current(member, generation) {
            return code;
        }
        if let Some(member) = self.members.get_mut(member) {
            member.touch(now_ns);
        }
        match self.state {
            State::PreparingRebalance { .. } => ErrorCode::RebalanceInProgress,
            State::CompletingRebalance { .. } | State::Stable => ErrorCode::None,
            State::Empty => ErrorCode::UnknownMemberId,
        }
    }

    /// LeaveGroup of one member.
    pub(super) fn leave(&mut self, now_ns: u64, member: &str, replies: &mut Replies) -> ErrorCode {
        if self.pending.remove(member).is_some() {
            self.complete_if_all_joined(now_ns, replies);
            return ErrorCode::None;
        }
        if !self.members.contains_key(member) {
            return ErrorCode::UnknownMemberId;
        }
        self.remove(now_ns, member, replies);
        ErrorCode::None
    }

    fn remove(&mut self, now_ns: u64, member_id: &str, replies: &mut Replies) {
        let Some(member) = self.members.remove(member_id) else { return };
        let code = ErrorCode::UnknownMemberId;
        if let Some(id) = member.joining {
            replies.push((id, joined_error(code, member_id.to_owned())));
        }
        if let Some(id) = member.syncing {
            replies.push((id, synced_error(code)));
        }
        match self.state {
            State::CompletingRebalance { .. } | State::Stable => self.rebalance(now_ns, replies),
            State::PreparingRebalance { .. } => self.complete_if_all_joined(now_ns, replies),
            State::Empty => {}
        }
    }

    /// Whether a commit of `member` in `generation` counts (G9).
    pub(super) fn check_commit(&mut self, now_ns: u64, member: &str, generation: i32) -> ErrorCode {
        if generation < 0 && self.members.is_empty() {
            return ErrorCode::None;
        }
        if !self.members.contains_key(member) {
            return ErrorCode::UnknownMemberId;
        }
        if generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        if let Some(member) = self.members.get_mut(member) {
            member.touch(now_ns);
        }
        match self.state {
            State::CompletingRebalance { .. } => ErrorCode::RebalanceInProgress,
            State::PreparingRebalance { .. } | State::Stable => ErrorCode::None,
            State::Empty => ErrorCode::UnknownMemberId,
        }
    }

    /// Time has passed: sessions, pending ids and rebalances end.
    pub(super) fn tick(&mut self, now_ns: u64, replies: &mut Replies) {
        let lapsed = self.pending.len();
        self.pending.retain(|_, lapses_ns| *lapses_ns > now_ns);
        if self.pending.len() < lapsed {
            self.complete_if_all_joined(now_ns, replies);
        }
        let late = |member: &Member| !member.is_waiting() && member.expires_ns <= now_ns;
        let expired: Vec<String> =
            self.members.iter().filter(|(_, m)| late(m)).map(|(id, _)| id.clone()).collect();
        for member_id in expired {
            self.remove(now_ns, &member_id, replies);
        }
        match self.state {
            State::PreparingRebalance { deadline_ns, initial } if deadline_ns <= now_ns => {
                match initial {
                    Some(Initial { end_ns, joined: true }) if end_ns > now_ns => {
                        let next = now_ns + self.limits.initial_delay_ns;
                        let initial = Some(Initial { end_ns, joined: false });
                        let deadline_ns = next.min(end_ns);
                        self.state = State::PreparingRebalance { deadline_ns, initial };
                    }
                    Some(_) | None => self.complete_join(now_ns, replies),
                }
            }
            State::CompletingRebalance { deadline_ns } if deadline_ns <= now_ns => {
                // Whoever did not fetch its assignment in time is not there.
                let silent = self.members.iter().filter(|(_, m)| m.syncing.is_none());
                let silent: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
                for member_id in silent {
                    self.remove(now_ns, &member_id, replies);
                }
            }
            State::Empty
            | State::PreparingRebalance { .. }
            | State::CompletingRebalance { .. }
            | State::Stable => {}
        }
    }

    /// When [`Group::tick`] has something to do at the latest.
    pub(super) fn wake_at_ns(&self) -> Option<u64> {
        let state = match self.state {
            State::PreparingRebalance { deadline_ns, .. }
            | State::CompletingRebalance { deadline_ns } => Some(deadline_ns),
            State::Empty | State::Stable => None,
        };
        let members = self.members.values().filter(|m| !m.is_waiting()).map(|m| m.expires_ns);
        members.chain(self.pending.values().copied()).chain(state).min()
    }

    /// The coordinator goes away: everybody who waits is told to look for another.
    pub(super) fn end(&mut self, code: ErrorCode, replies: &mut Replies) {
        for (member_id, member) in &mut self.members {
            if let Some(id) = member.joining.take() {
                replies.push((id, joined_error(code, member_id.clone())));
            }
            if let Some(id) = member.syncing.take() {
                replies.push((id, synced_error(code)));
            }
        }
    }
}

/// JoinGroup's answer with an error.
pub(super) fn joined_error(code: ErrorCode, member: String) -> GroupReply {
    GroupReply::Joined {
        code,
        generation: -1,
        protocol_type: String::new(),
        protocol: String::new(),
        leader: String::new(),
        member,
        members: Vec::new(),
    }
}

/// SyncGroup's answer with an error.
pub(super) fn synced_error(code: ErrorCode) -> GroupReply {
    GroupReply::Synced {
        code,
        protocol_type: String::new(),
        protocol: String::new(),
        assignment: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
