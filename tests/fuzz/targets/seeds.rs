//! Writes the committed corpora anew: `cargo run --bin seeds` in this directory, without sanitizer flags.
//! No canary may be among them: the gate is that the fuzzer finds it from here.

use bytes::BytesMut;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Encodable, StrBytes};
use ringway_fuzz::Dice;
use ringway_fuzz::requests;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::compression::Codec;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{Encoding, EnvelopeLine};
use ringway_wire::kafka::api::{self, APIS};
use ringway_wire::native::{
    CorrelationText, ProduceAck, produce_line, put_envelope, put_error_frame, put_produce_ack,
    request_line,
};
use std::fs;

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = format!("corpus/{target}");
    fs::create_dir_all(&folder).expect("a folder for the corpus");
    fs::write(format!("{folder}/{name}"), bytes).expect("a file of the corpus");
}

fn batch(codec: Codec) -> BatchWriter {
    let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
    for n in 0..3i64 {
        let header: (&[u8], Option<&[u8]>) = (b"h", Some(b"1"));
        let headers = [header, header];
        writer.push(1000 + n, Some(b"key"), Some(b"value"), &headers).expect("a small record");
    }
    writer.finish().expect("three records");
    writer
}

fn native() {
    for (name, encoding) in
        [("json", Encoding::Json), ("gob", Encoding::Gob), ("plain", Encoding::Plain)]
    {
        let correlation = CorrelationText::new(77);
        let line = EnvelopeLine { encoding, ..request_line("Metadata", &correlation) };
        let mut stream = vec![200];
        put_envelope(&mut stream, &line, b"{\"topics\":null}").expect("ids fit");
        save("native_frame", name, &stream);
    }
    let mut stream = vec![0];
    put_produce_ack(
        &mut stream,
        &ProduceAck {
            correlation: 1,
            topic_id: 2,
            partition: 3,
            base_offset: 4,
            append_time_ns: 5,
        },
    );
    put_error_frame(&mut stream, 2, 3, 1, ErrorCode::MessageTooLarge, "5 > 4");
    save("native_frame", "ack-error", &stream);
    let mut stream = vec![255];
    let line = produce_line(1, 0, 9, Encoding::Plain, 0, 0);
    stream.extend(batch(Codec::None).frame(&line));
    save("native_frame", "produce", &stream);
}

fn batches() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        save("record_batch", codec.name(), batch(codec).batch());
    }
    let mut many = batch(Codec::None).batch().to_vec();
    many[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    save("record_batch", "count-max", &many);
}

fn kafka() {
    for api in APIS {
        for version in [api.min, api.flexible_from.clamp(api.min, api.max), api.max] {
            let mut frame = header(api.key, version);
            body(api.key, version, &mut frame);
            save("kafka_header", &format!("{}-{version}", api.name), &frame);
        }
    }
    // Frames that abort a decoder which trusts counts (kafka.md C1).
    let mut metadata = header(api::METADATA, 12);
    metadata.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0x07]);
    save("kafka_header", "abort-metadata", &metadata);
    let mut produce = header(api::PRODUCE, 9);
    produce.extend_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    save("kafka_header", "abort-produce", &produce);
}

fn header(key: i16, version: i16) -> BytesMut {
    let mut frame = BytesMut::new();
    let flexible = APIS.iter().any(|api| api.key == key && api.is_flexible(version));
    theirs::RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("rdkafka")))
        .encode(&mut frame, if flexible { 2 } else { 1 })
        .expect("a header");
    frame
}

fn body(key: i16, version: i16, frame: &mut BytesMut) {
    macro_rules! put {
        ($request:ident) => {
            theirs::$request::default().encode(frame, version).expect("a default request")
        };
    }
    match key {
        api::PRODUCE => produce(version).encode(frame, version).expect("a produce request"),
        api::FETCH => fetch().encode(frame, version).expect("a fetch request"),
        api::LIST_OFFSETS => put!(ListOffsetsRequest),
        api::METADATA => put!(MetadataRequest),
        api::OFFSET_COMMIT => put!(OffsetCommitRequest),
        api::OFFSET_FETCH => put!(OffsetFetchRequest),
        api::FIND_COORDINATOR => put!(FindCoordinatorRequest),
        api::JOIN_GROUP => put!(JoinGroupRequest),
        api::HEARTBEAT => put!(HeartbeatRequest),
        api::LEAVE_GROUP => put!(LeaveGroupRequest),
        api::SYNC_GROUP => put!(SyncGroupRequest),
        api::API_VERSIONS => put!(ApiVersionsRequest),
        api::CREATE_TOPICS => put!(CreateTopicsRequest),
        api::DELETE_TOPICS => put!(DeleteTopicsRequest),
        api::INIT_PRODUCER_ID => put!(InitProducerIdRequest),
        api::DESCRIBE_CONFIGS => put!(DescribeConfigsRequest),
        key => panic!("no seed for API {key}"),
    }
}

fn produce(version: i16) -> theirs::ProduceRequest {
    use theirs::produce_request::{PartitionProduceData, TopicProduceData};
    let records = bytes::Bytes::copy_from_slice(batch(Codec::None).batch());
    let part = PartitionProduceData::default().with_records(Some(records));
    let mut topic = TopicProduceData::default().with_partition_data(vec![part]);
    if version < 13 {
        topic.name = theirs::TopicName(StrBytes::from_static_str("topic"));
    }
    theirs::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic])
}

