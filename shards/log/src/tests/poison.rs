//! Rules of poison, P11–P15, each in a test named after it.
//! Owner: the tests of this crate.
//! Invariant: a test fails when its rule is broken.
//! Not here: the world they run in (`life.rs`), a full disk (`rules.rs`).

use super::disk::Kind;
use super::life::{KEY, World, batch, pool, settings};
use crate::io::{EIO, Errno, IoOk};
use crate::logs::{AppendError, AppendFacts, Batch, LogSettings};
use ringway_wire::ids::LogKey;

const OTHER: LogKey = LogKey { topic_id: 8, partition: 0 };
const IDLE: LogKey = LogKey { topic_id: 9, partition: 0 };

/// Three logs, each with one flushed batch.
fn three(seed: u64, segment_bytes: u64) -> World {
    let mut world = World::new(seed);
    world.blocks = pool(96);
    for key in [KEY, OTHER, IDLE] {
        world.settings.insert(key, LogSettings { segment_bytes, ..settings() });
    }
    world.start();
    for key in [KEY, OTHER, IDLE] {
        append(&mut world, key, 1).expect("appended");
    }
    settled(&mut world);
    assert_eq!([KEY, OTHER, IDLE].map(|key| world.flushed[&key]), [1, 1, 1]);
    world
}

fn append(world: &mut World, key: LogKey, mark: u8) -> Result<(), AppendError> {
    let facts = AppendFacts { leader_epoch: 1, encoding: 3, log_append_time_ms: None };
    let bytes = batch(1, &[mark; 300], 5);
    let (now, blocks) = (world.now, &mut world.blocks);
    let logs = world.logs.as_mut().expect("started");
    logs.append(key, Batch::Bytes(&bytes), facts, now, blocks).map(drop)
}

/// Long enough for everything due, checkpoints included.
fn settled(world: &mut World) {
    for _ in 0..1_200 {
        world.turn(100);
    }
}

/// `KEY` and `OTHER` have a write in flight each, `IDLE` has none.
fn two_in_flight(seed: u64) -> World {
    let mut world = three(seed, 1 << 20);
    for key in [KEY, OTHER] {
        append(&mut world, key, 2).expect("appended");
    }
    world.turn(0);
    world
}

/// P11: what a poisoned log is asked is refused, and it asks nothing of the disk any more.
fn stays_poisoned(world: &mut World, key: LogKey) {
    settled(world);
    let (writes, flushed) = (world.disk.writes, world.logs().flushed_offset(key));
    for _ in 0..3 {
        assert!(matches!(append(world, key, 3), Err(AppendError::Poisoned(_))));
        settled(world);
    }
    assert_eq!(world.disk.writes, writes, "a poisoned log writes nothing");
    assert_eq!(world.logs().flushed_offset(key), flushed);
}

/// P11, P12: a short write concerns its own log alone.
#[test]
fn p11_a_short_write_poisons_its_log_alone() {
    let mut world = two_in_flight(1);
    world.disk.fail_write = Some(Ok(IoOk::Bytes(512)));
    settled(&mut world);
    assert_eq!(world.poisoned.len(), 1, "{:?}", world.poisoned);
    let (bad, good) = if world.poisoned == [KEY] { (KEY, OTHER) } else { (OTHER, KEY) };
    assert_eq!((world.flushed[&bad], world.flushed[&good]), (1, 2));
    stays_poisoned(&mut world, bad);
    append(&mut world, good, 3).expect("goes on");
    settled(&mut world);
    assert_eq!(world.flushed[&good], 3);
}

/// P12: a failed durable write leaves the device's cache unknown for every log with a write in flight.
#[test]
fn p12_a_failed_durable_write_poisons_every_log_with_unflushed_writes() {
    for seed in 0..8 {
        let mut world = two_in_flight(seed);
        world.disk.fail_write = Some(Err(EIO));
        settled(&mut world);
        world.poisoned.sort_unstable();
        assert_eq!(world.poisoned, [KEY, OTHER], "seed {seed}");
        assert_eq!((world.flushed[&KEY], world.flushed[&OTHER]), (1, 1), "seed {seed}");
        stays_poisoned(&mut world, KEY);
        append(&mut world, IDLE, 2).expect("had nothing in flight");
        settled(&mut world);
        assert_eq!(world.flushed[&IDLE], 2, "seed {seed}");
    }
}

