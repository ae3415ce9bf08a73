//! What a recovery makes durable before the log opens: quarantine list, unproven tail, a new segment behind a loss.
//! Owner: one recovery, at its end.
//! Invariant: the list and the flush of the tail come before anything is served (Q1, D9).
//! Not here: step 9 (`start.rs`).

use super::{Phase, Progress, Recovery};
use crate::io::{IoRequest, SegmentName, SmallFile};
use crate::ops::LogOp;
use crate::quarantine::Finder;
use crate::segment::{Segment, by_base, first_extent};
use crate::turn::Turn;

impl Recovery {
    /// What holds no frame of this log and has a name between the offsets of the segment before it is no segment
    /// of it: a read would look in it for what stands in that one. It is set aside as what lies beyond the end.
    fn drop_strays(&mut self, turn: &mut Turn<'_>) {
        let (mut end, last) = (0, self.end.si);
        let (mut at, mut strays) = (0, Vec::new());
        self.segments.retain(|segment| {
            let stray = at < last && segment.frame_bytes == 0 && segment.base < end;
            if stray {
                strays.push(segment.clone());
            }
            (at, end) = (at + 1, end.max(segment.end_offset));
            !stray
        });
        self.end.si -= strays.len();
        self.close_all(&strays, turn);
        let Some(result) = &mut self.result else { return };
        for stray in strays {
            result.notices.push(format!(
                "log {}: segment {} holds nothing of this log, and its offsets stand in the segment before it: it is \
                 set aside into `dropped`",
                self.key, stray.base
            ));
            result.beyond.push(stray.base);
        }
    }

    /// Quarantine list and the flush of the unproven tail.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) -> bool {
        self.drop_strays(turn);
        let before = self.quarantine.len();
        // Ranges beyond a torn tail: their offsets are given again, to batches that are sound.
        self.quarantine.truncate(self.result.as_ref().map_or(u64::MAX, |found| found.mark.offset));
        let found_ns = turn.now.wall_ns;
        let (damaged, given_up) =
            (std::mem::take(&mut self.damaged), std::mem::take(&mut self.given_up));
        for range in damaged.into_iter().chain(given_up) {
            let entry = range.found(Finder::Recovery, found_ns);
            if self.quarantine.add(entry)
                && let Some(result) = &mut self.result
            {
                result.new_quarantined += 1;
                result.notices.push(entry.line(self.key));
            }
        }
        if self.quarantine.len() != before || !self.quarantine.is_saved() {
            let (body, file) = (self.quarantine.encode(), SmallFile::Quarantine(self.key));
            self.ask(LogOp::Quarantine, turn, |id| IoRequest::WriteSmall { id, file, body });
        }
        for base in std::mem::take(&mut self.unproven) {
            let file = by_base(&self.segments, base).and_then(|at| self.segments[at].file);
            if let Some(file) = file {
                self.ask(LogOp::Flush, turn, |id| IoRequest::Flush { id, file });
            }
        }
        self.enter(Phase::Flushing)
    }

    /// A new segment where the log goes on behind a loss; else the active one, open.
    pub(super) fn prepare(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(result) = &self.result else { return false };
        let base_offset = result.mark.segment;
        if !self.create {
            let last = self.segments.len() - 1;
            if self.segments[last].file.is_none() {
                self.open(last, turn);
                return true;
            }
            return self.enter(Phase::Done);
        }
        if self.segments.last().is_none_or(|segment| segment.base != base_offset) {
            self.segments.push(Segment::new(base_offset));
        }
        let name = SegmentName { log: self.key, base_offset };
        let bytes = first_extent(self.segment_bytes, 0, false);
        self.ask(LogOp::Prepare, turn, |id| IoRequest::Prepare { id, name, bytes, zero: true });
        self.enter(Phase::Preparing)
    }

    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(segment) = self.segments.last() else { return false };
        let (Some(file), base_offset) = (segment.file, segment.base) else { return false };
        let name = SegmentName { log: self.key, base_offset };
        self.ask(LogOp::Adopt, turn, |id| IoRequest::Adopt { id, file, name });
        self.enter(Phase::Adopting)
    }

    pub(super) fn finish(&mut self) -> Progress {
        let Some(mut result) = self.result.take() else { return Progress::Working };
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter_mut().enumerate() {
            segment.ready = true;
            segment.trimmed = true;
            segment.sealed = at < last;
            segment.extent = segment.file_bytes.min(4 << 20);
            if at == last {
                segment.end_position = result.mark.position;
                segment.end_offset = result.mark.offset;
            } else {
                segment.index.thin(crate::index::SEALED_ENTRIES_MAX);
            }
        }
        result.segments = std::mem::take(&mut self.segments);
        result.quarantine = std::mem::take(&mut self.quarantine);
        result.scanned_bytes = self.scanned_bytes;
        result.snapshot_offset = self.snapshot_offset;
        result.replayed_bytes = self.replayed_bytes;
        Progress::Ready(Box::new(result))
    }
}
