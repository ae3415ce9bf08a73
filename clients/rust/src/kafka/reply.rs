//! What a Kafka server answered, in owned values, and how its bytes are read.

use super::membership;
use super::reader::Reader;
use crate::error::ClientError;
use bytes::Bytes;
use ringway_wire::error_code::ErrorCode;

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

pub(super) fn error(r: &mut Reader) -> Result<ErrorCode, ClientError> {
    Ok(ErrorCode::from_code(r.i16("error code")?))
}

/// Reads the body of a reply to `call`.
pub(super) fn read(
    call: Call,
    correlation: i32,
    r: &mut Reader,
) -> Result<KafkaReply, ClientError> {
    match call {
        Call::Produce => produce(correlation, r),
        Call::Fetch { .. } => fetch(correlation, r),
        Call::ListOffsets => list_offsets(correlation, r),
        Call::Metadata => metadata(correlation, r),
        Call::OffsetCommit => offset_commit(correlation, r),
        Call::OffsetFetch => offset_fetch(correlation, r),
        Call::FindCoordinator => find_coordinator(correlation, r),
        Call::ApiVersions => api_versions(correlation, r),
        Call::CreateTopics => create_topics(correlation, r),
        Call::DeleteTopics => delete_topics(correlation, r),
        Call::InitProducerId => init_producer_id(correlation, r),
        Call::JoinGroup => membership::joined(correlation, r),
        Call::SyncGroup => membership::synced(correlation, r),
        Call::Heartbeat => membership::heartbeat(correlation, r),
        Call::LeaveGroup => membership::left(correlation, r),
    }
}

fn api_versions(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    let error = error(r)?;
    if error == ErrorCode::UnsupportedVersion {
        // KIP-511: a server that does not know our version answers with the body of version 0.
        r.set_flexible(false);
    }
    let ranges = r.array("api keys", |r| {
        let range = (r.i16("api key")?, r.i16("min version")?, r.i16("max version")?);
        r.tags()?;
        Ok(range)
    })?;
    Ok(KafkaReply::ApiVersions { correlation, error, ranges })
}

fn metadata(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let brokers = r.array("brokers", |r| {
        let broker =
            Broker { id: r.i32("broker id")?, host: r.string("host")?, port: r.i32("port")? };
        r.nullable_string("rack")?;
        r.tags()?;
        Ok(broker)
    })?;
    r.nullable_string("cluster id")?;
    let controller = r.i32("controller")?;
    let topics = r.array("topics", |r| {
        let error = error(r)?;
        let name = r.string("topic name")?;
        let uuid = r.uuid("topic id")?;
        r.i8("is internal")?;
        let partitions = r.array("partitions", partition_metadata)?;
        r.i32("authorized operations")?;
        r.tags()?;
        Ok(TopicMetadata { error, name, uuid, partitions })
    })?;
    Ok(KafkaReply::Metadata { correlation, brokers, controller, topics })
}

fn partition_metadata(r: &mut Reader) -> Result<PartitionMetadata, ClientError> {
    let part = PartitionMetadata {
        error: error(r)?,
        index: r.i32("partition index")?,
        leader: r.i32("leader")?,
        leader_epoch: r.i32("leader epoch")?,
    };
    for what in ["replicas", "in-sync replicas", "offline replicas"] {
        r.array(what, |r| r.i32("replica"))?;
    }
    r.tags()?;
    Ok(part)
}

fn produce(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    let mut only = None;
    r.array("topics", |r| {
        r.nullable_string("topic name")?;
        r.array("partitions", |r| {
            let partition = r.i32("partition")?;
            let error = error(r)?;
            let base_offset = r.i64("base offset")?;
            r.i64("log append time")?;
            r.i64("log start offset")?;
            r.array("record errors", |r| {
                r.i32("batch index")?;
                r.nullable_string("record error")?;
                r.tags()
            })?;
            let message = r.nullable_string("error message")?;
            r.tags()?;
            only =
                Some(KafkaReply::Produced { correlation, partition, error, base_offset, message });
            Ok(())
        })?;
        r.tags()
    })?;
    only.ok_or_else(|| ClientError::Malformed {
        what: "produce reply",
        detail: "names no partition".into(),
    })
}

fn fetch(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let whole = error(r)?;
    r.i32("session id")?;
    let topics = r.array("topics", |r| {
        let topic = r.string("topic name")?;
        let parts = r.array("partitions", |r| fetched_part(&topic, r))?;
        r.tags()?;
        Ok(parts)
    })?;
    let parts = topics.into_iter().flatten().collect();
    Ok(KafkaReply::Fetched { correlation, error: whole, parts })
}

