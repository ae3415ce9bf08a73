//! Three shards and the control plane over the product's queues, in many schedules: nothing is lost, nothing
//! overtakes, nobody sleeps for ever, whatever is full.
//!
//! `shuttle [N]`: so many random schedules per model and as many of PCT.

use ringway_models::{Model, run_all};
use ringway_partition::request::MeshMessage;
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::{check_pct, check_random};
use std::process::ExitCode;

mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};
}

/// What stands for kernel objects: an eventfd.
mod ring {
    use shuttle::sync::{Condvar, Mutex};
    use std::os::fd::{AsFd, BorrowedFd};

    /// A counter that can be waited for.
    #[derive(Default)]
    pub(crate) struct EventFd {
        count: Mutex<u64>,
        changed: Condvar,
    }

    impl EventFd {
        pub(crate) fn new() -> std::io::Result<EventFd> {
            Ok(EventFd::default())
        }

        pub(crate) fn for_ring() -> std::io::Result<EventFd> {
            EventFd::new()
        }

        pub(crate) fn signal(&self) {
            *self.count.lock().expect("nobody panics") += 1;
            self.changed.notify_all();
        }

        pub(crate) fn clear(&self) {
            *self.count.lock().expect("nobody panics") = 0;
        }

        pub(crate) fn wait(&self) {
            let mut count = self.count.lock().expect("nobody panics");
            while *count == 0 {
                count = self.changed.wait(count).expect("nobody panics");
            }
        }
    }

    impl AsFd for EventFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            unreachable!("a model has no descriptors")
        }
    }
}

#[path = "../../../shards/runtime/src/doorbell.rs"]
mod doorbell;
#[expect(dead_code, reason = "the model sends some of the words only")]
#[path = "../../../shards/runtime/src/mesh.rs"]
mod mesh;
#[expect(dead_code, reason = "as above")]
mod retry_without_bell {
    include!(concat!(env!("OUT_DIR"), "/retry_without_bell.rs"));
}
#[expect(dead_code, reason = "as above")]
mod overtaking {
    include!(concat!(env!("OUT_DIR"), "/overtaking.rs"));
}

const SHARDS: u32 = 3;
/// Messages of each shard to each other one: more than a queue holds.
const EACH: u64 = 5;
const CAPACITY: usize = 2;
/// Words of a shard to the control plane.
const WORDS: u64 = 6;

