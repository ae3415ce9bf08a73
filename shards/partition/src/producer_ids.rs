//! Producer ids: given out from a block that the control plane reserved durably (kafka.md I7, I8).
//! Owner: `Shard`.
//! Invariant: an id is given out once, and only from a block reserved before.
//! Not here: reserving (`src/control/meta/`), sequences (`producer_state.rs`).

use crate::request::{MetaAnswer, MetaOp, Reply, RequestId};
use crate::turn::{OWN_PRODUCER_IDS, Turn};
use ringway_wire::error_code::ErrorCode;
use std::collections::VecDeque;

/// Ids asked for at once: a lost block costs nothing, 2^62 ids last.
const BLOCK: u32 = 1000;
/// The next block is asked for when fewer remain, so that nobody waits for it.
const LOW: i64 = 100;
/// Last usable epoch of an id: Kafka keeps 32,767 for fencing.
const EPOCH_LAST: i16 = i16::MAX - 1;

/// This shard's ids.
#[derive(Default)]
pub(crate) struct ProducerIds {
    next: i64,
    end: i64,
    /// Kept aside until the block in use is empty.
    spare: Option<(i64, i64)>,
    asking: bool,
    waiting: VecDeque<RequestId>,
}

impl ProducerIds {
    /// Requests waiting for a block.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes an InitProducerId without transactional id.
    pub(crate) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        id: RequestId,
        producer_id: i64,
        epoch: i16,
    ) {
        // KIP-360: the producer lost track of its sequences; the next epoch starts at 0. Without a
        // transactional id nobody else uses the id, so its own word for the epoch is enough, and a
        // repeated request gets the same answer.
        if producer_id >= 0 && (0..EPOCH_LAST).contains(&epoch) {
            return turn.reply(id, Reply::ProducerId { producer_id, epoch: epoch + 1 });
        }
        if self.waiting.len() >= turn.ground.config.waiting_rows_max {
            let message = format!("{} producers wait for ids already", self.waiting.len());
            return turn.refuse(id, ErrorCode::CoordinatorLoadInProgress, message);
        }
        self.waiting.push_back(id);
        self.serve(turn);
    }

    fn serve(&mut self, turn: &mut Turn<'_>) {
        while !self.waiting.is_empty() {
            if self.next == self.end {
                match self.spare.take() {
                    Some((next, end)) => (self.next, self.end) = (next, end),
                    None => break,
                }
            }
            let Some(id) = self.waiting.pop_front() else { break };
            let producer_id = self.next;
            self.next += 1;
            turn.reply(id, Reply::ProducerId { producer_id, epoch: 0 });
        }
        if !self.asking && self.spare.is_none() && self.end - self.next < LOW {
            self.asking = true;
            turn.ask_control(OWN_PRODUCER_IDS, MetaOp::ReserveProducerIds { count: BLOCK });
        }
    }

    /// The control plane answered.
    pub(crate) fn answered(&mut self, turn: &mut Turn<'_>, answer: MetaAnswer) {
        self.asking = false;
        match answer {
            MetaAnswer::ProducerIds { first, count } => {
                assert!(first >= self.end, "producer ids {first}… were reserved before");
                self.spare = Some((first, first + i64::from(count)));
                self.serve(turn);
            }
            MetaAnswer::Failed { message, .. } => {
                // Retriable, whatever went wrong there (I9).
                for id in std::mem::take(&mut self.waiting) {
                    turn.refuse(id, ErrorCode::CoordinatorLoadInProgress, message.clone());
                }
            }
            MetaAnswer::Created { .. } | MetaAnswer::Altered | MetaAnswer::Deleted => {
                unreachable!("a reservation is answered with ids")
            }
        }
    }
}
