//! A damaged log written anew: which frames go where, and the checkpoint that vouches for what is left.
//! Owner: `ringway log repair`; the caller reads and writes.
//! Invariant: every readable frame is kept byte for byte; an offset once given is given to nobody else.
//! Not here: finding damage (`verify.rs`), files.

use crate::checkpoint::{self, Entry, Mark};
use crate::directory::DirectoryFacts;
use crate::frame::{REGION, align_up, header_place};
use crate::life_table::LifeTable;
use crate::quarantine::Quarantine;
use crate::verify::{FrameLine, LogReport};
use ringway_wire::ids::LogKey;
use std::collections::BTreeSet;

/// A frame on its way into a new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Old segment, by its base offset.
    pub segment: u64,
    /// Byte there.
    pub from: u64,
    /// Bytes.
    pub len: u32,
    /// Byte in the new segment.
    pub to: u64,
}

/// A segment to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSegment {
    /// Offset of its first record, and its name.
    pub base: u64,
    /// Size of the file: zeros where no piece goes.
    pub bytes: u64,
    /// In order of place.
    pub pieces: Vec<Piece>,
}

/// How a log is to be written anew.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Segments to be written.
    pub written: Vec<NewSegment>,
    /// Segments that stay as they are.
    pub kept: Vec<u64>,
    /// Records in all of them.
    pub records: u64,
    /// Next offset to be given.
    pub next: u64,
    entry: Entry,
}

impl Repaired {
    /// The log.
    #[must_use]
    pub fn key(&self) -> LogKey {
        self.entry.key
    }
}

/// A repair being planned: frames are told to it in order.
#[derive(Debug)]
pub struct Repair {
    key: LogKey,
    report: LogReport,
    top: Option<Entry>,
    /// Segments to be written anew.
    damaged: BTreeSet<u64>,
    written: Vec<NewSegment>,
    kept: Vec<u64>,
    /// Old segment of the last frame.
    source: Option<u64>,
    first: Option<u64>,
    /// Flushed end so far.
    end: Mark,
    records: u64,
    /// Where each life began, for a table to be made without a checkpoint.
    lives: LifeTable,
    /// (start, end before it, life) of what is missing from now on.
    gaps: Vec<(u64, u64, u32)>,
}

impl Repair {
    /// For a log that `report` tells of; `segments` are the bases of its files.
    #[must_use]
    pub fn new(key: LogKey, facts: &DirectoryFacts, report: LogReport, segments: &[u64]) -> Repair {
        let read =
            |(shard, _, body): &(u32, u64, Vec<u8>)| Some((*shard, checkpoint::decode(body)?));
        let files: Vec<_> = facts.checkpoints.iter().filter_map(read).collect();
        let top = checkpoint::entries_of(key, &files).into_iter().next().map(|found| found.entry);
        let found = report.findings.iter().filter(|finding| finding.is_of_bytes());
        let named: BTreeSet<u64> = found.map(|finding| finding.segment).collect();
        let damaged = segments.iter().copied().filter(|base| named.contains(base)).collect();
        Repair {
            key,
            report,
            top,
            damaged,
            written: Vec::new(),
            kept: Vec::new(),
            source: None,
            first: None,
            end: Mark::default(),
            records: 0,
            lives: LifeTable::default(),
            gaps: Vec::new(),
        }
    }

    /// The next frame of the log; those that are not readable are left out.
    pub fn take(&mut self, line: &FrameLine) {
        if !line.payload_ok || line.base_offset >= self.report.end {
            return;
        }
        let (base, epoch) = (line.base_offset, line.log_epoch);
        if epoch > self.lives.last_epoch() {
            self.lives.push(epoch, base, base);
        }
        let gap = self.first.is_some() && base != self.end.offset;
        if gap {
            assert!(base > self.end.offset, "frames are told in order");
            self.gaps.push((base, self.end.offset, epoch));
        }
        self.first.get_or_insert(base);
        let fresh = self.source.replace(line.segment) != Some(line.segment);
        let (segment, position) = if self.damaged.contains(&line.segment) {
            self.write(line, fresh || gap)
        } else {
            if fresh {
                self.kept.push(line.segment);
            }
            (line.segment, line.position)
        };
        self.records += u64::try_from(line.records).unwrap_or(0);
        self.end = Mark {
            segment,
            position: position + u64::from(line.frame_len),
            offset: line.last_offset + 1,
            crc: line.header_crc,
            len: line.frame_len,
        };
    }

    /// The frame's new place: behind the one before it, or first in a segment of its own.
    fn write(&mut self, line: &FrameLine, begin: bool) -> (u64, u64) {
        if begin {
            let (base, bytes) = (line.base_offset, REGION);
            self.written.push(NewSegment { base, bytes, pieces: Vec::new() });
        }
        let to = if begin { 0 } else { header_place(self.end.position) };
        let Some(last) = self.written.last_mut() else { return (line.base_offset, 0) };
        let (segment, from, len) = (line.segment, line.position, line.frame_len);
        last.pieces.push(Piece { segment, from, len, to });
        last.bytes = align_up(to + u64::from(len), REGION);
        (last.base, to)
    }

    /// All frames are told.
    #[must_use]
    pub fn finish(mut self) -> Repaired {
        let next = self.report.next.max(self.end.offset);
        let first = self.first.unwrap_or(next);
        let table = match &self.top {
            Some(top) => top.table.clone(),
            None => self.lives.clone(),
        };
        if next > self.end.offset || self.first.is_none() {
            // What was given beyond the last readable record is given to nobody again.
            if self.first.is_some() {
                self.gaps.push((next, self.end.offset, table.greatest_epoch()));
            }
            self.written.push(NewSegment { base: next, bytes: REGION, pieces: Vec::new() });
            (self.end.segment, self.end.position, self.end.offset) = (next, 0, next);
        }
        let table = table.with_gaps(first, &self.gaps);
        let entry = Entry {
            key: self.key,
            end: self.end,
            log_start: self.report.log_start.max(first),
            bound: self.top.map_or(0, |top| top.bound),
            table,
            clean: false,
        };
        let Repair { written, kept, records, .. } = self;
        Repaired { written, kept, records, next, entry }
    }
}

/// The body of a repaired log's quarantine list: a list without ranges, so that a start takes what was left
/// out for given up by its operator, not for damage whose list was lost.
#[must_use]
pub fn quarantine_body() -> Vec<u8> {
    Quarantine::default().encode()
}

/// The body of a checkpoint file that tells of logs written anew. Recovery believes it over every file with
/// a lower generation.
#[must_use]
pub fn checkpoint_body(generation: u64, logs: &[Repaired]) -> Vec<u8> {
    checkpoint::encode(generation, logs.iter().map(|log| &log.entry))
}
