//! Reads of one log: from the tail without I/O, else by a cold read that is tried until it has what it needs.
//! Owner: `Log`.
//! Invariant: nothing at or above the flushed offset is served; damage is durable in the list before it is told.
//! Not here: the tail (`tail_reads.rs`), walking and verifying (`cold.rs`).

use crate::cold::{ColdLog, ColdRead, ColdStep, Outcome, Want};
use crate::event::{LogEvent, ReadFailure};
use crate::frame::whole_blocks;
use crate::io::{Errno, IoOk, IoRequest, SegmentName, SmallFile};
use crate::log::{Log, Phase, Truncation};
use crate::ops::LogOp;
use crate::quarantine::Finder;
use crate::read::{FrameList, ReadStart, ReadTicket, TimeFound};
use crate::scan::{At, Rules};
use crate::seek::{Place, Seek};
use crate::segment::{Segment, holder};
use crate::turn::Turn;
use crate::verdict::Damaged;
use crate::window::{Asked, Missing};

/// How soon a read that lacked memory looks again.
const MEMORY_RETRY_NS: u64 = 1_000_000;
/// How soon a quarantine list that could not be written is tried again.
const QUARANTINE_RETRY_NS: u64 = 1_000_000_000;
/// Cold reads of one log at once.
const COLD_READS_MAX: usize = 64;

impl Log {
    /// See `Logs::read`.
    pub(crate) fn read(
        &mut self,
        want: (u64, u64, u32),
        ticket: u64,
        turn: &mut Turn<'_>,
        into: &mut FrameList,
    ) -> ReadStart {
        let (from, upto, bytes_max) = want;
        if !self.is_live() || from < self.log_start || from > self.head.offset {
            return ReadStart::OutOfRange;
        }
        let upto = upto.min(self.flushed.offset);
        if from >= upto {
            return ReadStart::Empty;
        }
        if let Some(entry) = self.quarantine.find(from) {
            // A range is told once its name is durable (Q1). A poisoned log names it to nobody but its readers.
            let until = entry.to;
            return if self.quarantine.is_saved() || self.is_poisoned() {
                ReadStart::Quarantined { until }
            } else {
                ReadStart::Busy
            };
        }
        if let Some(until) = self.table.gap_at(from) {
            return ReadStart::Gap { until };
        }
        if self.tail.first_offset().is_some_and(|first| first <= from) {
            let bytes = self.read_tail(from, upto, bytes_max, turn, into);
            if bytes > 0 {
                turn.shared.counts.tail_read_bytes += bytes;
                return ReadStart::Done;
            }
        }
        if self.reads.len() >= COLD_READS_MAX || turn.blocks.free_count() == 0 {
            return ReadStart::Busy;
        }
        let bytes_max = bytes_max.min(turn.shared.config.cold_read_bytes_max);
        self.start_cold(Want::Frames { from, upto, bytes_max }, ticket, turn);
        ReadStart::Waiting(ReadTicket(ticket))
    }

    pub(crate) fn start_cold(&mut self, want: Want, ticket: u64, turn: &mut Turn<'_>) {
        let si = match want {
            Want::Frames { from: offset, .. }
            | Want::Place { offset }
            | Want::Scrub { from: offset, .. } => holder(&self.segments, offset).unwrap_or(0),
            Want::Time { at_ms, .. } => {
                let late = |at: &usize| self.segments[*at].max_timestamp.0 >= at_ms;
                (0..self.segments.len()).find(late).unwrap_or(self.segments.len() - 1)
            }
        };
        let segment = &self.segments[si];
        let floor = match want {
            Want::Frames { from: offset, .. } | Want::Place { offset } => {
                segment.index.floor(offset)
            }
            Want::Time { at_ms, .. } => segment.index.floor_time(at_ms),
            Want::Scrub { .. } => None,
        };
        let base = segment.base;
        let mut at = At::start_of(si, base);
        if let Some(entry) = floor {
            (at.p, at.o) = (entry.position, entry.offset);
        }
        let seek = match want {
            Want::Frames { from: offset, .. } | Want::Place { offset } => {
                Some(Seek::new(offset, (at.p, at.o), self.behind(segment, offset)))
            }
            Want::Time { .. } | Want::Scrub { .. } => None,
        };
        self.reads.push(ColdRead::new(ticket, want, base, at, seek));
        let last = self.reads.len() - 1;
        self.read_on(last, turn);
    }

