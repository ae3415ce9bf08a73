//! Requests in flight: which answer belongs to which log and step.
//! Owner: `Logs`.
//! Invariant: an id is given once in a life; a foreign or stale id finds nothing.
//! Not here: what the answers mean.

use crate::io::IoId;

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

/// Slots of requests in flight; the upper bits of an id rise with every request.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    slots: Vec<(u64, Op)>,
    free: Vec<u32>,
    issued: u64,
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
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((NONE, op));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        assert!(slot < 1 << SLOT_BITS, "too many requests in flight");
        self.issued += 1;
        let id = self.issued << SLOT_BITS | u64::from(slot);
        self.slots[slot as usize] = (id, op);
        IoId(id)
    }

    /// What `id` was for, once.
    pub(crate) fn take(&mut self, id: IoId) -> Option<Op> {
        let slot = id.0 & ((1 << SLOT_BITS) - 1);
        let slot = u32::try_from(slot).ok()?;
        let entry = self.slots.get_mut(slot as usize)?;
        if entry.0 != id.0 {
            return None;
        }
        entry.0 = NONE;
        self.free.push(slot);
        Some(entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_and_a_used_slot_gets_another_id() {
        let mut ops = Ops::default();
        let first = ops.issue(Op::Checkpoint);
        assert_eq!(ops.take(first), Some(Op::Checkpoint));
        assert_eq!(ops.take(first), None);
        let second = ops.issue(Op::Prune);
        assert_ne!(first, second);
        assert_eq!(ops.take(first), None);
        assert_eq!(ops.take(IoId(12345)), None);
    }
}
