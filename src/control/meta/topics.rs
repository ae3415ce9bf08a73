//! Carries out the `MetaOp`s that shards emit: topics made and deleted, producer ids given out.

pub(crate) mod remake;

use super::catalog::{CatalogFollower, Identity, TOPIC_PREFIX, TopicRow};
use super::names;
use super::store::{Expect, MetaStore, Op, Outcome, Row, StoreError, Txn, read_row};
use ringway_partition::catalog::{Broker, Catalog};
use ringway_partition::request::{MetaAnswer, MetaOp};
use ringway_partition::topic_config::TopicConfig;
use ringway_wire::error_code::ErrorCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Partitions of one topic at most.
pub(crate) const TOPIC_PARTITIONS_MAX: u32 = 10_000;
/// Partitions of all topics at most (the size `scaleout` promises).
pub(crate) const PARTITIONS_MAX: u64 = 100_000;
/// A transaction is tried again when somebody else was faster, so often.
const ATTEMPTS_MAX: u32 = 5;
/// Names that differ in `.` and `_` alone share one of these rows.
const SLOT_PREFIX: &str = "topic-slot/";
const TOPIC_ID_NEXT: &str = "topic-id/next";
const PRODUCER_ID_NEXT: &str = "producer-id/next";
/// Row that every store has from its first start on.
pub(crate) const VERSION: &str = "version";

/// Identity of the cluster, written once.
#[derive(Debug, Serialize, Deserialize)]
struct VersionRow {
    schema: u32,
    cluster_id: String,
}

/// What topics are made with when a request does not say.
#[derive(Clone, Debug)]
pub(crate) struct TopicRules {
    /// `num.partitions`
    pub(crate) partitions: u32,
    /// Draws a topic's uuid.
    pub(crate) draw_uuid: fn() -> [u8; 16],
}

/// The store, the snapshot that follows it, and the rules.
pub(crate) struct Metadata {
    store: Box<dyn MetaStore>,
    follower: CatalogFollower,
    rules: TopicRules,
}

/// A refusal, as the client is told.
type Refused = (ErrorCode, String);

/// A topic as asked for and checked.
struct NewTopic<'a> {
    name: &'a str,
    partitions: u32,
    internal: bool,
    configs: BTreeMap<String, String>,
}

