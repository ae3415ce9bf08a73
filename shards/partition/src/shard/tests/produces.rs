//! Produce, duplicates, catalog changes, producer ids, stop and restart.

use super::world::{MS, World, batch, sequenced};
use crate::request::{Notice, OffsetAt, Payload, Reply, Request};
use crate::topic_config::TopicConfig;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::compression::Codec;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};

fn log(topic_id: u64) -> LogKey {
    LogKey { topic_id, partition: 0 }
}

fn plain(world: &World, records: usize) -> Vec<u8> {
    batch(BatchOptions::default(), world.wall_ms(), records, 100)
}

#[test]
fn a_produce_is_answered_after_the_flush_and_not_before() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.disk.hold_writes = true;
    let bytes = plain(&world, 3);
    let request = world.produce_request(key, 1, bytes);
    let id = world.ask(0, request);
    assert!(!world.is_answered(id), "D1: not on disk yet");
    assert_eq!(world.offset(key, OffsetAt::Latest).0, 0, "D9: not shown yet");
    assert!(world.disk.held() > 0);
    world.release_disk();
    let Reply::Produced { base_offset, log_append_time, .. } = world.reply(id) else { panic!() };
    assert_eq!((base_offset, log_append_time), (0, false));
    assert_eq!(world.offset(key, OffsetAt::Latest).0, 3);
    assert_eq!(world.produce(key, plain(&world, 2)), 3);
    world.finish();
}

#[test]
fn w4_acks_zero_is_answered_at_the_append() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.disk.hold_writes = true;
    let bytes = plain(&world, 1);
    let request = world.produce_request(key, 0, bytes);
    let id = world.ask(0, request);
    assert!(matches!(world.reply(id), Reply::Produced { base_offset: 0, .. }));
    world.release_disk();
    assert_eq!(world.offset(key, OffsetAt::Latest).0, 1);
    world.finish();
}

#[test]
fn p9_other_acks_are_refused() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    let bytes = plain(&world, 1);
    let request = world.produce_request(key, 2, bytes);
    let id = world.ask(0, request);
    assert_eq!(world.code(id), ErrorCode::InvalidRequiredAcks);
    world.finish();
}

#[test]
fn p10_a_deadline_that_passed_before_the_append_appends_nothing() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    let payload = Payload::Owned(plain(&world, 1));
    let deadline_ns = world.now_ns - 1;
    let id = world.ask(0, Request::Produce { key, acks: 1, deadline_ns, payload, encoding: 3 });
    assert_eq!(world.code(id), ErrorCode::RequestTimedOut);
    assert_eq!(world.offset(key, OffsetAt::Latest).0, 0);
    world.finish();
}

#[test]
fn the_hold_of_a_payload_comes_back_accepted_or_refused() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    let good = plain(&world, 1);
    world.produce_slice(key, &good);
    world.pass(5_000);
    let free = world.free_blocks(0);
    let mut broken = good.clone();
    broken[70] ^= 1;
    let id = world.produce_slice(key, &broken);
    assert_eq!(world.code(id), ErrorCode::CorruptMessage);
    let id = world.produce_slice(key, &good[..50]);
    assert_eq!(world.code(id), ErrorCode::CorruptMessage);
    let id = world.produce_slice(log(99), &good);
    assert_eq!(world.code(id), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(world.free_blocks(0), free);
    world.finish();
}

#[test]
fn p10_busy_logs_keep_produces_in_order_until_there_is_room() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[("max.message.bytes", "2000000")]));
    world.disk.hold_writes = true;
    let bytes = batch(BatchOptions::default(), world.wall_ms(), 10, 90_000);
    let mut ids = Vec::new();
    for _ in 0..12 {
        let request = world.produce_request(key, -1, bytes.clone());
        ids.push(world.ask(0, request));
    }
    assert!(ids.iter().all(|id| !world.is_answered(*id)));
    assert!(world.shard(0).counts().produced_batches < 12, "the group is full before the last");
    world.release_disk();
    for (n, id) in (0u64..).zip(ids) {
        let Reply::Produced { base_offset, .. } = world.reply(id) else { panic!() };
        assert_eq!(base_offset, n * 10);
    }
    world.finish();
}

