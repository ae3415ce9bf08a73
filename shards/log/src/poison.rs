//! Poison: after a failed write or flush a log writes nothing and acknowledges nothing until restart and recovery (P11–P13).
//! Owner: `Log`; `Logs` carries a failed flush to every log it concerns.
//! Invariant: no later success undoes a failure; what was flushed before it stays readable.
//! Not here: refusals for lack of room (`roll.rs`), failed reads (`cold.rs`), how clients are told (`partition`).

use crate::event::LogEvent;
use crate::io::{Errno, IoOk};
use crate::log::{InFlight, Log, Phase, Roll};
use crate::ops::{LogOp, Op};
use crate::turn::Turn;

/// A flush of the directory has failed: the device's cache is unknown for everything unflushed at this
/// moment, and no later flush will say so (P12). Called before any flushed offset moves.
pub(crate) fn doubt_unflushed(
    logs: &mut [Log],
    op: Op,
    result: &Result<IoOk, Errno>,
    turn: &mut Turn<'_>,
) {
    let cause = match (op, result) {
        (Op::Log(slot, op), Err(errno)) => logs[slot as usize].describe(op, *errno),
        (Op::Checkpoint | Op::Prune, Err(errno)) => format!("checkpoint: {errno}"),
        (_, Ok(_)) => "asked for by another shard".to_owned(),
    };
    for log in logs.iter_mut().filter(|log| log.has_unflushed_writes()) {
        log.poison(format!("a flush failed while it wrote: {cause}"), turn);
    }
}

impl Log {
    /// Writes nothing any more.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// The log stops here: nothing is written, acknowledged or moved until restart (P13).
    pub(crate) fn poison(&mut self, reason: String, turn: &mut Turn<'_>) {
        match &mut self.phase {
            Phase::Live if self.poison.is_none() => {
                turn.shared.counts.poisoned += 1;
                turn.tell(LogEvent::Poisoned(self.key, reason.clone()));
                self.poison = Some(reason);
                self.group = None;
            }
            Phase::Creating(_) => {
                turn.tell(LogEvent::Offline(self.key, reason.clone()));
                self.phase = Phase::Offline(reason);
            }
            Phase::Recovering(recovery) => recovery.fail(reason),
            Phase::Live | Phase::Offline(_) | Phase::Removing(_) | Phase::Gone => {}
        }
    }

    /// Whether bytes or names of this log may stand in the device's cache alone.
    fn has_unflushed_writes(&self) -> bool {
        match &self.phase {
            Phase::Live | Phase::Creating(_) => {
                let growing = self.segments.iter().any(|segment| segment.extending.is_some());
                let rolling = matches!(self.roll, Roll::Preparing | Roll::Adopting | Roll::Syncing);
                self.in_flight.is_some() || growing || rolling
            }
            // The tail of the last life may: recovery read it and was about to flush it.
            Phase::Recovering(recovery) => recovery.has_begun(),
            Phase::Offline(_) | Phase::Removing(_) | Phase::Gone => false,
        }
    }

    /// A failed request, for the operator (P14).
    pub(crate) fn describe(&self, op: LogOp, errno: Errno) -> String {
        let what = match (op, self.in_flight) {
            (LogOp::Group, Some(_)) => self.describe_write(),
            (LogOp::Extend { base, to }, _) => {
                format!("extension of {} to {to} bytes", self.file_name(base))
            }
            (op, _) => format!("{op:?} of {}", self.file_name(self.active_base())),
        };
        format!("{what}: {errno}")
    }

    /// The group in flight.
    pub(crate) fn describe_write(&self) -> String {
        let Some(group) = self.in_flight else { return String::new() };
        let InFlight { start, end, bytes, .. } = group;
        let (file, from, upto) = (self.file_name(end.segment), self.flushed.offset, end.offset);
        format!("write of {bytes} bytes at position {start} of {file}, offsets {from} to {upto}")
    }

    /// Where a segment lies below the log directory.
    fn file_name(&self, base: u64) -> String {
        format!("t/{}/p/{}/{base:020}.seg", self.key.topic_id, self.key.partition)
    }
}
