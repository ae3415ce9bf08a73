//! The native dialect: envelopes for control, batch frames for data.
//!
//! Every delivered frame is checked before it leaves the session: header checksum, lengths, and Kafka's
//! CRC-32C over the records.

mod reply;
#[cfg(test)]
mod tests;

pub use reply::NativeReply;
pub use ringway_wire::header::Encoding;
pub use ringway_wire::native::control::{
    At, CreateTopic, DescribeTopicReply, Fetch, FetchReply, HelloReply, ListOffsets,
    ListOffsetsReply, MetadataReply, NamedOffset, PartitionDescription, PartitionMetadata,
    QuarantineDescription, TopicMetadata,
};

use crate::error::ClientError;
use crate::inbox::Inbox;
use reply::Call;
use ringway_wire::header::{HEADER_LEN, KAFKA_AT, KAFKA_HEADER_LEN, KafkaHeader, stamp};
use ringway_wire::native::control::{
    self, AlterTopic, DeleteTopic, DescribeTopic, Hello, MetadataRequest,
};
use ringway_wire::native::{
    CorrelationText, FrameStart, frame_start, produce_line, put_envelope, request_line,
};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Largest payload of a frame, and of the frames of one fetch together, that a session accepts unless
/// told otherwise.
pub const PAYLOAD_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// One connection to a Ringway shard. Answers may come in another order than their requests: they are
/// matched by correlation.
#[derive(Debug)]
pub struct NativeSession {
    encoding: Encoding,
    payload_bytes_max: u32,
    next_correlation: u64,
    /// Sorted by correlation.
    waiting: VecDeque<(u64, Call)>,
    inbox: Inbox,
    /// A fetch whose answer has come and whose frames have not.
    fetching: Option<(u64, FetchReply)>,
}

impl Default for NativeSession {
    fn default() -> NativeSession {
        NativeSession::new()
    }
}

impl NativeSession {
    /// A session on a fresh connection.
    #[must_use]
    pub fn new() -> NativeSession {
        NativeSession {
            encoding: Encoding::Unspecified,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            next_correlation: 1,
            waiting: VecDeque::new(),
            inbox: Inbox::default(),
            fetching: None,
        }
    }

