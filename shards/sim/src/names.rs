//! Names of segments, small files and log directories: as seen now, and as a cut would leave them.
//! Owner: `Disk`.
//! Invariant: a name is durable only once its directory was synced after the change.
//! Not here: contents (`file.rs`).

use crate::rng::{Rng, hash_bytes, mix};
use ringway_log::io::{Dir, SegmentName, SmallFile};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet};

/// A change of a directory that no sync has covered.
#[derive(Clone, Debug)]
struct Change {
    order: u64,
    name: SegmentName,
    /// The file it names now, or nothing.
    file: Option<usize>,
}

/// A small file: written whole or not at all, but its name can be lost with its directory's sync.
#[derive(Clone, Debug, Default)]
struct Small {
    seen: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
    order: u64,
}

/// All names of the disk.
#[derive(Clone, Debug, Default)]
pub struct Names {
    seen: BTreeMap<SegmentName, usize>,
    durable: BTreeMap<SegmentName, usize>,
    changes: Vec<Change>,
    small: BTreeMap<SmallFile, Small>,
    logs_seen: BTreeSet<LogKey>,
    logs_durable: BTreeSet<LogKey>,
}

impl Names {
    /// The file a segment's name leads to.
    #[must_use]
    pub fn segment(&self, name: SegmentName) -> Option<usize> {
        self.seen.get(&name).copied()
    }

