//! `[kafka.broker]`: settings with Kafka's own names, and the defaults of topics among them.

use super::keys::{Keys, number32};
use std::collections::BTreeMap;

/// Names a Kafka setting.
const BROKER: &str = "kafka.broker.";

/// `[kafka.broker]`, settings with Kafka's own names.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    /// `auto.create.topics.enable`
    pub(crate) auto_create: bool,
    /// `num.partitions`
    pub(crate) partitions: u32,
    /// `offsets.topic.num.partitions`
    pub(crate) offsets_partitions: u32,
    /// `group.min.session.timeout.ms`
    pub(crate) session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub(crate) session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub(crate) initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub(crate) members_max: u32,
    /// `connections.max.idle.ms`
    pub(crate) idle_ms: u64,
    /// `socket.request.max.bytes`
    pub(crate) request_bytes_max: u32,
    /// `fetch.max.bytes`
    pub(crate) fetch_bytes_max: u32,
    /// Defaults of new topics by the topic's own setting name.
    pub(crate) topic_defaults: BTreeMap<String, String>,
    /// All of the section by Kafka's name, as described to clients.
    pub(crate) described: BTreeMap<String, String>,
}

impl Broker {
    /// Reads the section.
    pub(super) fn read(keys: &mut Keys) -> Broker {
        let first = keys.rows.len();
        let auto_create = keys.flag(
            ("kafka.broker.auto.create.topics.enable", "Metadata requests create unknown topics."),
            true,
        );
        let partitions = keys.integer(
            ("kafka.broker.num.partitions", "Partitions of a topic that does not say."),
            1,
            1..=10_000,
        );
        let offsets_partitions = keys.integer(
            (
                "kafka.broker.offsets.topic.num.partitions",
                "Partitions of `__consumer_offsets`; fixed once that topic exists.",
            ),
            50,
            1..=1_000,
        );
        let mut group = |name, meaning, default, max| {
            let value = keys.integer((name, meaning), default, 0..=max);
            i32::try_from(value).unwrap_or(i32::MAX)
        };
        let session_timeout_ms_min = group(
            "kafka.broker.group.min.session.timeout.ms",
            "Shortest session timeout a group member may ask for.",
            6_000,
            86_400_000,
        );
        let session_timeout_ms_max = group(
            "kafka.broker.group.max.session.timeout.ms",
            "Longest session timeout a group member may ask for.",
            1_800_000,
            86_400_000,
        );
        let initial_rebalance_delay_ms = group(
            "kafka.broker.group.initial.rebalance.delay.ms",
            "A new group waits this long for more members.",
            300,
            300_000,
        );
        let members_max = keys.integer(
            ("kafka.broker.group.max.size", "Members of one group at most."),
            10_000,
            1..=100_000,
        );
        let idle_ms = keys.integer(
            (
                "kafka.broker.connections.max.idle.ms",
                "An idle Kafka connection is closed after it.",
            ),
            600_000,
            1_000..=86_400_000,
        );
        let request_bytes_max = keys.integer(
            ("kafka.broker.socket.request.max.bytes", "Largest Kafka request."),
            100 << 20,
            (64 << 10)..=(1 << 30),
        );
        let fetch_bytes_max = keys.integer(
            ("kafka.broker.fetch.max.bytes", "Largest fetch reply, its first batch apart."),
            55 << 20,
            1_024..=(1 << 30),
        );
        let topic_defaults = read_topic_defaults(keys);
        let described = keys.rows[first..]
            .iter()
            .filter_map(|row| Some((row.key.strip_prefix(BROKER)?.to_owned(), row.value.clone())))
            .collect();
        Broker {
            auto_create,
            partitions: number32(partitions),
            offsets_partitions: number32(offsets_partitions),
            session_timeout_ms_min,
            session_timeout_ms_max,
            initial_rebalance_delay_ms,
            members_max: number32(members_max),
            idle_ms,
            request_bytes_max: number32(request_bytes_max),
            fetch_bytes_max: number32(fetch_bytes_max),
            topic_defaults,
            described,
        }
    }
}

/// Kafka's broker settings that are the defaults of a topic's.
fn read_topic_defaults(keys: &mut Keys) -> BTreeMap<String, String> {
    const FOREVER: i64 = i64::MAX;
    let numbers: [(&str, &str, &str, i64, i64, i64); 6] = [
        (
            "segment.bytes",
            "kafka.broker.log.segment.bytes",
            "A segment is closed at this size.",
            1 << 30,
            1 << 20,
            i32::MAX as i64,
        ),
        (
            "segment.ms",
            "kafka.broker.log.roll.ms",
            "A segment is closed at this age, so that retention can remove it.",
            604_800_000,
            1,
            FOREVER,
        ),
        (
            "retention.bytes",
            "kafka.broker.log.retention.bytes",
            "Oldest segments of a partition go above this size; -1 = no limit.",
            -1,
            -1,
            FOREVER,
        ),
        (
            "retention.ms",
            "kafka.broker.log.retention.ms",
            "Segments go when their newest record is older; -1 = never.",
            604_800_000,
            -1,
            FOREVER,
        ),
        (
            "max.message.bytes",
            "kafka.broker.message.max.bytes",
            "Largest record batch.",
            1_048_588,
            0,
            1 << 30,
        ),
        (
            "min.insync.replicas",
            "kafka.broker.min.insync.replicas",
            "Replicas that must have a batch before acks=all; one node has one.",
            1,
            1,
            1,
        ),
    ];
    let mut defaults = BTreeMap::new();
    for (topic_name, key, meaning, default, min, max) in numbers {
        let value = keys.signed((key, meaning), default, min..=max);
        if keys.is_set(key) {
            defaults.insert(topic_name.to_owned(), value.to_string());
        }
    }
    let timestamp = keys.choice(
        (
            "kafka.broker.log.message.timestamp.type",
            "Whether a record's time is its producer's or that of the append.",
        ),
        &[("CreateTime", "CreateTime"), ("LogAppendTime", "LogAppendTime")],
    );
    if keys.is_set("kafka.broker.log.message.timestamp.type") {
        defaults.insert("message.timestamp.type".to_owned(), timestamp.to_owned());
    }
    defaults
}
