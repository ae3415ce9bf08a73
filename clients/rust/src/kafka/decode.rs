//! How the bytes of replies are read.

use super::call::Call;
use super::membership;
use super::reader::Reader;
use super::reply::{
    Broker, CommittedPart, FetchedPart, KafkaReply, OffsetPart, PartitionMetadata, TopicMetadata,
    TopicResult,
};
use crate::error::ClientError;
use ringway_wire::error_code::ErrorCode;

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
    let error = r.error()?;
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
        let error = r.error()?;
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
        error: r.error()?,
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
            let error = r.error()?;
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
    let whole = r.error()?;
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
    let error = r.error()?;
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
            let error = r.error()?;
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
        let error = r.error()?;
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
        let error = r.error()?;
        let message = r.nullable_string("error message")?;
        r.tags()?;
        Ok(TopicResult { name, error, message })
    })?;
    Ok(KafkaReply::TopicsDeleted { correlation, results })
}

fn init_producer_id(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let error = r.error()?;
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
        let error = r.error()?;
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
            let part = (topic.clone(), r.i32("partition")?, r.error()?);
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
            let error = r.error()?;
            r.tags()?;
            Ok(CommittedPart { topic: topic.clone(), partition, offset, error })
        })?;
        r.tags()?;
        Ok(parts)
    })?;
    let error = r.error()?;
    let parts = topics.into_iter().flatten().collect();
    Ok(KafkaReply::OffsetsFetched { correlation, error, parts })
}
