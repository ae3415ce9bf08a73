//! Damage of every kind: named with its reason and its finder, durable before it is told, found again without the list.
//! Owner: the tests of this crate.
//! Invariant: whatever is damaged, every other batch stays readable (D6, Q1–Q3).
//! Not here: torn tails, crashes (`lives.rs`).

use super::life::{KEY, World, batch, settings};
use crate::event::QuarantineFacts;
use crate::io::{SegmentName, SmallFile};
use crate::logs::{LogSettings, ReadStart};
use crate::read::FrameList;

fn segment(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

/// 40 batches of one record each, 2 KiB long, flushed in groups of four.
fn written(seed: u64, settings: LogSettings) -> World {
    let mut world = World::with_log(seed, settings);
    for n in 0..40u8 {
        world.append_wait(&batch(1, &vec![n; 2000], 5));
        if n % 4 == 3 {
            world.flush();
        }
    }
    world.flush();
    world
}

/// Where the frame that holds `mark` everywhere begins.
fn frame(world: &World, name: SegmentName, mark: u8) -> u64 {
    let bytes = world.disk.bytes_of(name);
    let found = bytes
        .windows(300)
        .position(|w| w.starts_with(b"V2") && w[128..].iter().all(|b| *b == mark));
    found.expect("frame") as u64
}

fn told(world: &mut World) -> Vec<(u64, u64, &'static str, &'static str)> {
    let facts = world.logs().quarantined(KEY);
    facts.iter().map(|one| (one.from, one.to, one.reason, one.found_by)).collect()
}

#[test]
fn q1_a_range_tells_its_reason_its_place_and_who_found_it() {
    for (reason, by_recovery) in [
        ("header", false),
        ("header", true),
        ("payload", false),
        ("place", false),
        ("unreadable", false),
    ] {
        let mut world = written(31, settings());
        world.stop();
        let at = frame(&world, segment(0), 17);
        let before = frame(&world, segment(0), 16);
        match reason {
            "header" => world.disk.flip(segment(0), at + 40, 3),
            "payload" => world.disk.flip(segment(0), at + 500, 3),
            "place" => world.disk.copy_within(segment(0), before, 128, at),
            _ => {
                world.disk.unreadable =
                    Some((segment(0), at / 4096 * 4096, at / 4096 * 4096 + 4096))
            }
        }
        if by_recovery {
            world.disk.forget_checkpoints();
        }
        world.start();
        let (all, holes) = world.read_all(4000);
        let lost: u64 = holes.iter().map(|hole| hole.1 - hole.0).sum();
        assert_eq!(all.len() as u64 + lost, 40, "{reason}: {holes:?}");
        assert!(lost <= if reason == "unreadable" { 3 } else { 1 }, "{reason}: {holes:?}");
        let finder = if by_recovery { "recovery" } else { "read" };
        // An unreadable block may hold the end of the batch before, too.
        let found = told(&mut world);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].0 <= 17 && found[0].1 >= 18 && (found[0].2, found[0].3) == (reason, finder),
            "{found:?}"
        );
        let QuarantineFacts { segment, position, until_position, found_ms, .. } =
            world.logs().quarantined(KEY)[0].clone();
        assert_eq!(segment, 0);
        assert!(position <= at && until_position.is_some_and(|until| until > position));
        assert!(found_ms >= 1_700_000_000_000);
        let range = format!("offsets {} to {}", found[0].0, found[0].1);
        let line = world.notices.iter().find(|line| line.contains(&range)).expect("told");
        assert!(line.contains(reason) && line.contains(finder), "{line}");
    }
}

#[test]
fn q1_a_read_is_answered_only_when_the_list_is_durable() {
    let mut world = written(32, settings());
    world.stop();
    let at = frame(&world, segment(0), 17);
    world.disk.flip(segment(0), at + 500, 3);
    world.start();
    world.disk.fail_small = Some(SmallFile::Quarantine(KEY));
    let mut list = FrameList::default();
    let World { logs, blocks, io, .. } = &mut world;
    let logs = logs.as_mut().expect("started");
    let ReadStart::Waiting(ticket) = logs.read(KEY, 17, 40, 100, blocks, io, &mut list) else {
        panic!("the read goes to the disk")
    };
    world.settle();
    let answer = world.reads.remove(&ticket.0).expect("nobody waits for a disk that takes nothing");
    assert_eq!(answer.err(), Some(crate::logs::ReadFailure::Gone), "not told as damaged");
    assert_eq!(world.read(17, 100), Err(ReadStart::Busy), "nor is the next one");
    assert_eq!(world.read(18, 100).expect("readable")[0].0, 18);
    world.disk.fail_small = None;
    world.now.mono_ns += 2_000_000_000;
    world.settle();
    assert_eq!(world.read(17, 100), Err(ReadStart::Quarantined { until: 18 }));
    world.cut_and_start();
    assert_eq!(told(&mut world), [(17, 18, "payload", "read")]);
}

