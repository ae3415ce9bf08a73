//! What a Kafka server answered, in owned values.

use bytes::Bytes;
use ringway_wire::error_code::ErrorCode;

/// A reply, with the correlation of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KafkaReply {
    /// Which versions the server speaks.
    ApiVersions {
        /// Of the request.
        correlation: i32,
        /// `UnsupportedVersion` comes with the ranges all the same.
        error: ErrorCode,
        /// API key, lowest and highest version.
        ranges: Vec<(i16, i16, i16)>,
    },
    /// Brokers and topics.
    Metadata {
        /// Of the request.
        correlation: i32,
        /// Every broker.
        brokers: Vec<Broker>,
        /// Broker id of the controller.
        controller: i32,
        /// Topics asked for, or all.
        topics: Vec<TopicMetadata>,
    },
    /// A batch was appended, or refused.
    Produced {
        /// Of the request.
        correlation: i32,
        /// Partition of the batch.
        partition: i32,
        /// Success or why not.
        error: ErrorCode,
        /// Offset of the batch's first record, −1 on error.
        base_offset: i64,
        /// The server's words.
        message: Option<String>,
    },
    /// Record batches.
    Fetched {
        /// Of the request.
        correlation: i32,
        /// Error of the whole fetch.
        error: ErrorCode,
        /// Per partition.
        parts: Vec<FetchedPart>,
    },
    /// Offsets by time.
    Offsets {
        /// Of the request.
        correlation: i32,
        /// Per partition.
        parts: Vec<OffsetPart>,
    },
    /// Outcome of CreateTopics.
    TopicsCreated {
        /// Of the request.
        correlation: i32,
        /// Per topic.
        results: Vec<TopicResult>,
    },
    /// Outcome of DeleteTopics.
    TopicsDeleted {
        /// Of the request.
        correlation: i32,
        /// Per topic.
        results: Vec<TopicResult>,
    },
    /// A producer id.
    ProducerId {
        /// Of the request.
        correlation: i32,
        /// Success or why not.
        error: ErrorCode,
        /// The id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
    },
    /// Who coordinates a group.
    Coordinator {
        /// Of the request.
        correlation: i32,
        /// Success or why not.
        error: ErrorCode,
        /// The broker, id −1 on error.
        broker: Broker,
    },
    /// Outcome of OffsetCommit, per topic and partition.
    OffsetsCommitted {
        /// Of the request.
        correlation: i32,
        /// Topic, partition, outcome.
        parts: Vec<(String, i32, ErrorCode)>,
    },
    /// Committed offsets.
    OffsetsFetched {
        /// Of the request.
        correlation: i32,
        /// Error of the whole request.
        error: ErrorCode,
        /// Per partition; offset −1 = none committed.
        parts: Vec<CommittedPart>,
    },
    /// Outcome of JoinGroup.
    GroupJoined {
        /// Of the request.
        correlation: i32,
        /// Success or why not; `MemberIdRequired` comes with the id to join with.
        error: ErrorCode,
        /// Generation.
        generation: i32,
        /// The leader's member id.
        leader: String,
        /// This member's id.
        member: String,
        /// Every member and its metadata, for the leader alone.
        members: Vec<(String, Bytes)>,
    },
    /// Outcome of SyncGroup.
    GroupSynced {
        /// Of the request.
        correlation: i32,
        /// Success or why not.
        error: ErrorCode,
        /// This member's share, as the leader wrote it.
        assignment: Bytes,
    },
    /// Outcome of Heartbeat.
    Heartbeat {
        /// Of the request.
        correlation: i32,
        /// Success or what to do.
        error: ErrorCode,
    },
    /// Outcome of LeaveGroup of one member.
    GroupLeft {
        /// Of the request.
        correlation: i32,
        /// Success or why not.
        error: ErrorCode,
    },
}

/// One broker of Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: i32,
}

/// One topic of Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Success or why not.
    pub error: ErrorCode,
    /// Its name.
    pub name: String,
    /// Its id.
    pub uuid: [u8; 16],
    /// Its partitions, in the order of the reply.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition of Metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Success or why not.
    pub error: ErrorCode,
    /// Its index.
    pub index: i32,
    /// Broker id of the leader, −1 = none.
    pub leader: i32,
    /// Leader epoch.
    pub leader_epoch: i32,
}

/// One partition of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPart {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Success or why not.
    pub error: ErrorCode,
    /// First offset not yet visible.
    pub high_watermark: i64,
    /// First offset still kept.
    pub log_start: i64,
    /// Record batches, the last one possibly cut.
    pub records: Bytes,
}

/// One partition of ListOffsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetPart {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Success or why not.
    pub error: ErrorCode,
    /// Timestamp of the record found, −1 = none.
    pub timestamp: i64,
    /// The offset, −1 = none.
    pub offset: i64,
}

/// One topic of CreateTopics or DeleteTopics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicResult {
    /// Topic.
    pub name: String,
    /// Success or why not.
    pub error: ErrorCode,
    /// The server's words.
    pub message: Option<String>,
}

/// One partition of OffsetFetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedPart {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Committed offset, −1 = none.
    pub offset: i64,
    /// Success or why not.
    pub error: ErrorCode,
}
