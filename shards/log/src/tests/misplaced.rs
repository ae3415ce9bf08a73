//! What lies where it does not belong: blocks of the log itself, entries of the index, lists that are lost.
//! Owner: the tests of this crate.
//! Invariant: damage costs the batches it touches, and their names survive the loss of the list.
//! Not here: every block of a log (`shards/sim`, `--damage`).

use super::life::{KEY, World, batch, settings};
use crate::index::{IndexEntry, SparseIndex};
use crate::io::{EIO, SegmentName, SmallFile};
use crate::logs::LogSettings;
use crate::read::ReadStart;
use crate::snapshot;

const BLOCK: usize = 4096;

fn segment(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

/// A log whose block `n` of a segment holds its batch `n` alone, 16 to a segment.
fn blocks(count: u64) -> World {
    let settings = LogSettings { segment_bytes: 64 << 10, ..settings() };
    let mut world = World::with_log(5, settings);
    for n in 0..count {
        world.append_wait(&batch(1, &vec![u8::try_from(n % 250).expect("small"); 3000], 5));
        world.flush();
    }
    world.settle();
    world
}

/// The holes that a scan of everything finds.
fn holes_of_a_scan(world: &mut World) -> Vec<(u64, u64)> {
    world.disk.forget_checkpoints();
    world.cut_and_start();
    world.read_all(1 << 20).1
}

#[test]
fn blocks_that_changed_places_cost_their_own_batches_alone() {
    for (one, other) in [(0, 6), (3, 4), (2, 14), (1, 15)] {
        let mut world = blocks(20);
        let bytes = world.disk.bytes_of(segment(0)).to_vec();
        let of = |n: usize| &bytes[n * BLOCK..(n + 1) * BLOCK];
        world.disk.overwrite(segment(0), one * BLOCK, of(other));
        world.disk.overwrite(segment(0), other * BLOCK, of(one));
        let holes = holes_of_a_scan(&mut world);
        let lost: u64 = holes.iter().map(|(from, to)| to - from).sum();
        assert!(lost <= 2, "{one} and {other}: {holes:?}");
    }
}

/// Without a scan: the checkpoint names the end, and what is missing before it is found by a reader.
#[test]
fn a_reader_is_told_of_every_offset_below_the_end() {
    for (one, other) in [(0, 9), (2, 8), (7, 9), (8, 9), (5, 6)] {
        let mut world = blocks(10);
        world.stop();
        let bytes = world.disk.bytes_of(segment(0)).to_vec();
        let of = |n: usize| &bytes[n * BLOCK..(n + 1) * BLOCK];
        world.disk.overwrite(segment(0), one * BLOCK, of(other));
        world.disk.overwrite(segment(0), other * BLOCK, of(one));
        world.start();
        for offset in 0..10 {
            let told = world.read(offset, 1);
            let served =
                told.as_ref().is_ok_and(|frames| frames.first().is_some_and(|one| one.0 == offset));
            assert!(served || told.is_err(), "{one} and {other}: nothing at {offset}: {told:?}");
        }
        let lost: u64 = world.read_all(1 << 20).1.iter().map(|(from, to)| to - from).sum();
        assert!(lost <= 4, "{one} and {other}: {lost} of 10 lost");
    }
}

/// Behind a range that reached to the flushed end the log goes on in the same segment.
#[test]
fn what_follows_a_lost_end_is_found_or_named_although_it_is_damaged_too() {
    let mut world = blocks(10);
    world.stop();
    let zeros = vec![0; BLOCK];
    for block in 5..10 {
        world.disk.overwrite(segment(0), block * BLOCK, &zeros);
    }
    world.start();
    assert_eq!(world.read_all(1 << 20).1, [(5, 10)]);
    for n in 10..12 {
        world.append_wait(&batch(1, &[n; 3000], 5));
        world.flush();
    }
    world.stop();
    world.disk.overwrite(segment(0), 10 * BLOCK, &zeros);
    world.start();
    assert!(world.read(10, 1).is_err(), "damaged, and named");
    assert_eq!(world.read(11, 1).map(|frames| frames[0].0), Ok(11));
}

#[test]
fn a_poisoned_log_tells_every_reader_of_damage() {
    let mut world = blocks(10);
    world.stop();
    world.start();
    world.disk.overwrite(segment(0), 2 * BLOCK, &vec![0; BLOCK]);
    world.append_wait(&batch(1, &[1; 100], 5));
    world.disk.fail_write = Some(Err(EIO));
    for _ in 0..100 {
        world.turn(100);
    }
    assert_eq!(world.poisoned, [KEY]);
    for _ in 0..3 {
        assert!(matches!(world.read(2, 1), Err(ReadStart::Quarantined { until: 3 })));
        assert_eq!(world.read(3, 1).map(|frames| frames[0].0), Ok(3));
    }
}

#[test]
fn a_block_of_a_later_segment_costs_the_batch_it_replaced() {
    let mut world = blocks(40);
    let later = world.disk.bytes_of(segment(16)).to_vec();
    world.disk.overwrite(segment(0), 5 * BLOCK, &later[3 * BLOCK..4 * BLOCK]);
    assert_eq!(holes_of_a_scan(&mut world), [(5, 6)]);
}

#[test]
fn an_index_that_leads_astray_is_no_damage() {
    let mut world = blocks(20);
    world.stop();
    let file = SmallFile::Snapshot(KEY);
    let mut read = snapshot::decode(world.disk.small(file).expect("written")).expect("whole");
    let astray = |offset: u64| IndexEntry { offset, position: (offset + 2) * 4096, time_before: 0 };
    read.segments[0].index = SparseIndex::from_entries((2..12).map(astray).collect(), 5, 65_536);
    let body = snapshot::encode(read.epoch, read.mark, &read.segments, &read.body);
    world.disk.put_small(file, body);
    world.start();
    for offset in 0..20 {
        let frames = world.read(offset, 1).expect("readable");
        assert_eq!(frames[0].0, offset);
    }
    assert_eq!(world.read_all(1 << 20).1, []);
}

#[test]
fn offsets_given_up_at_the_end_are_named_without_their_list() {
    let mut world = blocks(10);
    world.stop();
    world.start();
    // The checkpoints know that there were ten.
    world.disk.shorten(segment(0), 6 * BLOCK);
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).1, [(6, 10)]);
    world.disk.put_small(SmallFile::Quarantine(KEY), Vec::new());
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).1, [(6, 10)]);
}

