//! Between shards, and between shards and the control plane: bounded queues and how a sleeper is woken.
//! Owner: each end belongs to one thread.
//! Invariant: what was pushed before a sleeper looked, or whose pusher saw it asleep, wakes it.
//! Not here: what messages mean (`partition`, `boot.rs`), the ring operations that wake (`shard_loop.rs`).

use crate::doorbell::Doorbell;
use crate::ring::EventFd;
use ringway_doors::session::DoorConfig;
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{MeshMessage, MetaAnswer, MetaOp, Notice, RequestId};
use ringway_wire::ids::ShardId;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Messages one shard may have queued for one other.
pub const MESH_CAPACITY: usize = 1024;
/// Messages queued between the control plane and one shard, each way.
pub const CONTROL_CAPACITY: usize = 1024;

/// What the control plane tells a shard.
#[derive(Debug)]
pub enum ToShard {
    /// New metadata.
    Catalog(Arc<Catalog>),
    /// New settings of the doors.
    Doors(Arc<DoorConfig>),
    /// The answer to [`FromShard::Meta`].
    Meta(RequestId, MetaAnswer),
    /// Every shard has told [`Notice::Recovered`].
    PeersRecovered,
    /// Accept connections from now on; answered by [`FromShard::DoorsOpen`].
    OpenDoors,
    /// Drain, flush, checkpoint, end; answered by [`Notice::Stopped`], then [`FromShard::Stopped`].
    Stop,
}

/// What a shard tells the control plane.
#[derive(Debug)]
pub enum FromShard {
    /// A change of metadata, to be answered.
    Meta(RequestId, MetaOp),
    /// For the operator and the start sequence.
    Notice(Notice),
    /// The shard accepts connections.
    DoorsOpen,
    /// Nothing is in flight any more; `run` returns next.
    Stopped,
    /// The shard ended by an error; `run` returns it next.
    Failed(String),
}

/// One shard's ends towards the other shards.
pub struct MeshEnds {
    /// This shard.
    pub shard: ShardId,
    outgoing: Vec<Option<Producer<MeshMessage>>>,
    incoming: Vec<Option<Consumer<MeshMessage>>>,
    /// Messages that found their queue full, in order. Receiving pauses while there are any, so what
    /// connections may have in flight bounds it.
    waiting: Vec<VecDeque<MeshMessage>>,
    waiting_count: usize,
    rung: Vec<bool>,
    bells: Arc<[Doorbell]>,
}

impl MeshEnds {
    /// Queues a message for `to`; it goes out at once or by [`MeshEnds::retry`], never lost.
    ///
    /// # Panics
    /// When `to` is no other shard.
    pub fn send(&mut self, to: ShardId, message: MeshMessage) {
        let index = to as usize;
        let queue = self.outgoing[index].as_mut().expect("a shard sends to other shards only");
        self.rung[index] = true;
        if self.waiting[index].is_empty() {
            if let Err(rtrb::PushError::Full(message)) = queue.push(message) {
                self.waiting[index].push_back(message);
                self.waiting_count += 1;
            }
        } else {
            self.waiting[index].push_back(message);
            self.waiting_count += 1;
        }
    }

    /// Moves waiting messages on as far as there is room now.
    pub fn retry(&mut self) {
        if self.waiting_count == 0 {
            return;
        }
        for (index, waiting) in self.waiting.iter_mut().enumerate() {
            let Some(queue) = self.outgoing[index].as_mut() else { continue };
            while let Some(message) = waiting.pop_front() {
                if let Err(rtrb::PushError::Full(message)) = queue.push(message) {
                    waiting.push_front(message);
                    break;
                }
                self.waiting_count -= 1;
                self.rung[index] = true;
            }
        }
    }

