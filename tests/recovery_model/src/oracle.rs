//! What must be true after every start: D1 to D7, against all that was ever sent.
//! Owner: one world.
//! Invariant: it knows the disk, never how recovery decides.
//! Not here: rules of writing (`life.rs` breaks off by itself).

use crate::disk::{Disk, Producers};
use crate::frame::Head;
use crate::quarantine::{Damaged, Quarantine};
use crate::scan::Placed;
use crate::start::{Recovered, topic};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// A frame that was built.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub head: Head,
    pub segment: u64,
    pub position: usize,
    /// It is damaged, and named.
    pub bad: bool,
}

/// All frames of a log, and what was promised about them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub sent: Vec<Sent>,
    /// Those that were ever given to the disk.
    pub submitted: usize,
    pub acked: u64,
    /// No offset below is given again.
    pub told: u64,
    dropped: HashSet<u64>,
    /// A truncation that may or may not have become durable: epoch and offset.
    pub maybe: Option<(u32, u64)>,
    pub start_max: u64,
    /// Ranges that an operator gave up: nobody quarantines them again.
    given_up: Vec<Range<u64>>,
    /// Its media are damaged: D1 in that wording from now on.
    pub harmed: bool,
    /// Sound batches that all harm so far may cost.
    pub neighbours: usize,
    /// Blocks and writes come to lie elsewhere: where the bytes of a damaged batch are, nobody can say.
    pub moves: bool,
    /// One harm at a time: what a sound batch may cost is counted.
    pub strict: bool,
    /// What is durable before a start: proven end, and which frames are whole.
    truth: Truth,
    pub collateral: u64,
    pub exempt: u64,
}

#[derive(Clone, Debug, Default)]
struct Truth {
    proven: u64,
    whole: HashSet<u64>,
}

/// What a start and its readers said.
pub struct Seen<'a> {
    pub found: &'a Recovered,
    pub served: &'a [(u64, Placed)],
    pub list: &'a Quarantine,
}

impl Ledger {
    /// P1 and Q2: neither acknowledged nor quarantined bytes are written over.
    pub fn may_write(&self, segment: u64, range: &Range<usize>) -> Result<(), String> {
        for sent in self.sent.iter().filter(|sent| sent.segment == segment) {
            let end = sent.position + sent.head.len;
            let touched = sent.position < range.end && range.start < end;
            let bad = sent.bad && !self.moves;
            if touched && (bad || (!sent.bad && sent.head.base < self.acked)) {
                let what = if sent.bad { "quarantined" } else { "acknowledged" };
                return Err(format!("P1: {what} batch {} is written over", sent.head.base));
            }
        }
        Ok(())
    }

    /// An operator leaves a range out for good.
    pub fn give_up(&mut self, from: u64, to: u64) {
        let inside = |sent: &mut Sent| from <= sent.head.base && sent.head.base < to;
        // What was never given to the disk is nowhere.
        self.sent.truncate(self.submitted);
        self.sent.retain_mut(|sent| !inside(sent));
        self.submitted = self.sent.len();
        self.given_up.push(from..to);
    }

    /// Everything from `offset` on was given up by order.
    pub fn truncate(&mut self, offset: u64) {
        self.given_up.retain(|range| range.end <= offset);
        let at = self.sent.partition_point(|sent| sent.head.base < offset);
        self.dropped.extend(self.sent.drain(at..).map(|sent| sent.head.id));
        self.submitted = self.sent.len();
        (self.acked, self.told) = (offset, offset);
    }

    /// Before a start: looks at the media itself.
    pub fn look(&mut self, disk: &Disk, log: usize, secret: u32) {
        let whole = |sent: &Sent| {
            let Some(file) = disk.file(log, sent.segment) else { return false };
            let Some(bytes) = file.seen.get(sent.position..) else { return false };
            Head::parse(bytes, secret).is_some_and(|head| head == sent.head)
                && sent.head.payload_is_right(bytes)
        };
        let sent = self.sent[..self.submitted].iter();
        let whole: Vec<&Sent> = sent.filter(|sent| whole(sent)).collect();
        let maybe = self.maybe;
        let kept = whole.iter().filter(|sent| maybe.is_none_or(|to| sent.head.base < to.1));
        let entry = disk.entries(log, false).first().map_or(0, |top| top.entry.end.offset);
        let proven = kept.map(|sent| sent.head.flushed_upto).max().unwrap_or(0).max(entry);
        self.truth = Truth { proven, whole: whole.iter().map(|sent| sent.head.id).collect() };
    }

    /// Judges what a start found and readers got.
    pub fn judge(&mut self, log: usize, seen: &Seen<'_>) -> Result<(), String> {
        let found = seen.found;
        if let Some((epoch, offset)) = self.maybe.take()
            && found.source.0.iter().any(|life| life.epoch >= epoch && life.start == offset)
        {
            self.truncate(offset);
        }
        self.sent.truncate(self.submitted);
        self.start_max = self.start_max.max(found.log_start);
        if !self.harmed && !seen.list.0.is_empty() {
            return Err(format!("D6: sound media, and {:?} is quarantined", seen.list.0));
        }
        for range in &self.given_up {
            // What is damaged before it may reach over it.
            let again = |named: &&Damaged| range.contains(&named.from);
            if let Some(again) = seen.list.0.iter().find(again) {
                return Err(format!("D7: {range:?} was given up, and {again:?} is quarantined"));
            }
        }
        let served = self.served(log, seen)?;
        self.judge_producers(&found.producers, &served, found.log_start)?;
        self.judge_missing(seen, &served)?;
        let next = found.mark.offset;
        if next < self.told {
            return Err(format!("D1-reuse: the log ends at {next}, {} was told", self.told));
        }
        self.submitted = self.sent.len();
        (self.acked, self.told) = (next, next);
        Ok(())
    }

