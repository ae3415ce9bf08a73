//! Which logs this shard has: made, configured and removed as the catalog says.
//! Owner: `Shard`.
//! Invariant: after a change the table holds exactly the owned partitions of the newest catalog.
//! Not here: files (`log`), who decides about topics (`src/control/meta/`).

use crate::catalog::{Catalog, Topic};
use crate::partition::{Partition, Partitions, Standing};
use crate::shard_config::ShardConfig;
use crate::turn::Turn;
use ringway_log::logs::LogSettings;
use ringway_wire::ids::{LogKey, shard_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Logs to be made once recovery is through.
#[derive(Default)]
pub(crate) struct Openings {
    started: bool,
    later: BTreeSet<LogKey>,
}

/// Partitions of `catalog` that `shard` owns.
fn owned(catalog: &Catalog, shard: u32) -> impl Iterator<Item = (LogKey, &Arc<Topic>)> {
    let shard_count = catalog.shard_count;
    catalog.by_id.values().flat_map(move |topic| {
        (0..topic.partitions)
            .map(|partition| LogKey { topic_id: topic.id, partition })
            .filter(move |key| shard_of(*key, shard_count) == shard)
            .map(move |key| (key, topic))
    })
}

fn settings(topic: &Topic) -> LogSettings {
    topic.config.log_settings(&topic.name, topic.uuid)
}

impl Openings {
    /// What recovery has to open: logs that are, or were, on disk, owned here and known to the catalog.
    pub(crate) fn at_start(
        &mut self,
        config: &ShardConfig,
        catalog: &Catalog,
        known: &[LogKey],
        partitions: &mut Partitions,
    ) -> Vec<(LogKey, LogSettings)> {
        let mut mine = Vec::new();
        for (key, topic) in owned(catalog, config.shard) {
            partitions.insert(Partition::new(key, Arc::clone(topic)));
            if known.binary_search(&key).is_ok() {
                mine.push((key, settings(topic)));
            } else {
                self.later.insert(key);
            }
        }
        mine
    }

    /// Recovery is through: logs may be made.
    pub(crate) fn started(&mut self, turn: &mut Turn<'_>) {
        self.started = true;
        for key in std::mem::take(&mut self.later) {
            self.create(turn, key);
        }
    }

    fn create(&mut self, turn: &mut Turn<'_>, key: LogKey) {
        if !self.started {
            self.later.insert(key);
            return;
        }
        let Some(partition) = turn.ground.partitions.get(key) else { return };
        let settings = settings(&partition.topic);
        turn.ground.logs.create(key, settings, turn.now, &mut turn.out.io);
    }

    /// Takes a catalog, unless a newer one came before; returns the partitions that are no longer in it, for the caller to
    /// [`Openings::remove`] after failing what waits for them.
    pub(crate) fn changed(&mut self, turn: &mut Turn<'_>, catalog: Arc<Catalog>) -> Vec<LogKey> {
        if catalog.version < turn.ground.catalog.version {
            return Vec::new();
        }
        assert_eq!(
            catalog.shard_count, turn.ground.catalog.shard_count,
            "the number of shards is fixed for a life"
        );
        let shard = turn.ground.config.shard;
        let mut now_owned: BTreeMap<LogKey, &Arc<Topic>> = owned(&catalog, shard).collect();
        let gone: Vec<LogKey> =
            turn.ground.partitions.keys().filter(|key| !now_owned.contains_key(key)).collect();
        while let Some((key, topic)) = now_owned.pop_first() {
            match turn.ground.partitions.get_mut(key) {
                None => {
                    turn.ground.partitions.insert(Partition::new(key, Arc::clone(topic)));
                    self.create(turn, key);
                }
                Some(partition) if !Arc::ptr_eq(&partition.topic, topic) => {
                    let changed = partition.topic.config != topic.config;
                    partition.topic = Arc::clone(topic);
                    if changed && !self.later.contains(&key) {
                        turn.ground.logs.configure(key, settings(topic));
                    }
                }
                Some(_) => {}
            }
        }
        turn.ground.catalog = catalog;
        gone
    }

    /// Takes a partition out of the table and its log from the disk.
    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>, key: LogKey) {
        let Some(partition) = turn.ground.partitions.remove(key) else { return };
        assert!(partition.held.is_empty() && partition.unflushed.is_empty(), "{key} still waits");
        let made = !self.later.remove(&key);
        if made && !matches!(partition.standing, Standing::Offline(_)) {
            turn.ground.logs.remove(key, &mut turn.out.io);
        }
    }
}
