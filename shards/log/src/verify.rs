//! Verifies a stopped log from its first byte to its last, changing nothing: every header, every payload.
//! Owner: `ringway log verify`, or any tool that can read the segments.
//! Invariant: the same accept rule and verdicts as recovery; the caller does the reading.
//! Not here: repair; walking the directory (the caller lists it).

use crate::blocks::{BLOCK_BYTES, Blocks};
use crate::checkpoint;
use crate::directory::DirectoryFacts;
use crate::frame::{CRC_FROM, REGION};
use crate::io::FileId;
use crate::life_table::LifeTable;
use crate::payload::hash_range;
use crate::scan::{At, Placed, Rules, View};
use crate::segment::Segment;
use crate::verdict::{Scan, Step, Verdict};
use crate::window::{Missing, Window};
use crc_fast::{CrcAlgorithm, Digest};
use ringway_wire::ids::LogKey;

/// Chunks kept in memory.
const WINDOW_CHUNKS: usize = 16;

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// An unfinished write at the end: nothing acknowledged is missing.
    TornTail,
    /// Acknowledged data is missing or its header is damaged.
    Rot,
    /// The header is right, the payload is not.
    Payload,
}

/// One thing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// Segment, by its base offset.
    pub segment: u64,
    /// Byte in the segment.
    pub position: u64,
    /// First offset concerned.
    pub offset: u64,
    /// First offset after it.
    pub until: u64,
}

/// The result of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Whole batches.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Their frame bytes.
    pub frame_bytes: u64,
    /// First offset found.
    pub start: u64,
    /// One past the last offset.
    pub end: u64,
    /// Greatest log_epoch.
    pub log_epoch: u32,
    /// In order of place.
    pub findings: Vec<Finding>,
}

/// What the verifier needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// `len` bytes at `at` of segment `segment`: hand them to [`LogVerify::feed`].
    Read {
        /// Segment, by its base offset.
        segment: u64,
        /// First byte.
        at: u64,
        /// Bytes.
        len: usize,
    },
    /// Done.
    Done(LogReport),
}

/// One log being verified.
pub struct LogVerify {
    key: LogKey,
    secret: u32,
    block: u64,
    table: Option<LifeTable>,
    segments: Vec<Segment>,
    blocks: Blocks,
    window: Window,
    scan: Scan,
    /// A frame whose payload is being hashed, and how far.
    hashing: Option<(Placed, u64, Digest)>,
    wanted: Option<(u64, u32)>,
    /// Payload findings with the last offset of their frame.
    payloads: Vec<(Finding, u64)>,
    report: LogReport,
}

impl LogVerify {
    /// `segments`: base offset and size of every segment file.
    #[must_use]
    pub fn new(key: LogKey, facts: &DirectoryFacts, mut segments: Vec<(u64, u64)>) -> LogVerify {
        segments.sort_unstable();
        let open = |(base, bytes): &(u64, u64)| {
            let mut segment = Segment::new(*base);
            (segment.file, segment.file_bytes) = (Some(FileId(0)), *bytes);
            segment
        };
        let segments: Vec<Segment> = segments.iter().map(open).collect();
        let read =
            |(shard, _, body): &(u32, u64, Vec<u8>)| Some((*shard, checkpoint::decode(body)?));
        let files: Vec<_> = facts.checkpoints.iter().filter_map(read).collect();
        let top = checkpoint::entries_of(key, &files).into_iter().next();
        let w = top.as_ref().map_or(0, |found| found.entry.end.offset);
        let reach = top.as_ref().map(|found| found.entry.bound).filter(|bound| *bound > 0);
        let start = segments.first().map_or(0, |segment| segment.base);
        LogVerify {
            key,
            secret: facts.secret,
            block: u64::from(facts.block),
            table: top.map(|found| found.entry.table),
            segments,
            blocks: Blocks::new(Vec::new(), usize::MAX),
            window: Window::new(WINDOW_CHUNKS, 0),
            scan: Scan::new(At::start_of(0, start), w, None, reach, false),
            hashing: None,
            wanted: None,
            payloads: Vec::new(),
            report: LogReport { start, end: start, ..LogReport::default() },
        }
    }

