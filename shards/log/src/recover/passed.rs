//! Frames that the scan accepted: the replay takes them from here instead of reading them again.
//! Owner: one recovery, from its scan to its replay.
//! Invariant: either every frame from where the scan began up to the log's end, or none.
//! Not here: where the replay begins (`replay.rs`).

use crate::scan::{At, Placed};

/// Frames kept at most: 16 recoveries at once hold 20 MB of them.
const FRAMES_MAX: usize = 8192;

/// The frames of one scan, in order.
#[derive(Debug, Default)]
pub(super) struct Passed {
    frames: Vec<Placed>,
    /// Where the scan began; none: the frames are not all here.
    from: Option<At>,
}

impl Passed {
    /// A scan begins at `from`.
    pub(super) fn begin(from: At) -> Passed {
        Passed { frames: Vec::new(), from: Some(from) }
    }

    /// The scan accepted a frame.
    pub(super) fn add(&mut self, placed: Placed) {
        if self.frames.len() >= FRAMES_MAX {
            *self = Passed::default();
        }
        if self.from.is_some() {
            self.frames.push(placed);
        }
    }

    /// The log ends at `end`: what lies behind was dropped.
    pub(super) fn end_at(&mut self, end: &At) {
        self.frames.retain(|placed| placed.head.next_offset() <= end.o);
        let last = self.frames.last().map(|placed| (placed.si, placed.end()));
        let whole =
            self.from.is_some_and(|from| last.unwrap_or((from.si, from.p)) == (end.si, end.p));
        if !whole {
            *self = Passed::default();
        }
    }

    /// Whether a replay that came to `at` has the rest of the log here: a frame behind `at` is judged as it was
    /// behind the place where the scan began.
    pub(super) fn begins_at(&self, at: &At) -> bool {
        let state = |at: &At| (at.si, at.p, at.o, at.crc, at.len);
        self.from.is_some_and(|from| state(&from) == state(at))
    }

    /// All frames from `offset` on; nothing is left.
    pub(super) fn take_from(&mut self, offset: u64) -> Vec<Placed> {
        let mut frames = std::mem::take(self).frames;
        frames.retain(|placed| placed.head.base_offset >= offset);
        frames
    }
}
