#![expect(unsafe_code, reason = "hands the kernel pointers into blocks and send buffers")]
//! Connections: receives and sends on the shard's ring.
//! Owner: the shard loop.
//! Invariant: at most one receive and one send in flight per connection; it goes when both are done.
//! Not here: what bytes mean (`doors`), binding (`listen.rs`), whether one more may come in (`accept.rs`).

use crate::accept::Acceptor;
use crate::connection::{Connection, Outbox, Outgoing, Receiving};
use crate::counters::RingCounts;
use crate::id_hash::IdHash;
pub use crate::listen::{BIND_WAIT, ListenerSeed, bind_own, bind_shared};
use crate::ring::{BufferRing, Completion, Kind, RECEIVE_GROUP, Ring, tag};
use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use ringway_doors::session::{DoorOut, ReceiveInto, Session};
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::Now;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Receive buffers lent to the kernel at a time.
const BUFFERS: u16 = 64;
/// At least this many pooled blocks per buffer lent, so that receiving cannot eat the pool.
const BLOCKS_PER_BUFFER: usize = 4;
/// A paused receiver is looked at again after this, should nothing else happen.
const PAUSE_NS: u64 = 1_000_000;
/// Connections that do not take their replies are looked at this often.
const SLOW_NS: u64 = 1_000_000_000;
/// Received at once into a large block: progress is seen at least this often.
const LARGE_RECEIVE_BYTES: u32 = 1 << 20;
/// A send that takes longer is given up, and its connection with it (L8).
const SEND_STALL_NS: u64 = 30_000_000_000;
/// Connection numbers with this bit are the shard's own.
const OWN_CONNECTIONS: u32 = 1 << 31;

/// What a completion means for the shard.
pub(crate) enum Arrived {
    /// Bytes in a block, for the session of connection `slot`.
    Bytes { slot: u32, data: Slice },
    /// Bytes in the session's large block.
    Large { slot: u32, bytes: u32 },
    /// A new connection.
    Connection { slot: u32 },
    /// Replies have left, and requests of the session wait for that.
    Room { slot: u32 },
    /// Nothing.
    Nothing,
}

