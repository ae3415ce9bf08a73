//! The accept rule (3.3) and the verdict at a break (3.4), with evidence of misplaced blocks.
//! Owner: one recovery, one replay, or one repairing read.
//! Invariant: W only rises, and only from checkpoint, valid headers and segments that hold them.
//! Not here: where a scan starts (`start.rs`, `reader.rs`).

use crate::evidence::Chains;
use crate::frame::{Head, align_up, has_magic};
use crate::mutants::Mutant;
use crate::quarantine::Damaged;
use crate::table::Table;

/// Offsets given up at most beyond W when a log is rotten to its end.
const SKIP_OFFSETS_MAX: u64 = 1 << 24;
/// Group bounds looked ahead for evidence.
const LOOK_AHEAD_GROUPS: usize = 3;

/// A header and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub si: usize,
    pub position: usize,
    pub head: Head,
}

impl Placed {
    /// Behind the frame.
    pub fn end(&self) -> usize {
        self.position + self.head.len
    }

    /// Whether it reaches behind the block where the log ended: the next groups are written over it.
    pub fn is_behind(&self, view: &View<'_>, end: Option<(u64, usize)>) -> bool {
        let base = view.segments[self.si].0;
        end.is_some_and(|(segment, position)| base == segment && self.end() > align_up(position))
    }
}

/// Where a scan stands and what it expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub si: usize,
    pub p: usize,
    pub o: u64,
    pub crc: u32,
    pub len: usize,
    /// Whatever link is accepted next.
    pub any: bool,
    /// log_epoch of the frame before.
    pub floor: u32,
}

impl At {
    /// Before the first frame of a segment.
    pub fn start_of(si: usize, base: u64) -> At {
        At { si, p: 0, o: base, crc: 0, len: 0, any: true, floor: 0 }
    }

    /// Behind an accepted frame.
    pub fn advance(&mut self, placed: &Placed) {
        let Head { crc, len, epoch, .. } = placed.head;
        let (si, p, o) = (placed.si, placed.end(), placed.head.next());
        *self = At { si, p, o, crc, len, any: false, floor: epoch };
    }
}

/// A log's segments and the facts that decide about a header.
pub struct View<'a> {
    pub segments: Vec<(u64, &'a [u8])>,
    pub topic: u64,
    pub secret: u32,
    pub table: Option<&'a Table>,
    pub mutant: Mutant,
}

