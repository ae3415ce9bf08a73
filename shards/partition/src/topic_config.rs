//! Settings of a topic: Kafka's names, types, defaults.
//! Owner: `Catalog` holds one per topic.
//! Invariant: every value was parsed and range-checked when it was set.
//! Not here: storing them (`src/control/meta/`), the table of names (`topic_settings.rs`).

use crate::topic_settings::{Kind, SETTINGS, Setting, setting};
use ringway_log::logs::{Durability, LogSettings};
use ringway_wire::ids::TopicUuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Typed settings that the broker acts on, and all overrides as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Overrides by Kafka's name, as given (described as they are). Change them with
    /// [`TopicConfig::set`]: it keeps the typed fields in step.
    pub overrides: BTreeMap<String, String>,
    /// What the operator gave as defaults of all topics, by the topic's own setting name.
    broker_defaults: Arc<BTreeMap<String, String>>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `retention.ms`, `None` = no limit.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`, `None` = no limit.
    pub retention_bytes: Option<u64>,
    /// `max.message.bytes`, compared with 12 + batchLength.
    pub message_bytes_max: u32,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_ms_max: i64,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `min.insync.replicas`.
    pub insync_replicas_min: u32,
    /// `on_quarantine` is `skip`: a fetch inside a damaged range gets what is readable behind it.
    pub skip_quarantined: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        let mut config = TopicConfig {
            overrides: BTreeMap::new(),
            broker_defaults: Arc::default(),
            segment_bytes: 0,
            segment_ms: 0,
            retention_ms: None,
            retention_bytes: None,
            message_bytes_max: 0,
            log_append_time: false,
            timestamp_before_ms_max: 0,
            timestamp_after_ms_max: 0,
            compact: false,
            delete: true,
            insync_replicas_min: 1,
            skip_quarantined: false,
        };
        for row in SETTINGS {
            config.apply(row.name, row.default);
        }
        config
    }
}

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such name.
    #[error("unknown topic config name: {0}")]
    Unknown(String),
    /// The value does not parse or lies outside its range.
    #[error("invalid value {value:?} for configuration {name}: {reason}")]
    Invalid {
        /// Setting.
        name: String,
        /// As given.
        value: String,
        /// What is allowed.
        reason: String,
    },
}

/// Where a described value comes from, in Kafka's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Given at the start of the broker.
    StaticBroker = 4,
    /// Built in.
    Default = 5,
}

/// Kafka's type of a described value, in its numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 64 bits.
    Long = 5,
    /// Floating point.
    Double = 6,
    /// Comma-separated.
    List = 7,
}

/// One row of DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRow {
    /// Kafka's name.
    pub name: &'static str,
    /// Value in force.
    pub value: String,
    /// Built-in value.
    pub default: &'static str,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Type.
    pub kind: ConfigType,
    /// Name, value and source of what would hold without the row above, nearest first.
    pub synonyms: Vec<(&'static str, String, ConfigSource)>,
    /// Cannot be changed.
    pub read_only: bool,
    /// Stored and described, acted on by nobody.
    pub inert: bool,
}

impl TopicConfig {
    /// Checks one setting: the value in the form it is described in.
    ///
    /// # Errors
    /// Unknown name, or a value outside the setting's type and range. Never transient.
    pub fn parse(name: &str, value: &str) -> Result<String, ConfigError> {
        let row = setting(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?;
        let value = value.trim();
        row.check(value).map_err(|reason| ConfigError::Invalid {
            name: name.to_owned(),
            value: value.chars().take(80).collect(),
            reason,
        })?;
        Ok(value.to_owned())
    }

    /// All overrides of a new topic at once; `None` as a value means the default.
    ///
    /// # Errors
    /// The first setting that [`TopicConfig::parse`] refuses.
    pub fn from_overrides<'a>(
        given: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<TopicConfig, ConfigError> {
        TopicConfig::with_broker_defaults(Arc::default(), given)
    }

    /// The same above the operator's defaults (`kafka.broker` of the configuration).
    ///
    /// # Errors
    /// The first default or setting that [`TopicConfig::parse`] refuses.
    pub fn with_broker_defaults<'a>(
        defaults: Arc<BTreeMap<String, String>>,
        given: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<TopicConfig, ConfigError> {
        let mut config = TopicConfig::default();
        for (name, value) in defaults.iter() {
            let value = TopicConfig::parse(name, value)?;
            config.apply(name, &value);
        }
        config.broker_defaults = defaults;
        for (name, value) in given {
            config.set(name, value)?;
        }
        Ok(config)
    }

    /// Sets one override, or takes it away with `None`.
    ///
    /// # Errors
    /// See [`TopicConfig::parse`]; the settings stay as they were.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), ConfigError> {
        let row = setting(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?;
        match value {
            Some(value) => {
                let value = TopicConfig::parse(name, value)?;
                self.apply(name, &value);
                self.overrides.insert(name.to_owned(), value);
            }
            None => {
                let value = self.inherited(row).0.to_owned();
                self.apply(name, &value);
                self.overrides.remove(name);
            }
        }
        Ok(())
    }

    /// Rows for DescribeConfigs, in order of name.
    #[must_use]
    pub fn describe(&self) -> Vec<ConfigRow> {
        SETTINGS.iter().map(|row| self.describe_row(row)).collect()
    }

    /// What holds without an override, and where it comes from.
    fn inherited(&self, row: &'static Setting) -> (&str, ConfigSource) {
        match self.broker_defaults.get(row.name) {
            Some(value) => (value, ConfigSource::StaticBroker),
            None => (row.default, ConfigSource::Default),
        }
    }

    fn describe_row(&self, row: &'static Setting) -> ConfigRow {
        let given = self.overrides.get(row.name);
        let (inherited, inherited_source) = self.inherited(row);
        let mut synonyms = Vec::new();
        if let Some(value) = given {
            synonyms.push((row.name, value.clone(), ConfigSource::DynamicTopic));
        }
        if let Some(broker) = row.broker_name {
            if inherited_source == ConfigSource::StaticBroker {
                synonyms.push((broker, inherited.to_owned(), inherited_source));
            }
            synonyms.push((broker, row.default.to_owned(), ConfigSource::Default));
        }
        ConfigRow {
            name: row.name,
            value: given.map_or(inherited, String::as_str).to_owned(),
            default: row.default,
            source: if given.is_some() { ConfigSource::DynamicTopic } else { inherited_source },
            kind: row.kind.config_type(),
            synonyms,
            read_only: false,
            inert: row.inert,
        }
    }

    /// What the log needs to know of it.
    #[must_use]
    pub fn log_settings(&self, topic_name: &str, topic_uuid: TopicUuid) -> LogSettings {
        // Without `delete` nothing goes by age or size (kafka.md L6).
        let kept = |limit: Option<u64>| if self.delete { limit } else { None };
        LogSettings {
            segment_bytes: self.segment_bytes,
            segment_ns: self.segment_ms.saturating_mul(1_000_000),
            retention_bytes: kept(self.retention_bytes),
            retention_ns: kept(self.retention_ms.map(|ms| ms.saturating_mul(1_000_000))),
            durability: Durability::Fsync,
            topic_name: topic_name.to_owned(),
            topic_uuid: topic_uuid.0,
        }
    }

    /// Moves one checked value into its typed field.
    fn apply(&mut self, name: &str, value: &str) {
        let number = || value.parse::<i64>().unwrap_or(0);
        let limit = || u64::try_from(number()).ok();
        match name {
            "segment.bytes" => self.segment_bytes = limit().unwrap_or(0),
            "segment.ms" => self.segment_ms = limit().unwrap_or(0),
            "retention.ms" => self.retention_ms = limit(),
            "retention.bytes" => self.retention_bytes = limit(),
            "max.message.bytes" => {
                self.message_bytes_max = u32::try_from(number()).unwrap_or(0);
            }
            "message.timestamp.type" => self.log_append_time = value == "LogAppendTime",
            "message.timestamp.before.max.ms" => self.timestamp_before_ms_max = number(),
            "message.timestamp.after.max.ms" => self.timestamp_after_ms_max = number(),
            "cleanup.policy" => {
                let has = |word: &str| value.split(',').any(|part| part.trim() == word);
                self.compact = has("compact");
                self.delete = has("delete");
            }
            "on_quarantine" => self.skip_quarantined = value == "skip",
            "min.insync.replicas" => {
                self.insync_replicas_min = u32::try_from(number()).unwrap_or(1);
            }
            _ => {}
        }
    }
}

impl Kind {
    fn config_type(&self) -> ConfigType {
        match self {
            Kind::Boolean => ConfigType::Boolean,
            Kind::OneOf(_) => ConfigType::String,
            Kind::Int { .. } => ConfigType::Int,
            Kind::Long { .. } => ConfigType::Long,
            Kind::Double { .. } => ConfigType::Double,
            Kind::ListOf(_) | Kind::List => ConfigType::List,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::default();
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!(config.message_bytes_max, 1_048_588);
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert!(config.delete && !config.compact && !config.log_append_time);
        for row in SETTINGS {
            assert_eq!(row.check(row.default), Ok(()), "{}", row.name);
        }
    }

    #[test]
    fn unknown_names_and_bad_values_are_refused_with_the_reason() {
        let unknown = TopicConfig::parse("retention.sm", "1").expect_err("unknown");
        assert_eq!(unknown.to_string(), "unknown topic config name: retention.sm");
        for (name, value) in [
            ("retention.ms", "soon"),
            ("segment.bytes", "0"),
            ("cleanup.policy", "compact,never"),
            ("compression.type", "brotli"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("preallocate", "yes"),
            ("max.message.bytes", "-1"),
        ] {
            assert!(TopicConfig::parse(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn setting_and_unsetting_keeps_typed_fields_in_step() {
        let mut config = TopicConfig::from_overrides([("cleanup.policy", Some("compact, delete"))])
            .expect("valid");
        assert!(config.compact && config.delete);
        config.set("cleanup.policy", None).expect("known");
        config.set("retention.ms", Some("-1")).expect("valid");
        assert!(!config.compact);
        assert_eq!(config.retention_ms, None);
        assert_eq!(config.overrides.len(), 1);
    }

    #[test]
    fn compact_alone_keeps_everything_by_time_and_size() {
        let config = TopicConfig::from_overrides([
            ("cleanup.policy", Some("compact")),
            ("retention.bytes", Some("1")),
        ])
        .expect("valid");
        let settings = config.log_settings("t", TopicUuid::default());
        assert_eq!((settings.retention_bytes, settings.retention_ns), (None, None));
    }

    #[test]
    fn described_rows_name_source_type_and_synonyms() {
        let config = TopicConfig::from_overrides([("retention.ms", Some("5"))]).expect("valid");
        let rows = config.describe();
        let row = rows.iter().find(|row| row.name == "retention.ms").expect("known");
        assert_eq!((row.value.as_str(), row.source), ("5", ConfigSource::DynamicTopic));
        assert_eq!(row.kind, ConfigType::Long);
        assert_eq!(row.synonyms.len(), 2);
        assert!(rows.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn broker_defaults_hold_until_a_topic_says_otherwise() {
        let defaults: BTreeMap<String, String> =
            [("retention.ms".to_owned(), "7".to_owned())].into_iter().collect();
        let mut config =
            TopicConfig::with_broker_defaults(Arc::new(defaults), [("retention.ms", Some("5"))])
                .expect("valid");
        assert_eq!(config.retention_ms, Some(5));
        config.set("retention.ms", None).expect("known");
        assert_eq!(config.retention_ms, Some(7));
        let rows = config.describe();
        let row = rows.iter().find(|row| row.name == "retention.ms").expect("known");
        assert_eq!((row.value.as_str(), row.source), ("7", ConfigSource::StaticBroker));
        assert_eq!(row.synonyms.len(), 2);
        let bad: BTreeMap<String, String> =
            [("retention.ms".to_owned(), "soon".to_owned())].into_iter().collect();
        assert!(TopicConfig::with_broker_defaults(Arc::new(bad), []).is_err());
    }
}