#[test]
fn produces_to_a_log_that_is_being_made_wait_and_keep_their_order() {
    let mut world = World::new(1);
    let key = log(world.add_topic("t", 1, TopicConfig::default(), false));
    let requests: Vec<_> = (1..=3).map(|records| plain(&world, records)).collect();
    let ids: Vec<_> = requests
        .into_iter()
        .map(|bytes| {
            let request = world.produce_request(key, 1, bytes);
            world.ask_only(0, request)
        })
        .collect();
    assert!(ids.iter().all(|id| !world.is_answered(*id)), "the log is not there yet");
    world.run();
    let offsets: Vec<_> = ids
        .into_iter()
        .map(|id| match world.reply(id) {
            Reply::Produced { base_offset, .. } => base_offset,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, [0, 1, 3]);
    world.finish();
}

#[test]
fn p10_a_held_produce_is_refused_when_its_deadline_passes() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[("max.message.bytes", "2000000")]));
    world.disk.hold_writes = true;
    let bytes = batch(BatchOptions::default(), world.wall_ms(), 10, 90_000);
    let mut ids = Vec::new();
    for _ in 0..12 {
        let request = world.produce_request(key, -1, bytes.clone());
        ids.push(world.ask(0, request));
    }
    let appended = world.shard(0).counts().produced_batches;
    assert!(appended < 12);
    world.pass(30_001);
    let late: Vec<_> = ids.split_off(usize::try_from(appended).unwrap());
    for id in late {
        assert_eq!(world.code(id), ErrorCode::RequestTimedOut);
    }
    world.release_disk();
    for id in ids {
        assert_eq!(world.code(id), ErrorCode::None, "once appended the flush decides (O4)");
    }
    world.finish();
}

#[test]
fn i1_a_duplicate_waits_for_the_flush_of_the_first_and_gets_its_offset() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 5));
    world.disk.hold_writes = true;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = world.produce_request(key, -1, sequenced(4, 0, 0, 10));
        ids.push(world.ask(0, request));
    }
    let next = world.produce_request(key, -1, sequenced(4, 0, 10, 1));
    let next = world.ask(0, next);
    assert!(ids.iter().all(|id| !world.is_answered(*id)));
    world.release_disk();
    let mut times = Vec::new();
    for id in ids {
        let Reply::Produced { base_offset, append_time_ns, .. } = world.reply(id) else { panic!() };
        assert_eq!(base_offset, 5);
        times.push(append_time_ns);
    }
    assert_eq!(times[0], times[1]);
    assert!(matches!(world.reply(next), Reply::Produced { base_offset: 15, .. }));
    assert_eq!(world.shard(0).counts().duplicate_batches, 1);
    world.finish();
}

#[test]
fn i2_gaps_are_out_of_order() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, sequenced(4, 0, 0, 10));
    let request = world.produce_request(key, -1, sequenced(4, 0, 11, 1));
    let id = world.ask(0, request);
    assert_eq!(world.code(id), ErrorCode::OutOfOrderSequenceNumber);
    world.finish();
}

