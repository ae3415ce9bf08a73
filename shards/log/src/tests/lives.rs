//! Random lives: appends, cuts, failed writes, damage at rest, seed by seed.
//! Owner: the tests of this crate.
//! Invariant: what was told flushed is read back, or lies in a range that is named.
//! Not here: clients, several logs, other shard counts (`shards/sim`).

use super::life::{KEY, World, batch, pool, settings};
use crate::io::{EIO, IoOk, SegmentName};
use crate::logs::{AppendError, LogSettings};

/// A batch as it is served: base offset and leader epoch patched in.
fn served(mut bytes: Vec<u8>, base: u64) -> Vec<u8> {
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&1i32.to_be_bytes());
    bytes
}

fn small(n: u64) -> usize {
    usize::try_from(n).expect("small")
}

fn seeds(release: u64) -> u64 {
    if cfg!(debug_assertions) { release / 40 } else { release }
}

fn rolling(seed: u64) -> LogSettings {
    let segment_bytes = [64 << 10, 200 << 10, 1 << 20][small(seed % 3)];
    LogSettings { segment_bytes, ..settings() }
}

/// One life's appends; what was accepted goes to `sent`.
fn live(world: &mut World, life: u8, sent: &mut Vec<Vec<u8>>) {
    let ops = world.dice.below(120);
    for n in 0..ops {
        if world.dice.percent(60) {
            let size = [50, 700, 5000, 40_000][small(world.dice.below(4))];
            let mut payload = vec![life; size];
            payload[0] = u8::try_from(n % 256).expect("small");
            let records = 1 + i32::try_from(world.dice.below(3)).expect("small");
            let bytes = batch(records, &payload, 5);
            if let Ok(appended) = world.append(&bytes) {
                sent.push(served(bytes, appended.base_offset));
            }
        }
        world.turn(70);
        if world.dice.percent(5) {
            world.now.mono_ns += 1_000_000_000;
        }
    }
}

#[test]
fn flushed_batches_survive_any_cut() {
    let mut memory = pool(96).into_memory();
    for seed in 0..seeds(2400) {
        let mut world = World::again(1000 + seed, rolling(seed), memory);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for life in 0..4u8 {
            live(&mut world, life, &mut sent);
            let acknowledged = world.flushed.get(&KEY).copied().unwrap_or(0);
            world.cut_and_start();
            let end = world.logs().end_offset(KEY);
            assert!(end >= acknowledged, "seed {seed} life {life}: end {end} below {acknowledged}");
            let (all, holes) = world.read_all(100_000);
            assert!(holes.is_empty(), "seed {seed} life {life}: {holes:?}");
            assert!(all.len() <= sent.len());
            for (n, (_, bytes)) in all.iter().enumerate() {
                assert!(*bytes == sent[n], "seed {seed} life {life}: batch {n}");
            }
            sent.truncate(all.len());
        }
        memory = world.blocks.into_memory();
    }
}

#[test]
fn nothing_is_acknowledged_after_a_failed_write_and_nothing_acknowledged_is_lost() {
    let mut memory = pool(96).into_memory();
    for seed in 0..seeds(2000) {
        let mut world = World::again(5000 + seed, rolling(seed), memory);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for life in 0..3u8 {
            live(&mut world, life, &mut sent);
            world.disk.fail_write = Some(if seed % 2 == 0 { Err(EIO) } else { Ok(IoOk::Bytes(0)) });
            live(&mut world, life, &mut sent);
            let failed = world.poisoned.contains(&KEY);
            let acknowledged = world.flushed.get(&KEY).copied().unwrap_or(0);
            if failed {
                let refused = world.append(&batch(1, &[1; 50], 5));
                assert!(matches!(refused, Err(AppendError::Poisoned(_))), "seed {seed}");
                world.settle();
                assert_eq!(
                    world.flushed[&KEY], acknowledged,
                    "seed {seed}: acknowledged after the failure"
                );
            }
            world.poisoned.clear();
            world.disk.fail_write = None;
            world.cut_and_start();
            let (all, holes) = world.read_all(100_000);
            assert!(
                holes.is_empty() && world.logs().end_offset(KEY) >= acknowledged,
                "seed {seed}"
            );
            for (n, (_, bytes)) in all.iter().enumerate() {
                assert!(*bytes == sent[n], "seed {seed} life {life}: batch {n}");
            }
            sent.truncate(all.len());
        }
        memory = world.blocks.into_memory();
    }
}

#[test]
fn damage_at_rest_is_named_and_costs_the_damaged_batches_alone() {
    let mut memory = pool(96).into_memory();
    for seed in 0..seeds(2000) {
        let mut world = World::again(9000 + seed, rolling(seed), memory);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        live(&mut world, 1, &mut sent);
        world.flush();
        let end = world.logs().end_offset(KEY);
        world.stop();
        let mut hit = 0;
        for _ in 0..=world.dice.below(3) {
            let bases = world.disk.segments(KEY);
            let base_offset = bases[small(world.dice.below(bases.len() as u64))];
            let name = SegmentName { log: KEY, base_offset };
            let len = world.disk.bytes_of(name).len() as u64;
            if len == 0 {
                continue;
            }
            let (at, bit) =
                (world.dice.below(len), u8::try_from(world.dice.below(8)).expect("small"));
            hit += u64::from(world.disk.bytes_of(name)[small(at)..].iter().any(|byte| *byte != 0));
            world.disk.flip(name, at, bit);
        }
        let mut found = Vec::new();
        // First read on demand, then by recovery without any help.
        for round in 0..3 {
            if round == 2 {
                world.logs = None;
                world.disk.put_small(crate::io::SmallFile::Quarantine(KEY), Vec::new());
                world.disk.put_small(crate::io::SmallFile::Snapshot(KEY), Vec::new());
            }
            world.disk.cut(&mut world.dice);
            world.start();
            assert_eq!(world.logs().end_offset(KEY), end, "seed {seed} round {round}");
            let (all, holes) = world.read_all(100_000);
            let lost = sent.iter().filter(|bytes| !all.iter().any(|(_, read)| read == *bytes));
            let lost: Vec<u64> = lost
                .map(|bytes| u64::from_be_bytes(bytes[..8].try_into().expect("eight")))
                .collect();
            for base in &lost {
                assert!(
                    holes.iter().any(|hole| hole.0 <= *base && *base < hole.1),
                    "seed {seed} round {round}: {base} is silently lost"
                );
            }
            assert!(
                lost.len() as u64 <= hit,
                "seed {seed} round {round}: {lost:?} lost by {hit} flips"
            );
            assert_eq!(all.len() + lost.len(), sent.len(), "seed {seed} round {round}: a phantom");
            if round > 0 {
                assert_eq!(found, lost, "seed {seed} round {round}");
            }
            found = lost;
        }
        memory = world.blocks.into_memory();
    }
}
