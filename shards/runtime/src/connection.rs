//! One connection's state: its session, what is to be sent, what is in flight.
//! Owner: `Net`.
//! Invariant: every slice queued is released once, after its send or at the end.
//! Not here: operations of the ring (`net.rs`).

use ringway_doors::session::{DoorOut, Part, Session};
use ringway_log::blocks::{Blocks, Slice};
use std::os::fd::OwnedFd;

/// Slices shorter than this are copied: an entry of a gather list costs more than the copy.
const COPY_BYTES_MAX: usize = 4096;
/// Entries of one gathered send (UIO_MAXIOV).
const PIECES_MAX: usize = 1024;
/// Send buffers above this are given back once empty: an idle connection is small.
const KEEP_BYTES_MAX: usize = 256 * 1024;

/// What a connection's receive is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// None in flight.
    Idle,
    /// Into a buffer of the kernel's choice.
    Provided,
    /// Into the session's large block.
    Large,
}

/// A part of what is to be sent.
#[derive(Clone, Copy, Debug)]
enum Queued {
    /// So many of the copied bytes.
    Bytes(usize),
    /// In a block, with its hold.
    Slice(Slice),
}

impl Queued {
    fn len(self) -> usize {
        match self {
            Queued::Bytes(count) => count,
            Queued::Slice(slice) => slice.len(),
        }
    }
}

/// Parts in order, and the bytes they copy from.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    parts: Vec<Queued>,
    total: usize,
}

impl Queue {
    fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.total += bytes.len();
        match self.parts.last_mut() {
            Some(Queued::Bytes(count)) => *count += bytes.len(),
            _ => self.parts.push(Queued::Bytes(bytes.len())),
        }
    }

    /// Returns the bytes that were there by reference.
    fn clear(&mut self, blocks: &mut Blocks) -> usize {
        let referred = self.total - self.bytes.len();
        for part in self.parts.drain(..) {
            if let Queued::Slice(slice) = part {
                blocks.release(slice);
            }
        }
        self.total = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_BYTES_MAX {
            self.bytes = Vec::new();
        }
        referred
    }
}

/// What a send in flight points to.
pub(crate) enum Outgoing<'a> {
    /// Plain bytes.
    Bytes(&'a [u8]),
    /// A gather list.
    Pieces(&'a mut [libc::iovec]),
}

/// What goes out on a connection: one queue in flight, one behind it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Queue,
    flight: Queue,
    /// Of the flight.
    sent: usize,
    in_flight: bool,
    pieces: Vec<libc::iovec>,
}

impl Outbox {
    /// Takes over the parts of `out`.
    pub(crate) fn queue(&mut self, out: &mut DoorOut, blocks: &mut Blocks) {
        for part in out.parts.drain(..) {
            match part {
                Part::Bytes(range) => {
                    let bytes = &out.bytes[range.start as usize..range.end as usize];
                    self.waiting.push_bytes(bytes);
                }
                Part::Slice(slice) if slice.len() < COPY_BYTES_MAX => {
                    self.waiting.push_bytes(blocks.bytes(slice));
                    blocks.release(slice);
                }
                Part::Slice(slice) => {
                    self.waiting.total += slice.len();
                    self.waiting.parts.push(Queued::Slice(slice));
                }
            }
        }
    }

