//! DescribeConfigs: settings of topics and of this broker.
//! Owner: nobody, answered from the catalog and the door's settings at once.
//! Invariant: an unknown resource is an error of its own row, never of the whole answer.
//! Not here: changing settings.

use super::call::{Head, respond, text};
use crate::door::Close;
use crate::turn::Turn;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use ringway_partition::topic_config::{ConfigRow, ConfigSource, ConfigType};
use ringway_wire::error_code::ErrorCode;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Answers.
///
/// # Errors
/// When the answer cannot be encoded.
pub(crate) fn start(
    head: Head,
    request: DescribeConfigsRequest,
    turn: &mut Turn<'_>,
) -> Result<(), Close> {
    let results = request.resources.into_iter().map(|resource| {
        let rows = match resource.resource_type {
            TOPIC => topic_rows(&resource, request.include_synonyms, turn),
            BROKER => broker_rows(&resource, turn),
            other => {
                let message = format!("configs of resource type {other} are not described");
                Err((ErrorCode::InvalidRequest, message))
            }
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match rows {
            Ok(rows) => result.with_configs(rows),
            Err((code, message)) => {
                result.with_error_code(code.code()).with_error_message(Some(text(&message)))
            }
        }
    });
    let response = DescribeConfigsResponse::default().with_results(results.collect());
    respond(head, &response, turn)
}

type Rows = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    // No list asks for everything, and so does an empty one: librdkafka sends that.
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        Some(_) | None => true,
    }
}

fn topic_rows(resource: &DescribeConfigsResource, synonyms: bool, turn: &Turn<'_>) -> Rows {
    let name = resource.resource_name.as_str();
    let Some(topic) = turn.door.catalog.topics.get(name) else {
        return Err((ErrorCode::UnknownTopicOrPartition, format!("no topic {name:?}")));
    };
    let rows = topic.config.describe().into_iter().filter(|row| wanted(resource, row.name));
    Ok(rows.map(|row| topic_row(row, synonyms)).collect())
}

fn topic_row(row: ConfigRow, synonyms: bool) -> DescribeConfigsResourceResult {
    let mut described = DescribeConfigsResourceResult::default()
        .with_name(text(row.name))
        .with_value(Some(text(&row.value)))
        .with_read_only(row.read_only)
        .with_config_source(row.source as i8)
        .with_config_type(row.kind as i8);
    if synonyms {
        let own = (row.source == ConfigSource::DynamicTopic)
            .then(|| synonym(row.name, &row.value, ConfigSource::DynamicTopic));
        let others = row.synonyms.iter().map(|(name, value, source)| synonym(name, value, *source));
        described.synonyms = own.into_iter().chain(others).collect();
    }
    described
}

fn synonym(name: &str, value: &str, source: ConfigSource) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_source(source as i8)
}

fn broker_rows(resource: &DescribeConfigsResource, turn: &Turn<'_>) -> Rows {
    let id = resource.resource_name.as_str();
    let known = |id: i32| turn.door.catalog.brokers.iter().any(|broker| broker.id == id);
    if !id.is_empty() && !id.parse().is_ok_and(known) {
        return Err((ErrorCode::InvalidRequest, format!("no broker {id:?}")));
    }
    let rows = turn.door.config.broker_configs.iter().filter(|(name, _)| wanted(resource, name));
    let describe = |(name, value): (&String, &String)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(ConfigSource::StaticBroker as i8)
            .with_config_type(type_of(value) as i8)
    };
    Ok(rows.map(describe).collect())
}

/// The settings of a broker are texts here; their type shows in the value.
fn type_of(value: &str) -> ConfigType {
    if matches!(value, "true" | "false") {
        ConfigType::Boolean
    } else if value.parse::<i32>().is_ok() {
        ConfigType::Int
    } else if value.parse::<i64>().is_ok() {
        ConfigType::Long
    } else {
        ConfigType::String
    }
}