    /// Where the search for `offset` in `segment` ends: the next entry of its index, or its flushed end.
    fn behind(&self, segment: &Segment, offset: u64) -> Place {
        if let Some(entry) = segment.index.ceiling(offset) {
            return (entry.position, entry.offset);
        }
        if segment.base == self.flushed.segment {
            return (self.flushed.position, self.flushed.offset);
        }
        (segment.end_position, segment.end_offset)
    }

    /// See `Logs::find_time`.
    pub(crate) fn find_time(
        &mut self,
        at_ms: i64,
        upto: u64,
        ticket: u64,
        turn: &mut Turn<'_>,
    ) -> TimeFound {
        let upto = upto.min(self.flushed.offset);
        let none = self.segments.iter().all(|segment| segment.max_timestamp.0 < at_ms);
        if !self.is_live() || none || upto <= self.log_start {
            return TimeFound::None;
        }
        self.start_cold(Want::Time { at_ms, upto }, ticket, turn);
        TimeFound::Waiting(ReadTicket(ticket))
    }

    /// Looks for the frame at which a truncation cuts.
    pub(crate) fn seek_place(&mut self, offset: u64, ticket: u64, turn: &mut Turn<'_>) {
        self.start_cold(Want::Place { offset }, ticket, turn);
    }

    /// The reader has gone.
    pub(crate) fn forget_read(&mut self, ticket: u64) -> bool {
        let read = self.reads.iter_mut().find(|read| read.ticket == ticket);
        read.map(|read| read.forgotten = true).is_some()
    }

    /// Every read goes on as far as it can; ended ones give their memory back.
    pub(crate) fn plan_reads(&mut self, turn: &mut Turn<'_>) {
        let mut at = 0;
        while at < self.reads.len() {
            self.read_on(at, turn);
            let read = &mut self.reads[at];
            if (read.ended || read.forgotten) && !read.window.is_loading() {
                let mut read = self.reads.swap_remove(at);
                read.release(turn.blocks);
                if read.is_scrub() {
                    self.close_scrubbed(read.base, turn);
                }
            } else {
                at += 1;
            }
        }
    }

    fn read_on(&mut self, at: usize, turn: &mut Turn<'_>) {
        loop {
            let read = &mut self.reads[at];
            if read.ended || read.forgotten || !self.pass_named(at, turn) {
                return;
            }
            let read = &mut self.reads[at];
            let rules = Rules {
                key: self.key,
                secret: turn.shared.facts.secret,
                block: u64::from(turn.shared.facts.block),
                table: Some(&self.table),
            };
            let flushed = (self.flushed.segment, self.flushed.position, self.flushed.offset);
            let (segments, quarantine) = (self.segments.as_slice(), &self.quarantine);
            let log = ColdLog { segments, rules, quarantine, flushed };
            match read.step(&log, turn.blocks) {
                ColdStep::Wait => {
                    if read.window.is_loading() {
                        return;
                    }
                }
                ColdStep::Missing(missing) => {
                    self.fetch(at, missing, turn);
                    return;
                }
                ColdStep::Damaged(ranges) => {
                    let finder = if read.is_scrub() { Finder::Scrub } else { Finder::Read };
                    for range in &ranges {
                        self.name_damage(*range, finder, turn);
                    }
                    let read = &mut self.reads[at];
                    read.damage = read.damage.or(ranges.first().copied());
                }
                ColdStep::Done(outcome) => {
                    self.end_read(at, outcome, turn);
                    return;
                }
            }
        }
    }

