//! Accepts connections while there is room for them.
//! Owner: `Net`.
//! Invariant: a listener has one accept armed at most, and none while there is no room: the kernel's backlog keeps who comes.
//! Not here: binding (`listen.rs`), connections (`net.rs`).

use crate::counters::RingCounts;
use crate::listen::ListenerSeed;
use crate::ring::{Completion, Kind, Ring, tag};
use ringway_doors::session::Dialects;
use std::os::fd::AsFd;

/// Accepting starts again after this when descriptors ran out (L12).
const PAUSE_NS: u64 = 100_000_000;
/// What keeps connections out is told this often at most.
const COMPLAIN_NS: u64 = 10_000_000_000;

struct Listener {
    seed: ListenerSeed,
    armed: bool,
    /// Told to stop accepting; not armed again before it has.
    cancelled: bool,
    /// Not before.
    again_at_ns: u64,
}

/// The listening sockets of a shard. `open` is the number of connections there are.
pub(crate) struct Acceptor {
    listeners: Vec<Listener>,
    accepting: bool,
    connections_max: usize,
    complaint: Option<String>,
    /// Not before.
    complain_at_ns: u64,
}

impl Acceptor {
    /// Not accepting yet.
    pub(crate) fn new(listeners: Vec<ListenerSeed>, connections_max: usize) -> Acceptor {
        let listeners = listeners
            .into_iter()
            .map(|seed| Listener { seed, armed: false, cancelled: false, again_at_ns: 0 })
            .collect();
        Acceptor {
            listeners,
            accepting: false,
            connections_max,
            complaint: None,
            complain_at_ns: 0,
        }
    }

    /// Accepts from the next [`Acceptor::arm`] on.
    pub(crate) fn start(&mut self) {
        self.accepting = true;
    }

    /// Accepts nobody any more.
    pub(crate) fn stop(&mut self, ring: &mut Ring) {
        self.accepting = false;
        for (index, listener) in (0u32..).zip(&self.listeners) {
            if listener.armed {
                ring.cancel(tag(Kind::Accept, index));
            }
        }
    }

    /// Whether one more may come in.
    pub(crate) fn has_room(&self, open: usize) -> bool {
        self.accepting && open < self.connections_max
    }

    /// What a new connection may speak; `None` when the accept failed.
    pub(crate) fn accepted(
        &mut self,
        completion: &Completion,
        now_ns: u64,
        open: usize,
        counts: &mut RingCounts,
    ) -> Option<Dialects> {
        let listener = &mut self.listeners[completion.index as usize];
        listener.armed = completion.more;
        listener.cancelled &= completion.more;
        if completion.result >= 0 {
            return Some(listener.seed.dialects);
        }
        let errno = -completion.result;
        if matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) {
            listener.again_at_ns = now_ns + PAUSE_NS;
            counts.connections_refused += 1;
            let cause = std::io::Error::from_raw_os_error(errno);
            let remedy = "raise LimitNOFILE= or lower limits.connections_max";
            self.complain(now_ns, || {
                format!("no more connections than {open} now: {cause}; {remedy}")
            });
        }
        None
    }

    /// Accepts where there is room, and stops where there is none.
    pub(crate) fn arm(&mut self, ring: &mut Ring, now_ns: u64, open: usize) {
        if !self.accepting {
            return;
        }
        let room = self.has_room(open);
        let mut stopped = false;
        for (index, listener) in (0u32..).zip(&mut self.listeners) {
            if !room && listener.armed && !listener.cancelled {
                listener.cancelled = true;
                stopped = true;
                ring.cancel(tag(Kind::Accept, index));
            }
            if room && !listener.armed && now_ns >= listener.again_at_ns {
                listener.armed = true;
                ring.accept(listener.seed.listener.as_fd(), tag(Kind::Accept, index));
            }
        }
        if stopped {
            self.complain(now_ns, || {
                format!("{open} connections, as many as this shard takes: the next ones wait")
            });
        }
    }

    /// When a listener that paused is to be armed again.
    pub(crate) fn wake_at_ns(&self, open: usize) -> Option<u64> {
        let room = self.has_room(open);
        let waiting = self.listeners.iter().filter(|one| room && !one.armed);
        waiting.map(|one| one.again_at_ns).min()
    }

    /// What keeps connections out, for the operator.
    pub(crate) fn next_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Keeps a line for the operator, unless one was kept a moment ago.
    fn complain(&mut self, now_ns: u64, text: impl FnOnce() -> String) {
        if now_ns >= self.complain_at_ns {
            self.complain_at_ns = now_ns + COMPLAIN_NS;
            self.complaint = Some(text());
        }
    }
}