    /// D2 to D5 on every batch that a reader got: places in the ledger, in order.
    fn served(&self, log: usize, seen: &Seen<'_>) -> Result<Vec<usize>, String> {
        let places: HashMap<u64, usize> =
            self.sent.iter().enumerate().map(|(at, sent)| (sent.head.id, at)).collect();
        let mut served: Vec<usize> = Vec::new();
        for (segment, placed) in seen.served {
            let head = &placed.head;
            if self.dropped.contains(&head.id) {
                return Err(format!("D4: dropped batch {} is back", head.base));
            }
            let Some(at) = places.get(&head.id).copied() else {
                if head.base < self.start_max && head.topic == topic(log) && head.id & 1 == 1 {
                    continue;
                }
                return Err(format!("D2: nobody sent what stands at {}", head.base));
            };
            let sent = &self.sent[at];
            let moved = (sent.segment, sent.position) != (*segment, placed.position);
            if sent.head != *head || (moved && !self.harmed) {
                return Err(format!("D5: batch {} is not what was sent", head.base));
            }
            if served.last().is_some_and(|last| at <= *last) {
                return Err(format!("D3: batch {} out of order", head.base));
            }
            served.push(at);
        }
        Ok(served)
    }

    /// Derived state names the last batch of each producer, and nothing that was dropped.
    fn judge_producers(
        &self,
        producers: &Producers,
        served: &[usize],
        start: u64,
    ) -> Result<(), String> {
        let mut want: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for sent in served.iter().map(|at| &self.sent[*at]) {
            want.insert(sent.head.id % crate::start::PRODUCERS, (sent.head.base, sent.head.id));
        }
        for producer in 0..crate::start::PRODUCERS {
            let (want, got) = (want.get(&producer), producers.get(&producer));
            let dropped = got.is_some_and(|got| self.dropped.contains(&got.1));
            let early = want.is_some_and(|want| got.is_none_or(|got| got.0 < want.0));
            let late = |got: &(u64, u64)| {
                got.0 >= start && want.is_none_or(|want| got.0 > want.0) && !self.harmed
            };
            if dropped || early || got.is_some_and(late) {
                return Err(format!("D2: state of producer {producer} is {got:?}, not {want:?}"));
            }
        }
        Ok(())
    }

    /// D1, D3 and D6 on every batch that no reader got.
    fn judge_missing(&mut self, seen: &Seen<'_>, served: &[usize]) -> Result<(), String> {
        let found = seen.found;
        let (end, named) = (found.end, |base: u64| seen.list.find(base).is_some());
        let whole = |sent: &Sent| self.truth.whole.contains(&sent.head.id);
        let doubtful =
            |sent: &&Sent| !sent.bad && sent.head.last >= self.truth.proven && !whole(sent);
        let cutoff = self.sent.iter().filter(doubtful).map(|sent| sent.head.base).min();
        // A block that came to lie behind the unproven tail ends it there.
        let unproven = if self.moves { self.truth.proven } else { u64::MAX };
        let cutoff = cutoff.unwrap_or(u64::MAX).min(unproven);
        let last_served = served.last().copied();
        let places = seen.served.iter().map(|(segment, at)| (at.head.id, (*segment, at.position)));
        let places: HashMap<u64, (u64, usize)> = places.collect();
        let (mut kept, mut dropped, mut collateral) = (Vec::new(), Vec::new(), Vec::new());
        let mut exempt = 0;
        for (at, sent) in self.sent.iter().enumerate() {
            let Sent { head, .. } = *sent;
            let base = head.base;
            if let Some((segment, position)) = places.get(&head.id).copied() {
                kept.push(Sent { bad: false, segment, position, ..*sent });
                continue;
            }
            if base < found.log_start {
                continue;
            }
            let behind = base >= end && last_served.is_none_or(|last| at > last);
            let bad = Sent { bad: true, ..*sent };
            if sent.bad {
                if !named(base) {
                    return Err(format!("D1: damaged batch {base} is no longer named"));
                }
                kept.push(bad);
            } else if base >= self.acked {
                if !behind && !named(base) {
                    return Err(format!("D3: a hole at {base}, not named"));
                }
                if behind { dropped.push(head.id) } else { kept.push(bad) }
            } else if !self.harmed {
                let said = if named(base) { "named as damaged" } else { "lost" };
                return Err(format!("D1: acknowledged batch {base} is {said} on sound media"));
            } else if base >= cutoff && base >= end {
                // Damage within what nothing proves yet looks like a tear (3.4, known limits).
                exempt += 1;
                dropped.push(head.id);
            } else if !named(base) {
                let (w, verdict) = (self.truth.proven, found.verdict);
                return Err(format!(
                    "D1: acknowledged batch {base} is lost and not named (end {end}, proven {w}, {verdict:?})"
                ));
            } else {
                if whole(sent) {
                    collateral.push(base);
                }
                kept.push(bad);
            }
        }
        self.collateral += collateral.len() as u64;
        if self.strict && self.collateral > self.neighbours as u64 {
            return Err(format!("D6: sound batches {collateral:?} are lost with a damaged one"));
        }
        self.exempt += exempt;
        if exempt > 0 {
            self.told = self.told.min(found.mark.offset);
        }
        self.dropped.extend(dropped);
        self.sent = kept;
        Ok(())
    }
}
