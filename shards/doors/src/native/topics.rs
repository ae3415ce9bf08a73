//! CreateTopic, AlterTopic, DeleteTopic, DescribeTopic, ListOffsets: questions and their answers.
//! Owner: one native connection.
//! Invariant: partitions are described one after another: one question is under way per request.
//! Not here: rules about topics (control plane), logs (`log`).

use super::answer::Asker;
use super::metadata::hex;
use crate::turn::{Turn, refusal};
use ringway_partition::catalog::Topic;
use ringway_partition::request::{LogFacts, MetaAnswer, MetaOp, OffsetAt, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};
use ringway_wire::native::control::{
    AlterTopic, AlterTopicReply, At, CreateTopic, CreateTopicReply, DeleteTopic, DeleteTopicReply,
    DescribeTopic, DescribeTopicReply, ListOffsets, ListOffsetsReply, NamedOffset,
    PartitionDescription, QuarantineDescription, SegmentDescription,
};
use std::sync::Arc;

/// The question that makes a topic.
pub(crate) fn create(create: &CreateTopic) -> Request {
    let configs = create.configs.iter();
    Request::Meta(MetaOp::CreateTopic {
        name: create.name.clone(),
        partitions: create.partitions,
        replication_factor: -1,
        configs: configs.map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        validate_only: false,
        internal: false,
    })
}

/// Answers a creation.
pub(crate) fn created(asker: &Asker, name: String, reply: Reply, turn: &mut Turn<'_>) {
    if let Reply::Meta(MetaAnswer::Created { topic_id, partitions }) = reply {
        return asker.respond(&CreateTopicReply { name, topic_id, partitions }, turn);
    }
    let (code, message) = refusal(reply);
    asker.refuse(code, message, turn);
}

/// The question that changes a topic's settings; a topic that is not there is refused at once.
pub(crate) fn alter(asker: &Asker, alter: AlterTopic, turn: &mut Turn<'_>) -> Option<Request> {
    let topic_id = find(asker, &alter.name, turn)?.id;
    let configs = alter.configs.into_iter().collect();
    Some(Request::Meta(MetaOp::AlterTopic { topic_id, configs }))
}

/// Answers a change of settings.
pub(crate) fn altered(asker: &Asker, name: String, reply: Reply, turn: &mut Turn<'_>) {
    if matches!(reply, Reply::Meta(MetaAnswer::Altered)) {
        return asker.respond(&AlterTopicReply { name }, turn);
    }
    let (code, message) = refusal(reply);
    asker.refuse(code, message, turn);
}

/// The question that deletes a topic; one that is not there is refused at once.
pub(crate) fn delete(asker: &Asker, delete: &DeleteTopic, turn: &mut Turn<'_>) -> Option<Request> {
    let topic = find(asker, &delete.name, turn)?;
    Some(Request::Meta(MetaOp::DeleteTopic { topic_id: topic.id }))
}

/// Answers a deletion.
pub(crate) fn deleted(asker: &Asker, name: String, reply: Reply, turn: &mut Turn<'_>) {
    if matches!(reply, Reply::Meta(MetaAnswer::Deleted)) {
        return asker.respond(&DeleteTopicReply { name }, turn);
    }
    let (code, message) = refusal(reply);
    asker.refuse(code, message, turn);
}

fn find(asker: &Asker, name: &str, turn: &mut Turn<'_>) -> Option<Arc<Topic>> {
    let topic = turn.door.catalog.topics.get(name).cloned();
    if topic.is_none() {
        asker.refuse(ErrorCode::UnknownTopicOrPartition, format!("no topic {name:?}"), turn);
    }
    topic
}

/// A description as far as it has come.
pub(crate) struct Describing {
    topic: Arc<Topic>,
    reply: DescribeTopicReply,
}

