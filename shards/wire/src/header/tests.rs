//! Golden bytes of both headers, field by field, and what their readers refuse.
//! Owner: the test build.
//! Invariant: a change of the layout fails here before it fails on somebody's disk.
//! Not here: properties over random input (`tests/properties.rs`).

use super::*;

const LINE: Line = Line {
    encoding: Encoding::Unspecified,
    kind: Kind::Deliver,
    flags: FLAG_CONTROL | FLAG_COMPACTED,
    frame_len: 0x0102_0304,
    append_time_ns: 0x1112_1314_1516_1718,
    topic_id: 0x2122_2324_2526_2728,
    partition: 0x3132_3334,
    log_epoch: 0x4142_4344,
    prev_crc: 0x5152_5354,
    prev_frame_len: 0x6162_6364,
    flushed_upto: 0x7172_7374_7576_7778,
    correlation: 0x8182_8384_8586_8788,
    base_offset: 0x0192_9394_9596_9798,
    leader_epoch: 0x2122_2324,
};

/// Kafka's 61 bytes with every field another pattern.
fn kafka_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0x0102_0304_0506_0708i64.to_be_bytes());
    bytes.extend(0x1112_1314i32.to_be_bytes());
    bytes.extend(0x2122_2324i32.to_be_bytes());
    bytes.push(2);
    bytes.extend(0xE1E2_E3E4u32.to_be_bytes());
    bytes.extend(0x0A0Bi16.to_be_bytes());
    bytes.extend(0x3132_3334i32.to_be_bytes());
    bytes.extend(0x4142_4344_4546_4748i64.to_be_bytes());
    bytes.extend(0x5152_5354_5556_5758i64.to_be_bytes());
    bytes.extend(0x6162_6364_6566_6768i64.to_be_bytes());
    bytes.extend(0x0C0Di16.to_be_bytes());
    bytes.extend(0x7172_7374i32.to_be_bytes());
    bytes.extend(0x0E0F_1011i32.to_be_bytes());
    bytes
}

fn golden() -> [u8; HEADER_LEN] {
    let mut header = [0xFF; HEADER_LEN];
    header[KAFKA_AT..].copy_from_slice(&kafka_bytes());
    stamp(&mut header, &LINE, 0);
    header
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn batch_header_has_its_golden_bytes() {
    let header = golden();
    let fields: [(usize, &str); 30] = [
        (0, "5632"),
        (2, "02"),
        (3, "03"),
        (4, "04"),
        (5, "09"),
        (6, "0000"),
        (8, "04030201"),
        (16, "1817161514131211"),
        (24, "2827262524232221"),
        (32, "34333231"),
        (36, "44434241"),
        (40, "54535251"),
        (44, "64636261"),
        (48, "7877767574737271"),
        (56, "8887868584838281"),
        (64, "000000"),
        (67, "0192939495969798"),
        (75, "11121314"),
        (79, "21222324"),
        (83, "02"),
        (84, "e1e2e3e4"),
        (88, "0a0b"),
        (90, "31323334"),
        (94, "4142434445464748"),
        (102, "5152535455565758"),
        (110, "6162636465666768"),
        (118, "0c0d"),
        (120, "71727374"),
        (124, "0e0f1011"),
        (128, ""),
    ];
    for (at, expected) in fields {
        let end = at + expected.len() / 2;
        assert_eq!(hex(&header[at..end]), expected, "at byte {at}");
    }
    // Of the same 124 bytes by an independent implementation (zlib).
    assert_eq!(header_crc(&header), 0x9EE9_1428);
    assert_eq!(hex(&header[12..16]), "2814e99e");
}

#[test]
fn accessors_read_what_was_stamped() {
    let bytes = golden();
    let header = BatchHeader::access(&bytes).unwrap();
    assert_eq!(header.encoding(), Encoding::Unspecified);
    assert_eq!(header.kind(), Kind::Deliver);
    assert_eq!(header.flags(), 9);
    assert_eq!(header.frame_len(), LINE.frame_len);
    assert_eq!(header.header_crc(), header_crc(&bytes));
    assert_eq!(header.append_time_ns(), LINE.append_time_ns);
    assert_eq!(header.topic_id(), LINE.topic_id);
    assert_eq!(header.partition(), LINE.partition);
    assert_eq!(header.log_epoch(), LINE.log_epoch);
    assert_eq!(header.prev_crc(), LINE.prev_crc);
    assert_eq!(header.prev_frame_len(), LINE.prev_frame_len);
    assert_eq!(header.flushed_upto(), LINE.flushed_upto);
    assert_eq!(header.correlation(), LINE.correlation);
    assert_eq!(header.base_offset(), LINE.base_offset);
    assert_eq!(header.last_offset(), Some(LINE.base_offset + 0x3132_3334));
    assert_eq!(header.batch_length(), 0x1112_1314);
    assert_eq!(header.leader_epoch(), LINE.leader_epoch);
    assert_eq!(header.kafka_magic(), 2);
    assert_eq!(header.kafka_crc(), 0xE1E2_E3E4);
    assert_eq!(header.attributes(), 0x0A0B);
    assert_eq!(header.last_offset_delta(), 0x3132_3334);
    assert_eq!(header.base_timestamp(), 0x4142_4344_4546_4748);
    assert_eq!(header.max_timestamp(), 0x5152_5354_5556_5758);
    assert_eq!(header.producer_id(), 0x6162_6364_6566_6768);
    assert_eq!(header.producer_epoch(), 0x0C0D);
    assert_eq!(header.base_sequence(), 0x7172_7374);
    assert_eq!(header.record_count(), 0x0E0F_1011);
    assert_eq!(header.kafka().delete_horizon(), None);
}

#[test]
fn secret_hides_the_stored_crc_and_not_the_chain() {
    let mut plain = golden();
    let mut hidden = plain;
    let first = stamp(&mut plain, &LINE, 0);
    let second = stamp(&mut hidden, &LINE, 0xDEAD_BEEF);
    assert_eq!(first, second, "what the chain carries does not depend on the secret");
    assert_eq!(BatchHeader::check_crc(&hidden, 0xDEAD_BEEF), Ok(first));
    assert_eq!(BatchHeader::check_crc(&plain, 0), Ok(first));
    let wrong = HeaderError::Crc { expected: first, actual: first ^ 0xDEAD_BEEF };
    assert_eq!(BatchHeader::check_crc(&hidden, 0), Err(wrong));
}

#[test]
fn every_flipped_bit_of_a_header_is_found() {
    let good = golden();
    for bit in 0..HEADER_LEN * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(BatchHeader::check_crc(&bad, 0).is_err(), "bit {bit}");
    }
}