/// P12: the failure was reaped by another shard, and every write of this one succeeds.
#[test]
fn p12_a_flush_that_failed_on_another_shard_counts_here() {
    let mut world = two_in_flight(3);
    world.disk.flush_failures += 1;
    settled(&mut world);
    world.poisoned.sort_unstable();
    assert_eq!(world.poisoned, [KEY, OTHER]);
    assert_eq!((world.flushed[&KEY], world.flushed[&OTHER]), (1, 1), "no flushed offset moved");
    append(&mut world, IDLE, 2).expect("had nothing in flight");
    settled(&mut world);
    assert_eq!(world.flushed[&IDLE], 2, "one failure is heard once");
}

/// P11: segments come and grow by writes and flushes too.
#[test]
fn p11_a_failed_step_of_a_new_segment_poisons() {
    let (small, large) = (1 << 20, 16 << 20);
    for (failing, segment_bytes) in
        [(Kind::Prepare, small), (Kind::Extend, large), (Kind::SyncDir, small)]
    {
        let mut world = three(4, segment_bytes);
        world.disk.fail_next = Some((failing, EIO));
        let mut refused = None;
        for _ in 0..2_000 {
            let bytes = batch(1, &[1; 9000], 5);
            match world.append(&bytes) {
                Ok(_) | Err(AppendError::Busy) => {}
                Err(error) => refused = Some(error),
            }
            world.turn(100);
        }
        let Some(AppendError::Poisoned(cause)) = refused else {
            panic!("{failing:?}: {refused:?}")
        };
        assert!(cause.contains("EIO") && cause.contains("t/7/p/3/"), "{cause}");
        assert_eq!(world.poisoned, [KEY], "{failing:?}");
        stays_poisoned(&mut world, KEY);
    }
}

/// P13: reads below the flushed offset go on, from memory and from the disk; restart and recovery heal.
#[test]
fn p13_a_poisoned_log_is_read_and_a_restart_brings_it_back() {
    let mut world = World::with_log(5, settings());
    for n in 0..200u8 {
        world.append_wait(&batch(1, &vec![n; 9000], 5));
    }
    world.flush();
    world.append_wait(&batch(1, &[201; 9000], 5));
    world.disk.fail_write = Some(Err(EIO));
    world.settle();
    assert_eq!(world.poisoned, [KEY]);
    assert_eq!(world.read_all(1 << 20).0.len(), 200);
    let stopped = world.stop();
    assert!(stopped > 0, "a poisoned log does not hold a stop up");
    world.start();
    let (all, holes) = world.read_all(1 << 20);
    assert!(all.len() >= 200 && holes.is_empty(), "{} {holes:?}", all.len());
    world.append_wait(&batch(1, &[1; 10], 5));
    world.flush();
}

/// P12 at the start: what recovery read and has not flushed yet is doubted as well.
#[test]
fn p12_a_flush_that_fails_during_recovery_leaves_the_log_offline() {
    let mut world = three(6, 1 << 20);
    world.logs = None;
    world.disk.cut(&mut world.dice);
    world.begin_start();
    world.turn(0);
    world.disk.flush_failures += 1;
    settled(&mut world);
    assert_eq!(world.offline.len(), 3, "{:?}", world.offline);
    assert!(world.recovered.is_empty());
    world.offline.clear();
    world.cut_and_start();
    assert_eq!(world.recovered.len(), 3);
}

/// P14: the cause names errno, file and offsets.
#[test]
fn p14_the_cause_says_errno_file_and_offsets() {
    let mut world = World::with_log(7, settings());
    world.append_wait(&batch(3, &[1; 300], 5));
    world.flush();
    world.append_wait(&batch(2, &[2; 300], 5));
    world.disk.fail_write = Some(Err(Errno(5)));
    world.settle();
    let Err(AppendError::Poisoned(cause)) = world.append(&batch(1, &[3; 10], 5)) else {
        panic!("not poisoned")
    };
    let file = "write of 4096 bytes at position 4096 of t/7/p/3/00000000000000000000.seg";
    assert!(
        cause.ends_with(&format!("{file}, offsets 3 to 5: errno 5 (EIO, device error)")),
        "{cause}"
    );
}
