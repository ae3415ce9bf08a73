//! Hello and Metadata: answered from the catalog and the door's settings at once.
//! Owner: nobody, plain functions.
//! Invariant: one answer is made from one snapshot of the catalog.
//! Not here: changes of metadata (`topics.rs`).

use crate::turn::Turn;
use ringway_partition::catalog::{Catalog, Topic};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, TopicUuid, shard_of};
use ringway_wire::native::control::{
    Hello, HelloReply, Limits, MetadataReply, MetadataRequest, PROTOCOL_VERSION, PartitionMetadata,
    ShardAddress, TopicMetadata,
};

/// Whom the client reached, and what it may do.
pub(crate) fn hello(hello: &Hello, turn: &Turn<'_>) -> HelloReply {
    let (config, catalog) = (&turn.door.config, &turn.door.catalog);
    HelloReply {
        version: hello.version.min(PROTOCOL_VERSION),
        software: config.software.clone(),
        node_id: node_id(catalog),
        shard: turn.door.shard,
        shards: catalog.shard_count,
        limits: Limits {
            message_bytes_max: config.message_bytes_max,
            requests_max: u32::try_from(config.conn_requests_max).unwrap_or(u32::MAX),
            heartbeat_ms: config.native_heartbeat_ns / 1_000_000,
        },
    }
}

/// The topics asked for and where their owners listen.
pub(crate) fn metadata(request: &MetadataRequest, catalog: &Catalog) -> MetadataReply {
    let shards = (0..catalog.shard_count)
        .map(|shard| ShardAddress { shard, address: address(shard, catalog) })
        .collect();
    let topics = match &request.topics {
        None => catalog.topics.values().map(|topic| describe(topic, catalog)).collect(),
        Some(names) => names.iter().map(|name| named(name, catalog)).collect(),
    };
    MetadataReply { node_id: node_id(catalog), shards, topics }
}

fn named(name: &str, catalog: &Catalog) -> TopicMetadata {
    match catalog.topics.get(name) {
        Some(topic) => describe(topic, catalog),
        None => TopicMetadata {
            name: name.to_owned(),
            code: ErrorCode::UnknownTopicOrPartition.code(),
            ..TopicMetadata::default()
        },
    }
}

fn describe(topic: &Topic, catalog: &Catalog) -> TopicMetadata {
    let partitions = (0..topic.partitions).map(|partition| {
        let shard = shard_of(LogKey { topic_id: topic.id, partition }, catalog.shard_count);
        PartitionMetadata { partition, shard, address: address(shard, catalog) }
    });
    TopicMetadata {
        name: topic.name.clone(),
        code: 0,
        topic_id: topic.id,
        uuid: hex(topic.uuid),
        partitions: partitions.collect(),
    }
}

/// Every data port takes every dialect, so the shard's Kafka address is its address.
fn address(shard: u32, catalog: &Catalog) -> String {
    let id = catalog.broker_of_shard(shard);
    let broker = catalog.brokers.iter().find(|broker| broker.id == id);
    broker.map(|broker| host_port(&broker.host, broker.port)).unwrap_or_default()
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn node_id(catalog: &Catalog) -> u32 {
    u32::try_from(catalog.node_id).unwrap_or(0)
}

/// 32 hex digits.
pub(crate) fn hex(uuid: TopicUuid) -> String {
    format!("{:032x}", u128::from_be_bytes(uuid.0))
}
