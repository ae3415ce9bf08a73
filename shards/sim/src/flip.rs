//! `--flip`: every single bit of a small segment, and bits here and there of a larger log (R5). With `--bytes N`
//! one bit of each of N bytes of a large segment instead.
//! Owner: `main.rs`.
//! Invariant: a flipped bit of a batch is always seen, never served, and costs that batch alone.
//! Not here: damage of whole blocks (`damage.rs`).

mod segment;

use crate::checker::Violation;
use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::places::{self, Place};
use crate::rng::Rng;
use crate::stand::{KEY, Stand};
use crate::tally::Tally;
use ringway_log::io::{SegmentName, SmallFile};
use std::ops::Range;

/// Bits of the larger log that are flipped.
const RANDOM_BITS: u64 = 2_000;

/// What is left beside the segments when the log starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Everything, as a crash leaves it: recovery starts behind the damage, reads meet it.
    Checkpoints,
    /// Everything, after a clean stop: nothing is scanned.
    Clean,
    /// Checkpoints and snapshot are gone: recovery scans the damage.
    Nothing,
}

/// A log, at rest.
pub struct Scene {
    /// What it is.
    pub name: &'static str,
    /// Its disk.
    pub disk: Disk,
    /// What it promised.
    pub ledger: Ledger,
    /// Its batches.
    pub places: Vec<Place>,
}

impl Scene {
    /// Ends the life of a stand in the way that leaves `beside`.
    ///
    /// # Errors
    /// The stop fails.
    pub fn of(name: &'static str, stand: &mut Stand, beside: Beside) -> Result<Scene, String> {
        match beside {
            Beside::Clean => stand.stop()?,
            Beside::Checkpoints | Beside::Nothing => stand.cut(),
        }
        let mut disk = stand.disk.clone();
        if beside == Beside::Nothing {
            disk.replace_small(SmallFile::Snapshot(stand.key), None);
            for file in disk.checkpoints() {
                disk.replace_small(file, None);
            }
        }
        let ledger = stand.ledger.clone();
        let known = |base: u64, hash: u64| {
            ledger.line().iter().any(|one| one.base == base && one.hash == hash)
        };
        let places = places::find(&disk, stand.key, |frame| known(frame.base, frame.hash));
        Ok(Scene { name, disk, ledger, places })
    }
}

/// Segment 0 holds one flush of several batches, or of one, and is sealed; a later one holds another.
fn sealed(sizes: &[usize], beside: Beside) -> Result<Scene, String> {
    let name = if sizes.len() == 1 { "one batch" } else { "one flush" };
    let mut stand = Stand::new(KEY, if sizes.len() == 1 { 4_096 } else { 8_192 });
    stand.start()?;
    for size in sizes {
        stand.append(2, *size)?;
    }
    stand.run()?;
    stand.append(1, 4_000)?;
    stand.run()?;
    stand.wait(crate::clock::SECOND)?;
    Scene::of(name, &mut stand, beside)
}

/// The only segment holds one flush, and a checkpoint knows.
fn last(sizes: &[usize], beside: Beside) -> Result<Scene, String> {
    let mut stand = Stand::new(KEY, 65_536);
    stand.start()?;
    for size in sizes {
        stand.append(2, *size)?;
    }
    stand.run()?;
    stand.wait(crate::clock::SECOND)?;
    Scene::of("last segment", &mut stand, beside)
}

/// Several segments of many flushes.
fn larger(beside: Beside) -> Result<Scene, String> {
    let mut stand = Stand::new(KEY, 65_536);
    stand.start()?;
    let mut rng = Rng::new(1);
    while stand.ledger.line().len() < 120 {
        for _ in 0..rng.within(1, 5) {
            let bytes = rng.pick(&[20, 300, 300, 900, 900, 2_500, 9_000]);
            stand.append(rng.within(1, 4), bytes)?;
        }
        stand.run()?;
    }
    stand.wait(crate::clock::SECOND)?;
    Scene::of("larger log", &mut stand, beside)
}

/// Flips this worker's share of all bits, or of `bytes` of the large segment: the first, and how many.
///
/// # Errors
/// A log cannot be built.
pub fn run(
    bytes: Option<(u64, u64)>,
    (job, jobs): (u64, u64),
    tally: Tally,
) -> Result<Tally, String> {
    match bytes {
        Some(bytes) => segment::run(bytes, (job, jobs), tally),
        None => small_logs(job, jobs, tally),
    }
}