#[test]
fn batch_header_names_what_is_wrong() {
    let good = golden();
    let changed = |at: usize, byte: u8| {
        let mut bad = good;
        bad[at] = byte;
        BatchHeader::access(&bad).map(|_| ()).unwrap_err()
    };
    let short = HeaderError::Short { expected: 128, actual: 127 };
    assert_eq!(BatchHeader::access(&good[..127]).map(|_| ()), Err(short));
    let magic = HeaderError::Magic { expected: *b"V2", actual: *b"V3" };
    assert_eq!(changed(1, b'3'), magic);
    assert_eq!(changed(2, 1), HeaderError::Version { expected: 2, actual: 1 });
    assert_eq!(changed(3, 4), HeaderError::Encoding { expected: 3, actual: 4 });
    assert_eq!(changed(4, 3), HeaderError::Kind { expected: Kind::KNOWN, actual: 3 });
    assert_eq!(short.to_string(), "header too short: expected 128 bytes, got 127");
    assert_eq!(magic.to_string(), "bad magic: expected [56, 32], got [56, 33]");
}

#[test]
fn lengths_are_bounded_and_agree() {
    let mut bytes = golden();
    bytes[75..79].copy_from_slice(&49i32.to_be_bytes());
    let line = Line { frame_len: 128, ..LINE };
    stamp(&mut bytes, &line, 0);
    assert_eq!(BatchHeader::access(&bytes).unwrap().check_lengths(128), Ok(()));
    let over = HeaderError::FrameLen { limit: 127, actual: 128 };
    assert_eq!(BatchHeader::access(&bytes).unwrap().check_lengths(127), Err(over));
    stamp(&mut bytes, &Line { frame_len: 127, ..LINE }, 0);
    let under = HeaderError::FrameLen { limit: 1000, actual: 127 };
    assert_eq!(BatchHeader::access(&bytes).unwrap().check_lengths(1000), Err(under));
    stamp(&mut bytes, &Line { frame_len: 129, ..LINE }, 0);
    let torn = HeaderError::BatchLength { expected: 50, actual: 49 };
    assert_eq!(BatchHeader::access(&bytes).unwrap().check_lengths(1000), Err(torn));
    stamp(&mut bytes, &Line { frame_len: 129, kind: Kind::Error, ..LINE }, 0);
    assert_eq!(BatchHeader::access(&bytes).unwrap().check_lengths(1000), Ok(()));
}

