//! Membership of consumer groups: requests and replies of the classic protocol.

use super::KafkaSession;
use super::call::Call;
use super::reader::Reader;
use super::reply::KafkaReply;
use super::request::{MemberOf, text};
use crate::error::ClientError;
use bytes::Bytes;
use kafka_protocol::messages as kp;
use ringway_wire::error_code::ErrorCode;

/// A wish to be a member of a group, with one protocol.
#[derive(Clone, Copy, Debug)]
pub struct JoinRequest<'a> {
    /// Group.
    pub group: &'a str,
    /// Id the server gave; empty at first.
    pub member: &'a str,
    /// Silent for so long, ms, the member is gone.
    pub session_timeout_ms: i32,
    /// So long, ms, the others are waited for.
    pub rebalance_timeout_ms: i32,
    /// What the leader is told of this member.
    pub metadata: &'a [u8],
}

/// The type of protocol, and the only protocol, that sessions offer.
const PROTOCOL_TYPE: &str = "consumer";
const PROTOCOL: &str = "range";

impl KafkaSession {
    /// Joins a group; answered when every member has joined.
    ///
    /// # Errors
    /// As [`KafkaSession::api_versions`]; the same for every method here.
    pub fn join_group(
        &mut self,
        out: &mut Vec<u8>,
        join: &JoinRequest<'_>,
    ) -> Result<i32, ClientError> {
        let protocol = kp::join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text(PROTOCOL))
            .with_metadata(Bytes::copy_from_slice(join.metadata));
        let body = kp::JoinGroupRequest::default()
            .with_group_id(kp::GroupId(text(join.group)))
            .with_member_id(text(join.member))
            .with_session_timeout_ms(join.session_timeout_ms)
            .with_rebalance_timeout_ms(join.rebalance_timeout_ms)
            .with_protocol_type(text(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        self.cold(Call::JoinGroup, &body, out)
    }

    /// Asks for this member's assignment; the leader brings those of all.
    ///
    /// # Errors
    /// As [`KafkaSession::join_group`].
    pub fn sync_group(
        &mut self,
        out: &mut Vec<u8>,
        who: &MemberOf<'_>,
        assignments: &[(String, Vec<u8>)],
    ) -> Result<i32, ClientError> {
        let one = |(member, bytes): &(String, Vec<u8>)| {
            kp::sync_group_request::SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(bytes))
        };
        let body = kp::SyncGroupRequest::default()
            .with_group_id(kp::GroupId(text(who.group)))
            .with_generation_id(who.generation)
            .with_member_id(text(who.member))
            .with_protocol_type(Some(text(PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(PROTOCOL)))
            .with_assignments(assignments.iter().map(one).collect());
        self.cold(Call::SyncGroup, &body, out)
    }

    /// Says that the member is alive.
    ///
    /// # Errors
    /// As [`KafkaSession::join_group`].
    pub fn heartbeat(&mut self, out: &mut Vec<u8>, who: &MemberOf<'_>) -> Result<i32, ClientError> {
        let body = kp::HeartbeatRequest::default()
            .with_group_id(kp::GroupId(text(who.group)))
            .with_generation_id(who.generation)
            .with_member_id(text(who.member));
        self.cold(Call::Heartbeat, &body, out)
    }

    /// Leaves the group.
    ///
    /// # Errors
    /// As [`KafkaSession::join_group`].
    pub fn leave_group(
        &mut self,
        out: &mut Vec<u8>,
        group: &str,
        member: &str,
    ) -> Result<i32, ClientError> {
        let leaving =
            kp::leave_group_request::MemberIdentity::default().with_member_id(text(member));
        let body = kp::LeaveGroupRequest::default()
            .with_group_id(kp::GroupId(text(group)))
            .with_members(vec![leaving]);
        self.cold(Call::LeaveGroup, &body, out)
    }
}

pub(super) fn joined(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let error = r.error()?;
    let generation = r.i32("generation")?;
    r.nullable_string("protocol type")?;
    r.nullable_string("protocol name")?;
    let leader = r.string("leader")?;
    let member = r.string("member id")?;
    let members = r.array("members", |r| {
        let id = r.string("member id")?;
        r.nullable_string("group instance id")?;
        let metadata = r.byte_run("metadata")?;
        r.tags()?;
        Ok((id, metadata))
    })?;
    Ok(KafkaReply::GroupJoined { correlation, error, generation, leader, member, members })
}

pub(super) fn synced(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let error = r.error()?;
    r.nullable_string("protocol type")?;
    r.nullable_string("protocol name")?;
    let assignment = r.byte_run("assignment")?;
    Ok(KafkaReply::GroupSynced { correlation, error, assignment })
}

pub(super) fn heartbeat(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    Ok(KafkaReply::Heartbeat { correlation, error: r.error()? })
}

pub(super) fn left(correlation: i32, r: &mut Reader) -> Result<KafkaReply, ClientError> {
    r.i32("throttle")?;
    let whole = r.error()?;
    let members = r.array("members", |r| {
        r.string("member id")?;
        r.nullable_string("group instance id")?;
        let one = r.error()?;
        r.tags()?;
        Ok(one)
    })?;
    let of_member = members.first().copied().unwrap_or(whole);
    let error = if whole == ErrorCode::None { of_member } else { whole };
    Ok(KafkaReply::GroupLeft { correlation, error })
}