    /// Says how the values of produced records are encoded.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> NativeSession {
        self.encoding = encoding;
        self
    }

    /// Sets the largest payload accepted, bytes.
    #[must_use]
    pub fn with_payload_bytes_max(mut self, bytes: u32) -> NativeSession {
        self.payload_bytes_max = bytes;
        self
    }

    /// Requests sent and not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Introduces the client.
    ///
    /// # Errors
    /// The request cannot be encoded; the same for every method here. Nothing is appended then.
    pub fn hello(&mut self, out: &mut Vec<u8>) -> Result<u64, ClientError> {
        let body = Hello {
            version: control::PROTOCOL_VERSION,
            client: concat!("ringway-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            compression: Vec::new(),
        };
        self.ask(Call::Hello, control::HELLO, &body, out)
    }

    /// Asks for topics (`None` = all) and the shards that own their partitions.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn metadata(
        &mut self,
        out: &mut Vec<u8>,
        topics: Option<&[&str]>,
    ) -> Result<u64, ClientError> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let body = MetadataRequest { topics: topics.map(owned) };
        self.ask(Call::Metadata, control::METADATA, &body, out)
    }

    /// Creates a topic; −1 partitions = the server's default.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn create_topic(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        partitions: i32,
        configs: BTreeMap<String, String>,
    ) -> Result<u64, ClientError> {
        let body = CreateTopic { name: name.to_owned(), partitions, configs };
        self.ask(Call::CreateTopic, control::CREATE_TOPIC, &body, out)
    }

    /// Changes settings of a topic; `None` = back to the default.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn alter_topic(
        &mut self,
        out: &mut Vec<u8>,
        name: &str,
        configs: BTreeMap<String, Option<String>>,
    ) -> Result<u64, ClientError> {
        let body = AlterTopic { name: name.to_owned(), configs };
        self.ask(Call::AlterTopic, control::ALTER_TOPIC, &body, out)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn delete_topic(&mut self, out: &mut Vec<u8>, name: &str) -> Result<u64, ClientError> {
        let body = DeleteTopic { name: name.to_owned() };
        self.ask(Call::DeleteTopic, control::DELETE_TOPIC, &body, out)
    }

    /// Asks for settings and segments of a topic.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn describe_topic(&mut self, out: &mut Vec<u8>, name: &str) -> Result<u64, ClientError> {
        let body = DescribeTopic { name: name.to_owned() };
        self.ask(Call::DescribeTopic, control::DESCRIBE_TOPIC, &body, out)
    }

    /// Asks for an offset by name or time.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn list_offsets(
        &mut self,
        out: &mut Vec<u8>,
        request: &ListOffsets,
    ) -> Result<u64, ClientError> {
        self.ask(Call::ListOffsets, control::LIST_OFFSETS, request, out)
    }

    /// Asks for batches.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn fetch(&mut self, out: &mut Vec<u8>, request: &Fetch) -> Result<u64, ClientError> {
        self.ask(Call::Fetch, control::FETCH, request, out)
    }

    /// Tells the server that this side is alive; nothing is awaited.
    ///
    /// # Errors
    /// As [`NativeSession::hello`].
    pub fn heartbeat(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let correlation = CorrelationText::new(0);
        let mut line = request_line(control::HEARTBEAT, &correlation);
        line.message_type = ringway_wire::header::MessageType::Event;
        line.correlation_id = b"";
        put_envelope(out, &line, b"{}").map_err(|error| ClientError::Encode(error.to_string()))
    }

    /// Sends one Kafka record batch (version 2), whole.
    ///
    /// # Errors
    /// As [`NativeSession::hello`]: the batch is shorter than its header, or larger than a frame.
    pub fn produce(
        &mut self,
        out: &mut Vec<u8>,
        topic_id: u64,
        partition: u32,
        batch: &[u8],
    ) -> Result<u64, ClientError> {
        let short = || ClientError::Encode(format!("a record batch of {} bytes", batch.len()));
        let (kafka, records) = batch.split_first_chunk::<KAFKA_HEADER_LEN>().ok_or_else(short)?;
        let attributes = KafkaHeader::access(kafka).map_err(|_| short())?.attributes();
        let frame_len = u32::try_from(batch.len()).ok().and_then(|n| n.checked_add(67));
        let correlation = self.next_correlation;
        let line = produce_line(
            topic_id,
            partition,
            correlation,
            self.encoding,
            attributes,
            frame_len.ok_or_else(short)?,
        );
        let mut header = [0; HEADER_LEN];
        header[KAFKA_AT..].copy_from_slice(kafka);
        stamp(&mut header, &line, 0);
        out.extend_from_slice(&header);
        out.extend_from_slice(records);
        self.begin(Call::Produce);
        Ok(correlation)
    }

    /// Takes what the socket gave.
    pub fn receive(&mut self, data: &[u8]) {
        self.inbox.receive(data);
    }

    /// The next whole answer, if one is here. A fetch is answered once all its frames are here.
    ///
    /// # Errors
    /// The bytes are no native frame, are damaged, or answer nothing that was asked: the connection is of
    /// no further use.
    pub fn next_reply(&mut self) -> Result<Option<NativeReply>, ClientError> {
        loop {
            if let Some((correlation, reply)) = self.fetching {
                return self.delivered(correlation, reply);
            }
            let here = self.inbox.len();
            let length = match frame_start(self.inbox.peek(), self.payload_bytes_max)? {
                FrameStart::NeedMore(_) => return Ok(None),
                FrameStart::Envelope(length) | FrameStart::Batch(length) if here < length => {
                    self.inbox.expect(length);
                    return Ok(None);
                }
                FrameStart::Batch(length) => {
                    let reply = reply::read_batch(&self.inbox.peek()[..length])?;
                    self.inbox.skip(length);
                    self.end(reply.correlation())?;
                    return Ok(Some(reply));
                }
                FrameStart::Envelope(length) => length,
            };
            let frame = self.inbox.take(length);
            let Some(correlation) = reply::answered(&frame)? else { continue };
            let call = self.end(correlation)?;
            let reply = reply::read_envelope(call, correlation, &frame)?;
            if let NativeReply::Fetched { .. } = reply {
                self.fetching = Some((correlation, reply::fetch_reply(&frame)?));
                continue;
            }
            return Ok(Some(reply));
        }
    }

    fn delivered(
        &mut self,
        correlation: u64,
        reply: FetchReply,
    ) -> Result<Option<NativeReply>, ClientError> {
        let limit = usize::try_from(self.payload_bytes_max).unwrap_or(usize::MAX);
        let bytes = usize::try_from(reply.bytes).unwrap_or(usize::MAX);
        if bytes > limit {
            return Err(ClientError::TooLarge { bytes: reply.bytes, limit });
        }
        if self.inbox.len() < bytes {
            self.inbox.expect(bytes);
            return Ok(None);
        }
        let frames = self.inbox.take(bytes);
        reply::check_delivered(&frames, reply.batches, correlation)?;
        self.fetching = None;
        Ok(Some(NativeReply::Fetched {
            correlation,
            high_watermark: reply.high_watermark,
            log_start: reply.log_start_offset,
            frames,
        }))
    }

    fn ask(
        &mut self,
        call: Call,
        message_id: &str,
        body: &impl Serialize,
        out: &mut Vec<u8>,
    ) -> Result<u64, ClientError> {
        let correlation = self.next_correlation;
        let json =
            serde_json::to_vec(body).map_err(|error| ClientError::Encode(error.to_string()))?;
        let text = CorrelationText::new(correlation);
        put_envelope(out, &request_line(message_id, &text), &json)
            .map_err(|error| ClientError::Encode(error.to_string()))?;
        self.begin(call);
        Ok(correlation)
    }

    fn begin(&mut self, call: Call) {
        self.waiting.push_back((self.next_correlation, call));
        self.next_correlation += 1;
    }

    /// The call that `correlation` answers, which is over now.
    fn end(&mut self, correlation: u64) -> Result<Call, ClientError> {
        let found = match self.waiting.front() {
            Some((first, _)) if *first == correlation => Ok(0),
            _ => self.waiting.binary_search_by_key(&correlation, |(waiting, _)| *waiting),
        };
        let call = found.ok().and_then(|at| self.waiting.remove(at));
        let correlation = i64::try_from(correlation).unwrap_or(i64::MAX);
        call.map(|(_, call)| call).ok_or(ClientError::Unexpected { correlation })
    }
}
