//! What every log of a shard shares while one turn runs: time, memory, requests, events, counts.
//! Owner: `Logs` lends it for one call.
//! Invariant: the only way to ask for I/O or to tell an event.
//! Not here: state of a single log.

use crate::blocks::Blocks;
use crate::directory::DirectoryFacts;
use crate::event::{LogCounts, LogEvent};
use crate::io::{Errno, IoId, IoOut, IoRequest, Now};
use crate::ops::{LogOp, Op, Ops};
use crate::settings::LogsConfig;
use crate::tail::TailOrder;
use std::collections::VecDeque;
use std::sync::Arc;

/// State that outlives a turn and belongs to no single log.
pub(crate) struct Shared {
    pub(crate) config: LogsConfig,
    pub(crate) facts: Arc<DirectoryFacts>,
    pub(crate) ops: Ops,
    pub(crate) events: VecDeque<LogEvent>,
    pub(crate) counts: LogCounts,
    pub(crate) tail: TailOrder,
    /// Somebody waits for a checkpoint: group bound, retention, truncation.
    pub(crate) checkpoint_urgent: bool,
    /// Something moved since the last checkpoint.
    pub(crate) checkpoint_dirty: bool,
    /// Frame bytes flushed since the last checkpoint was asked for.
    pub(crate) flushed_since_checkpoint: u64,
    /// Why the last checkpoint could not be written, until one is.
    pub(crate) checkpoint_failure: Option<Errno>,
    /// The operator was told that some log has no room to grow.
    pub(crate) space_is_short: bool,
    /// Group writes in flight.
    pub(crate) writes_in_flight: usize,
    /// Slots of logs that wait for time or memory, with the time to look again.
    pub(crate) retry: Vec<(u32, u64)>,
    /// When the scrub may read its next chunk.
    pub(crate) scrub_at_ns: u64,
    /// Segments open over all logs.
    pub(crate) open_files: usize,
    /// The step-9 checkpoints are durable: appends are possible.
    pub(crate) started: bool,
    /// A clean stop runs: no more appends.
    pub(crate) stopping: bool,
}

/// One call's view of it all.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) blocks: &'a mut Blocks,
    pub(crate) io: &'a mut IoOut,
    pub(crate) shared: &'a mut Shared,
}

impl Turn<'_> {
    /// An id for a step of the log in `slot`.
    pub(crate) fn id(&mut self, slot: u32, op: LogOp) -> IoId {
        self.shared.ops.issue(Op::Log(slot, op))
    }

    /// Asks the disk.
    pub(crate) fn ask(&mut self, request: IoRequest) {
        self.io.requests.push(request);
    }

    /// Tells an event.
    pub(crate) fn tell(&mut self, event: LogEvent) {
        self.shared.events.push_back(event);
    }

    /// Looks at this log again after `wait_ns`.
    pub(crate) fn retry(&mut self, slot: u32, wait_ns: u64) {
        let at = self.now.mono_ns.saturating_add(wait_ns);
        match self.shared.retry.iter_mut().find(|(waiting, _)| *waiting == slot) {
            Some(row) => row.1 = row.1.min(at),
            None => self.shared.retry.push((slot, at)),
        }
    }

    /// The directory's block.
    pub(crate) fn block(&self) -> u64 {
        u64::from(self.shared.facts.block)
    }

    /// The directory's secret.
    pub(crate) fn secret(&self) -> u32 {
        self.shared.facts.secret
    }
}
