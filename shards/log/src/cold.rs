//! One read from the disk: walks headers to what is sought, verifies whole frames, names damage.
//! Owner: `Log`, while it lasts.
//! Invariant: no byte leaves before header CRC, place and CRC-32C were verified (P10).
//! Not here: reads from memory and when a read is tried again (`log_reads.rs`).

use crate::blocks::Blocks;
use crate::frame::{CRC_FROM, KAFKA_AT, REGION, region_of, within};
use crate::quarantine::{Damage, Quarantine, Quarantined};
use crate::read::{Frame, FrameList};
use crate::scan::{At, Placed, Rules, View};
use crate::seek::Seek;
use crate::segment::{Segment, by_base};
use crate::verdict::{Damaged, Scan, Step};
use crate::window::{Missing, Window};
use crc_fast::{CrcAlgorithm, Digest};

/// Chunks of one read in memory at most, beside those its frames hold.
const WINDOW_CHUNKS: usize = 24;
/// The same of a scrub: the walk looks at three at once.
const SCRUB_CHUNKS: usize = 4;
/// Chunks read ahead at most.
const AHEAD_MAX: u32 = 16;

/// What is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Frames from the one that holds `from`, up to `upto`.
    Frames { from: u64, upto: u64, bytes_max: u32 },
    /// The first batch with this timestamp or a later one.
    Time { at_ms: i64, upto: u64 },
    /// The frame that holds this offset, for a truncation.
    Place { offset: u64 },
    /// Nothing: every frame of the segment `from` is verified, up to `upto`.
    Scrub { from: u64, upto: u64 },
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Frames(FrameList),
    Time(Option<u64>),
    Place(Option<Placed>),
    Scrubbed,
    /// The range that holds what was sought is damaged, up to here.
    Quarantined(u64),
    Gone,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) enum ColdStep {
    Missing(Missing),
    /// A read-ahead is in flight that must end first.
    Wait,
    /// Damage was found: durable in the list before the read goes on.
    Damaged(Vec<Damaged>),
    Done(Outcome),
}

/// A frame whose pieces are being gathered.
struct Partial {
    placed: Placed,
    /// Its segment, by base: it may be the one after that of the walk, and places move when segments go.
    base: u64,
    position: u64,
    digest: Digest,
    /// Into the slices of the list.
    first_slice: usize,
    /// The device did not give all of it.
    unreadable: bool,
}

/// A break that is being judged, to the end of its segment: whoever meets it, all of it is named at once,
/// so that the next reader and the next start name the same.
struct Repair {
    scan: Scan,
    /// The broken segment.
    base: u64,
    /// Where the walk goes on; none: the scan has not gone over the break yet.
    resume: Option<At>,
}

/// One read.
pub(crate) struct ColdRead {
    pub(crate) ticket: u64,
    pub(crate) want: Want,
    pub(crate) window: Window,
    /// Segment where the walk stands, by base: places move when segments go.
    pub(crate) base: u64,
    start: (u64, At),
    at: At,
    /// Comes nearer than the start before the walk begins.
    seek: Option<Seek>,
    frames: FrameList,
    kafka_bytes: usize,
    partial: Option<Partial>,
    restarting: bool,
    retried: bool,
    repair: Option<Repair>,
    /// Damage that was met and waits to be durable in the list.
    pub(crate) damage: Option<Damaged>,
    pub(crate) forgotten: bool,
    /// Ended; only reads in flight keep it.
    pub(crate) ended: bool,
}

impl std::fmt::Debug for ColdRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColdRead")
            .field("ticket", &self.ticket)
            .field("want", &self.want)
            .finish_non_exhaustive()
    }
}

/// The log as a read sees it.
pub(crate) struct ColdLog<'a> {
    pub(crate) segments: &'a [Segment],
    pub(crate) rules: Rules<'a>,
    pub(crate) quarantine: &'a Quarantine,
    /// Flushed end: segment, position, offset.
    pub(crate) flushed: (u64, u64, u64),
}

impl ColdRead {
    /// Starts at `at` in segment `base`: a frame start at or before what is sought.
    pub(crate) fn new(ticket: u64, want: Want, base: u64, at: At, seek: Option<Seek>) -> ColdRead {
        let chunks = if matches!(want, Want::Scrub { .. }) { SCRUB_CHUNKS } else { WINDOW_CHUNKS };
        ColdRead {
            ticket,
            want,
            window: Window::new(chunks, ticket),
            base,
            start: (base, at),
            at,
            seek,
            frames: FrameList::default(),
            kafka_bytes: 0,
            partial: None,
            restarting: false,
            retried: false,
            repair: None,
            damage: None,
            forgotten: false,
            ended: false,
        }
    }

