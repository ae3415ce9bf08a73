//! Follows the chain to the log's end and judges every break: torn tail or rot (reliability.md 3.4).
//! Owner: one recovery, one repairing read, or the verifier.
//! Invariant: W only rises, and only from checkpoint, valid headers and segments that hold them.
//! Not here: payloads (`payload.rs`), doing anything about it.

use crate::evidence::Rows;
use crate::frame::{Head, REGION, align_up, region_of, within};
use crate::life_table::LifeTable;
use crate::quarantine::{Damage, Finder, Quarantined};
use crate::scan::{At, Placed, View};
use crate::window::Missing;
use std::collections::VecDeque;

/// Offsets given up at most beyond W when a log is rotten to its end.
const SKIP_OFFSETS_MAX: u64 = 1 << 24;
/// Group bounds looked ahead for evidence.
const LOOK_AHEAD_GROUPS: u64 = 3;

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log ends at the break: what follows was never acknowledged.
    Torn,
    /// Proven data is missing up to the end: a new segment goes on at `next`.
    RotToEnd,
    /// Reached the place where the caller wanted to stop.
    Stopped,
}

/// A frame kept by recovery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) placed: Placed,
    /// It follows a quarantined range.
    pub(crate) jump: bool,
}

/// A damaged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    pub(crate) segment: u64,
    pub(crate) at: u64,
    pub(crate) until: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) damage: Damage,
}

impl Damaged {
    /// As an entry of the quarantine list.
    pub(crate) fn found(&self, finder: Finder, found_ns: u64) -> Quarantined {
        let Damaged { segment, at, until, from, to, damage } = *self;
        Quarantined { segment, at, until, from, to, damage, found_ns, finder }
    }
}

/// The range below the oldest segment when the log starts lower, says the checkpoint: retention moves that
/// number durably before it unlinks (P8), so a segment is gone that nobody removed.
pub(crate) fn lost_start(log_start: u64, first: u64) -> Option<Damaged> {
    let (segment, at, until, damage) = (log_start, 0, u64::MAX, Damage::Missing);
    (log_start < first).then_some(Damaged {
        segment,
        at,
        until,
        from: log_start,
        to: first,
        damage,
    })
}

/// Offsets that were given up where a log was rotten to its end, as the life table remembers them: nothing
/// on the disk names them once the quarantine list is lost.
pub(crate) fn given_up(table: &LifeTable, log_start: u64) -> impl Iterator<Item = Damaged> + '_ {
    let gaps = table
        .lives()
        .iter()
        .filter(move |life| life.previous_end < life.start && log_start < life.start);
    gaps.map(move |life| Damaged {
        segment: life.start,
        at: 0,
        until: u64::MAX,
        from: life.previous_end.max(log_start),
        to: life.start,
        damage: Damage::Missing,
    })
}

/// Looking for evidence behind a break.
#[derive(Clone, Debug)]
struct Look {
    si: usize,
    position: u64,
    /// The evidence in the broken segment.
    rows: Rows,
    /// One past the greatest offset any header of this log names.
    high: u64,
    evidence: u64,
    /// Something was written at the break.
    begun: bool,
    /// What is wrong there, should it be rot.
    damage: Damage,
}

/// What a scan came across: told as counts, never decided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// Headers that begin at the break and are not whole.
    pub(crate) torn_headers: u64,
    /// Frames with a whole header and a payload that is not.
    pub(crate) torn_payloads: u64,
    /// Headers right but for the secret: a producer wrote them.
    pub(crate) forged_headers: u64,
    /// Headers of this log from a life that may not stand there.
    pub(crate) stale_headers: u64,
}

