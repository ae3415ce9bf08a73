//! Requests in flight: which answer belongs to which log and step.
//! Owner: `Logs`.
//! Invariant: an id is given once in a life; a foreign or stale id finds nothing.
//! Not here: what the answers mean.

use crate::io::{EIO, Errno, IoDone, IoId, IoOk};

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A step of one log, by its slot.
    Log(u32, LogOp),
    /// A checkpoint file.
    Checkpoint,
    /// Removal of an old checkpoint file: nobody waits.
    Prune,
}

/// A step of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogOp {
    /// The write of a group.
    Group,
    /// A read into a window: 0 is recovery's, else a cold read's ticket.
    Chunk {
        reader: u64,
        base: u64,
        index: u32,
        piece: Option<u16>,
    },
    /// Opening of a segment.
    Open(u64),
    Close,
    Extend {
        base: u64,
        to: u64,
    },
    Prepare,
    Adopt,
    SyncNew,
    Trim(u64),
    Unlink,
    SyncUnlinked,
    SetAside,
    SyncAside,
    Snapshot,
    Quarantine,
    PartitionMeta,
    List,
    ReadSnapshot,
    ReadQuarantine,
    /// Recovery's flush of a segment.
    Flush,
    /// Recovery's sync of the directory.
    SyncRecovered,
    RemoveLog,
    SyncRemoved,
}

impl Op {
    /// Whether its answer says that something is durable, and is lost with the first flush that fails
    /// meanwhile. Not the writes of a log's own segments: those poison their log (P12).
    fn vouches(self) -> bool {
        match self {
            Op::Checkpoint => true,
            Op::Log(_, op) => matches!(
                op,
                LogOp::Snapshot
                    | LogOp::Quarantine
                    | LogOp::PartitionMeta
                    | LogOp::SyncUnlinked
                    | LogOp::SyncAside
                    | LogOp::SyncRemoved
            ),
            Op::Prune => false,
        }
    }
}

/// A request in flight.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    op: Op,
    /// Failed flushes known when it was asked.
    flush_failures: u64,
}

/// Slots of requests in flight; the upper bits of an id rise with every request.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    slots: Vec<Asked>,
    free: Vec<u32>,
    issued: u64,
    /// Flushes of the log directory that have failed, as far as an answer has told.
    flush_failures: u64,
}

/// Requests of one shard in flight at most: every log has a handful, recovery runs a few logs at a time.
const SLOT_BITS: u32 = 22;
/// No request.
const NONE: u64 = u64::MAX;

impl Ops {
    /// A new id for `op`.
    ///
    /// # Panics
    /// With 4 million requests in flight.
    pub(crate) fn issue(&mut self, op: Op) -> IoId {
        let flush_failures = self.flush_failures;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Asked { id: NONE, op, flush_failures });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        assert!(slot < 1 << SLOT_BITS, "too many requests in flight");
        self.issued += 1;
        let id = self.issued << SLOT_BITS | u64::from(slot);
        self.slots[slot as usize] = Asked { id, op, flush_failures };
        IoId(id)
    }

    /// What an answer was for, once, and its result.
    pub(crate) fn take(&mut self, done: IoDone) -> Option<(Op, Result<IoOk, Errno>)> {
        let slot = done.id.0 & ((1 << SLOT_BITS) - 1);
        let slot = u32::try_from(slot).ok()?;
        let asked = self.slots.get_mut(slot as usize)?;
        if asked.id != done.id.0 {
            return None;
        }
        asked.id = NONE;
        self.free.push(slot);
        // Its own flush may have succeeded after another one had lost its bytes.
        let lost = asked.op.vouches() && done.flush_failures > asked.flush_failures;
        let result = if lost && done.result.is_ok() { Err(EIO) } else { done.result };
        Some((asked.op, result))
    }

    /// Takes in how many flushes have failed. True: more than were known.
    pub(crate) fn hear(&mut self, flush_failures: u64) -> bool {
        let more = flush_failures > self.flush_failures;
        self.flush_failures = self.flush_failures.max(flush_failures);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(id: IoId, flush_failures: u64) -> IoDone {
        IoDone { id, result: Ok(IoOk::Done), flush_failures }
    }

    fn op(taken: Option<(Op, Result<IoOk, Errno>)>) -> Option<Op> {
        taken.map(|(op, _)| op)
    }

    #[test]
    fn an_answer_is_taken_once_and_a_used_slot_gets_another_id() {
        let mut ops = Ops::default();
        let first = ops.issue(Op::Checkpoint);
        assert_eq!(op(ops.take(done(first, 0))), Some(Op::Checkpoint));
        assert_eq!(op(ops.take(done(first, 0))), None);
        let second = ops.issue(Op::Prune);
        assert_ne!(first, second);
        assert_eq!(op(ops.take(done(first, 0))), None);
        assert_eq!(op(ops.take(done(IoId(12345), 0))), None);
    }

    #[test]
    fn p12_what_was_to_be_durable_is_doubted_when_another_flush_failed_meanwhile() {
        let mut ops = Ops::default();
        let before = ops.issue(Op::Checkpoint);
        let name = ops.issue(Op::Log(0, LogOp::Unlink));
        assert!(ops.hear(1) && !ops.hear(1) && !ops.hear(0));
        let after = ops.issue(Op::Checkpoint);
        assert_eq!(ops.take(done(before, 1)), Some((Op::Checkpoint, Err(EIO))));
        assert_eq!(ops.take(done(name, 1)), Some((Op::Log(0, LogOp::Unlink), Ok(IoOk::Done))));
        assert_eq!(ops.take(done(after, 1)), Some((Op::Checkpoint, Ok(IoOk::Done))));
    }
}
