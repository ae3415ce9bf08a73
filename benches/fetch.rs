//! What the log itself costs to name stored batches for a fetch from its tail in memory: bytes are handed
//! out by reference, so the cost is per batch and not per byte.

mod instant_disk;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use instant_disk::{KEY, World, batch};
use ringway_log::logs::ReadStart;
use ringway_log::read::FrameList;

fn fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch");
    for (name, records, size, batches) in [
        ("1 batch of 1 × 1 KB", 1u64, 1000, 1),
        ("64 batches of 1 × 1 KB", 1, 1000, 64),
        ("16 batches of 64 × 1 KB", 64, 1000, 16),
        ("1 MiB in one batch", 1000, 1000, 1),
    ] {
        let (mut world, mut list) = (World::new(), FrameList::default());
        let batch = batch(usize::try_from(records).unwrap_or(1), size);
        for _ in 0..2 * batches {
            world.append(&batch);
            world.turn();
        }
        let wanted = batch.len() as u64 * batches;
        group.throughput(Throughput::Bytes(wanted));
        group.bench_function(name, |b| {
            let bytes_max = u32::try_from(wanted).unwrap_or(u32::MAX);
            b.iter(|| read_tail(&mut world, &mut list, records * batches, bytes_max));
        });
    }
    group.finish();
}

/// Reads the last `back` offsets that are flushed; returns Kafka bytes.
fn read_tail(world: &mut World, list: &mut FrameList, back: u64, bytes_max: u32) -> usize {
    let World { logs, blocks, io, .. } = world;
    let upto = logs.flushed_offset(KEY);
    let start = logs.read(KEY, upto.saturating_sub(back), upto, bytes_max, blocks, io, list);
    assert!(matches!(start, ReadStart::Done), "the tail is in memory: {start:?}");
    let bytes = list.kafka_bytes();
    list.release(blocks);
    bytes
}

criterion_group!(benches, fetch);
criterion_main!(benches);
