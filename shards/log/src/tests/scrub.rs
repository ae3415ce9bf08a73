//! The scrub: finds damage that nobody reads, at its rate, and stands in nobody's way (Q5).
//! Owner: the tests of this crate.
//! Invariant: what it finds is named exactly like damage that a read meets (Q1).
//! Not here: what damage looks like (`damage.rs`).

use super::life::{KEY, World, batch, pool, settings};
use crate::io::{SegmentName, SmallFile};
use crate::logs::{LogSettings, Upkeep};

const SECOND: u64 = 1_000_000_000;
const BYTES_PER_S: u64 = 1 << 20;

fn segment(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

/// 200 batches of 4 KiB in segments of 128 KiB; then a stop. The next start scrubs.
fn stopped(seed: u64, settings: LogSettings) -> World {
    let settings = LogSettings { segment_bytes: 128 << 10, ..settings };
    let mut world = World::with_log(seed, settings);
    world.config.upkeep = Upkeep {
        scrub_interval_ns: Some(3_600 * SECOND),
        scrub_bytes_per_s: BYTES_PER_S,
        ..Upkeep::default()
    };
    for n in 0..200u8 {
        world.append_wait(&batch(1, &vec![n; 4000], 5));
        world.flush();
    }
    world.stop();
    world
}

/// Where the payload of the batch `n` begins.
fn payload(world: &World, base: u64, n: u8) -> u64 {
    let bytes = world.disk.bytes_of(segment(base));
    let found = bytes
        .windows(300)
        .position(|w| w.starts_with(b"V2") && w[128..].iter().all(|byte| *byte == n));
    found.expect("frame") as u64 + 200
}

/// Sealed segments and their bytes.
fn sealed(world: &mut World) -> (Vec<u64>, u64) {
    let facts = world.logs().segments(KEY);
    let sealed: Vec<_> = facts.iter().filter(|segment| segment.sealed).collect();
    let bytes = sealed.iter().map(|segment| segment.frame_bytes).sum();
    (sealed.iter().map(|segment| segment.base_offset).collect(), bytes)
}

fn until_passes(world: &mut World, passes: u64) {
    for _ in 0..200_000 {
        if world.logs().counts().scrub_passes >= passes {
            return;
        }
        world.turn(100);
    }
    panic!("the scrub does not end: {:?}", world.logs().counts());
}

#[test]
fn q5_a_flipped_bit_that_nobody_reads_is_named_durably() {
    let mut world = stopped(61, settings());
    let bases = world.disk.segments(KEY);
    assert!(bases.len() > 5, "{bases:?}");
    let marks: Vec<u8> =
        bases[1..4].iter().map(|base| u8::try_from(*base).expect("small") + 2).collect();
    for (base, n) in bases[1..4].iter().zip(&marks) {
        let at = payload(&world, *base, *n);
        world.disk.flip(segment(*base), at, 5);
    }
    // A second one in the same segment, in a header.
    let header = payload(&world, bases[1], marks[0] + 2) - 160;
    world.disk.flip(segment(bases[1]), header, 1);
    world.start();
    until_passes(&mut world, 1);
    let counts = world.logs().counts();
    assert_eq!((counts.scrub_found, counts.quarantined, counts.cold_read_bytes), (4, 4, 0));
    let told: Vec<(u64, &str, &str)> = world
        .logs()
        .quarantined(KEY)
        .iter()
        .map(|one| (one.from, one.reason, one.found_by))
        .collect();
    let (first, second, third) = (u64::from(marks[0]), u64::from(marks[1]), u64::from(marks[2]));
    assert_eq!(
        told,
        [
            (first, "payload", "scrub"),
            (first + 2, "header", "scrub"),
            (second, "payload", "scrub"),
            (third, "payload", "scrub")
        ]
    );
    let lines = world.notices.iter().filter(|line| line.contains("found by scrub")).count();
    assert_eq!(lines, 4, "{:?}", world.notices);
    let (all, holes) = world.read_all(1 << 20);
    assert_eq!((all.len(), holes.len()), (196, 4));
    world.cut_and_start();
    assert_eq!(world.logs().quarantined(KEY).len(), 4, "durable");
}

/// Nothing was ever written to it: its name alone would lead reads of what stands in the segment before it astray.
#[test]
fn a_stray_segment_between_the_offsets_of_another_is_set_aside() {
    for (bytes, clean, snapshot) in
        [(0, true, true), (64 << 10, true, false), (0, false, true), (8192, false, false)]
    {
        let mut world = World::with_log(77, LogSettings { segment_bytes: 32 << 10, ..settings() });
        world.config.upkeep = Upkeep {
            scrub_interval_ns: Some(3_600 * SECOND),
            scrub_bytes_per_s: 64 << 20,
            ..Upkeep::default()
        };
        for n in 0..40u8 {
            world.append_wait(&batch(1, &vec![n; 2000], 5));
            world.flush();
        }
        let bases = world.disk.segments(KEY);
        assert!(bases.len() > 3 && bases[1] > 3, "{bases:?}");
        if clean {
            world.stop();
        } else {
            world.now.mono_ns += 2_000_000_000;
            world.settle();
            world.logs = None;
        }
        if !snapshot {
            world.disk.forget_small(SmallFile::Snapshot(KEY));
        }
        // In the first segment, in one further on, and in the one that is written.
        let strays = [3, bases[2] + 1, bases[bases.len() - 1] + 1];
        for stray in strays {
            world.disk.put_segment(segment(stray), &vec![0; bytes]);
        }
        for start in 0..2 {
            world.start();
            world.settle();
            let named = |stray| {
                world.notices.iter().any(|line| line.contains(&format!("segment {stray} ")))
            };
            assert_eq!((named(strays[0]), named(strays[1])), (start == 0, start == 0));
            until_passes(&mut world, 1);
            for from in [3, 4, bases[2] + 1] {
                assert_eq!(world.read(from, 100).map(|frames| frames[0].0), Ok(from));
            }
            let (all, holes) = world.read_all(4000);
            assert_eq!(
                (all.len(), holes),
                (40, vec![]),
                "{bytes} {clean} {snapshot} start {start}"
            );
            assert_eq!(world.disk.segments(KEY), bases);
            let mut aside: Vec<u64> =
                world.disk.set_aside.iter().map(|name| name.base_offset).collect();
            aside.sort_unstable();
            assert_eq!(aside, strays);
            world.stop();
        }
    }
}

#[test]
fn q5_a_pass_keeps_to_its_rate_and_rests_until_the_next_interval() {
    let mut world = stopped(62, settings());
    world.start();
    let (_, bytes) = sealed(&mut world);
    let begun = world.now.mono_ns;
    let mut last = (begun, 0);
    while world.logs().counts().scrub_passes == 0 {
        world.turn(100);
        let read = world.logs().counts().scrubbed_bytes;
        let (since, before) = last;
        if world.now.mono_ns - since >= SECOND {
            assert!(read - before <= BYTES_PER_S + (64 << 10), "{} in a second", read - before);
            last = (world.now.mono_ns, read);
        }
    }
    let (took, read) = (world.now.mono_ns - begun, world.logs().counts().scrubbed_bytes);
    assert!(read >= bytes && read < bytes * 2, "{read} of {bytes}");
    assert!(took >= (read - (64 << 10)) * SECOND / BYTES_PER_S, "{read} bytes in {took} ns");
    world.now.mono_ns = begun + 3_590 * SECOND;
    world.settle();
    assert_eq!(world.logs().counts().scrubbed_bytes, read, "it rests");
    world.now.mono_ns = begun + 3_601 * SECOND;
    until_passes(&mut world, 2);
    let again = world.logs().counts().scrubbed_bytes - read;
    assert!(again >= bytes, "{again}");
}

#[test]
fn q5_an_unreadable_block_is_named_and_the_scrub_goes_on_a_little_later() {
    let mut world = stopped(63, settings());
    let bases = world.disk.segments(KEY);
    world.disk.unreadable = Some((segment(bases[2]), 8192, 12288));
    world.start();
    let begun = world.now.mono_ns;
    until_passes(&mut world, 1);
    let took = world.now.mono_ns - begun;
    assert!(took > 10 * SECOND, "the device may be away: {took} ns");
    let told = world.logs().quarantined(KEY);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].reason, told[0].found_by), ("unreadable", "scrub"));
    assert!(told[0].to - told[0].from <= 3, "{told:?}");
    world.disk.unreadable = None;
    assert_eq!(world.read_all(1 << 20).0.len() as u64, 200 - (told[0].to - told[0].from));
}

