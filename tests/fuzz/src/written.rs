//! A segment as a writer leaves it, from a few bytes of plan, and what was then done to it.
//! Owner: one run of the recovery target.
//! Invariant: undamaged, every frame obeys the rules of writing (reliability.md 3.1).
//! Not here: recovery.

use crate::broker::KEY;
use crate::process::SECRET;
use ringway_wire::crc32c::crc32c;
use ringway_wire::header::{Encoding, HEADER_LEN, KAFKA_AT, Kind, Line, stamp};

/// Block of the directory.
const BLOCK: usize = 4096;
/// A header never crosses such a boundary.
const REGION: usize = 65_536;
/// Most bytes of the file: three regions.
const FILE: usize = 192 << 10;
/// Space allocated ahead of the writer.
const AHEAD: usize = 12 << 10;

/// A frame that was written.
#[derive(Clone, Debug)]
pub struct WrittenFrame {
    /// First byte in the segment.
    pub at: usize,
    /// Bytes.
    pub len: usize,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// What its header says is flushed.
    pub flushed_upto: u64,
    /// Flush group, from 0.
    pub group: u32,
    /// Holds a header forged without the secret.
    pub forged: bool,
    /// Its bytes from 67 on.
    pub batch: Vec<u8>,
    /// Changed after it was written.
    pub damaged: bool,
}

/// The segment and its frames.
pub struct Written {
    /// The file.
    pub content: Vec<u8>,
    /// In order.
    pub frames: Vec<WrittenFrame>,
    end: usize,
    offset: u64,
    prev: (u32, u32),
    group: u32,
    /// Offsets below it were flushed before the group that is being written.
    flushed: u64,
}

/// Reads the plan byte by byte; zeros behind its end.
struct Plan<'a>(&'a [u8]);

impl Plan<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0)) << 8 | usize::from(self.byte().unwrap_or(0))
    }
}

impl Written {
    /// Carries out a plan: appends and group ends as they come, damage at the end.
    pub fn new(plan: &[u8]) -> Written {
        let mut written = Written {
            content: vec![0; FILE],
            frames: Vec::new(),
            end: 0,
            offset: 0,
            prev: (0, 0),
            group: 0,
            flushed: 0,
        };
        let mut damage = Vec::new();
        let mut plan = Plan(plan);
        while let Some(step) = plan.byte() {
            let way = step >> 3;
            match step & 7 {
                0 | 1 => {
                    let len = usize::from(plan.byte().unwrap_or(0)) * 8;
                    written.append(len, way);
                }
                2 => written.end_group(),
                3 => {
                    let len = usize::from(plan.byte().unwrap_or(0)) * 300;
                    written.append(len, way);
                }
                4 => {
                    damage.push((plan.number() * 4 + usize::from(way & 3), 1, Some(1 << (way & 7))))
                }
                5 => {
                    let len = 1 + usize::from(plan.byte().unwrap_or(0)) * 16;
                    damage.push((plan.number() * 4, len, None));
                }
                6 => damage.push((plan.number() * 4, FILE, None)),
                _ => {
                    let flip = plan.byte().unwrap_or(0);
                    damage.push((plan.number() * 4, 4, Some(flip)));
                }
            }
        }
        let sound = written.content.clone();
        for (at, len, flip) in damage {
            written.damage(at, len, flip);
        }
        // Judged at the end: a bit flipped twice is no damage.
        for frame in &mut written.frames {
            let range = frame.at..frame.at + frame.len;
            frame.damaged = written.content[range.clone()] != sound[range];
        }
        let size = (written.end.next_multiple_of(BLOCK) + AHEAD).min(FILE);
        written.content.truncate(size);
        written
    }

    /// What is certain to have been flushed, as the undamaged frames say it.
    pub fn witnessed(&self) -> u64 {
        let sound = self.frames.iter().filter(|frame| !frame.damaged);
        sound.map(|frame| frame.flushed_upto).max().unwrap_or(0)
    }

    fn end_group(&mut self) {
        let Some(last) = self.frames.last() else { return };
        if last.group == self.group {
            self.group += 1;
            self.flushed = self.offset;
            self.end = self.end.next_multiple_of(BLOCK);
        }
    }