fn fetched_part(topic: &str, r: &mut Reader) -> Result<FetchedPart, ClientError> {
    let partition = r.i32("partition")?;
    let error = error(r)?;
    let high_watermark = r.i64("high watermark")?;
    r.i64("last stable offset")?;
    let log_start = r.i64("log start offset")?;
    r.array("aborted transactions", |r| {
        r.i64("producer id")?;
        r.i64("first offset")?;
        r.tags()
    })?;
    r.i32("preferred read replica")?;
    let records = r.byte_run("records")?;
    r.tags()?;
    Ok(FetchedPart {
        topic: topic.to_owned(),
        partition,
        error,
        high_watermark,
        log_start,
        records,
    })
}

fn list_offsets(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let topics = r.array("topics", |r| {
        let topic = r.string("topic name")?;
        let parts = r.array("partitions", |r| {
            let partition = r.i32("partition")?;
            let error = error(r)?;
            let timestamp = r.i64("timestamp")?;
            let offset = r.i64("offset")?;
            r.i32("leader epoch")?;
            r.tags()?;
            Ok(OffsetPart { topic: topic.clone(), partition, error, timestamp, offset })
        })?;
        r.tags()?;
        Ok(parts)
    })?;
    Ok(KafkaReply::Offsets { correlation, parts: topics.into_iter().flatten().collect() })
}

fn create_topics(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let results = r.array("topics", |r| {
        let name = r.string("topic name")?;
        r.uuid("topic id")?;
        let error = error(r)?;
        let message = r.nullable_string("error message")?;
        r.i32("partition count")?;
        r.i16("replication factor")?;
        r.array("configs", |r| {
            r.string("config name")?;
            r.nullable_string("config value")?;
            r.i8("read only")?;
            r.i8("config source")?;
            r.i8("is sensitive")?;
            r.tags()
        })?;
        r.tags()?;
        Ok(TopicResult { name, error, message })
    })?;
    Ok(KafkaReply::TopicsCreated { correlation, results })
}

fn delete_topics(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let results = r.array("topics", |r| {
        let name = r.string("topic name")?;
        r.uuid("topic id")?;
        let error = error(r)?;
        let message = r.nullable_string("error message")?;
        r.tags()?;
        Ok(TopicResult { name, error, message })
    })?;
    Ok(KafkaReply::TopicsDeleted { correlation, results })
}

fn init_producer_id(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let error = error(r)?;
    let producer_id = r.i64("producer id")?;
    let epoch = r.i16("producer epoch")?;
    Ok(KafkaReply::ProducerId { correlation, error, producer_id, epoch })
}

fn find_coordinator(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let found = r.array("coordinators", |r| {
        r.string("key")?;
        let broker =
            Broker { id: r.i32("node id")?, host: r.string("host")?, port: r.i32("port")? };
        let error = error(r)?;
        r.nullable_string("error message")?;
        r.tags()?;
        Ok((error, broker))
    })?;
    match found.into_iter().next() {
        Some((error, broker)) => Ok(KafkaReply::Coordinator { correlation, error, broker }),
        None => Err(ClientError::Malformed {
            what: "coordinator reply",
            detail: "names no coordinator".into(),
        }),
    }
}

fn offset_commit(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let topics = r.array("topics", |r| {
        let topic = r.string("topic name")?;
        let parts = r.array("partitions", |r| {
            let part = (topic.clone(), r.i32("partition")?, error(r)?);
            r.tags()?;
            Ok(part)
        })?;
        r.tags()?;
        Ok(parts)
    })?;
    Ok(KafkaReply::OffsetsCommitted { correlation, parts: topics.into_iter().flatten().collect() })
}

fn offset_fetch(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let topics = r.array("topics", |r| {
        let topic = r.string("topic name")?;
        let parts = r.array("partitions", |r| {
            let partition = r.i32("partition")?;
            let offset = r.i64("committed offset")?;
            r.i32("leader epoch")?;
            r.nullable_string("metadata")?;
            let error = error(r)?;
            r.tags()?;
            Ok(CommittedPart { topic: topic.clone(), partition, offset, error })
        })?;
        r.tags()?;
        Ok(parts)
    })?;
    let error = error(r)?;
    let parts = topics.into_iter().flatten().collect();
    Ok(KafkaReply::OffsetsFetched { correlation, error, parts })
}
