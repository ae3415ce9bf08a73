//! What a message costs to read and write: the 128-byte envelope beside the same message as JSON, and the
//! batch header every stored byte passes.
//!
//! The figures to beat are those of a Go broker with the same two forms: unmarshal 231 ns (JSON 2,172),
//! marshal 180 ns (683), round trip 1,949 ns (4,413).

use criterion::{Criterion, criterion_group, criterion_main};
use ringway_wire::header::{
    BatchHeader, Encoding, EnvelopeHeader, EnvelopeLine, HEADER_LEN, MessageType, stamp,
};
use ringway_wire::native::{Envelope, produce_line, put_envelope};
use serde::{Deserialize, Serialize};
use std::hint::black_box;

/// The JSON form of an envelope, one object per line.
#[derive(Serialize, Deserialize)]
struct JsonMessage {
    #[serde(rename = "type")]
    message_type: String,
    id: String,
    payload: Measurement,
    source: String,
    target: String,
    correlation_id: String,
}

/// A usual payload.
#[derive(Clone, Serialize, Deserialize)]
struct Measurement {
    device: String,
    value: f64,
    unit: String,
    at_ms: u64,
    tags: Vec<String>,
}

fn measurement() -> Measurement {
    Measurement {
        device: "pump-17/bearing-2".to_owned(),
        value: 71.25,
        unit: "celsius".to_owned(),
        at_ms: 1_700_000_000_123,
        tags: vec!["plant-a".to_owned(), "vibration".to_owned(), "2nd-shift".to_owned()],
    }
}

fn message() -> JsonMessage {
    JsonMessage {
        message_type: "request".to_owned(),
        id: "RPCGetMessageStats".to_owned(),
        payload: measurement(),
        source: "collector-7".to_owned(),
        target: "broker".to_owned(),
        correlation_id: "1234567890".to_owned(),
    }
}

fn line() -> EnvelopeLine<'static> {
    EnvelopeLine {
        encoding: Encoding::Json,
        message_type: MessageType::Request,
        flags: 0,
        reserved: [0; 2],
        payload_len: 0,
        message_id: b"RPCGetMessageStats",
        source_id: b"collector-7",
        target_id: b"broker",
        correlation_id: b"1234567890",
    }
}

/// Payloads are opaque to a broker, so both forms carry the same JSON bytes and only the JSON form must
/// look inside to find where they end.
fn envelope(c: &mut Criterion) {
    let payload = serde_json::to_vec(&measurement()).unwrap_or_default();
    let mut bytes = Vec::new();
    if put_envelope(&mut bytes, &line(), &payload).is_err() {
        return;
    }
    let json = serde_json::to_vec(&message()).unwrap_or_default();

    let mut group = c.benchmark_group("unmarshal");
    group.bench_function("header", |b| {
        b.iter(|| {
            let header = EnvelopeHeader::access(black_box(&bytes)).ok();
            black_box(header.map(|h| (h.payload_len(), h.message_id().len())))
        });
    });
    group.bench_function("json", |b| {
        b.iter(|| serde_json::from_slice::<JsonMessage>(black_box(&json)).ok());
    });
    group.finish();

    let mut group = c.benchmark_group("marshal");
    let mut out = Vec::with_capacity(1024);
    group.bench_function("header", |b| {
        b.iter(|| {
            out.clear();
            black_box(put_envelope(&mut out, black_box(&line()), black_box(&payload))).is_ok()
        });
    });
    let json_message = message();
    group.bench_function("json", |b| b.iter(|| serde_json::to_vec(black_box(&json_message)).ok()));
    group.finish();

    let mut group = c.benchmark_group("round_trip");
    group.bench_function("header", |b| {
        b.iter(|| {
            out.clear();
            let payload = serde_json::to_vec(black_box(&json_message.payload)).unwrap_or_default();
            put_envelope(&mut out, &line(), &payload).ok()?;
            let read = Envelope::parse(black_box(&out)).ok();
            read.and_then(|e| serde_json::from_slice::<Measurement>(e.content().ok()?).ok())
        });
    });
    group.bench_function("json", |b| {
        b.iter(|| {
            let bytes = serde_json::to_vec(black_box(&json_message)).unwrap_or_default();
            serde_json::from_slice::<JsonMessage>(black_box(&bytes)).ok()
        });
    });
    group.finish();
}

fn batch_header(c: &mut Criterion) {
    let mut header = [0; HEADER_LEN];
    let line = produce_line(7, 3, 99, Encoding::Plain, 0, 1128);
    stamp(&mut header, &line, 0);
    let mut group = c.benchmark_group("batch_header");
    group.bench_function("access", |b| {
        b.iter(|| BatchHeader::access(black_box(&header)).map(BatchHeader::topic_id).ok());
    });
    group.bench_function("check_crc", |b| {
        b.iter(|| BatchHeader::check_crc(black_box(&header), 0).ok());
    });
    group.bench_function("stamp", |b| {
        b.iter(|| stamp(black_box(&mut header), black_box(&line), 0x5555_aaaa));
    });
    group.finish();
}

criterion_group!(benches, envelope, batch_header);
criterion_main!(benches);
