//! Group calls that came while their coordinator was made or replayed.
//! Owner: `Shard`.
//! Invariant: a held call is served, refused at its deadline, or forgotten with its connection.
//! Not here: whether a coordinator can serve (`coordinator.rs`).

use crate::request::{GroupRequest, RequestId};
use std::collections::VecDeque;

/// A client that is refused here waits a second or more before it asks again (librdkafka 3 s), while
/// making or replaying a coordinator's log takes milliseconds: so the call waits instead.
const HOLD_NS: u64 = 2_000_000_000;
/// Calls held at most; the next is refused as Kafka would.
const HELD_MAX: usize = 1024;

/// One held call.
pub(crate) struct HeldCall {
    pub(crate) id: RequestId,
    pub(crate) call: GroupRequest,
    pub(crate) until_ns: u64,
}

/// All held calls, in the order they came.
#[derive(Default)]
pub(crate) struct HeldCalls {
    rows: VecDeque<HeldCall>,
}

impl HeldCalls {
    /// Holds a call, unless there are too many: then it comes back.
    pub(crate) fn hold(
        &mut self,
        now_ns: u64,
        id: RequestId,
        call: GroupRequest,
    ) -> Option<GroupRequest> {
        if self.rows.len() >= HELD_MAX {
            return Some(call);
        }
        self.rows.push_back(HeldCall { id, call, until_ns: now_ns.saturating_add(HOLD_NS) });
        None
    }

    /// A held call again, its time kept.
    pub(crate) fn put_back(&mut self, held: HeldCall) {
        self.rows.push_back(held);
    }

    /// All of them, to be looked at once more.
    pub(crate) fn take(&mut self) -> VecDeque<HeldCall> {
        std::mem::take(&mut self.rows)
    }

    /// The connection is gone.
    pub(crate) fn gone(&mut self, id: RequestId) {
        self.rows.retain(|row| row.id != id);
    }

    /// Rows now.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// When the first must be refused.
    pub(crate) fn wake_at_ns(&self) -> Option<u64> {
        self.rows.iter().map(|row| row.until_ns).min()
    }
}
