//! Whether a thread sleeps, so that whoever queues something for it knows when to wake it.
//! Owner: the sleeper; every pusher looks.
//! Invariant: what was pushed before the sleeper looked, or whose pusher saw it asleep, wakes it.
//! Not here: the queues (`mesh.rs`), the ring that sleeps and wakes (`ring.rs`).

use crate::sync::{AtomicBool, AtomicI32, Ordering, fence};

/// Says whether a shard sleeps in its ring and how to wake it.
#[derive(Debug)]
pub struct Doorbell {
    sleeping: AtomicBool,
    ring_fd: AtomicI32,
}

impl Default for Doorbell {
    fn default() -> Doorbell {
        Doorbell { sleeping: AtomicBool::new(false), ring_fd: AtomicI32::new(-1) }
    }
}

impl Doorbell {
    /// The sleeper says so; it must look at every queue once more before it sleeps.
    pub fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        // Pairs with the fence in `must_ring`: either the pusher sees the flag or we see its push.
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// After a push: whether the sleeper has to be woken, by exactly one of its pushers.
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        if !self.sleeping.load(Ordering::Relaxed) {
            return false;
        }
        // No swap: one that finds it awake would store, and loom cannot order that store.
        self.sleeping.compare_exchange(true, false, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// The ring to wake; none before the shard runs.
    #[must_use]
    pub fn ring_fd(&self) -> Option<i32> {
        Some(self.ring_fd.load(Ordering::Acquire)).filter(|fd| *fd >= 0)
    }

    /// Told by the shard once its ring exists, and −1 before it goes.
    pub fn set_ring_fd(&self, fd: i32) {
        self.ring_fd.store(fd, Ordering::Release);
    }
}
