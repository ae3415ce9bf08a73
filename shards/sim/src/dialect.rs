//! The two dialects that clients speak, seen alike.
//! Owner: `Client`.
//! Invariant: answers come out as they came in; nothing is judged here.
//! Not here: bytes (`ringway-client`).

use crate::room::{FrameSeen, see_all, see_kafka};
use crate::workload::Target;
use ringway_client::ClientError;
use ringway_client::kafka::{
    CommitPart, FetchPart, FetchRequest, JoinRequest, KafkaReply, KafkaSession, LATEST, MemberOf,
    OffsetPart, ProduceRequest, TopicSpec,
};
use ringway_client::native::{At, Fetch, ListOffsets, NamedOffset, NativeReply, NativeSession};
use ringway_wire::error_code::ErrorCode;

/// A session of either.
#[derive(Debug)]
pub enum Dialect {
    /// Kafka.
    Kafka(KafkaSession),
    /// Ours.
    Native(NativeSession),
}

/// What a server answered.
#[derive(Debug)]
pub enum Answer {
    /// A producer id and epoch.
    Identity(ErrorCode, i64, i16),
    /// A batch: its base offset, or why not.
    Produced(u64, ErrorCode, u64, String),
    /// Partitions of a fetch.
    Fetched(u64, Vec<Part>),
    /// An offset and its record's time, if there is one.
    Offset(u64, ErrorCode, Option<(u64, i64)>),
    /// A commit of an offset.
    Committed(ErrorCode),
    /// The committed offset, if any.
    CommittedOffset(ErrorCode, Option<u64>),
    /// A topic was made or deleted, or not.
    Topic(ErrorCode),
    /// A call of a member of a group.
    Group(GroupAnswer),
}

/// What a member of a group is told.
#[derive(Debug)]
pub enum GroupAnswer {
    /// It is in a generation.
    Joined {
        /// Success or why not.
        code: ErrorCode,
        /// The generation.
        generation: i32,
        /// Id of its leader.
        leader: String,
        /// Own id.
        id: String,
        /// Ids of all, for the leader alone.
        roster: Vec<String>,
    },
    /// Its share.
    Synced(ErrorCode, Vec<u8>),
    /// It is alive.
    Heartbeat(ErrorCode),
    /// It has left.
    Left(ErrorCode),
}

/// One partition of a fetch.
#[derive(Debug)]
pub struct Part {
    /// Kafka tells which; a native fetch has one.
    pub place: Option<(String, i32)>,
    /// Outcome.
    pub code: ErrorCode,
    /// First offset not visible.
    pub high_watermark: u64,
    /// First offset kept, where told.
    pub log_start: Option<u64>,
    /// The batches.
    pub frames: Vec<FrameSeen>,
}

/// What a fetch wants of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Index of the target.
    pub target: usize,
    /// From here on.
    pub offset: u64,
}

impl Dialect {
    /// A fresh session of the same kind.
    #[must_use]
    pub fn fresh(&self) -> Dialect {
        match self {
            Dialect::Kafka(_) => Dialect::Kafka(KafkaSession::new("sim")),
            Dialect::Native(_) => Dialect::Native(NativeSession::new()),
        }
    }

    /// Whether identities can be asked for.
    #[must_use]
    pub fn is_kafka(&self) -> bool {
        matches!(self, Dialect::Kafka(_))
    }

    /// Says hello where that is usual.
    ///
    /// # Errors
    /// It cannot be encoded; so with every method here.
    pub fn greet(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        match self {
            Dialect::Kafka(session) => session.api_versions(out).map(|_| ()),
            Dialect::Native(session) => session.hello(out).map(|_| ()),
        }
    }

