//! What is going to happen, in order of (virtual ns, sequence number).
//! Owner: the node.
//! Invariant: two events never tie; the order of equal times is the order of planning.
//! Not here: what an event does (`node.rs`).

use ringway_partition::catalog::Catalog;
use ringway_partition::request::{JobResult, MeshMessage, MetaAnswer, RequestId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who asked the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The start of the process.
    Boot,
    /// A shard.
    Shard(u32),
}

/// One thing to come.
#[derive(Debug)]
pub enum Event {
    /// A disk request is due.
    Disk(Asker, u64),
    /// Bytes arrive at the server.
    Up(u32),
    /// Bytes arrive at the client.
    Down(u32),
    /// A shard's turn ends.
    TurnEnd(u32),
    /// A shard asked to be woken.
    Wake(u32),
    /// A message crosses the mesh.
    Mesh(u32, u32, MeshMessage),
    /// The control plane answers.
    Meta(u32, RequestId, MetaAnswer),
    /// A catalog reaches a shard.
    Catalog(u32, Arc<Catalog>),
    /// A job ended.
    Job(u32, u64, JobResult),
    /// A client wants to act.
    Client(usize),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    planned: u64,
}

impl Queue {
    /// Plans an event.
    pub fn plan(&mut self, at_ns: u64, event: Event) {
        self.planned += 1;
        self.events.insert((at_ns, self.planned), event);
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    /// Time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Nothing of it happens.
    pub fn clear(&mut self) {
        self.events.clear();
    }
}
