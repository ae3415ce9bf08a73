//! Metadata and its changes, as clients send and read them, every version served.

use super::peer::*;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request as _;
use ringway_partition::request::{MetaAnswer, MetaOp, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use std::sync::Arc;

/// Kafka's id of a topic of the tests.
pub(super) fn uuid<T: TryFrom<Vec<u8>> + Default>(id: u64) -> T {
    T::try_from(topic(id, "", 1).uuid.0.to_vec()).unwrap_or_default()
}

fn asked_topic(topic: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(name(topic)))
}

#[test]
fn api_versions_is_answered_with_the_table_and_no_tags() {
    for version in 0..=4 {
        let mut peer = Peer::new();
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("librdkafka"))
            .with_client_software_version(text("2.12.1-rc.2"));
        peer.send(&frame(version, 11, &request));
        let (correlation, response) = peer.response::<ApiVersionsRequest>(version);
        assert_eq!((correlation, response.error_code), (11, 0));
        assert!(response.supported_features.is_empty() && response.finalized_features.is_empty());
        let row = |key: i16| response.api_keys.iter().find(|row| row.api_key == key);
        let produce = row(ProduceRequest::KEY).expect("produce");
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert!(row(EndTxnRequest::KEY).is_none());
        peer.finish();
    }
}

#[test]
fn an_api_versions_of_the_future_gets_the_oldest_form() {
    for version in [5, 99] {
        let mut peer = Peer::new();
        let mut bytes = frame(4, 12, &ApiVersionsRequest::default());
        bytes[6..8].copy_from_slice(&i16::to_be_bytes(version));
        peer.send(&bytes);
        let (correlation, response) = peer.response::<ApiVersionsRequest>(0);
        assert_eq!((correlation, response.error_code), (12, 35));
        assert!(response.api_keys.iter().any(|row| row.api_key == 18 && row.max_version == 4));
        assert_eq!(peer.close, None);
        peer.finish();
    }
}

#[test]
fn software_with_a_bad_name_is_told() {
    let mut peer = Peer::new();
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("-x"))
        .with_client_software_version(text("1"));
    peer.send(&frame(3, 1, &request));
    assert_eq!(peer.response::<ApiVersionsRequest>(3).1.error_code, 42);
    peer.finish();
}

#[test]
fn metadata_names_brokers_topics_and_leaders_in_every_version() {
    for version in 0..=13 {
        let mut peer = Peer::new();
        let all = MetadataRequest::default().with_topics((version == 0).then(Vec::new));
        peer.send(&frame(version, 2, &all));
        let (_, response) = peer.response::<MetadataRequest>(version);
        let ports: Vec<_> = response.brokers.iter().map(|b| (b.node_id.0, b.port)).collect();
        assert_eq!(ports, [(0, 19092), (1, 19093)]);
        let gpu = &response.topics[0];
        assert_eq!(gpu.name.as_ref().map(|name| name.as_str()), Some("gpu"));
        let leaders: Vec<i32> = gpu.partitions.iter().map(|part| part.leader_id.0).collect();
        assert_eq!(leaders, [0, 1, 0, 1]);
        if version >= 10 {
            assert_eq!(gpu.topic_id.as_bytes(), &super::peer::topic(7, "", 1).uuid.0);
        }
        if version >= 1 {
            let none = MetadataRequest::default().with_topics(Some(Vec::new()));
            peer.send(&frame(version, 3, &none));
            assert_eq!(peer.response::<MetadataRequest>(version).1.topics, []);
        }
        peer.finish();
    }
}

#[test]
fn metadata_by_id_knows_and_does_not_know() {
    for version in [12, 13] {
        let mut peer = Peer::new();
        let by_id = |id| MetadataRequestTopic::default().with_topic_id(uuid(id)).with_name(None);
        let request = MetadataRequest::default().with_topics(Some(vec![by_id(7), by_id(8)]));
        peer.send(&frame(version, 2, &request));
        let topics = peer.response::<MetadataRequest>(version).1.topics;
        let codes: Vec<i16> = topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 100]);
        peer.finish();
    }
}