/// What a shard sleeps in: a wake-up that comes early is kept, as a completion in a ring is.
#[derive(Default)]
struct Sleep {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleep {
    fn wake(&self) {
        *self.woken.lock().expect("nobody panics") = true;
        self.changed.notify_all();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().expect("nobody panics");
        while !*woken {
            woken = self.changed.wait(woken).expect("nobody panics");
        }
        *woken = false;
    }
}

macro_rules! mesh_model {
    ($name:ident, $mesh:ident) => {
        /// Every shard sends to every other one (`engine::turn`, `shard_loop::wait`).
        fn $name() {
            let (ends, _control) = $mesh::links_of(SHARDS, CAPACITY, CAPACITY).expect("links");
            let rings: Arc<Vec<Sleep>> = Arc::new((0..SHARDS).map(|_| Sleep::default()).collect());
            let threads: Vec<_> = ends
                .into_iter()
                .map(|ends| {
                    let rings = Arc::clone(&rings);
                    shuttle::thread::spawn(move || {
                        let mut mesh = ends.mesh;
                        let me = mesh.shard;
                        mesh.bell().set_ring_fd(me as i32);
                        let mut sent = 0;
                        let mut next = [0; SHARDS as usize];
                        let all = EACH * u64::from(SHARDS - 1);
                        loop {
                            while let Some((from, message)) = mesh.receive() {
                                let MeshMessage::Forget { tag } = message else { unreachable!() };
                                assert_eq!(tag, next[from as usize], "overtaken or lost");
                                next[from as usize] += 1;
                            }
                            // A congested shard reads from no connection, so it is asked nothing new.
                            if sent < EACH && !mesh.congested() {
                                for burst in 0..2.min(EACH - sent) {
                                    for to in (0..SHARDS).filter(|to| *to != me) {
                                        mesh.send(to, MeshMessage::Forget { tag: sent + burst });
                                        // The queue itself is no place where this tool switches.
                                        shuttle::thread::yield_now();
                                    }
                                }
                                sent += 2.min(EACH - sent);
                            }
                            mesh.retry();
                            mesh.ring_sleepers(|fd| rings[fd as usize].wake());
                            if sent == EACH && !mesh.congested() && next.iter().sum::<u64>() == all {
                                return;
                            }
                            if sent < EACH && !mesh.congested() || mesh.has_incoming() {
                                continue;
                            }
                            mesh.bell().about_to_sleep();
                            if !mesh.has_incoming() {
                                // A congested shard has a timer (RETRY_NS), the others sleep until woken.
                                if mesh.congested() {
                                    shuttle::thread::yield_now();
                                } else {
                                    rings[me as usize].sleep();
                                }
                            }
                            mesh.bell().awake();
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("a shard");
            }
        }
    };
}
mesh_model!(three_shards, mesh);
mesh_model!(planted_retry, retry_without_bell);
mesh_model!(planted_overtaking, overtaking);

/// A shard tells more than its queue holds and is told to stop; the control plane sleeps in between.
fn control_plane() {
    use mesh::{FromShard, ToShard};
    use ringway_partition::request::Notice;
    let (mut ends, mut control) = mesh::links_of(1, CAPACITY, CAPACITY).expect("links");
    let shard = ends.pop().expect("one shard");
    let thread = shuttle::thread::spawn(move || {
        let mut ends = shard.control;
        for word in 0..WORDS {
            let generation = Notice::Stopped { checkpoint_generation: word };
            ends.send(FromShard::Notice(generation));
        }
        let mut stop = false;
        while !stop || ends.waiting() {
            ends.retry();
            stop |= matches!(ends.receive(), Some(ToShard::Stop));
            shuttle::thread::yield_now();
        }
        ends.send(FromShard::Stopped);
        while ends.waiting() {
            ends.retry();
            shuttle::thread::yield_now();
        }
    });
    let event = control.event();
    let mut next = 0;
    loop {
        while let Some((_, word)) = control.try_recv() {
            match word {
                FromShard::Notice(Notice::Stopped { checkpoint_generation }) => {
                    assert_eq!(checkpoint_generation, next, "overtaken or lost");
                    next += 1;
                    if next == WORDS {
                        assert!(control.send(0, ToShard::Stop).is_ok());
                    }
                }
                FromShard::Stopped => {
                    assert_eq!(next, WORDS);
                    thread.join().expect("the shard");
                    return;
                }
                other => unreachable!("{other:?}"),
            }
        }
        event.wait();
        control.clear_event();
    }
}

/// Depth of PCT: bugs that need so many switches at the right place are found with a known probability.
const DEPTH: usize = 3;
/// Of each kind when nobody says.
const SCHEDULES: usize = 2_000;

/// Runs a model in many schedules; shuttle panics when one fails.
fn explore(model: fn()) {
    let schedules = match std::env::args().nth(2) {
        Some(number) => number.parse().expect("a number of schedules"),
        None => SCHEDULES,
    };
    check_random(model, schedules);
    check_pct(model, schedules, DEPTH);
    println!("{schedules} random + {schedules} PCT schedules");
}

const MODELS: [Model; 4] = [
    ("three shards, full queues", false, three_shards),
    ("control plane, full queues", false, control_plane),
    ("sent late, nobody woken", true, planted_retry),
    ("overtakes what waits", true, planted_overtaking),
];

fn main() -> ExitCode {
    run_all("shuttle", &MODELS, explore)
}