    /// Nobody waits for it.
    pub(crate) fn is_scrub(&self) -> bool {
        matches!(self.want, Want::Scrub { .. })
    }

    /// Chunks worth reading ahead: what is still wanted, or every fetch would read as much again for
    /// nobody.
    pub(crate) fn ahead(&self) -> u32 {
        match self.want {
            Want::Frames { .. } | Want::Place { .. } if self.seek.is_some() => 1,
            Want::Frames { bytes_max, .. } => {
                let begun = |partial: &Partial| partial.position - partial.placed.position;
                let begun = self.partial.as_ref().map_or(0, begun);
                let left = u64::from(bytes_max).saturating_sub(self.kafka_bytes as u64 + begun);
                u32::try_from(left / REGION + 1).unwrap_or(AHEAD_MAX).min(AHEAD_MAX)
            }
            Want::Time { .. } | Want::Place { .. } => 4,
            Want::Scrub { .. } => 1,
        }
    }

    /// Frames are ready although more was wanted: memory is short. Of a frame begun behind them nothing is
    /// kept, or readers that wait for memory would keep it from each other.
    pub(crate) fn cut_short(&mut self, blocks: &mut Blocks) -> Option<Outcome> {
        if self.frames.frames.is_empty() {
            return None;
        }
        if let Some(partial) = self.partial.take() {
            self.frames.slices.drain(partial.first_slice..).for_each(|slice| blocks.release(slice));
        }
        Some(Outcome::Frames(std::mem::take(&mut self.frames)))
    }

    /// Gives back what it holds; nothing may be in flight.
    pub(crate) fn release(&mut self, blocks: &mut Blocks) {
        self.window.clear(blocks);
        self.frames.release(blocks);
    }

    fn upto(&self, flushed: u64) -> u64 {
        match self.want {
            Want::Frames { upto, .. } | Want::Time { upto, .. } | Want::Scrub { upto, .. } => {
                upto.min(flushed)
            }
            Want::Place { .. } => flushed,
        }
    }

    fn reached(&self, placed: &Placed) -> bool {
        match self.want {
            Want::Frames { from, .. } => placed.head.last_offset() >= from,
            Want::Time { at_ms, .. } => placed.head.max_timestamp >= at_ms,
            Want::Place { offset } => placed.head.last_offset() >= offset,
            Want::Scrub { .. } => true,
        }
    }

    /// Goes on as far as the bytes in memory allow.
    pub(crate) fn step(&mut self, log: &ColdLog<'_>, blocks: &mut Blocks) -> ColdStep {
        if self.restarting {
            if self.window.is_loading() {
                return ColdStep::Wait;
            }
            self.restart(blocks);
        }
        let Some(si) = by_base(log.segments, self.base) else {
            return ColdStep::Done(Outcome::Gone);
        };
        if si != self.at.si {
            // Segments before it have gone: every place has moved.
            self.repair = None;
            if let Some(partial) = &mut self.partial {
                let Some(si) = by_base(log.segments, partial.base) else {
                    return ColdStep::Done(Outcome::Gone);
                };
                partial.placed.si = si;
            }
        }
        self.at.si = si;
        if let Some(mut seek) = self.seek.take() {
            match seek.step(&self.view(log, blocks), si) {
                Ok((position, offset)) => (self.at.p, self.at.o) = (position, offset),
                Err(missing) => {
                    self.seek = Some(seek);
                    return ColdStep::Missing(missing);
                }
            }
        }
        let step = self.walk(log, blocks);
        self.base = log.segments[self.at.si].base;
        match step {
            Ok(step) => step,
            Err(missing) => ColdStep::Missing(missing),
        }
    }

    fn restart(&mut self, blocks: &mut Blocks) {
        self.restarting = false;
        self.window.clear(blocks);
        self.frames.release(blocks);
        self.kafka_bytes = 0;
        self.partial = None;
        (self.base, self.at) = self.start;
    }

    fn finish(&mut self) -> ColdStep {
        ColdStep::Done(match self.want {
            Want::Frames { .. } => Outcome::Frames(std::mem::take(&mut self.frames)),
            Want::Time { .. } => Outcome::Time(None),
            Want::Place { .. } => Outcome::Place(None),
            Want::Scrub { .. } => Outcome::Scrubbed,
        })
    }