/// All connections of a shard.
pub(crate) struct Net {
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32, IdHash>,
    next_id: u32,
    acceptor: Acceptor,
    reading: bool,
    buffers: BufferRing,
    buffers_max: usize,
    dirty: Vec<u32>,
    /// Cannot be read from now: no memory, or the session or the mesh is full.
    paused: Vec<u32>,
    /// Cannot be read from before they have taken what they asked for.
    slow: Vec<u32>,
    ended: Vec<u32>,
    deadlines: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Net {
    /// No connection yet, not accepting.
    pub(crate) fn new(
        listeners: Vec<ListenerSeed>,
        connections_max: usize,
        ring: &Ring,
        blocks: &Blocks,
    ) -> std::io::Result<Net> {
        let buffers_max = (blocks.pooled_count() / BLOCKS_PER_BUFFER).clamp(1, BUFFERS.into());
        Ok(Net {
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::default(),
            next_id: 0,
            acceptor: Acceptor::new(listeners, connections_max),
            reading: true,
            buffers: BufferRing::new(ring, BUFFERS)?,
            buffers_max,
            dirty: Vec::new(),
            paused: Vec::new(),
            slow: Vec::new(),
            ended: Vec::new(),
            deadlines: BinaryHeap::new(),
        })
    }

    /// Starts accepting.
    pub(crate) fn open(&mut self) {
        self.acceptor.start();
    }

    /// Stops accepting and reading; what is queued still goes out.
    pub(crate) fn stop_reading(&mut self, ring: &mut Ring) {
        self.acceptor.stop(ring);
        self.reading = false;
        for (slot, connection) in (0u32..).zip(&self.slots) {
            if connection.as_ref().is_some_and(|one| one.receiving != Receiving::Idle) {
                ring.cancel(tag(Kind::Receive, slot));
            }
        }
    }

    /// Ends every connection, sent or not.
    pub(crate) fn end_all(&mut self) {
        let live = (0u32..).zip(&self.slots).filter(|(_, one)| one.is_some());
        let live: Vec<u32> = live.map(|(slot, _)| slot).collect();
        for slot in live {
            self.end(slot);
        }
    }

    /// Whether all that was queued is sent.
    pub(crate) fn all_sent(&self) -> bool {
        self.slots.iter().flatten().all(|one| one.ended || one.outbox.bytes() == 0)
    }

    /// Connections there are.
    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The slot of a connection, unless it is gone.
    pub(crate) fn slot_of(&self, id: u32) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The session in a slot, unless it ended.
    pub(crate) fn session(&mut self, slot: u32) -> Option<&mut Session> {
        let connection = self.slots.get_mut(slot as usize)?.as_mut()?;
        (!connection.ended).then_some(&mut connection.session)
    }

    /// Queues what a session wants sent, and takes in what else changed about it.
    pub(crate) fn took_turn(&mut self, slot: u32, out: &mut DoorOut, blocks: &mut Blocks) {
        let Some(connection) = self.slots[slot as usize].as_mut() else { return };
        connection.outbox.queue(out, blocks);
        connection.session.set_unsent(connection.outbox.bytes());
        if out.close.take().is_some() {
            connection.closing = true;
        }
        if let Some(at) = connection.session.wake_at_ns()
            && connection.wake_at_ns.is_none_or(|planned| at < planned)
        {
            connection.wake_at_ns = Some(at);
            self.deadlines.push(Reverse((at, slot, connection.id)));
        }
        self.mark(slot);
    }

    /// A connection whose deadline has come.
    pub(crate) fn next_due(&mut self, now_ns: u64) -> Option<u32> {
        while let Some(Reverse((at, slot, id))) = self.deadlines.peek().copied() {
            if at > now_ns {
                return None;
            }
            self.deadlines.pop();
            let Some(connection) = self.slots[slot as usize].as_mut() else { continue };
            if connection.id != id || connection.wake_at_ns != Some(at) {
                continue;
            }
            connection.wake_at_ns = None;
            // Deadlines move with every frame; only those that really came wake the session.
            match connection.session.wake_at_ns() {
                Some(later) if later > now_ns => {
                    connection.wake_at_ns = Some(later);
                    self.deadlines.push(Reverse((later, slot, id)));
                }
                Some(_) => return Some(slot),
                None => {}
            }
        }
        None
    }

    /// When the loop should wake though nothing completes.
    pub(crate) fn wake_at_ns(&self, now_ns: u64) -> Option<u64> {
        let deadline = self.deadlines.peek().map(|Reverse((at, _, _))| *at);
        let paused = (!self.paused.is_empty()).then_some(now_ns + PAUSE_NS);
        let slow = (!self.slow.is_empty()).then_some(now_ns + SLOW_NS);
        let accept = self.acceptor.wake_at_ns(self.count());
        deadline.into_iter().chain(paused).chain(slow).chain(accept).min()
    }

    /// A completion of ours.
    pub(crate) fn completed(
        &mut self,
        completion: &Completion,
        now: Now,
        blocks: &mut Blocks,
        counts: &mut RingCounts,
    ) -> Arrived {
        match completion.kind {
            Kind::Accept => self.accepted(completion, now, counts),
            Kind::Receive => self.received(completion, blocks, counts),
            _ => self.sent(completion, blocks, counts),
        }
    }

    fn accepted(&mut self, completion: &Completion, now: Now, counts: &mut RingCounts) -> Arrived {
        let open = self.count();
        let dialects = self.acceptor.accepted(completion, now.mono_ns, open, counts);
        let Some(dialects) = dialects else { return Arrived::Nothing };
        // SAFETY: the kernel just opened it for us; nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
        if !self.acceptor.has_room(open) {
            counts.connections_refused += 1;
            return Arrived::Nothing;
        }
        let peer = socket2::SockRef::from(&fd).peer_addr().ok();
        let peer = peer.and_then(|address| address.as_socket());
        let peer = peer.map_or_else(String::new, |address| address.ip().to_string());
        let id = self.free_id();
        let session = Session::new(id, peer, dialects, now);
        // SAFETY: all-zero bytes are a valid `msghdr`: null pointers and zero lengths.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.slots[slot as usize] = Some(Box::new(Connection {
            id,
            fd,
            session,
            receiving: Receiving::Idle,
            outbox: Outbox::default(),
            message,
            closing: false,
            ended: false,
            dirty: false,
            wake_at_ns: None,
            send_started_ns: 0,
        }));
        self.by_id.insert(id, slot);
        counts.connections_accepted += 1;
        Arrived::Connection { slot }
    }

    /// Two thousand million numbers; one still in use after going round is stepped over.
    fn free_id(&mut self) -> u32 {
        loop {
            self.next_id = (self.next_id + 1) % OWN_CONNECTIONS;
            if !self.by_id.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    fn received(
        &mut self,
        completion: &Completion,
        blocks: &mut Blocks,
        counts: &mut RingCounts,
    ) -> Arrived {
        let slot = completion.index;
        let block = completion.buffer.map(|buffer| self.buffers.taken(buffer));
        let connection =
            self.slots[slot as usize].as_mut().expect("a receive keeps its connection");
        let was = std::mem::replace(&mut connection.receiving, Receiving::Idle);
        let bytes = completion.result.max(0).unsigned_abs();
        let data = block.map(|block| {
            let data = blocks.freeze(block, 0, bytes);
            blocks.release_block(block);
            data
        });
        if bytes > 0 && !connection.ended && !connection.closing {
            counts.receives += 1;
            counts.bytes_in += u64::from(bytes);
            match data {
                Some(data) => return Arrived::Bytes { slot, data },
                None if was == Receiving::Large => return Arrived::Large { slot, bytes },
                None => {}
            }
        }
        if let Some(data) = data {
            blocks.release(data);
        }
        let again = matches!(
            -completion.result,
            libc::ENOBUFS | libc::EINTR | libc::EAGAIN | libc::ECANCELED
        );
        if again {
            self.mark(slot);
        } else {
            self.end(slot);
        }
        Arrived::Nothing
    }

    fn sent(
        &mut self,
        completion: &Completion,
        blocks: &mut Blocks,
        counts: &mut RingCounts,
    ) -> Arrived {
        let slot = completion.index;
        let connection = self.slots[slot as usize].as_mut().expect("a send keeps its connection");
        let bytes = completion.result.max(0).unsigned_abs();
        counts.bytes_by_reference += connection.outbox.sent(bytes as usize, blocks) as u64;
        counts.sends += 1;
        counts.bytes_out += u64::from(bytes);
        let again = matches!(-completion.result, libc::EINTR | libc::EAGAIN);
        if completion.result <= 0 && !again {
            self.end(slot);
            return Arrived::Nothing;
        }
        let room = connection.session.set_unsent(connection.outbox.bytes());
        self.mark(slot);
        if room { Arrived::Room { slot } } else { Arrived::Nothing }
    }

    /// Shuts a connection down; it goes once nothing of it is in flight.
    pub(crate) fn end(&mut self, slot: u32) {
        let Some(connection) = self.slots[slot as usize].as_mut() else { return };
        if !connection.ended {
            connection.ended = true;
            // Fails when the peer was faster; makes what is in flight complete.
            drop(socket2::SockRef::from(&connection.fd).shutdown(Shutdown::Both));
        }
        self.mark(slot);
    }

    /// Removes a connection of which nothing is in flight any more. The caller ends its session.
    pub(crate) fn next_ended(&mut self, blocks: &mut Blocks) -> Option<Box<Connection>> {
        let slot = self.ended.pop()?;
        let mut connection = self.slots[slot as usize].take()?;
        connection.outbox.clear(blocks);
        self.by_id.remove(&connection.id);
        self.free.push(slot);
        Some(connection)
    }

    fn mark(&mut self, slot: u32) {
        if let Some(connection) = self.slots[slot as usize].as_mut()
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(slot);
        }
    }

    /// The turn ends: starts the sends and receives that can be. `hold` keeps everybody from being read.
    pub(crate) fn arm(&mut self, ring: &mut Ring, blocks: &mut Blocks, now_ns: u64, hold: bool) {
        self.lend(blocks);
        self.acceptor.arm(ring, now_ns, self.count());
        for slot in std::mem::take(&mut self.paused) {
            self.mark(slot);
        }
        for slot in std::mem::take(&mut self.slow) {
            self.mark(slot);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            self.arm_one(slot, ring, blocks, now_ns, hold);
        }
        self.dirty = dirty;
    }

    /// What keeps connections out, for the operator.
    pub(crate) fn next_complaint(&mut self) -> Option<String> {
        self.acceptor.next_complaint()
    }

    fn arm_one(
        &mut self,
        slot: u32,
        ring: &mut Ring,
        blocks: &mut Blocks,
        now_ns: u64,
        hold: bool,
    ) {
        let Some(connection) = self.slots[slot as usize].as_mut() else { return };
        connection.dirty = false;
        if !connection.ended {
            send(slot, connection, ring, blocks, now_ns);
        }
        let idle = connection.receiving == Receiving::Idle && !connection.outbox.in_flight();
        if connection.closing && !connection.outbox.in_flight() && !connection.ended {
            connection.ended = true;
            drop(socket2::SockRef::from(&connection.fd).shutdown(Shutdown::Both));
        }
        if connection.ended {
            if idle {
                self.ended.push(slot);
            }
            return;
        }
        if connection.receiving != Receiving::Idle || connection.closing || !self.reading {
            return;
        }
        if connection.session.is_full() {
            if now_ns.saturating_sub(connection.send_started_ns) > SEND_STALL_NS {
                return self.end(slot);
            }
            return self.slow.push(slot);
        }
        let into = connection.session.receive_into();
        if into == ReceiveInto::Nothing {
            // A reply or the session's own deadline looks again.
            return;
        }
        let starved = into == ReceiveInto::Provided && self.buffers.lent() == 0;
        if hold || starved {
            return self.paused.push(slot);
        }
        connection.receiving = receive(slot, connection, into, ring, blocks);
    }

    /// Lends blocks for receiving.
    fn lend(&mut self, blocks: &mut Blocks) {
        let wanted = self.buffers_max.saturating_sub(self.buffers.lent());
        for _ in 0..wanted {
            let Some(block) = blocks.take() else { break };
            // SAFETY: our hold on the block keeps it from everybody else until the kernel gives it back.
            unsafe { self.buffers.lend(block, blocks.tail_mut(block)) };
        }
        if wanted > 0 {
            self.buffers.publish();
        }
    }
}

