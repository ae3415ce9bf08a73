//! Metadata: brokers, topics, who leads which partition; creates topics on demand (B8).
//! Owner: one Kafka connection.
//! Invariant: one answer is made from one snapshot of the catalog.
//! Not here: how topics are created (control plane).

use super::call::{Asked, Head, partition_index, respond, text, uuid};
use crate::door::Close;
use crate::turn::Turn;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use ringway_partition::catalog::{Catalog, Topic};
use ringway_partition::group::OFFSETS_TOPIC;
use ringway_partition::request::{MetaAnswer, MetaOp, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, TopicUuid, shard_of};
use std::collections::BTreeMap;

/// Operations on a topic that exist, as bits: with no authorizer everybody may do all (Z6).
const TOPIC_OPERATIONS: i32 = 0x0DF8;
/// The same for the cluster.
const CLUSTER_OPERATIONS: i32 = 0x1FA0;

/// The request while topics are being created.
pub(crate) struct Waiting {
    request: MetadataRequest,
    /// Names asked to be created, in the order of the requests to the shard.
    created: Vec<String>,
}

/// Answers, or asks for missing topics to be created first.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: MetadataRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<Waiting>, Close> {
    let created = missing_topics(head, &request, turn);
    if created.is_empty() {
        answer(head, &request, &BTreeMap::new(), turn)?;
        return Ok(None);
    }
    let offsets_partitions = turn.door.config.offsets_partitions;
    let asks = created.iter().map(|name| create(name, offsets_partitions)).collect();
    Ok(Some((asks, Waiting { request, created })))
}

/// Answers once the topics are there or were refused.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    waiting: Waiting,
    replies: Vec<Reply>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    let codes = waiting.created.into_iter().zip(replies).map(|(name, reply)| {
        let code = if let Reply::Meta(MetaAnswer::Failed { code, .. })
        | Reply::Failed { code, .. } = reply
        {
            code
        } else {
            ErrorCode::LeaderNotAvailable
        };
        // Somebody else was quicker: it is there or about to be.
        let exists = code == ErrorCode::TopicAlreadyExists;
        (name, if exists { ErrorCode::LeaderNotAvailable } else { code })
    });
    answer(head, &waiting.request, &codes.collect(), turn)
}

/// The request that makes a topic with the defaults.
pub(crate) fn create(name: &str, offsets_partitions: u32) -> Request {
    let internal = name == OFFSETS_TOPIC;
    let partitions = if internal { partition_index(offsets_partitions) } else { -1 };
    Request::Meta(MetaOp::CreateTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: -1,
        configs: Vec::new(),
        validate_only: false,
        internal,
    })
}

fn missing_topics(head: Head, request: &MetadataRequest, turn: &Turn<'_>) -> Vec<String> {
    let allowed = head.version < 4 || request.allow_auto_topic_creation;
    if !allowed || !turn.door.config.auto_create {
        return Vec::new();
    }
    let names = request.topics.iter().flatten().filter_map(|topic| topic.name.as_ref());
    let mut missing: Vec<String> = names
        .filter(|name| valid_name(name) && !turn.door.catalog.topics.contains_key(name.as_str()))
        .map(|name| name.to_string())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Kafka's rule for names; the control plane also refuses names that collide.
pub(crate) fn valid_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(legal)
}

fn answer(
    head: Head,
    request: &MetadataRequest,
    codes: &BTreeMap<String, ErrorCode>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    let catalog = &*turn.door.catalog;
    let operations = |asked: bool, all: i32| if asked { all } else { i32::MIN };
    let asked = request.include_topic_authorized_operations;
    let all = match &request.topics {
        None => true,
        Some(named) => head.version == 0 && named.is_empty(),
    };
    let topics = if all {
        catalog.topics.values().map(|topic| describe(topic, catalog)).collect()
    } else {
        let named = request.topics.iter().flatten();
        named
            .map(|topic| {
                let id = TopicUuid(*topic.topic_id.as_bytes());
                named_topic(topic.name.as_ref().map(|name| name.as_str()), id, codes, catalog)
            })
            .collect::<Vec<_>>()
    };
    let topics = topics
        .into_iter()
        .map(|topic: MetadataResponseTopic| {
            let fits = (8..).contains(&head.version);
            topic.with_topic_authorized_operations(operations(fits && asked, TOPIC_OPERATIONS))
        })
        .collect();
    let cluster = (8..=10).contains(&head.version) && request.include_cluster_authorized_operations;
    let response = MetadataResponse::default()
        .with_brokers(brokers(catalog))
        .with_cluster_id(Some(text(&catalog.cluster_id)))
        .with_controller_id(BrokerId(catalog.brokers.iter().map(|b| b.id).min().unwrap_or(-1)))
        .with_topics(topics)
        .with_cluster_authorized_operations(operations(cluster, CLUSTER_OPERATIONS));
    respond(head, &response, turn)
}

fn brokers(catalog: &Catalog) -> Vec<MetadataResponseBroker> {
    let row = |broker: &ringway_partition::catalog::Broker| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(&broker.host))
            .with_port(i32::from(broker.port))
            .with_rack(broker.rack.as_deref().map(text))
    };
    catalog.brokers.iter().map(row).collect()
}

fn named_topic(
    name: Option<&str>,
    id: TopicUuid,
    codes: &BTreeMap<String, ErrorCode>,
    catalog: &Catalog,
) -> MetadataResponseTopic {
    let Some(name) = name else {
        return match catalog.by_uuid.get(&id) {
            Some(topic) => describe(topic, catalog),
            None => MetadataResponseTopic::default()
                .with_name(None)
                .with_topic_id(uuid(id))
                .with_error_code(ErrorCode::UnknownTopicId.code()),
        };
    };
    if let Some(topic) = catalog.topics.get(name) {
        return describe(topic, catalog);
    }
    let code = match codes.get(name) {
        Some(&code) => code,
        None if !valid_name(name) => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_error_code(code.code())
}

fn describe(topic: &Topic, catalog: &Catalog) -> MetadataResponseTopic {
    let epoch = if catalog.leader_epoch > 0 { catalog.leader_epoch } else { -1 };
    let partitions = (0..topic.partitions).map(|partition| {
        let key = LogKey { topic_id: topic.id, partition };
        let leader = BrokerId(catalog.broker_of_shard(shard_of(key, catalog.shard_count)));
        MetadataResponsePartition::default()
            .with_partition_index(partition_index(partition))
            .with_leader_id(leader)
            .with_leader_epoch(epoch)
            .with_replica_nodes(vec![leader])
            .with_isr_nodes(vec![leader])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(uuid(topic.uuid))
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
}