#[test]
fn i3_a_batch_refused_before_its_log_knows_the_producer_comes_first() {
    let mut world = World::new(1);
    let topic = world.topic("t", 1, &[("min.insync.replicas", "2")]);
    let key = log(topic);
    let ask = |world: &mut World, batch: Vec<u8>| {
        let request = world.produce_request(key, -1, batch);
        let id = world.ask(0, request);
        world.code(id)
    };
    assert_eq!(ask(&mut world, sequenced(4, 0, 0, 10)), ErrorCode::NotEnoughReplicas);
    assert_eq!(ask(&mut world, sequenced(5, 0, 70, 1)), ErrorCode::NotEnoughReplicas);
    world.set_config(topic, "min.insync.replicas", "1");
    let later = ask(&mut world, sequenced(4, 0, 10, 10));
    assert_eq!(later, ErrorCode::OutOfOrderSequenceNumber, "it was under way behind the first");
    assert_eq!(
        ask(&mut world, sequenced(6, 0, 33, 1)),
        ErrorCode::None,
        "nothing of it was refused"
    );
    for batch in [sequenced(4, 0, 0, 10), sequenced(4, 0, 10, 10), sequenced(5, 0, 70, 1)] {
        assert_eq!(ask(&mut world, batch), ErrorCode::None);
    }
    let corrupt = |first| {
        let mut batch = sequenced(8, 0, first, 1);
        let last = batch.len() - 1;
        batch[last] ^= 1;
        batch
    };
    assert_eq!(ask(&mut world, corrupt(0)), ErrorCode::CorruptMessage);
    assert_eq!(ask(&mut world, sequenced(8, 0, 1, 1)), ErrorCode::None, "its bytes say nothing");
    world.finish();
}

#[test]
fn i3_a_batch_whose_deadline_passes_before_its_log_is_open_comes_first() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.disk.hold_writes = true;
    let late = Request::Produce {
        key,
        acks: -1,
        deadline_ns: world.now().mono_ns.saturating_sub(1),
        payload: Payload::Owned(sequenced(4, 0, 0, 10)),
        encoding: 3,
    };
    let late = world.ask(0, late);
    assert_eq!(world.code(late), ErrorCode::RequestTimedOut);
    world.release_disk();
    for (batch, code) in [
        (sequenced(4, 0, 10, 10), ErrorCode::OutOfOrderSequenceNumber),
        (sequenced(4, 0, 0, 10), ErrorCode::None),
        (sequenced(4, 0, 10, 10), ErrorCode::None),
    ] {
        let request = world.produce_request(key, -1, batch);
        let id = world.ask(0, request);
        assert_eq!(world.code(id), code);
    }
    world.finish();
}

#[test]
fn i6_a_crash_forgets_no_producer() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    for n in 0..7 {
        world.produce(key, sequenced(4, 0, n * 10, 10));
    }
    world.crash();
    for n in 2..7 {
        let base = world.produce(key, sequenced(4, 0, n * 10, 10));
        assert_eq!(base, u64::try_from(n).unwrap() * 10, "duplicate of batch {n}");
    }
    assert_eq!(world.produce(key, sequenced(4, 0, 70, 1)), 70);
    let request = world.produce_request(key, -1, sequenced(4, 0, 99, 1));
    let id = world.ask(0, request);
    assert_eq!(world.code(id), ErrorCode::OutOfOrderSequenceNumber);
    world.finish();
}

#[test]
fn i6_a_clean_stop_keeps_producers_in_the_snapshot() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    for n in 0..7 {
        world.produce(key, sequenced(4, 0, n * 10, 10));
    }
    world.stop();
    let stopped = |notice: &Notice| matches!(notice, Notice::Stopped { .. });
    assert!(world.notices.iter().any(stopped), "{:?}", world.notices);
    world.crash();
    assert_eq!(world.produce(key, sequenced(4, 0, 60, 10)), 60);
    assert_eq!(world.produce(key, sequenced(4, 0, 70, 1)), 70);
    world.finish();
}