    /// Asks for a producer id.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn identity(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        match self {
            Dialect::Kafka(session) => session.init_producer_id(out, None).map(|_| ()),
            Dialect::Native(_) => Ok(()),
        }
    }

    /// Sends a batch.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn produce(
        &mut self,
        out: &mut Vec<u8>,
        target: &Target,
        acks: i16,
        batch: &[u8],
    ) -> Result<u64, ClientError> {
        match self {
            Dialect::Kafka(session) => {
                let (topic, partition) = (target.topic.as_str(), target.partition);
                let request = ProduceRequest { topic, partition, acks, timeout_ms: 10_000, batch };
                session.produce(out, &request).map(number)
            }
            Dialect::Native(session) => {
                session.produce(out, target.key.topic_id, target.key.partition, batch)
            }
        }
    }

    /// Commits an offset of a group, as a member of a generation or from outside. Kafka's dialect alone has groups.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn commit(
        &mut self,
        out: &mut Vec<u8>,
        (group, member, generation): (&str, &str, i32),
        target: &Target,
        offset: u64,
    ) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let part = CommitPart { topic: &target.topic, partition: target.partition, offset };
        session.offset_commit(out, &MemberOf { group, member, generation }, &[part]).map(|_| ())
    }

    /// Asks for a committed offset.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn committed(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        target: &Target,
    ) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        session.offset_fetch(out, group, &target.topic, &[target.partition]).map(|_| ())
    }

    /// Asks where a partition ends, or for its first record of a time or later.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn look_up(
        &mut self,
        out: &mut Vec<u8>,
        target: &Target,
        at_ms: Option<i64>,
    ) -> Result<u64, ClientError> {
        match self {
            Dialect::Kafka(session) => {
                let at = at_ms.unwrap_or(LATEST);
                session.list_offsets(out, &target.topic, &[target.partition], at).map(number)
            }
            Dialect::Native(session) => {
                let (topic_id, partition) = (target.key.topic_id, target.key.partition);
                let at = at_ms.map_or(At::Named(NamedOffset::Latest), At::TimeMs);
                session.list_offsets(out, &ListOffsets { topic_id, partition, at })
            }
        }
    }

    /// Makes a topic of one partition. Here, Kafka's dialect alone has a call for it, and for all that
    /// follows to `leave_group`.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn create_topic(&mut self, out: &mut Vec<u8>, name: &str) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        let spec = TopicSpec { name, partitions: 1, configs: &[("segment.bytes", "65536")] };
        session.create_topics(out, &[spec], 10_000).map(|_| ())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn delete_topic(&mut self, out: &mut Vec<u8>, name: &str) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        session.delete_topics(out, &[name], 10_000).map(|_| ())
    }

    /// Joins a group.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn join_group(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        member: &str,
        rebalance_timeout_ms: i32,
    ) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        let (session_timeout_ms, metadata) = (6_000, member.as_bytes());
        let join =
            JoinRequest { group, member, session_timeout_ms, rebalance_timeout_ms, metadata };
        session.join_group(out, &join).map(|_| ())
    }

    /// Asks for the share of a member of a generation.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn sync_group(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        (member, generation): (&str, i32),
        shares: &[(String, Vec<u8>)],
    ) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        session.sync_group(out, &MemberOf { group, member, generation }, shares).map(|_| ())
    }

    /// Says that a member of a generation is alive.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn heartbeat(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        (member, generation): (&str, i32),
    ) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        session.heartbeat(out, &MemberOf { group, member, generation }).map(|_| ())
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn leave_group(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        member: &str,
    ) -> Result<(), ClientError> {
        let Dialect::Kafka(session) = self else { return Ok(()) };
        session.leave_group(out, group, member).map(|_| ())
    }

    /// Asks for batches; a native session asks for the first partition alone.
    ///
    /// # Errors
    /// See [`Dialect::greet`].
    pub fn fetch(
        &mut self,
        out: &mut Vec<u8>,
        targets: &[Target],
        wants: &[Want],
        (bytes_min, bytes_max, wait_ms_max): (u32, u32, u32),
    ) -> Result<u64, ClientError> {
        let signed = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        match self {
            Dialect::Kafka(session) => {
                let part = |want: &Want| FetchPart {
                    topic: &targets[want.target].topic,
                    partition: targets[want.target].partition,
                    offset: i64::try_from(want.offset).unwrap_or(i64::MAX),
                    bytes_max: signed(bytes_max),
                };
                let mut parts: Vec<FetchPart<'_>> = wants.iter().map(part).collect();
                parts.sort_by_key(|part| (part.topic, part.partition));
                let request = FetchRequest {
                    wait_ms_max: signed(wait_ms_max),
                    bytes_min: signed(bytes_min),
                    bytes_max: signed(bytes_max).saturating_mul(2),
                    version_11: bytes_max % 2 == 1,
                    parts: &parts,
                };
                session.fetch(out, &request).map(number)
            }
            Dialect::Native(session) => {
                let Some(want) = wants.first() else { return Ok(0) };
                let key = targets[want.target].key;
                session.fetch(
                    out,
                    &Fetch {
                        topic_id: key.topic_id,
                        partition: key.partition,
                        offset: want.offset,
                        bytes_max,
                        bytes_min,
                        wait_ms_max,
                    },
                )
            }
        }
    }

    /// Takes what the network gave.
    pub fn receive(&mut self, bytes: &[u8]) {
        match self {
            Dialect::Kafka(session) => session.receive(bytes),
            Dialect::Native(session) => session.receive(bytes),
        }
    }

    /// The next answer that matters here. `Ok(None)`: no whole one is here.
    ///
    /// # Errors
    /// The bytes make no sense.
    pub fn next_answers(&mut self) -> Result<Option<Vec<Answer>>, ClientError> {
        Ok(match self {
            Dialect::Kafka(session) => session.next_reply()?.map(kafka_answers),
            Dialect::Native(session) => session.next_reply()?.map(native_answers),
        })
    }
}