impl View<'_> {
    /// A believable header whose frame ends inside the file.
    pub fn header(&self, si: usize, position: usize) -> Option<Placed> {
        let bytes = self.segments[si].1;
        let head = Head::parse(bytes.get(position..)?, self.secret)?;
        let placed = Placed { si, position, head };
        (placed.end() <= bytes.len()).then_some(placed)
    }

    /// Whether the payload of a frame is whole.
    pub fn payload_is_right(&self, placed: &Placed) -> bool {
        placed.head.payload_is_right(&self.segments[placed.si].1[placed.position..])
    }

    fn epoch_fits(&self, base: u64, epoch: u32, floor: u32) -> bool {
        match self.mutant {
            Mutant::NoEpoch | Mutant::NoChainNoEpoch => true,
            _ => self.table.map_or(epoch >= floor, |table| table.allows(base, epoch, floor)),
        }
    }

    fn accept(&self, si: usize, position: usize, at: &At) -> Option<Placed> {
        let placed = self.header(si, position)?;
        let head = &placed.head;
        if !head.is_sound(self.topic) {
            return None;
        }
        let mut any = at.any;
        if head.base != at.o {
            let gap = |table: &Table| head.base > at.o && table.is_gap(at.o, head.base, head.epoch);
            if !self.table.is_some_and(gap) && self.mutant != Mutant::AnyOffset {
                return None;
            }
            any |= position == 0;
        }
        let unchained = self.mutant == Mutant::NoChainNoEpoch;
        let linked = any || unchained || (head.prev_crc == at.crc && head.prev_len == at.len);
        (linked && self.epoch_fits(head.base, head.epoch, at.floor)).then_some(placed)
    }

    /// Where the log goes on in the next segment when no frame says so: at its very name, or behind a recorded
    /// gap, whether or not a frame stands there.
    pub fn next_segment(&self, at: &At) -> Option<At> {
        let (after, _) = *self.segments.get(at.si + 1)?;
        let recorded = |table: &Table| table.ends_gap(at.o, after);
        let gap = self.table.is_some_and(recorded) && self.mutant != Mutant::GapNeedsFrame;
        let (si, o, any) = (at.si + 1, after, at.any || gap);
        (after == at.o || gap).then_some(At { si, p: 0, o, any, ..*at })
    }

    /// The next acceptable frame: behind the one before, at the next block, first in the next segment; the
    /// higher log_epoch wins.
    pub fn next(&self, at: &At) -> Option<Placed> {
        let mut best = self.accept(at.si, at.p, at);
        let mut take = |other: Option<Placed>| {
            let Some(other) = other else { return };
            let later = |best: &Placed| {
                best.head.base == other.head.base && other.head.epoch > best.head.epoch
            };
            if best.as_ref().is_none_or(later) {
                best = Some(other);
            }
        };
        let fresh = align_up(at.p);
        if fresh != at.p && self.mutant != Mutant::SecondPlaceMissed {
            take(self.accept(at.si, fresh, at));
        }
        if let Some((after, _)) = self.segments.get(at.si + 1) {
            let gap = self.table.is_some_and(|table| table.starts_at(*after));
            if *after == at.o || (*after > at.o && gap) {
                let first = self.accept(at.si + 1, 0, at);
                take(first.filter(|first| first.head.base == *after));
            }
        }
        best
    }
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The log ends at the break: what follows was never acknowledged.
    Torn,
    /// Proven data is missing up to the end: a new segment goes on behind it.
    RotToEnd,
    /// Reached the place where the caller wanted to stop.
    Stopped,
}

/// A frame kept by recovery.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    pub placed: Placed,
    /// It follows a quarantined range.
    pub jump: bool,
}

/// What a scan came across: told as counts, never decided by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    pub rot: u64,
    pub sealed_rot: u64,
    pub torn_headers: u64,
    pub torn_payloads: u64,
    pub forged: u64,
    pub stale: u64,
}

/// One step.
pub enum Step {
    Frame(Placed),
    Damaged,
    End,
}

/// A scan in progress.
#[derive(Clone, Debug)]
pub struct Scan {
    pub at: At,
    pub w: u64,
    stop: Option<(u64, usize)>,
    /// L of the checkpoint; none: look ahead to the segment's end.
    reach: Option<usize>,
    later_done: bool,
    jump: bool,
    pub kept: Vec<Kept>,
    before: At,
    pub damaged: Vec<Damaged>,
    /// (log_epoch, base) where a higher epoch than before began.
    pub lives: Vec<(u32, u64)>,
    pub seen_epoch: u32,
    pub verdict: Verdict,
    pub next: u64,
    pub new_segment: bool,
    pub met: Met,
}

/// The evidence behind one break.
#[derive(Default)]
struct Look {
    chains: Chains,
    /// One past the greatest offset that any header of this log names.
    high: u64,
}

impl Scan {
    /// From `at` on; `stop` is segment and position of a known end.
    pub fn new(at: At, w: u64, stop: Option<(u64, usize)>, reach: Option<usize>) -> Scan {
        Scan {
            at,
            w,
            stop,
            reach,
            later_done: false,
            jump: false,
            kept: Vec::new(),
            before: at,
            damaged: Vec::new(),
            lives: Vec::new(),
            seen_epoch: 0,
            verdict: Verdict::Stopped,
            next: at.o,
            new_segment: false,
            met: Met::default(),
        }
    }

