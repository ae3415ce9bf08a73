//! All groups of a shard: routes calls, commits offsets, gives out member ids.
//! Owner: `Shard`.
//! Invariant: every group call is answered exactly once; nothing is answered before its partition is replayed.
//! Not here: the state machine of one group (`classic.rs`), the table of offsets (`offsets.rs`).

use super::classic::{Group, Limits, Replies, Sync, joined_error, synced_error};
use super::member::ms_to_ns;
use super::offsets::{self, Offsets};
use super::{OFFSETS_CONFIGS, OFFSETS_TOPIC};
use crate::produce::HeldProduces;
use crate::produce_rows::Produce;
use crate::request::{
    CommittedOffset, GroupReply, GroupRequest, JoinGroup, MetaAnswer, MetaOp, Payload, Reply,
    RequestId,
};
use crate::turn::{OWN_OFFSETS_COMMIT, OWN_OFFSETS_TOPIC, Turn};
use ringway_log::logs::ReadFailure;
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// Longest group, member and client id (kafka.md §3.4).
const ID_BYTES_MAX: usize = 1024;
/// Longest metadata of a committed offset (G10).
const METADATA_BYTES_MAX: usize = 4096;
/// Groups with members at most.
const GROUPS_MAX: usize = 100_000;
/// `offsets.commit.timeout.ms`.
const COMMIT_TIMEOUT_NS: u64 = 5_000_000_000;

/// A commit that waits for its flush.
struct Commit {
    id: RequestId,
    codes: Vec<(LogKey, ErrorCode)>,
    batch: Vec<u8>,
}

/// The coordinator of this shard's groups.
#[derive(Default)]
pub(crate) struct Coordinator {
    groups: BTreeMap<String, Group>,
    offsets: Offsets,
    commits: BTreeMap<u32, Commit>,
    next_commit: u32,
    creating: bool,
    ids_given: u64,
    /// No group has anything to do before.
    due_ns: Option<u64>,
    replies: Replies,
}

impl Coordinator {
    /// Groups with members.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Commits in flight.
    pub(crate) fn commits(&self) -> usize {
        self.commits.len()
    }

    /// The log that holds `group`, when the offsets topic exists.
    pub(crate) fn offsets_log(turn: &Turn<'_>, group: &str) -> Option<LogKey> {
        offsets::log_of(&turn.ground.catalog, group)
    }

