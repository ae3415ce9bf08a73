//! Native frames as they arrive: in pieces, several in a row, damaged or not.
//! Input: one byte that says how to cut, then the stream.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use ringway_fuzz::memory::measured;
use ringway_fuzz::{Dice, canary, give_back, libfuzzer_mutate};
use ringway_wire::batch::RecordBatchView;
use ringway_wire::header::{BatchHeader, HEADER_LEN, KAFKA_AT, Kind, header_crc};
use ringway_wire::native::{Envelope, FrameStart, error_payload, frame_start, produce_ack};

const PAYLOAD_MAX: u32 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, stream)) = input.split_first() else { return };
    measured(4 * input.len() + (64 << 10), || {
        let whole = read(stream, usize::MAX);
        let pieces = read(stream, 1 + usize::from(cut) * 3);
        assert_eq!(whole, pieces, "frames depend on how they arrive");
    });
});

/// Reads frames from a stream that comes in pieces of `step` bytes; the ends of the frames found.
fn read(stream: &[u8], step: usize) -> Vec<usize> {
    let mut ends = Vec::new();
    let (mut begin, mut arrived) = (0, 0usize);
    while arrived < stream.len() {
        arrived = arrived.saturating_add(step).min(stream.len());
        loop {
            let bytes = &stream[begin..arrived];
            let (end, batch) = match frame_start(bytes, PAYLOAD_MAX) {
                Err(_) => return ends,
                Ok(FrameStart::NeedMore(_)) => break,
                Ok(FrameStart::Envelope(len)) => (len, false),
                Ok(FrameStart::Batch(len)) => (len, true),
            };
            if end > bytes.len() {
                // Bytes that will never come are not waited for here.
                if begin + end > stream.len() {
                    return ends;
                }
                break;
            }
            let frame = &bytes[..end];
            if batch {
                batch_frame(frame, begin + HEADER_LEN <= arrived.saturating_sub(step));
            } else {
                envelope(frame);
            }
            begin += end;
            ends.push(begin);
        }
    }
    ends
}

fn envelope(frame: &[u8]) {
    let envelope = Envelope::parse(frame).expect("frame_start accepted it");
    let _ = envelope.content();
    let ids = [
        envelope.header.message_id(),
        envelope.header.source_id(),
        envelope.header.target_id(),
        envelope.header.correlation_id(),
    ];
    assert!(ids.iter().all(|id| !id.contains(&0)));
}

/// `late`: the header was there before the end of the frame came.
fn batch_frame(frame: &[u8], late: bool) {
    let header = BatchHeader::access(frame).expect("frame_start accepted it");
    assert_eq!(header.frame_len() as usize, frame.len());
    match header.kind() {
        Kind::Data | Kind::Deliver => {
            let _ = RecordBatchView::from_producer(&frame[KAFKA_AT..]);
        }
        Kind::ProduceAck => assert_eq!(produce_ack(header).correlation, header.correlation()),
        Kind::Error => {
            let _ = error_payload(&frame[HEADER_LEN..]);
        }
    }
    if header.kind() == Kind::Deliver && late {
        canary("native_frame: deliver frame whose header came before its end");
    }
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    let mut input = data[..size].to_vec();
    if dice.one_in(3) {
        structured(&mut input, &mut dice);
    } else {
        libfuzzer_mutate(&mut input, max_size);
    }
    if !dice.one_in(10) {
        repair(&mut input);
    }
    give_back(&input, data, max_size)
});

/// Changes one field of the first frame to a value that means something.
fn structured(input: &mut Vec<u8>, dice: &mut Dice) {
    if input.len() < 1 + HEADER_LEN {
        return;
    }
    match dice.below(5) {
        0 => input[5] = dice.pick(&[0, 1, 2, 3, 4]),
        1 => input[3] = dice.pick(&[1, 2]),
        2 => {
            let copy = input[1..].to_vec();
            input.extend(copy);
        }
        3 => input[0] = dice.pick(&[0, 1, 40, 42, 43, 60, 200]),
        _ => {
            let more = dice.below(64);
            let bytes = dice.bytes(more);
            input.extend(bytes);
        }
    }
}

/// Makes lengths and checksums of all frames fit, the last frame taking what is left.
fn repair(input: &mut [u8]) {
    let mut at = 1;
    while input.len() >= at + HEADER_LEN {
        let rest = input.len() - at;
        let frame = &mut input[at..];
        frame[..2].copy_from_slice(b"V2");
        if frame[2] == 1 {
            let said = u32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
            let payload = said.min(rest - HEADER_LEN);
            frame[8..12].copy_from_slice(&(payload as u32).to_be_bytes());
            at += HEADER_LEN + payload;
            continue;
        }
        frame[2] = 2;
        let said = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
        let len = said.clamp(HEADER_LEN, rest);
        frame[8..12].copy_from_slice(&(len as u32).to_le_bytes());
        frame[75..79].copy_from_slice(&(len as i32 - 79).to_be_bytes());
        let crc = ringway_wire::crc32c::crc32c(&frame[88..len]);
        frame[84..88].copy_from_slice(&crc.to_be_bytes());
        if let Some(header) = frame.first_chunk::<HEADER_LEN>() {
            let crc = header_crc(header);
            frame[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        at += len;
    }
}
