//! Properties of every codec over random input: there and back, nothing panics, damage is found.
//! Owner: the test build.
//! Invariant: whatever bytes come, a decoder answers with a value or an error.
//! Not here: golden bytes (unit tests), coverage-guided search (`tests/fuzz`).

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;
use ringway_wire::batch::RecordBatchView;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter, WriteError};
use ringway_wire::compression::{Codec, decompress};
use ringway_wire::crc32c::{crc32c, recombine};
use ringway_wire::header::{
    BatchHeader, Encoding, EnvelopeHeader, EnvelopeLine, HEADER_LEN, Kind, Line, MessageType,
    batch_length_of_frame_len, frame_len_of_batch_length, stamp,
};
use ringway_wire::kafka::api::{self, APIS};
use ringway_wire::kafka::fetch::FetchRequest;
use ringway_wire::kafka::produce::ProduceRequest;
use ringway_wire::kafka::request_header::RequestHeader;
use ringway_wire::kafka::shape::check_shape;
use ringway_wire::native::{self, Envelope, FrameStart, frame_start, gob};
use ringway_wire::records::Records;
use ringway_wire::varint;

type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Clone, Debug)]
struct Row {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..most)
}

fn maybe(most: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(bytes(most))
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let headers = proptest::collection::vec((bytes(10), maybe(10)), 0..4);
    let row = (-5_000i64..5_000_000_000_000, maybe(20), maybe(200), headers);
    let row =
        row.prop_map(|(timestamp, key, value, headers)| Row { timestamp, key, value, headers });
    proptest::collection::vec(row, 1..20)
}

fn codec() -> impl Strategy<Value = Codec> {
    let all = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    proptest::sample::select(all.to_vec())
}

fn written(rows: &[Row], options: BatchOptions) -> Result<BatchWriter, WriteError> {
    let mut writer = BatchWriter::new(options);
    for row in rows {
        let headers: Vec<_> =
            row.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
        writer.push(row.timestamp, row.key.as_deref(), row.value.as_deref(), &headers)?;
    }
    writer.finish()?;
    Ok(writer)
}

fn line() -> impl Strategy<Value = Line> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>());
    let more = (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<i32>());
    (numbers, more).prop_map(|(numbers, more)| Line {
        encoding: Encoding::Unspecified,
        kind: Kind::Data,
        flags: 0,
        frame_len: 128,
        append_time_ns: numbers.0,
        topic_id: numbers.1,
        partition: numbers.2,
        log_epoch: numbers.3,
        prev_crc: numbers.4,
        prev_frame_len: more.0,
        flushed_upto: more.1,
        correlation: more.2,
        base_offset: more.3,
        leader_epoch: more.4,
    })
}

/// Takes a result nobody looks at: it is enough that there is one.
fn seen<T>(_: T) {}

/// Decodes a frame of a cold API with the crate that trusts its counts; the result does not matter.
fn decode_cold(key: i16, version: i16, frame: &[u8]) {
    let mut body = Bytes::copy_from_slice(frame);
    macro_rules! decode {
        ($request:ident) => {
            seen(theirs::$request::decode(&mut body, version))
        };
    }
    match key {
        api::API_VERSIONS => decode!(ApiVersionsRequest),
        api::METADATA => decode!(MetadataRequest),
        api::LIST_OFFSETS => decode!(ListOffsetsRequest),
        api::FIND_COORDINATOR => decode!(FindCoordinatorRequest),
        api::JOIN_GROUP => decode!(JoinGroupRequest),
        api::SYNC_GROUP => decode!(SyncGroupRequest),
        api::HEARTBEAT => decode!(HeartbeatRequest),
        api::LEAVE_GROUP => decode!(LeaveGroupRequest),
        api::OFFSET_COMMIT => decode!(OffsetCommitRequest),
        api::OFFSET_FETCH => decode!(OffsetFetchRequest),
        api::INIT_PRODUCER_ID => decode!(InitProducerIdRequest),
        api::CREATE_TOPICS => decode!(CreateTopicsRequest),
        api::DELETE_TOPICS => decode!(DeleteTopicsRequest),
        api::DESCRIBE_CONFIGS => decode!(DescribeConfigsRequest),
        _ => {}
    }
}

