//! Single rules of the log, each in a test named after it.
//! Owner: the tests of this crate.
//! Invariant: a test fails when its rule is broken.
//! Not here: the world they run in (`life.rs`).

use super::life::{KEY, World, batch, settings};
use crate::checkpoint;
use crate::io::{EIO, IoOk, IoOut, SegmentName, SmallFile};
use crate::logs::{AppendError, AppendFacts, Batch, LogSettings, ReadStart};
use crate::quarantine::{Damage, Finder, Quarantine, Quarantined};

fn first() -> SegmentName {
    SegmentName { log: KEY, base_offset: 0 }
}

/// A batch as it is served: base offset and leader epoch patched in.
fn served(mut bytes: Vec<u8>, base: u64) -> Vec<u8> {
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&1i32.to_be_bytes());
    bytes
}

fn strip(frames: Vec<(u64, Vec<u8>)>) -> Vec<Vec<u8>> {
    frames.into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn what_was_appended_is_read_back_from_memory_and_after_a_clean_restart_from_disk() {
    let mut world = World::with_log(1, settings());
    let mut sent = Vec::new();
    for n in 0..200u64 {
        let bytes = batch(
            2,
            &vec![
                u8::try_from(n % 251).expect("small");
                100 + 37 * usize::try_from(n).expect("small")
            ],
            5,
        );
        let appended = world.append_wait(&bytes);
        assert_eq!((appended.base_offset, appended.last_offset), (n * 2, n * 2 + 1));
        sent.push(served(bytes, n * 2));
    }
    world.flush();
    assert_eq!(strip(world.read_all(1 << 20).0), sent);
    world.restart_clean();
    assert_eq!(world.recovered[&KEY].1, 400);
    assert!(world.notices.is_empty(), "{:?}", world.notices);
    for bytes_max in [1, 5000, 1 << 20] {
        assert_eq!(strip(world.read_all(bytes_max).0), sent);
    }
    world.settle();
    assert_eq!(world.blocks.holds(), 0, "nothing is held when nothing is in the tail");
}

#[test]
fn a_cold_fetch_reads_little_more_than_it_serves() {
    let settings = LogSettings { segment_bytes: 64 << 20, ..settings() };
    let mut world = World::with_log(31, settings);
    for _ in 0..80 {
        world.append_wait(&batch(10, &vec![7; 250_000], 5));
    }
    world.flush();
    world.restart_clean();
    let before = world.logs().counts().cold_read_bytes;
    let frames = world.read_all(1 << 20).0;
    assert_eq!(frames.len(), 80);
    let served: usize = frames.iter().map(|(_, bytes)| bytes.len()).sum();
    let read = world.logs().counts().cold_read_bytes - before;
    assert!(read < 2 * served as u64, "{read} bytes read for {served}");
}

/// Mission S3-07: an offset in a cold segment costs a few regions, wherever the index stands.
#[test]
fn a_cold_offset_is_found_without_walking_to_it() {
    let settings = LogSettings { segment_bytes: 64 << 20, ..settings() };
    let mut world = World::with_log(33, settings);
    let sizes = |n: u64| 300 + usize::try_from(n % 7 * 400 + n / 1000 * 500).expect("small");
    for n in 0..6000 {
        world.append_wait(&batch(3, &vec![9; sizes(n)], 5));
    }
    world.flush();
    world.restart_clean();
    let mut most = 0;
    for n in (0..6000u64).step_by(97) {
        let before = world.logs().counts().cold_read_bytes;
        let frames = world.read(n * 3 + 1, 1).expect("readable");
        assert_eq!((frames[0].0, frames[0].1.len()), (n * 3, sizes(n) + 61));
        world.settle();
        most = most.max(world.logs().counts().cold_read_bytes - before);
    }
    assert!(most <= 6 * 65536, "{most} bytes read for one batch of 17 MiB");
}

/// The hint of a search is no evidence: a frame that lies where it does not belong (misdirected write)
/// must not make sound batches look damaged.
#[test]
fn a_misplaced_frame_does_not_mislead_a_search() {
    let settings = LogSettings { segment_bytes: 64 << 20, ..settings() };
    let mut world = World::with_log(34, settings);
    for _ in 0..4000u64 {
        world.append_wait(&batch(1, &[9; 2000], 5));
    }
    world.flush();
    world.restart_clean();
    // The block that begins inside batch 2000 now holds the header of batch 1000 at its start.
    let bytes = world.disk.bytes_of(first()).to_vec();
    let header = |offset: u64| {
        let at = bytes.windows(8).enumerate().find(|(at, base)| {
            *base == offset.to_be_bytes() && bytes[at.saturating_sub(67)..].starts_with(b"V2")
        });
        at.expect("stored").0 - 67
    };
    let (from, to) = (header(1000), header(2000) + 200);
    world.disk.overwrite(first(), to, &bytes[from..from + 128]);
    for offset in (0..4000).step_by(13).filter(|offset| *offset != 2000) {
        let frames = world.read(offset, 1).expect("readable");
        assert_eq!(frames[0].0, offset);
        world.settle();
    }
    assert!(world.notices.is_empty(), "{:?}", world.notices);
}

#[test]
fn a_wrong_crc_is_refused_and_leaves_no_trace() {
    let mut world = World::with_log(2, settings());
    let good = batch(1, &[1; 500], 5);
    let mut bad = good.clone();
    bad[100] ^= 1;
    assert!(matches!(world.append(&bad), Err(AppendError::Crc { .. })));
    world.append_wait(&good);
    assert!(matches!(world.append(&bad), Err(AppendError::Crc { .. })));
    world.append_wait(&good);
    world.flush();
    world.cut_and_start();
    assert_eq!(strip(world.read_all(1 << 20).0), [served(good.clone(), 0), served(good, 1)]);
}

#[test]
fn log_append_time_is_stamped_and_the_crc_recombined() {
    let mut world = World::with_log(3, settings());
    for (n, len) in [0, 1, 300, 4_000, 65_400, 70_000].into_iter().enumerate() {
        let bytes = batch(2, &vec![3; len], 5);
        let time = [77_000, 0, 1_700_000_000_123][n % 3];
        let facts = AppendFacts { leader_epoch: 1, encoding: 3, log_append_time_ms: Some(time) };
        let now = world.now;
        let logs = world.logs.as_mut().expect("started");
        let mut bad = bytes.clone();
        *bad.last_mut().expect("bytes") ^= 1;
        let refused = logs.append(KEY, Batch::Bytes(&bad), facts, now, &mut world.blocks);
        assert!(matches!(refused, Err(AppendError::Crc { .. })), "{len}: {refused:?}");
        logs.append(KEY, Batch::Bytes(&bytes), facts, now, &mut world.blocks).expect("appended");
        world.flush();
        let read = world.read_all(1 << 20).0;
        let got = &read[n].1;
        assert_eq!(crc_fast::crc32_iscsi(&got[21..]).to_be_bytes(), got[17..21], "{len}");
        assert_eq!(got[35..43], time.to_be_bytes(), "{len}");
        assert_eq!(got[22] & 8, 8, "{len}");
        assert_eq!(got[61..], bytes[61..], "{len}");
        assert_eq!(world.logs().max_timestamp(KEY).map(|greatest| greatest.0 >= time), Some(true));
    }
}

#[test]
fn a_header_never_crosses_a_64_kib_boundary() {
    for over in [1usize, 64, 127, 128, 129] {
        let mut world = World::with_log(4, settings());
        let mut sent = Vec::new();
        // The first frame ends `over` bytes before the boundary.
        for len in [65536 - over - 128, 200, 70_000, 300] {
            let bytes = batch(1, &vec![7; len], 5);
            world.append_wait(&bytes);
            sent.push(served(bytes, sent.len() as u64));
        }
        world.flush();
        let second = if over < 128 { 65536 } else { 65536 - over };
        assert_eq!(&world.disk.bytes_of(first())[second..second + 3], b"V2\x02", "{over}");
        assert_eq!(strip(world.read_all(1 << 20).0), sent, "{over} from memory");
        world.cut_and_start();
        assert_eq!(strip(world.read_all(1 << 20).0), sent, "{over} from disk");
    }
}

#[test]
fn a_read_finds_the_batch_that_holds_an_offset() {
    let mut world = World::with_log(5, settings());
    for n in 0..50u64 {
        world.append_wait(&batch(10, &vec![1; 400 + usize::try_from(n).expect("small")], 5));
    }
    world.flush();
    for memory in [true, false] {
        for offset in [0, 9, 10, 255, 499] {
            let frames = world.read(offset, 1).expect("readable");
            assert_eq!((frames.len(), frames[0].0), (1, offset / 10 * 10), "memory {memory}");
        }
        assert_eq!(world.read(500, 1), Err(ReadStart::Empty));
        assert_eq!(world.read(501, 1), Err(ReadStart::OutOfRange));
        world.cut_and_start();
    }
}

#[test]
fn the_time_index_finds_the_first_batch_not_earlier() {
    let mut world = World::with_log(6, settings());
    for n in 0..300i64 {
        world.append_wait(&batch(1, &[1; 3000], 1000 + n * 10));
    }
    world.flush();
    for restart in [false, true] {
        if restart {
            world.cut_and_start();
        }
        assert_eq!(world.logs().max_timestamp(KEY), Some((1000 + 2990, 299)));
        for (time, found) in [
            (0, Some(0)),
            (1000, Some(0)),
            (1001, Some(1)),
            (2500, Some(150)),
            (3990, Some(299)),
            (3991, None),
        ] {
            let logs = world.logs.as_mut().expect("started");
            let answer = logs.find_time(KEY, time, 300, &mut world.blocks, &mut world.io);
            let got = match answer {
                crate::logs::TimeFound::Batch { base_offset } => Some(base_offset),
                crate::logs::TimeFound::None => None,
                crate::logs::TimeFound::Waiting(ticket) => {
                    world.settle();
                    world.times.remove(&ticket.0).expect("answered")
                }
            };
            assert_eq!(got, found, "time {time}");
        }
    }
}

#[test]
fn segments_roll_and_reads_cross_them() {
    let mut world = World::with_log(7, settings());
    let mut sent = Vec::new();
    for n in 0..400u64 {
        let bytes = batch(1, &vec![u8::try_from(n % 256).expect("small"); 9000], 5);
        world.append_wait(&bytes);
        sent.push(served(bytes, n));
    }
    world.flush();
    world.settle();
    assert!(world.disk.segments(KEY).len() >= 4, "{:?}", world.disk.segments(KEY));
    assert_eq!(strip(world.read_all(300_000).0), sent);
    let facts = world.logs().segments(KEY);
    assert!(
        facts[0].sealed && facts[0].file_bytes < (1 << 20) + 4096,
        "trimmed at seal: {:?}",
        facts[0]
    );
    assert_eq!(facts.iter().map(|one| one.frame_bytes).sum::<u64>(), 400 * 9128);
    world.cut_and_start();
    assert_eq!(strip(world.read_all(300_000).0), sent);
    assert_eq!(
        world.logs().segments(KEY).iter().map(|one| one.frame_bytes).sum::<u64>(),
        400 * 9128
    );
    world.restart_clean();
    assert_eq!(strip(world.read_all(300_000).0), sent);
    let again = world.logs().segments(KEY);
    assert_eq!(again.iter().map(|one| one.frame_bytes).sum::<u64>(), 400 * 9128);
}

#[test]
fn retention_by_size_moves_the_start_durably_and_removes_segments() {
    let mut keep = settings();
    keep.retention_bytes = Some(1 << 20);
    let mut world = World::with_log(8, keep);
    for _ in 0..600u64 {
        world.append_wait(&batch(1, &[9; 9000], 5));
    }
    world.flush();
    for _ in 0..200 {
        world.now.mono_ns += 100_000_000;
        world.turn(100);
    }
    let start = world.logs().start_offset(KEY);
    assert!(start > 300, "start {start}");
    assert_eq!(world.moved.last(), Some(&start));
    assert_eq!(world.disk.segments(KEY)[0], start);
    assert_eq!(world.read(start - 1, 1), Err(ReadStart::OutOfRange));
    world.cut_and_start();
    assert_eq!(world.logs().start_offset(KEY), start);
    assert_eq!(world.read_all(1 << 20).0.len() as u64, 600 - start);
}

#[test]
fn retention_by_age_empties_even_the_active_segment() {
    let mut keep = settings();
    keep.retention_ns = Some(1_000_000_000);
    let mut world = World::with_log(9, keep);
    let time = world.now.wall_ms();
    for _ in 0..100 {
        world.append_wait(&batch(1, &[9; 9000], time));
    }
    world.flush();
    for _ in 0..300 {
        world.now.mono_ns += 100_000_000;
        world.now.wall_ns += 100_000_000;
        world.turn(100);
    }
    assert_eq!((world.logs().start_offset(KEY), world.logs().end_offset(KEY)), (100, 100));
    world.append_wait(&batch(1, &[9; 900], time + 1_000_000));
    world.flush();
    world.cut_and_start();
    assert_eq!(world.recovered[&KEY].0, 100);
    assert_eq!(world.read_all(1 << 20).0.len(), 1);
}

#[test]
fn a_torn_tail_is_dropped_and_appends_go_on() {
    let mut world = World::with_log(10, settings());
    world.append_wait(&batch(1, &[1; 700], 5));
    world.flush();
    world.append_wait(&batch(1, &[2; 9000], 5));
    let logs = world.logs.as_mut().expect("started");
    logs.plan(world.now, &mut world.blocks, &mut world.io);
    world.disk.submit(&mut world.io, &world.blocks);
    // Half of the write reaches the disk.
    loop {
        let mut torn = super::disk::Dice(world.dice.next());
        if torn.below(4) == 3 {
            world.dice.0 = world.dice.0.wrapping_sub(0x9E37_79B9_7F4A_7C15);
            break;
        }
    }
    world.cut_and_start();
    let end = world.logs().end_offset(KEY);
    assert!(end == 1 || end == 2);
    world.append_wait(&batch(1, &[3; 800], 5));
    world.flush();
    world.cut_and_start();
    let all = world.read_all(1 << 20).0;
    assert_eq!(all.len() as u64, end + 1);
    assert_eq!(all.last().map(|(_, bytes)| bytes[61]), Some(3));
}

#[test]
fn rot_below_the_witness_is_quarantined_and_later_batches_stay_readable() {
    for in_header in [true, false] {
        let mut world = World::with_log(11, settings());
        for n in 0..40u8 {
            world.append_wait(&batch(1, &vec![n; 2000], 5));
            if n % 4 == 3 {
                world.flush();
            }
        }
        world.flush();
        // Checkpoints know the end, recovery starts behind the damage: the read finds it.
        world.stop();
        let bytes = world.disk.bytes_of(first()).to_vec();
        let at = bytes
            .windows(300)
            .position(|w| w[0] == b'V' && w[1] == b'2' && w[128] == 17)
            .expect("frame 17");
        world.disk.flip(first(), at as u64 + if in_header { 40 } else { 500 }, 3);
        world.start();
        let (all, holes) = world.read_all(4000);
        assert_eq!(holes, [(17, 18)], "in header {in_header}");
        assert_eq!(all.len(), 39);
        assert_eq!(world.read(17, 100), Err(ReadStart::Quarantined { until: 18 }));
        // The list is durable: the next life names the range at once.
        world.cut_and_start();
        assert_eq!(world.read(17, 100), Err(ReadStart::Quarantined { until: 18 }));
        // And without it and without checkpoints recovery finds the damage by itself.
        world.logs = None;
        world.disk.put_small(crate::io::SmallFile::Quarantine(KEY), Vec::new());
        world.disk.forget_checkpoints();
        world.start();
        let (all, holes) = world.read_all(4000);
        assert_eq!((all.len(), holes), (39, vec![(17, 18)]), "in header {in_header}");
    }
}

#[test]
fn an_unreadable_block_costs_the_batches_in_it_alone() {
    let mut world = World::with_log(12, settings());
    for n in 0..40u8 {
        world.append_wait(&batch(1, &vec![n; 3000], 5));
    }
    world.flush();
    world.restart_clean();
    world.disk.unreadable = Some((first(), 8192, 12288));
    let (all, holes) = world.read_all(1 << 20);
    let lost: u64 = holes.iter().map(|hole| hole.1 - hole.0).sum();
    assert!((2..=3).contains(&lost), "{holes:?}");
    assert_eq!(all.len() as u64, 40 - lost);
}

/// P15: readers that meet the bad block at the same time do not widen the damage for each other.
#[test]
fn an_unreadable_block_costs_no_more_when_many_read_at_once() {
    let mut world = World::with_log(12, settings());
    for n in 0..40u8 {
        world.append_wait(&batch(1, &vec![n; 3000], 5));
    }
    world.flush();
    world.restart_clean();
    world.disk.unreadable = Some((first(), 8192, 12288));
    for from in 0..6 {
        let logs = world.logs.as_mut().expect("started");
        let mut list = crate::read::FrameList::default();
        logs.read(KEY, from, 40, 1 << 20, &mut world.blocks, &mut world.io, &mut list);
        world.turn(100);
    }
    world.settle();
    let (all, holes) = world.read_all(1 << 20);
    let lost: u64 = holes.iter().map(|hole| hole.1 - hole.0).sum();
    assert!((2..=3).contains(&lost), "{holes:?}");
    assert_eq!(all.len() as u64, 40 - lost);
}

#[test]
fn frames_of_a_dropped_life_are_not_read_again() {
    // A batch of an unfinished group survives the cut but not its predecessor: dropped, never back.
    for seed in 0..40 {
        let mut world = World::with_log(100 + seed, settings());
        world.append_wait(&batch(1, &[1; 100], 5));
        world.flush();
        world.append_wait(&batch(1, &[2; 100], 5));
        world.append_wait(&batch(1, &[3; 6000], 5));
        world.turn(0);
        world.cut_and_start();
        let kept = world.logs().end_offset(KEY);
        // The same bytes again, so that only the epoch tells old from new.
        world.append_wait(&batch(1, &[4; 100], 5));
        world.flush();
        world.cut_and_start();
        let all = world.read_all(1 << 20).0;
        assert_eq!(all.len() as u64, kept + 1, "seed {seed}");
        assert_eq!(all.last().map(|(_, bytes)| bytes[61]), Some(4), "seed {seed}");
    }
}

#[test]
fn a_log_without_any_checkpoint_is_scanned_from_its_first_segment() {
    let mut world = World::with_log(13, settings());
    for n in 0..300u64 {
        world.append_wait(&batch(1, &vec![u8::try_from(n % 256).expect("small"); 8000], 5));
    }
    world.flush();
    let epoch = world.recovered[&KEY].2;
    world.disk.forget_checkpoints();
    world.cut_and_start();
    assert!(world.recovered[&KEY].2 > epoch);
    assert_eq!(world.read_all(1 << 20).0.len(), 300);
}

#[test]
fn starting_twice_changes_nothing() {
    let mut world = World::with_log(14, settings());
    for _ in 0..30 {
        world.append_wait(&batch(1, &[1; 3000], 5));
        world.turn(60);
    }
    world.logs = None;
    world.disk.cut(&mut world.dice);
    let mut ends = Vec::new();
    for round in 0..6 {
        world.begin_start();
        for _ in 0..round * 2 {
            world.turn(80);
        }
        world.logs = None;
        world.disk.cut(&mut world.dice);
    }
    for _ in 0..2 {
        world.cut_and_start();
        ends.push((world.logs().end_offset(KEY), world.read_all(1 << 20)));
    }
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn a_failed_durable_write_poisons_and_a_restart_heals() {
    for failure in [Err(EIO), Ok(IoOk::Bytes(4096))] {
        let mut world = World::with_log(15, settings());
        world.append_wait(&batch(1, &[1; 300], 5));
        world.flush();
        world.append_wait(&batch(1, &[2; 9000], 5));
        world.disk.fail_write = Some(failure);
        world.settle();
        assert_eq!(world.poisoned, [KEY]);
        assert_eq!(world.flushed[&KEY], 1);
        assert!(matches!(world.append(&batch(1, &[1; 10], 5)), Err(AppendError::Poisoned(_))));
        assert_eq!(world.read_all(1 << 20).0.len(), 1, "what is flushed stays readable");
        world.cut_and_start();
        assert_eq!(world.logs().end_offset(KEY), 1);
        world.append_wait(&batch(1, &[1; 10], 5));
        world.flush();
    }
}

#[test]
fn truncation_moves_the_end_back_for_good() {
    let mut world = World::with_log(17, settings());
    for n in 0..300u64 {
        world.append_wait(&batch(1, &vec![u8::try_from(n % 256).expect("small"); 9000], 5));
    }
    world.flush();
    let epoch = world.recovered[&KEY].2;
    let now = world.now;
    world.recovered.clear();
    world.logs.as_mut().expect("started").truncate(KEY, 57, now, &mut world.io);
    world.settle();
    let (_, end, after) = world.recovered[&KEY];
    assert_eq!((end, after), (57, epoch + 1));
    assert!(!world.disk.set_aside.is_empty(), "segments beyond the end are set aside");
    assert_eq!(world.read_all(1 << 20).0.len(), 57);
    world.cut_and_start();
    assert_eq!(world.logs().end_offset(KEY), 57);
    for _ in 0..100 {
        world.append_wait(&batch(1, &[0xEE; 9000], 5));
    }
    world.flush();
    for round in 0..2 {
        let all = world.read_all(1 << 20).0;
        assert_eq!(all.len(), 157, "round {round}");
        assert!(all[57..].iter().all(|(_, bytes)| bytes[61] == 0xEE));
        world.disk.forget_checkpoints();
        world.cut_and_start();
    }
}

#[test]
fn recovery_replays_headers_after_the_snapshot_only() {
    let mut world = World::with_log(18, settings());
    for _ in 0..20 {
        world.append_wait(&batch(2, &[1; 300], 5));
    }
    world.flush();
    world.restart_clean();
    assert_eq!(world.snapshots, [(KEY, 40u64.to_le_bytes().to_vec())]);
    assert!(world.replayed.is_empty());
    for _ in 0..5 {
        world.append_wait(&batch(2, &[1; 300], 5));
    }
    world.flush();
    world.cut_and_start();
    assert_eq!(world.snapshots.len(), 1);
    let bases: Vec<u64> = world.replayed.iter().map(|facts| facts.base_offset).collect();
    assert_eq!(bases, [40, 42, 44, 46, 48]);
}

#[test]
fn a_snapshot_describes_the_flushed_end_of_the_moment_it_was_made() {
    let mut world = World::with_log(18, settings());
    world.append_wait(&batch(2, &[1; 300], 5));
    world.flush();
    world.append_wait(&batch(2, &[1; 300], 5));
    // The write of the second batch is in flight: state handed in now knows the first alone. The second
    // hand-in waits for the first one's file, and meanwhile the write ends.
    for _ in 0..2 {
        let mut io = std::mem::take(&mut world.io);
        world.logs().put_snapshot(KEY, 2u64.to_le_bytes().to_vec(), &mut io);
        world.io = io;
        world.turn(0);
    }
    world.flush();
    world.settle();
    world.cut_and_start();
    assert_eq!(world.snapshots, [(KEY, 2u64.to_le_bytes().to_vec())]);
    let bases: Vec<u64> = world.replayed.iter().map(|facts| facts.base_offset).collect();
    assert_eq!(bases, [2]);
}

#[test]
fn a_size_left_by_a_dead_process_is_durable_before_its_space_is_used() {
    let mut world = World::with_log(20, settings());
    world.append_wait(&batch(1, &[1; 300], 5));
    world.flush();
    world.settle();
    let name = SegmentName { log: KEY, base_offset: 0 };
    world.disk.grow(name, 65_536);
    // The process dies: what it saw stays seen, no flush has covered it.
    world.logs = None;
    world.io = IoOut::default();
    world.start();
    assert!(world.disk.has_durable_size(name));
}

#[test]
fn a_removed_log_leaves_nothing() {
    let mut world = World::with_log(19, settings());
    world.append_wait(&batch(1, &[1; 300], 5));
    world.logs.as_mut().expect("started").remove(KEY, &mut world.io);
    world.settle();
    assert_eq!(world.removed, [KEY]);
    assert!(world.disk.segments(KEY).is_empty());
    assert_eq!(world.append(&batch(1, &[1; 300], 5)), Err(AppendError::Unknown));
    assert_eq!(world.blocks.holds(), 0);
}

#[test]
fn a_newer_format_is_refused_naming_both_versions() {
    let mut world = World::with_log(20, settings());
    world.stop();
    let mut out = crate::codec::Writer::new(*b"RWMT", 9);
    out.u32(0);
    world.disk.put_small(crate::io::SmallFile::Meta, out.finish());
    let text = world.start_directory().expect_err("refused");
    assert!(text.contains('9') && text.contains("newer"), "{text}");
}

/// Bounds that the two newest checkpoints hold.
fn bounds(world: &World) -> Vec<u64> {
    let small = |generation| world.disk.small(SmallFile::Checkpoint { shard: 0, generation });
    let newest = (1..100).rev().filter_map(small).take(2);
    newest
        .map(|body| checkpoint::decode(body).expect("whole"))
        .flat_map(|file| file.entries.into_iter().map(|entry| entry.bound))
        .collect()
}

/// P2, and with either checkpoint lost.
#[test]
fn batches_larger_than_a_group_wait_for_the_bound_to_be_durable() {
    let mut world = World::with_log(21, settings());
    let large = batch(1, &vec![5; 900_000], 5);
    for _ in 0..5 {
        world.append_wait(&large);
        assert!(bounds(&world).iter().all(|bound| *bound > 900_000), "{:?}", bounds(&world));
        assert_eq!(bounds(&world).len(), 2);
    }
    world.flush();
    world.cut_and_start();
    assert_eq!(world.read_all(1 << 20).0.len(), 5);
    let over = batch(1, &vec![5; 3 << 20], 5);
    assert!(matches!(world.append(&over), Err(AppendError::TooLarge { .. })));
}

#[test]
fn offsets_that_a_recovery_gave_up_are_not_quarantined_any_more() {
    let mut world = World::with_log(13, settings());
    world.append_wait(&batch(1, &[1; 2000], 5));
    world.flush();
    // A read found damage in the tail and named it; then the tail was torn off as a whole.
    let mut list = Quarantine::default();
    let damage = Damage::Payload;
    list.add(Quarantined {
        segment: 0,
        at: 4096,
        until: 8192,
        from: 1,
        to: 3,
        damage,
        found_ns: 1,
        finder: Finder::Read,
    });
    world.disk.put_small(SmallFile::Quarantine(KEY), list.encode());
    world.cut_and_start();
    for _ in 0..2 {
        world.append_wait(&batch(1, &[2; 2000], 5));
        world.flush();
        assert_eq!(world.read_all(1 << 20).1, [], "sound batches got these offsets");
        world.cut_and_start();
    }
    assert_eq!(world.read_all(1 << 20).0.len(), 3);
}

#[test]
fn a_start_that_takes_long_waits_for_its_disk() {
    let settings = LogSettings { retention_bytes: Some(1 << 20), ..settings() };
    let mut world = World::with_log(14, settings);
    world.append_wait(&batch(1, &[1; 2000], 5));
    world.flush();
    world.logs = None;
    world.begin_start();
    world.turn(0);
    world.now.mono_ns += 60_000_000_000;
    let World { logs, now, blocks, io, .. } = &mut world;
    let wake = logs.as_mut().expect("started").plan(*now, blocks, io);
    assert!(wake.is_none_or(|at| at > now.mono_ns), "called again at once for ever: {wake:?}");
}