    /// Goes on by one frame or one damaged range.
    pub fn step(&mut self, view: &View<'_>) -> Step {
        let base = view.segments[self.at.si].0;
        let reached =
            |stop: &(u64, usize)| base > stop.0 || (base == stop.0 && self.at.p >= stop.1);
        let passed = self.stop.filter(reached);
        if passed.is_some() && (self.at.o >= self.w || view.mutant == Mutant::StopIsTheEnd) {
            return self.end(Verdict::Stopped, self.at.o);
        }
        // A batch of an earlier offset may have come to lie behind the end, in its last block.
        let looks = passed.is_none_or(|stop| base == stop.0);
        if let Some(placed) = looks.then(|| view.next(&self.at)).flatten()
            && (!placed.is_behind(view, self.stop) || view.mutant == Mutant::BehindTheEnd)
        {
            self.accepted(placed);
            return Step::Frame(placed);
        }
        if let Some((segment, position)) = passed {
            return self.short_of_the_stop(segment, position);
        }
        if let Some(after) = view.next_segment(&self.at)
            && self.stop.is_none_or(|(segment, _)| segment > base)
        {
            self.at = after;
            return self.step(view);
        }
        let look = self.look_ahead(view);
        self.judge(view, &look)
    }

    fn accepted(&mut self, placed: Placed) {
        let head = &placed.head;
        self.w = self.w.max(head.flushed_upto);
        self.seen_epoch = self.seen_epoch.max(head.epoch);
        if self.lives.last().is_none_or(|last| last.0 < head.epoch) {
            self.lives.push((head.epoch, head.base));
        }
        self.kept.push(Kept { placed, jump: std::mem::take(&mut self.jump) });
        self.at.advance(&placed);
    }

    /// Every believable header behind the break: in this segment, then, once, in all later ones.
    fn look_ahead(&mut self, view: &View<'_>) -> Look {
        let mut look = Look::default();
        let broken = self.at.si;
        let sealed = broken + 1 < view.segments.len();
        let file = view.segments[broken].1.len();
        let groups = if view.mutant == Mutant::ShortLookAhead { 1 } else { LOOK_AHEAD_GROUPS };
        let base = view.segments[broken].0;
        let far = match (self.stop, self.reach) {
            _ if view.mutant == Mutant::BehindTheEnd => file,
            (Some((segment, end)), _) if segment == base => align_up(end).min(file),
            (None, Some(l)) if !sealed => (align_up(self.at.p) + groups * l).min(file),
            (Some(_) | None, _) => file,
        };
        self.gather(view, &mut look, broken, self.at.p, far);
        let later = !std::mem::replace(&mut self.later_done, true);
        // A segment behind the stop says nothing of what must stand before it.
        let last = self.stop.map_or(u64::MAX, |(last, _)| last);
        let read = view.segments.partition_point(|(base, _)| *base <= last);
        for si in broken + 1..read {
            if later && view.mutant != Mutant::LaterSegmentsUnseen {
                self.gather(view, &mut look, si, 0, view.segments[si].1.len());
            }
        }
        look
    }

    fn gather(&mut self, view: &View<'_>, look: &mut Look, si: usize, from: usize, far: usize) {
        let bytes = view.segments[si].1;
        let mut position = from;
        while position < far {
            if has_magic(&bytes[position..]) {
                match view.header(si, position) {
                    Some(placed) => self.weigh(view, look, placed),
                    None => {
                        let forged = Head::parse(&bytes[position..], 0).is_some();
                        self.met.forged += u64::from(forged);
                    }
                }
            }
            let step = bytes[position + 1..].iter().position(|byte| *byte == b'V');
            position = step.map_or(far, |step| position + 1 + step);
            if view.mutant == Mutant::BlockStartsOnly {
                position = align_up(position);
            }
        }
    }

    fn weigh(&mut self, view: &View<'_>, look: &mut Look, placed: Placed) {
        let head = &placed.head;
        if head.topic != view.topic {
            return;
        }
        self.seen_epoch = self.seen_epoch.max(head.epoch);
        let own = placed.si == self.at.si;
        if own {
            look.high = look.high.max(head.next());
        }
        let fits = view.epoch_fits(head.base, head.epoch, self.at.floor);
        self.met.stale += u64::from(!fits);
        let behind = placed.is_behind(view, self.stop) && view.mutant != Mutant::BehindTheEnd;
        if !head.is_sound(view.topic) || head.base < self.at.o || !fits || behind {
            return;
        }
        if !own {
            let name = view.segments[placed.si].0;
            if head.base >= name {
                self.w = self.w.max(name).max(head.flushed_upto);
            }
            return;
        }
        if view.mutant != Mutant::EvidenceProvesNothing {
            self.w = self.w.max(head.flushed_upto);
        }
        let after = view.segments.get(placed.si + 1);
        if after.is_none_or(|after| head.base < after.0) || view.mutant == Mutant::LaterOffsetsCount
        {
            look.chains.add(placed);
        }
    }

