//! Three shards as threads over the product's queues, to be run under ThreadSanitizer. No test harness: the
//! standard library is not instrumented, and its harness gives false races.
//!
//! `rings`: messages with memory of their own in all directions; `rings --planted`: a race to be found.

use ringway_partition::request::{MeshMessage, Notice, Reply};
use std::cell::UnsafeCell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

mod sync {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};
}

mod ring {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The counter of an eventfd; its readers poll here.
    #[derive(Default)]
    pub(crate) struct EventFd(AtomicU64);

    impl EventFd {
        pub(crate) fn new() -> std::io::Result<EventFd> {
            Ok(EventFd::default())
        }

        pub(crate) fn for_ring() -> std::io::Result<EventFd> {
            EventFd::new()
        }

        pub(crate) fn signal(&self) {
            // Relaxed: what a word says must be visible by its queue alone.
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        pub(crate) fn clear(&self) {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    impl AsFd for EventFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            unreachable!("nobody waits by descriptor here")
        }
    }
}

#[path = "../../../shards/runtime/src/doorbell.rs"]
mod doorbell;
#[expect(dead_code, reason = "some of the words only are sent here")]
#[path = "../../../shards/runtime/src/mesh.rs"]
mod mesh;

use mesh::{ControlEnds, FromShard, ShardEnds, ToShard};

const SHARDS: u32 = 3;
const CAPACITY: usize = 4;
const MESSAGES: u64 = 2_000;
/// No shard sleeps longer than a lost wake-up may cost.
const STUCK: Duration = Duration::from_secs(60);

/// What each shard sleeps in.
struct Sleepers {
    threads: [OnceLock<Thread>; SHARDS as usize],
    woken: [AtomicBool; SHARDS as usize],
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => meshed(),
        Some("--planted") => planted(),
        Some(other) => panic!("unknown argument {other}"),
    }
    ExitCode::SUCCESS
}

fn meshed() {
    let begun = Instant::now();
    let (ends, mut control) = mesh::links_of(SHARDS, CAPACITY, CAPACITY).expect("links");
    let sleepers = Arc::new(Sleepers { threads: Default::default(), woken: Default::default() });
    let threads: Vec<_> = ends
        .into_iter()
        .map(|ends| {
            let sleepers = Arc::clone(&sleepers);
            std::thread::spawn(move || shard(ends, &sleepers))
        })
        .collect();
    hub(&mut control);
    let slept: u64 = threads.into_iter().map(|thread| thread.join().expect("a shard")).sum();
    let sent = MESSAGES * u64::from(SHARDS * (SHARDS - 1));
    println!("rings: {sent} messages, {slept} sleeps, {:.1} s", begun.elapsed().as_secs_f64());
}

/// Talks with the others until everything has come; returns how often it slept.
fn shard(ends: ShardEnds, sleepers: &Sleepers) -> u64 {
    let ShardEnds { mut mesh, mut control } = ends;
    let me = mesh.shard as usize;
    assert!(sleepers.threads[me].set(std::thread::current()).is_ok());
    mesh.bell().set_ring_fd(me as i32);
    let (mut sent, mut slept, mut next) = (0, 0, [0; SHARDS as usize]);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < STUCK, "shard {me} is stuck: {sent} sent, {next:?} received");
        while let Some((from, message)) = mesh.receive() {
            let MeshMessage::Answer { tag, reply: Reply::Failed { message, .. } } = message else {
                unreachable!("only answers are sent")
            };
            assert_eq!((tag, message), (next[from as usize], format!("{from}: {tag}")));
            next[from as usize] += 1;
        }
        if sent < MESSAGES && !mesh.congested() {
            for to in (0..SHARDS).filter(|to| *to as usize != me) {
                // Memory that one thread allocates and another frees.
                let code = ringway_wire::error_code::ErrorCode::None;
                let reply = Reply::Failed { code, message: format!("{me}: {sent}") };
                mesh.send(to, MeshMessage::Answer { tag: sent, reply });
            }
            sent += 1;
        }
        mesh.retry();
        control.retry();
        mesh.ring_sleepers(|fd| {
            sleepers.woken[fd as usize].store(true, Ordering::Release);
            if let Some(thread) = sleepers.threads[fd as usize].get() {
                thread.unpark();
            }
        });
        let received: u64 = next.iter().sum();
        if sent == MESSAGES && !mesh.congested() && received == MESSAGES * u64::from(SHARDS - 1) {
            break;
        }
        if mesh.congested() {
            std::thread::yield_now();
        }
        if sent < MESSAGES || mesh.congested() || mesh.has_incoming() {
            continue;
        }
        mesh.bell().about_to_sleep();
        if !mesh.has_incoming() {
            slept += 1;
            while !sleepers.woken[me].swap(false, Ordering::Acquire) {
                std::thread::park_timeout(STUCK);
                assert!(begun.elapsed() < STUCK, "shard {me} is never woken");
            }
        }
        mesh.bell().awake();
    }
    control.send(FromShard::Notice(Notice::Warning(format!("shard {me} has all"))));
    while !matches!(control.receive(), Some(ToShard::Stop)) {
        control.retry();
        std::thread::yield_now();
    }
    slept
}

/// Waits for every shard, then lets all of them end: a queue must outlive its other end.
fn hub(control: &mut ControlEnds) {
    let mut ready = 0;
    while ready < SHARDS {
        control.clear_event();
        while let Some((shard, FromShard::Notice(Notice::Warning(text)))) = control.try_recv() {
            assert_eq!(text, format!("shard {shard} has all"));
            ready += 1;
        }
        std::thread::yield_now();
    }
    for shard in 0..control.shards() {
        assert!(control.send(shard, ToShard::Stop).is_ok());
    }
}

/// One slot whose index is published by a relaxed store where a release is needed.
struct Slot {
    value: UnsafeCell<u64>,
    full: AtomicUsize,
}

// SAFETY: none: this is the planted race.
unsafe impl Sync for Slot {}

fn planted() {
    let slot = Arc::new(Slot { value: UnsafeCell::new(0), full: AtomicUsize::new(0) });
    let theirs = Arc::clone(&slot);
    let writer = std::thread::spawn(move || {
        for number in 1..=1000u64 {
            while theirs.full.load(Ordering::Acquire) != 0 {
                std::hint::spin_loop();
            }
            // SAFETY: the reader is done with it.
            unsafe { *theirs.value.get() = number };
            theirs.full.store(1, Ordering::Relaxed);
        }
    });
    let mut sum = 0;
    for _ in 1..=1000 {
        while slot.full.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
        // SAFETY: it looks full, and that is the bug.
        sum += unsafe { *slot.value.get() };
        slot.full.store(0, Ordering::Release);
    }
    writer.join().expect("writer");
    println!("planted: {sum}");
}