    /// Takes a call on a group of this shard.
    pub(crate) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        produces: &mut HeldProduces,
        id: RequestId,
        call: GroupRequest,
    ) {
        if let Err(code) = self.admit(turn, call.group()) {
            return turn.reply(id, Reply::Group(refused(code, call)));
        }
        let now_ns = turn.now.mono_ns;
        match call {
            GroupRequest::Join(join) => self.join(turn, id, &join),
            GroupRequest::Sync { group, generation, member, protocol, assignments } => {
                let sync = Sync { generation, member, protocol, assignments };
                match self.groups.get_mut(&group) {
                    Some(found) => found.sync(now_ns, id, sync, &mut self.replies),
                    None => {
                        let reply = synced_error(ErrorCode::UnknownMemberId);
                        self.replies.push((id, reply));
                    }
                }
                self.flush(turn, &group);
            }
            GroupRequest::Heartbeat { group, generation, member } => {
                let found = self.groups.get_mut(&group);
                let code = found.map_or(ErrorCode::UnknownMemberId, |found| {
                    found.heartbeat(now_ns, &member, generation)
                });
                turn.reply(id, Reply::Group(GroupReply::Heartbeat(code)));
            }
            GroupRequest::Leave { group, members } => {
                let mut left = Vec::with_capacity(members.len());
                for member in members {
                    let found = self.groups.get_mut(&group);
                    let code = found.map_or(ErrorCode::UnknownMemberId, |found| {
                        found.leave(now_ns, &member, &mut self.replies)
                    });
                    left.push((member, code));
                }
                turn.reply(id, Reply::Group(GroupReply::Left(left)));
                self.flush(turn, &group);
            }
            GroupRequest::Commit { group, generation, member, offsets } => {
                let code = match self.groups.get_mut(&group) {
                    Some(found) => found.check_commit(now_ns, &member, generation),
                    None if generation < 0 => ErrorCode::None,
                    None => ErrorCode::IllegalGeneration,
                };
                self.commit(turn, produces, id, &group, &offsets, code);
            }
            GroupRequest::Fetch { group, partitions } => {
                let offsets = self.offsets.fetch(&group, partitions.as_deref());
                let reply = GroupReply::Offsets { code: ErrorCode::None, offsets };
                turn.reply(id, Reply::Group(reply));
            }
        }
    }

    /// Whether the coordinator of `group` is only being made or replayed.
    pub(crate) fn opens_soon(&mut self, turn: &mut Turn<'_>, group: &str) -> bool {
        let soon = [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable];
        turn.ground.serving && self.admit(turn, group).is_err_and(|code| soon.contains(&code))
    }

    /// Whether this shard can serve `group` now (B7).
    fn admit(&mut self, turn: &mut Turn<'_>, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() || group.len() > ID_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        if turn.ground.stopping {
            return Err(ErrorCode::NotCoordinator);
        }
        if !turn.ground.serving {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let Some(log) = offsets::log_of(&turn.ground.catalog, group) else {
            self.create_topic(turn);
            return Err(ErrorCode::CoordinatorNotAvailable);
        };
        let code = self.offsets.check(log.partition);
        if code == ErrorCode::None { Ok(()) } else { Err(code) }
    }

    fn create_topic(&mut self, turn: &mut Turn<'_>) {
        if self.creating {
            return;
        }
        self.creating = true;
        let partitions = turn.ground.config.group.offsets_partitions;
        let set = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
        let op = MetaOp::CreateTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication_factor: -1,
            configs: OFFSETS_CONFIGS.iter().map(set).collect(),
            validate_only: false,
            internal: true,
        };
        turn.ask_control(OWN_OFFSETS_TOPIC, op);
    }

    /// The control plane made the offsets topic, or somebody else did before.
    pub(crate) fn topic_answered(&mut self, turn: &mut Turn<'_>, answer: MetaAnswer) {
        self.creating = false;
        if let MetaAnswer::Failed { code, message } = answer
            && code != ErrorCode::TopicAlreadyExists
        {
            turn.warn(format!("{OFFSETS_TOPIC} cannot be made: {message}"));
        }
    }

    fn join(&mut self, turn: &mut Turn<'_>, id: RequestId, join: &JoinGroup) {
        let rules = &turn.ground.config.group;
        let range = rules.session_timeout_ms_min..=rules.session_timeout_ms_max;
        let known = self.groups.contains_key(&join.group);
        let code = if !range.contains(&join.session_timeout_ms) {
            ErrorCode::InvalidSessionTimeout
        } else if join.member.len() > ID_BYTES_MAX || (!known && !join.member.is_empty()) {
            ErrorCode::UnknownMemberId
        } else if !known && self.groups.len() >= GROUPS_MAX {
            ErrorCode::CoordinatorNotAvailable
        } else {
            ErrorCode::None
        };
        if code != ErrorCode::None {
            return turn.reply(id, Reply::Group(joined_error(code, join.member.clone())));
        }
        let limits = Limits {
            members_max: rules.members_max,
            initial_delay_ns: ms_to_ns(rules.initial_rebalance_delay_ms),
        };
        let new_id = self.member_id(turn.ground.config.seed, &join.client_id);
        let group = self.groups.entry(join.group.clone()).or_insert_with(|| Group::new(limits));
        group.join(turn.now.mono_ns, id, join, new_id, &mut self.replies);
        self.flush(turn, &join.group);
    }

    /// The client's name, and a number nobody can guess from the ones before without the seed.
    fn member_id(&mut self, seed: u64, client_id: &str) -> String {
        let word = |round: u64| {
            // SplitMix64: a bijection of the counter, so that no id comes twice.
            let mut z = seed ^ (self.ids_given * 2 + round).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let (a, b) = (word(0), word(1));
        self.ids_given += 1;
        let hex = format!("{a:016x}{b:016x}");
        let prefix: String = client_id.chars().take(128).collect();
        let (p, q, r, s, t) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        format!("{prefix}-{p}-{q}-{r}-{s}-{t}")
    }

    /// Sends what a group answered, forgets it when it is empty, notes when it is due.
    fn flush(&mut self, turn: &mut Turn<'_>, group: &str) {
        for (id, reply) in self.replies.drain(..) {
            turn.reply(id, Reply::Group(reply));
        }
        if let Some(found) = self.groups.get(group) {
            if found.is_empty() {
                self.groups.remove(group);
            } else if let Some(at) = found.wake_at_ns() {
                self.due_ns = Some(self.due_ns.map_or(at, |due| due.min(at)));
            }
        }
    }

    fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        produces: &mut HeldProduces,
        id: RequestId,
        group: &str,
        offsets: &[CommittedOffset],
        group_code: ErrorCode,
    ) {
        let crowded = self.commits.len() >= turn.ground.config.waiting_rows_max;
        let late = ErrorCode::CoordinatorNotAvailable;
        let group_code = if group_code == ErrorCode::None && crowded { late } else { group_code };
        let catalog = &turn.ground.catalog;
        let code_of = |one: &CommittedOffset| {
            let partitions = catalog.by_id.get(&one.key.topic_id).map_or(0, |t| t.partitions);
            if group_code != ErrorCode::None {
                group_code
            } else if one.key.partition >= partitions {
                ErrorCode::UnknownTopicOrPartition
            } else if one.metadata.len() > METADATA_BYTES_MAX {
                ErrorCode::OffsetMetadataTooLarge
            } else {
                ErrorCode::None
            }
        };
        let codes: Vec<(LogKey, ErrorCode)> =
            offsets.iter().map(|one| (one.key, code_of(one))).collect();
        let accepted: Vec<CommittedOffset> = offsets
            .iter()
            .zip(&codes)
            .filter(|(_, (_, code))| *code == ErrorCode::None)
            .map(|(one, _)| one.clone())
            .collect();
        let log = offsets::log_of(catalog, group);
        let batch = self.offsets.batch(catalog, turn.now.wall_ms(), group, &accepted);
        let (Some(key), Some(batch)) = (log, batch) else {
            return turn.reply(id, Reply::Group(GroupReply::Committed(codes)));
        };
        while self.commits.contains_key(&self.next_commit) {
            self.next_commit = self.next_commit.wrapping_add(1);
        }
        let request = self.next_commit;
        self.next_commit = self.next_commit.wrapping_add(1);
        self.commits.insert(request, Commit { id, codes, batch: batch.clone() });
        let produce = Produce {
            key,
            acks: -1,
            deadline_ns: turn.now.mono_ns + COMMIT_TIMEOUT_NS,
            payload: Payload::Owned(batch),
            encoding: 3,
        };
        let own = RequestId { connection: OWN_OFFSETS_COMMIT, request };
        produces.request(turn, own, produce);
    }

    /// The record of a commit is flushed, or refused.
    pub(crate) fn own_reply(&mut self, turn: &mut Turn<'_>, id: RequestId, reply: Reply) {
        assert_eq!(id.connection, OWN_OFFSETS_COMMIT, "only commits are answered here");
        let Some(mut commit) = self.commits.remove(&id.request) else {
            unreachable!("a commit is answered once")
        };
        if let Reply::Failed { code, .. } = &reply {
            let code = told(*code);
            for row in commit.codes.iter_mut().filter(|row| row.1 == ErrorCode::None) {
                row.1 = code;
            }
        } else {
            self.offsets.apply_batch(&turn.ground.catalog, &commit.batch);
        }
        turn.reply(commit.id, Reply::Group(GroupReply::Committed(commit.codes)));
    }

    /// A log of this shard serves.
    pub(crate) fn log_opened(&mut self, turn: &mut Turn<'_>, key: LogKey) {
        self.offsets.open(turn, key);
    }

    /// A read of the replay ended.
    pub(crate) fn read_done(
        &mut self,
        turn: &mut Turn<'_>,
        partition: u32,
        result: Result<FrameList, ReadFailure>,
    ) {
        self.offsets.read_done(turn, partition, result);
    }

    /// Clients may be told offsets: replay begins.
    pub(crate) fn serve(&mut self, turn: &mut Turn<'_>) {
        let Some(topic_id) = offsets::topic(&turn.ground.catalog).map(|topic| topic.id) else {
            return;
        };
        self.offsets.follow(Some(topic_id));
        let serving = |key: &LogKey| {
            let found = turn.ground.partitions.get(*key);
            found.is_some_and(|partition| partition.unreadable().is_none())
        };
        let keys = turn.ground.partitions.keys().filter(|key| key.topic_id == topic_id);
        let keys: Vec<LogKey> = keys.filter(serving).collect();
        for key in keys {
            self.offsets.open(turn, key);
        }
    }

    /// Topics came or went.
    pub(crate) fn catalog_changed(&mut self, turn: &mut Turn<'_>) {
        let topic_id = offsets::topic(&turn.ground.catalog).map(|topic| topic.id);
        if self.offsets.follow(topic_id) {
            self.end_all(turn, ErrorCode::CoordinatorNotAvailable);
        }
        self.offsets.forget_deleted(&turn.ground.catalog);
    }

    /// End of a turn: groups that are due. Returns when it is wanted again.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) -> Option<u64> {
        let replay_ns = self.offsets.tick(turn);
        let now_ns = turn.now.mono_ns;
        if self.due_ns.is_some_and(|due| due <= now_ns) {
            for group in self.groups.values_mut() {
                if group.wake_at_ns().is_some_and(|at| at <= now_ns) {
                    group.tick(now_ns, &mut self.replies);
                }
            }
            self.groups.retain(|_, group| !group.is_empty());
            for (id, reply) in self.replies.drain(..) {
                turn.reply(id, Reply::Group(reply));
            }
            self.due_ns = self.groups.values().filter_map(Group::wake_at_ns).min();
        }
        [self.due_ns, replay_ns].into_iter().flatten().min()
    }

    /// Clean stop: whoever waits looks for another coordinator.
    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>) {
        self.end_all(turn, ErrorCode::NotCoordinator);
    }

    fn end_all(&mut self, turn: &mut Turn<'_>, code: ErrorCode) {
        for group in self.groups.values_mut() {
            group.end(code, &mut self.replies);
        }
        self.groups.clear();
        self.due_ns = None;
        for (id, reply) in self.replies.drain(..) {
            turn.reply(id, Reply::Group(reply));
        }
    }
}

