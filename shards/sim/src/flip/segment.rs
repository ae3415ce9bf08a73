//! `--flip --bytes N`: one bit of each of N bytes of a 64 MiB segment (R5, the long run).
//! Owner: `flip.rs`.
//! Invariant: what is read around the damage is exactly the batch before it, its range, and the batch behind it.
//! Not here: small logs, read whole after each flip (`flip.rs`).

use super::{Beside, Scene, describe};
use crate::checker::Violation;
use crate::clock::SECOND;
use crate::places::touched;
use crate::rng::{Rng, mix};
use crate::stand::{KEY, Stand};
use crate::tally::Tally;
use ringway_log::io::SegmentName;

/// Size of the segment.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Reads around one byte take no more than so many times the segment from the disk: who looks for what is whole
/// behind a break goes over it all, then walks it.
const TIMES_READ_MAX: u64 = 4;

/// A sealed segment of batches of all sizes behind a clean stop, and one more segment.
fn scene(segment_bytes: u64) -> Result<Scene, String> {
    let mut stand = Stand::new(KEY, segment_bytes);
    stand.start()?;
    let mut rng = Rng::new(3);
    while stand.disk.names().segments(KEY).count() < 2 {
        for _ in 0..rng.within(1, 16) {
            let bytes = rng.pick(&[100, 900, 9_000, 60_000, 200_000]);
            stand.append(rng.within(1, 8), bytes)?;
        }
        stand.run()?;
    }
    stand.wait(SECOND)?;
    Scene::of("large segment", &mut stand, Beside::Clean)
}

/// Flips this worker's share of `count` bytes from `first` on, round and round.
///
/// # Errors
/// The log cannot be built.
pub(super) fn run(
    (first, count): (u64, u64),
    (job, jobs): (u64, u64),
    mut tally: Tally,
) -> Result<Tally, String> {
    let scene = scene(SEGMENT_BYTES)?;
    let own = scene.places.iter().filter(|place| place.segment == 0);
    let end = own.map(|place| place.range().end).max().unwrap_or(1) as u64;
    let mut stand = Stand::new(KEY, SEGMENT_BYTES);
    for number in (first..first + count).filter(|number| number % jobs == job) {
        if tally.is_full() {
            break;
        }
        let at = usize::try_from(number % end).unwrap_or(0);
        let bit = u32::try_from(mix(number, 5) % 8).unwrap_or(0);
        let found = flip(&scene, at, bit, &mut stand, &mut tally);
        tally.judge(found, || describe(&scene, Beside::Clean, 0, at, bit));
    }
    Ok(tally)
}

fn flip(
    scene: &Scene,
    at: usize,
    bit: u32,
    stand: &mut Stand,
    tally: &mut Tally,
) -> Result<(), Violation> {
    let mut disk = scene.disk.clone();
    disk.flip(SegmentName { log: KEY, base_offset: 0 }, at, bit);
    stand.reset(disk, scene.ledger.clone());
    stand.start().map_err(|detail| Violation { invariant: "D7", detail })?;
    let broken = |detail: String| Violation { invariant: "D6", detail };
    let harmed = touched(&scene.places, 0, &(at..at + 1));
    let behind = scene.places.partition_point(|place| place.segment == 0 && place.at <= at);
    // The batch before the byte's own, or before the gap it lies in.
    let before = behind.saturating_sub(1 + harmed.len());
    let read = |stand: &mut Stand, from: u64| stand.read(from).map_err(broken);
    for place in scene.places.iter().take(behind + 1).skip(before) {
        let base = place.frame.base;
        let first = read(stand, base)?.map(|frames| frames.first().copied());
        match first {
            Err(until) if harmed.contains(&base) && until == place.frame.last + 1 => {
                tally.named += 1;
            }
            Ok(Some(frame)) if !harmed.contains(&base) && frame.hash == place.frame.hash => {}
            other => {
                let harmed = harmed.contains(&base);
                let detail = format!("read at {base}, harmed {harmed}: {other:?}");
                return Err(Violation { invariant: if harmed { "D5" } else { "D6" }, detail });
            }
        }
    }
    tally.harmed += harmed.len() as u64;
    let segment = scene.disk.bytes_of(SegmentName { log: KEY, base_offset: 0 }).len() as u64;
    let read = stand.read_bytes();
    if read > TIMES_READ_MAX * segment {
        let detail = format!("{read} bytes were read of a segment of {segment}");
        return Err(Violation { invariant: "READS", detail });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_header_is_named_and_costs_its_batch_alone_however_much_lies_behind_it() {
        let scene = scene(SEGMENT_BYTES).expect("built");
        let mut stand = Stand::new(KEY, SEGMENT_BYTES);
        let mut tally = Tally::new(1);
        let middle = scene.places[scene.places.len() / 2].at;
        for at in [0, 40, 5_000, middle, middle + 100] {
            flip(&scene, at, 1, &mut stand, &mut tally).expect("named");
        }
        assert!(tally.named >= 4 && tally.named == tally.harmed, "{tally:?}");
    }
}
