//! JoinGroup: a member enters or re-enters its group.
//! Owner: one Kafka connection.
//! Invariant: version 0 has no rebalance timeout; it is the session timeout then (G3).
//! Not here: rebalancing (`partition/group`). A static member (`group_instance_id`) is treated as a dynamic one so far;
//! it alone is never sent away to come back with an id (G2).

use super::call::{Asked, Head, respond, text};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ringway_partition::request::{GroupReply, GroupRequest, JoinGroup, Reply, Request};

/// Longest client id kept; more is cut (it is only shown).
const CLIENT_ID_CHARS_MAX: usize = 128;

/// What the answer repeats when the coordinator refuses.
pub(crate) struct Waiting {
    member: StrBytes,
}

/// Asks the coordinator.
pub(crate) fn start(
    head: Head,
    client_id: &[u8],
    request: JoinGroupRequest,
    peer: &str,
) -> Asked<Waiting> {
    let rebalance_timeout_ms =
        if head.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let client_id = client_id.escape_ascii().to_string();
    let protocols = request.protocols.into_iter();
    let join = JoinGroup {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        member_id_required: head.version >= 4 && request.group_instance_id.is_none(),
        client_id: client_id.chars().take(CLIENT_ID_CHARS_MAX).collect(),
        client_host: peer.to_owned(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.map(|p| (p.name.to_string(), p.metadata.to_vec())).collect(),
    };
    let ask = Request::Group(GroupRequest::Join(join));
    Some((vec![ask], Waiting { member: request.member_id }))
}

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    waiting: Waiting,
    replies: Vec<Reply>,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    let Some(reply) = replies.into_iter().next() else { return Ok(()) };
    // Before version 7 an absent protocol was an empty text.
    let protocol = |name: &str| (!name.is_empty() || head.version < 7).then(|| text(name));
    let response = if let Reply::Group(GroupReply::Joined {
        code,
        generation,
        protocol_type,
        protocol: chosen,
        leader,
        member,
        members,
    }) = reply
    {
        let members = members.into_iter().map(|(id, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&id))
                .with_metadata(Bytes::from(metadata))
        });
        JoinGroupResponse::default()
            .with_error_code(code.code())
            .with_generation_id(generation)
            .with_protocol_type((!protocol_type.is_empty()).then(|| text(&protocol_type)))
            .with_protocol_name(protocol(&chosen))
            .with_leader(text(&leader))
            .with_member_id(text(&member))
            .with_members(members.collect())
    } else {
        JoinGroupResponse::default()
            .with_error_code(refusal(reply).0.code())
            .with_generation_id(-1)
            .with_protocol_name(protocol(""))
            .with_member_id(waiting.member)
    };
    respond(head, &response, turn)
}