    fn append(&mut self, len: usize, way: u8) {
        if REGION - self.end % REGION < HEADER_LEN {
            self.end = self.end.next_multiple_of(REGION);
        }
        let frame_len = HEADER_LEN + len;
        if self.end + frame_len > FILE {
            return;
        }
        let records = 1 + i32::from(way & 3);
        let forged = way & 4 != 0 && len >= HEADER_LEN;
        let mut frame = vec![0; frame_len];
        for (n, byte) in frame[HEADER_LEN..].iter_mut().enumerate() {
            *byte = (n as u8) ^ way;
        }
        let line = self.line(frame_len, self.offset, self.prev, self.flushed);
        if forged {
            // The best a producer can do: right in everything but the secret.
            let next = self.offset + records as u64;
            let claim = self.line(HEADER_LEN, next, (0, frame_len as u32), next);
            let mut header = kafka_header(HEADER_LEN, 1, &[]);
            stamp(&mut header, &claim, 0);
            frame[HEADER_LEN..2 * HEADER_LEN].copy_from_slice(&header);
        }
        let mut header = kafka_header(frame_len, records, &frame[HEADER_LEN..]);
        let crc = stamp(&mut header, &line, SECRET);
        frame[..HEADER_LEN].copy_from_slice(&header);
        self.content[self.end..self.end + frame_len].copy_from_slice(&frame);
        let last_offset = self.offset + records as u64 - 1;
        self.frames.push(WrittenFrame {
            at: self.end,
            len: frame_len,
            base_offset: self.offset,
            last_offset,
            flushed_upto: self.flushed,
            group: self.group,
            forged,
            batch: frame.split_off(KAFKA_AT),
            damaged: false,
        });
        self.end += frame_len;
        self.offset = last_offset + 1;
        self.prev = (crc, frame_len as u32);
    }

    fn line(
        &self,
        frame_len: usize,
        base_offset: u64,
        prev: (u32, u32),
        flushed_upto: u64,
    ) -> Line {
        Line {
            encoding: Encoding::Unspecified,
            kind: Kind::Data,
            flags: 0,
            frame_len: frame_len as u32,
            append_time_ns: 1_700_000_000_000_000_000,
            topic_id: KEY.topic_id,
            partition: KEY.partition,
            log_epoch: 1,
            prev_crc: prev.0,
            prev_frame_len: prev.1,
            flushed_upto,
            correlation: 0,
            base_offset,
            leader_epoch: 1,
        }
    }

    fn damage(&mut self, at: usize, len: usize, flip: Option<u8>) {
        let at = at % self.end.max(1);
        let to = (at + len).min(FILE);
        for place in &mut self.content[at..to] {
            *place = flip.map_or(0, |flip| *place ^ flip);
        }
    }
}

/// A header with Kafka's part filled in for these records, to be stamped.
fn kafka_header(frame_len: usize, records: i32, payload: &[u8]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[75..79].copy_from_slice(&(frame_len as i32 - 79).to_be_bytes());
    header[83] = 2;
    header[90..94].copy_from_slice(&(records - 1).to_be_bytes());
    header[94..102].copy_from_slice(&1000i64.to_be_bytes());
    header[102..110].copy_from_slice(&1000i64.to_be_bytes());
    header[110..118].copy_from_slice(&(-1i64).to_be_bytes());
    header[118..120].copy_from_slice(&(-1i16).to_be_bytes());
    header[120..124].copy_from_slice(&(-1i32).to_be_bytes());
    header[124..128].copy_from_slice(&records.to_be_bytes());
    let covered = [&header[88..], payload].concat();
    header[84..88].copy_from_slice(&crc32c(&covered).to_be_bytes());
    header
}

/// A small batch to append after recovery.
pub fn one_more() -> Vec<u8> {
    let mut batch = kafka_header(HEADER_LEN + 5, 1, b"after")[KAFKA_AT..].to_vec();
    batch.extend_from_slice(b"after");
    batch
}
