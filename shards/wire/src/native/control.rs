//! JSON payloads of the native control messages, the same structs for broker and client.
//! Owner: nobody, plain values.
//! Invariant: unknown keys are ignored and absent optional ones have a default, so that both sides can grow.
//! Not here: frames (`native.rs`), what the broker answers (`doors`).

use crate::error_code::ErrorCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the native protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Message id of [`Hello`].
pub const HELLO: &str = "Hello";
/// Message id of [`MetadataRequest`].
pub const METADATA: &str = "Metadata";
/// Message id of [`CreateTopic`].
pub const CREATE_TOPIC: &str = "CreateTopic";
/// Message id of [`AlterTopic`].
pub const ALTER_TOPIC: &str = "AlterTopic";
/// Message id of [`DeleteTopic`].
pub const DELETE_TOPIC: &str = "DeleteTopic";
/// Message id of [`DescribeTopic`].
pub const DESCRIBE_TOPIC: &str = "DescribeTopic";
/// Message id of [`ListOffsets`].
pub const LIST_OFFSETS: &str = "ListOffsets";
/// Message id of [`Fetch`].
pub const FETCH: &str = "Fetch";
/// Message id of an empty event or request that keeps a connection alive.
pub const HEARTBEAT: &str = "Heartbeat";

/// First message of a client that wants to know whom it speaks to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The client's protocol version.
    pub version: u32,
    /// The client's name and version, for people.
    pub client: String,
    /// Compressions of envelope payloads that the client reads.
    pub compression: Vec<String>,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelloReply {
    /// The lower of both protocol versions.
    pub version: u32,
    /// Name and version of the broker.
    pub software: String,
    /// Node number.
    pub node_id: u32,
    /// The shard that this connection ended up at.
    pub shard: u32,
    /// Shards of the node.
    pub shards: u32,
    /// What the broker allows.
    pub limits: Limits,
}

/// What a broker allows its native clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Payload bytes of one frame.
    pub message_bytes_max: u32,
    /// Requests in flight per connection.
    pub requests_max: u32,
    /// Send something at least this often; three missed close the connection.
    pub heartbeat_ms: u64,
}

/// Asks for topics and the shards that own their partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataRequest {
    /// Names; absent or null = all topics.
    pub topics: Option<Vec<String>>,
}

/// Answer to [`MetadataRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetadataReply {
    /// Node number.
    pub node_id: u32,
    /// Where each shard listens.
    pub shards: Vec<ShardAddress>,
    /// Topics asked for, in the order asked; all of them by name.
    pub topics: Vec<TopicMetadata>,
}

/// Where a shard listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardAddress {
    /// Shard.
    pub shard: u32,
    /// host:port that reaches this shard.
    pub address: String,
}

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicMetadata {
    /// Name.
    pub name: String,
    /// 0, or why there is no such topic.
    pub code: i16,
    /// Number that frames carry.
    pub topic_id: u64,
    /// Identity across clusters, 32 hex digits.
    pub uuid: String,
    /// Partitions by index.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition and who owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionMetadata {
    /// Index.
    pub partition: u32,
    /// Owning shard.
    pub shard: u32,
    /// host:port of that shard.
    pub address: String,
}

/// Creates a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Name.
    pub name: String,
    /// −1 = the broker's default.
    #[serde(default = "minus_one")]
    pub partitions: i32,
    /// Kafka's topic settings.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
}

fn minus_one() -> i32 {
    -1
}

/// Answer to [`CreateTopic`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateTopicReply {
    /// Name.
    pub name: String,
    /// Number that frames carry.
    pub topic_id: u64,
    /// Partitions made.
    pub partitions: u32,
}

/// Changes settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTopic {
    /// Name.
    pub name: String,
    /// Kafka's topic settings; null = back to the default. Others stay as they are.
    #[serde(default)]
    pub configs: BTreeMap<String, Option<String>>,
}

/// Answer to [`AlterTopic`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlterTopicReply {
    /// Name.
    pub name: String,
}

/// Deletes a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// Name.
    pub name: String,
}

/// Answer to [`DeleteTopic`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteTopicReply {
    /// Name.
    pub name: String,
}

/// Asks for the settings and segments of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopic {
    /// Name.
    pub name: String,
}

/// Answer to [`DescribeTopic`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescribeTopicReply {
    /// Name.
    pub name: String,
    /// Number that frames carry.
    pub topic_id: u64,
    /// Identity across clusters, 32 hex digits.
    pub uuid: String,
    /// Settings in force.
    pub configs: BTreeMap<String, String>,
    /// Partitions by index.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionDescription {
    /// Index.
    pub partition: u32,
    /// Owning shard.
    pub shard: u32,
    /// First offset kept.
    pub log_start: u64,
    /// Consumers may read below it.
    pub high_watermark: u64,
    /// Next offset to be given.
    pub log_end: u64,
    /// Oldest first.
    pub segments: Vec<SegmentDescription>,
    /// Damaged ranges, in order of offsets: not served, everything behind them is.
    pub quarantined: Vec<QuarantineDescription>,
}

