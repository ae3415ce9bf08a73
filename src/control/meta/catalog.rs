//! Keeps the `Catalog` that shards answer from in step with the store, by watching the store's topics.

use super::store::{MetaStore, Row, StoreError, Watched, read_all};
use ringway_partition::catalog::{Broker, Catalog, Topic};
use ringway_partition::topic_config::TopicConfig;
use ringway_wire::ids::TopicUuid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of topics lie below it.
pub(crate) const TOPIC_PREFIX: &str = "topic/";

/// A topic as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicRow {
    /// This cluster's number.
    pub(crate) topic_id: u64,
    /// Kafka's topic id.
    pub(crate) uuid: [u8; 16],
    /// Partition count.
    pub(crate) partitions: u32,
    /// Made by the broker itself.
    pub(crate) internal: bool,
    /// Settings as given.
    pub(crate) configs: BTreeMap<String, String>,
}

/// What does not come from the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// Stable for the cluster's life.
    pub(crate) cluster_id: String,
    /// This node.
    pub(crate) node_id: i32,
    /// Its shards.
    pub(crate) shard_count: u32,
    /// Whether each shard is a broker.
    pub(crate) advertise_shards: bool,
    /// Kafka's leader epoch of this life.
    pub(crate) leader_epoch: i32,
    /// Defaults of topics, by the topic's setting name.
    pub(crate) topic_defaults: Arc<BTreeMap<String, String>>,
}

/// The newest snapshot and where the watch stands.
pub(crate) struct CatalogFollower {
    catalog: Arc<Catalog>,
    topic_defaults: Arc<BTreeMap<String, String>>,
    watch_from: u64,
}

impl CatalogFollower {
    /// Reads all topics.
    ///
    /// # Errors
    /// The store cannot be read, or holds a topic that makes no sense.
    pub(crate) fn new(
        store: &dyn MetaStore,
        identity: Identity,
    ) -> Result<CatalogFollower, StoreError> {
        let catalog = Catalog {
            version: 0,
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            shard_count: identity.shard_count,
            advertise_shards: identity.advertise_shards,
            leader_epoch: identity.leader_epoch,
            ..Catalog::default()
        };
        let mut follower = CatalogFollower {
            catalog: Arc::new(catalog),
            topic_defaults: identity.topic_defaults,
            watch_from: 0,
        };
        follower.read_anew(store)?;
        Ok(follower)
    }

    /// The newest snapshot.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Brokers are known once every port is bound.
    pub(crate) fn set_brokers(&mut self, brokers: Vec<Broker>) {
        let mut next = Catalog::clone(&self.catalog);
        next.brokers = brokers;
        self.publish(next);
    }

    /// Takes in what the store committed since the last call; whether anything changed.
    ///
    /// # Errors
    /// The store cannot be read, or holds a topic that makes no sense.
    pub(crate) fn follow(&mut self, store: &dyn MetaStore) -> Result<bool, StoreError> {
        let (events, next_revision) = match store.watch(TOPIC_PREFIX, self.watch_from) {
            Watched::Compacted => {
                self.read_anew(store)?;
                return Ok(true);
            }
            Watched::Events { events, next } => (events, next),
        };
        self.watch_from = next_revision;
        if events.is_empty() {
            return Ok(false);
        }
        let mut next = Catalog::clone(&self.catalog);
        for event in events {
            let name = event.key.strip_prefix(TOPIC_PREFIX).unwrap_or_default();
            // A topic made anew under an old name has another number: the old one must go first.
            if let Some(old) = next.topics.get(name).map(|topic| topic.id) {
                next.remove(old);
            }
            if let Some(value) = event.value {
                next.insert(self.topic(name, &value)?);
            }
        }
        self.publish(next);
        Ok(true)
    }

    fn read_anew(&mut self, store: &dyn MetaStore) -> Result<(), StoreError> {
        let (rows, revision) = read_all(store, TOPIC_PREFIX)?;
        let mut next = Catalog::clone(&self.catalog);
        next.topics.clear();
        next.by_id.clear();
        next.by_uuid.clear();
        for Row { key, value, .. } in rows {
            let name = key.strip_prefix(TOPIC_PREFIX).unwrap_or_default();
            next.insert(self.topic(name, &value)?);
        }
        self.watch_from = revision + 1;
        self.publish(next);
        Ok(())
    }

    fn publish(&mut self, mut next: Catalog) {
        assert!(next.version == self.catalog.version, "made from the newest snapshot");
        next.version += 1;
        self.catalog = Arc::new(next);
    }

    fn topic(&self, name: &str, value: &[u8]) -> Result<Topic, StoreError> {
        let wrong =
            |cause: String| StoreError::Failed { path: format!("row of topic {name}"), cause };
        let row: TopicRow =
            serde_json::from_slice(value).map_err(|cause| wrong(cause.to_string()))?;
        let given = row.configs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
        let config = TopicConfig::with_broker_defaults(Arc::clone(&self.topic_defaults), given)
            .map_err(|cause| wrong(cause.to_string()))?;
        Ok(Topic {
            id: row.topic_id,
            uuid: TopicUuid(row.uuid),
            name: name.to_owned(),
            partitions: row.partitions,
            internal: row.internal,
            config,
        })
    }
}
