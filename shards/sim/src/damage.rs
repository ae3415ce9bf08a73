//! `--damage`: whole blocks of a log at rest are lost, mixed up or unreadable, and what lies beside the
//! segments is torn, lost, old or another's (R6).
//! Owner: `main.rs`.
//! Invariant: what was damaged is seen and named, all else is served; the same after another start.
//! Not here: single bits (`flip.rs`), chance (`rot.rs`).

mod cases;

use crate::checker::Violation;
use crate::clock::SECOND;
use crate::disk::Disk;
use crate::flip::{Beside, Scene};
use crate::places;
use crate::rng::Rng;
use crate::stand::{KEY, OTHER, Stand};
use crate::tally::Tally;
use ringway_log::io::{SegmentName, SmallFile};
use std::collections::BTreeSet;

/// What befalls a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// It ends at this block.
    Truncated(usize),
    /// A block is zeros.
    Zeroed(usize),
    /// Everything from a block on is zeros.
    ZeroedFrom(usize),
    /// A block cannot be read.
    Unreadable(usize),
    /// A block holds what another one holds.
    Duplicate { from: usize, to: usize },
    /// Two blocks have changed places.
    Swapped(usize, usize),
    /// A block holds one of another log.
    Foreign(usize),
    /// A block holds the same block of another segment.
    OtherSegment(usize),
    /// A block holds what it held before a truncation.
    Stale(usize),
    /// Its file is gone.
    Gone,
}

/// What befalls the small files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    NewestCheckpointTorn,
    NewestCheckpointLost,
    NewestCheckpointOld,
    SnapshotLost,
    SnapshotTorn,
    SnapshotOld,
    SnapshotOfAnother,
    MarkerTorn,
    QuarantineTorn,
    QuarantineLost,
}

const LOSSES: [Loss; 11] = [
    Loss::Nothing,
    Loss::NewestCheckpointTorn,
    Loss::NewestCheckpointLost,
    Loss::NewestCheckpointOld,
    Loss::SnapshotLost,
    Loss::SnapshotTorn,
    Loss::SnapshotOld,
    Loss::SnapshotOfAnother,
    Loss::MarkerTorn,
    Loss::QuarantineTorn,
    Loss::QuarantineLost,
];

/// A log of three segments: groups of one batch and of many, batches of less than a block and of several.
fn build(stand: &mut Stand, shift: usize) -> Result<(), String> {
    stand.start()?;
    for round in 0..4 {
        for sizes in [&[90, 700, 1_200, 300][..], &[6_000], &[40, 40, 40, 40, 3_500, 40], &[900]] {
            for size in sizes {
                stand.append(1 + round % 3, *size + shift)?;
            }
            stand.run()?;
        }
        stand.wait(SECOND)?;
    }
    Ok(())
}

/// The log, its older state, and what foreign blocks and files are taken from.
struct Sources {
    scene: Scene,
    /// The disk before a truncation put other batches into the same blocks.
    older: Disk,
    foreign: Disk,
    beside: Beside,
}

impl Sources {
    fn new(beside: Beside) -> Result<Sources, String> {
        let mut stand = Stand::new(KEY, 24_576);
        build(&mut stand, 0)?;
        let middle = stand.ledger.line()[stand.ledger.line().len() / 2].base;
        let older = stand.disk.clone();
        stand.truncate(middle)?;
        for size in [200, 1_500, 800, 60, 5_000, 100, 2_900, 300, 400, 10] {
            stand.append(2, size)?;
            stand.run()?;
        }
        // Both generations that this start writes know everything before it.
        stand.stop()?;
        stand.start()?;
        let mut other = Stand::new(OTHER, 24_576);
        build(&mut other, 37)?;
        other.stop()?;
        let scene = Scene::of("blocks", &mut stand, beside)?;
        Ok(Sources { scene, older, foreign: other.disk, beside })
    }

    fn segments(&self) -> Vec<u64> {
        let segments = self.scene.disk.names().segments(KEY);
        segments.map(|(name, _)| name.base_offset).collect()
    }
}