    /// Bytes not sent yet.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.total + self.flight.total - self.sent
    }

    /// Whether the kernel is sending.
    pub(crate) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// What to send next, unless a send is in flight or nothing is there. It stays as it is until
    /// [`Outbox::sent`].
    pub(crate) fn next(&mut self, blocks: &Blocks) -> Option<Outgoing<'_>> {
        if self.in_flight || self.bytes() == 0 {
            return None;
        }
        if self.flight.total == 0 {
            std::mem::swap(&mut self.flight, &mut self.waiting);
        }
        self.in_flight = true;
        if matches!(self.flight.parts.as_slice(), [Queued::Bytes(_)]) {
            return Some(Outgoing::Bytes(&self.flight.bytes[self.sent..]));
        }
        self.pieces.clear();
        let (mut skip, mut at) = (self.sent, 0);
        for part in &self.flight.parts {
            let all = match part {
                Queued::Bytes(count) => {
                    at += count;
                    &self.flight.bytes[at - count..at]
                }
                Queued::Slice(slice) => blocks.bytes(*slice),
            };
            let rest = &all[skip.min(part.len())..];
            skip -= all.len() - rest.len();
            if !rest.is_empty() {
                let iov_base = rest.as_ptr().cast_mut().cast();
                self.pieces.push(libc::iovec { iov_base, iov_len: rest.len() });
            }
            if self.pieces.len() == PIECES_MAX {
                break;
            }
        }
        Some(Outgoing::Pieces(&mut self.pieces))
    }

    /// The kernel has sent so many bytes. Once all in flight are, returns how many of them went straight
    /// from blocks of the log, never copied here.
    pub(crate) fn sent(&mut self, bytes: usize, blocks: &mut Blocks) -> usize {
        self.in_flight = false;
        self.sent += bytes;
        if self.sent < self.flight.total {
            return 0;
        }
        self.sent = 0;
        self.flight.clear(blocks)
    }

    /// Drops everything; nothing may be in flight.
    pub(crate) fn clear(&mut self, blocks: &mut Blocks) {
        assert!(!self.in_flight, "a send in flight owns its bytes");
        self.flight.clear(blocks);
        self.waiting.clear(blocks);
        self.sent = 0;
    }
}

/// One connection.
pub(crate) struct Connection {
    /// Never used again in this life.
    pub(crate) id: u32,
    /// The socket.
    pub(crate) fd: OwnedFd,
    /// What the bytes mean.
    pub(crate) session: Session,
    /// State of its receive.
    pub(crate) receiving: Receiving,
    /// What goes out.
    pub(crate) outbox: Outbox,
    /// Header of a gathered send.
    pub(crate) message: libc::msghdr,
    /// Nothing more is read; closed once everything is sent.
    pub(crate) closing: bool,
    /// The socket was shut down; goes once nothing is in flight.
    pub(crate) ended: bool,
    /// Is on the list of those to look at when the turn ends.
    pub(crate) dirty: bool,
    /// Deadline that is on the heap for it.
    pub(crate) wake_at_ns: Option<u64>,
    /// When its send in flight was started.
    pub(crate) send_started_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_pool::blocks;

    fn gathered(outbox: &mut Outbox, blocks: &Blocks, memory: &[u8]) -> Option<usize> {
        match outbox.next(blocks)? {
            Outgoing::Bytes(bytes) => Some(bytes.len()),
            Outgoing::Pieces(pieces) => {
                assert!(!memory.is_empty());
                Some(pieces.iter().map(|piece| piece.iov_len).sum())
            }
        }
    }

    #[test]
    fn a_short_send_goes_on_where_it_stopped_and_holds_are_returned() {
        let mut blocks = blocks(1 << 20).expect("blocks");
        let block = blocks.take().expect("block");
        let slice = blocks.freeze(block, 0, 10_000);
        blocks.release_block(block);
        let mut out = DoorOut::default();
        out.bytes.extend_from_slice(&[1; 100]);
        out.parts = vec![Part::Bytes(0..60), Part::Slice(slice), Part::Bytes(60..100)];
        let mut outbox = Outbox::default();
        outbox.queue(&mut out, &mut blocks);
        assert_eq!(outbox.bytes(), 10_100);
        assert_eq!(gathered(&mut outbox, &blocks, &[1]), Some(10_100));
        assert_eq!(gathered(&mut outbox, &blocks, &[1]), None, "one send at a time");
        for (sent, left) in [(10, 10_090), (60, 10_030), (9_990, 40), (30, 10), (10, 0)] {
            outbox.sent(sent, &mut blocks);
            assert_eq!(outbox.bytes(), left);
            let next = gathered(&mut outbox, &blocks, &[1]);
            assert_eq!(next, (left > 0).then_some(left));
        }
        assert_eq!(blocks.holds(), 0);
    }

    #[test]
    fn short_slices_are_copied_and_released_at_once() {
        let mut blocks = blocks(1 << 20).expect("blocks");
        let block = blocks.take().expect("block");
        let slice = blocks.freeze(block, 0, 100);
        blocks.release_block(block);
        let mut out = DoorOut { parts: vec![Part::Slice(slice)], ..DoorOut::default() };
        let mut outbox = Outbox::default();
        outbox.queue(&mut out, &mut blocks);
        assert_eq!((outbox.bytes(), blocks.holds()), (100, 0));
        assert!(matches!(outbox.next(&blocks), Some(Outgoing::Bytes(bytes)) if bytes.len() == 100));
    }
}