impl Metadata {
    /// Opens metadata: the cluster's identity is made when there is none, and topic numbers go on above
    /// every one found on disk.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(crate) fn open(
        mut store: Box<dyn MetaStore>,
        mut identity: Identity,
        rules: TopicRules,
        topic_id_max_on_disk: u64,
    ) -> Result<Metadata, StoreError> {
        identity.cluster_id = cluster_id(store.as_mut(), rules.draw_uuid)?;
        raise_counter(store.as_mut(), TOPIC_ID_NEXT, topic_id_max_on_disk.saturating_add(1))?;
        let follower = CatalogFollower::new(store.as_ref(), identity)?;
        Ok(Metadata { store, follower, rules })
    }

    /// The newest snapshot.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.follower.catalog())
    }

    /// What failed, when nothing can be changed any more.
    pub(crate) fn poison(&self) -> Option<&str> {
        self.store.poison()
    }

    /// Tells clients where the brokers are.
    pub(crate) fn set_brokers(&mut self, brokers: Vec<Broker>) {
        self.follower.set_brokers(brokers);
    }

    /// Carries out `op`: the answer, and the new snapshot when there is one. Publish that first.
    pub(crate) fn apply(&mut self, op: MetaOp) -> (MetaAnswer, Option<Arc<Catalog>>) {
        let answer = match op {
            MetaOp::CreateTopic {
                name,
                partitions,
                replication_factor,
                configs,
                validate_only,
                internal,
            } => self
                .check_new(&name, partitions, replication_factor, &configs, internal)
                .and_then(|topic| self.create(&topic, validate_only)),
            MetaOp::AlterTopic { topic_id, configs } => self.alter(topic_id, &configs),
            MetaOp::DeleteTopic { topic_id } => self.delete(topic_id),
            MetaOp::ReserveProducerIds { count } => self.reserve_producer_ids(count),
        };
        let answer = answer.unwrap_or_else(|(code, message)| MetaAnswer::Failed { code, message });
        match self.follower.follow(self.store.as_ref()) {
            Ok(true) => (answer, Some(self.catalog())),
            Ok(false) => (answer, None),
            Err(error) => (failed(&error), None),
        }
    }

    fn check_new<'a>(
        &self,
        name: &'a str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(String, Option<String>)],
        internal: bool,
    ) -> Result<NewTopic<'a>, Refused> {
        if let Some(why) = names::refusal(name) {
            return Err((ErrorCode::InvalidTopicException, why));
        }
        let catalog = self.follower.catalog();
        if catalog.topics.contains_key(name) {
            return Err((ErrorCode::TopicAlreadyExists, format!("topic {name} exists")));
        }
        let partitions = match u32::try_from(partitions) {
            Ok(given) => given,
            Err(_) if partitions == -1 => self.rules.partitions,
            Err(_) => 0,
        };
        if partitions == 0 || partitions > TOPIC_PARTITIONS_MAX {
            let why = format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions");
            return Err((ErrorCode::InvalidPartitions, why));
        }
        let present: u64 = catalog.topics.values().map(|topic| u64::from(topic.partitions)).sum();
        if present + u64::from(partitions) > PARTITIONS_MAX {
            let why = format!("{present} partitions exist, {PARTITIONS_MAX} is the limit");
            return Err((ErrorCode::InvalidPartitions, why));
        }
        if !matches!(replication_factor, -1 | 1) {
            let why =
                format!("replication factor {replication_factor}: one node can hold 1 replica");
            return Err((ErrorCode::InvalidReplicationFactor, why));
        }
        let given = configs.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let config = TopicConfig::from_overrides(given)
            .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        Ok(NewTopic { name, partitions, internal, configs: config.overrides })
    }

    fn create(&mut self, topic: &NewTopic<'_>, validate_only: bool) -> Result<MetaAnswer, Refused> {
        let slot = format!("{SLOT_PREFIX}{}", names::slot(topic.name));
        for _ in 0..ATTEMPTS_MAX {
            if let Some(other) = self.row(&slot)? {
                let other = String::from_utf8_lossy(&other.value).into_owned();
                return Err(taken(topic.name, &other));
            }
            if validate_only {
                return Ok(MetaAnswer::Created { topic_id: 0, partitions: topic.partitions });
            }
            let (counter, topic_id) = self.counter(TOPIC_ID_NEXT)?;
            let row = TopicRow {
                topic_id,
                uuid: (self.rules.draw_uuid)(),
                partitions: topic.partitions,
                internal: topic.internal,
                configs: topic.configs.clone(),
            };
            let key = format!("{TOPIC_PREFIX}{}", topic.name);
            let txn = Txn {
                compares: vec![
                    (key.clone(), Expect::Absent),
                    (slot.clone(), Expect::Absent),
                    (TOPIC_ID_NEXT.to_owned(), counter),
                ],
                then: vec![
                    Op::Put(key, encode(&row)?),
                    Op::Put(slot.clone(), topic.name.as_bytes().to_vec()),
                    Op::Put(TOPIC_ID_NEXT.to_owned(), encode(&(topic_id + 1))?),
                ],
                otherwise: Vec::new(),
            };
            if self.commit(&txn)? {
                return Ok(MetaAnswer::Created { topic_id, partitions: topic.partitions });
            }
        }
        Err(contended())
    }

    /// Changes the settings given, checked together with those that stay.
    fn alter(
        &mut self,
        topic_id: u64,
        changes: &[(String, Option<String>)],
    ) -> Result<MetaAnswer, Refused> {
        for _ in 0..ATTEMPTS_MAX {
            let (name, key, row) = self.topic_row(topic_id)?;
            let mut topic: TopicRow = serde_json::from_slice(&row.value).map_err(|cause| {
                (ErrorCode::UnknownServerError, format!("row of topic {name}: {cause}"))
            })?;
            if topic.internal {
                let why = format!("topic {name} is the broker's own: its settings are fixed");
                return Err((ErrorCode::InvalidTopicException, why));
            }
            let stay = topic.configs.iter().map(|(name, value)| (name.as_str(), Some(&**value)));
            let given = changes.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            let config = TopicConfig::from_overrides(stay.chain(given))
                .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
            topic.configs = config.overrides;
            let txn = Txn {
                compares: vec![(key.clone(), Expect::ModRevision(row.mod_revision))],
                then: vec![Op::Put(key, encode(&topic)?)],
                otherwise: Vec::new(),
            };
            if self.commit(&txn)? {
                return Ok(MetaAnswer::Altered);
            }
        }
        Err(contended())
    }

    /// A topic's name, and its row with the key.
    fn topic_row(&self, topic_id: u64) -> Result<(String, String, Row), Refused> {
        let unknown =
            || (ErrorCode::UnknownTopicOrPartition, format!("no topic has id {topic_id}"));
        let topic = self.follower.catalog().by_id.get(&topic_id).ok_or_else(unknown)?;
        let key = format!("{TOPIC_PREFIX}{}", topic.name);
        let row = self.row(&key)?.ok_or_else(unknown)?;
        Ok((topic.name.clone(), key, row))
    }

    fn delete(&mut self, topic_id: u64) -> Result<MetaAnswer, Refused> {
        for _ in 0..ATTEMPTS_MAX {
            let (name, key, row) = self.topic_row(topic_id)?;
            let slot = format!("{SLOT_PREFIX}{}", names::slot(&name));
            let txn = Txn {
                compares: vec![(key.clone(), Expect::ModRevision(row.mod_revision))],
                then: vec![Op::Delete(key), Op::Delete(slot)],
                otherwise: Vec::new(),
            };
            if self.commit(&txn)? {
                return Ok(MetaAnswer::Deleted);
            }
        }
        Err(contended())
    }

    fn reserve_producer_ids(&mut self, count: u32) -> Result<MetaAnswer, Refused> {
        for _ in 0..ATTEMPTS_MAX {
            let (counter, first) = self.counter(PRODUCER_ID_NEXT)?;
            let next = first + u64::from(count);
            let txn = Txn {
                compares: vec![(PRODUCER_ID_NEXT.to_owned(), counter)],
                then: vec![Op::Put(PRODUCER_ID_NEXT.to_owned(), encode(&next)?)],
                otherwise: Vec::new(),
            };
            if self.commit(&txn)? {
                let first = i64::try_from(first).unwrap_or(i64::MAX);
                return Ok(MetaAnswer::ProducerIds { first, count });
            }
        }
        Err(contended())
    }

    /// A counter's value (0 when it does not exist yet) and what to compare it with.
    fn counter(&self, key: &str) -> Result<(Expect, u64), Refused> {
        let Some(row) = self.row(key)? else { return Ok((Expect::Absent, 0)) };
        let value = decode_counter(&row).map_err(|error| refused(&error))?;
        Ok((Expect::ModRevision(row.mod_revision), value))
    }

    fn row(&self, key: &str) -> Result<Option<Row>, Refused> {
        read_row(self.store.as_ref(), key).map_err(|error| refused(&error))
    }

    /// Whether it happened; `Unknown` reads as a failure: once the store is open again the client may find it done.
    fn commit(&mut self, txn: &Txn) -> Result<bool, Refused> {
        match self.store.txn(txn).map_err(|error| refused(&error))? {
            Outcome::Committed { .. } => Ok(true),
            Outcome::NotMet { .. } => Ok(false),
            Outcome::Unknown => {
                let cause = self.store.poison().unwrap_or("no answer");
                let why = format!(
                    "the metadata store did not say whether this is done: {cause}; a restart finds out"
                );
                Err((ErrorCode::KafkaStorageError, why))
            }
        }
    }
}

