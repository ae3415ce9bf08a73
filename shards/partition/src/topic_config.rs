//! Settings of a topic: Kafka's names, types, defaults.
//! Owner: `Catalog` holds one per topic.
//! Invariant: every value was parsed and range-checked when it was set.
//! Not here: storing them (`src/control/meta/`).

use std::collections::BTreeMap;

/// Typed settings that the broker acts on, and all overrides as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicConfig {
    /// Overrides by Kafka's name, as given (described as they are).
    pub overrides: BTreeMap<String, String>,
}
