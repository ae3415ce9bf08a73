//! Reads of a log that just started: walks headers from an index entry, names damage, passes over what is named.
//! Owner: one check of the oracle.
//! Invariant: every offset below the end is served or named.
//! Not here: what should be there (`oracle.rs`).

use crate::disk::{Index, Mark};
use crate::mutants::Mutant;
use crate::quarantine::{Damaged, Quarantine};
use crate::rng::Rng;
use crate::scan::{At, Placed, Scan, Step, View};
use crate::table::Life;

/// A log as a reader sees it.
pub struct Reader<'a> {
    pub view: View<'a>,
    pub list: Quarantine,
    pub log_start: u64,
    pub end: Mark,
    pub index: &'a Index,
}

impl Reader<'_> {
    fn by_base(&self, base: u64) -> Option<usize> {
        self.view.segments.binary_search_by_key(&base, |segment| segment.0).ok()
    }

    /// Everything, by reads of a few frames each.
    ///
    /// # Errors
    /// An offset is neither served nor named.
    pub fn read_all(&mut self, rng: &mut Rng) -> Result<Vec<Placed>, String> {
        let mut served: Vec<Placed> = Vec::new();
        let mut from = self.log_start;
        while from < self.end.offset {
            if let Some(range) = self.list.find(from) {
                from = range.to;
                continue;
            }
            let frames = self.read(from, rng.range(1, 6));
            match frames.last() {
                Some(last) => from = last.head.next(),
                None if self.list.find(from).is_some() => continue,
                // Whether it had to be named is for the oracle to say.
                None if self.behind_gap(from).is_some() => {
                    from = self.behind_gap(from).unwrap_or(from);
                }
                None => {
                    return Err(format!(
                        "D1: a read at {from} gets neither batch nor name, list {:?}",
                        self.list.0
                    ));
                }
            }
            served.extend(frames);
        }
        Ok(served)
    }

    /// Where a recorded gap that holds `offset` ends.
    fn behind_gap(&self, offset: u64) -> Option<u64> {
        let holds = |life: &&Life| life.previous_end <= offset && offset < life.start;
        self.view.table.and_then(|table| table.0.iter().find(holds)).map(|life| life.start)
    }

    /// One read: up to `count` frames from the one that holds `from`.
    fn read(&mut self, from: u64, mut count: usize) -> Vec<Placed> {
        let mut frames = Vec::new();
        let below = self.view.segments.partition_point(|segment| segment.0 <= from);
        let si = below.saturating_sub(1);
        let base = self.view.segments[si].0;
        let mut at = At::start_of(si, base);
        let entries = self.index.get(&base).map_or(&[][..], Vec::as_slice);
        if let Some(entry) = entries.iter().rev().find(|entry| entry.0 <= from) {
            (at.o, at.p) = *entry;
        }
        let mut start = at;
        while at.o < self.end.offset && count > 0 {
            if let Some(range) = self.list.find(at.o) {
                if from < range.to || !self.pass(&range, &mut at) {
                    break;
                }
                continue;
            }
            let end = Some((self.end.segment, self.end.position));
            let behind = |placed: &Placed| {
                placed.is_behind(&self.view, end) && self.view.mutant != Mutant::BehindTheEnd
            };
            match self.view.next(&at).filter(|placed| !behind(placed)) {
                Some(placed) if placed.head.last < from => at.advance(&placed),
                Some(placed) if placed.head.next() > self.end.offset => break,
                Some(placed) if !self.view.payload_is_right(&placed) => {
                    let (segment, at) = (self.view.segments[placed.si].0, placed.position);
                    let (until, head) = (placed.end(), placed.head);
                    let (from, to) = (head.base, head.next());
                    self.list.add(Damaged { from, to, segment, at, until });
                    break;
                }
                Some(placed) => {
                    frames.push(placed);
                    at.advance(&placed);
                    count -= 1;
                }
                None if self.view.next_segment(&at).is_some() => {
                    at = self.view.next_segment(&at).unwrap_or(at);
                }
                None if start.p > 0 && (at.si, at.p, at.o) == (start.si, start.p, start.o) => {
                    // The index led here, and it is not evidence.
                    start = At::start_of(at.si, self.view.segments[at.si].0);
                    at = start;
                }
                None => {
                    if !self.repair(&mut at, from) {
                        break;
                    }
                }
            }
        }
        frames
    }

    /// Over a range that is named. False: the log ends with it.
    fn pass(&self, range: &Damaged, at: &mut At) -> bool {
        (at.o, at.any) = (range.to, true);
        match self.by_base(range.segment) {
            Some(si) if range.until < usize::MAX => (at.si, at.p) = (si, range.until),
            Some(_) | None => match self.by_base(range.to) {
                Some(si) => (at.si, at.p) = (si, 0),
                None => return false,
            },
        }
        true
    }

    /// Goes over the break at `at`, then on to the end of its segment, and names all damage on the way, so
    /// that whoever meets it names the same. False: the read ends here.
    fn repair(&mut self, at: &mut At, from: u64) -> bool {
        let base = self.view.segments[at.si].0;
        let stop = Some((self.end.segment, self.end.position));
        let mut scan = Scan::new(*at, self.end.offset, stop, None);
        let mut resume = None;
        let ended = loop {
            let ended = matches!(scan.step(&self.view), Step::End);
            let first = resume.is_none();
            resume.get_or_insert(scan.at);
            let one = self.view.mutant == Mutant::OneBreakAtATime;
            if ended || one || self.view.segments[scan.at.si].0 != base {
                break ended && first;
            }
        };
        *at = resume.unwrap_or(scan.at);
        scan.damaged.retain(|range| range.to > range.from);
        for range in &scan.damaged {
            self.list.add(*range);
        }
        match scan.damaged.first() {
            Some(range) => range.from > at.o || from >= range.to,
            None => !ended,
        }
    }
}
