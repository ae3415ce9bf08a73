//! The table of topic settings: Kafka 4.1's TopicConfig, and `on_quarantine`.
//! Owner: nobody, a plain table.
//! Invariant: names ascend; every default passes its own check.
//! Not here: what the broker does with a value (`topic_config.rs` names the fields).

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    Int { min: i64, max: i64 },
    Long { min: i64, max: i64 },
    Double { min: f64, max: f64 },
    OneOf(&'static [&'static str]),
    ListOf(&'static [&'static str]),
    List,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// The broker's name of the same setting.
    pub(crate) broker_name: Option<&'static str>,
    /// Stored and described, acted on by nobody.
    pub(crate) inert: bool,
}

/// The row called `name`.
pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    let at = SETTINGS.binary_search_by(|row| row.name.cmp(name)).ok()?;
    SETTINGS.get(at)
}

impl Setting {
    /// Whether `value` is allowed, else why not.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let whole = |min: i64, max: i64| match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            Ok(_) | Err(_) => Err(format!("a whole number from {min} to {max} is needed")),
        };
        match self.kind {
            Kind::Boolean if matches!(value, "true" | "false") => Ok(()),
            Kind::Boolean => Err("true or false is needed".to_owned()),
            Kind::Int { min, max } | Kind::Long { min, max } => whole(min, max),
            Kind::Double { min, max } => match value.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(_) | Err(_) => Err(format!("a number from {min} to {max} is needed")),
            },
            Kind::OneOf(words) if words.contains(&value) => Ok(()),
            Kind::OneOf(words) => Err(format!("one of {} is needed", words.join(", "))),
            Kind::ListOf(words) => {
                let known = value.split(',').all(|part| words.contains(&part.trim()));
                if known {
                    Ok(())
                } else {
                    Err(format!("a list of {} is needed", words.join(", ")))
                }
            }
            Kind::List => Ok(()),
        }
    }
}

const I32: i64 = i32::MAX as i64;
const I64: i64 = i64::MAX;
const FOREVER: &str = "9223372036854775807";
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const fn int(min: i64) -> Kind {
    Kind::Int { min, max: I32 }
}

const fn long(min: i64) -> Kind {
    Kind::Long { min, max: I64 }
}

const fn acts(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    broker_name: &'static str,
) -> Setting {
    Setting { name, kind, default, broker_name: Some(broker_name), inert: false }
}

const fn inert(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    broker_name: &'static str,
) -> Setting {
    Setting { name, kind, default, broker_name: Some(broker_name), inert: true }
}

const fn inert_alone(name: &'static str, kind: Kind, default: &'static str) -> Setting {
    Setting { name, kind, default, broker_name: None, inert: true }
}

/// Kafka 4.1's TopicConfig and our own, in order of name.
pub(crate) const SETTINGS: &[Setting] = &[
    acts("cleanup.policy", Kind::ListOf(&["compact", "delete"]), "delete", "log.cleanup.policy"),
    inert("compression.gzip.level", Kind::Int { min: -1, max: 9 }, "-1", "compression.gzip.level"),
    inert("compression.lz4.level", Kind::Int { min: 1, max: 17 }, "9", "compression.lz4.level"),
    // A batch keeps its producer's codec, whatever is asked for here (kafka.md P14).
    inert("compression.type", Kind::OneOf(CODECS), "producer", "compression.type"),
    inert(
        "compression.zstd.level",
        Kind::Int { min: -131_072, max: 22 },
        "3",
        "compression.zstd.level",
    ),
    inert("delete.retention.ms", long(0), "86400000", "log.cleaner.delete.retention.ms"),
    inert("file.delete.delay.ms", long(0), "60000", "log.segment.delete.delay.ms"),
    inert("flush.messages", long(1), FOREVER, "log.flush.interval.messages"),
    inert("flush.ms", long(0), FOREVER, "log.flush.interval.ms"),
    inert_alone("follower.replication.throttled.replicas", Kind::List, ""),
    inert("index.interval.bytes", int(0), "4096", "log.index.interval.bytes"),
    inert_alone("leader.replication.throttled.replicas", Kind::List, ""),
    inert("local.retention.bytes", long(-2), "-2", "log.local.retention.bytes"),
    inert("local.retention.ms", long(-2), "-2", "log.local.retention.ms"),
    inert("max.compaction.lag.ms", long(1), FOREVER, "log.cleaner.max.compaction.lag.ms"),
    acts("max.message.bytes", int(0), "1048588", "message.max.bytes"),
    acts(
        "message.timestamp.after.max.ms",
        long(0),
        "3600000",
        "log.message.timestamp.after.max.ms",
    ),
    acts(
        "message.timestamp.before.max.ms",
        long(0),
        FOREVER,
        "log.message.timestamp.before.max.ms",
    ),
    acts(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "log.message.timestamp.type",
    ),
    inert(
        "min.cleanable.dirty.ratio",
        Kind::Double { min: 0.0, max: 1.0 },
        "0.5",
        "log.cleaner.min.cleanable.ratio",
    ),
    inert("min.compaction.lag.ms", long(0), "0", "log.cleaner.min.compaction.lag.ms"),
    acts("min.insync.replicas", int(1), "1", "min.insync.replicas"),
    // Ours: what a fetch inside a damaged range gets, an error or the next readable record.
    Setting {
        name: "on_quarantine",
        kind: Kind::OneOf(&["stop", "skip"]),
        default: "stop",
        broker_name: None,
        inert: false,
    },
    inert("preallocate", Kind::Boolean, "false", "log.preallocate"),
    inert_alone("remote.log.copy.disable", Kind::Boolean, "false"),
    inert_alone("remote.log.delete.on.disable", Kind::Boolean, "false"),
    inert_alone("remote.storage.enable", Kind::Boolean, "false"),
    acts("retention.bytes", long(-1), "-1", "log.retention.bytes"),
    acts("retention.ms", long(-1), "604800000", "log.retention.ms"),
    // Below a block every batch would make a file of its own.
    acts("segment.bytes", int(4096), "1073741824", "log.segment.bytes"),
    inert("segment.index.bytes", int(4), "10485760", "log.index.size.max.bytes"),
    inert("segment.jitter.ms", long(0), "0", "log.roll.jitter.ms"),
    acts("segment.ms", long(1), "604800000", "log.roll.ms"),
    inert(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "unclean.leader.election.enable",
    ),
];