#[test]
fn i7_i8_producer_ids_come_from_reserved_blocks_and_epochs_rise() {
    let mut world = World::new(1);
    world.hold_meta = true;
    let fresh = Request::InitProducerId { producer_id: -1, epoch: -1 };
    let first = world.ask(0, fresh.clone());
    assert!(!world.is_answered(first), "I8: reserved before use");
    world.hold_meta = false;
    let second = world.ask(0, fresh);
    assert!(matches!(world.reply(first), Reply::ProducerId { producer_id: 1000, epoch: 0 }));
    assert!(matches!(world.reply(second), Reply::ProducerId { producer_id: 1001, epoch: 0 }));
    let bump = world.ask(0, Request::InitProducerId { producer_id: 1000, epoch: 3 });
    assert!(matches!(world.reply(bump), Reply::ProducerId { producer_id: 1000, epoch: 4 }));
    let used = world.ask(0, Request::InitProducerId { producer_id: 1000, epoch: 32_766 });
    assert!(matches!(world.reply(used), Reply::ProducerId { producer_id: 1002, epoch: 0 }));
    for _ in 0..1500 {
        let id = world.ask(0, Request::InitProducerId { producer_id: -1, epoch: -1 });
        let Reply::ProducerId { .. } = world.reply(id) else { panic!() };
    }
    world.finish();
}

#[test]
fn p11_log_append_time_is_stamped_and_told() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[("message.timestamp.type", "LogAppendTime")]));
    let bytes = batch(BatchOptions::default(), 5, 2, 10);
    let request = world.produce_request(key, -1, bytes);
    let id = world.ask(0, request);
    assert!(matches!(world.reply(id), Reply::Produced { log_append_time: true, .. }));
    let got = world.fetch(key, 0);
    let max = i64::from_be_bytes(got.bytes[67 + 35..67 + 43].try_into().unwrap());
    assert_eq!(max, world.wall_ms());
    let batch = ringway_wire::batch::RecordBatchView::parse(&got.bytes[67..]).expect("whole");
    assert!(batch.check_crc().is_ok(), "the CRC fits the stamped time");
    world.finish();
}

#[test]
fn p8_a_changed_limit_holds_for_the_next_produce() {
    let mut world = World::new(1);
    let topic = world.topic("t", 1, &[]);
    world.produce(log(topic), plain(&world, 10));
    world.set_config(topic, "max.message.bytes", "300");
    let bytes = plain(&world, 10);
    let request = world.produce_request(log(topic), -1, bytes);
    let id = world.ask(0, request);
    assert_eq!(world.code(id), ErrorCode::MessageTooLarge);
    world.finish();
}

#[test]
fn p15_a_topic_deleted_while_producing_fails_what_waits() {
    let mut world = World::new(1);
    let topic = world.topic("t", 1, &[]);
    world.produce(log(topic), plain(&world, 1));
    world.disk.hold_writes = true;
    let bytes = plain(&world, 1);
    let request = world.produce_request(log(topic), -1, bytes);
    let waiting = world.ask(0, request);
    let fetch = world.fetch_request(vec![super::world::part(log(topic), 1)], 1, 60_000);
    let fetch = world.ask(0, fetch);
    let gone = world.ask(0, Request::Meta(crate::request::MetaOp::DeleteTopic { topic_id: topic }));
    assert!(matches!(world.reply(gone), Reply::Meta(_)));
    assert_eq!(world.code(waiting), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(world.fetched(fetch)[0].code, ErrorCode::UnknownTopicOrPartition);
    world.release_disk();
    let id = world
        .ask(0, Request::ListOffsets { key: log(topic), at: OffsetAt::Latest, leader_epoch: -1 });
    assert_eq!(world.code(id), ErrorCode::UnknownTopicOrPartition);
    let again = world.topic("t", 1, &[]);
    assert_eq!(world.produce(log(again), plain(&world, 1)), 0);
    world.finish();
}

#[test]
fn d8_a_failed_write_fails_all_that_waits_and_all_that_comes() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 4));
    world.disk.fail_writes = true;
    let bytes = plain(&world, 1);
    let request = world.produce_request(key, -1, bytes.clone());
    let first = world.ask(0, request);
    assert_eq!(world.code(first), ErrorCode::KafkaStorageError);
    world.disk.fail_writes = false;
    let request = world.produce_request(key, -1, bytes);
    let second = world.ask(0, request);
    assert_eq!(world.code(second), ErrorCode::KafkaStorageError);
    assert_eq!(world.fetch(key, 0).high_watermark, 4, "reads below it go on");
    let poisoned = |notice: &Notice| matches!(notice, Notice::Poisoned { .. });
    assert!(world.notices.iter().any(poisoned));
    world.finish();
}