    fn walk(&mut self, log: &ColdLog<'_>, blocks: &mut Blocks) -> Result<ColdStep, Missing> {
        let upto = self.upto(log.flushed.2);
        loop {
            if self.repair.is_some() {
                if let Some(step) = self.repair_on(log, blocks)? {
                    return Ok(step);
                }
                continue;
            }
            if self.partial.is_some() {
                if let Some(step) = self.gather(log, blocks)? {
                    return Ok(step);
                }
                continue;
            }
            if self.at.o >= upto {
                return Ok(self.finish());
            }
            if let Some(entry) = log.quarantine.find(self.at.o) {
                let entry = *entry;
                if let Some(step) = self.pass_damage(log, &entry) {
                    return Ok(step);
                }
                continue;
            }
            let view = self.view(log, blocks);
            let (end_segment, end, _) = log.flushed;
            let behind = |placed: &Placed| {
                placed.is_behind(log.segments[placed.si].base, Some((end_segment, end)))
            };
            match view.next(&self.at)?.filter(|placed| !behind(placed)) {
                Some(placed) if !self.reached(&placed) => self.at.advance(&placed),
                Some(placed) => {
                    if let Some(step) = self.found(placed, log.segments[placed.si].base, upto) {
                        return Ok(step);
                    }
                }
                None if log
                    .segments
                    .get(self.at.si + 1)
                    .is_some_and(|after| after.base == self.at.o) =>
                {
                    (self.at.si, self.at.p) = (self.at.si + 1, 0);
                }
                None => {
                    if let Some(step) = self.broken(log) {
                        return Ok(step);
                    }
                }
            }
        }
    }

