//! The one table of Kafka APIs: what is served, what is advertised, from which version on it is flexible.
//! Owner: nobody, a plain table.
//! Invariant: a row exists exactly for what works (K4); ApiVersions is this table.
//! Not here: field tables (`shape.rs`).

/// One API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Number.
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// Least version served.
    pub min: i16,
    /// Greatest version served.
    pub max: i16,
    /// Least version advertised: librdkafka reads codec support off Produce's (V1).
    pub min_advertised: i16,
    /// First version with compact fields and tags.
    pub flexible_from: i16,
}

/// Produce.
pub const PRODUCE: i16 = 0;
/// Fetch.
pub const FETCH: i16 = 1;
/// ListOffsets.
pub const LIST_OFFSETS: i16 = 2;
/// Metadata.
pub const METADATA: i16 = 3;
/// OffsetCommit.
pub const OFFSET_COMMIT: i16 = 8;
/// OffsetFetch.
pub const OFFSET_FETCH: i16 = 9;
/// FindCoordinator.
pub const FIND_COORDINATOR: i16 = 10;
/// JoinGroup.
pub const JOIN_GROUP: i16 = 11;
/// Heartbeat.
pub const HEARTBEAT: i16 = 12;
/// LeaveGroup.
pub const LEAVE_GROUP: i16 = 13;
/// SyncGroup.
pub const SYNC_GROUP: i16 = 14;
/// ApiVersions.
pub const API_VERSIONS: i16 = 18;
/// CreateTopics.
pub const CREATE_TOPICS: i16 = 19;
/// DeleteTopics.
pub const DELETE_TOPICS: i16 = 20;
/// InitProducerId.
pub const INIT_PRODUCER_ID: i16 = 22;
/// DescribeConfigs.
pub const DESCRIBE_CONFIGS: i16 = 32;

/// Every API served, by key.
pub const APIS: &[Api] = &[
    Api { min_advertised: 0, ..row(PRODUCE, "Produce", 3, 13, 9) },
    row(FETCH, "Fetch", 4, 18, 12),
    row(LIST_OFFSETS, "ListOffsets", 1, 10, 6),
    row(METADATA, "Metadata", 0, 13, 9),
    row(OFFSET_COMMIT, "OffsetCommit", 2, 9, 8),
    row(OFFSET_FETCH, "OffsetFetch", 1, 9, 6),
    row(FIND_COORDINATOR, "FindCoordinator", 0, 6, 3),
    row(JOIN_GROUP, "JoinGroup", 0, 9, 6),
    row(HEARTBEAT, "Heartbeat", 0, 4, 4),
    row(LEAVE_GROUP, "LeaveGroup", 0, 5, 4),
    row(SYNC_GROUP, "SyncGroup", 0, 5, 4),
    row(API_VERSIONS, "ApiVersions", 0, 4, 3),
    row(CREATE_TOPICS, "CreateTopics", 2, 7, 5),
    row(DELETE_TOPICS, "DeleteTopics", 1, 6, 4),
    row(INIT_PRODUCER_ID, "InitProducerId", 0, 5, 2),
    row(DESCRIBE_CONFIGS, "DescribeConfigs", 1, 4, 4),
];

const fn row(key: i16, name: &'static str, min: i16, max: i16, flexible_from: i16) -> Api {
    Api { key, name, min, max, min_advertised: min, flexible_from }
}

impl Api {
    /// The row with this key.
    #[inline]
    #[must_use]
    pub fn of(key: i16) -> Option<&'static Api> {
        APIS.iter().find(|api| api.key == key)
    }

    /// Whether `version` is served.
    #[inline]
    #[must_use]
    pub const fn serves(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Whether `version` has compact fields and tags.
    #[inline]
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiKey;

    #[test]
    fn rows_agree_with_the_protocol_definitions() {
        for api in APIS {
            let theirs = ApiKey::try_from(api.key).unwrap();
            assert_eq!(format!("{theirs:?}"), api.name);
            let range = theirs.valid_versions();
            assert!(range.min <= api.min && api.max <= range.max, "{} {range:?}", api.name);
            for version in api.min..=api.max {
                let flexible = theirs.request_header_version(version) >= 2;
                assert_eq!(api.is_flexible(version), flexible, "{} v{version}", api.name);
            }
        }
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key), "sorted by key");
    }

    #[test]
    fn codec_gates_of_old_clients_stand_open() {
        assert_eq!(Api::of(PRODUCE).unwrap().min_advertised, 0);
        assert!(Api::of(PRODUCE).unwrap().max >= 7 && Api::of(FETCH).unwrap().max >= 10);
        assert_eq!(Api::of(FIND_COORDINATOR).unwrap().min, 0);
    }
}
