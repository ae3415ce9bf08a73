//! OffsetCommit: what a group has read, stored durably before the answer (G16).
//! Owner: one Kafka connection.
//! Invariant: topics and partitions are answered in the order asked.
//! Not here: who may commit (`partition/group`). Static members are treated as dynamic ones so far.

use super::call::{Asked, Head, log_key, respond};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ringway_partition::request::{CommittedOffset, GroupReply, GroupRequest, Reply, Request};
use ringway_wire::error_code::ErrorCode;

/// Longest text a client may store beside an offset (G10).
const METADATA_BYTES_MAX: usize = 4096;

/// The answer, and where in it the committed offsets belong.
pub(crate) struct Waiting {
    response: OffsetCommitResponse,
    places: Vec<(usize, usize)>,
}

/// Asks the coordinator to store every offset whose partition exists.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: OffsetCommitRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<Waiting>, Close> {
    let mut waiting = Waiting { response: OffsetCommitResponse::default(), places: Vec::new() };
    let mut offsets = Vec::new();
    for asked in request.topics {
        let topic = turn.door.catalog.topics.get(asked.name.as_str()).cloned();
        let mut row = OffsetCommitResponseTopic::default().with_name(asked.name);
        for part in asked.partitions {
            let index = part.partition_index;
            let mut place = OffsetCommitResponsePartition::default().with_partition_index(index);
            let metadata = part.committed_metadata.as_deref().unwrap_or_default();
            let key = topic.as_ref().and_then(|topic| log_key(topic, index));
            match key {
                None => place.error_code = ErrorCode::UnknownTopicOrPartition.code(),
                Some(_) if metadata.len() > METADATA_BYTES_MAX => {
                    place.error_code = ErrorCode::OffsetMetadataTooLarge.code();
                }
                Some(key) => {
                    waiting.places.push((waiting.response.topics.len(), row.partitions.len()));
                    offsets.push(CommittedOffset {
                        key,
                        offset: part.committed_offset,
                        leader_epoch: part.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                    });
                }
            }
            row.partitions.push(place);
        }
        waiting.response.topics.push(row);
    }
    if offsets.is_empty() {
        respond(head, &waiting.response, turn)?;
        return Ok(None);
    }
    let ask = Request::Group(GroupRequest::Commit {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member: request.member_id.to_string(),
        offsets,
    });
    Ok(Some((vec![ask], waiting)))
}

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    mut waiting: Waiting,
    replies: Vec<Reply>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    let Some(reply) = replies.into_iter().next() else { return Ok(()) };
    let codes: Vec<ErrorCode> = if let Reply::Group(GroupReply::Committed(rows)) = reply {
        rows.into_iter().map(|(_, code)| code).collect()
    } else {
        vec![refusal(reply).0; waiting.places.len()]
    };
    // A coordinator that names fewer offsets than it was asked about stored no others.
    let codes = codes.into_iter().chain(std::iter::repeat(ErrorCode::UnknownServerError));
    for ((topic, partition), code) in waiting.places.into_iter().zip(codes) {
        let row = waiting.response.topics.get_mut(topic);
        if let Some(place) = row.and_then(|row| row.partitions.get_mut(partition)) {
            place.error_code = code.code();
        }
    }
    respond(head, &waiting.response, turn)
}