/// A scan in progress.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) at: At,
    pub(crate) w: u64,
    /// Segment base and position.
    stop: Option<(u64, u64)>,
    /// L of the checkpoint; none: look ahead to the segment's end.
    reach: Option<u64>,
    look: Option<Look>,
    later_done: bool,
    jump: bool,
    keep: bool,
    /// Frames that may still need a payload check, in order.
    pub(crate) kept: VecDeque<Kept>,
    /// The state before the first of `kept`.
    pub(crate) before: At,
    pub(crate) damaged: Vec<Damaged>,
    /// (log_epoch, base) where a higher epoch than before began.
    pub(crate) lives: Vec<(u32, u64)>,
    pub(crate) seen_epoch: u32,
    pub(crate) verdict: Verdict,
    /// Next offset to be given.
    pub(crate) next: u64,
    pub(crate) new_segment: bool,
    /// Evidence behind a torn tail, and whether a header began there.
    pub(crate) torn_batches: u64,
    pub(crate) met: Met,
}

/// One step of a scan.
pub(crate) enum Step {
    Frame(Placed),
    /// A range was found damaged; the scan goes on behind it.
    Damaged,
    End,
}

impl Scan {
    /// `keep`: remember frames for the payload check.
    pub(crate) fn new(
        at: At,
        w: u64,
        stop: Option<(u64, u64)>,
        reach: Option<u64>,
        keep: bool,
    ) -> Scan {
        Scan {
            at,
            w,
            stop,
            reach,
            look: None,
            later_done: false,
            jump: false,
            keep,
            kept: VecDeque::new(),
            before: at,
            damaged: Vec::new(),
            lives: Vec::new(),
            seen_epoch: 0,
            verdict: Verdict::Stopped,
            next: at.o,
            new_segment: false,
            torn_batches: 0,
            met: Met::default(),
        }
    }

    /// Goes on by one frame or one damaged range.
    pub(crate) fn step(&mut self, view: &View<'_>) -> Result<Step, Missing> {
        if self.look.is_some() {
            return self.look_on(view);
        }
        let base = view.segments[self.at.si].base;
        let behind = |stop: &(u64, u64)| base == stop.0 && self.at.p >= stop.1;
        let passed = self.stop.filter(|stop| base > stop.0 || behind(stop));
        if passed.is_some() && self.at.o >= self.w {
            let next = self.at.o;
            return Ok(self.end(Verdict::Stopped, next));
        }
        // A batch of an offset below W may have come to lie behind the end, in its last block.
        let next =
            if passed.is_none_or(|stop| base == stop.0) { view.next(&self.at)? } else { None };
        if let Some(placed) = next
            && !placed.is_behind(view.segments[placed.si].base, self.stop, view.rules.block)
        {
            self.accepted(placed);
            return Ok(Step::Frame(placed));
        }
        if let Some((segment, position)) = passed {
            return Ok(self.short_of_the_stop(segment, position));
        }
        if let Some(after) = view.next_segment(&self.at)
            && self.stop.is_none_or(|(segment, _)| segment > base)
        {
            self.at = after;
            return self.step(view);
        }
        // Asked now, while the chunks of the break are in memory.
        let damage = self.damage_at_break(view)?;
        let begun = self.begins_something(view)?;
        let position = self.at.p;
        let (si, rows, high, evidence) = (self.at.si, Rows::default(), 0, 0);
        self.look = Some(Look { si, position, rows, high, evidence, begun, damage });
        self.look_on(view)
    }

    fn accepted(&mut self, placed: Placed) {
        let head = &placed.head;
        self.w = self.w.max(head.flushed_upto);
        self.seen_epoch = self.seen_epoch.max(head.log_epoch);
        if self.lives.last().is_none_or(|last| last.0 < head.log_epoch) {
            self.lives.push((head.log_epoch, head.base_offset));
        }
        if self.keep {
            self.kept.push_back(Kept { placed, jump: std::mem::take(&mut self.jump) });
            // One frame before the unproven ones stays: it says where the log would end.
            while self.kept.len() > 2 && self.kept[1].placed.head.last_offset() < self.w {
                if let Some(proven) = self.kept.pop_front() {
                    self.before.advance(&proven.placed);
                }
            }
        }
        self.at.advance(&placed);
    }