    /// Whether messages wait for room: then no connection is read from.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.waiting_count > 0
    }

    /// The next message from any shard; every shard gets its turn.
    pub fn receive(&mut self) -> Option<(ShardId, MeshMessage)> {
        for (index, queue) in self.incoming.iter_mut().enumerate() {
            let Some(queue) = queue else { continue };
            if let Ok(message) = queue.pop() {
                return Some((u32::try_from(index).unwrap_or(0), message));
            }
        }
        None
    }

    /// Whether anything is there to receive.
    #[must_use]
    pub fn has_incoming(&self) -> bool {
        self.incoming.iter().flatten().any(|queue| !queue.is_empty())
    }

    /// Calls `wake` with the ring of every shard that was sent something and sleeps.
    pub fn ring_sleepers(&mut self, mut wake: impl FnMut(i32)) {
        for (index, rung) in self.rung.iter_mut().enumerate() {
            if std::mem::take(rung)
                && self.bells[index].must_ring()
                && let Some(fd) = self.bells[index].ring_fd()
            {
                wake(fd);
            }
        }
    }

    /// This shard's own bell.
    #[must_use]
    pub fn bell(&self) -> &Doorbell {
        &self.bells[self.shard as usize]
    }
}

/// One shard's ends towards the control plane.
pub struct ShardControlEnds {
    incoming: Consumer<ToShard>,
    outgoing: Producer<FromShard>,
    waiting: VecDeque<FromShard>,
    wakes_shard: Arc<EventFd>,
    wakes_control: Arc<EventFd>,
}

impl ShardControlEnds {
    /// Next word of the control plane.
    pub fn receive(&mut self) -> Option<ToShard> {
        self.incoming.pop().ok()
    }

    /// Tells the control plane. What does not fit waits for [`ShardControlEnds::retry`]; waiting
    /// `MetaOp`s are bounded by the requests in flight.
    pub fn send(&mut self, word: FromShard) {
        self.waiting.push_back(word);
        self.retry();
    }

    /// Sends on what waits.
    pub fn retry(&mut self) {
        let mut sent = false;
        while let Some(word) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(word)) = self.outgoing.push(word) {
                self.waiting.push_front(word);
                break;
            }
            sent = true;
        }
        if sent {
            self.wakes_control.signal();
        }
    }

    /// Whether words wait for room.
    #[must_use]
    pub fn waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Read by the shard's ring.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wakes_shard.as_fd()
    }
}

/// The control plane's ends towards all shards.
pub struct ControlEnds {
    to: Vec<(Producer<ToShard>, Arc<EventFd>)>,
    from: Vec<Consumer<FromShard>>,
    event: Arc<EventFd>,
}

impl ControlEnds {
    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.to.len()).unwrap_or(u32::MAX)
    }

    /// Tells a shard something.
    ///
    /// # Errors
    /// Gives the word back when [`CONTROL_CAPACITY`] words wait already (transient).
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn send(&mut self, shard: ShardId, word: ToShard) -> Result<(), ToShard> {
        let (queue, event) = &mut self.to[shard as usize];
        queue.push(word).map_err(|rtrb::PushError::Full(word)| word)?;
        event.signal();
        Ok(())
    }

    /// Next word of any shard.
    pub fn try_recv(&mut self) -> Option<(ShardId, FromShard)> {
        self.from.iter_mut().enumerate().find_map(|(index, queue)| {
            queue.pop().ok().map(|word| (u32::try_from(index).unwrap_or(0), word))
        })
    }

    /// Becomes readable when a shard has said something. After it did: [`ControlEnds::clear_event`], then
    /// [`ControlEnds::try_recv`] until `None`, then await again.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// The same descriptor to keep, for an async wait that borrows nothing.
    #[must_use]
    pub fn event(&self) -> Arc<EventFd> {
        Arc::clone(&self.event)
    }

    /// Makes the event descriptor unreadable until the next word.
    pub fn clear_event(&self) {
        self.event.clear();
    }
}

/// Everything one shard is given to talk with.
pub struct ShardEnds {
    /// Towards the other shards.
    pub mesh: MeshEnds,
    /// Towards the control plane.
    pub control: ShardControlEnds,
}

/// Links `shards` shards with each other and with the control plane.
///
/// # Errors
/// When the process may not open an eventfd.
pub fn links(shards: u32) -> std::io::Result<(Vec<ShardEnds>, ControlEnds)> {
    links_of(shards, MESH_CAPACITY, CONTROL_CAPACITY)
}

