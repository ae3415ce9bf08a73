//! FindCoordinator: the broker whose shard owns a group's partition of the offsets topic (B7).
//! Owner: one Kafka connection.
//! Invariant: the partition of a group is the same on every shard and in every version.
//! Not here: what a coordinator does (`partition`).

use super::call::{Asked, Head, respond, text};
use super::metadata::create;
use crate::door::Close;
use crate::turn::Turn;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use ringway_partition::catalog::{Broker, Catalog};
use ringway_partition::group::{OFFSETS_TOPIC, partition_of_group};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers, or asks for the offsets topic to be created first.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: FindCoordinatorRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<FindCoordinatorRequest>, Close> {
    let there = turn.door.catalog.topics.contains_key(OFFSETS_TOPIC);
    if request.key_type == GROUP && !there {
        let ask = create(OFFSETS_TOPIC, turn.door.config.offsets_partitions);
        return Ok(Some((vec![ask], request)));
    }
    answer(head, request, turn)?;
    Ok(None)
}

/// Answers; the topic may still be on its way (then clients ask again).
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn finish(
    head: Head,
    request: FindCoordinatorRequest,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    answer(head, request, turn)
}

fn answer(head: Head, request: FindCoordinatorRequest, turn: &mut Turn<'_>) -> Result<(), Close> {
    let kind = request.key_type;
    if head.version >= 4 {
        let keys = request.coordinator_keys.into_iter();
        let rows = keys.map(|key| {
            let found = find(&turn.door.catalog, kind, &key);
            let row = Coordinator::default().with_key(key);
            match found {
                Ok(broker) => row
                    .with_node_id(BrokerId(broker.id))
                    .with_host(text(&broker.host))
                    .with_port(i32::from(broker.port)),
                Err((code, message)) => row
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(code.code())
                    .with_error_message(Some(text(message))),
            }
        });
        let response = FindCoordinatorResponse::default().with_coordinators(rows.collect());
        return respond(head, &response, turn);
    }
    let response = match find(&turn.door.catalog, kind, &request.key) {
        Ok(broker) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(&broker.host))
            .with_port(i32::from(broker.port)),
        Err((code, message)) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(code.code())
            .with_error_message((head.version >= 1).then(|| text(message))),
    };
    respond(head, &response, turn)
}

fn find<'a>(
    catalog: &'a Catalog,
    kind: i8,
    key: &str,
) -> Result<&'a Broker, (ErrorCode, &'static str)> {
    match kind {
        GROUP => {}
        // Final for every client; a retriable code would make transactional producers wait for ever.
        TRANSACTION => {
            let message = "transactions are not served";
            return Err((ErrorCode::TransactionalIdAuthorizationFailed, message));
        }
        _ => return Err((ErrorCode::InvalidRequest, "unknown kind of coordinator")),
    }
    let missing = (ErrorCode::CoordinatorNotAvailable, "the offsets topic is being created");
    let topic = catalog.topics.get(OFFSETS_TOPIC).ok_or(missing)?;
    let partition = partition_of_group(key, topic.partitions);
    let key = LogKey { topic_id: topic.id, partition };
    let id = catalog.broker_of_shard(shard_of(key, catalog.shard_count));
    catalog.brokers.iter().find(|broker| broker.id == id).ok_or(missing)
}
