//! Where everything lies below the log directory.
//! Owner: nobody, pure functions.
//! Invariant: no byte chosen by a client becomes part of a path.
//! Not here: opening anything.

use ringway_log::io::{Dir, SegmentName, SmallFile};
use ringway_wire::ids::LogKey;
use std::path::{Path, PathBuf};

/// Ending of files that are not finished; removed at every start.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A directory of the log directory `root`.
pub(crate) fn dir(root: &Path, dir: Dir) -> PathBuf {
    match dir {
        Dir::Root => root.to_owned(),
        Dir::Checkpoints => root.join("checkpoints"),
        Dir::Topics => root.join("t"),
        Dir::Partitions(topic_id) => root.join(format!("t/{topic_id}/p")),
        Dir::Log(key) => log(root, key),
    }
}

/// A log's directory.
pub(crate) fn log(root: &Path, key: LogKey) -> PathBuf {
    root.join(format!("t/{}/p/{}", key.topic_id, key.partition))
}

/// Where a log's segments are set aside.
pub(crate) fn dropped(root: &Path, key: LogKey) -> PathBuf {
    log(root, key).join("dropped")
}

/// A segment under its final name.
pub(crate) fn segment(root: &Path, name: SegmentName) -> PathBuf {
    log(root, name.log).join(format!("{:020}.seg", name.base_offset))
}

/// A segment set aside.
pub(crate) fn dropped_segment(root: &Path, name: SegmentName) -> PathBuf {
    dropped(root, name.log).join(format!("{:020}.seg", name.base_offset))
}

/// A segment that is being prepared; `unique` tells two of one name apart.
pub(crate) fn prepared(root: &Path, name: SegmentName, unique: u64) -> PathBuf {
    log(root, name.log).join(format!("{:020}.{unique}{TEMPORARY}", name.base_offset))
}

/// A small file: the directory it lies in and its name.
pub(crate) fn small(root: &Path, file: SmallFile) -> (PathBuf, String) {
    match file {
        SmallFile::Meta => (root.to_owned(), "meta".to_owned()),
        SmallFile::CleanMarker => (root.to_owned(), "clean".to_owned()),
        SmallFile::Checkpoint { shard, generation } => {
            (dir(root, Dir::Checkpoints), format!("shard-{shard}.{generation}"))
        }
        SmallFile::Snapshot(key) => (log(root, key), "snapshot".to_owned()),
        SmallFile::Quarantine(key) => (log(root, key), "quarantine".to_owned()),
        SmallFile::PartitionMeta(key) => (log(root, key), "partition.meta".to_owned()),
    }
}

/// `path` and its parents up to and without `root`, outermost first.
pub(crate) fn below_root(root: &Path, path: &Path) -> Vec<PathBuf> {
    let mut chain: Vec<PathBuf> = path
        .ancestors()
        .take_while(|ancestor| *ancestor != root && ancestor.starts_with(root))
        .map(Path::to_owned)
        .collect();
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_format() {
        let root = Path::new("/d");
        let log = LogKey { topic_id: 7, partition: 3 };
        let name = SegmentName { log, base_offset: 42 };
        assert_eq!(segment(root, name), Path::new("/d/t/7/p/3/00000000000000000042.seg"));
        let chain = below_root(root, &dir(root, Dir::Log(log)));
        let expected = ["/d/t", "/d/t/7", "/d/t/7/p", "/d/t/7/p/3"].map(PathBuf::from);
        assert_eq!(chain, expected);
        assert!(below_root(root, root).is_empty());
        let checkpoint = SmallFile::Checkpoint { shard: 2, generation: 9 };
        assert_eq!(small(root, checkpoint), (PathBuf::from("/d/checkpoints"), "shard-2.9".into()));
    }
}
