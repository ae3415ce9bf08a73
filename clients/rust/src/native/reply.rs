//! What a Ringway shard answered, and how its frames are read.

use crate::error::ClientError;
use bytes::Bytes;
use ringway_wire::crc32c::crc32c;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, CRC_FROM, HEADER_LEN, HeaderError, Kind, MessageType};
use ringway_wire::native::control::{
    AlterTopicReply, CreateTopicReply, DeleteTopicReply, DescribeTopicReply, ErrorReply,
    FetchReply, HelloReply, ListOffsetsReply, MetadataReply,
};
use ringway_wire::native::{
    Envelope, FrameError, FrameStart, correlation_number, error_payload, frame_start, produce_ack,
};
use serde::de::DeserializeOwned;

/// What was asked, to read its answer by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Hello,
    Metadata,
    CreateTopic,
    AlterTopic,
    DeleteTopic,
    DescribeTopic,
    ListOffsets,
    Fetch,
    Produce,
}

/// An answer, with the correlation of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NativeReply {
    /// Whom this connection reached.
    HelloOk {
        /// Of the request.
        correlation: u64,
        /// Versions and limits.
        reply: HelloReply,
    },
    /// Topics and shards.
    Metadata {
        /// Of the request.
        correlation: u64,
        /// Every topic carries its own error code.
        reply: MetadataReply,
    },
    /// A topic exists now.
    TopicCreated {
        /// Of the request.
        correlation: u64,
        /// Its number and partitions.
        reply: CreateTopicReply,
    },
    /// A topic's settings have changed.
    TopicAltered {
        /// Of the request.
        correlation: u64,
    },
    /// A topic is gone.
    TopicDeleted {
        /// Of the request.
        correlation: u64,
    },
    /// Settings and segments.
    TopicDescribed {
        /// Of the request.
        correlation: u64,
        /// What was asked for.
        reply: DescribeTopicReply,
    },
    /// An offset.
    Offset {
        /// Of the request.
        correlation: u64,
        /// −1 fields = none.
        reply: ListOffsetsReply,
    },
    /// A batch is durable.
    Acked {
        /// Of the request.
        correlation: u64,
        /// Offset of the batch's first record.
        base_offset: u64,
        /// When it was appended, Unix ns.
        append_time_ns: u64,
    },
    /// Batches; [`crate::records::frames`] walks them.
    Fetched {
        /// Of the request.
        correlation: u64,
        /// First offset not yet visible.
        high_watermark: u64,
        /// First offset still kept.
        log_start: u64,
        /// Deliver frames, whole and checked.
        frames: Bytes,
    },
    /// The request failed.
    Error {
        /// Of the request.
        correlation: u64,
        /// Which error; says whether a retry can help.
        code: ErrorCode,
        /// The server's words.
        message: String,
    },
}

