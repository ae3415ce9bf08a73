//! What a cold read does where the log is not whole: judges a break, passes damage that is known.
//! Owner: `ColdRead`.
//! Invariant: all breaks of a segment are named at once, so that every reader and the next start name the same.
//! Not here: the verdict itself (`verdict.rs`), the list (`quarantine.rs`).

use super::{ColdLog, ColdRead, ColdStep, Outcome, Want};
use crate::blocks::Blocks;
use crate::quarantine::Quarantined;
use crate::scan::At;
use crate::segment::by_base;
use crate::verdict::{Damaged, Scan, Step};
use crate::window::Missing;

/// A break that is being judged, to the end of its segment: whoever meets it, all of it is named at once,
/// so that the next reader and the next start name the same.
pub(super) struct Repair {
    scan: Scan,
    /// The broken segment.
    base: u64,
    /// Where the walk goes on; none: the scan has not gone over the break yet.
    resume: Option<At>,
}

impl ColdRead {
    /// A known damaged range begins here: over it when what is sought lies behind, else that is the answer.
    pub(super) fn pass_damage(
        &mut self,
        log: &ColdLog<'_>,
        entry: &Quarantined,
    ) -> Option<ColdStep> {
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

    /// No frame follows, and by the life table none ever stood here: on where the next life began, which may
    /// have appended nothing yet.
    pub(super) fn pass_gap(&mut self, log: &ColdLog<'_>) -> bool {
        let gap = log.rules.table.and_then(|table| table.gap_at(self.at.o));
        let Some(start) = gap else { return false };
        match by_base(log.segments, start) {
            Some(si) => (self.at.si, self.at.p) = (si, 0),
            None if start == log.flushed.2 => {}
            None => return false,
        }
        (self.at.o, self.at.any) = (start, true);
        true
    }

    pub(super) fn broken(&mut self, log: &ColdLog<'_>) -> Option<ColdStep> {
        let broken = log.segments[self.at.si].base;
        if self.try_again(broken, self.at.p + 1, log.flushed) {
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
        // What was flushed since may be missing in what was read before.
        let (segment, position, offset) = self.reread.unwrap_or(log.flushed);
        let scan = Scan::new(self.at, offset, Some((segment, position)), None, false);
        self.repair = Some(Repair { scan, base: broken, resume: None });
        None
    }

    /// Goes over the break, then on to the end of its segment.
    pub(super) fn repair_on(
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
                self.reread = None;
                None
            }
        }
    }
}