    /// A read that met damage goes on, or ends, once the list that names it is durable. False: it waits or has ended.
    fn pass_named(&mut self, at: usize, turn: &mut Turn<'_>) -> bool {
        let Some(range) = self.reads[at].damage else { return true };
        // A poisoned log writes no list: the next life finds the damage by itself.
        if !self.quarantine.is_saved() && !self.is_poisoned() {
            return false;
        }
        self.reads[at].damage = None;
        match self.reads[at].after_damage(&range) {
            Some(outcome) => {
                self.end_read(at, outcome, turn);
                false
            }
            None => true,
        }
    }

    fn name_damage(&mut self, range: Damaged, finder: Finder, turn: &mut Turn<'_>) {
        let entry = range.found(finder, turn.now.wall_ns);
        if self.quarantine.add(entry) {
            if finder == Finder::Scrub {
                turn.scrub_found(range.damage);
            }
            turn.tell(LogEvent::Warning(entry.line(self.key)));
            self.save_quarantine(turn);
        }
    }

    /// Writes the list when it has changed and no write of it is in flight.
    pub(crate) fn save_quarantine(&mut self, turn: &mut Turn<'_>) {
        let saved = self.quarantine.is_saved() || self.quarantine.saving.is_some();
        if saved || self.is_poisoned() {
            return;
        }
        self.quarantine.saving = Some(self.quarantine.version);
        let (body, file) = (self.quarantine.encode(), SmallFile::Quarantine(self.key));
        let id = turn.id(self.slot, LogOp::Quarantine);
        turn.ask(IoRequest::WriteSmall { id, file, body });
        self.busy += 1;
    }

    /// The answer about the list.
    pub(crate) fn on_quarantine(&mut self, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        let version = self.quarantine.saving.take();
        match result {
            Ok(_) => self.quarantine.saved = version.unwrap_or(self.quarantine.saved),
            Err(errno) => {
                let text = format!("log {}: quarantine list: errno {}", self.key, errno.0);
                turn.tell(LogEvent::Warning(text));
                turn.retry(self.slot, QUARANTINE_RETRY_NS);
                // Who waits for the name is not kept waiting for a disk that takes none.
                for at in 0..self.reads.len() {
                    if self.reads[at].damage.is_some() && !self.reads[at].ended {
                        self.end_read(at, Outcome::Gone, turn);
                    }
                }
            }
        }
    }

    fn end_read(&mut self, at: usize, outcome: Outcome, turn: &mut Turn<'_>) {
        let read = &mut self.reads[at];
        read.ended = true;
        let ticket = ReadTicket(read.ticket);
        let want = read.want;
        match (outcome, want) {
            (Outcome::Place(place), _) => {
                self.truncation = match place {
                    Some(place) => {
                        self.cut_at(place, turn);
                        self.truncation
                    }
                    None => None,
                };
            }
            (Outcome::Scrubbed, _)
            | (Outcome::Quarantined(_) | Outcome::Gone, Want::Scrub { .. }) => {}
            (Outcome::Time(found), _) => turn.tell(LogEvent::TimeDone(ticket, found)),
            (Outcome::Quarantined(_) | Outcome::Gone, Want::Time { .. }) => {
                turn.tell(LogEvent::TimeDone(ticket, None));
            }
            (Outcome::Quarantined(_) | Outcome::Gone, Want::Place { .. }) => self.truncation = None,
            (Outcome::Frames(frames), _) => turn.tell(LogEvent::ReadDone(ticket, Ok(frames))),
            (Outcome::Quarantined(until), Want::Frames { .. }) => {
                turn.tell(LogEvent::ReadDone(ticket, Err(ReadFailure::Quarantined { until })));
            }
            (Outcome::Gone, Want::Frames { .. }) => {
                turn.tell(LogEvent::ReadDone(ticket, Err(ReadFailure::Gone)));
            }
        }
    }