fn small_logs(job: u64, jobs: u64, mut tally: Tally) -> Result<Tally, String> {
    let mut stand = Stand::new(KEY, 65_536);
    let several = [120, 700, 1_500, 60, 2_100, 400];
    for beside in [Beside::Checkpoints, Beside::Nothing] {
        for sizes in [&several[..], &[900]] {
            let scene = sealed(sizes, beside)?;
            let first = scene.places.iter().filter(|place| place.segment == 0);
            let end = first.map(|place| place.range().end).max().unwrap_or(0);
            // To the end of its group: behind it are zeros that nobody reads.
            let bits = end.next_multiple_of(scene.disk.block()) as u64 * 8;
            every_bit(&scene, beside, 0..bits, (job, jobs), &mut stand, &mut tally);
        }
    }
    for beside in [Beside::Checkpoints, Beside::Clean] {
        let scene = last(&[300, 600], beside)?;
        every_bit(&scene, beside, 0..4_096 * 8, (job, jobs), &mut stand, &mut tally);
    }
    for beside in [Beside::Checkpoints, Beside::Nothing] {
        let scene = larger(beside)?;
        let mut rng = Rng::new(2);
        // Nothing proves the last flush when every checkpoint is lost: it would look torn.
        let proven = scene.ledger.line().len() - 6;
        for number in 0..RANDOM_BITS {
            let place = scene.places[rng.index(proven)];
            let at = place.at + rng.index(place.frame.frame_len as usize);
            let bit = u32::try_from(rng.below(8)).unwrap_or(0);
            if number % jobs == job && !tally.is_full() {
                let found = flip(&scene, place.segment, at, bit, &mut stand, &mut tally);
                tally.judge(found, || describe(&scene, beside, place.segment, at, bit));
            }
        }
    }
    Ok(tally)
}

fn every_bit(
    scene: &Scene,
    beside: Beside,
    bits: Range<u64>,
    (job, jobs): (u64, u64),
    stand: &mut Stand,
    tally: &mut Tally,
) {
    for number in bits.filter(|number| number % jobs == job) {
        if tally.is_full() {
            return;
        }
        let at = usize::try_from(number / 8).unwrap_or(0);
        let bit = u32::try_from(number % 8).unwrap_or(0);
        let found = flip(scene, 0, at, bit, stand, tally);
        tally.judge(found, || describe(scene, beside, 0, at, bit));
    }
}

fn describe(scene: &Scene, beside: Beside, segment: u64, at: usize, bit: u32) -> String {
    format!("{} beside {beside:?}: bit {bit} of byte {at} of segment {segment}", scene.name)
}

fn flip(
    scene: &Scene,
    segment: u64,
    at: usize,
    bit: u32,
    stand: &mut Stand,
    tally: &mut Tally,
) -> Result<(), Violation> {
    let broken = |detail: String| Violation { invariant: "D7", detail };
    let mut disk = scene.disk.clone();
    disk.flip(SegmentName { log: KEY, base_offset: segment }, at, bit);
    let harmed = places::touched(&scene.places, segment, &(at..at + 1));
    stand.reset(disk, scene.ledger.clone());
    stand.start().map_err(broken)?;
    let found = stand.read_all().map_err(broken)?;
    tally.harmed += harmed.len() as u64;
    if let Some(served) = found.frames.iter().find(|frame| harmed.contains(&frame.base)) {
        let detail = format!("the batch at {} was served with a wrong bit", served.base);
        return Err(Violation { invariant: "D5", detail });
    }
    scene.ledger.judge_damaged(&found, &harmed, 0)?;
    tally.named += harmed.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_at_rest_has_every_batch_in_a_place() {
        for beside in [Beside::Checkpoints, Beside::Clean, Beside::Nothing] {
            let scene = sealed(&[120, 700, 1_500], beside).expect("built");
            let bases: Vec<u64> = scene.places.iter().map(|place| place.frame.base).collect();
            assert_eq!(bases, [0, 2, 4, 6]);
            assert_eq!(scene.places[3].segment, 6, "the last one lies in a segment of its own");
        }
    }
}