/// Begins a description; a topic that is not there is refused at once.
pub(crate) fn describe(
    asker: &Asker,
    describe: &DescribeTopic,
    turn: &mut Turn<'_>,
) -> Option<(Request, Describing)> {
    let topic = find(asker, &describe.name, turn)?;
    let configs = topic.config.describe().into_iter();
    let reply = DescribeTopicReply {
        name: topic.name.clone(),
        topic_id: topic.id,
        uuid: hex(topic.uuid),
        configs: configs.map(|row| (row.name.to_owned(), row.value)).collect(),
        partitions: Vec::new(),
    };
    let describing = Describing { topic, reply };
    match describing.question() {
        Some(question) => Some((question, describing)),
        None => {
            asker.respond(&describing.reply, turn);
            None
        }
    }
}

impl Describing {
    /// The next partition's question, `None` when all were asked.
    fn question(&self) -> Option<Request> {
        let partition = u32::try_from(self.reply.partitions.len()).ok()?;
        let key = LogKey { topic_id: self.topic.id, partition };
        (partition < self.topic.partitions).then_some(Request::DescribeLog { key })
    }

    /// Takes one partition's facts; asks on or answers.
    pub(crate) fn next(
        mut self,
        asker: &Asker,
        reply: Reply,
        turn: &mut Turn<'_>,
    ) -> Option<(Request, Describing)> {
        let Reply::Log(facts) = reply else {
            let (code, message) = refusal(reply);
            asker.refuse(code, message, turn);
            return None;
        };
        let partition = u32::try_from(self.reply.partitions.len()).unwrap_or(u32::MAX);
        let key = LogKey { topic_id: self.topic.id, partition };
        let shard = shard_of(key, turn.door.catalog.shard_count);
        self.reply.partitions.push(partition_row(partition, shard, facts));
        if let Some(question) = self.question() {
            return Some((question, self));
        }
        asker.respond(&self.reply, turn);
        None
    }
}

fn partition_row(partition: u32, shard: u32, facts: LogFacts) -> PartitionDescription {
    let segments = facts.segments.into_iter().map(|segment| SegmentDescription {
        base_offset: segment.base_offset,
        end_offset: segment.end_offset,
        frame_bytes: segment.frame_bytes,
        file_bytes: segment.file_bytes,
        max_timestamp_ms: segment.max_timestamp,
        sealed: segment.sealed,
    });
    let quarantined = facts.quarantined.into_iter().map(|range| QuarantineDescription {
        from: range.from,
        to: range.to,
        segment: range.segment,
        position: range.position,
        until_position: range.until_position,
        reason: range.reason.to_owned(),
        found_by: range.found_by.to_owned(),
        found_ms: range.found_ms,
    });
    PartitionDescription {
        partition,
        shard,
        log_start: facts.log_start,
        high_watermark: facts.high_watermark,
        log_end: facts.log_end,
        segments: segments.collect(),
        quarantined: quarantined.collect(),
    }
}

/// The question for an offset; a partition we do not have is refused at once.
pub(crate) fn list_offsets(
    asker: &Asker,
    list: &ListOffsets,
    turn: &mut Turn<'_>,
) -> Option<Request> {
    let key = LogKey { topic_id: list.topic_id, partition: list.partition };
    let topic = turn.door.catalog.by_id.get(&key.topic_id);
    if topic.is_none_or(|topic| key.partition >= topic.partitions) {
        asker.refuse(ErrorCode::UnknownTopicOrPartition, format!("no partition {key}"), turn);
        return None;
    }
    let at = match list.at {
        At::Named(NamedOffset::Earliest) => OffsetAt::Earliest,
        At::Named(NamedOffset::Latest) => OffsetAt::Latest,
        At::Named(NamedOffset::MaxTimestamp) => OffsetAt::MaxTimestamp,
        At::TimeMs(ms) => OffsetAt::Time(ms),
    };
    Some(Request::ListOffsets { key, at, leader_epoch: -1 })
}

/// Answers with an offset.
pub(crate) fn listed(asker: &Asker, reply: Reply, turn: &mut Turn<'_>) {
    if let Reply::Offset { offset, timestamp_ms, leader_epoch } = reply {
        return asker.respond(&ListOffsetsReply { offset, timestamp_ms, leader_epoch }, turn);
    }
    let (code, message) = refusal(reply);
    asker.refuse(code, message, turn);
}