fn taken(name: &str, other: &str) -> Refused {
    if name == other {
        return (ErrorCode::TopicAlreadyExists, format!("topic {name} exists"));
    }
    let why = format!("topic {name} collides with {other}: names that differ only in . and _");
    (ErrorCode::InvalidTopicException, why)
}

fn contended() -> Refused {
    let why = format!("metadata changed {ATTEMPTS_MAX} times while this was tried");
    (ErrorCode::RequestTimedOut, why)
}

fn refused(error: &StoreError) -> Refused {
    (ErrorCode::KafkaStorageError, error.to_string())
}

fn failed(error: &StoreError) -> MetaAnswer {
    let (code, message) = refused(error);
    MetaAnswer::Failed { code, message }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(value).map_err(|error| (ErrorCode::UnknownServerError, error.to_string()))
}

fn decode_counter(row: &Row) -> Result<u64, StoreError> {
    serde_json::from_slice(&row.value).map_err(|cause| StoreError::Failed {
        path: format!("row {}", row.key),
        cause: cause.to_string(),
    })
}

/// Makes a counter at least `least`: a number found on disk is never given out again.
fn raise_counter(store: &mut dyn MetaStore, key: &str, least: u64) -> Result<(), StoreError> {
    let row = read_row(store, key)?;
    let value = row.as_ref().map(decode_counter).transpose()?;
    if value.is_some_and(|value| value >= least) {
        return Ok(());
    }
    let expect = row.map_or(Expect::Absent, |row| Expect::ModRevision(row.mod_revision));
    let txn = Txn {
        compares: vec![(key.to_owned(), expect)],
        then: vec![Op::Put(key.to_owned(), least.to_string().into_bytes())],
        otherwise: Vec::new(),
    };
    store.txn(&txn).map(|_outcome| ())
}

/// The stored identity, or a new one stored now.
fn cluster_id(
    store: &mut dyn MetaStore,
    draw_uuid: fn() -> [u8; 16],
) -> Result<String, StoreError> {
    let broken = |cause: serde_json::Error| StoreError::Failed {
        path: format!("row {VERSION}"),
        cause: cause.to_string(),
    };
    if let Some(row) = read_row(store, VERSION)? {
        let version: VersionRow = serde_json::from_slice(&row.value).map_err(broken)?;
        return Ok(version.cluster_id);
    }
    let version = VersionRow { schema: 1, cluster_id: base64_22(draw_uuid()) };
    let value = serde_json::to_vec(&version).map_err(broken)?;
    let txn = Txn {
        compares: vec![(VERSION.to_owned(), Expect::Absent)],
        then: vec![Op::Put(VERSION.to_owned(), value)],
        otherwise: Vec::new(),
    };
    store.txn(&txn)?;
    Ok(version.cluster_id)
}

/// 16 bytes in 22 characters of URL-safe base64, as Kafka writes uuids.
fn base64_22(uuid: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(uuid);
    // 21 whole groups of 6 bits, then the last 2 bits followed by zeros.
    let mut text: String = (0..21)
        .map(|group| {
            char::from(ALPHABET[usize::try_from((bits >> (122 - 6 * group)) & 63).unwrap_or(0)])
        })
        .collect();
    text.push(char::from(ALPHABET[usize::try_from((bits & 3) << 4).unwrap_or(0)]));
    text
}

#[cfg(test)]
mod tests;