#[test]
fn the_list_is_no_evidence_losing_or_faking_it_changes_nothing_readable() {
    let mut world = written(33, settings());
    world.stop();
    let at = frame(&world, segment(0), 17);
    world.disk.flip(segment(0), at + 40, 3);
    world.start();
    assert_eq!(world.read_all(4000).1, [(17, 18)]);
    for list in [Vec::new(), b"rubbish".to_vec()] {
        world.stop();
        world.disk.put_small(SmallFile::Quarantine(KEY), list);
        world.start();
        assert_eq!(world.read_all(4000).1, [(17, 18)]);
    }
}

#[test]
fn damage_met_while_the_log_grows_costs_nothing_that_is_written_meanwhile() {
    for seed in 0..200 {
        let mut world = World::with_log(seed, settings());
        for n in 0..8u8 {
            world.append_wait(&batch(1, &vec![n; 2000], 5));
            world.flush();
        }
        let at = frame(&world, segment(0), 2);
        world.disk.flip(segment(0), at + 40, 3);
        world.restart_clean();
        let World { logs, blocks, io, .. } = &mut world;
        let logs = logs.as_mut().expect("started");
        let began = logs.read(KEY, 0, 8, 1 << 20, blocks, io, &mut FrameList::default());
        let ReadStart::Waiting(ticket) = began else { panic!("{began:?}: nothing is in memory") };
        let ended = (0..2_000).find_map(|_| {
            // Refused while the group is full: the next turn tries again.
            drop(world.append(&batch(1, &[99; 2000], 5)));
            world.turn(60);
            world.reads.remove(&ticket.0)
        });
        let read = ended.unwrap_or_else(|| panic!("seed {seed}: the read does not end"));
        read.expect("before the damage").release(&mut world.blocks);
        world.flush();
        let holes = world.read_all(4000).1;
        assert_eq!((told(&mut world).len(), holes), (1, vec![(2, 3)]), "seed {seed}");
    }
}

#[test]
fn a_snapshot_of_another_log_is_doubted_and_forgotten() {
    let mut other = World::with_log(36, settings());
    for n in 0..5u8 {
        other.append_wait(&batch(1, &vec![n; 9000], 5));
    }
    other.flush();
    other.stop();
    let foreign = other.disk.small(SmallFile::Snapshot(KEY)).expect("written by the stop").to_vec();
    // Where that one says its log goes on, there is nothing but the payload of the last batch.
    let mut world = World::with_log(36, settings());
    for n in 0..8u8 {
        world.append_wait(&batch(1, &[n; 100], 5));
    }
    world.append_wait(&batch(1, &[8; 60_000], 5));
    world.flush();
    world.stop();
    world.disk.put_small(SmallFile::Snapshot(KEY), foreign);
    world.start();
    assert_eq!(told(&mut world), []);
    assert_eq!(world.read_all(100_000).0.len(), 9);
}

#[test]
fn a_block_from_behind_the_checkpoint_names_nothing_missing_behind_it() {
    let mut world = written(35, settings());
    world.restart_clean();
    for n in 40..80u8 {
        world.append_wait(&batch(1, &vec![n; 2000], 5));
        world.flush();
    }
    let (from, to) = (frame(&world, segment(0), 70), frame(&world, segment(0), 10));
    world.disk.copy_within(segment(0), from, 128, to);
    // Twice, from different checkpoints.
    for _ in 0..2 {
        // So that the start reads again what lies before the checkpoint.
        world.disk.forget_small(SmallFile::Snapshot(KEY));
        world.disk.forget_small(SmallFile::Quarantine(KEY));
        world.cut_and_start();
        assert_eq!(told(&mut world), [(10, 11, "place", "recovery")]);
    }
    let (all, holes) = world.read_all(4000);
    assert_eq!((all.len(), holes), (79, vec![(10, 11)]));
}

