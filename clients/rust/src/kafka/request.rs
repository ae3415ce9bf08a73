//! Requests of a Kafka session, appended to the caller's buffer.

use super::KafkaSession;
use super::call::Call;
use crate::error::ClientError;
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Encodable, StrBytes};

/// One batch for one partition.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRequest<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// −1 and 1: answered once durable; 0: never answered.
    pub acks: i16,
    /// The server gives up after this, ms.
    pub timeout_ms: i32,
    /// A Kafka record batch (version 2), whole.
    pub batch: &'a [u8],
}

/// What a fetch wants.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// How long the server may wait for `bytes_min`, ms.
    pub wait_ms_max: i32,
    /// Enough to answer at once.
    pub bytes_min: i32,
    /// Bytes at most over all parts.
    pub bytes_max: i32,
    /// Use version 11, the last one before compact encodings, instead of 12.
    pub version_11: bool,
    /// Partitions; those of one topic stand together.
    pub parts: &'a [FetchPart<'a>],
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchPart<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// First offset wanted.
    pub offset: i64,
    /// Bytes at most of this partition.
    pub bytes_max: i32,
}

/// A topic to create.
#[derive(Clone, Copy, Debug)]
pub struct TopicSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Partitions, −1 = the server's default.
    pub partitions: i32,
    /// Settings, name and value.
    pub configs: &'a [(&'a str, &'a str)],
}

/// One offset to commit.
#[derive(Clone, Copy, Debug)]
pub struct CommitPart<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Next offset to read.
    pub offset: i64,
}

/// Who speaks: a member in a generation of its group. Nobody in generation −1 is somebody from outside.
#[derive(Clone, Copy, Debug)]
pub struct MemberOf<'a> {
    /// Group.
    pub group: &'a str,
    /// The member's id.
    pub member: &'a str,
    /// Generation it joined.
    pub generation: i32,
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> kp::TopicName {
    kp::TopicName(text(name))
}

impl KafkaSession {
    /// Asks which versions the server speaks.
    ///
    /// # Errors
    /// The request cannot be encoded; the same for every method here. Nothing is appended then.
    pub fn api_versions(&mut self, out: &mut Vec<u8>) -> Result<i32, ClientError> {
        let body = kp::ApiVersionsRequest::default()
            .with_client_software_name(text("ringway-client"))
            .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
        self.cold(Call::ApiVersions, &body, out)
    }

