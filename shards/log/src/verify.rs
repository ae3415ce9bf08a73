//! Verifies a stopped log from its first byte to its last, changing nothing: every header, every payload.
//! Owner: `ringway log verify`, or any tool that can read the segments.
//! Invariant: the same accept rule and verdicts as recovery; the caller does the reading.
//! Not here: repair; walking the directory (the caller lists it).

use crate::blocks::{BLOCK_BYTES, Blocks};
use crate::checkpoint::{self, Mark};
use crate::directory::DirectoryFacts;
pub use crate::finding::{Finding, FindingKind};
use crate::frame::{CRC_FROM, REGION, region_of, whole_blocks};
use crate::io::FileId;
use crate::life_table::LifeTable;
use crate::named::Named;
use crate::payload::hash_range;
use crate::scan::{At, Placed, Rules, View};
use crate::segment::Segment;
use crate::verdict::{Scan, Step, Verdict, lost_start};
use crate::window::{Missing, Window};
use crc_fast::{CrcAlgorithm, Digest};
use ringway_wire::ids::LogKey;

/// Chunks kept in memory.
const WINDOW_CHUNKS: usize = 16;

/// A frame that stands where it belongs, whatever its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLine {
    /// Segment, by its base offset.
    pub segment: u64,
    /// First byte in the segment.
    pub position: u64,
    /// Bytes, header included.
    pub frame_len: u32,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// Records.
    pub records: i32,
    /// The life that wrote it.
    pub log_epoch: u32,
    /// The writer's flushed offset then.
    pub flushed_upto: u64,
    /// Link to the frame before it.
    pub prev_crc: u32,
    /// Its own CRC, which the next frame names.
    pub header_crc: u32,
    /// It follows the frame before it without a break.
    pub linked: bool,
    /// CRC-32C of the payload is right.
    pub payload_ok: bool,
    /// Greatest timestamp, ms.
    pub max_timestamp: i64,
    /// When it was appended, ns since 1970.
    pub append_time_ns: u64,
    /// −1 = not idempotent.
    pub producer_id: i64,
}

/// The result of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Readable batches.
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
    /// Next offset to be given: above `end` when acknowledged data is missing up to the end.
    pub next: u64,
    /// First offset kept, says the newest checkpoint.
    pub log_start: u64,
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
    /// A frame was checked. Those at or above the report's end are not part of the log.
    Frame(FrameLine),
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
    hashing: Option<Hashing>,
    wanted: Option<(u64, u32)>,
    spoiled: Vec<Spoiled>,
    /// The flushed end of the newest checkpoint, and whether a frame ends there as it says.
    mark: Option<Mark>,
    mark_met: bool,
    named: Named,
    /// One past the last offset of each segment's frames.
    ends: Vec<Option<u64>>,
    report: LogReport,
}

impl LogVerify {
    /// `segments`: base offset and size of every segment file. `list`: the body of the log's quarantine list,
    /// when there is one that can be read.
    #[must_use]
    pub fn new(
        key: LogKey,
        facts: &DirectoryFacts,
        mut segments: Vec<(u64, u64)>,
        list: Option<&[u8]>,
    ) -> LogVerify {
        segments.sort_unstable();
        let open = |(base, bytes): &(u64, u64)| {
            let mut segment = Segment::new(*base);
            let bytes = whole_blocks(*bytes, u64::from(facts.block));
            (segment.file, segment.file_bytes) = (Some(FileId(0)), bytes);
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
        let ends = vec![None; segments.len()];
        // At the very start of a segment, behind a gap, no frame ends.
        let ends_a_frame = |mark: &Mark| mark.len > 0 && mark.position > 0;
        let mark = top.as_ref().map(|found| found.entry.end).filter(ends_a_frame);
        let log_start = top.as_ref().map_or(start, |found| found.entry.log_start);
        // Without a checkpoint nothing but the list tells of what was lost below the first segment.
        let kept = top.as_ref().map_or(0, |found| found.entry.log_start);
        let named = Named::new(list, top.as_ref().map(|found| &found.entry.table), kept);
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
            spoiled: Vec::new(),
            mark,
            mark_met: false,
            named,
            ends,
            report: LogReport { start, end: start, log_start, ..LogReport::default() },
        }
    }