#[test]
fn a_range_of_offsets_given_up_does_not_hide_what_gets_them_next() {
    let mut world = World::with_log(34, settings());
    for n in 0..6u8 {
        world.append_wait(&batch(1, &vec![n; 2000], 5));
        world.flush();
    }
    // Everything that vouches for the last batches is lost, and one of them is in the list.
    world.logs = None;
    let mut list = crate::quarantine::Quarantine::default();
    let damage = crate::quarantine::Damage::Payload;
    let finder = crate::quarantine::Finder::Read;
    list.add(crate::quarantine::Quarantined {
        segment: 0,
        at: 0,
        until: 4096,
        from: 5,
        to: 9,
        damage,
        found_ns: 1,
        finder,
    });
    world.disk.put_small(SmallFile::Quarantine(KEY), list.encode());
    world.disk.forget_checkpoints();
    let at = frame(&world, segment(0), 5);
    world.disk.flip(segment(0), at + 40, 3);
    world.start();
    assert_eq!(world.logs().end_offset(KEY), 5, "a torn tail, as far as anybody knows");
    for _ in 0..4 {
        world.append_wait(&batch(1, &[9; 100], 5));
    }
    world.flush();
    let (all, holes) = world.read_all(1 << 20);
    assert_eq!((all.len(), holes), (9, Vec::new()));
}

#[test]
fn offsets_given_up_at_the_end_are_a_gap_and_never_damage_again() {
    let mut world = written(37, settings());
    // A checkpoint of this life is durable.
    world.now.mono_ns += 2_000_000_000;
    world.settle();
    world.logs = None;
    let half = frame(&world, segment(0), 20);
    world.disk.shorten(segment(0), usize::try_from(half).expect("small"));
    world.start();
    let (all, holes) = world.read_all(1 << 20);
    assert_eq!((all.len(), holes), (20, vec![(20, 40)]));
    world.stop();
    // As a repair leaves it: the offsets are recorded as given up, and nothing is named as damaged.
    world.disk.put_small(SmallFile::Quarantine(KEY), crate::repair::quarantine_body());
    for grown in [false, true] {
        world.start();
        for from in [20, 30, 39] {
            assert_eq!(world.read(from, 100), Err(ReadStart::Gap { until: 40 }));
        }
        let whole = world.read(0, 1 << 20).expect("whole batches");
        assert_eq!(whole.last().map(|frame| frame.0), Some(if grown { 40 } else { 19 }));
        let upto = world.logs().flushed_offset(KEY);
        let (logs, blocks, io) =
            (world.logs.as_mut().expect("on"), &mut world.blocks, &mut world.io);
        logs.find_time(KEY, 4, upto, blocks, io);
        world.settle();
        assert_eq!(told(&mut world), [], "and names nothing");
        if !grown {
            assert_eq!(world.append_wait(&batch(1, &[9; 100], 5)).base_offset, 40);
            world.flush();
        }
        world.stop();
    }
}

#[test]
fn a_lost_first_segment_is_named_and_not_taken_for_retention() {
    let small = LogSettings { segment_bytes: 32 << 10, ..settings() };
    let mut world = written(35, small);
    let bases = world.disk.segments(KEY);
    assert!(bases.len() > 3, "{bases:?}");
    // A checkpoint of this life is durable.
    world.now.mono_ns += 2_000_000_000;
    world.settle();
    for unclean in [true, false] {
        if unclean {
            world.logs = None;
        } else {
            world.stop();
        }
        if unclean {
            world.disk.lose(segment(0));
        }
        world.start();
        let (all, holes) = world.read_all(4000);
        assert_eq!(world.logs().start_offset(KEY), 0);
        assert_eq!(holes, [(0, bases[1])], "unclean {unclean}");
        assert_eq!(all.len() as u64, 40 - bases[1]);
        assert_eq!(told(&mut world), [(0, bases[1], "missing", "recovery")]);
    }
}

#[test]
fn a_lost_segment_in_the_middle_is_named_by_the_read_that_meets_it() {
    let small = LogSettings { segment_bytes: 32 << 10, ..settings() };
    let mut world = written(36, small);
    let bases = world.disk.segments(KEY);
    world.stop();
    world.disk.lose(segment(bases[1]));
    world.start();
    let (all, holes) = world.read_all(4000);
    assert_eq!(holes, [(bases[1], bases[2])]);
    assert_eq!(all.len() as u64, 40 - (bases[2] - bases[1]));
}

#[test]
fn a_damaged_end_does_not_hide_the_damage_of_what_was_appended_behind_it() {
    let mut world = World::with_log(36, settings());
    for n in 1..=2u8 {
        world.append_wait(&batch(1, &[n; 2000], 5));
        world.flush();
        world.stop();
        let at = frame(&world, segment(0), n);
        world.disk.flip(segment(0), at + 40, 3);
        world.start();
        let holes: Vec<_> = (0..u64::from(n)).map(|from| (from, from + 1)).collect();
        assert_eq!(world.read_all(4000).1, holes);
    }
}
