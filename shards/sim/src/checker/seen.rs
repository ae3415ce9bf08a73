//! What the checker counted: the must-happen counts that only it can tell.
//! Owner: `Checker`.
//! Invariant: counts alone; nothing is judged by them.
//! Not here: counts of the disk and the process (`counters.rs`).

/// Counts of what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Batches sent.
    pub sent: u64,
    /// Batches acknowledged.
    pub acked: u64,
    /// Batches read by consumers.
    pub polled: u64,
    /// Fetches that began behind the damage they were asked for.
    pub passed_over: u64,
    /// Batches without records that moved a consumer over damage at a log's end.
    pub stepped_over: u64,
    /// Batches read after recoveries.
    pub recovered: u64,
    /// Batches of a life that its recovery did not find.
    pub dropped: u64,
    /// Unacknowledged batches that survived.
    pub survived: u64,
    /// Acknowledged in this life, recovered from an earlier one: the retry was recognised.
    pub deduped_after_recovery: u64,
    /// Commits of offsets acknowledged.
    pub commits: u64,
    /// Look-ups by time.
    pub look_ups: LookUpCounts,
    /// Topics that come and go.
    pub passing: PassingCounts,
}

/// Topics that come and go.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassingCounts {
    /// Topics made whose name was used before.
    pub remade: u64,
    /// Topics deleted.
    pub deleted: u64,
    /// Reads of a topic just made that found it empty.
    pub found_empty: u64,
    /// Reads of a topic just deleted that were told so.
    pub told_gone: u64,
}

/// Look-ups by time.
#[derive(Clone, Copy, Debug, Default)]
pub struct LookUpCounts {
    /// Answers that named a record.
    pub found: u64,
    /// … the very one that had to be named.
    pub exact: u64,
    /// Answers that there is none.
    pub none: u64,
}
