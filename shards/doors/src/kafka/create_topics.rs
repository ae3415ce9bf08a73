//! CreateTopics: each topic is created or refused by itself.
//! Owner: one Kafka connection.
//! Invariant: results stand in the order of the request (A1).
//! Not here: rules about names and settings (control plane).

use super::call::{Asked, Head, partition_index, respond, text, uuid};
use crate::door::Close;
use crate::turn::{Turn, refusal};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use ringway_partition::catalog::{Catalog, Topic};
use ringway_partition::request::{MetaAnswer, MetaOp, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::BROKERS_PER_NODE;
use std::collections::{BTreeMap, BTreeSet};

/// The answer, and which of its rows wait.
pub(crate) struct Waiting {
    response: CreateTopicsResponse,
    places: Vec<usize>,
}

/// Asks for every topic that is not refused at once.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: CreateTopicsRequest,
    turn: &mut Turn<'_>,
) -> Result<Asked<Waiting>, Close> {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for topic in &request.topics {
        *seen.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut waiting = Waiting { response: CreateTopicsResponse::default(), places: Vec::new() };
    let mut asks = Vec::new();
    for topic in &request.topics {
        let mut row = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(Some(Vec::new()));
        let twice = seen.get(topic.name.as_str()).is_some_and(|&times| times > 1);
        let checked = if twice {
            Err((ErrorCode::InvalidRequest, format!("topic {:?} stands twice", &*topic.name)))
        } else {
            shape(topic, &turn.door.catalog)
        };
        match checked {
            Ok((partitions, replication_factor)) => {
                waiting.places.push(waiting.response.topics.len());
                asks.push(create(topic, partitions, replication_factor, request.validate_only));
            }
            Err((code, message)) => refuse(&mut row, code, &message),
        }
        waiting.response.topics.push(row);
    }
    if asks.is_empty() {
        respond(head, &waiting.response, turn)?;
        return Ok(None);
    }
    Ok(Some((asks, waiting)))
}

/// Answers once every topic was created or refused.
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
        let Some(row) = waiting.response.topics.get_mut(place) else { continue };
        if let Reply::Meta(MetaAnswer::Created { partitions, topic_id }) = reply {
            row.num_partitions = partition_index(partitions);
            row.replication_factor = 1;
            if let Some(topic) = turn.door.catalog.by_id.get(&topic_id) {
                describe(row, topic);
            }
        } else {
            let (code, message) = refusal(reply);
            refuse(row, code, &message);
        }
    }
    respond(head, &waiting.response, turn)
}

fn describe(row: &mut CreatableTopicResult, topic: &Topic) {
    row.topic_id = uuid(topic.uuid);
    let configs = topic.config.describe().into_iter().map(|config| {
        CreatableTopicConfigs::default()
            .with_name(text(config.name))
            .with_value(Some(text(&config.value)))
            .with_read_only(config.read_only)
            .with_config_source(config.source as i8)
    });
    row.configs = Some(configs.collect());
}

fn refuse(row: &mut CreatableTopicResult, code: ErrorCode, message: &str) {
    row.error_code = code.code();
    row.error_message = Some(text(message));
}

fn create(topic: &CreatableTopic, partitions: i32, factor: i16, validate_only: bool) -> Request {
    let configs = topic.configs.iter();
    Request::Meta(MetaOp::CreateTopic {
        name: topic.name.to_string(),
        partitions,
        replication_factor: factor,
        configs: configs
            .map(|config| (config.name.to_string(), config.value.as_deref().map(str::to_owned)))
            .collect(),
        validate_only,
        internal: false,
    })
}

/// Partitions and replication factor asked for, from the numbers or from a manual assignment. A manual
/// assignment is checked (B4) but places nothing: owners follow from the topic's number.
fn shape(topic: &CreatableTopic, catalog: &Catalog) -> Result<(i32, i16), (ErrorCode, String)> {
    if topic.assignments.is_empty() {
        return Ok((topic.num_partitions, topic.replication_factor));
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "partitions or replication factor beside a manual assignment";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let wrong = |message: String| Err((ErrorCode::InvalidReplicaAssignment, message));
    let mut numbers = BTreeSet::new();
    for assignment in &topic.assignments {
        let number = assignment.partition_index;
        let nodes: BTreeSet<i32> =
            assignment.broker_ids.iter().map(|id| id.0.div_euclid(BROKERS_PER_NODE)).collect();
        let known = |id: i32| catalog.brokers.iter().any(|broker| broker.id == id);
        if assignment.broker_ids.is_empty() || nodes.len() < assignment.broker_ids.len() {
            return wrong(format!("partition {number} needs one broker id per node"));
        }
        if let Some(id) = assignment.broker_ids.iter().find(|id| !known(id.0)) {
            return wrong(format!("partition {number}: no broker {}", id.0));
        }
        if !numbers.insert(number) {
            return wrong(format!("partition {number} stands twice"));
        }
    }
    let count = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
    if numbers.first() != Some(&0) || numbers.last() != Some(&(count - 1)) {
        return wrong(format!("partition numbers are not 0 to {}", count - 1));
    }
    let factor = topic.assignments.first().map_or(0, |first| first.broker_ids.len());
    Ok((count, i16::try_from(factor).unwrap_or(i16::MAX)))
}
