//! The metadata store of a start: never made anew where logs are, which would be served under other names or none.

use super::listeners::Listeners;
use super::{draw_uuid, plan};
use crate::config::Config;
use crate::control::meta::catalog::Identity;
use crate::control::meta::local::{LocalStore, METADATA_REMEDY};
use crate::control::meta::topics::remake::stored_cluster_id;
use crate::control::meta::topics::{Metadata, TopicRules};
use crate::refusal::Refusal;
use crate::report::{self, Level};
use ringway_log::directory::DirectoryFacts;
use ringway_runtime::directory::DataDirectory;
use std::path::Path;
use std::sync::Arc;

/// Opens the store; only a directory without any log gets a new one.
///
/// # Errors
/// It is lost or damaged; the text names the remedy.
pub(super) fn open(
    config: &Config,
    directory: &DataDirectory,
    facts: &DirectoryFacts,
    listeners: &Listeners,
    shards: u32,
) -> Result<Metadata, Refusal> {
    let known = facts.known_logs();
    let store = open_store(&directory.path.join("metastore.redb"), known.len())?;
    let identity = Identity {
        cluster_id: String::new(),
        node_id: config.node.id,
        shard_count: shards,
        advertise_shards: config.kafka.advertises_shards(shards),
        leader_epoch: i32::try_from(facts.start_counter).unwrap_or(i32::MAX),
        topic_defaults: Arc::new(config.broker.topic_defaults.clone()),
    };
    let rules = TopicRules { partitions: config.broker.partitions, draw_uuid };
    let on_disk = known.iter().map(|log| log.topic_id).max().unwrap_or(0);
    let mut metadata = Metadata::open(Box::new(store), identity, rules, on_disk)
        .map_err(|error| damaged(&error))?;
    metadata.set_brokers(plan::brokers(config, listeners, shards));
    let catalog = metadata.catalog();
    let orphans =
        facts.logs.iter().filter(|log| !catalog.by_id.contains_key(&log.topic_id)).count();
    if orphans > 0 {
        let text = "logs on disk that no topic knows; they are not served and not deleted";
        report::log(Level::Warn, "boot", text, &[("logs", orphans.into())]);
    }
    Ok(metadata)
}

fn open_store(path: &Path, logs: usize) -> Result<LocalStore, Refusal> {
    let lost = |what: &str| {
        let path = path.display();
        Refusal::configuration(format!(
            "metadata store {path} {what}, but {logs} logs are there: {METADATA_REMEDY}"
        ))
    };
    let bytes = std::fs::metadata(path).map_or(0, |facts| facts.len());
    if bytes == 0 && logs > 0 {
        return Err(lost(if path.exists() { "is empty" } else { "is missing" }));
    }
    let store = LocalStore::open(path).map_err(|error| damaged(&error))?;
    if stored_cluster_id(&store).is_none() && logs > 0 {
        return Err(lost("tells nothing"));
    }
    Ok(store)
}

fn damaged(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::configuration(format!("{error}; if the file is damaged: {METADATA_REMEDY}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::CONFIGURATION;

    #[test]
    fn a_lost_store_is_refused_where_logs_are_and_made_where_none_is() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("metastore.redb");
        let refused = |what: &str| {
            let refusal = open_store(&path, 3).map(drop).expect_err("refused");
            assert_eq!(refusal.code, CONFIGURATION);
            for part in ["metastore.redb", what, "3 logs", "repair DIR --metadata", "backup"] {
                assert!(refusal.text.contains(part), "{}", refusal.text);
            }
        };
        refused("is missing");
        assert!(!path.exists(), "and nothing is made");
        std::fs::write(&path, b"").expect("writes");
        refused("is empty");
        drop(open_store(&path, 0).expect("a new directory"));
        refused("tells nothing");
        std::fs::write(&path, b"no store at all").expect("writes");
        let refusal = open_store(&path, 3).map(drop).expect_err("refused");
        assert!(refusal.text.contains("repair DIR --metadata"), "{}", refusal.text);
    }
}
