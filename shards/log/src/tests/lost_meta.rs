//! A directory without `meta`: refused with the remedy, made anew from its segments, and whole again (P5).
//! Owner: the tests of this crate.
//! Invariant: what is made anew says what was lost, or nothing is made.
//! Not here: reading files (`ringway log repair --meta`).

use super::life::{KEY, World, batch, settings};
use crate::directory::META_REMEDY;
use crate::io::{SegmentName, SmallFile};
use crate::logs::LogSettings;
use crate::lost_meta::LostMeta;
use ringway_wire::ids::LogKey;

fn segment(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

/// 60 batches of uneven length in several segments, on blocks of this size; then killed.
fn written(seed: u64, block: u32) -> World {
    let mut world = World::new(seed);
    world.block = block;
    world.blocks = super::life::pool(96);
    world.settings.insert(KEY, LogSettings { segment_bytes: 256 << 10, ..settings() });
    world.start();
    for n in 0..60u8 {
        world.append_wait(&batch(1, &vec![n; 300 + 170 * usize::from(n)], 5));
        if n % 3 == 0 {
            world.flush();
        }
    }
    world.flush();
    world.logs = None;
    world
}

fn look(world: &World, checkpoints: &[(u32, u64, Vec<u8>)]) -> LostMeta {
    let mut lost = LostMeta::new(checkpoints);
    for base in world.disk.segments(KEY) {
        lost.look(segment(base), world.disk.bytes_of(segment(base)));
    }
    lost
}

#[test]
fn p5_a_lost_meta_is_made_anew_from_the_frames() {
    for block in [4096, 16384, 65536] {
        let mut world = written(71, block);
        world.settings.get_mut(&KEY).expect("ours").segment_bytes = 256 << 10;
        let epoch = world.recovered[&KEY].2;
        let lost = look(&world, &[]);
        world.disk.forget_small(SmallFile::Meta);
        let refused = world.start_directory().expect_err("refused");
        assert!(refused.contains("missing") && refused.contains(META_REMEDY), "{refused}");
        // Another device would have another block: the frames know better.
        for device in [4096, block, 65536] {
            let remade = lost.remake(([1; 16], 77), device).expect("made");
            assert_eq!((remade.frames, remade.block), (60, block), "device {device}");
            assert!(remade.start_counter > epoch);
            world.disk.put_small(SmallFile::Meta, remade.body);
        }
        world.start();
        let (all, holes) = world.read_all(1 << 20);
        assert_eq!((all.len(), holes), (60, Vec::new()));
        assert!(world.recovered[&KEY].2 > epoch + 1, "lives are numbered on");
        world.append_wait(&batch(1, &[9; 100], 5));
        world.flush();
        world.cut_and_start();
        assert_eq!(world.read_all(1 << 20).0.len(), 61);
    }
}

#[test]
fn p5_a_damaged_first_frame_does_not_outvote_the_others() {
    let mut world = written(72, 4096);
    let bases = world.disk.segments(KEY);
    world.disk.flip(segment(bases[1]), 50, 3);
    let remade = look(&world, &[]).remake(([1; 16], 77), 4096).expect("made");
    assert!(remade.frames < 60 && remade.frames > 10, "{}", remade.frames);
    world.disk.forget_small(SmallFile::Meta);
    world.disk.put_small(SmallFile::Meta, remade.body);
    world.start();
    assert_eq!(world.read_all(1 << 20).0.len(), 59);
}

#[test]
fn p5_what_does_not_agree_is_refused() {
    let mut world = written(73, 4096);
    let base = world.disk.segments(KEY)[1];
    // A segment of another directory: every header of it with another secret.
    let mut foreign = world.disk.bytes_of(segment(base)).to_vec();
    let starts: Vec<usize> =
        (0..foreign.len() - 128).filter(|at| foreign[*at..].starts_with(b"V2\x02")).collect();
    for at in starts {
        foreign[at + 12] ^= 0x40;
    }
    world.disk.overwrite(segment(base), 0, &foreign);
    let refused = look(&world, &[]).remake(([1; 16], 77), 4096).expect_err("refused");
    assert!(refused.contains("do not agree"), "{refused}");

    let mut lost = LostMeta::new(&[]);
    lost.look(segment(0), &[7; 4096]);
    let refused = lost.remake(([1; 16], 77), 4096).expect_err("refused");
    assert!(refused.contains("nothing tells the secret"), "{refused}");

    let mut empty = LostMeta::new(&[]);
    empty.look(segment(0), &[0; 4096]);
    assert_eq!(empty.remake(([1; 16], 77), 4096).expect("any secret is right").frames, 0);

    let mut elsewhere = LostMeta::new(&[]);
    let other = SegmentName { log: LogKey { topic_id: 8, partition: 3 }, base_offset: base };
    elsewhere.look(other, world.disk.bytes_of(segment(0)));
    assert!(elsewhere.remake(([1; 16], 77), 4096).is_err(), "frames of another log tell nothing");
}