    fn view<'a>(&'a self, log: &ColdLog<'a>, blocks: &'a Blocks) -> View<'a> {
        View { segments: log.segments, window: &self.window, blocks, rules: log.rules }
    }

    /// A known damaged range begins here: over it when what is sought lies behind, else that is the answer.
    fn pass_damage(&mut self, log: &ColdLog<'_>, entry: &Quarantined) -> Option<ColdStep> {
        let to = entry.to;
        let over = match self.want {
            Want::Frames { from, .. } => from >= to,
            Want::Time { .. } | Want::Scrub { .. } => true,
            Want::Place { offset } => offset >= to,
        };
        if !over {
            return Some(match self.want {
                Want::Place { .. } => ColdStep::Done(Outcome::Place(None)),
                Want::Frames { .. } | Want::Time { .. } if self.frames.frames.is_empty() => {
                    ColdStep::Done(Outcome::Quarantined(to))
                }
                Want::Frames { .. } | Want::Time { .. } | Want::Scrub { .. } => self.finish(),
            });
        }
        (self.at.o, self.at.any) = (to, true);
        match by_base(log.segments, entry.segment) {
            Some(si) if entry.until < u64::MAX => (self.at.si, self.at.p) = (si, entry.until),
            Some(_) | None => {
                let Some(si) = by_base(log.segments, to) else { return Some(self.finish()) };
                (self.at.si, self.at.p) = (si, 0);
            }
        }
        None
    }

    fn found(&mut self, placed: Placed, base: u64, upto: u64) -> Option<ColdStep> {
        match self.want {
            Want::Time { .. } => {
                let base = placed.head.base_offset;
                Some(ColdStep::Done(Outcome::Time(
                    (placed.head.next_offset() <= upto).then_some(base),
                )))
            }
            Want::Place { .. } => Some(ColdStep::Done(Outcome::Place(Some(placed)))),
            Want::Frames { bytes_max, .. } => {
                let more = placed.head.frame_len as usize - KAFKA_AT;
                let full =
                    !self.frames.frames.is_empty() && self.kafka_bytes + more > bytes_max as usize;
                if full || placed.head.next_offset() > upto {
                    return Some(self.finish());
                }
                self.gather_from(placed, base);
                None
            }
            Want::Scrub { .. } if placed.head.next_offset() > upto => Some(self.finish()),
            Want::Scrub { .. } => {
                self.gather_from(placed, base);
                None
            }
        }
    }

    fn gather_from(&mut self, placed: Placed, base: u64) {
        let first_slice = self.frames.slices.len();
        let digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let (position, unreadable) = (placed.position, false);
        self.partial = Some(Partial { placed, base, position, digest, first_slice, unreadable });
    }

    /// Holds and hashes the pieces of a frame as they come in.
    fn gather(
        &mut self,
        log: &ColdLog<'_>,
        blocks: &mut Blocks,
    ) -> Result<Option<ColdStep>, Missing> {
        let Some(mut partial) = self.partial.take() else { return Ok(None) };
        let placed = partial.placed;
        let base = partial.base;
        while partial.position < placed.end() {
            let index = region_of(partial.position);
            let Some(chunk) = self.window.loaded(base, index) else {
                let missing = Missing::Chunk(placed.si, index);
                self.partial = Some(partial);
                return Err(missing);
            };
            let region = u64::from(index) * REGION;
            let upto = placed.end().min(region + REGION);
            let from = within(partial.position) as usize;
            let to = usize::try_from(upto - region).unwrap_or(0).min(chunk.len());
            let piece = chunk.part(from, to);
            let block = log.rules.block;
            partial.unreadable |= self.window.is_unreadable(base, partial.position, upto, block);
            let skip = (placed.position + CRC_FROM as u64).saturating_sub(partial.position);
            let skip = usize::try_from(skip).unwrap_or(0).min(piece.len());
            partial.digest.update(&blocks.bytes(piece)[skip..]);
            if !self.is_scrub() {
                self.frames.slices.push(blocks.hold(piece));
            }
            partial.position = upto;
        }
        if partial.digest.finalize() != u64::from(placed.head.kafka_crc) {
            for slice in self.frames.slices.drain(partial.first_slice..) {
                blocks.release(slice);
            }
            if self.try_again() {
                return Ok(Some(ColdStep::Wait));
            }
            let head = &placed.head;
            // Behind a recorded gap the walk stands before it.
            self.at.o = head.base_offset;
            return Ok(Some(ColdStep::Damaged(vec![Damaged {
                segment: base,
                at: placed.position,
                until: placed.end(),
                from: head.base_offset,
                to: head.next_offset(),
                damage: if partial.unreadable { Damage::Unreadable } else { Damage::Payload },
            }])));
        }
        if self.is_scrub() {
            // Should the next one be read again, then not this one too.
            self.at.advance(&placed);
            (self.start, self.retried) = ((base, self.at), false);
            return Ok(None);
        }
        let index = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.kafka_bytes += placed.head.frame_len as usize - KAFKA_AT;
        self.frames.frames.push(Frame {
            base_offset: placed.head.base_offset,
            last_offset: placed.head.last_offset(),
            frame_len: placed.head.frame_len,
            slices: index(partial.first_slice)..index(self.frames.slices.len()),
        });
        self.at.advance(&placed);
        Ok(None)
    }

    /// Reads everything once more: what is wrong in memory may be right on the disk. False: it was.
    fn try_again(&mut self) -> bool {
        if self.retried {
            return false;
        }
        (self.retried, self.restarting) = (true, true);
        true
    }

    fn broken(&mut self, log: &ColdLog<'_>) -> Option<ColdStep> {
        if self.try_again() {
            return Some(ColdStep::Wait);
        }
        let (base, start) = self.start;
        let by_index = !self.is_scrub() && self.base == base && start.p > 0;
        if by_index && (self.at.p, self.at.o) == (start.p, start.o) {
            // The index led here, and it is not evidence: the headers from the segment's start are.
            self.start = (base, At::start_of(self.at.si, base));
            self.restarting = true;
            return Some(ColdStep::Wait);
        }
        let (segment, position, offset) = log.flushed;
        let scan = Scan::new(self.at, offset, Some((segment, position)), None, false);
        let base = log.segments[self.at.si].base;
        self.repair = Some(Repair { scan, base, resume: None });
        None
    }

    /// Goes over the break, then on to the end of its segment.
    fn repair_on(
        &mut self,
        log: &ColdLog<'_>,
        blocks: &Blocks,
    ) -> Result<Option<ColdStep>, Missing> {
        let Some(mut repair) = self.repair.take() else { return Ok(None) };
        let ended = loop {
            let ended = match repair.scan.step(&self.view(log, blocks)) {
                Err(missing) => {
                    self.repair = Some(repair);
                    return Err(missing);
                }
                Ok(step) => matches!(step, Step::End),
            };
            let first = repair.resume.is_none();
            repair.resume.get_or_insert(repair.scan.at);
            if ended || log.segments[repair.scan.at.si].base != repair.base {
                break ended && first;
            }
        };
        self.at = repair.resume.unwrap_or(repair.scan.at);
        let mut ranges = repair.scan.damaged;
        ranges.retain(|range| range.to > range.from);
        Ok(match ranges.is_empty() {
            false => Some(ColdStep::Damaged(ranges)),
            true if ended => Some(self.finish()),
            true => None,
        })
    }

    /// The damage is durable in the list: what the reader is told.
    pub(crate) fn after_damage(&mut self, range: &Damaged) -> Option<Outcome> {
        if range.from > self.at.o && !self.is_scrub() {
            return None;
        }
        match self.want {
            Want::Frames { from, .. } if from >= range.to => None,
            Want::Frames { .. } if self.frames.frames.is_empty() => {
                Some(Outcome::Quarantined(range.to))
            }
            Want::Frames { .. } => Some(Outcome::Frames(std::mem::take(&mut self.frames))),
            Want::Time { .. } => None,
            Want::Place { .. } => Some(Outcome::Place(None)),
            Want::Scrub { .. } => {
                self.retried = false;
                None
            }
        }
    }
}