    fn look_on(&mut self, view: &View<'_>) -> Result<Step, Missing> {
        let Some(mut look) = self.look.take() else { return Ok(Step::End) };
        let done = self.gather(view, &mut look);
        if let Err(missing) = done {
            self.look = Some(look);
            return Err(missing);
        }
        Ok(self.judge(view, &look))
    }

    /// Every believable header behind the break: in this segment, then in all later ones.
    fn gather(&mut self, view: &View<'_>, look: &mut Look) -> Result<(), Missing> {
        let broken = self.at.si;
        let sealed = broken + 1 < view.segments.len();
        loop {
            let file_bytes = view.file_bytes(look.si)?;
            let far = match (self.stop, self.reach) {
                // What lies behind the log's end is written over by the next groups.
                (Some((segment, end)), _) if view.segments[look.si].base == segment => {
                    align_up(end, view.rules.block)
                }
                (None, Some(l)) if !sealed && look.si == broken => {
                    align_up(self.at.p, view.rules.block) + LOOK_AHEAD_GROUPS * l
                }
                (Some(_) | None, _) => file_bytes,
            };
            let far = far.min(file_bytes);
            while look.position < far {
                self.gather_chunk(view, look, far)?;
            }
            // Nor does a segment behind the stop say anything of what must stand before it.
            let last = self.stop.is_some_and(|(last, _)| view.segments[look.si].base >= last);
            if self.later_done || last || look.si + 1 >= view.segments.len() {
                self.later_done = true;
                return Ok(());
            }
            look.si += 1;
            look.position = 0;
        }
    }

    fn gather_chunk(&mut self, view: &View<'_>, look: &mut Look, far: u64) -> Result<(), Missing> {
        let index = region_of(look.position);
        let bytes = view.chunk(look.si, index)?;
        let region = u64::from(index) * REGION;
        let upto = usize::try_from((far - region).min(bytes.len() as u64)).unwrap_or(0);
        let mut from = within(look.position) as usize;
        while let Some(step) = bytes[..upto].get(from..).and_then(next_magic) {
            let place = from + step;
            from = place + 1;
            if Head::parse(&bytes[place..], view.rules.secret).is_none() {
                let forged = Head::parse(&bytes[place..], 0).is_some();
                self.met.forged_headers += u64::from(forged);
                continue;
            }
            if let Some(placed) = view.header(look.si, region + place as u64)? {
                self.weigh(view, look, placed);
            }
        }
        look.position = region + REGION;
        Ok(())
    }

    fn weigh(&mut self, view: &View<'_>, look: &mut Look, placed: Placed) {
        let head = &placed.head;
        if !head.of(view.rules.key) {
            return;
        }
        self.seen_epoch = self.seen_epoch.max(head.log_epoch);
        let base = head.base_offset;
        let own = placed.si == self.at.si;
        if own {
            look.high = look.high.max(head.next_offset());
        }
        let floor = self.at.floor;
        let fits = view.epoch_fits(base, head.log_epoch, floor);
        self.met.stale_headers += u64::from(!fits);
        let behind = placed.is_behind(view.segments[placed.si].base, self.stop, view.rules.block);
        if !head.is_sound(view.rules.key) || base < self.at.o || !fits || behind {
            return;
        }
        if !own {
            let name = view.segments[placed.si].base;
            if base >= name {
                self.w = self.w.max(name).max(head.flushed_upto);
            }
            return;
        }
        look.evidence += 1;
        self.w = self.w.max(head.flushed_upto);
        // What belongs into a later segment cannot be what this one goes on with.
        if view.segments.get(placed.si + 1).is_none_or(|after| base < after.base) {
            look.rows.add(placed);
        }
    }

    /// The place where all flushed frames end was reached, and flushed offsets are missing before it: a frame
    /// of earlier offsets lies where they should be.
    fn short_of_the_stop(&mut self, segment: u64, until: u64) -> Step {
        let (from, to, damage) = (self.at.o, self.w, Damage::Missing);
        let at = self.at.p.min(until);
        self.damaged.push(Damaged { segment, at, until, from, to, damage });
        (self.at.o, self.at.any) = (to, true);
        Step::Damaged
    }