    /// All waiting reads end: the log goes away.
    pub(crate) fn end_reads(&mut self, turn: &mut Turn<'_>) {
        for at in 0..self.reads.len() {
            if !self.reads[at].ended && !self.reads[at].forgotten {
                self.end_read(at, Outcome::Gone, turn);
            }
        }
    }

    fn fetch(&mut self, at: usize, missing: Missing, turn: &mut Turn<'_>) {
        match missing {
            Missing::Open(si) => self.open_segment(si, turn),
            Missing::Chunk(si, index) => {
                let read = &mut self.reads[at];
                let (segment, ahead) = (&self.segments[si], read.ahead());
                if read.is_scrub() {
                    let wait_ns = turn.scrub_wait_ns(segment.chunk_len(index) as u64);
                    if wait_ns > 0 {
                        return turn.retry(self.slot, wait_ns);
                    }
                }
                let mut asked = read.window.ask(self.slot, segment, index, ahead, turn);
                if asked == Asked::NoMemory
                    && read.window.give_one(segment.base, index, turn.blocks)
                {
                    asked = read.window.ask(self.slot, segment, index, 1, turn);
                }
                if asked == Asked::Yes {
                    return;
                }
                match read.cut_short(turn.blocks) {
                    Some(outcome) => self.end_read(at, outcome, turn),
                    None => turn.retry(self.slot, MEMORY_RETRY_NS),
                }
            }
        }
    }

    fn open_segment(&mut self, si: usize, turn: &mut Turn<'_>) {
        let log = self.key;
        let segment = &mut self.segments[si];
        if segment.opening || segment.file.is_some() {
            return;
        }
        segment.opening = true;
        let base_offset = segment.base;
        let id = turn.id(self.slot, LogOp::Open(base_offset));
        turn.ask(IoRequest::Open { id, name: SegmentName { log, base_offset } });
        self.busy += 1;
    }

    /// A segment was opened for reads.
    pub(crate) fn on_open(&mut self, base: u64, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        let Some(segment) = self.segment_mut(base) else { return };
        segment.opening = false;
        if let Ok(IoOk::File { file, bytes }) = result {
            (segment.file, segment.file_bytes) = (Some(file), whole_blocks(bytes, turn.block()));
            turn.shared.open_files += 1;
            return;
        }
        let text = format!("log {}: segment {base} cannot be opened: {result:?}", self.key);
        turn.tell(LogEvent::Warning(text));
        for at in 0..self.reads.len() {
            if self.reads[at].base == base && !self.reads[at].ended {
                self.end_read(at, Outcome::Gone, turn);
            }
        }
    }

    /// A chunk of a cold read came.
    pub(crate) fn on_chunk(
        &mut self,
        (reader, place): (u64, (u64, u32, Option<u16>)),
        result: Result<IoOk, Errno>,
        turn: &mut Turn<'_>,
    ) {
        if let Some(read) = self.reads.iter_mut().find(|read| read.ticket == reader) {
            let bytes = read.window.on_read(self.slot, place, result, turn);
            if read.is_scrub() {
                turn.shared.counts.scrubbed_bytes += bytes;
            } else {
                turn.shared.counts.cold_read_bytes += bytes;
            }
        }
        if self.reads.iter().any(|read| read.window.is_blockwise()) {
            return;
        }
        for read in &mut self.reads {
            if read.window.begin_blockwise(self.slot, turn) {
                return;
            }
        }
    }

    /// Whether reads or a truncation still look at segments up to this place.
    pub(crate) fn reads_below(&self, base: u64) -> bool {
        let seeking = matches!(self.truncation, Some(Truncation::Seeking(_)));
        seeking
            || matches!(self.phase, Phase::Recovering(_))
            || self.reads.iter().any(|read| read.base <= base)
    }
}