/// Whether they are quarantined is for the list to say, as it is in the middle of a log: a repair leaves them out.
#[test]
fn offsets_that_a_repair_gave_up_at_the_end_are_not_quarantined_again() {
    let mut world = blocks(10);
    world.stop();
    world.start();
    world.disk.shorten(segment(0), 6 * BLOCK);
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).1, [(6, 10)], "no repair: the list holds it");
    let given_up = crate::repair::quarantine_body();
    for _ in 0..2 {
        world.stop();
        world.disk.put_small(SmallFile::Quarantine(KEY), given_up.clone());
        world.disk.forget_small(SmallFile::Snapshot(KEY));
        world.start();
        assert_eq!(world.logs().quarantined(KEY), []);
        assert_eq!(world.read(0, 1 << 20).map(|frames| frames.len()), Ok(6));
        assert_eq!(world.read(7, 1 << 20), Err(ReadStart::Gap { until: 10 }));
        assert_eq!(world.logs().quarantined(KEY), []);
    }
    world.append_wait(&batch(1, &[9; 100], 5));
    world.flush();
    assert_eq!(world.read(5, 1 << 20).map(|frames| frames[1].0), Ok(10));
    // Without any list the table names them, a frame behind or not.
    world.stop();
    world.disk.forget_small(SmallFile::Quarantine(KEY));
    world.start();
    assert_eq!(world.read_all(1 << 20).1, [(6, 10)]);
    // The segment behind it loses all it had as well: one gap follows the other, an empty segment between them.
    world.stop();
    world.disk.shorten(segment(10), 0);
    world.start();
    assert_eq!(world.read_all(1 << 20).1, [(6, 10), (10, 11)]);
    world.append_wait(&batch(1, &[9; 100], 5));
    world.flush();
    world.stop();
    world.disk.put_small(SmallFile::Quarantine(KEY), given_up);
    world.start();
    assert_eq!(world.read(5, 1 << 20).map(|frames| frames[1].0), Ok(11));
}

/// The checkpoint of the start says that the log goes on in block 10, where nothing was written; the headers from
/// the start of the log on say where the batch is.
#[test]
fn a_write_one_block_off_costs_what_it_hit_and_the_next_start_says_the_same() {
    let mut world = blocks(10);
    world.stop();
    world.start();
    for n in 10..12 {
        world.append_wait(&batch(1, &[n; 3000], 5));
        world.flush();
    }
    world.settle();
    let bytes = world.disk.bytes_of(segment(0)).to_vec();
    world.disk.overwrite(segment(0), 9 * BLOCK, &bytes[10 * BLOCK..11 * BLOCK]);
    world.disk.overwrite(segment(0), 10 * BLOCK, &vec![0; BLOCK]);
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).1, [(9, 10)]);
    world.disk.put_small(SmallFile::Quarantine(KEY), Vec::new());
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).1, [(9, 10)]);
}

/// A batch that came to lie behind the log's end, but in its last block, which no group writes again: this start
/// serves it as every later one will.
#[test]
fn a_batch_moved_behind_the_end_into_the_last_block_is_found_by_every_start() {
    let mut world = World::with_log(5, settings());
    // Block 0 and half of 1: a large batch; behind it a small one. Block 2: another small one.
    for group in [&[6_000, 500][..], &[500]] {
        for bytes in group {
            world.append(&batch(1, &vec![1; *bytes], 5)).expect("room");
        }
        world.flush();
    }
    world.stop();
    let bytes = world.disk.bytes_of(segment(0)).to_vec();
    world.disk.overwrite(segment(0), BLOCK, &bytes[2 * BLOCK..3 * BLOCK]);
    world.disk.overwrite(segment(0), 2 * BLOCK, &bytes[BLOCK..2 * BLOCK]);
    world.disk.forget_small(SmallFile::Snapshot(KEY));
    world.start();
    let first = world.read_all(1 << 20).1;
    world.append_wait(&batch(1, &[2; 500], 5));
    world.flush();
    world.disk.put_small(SmallFile::Quarantine(KEY), Vec::new());
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).1, first);
    assert_eq!(first, [(0, 1), (2, 3)]);
}

/// C1: nobody reads a part of a block. What stood in the one where the file ends is named, in a closed segment and
/// in the last one, by this start and the next.
#[test]
fn a_file_cut_inside_a_block_ends_where_that_block_begins() {
    for (base, bytes, hole) in [(0, 6 * BLOCK + 100, (6, 16)), (16, 2 * BLOCK + 1, (18, 20))] {
        let mut world = blocks(20);
        world.stop();
        world.disk.shorten(segment(base), bytes);
        for _ in 0..2 {
            world.start();
            assert_eq!(world.read_all(1 << 20).1, [hole]);
            world.append_wait(&batch(1, &[1; 100], 5));
            world.flush();
            world.stop();
        }
    }
}