/// P12, D8: a flush that failed on one shard is seen by the others before their flushed offsets move.
#[test]
fn p12_a_failed_flush_fails_the_waiting_produces_of_every_shard() {
    let mut world = World::new(2);
    let topic = world.topic("t", 8, &[]);
    let key = |partition| LogKey { topic_id: topic, partition };
    for partition in 0..8 {
        world.produce(key(partition), plain(&world, 1));
    }
    world.disk.hold_writes = true;
    let waiting: Vec<_> = (0..7)
        .map(|partition| {
            let bytes = plain(&world, 1);
            let request = world.produce_request(key(partition), -1, bytes);
            world.ask(0, request)
        })
        .collect();
    assert_eq!(world.disk.held(), 7, "on both shards");
    world.disk.fail_one_write = true;
    world.release_disk();
    for id in waiting {
        assert_eq!(world.code(id), ErrorCode::KafkaStorageError);
    }
    for partition in 0..7 {
        assert_eq!(world.fetch(key(partition), 0).high_watermark, 1, "frozen, and read below");
    }
    assert_eq!(world.produce(key(7), plain(&world, 1)), 1, "had nothing in flight");
    world.finish();
}

/// P16: a full disk refuses with a retriable code, also a log that has no segment yet, and resumes.
#[test]
fn p16_a_full_disk_refuses_what_waits_and_what_comes_until_there_is_room() {
    let mut world = World::new(1);
    let old = log(world.topic("old", 1, &[("segment.bytes", "1048576")]));
    world.produce(old, plain(&world, 1));
    world.disk.full = true;
    let new = log(world.topic("new", 1, &[]));
    let bytes = plain(&world, 1);
    let request = world.produce_request(new, -1, bytes);
    let to_new = world.ask(0, request);
    world.pass(1_100);
    assert_eq!(world.code(to_new), ErrorCode::KafkaStorageError);
    let large = || batch(BatchOptions::default(), 5, 1, 900_000);
    let mut refused = false;
    for _ in 0..8 {
        let request = world.produce_request(old, -1, large());
        let id = world.ask(0, request);
        world.pass(1_100);
        refused |=
            matches!(world.reply(id), Reply::Failed { code: ErrorCode::KafkaStorageError, .. });
    }
    assert!(refused);
    let notice = |notice: &Notice| matches!(notice, Notice::Poisoned { .. });
    assert!(!world.notices.iter().any(notice), "full is no poison");
    assert!(!world.fetch(old, 0).offsets.is_empty(), "reads go on");
    world.disk.full = false;
    world.pass(2_000);
    world.produce(old, large());
    assert_eq!(world.produce(new, plain(&world, 1)), 0);
    world.finish();
}

#[test]
fn a_stopping_shard_refuses_new_produces_with_a_retriable_code() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 1));
    world.stop();
    let bytes = plain(&world, 1);
    let request = world.produce_request(key, -1, bytes);
    let id = world.ask(0, request);
    assert!(world.code(id).is_retriable());
    world.finish();
}

#[test]
fn b3_foreign_produces_cross_the_mesh_and_are_counted() {
    let mut world = World::new(2);
    let topic = world.topic("t", 2, &[]);
    for partition in 0..2 {
        let key = LogKey { topic_id: topic, partition };
        let free = world.free_blocks(0);
        let bytes = plain(&world, 2);
        let id = world.produce_slice(key, &bytes);
        assert!(matches!(world.reply(id), Reply::Produced { base_offset: 0, .. }), "{key}");
        if shard_of(key, 2) == 1 {
            assert_eq!(world.free_blocks(0), free, "the slice stayed and was released");
        }
        assert_eq!(world.offset(key, OffsetAt::Latest).0, 2);
    }
    let foreign = world.shard(0).counts().foreign_requests;
    assert_eq!(foreign, 2, "one produce, one question for its offset");
    world.finish();
}

