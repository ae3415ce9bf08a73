//! What consumers get inside a damaged range (Q3), and what they are told about it.

use super::world::{World, batch, part};
use crate::request::{OffsetAt, Reply, Request};
use ringway_log::io::SmallFile;
use ringway_log::repair::quarantine_body;
use ringway_wire::batch_writer::BatchOptions;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::BatchHeader;
use ringway_wire::ids::{LogKey, shard_of};

/// Four batches of three records on shard `shards - 1`; after a restart the second one is damaged.
fn damaged(shards: u32, configs: &[(&str, &str)]) -> (World, LogKey) {
    let mut world = World::new(shards);
    let topic_id = world.topic("t", 8, configs);
    let key = (0..8)
        .map(|partition| LogKey { topic_id, partition })
        .find(|key| shard_of(*key, shards) == shards - 1)
        .expect("8 partitions reach every shard");
    for n in 0..4usize {
        let options = BatchOptions::default();
        world.produce(key, batch(options, world.wall_ms(), 3, 1000 + n));
    }
    world.crash();
    // Lengths tell the batches apart: the varint of 1001 stands in the second one alone.
    world.disk.damage(key, &[0xD2, 0x0F, b'x'], 100);
    (world, key)
}

fn skipped(world: &World, shards: u32) -> u64 {
    (0..shards as usize).map(|at| world.shard(at).counts().skipped_records).sum()
}

#[test]
fn q3_stop_is_the_default_and_everything_behind_the_range_is_served() {
    for shards in [1, 2] {
        let (mut world, key) = damaged(shards, &[]);
        for offset in 3..6 {
            let got = world.fetch(key, offset);
            assert_eq!((got.code, got.bytes.len()), (ErrorCode::CorruptMessage, 0));
        }
        assert_eq!(world.fetch(key, 0).offsets, [(0, 2)], "up to the damage");
        assert_eq!(world.fetch(key, 6).offsets, [(6, 8), (9, 11)]);
        assert_eq!(skipped(&world, shards), 0);
        // Whoever stands there goes on once the topic says so.
        world.set_config(key.topic_id, "on_quarantine", "skip");
        assert_eq!(world.fetch(key, 4).offsets, [(6, 8), (9, 11)]);
        world.set_config(key.topic_id, "on_quarantine", "stop");
        assert_eq!(world.fetch(key, 4).code, ErrorCode::CorruptMessage);
        world.finish();
    }
}

#[test]
fn q3_skip_gives_the_next_readable_records_and_counts_the_gap() {
    for shards in [1, 2] {
        let (mut world, key) = damaged(shards, &[("on_quarantine", "skip")]);
        let got = world.fetch(key, 4);
        assert_eq!((got.code, got.offsets), (ErrorCode::None, vec![(6, 8), (9, 11)]));
        assert_eq!(skipped(&world, shards), 2, "offsets 4 and 5, found by this very read");
        let got = world.fetch(key, 3);
        assert_eq!((got.code, got.offsets), (ErrorCode::None, vec![(6, 8), (9, 11)]));
        assert_eq!(skipped(&world, shards), 5, "and 3 more, known by then");
        assert_eq!(world.fetch(key, 0).offsets, [(0, 2)]);
        world.finish();
    }
}

#[test]
fn a_log_whose_directory_is_gone_is_named_and_gives_no_offset_twice() {
    for shards in [1, 2] {
        let (mut world, key) = damaged(shards, &[]);
        // The start that this world began with has written checkpoints: they know 12 offsets.
        world.disk.lose(key);
        for _ in 0..2 {
            world.crash();
            assert!(world.disk.has_partition_meta(key), "its directory is made anew");
            for offset in [0, 5, 11] {
                assert_eq!(world.fetch(key, offset).code, ErrorCode::CorruptMessage);
            }
        }
        let options = BatchOptions::default();
        world.produce(key, batch(options, world.wall_ms(), 3, 100));
        assert_eq!(world.fetch(key, 12).offsets, [(12, 14)], "behind what was given");
        world.finish();
    }
}

/// Everything from offset 3 on is damaged.
fn damaged_to_the_end(shards: u32, configs: &[(&str, &str)]) -> (World, LogKey) {
    let (mut world, key) = damaged(shards, configs);
    world.disk.damage(key, &[0xD4, 0x0F, b'x'], 100);
    world.disk.damage(key, &[0xD6, 0x0F, b'x'], 100);
    (world, key)
}