#[test]
fn q5_retention_does_not_wait_for_a_scrub() {
    let mut world = stopped(64, settings());
    world.config.upkeep.scrub_bytes_per_s = 1;
    world.start();
    world.settle();
    let kept = LogSettings { segment_bytes: 128 << 10, retention_bytes: Some(1), ..settings() };
    world.logs().configure(KEY, kept);
    for _ in 0..40 {
        world.now.mono_ns += SECOND;
        world.settle();
    }
    let (left, _) = sealed(&mut world);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(world.disk.segments(KEY).len(), 1);
}

#[test]
fn q5_a_scrub_ends_with_the_log_and_gives_all_memory_back() {
    let mut world = stopped(65, settings());
    world.start();
    world.settle();
    assert!(world.logs().counts().scrubbed_bytes > 0);
    let World { logs, io, .. } = &mut world;
    logs.as_mut().expect("started").remove(KEY, io);
    for _ in 0..20 {
        world.settle();
    }
    assert_eq!(world.removed, [KEY]);
    assert_eq!(world.blocks.free_count(), pool(96).free_count());
    until_passes(&mut world, 1);
}

#[test]
fn q5_after_each_start_a_pass_begins_at_another_segment() {
    let mut world = stopped(66, settings());
    let bases = world.disk.segments(KEY);
    // The device tells which segment is read first: all of them are damaged.
    for base in &bases[..bases.len() - 1] {
        let at = payload(&world, *base, u8::try_from(*base).expect("small"));
        world.disk.flip(segment(*base), at, 3);
    }
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..8 {
        world.disk.put_small(crate::io::SmallFile::Quarantine(KEY), Vec::new());
        world.start();
        while world.logs().quarantined(KEY).is_empty() {
            world.turn(100);
        }
        first.insert(world.logs().quarantined(KEY)[0].segment);
        world.stop();
    }
    assert!(first.len() >= 4, "{first:?}");
}
