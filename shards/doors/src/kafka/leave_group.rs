//! LeaveGroup: one member before version 3, several from then on (G7).
//! Owner: one Kafka connection.
//! Invariant: members are answered in the order asked.
//! Not here: what leaving sets off (`partition/group`). Members are known by member id alone so far.

use super::call::{Asked, Head, respond, text};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ringway_partition::request::{GroupReply, GroupRequest, Reply, Request};
use ringway_wire::error_code::ErrorCode;

/// From this version on several members leave at once.
const BATCH_FROM: i16 = 3;

/// Asks the coordinator.
pub(crate) fn start(head: Head, request: LeaveGroupRequest) -> Asked<()> {
    let members = if head.version >= BATCH_FROM {
        request.members.iter().map(|member| member.member_id.to_string()).collect()
    } else {
        vec![request.member_id.to_string()]
    };
    let group = request.group_id.to_string();
    Some((vec![Request::Group(GroupRequest::Leave { group, members })], ()))
}

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(head: Head, replies: Vec<Reply>, turn: &mut Turn<'_>) -> Result<(), Close> {
    let Some(reply) = replies.into_iter().next() else { return Ok(()) };
    let response = LeaveGroupResponse::default();
    let Reply::Group(GroupReply::Left(members)) = reply else {
        return respond(head, &response.with_error_code(refusal(reply).0.code()), turn);
    };
    if head.version < BATCH_FROM {
        let code = members.first().map_or(ErrorCode::None, |(_, code)| *code);
        return respond(head, &response.with_error_code(code.code()), turn);
    }
    let rows = members.into_iter().map(|(id, code)| {
        MemberResponse::default().with_member_id(text(&id)).with_error_code(code.code())
    });
    respond(head, &response.with_members(rows.collect()), turn)
}
