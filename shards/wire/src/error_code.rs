//! The one table of errors that clients see: ours, Kafka's number, whether a retry can help.
//! Owner: nobody, a plain table.
//! Invariant: a retriable situation never maps to UNKNOWN_SERVER_ERROR (kafka.md I9).
//! Not here: texts with values; they are made where the error is found.

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $retriable:ident;)*) => {
        /// An error a client is told, in Kafka's numbering (the native protocol uses the same numbers).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $code,)* }

        impl ErrorCode {
            /// Every row of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// Kafka's number.
            #[must_use]
            pub const fn code(self) -> i16 {
                self as i16
            }

            /// Whether the same request can succeed later.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self { $(ErrorCode::$name => $retriable,)* }
            }

            /// The row with Kafka's number `code`; an unknown one reads as `UnknownServerError`.
            #[must_use]
            pub const fn from_code(code: i16) -> ErrorCode {
                match code { $($code => ErrorCode::$name,)* _ => ErrorCode::UnknownServerError }
            }

            /// Its name, as in this table.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name),)* }
            }
        }
    };
}

error_codes! {
    /// Something broke that has no row of its own.
    UnknownServerError = -1 false;
    /// Success.
    None = 0 false;
    /// Offset below log start or beyond log end.
    OffsetOutOfRange = 1 false;
    /// A checksum or length does not fit: damaged on the way, or quarantined on disk.
    CorruptMessage = 2 true;
    /// No such topic or partition.
    UnknownTopicOrPartition = 3 true;
    /// Topic exists, its partition is not ready yet.
    LeaderNotAvailable = 5 true;
    /// Another node leads this partition.
    NotLeaderOrFollower = 6 true;
    /// The deadline passed before anything was appended.
    RequestTimedOut = 7 true;
    /// Batch above the topic's `max.message.bytes`.
    MessageTooLarge = 10 false;
    /// Commit metadata above 4,096 bytes.
    OffsetMetadataTooLarge = 12 false;
    /// Coordinator still replays its partition.
    CoordinatorLoadInProgress = 14 true;
    /// Internal topic not there yet.
    CoordinatorNotAvailable = 15 true;
    /// Another shard coordinates this group.
    NotCoordinator = 16 true;
    /// Name outside `[a-zA-Z0-9._-]{1,249}`, or one that collides.
    InvalidTopicException = 17 false;
    /// A batch that no segment can hold.
    RecordListTooLarge = 18 false;
    /// Fewer in-sync replicas than required.
    NotEnoughReplicas = 19 true;
    /// `acks` is none of −1, 0, 1.
    InvalidRequiredAcks = 21 false;
    /// Generation is not the group's.
    IllegalGeneration = 22 false;
    /// No protocol in common with the group.
    InconsistentGroupProtocol = 23 false;
    /// Empty or overlong group id.
    InvalidGroupId = 24 false;
    /// The group does not know this member.
    UnknownMemberId = 25 false;
    /// Session timeout outside the allowed range.
    InvalidSessionTimeout = 26 false;
    /// Join again.
    RebalanceInProgress = 27 false;
    /// Timestamp outside the topic's window.
    InvalidTimestamp = 32 false;
    /// Mechanism unknown.
    UnsupportedSaslMechanism = 33 false;
    /// Request makes no sense in this state.
    IllegalSaslState = 34 false;
    /// Version, or special offset, not served.
    UnsupportedVersion = 35 false;
    /// Topic exists.
    TopicAlreadyExists = 36 false;
    /// Partition count refused.
    InvalidPartitions = 37 false;
    /// More replicas than nodes.
    InvalidReplicationFactor = 38 false;
    /// Assignment names a node twice, or none.
    InvalidReplicaAssignment = 39 false;
    /// Unknown setting, or bad value.
    InvalidConfig = 40 false;
    /// Request contradicts itself.
    InvalidRequest = 42 false;
    /// Idempotent sequence is neither a duplicate nor the next.
    OutOfOrderSequenceNumber = 45 false;
    /// Producer epoch is old.
    InvalidProducerEpoch = 47 false;
    /// Transaction in the wrong state.
    InvalidTxnState = 48 false;
    /// Producer id unknown.
    InvalidProducerIdMapping = 49 false;
    /// Transaction timeout out of range.
    InvalidTransactionTimeout = 50 false;
    /// This transactional id may not be used here.
    TransactionalIdAuthorizationFailed = 53 false;
    /// Disk refused, log poisoned or space short; retriable for the client.
    KafkaStorageError = 56 true;
    /// Authentication failed.
    SaslAuthenticationFailed = 58 false;
    /// Producer id not known in this partition.
    UnknownProducerId = 59 false;
    /// Fetch session unknown.
    FetchSessionIdNotFound = 70 true;
    /// Fetch session epoch is not the next.
    InvalidFetchSessionEpoch = 71 true;
    /// Leader epoch of the client is old.
    FencedLeaderEpoch = 74 true;
    /// Leader epoch of the client is newer than ours.
    UnknownLeaderEpoch = 75 true;
    /// Codec not served.
    UnsupportedCompressionType = 76 false;
    /// Use the member id in this answer.
    MemberIdRequired = 79 false;
    /// Group is full.
    GroupMaxSizeReached = 81 false;
    /// Another member took this instance id.
    FencedInstanceId = 82 false;
    /// Batch breaks a rule of the record format.
    InvalidRecord = 87 false;
    /// Offsets staged by an open transaction.
    UnstableOffsetCommit = 88 true;
    /// Too many requests.
    ThrottlingQuotaExceeded = 89 true;
    /// A newer producer took this transactional id.
    ProducerFenced = 90 false;
    /// Topic id unknown.
    UnknownTopicId = 100 true;
    /// Topic id changed under the session.
    InconsistentTopicId = 103 true;
}