#[test]
fn an_idle_shard_is_never_woken() {
    let mut world = World::new(1);
    // A log with a retention has a reason to look at its age now and then.
    let key = log(world.topic("t", 1, &[("retention.ms", "-1")]));
    world.produce(key, plain(&world, 1));
    // Checkpoints, retention and extents of what was written settle first.
    world.pass(120_000);
    let wakes = world.pass(60_000);
    assert_eq!(wakes, 0);
    assert_eq!(world.now_ns % MS, 0);
    world.finish();
}

#[test]
fn describe_log_tells_segments_and_nothing_above_the_high_watermark() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[]));
    world.produce(key, plain(&world, 3));
    let id = world.ask(0, Request::DescribeLog { key });
    let Reply::Log(facts) = world.reply(id) else { panic!() };
    assert_eq!((facts.log_start, facts.high_watermark, facts.log_end), (0, 3, 3));
    assert_eq!(facts.segments.len(), 1);
    assert_eq!(facts.segments[0].end_offset, 3);
    world.finish();
}

#[test]
fn p7_a_compacted_topic_takes_keyed_records_only_and_keeps_the_order_meanwhile() {
    let mut world = World::new(1);
    let topic = world.topic("t", 1, &[]);
    let key = log(topic);
    let unkeyed = |codec| {
        let options = BatchOptions { codec, ..BatchOptions::default() };
        let mut writer = BatchWriter::new(options);
        writer.push(1_700_000_000_000, None, Some(b"v"), &[]).expect("small");
        writer.finish().expect("one");
        writer.batch().to_vec()
    };
    world.produce(key, unkeyed(Codec::None));
    world.set_config(topic, "cleanup.policy", "compact");
    let keyed = BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() };
    let keyed = batch(keyed, world.wall_ms(), 1, 10);
    let batches = [unkeyed(Codec::Gzip), keyed.clone(), unkeyed(Codec::None), keyed];
    let ids = batches.map(|bytes| {
        let request = world.produce_request(key, -1, bytes);
        world.ask_only(0, request)
    });
    world.run();
    assert_eq!(world.code(ids[0]), ErrorCode::InvalidRecord);
    assert_eq!(world.code(ids[2]), ErrorCode::InvalidRecord);
    for (at, id) in [(1, ids[1]), (2, ids[3])] {
        let Reply::Produced { base_offset, .. } = world.reply(id) else { panic!() };
        assert_eq!(base_offset, at);
    }
    world.finish();
}

#[test]
fn s09_a_bomb_for_a_compacted_topic_is_too_large() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[("cleanup.policy", "compact")]));
    for (value, expected) in [(65_000, ErrorCode::None), (65_600, ErrorCode::MessageTooLarge)] {
        let options = BatchOptions { codec: Codec::Gzip, ..BatchOptions::default() };
        let mut writer = BatchWriter::new(options);
        writer.push(world.wall_ms(), Some(b"k"), Some(&vec![0; value]), &[]).expect("one");
        writer.finish().expect("one");
        let request = world.produce_request(key, -1, writer.batch().to_vec());
        let id = world.ask(0, request);
        assert_eq!(world.code(id), expected, "{value} bytes in {}", writer.batch().len());
    }
    world.finish();
}

#[test]
fn p9_a_lone_node_cannot_promise_two_replicas() {
    let mut world = World::new(1);
    let key = log(world.topic("t", 1, &[("min.insync.replicas", "2")]));
    for (acks, expected) in [(-1, ErrorCode::NotEnoughReplicas), (1, ErrorCode::None)] {
        let bytes = plain(&world, 1);
        let request = world.produce_request(key, acks, bytes);
        let id = world.ask(0, request);
        assert_eq!(world.code(id), expected, "acks {acks}");
    }
    world.finish();
}
