//! What a start after a crash reads: bounded by bytes, not by time alone, and nothing twice (R9).
//! Owner: the tests of this crate.
//! Invariant: what is not read again is known all the same: every batch is replayed once, in order.
//! Not here: what recovery decides (`lives.rs`, `rules.rs`), seconds (`tests/faults/restart`).

use super::life::{KEY, World, batch, settings};
use crate::checkpoint;
use crate::frame::REGION;
use crate::io::{SegmentName, SmallFile};
use crate::logs::LogSettings;
use crate::snapshot;

const BATCHES: u64 = 300;
const BATCH_BYTES: usize = 9_000;

/// A life of 2.7 MB that is killed.
fn killed(seed: u64, checkpoint_bytes: u64) -> World {
    // One segment: a roll would bring a snapshot.
    let mut world = World::with_log(seed, LogSettings { segment_bytes: 64 << 20, ..settings() });
    world.stop();
    world.config.upkeep.checkpoint_bytes = checkpoint_bytes;
    world.start();
    // No interval passes: only bytes make a checkpoint due.
    world.config.checkpoint_interval_ns = u64::MAX / 2;
    for n in 0..BATCHES {
        world.append_wait(&batch(1, &vec![n.to_le_bytes()[0]; BATCH_BYTES], 5));
        world.flush();
    }
    world.logs = None;
    world
}

fn name(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

fn scanned(world: &World) -> u64 {
    world.report.as_ref().expect("started").scanned_bytes
}

/// Whether just these batches were replayed, in order.
fn replayed(world: &World, offsets: std::ops::Range<u64>) -> bool {
    world.replayed.iter().map(|facts| facts.base_offset).eq(offsets)
}

/// Where the newest checkpoint says that the log ends.
fn vouched(world: &mut World) -> u64 {
    let facts = world.start_directory().expect("the directory is fine");
    let files = facts.checkpoints.iter().filter_map(|(_, _, body)| checkpoint::decode(body));
    let ends = files.flat_map(|file| file.entries).map(|entry| entry.end.offset);
    ends.max().expect("a checkpoint")
}

#[test]
fn r9_bytes_flushed_make_a_checkpoint_due_before_its_interval() {
    let bytes = 256 << 10;
    let mut world = killed(91, bytes);
    let least = BATCHES - 2 * bytes / BATCH_BYTES as u64;
    assert!(vouched(&mut world) >= least, "{} is below {least}", vouched(&mut world));
    let mut late = killed(91, u64::MAX);
    assert!(vouched(&mut late) < least, "the test can fail");
}

#[test]
fn r9_what_the_scan_went_over_is_not_read_again_for_the_replay() {
    for checkpoint_bytes in [256 << 10, u64::MAX] {
        let mut world = killed(92, checkpoint_bytes);
        world.start();
        assert!(replayed(&world, 0..BATCHES), "{} batches", world.replayed.len());
        let log: usize = world
            .disk
            .segments(KEY)
            .iter()
            .map(|base| world.disk.bytes_of(name(*base)).len())
            .sum();
        // Each of the two walks has read ahead where it ended.
        let most = log as u64 + 16 * REGION;
        assert!(scanned(&world) <= most, "{} of {log} bytes", scanned(&world));
        assert_eq!(world.read_all(1 << 20).0.len() as u64, BATCHES);
    }
}

#[test]
fn r9_more_frames_than_are_kept_are_read_again() {
    let mut world = killed(93, u64::MAX);
    world.start();
    for n in 0..9_000u32 {
        world.append_wait(&batch(1, &n.to_le_bytes(), 5));
    }
    world.flush();
    world.logs = None;
    world.start();
    assert!(replayed(&world, 0..BATCHES + 9_000), "{} batches", world.replayed.len());
}

#[test]
fn r9_a_snapshot_newer_than_the_checkpoint_is_gone_on_from() {
    for lies in [false, true] {
        let mut world = World::with_log(94, settings());
        for n in 0..40u8 {
            world.append_wait(&batch(1, &vec![n; BATCH_BYTES], 5));
            world.flush();
            if n == 30 {
                let World { logs, io, .. } = &mut world;
                logs.as_mut().expect("started").put_snapshot(KEY, b"state".to_vec(), io);
            }
        }
        world.logs = None;
        if lies {
            // Another history's: the frame at its offset is linked to another one.
            let body = world.disk.small(SmallFile::Snapshot(KEY)).expect("written").to_vec();
            world.disk.put_small(SmallFile::Snapshot(KEY), with_other_crc(&body));
        }
        world.start();
        let first = if lies { 0 } else { 31 };
        assert!(replayed(&world, first..40), "lies {lies}: {} batches", world.replayed.len());
        assert_eq!(world.snapshots.len(), usize::from(!lies));
        assert_eq!(world.read_all(1 << 20).0.len(), 40);
    }
}

/// The same snapshot with another header CRC at its end.
fn with_other_crc(body: &[u8]) -> Vec<u8> {
    let mut found = snapshot::decode(body).expect("whole");
    found.mark.crc ^= 1;
    snapshot::encode(found.epoch, found.mark, &found.segments, &found.body)
}
