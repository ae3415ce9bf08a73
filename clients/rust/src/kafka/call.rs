//! The APIs of Kafka that sessions call, and in which versions.

/// The APIs this client speaks, each in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Produce,
    Fetch { flexible: bool },
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    InitProducerId,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
}

impl Call {
    /// Kafka's number of the API and the version spoken.
    pub(super) fn key_version(self) -> (i16, i16) {
        match self {
            Call::Produce => (0, 9),
            Call::Fetch { flexible: true } => (1, 12),
            Call::Fetch { flexible: false } => (1, 11),
            Call::ListOffsets => (2, 7),
            Call::Metadata => (3, 12),
            Call::OffsetCommit => (8, 8),
            Call::OffsetFetch => (9, 7),
            Call::FindCoordinator => (10, 4),
            Call::JoinGroup => (11, 7),
            Call::Heartbeat => (12, 4),
            Call::LeaveGroup => (13, 4),
            Call::SyncGroup => (14, 5),
            Call::ApiVersions => (18, 3),
            Call::CreateTopics => (19, 7),
            Call::DeleteTopics => (20, 6),
            Call::InitProducerId => (22, 4),
        }
    }

    /// Whether the version uses compact encodings and tagged fields.
    pub(super) fn is_flexible(self) -> bool {
        self != Call::Fetch { flexible: false }
    }
}
