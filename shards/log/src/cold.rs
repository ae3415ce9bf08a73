//! One read from the disk: walks headers to what is sought, verifies whole frames, names damage.
//! Owner: `Log`, while it lasts.
//! Invariant: no byte leaves before header CRC, place and CRC-32C were verified (P10).
//! Not here: payloads (`cold/gather.rs`), breaks (`cold/breaks.rs`), reads from memory and when a read is tried
//! again (`log_reads.rs`).

mod breaks;
mod gather;

use crate::blocks::Blocks;
use crate::frame::{KAFKA_AT, REGION};
use crate::quarantine::Quarantine;
use crate::read::FrameList;
use crate::scan::{At, Placed, Rules, View};
use crate::seek::Seek;
use crate::segment::{Segment, by_base};
use crate::verdict::Damaged;
use crate::window::{Missing, Window};
use breaks::Repair;
use gather::Partial;

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
    /// Where all flushed frames ended before everything was last read again: segment, position, offset.
    reread: Option<(u64, u64, u64)>,
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
            reread: None,
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
                let base = log.segments[placed.si].base;
                placed.is_behind(base, Some((end_segment, end)), log.rules.block)
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
                None if self.pass_gap(log) => {}
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

    /// Reads everything once more, for what is wrong before `end` in segment `base`: it may be right on the disk,
    /// or it was read before it was written. False: it was read since all of it was flushed.
    fn try_again(&mut self, base: u64, end: u64, flushed: (u64, u64, u64)) -> bool {
        let known = self.reread.is_some_and(|known| {
            let (segment, position, _) = known;
            (base, end) <= (segment, position) || known == flushed
        });
        if !known {
            (self.reread, self.restarting) = (Some(flushed), true);
        }
        !known
    }
}