fn name(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

/// Runs this worker's share of all blows.
///
/// # Errors
/// A log cannot be built.
pub fn run(job: u64, jobs: u64, mut tally: Tally) -> Result<Tally, String> {
    let mut stand = Stand::new(KEY, 24_576);
    let mut number = 0;
    if job == 0 {
        cases::run(&mut stand, &mut tally)?;
    }
    for beside in [Beside::Checkpoints, Beside::Clean, Beside::Nothing] {
        let sources = Sources::new(beside)?;
        let losses = if beside == Beside::Nothing { &LOSSES[..1] } else { &LOSSES[..] };
        for (segment, blow) in blows(&sources) {
            for loss in losses {
                // One kind of loss goes with every blow; the others with some of them.
                number += 1;
                if tally.is_full() {
                    return Ok(tally);
                }
                let chosen = *loss == Loss::Nothing || number % 5 == 0;
                if number % jobs == job && chosen {
                    let result =
                        strike(&sources, Some((segment, blow)), *loss, &mut stand, &mut tally);
                    tally.judge(result, || {
                        format!("{beside:?}: {blow:?} of segment {segment}, {loss:?}")
                    });
                }
            }
        }
        for loss in losses {
            number += 1;
            if number % jobs == job {
                let result = strike(&sources, None, *loss, &mut stand, &mut tally);
                tally.judge(result, || format!("{beside:?}: {loss:?} alone"));
            }
        }
    }
    Ok(tally)
}

/// Every blow at every block of every segment, and some pairs of blocks.
fn blows(sources: &Sources) -> Vec<(u64, Blow)> {
    let block = sources.scene.disk.block();
    let mut blows = Vec::new();
    let segments = sources.segments();
    let mut rng = Rng::new(3);
    for segment in segments.iter().copied() {
        let blocks = sources.scene.disk.size_of(name(segment)).min(32_768) / block;
        for at in 0..blocks {
            for blow in [
                Blow::Truncated(at),
                Blow::Zeroed(at),
                Blow::ZeroedFrom(at),
                Blow::Unreadable(at),
                Blow::Foreign(at),
                Blow::OtherSegment(at),
                Blow::Stale(at),
            ] {
                blows.push((segment, blow));
            }
            for _ in 0..3 {
                let to = rng.index(blocks);
                blows.push((segment, Blow::Duplicate { from: at, to }));
                blows.push((segment, Blow::Swapped(at, to)));
            }
        }
        if segments.first() != Some(&segment) {
            blows.push((segment, Blow::Gone));
        }
    }
    // Without checkpoints nothing proves the end of the last segment, nor which life a batch is of.
    let last = segments.last().copied();
    blows.retain(|(segment, blow)| {
        let known = !matches!(blow, Blow::Stale(_) | Blow::Gone) && Some(*segment) != last;
        sources.beside != Beside::Nothing || known
    });
    blows
}

fn strike(
    sources: &Sources,
    blow: Option<(u64, Blow)>,
    loss: Loss,
    stand: &mut Stand,
    tally: &mut Tally,
) -> Result<(), Violation> {
    let broken = |detail: String| Violation { invariant: "D7", detail };
    let mut disk = sources.scene.disk.clone();
    let mut harmed = BTreeSet::new();
    if let Some((segment, blow)) = blow {
        harm(&mut disk, sources, segment, blow);
        harmed = changed(sources, &disk, segment, blow);
    }
    // A batch that reaches out of a swapped block claims bytes of its new neighbour.
    let more = if matches!(blow, Some((_, Blow::Swapped(..)))) { 2 } else { 0 };
    lose(&mut disk, sources, loss);
    stand.reset(disk, sources.scene.ledger.clone());
    stand.start().map_err(broken)?;
    let found = stand.read_all().map_err(broken)?;
    sources.scene.ledger.judge_damaged(&found, &harmed, more)?;
    let served: BTreeSet<u64> = found.frames.iter().map(|frame| frame.base).collect();
    tally.harmed += harmed.len() as u64;
    tally.named += harmed.difference(&served).count() as u64;
    // What the log promises now it keeps: a batch more, and all of it after another cut.
    let end = found.end;
    stand.append(1, 100).map_err(broken)?;
    stand.run().map_err(broken)?;
    let mut ledger = sources.scene.ledger.clone();
    let new = stand.ledger.line().last().copied();
    if let Some(new) = new.filter(|new| new.base >= end) {
        ledger.appended(new.base, new.last, new.hash);
    } else {
        let detail = format!("after a log end of {end} the next batch got {new:?}");
        return Err(Violation { invariant: "D1", detail });
    }
    ledger.flushed(stand.ledger.acked());
    stand.cut();
    let list_lost = loss == Loss::QuarantineLost || loss == Loss::QuarantineTorn;
    if list_lost {
        lose(&mut stand.disk, sources, loss);
    }
    stand.start().map_err(broken)?;
    let listed = stand.listed();
    let again = stand.read_all().map_err(broken)?;
    ledger.judge_damaged(&again, &harmed, more)?;
    let before = found.frames.iter().map(|frame| frame.base);
    let after: Vec<u64> =
        again.frames.iter().map(|frame| frame.base).take(found.frames.len()).collect();
    let kept = list_lost || listed == found.listed;
    if !before.eq(after.iter().copied()) || !kept || again.listed != found.listed {
        let detail = format!(
            "named {:?}, after another start {listed:?}, after reads {:?}",
            found.listed, again.listed
        );
        return Err(Violation { invariant: "D7", detail });
    }
    Ok(())
}

/// Batches that are not where they were, byte for byte.
fn changed(sources: &Sources, disk: &Disk, segment: u64, blow: Blow) -> BTreeSet<u64> {
    let before = sources.scene.disk.bytes_of(name(segment));
    let after = disk.bytes_of(name(segment));
    let block = disk.block();
    let own = sources.scene.places.iter().filter(|place| place.segment == segment);
    if let Blow::Unreadable(at) = blow {
        return places::touched(&sources.scene.places, segment, &(at * block..(at + 1) * block));
    }
    let other = |range: std::ops::Range<usize>| after.get(range.clone()) != before.get(range);
    own.filter(|place| other(place.range())).map(|place| place.frame.base).collect()
}

fn harm(disk: &mut Disk, sources: &Sources, segment: u64, blow: Blow) {
    let block = disk.block();
    let name = name(segment);
    let bytes = disk.bytes_of(name);
    let of = |bytes: &[u8], at: usize| {
        let mut one = bytes.get(at * block..).unwrap_or_default().to_vec();
        one.resize(block, 0);
        one
    };
    match blow {
        Blow::Truncated(at) => disk.shorten(name, at * block),
        Blow::Zeroed(at) => disk.overwrite(name, at * block, &vec![0; block]),
        Blow::ZeroedFrom(at) => {
            disk.overwrite(name, at * block, &vec![0; bytes.len() - at * block])
        }
        Blow::Unreadable(at) => disk.spoil(name, at * block),
        Blow::Duplicate { from, to } => disk.overwrite(name, to * block, &of(&bytes, from)),
        Blow::Swapped(one, other) => {
            disk.overwrite(name, one * block, &of(&bytes, other));
            disk.overwrite(name, other * block, &of(&bytes, one));
        }
        Blow::Foreign(at) => {
            let foreign = sources.foreign.bytes_of(SegmentName { log: OTHER, base_offset: 0 });
            disk.overwrite(name, at * block, &of(&foreign, at));
        }
        Blow::OtherSegment(at) => {
            let other = sources.segments().into_iter().find(|other| *other != segment).unwrap_or(0);
            let other = disk.bytes_of(SegmentName { log: KEY, base_offset: other });
            disk.overwrite(name, at * block, &of(&other, at));
        }
        Blow::Stale(at) => {
            let older = sources.older.bytes_of(name);
            disk.overwrite(name, at * block, &of(&older, at));
        }
        Blow::Gone => disk.lose_segment(name),
    }
}

fn lose(disk: &mut Disk, sources: &Sources, loss: Loss) {
    let checkpoints = disk.checkpoints();
    let newest = checkpoints.last().copied();
    let older = checkpoints.iter().rev().nth(1).copied();
    let body = |disk: &Disk, file: SmallFile| disk.names().small(file).cloned();
    let torn = |disk: &mut Disk, file: SmallFile| {
        if let Some(mut bytes) = body(disk, file) {
            let at = bytes.len() / 2;
            bytes[at] ^= 16;
            disk.replace_small(file, Some(bytes));
        }
    };
    let (snapshot, list) = (SmallFile::Snapshot(KEY), SmallFile::Quarantine(KEY));
    match loss {
        Loss::Nothing => {}
        Loss::NewestCheckpointTorn => newest.into_iter().for_each(|file| torn(disk, file)),
        Loss::NewestCheckpointLost => {
            newest.into_iter().for_each(|file| disk.replace_small(file, None));
        }
        Loss::NewestCheckpointOld => {
            if let (Some(newest), Some(older)) = (newest, older) {
                let bytes = body(disk, older);
                disk.replace_small(newest, bytes);
            }
        }
        Loss::SnapshotLost => disk.replace_small(snapshot, None),
        Loss::SnapshotTorn => torn(disk, snapshot),
        Loss::SnapshotOld => {
            let bytes = body(&sources.older, snapshot);
            disk.replace_small(snapshot, bytes);
        }
        Loss::SnapshotOfAnother => {
            let bytes = body(&sources.foreign, SmallFile::Snapshot(OTHER));
            disk.replace_small(snapshot, bytes);
        }
        Loss::MarkerTorn => torn(disk, SmallFile::CleanMarker),
        Loss::QuarantineTorn => torn(disk, list),
        Loss::QuarantineLost => disk.replace_small(list, None),
    }
}
