//! Which topics a stopped directory has, read from a copy of its metadata store.

use crate::control::meta::catalog::{TOPIC_PREFIX, TopicRow};
use crate::control::meta::local::{LocalStore, METADATA_REMEDY};
use crate::control::meta::store::{read_all, read_row};
use crate::control::meta::topics::VERSION;
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A larger store is not read into memory: 100,000 partitions need a few MiB.
const STORE_BYTES_MAX: u64 = 1 << 30;

/// The topics, by their number.
pub(super) struct Topics(BTreeMap<u64, (String, TopicRow)>);

impl Topics {
    /// Reads all topics; the file is not changed.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub(super) fn read(directory: &Path) -> Result<Topics, String> {
        let path = directory.join("metastore.redb");
        let told = |cause: &dyn std::fmt::Display| {
            format!(
                "{}: {cause}; which topics there are cannot be told: {METADATA_REMEDY}",
                path.display()
            )
        };
        let bytes = fs::metadata(&path).map_err(|cause| told(&cause))?.len();
        if bytes > STORE_BYTES_MAX {
            return Err(told(&format!("{bytes} bytes are more than any store has")));
        }
        let body = fs::read(&path).map_err(|cause| told(&cause))?;
        let store = LocalStore::open_copy(&body, &path).map_err(|_| told(&"damaged"))?;
        let version = read_row(&store, VERSION).map_err(|cause| told(&cause))?;
        if version.is_none() {
            return Err(told(&"there is nothing in it"));
        }
        let mut topics = BTreeMap::new();
        for row in read_all(&store, TOPIC_PREFIX).map_err(|cause| told(&cause))?.0 {
            let name = row.key.strip_prefix(TOPIC_PREFIX).unwrap_or_default().to_owned();
            let topic: TopicRow = serde_json::from_slice(&row.value)
                .map_err(|cause| told(&format!("row {}: {cause}", row.key)))?;
            topics.insert(topic.topic_id, (name, topic));
        }
        Ok(Topics(topics))
    }

    /// The name of a topic.
    pub(super) fn name(&self, topic_id: u64) -> Option<&str> {
        self.0.get(&topic_id).map(|(name, _)| name.as_str())
    }

    /// Whether a log is one of a topic that exists.
    pub(super) fn has(&self, log: LogKey) -> bool {
        self.0.get(&log.topic_id).is_some_and(|(_, topic)| log.partition < topic.partitions)
    }

    /// Topics with partitions that are not among `logs`, one line each.
    pub(super) fn without_logs(&self, logs: &BTreeSet<LogKey>) -> Vec<String> {
        let mut lines = Vec::new();
        for (topic_id, (name, topic)) in &self.0 {
            let key = |partition| LogKey { topic_id: *topic_id, partition };
            let lacking = (0..topic.partitions).filter(|at| !logs.contains(&key(*at))).count();
            if lacking > 0 {
                lines.push(format!(
                    "topic {name}: {lacking} of {} partitions have no directory, and no checkpoint tells of them: \
                     they were never made, or all of them is lost",
                    topic.partitions
                ));
            }
        }
        lines
    }

    /// What a log's `partition.meta` holds.
    pub(super) fn partition_meta(&self, log: LogKey) -> Option<Vec<u8>> {
        let (name, topic) = self.0.get(&log.topic_id)?;
        Some(ringway_log::inspect::partition_meta(name, topic.uuid, log))
    }
}
