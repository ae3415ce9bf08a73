//! The immutable snapshot of metadata from which every shard answers.
//! Owner: the control plane makes it, everybody reads it behind an `Arc`.
//! Invariant: a snapshot never changes; `version` rises with every new one.
//! Not here: how it is stored (`src/control/meta/`).

use crate::topic_config::TopicConfig;
use ringway_wire::ids::TopicUuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One snapshot.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Rises with every snapshot.
    pub version: u64,
    /// 22-character base64 uuid, stable for the cluster's life (B6).
    pub cluster_id: String,
    /// Brokers as Kafka clients see them: one per shard, or one per node.
    pub brokers: Vec<Broker>,
    /// This node's number.
    pub node_id: i32,
    /// Shards of this node.
    pub shard_count: u32,
    /// Whether each shard is a broker of its own (`advertise = "shard"`).
    pub advertise_shards: bool,
    /// Kafka's leader epoch of every partition in this life of a lone node: the start counter of its log
    /// directory, so that every shard can tell it in Metadata (F8). 0 = not told.
    pub leader_epoch: i32,
    /// By name, in order.
    pub topics: BTreeMap<String, Arc<Topic>>,
    /// By this cluster's number.
    pub by_id: BTreeMap<u64, Arc<Topic>>,
    /// By Kafka's topic id.
    pub by_uuid: BTreeMap<TopicUuid, Arc<Topic>>,
}

/// One row of Kafka's broker list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// node × 1024 + shard, or node × 1024.
    pub id: i32,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
    /// Rack, when set.
    pub rack: Option<String>,
}

/// One topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// This cluster's number.
    pub id: u64,
    /// Kafka's topic id.
    pub uuid: TopicUuid,
    /// Name.
    pub name: String,
    /// Partition count.
    pub partitions: u32,
    /// Made by the broker itself.
    pub internal: bool,
    /// Settings.
    pub config: TopicConfig,
}

impl Catalog {
    /// Adds or replaces a topic in all three maps.
    pub fn insert(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_uuid.insert(topic.uuid, Arc::clone(&topic));
        self.topics.insert(topic.name.clone(), topic);
    }

    /// Removes a topic from all three maps.
    pub fn remove(&mut self, topic_id: u64) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(&topic_id)?;
        self.by_uuid.remove(&topic.uuid);
        self.topics.remove(&topic.name);
        Some(topic)
    }

    /// Broker id that leads a partition owned by `shard`.
    #[must_use]
    pub fn broker_of_shard(&self, shard: u32) -> i32 {
        let base = self.node_id * ringway_wire::ids::BROKERS_PER_NODE;
        if self.advertise_shards { base + i32::try_from(shard).unwrap_or(0) } else { base }
    }
}