#[test]
fn missing_topics_are_created_when_asked_for_by_name() {
    for version in [0, 3, 4, 13] {
        let mut peer = Peer::new();
        let names = vec![asked_topic("new"), asked_topic("gpu"), asked_topic("ba d")];
        let request = MetadataRequest::default().with_topics(Some(names));
        let request = request.with_allow_auto_topic_creation(true);
        peer.send(&frame(version, 2, &request));
        let Request::Meta(MetaOp::CreateTopic { name, partitions, internal, .. }) =
            peer.asked[0].1.clone()
        else {
            panic!("not a creation")
        };
        assert_eq!((name.as_str(), partitions, internal), ("new", -1, false));
        assert_eq!(peer.asked.len(), 1);
        let created = MetaAnswer::Created { topic_id: 8, partitions: 1 };
        peer.answer_next(Reply::Meta(created.clone()));
        let codes = |response: MetadataResponse| -> Vec<i16> {
            response.topics.iter().map(|topic| topic.error_code).collect()
        };
        assert_eq!(codes(peer.response::<MetadataRequest>(version).1), [5, 0, 17]);
        // Once more, with the catalog there before the answer.
        peer.send(&frame(version, 2, &request));
        let mut catalog = catalog();
        catalog.insert(topic(8, "new", 1));
        peer.door.catalog = Arc::new(catalog);
        peer.answer_next(Reply::Meta(created));
        assert_eq!(codes(peer.response::<MetadataRequest>(version).1), [0, 0, 17]);
        peer.finish();
    }
}

#[test]
fn topics_are_not_created_when_nobody_may() {
    let mut settings = config();
    settings.auto_create = false;
    for (version, settings) in [(4, config()), (1, settings)] {
        let mut peer = Peer::with(settings, catalog());
        let request = MetadataRequest::default().with_topics(Some(vec![asked_topic("new")]));
        let request = request.with_allow_auto_topic_creation(version < 4);
        peer.send(&frame(version, 2, &request));
        assert_eq!(peer.response::<MetadataRequest>(version).1.topics[0].error_code, 3);
        peer.finish();
    }
}

#[test]
fn topics_are_created_in_every_version() {
    for version in 2..=7 {
        let mut peer = Peer::new();
        let topic = |topic: &str| CreatableTopic::default().with_name(name(topic));
        let config = CreatableTopicConfig::default()
            .with_name(text("cleanup.policy"))
            .with_value(Some(text("compact")));
        let assignment = |index, ids: &[i32]| {
            CreatableReplicaAssignment::default()
                .with_partition_index(index)
                .with_broker_ids(ids.iter().map(|&id| BrokerId(id)).collect())
        };
        let manual = topic("manual").with_num_partitions(-1).with_replication_factor(-1);
        let placed = |ids: &[i32]| vec![assignment(0, ids), assignment(1, ids)];
        let request = CreateTopicsRequest::default().with_validate_only(true).with_topics(vec![
            topic("twice"),
            topic("a").with_num_partitions(3).with_replication_factor(1).with_configs(vec![config]),
            topic("twice"),
            manual.clone().with_name(name("c")).with_assignments(placed(&[1])),
            manual.clone().with_assignments(placed(&[0, 1])),
            topic("b").with_num_partitions(0).with_replication_factor(-1),
        ]);
        peer.send(&frame(version, 2, &request));
        let Request::Meta(MetaOp::CreateTopic { name, partitions, configs, validate_only, .. }) =
            peer.answer_next(Reply::Meta(MetaAnswer::Created { topic_id: 7, partitions: 3 }))
        else {
            panic!("not a creation")
        };
        assert_eq!((name.as_str(), partitions, validate_only), ("a", 3, true));
        assert_eq!(configs, [("cleanup.policy".to_owned(), Some("compact".to_owned()))]);
        let created = MetaAnswer::Created { topic_id: 0, partitions: 2 };
        let Request::Meta(MetaOp::CreateTopic { partitions, replication_factor, .. }) =
            peer.answer_next(Reply::Meta(created))
        else {
            panic!("not a creation")
        };
        assert_eq!((partitions, replication_factor), (2, 1));
        let message = "partitions 0".to_owned();
        let code = ErrorCode::InvalidPartitions;
        peer.answer_next(Reply::Meta(MetaAnswer::Failed { code, message }));
        let rows = peer.response::<CreateTopicsRequest>(version).1.topics;
        let codes: Vec<_> = rows.iter().map(|r| (r.name.to_string(), r.error_code)).collect();
        let expected =
            [("twice", 42), ("a", 0), ("twice", 42), ("c", 0), ("manual", 39), ("b", 37)];
        assert_eq!(codes, expected.map(|(name, code)| (name.to_owned(), code)));
        if version >= 5 {
            assert_eq!(rows[1].num_partitions, 3);
            let configs = rows[1].configs.as_ref().expect("configs");
            assert!(configs.iter().any(|c| c.name.as_str() == "cleanup.policy"));
        }
        if version >= 7 {
            assert_eq!(rows[1].topic_id.as_bytes(), &super::peer::topic(7, "", 1).uuid.0);
        }
        peer.finish();
    }
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    for version in 1..=6 {
        let mut peer = Peer::new();
        let mut request = DeleteTopicsRequest::default();
        if version < 6 {
            request.topic_names = vec![name("nobody"), name("gpu")];
        } else {
            let state = |id, name| DeleteTopicState::default().with_topic_id(id).with_name(name);
            request.topics = vec![
                state(uuid::<_>(99), None),
                state(uuid(7), None),
                state(Default::default(), Some(name("nobody"))),
            ];
        }
        peer.send(&frame(version, 2, &request));
        let asked = peer.answer_next(Reply::Meta(MetaAnswer::Deleted));
        assert!(matches!(asked, Request::Meta(MetaOp::DeleteTopic { topic_id: 7 })));
        let rows = peer.response::<DeleteTopicsRequest>(version).1.responses;
        let codes: Vec<i16> = rows.iter().map(|row| row.error_code).collect();
        if version < 6 {
            assert_eq!(codes, [3, 0]);
        } else {
            assert_eq!(codes, [100, 0, 3]);
            assert_eq!(rows[1].name, Some(name("gpu")));
        }
        peer.finish();
    }
}