/// Starts the connection's next send, if there is one.
fn send(slot: u32, connection: &mut Connection, ring: &mut Ring, blocks: &Blocks, now_ns: u64) {
    let fd = Fd(connection.fd.as_raw_fd());
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
    let entry: squeue::Entry = match connection.outbox.next(blocks) {
        None => return,
        Some(Outgoing::Bytes(bytes)) => {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, bytes.as_ptr(), length).flags(flags).build()
        }
        Some(Outgoing::Pieces(pieces)) => {
            connection.message.msg_iov = pieces.as_mut_ptr();
            connection.message.msg_iovlen = pieces.len();
            let message: *const libc::msghdr = &raw const connection.message;
            opcode::SendMsg::new(fd, message).flags(flags.unsigned_abs()).build()
        }
    };
    connection.send_started_ns = now_ns;
    // SAFETY: the outbox keeps bytes, gather list and holds unchanged until `sent`; the connection is
    // boxed and goes only when nothing of it is in flight.
    unsafe { ring.push(&entry.user_data(tag(Kind::Send, slot))) };
}

/// Starts a receive.
fn receive(
    slot: u32,
    connection: &Connection,
    into: ReceiveInto,
    ring: &mut Ring,
    blocks: &mut Blocks,
) -> Receiving {
    let fd = Fd(connection.fd.as_raw_fd());
    let (entry, receiving) = match into {
        ReceiveInto::Nothing => return Receiving::Idle,
        ReceiveInto::Provided => {
            let entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(RECEIVE_GROUP);
            (entry.build().flags(squeue::Flags::BUFFER_SELECT), Receiving::Provided)
        }
        ReceiveInto::Large { block, from, to } => {
            let start = from - blocks.frozen_end(block);
            let length = (to - from).min(LARGE_RECEIVE_BYTES);
            let target = &mut blocks.tail_mut(block)[start as usize..(start + length) as usize];
            let entry = opcode::Recv::new(fd, target.as_mut_ptr(), length).flags(libc::MSG_WAITALL);
            (entry.build(), Receiving::Large)
        }
    };
    // SAFETY: a buffer of the kernel's choice is lent to it; a large block is held by the session, which
    // is ended only when this receive is done, and touches those bytes only after `landed`.
    unsafe { ring.push(&entry.user_data(tag(Kind::Receive, slot))) };
    receiving
}
