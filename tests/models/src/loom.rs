//! Every interleaving of a sleeper and those who wake it, weak memory included.
//!
//! The queue between them is this file's own, with the orderings of the one in use (rtrb): acquire and
//! release on two indices. What is proven is the bell around it, compiled from the product's file.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Arc, Notify};
use ringway_models::{Model, run_all};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};
}

#[expect(dead_code, reason = "the descriptor of a ring has no model")]
#[path = "../../../shards/runtime/src/doorbell.rs"]
mod doorbell;

#[expect(dead_code, reason = "as above")]
mod pusher_without_fence {
    include!(concat!(env!("OUT_DIR"), "/pusher_without_fence.rs"));
}
#[expect(dead_code, reason = "as above")]
mod sleeper_without_fence {
    include!(concat!(env!("OUT_DIR"), "/sleeper_without_fence.rs"));
}

/// A bounded queue of one producer and one consumer.
struct Queue {
    slots: Vec<UnsafeCell<u32>>,
    head: sync::AtomicUsize,
    tail: sync::AtomicUsize,
}

// SAFETY: a slot is written below `tail` and read above `head` by one thread each; loom checks just that.
unsafe impl Sync for Queue {}
// SAFETY: as above.
unsafe impl Send for Queue {}

impl Queue {
    fn new(capacity: usize) -> Queue {
        let slots = (0..capacity).map(|_| UnsafeCell::new(0)).collect();
        Queue { slots, head: sync::AtomicUsize::new(0), tail: sync::AtomicUsize::new(0) }
    }

    fn push(&self, value: u32) -> bool {
        let tail = self.tail.load(sync::Ordering::Relaxed);
        if tail - self.head.load(sync::Ordering::Acquire) == self.slots.len() {
            return false;
        }
        // SAFETY: the consumer reads the slot only once `tail` has passed it.
        self.slots[tail % self.slots.len()].with_mut(|slot| unsafe { *slot = value });
        self.tail.store(tail + 1, sync::Ordering::Release);
        true
    }

    fn pop(&self) -> Option<u32> {
        let head = self.head.load(sync::Ordering::Relaxed);
        if head == self.tail.load(sync::Ordering::Acquire) {
            return None;
        }
        // SAFETY: the producer writes the slot again only once `head` has passed it.
        let value = self.slots[head % self.slots.len()].with(|slot| unsafe { *slot });
        self.head.store(head + 1, sync::Ordering::Release);
        Some(value)
    }

    fn is_empty(&self) -> bool {
        self.head.load(sync::Ordering::Relaxed) == self.tail.load(sync::Ordering::Acquire)
    }
}

/// What a model needs of a bell, so that it runs over the sound one and over those with a bug.
trait Bell: Default + Send + Sync + 'static {
    fn about_to_sleep(&self);
    fn awake(&self);
    fn must_ring(&self) -> bool;
}

macro_rules! bell {
    ($($module:ident),*) => {$(
        impl Bell for $module::Doorbell {
            fn about_to_sleep(&self) { $module::Doorbell::about_to_sleep(self) }
            fn awake(&self) { $module::Doorbell::awake(self) }
            fn must_ring(&self) -> bool { $module::Doorbell::must_ring(self) }
        }
    )*};
}
bell!(doorbell, pusher_without_fence, sleeper_without_fence);

/// `pushers` threads send `each` numbers through queues of `capacity`; one thread receives all of them,
/// sleeping whenever there is nothing (`shard_loop::wait`).
fn hand_shake<B: Bell>(pushers: usize, each: u32, capacity: usize) {
    let bell = Arc::new(B::default());
    let ring = Arc::new(Notify::new());
    let queues: Vec<Arc<Queue>> = (0..pushers).map(|_| Arc::new(Queue::new(capacity))).collect();
    let threads: Vec<_> = queues
        .iter()
        .map(|queue| {
            let (bell, ring, queue) = (bell.clone(), ring.clone(), queue.clone());
            loom::thread::spawn(move || {
                for number in 0..each {
                    while !queue.push(number) {
                        // The product waits in `MeshEnds::retry` for its timer.
                        loom::thread::yield_now();
                    }
                    if bell.must_ring() {
                        ring.notify();
                    }
                }
            })
        })
        .collect();
    let mut expected = vec![0; pushers];
    while expected.iter().any(|next| *next < each) {
        let mut got = false;
        for (queue, next) in queues.iter().zip(&mut expected) {
            while let Some(number) = queue.pop() {
                assert_eq!(number, *next, "out of order");
                *next += 1;
                got = true;
            }
        }
        if got {
            continue;
        }
        bell.about_to_sleep();
        if queues.iter().all(|queue| queue.is_empty()) {
            // A wake-up that was lost leaves this waiting for ever: loom calls it a deadlock.
            ring.wait();
        }
        bell.awake();
    }
    for thread in threads {
        thread.join().expect("pusher");
    }
}

/// The control plane's way: push, then make the event readable; clear it, then look, then wait.
fn control_words() {
    let queue = Arc::new(Queue::new(2));
    let event = Arc::new((sync::AtomicUsize::new(0), Notify::new()));
    let (their_queue, their_event) = (queue.clone(), event.clone());
    let teller = loom::thread::spawn(move || {
        for word in 0..3 {
            while !their_queue.push(word) {
                loom::thread::yield_now();
            }
            // An eventfd is the kernel's: its counter is never behind what was pushed before.
            their_event.0.fetch_add(1, sync::Ordering::SeqCst);
            their_event.1.notify();
        }
    });
    let mut next = 0;
    while next < 3 {
        while let Some(word) = queue.pop() {
            assert_eq!(word, next, "out of order");
            next += 1;
        }
        if next == 3 {
            break;
        }
        while event.0.swap(0, sync::Ordering::SeqCst) == 0 {
            event.1.wait();
        }
    }
    teller.join().expect("teller");
}

/// Runs a model to its end and says how many interleavings there are; loom panics when one fails.
fn explore(model: fn()) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(move || {
        COUNT.fetch_add(1, Relaxed);
        model();
    });
    println!("{} interleavings", COUNT.load(Relaxed));
}

const MODELS: [Model; 6] = [
    ("one pusher, two messages, room for two", false, || hand_shake::<doorbell::Doorbell>(1, 2, 2)),
    ("one pusher, three messages, room for two", false, || hand_shake::<doorbell::Doorbell>(1, 3, 2)),
    ("two pushers, one message each", false, || hand_shake::<doorbell::Doorbell>(2, 1, 2)),
    ("words of the control plane", false, control_words),
    ("pusher without fence", true, || hand_shake::<pusher_without_fence::Doorbell>(1, 2, 2)),
    ("sleeper without fence", true, || hand_shake::<sleeper_without_fence::Doorbell>(1, 2, 2)),
];

fn main() -> ExitCode {
    run_all("loom", &MODELS, explore)
}
