//! Rules of a disk that has no room, P16: refusal, never poison; and of writes that take too long, P15.
//! Owner: the tests of this crate.
//! Invariant: a test fails when its rule is broken.
//! Not here: the world they run in (`life.rs`), poison (`poison.rs`).

use super::disk::Kind;
use super::life::{KEY, World, batch, pool, settings};
use crate::io::{EDQUOT, EFBIG, ENOSPC};
use crate::logs::{AppendError, LogSettings};

/// Appends until the disk refuses; how many batches were taken.
fn fill(world: &mut World, bytes: usize) -> u64 {
    let mut taken = 0;
    for _ in 0..20_000 {
        match world.append(&batch(1, &vec![1; bytes], 5)) {
            Ok(_) => taken += 1,
            Err(AppendError::Busy) => {}
            Err(AppendError::NoSpace) => return taken,
            Err(other) => panic!("{other}"),
        }
        world.turn(100);
    }
    panic!("never refused");
}

/// P16: what was accepted has its room already, so a full disk holds up no acknowledgement.
#[test]
fn p16_a_full_disk_refuses_holds_up_nothing_accepted_and_resumes() {
    for (bytes, space) in [(300, 0), (9_000, 0), (9_000, 3 << 20), (90_000, 5 << 20)] {
        let mut world = World::with_log(16, settings());
        world.disk.space = Some(space);
        let taken = fill(&mut world, bytes);
        world.flush();
        assert_eq!(world.flushed[&KEY], taken, "{bytes} {space}");
        assert!(world.poisoned.is_empty() && world.refused > 0);
        assert_eq!(world.logs().counts().full, 1);
        assert_eq!(world.read_all(1 << 20).0.len() as u64, taken, "reads go on");
        world.disk.space = None;
        let mut turns = 0;
        while world.append(&batch(1, &vec![2; bytes], 5)).is_err() {
            world.turn(100);
            world.now.mono_ns += 100_000_000;
            turns += 1;
            assert!(turns < 50, "no room after 5 s");
        }
        for _ in 0..400 {
            world.append_wait(&batch(1, &vec![2; bytes], 5));
        }
        world.flush();
        assert_eq!(world.logs().counts().full, 0);
        assert_eq!(world.read_all(1 << 20).0.len() as u64, taken + 401);
        let told = |text: &str| world.notices.iter().filter(|line| line.contains(text)).count();
        assert_eq!((told("cannot grow"), told("can grow again")), (1, 1), "{:?}", world.notices);
    }
}

/// P16: a batch that still has room does not pass one that was refused for lack of it.
#[test]
fn p16_a_small_batch_does_not_pass_a_refused_one() {
    let mut world = World::with_log(19, settings());
    world.disk.space = Some(0);
    fill(&mut world, 90_000);
    world.flush();
    let small = batch(1, &[1; 300], 5);
    assert!(matches!(world.append(&small), Err(AppendError::NoSpace)));
    world.disk.space = None;
    world.append_wait(&batch(1, &vec![2; 90_000], 5));
    world.append_wait(&small);
    world.flush();
}

/// P16: a cut while the disk is full loses nothing that was acknowledged, and the start needs no room.
#[test]
fn p16_a_restart_on_a_full_disk_keeps_everything() {
    let mut world = World::with_log(17, settings());
    world.disk.space = Some(1 << 20);
    let taken = fill(&mut world, 9_000);
    world.flush();
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).0.len() as u64, taken);
    world.disk.space = None;
    world.append_wait(&batch(1, &[2; 9_000], 5));
    world.flush();
}

/// P16: a quota and a limit on file sizes refuse like a full disk.
#[test]
fn p16_quota_and_file_size_limit_are_refusals() {
    for errno in [ENOSPC, EDQUOT, EFBIG] {
        for failing in [Kind::Prepare, Kind::Extend] {
            let mut world = World::with_log(18, settings());
            world.disk.fail_next = Some((failing, errno));
            for _ in 0..600 {
                world.append_wait(&batch(1, &[1; 9_000], 5));
            }
            world.flush();
            assert!(world.disk.fail_next.is_none() && world.poisoned.is_empty(), "{failing:?}");
            assert_eq!(world.read_all(1 << 20).0.len(), 600);
        }
    }
}

/// P11: ENOSPC on a write into allocated space is no refusal.
#[test]
fn p11_no_space_on_a_write_into_allocated_space_poisons() {
    let mut world = World::with_log(19, settings());
    world.append_wait(&batch(1, &[1; 300], 5));
    world.disk.fail_write = Some(Err(ENOSPC));
    world.settle();
    assert_eq!(world.poisoned, [KEY]);
}

/// P2: a batch that needs a wider bound is refused while the checkpoint that must hold it cannot be written.
#[test]
fn p16_a_checkpoint_without_room_refuses_what_waits_for_it() {
    let mut world = World::with_log(20, LogSettings { segment_bytes: 8 << 20, ..settings() });
    world.append_wait(&batch(1, &[1; 300], 5));
    world.flush();
    let large = batch(1, &vec![3; 1_500_000], 5);
    world.disk.fail_next = Some((Kind::Checkpoint, ENOSPC));
    let mut refused = false;
    for _ in 0..20 {
        refused |= matches!(world.append(&large), Err(AppendError::Checkpoint(ENOSPC)));
        world.turn(100);
    }
    assert!(refused && world.poisoned.is_empty());
    world.append_wait(&batch(1, &[4; 300], 5));
    let mut turns = 0;
    while world.append(&large).is_err() {
        world.turn(100);
        world.now.mono_ns += 100_000_000;
        turns += 1;
        assert!(turns < 50, "no checkpoint in 5 s");
    }
    world.flush();
    assert_eq!(world.read_all(1 << 20).0.len(), 3);
}

#[test]
fn p15_how_long_a_stall_is_can_be_set() {
    let mut world = World::again(22, settings(), pool(96).into_memory());
    world.stop();
    world.config.upkeep.io_stall_ns = 3_000_000_000;
    world.start();
    world.append_wait(&batch(1, &[1; 300], 5));
    for (seconds, stalled) in [(2, 0), (4, 1)] {
        while world.now.mono_ns < seconds * 1_000_000_000 {
            world.turn(0);
            world.now.mono_ns += 500_000_000;
        }
        assert_eq!(world.logs().counts().stalled, stalled, "after {seconds} s");
    }
    world.flush();
}

/// P15: a write without an answer is neither a failure nor an acknowledgement; it is counted and said once.
#[test]
fn p15_a_stalled_write_is_counted_and_said_and_waited_for() {
    let mut world = World::with_log(21, settings());
    world.settle();
    world.append_wait(&batch(1, &[1; 300], 5));
    for _ in 0..29 {
        world.turn(0);
        world.now.mono_ns += 1_000_000_000;
    }
    assert_eq!(world.logs().counts().stalled, 0);
    for _ in 0..5 {
        world.turn(0);
        world.now.mono_ns += 1_000_000_000;
    }
    assert_eq!(world.logs().counts().stalled, 1);
    assert_eq!(world.flushed.get(&KEY), Some(&0));
    let told = world.notices.iter().filter(|line| line.contains("not answered")).count();
    assert_eq!(told, 1, "{:?}", world.notices);
    world.flush();
    assert_eq!(world.flushed[&KEY], 1, "what took long counts all the same");
    world.now.mono_ns += 2_000_000_000;
    world.turn(100);
    assert_eq!(world.logs().counts().stalled, 0);
    assert!(world.poisoned.is_empty());
}
