//! What clients are told, and what survives a restart.

use super::super::local::LocalStore;
use super::*;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

fn draw() -> [u8; 16] {
    static DRAWN: AtomicU8 = AtomicU8::new(1);
    [DRAWN.fetch_add(1, Ordering::Relaxed); 16]
}

pub(super) fn open(directory: &Path, on_disk: u64) -> Metadata {
    let store = LocalStore::open(&directory.join("metastore.redb")).expect("opens");
    let identity = Identity { shard_count: 2, advertise_shards: true, ..Identity::default() };
    let rules = TopicRules { partitions: 3, draw_uuid: draw };
    Metadata::open(Box::new(store), identity, rules, on_disk).expect("opens")
}

pub(super) fn create(name: &str, partitions: i32) -> MetaOp {
    MetaOp::CreateTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: -1,
        configs: Vec::new(),
        validate_only: false,
        internal: false,
    }
}

fn code(metadata: &mut Metadata, op: MetaOp) -> ErrorCode {
    match metadata.apply(op) {
        (MetaAnswer::Failed { code, .. }, None) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_is_in_the_snapshot_that_comes_with_the_answer() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut metadata = open(directory.path(), 0);
    let before = metadata.catalog().version;
    let (answer, catalog) = metadata.apply(create("t", -1));
    assert_eq!(answer, MetaAnswer::Created { topic_id: 1, partitions: 3 });
    let catalog = catalog.expect("published");
    assert!(catalog.version > before);
    let topic = &catalog.topics["t"];
    assert_eq!((topic.id, topic.partitions, topic.internal), (1, 3, false));
    assert!(Arc::ptr_eq(topic, &catalog.by_uuid[&topic.uuid]));
    assert_eq!(catalog.shard_count, 2);
}

#[test]
fn refusals_have_kafka_s_codes_and_change_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut metadata = open(directory.path(), 0);
    metadata.apply(create("a.b", 1));
    let with = |configs: &[(&str, Option<&str>)], replication: i16| MetaOp::CreateTopic {
        name: "x".to_owned(),
        partitions: 1,
        replication_factor: replication,
        configs: configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect(),
        validate_only: false,
        internal: false,
    };
    for (op, expected) in [
        (create("a.b", 1), ErrorCode::TopicAlreadyExists),
        (create("a_b", 1), ErrorCode::InvalidTopicException),
        (create("a/b", 1), ErrorCode::InvalidTopicException),
        (create("x", 0), ErrorCode::InvalidPartitions),
        (create("x", -2), ErrorCode::InvalidPartitions),
        (create("x", 10_001), ErrorCode::InvalidPartitions),
        (with(&[], 2), ErrorCode::InvalidReplicationFactor),
        (with(&[], 0), ErrorCode::InvalidReplicationFactor),
        (with(&[("no.such", Some("1"))], 1), ErrorCode::InvalidConfig),
        (with(&[("retention.ms", Some("soon"))], 1), ErrorCode::InvalidConfig),
        (MetaOp::DeleteTopic { topic_id: 99 }, ErrorCode::UnknownTopicOrPartition),
    ] {
        assert_eq!(code(&mut metadata, op.clone()), expected, "{op:?}");
    }
    assert_eq!(metadata.catalog().topics.len(), 1);
    let (answer, _) = metadata.apply(with(&[("retention.ms", Some("5"))], 1));
    assert!(matches!(answer, MetaAnswer::Created { .. }), "{answer:?}");
    assert_eq!(metadata.catalog().topics["x"].config.retention_ms, Some(5));
}

#[test]
fn validate_only_creates_nothing_and_still_finds_collisions() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut metadata = open(directory.path(), 0);
    let validate = |name: &str| MetaOp::CreateTopic {
        name: name.to_owned(),
        partitions: 2,
        replication_factor: 1,
        configs: Vec::new(),
        validate_only: true,
        internal: false,
    };
    let (answer, catalog) = metadata.apply(validate("a.b"));
    assert_eq!(answer, MetaAnswer::Created { topic_id: 0, partitions: 2 });
    assert!(catalog.is_none());
    metadata.apply(create("a_b", 1));
    assert_eq!(code(&mut metadata, validate("a.b")), ErrorCode::InvalidTopicException);
}

