//! Fetches and ListOffsets.

use super::world::{World, batch, part};
use crate::request::{FetchPart, OffsetAt, Request};
use ringway_wire::batch_writer::BatchOptions;
use ringway_wire::compression::Codec;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};

fn log(topic_id: u64) -> LogKey {
    LogKey { topic_id, partition: 0 }
}

fn plain(world: &World, records: usize, bytes: usize) -> Vec<u8> {
    batch(BatchOptions::default(), world.wall_ms(), records, bytes)
}

#[test]
fn f1_an_offset_inside_a_batch_returns_the_whole_batch() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 10, 10));
    world.produce(key, plain(&world, 10, 10));
    let got = world.fetch(key, 15);
    assert_eq!(got.offsets, [(10, 19)]);
    assert_eq!(world.fetch(key, 3).offsets, [(0, 9), (10, 19)]);
    world.finish();
}

#[test]
fn f2_the_first_batch_comes_whole_and_later_ones_only_if_they_fit() {
    let mut world = World::new(1);
    let topic = world.topic("t", 2, &[]);
    let keys = [log(topic), LogKey { topic_id: topic, partition: 1 }];
    for key in keys {
        for _ in 0..3 {
            world.produce(key, plain(&world, 1, 1000));
        }
    }
    let small = |key| FetchPart { bytes_max: 10, ..part(key, 0) };
    let request = world.fetch_request(keys.map(small).to_vec(), 1, 0);
    let id = world.ask(0, request);
    let parts = world.fetched(id);
    assert_eq!(parts[0].offsets, [(0, 0)]);
    assert!(parts[1].offsets.is_empty());
    assert_eq!(parts[1].high_watermark, 3, "its facts come all the same");
    let deadline_ns = world.now_ns;
    let parts = keys.map(|key| part(key, 0)).to_vec();
    let id = world.ask(0, Request::Fetch { parts, bytes_min: 1, bytes_max: 4500, deadline_ns });
    let parts = world.fetched(id);
    assert_eq!((parts[0].offsets.len(), parts[1].offsets.len()), (3, 1), "4 of 1,0xx bytes fit");
    world.finish();
}

#[test]
fn f4_a_fetch_waits_for_the_high_watermark_and_then_for_its_deadline() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 1, 10));
    let request = world.fetch_request(vec![part(key, 1)], 1, 500);
    let id = world.ask(0, request);
    assert!(!world.is_answered(id));
    world.disk.hold_writes = true;
    let bytes = plain(&world, 1, 10);
    let request = world.produce_request(key, 1, bytes);
    let produced = world.ask(0, request);
    assert!(!world.is_answered(id), "D9: appended is not flushed");
    world.release_disk();
    assert_eq!(world.code(produced), ErrorCode::None);
    assert_eq!(world.fetched(id)[0].offsets, [(1, 1)]);
    let request = world.fetch_request(vec![part(key, 2)], 1, 500);
    let id = world.ask(0, request);
    world.pass(499);
    assert!(!world.is_answered(id));
    world.pass(1);
    let got = world.fetched(id).pop().expect("one part");
    assert_eq!((got.code, got.offsets.len(), got.high_watermark), (ErrorCode::None, 0, 2));
    world.finish();
}

#[test]
fn f4_min_bytes_counts_over_all_partitions() {
    let mut world = World::new(1);
    let topic = world.topic("t", 3, &[]);
    let keys = [0, 1, 2].map(|partition| LogKey { topic_id: topic, partition });
    let parts = keys.map(|key| part(key, 0)).to_vec();
    let request = world.fetch_request(parts, 3000, 10_000);
    let id = world.ask(0, request);
    for key in &keys[..2] {
        world.produce(*key, plain(&world, 1, 1000));
        assert!(!world.is_answered(id));
    }
    world.produce(keys[2], plain(&world, 1, 1000));
    let lens: Vec<usize> = world.fetched(id).iter().map(|part| part.offsets.len()).collect();
    assert_eq!(lens, [1, 1, 1]);
    world.finish();
}

#[test]
fn f4_an_error_of_any_part_answers_at_once() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    let request = world.fetch_request(vec![part(key, 0), part(log(77), 0)], 1, 10_000);
    let id = world.ask(0, request);
    let parts = world.fetched(id);
    assert_eq!(parts[0].code, ErrorCode::None);
    assert_eq!(parts[1].code, ErrorCode::UnknownTopicOrPartition);
    world.finish();
}

