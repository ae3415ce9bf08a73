//! SyncGroup: the leader hands out assignments, every member gets its own.
//! Owner: one Kafka connection.
//! Invariant: the assignment's bytes pass unchanged.
//! Not here: waiting for the leader (`partition/group`). `group_instance_id` is not looked at so far.

use super::call::{Asked, Head, respond, text};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ringway_partition::request::{GroupReply, GroupRequest, Reply, Request};

/// Asks the coordinator.
pub(crate) fn start(request: SyncGroupRequest) -> Asked<()> {
    let protocol = match (request.protocol_type, request.protocol_name) {
        (Some(kind), Some(name)) => Some((kind.to_string(), name.to_string())),
        (_, None) | (None, _) => None,
    };
    let assignments = request.assignments.into_iter();
    let ask = Request::Group(GroupRequest::Sync {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member: request.member_id.to_string(),
        protocol,
        assignments: assignments
            .map(|a| (a.member_id.to_string(), a.assignment.to_vec()))
            .collect(),
    });
    Some((vec![ask], ()))
}

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(head: Head, replies: Vec<Reply>, turn: &mut Turn<'_>) -> Result<(), Close> {
    let Some(reply) = replies.into_iter().next() else { return Ok(()) };
    let response =
        if let Reply::Group(GroupReply::Synced { code, protocol_type, protocol, assignment }) =
            reply
        {
            SyncGroupResponse::default()
                .with_error_code(code.code())
                .with_protocol_type((!protocol_type.is_empty()).then(|| text(&protocol_type)))
                .with_protocol_name((!protocol.is_empty()).then(|| text(&protocol)))
                .with_assignment(Bytes::from(assignment))
        } else {
            SyncGroupResponse::default().with_error_code(refusal(reply).0.code())
        };
    respond(head, &response, turn)
}
