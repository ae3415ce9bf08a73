//! What the log itself costs per append: one copy, both checksums, the stamp, and its share of the flush
//! groups. The disk answers at once, so the rest of a durable write is not in here.

mod instant_disk;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use instant_disk::{World, batch};
use std::hint::black_box;

/// Appends per turn of the shard's loop, as under load.
const APPENDS_PER_TURN: u64 = 64;

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (name, records, size) in [
        ("1 × 100 B", 1, 100),
        ("1 × 1 KB", 1, 1000),
        ("100 × 100 B", 100, 100),
        ("64 × 1 KB", 64, 1000),
        ("1000 × 1 KB", 1000, 1000),
    ] {
        let mut world = World::new();
        let batch = batch(records, size);
        let mut appends = 0u64;
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                appends += 1;
                if appends.is_multiple_of(APPENDS_PER_TURN) {
                    world.turn();
                }
                world.append(black_box(&batch))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
