//! The control plane as a map: applies `MetaOp`s durably at once and makes catalogs.
//! Owner: the node; it outlives processes.
//! Invariant: topic numbers and producer ids are never given twice.
//! Not here: when answers and catalogs arrive (`node.rs`).

use crate::rng::{Rng, mix};
use ringway_partition::catalog::{Broker, Catalog, Topic};
use ringway_partition::request::{MetaAnswer, MetaOp};
use ringway_partition::topic_config::TopicConfig;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, TopicUuid};
use std::collections::BTreeMap;

/// Durable metadata.
#[derive(Clone, Debug, Default)]
pub struct Control {
    topics: BTreeMap<String, Topic>,
    next_topic: u64,
    next_producer_id: i64,
    version: u64,
}

impl Control {
    /// Nothing but where numbers start.
    #[must_use]
    pub fn new(rng: &mut Rng) -> Control {
        Control { next_topic: rng.within(1, 9), next_producer_id: 1000, ..Control::default() }
    }

    /// Applies one operation; true when the catalog changed.
    pub fn apply(&mut self, op: MetaOp) -> (MetaAnswer, bool) {
        match op {
            MetaOp::CreateTopic { name, partitions, configs, validate_only, internal, .. } => {
                self.create(&name, partitions, &configs, validate_only, internal)
            }
            MetaOp::AlterTopic { topic_id, configs } => self.alter(topic_id, &configs),
            MetaOp::DeleteTopic { topic_id } => {
                let before = self.topics.len();
                self.topics.retain(|_, topic| topic.id != topic_id);
                (MetaAnswer::Deleted, self.topics.len() != before)
            }
            MetaOp::ReserveProducerIds { count } => {
                let first = self.next_producer_id;
                self.next_producer_id += i64::from(count);
                (MetaAnswer::ProducerIds { first, count }, false)
            }
        }
    }

    fn alter(&mut self, id: u64, changes: &[(String, Option<String>)]) -> (MetaAnswer, bool) {
        let failed = |code, message: String| (MetaAnswer::Failed { code, message }, false);
        let Some(topic) = self.topics.values_mut().find(|topic| topic.id == id) else {
            return failed(ErrorCode::UnknownTopicOrPartition, format!("no topic has id {id}"));
        };
        let mut config = topic.config.clone();
        for (name, value) in changes {
            if let Err(error) = config.set(name, value.as_deref()) {
                return failed(ErrorCode::InvalidConfig, error.to_string());
            }
        }
        topic.config = config;
        (MetaAnswer::Altered, true)
    }

    fn create(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(String, Option<String>)],
        validate_only: bool,
        internal: bool,
    ) -> (MetaAnswer, bool) {
        let failed =
            |code: ErrorCode, message: String| (MetaAnswer::Failed { code, message }, false);
        if self.topics.contains_key(name) {
            return failed(ErrorCode::TopicAlreadyExists, format!("topic {name} exists"));
        }
        let given = configs.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
        let config = match TopicConfig::from_overrides(given) {
            Ok(config) => config,
            Err(error) => return failed(ErrorCode::InvalidConfig, error.to_string()),
        };
        let partitions = u32::try_from(partitions).unwrap_or(1).max(1);
        if validate_only {
            return (MetaAnswer::Created { topic_id: 0, partitions }, false);
        }
        (
            MetaAnswer::Created {
                topic_id: self.insert(name, partitions, config, internal),
                partitions,
            },
            true,
        )
    }

    /// Adds a topic whatever the bounds of Kafka's settings; returns its number.
    pub fn insert(
        &mut self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
        internal: bool,
    ) -> u64 {
        let id = self.next_topic;
        self.next_topic += 1;
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&mix(7, id).to_le_bytes());
        uuid[8..].copy_from_slice(&mix(8, id).to_le_bytes());
        let (name, uuid) = (name.to_owned(), TopicUuid(uuid));
        let topic = Topic { id, uuid, name: name.clone(), partitions, internal, config };
        self.topics.insert(name, topic);
        id
    }

    /// Changes the settings of a topic.
    pub fn configure(&mut self, name: &str, change: impl FnOnce(&mut TopicConfig)) {
        if let Some(topic) = self.topics.get_mut(name) {
            change(&mut topic.config);
        }
    }

    /// Whether readers of a log pass damage over.
    #[must_use]
    pub fn skips_quarantined(&self, key: LogKey) -> bool {
        let topic = self.topics.values().find(|topic| topic.id == key.topic_id);
        topic.is_some_and(|topic| topic.config.skip_quarantined)
    }

    /// Every log that clients write to.
    #[must_use]
    pub fn logs(&self) -> Vec<LogKey> {
        let of = |topic: &Topic| {
            let topic_id = topic.id;
            (0..topic.partitions).map(move |partition| LogKey { topic_id, partition })
        };
        self.topics.values().filter(|topic| !topic.internal).flat_map(of).collect()
    }

    /// Topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> + '_ {
        self.topics.values()
    }

    /// A new snapshot.
    pub fn catalog(&mut self, shards: u32, advertise_shards: bool) -> Catalog {
        self.version += 1;
        let broker = |shard: u32| Broker {
            id: i32::try_from(shard).unwrap_or(0),
            host: "sim".to_owned(),
            port: 19092 + u16::try_from(shard).unwrap_or(0),
            rack: None,
        };
        let advertised = if advertise_shards { shards } else { 1 };
        let mut catalog = Catalog {
            version: self.version,
            cluster_id: "c2ltdWxhdGVkLWNsdXN0ZQ".to_owned(),
            brokers: (0..advertised).map(broker).collect(),
            node_id: 0,
            shard_count: shards,
            advertise_shards,
            ..Catalog::default()
        };
        for topic in self.topics.values() {
            catalog.insert(topic.clone());
        }
        catalog
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producer_ids_are_given_once() {
        let mut control = Control::new(&mut Rng::new(1));
        let (first, _) = control.apply(MetaOp::ReserveProducerIds { count: 10 });
        let (second, _) = control.apply(MetaOp::ReserveProducerIds { count: 10 });
        assert_eq!(first, MetaAnswer::ProducerIds { first: 1000, count: 10 });
        assert_eq!(second, MetaAnswer::ProducerIds { first: 1010, count: 10 });
    }
}
