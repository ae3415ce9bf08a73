//! InitProducerId: an id for an idempotent producer.
//! Owner: one Kafka connection.
//! Invariant: a transactional id is refused for good: transactions are not served, so nobody waits for them.
//! Not here: handing out ids (`partition`).

use super::call::{Asked, Head, respond};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use ringway_partition::request::{Reply, Request};
use ringway_wire::error_code::ErrorCode;

/// Asks for an id.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: InitProducerIdRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<()>, Close> {
    if request.transactional_id.is_some() {
        refuse(head, ErrorCode::TransactionalIdAuthorizationFailed, turn)?;
        return Ok(None);
    }
    let ask = Request::InitProducerId {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    Ok(Some((vec![ask], ())))
}

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(head: Head, replies: Vec<Reply>, turn: &mut Turn<'_>) -> Result<(), Close> {
    let Some(reply) = replies.into_iter().next() else { return Ok(()) };
    if let Reply::ProducerId { producer_id, epoch } = reply {
        let response = InitProducerIdResponse::default()
            .with_producer_id(ProducerId(producer_id))
            .with_producer_epoch(epoch);
        return respond(head, &response, turn);
    }
    refuse(head, refusal(reply).0, turn)
}

fn refuse(head: Head, code: ErrorCode, turn: &mut Turn<'_>) -> Result<(), Close> {
    let response = InitProducerIdResponse::default()
        .with_error_code(code.code())
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    respond(head, &response, turn)
}