/// The same with queues of other sizes (`tests/models`: small ones, so that every schedule fills them).
pub(crate) fn links_of(
    shards: u32,
    mesh_capacity: usize,
    control_capacity: usize,
) -> std::io::Result<(Vec<ShardEnds>, ControlEnds)> {
    let count = shards as usize;
    let bells: Arc<[Doorbell]> = (0..count).map(|_| Doorbell::default()).collect();
    let event = Arc::new(EventFd::new()?);
    let mut control = ControlEnds { to: Vec::new(), from: Vec::new(), event };
    let mut ends: Vec<ShardEnds> = Vec::with_capacity(count);
    for shard in 0..shards {
        let wakes_shard = Arc::new(EventFd::for_ring()?);
        let (to_shard, incoming) = RingBuffer::new(control_capacity);
        let (outgoing, from_shard) = RingBuffer::new(control_capacity);
        control.to.push((to_shard, Arc::clone(&wakes_shard)));
        control.from.push(from_shard);
        let mesh = MeshEnds {
            shard,
            outgoing: (0..count).map(|_| None).collect(),
            incoming: (0..count).map(|_| None).collect(),
            waiting: (0..count).map(|_| VecDeque::new()).collect(),
            waiting_count: 0,
            rung: vec![false; count],
            bells: Arc::clone(&bells),
        };
        let wakes_control = Arc::clone(&control.event);
        let waiting = VecDeque::new();
        let control = ShardControlEnds { incoming, outgoing, waiting, wakes_shard, wakes_control };
        ends.push(ShardEnds { mesh, control });
    }
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(mesh_capacity);
            ends[from].mesh.outgoing[to] = Some(producer);
            ends[to].mesh.incoming[from] = Some(consumer);
        }
    }
    Ok((ends, control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forget(tag: u64) -> MeshMessage {
        MeshMessage::Forget { tag }
    }

    #[test]
    fn a_full_queue_keeps_order_and_loses_nothing() {
        let (mut ends, _control) = links(2).expect("links");
        let mut second = ends.pop().expect("shard 1");
        let mut first = ends.pop().expect("shard 0");
        let total = MESH_CAPACITY as u64 + 10;
        for tag in 0..total {
            first.mesh.send(1, forget(tag));
        }
        assert!(first.mesh.congested());
        for expected in 0..total {
            let (from, message) = second.mesh.receive().expect("message");
            assert_eq!(from, 0);
            assert!(matches!(message, MeshMessage::Forget { tag } if tag == expected));
            first.mesh.retry();
        }
        assert!(!first.mesh.congested() && second.mesh.receive().is_none());
    }

    #[test]
    fn only_a_sleeper_is_rung_and_only_once() {
        let (mut ends, _control) = links(2).expect("links");
        let second = ends.pop().expect("shard 1");
        let mut first = ends.pop().expect("shard 0");
        second.mesh.bell().set_ring_fd(77);
        let mut rung = Vec::new();
        first.mesh.send(1, forget(0));
        first.mesh.ring_sleepers(|fd| rung.push(fd));
        assert!(rung.is_empty(), "awake");
        second.mesh.bell().about_to_sleep();
        assert!(second.mesh.has_incoming());
        first.mesh.send(1, forget(1));
        first.mesh.ring_sleepers(|fd| rung.push(fd));
        first.mesh.send(1, forget(2));
        first.mesh.ring_sleepers(|fd| rung.push(fd));
        assert_eq!(rung, [77]);
    }

    #[test]
    fn control_words_cross_both_ways() {
        let (mut ends, mut control) = links(1).expect("links");
        let mut shard = ends.pop().expect("shard 0");
        control.send(0, ToShard::Stop).expect("room");
        assert!(matches!(shard.control.receive(), Some(ToShard::Stop)));
        shard.control.send(FromShard::Stopped);
        control.clear_event();
        assert!(matches!(control.try_recv(), Some((0, FromShard::Stopped))));
        assert!(control.try_recv().is_none());
    }
}