    /// Segments of a log as seen now, oldest first.
    pub fn segments(&self, log: LogKey) -> impl Iterator<Item = (SegmentName, usize)> + '_ {
        let from = SegmentName { log, base_offset: 0 };
        let to = SegmentName { log, base_offset: u64::MAX };
        self.seen.range(from..=to).map(|(name, file)| (*name, *file))
    }

    /// Logs with a directory.
    pub fn logs(&self) -> impl Iterator<Item = LogKey> + '_ {
        self.logs_seen.iter().copied()
    }

    /// Makes a log's directory, volatile.
    pub fn make_log(&mut self, log: LogKey) {
        self.logs_seen.insert(log);
    }

    /// Names or unnames a segment, volatile.
    pub fn set(&mut self, order: u64, name: SegmentName, file: Option<usize>) {
        match file {
            Some(file) => self.seen.insert(name, file),
            None => self.seen.remove(&name),
        };
        self.changes.push(Change { order, name, file });
    }

    /// Removes a log's directory with all its names, volatile.
    pub fn remove_log(&mut self, order: u64, log: LogKey) {
        let names: Vec<SegmentName> = self.segments(log).map(|(name, _)| name).collect();
        for name in names {
            self.set(order, name, None);
        }
        for file in smalls_of(log) {
            if let Some(small) = self.small.get_mut(&file) {
                small.seen = None;
                small.order = order;
            }
        }
        self.logs_seen.remove(&log);
    }

    /// Content of a small file.
    #[must_use]
    pub fn small(&self, file: SmallFile) -> Option<&Vec<u8>> {
        self.small.get(&file).and_then(|small| small.seen.as_ref())
    }

    /// Replaces or removes a small file; `durable`: its directory was synced too.
    pub fn put_small(&mut self, order: u64, file: SmallFile, body: Option<Vec<u8>>, durable: bool) {
        if let Some(log) = log_of(file) {
            self.logs_seen.insert(log);
            if durable {
                self.logs_durable.insert(log);
            }
        }
        let small = self.small.entry(file).or_default();
        small.seen = body;
        small.order = order;
        if durable {
            small.durable.clone_from(&small.seen);
        }
    }

    /// Small files of a kind as seen now.
    pub fn smalls(&self) -> impl Iterator<Item = SmallFile> + '_ {
        self.small.iter().filter(|(_, small)| small.seen.is_some()).map(|(file, _)| *file)
    }

    /// Makes the changes of a directory before `mark` durable.
    pub fn sync(&mut self, dir: Dir, mark: u64) {
        match dir {
            Dir::Log(log) => {
                self.sync_existence(log);
                let durable = &mut self.durable;
                self.changes.retain(|change| {
                    let covered = change.name.log == log && change.order < mark;
                    if covered {
                        apply(durable, change);
                    }
                    !covered
                });
            }
            Dir::Partitions(topic_id) => {
                let logs: Vec<LogKey> = self
                    .logs_seen
                    .union(&self.logs_durable)
                    .filter(|log| log.topic_id == topic_id)
                    .copied()
                    .collect();
                for log in logs {
                    self.sync_existence(log);
                }
            }
            Dir::Root | Dir::Checkpoints | Dir::Topics => {}
        }
        for (file, small) in &mut self.small {
            if dir_of(*file) == dir && small.order < mark {
                small.durable.clone_from(&small.seen);
            }
        }
    }

    /// Whether a new segment's name is not durable yet.
    #[must_use]
    pub fn has_new_segments(&self) -> bool {
        self.changes.iter().any(|change| change.file.is_some())
    }

    /// Power goes.
    pub fn cut(&mut self, rng: &mut Rng) {
        let mode = rng.below(4);
        let kept = rng.index(self.changes.len() + 1);
        for (index, change) in std::mem::take(&mut self.changes).iter().enumerate() {
            let survives = match mode {
                0 => true,
                1 => rng.percent(50),
                2 => index < kept,
                _ => false,
            };
            if survives {
                apply(&mut self.durable, change);
            }
        }
        for small in self.small.values_mut() {
            if small.seen != small.durable {
                if rng.percent(50) {
                    small.durable.clone_from(&small.seen);
                }
                small.seen.clone_from(&small.durable);
            }
        }
        let both: Vec<LogKey> = self.logs_seen.union(&self.logs_durable).copied().collect();
        for log in both {
            if self.logs_seen.contains(&log) != self.logs_durable.contains(&log) && rng.percent(50)
            {
                self.sync_existence(log);
            }
        }
        self.drop_names_of_lost_logs();
        self.seen.clone_from(&self.durable);
        self.logs_seen.clone_from(&self.logs_durable);
    }

    /// Changes of names that no sync has covered.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// What a cut may take or leave: unsynced names, small files and logs.
    #[must_use]
    pub fn chances(&self) -> usize {
        let smalls = self.small.values().filter(|small| small.seen != small.durable).count();
        let logs = self.logs_seen.symmetric_difference(&self.logs_durable).count();
        self.changes.len() + smalls + logs
    }

    /// Power goes: of the first `settled` changes those survive that `keep` says, later ones all do.
    pub fn cut_by(&mut self, settled: usize, keep: &mut dyn FnMut() -> bool) {
        for (index, change) in std::mem::take(&mut self.changes).iter().enumerate() {
            if index >= settled || keep() {
                apply(&mut self.durable, change);
            }
        }
        for small in self.small.values_mut().filter(|small| small.seen != small.durable) {
            if keep() {
                small.durable.clone_from(&small.seen);
            }
            small.seen.clone_from(&small.durable);
        }
        let open: Vec<LogKey> =
            self.logs_seen.symmetric_difference(&self.logs_durable).copied().collect();
        for log in open {
            if keep() {
                self.sync_existence(log);
            }
        }
        self.drop_names_of_lost_logs();
        self.seen.clone_from(&self.durable);
        self.logs_seen.clone_from(&self.logs_durable);
    }

    /// A segment's name is gone, durably.
    pub fn lose_segment(&mut self, name: SegmentName) {
        self.seen.remove(&name);
        self.durable.remove(&name);
    }

    /// Hash of all names and small files, as seen and as durable.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0;
        for (name, file) in self.seen.iter().chain(&self.durable) {
            hash = mix(mix(hash, name.base_offset), *file as u64);
        }
        for change in &self.changes {
            hash =
                mix(mix(hash, change.name.base_offset), change.file.map_or(0, |file| file as u64));
        }
        for (file, small) in &self.small {
            hash = hash_bytes(hash, plain_name(*file).as_bytes());
            for body in [&small.seen, &small.durable] {
                hash = body.as_ref().map_or(mix(hash, 1), |body| hash_bytes(hash, body));
            }
        }
        mix(mix(hash, self.logs_seen.len() as u64), self.logs_durable.len() as u64)
    }

    /// Files that some name can still lead to.
    #[must_use]
    pub fn live_files(&self) -> BTreeSet<usize> {
        let changed = self.changes.iter().filter_map(|change| change.file);
        self.seen.values().chain(self.durable.values()).copied().chain(changed).collect()
    }

    /// Whether no change is volatile.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.changes.is_empty()
            && self.logs_seen == self.logs_durable
            && self.small.values().all(|small| small.seen == small.durable)
    }

    fn sync_existence(&mut self, log: LogKey) {
        if self.logs_seen.contains(&log) {
            self.logs_durable.insert(log);
        } else {
            self.logs_durable.remove(&log);
        }
    }

    fn drop_names_of_lost_logs(&mut self) {
        let logs = &self.logs_durable;
        self.durable.retain(|name, _| logs.contains(&name.log));
        for (file, small) in &mut self.small {
            if log_of(*file).is_some_and(|log| !logs.contains(&log)) {
                *small = Small::default();
            }
        }
    }
}