impl NativeReply {
    /// The correlation of its request.
    #[must_use]
    pub fn correlation(&self) -> u64 {
        match self {
            NativeReply::HelloOk { correlation, .. }
            | NativeReply::Metadata { correlation, .. }
            | NativeReply::TopicCreated { correlation, .. }
            | NativeReply::TopicAltered { correlation }
            | NativeReply::TopicDeleted { correlation }
            | NativeReply::TopicDescribed { correlation, .. }
            | NativeReply::Offset { correlation, .. }
            | NativeReply::Acked { correlation, .. }
            | NativeReply::Fetched { correlation, .. }
            | NativeReply::Error { correlation, .. } => *correlation,
        }
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> ClientError {
        match error {
            FrameError::Header(HeaderError::Crc { expected, actual }) => {
                ClientError::Checksum { what: "header", found: actual, computed: expected }
            }
            FrameError::TooLarge { actual, limit } => ClientError::TooLarge {
                bytes: u64::from(actual),
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            FrameError::Header(_) | FrameError::Gob(_) | FrameError::NoCode { .. } => {
                malformed("frame", error)
            }
        }
    }
}

fn malformed(what: &'static str, detail: impl std::fmt::Display) -> ClientError {
    ClientError::Malformed { what, detail: detail.to_string() }
}

/// Reads a whole batch frame that is no delivery.
pub(super) fn read_batch(frame: &[u8]) -> Result<NativeReply, ClientError> {
    let header = BatchHeader::access(frame).map_err(|error| malformed("frame", error))?;
    match header.kind() {
        Kind::ProduceAck => {
            let ack = produce_ack(header);
            Ok(NativeReply::Acked {
                correlation: ack.correlation,
                base_offset: ack.base_offset,
                append_time_ns: ack.append_time_ns,
            })
        }
        Kind::Error => {
            let (code, message) = error_payload(frame.get(HEADER_LEN..).unwrap_or_default())?;
            Ok(NativeReply::Error { correlation: header.correlation(), code, message })
        }
        kind @ (Kind::Data | Kind::Deliver) => {
            Err(malformed("frame", format!("{kind:?} frame out of place")))
        }
    }
}

/// The correlation of an answer; `None` for events, which answer nothing.
pub(super) fn answered(frame: &[u8]) -> Result<Option<u64>, ClientError> {
    let envelope = Envelope::parse(frame)?;
    if envelope.header.flags() != 0 {
        return Err(malformed("envelope", "compressed or chunked, which was not offered"));
    }
    match envelope.header.message_type() {
        MessageType::Event => Ok(None),
        MessageType::Request => Err(malformed("envelope", "a server sends no requests")),
        MessageType::Response | MessageType::Error => {
            let id = envelope.header.correlation_id();
            let number = correlation_number(id);
            number.map(Some).ok_or_else(|| malformed("correlation", id.escape_ascii()))
        }
    }
}

/// Reads a whole answering envelope. A fetch is given without its frames, which follow.
pub(super) fn read_envelope(
    call: Call,
    correlation: u64,
    frame: &[u8],
) -> Result<NativeReply, ClientError> {
    let envelope = Envelope::parse(frame)?;
    let content = envelope.content()?;
    if envelope.header.message_type() == MessageType::Error {
        let error: ErrorReply = json(content)?;
        return Ok(NativeReply::Error { correlation, code: error.code(), message: error.error });
    }
    Ok(match call {
        Call::Hello => NativeReply::HelloOk { correlation, reply: json(content)? },
        Call::Metadata => NativeReply::Metadata { correlation, reply: json(content)? },
        Call::CreateTopic => NativeReply::TopicCreated { correlation, reply: json(content)? },
        Call::AlterTopic => {
            let _: AlterTopicReply = json(content)?;
            NativeReply::TopicAltered { correlation }
        }
        Call::DeleteTopic => {
            let _: DeleteTopicReply = json(content)?;
            NativeReply::TopicDeleted { correlation }
        }
        Call::DescribeTopic => NativeReply::TopicDescribed { correlation, reply: json(content)? },
        Call::ListOffsets => NativeReply::Offset { correlation, reply: json(content)? },
        Call::Fetch => {
            let reply: FetchReply = json(content)?;
            NativeReply::Fetched {
                correlation,
                high_watermark: reply.high_watermark,
                log_start: reply.log_start_offset,
                frames: Bytes::new(),
            }
        }
        Call::Produce => return Err(malformed("envelope", "a batch is answered by a batch frame")),
    })
}

/// The counts of a fetch's answer.
pub(super) fn fetch_reply(frame: &[u8]) -> Result<FetchReply, ClientError> {
    json(Envelope::parse(frame)?.content()?)
}

fn json<T: DeserializeOwned>(content: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(content).map_err(|error| malformed("answer", error))
}

/// Whether `frames` are `batches` sound deliveries for `correlation`, to the byte.
pub(super) fn check_delivered(
    frames: &[u8],
    batches: u32,
    correlation: u64,
) -> Result<(), ClientError> {
    let mut rest = frames;
    for _ in 0..batches {
        let limit = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let length = match frame_start(rest, limit)? {
            FrameStart::Batch(length) if length <= rest.len() => length,
            FrameStart::Batch(wanted) | FrameStart::NeedMore(wanted) => {
                let left = rest.len();
                return Err(ClientError::Truncated { what: "delivery", wanted, left });
            }
            FrameStart::Envelope(_) => return Err(malformed("delivery", "an envelope inside")),
        };
        let (frame, after) = rest.split_at(length);
        check_batch(frame, correlation)?;
        rest = after;
    }
    if !rest.is_empty() {
        return Err(malformed("delivery", format!("{} bytes left over", rest.len())));
    }
    Ok(())
}

fn check_batch(frame: &[u8], correlation: u64) -> Result<(), ClientError> {
    let header = BatchHeader::access(frame).map_err(|error| malformed("delivery", error))?;
    if header.kind() != Kind::Deliver || header.correlation() != correlation {
        let detail = format!("{:?} frame for {}", header.kind(), header.correlation());
        return Err(malformed("delivery", detail));
    }
    let computed = crc32c(frame.get(CRC_FROM..).unwrap_or_default());
    if computed != header.kafka_crc() {
        let found = header.kafka_crc();
        return Err(ClientError::Checksum { what: "records", found, computed });
    }
    Ok(())
}
