//! OffsetFetch: what groups have committed; one question per group.
//! Owner: one Kafka connection.
//! Invariant: an unknown group has no error, its offsets are −1 (G1).
//! Not here: where offsets are kept (`partition/group`).

use super::call::{Asked, Head, log_key, partition_index, respond, text};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{CommittedOffset, GroupReply, GroupRequest, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// One group of the request: its name, and the partitions asked about, `None` = all.
struct Group {
    id: GroupId,
    topics: Option<Vec<(TopicName, Vec<i32>)>>,
}

/// The groups asked about, in order.
pub(crate) struct Waiting {
    groups: Vec<Group>,
}

/// From this version on a request may name several groups.
const GROUPS_FROM: i16 = 8;

/// Asks each group's coordinator.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: OffsetFetchRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<Waiting>, Close> {
    let groups: Vec<Group> = if head.version >= GROUPS_FROM {
        let groups = request.groups.into_iter();
        groups
            .map(|group| Group {
                id: group.group_id,
                topics: group.topics.map(|topics| {
                    let topics = topics.into_iter();
                    topics.map(|topic| (topic.name, topic.partition_indexes)).collect()
                }),
            })
            .collect()
    } else {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics.map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        vec![Group { id: request.group_id, topics }]
    };
    if groups.is_empty() {
        respond(head, &OffsetFetchResponse::default(), turn)?;
        return Ok(None);
    }
    let catalog = &turn.door.catalog;
    let asks = groups.iter().map(|group| {
        Request::Group(GroupRequest::Fetch {
            group: group.id.to_string(),
            partitions: group.topics.as_ref().map(|topics| known(topics, catalog)),
        })
    });
    Ok(Some((asks.collect(), Waiting { groups })))
}

/// Answers once every coordinator has.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    waiting: Waiting,
    replies: Vec<Reply>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    let catalog = &turn.door.catalog;
    let mut response = OffsetFetchResponse::default();
    for (group, reply) in waiting.groups.into_iter().zip(replies) {
        let (code, offsets) = if let Reply::Group(GroupReply::Offsets { code, offsets }) = reply {
            (code, offsets)
        } else {
            (refusal(reply).0, Vec::new())
        };
        let topics = rows(group.topics, offsets, code, catalog);
        if head.version >= GROUPS_FROM {
            let row = OffsetFetchResponseGroup::default()
                .with_group_id(group.id)
                .with_error_code(code.code())
                .with_topics(topics);
            response.groups.push(row);
        } else {
            // Version 1 has no place for the group's code: it stands at each partition.
            let repeated = if head.version < 2 { code } else { ErrorCode::None };
            response.error_code = if head.version < 2 { 0 } else { code.code() };
            response.topics = topics.into_iter().map(|topic| single(topic, repeated)).collect();
        }
    }
    respond(head, &response, turn)
}

fn known(topics: &[(TopicName, Vec<i32>)], catalog: &Catalog) -> Vec<LogKey> {
    let mut keys = Vec::new();
    for (name, partitions) in topics {
        if let Some(topic) = catalog.topics.get(name.as_str()) {
            keys.extend(partitions.iter().filter_map(|&partition| log_key(topic, partition)));
        }
    }
    keys
}

fn rows(
    asked: Option<Vec<(TopicName, Vec<i32>)>>,
    offsets: Vec<CommittedOffset>,
    code: ErrorCode,
    catalog: &Catalog,
) -> Vec<OffsetFetchResponseTopics> {
    let Some(asked) = asked else { return all(offsets, catalog) };
    if code != ErrorCode::None {
        let topics = asked.into_iter().map(|(name, partitions)| {
            let rows = partitions.into_iter().map(|number| row(number, None));
            OffsetFetchResponseTopics::default().with_name(name).with_partitions(rows.collect())
        });
        return topics.collect();
    }
    let found: BTreeMap<LogKey, CommittedOffset> =
        offsets.into_iter().map(|offset| (offset.key, offset)).collect();
    let topics = asked.into_iter().map(|(name, partitions)| {
        let topic = catalog.topics.get(name.as_str());
        let rows = partitions.into_iter().map(|number| {
            let key = topic.and_then(|topic| log_key(topic, number));
            row(number, key.and_then(|key| found.get(&key)))
        });
        let rows = rows.collect();
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(rows)
    });
    topics.collect()
}

fn all(offsets: Vec<CommittedOffset>, catalog: &Catalog) -> Vec<OffsetFetchResponseTopics> {
    let mut by_topic: BTreeMap<u64, Vec<CommittedOffset>> = BTreeMap::new();
    for offset in offsets {
        by_topic.entry(offset.key.topic_id).or_default().push(offset);
    }
    let topics = by_topic.into_iter().filter_map(|(id, offsets)| {
        let name = TopicName(text(&catalog.by_id.get(&id)?.name));
        let rows = offsets.iter().map(|o| row(partition_index(o.key.partition), Some(o)));
        let rows = rows.collect();
        Some(OffsetFetchResponseTopics::default().with_name(name).with_partitions(rows))
    });
    topics.collect()
}

fn row(number: i32, found: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    let row = OffsetFetchResponsePartitions::default()
        .with_partition_index(number)
        .with_metadata(Some(StrBytes::new()));
    match found {
        Some(found) => row
            .with_committed_offset(found.offset)
            .with_committed_leader_epoch(found.leader_epoch)
            .with_metadata(Some(text(&found.metadata))),
        None => row.with_committed_offset(-1).with_committed_leader_epoch(-1),
    }
}

fn single(topic: OffsetFetchResponseTopics, code: ErrorCode) -> OffsetFetchResponseTopic {
    let rows = topic.partitions.into_iter().map(|row| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(row.partition_index)
            .with_committed_offset(row.committed_offset)
            .with_committed_leader_epoch(row.committed_leader_epoch)
            .with_metadata(row.metadata)
            .with_error_code(code.code())
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(rows.collect())
}
