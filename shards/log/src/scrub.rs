//! Reads every sealed segment once in an interval, slowly: damage is named before a reader meets it (Q5).
//! Owner: `Logs`.
//! Invariant: one chunk of a shard in flight, never more bytes in a second than allowed; what clients wait for goes first.
//! Not here: walking and verifying (`cold.rs`), naming damage (`log_reads.rs`).

use crate::cold::Want;
use crate::event::LogEvent;
use crate::log::Log;
use crate::quarantine::Damage;
use crate::segment::{Segment, by_base};
use crate::turn::Turn;
use std::collections::VecDeque;

/// How soon a scrub that lacks memory or waits for its turn looks again.
const MEMORY_WAIT_NS: u64 = 100_000_000;
/// A device that gives no bytes may be away for a while: not everything on it is to be named damaged.
const UNREADABLE_WAIT_NS: u64 = 10_000_000_000;
const NS_PER_S: u64 = 1_000_000_000;
/// Odd, so that successive starts begin all over the list.
const STEP: usize = 0x9E37_79B1;

/// The scrub of one shard: a pass over all segments sealed when it begins, then a rest.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Slot and base of what this pass has still to read, next first.
    left: VecDeque<(u32, u64)>,
    /// Slot and ticket of the read that goes on.
    reading: Option<(u32, u64)>,
    began_ns: Option<u64>,
    resting: bool,
}

impl Scrub {
    /// Goes on as far as it may; when to look again. A pass begins with the start, at another segment
    /// each time: a broker that never runs long enough for a whole pass still reads everything in turn.
    pub(crate) fn plan(
        &mut self,
        logs: &mut [Log],
        next_ticket: &mut u64,
        turn: &mut Turn<'_>,
    ) -> Option<u64> {
        let interval = turn.shared.config.upkeep.scrub_interval_ns?;
        if let Some((slot, ticket)) = self.reading {
            if logs[slot as usize].has_read(ticket) {
                return None;
            }
            self.reading = None;
        }
        let now_ns = turn.now.mono_ns;
        let due_ns = self.began_ns.map_or(0, |began| began.saturating_add(interval));
        if self.resting || self.began_ns.is_none() {
            if now_ns < due_ns {
                return Some(due_ns);
            }
            self.begin(logs, turn);
        }
        while let Some((slot, base)) = self.left.pop_front() {
            *next_ticket += 1;
            if logs[slot as usize].start_scrub(base, *next_ticket, turn) {
                self.reading = Some((slot, *next_ticket));
                return None;
            }
        }
        self.end(interval, turn);
        Some(due_ns.max(now_ns + NS_PER_S))
    }

    fn begin(&mut self, logs: &[Log], turn: &Turn<'_>) {
        self.began_ns = Some(turn.now.mono_ns);
        self.resting = false;
        let sealed = |log: &Log| {
            let (slot, live) = (log.slot, log.is_live());
            let bases = log.segments.iter().filter(move |segment| live && segment.sealed);
            bases.map(move |segment| (slot, segment.base)).collect::<Vec<_>>()
        };
        self.left = logs.iter().flat_map(sealed).collect();
        let starts = usize::try_from(turn.shared.facts.start_counter).unwrap_or(0);
        let first = starts.wrapping_mul(STEP) % self.left.len().max(1);
        self.left.rotate_left(first);
    }

    fn end(&mut self, interval: u64, turn: &mut Turn<'_>) {
        self.resting = true;
        turn.shared.counts.scrub_passes += 1;
        let took = turn.now.mono_ns.saturating_sub(self.began_ns.unwrap_or(0));
        if took > interval {
            let (took, interval) = (took / NS_PER_S, interval / NS_PER_S);
            turn.tell(LogEvent::Warning(format!(
                "scrub: reading all sealed segments once took {took} s instead of {interval} s: raise \
                 log.scrub_bytes_per_s_max or log.scrub_interval_h"
            )));
        }
    }
}

impl Turn<'_> {
    /// A scrub has named damage.
    pub(crate) fn scrub_found(&mut self, damage: Damage) {
        self.shared.counts.scrub_found += 1;
        if damage == Damage::Unreadable {
            self.shared.scrub_at_ns = self.now.mono_ns + UNREADABLE_WAIT_NS;
        }
    }

    /// 0: the scrub may read so many bytes now. Else how long it has to wait.
    pub(crate) fn scrub_wait_ns(&mut self, bytes: u64) -> u64 {
        let now_ns = self.now.mono_ns;
        if self.blocks.free_count() <= self.shared.config.reserve_blocks / 2 {
            return MEMORY_WAIT_NS;
        }
        if now_ns < self.shared.scrub_at_ns {
            return self.shared.scrub_at_ns - now_ns;
        }
        let per_s = self.shared.config.upkeep.scrub_bytes_per_s.max(1);
        self.shared.scrub_at_ns = now_ns + (bytes * NS_PER_S).div_ceil(per_s);
        0
    }
}

impl Log {
    /// Begins to read a sealed segment. False: it is not to be read any more.
    fn start_scrub(&mut self, base: u64, ticket: u64, turn: &mut Turn<'_>) -> bool {
        let Some(si) = by_base(&self.segments, base) else { return false };
        let Some(next) = self.segments.get(si + 1).map(|next| next.base) else { return false };
        let kept = self.segments[si].sealed && next > self.dropping.start_wanted;
        let able = self.is_live() && !self.is_poisoned() && self.truncation.is_none();
        if !kept || !able || next > self.flushed.offset {
            return false;
        }
        self.start_cold(Want::Scrub { from: base, upto: next }, ticket, turn);
        turn.retry(self.slot, 0);
        true
    }

    /// Whether this read goes on.
    fn has_read(&self, ticket: u64) -> bool {
        self.reads.iter().any(|read| read.ticket == ticket)
    }

    /// Retention wants segments up to `base`: no scrub holds it up.
    pub(crate) fn give_scrub_up(&mut self, base: u64, turn: &mut Turn<'_>) {
        for read in &mut self.reads {
            if read.is_scrub() && read.base <= base && !read.forgotten {
                read.forgotten = true;
                turn.retry(self.slot, 0);
            }
        }
    }

    /// A scrubbed segment is closed again, unless somebody else may read it.
    pub(crate) fn close_scrubbed(&mut self, base: u64, turn: &mut Turn<'_>) {
        let settled = self.flushed.offset;
        if !self.reads.is_empty() || self.truncation.is_some() {
            return;
        }
        let idle = |segment: &&mut Segment| {
            segment.sealed
                && segment.trimmed
                && !segment.opening
                && segment.extending.is_none()
                && segment.end_offset <= settled
        };
        let file = self.segment_mut(base).filter(idle).and_then(|segment| segment.file.take());
        self.close_file(file, turn);
    }
}
