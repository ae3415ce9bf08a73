//! The life table: which log_epoch owns which offsets.
//! Owner: a log, a checkpoint entry, a recovery.
//! Invariant: starts rise strictly.
//! Not here: who adds lives (`life.rs`, `start.rs`).

/// One life that appended, or one truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub epoch: u32,
    pub start: u64,
    /// `[previous_end, start)` is a recorded gap.
    pub previous_end: u64,
}

/// Lives in order of start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub Vec<Life>);

impl Table {
    /// Epoch of the newest life.
    pub fn last_epoch(&self) -> u32 {
        self.0.last().map_or(0, |life| life.epoch)
    }

    /// Greatest epoch of all.
    pub fn greatest_epoch(&self) -> u32 {
        self.0.iter().map(|life| life.epoch).max().unwrap_or(0)
    }

    /// A new life; it replaces every entry at or above its start, and keeps the smallest previous end.
    /// `keep_later` is a mutant.
    pub fn push(&mut self, epoch: u32, start: u64, previous_end: u64, keep_later: bool) {
        let same = self.0.iter().filter(|life| life.start == start);
        let end = same.map(|life| life.previous_end).min().unwrap_or(previous_end);
        self.0.retain(|life| life.start < start || (keep_later && life.start > start));
        let at = self.0.partition_point(|life| life.start < start);
        self.0.insert(at, Life { epoch, start, previous_end: end.min(previous_end) });
    }

    /// Whether a frame of `epoch` may stand at `base`, behind one of epoch `floor`.
    pub fn allows(&self, base: u64, epoch: u32, floor: u32) -> bool {
        if epoch < floor {
            return false;
        }
        let Some(owner) = self.0.iter().rposition(|life| life.start <= base) else { return true };
        epoch == self.0[owner].epoch || (owner + 1 == self.0.len() && epoch > self.0[owner].epoch)
    }

    /// Whether the offsets from `o` to `base` are a recorded gap.
    pub fn is_gap(&self, o: u64, base: u64, epoch: u32) -> bool {
        let fits = |life: &Life| {
            life.start == base && life.start > o && life.epoch == epoch && life.previous_end <= o
        };
        self.0.iter().any(fits)
    }

    /// Whether a recorded gap goes from `o` to `base`, whoever goes on behind it.
    pub fn ends_gap(&self, o: u64, base: u64) -> bool {
        self.0.iter().any(|life| life.start == base && life.start > o && life.previous_end <= o)
    }

    /// Whether a life starts at `base`.
    pub fn starts_at(&self, base: u64) -> bool {
        self.0.iter().any(|life| life.start == base)
    }

    /// Whether a life later than `epoch` began below `offset`.
    pub fn undone(&self, epoch: u32, offset: u64) -> bool {
        self.0.iter().any(|life| life.epoch > epoch && life.start < offset)
    }

    /// Forgets lives wholly below the log start.
    pub fn trim(&mut self, log_start: u64) {
        let keep = self.0.iter().rposition(|life| life.start <= log_start).unwrap_or(0);
        self.0.drain(..keep);
    }
}
