//! ListOffsets: one question per partition.
//! Owner: one Kafka connection.
//! Invariant: topics and partitions are answered in the order asked.
//! Not here: finding offsets (`partition`).

use super::call::{Asked, Head, known_epoch, log_key, respond};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ringway_partition::request::{OffsetAt, Reply, Request};
use ringway_wire::error_code::ErrorCode;

/// From this version on an answer tells the found record's leader epoch.
const EPOCH_FROM: i16 = 4;

/// The answer, and where in it the asked partitions belong.
pub(crate) struct Waiting {
    response: ListOffsetsResponse,
    /// Topic and partition of each question.
    places: Vec<(usize, usize)>,
}

enum Wanted {
    Ask(OffsetAt),
    /// Known without asking: nothing is tiered here.
    Nothing,
    Refused,
}

/// Asks for every partition that exists.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: ListOffsetsRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<Waiting>, Close> {
    let mut waiting = Waiting { response: ListOffsetsResponse::default(), places: Vec::new() };
    let mut asks = Vec::new();
    for asked in request.topics {
        let topic = turn.door.catalog.topics.get(asked.name.as_str()).cloned();
        let mut row = ListOffsetsTopicResponse::default().with_name(asked.name);
        for part in asked.partitions {
            let mut place = ListOffsetsPartitionResponse::default()
                .with_partition_index(part.partition_index)
                .with_timestamp(-1)
                .with_offset(-1)
                .with_leader_epoch(-1);
            let key = topic.as_ref().and_then(|topic| log_key(topic, part.partition_index));
            match (key, wanted(head.version, part.timestamp)) {
                (None, _) => place.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                (Some(_), Wanted::Refused) => {
                    place.error_code = ErrorCode::UnsupportedVersion.code();
                }
                (Some(_), Wanted::Nothing) => {}
                (Some(key), Wanted::Ask(at)) => {
                    turn.count_owner(key);
                    waiting.places.push((waiting.response.topics.len(), row.partitions.len()));
                    let leader_epoch = known_epoch(part.current_leader_epoch);
                    asks.push(Request::ListOffsets { key, at, leader_epoch });
                }
            }
            row.partitions.push(place);
        }
        waiting.response.topics.push(row);
    }
    if asks.is_empty() {
        respond(head, &waiting.response, turn)?;
        return Ok(None);
    }
    Ok(Some((asks, waiting)))
}

/// Answers once every partition has.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    mut waiting: Waiting,
    replies: Vec<Reply>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    for ((topic, partition), reply) in waiting.places.into_iter().zip(replies) {
        let row = waiting.response.topics.get_mut(topic);
        let Some(place) = row.and_then(|row| row.partitions.get_mut(partition)) else { continue };
        if let Reply::Offset { offset, timestamp_ms, leader_epoch } = reply {
            place.offset = offset;
            place.timestamp = timestamp_ms;
            place.leader_epoch = if head.version >= EPOCH_FROM { leader_epoch } else { -1 };
        } else {
            place.error_code = refusal(reply).0.code();
        }
    }
    respond(head, &waiting.response, turn)
}

/// Specials with the versions that brought them (O2).
fn wanted(version: i16, timestamp: i64) -> Wanted {
    match timestamp {
        0.. => Wanted::Ask(OffsetAt::Time(timestamp)),
        -1 => Wanted::Ask(OffsetAt::Latest),
        -2 => Wanted::Ask(OffsetAt::Earliest),
        -3 if version >= 7 => Wanted::Ask(OffsetAt::MaxTimestamp),
        -4 if version >= 8 => Wanted::Ask(OffsetAt::Earliest),
        -5 if version >= 9 => Wanted::Nothing,
        _ => Wanted::Refused,
    }
}