    /// Goes on until bytes are needed or a frame is checked.
    pub fn step(&mut self) -> VerifyStep {
        if self.segments.is_empty() {
            return VerifyStep::Done(self.nothing_left());
        }
        loop {
            match self.go_on() {
                Ok(Gone::On) => {}
                Ok(Gone::Frame(line)) => return VerifyStep::Frame(line),
                Ok(Gone::End) => return VerifyStep::Done(self.conclude()),
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

    /// The bytes asked for; what is missing counts as zeros. `unreadable`: which blocks of the directory's
    /// block size the device did not give, one bit each.
    ///
    /// # Panics
    /// When nothing was asked for.
    pub fn feed(&mut self, bytes: &[u8], unreadable: u16) {
        let Some(place) = self.wanted.take() else { panic!("no bytes were asked for") };
        let Some(block) = self.blocks.take_large(BLOCK_BYTES) else {
            panic!("unbounded memory is used up")
        };
        let len = bytes.len().min(BLOCK_BYTES);
        self.blocks.tail_mut(block)[..len].copy_from_slice(&bytes[..len]);
        let slice = self.blocks.freeze(block, 0, u32::try_from(BLOCK_BYTES).unwrap_or(0));
        self.blocks.release_block(block);
        self.window.insert(place, slice, unreadable, &mut self.blocks);
    }

    fn go_on(&mut self) -> Result<Gone, Missing> {
        let (key, secret, block) = (self.key, self.secret, self.block);
        let rules = Rules { key, secret, block, table: self.table.as_ref() };
        let view =
            View { segments: &self.segments, window: &self.window, blocks: &self.blocks, rules };
        if let Some(hashing) = &mut self.hashing {
            let Hashing { placed, from, digest, unreadable, .. } = hashing;
            let (segment, end) = (self.segments[placed.si].base, placed.end());
            while *from < end {
                let upto = end.min((u64::from(region_of(*from)) + 1) * REGION);
                *unreadable |= self.window.is_unreadable(segment, *from, upto, block);
                hash_range(&view, placed.si, from, upto, digest)?;
            }
            let line = hashing.line(segment);
            if line.payload_ok {
                self.report.batches += 1;
                self.report.records += u64::try_from(line.records).unwrap_or(0);
                self.report.frame_bytes += u64::from(line.frame_len);
                self.named.readable(line.base_offset..hashing.placed.head.next_offset());
            } else {
                let kind =
                    if hashing.unreadable { FindingKind::Unreadable } else { FindingKind::Payload };
                let (position, until_position) = (line.position, Some(end));
                let (offset, until) = (line.base_offset, hashing.placed.head.next_offset());
                let finding = Finding { kind, segment, position, until_position, offset, until };
                let LogReport { batches, records, frame_bytes, .. } = self.report;
                let before = (batches, records, frame_bytes);
                self.spoiled.push(Spoiled { finding, last: line.last_offset, before });
            }
            self.hashing = None;
            return Ok(Gone::Frame(line));
        }
        let before = self.scan.at;
        match self.scan.step(&view)? {
            Step::Damaged => {}
            Step::End => return Ok(Gone::End),
            Step::Frame(placed) => self.note(placed, &before),
        }
        Ok(Gone::On)
    }

    fn note(&mut self, placed: Placed, before: &At) {
        let head = &placed.head;
        self.ends[placed.si] = Some(head.next_offset());
        self.report.log_epoch = self.report.log_epoch.max(head.log_epoch);
        if let Some(mark) = self.mark {
            let here =
                self.segments[placed.si].base == mark.segment && placed.end() == mark.position;
            let (crc, len) = (head.crc, head.frame_len);
            self.mark_met |=
                here && (head.next_offset(), crc, len) == (mark.offset, mark.crc, mark.len);
        }
        let linked = head.prev_crc == before.crc && head.prev_frame_len == before.len;
        let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let from = placed.position + CRC_FROM as u64;
        self.hashing = Some(Hashing { placed, from, digest, linked, unreadable: false });
    }

    /// A log without any segment: whole only if no checkpoint tells of it, since every log that is live has one.
    fn nothing_left(&mut self) -> LogReport {
        let mut report = std::mem::take(&mut self.report);
        if self.table.is_some() {
            let (offset, until, segment) = (report.log_start, self.scan.w, report.log_start);
            let (kind, until_position) = (FindingKind::Missing, None);
            let gone = Finding { kind, segment, position: 0, until_position, offset, until };
            report.findings.push(gone);
            (report.start, report.end, report.next) = (offset, until, until);
        }
        report
    }

    fn conclude(&mut self) -> LogReport {
        let mut report = std::mem::take(&mut self.report);
        let (scan, w) = (&self.scan, self.scan.w);
        (report.end, report.next) = (scan.at.o, scan.next);
        let damaged = lost_start(report.log_start, report.start)
            .into_iter()
            .chain(scan.damaged.iter().copied());
        // Without an offset in it nothing is lost: one life goes on behind what another one has left.
        let damaged = damaged.filter(|range| range.from < range.to);
        report.findings.extend(damaged.map(|range| Finding::from(&range)));
        report.findings.extend(self.strays());
        let unproven = self.spoiled.iter().find(|frame| frame.last >= w);
        let proven = self.spoiled.iter().filter(|frame| frame.last < w);
        report.findings.extend(proven.map(|frame| frame.finding));
        let (kind, until_position) = (FindingKind::TornTail, None);
        if let Some(Spoiled { finding: first, before, .. }) = unproven.copied() {
            (report.batches, report.records, report.frame_bytes) = before;
            (report.end, report.next) = (first.offset, first.offset);
            report.findings.push(Finding { kind, until: first.offset, until_position, ..first });
        } else if scan.verdict == Verdict::Torn && scan.torn_batches > 0 {
            let segment = self.segments[scan.at.si].base;
            let (position, offset, until) = (scan.at.p, scan.at.o, scan.at.o);
            report.findings.push(Finding {
                kind,
                segment,
                position,
                until_position,
                offset,
                until,
            });
        }
        self.check_mark(&mut report);
        let named = self.named.findings(&report.findings, report.next);
        report.findings.extend(named);
        report.findings.sort_by_key(|finding| (finding.segment, finding.position));
        report
    }

    /// Segments without a frame of this log, named after an offset that stands in another one.
    fn strays(&self) -> impl Iterator<Item = Finding> + '_ {
        let mut next = 0;
        let stray = move |(segment, end): (&Segment, &Option<u64>)| {
            let base = segment.base;
            let is_stray = end.is_none() && base < next;
            next = next.max(end.unwrap_or(0));
            let (kind, until_position) = (FindingKind::Stray, None);
            is_stray.then_some(Finding {
                kind,
                segment: base,
                position: 0,
                until_position,
                offset: base,
                until: base,
            })
        };
        self.segments.iter().zip(&self.ends).filter_map(stray)
    }

    /// Checkpoint and log must agree, unless the very frame it names is damaged.
    fn check_mark(&self, report: &mut LogReport) {
        let Some(mark) = self.mark.filter(|_| !self.mark_met) else { return };
        let last = mark.offset.saturating_sub(1);
        let holds = |finding: &Finding| finding.offset <= last && last < finding.until;
        if !report.findings.iter().any(holds) {
            report.findings.push(Finding {
                kind: FindingKind::Checkpoint,
                segment: mark.segment,
                position: mark.position,
                until_position: None,
                offset: mark.offset,
                until: mark.offset,
            });
        }
    }
}

/// A frame with a right header and a payload that is not.
#[derive(Clone, Copy)]
struct Spoiled {
    finding: Finding,
    /// Its last offset.
    last: u64,
    /// Batches, records and bytes counted before it: should nothing prove it, the log ends there.
    before: (u64, u64, u64),
}

/// How far a turn of the walk came.
enum Gone {
    On,
    Frame(FrameLine),
    End,
}

/// A frame whose payload is being hashed, and how far.
struct Hashing {
    placed: Placed,
    from: u64,
    digest: Digest,
    linked: bool,
    unreadable: bool,
}

impl Hashing {
    fn line(&self, segment: u64) -> FrameLine {
        let head = &self.placed.head;
        FrameLine {
            segment,
            position: self.placed.position,
            frame_len: head.frame_len,
            base_offset: head.base_offset,
            last_offset: head.last_offset(),
            records: head.record_count,
            log_epoch: head.log_epoch,
            flushed_upto: head.flushed_upto,
            prev_crc: head.prev_crc,
            header_crc: head.crc,
            linked: self.linked,
            payload_ok: self.digest.finalize() == u64::from(head.kafka_crc),
            max_timestamp: head.max_timestamp,
            append_time_ns: head.append_time_ns,
            producer_id: head.producer_id,
        }
    }
}
