//! What the tools for a stopped directory find in a log, and what a repair makes of it.
//! Owner: the tests of this crate.
//! Invariant: an acknowledged loss is named as long as the broker does not serve what was there.
//! Not here: files and exchanges of directories (`src/cli/log`, `tests/interop/test_log_tools.py`).

use super::life::{KEY, World, batch, settings};
use crate::io::{SegmentName, SmallFile};
use crate::logs::ReadStart;
use crate::repair::{Repair, Repaired, checkpoint_body, quarantine_body};
use crate::verify::{FindingKind, FrameLine, LogReport, LogVerify, VerifyStep};

fn segment(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

/// Reads the stopped log from end to end.
fn walk(world: &mut World, mut take: impl FnMut(&FrameLine)) -> LogReport {
    let facts = world.start_directory().expect("the directory is fine");
    let bases = world.disk.segments(KEY);
    let size = |base| world.disk.bytes_of(segment(base)).len() as u64;
    let sizes = bases.iter().map(|base| (*base, size(*base))).collect();
    let list = world.disk.small(SmallFile::Quarantine(KEY));
    let mut verify = LogVerify::new(KEY, &facts, sizes, list);
    loop {
        match verify.step() {
            VerifyStep::Done(report) => return report,
            VerifyStep::Frame(line) => take(&line),
            VerifyStep::Read { segment: base, at, len } => {
                let at = usize::try_from(at).expect("small");
                let bytes = world.disk.bytes_of(segment(base))[at..at + len].to_vec();
                verify.feed(&bytes, 0);
            }
        }
    }
}

fn verify(world: &mut World) -> LogReport {
    walk(world, |_| {})
}

/// Kind and offsets of everything found.
fn found(world: &mut World) -> Vec<(FindingKind, u64, u64)> {
    let findings = verify(world).findings;
    findings.iter().map(|one| (one.kind, one.offset, one.until)).collect()
}

/// Plans a repair and puts its files in place; no frame may be written anew.
fn repair_names(world: &mut World) -> Repaired {
    let (report, facts) = (verify(world), world.start_directory().expect("fine"));
    let mut repair = Repair::new(KEY, &facts, report, &world.disk.segments(KEY));
    walk(world, |line| repair.take(line));
    let plan = repair.finish();
    for new in &plan.written {
        assert_eq!(new.pieces, []);
        world
            .disk
            .put_segment(segment(new.base), &vec![0; usize::try_from(new.bytes).expect("small")]);
    }
    world.disk.put_small(SmallFile::Quarantine(KEY), quarantine_body());
    let newest = facts.checkpoints.iter().map(|file| file.1).max().unwrap_or(0);
    for generation in [newest + 1, newest + 2] {
        let body = checkpoint_body(generation, std::slice::from_ref(&plan));
        world.disk.put_small(SmallFile::Checkpoint { shard: 0, generation }, body);
    }
    plan
}

/// The offsets below `end` that are served.
fn readable(world: &mut World, end: u64) -> Vec<u64> {
    let (mut served, mut next) = (Vec::new(), 0);
    while next < end {
        match world.read(next, 4000) {
            Ok(frames) => served.extend(frames.iter().map(|(offset, _)| *offset)),
            Err(ReadStart::Gap { until }) => {
                next = until;
                continue;
            }
            other => panic!("{other:?} at {next}"),
        }
        let after = served.last().map_or(0, |last| last + 1);
        assert!(after > next, "nothing is served at {next}");
        next = after;
    }
    served
}

/// `records` batches of one record, durable.
fn produce(world: &mut World, records: u8) {
    for n in 0..records {
        world.append_wait(&batch(1, &[n; 2000], 5));
    }
    world.flush();
}

/// 20 records are lost with all bytes of their segment, the broker names them, 10 more are written behind them.
fn a_lost_end_with_records_behind() -> World {
    let mut world = World::with_log(41, settings());
    produce(&mut world, 20);
    world.stop();
    world.disk.shorten(segment(0), 0);
    assert_eq!(found(&mut world), [(FindingKind::Header, 0, 20)]);
    world.start();
    assert_eq!(world.read_all(4000).1, [(0, 20)]);
    produce(&mut world, 10);
    world.stop();
    world
}

#[test]
fn a_lost_end_is_named_though_records_stand_behind_it_until_a_repair_gives_it_up() {
    let mut world = a_lost_end_with_records_behind();
    assert_eq!(found(&mut world), [(FindingKind::GivenUp, 0, 20)]);
    world.start();
    assert_eq!(world.read_all(4000).1, [(0, 20)], "the broker says the same");
    world.stop();
    let plan = repair_names(&mut world);
    assert_eq!((plan.kept.as_slice(), plan.records, plan.next), (&[20][..], 10, 30));
    assert_eq!(found(&mut world), []);
    world.start();
    let (all, holes) = world.read_all(4000);
    assert_eq!((all.len(), holes.as_slice()), (10, &[][..]));
}

/// Nothing but the list tells of what was lost below the first segment then.
#[test]
fn a_lost_beginning_is_named_without_any_checkpoint() {
    let mut world = a_lost_end_with_records_behind();
    let (lost, until) = found(&mut world).first().map(|one| (one.1, one.2)).expect("named");
    let first = world.disk.segments(KEY)[0];
    assert!(first < until);
    world.disk.lose(segment(first));
    world.disk.forget_checkpoints();
    let named: Vec<_> = found(&mut world).iter().map(|one| (one.1, one.2)).collect();
    assert_eq!(named, [(lost, until)]);
    repair_names(&mut world);
    assert_eq!(found(&mut world), []);
}

#[test]
fn without_a_list_recorded_gaps_are_named_as_a_start_would() {
    let mut world = a_lost_end_with_records_behind();
    for list in [None, Some(b"rubbish".to_vec())] {
        match list {
            None => world.disk.forget_small(SmallFile::Quarantine(KEY)),
            Some(body) => world.disk.put_small(SmallFile::Quarantine(KEY), body),
        }
        assert_eq!(found(&mut world), [(FindingKind::GivenUp, 0, 20)]);
    }
    world.start();
    assert_eq!(world.read_all(4000).1, [(0, 20)]);
}

#[test]
fn records_that_came_back_are_named_unserved_and_a_repair_has_them_served() {
    let mut world = World::with_log(42, settings());
    produce(&mut world, 20);
    world.stop();
    let whole = world.disk.bytes_of(segment(0)).to_vec();
    world.disk.shorten(segment(0), 8192);
    world.start();
    produce(&mut world, 5);
    world.stop();
    let lost = found(&mut world);
    assert_eq!(lost.len(), 1);
    let (kind, from, until) = lost[0];
    assert!(kind == FindingKind::GivenUp && 0 < from && from < until && until == 20, "{lost:?}");
    world.disk.put_segment(segment(0), &whole);
    assert_eq!(found(&mut world), [(FindingKind::Unserved, from, 20)]);
    world.start();
    assert_eq!(world.read_all(4000).1, [(from, 20)], "the list decides");
    world.stop();
    assert_eq!(repair_names(&mut world).kept, [0, 20]);
    assert_eq!(found(&mut world), []);
    world.start();
    assert_eq!(world.read_all(4000).0.len(), 25);
    world.stop();
    world.disk.forget_small(SmallFile::Quarantine(KEY));
    assert_eq!(found(&mut world), [], "no gap is recorded any more");
}

#[test]
fn gaps_that_follow_each_other_are_one_after_a_repair() {
    let mut world = World::with_log(44, settings());
    produce(&mut world, 20);
    world.stop();
    world.disk.shorten(segment(0), 8192);
    world.start();
    let (from, _) = world.read_all(4000).1[0];
    produce(&mut world, 5);
    for _ in 0..2 {
        world.stop();
        world.start();
        produce(&mut world, 1);
    }
    world.stop();
    repair_names(&mut world);
    world.disk.shorten(segment(20), 0);
    world.start();
    world.stop();
    assert_eq!(found(&mut world), [(FindingKind::GivenUp, 20, 27)]);
    repair_names(&mut world);
    world.start();
    assert_eq!(readable(&mut world, 27), (0..from).collect::<Vec<_>>());
    for offset in from..27 {
        assert_eq!(world.read(offset, 4000), Err(ReadStart::Gap { until: 27 }));
    }
}

#[test]
fn records_of_a_gap_that_came_back_in_part_are_served() {
    let mut world = World::with_log(45, settings());
    produce(&mut world, 20);
    world.stop();
    let whole = world.disk.bytes_of(segment(0)).to_vec();
    world.disk.shorten(segment(0), 0);
    world.start();
    produce(&mut world, 5);
    world.stop();
    world.disk.put_segment(segment(0), &whole[..16384]);
    let told = found(&mut world);
    let [(FindingKind::GivenUp, until, 20), (FindingKind::Unserved, 0, back)] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(until, back);
    repair_names(&mut world);
    world.start();
    assert_eq!(readable(&mut world, 25), (0..back).chain(20..25).collect::<Vec<_>>());
    assert_eq!(world.read(back, 4000), Err(ReadStart::Gap { until: 20 }));
}

#[test]
fn a_stray_segment_is_named_as_one_and_left_out_by_a_repair() {
    let mut world = World::with_log(43, settings());
    produce(&mut world, 250);
    produce(&mut world, 250);
    world.stop();
    let bases = world.disk.segments(KEY);
    assert!(bases.len() > 1 && bases[1] > 7, "{bases:?}");
    let copy = world.disk.bytes_of(segment(0)).to_vec();
    for body in [&[][..], &copy] {
        world.disk.put_segment(segment(7), body);
        assert_eq!(found(&mut world), [(FindingKind::Stray, 7, 7)]);
        let plan = repair_names(&mut world);
        assert_eq!((&plan.kept, plan.records), (&bases, 500));
    }
    world.disk.lose(segment(7));
    assert_eq!(found(&mut world), []);
}

#[test]
fn the_verifier_counts_everything_and_names_each_damage() {
    let mut world = World::with_log(22, settings());
    for n in 0..300u64 {
        world.append_wait(&batch(3, &vec![u8::try_from(n % 200).expect("small"); 8000], 5));
    }
    world.flush();
    world.stop();
    let sound = verify(&mut world);
    assert_eq!((sound.batches, sound.records, sound.start, sound.end), (300, 900, 0, 900));
    assert_eq!((sound.frame_bytes, sound.findings.len()), (300 * 8128, 0));
    let bytes = world.disk.bytes_of(segment(0)).to_vec();
    let frame = |mark: u8| {
        bytes
            .windows(300)
            .position(|w| w[0] == b'V' && w[1] == b'2' && w[128] == mark)
            .expect("frame")
    };
    let (ten, twenty) = (frame(10), frame(20));
    world.disk.flip(segment(0), ten as u64 + 50, 1);
    world.disk.flip(segment(0), twenty as u64 + 4000, 1);
    let damaged = verify(&mut world);
    let found: Vec<_> = damaged
        .findings
        .iter()
        .map(|one| (one.kind, one.position, one.offset, one.until))
        .collect();
    assert_eq!(
        found,
        [(FindingKind::Header, ten as u64, 30, 33), (FindingKind::Payload, twenty as u64, 60, 63)]
    );
    assert_eq!((damaged.batches, damaged.records, damaged.end), (298, 894, 900));
    assert_eq!(damaged.frame_bytes, 298 * 8128);
}