fn kafka_answers(reply: KafkaReply) -> Vec<Answer> {
    let offset = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    match reply {
        KafkaReply::ProducerId { error, producer_id, epoch, .. } => {
            vec![Answer::Identity(error, producer_id, epoch)]
        }
        KafkaReply::Produced { correlation, error, base_offset, message, .. } => {
            let base = offset(base_offset);
            vec![Answer::Produced(number(correlation), error, base, message.unwrap_or_default())]
        }
        KafkaReply::Offsets { correlation, parts } => {
            let found = |part: OffsetPart| {
                let found = record(part.offset, part.timestamp);
                Answer::Offset(number(correlation), part.error, found)
            };
            parts.into_iter().map(found).collect()
        }
        KafkaReply::TopicsCreated { results, .. } | KafkaReply::TopicsDeleted { results, .. } => {
            results.into_iter().map(|result| Answer::Topic(result.error)).collect()
        }
        KafkaReply::Fetched { correlation, error, parts } => {
            let part = |part: ringway_client::kafka::FetchedPart| {
                let mut frames = Vec::new();
                see_kafka(&part.records, &mut frames);
                Part {
                    place: Some((part.topic, part.partition)),
                    code: if error == ErrorCode::None { part.error } else { error },
                    high_watermark: u64::try_from(part.high_watermark).unwrap_or(0),
                    log_start: u64::try_from(part.log_start).ok(),
                    frames,
                }
            };
            vec![Answer::Fetched(number(correlation), parts.into_iter().map(part).collect())]
        }
        KafkaReply::OffsetsCommitted { parts, .. } => {
            parts.into_iter().map(|(_, _, code)| Answer::Committed(code)).collect()
        }
        KafkaReply::OffsetsFetched { error, .. } if error != ErrorCode::None => {
            vec![Answer::CommittedOffset(error, None)]
        }
        KafkaReply::OffsetsFetched { parts, .. } => {
            let found = |part: ringway_client::kafka::CommittedPart| {
                Answer::CommittedOffset(part.error, u64::try_from(part.offset).ok())
            };
            parts.into_iter().map(found).collect()
        }
        other => group_answer(other).into_iter().map(Answer::Group).collect(),
    }
}

fn group_answer(reply: KafkaReply) -> Option<GroupAnswer> {
    match reply {
        KafkaReply::GroupJoined { error, generation, leader, member, members, .. } => {
            let roster = members.into_iter().map(|(id, _)| id).collect();
            Some(GroupAnswer::Joined { code: error, generation, leader, id: member, roster })
        }
        KafkaReply::GroupSynced { error, assignment, .. } => {
            Some(GroupAnswer::Synced(error, assignment.to_vec()))
        }
        KafkaReply::Heartbeat { error, .. } => Some(GroupAnswer::Heartbeat(error)),
        KafkaReply::GroupLeft { error, .. } => Some(GroupAnswer::Left(error)),
        _ => None,
    }
}

/// Offset and time of a record; a negative offset means that there is none.
fn record(offset: i64, time_ms: i64) -> Option<(u64, i64)> {
    u64::try_from(offset).ok().map(|offset| (offset, time_ms))
}

fn native_answers(reply: NativeReply) -> Vec<Answer> {
    match reply {
        NativeReply::Acked { correlation, base_offset, .. } => {
            vec![Answer::Produced(correlation, ErrorCode::None, base_offset, String::new())]
        }
        NativeReply::Offset { correlation, reply } => {
            let found = record(reply.offset, reply.timestamp_ms);
            vec![Answer::Offset(correlation, ErrorCode::None, found)]
        }
        NativeReply::Fetched { correlation, high_watermark, log_start, frames } => {
            let mut seen = Vec::new();
            see_all(&frames, &mut seen);
            let part = Part {
                place: None,
                code: ErrorCode::None,
                high_watermark,
                log_start: Some(log_start),
                frames: seen,
            };
            vec![Answer::Fetched(correlation, vec![part])]
        }
        NativeReply::Error { correlation, code, message } => {
            // Which of the three was refused only the asker knows: it looks its correlation up.
            let part =
                Part { place: None, code, high_watermark: 0, log_start: None, frames: Vec::new() };
            vec![
                Answer::Produced(correlation, code, u64::MAX, message),
                Answer::Fetched(correlation, vec![part]),
                Answer::Offset(correlation, code, None),
            ]
        }
        _ => Vec::new(),
    }
}

fn number(correlation: i32) -> u64 {
    u64::from(correlation.unsigned_abs())
}