    /// Asks for brokers and for `topics` (`None` = all), creating absent ones if `auto_create`.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn metadata(
        &mut self,
        out: &mut Vec<u8>,
        topics: Option<&[&str]>,
        auto_create: bool,
    ) -> Result<i32, ClientError> {
        let topic = |name: &&str| {
            kp::metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)))
        };
        let body = kp::MetadataRequest::default()
            .with_topics(topics.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(auto_create);
        self.cold(Call::Metadata, &body, out)
    }

    /// Asks for the offset at `timestamp` (ms, or [`super::LATEST`], [`super::EARLIEST`]) of some
    /// partitions of a topic.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn list_offsets(
        &mut self,
        out: &mut Vec<u8>,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
    ) -> Result<i32, ClientError> {
        let part = |&partition: &i32| {
            kp::list_offsets_request::ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(timestamp)
        };
        let topic = kp::list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.iter().map(part).collect());
        let body = kp::ListOffsetsRequest::default()
            .with_replica_id(kp::BrokerId(-1))
            .with_topics(vec![topic]);
        self.cold(Call::ListOffsets, &body, out)
    }

    /// Creates topics.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn create_topics(
        &mut self,
        out: &mut Vec<u8>,
        topics: &[TopicSpec<'_>],
        timeout_ms: i32,
    ) -> Result<i32, ClientError> {
        use kp::create_topics_request::{CreatableTopic, CreatableTopicConfig};
        let config = |&(name, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let topic = |spec: &TopicSpec<'_>| {
            CreatableTopic::default()
                .with_name(topic_name(spec.name))
                .with_num_partitions(spec.partitions)
                .with_replication_factor(-1)
                .with_configs(spec.configs.iter().map(config).collect())
        };
        let body = kp::CreateTopicsRequest::default()
            .with_topics(topics.iter().map(topic).collect())
            .with_timeout_ms(timeout_ms);
        self.cold(Call::CreateTopics, &body, out)
    }

    /// Deletes topics.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn delete_topics(
        &mut self,
        out: &mut Vec<u8>,
        topics: &[&str],
        timeout_ms: i32,
    ) -> Result<i32, ClientError> {
        let topic = |name: &&str| {
            kp::delete_topics_request::DeleteTopicState::default().with_name(Some(topic_name(name)))
        };
        let body = kp::DeleteTopicsRequest::default()
            .with_topics(topics.iter().map(topic).collect())
            .with_timeout_ms(timeout_ms);
        self.cold(Call::DeleteTopics, &body, out)
    }

    /// Asks for a producer id; `current` is an id and epoch to be followed up (KIP-360).
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn init_producer_id(
        &mut self,
        out: &mut Vec<u8>,
        current: Option<(i64, i16)>,
    ) -> Result<i32, ClientError> {
        let (producer_id, epoch) = current.unwrap_or((-1, -1));
        let body = kp::InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(kp::ProducerId(producer_id))
            .with_producer_epoch(epoch);
        self.cold(Call::InitProducerId, &body, out)
    }

    /// Asks who coordinates consumer group `group`.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn find_coordinator(&mut self, out: &mut Vec<u8>, group: &str) -> Result<i32, ClientError> {
        let body = kp::FindCoordinatorRequest::default()
            .with_key_type(0)
            .with_coordinator_keys(vec![text(group)]);
        self.cold(Call::FindCoordinator, &body, out)
    }

    /// Commits offsets of `group` from outside its membership.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn offset_commit(
        &mut self,
        out: &mut Vec<u8>,
        who: &MemberOf<'_>,
        parts: &[CommitPart<'_>],
    ) -> Result<i32, ClientError> {
        use kp::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let part = |part: &CommitPart<'_>| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(part.partition)
                .with_committed_offset(part.offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(None)
        };
        let topic = |parts: &[CommitPart<'_>]| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(parts.first().map_or("", |p| p.topic)))
                .with_partitions(parts.iter().map(part).collect())
        };
        let body = kp::OffsetCommitRequest::default()
            .with_group_id(kp::GroupId(text(who.group)))
            .with_generation_id_or_member_epoch(who.generation)
            .with_member_id(text(who.member))
            .with_topics(parts.chunk_by(|a, b| a.topic == b.topic).map(topic).collect());
        self.cold(Call::OffsetCommit, &body, out)
    }

    /// Asks for the committed offsets of some partitions of a topic.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn offset_fetch(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        topic: &str,
        partitions: &[i32],
    ) -> Result<i32, ClientError> {
        let topic = kp::offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(partitions.to_vec());
        let body = kp::OffsetFetchRequest::default()
            .with_group_id(kp::GroupId(text(group)))
            .with_topics(Some(vec![topic]));
        self.cold(Call::OffsetFetch, &body, out)
    }

    /// Sends one batch. With `acks = 0` no reply comes.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn produce(
        &mut self,
        out: &mut Vec<u8>,
        request: &ProduceRequest<'_>,
    ) -> Result<i32, ClientError> {
        let bytes = request.batch.len().saturating_add(request.topic.len()).saturating_add(128);
        check_size(bytes)?;
        out.reserve(bytes.saturating_add(self.client_id.len()));
        let (start, correlation) = self.start(Call::Produce, out);
        if request.acks == 0 {
            self.waiting.pop_back();
        }
        out.push(0); // no transactional id
        out.extend_from_slice(&request.acks.to_be_bytes());
        out.extend_from_slice(&request.timeout_ms.to_be_bytes());
        put_uvarint(2, out); // one topic
        put_compact(request.topic.as_bytes(), out);
        put_uvarint(2, out); // one partition
        out.extend_from_slice(&request.partition.to_be_bytes());
        put_compact(request.batch, out);
        out.extend_from_slice(&[0, 0, 0]); // tags of partition, topic, request
        finish(start, out);
        Ok(correlation)
    }

    /// Asks for records.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`].
    pub fn fetch(
        &mut self,
        out: &mut Vec<u8>,
        request: &FetchRequest<'_>,
    ) -> Result<i32, ClientError> {
        let flexible = !request.version_11;
        let names: usize = request.parts.iter().map(|part| part.topic.len()).sum();
        check_size(names.saturating_add(request.parts.len().saturating_mul(64)))?;
        let (start, correlation) = self.start(Call::Fetch { flexible }, out);
        for field in [-1, request.wait_ms_max, request.bytes_min, request.bytes_max] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.push(0); // read uncommitted
        out.extend_from_slice(&0i32.to_be_bytes()); // no session
        out.extend_from_slice(&(-1i32).to_be_bytes());
        put_count(request.parts.chunk_by(same_topic).count(), flexible, out);
        for parts in request.parts.chunk_by(same_topic) {
            put_string(parts.first().map_or("", |part| part.topic), flexible, out);
            put_count(parts.len(), flexible, out);
            for part in parts {
                out.extend_from_slice(&part.partition.to_be_bytes());
                out.extend_from_slice(&(-1i32).to_be_bytes()); // current leader epoch
                out.extend_from_slice(&part.offset.to_be_bytes());
                if flexible {
                    out.extend_from_slice(&(-1i32).to_be_bytes()); // last fetched epoch
                }
                out.extend_from_slice(&(-1i64).to_be_bytes()); // log start offset
                out.extend_from_slice(&part.bytes_max.to_be_bytes());
                put_no_tags(flexible, out);
            }
            put_no_tags(flexible, out);
        }
        put_count(0, flexible, out); // forgotten topics
        put_string("", flexible, out); // rack
        put_no_tags(flexible, out);
        finish(start, out);
        Ok(correlation)
    }

    pub(super) fn cold(
        &mut self,
        call: Call,
        body: &impl Encodable,
        out: &mut Vec<u8>,
    ) -> Result<i32, ClientError> {
        let before = out.len();
        let (start, correlation) = self.start(call, out);
        let (_, version) = call.key_version();
        if let Err(error) = body.encode(out, version) {
            out.truncate(before);
            self.waiting.pop_back();
            return Err(ClientError::Encode(error.to_string()));
        }
        finish(start, out);
        Ok(correlation)
    }

    /// Writes length (to be patched) and request header; returns where the frame starts.
    fn start(&mut self, call: Call, out: &mut Vec<u8>) -> (usize, i32) {
        let correlation = self.begin(call);
        let start = out.len();
        let (key, version) = call.key_version();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&correlation.to_be_bytes());
        put_string(&self.client_id, false, out);
        put_no_tags(call.is_flexible(), out);
        (start, correlation)
    }
}