fn fetch() -> theirs::FetchRequest {
    use theirs::fetch_request::{FetchPartition, FetchTopic};
    let parts = vec![FetchPartition::default(), FetchPartition::default().with_partition(1)];
    theirs::FetchRequest::default().with_topics(vec![FetchTopic::default().with_partitions(parts)])
}

/// Plans of `src/written.rs`: step and way in one byte, then its arguments.
fn plans() {
    const APPEND: u8 = 0;
    const GROUP: u8 = 2;
    const LARGE: u8 = 3;
    const FLIP: u8 = 4;
    const ZERO: u8 = 5;
    const CUT: u8 = 6;
    const FORGED: u8 = 4 << 3;
    save("recovery", "one", &[APPEND, 10]);
    save("recovery", "two-groups", &[APPEND, 10, APPEND | 8, 20, GROUP, APPEND, 0, APPEND, 5]);
    save("recovery", "forged", &[APPEND | FORGED, 60, GROUP, APPEND, 5, GROUP, APPEND, 9]);
    save("recovery", "torn", &[APPEND, 10, GROUP, APPEND, 200, APPEND, 200, CUT, 5, 0]);
    save("recovery", "flip", &[APPEND, 10, GROUP, APPEND, 20, GROUP, APPEND, 3, FLIP, 4, 10]);
    save("recovery", "zero", &[LARGE, 250, GROUP, LARGE, 200, GROUP, APPEND, 1, ZERO, 9, 0, 4]);
}

/// Connections of one or a few sound requests.
fn connections() {
    let mut dice = Dice::new(1);
    for api in APIS {
        for version in [api.min, api.max] {
            let stream = [vec![255], requests::request(&mut dice, api.key, version)].concat();
            save("kafka_api", &format!("{}-{version}", api.name), &stream);
        }
    }
    for version in [3, 8, 9, 13] {
        let stream = [vec![40], requests::request(&mut dice, api::PRODUCE, version)].concat();
        save("produce", &format!("v{version}"), &stream);
    }
    let twice = requests::request(&mut dice, api::PRODUCE, 9);
    save("produce", "retry", &[vec![255], twice.clone(), twice].concat());
}

fn messages() {
    let messages = [
        ("Hello", "{\"version\":1,\"client\":\"x\"}"),
        ("Metadata", "{\"topics\":[\"events\"]}"),
        ("CreateTopic", "{\"name\":\"new\",\"partitions\":1}"),
        ("AlterTopic", "{\"name\":\"events\",\"configs\":{\"retention.ms\":\"5\",\"segment.ms\":null}}"),
        ("DeleteTopic", "{\"name\":\"events\"}"),
        ("DescribeTopic", "{\"name\":\"events\"}"),
        ("ListOffsets", "{\"topic_id\":1,\"partition\":0,\"at\":\"latest\"}"),
        ("Fetch", "{\"topic_id\":1,\"partition\":0,\"offset\":0,\"wait_ms_max\":5}"),
        ("Heartbeat", ""),
    ];
    let mut all = vec![0];
    for (id, body) in messages {
        let correlation = CorrelationText::new(7);
        let mut stream = vec![200];
        put_envelope(&mut stream, &request_line(id, &correlation), body.as_bytes())
            .expect("ids fit");
        save("envelope", id, &stream);
        all.extend(&stream[1..]);
    }
    // Stored twice, read, described.
    let frame = batch(Codec::None).frame(&produce_line(1, 0, 9, Encoding::Plain, 0, 0)).to_vec();
    let mut stored = [vec![255], frame.clone(), frame].concat();
    for (id, body) in [
        (
            "Fetch",
            "{\"topic_id\":1,\"partition\":0,\"offset\":0,\"wait_ms_max\":9,\"bytes_min\":1}",
        ),
        ("DescribeTopic", "{\"name\":\"events\"}"),
    ] {
        let correlation = CorrelationText::new(8);
        put_envelope(&mut stored, &request_line(id, &correlation), body.as_bytes())
            .expect("ids fit");
    }
    save("envelope", "stored", &stored);
    save("envelope", "all", &all[..1 + 3 * 200]);
}

fn configurations() {
    save("config", "empty", b"\n");
    save("config", "sections", b"[shards]\ncount = 2\n[kafka.broker]\nnum.partitions = 3\n");
    save(
        "config",
        "layers",
        b"native.bind = \"127.0.0.1:1\"\n!RINGWAY__SHARDS__COUNT=3\n@shards.count=4\n",
    );
    save(
        "config",
        "topic",
        b"#retention.ms=5\n#cleanup.policy=compact, delete\n#retention.ms=default\n",
    );
    save("config", "problems", b"[shards]\ncount = 0\nbnid = \"x\"\n");
    // Each key sound by itself, all of them at odds with each other.
    save(
        "config",
        "contradictions",
        b"native.bind = \"0.0.0.0:9\"\nhttp.bind = \"127.0.0.1:9\"\nshards.count = 8\n\
          log.memory_bytes_max = \"16MiB\"\nlog.segment_bytes = \"1MiB\"\n\
          limits.drain_timeout_ms = 600000\nlimits.shutdown_timeout = \"1s\"\n\
          [kafka]\nshard_bind = \"0.0.0.0:65535\"\n[kafka.broker]\n\"log.segment.bytes\" = 1048576\n\
          \"group.min.session.timeout.ms\" = 9\n\"group.max.session.timeout.ms\" = 8\n",
    );
    save("config", "advertised", b"kafka.advertised = \"host:9092\"\n@no.such=1\n!RINGWAY__NO=1\n");
}

fn main() {
    connections();
    messages();
    configurations();
    plans();
    native();
    batches();
    kafka();
}