    /// Goes on until bytes are needed.
    pub fn step(&mut self) -> VerifyStep {
        if self.segments.is_empty() {
            return VerifyStep::Done(std::mem::take(&mut self.report));
        }
        loop {
            match self.go_on() {
                Ok(false) => {}
                Ok(true) => return VerifyStep::Done(self.conclude()),
                Err(Missing::Open(si)) => panic!("segment {si} was given as open"),
                Err(Missing::Chunk(si, index)) => {
                    let segment = &self.segments[si];
                    self.wanted = Some((segment.base, index));
                    let at = u64::from(index) * REGION;
                    return VerifyStep::Read {
                        segment: segment.base,
                        at,
                        len: segment.chunk_len(index),
                    };
                }
            }
        }
    }

    /// The bytes asked for; fewer, or none when they cannot be read: what is missing counts as zeros.
    ///
    /// # Panics
    /// When nothing was asked for.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some((base, index)) = self.wanted.take() else { panic!("no bytes were asked for") };
        let Some(block) = self.blocks.take_large(BLOCK_BYTES) else {
            panic!("unbounded memory is used up")
        };
        let len = bytes.len().min(BLOCK_BYTES);
        self.blocks.tail_mut(block)[..len].copy_from_slice(&bytes[..len]);
        let slice = self.blocks.freeze(block, 0, u32::try_from(BLOCK_BYTES).unwrap_or(0));
        self.blocks.release_block(block);
        self.window.insert(base, index, slice, &mut self.blocks);
    }

    /// True at the end.
    fn go_on(&mut self) -> Result<bool, Missing> {
        let (key, secret, block) = (self.key, self.secret, self.block);
        let rules = Rules { key, secret, block, table: self.table.as_ref() };
        let view =
            View { segments: &self.segments, window: &self.window, blocks: &self.blocks, rules };
        if let Some((placed, from, digest)) = &mut self.hashing {
            hash_range(&view, placed.si, from, placed.end(), digest)?;
            if digest.finalize() != u64::from(placed.head.kafka_crc) {
                let (offset, until) = (placed.head.base_offset, placed.head.next_offset());
                let segment = self.segments[placed.si].base;
                let kind = FindingKind::Payload;
                let finding = Finding { kind, segment, position: placed.position, offset, until };
                self.payloads.push((finding, placed.head.last_offset()));
            }
            self.hashing = None;
        }
        match self.scan.step(&view)? {
            Step::Damaged => {}
            Step::End => return Ok(true),
            Step::Frame(placed) => {
                self.report.batches += 1;
                self.report.records += u64::try_from(placed.head.record_count).unwrap_or(0);
                self.report.frame_bytes += u64::from(placed.head.frame_len);
                self.report.log_epoch = self.report.log_epoch.max(placed.head.log_epoch);
                let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
                self.hashing = Some((placed, placed.position + CRC_FROM as u64, digest));
            }
        }
        Ok(false)
    }

    fn conclude(&mut self) -> LogReport {
        let mut report = std::mem::take(&mut self.report);
        let (scan, w) = (&self.scan, self.scan.w);
        report.end = scan.at.o;
        for range in &scan.damaged {
            let kind = FindingKind::Rot;
            let (segment, position, offset, until) =
                (range.segment, range.at, range.from, range.to);
            report.findings.push(Finding { kind, segment, position, offset, until });
        }
        let unproven =
            self.payloads.iter().find(|(_, last)| *last >= w).map(|(finding, _)| *finding);
        let proven = self.payloads.iter().filter(|(_, last)| *last < w);
        report.findings.extend(proven.map(|(finding, _)| *finding));
        let torn = FindingKind::TornTail;
        if let Some(first) = unproven {
            report.end = first.offset;
            report.findings.push(Finding { kind: torn, until: first.offset, ..first });
        } else if scan.verdict == Verdict::Torn && scan.torn_batches > 0 {
            let segment = self.segments[scan.at.si].base;
            let (position, offset) = (scan.at.p, scan.at.o);
            report.findings.push(Finding { kind: torn, segment, position, offset, until: offset });
        }
        report.findings.sort_by_key(|finding| (finding.segment, finding.position));
        report
    }
}
