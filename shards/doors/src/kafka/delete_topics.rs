//! DeleteTopics: by name, from version 6 on also by id.
//! Owner: one Kafka connection.
//! Invariant: results stand in the order of the request.
//! Not here: what goes with a topic (control plane, partitions).

use super::call::{Asked, Head, respond, text, uuid};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use ringway_partition::request::{MetaAnswer, MetaOp, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::TopicUuid;

/// The answer, and which of its rows wait.
pub(crate) struct Waiting {
    response: DeleteTopicsResponse,
    places: Vec<usize>,
}

/// Asks for every topic that exists.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: DeleteTopicsRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<Waiting>, Close> {
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut waiting = Waiting { response: DeleteTopicsResponse::default(), places: Vec::new() };
    let mut asks = Vec::new();
    for asked in request.topics.into_iter().chain(by_name) {
        let id = TopicUuid(*asked.topic_id.as_bytes());
        let catalog = &turn.door.catalog;
        let (topic, missing) = match &asked.name {
            Some(name) => (catalog.topics.get(name.as_str()), ErrorCode::UnknownTopicOrPartition),
            None => (catalog.by_uuid.get(&id), ErrorCode::UnknownTopicId),
        };
        let mut row =
            DeletableTopicResult::default().with_name(asked.name).with_topic_id(asked.topic_id);
        match topic {
            Some(topic) => {
                row.name = Some(TopicName(text(&topic.name)));
                if head.version >= 6 {
                    row.topic_id = uuid(topic.uuid);
                }
                waiting.places.push(waiting.response.responses.len());
                asks.push(Request::Meta(MetaOp::DeleteTopic { topic_id: topic.id }));
            }
            None => row.error_code = missing.code(),
        }
        waiting.response.responses.push(row);
    }
    if asks.is_empty() {
        respond(head, &waiting.response, turn)?;
        return Ok(None);
    }
    Ok(Some((asks, waiting)))
}

/// Answers once every topic is gone or was refused.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    mut waiting: Waiting,
    replies: Vec<Reply>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    for (place, reply) in waiting.places.into_iter().zip(replies) {
        let Some(row) = waiting.response.responses.get_mut(place) else { continue };
        if !matches!(reply, Reply::Meta(MetaAnswer::Deleted)) {
            let (code, message) = refusal(reply);
            row.error_code = code.code();
            row.error_message = (head.version >= 5).then(|| text(&message));
        }
    }
    respond(head, &waiting.response, turn)
}
