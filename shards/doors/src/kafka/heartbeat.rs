//! Heartbeat: a member is alive, and learns of rebalances.
//! Owner: one Kafka connection.
//! Invariant: one question, one code.
//! Not here: timers (`partition/group`). `group_instance_id` is not looked at so far.

use super::call::{Asked, Head, respond};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ringway_partition::request::{GroupReply, GroupRequest, Reply, Request};

/// Asks the coordinator.
pub(crate) fn start(request: HeartbeatRequest) -> Asked<()> {
    let ask = Request::Group(GroupRequest::Heartbeat {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member: request.member_id.to_string(),
    });
    Some((vec![ask], ()))
}

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(head: Head, replies: Vec<Reply>, turn: &mut Turn<'_>) -> Result<(), Close> {
    let Some(reply) = replies.into_iter().next() else { return Ok(()) };
    let code =
        if let Reply::Group(GroupReply::Heartbeat(code)) = reply { code } else { refusal(reply).0 };
    respond(head, &HeartbeatResponse::default().with_error_code(code.code()), turn)
}