#[test]
fn configs_of_topics_and_brokers_are_described_in_every_version() {
    for version in 1..=4 {
        let mut peer = Peer::new();
        let resource = |kind, name: &str| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let one = Some(vec![text("segment.bytes")]);
        let request =
            DescribeConfigsRequest::default().with_include_synonyms(true).with_resources(vec![
                resource(2, "gpu"),
                resource(2, "gpu").with_configuration_keys(one),
                resource(2, "nobody"),
                resource(4, "1"),
                resource(4, "77"),
                resource(32, "group"),
            ]);
        peer.send(&frame(version, 2, &request));
        let rows = peer.response::<DescribeConfigsRequest>(version).1.results;
        let codes: Vec<i16> = rows.iter().map(|row| row.error_code).collect();
        assert_eq!(codes, [0, 0, 3, 0, 42, 42]);
        assert!(rows[0].configs.len() > 20);
        assert_eq!(rows[1].configs.len(), 1);
        assert_eq!(rows[3].configs[0].name.as_str(), "num.partitions");
        assert_eq!(rows[3].configs[0].config_source, 4);
        peer.finish();
    }
}

#[test]
fn producer_ids_are_asked_for_in_every_version() {
    for version in 0..=5 {
        let mut peer = Peer::new();
        let mut request = InitProducerIdRequest::default().with_transactional_id(None);
        if version >= 3 {
            request = request.with_producer_id(ProducerId(5)).with_producer_epoch(2);
        }
        peer.send(&frame(version, 2, &request));
        let asked = peer.answer_next(Reply::ProducerId { producer_id: 5, epoch: 3 });
        let expected = if version >= 3 { (5, 2) } else { (-1, -1) };
        assert!(matches!(asked,
            Request::InitProducerId { producer_id, epoch } if (producer_id, epoch) == expected));
        let (_, response) = peer.response::<InitProducerIdRequest>(version);
        assert_eq!((response.producer_id.0, response.producer_epoch), (5, 3));
        let transactional = request.with_transactional_id(Some(TransactionalId(text("t"))));
        peer.send(&frame(version, 3, &transactional));
        assert_eq!(peer.response::<InitProducerIdRequest>(version).1.error_code, 53);
        peer.finish();
    }
}