    /// All flushed frames end here, and flushed offsets are missing before it.
    fn short_of_the_stop(&mut self, segment: u64, until: usize) -> Step {
        let (from, to) = (self.at.o, self.w);
        self.damaged.push(Damaged { segment, at: self.at.p.min(until), until, from, to });
        (self.at.o, self.at.any) = (to, true);
        Step::Damaged
    }

    fn judge(&mut self, view: &View<'_>, look: &Look) -> Step {
        let (o, p, si) = (self.at.o, self.at.p, self.at.si);
        let segment = view.segments[si].0;
        let mut damaged = Damaged { segment, at: p, until: usize::MAX, from: o, to: o };
        if o >= self.w || view.mutant == Mutant::EveryBreakIsTorn {
            let bytes = view.segments[si].1;
            let torn = |at: usize| {
                bytes.get(at..).is_some_and(|bytes| {
                    has_magic(bytes) && Head::parse(bytes, view.secret).is_none()
                })
            };
            self.met.torn_headers += u64::from(torn(p) || torn(align_up(p)));
            return self.end(Verdict::Torn, o);
        }
        self.met.rot += 1;
        if let Some(good) = look.chains.best(view.mutant) {
            (damaged.until, damaged.to) = (good.position, good.head.base);
            self.damaged.push(damaged);
            self.jump = true;
            (self.at.o, self.at.p, self.at.any) = (good.head.base, good.position, true);
            return Step::Damaged;
        }
        let ends_here = self.stop.is_some_and(|(last, _)| last == segment);
        if let Some((after, _)) = view.segments.get(si + 1)
            && !ends_here
            && view.mutant != Mutant::SealedBreakEndsLog
        {
            self.met.sealed_rot += 1;
            damaged.to = (*after).max(o);
            self.damaged.push(damaged);
            self.jump = true;
            self.at = At { si: si + 1, p: 0, o: damaged.to, any: true, ..self.at };
            return Step::Damaged;
        }
        let high = if self.stop.is_some() { 0 } else { look.high.min(o + SKIP_OFFSETS_MAX) };
        damaged.to = self.w.max(high);
        if let Some((end_segment, end)) = self.stop
            && end_segment == segment
            && view.mutant != Mutant::LostEndHasNoEnd
        {
            damaged.until = end.max(p);
        }
        self.damaged.push(damaged);
        self.new_segment = self.stop.is_none();
        self.end(Verdict::RotToEnd, damaged.to)
    }

    fn end(&mut self, verdict: Verdict, next: u64) -> Step {
        (self.verdict, self.next) = (verdict, next);
        Step::End
    }

    /// Every kept batch with a last offset ≥ W is verified, in order; the first failure ends the log there.
    pub fn check_payloads(&mut self, view: &View<'_>) {
        if view.mutant == Mutant::NoPayloadCheck {
            return;
        }
        let failed = self.kept.iter().position(|kept| {
            kept.placed.head.last >= self.w && !view.payload_is_right(&kept.placed)
        });
        let Some(index) = failed else { return };
        let Kept { placed, jump } = self.kept[index];
        let base = placed.head.base;
        let mut end = self.before;
        if jump && view.mutant != Mutant::JumpForgotten {
            let (si, p, floor) = (placed.si, placed.position, end.floor);
            end = At { si, p, o: base, crc: 0, len: 0, any: true, floor };
        } else if let Some(before) = index.checked_sub(1) {
            end.advance(&self.kept[before].placed);
        }
        end.o = base;
        self.met.torn_payloads += 1;
        self.kept.truncate(index);
        self.damaged.retain(|range| range.to <= base);
        self.lives.retain(|life| life.1 < base);
        (self.at, self.next, self.new_segment) = (end, base, false);
        self.verdict = Verdict::Torn;
    }
}