#[test]
fn f5_offsets_outside_the_log_are_told_with_the_log_start() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 5, 10));
    let got = world.fetch(key, 5);
    assert_eq!((got.code, got.offsets.len()), (ErrorCode::None, 0), "the end is no error");
    let got = world.fetch(key, 6);
    assert_eq!((got.code, got.log_start), (ErrorCode::OffsetOutOfRange, 0));
    world.finish();
}

#[test]
fn f8_leader_epochs_are_checked() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 1, 10));
    let (_, _, epoch) = world.offset(key, OffsetAt::Latest);
    for (leader_epoch, code) in [
        (-1, ErrorCode::None),
        (epoch, ErrorCode::None),
        (epoch - 1, ErrorCode::FencedLeaderEpoch),
        (epoch + 1, ErrorCode::UnknownLeaderEpoch),
    ] {
        let one = FetchPart { leader_epoch, ..part(key, 0) };
        let request = world.fetch_request(vec![one], 1, 0);
        let id = world.ask(0, request);
        assert_eq!(world.fetched(id)[0].code, code, "epoch {leader_epoch} of {epoch}");
        let id = world.ask(0, Request::ListOffsets { key, at: OffsetAt::Earliest, leader_epoch });
        if code == ErrorCode::None {
            world.reply(id);
        } else {
            assert_eq!(world.code(id), code);
        }
    }
    world.finish();
}

#[test]
fn f9_a_restart_raises_the_leader_epoch_of_new_batches() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 1, 10));
    world.crash();
    world.produce(key, plain(&world, 1, 10));
    let got = world.fetch(key, 0);
    let second = got.bytes.len() / 2;
    let epoch = |at: usize| i32::from_be_bytes(got.bytes[at + 79..at + 83].try_into().unwrap());
    assert!(epoch(second) > epoch(0), "{} after {}", epoch(second), epoch(0));
    world.finish();
}

#[test]
fn cold_reads_answer_as_the_tail_does() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    for _ in 0..20 {
        world.produce(key, plain(&world, 10, 5000));
    }
    world.crash();
    let mut next = 0;
    while next < 200 {
        let got = world.fetch(key, next);
        assert_eq!(got.code, ErrorCode::None);
        assert_eq!(got.offsets[0].0, next);
        next = got.offsets.last().expect("some").1 + 1;
    }
    assert!(world.shard(0).counts().log.cold_read_bytes > 0);
    world.finish();
}

#[test]
fn a_fetch_whose_connection_is_gone_frees_its_row_and_its_read() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 10, 5000));
    let request = world.fetch_request(vec![part(key, 10)], 1, 60_000);
    let id = world.ask(0, request);
    assert_eq!(world.shard(0).counts().waiting_rows, 1);
    world.gone(0, id);
    assert_eq!(world.shard(0).counts().waiting_rows, 0);
    world.crash();
    let free = world.free_blocks(0);
    world.disk.hold_reads = true;
    let request = world.fetch_request(vec![part(key, 0)], 1, 0);
    let id = world.ask(0, request);
    assert!(world.disk.held() > 0 && !world.is_answered(id));
    world.gone(0, id);
    world.release_disk();
    assert_eq!(world.free_blocks(0), free, "its blocks came back");
    assert!(!world.is_answered(id));
    world.finish();
}

#[test]
fn waiting_rows_are_bounded_and_the_next_fetch_is_answered_empty() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    let mut ids = Vec::new();
    for _ in 0..1000 {
        let request = world.fetch_request(vec![part(key, 0)], 1, 1_000);
        ids.push(world.ask_only(0, request));
    }
    world.run();
    assert!(ids.iter().all(|id| !world.is_answered(*id)));
    let request = world.fetch_request(vec![part(key, 0)], 1, 1_000);
    let last = world.ask(0, request);
    assert!(world.fetched(last)[0].offsets.is_empty());
    world.produce(key, plain(&world, 1, 10));
    for id in ids {
        assert_eq!(world.fetched(id)[0].offsets, [(0, 0)]);
    }
    world.finish();
}