/// Records in all batches of a fetch.
fn records(got: &[u8]) -> i32 {
    let mut rest = got;
    let mut records = 0;
    while let Ok(header) = BatchHeader::access(rest) {
        records += header.record_count();
        rest = &rest[header.frame_len() as usize..];
    }
    records
}

#[test]
fn q3_a_consumer_that_skips_to_the_end_is_moved_there_and_waits() {
    for shards in [1, 2] {
        let (mut world, key) = damaged_to_the_end(shards, &[("on_quarantine", "skip")]);
        for (asked, counted) in [(3, 9), (7, 14)] {
            let request = world.fetch_request(vec![part(key, asked)], 1, 500);
            let id = world.ask(0, request);
            let got = world.fetched(id).pop().expect("answered at once");
            assert_eq!((got.code, got.offsets), (ErrorCode::None, vec![(asked, 11)]));
            assert_eq!((records(&got.bytes), got.high_watermark), (0, 12));
            assert_eq!(skipped(&world, shards), counted, "once for each answer");
        }
        assert_eq!(world.fetch(key, 0).offsets, [(0, 2)], "up to the damage");
        let request = world.fetch_request(vec![part(key, 12)], 1, 500);
        let id = world.ask(0, request);
        assert!(!world.is_answered(id), "that is the end");
        let options = BatchOptions::default();
        world.produce(key, batch(options, world.wall_ms(), 1, 10));
        assert_eq!(world.fetched(id)[0].offsets, [(12, 12)]);
        let got = world.fetch(key, 5);
        assert_eq!((got.offsets, skipped(&world, shards)), (vec![(12, 12)], 21));
        world.finish();
    }
}

#[test]
fn q3_a_fetch_that_wants_more_than_the_step_gets_the_records_that_come_meanwhile() {
    for shards in [1, 2] {
        let (mut world, key) = damaged_to_the_end(shards, &[("on_quarantine", "skip")]);
        let request = world.fetch_request(vec![part(key, 3)], 400, 500);
        let id = world.ask(0, request);
        assert!(!world.is_answered(id), "61 bytes are not 400");
        let options = BatchOptions::default();
        world.produce(key, batch(options, world.wall_ms(), 1, 500));
        assert_eq!(world.fetched(id)[0].offsets, [(12, 12)]);
        world.finish();
    }
}

#[test]
fn offsets_given_up_at_the_end_are_stepped_over_whatever_the_topic_says_of_damage() {
    for (shards, action) in [(1, "stop"), (1, "skip"), (2, "stop")] {
        let (mut world, key) = damaged_to_the_end(shards, &[("on_quarantine", action)]);
        world.disk.empty_segments(key);
        world.crash();
        assert_eq!(world.fetch(key, 0).high_watermark, 12);
        world.stop();
        // As a repair leaves it: nothing is damaged any more, and the offsets are gone for good.
        world.disk.put_small(SmallFile::Quarantine(key), quarantine_body());
        world.crash();
        for asked in [0, 5, 11] {
            let got = world.fetch(key, asked);
            assert_eq!((got.code, got.offsets), (ErrorCode::None, vec![(asked, 11)]));
            assert_eq!(records(&got.bytes), 0);
        }
        assert_eq!(world.offset(key, OffsetAt::Latest).0, 12);
        assert_eq!(world.offset(key, OffsetAt::Time(0)).0, -1);
        let options = BatchOptions::default();
        assert_eq!(world.produce(key, batch(options, world.wall_ms(), 1, 10)), 12);
        assert_eq!(world.fetch(key, 5).offsets, [(12, 12)]);
        assert_eq!(skipped(&world, shards), 0, "nothing was damaged");
        world.finish();
    }
}

#[test]
fn a_description_names_every_damaged_range() {
    let (mut world, key) = damaged(1, &[]);
    assert_eq!(world.fetch(key, 3).code, ErrorCode::CorruptMessage);
    let id = world.ask(0, Request::DescribeLog { key });
    let Reply::Log(facts) = world.reply(id) else { panic!("described") };
    let found: Vec<_> =
        facts.quarantined.iter().map(|one| (one.from, one.to, one.reason)).collect();
    assert_eq!(found, [(3, 6, "payload")]);
    world.finish();
}