fn same_topic(a: &FetchPart<'_>, b: &FetchPart<'_>) -> bool {
    a.topic == b.topic
}

/// A frame's length is an i32; half of it leaves room for every header.
fn check_size(bytes: usize) -> Result<(), ClientError> {
    let limit = 1 << 30;
    if bytes > limit {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        return Err(ClientError::TooLarge { bytes, limit });
    }
    Ok(())
}

fn finish(start: usize, out: &mut [u8]) {
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_uvarint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Lengths here are bounded by `check_size`; the saturated value of a longer one is refused by any server.
fn put_compact(bytes: &[u8], out: &mut Vec<u8>) {
    put_uvarint(u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_add(1), out);
    out.extend_from_slice(bytes);
}

fn put_string(text: &str, flexible: bool, out: &mut Vec<u8>) {
    if flexible {
        put_compact(text.as_bytes(), out);
    } else {
        let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        let end = text.len().min(usize::from(length.unsigned_abs()));
        out.extend_from_slice(&text.as_bytes()[..end]);
    }
}

fn put_count(count: usize, flexible: bool, out: &mut Vec<u8>) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if flexible {
        put_uvarint(count.saturating_add(1), out);
    } else {
        out.extend_from_slice(&count.to_be_bytes());
    }
}

fn put_no_tags(flexible: bool, out: &mut Vec<u8>) {
    if flexible {
        out.push(0);
    }
}