#[test]
fn b3_a_fetch_over_shards_gathers_and_waits_as_one() {
    let mut world = World::new(2);
    let topic = world.topic("t", 2, &[]);
    let keys = [0, 1].map(|partition| LogKey { topic_id: topic, partition });
    let foreign = keys.into_iter().find(|key| shard_of(*key, 2) == 1).expect("one of two");
    let parts = keys.map(|key| part(key, 0)).to_vec();
    let request = world.fetch_request(parts.clone(), 1, 10_000);
    let waiting = world.ask(0, request);
    assert!(!world.is_answered(waiting));
    world.produce(foreign, plain(&world, 3, 100));
    let got = world.fetched(waiting);
    let with_bytes: Vec<bool> = got.iter().map(|part| !part.bytes.is_empty()).collect();
    assert_eq!(with_bytes, keys.map(|key| key == foreign));
    let at = keys.iter().position(|key| *key == foreign).expect("there");
    assert_eq!(got[at].high_watermark, 3);
    // Both at once, and the local one wakes a row whose foreign part waits.
    let ends: Vec<FetchPart> =
        keys.map(|key| part(key, if key == foreign { 3 } else { 0 })).to_vec();
    let request = world.fetch_request(ends, 1, 10_000);
    let waiting = world.ask(0, request);
    let local = keys.into_iter().find(|key| *key != foreign).expect("the other");
    world.produce(local, plain(&world, 1, 100));
    assert!(world.is_answered(waiting));
    let request = world.fetch_request(parts, 1, 0);
    let both = world.ask(0, request);
    assert!(world.fetched(both).iter().all(|part| !part.bytes.is_empty()));
    let rows: u64 = (0..2).map(|at| world.shard(at).counts().waiting_rows).sum();
    assert_eq!(rows, 0, "forgotten asks leave no row");
    world.finish();
}

#[test]
fn f4_a_fetch_that_wants_more_than_there_is_gets_what_another_shard_has_when_it_is_due() {
    let mut world = World::new(2);
    let topic = world.topic("t", 2, &[]);
    let keys = [0, 1].map(|partition| LogKey { topic_id: topic, partition });
    for key in keys {
        world.produce(key, plain(&world, 1, 100));
    }
    let request = world.fetch_request(keys.map(|key| part(key, 0)).to_vec(), 4_000, 500);
    let id = world.ask(0, request);
    world.pass(490);
    assert!(!world.is_answered(id), "less than it wants");
    world.pass(20);
    assert!(world.fetched(id).iter().all(|part| !part.bytes.is_empty()));
    world.finish();
}

#[test]
fn b3_a_gone_fetch_forgets_its_foreign_part() {
    let mut world = World::new(2);
    let topic = world.topic("t", 2, &[]);
    let keys = [0, 1].map(|partition| LogKey { topic_id: topic, partition });
    let request = world.fetch_request(keys.map(|key| part(key, 0)).to_vec(), 1, 10_000);
    let id = world.ask(0, request);
    world.gone(0, id);
    let rows: u64 = (0..2).map(|at| world.shard(at).counts().waiting_rows).sum();
    assert_eq!(rows, 0);
    world.finish();
}

#[test]
fn o1_times_find_the_first_record_at_or_after_in_every_codec() {
    let mut world = World::new(1);
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let key = log(world.topic(codec.name(), 1, &[]));
        for time in [1000, 2000, 3000] {
            let options = BatchOptions { codec, ..BatchOptions::default() };
            world.produce(key, batch(options, time, 2, 50));
        }
        let (_, _, epoch) = world.offset(key, OffsetAt::Latest);
        for (at, expected) in [
            (0, (0, 1000, epoch)),
            (1000, (0, 1000, epoch)),
            (1001, (2, 2000, epoch)),
            (3000, (4, 3000, epoch)),
            (3001, (-1, -1, -1)),
        ] {
            assert_eq!(world.offset(key, OffsetAt::Time(at)), expected, "{codec:?} {at}");
        }
        assert_eq!(world.offset(key, OffsetAt::MaxTimestamp), (4, 3000, epoch));
    }
    world.finish();
}

#[test]
fn o2_specials_name_start_and_high_watermark() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    assert_eq!(world.offset(key, OffsetAt::MaxTimestamp), (-1, -1, -1));
    world.produce(key, plain(&world, 5, 10));
    assert_eq!(world.offset(key, OffsetAt::Earliest).0, 0);
    assert_eq!(world.offset(key, OffsetAt::Latest).0, 5);
    world.finish();
}

#[test]
fn o3_the_epoch_told_is_the_found_records() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, batch(BatchOptions::default(), 1000, 1, 10));
    let (_, _, before) = world.offset(key, OffsetAt::Time(1000));
    world.crash();
    world.produce(key, batch(BatchOptions::default(), 2000, 1, 10));
    assert_eq!(world.offset(key, OffsetAt::Time(1000)), (0, 1000, before));
    let (_, _, after) = world.offset(key, OffsetAt::Time(2000));
    assert!(after > before);
    assert_eq!(world.offset(key, OffsetAt::Earliest), (0, -1, before));
    world.finish();
}