/// Every decoder over the same bytes.
fn decode_all(input: &[u8]) {
    seen(BatchHeader::access(input).map(|header| {
        (header.check_lengths(1 << 20), header.last_offset(), BatchHeader::check_crc(input, 7))
    }));
    seen(EnvelopeHeader::access(input).map(|header| header.message_id().len()));
    seen(frame_start(input, 1 << 20));
    seen(Envelope::parse(input).map(|envelope| envelope.content().map(<[u8]>::len)));
    seen(native::error_payload(input));
    seen(gob::unwrap(input));
    if let Ok(batch) = RecordBatchView::parse(input) {
        batch.records().for_each(seen);
    }
    seen(RecordBatchView::from_producer(input));
    seen(RequestHeader::parse(input));
    for count in [0, 1, 3, i32::MAX] {
        for record in Records::new(input, count).flatten() {
            record.headers.for_each(seen);
        }
    }
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        seen(decompress(codec, input, 1 << 16));
    }
    for api in APIS {
        for version in [api.min, api.flexible_from, api.max] {
            if check_shape(input, 0, api.key, version, 1000).is_ok() {
                decode_cold(api.key, version, input);
            }
        }
    }
    for version in 3..=18 {
        if let Ok(request) = ProduceRequest::parse(input, 0, version) {
            request.partitions().for_each(|part| assert!(part.records.end <= input.len()));
        }
        if let Ok(request) = FetchRequest::parse(input, 0, version) {
            request.partitions().for_each(seen);
        }
    }
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(rows in rows(), codec in codec()) {
        let writer = written(&rows, BatchOptions { codec, ..BatchOptions::default() }).unwrap();
        let batch = RecordBatchView::from_producer(writer.batch()).unwrap();
        let header = batch.header();
        prop_assert_eq!(batch.codec(), Some(codec));
        prop_assert_eq!(header.record_count() as usize, rows.len());
        prop_assert_eq!(header.max_timestamp(), rows.iter().map(|row| row.timestamp).max().unwrap());
        let plain = decompress(codec, batch.record_bytes(), 1 << 20).unwrap();
        let mut records = Records::new(&plain, header.record_count());
        for (place, row) in rows.iter().enumerate() {
            let record = records.next().unwrap().unwrap();
            prop_assert_eq!(record.offset_delta as usize, place);
            prop_assert_eq!(header.base_timestamp() + record.timestamp_delta, row.timestamp);
            prop_assert_eq!(record.key, row.key.as_deref());
            prop_assert_eq!(record.value, row.value.as_deref());
            let headers: Headers = record
                .headers
                .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                .collect();
            prop_assert_eq!(&headers, &row.headers);
        }
        prop_assert!(records.next().is_none());
    }

    #[test]
    fn frame_length_and_batch_length_are_79_apart(rows in rows(), line in line()) {
        let mut writer = written(&rows, BatchOptions::default()).unwrap();
        let frame = writer.frame(&line).to_vec();
        let header = BatchHeader::access(&frame).unwrap();
        prop_assert_eq!(header.frame_len() as usize, frame.len());
        prop_assert_eq!(header.frame_len() - 79, header.batch_length() as u32);
        prop_assert_eq!(header.check_lengths(u32::MAX), Ok(()));
        prop_assert_eq!(frame_start(&frame, u32::MAX), Ok(FrameStart::Batch(frame.len())));
    }

    #[test]
    fn lengths_convert_there_and_back(batch_length in 49i32..) {
        let frame_len = frame_len_of_batch_length(batch_length).unwrap();
        prop_assert_eq!(batch_length_of_frame_len(frame_len), Some(batch_length));
    }

    #[test]
    fn any_flipped_bit_of_a_frame_is_found(rows in rows(), line in line(), at in any::<proptest::sample::Index>()) {
        let mut writer = written(&rows, BatchOptions::default()).unwrap();
        let mut frame = writer.frame(&line).to_vec();
        let bit = at.index(frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        let header_is_right = BatchHeader::check_crc(&frame, 0).is_ok();
        let batch_is_right =
            RecordBatchView::parse(&frame[67..]).is_ok_and(|batch| batch.check_crc().is_ok());
        prop_assert!(!(header_is_right && batch_is_right), "bit {}", bit);
    }

    #[test]
    fn stamped_fields_are_read_back(line in line(), secret: u32) {
        let mut bytes = [0xA5; HEADER_LEN];
        let crc = stamp(&mut bytes, &line, secret);
        prop_assert_eq!(BatchHeader::check_crc(&bytes, secret), Ok(crc));
        let header = BatchHeader::access(&bytes).unwrap();
        prop_assert_eq!(header.header_crc() ^ secret, crc);
        let read = Line {
            encoding: header.encoding(),
            kind: header.kind(),
            flags: header.flags(),
            frame_len: header.frame_len(),
            append_time_ns: header.append_time_ns(),
            topic_id: header.topic_id(),
            partition: header.partition(),
            log_epoch: header.log_epoch(),
            prev_crc: header.prev_crc(),
            prev_frame_len: header.prev_frame_len(),
            flushed_upto: header.flushed_upto(),
            correlation: header.correlation(),
            base_offset: header.base_offset(),
            leader_epoch: header.leader_epoch(),
        };
        prop_assert_eq!(read, line);
        prop_assert_eq!(bytes[83..128].iter().all(|&byte| byte == 0xA5), true);
    }

    #[test]
    fn checksums_recombine_to_a_rescan(before in bytes(3000), rest in bytes(3000), seed: u8) {
        let after: Vec<u8> = before.iter().map(|byte| byte.wrapping_mul(3) ^ seed).collect();
        let crc = crc32c(&[before.as_slice(), &rest].concat());
        let again = recombine(crc, &before, &after, rest.len() as u64);
        prop_assert_eq!(again, crc32c(&[after.as_slice(), &rest].concat()));
    }

    #[test]
    fn envelopes_come_back(
        encoding in proptest::sample::select(vec![Encoding::Json, Encoding::Gob, Encoding::Plain]),
        ids in proptest::array::uniform4("[a-zA-Z0-9-]{0,20}"),
        content in bytes(70_000),
        reserved: [u8; 2],
    ) {
        let line = EnvelopeLine {
            encoding,
            message_type: MessageType::Event,
            flags: 0,
            reserved,
            payload_len: 0,
            message_id: ids[0].as_bytes(),
            source_id: ids[1].as_bytes(),
            target_id: ids[2].as_bytes(),
            correlation_id: ids[3].as_bytes(),
        };
        let mut frame = Vec::new();
        native::put_envelope(&mut frame, &line, &content).unwrap();
        prop_assert_eq!(frame_start(&frame, u32::MAX), Ok(FrameStart::Envelope(frame.len())));
        let envelope = Envelope::parse(&frame).unwrap();
        prop_assert_eq!(envelope.content().unwrap(), content);
        prop_assert_eq!(envelope.header.message_id(), ids[0].as_bytes());
        prop_assert_eq!(envelope.header.source_id(), ids[1].as_bytes());
        prop_assert_eq!(envelope.header.target_id(), ids[2].as_bytes());
        prop_assert_eq!(envelope.header.correlation_id(), ids[3].as_bytes());
        prop_assert_eq!(envelope.header.reserved(), reserved);
    }

    #[test]
    fn varints_come_back(signed: i64, narrow: i32, unsigned: u32) {
        let mut out = Vec::new();
        varint::put_i64(&mut out, signed);
        prop_assert_eq!(varint::len_i64(signed), out.len());
        varint::put_i32(&mut out, narrow);
        varint::put_u32(&mut out, unsigned);
        let mut rest = &out[..];
        prop_assert_eq!(varint::take_i64(&mut rest), Some(signed));
        prop_assert_eq!(varint::take_i32(&mut rest), Some(narrow));
        prop_assert_eq!(varint::take_u32(&mut rest), Some(unsigned));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn arbitrary_bytes_panic_nobody(input in bytes(400)) {
        decode_all(&input);
    }

    #[test]
    fn bytes_with_small_numbers_panic_nobody(input in proptest::collection::vec(0u8..8, 0..120)) {
        decode_all(&input);
    }

    #[test]
    fn damaged_frames_panic_nobody(
        rows in rows(),
        codec in codec(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut writer = written(&rows, BatchOptions { codec, ..BatchOptions::default() }).unwrap();
        let line = native::produce_line(1, 2, 3, Encoding::Json, 0, 0);
        let mut frame = writer.frame(&line).to_vec();
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        decode_all(&frame);
        decode_all(&frame[67..]);
        decode_all(&frame[128..]);
    }
}

/// Mission S0-01…07: what is written is read back, for a million random headers of each version.
#[test]
fn a_million_headers_go_there_and_back() {
    // A generator of our own: proptest would spend its time on shrinking that nobody needs here.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let id = |seed: u64| format!("{seed:x}");
    for _ in 0..1_000_000 {
        let (one, two, three) = (random(), random(), random());
        let small = |number: u64| u32::try_from(number >> 32).expect("32 bits");
        let line = Line {
            encoding: Encoding::Plain,
            kind: Kind::Data,
            flags: 0,
            frame_len: 128 + small(one) % 1_000_000,
            append_time_ns: two,
            topic_id: three,
            partition: small(two),
            log_epoch: small(three),
            prev_crc: small(one ^ two),
            prev_frame_len: small(one ^ three),
            flushed_upto: one,
            correlation: two ^ three,
            base_offset: one ^ three,
            leader_epoch: small(two ^ three).cast_signed(),
        };
        let mut bytes = [0; HEADER_LEN];
        let crc = stamp(&mut bytes, &line, small(three));
        let header = BatchHeader::access(&bytes).expect("sound");
        assert_eq!(BatchHeader::check_crc(&bytes, small(three)), Ok(crc));
        let read = Line {
            encoding: header.encoding(),
            kind: Kind::Data,
            flags: header.flags(),
            frame_len: header.frame_len(),
            append_time_ns: header.append_time_ns(),
            topic_id: header.topic_id(),
            partition: header.partition(),
            log_epoch: header.log_epoch(),
            prev_crc: header.prev_crc(),
            prev_frame_len: header.prev_frame_len(),
            flushed_upto: header.flushed_upto(),
            correlation: header.correlation(),
            base_offset: header.base_offset(),
            leader_epoch: header.leader_epoch(),
        };
        assert_eq!(read, line);

        let names = [id(one), id(two), id(three), id(one ^ two)];
        let envelope = EnvelopeLine {
            encoding: Encoding::Gob,
            message_type: MessageType::Event,
            flags: 9,
            reserved: small(one).to_le_bytes()[..2].try_into().expect("two"),
            payload_len: small(two),
            message_id: names[0].as_bytes(),
            source_id: names[1].as_bytes(),
            target_id: names[2].as_bytes(),
            correlation_id: names[3].as_bytes(),
        };
        let bytes = envelope.to_bytes().expect("short ids");
        let header = EnvelopeHeader::access(&bytes).expect("sound");
        let read = EnvelopeLine {
            encoding: header.encoding(),
            message_type: header.message_type(),
            flags: header.flags(),
            reserved: header.reserved(),
            payload_len: header.payload_len(),
            message_id: header.message_id(),
            source_id: header.source_id(),
            target_id: header.target_id(),
            correlation_id: header.correlation_id(),
        };
        assert_eq!(read, envelope);
    }
}