    fn judge(&mut self, view: &View<'_>, look: &Look) -> Step {
        let (o, p) = (self.at.o, self.at.p);
        let segment = view.segments[self.at.si].base;
        let damage = look.damage;
        let mut damaged = Damaged { segment, at: p, until: u64::MAX, from: o, to: o, damage };
        if o >= self.w {
            self.torn_batches = look.evidence.max(u64::from(look.begun));
            return self.end(Verdict::Torn, o);
        }
        if let Some(good) = look.rows.best() {
            damaged.until = good.position;
            damaged.to = good.head.base_offset;
            self.damaged.push(damaged);
            self.jump = true;
            self.at.o = good.head.base_offset;
            self.at.p = good.position;
            self.at.any = true;
            return Step::Damaged;
        }
        let ends_here = self.stop.is_some_and(|(last, _)| last == segment);
        if let Some(after) = view.segments.get(self.at.si + 1).filter(|_| !ends_here) {
            damaged.to = after.base.max(o);
            if !look.begun && damage == Damage::Header {
                damaged.damage = Damage::Missing;
            }
            self.damaged.push(damaged);
            self.jump = true;
            self.at = At { si: self.at.si + 1, p: 0, o: damaged.to, any: true, ..self.at };
            return Step::Damaged;
        }
        if let Some((end_segment, end)) = self.stop {
            damaged.to = self.w;
            if end_segment == segment {
                // The log goes on in this segment, behind its end as it is known now.
                damaged.until = end.max(p);
            }
            self.damaged.push(damaged);
            let next = self.w;
            return self.end(Verdict::RotToEnd, next);
        }
        let next = self.w.max(look.high.min(o + SKIP_OFFSETS_MAX));
        damaged.to = next;
        self.damaged.push(damaged);
        self.new_segment = true;
        self.end(Verdict::RotToEnd, next)
    }

    /// Why nothing at the break is acceptable: no bytes, a header that does not belong there, or no header.
    fn damage_at_break(&self, view: &View<'_>) -> Result<Damage, Missing> {
        let (base, block) = (view.segments[self.at.si].base, view.rules.block);
        let mut damage = Damage::Header;
        for place in [self.at.p, align_up(self.at.p, block)] {
            if view.header(self.at.si, place)?.is_some() {
                damage = Damage::Place;
            }
            let end = place + crate::frame::HEADER_BYTES as u64;
            if view.window.is_unreadable(base, place, end, block) {
                return Ok(Damage::Unreadable);
            }
        }
        Ok(damage)
    }

    /// Whether something was written at the break.
    fn begins_something(&mut self, view: &View<'_>) -> Result<bool, Missing> {
        for place in [self.at.p, align_up(self.at.p, view.rules.block)] {
            let bytes = view.chunk(self.at.si, region_of(place))?;
            let rest = bytes.get(within(place) as usize..).unwrap_or_default();
            if crate::frame::has_magic(rest) {
                let torn =
                    [view.rules.secret, 0].iter().all(|key| Head::parse(rest, *key).is_none());
                self.met.torn_headers += u64::from(torn);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn end(&mut self, verdict: Verdict, next: u64) -> Step {
        self.verdict = verdict;
        self.next = next;
        Step::End
    }
}

/// The first byte that may begin a header. Most of what is searched are zeros, passed over in runs that
/// the compiler turns into wide loads: a search byte by byte was a third of a recovery's time.
pub(crate) fn next_magic(bytes: &[u8]) -> Option<usize> {
    let mut before = 0;
    for run in bytes.chunks(512) {
        if run.iter().fold(0, |all, byte| all | byte) != 0
            && let Some(at) = run.iter().position(|byte| *byte == b'V')
        {
            return Some(before + at);
        }
        before += run.len();
    }
    None
}
