//! Writes the shard's checkpoints and keeps the newest two generations (reliability.md 3.2): they bound what a start reads.
//! Owner: `Logs`.
//! Invariant: one checkpoint in flight; a generation number is given once; a log learns of one only when it is durable.
//! Not here: the codec (`checkpoint.rs`).

use crate::checkpoint::{self, Entry};
use crate::event::LogEvent;
use crate::io::{Errno, IoOk, IoRequest, SmallFile};
use crate::log::{Checkpointed, Log, Truncation};
use crate::ops::Op;
use crate::turn::Turn;

/// How soon a failed checkpoint is tried again.
const RETRY_NS: u64 = 1_000_000_000;
/// Frame bytes behind the snapshots of all logs of a shard, whose headers a start reads again: above
/// it logs are asked for their snapshot early, those with the most first.
const BEHIND_SNAPSHOTS_MAX: u64 = 512 << 20;
/// Fewer bytes than these are not worth the two syncs of a file of their own.
const EARLY_BYTES_MIN: u64 = 4 << 20;

/// A checkpoint being written: its generation and what it says of each log, by slot.
#[derive(Debug)]
struct Writing {
    generation: u64,
    told: Vec<(u32, Checkpointed, bool)>,
}

/// The shard's checkpoints.
#[derive(Debug)]
pub(crate) struct Keeper {
    next_generation: u64,
    writing: Option<Writing>,
    /// Durable generations of this life, newest first.
    durable: [u64; 2],
    last_ns: u64,
    not_before_ns: u64,
}

impl Keeper {
    /// Generations go on above every one found on disk, of any shard.
    pub(crate) fn new(found: impl Iterator<Item = u64>) -> Keeper {
        let next_generation = found.max().unwrap_or(0) + 1;
        Keeper { next_generation, writing: None, durable: [0; 2], last_ns: 0, not_before_ns: 0 }
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// The newest durable generation of this life.
    pub(crate) fn newest(&self) -> u64 {
        self.durable[0]
    }

    /// When the next one is due at the latest.
    pub(crate) fn due_ns(&self, turn: &Turn<'_>) -> Option<u64> {
        let shared = &turn.shared;
        if self.writing.is_some() || !(shared.checkpoint_dirty || shared.checkpoint_urgent) {
            return None;
        }
        let config = &shared.config;
        let much = shared.flushed_since_checkpoint >= config.upkeep.checkpoint_bytes;
        let interval =
            if shared.checkpoint_urgent || much { 0 } else { config.checkpoint_interval_ns };
        Some((self.last_ns + interval).max(self.not_before_ns))
    }

    /// Writes one when it is due.
    pub(crate) fn plan(&mut self, logs: &[Log], turn: &mut Turn<'_>) {
        if self.due_ns(turn).is_some_and(|due| due <= turn.now.mono_ns) {
            self.write(logs, false, turn);
        }
    }

    /// Writes one now. False: one is in flight, or the last one failed a moment ago.
    pub(crate) fn write(&mut self, logs: &[Log], clean: bool, turn: &mut Turn<'_>) -> bool {
        if self.writing.is_some() || turn.now.mono_ns < self.not_before_ns {
            return false;
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        let mut told = Vec::with_capacity(logs.len());
        let mut entries: Vec<Entry> = Vec::with_capacity(logs.len());
        for log in logs {
            let Some(entry) = log.entry(clean) else { continue };
            let (log_start, segment, bound) = (entry.log_start, entry.end.segment, entry.bound);
            let truncated = matches!(log.truncation, Some(Truncation::Checkpoints(_)));
            told.push((log.slot, Checkpointed { log_start, segment, bound }, truncated));
            entries.push(entry);
        }
        let body = checkpoint::encode(generation, entries.iter());
        let file = SmallFile::Checkpoint { shard: turn.shared.config.shard, generation };
        let id = turn.shared.ops.issue(Op::Checkpoint);
        turn.ask(IoRequest::WriteSmall { id, file, body });
        self.writing = Some(Writing { generation, told });
        self.last_ns = turn.now.mono_ns;
        turn.shared.checkpoint_dirty = false;
        turn.shared.checkpoint_urgent = false;
        turn.shared.flushed_since_checkpoint = 0;
        true
    }

    /// The answer: every log learns what stands in the newest two generations now. True: it is durable.
    pub(crate) fn on_written(
        &mut self,
        result: Result<IoOk, Errno>,
        logs: &mut [Log],
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(writing) = self.writing.take() else { return false };
        if let Err(errno) = result {
            if turn.shared.checkpoint_failure.replace(errno).is_none() {
                let text = format!("checkpoint {}: {errno}; tried again", writing.generation);
                turn.tell(LogEvent::Warning(text));
            }
            self.not_before_ns = turn.now.mono_ns + RETRY_NS;
            turn.shared.checkpoint_dirty = true;
            return false;
        }
        turn.shared.checkpoint_failure = None;
        for log in logs.iter_mut() {
            log.checkpointed = [None, log.checkpointed[0]];
        }
        for (slot, told, truncated) in writing.told {
            let log = &mut logs[slot as usize];
            log.checkpointed[0] = Some(told);
            // The older generation must hold it too, before a group may be so large.
            turn.shared.checkpoint_urgent |= told.bound > log.bound_durable();
            if truncated {
                log.truncation_checkpointed();
            }
        }
        let old = self.durable[1];
        self.durable = [writing.generation, self.durable[0]];
        if old > 0 {
            prune(turn.shared.config.shard, old, turn);
        }
        ask_early(logs, turn);
        true
    }
}

/// With every checkpoint: what a start has to read behind snapshots stays bounded over all logs.
fn ask_early(logs: &mut [Log], turn: &mut Turn<'_>) {
    let behind = |log: &Log| if log.snapshot.due { 0 } else { log.snapshot.bytes_since };
    let mut sum: u64 = logs.iter().map(behind).sum();
    if sum <= BEHIND_SNAPSHOTS_MAX {
        return;
    }
    let able = |log: &&mut Log| log.is_live() && !log.is_poisoned();
    let mut most: Vec<&mut Log> =
        logs.iter_mut().filter(able).filter(|log| behind(log) >= EARLY_BYTES_MIN).collect();
    most.sort_by_key(|log| std::cmp::Reverse(log.snapshot.bytes_since));
    for log in most {
        if sum <= BEHIND_SNAPSHOTS_MAX {
            return;
        }
        sum -= log.snapshot.bytes_since;
        log.snapshot.due = true;
        turn.retry(log.slot, 0);
    }
}

/// Removes a checkpoint file; nobody waits for it.
pub(crate) fn prune(shard: u32, generation: u64, turn: &mut Turn<'_>) {
    let id = turn.shared.ops.issue(Op::Prune);
    turn.ask(IoRequest::RemoveSmall { id, file: SmallFile::Checkpoint { shard, generation } });
}