#[test]
fn two_lengths_are_79_apart() {
    assert_eq!(frame_len_of_batch_length(49), Some(128));
    assert_eq!(frame_len_of_batch_length(48), None);
    assert_eq!(frame_len_of_batch_length(-1), None);
    assert_eq!(frame_len_of_batch_length(i32::MAX), Some(0x8000_004E));
    assert_eq!(batch_length_of_frame_len(128), Some(49));
    assert_eq!(batch_length_of_frame_len(127), None);
    assert_eq!(batch_length_of_frame_len(0x8000_004E), Some(i32::MAX));
    assert_eq!(batch_length_of_frame_len(0x8000_004F), None);
}

#[test]
fn flags_follow_attributes() {
    assert_eq!(flags_of_attributes(0b0100_0100), 0);
    assert_eq!(flags_of_attributes(ATTRIBUTE_CONTROL), FLAG_CONTROL);
    assert_eq!(flags_of_attributes(ATTRIBUTE_TRANSACTIONAL), FLAG_TRANSACTIONAL);
    assert_eq!(flags_of_attributes(ATTRIBUTE_LOG_APPEND_TIME), FLAG_LOG_APPEND_TIME);
}

fn envelope() -> EnvelopeLine<'static> {
    EnvelopeLine {
        encoding: Encoding::Plain,
        message_type: MessageType::Error,
        flags: 0x0A,
        reserved: [0xA1, 0xA2],
        payload_len: 0x0102_0304,
        message_id: b"RPCGetMessageStats",
        source_id: b"collector-7",
        target_id: b"broker",
        correlation_id: b"01234567890123456789",
    }
}

#[test]
fn envelope_header_has_its_golden_bytes() {
    let bytes = envelope().to_bytes().unwrap();
    assert_eq!(hex(&bytes[..12]), "56320102030aa1a201020304");
    assert_eq!(&bytes[12..44], b"RPCGetMessageStats\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&bytes[44..55], b"collector-7");
    assert_eq!(bytes[55..76], [0; 21]);
    assert_eq!(&bytes[76..82], b"broker");
    assert_eq!(bytes[82..108], [0; 26]);
    assert_eq!(&bytes[108..], b"01234567890123456789");
    let header = EnvelopeHeader::access(&bytes).unwrap();
    assert_eq!(header.encoding(), Encoding::Plain);
    assert_eq!(header.message_type(), MessageType::Error);
    assert_eq!(header.flags(), 0x0A);
    assert_eq!(header.reserved(), [0xA1, 0xA2]);
    assert_eq!(header.payload_len(), 0x0102_0304);
    assert_eq!(header.message_id(), b"RPCGetMessageStats");
    assert_eq!(header.source_id(), b"collector-7");
    assert_eq!(header.target_id(), b"broker");
    assert_eq!(header.correlation_id(), b"01234567890123456789");
}

#[test]
fn envelope_id_that_does_not_fit_is_refused_and_never_cut() {
    let long = EnvelopeLine { correlation_id: b"corr-1753000000000000000-42", ..envelope() };
    assert_eq!(long.to_bytes().unwrap_err().to_string(), "correlation_id too long: 27 > 20");
    let nul = EnvelopeLine { source_id: b"a\0b", ..envelope() };
    assert_eq!(nul.to_bytes().unwrap_err().reason, "holds a NUL at");
}

#[test]
fn envelope_header_names_what_is_wrong() {
    let good = envelope().to_bytes().unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bad = good;
        bad[at] = byte;
        EnvelopeHeader::access(&bad).map(|_| ()).unwrap_err()
    };
    let short = HeaderError::Short { expected: 128, actual: 0 };
    assert_eq!(EnvelopeHeader::access(&[]).map(|_| ()), Err(short));
    assert_eq!(changed(0, 0), HeaderError::Magic { expected: *b"V2", actual: [0, b'2'] });
    assert_eq!(changed(2, 2), HeaderError::Version { expected: 1, actual: 2 });
    assert_eq!(changed(3, 3), HeaderError::Encoding { expected: 2, actual: 3 });
    assert_eq!(changed(4, 4), HeaderError::Kind { expected: MessageType::KNOWN, actual: 4 });
}