#[test]
fn settings_of_a_topic_change_one_by_one_and_survive_a_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut metadata = open(directory.path(), 0);
    metadata.apply(create("t", 2));
    let alter = |topic_id: u64, configs: &[(&str, Option<&str>)]| MetaOp::AlterTopic {
        topic_id,
        configs: configs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect(),
    };
    let overrides = |metadata: &Metadata| {
        let topic = Arc::clone(&metadata.catalog().topics["t"]);
        assert_eq!((topic.id, topic.partitions), (1, 2), "it stays the same topic");
        topic.config.overrides.clone().into_iter().collect::<Vec<_>>()
    };
    let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (answer, catalog) =
        metadata.apply(alter(1, &[("on_quarantine", Some("skip")), ("retention.ms", Some("5"))]));
    assert_eq!(answer, MetaAnswer::Altered);
    assert!(catalog.expect("published").by_id[&1].config.skip_quarantined);
    assert_eq!(overrides(&metadata), [row("on_quarantine", "skip"), row("retention.ms", "5")]);
    // The other one is refused with it, and nothing changes.
    let wrong = [("retention.ms", Some("7")), ("on_quarantine", Some("skp"))];
    let (answer, catalog) = metadata.apply(alter(1, &wrong));
    let MetaAnswer::Failed { code: refused, message } = answer else { panic!("{answer:?}") };
    assert_eq!((refused, catalog.is_none()), (ErrorCode::InvalidConfig, true));
    assert!(message.contains("on_quarantine") && message.contains("stop, skip"), "{message}");
    let refused = [
        (alter(1, &[("retention.sm", Some("1"))]), ErrorCode::InvalidConfig),
        (alter(1, &[("retention.sm", None)]), ErrorCode::InvalidConfig),
        (alter(9, &[("retention.ms", None)]), ErrorCode::UnknownTopicOrPartition),
    ];
    for (op, expected) in refused {
        assert_eq!(code(&mut metadata, op), expected);
    }
    metadata.apply(alter(1, &[("retention.ms", None)]));
    drop(metadata);
    let mut metadata = open(directory.path(), 0);
    assert_eq!(overrides(&metadata), [row("on_quarantine", "skip")]);
    let own = MetaOp::CreateTopic {
        name: "__own".to_owned(),
        partitions: 1,
        replication_factor: -1,
        configs: Vec::new(),
        validate_only: false,
        internal: true,
    };
    assert_eq!(metadata.apply(own).0, MetaAnswer::Created { topic_id: 2, partitions: 1 });
    let op = alter(2, &[("retention.ms", Some("1"))]);
    assert_eq!(code(&mut metadata, op), ErrorCode::InvalidTopicException);
}

#[test]
fn a_deleted_topic_s_number_and_uuid_never_come_back() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut metadata = open(directory.path(), 41);
    metadata.apply(create("t", 1));
    let old = Arc::clone(&metadata.catalog().topics["t"]);
    assert_eq!(old.id, 42);
    let (answer, catalog) = metadata.apply(MetaOp::DeleteTopic { topic_id: old.id });
    assert_eq!(answer, MetaAnswer::Deleted);
    let catalog = catalog.expect("published");
    assert!(catalog.topics.is_empty() && catalog.by_id.is_empty() && catalog.by_uuid.is_empty());
    metadata.apply(create("t", 1));
    let new = Arc::clone(&metadata.catalog().topics["t"]);
    assert_eq!(new.id, 43);
    assert_ne!(new.uuid, old.uuid);
}

#[test]
fn topics_counters_and_cluster_id_survive_a_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut metadata = open(directory.path(), 0);
    metadata.apply(create("t", 5));
    let reserve = || MetaOp::ReserveProducerIds { count: 10_000 };
    let (answer, catalog) = metadata.apply(reserve());
    assert_eq!(answer, MetaAnswer::ProducerIds { first: 0, count: 10_000 });
    assert!(catalog.is_none());
    let cluster_id = metadata.catalog().cluster_id.clone();
    assert_eq!(cluster_id.len(), 22);
    drop(metadata);
    let mut metadata = open(directory.path(), 0);
    assert_eq!(metadata.catalog().cluster_id, cluster_id);
    assert_eq!(metadata.catalog().topics["t"].partitions, 5);
    let (answer, _) = metadata.apply(reserve());
    assert_eq!(answer, MetaAnswer::ProducerIds { first: 10_000, count: 10_000 });
    let (answer, _) = metadata.apply(create("u", 1));
    assert_eq!(answer, MetaAnswer::Created { topic_id: 2, partitions: 1 });
}

#[test]
fn uuids_are_written_as_kafka_writes_them() {
    assert_eq!(base64_22([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(base64_22([255; 16]), "_____________________w");
    let bytes: [u8; 16] = std::array::from_fn(|index| u8::try_from(index).unwrap_or(0));
    assert_eq!(base64_22(bytes), "AAECAwQFBgcICQoLDA0ODw");
}