/// The answer of a coordinator that cannot serve, in the form of the call.
fn refused(code: ErrorCode, call: GroupRequest) -> GroupReply {
    match call {
        GroupRequest::Join(join) => joined_error(code, join.member),
        GroupRequest::Sync { .. } => synced_error(code),
        GroupRequest::Heartbeat { .. } => GroupReply::Heartbeat(code),
        GroupRequest::Commit { offsets, .. } => {
            GroupReply::Committed(offsets.iter().map(|one| (one.key, code)).collect())
        }
        GroupRequest::Fetch { .. } => GroupReply::Offsets { code, offsets: Vec::new() },
        GroupRequest::Leave { .. } => GroupReply::Failed(code),
    }
}

/// What a committer is told when the append failed: clients retry these (I9).
fn told(code: ErrorCode) -> ErrorCode {
    let moved = [ErrorCode::KafkaStorageError, ErrorCode::NotLeaderOrFollower];
    let large = [ErrorCode::MessageTooLarge, ErrorCode::RecordListTooLarge];
    if moved.contains(&code) {
        ErrorCode::NotCoordinator
    } else if large.contains(&code) {
        ErrorCode::InvalidRequest
    } else if code.is_retriable() {
        ErrorCode::CoordinatorNotAvailable
    } else {
        code
    }
}
