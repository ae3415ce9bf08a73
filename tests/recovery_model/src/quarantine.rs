//! The quarantine list: damaged ranges that are named and never served.
//! Owner: a log; durable before the log opens or the failing read is answered.
//! Invariant: never an input of the scan.
//! Not here: finding damage (`scan.rs`, `reader.rs`).

/// One damaged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damaged {
    /// First offset lost, and the first after it.
    pub from: u64,
    pub to: u64,
    pub segment: u64,
    /// First damaged byte.
    pub at: usize,
    /// Where frames go on in this segment; `usize::MAX`: in the next one.
    pub until: usize,
}

/// All of one log, in order of offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine(pub Vec<Damaged>);

impl Quarantine {
    /// Adds a range unless it is known; narrower ones inside it go.
    pub fn add(&mut self, range: Damaged) -> bool {
        if range.to <= range.from
            || self.0.iter().any(|old| old.from <= range.from && range.to <= old.to)
        {
            return false;
        }
        self.0.retain(|old| !(range.from <= old.from && old.to <= range.to));
        let at = self.0.partition_point(|old| old.from < range.from);
        self.0.insert(at, range);
        true
    }

    /// The range that holds `offset`.
    pub fn find(&self, offset: u64) -> Option<Damaged> {
        self.0.iter().find(|range| range.from <= offset && offset < range.to).copied()
    }

    /// Ranges below the log start go with their segments.
    pub fn trim(&mut self, log_start: u64) {
        self.0.retain(|range| range.to > log_start);
    }

    /// Offsets at or above `end` are given again.
    pub fn truncate(&mut self, end: u64) {
        self.0.retain(|range| range.from < end);
        self.0.iter_mut().for_each(|range| range.to = range.to.min(end));
    }
}
