//! Record batches: checks, all codecs, every record and header.
//! Input: one batch as a producer sends it.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use ringway_fuzz::memory::measured;
use ringway_fuzz::{Dice, canary, give_back, libfuzzer_mutate};
use ringway_wire::batch::{BATCH_CRC_FROM, RecordBatchView};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::compression::{Codec, compress, decompress};
use ringway_wire::crc32c::crc32c;
use ringway_wire::header::KAFKA_HEADER_LEN;
use ringway_wire::records::Records;

/// `max.message.bytes` by default.
const BATCH_MAX: usize = 1_048_588;
/// lz4 reserves two blocks of at most 4 MiB, zstd a window of at most 8 MiB, whatever comes out.
const CODEC_ROOM: usize = 20 << 20;

fuzz_target!(|input: &[u8]| {
    let limit = 4 * input.len() + (64 << 10);
    let Ok(batch) = measured(limit, || RecordBatchView::from_producer(input)) else { return };
    let Some(codec) = batch.codec() else { panic!("an unknown codec was accepted") };
    let cap = BATCH_MAX.min(64 * input.len());
    let plain = if codec == Codec::None {
        decompress(codec, batch.record_bytes(), cap)
    } else {
        // A growing buffer holds its old and its new half at once.
        measured(3 * cap + limit + CODEC_ROOM, || decompress(codec, batch.record_bytes(), cap))
    };
    let Ok(plain) = plain else { return };
    assert!(plain.len() <= cap);
    measured(64 << 10, || walk(&plain, codec, batch.header().record_count()));
});

fn walk(plain: &[u8], codec: Codec, count: i32) {
    let mut bytes = 0;
    let (mut one_header, mut backwards, mut sound) = (false, false, 0);
    for record in Records::new(plain, count) {
        let Ok(record) = record else { return };
        sound += 1;
        bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let mut headers = 0;
        for (name, value) in record.headers {
            bytes += name.len() + value.map_or(0, <[u8]>::len);
            headers += 1;
        }
        assert_eq!(headers, record.headers.len());
        one_header |= headers == 1;
        backwards |= record.timestamp_delta < 0;
    }
    assert_eq!(sound, count);
    assert!(bytes <= plain.len());
    if codec == Codec::Zstd && count == 2 {
        if one_header {
            if backwards {
                canary("record_batch: zstd, two records, one header, time running backwards");
            }
        }
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    let mut input = data[..size].to_vec();
    match dice.below(4) {
        0 => libfuzzer_mutate(&mut input, max_size),
        1 => input = rebuilt(&mut dice),
        _ => records(&mut input, &mut dice, max_size),
    }
    if !dice.one_in(10) {
        repair(&mut input);
    }
    give_back(&input, data, max_size)
});

/// A sound batch of a few records.
fn rebuilt(dice: &mut Dice) -> Vec<u8> {
    let codec = dice.pick(&[Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]);
    let mut writer = BatchWriter::new(BatchOptions { codec, ..BatchOptions::default() });
    for _ in 0..1 + dice.below(4) {
        let names = [dice.bytes(2), dice.bytes(3)];
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            names.iter().take(dice.below(3)).map(|name| (name.as_slice(), None)).collect();
        let len = dice.below(40);
        let value = dice.bytes(len);
        let time = 1000 + dice.below(10) as i64;
        let pushed = writer.push(time, None, Some(&value), &headers);
        assert!(pushed.is_ok());
    }
    assert!(writer.finish().is_ok());
    writer.batch().to_vec()
}

/// Changes the records behind their compression, or only their codec, or how many the header claims.
fn records(input: &mut Vec<u8>, dice: &mut Dice, max_size: usize) {
    let Ok(batch) = RecordBatchView::parse(input) else { return };
    let Some(codec) = batch.codec() else { return };
    let Ok(mut plain) = decompress(codec, batch.record_bytes(), 1 << 16) else { return };
    let mut header = input[..KAFKA_HEADER_LEN].to_vec();
    let mut codec = codec;
    match dice.below(4) {
        0 => codec = dice.pick(&[Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]),
        1 => {
            let count = dice.below(5) as i32;
            header[57..61].copy_from_slice(&count.to_be_bytes());
            header[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        }
        _ => libfuzzer_mutate(&mut plain, max_size),
    }
    header[22] = (header[22] & !7) | codec as u8;
    if let Ok(packed) = compress(codec, &plain) {
        header.extend(packed);
        *input = header;
    }
}

/// Makes magic, length and checksum fit.
fn repair(input: &mut [u8]) {
    if input.len() < KAFKA_HEADER_LEN {
        return;
    }
    input[16] = 2;
    let length = (input.len() - 12) as i32;
    input[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&input[BATCH_CRC_FROM..]);
    input[17..21].copy_from_slice(&crc.to_be_bytes());
}
