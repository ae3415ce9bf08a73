//! What every Kafka API shares: the head of a request, decoding behind the shape check, encoding an answer.
//! Owner: nobody, plain functions and values.
//! Invariant: nothing is decoded into structs before its shape was checked (a count alone could exhaust memory).
//! Not here: any API's meaning.

use crate::door::Close;
use crate::turn::{Turn, close};
use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ringway_partition::catalog::Topic;
use ringway_partition::request::Request;
use ringway_wire::ids::{LogKey, TopicUuid};
use ringway_wire::kafka::response_frame::ResponseFrame;

/// Head of a request, as far as its answer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
}

/// `None`: answered at once. Else what to ask the shard, in order, and what to remember meanwhile.
pub(crate) type Asked<W> = Option<(Vec<Request>, W)>;

/// Decodes a body whose shape was checked.
///
/// # Errors
/// When the body is none of `head`'s key and version.
pub(crate) fn decode<T: Decodable>(head: Head, mut body: Bytes) -> Result<T, Close> {
    let message = T::decode(&mut body, head.version)
        .map_err(|error| malformed(head, format!("{error:#}")))?;
    if body.is_empty() { Ok(message) } else { Err(malformed(head, "bytes left over")) }
}

/// Writes and sends the answer.
///
/// # Errors
/// When the answer cannot be told in the peer's version, which no request should bring about.
pub(crate) fn respond(head: Head, body: &impl Encodable, turn: &mut Turn<'_>) -> Result<(), Close> {
    let from = turn.out.bytes.len();
    let Head { key, version, correlation } = head;
    let frame = ResponseFrame::begin(&mut turn.out.bytes, key, version, correlation);
    body.encode(&mut turn.out.bytes, version)
        .map_err(|error| close("encode_failed", format!("key {key} {error:#}")))?;
    frame.end(&mut turn.out.bytes, 0);
    turn.send_from(from);
    Ok(())
}

/// The reason to close for a body that is not what its head says.
pub(crate) fn malformed(head: Head, detail: impl std::fmt::Display) -> Close {
    let Head { key, version, .. } = head;
    close("malformed_frame", format!("key {key} version {version}: {detail}"))
}

/// A text as the crate's encoder wants it.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The partition of a topic, when it has such a one.
pub(crate) fn log_key(topic: &Topic, partition: i32) -> Option<LogKey> {
    let partition = u32::try_from(partition).ok().filter(|&number| number < topic.partitions)?;
    Some(LogKey { topic_id: topic.id, partition })
}

/// The client's idea of a partition's leader epoch, −1 = none. librdkafka sends 0 for the −1 that Metadata
/// told it, to be refused and told better; no epoch here is ever 0, so it has none to compare.
pub(crate) fn known_epoch(asked: i32) -> i32 {
    if asked == 0 { -1 } else { asked }
}

/// A partition number in Kafka's type.
pub(crate) fn partition_index(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// A topic's id in the crate's type, which it does not name.
pub(crate) fn uuid<T: TryFrom<Vec<u8>> + Default>(uuid: TopicUuid) -> T {
    T::try_from(uuid.0.to_vec()).unwrap_or_default()
}