fn apply(names: &mut BTreeMap<SegmentName, usize>, change: &Change) {
    match change.file {
        Some(file) => names.insert(change.name, file),
        None => names.remove(&change.name),
    };
}

fn smalls_of(log: LogKey) -> [SmallFile; 3] {
    [SmallFile::Snapshot(log), SmallFile::Quarantine(log), SmallFile::PartitionMeta(log)]
}

fn log_of(file: SmallFile) -> Option<LogKey> {
    match dir_of(file) {
        Dir::Log(log) => Some(log),
        Dir::Root | Dir::Checkpoints | Dir::Topics | Dir::Partitions(_) => None,
    }
}

/// The directory a small file lies in.
#[must_use]
pub fn dir_of(file: SmallFile) -> Dir {
    match file {
        SmallFile::Meta | SmallFile::CleanMarker => Dir::Root,
        SmallFile::Checkpoint { .. } => Dir::Checkpoints,
        SmallFile::Snapshot(log) | SmallFile::Quarantine(log) | SmallFile::PartitionMeta(log) => {
            Dir::Log(log)
        }
    }
}

/// The name of a small file inside its directory.
#[must_use]
pub fn plain_name(file: SmallFile) -> String {
    match file {
        SmallFile::Meta => "meta".to_owned(),
        SmallFile::CleanMarker => "clean".to_owned(),
        SmallFile::Checkpoint { shard, generation } => format!("shard-{shard}.{generation}"),
        SmallFile::Snapshot(_) => "snapshot".to_owned(),
        SmallFile::Quarantine(_) => "quarantine".to_owned(),
        SmallFile::PartitionMeta(_) => "partition.meta".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogKey = LogKey { topic_id: 1, partition: 0 };
    const NAME: SegmentName = SegmentName { log: LOG, base_offset: 0 };

    #[test]
    fn a_name_can_be_lost_until_its_directory_is_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut names = Names::default();
            names.make_log(LOG);
            names.sync(Dir::Log(LOG), 1);
            names.set(1, NAME, Some(7));
            names.cut(&mut Rng::new(seed));
            lost += usize::from(names.segment(NAME).is_none());
        }
        assert!(lost > 5 && lost < 45, "{lost}");
    }

    #[test]
    fn a_synced_name_survives() {
        for seed in 0..20 {
            let mut names = Names::default();
            names.make_log(LOG);
            names.set(1, NAME, Some(7));
            names.sync(Dir::Log(LOG), 2);
            names.cut(&mut Rng::new(seed));
            assert_eq!(names.segment(NAME), Some(7));
        }
    }

    #[test]
    fn a_sync_covers_nothing_that_came_after_it_was_asked() {
        let mut names = Names::default();
        names.make_log(LOG);
        names.set(5, NAME, Some(7));
        names.sync(Dir::Log(LOG), 5);
        assert!(!names.is_quiet());
    }
}