/// A range that is damaged on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuarantineDescription {
    /// First offset lost.
    pub from: u64,
    /// First offset after it.
    pub to: u64,
    /// Segment, by its base offset.
    pub segment: u64,
    /// First damaged byte.
    pub position: u64,
    /// Where readable frames go on in this segment; absent = in the next one.
    pub until_position: Option<u64>,
    /// `header`, `payload`, `place`, `missing`, `unreadable`.
    pub reason: String,
    /// `recovery` or `read`.
    pub found_by: String,
    /// When, Unix ms.
    pub found_ms: u64,
}

/// One segment, derived from headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentDescription {
    /// Offset of its first record.
    pub base_offset: u64,
    /// One past its last record.
    pub end_offset: u64,
    /// Bytes of frames.
    pub frame_bytes: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Greatest timestamp, ms; −1 when empty.
    pub max_timestamp_ms: i64,
    /// Whether it takes no more batches.
    pub sealed: bool,
}

/// Asks for an offset by time or name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOffsets {
    /// Topic.
    pub topic_id: u64,
    /// Partition.
    pub partition: u32,
    /// `"earliest"`, `"latest"`, `"max_timestamp"` or Unix ms.
    pub at: At,
}

/// Which offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum At {
    /// By name.
    Named(NamedOffset),
    /// First record with this timestamp (Unix ms) or a later one.
    TimeMs(i64),
}

/// Offsets that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedOffset {
    /// First offset kept.
    Earliest,
    /// High watermark.
    Latest,
    /// Offset of the greatest timestamp.
    MaxTimestamp,
}

/// Answer to [`ListOffsets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOffsetsReply {
    /// −1 when none.
    pub offset: i64,
    /// −1 when none.
    pub timestamp_ms: i64,
    /// −1 when none.
    pub leader_epoch: i32,
}

/// Asks for batches from an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Topic.
    pub topic_id: u64,
    /// Partition.
    pub partition: u32,
    /// First offset wanted; the first batch may begin below it.
    pub offset: u64,
    /// Bytes at most; the first batch always comes whole.
    #[serde(default = "one_mib")]
    pub bytes_max: u32,
    /// Wait for at least so many bytes.
    #[serde(default)]
    pub bytes_min: u32,
    /// But no longer than this.
    #[serde(default)]
    pub wait_ms_max: u32,
}

fn one_mib() -> u32 {
    1 << 20
}

/// Answer to [`Fetch`]: `batches` deliver frames of `bytes` bytes together follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FetchReply {
    /// Consumers may read below it.
    pub high_watermark: u64,
    /// First offset kept.
    pub log_start_offset: u64,
    /// Deliver frames that follow.
    pub batches: u32,
    /// Their bytes, headers included.
    pub bytes: u64,
}

/// Payload of an envelope of type error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// What happened, with values.
    pub error: String,
    /// Kafka's number for it; older peers do not send one.
    #[serde(default = "unknown")]
    pub code: i16,
}

fn unknown() -> i16 {
    ErrorCode::UnknownServerError.code()
}

impl ErrorReply {
    /// For `code`, with a text for people.
    #[must_use]
    pub fn new(code: ErrorCode, error: impl Into<String>) -> ErrorReply {
        ErrorReply { error: error.into(), code: code.code() }
    }

    /// The row of the error table.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::from_code(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_named_or_a_time() {
        for (at, json) in [
            (At::Named(NamedOffset::Earliest), "\"earliest\""),
            (At::Named(NamedOffset::Latest), "\"latest\""),
            (At::Named(NamedOffset::MaxTimestamp), "\"max_timestamp\""),
            (At::TimeMs(1_700_000_000_000), "1700000000000"),
        ] {
            assert_eq!(serde_json::to_string(&at).unwrap(), json);
            assert_eq!(serde_json::from_str::<At>(json).unwrap(), at);
        }
        assert!(serde_json::from_str::<At>("\"newest\"").is_err());
    }

    #[test]
    fn unknown_keys_are_ignored_and_optional_ones_have_defaults() {
        let fetch: Fetch =
            serde_json::from_str(r#"{"topic_id":1,"partition":0,"offset":5,"colour":"red"}"#)
                .unwrap();
        assert_eq!((fetch.bytes_max, fetch.bytes_min, fetch.wait_ms_max), (1 << 20, 0, 0));
        let create: CreateTopic = serde_json::from_str(r#"{"name":"t"}"#).unwrap();
        assert_eq!((create.partitions, create.configs.len()), (-1, 0));
        assert_eq!(serde_json::from_str::<MetadataRequest>("{}").unwrap().topics, None);
        let error: ErrorReply = serde_json::from_str(r#"{"error":"x"}"#).unwrap();
        assert_eq!(error.code(), ErrorCode::UnknownServerError);
        assert!(serde_json::from_str::<CreateTopic>("{}").is_err());
    }
}
