//! Rot: what a medium does to blocks and small files that were durable, at rest or while a life runs.
//! Owner: the world, in the profiles that have it.
//! Invariant: only batches that the last recovery found are harmed: what was written since may lie beyond
//! every witness, where rot looks like a tear. No block is struck twice, so that none is ever healed.
//! Not here: every block in turn (`damage.rs`), what must hold afterwards (`checker/harm.rs`).

use crate::checker::Checker;
use crate::disk::Disk;
use crate::faults::Rot;
use crate::places::{self, Place};
use crate::rng::Rng;
use ringway_log::io::{SegmentName, SmallFile};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// Places tried until a blow changes a batch.
const ATTEMPTS: u32 = 12;
/// Disks remembered: what a block held one rest ago is what it holds now, mostly.
const IMAGES: usize = 2;
/// Whole batches that may be missing beside two swapped blocks: theirs claim bytes of the new neighbours, and
/// a whole run between the two may be taken for what lies in a wrong place. All are named.
const SWAP_SPARES: u64 = 16;

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct RotCounts {
    /// Batches with flipped bits.
    pub flipped: u64,
    /// Blocks zeroed.
    pub zeroed: u64,
    /// Blocks that cannot be read.
    pub unreadable: u64,
    /// Pairs of blocks swapped.
    pub swapped: u64,
    /// Blocks of another file.
    pub foreign: u64,
    /// Blocks as they once were.
    pub stale: u64,
    /// Of all these, while a life ran.
    pub while_running: u64,
    /// Batches whose bytes changed.
    pub harmed: u64,
    /// Checkpoints torn, lost or old.
    pub checkpoints: u64,
    /// Snapshots torn, lost, old or another's.
    pub snapshots: u64,
    /// Quarantine lists torn or lost.
    pub lists: u64,
    /// Clean markers torn or lost.
    pub markers: u64,
}

/// How a disk decays over the lives of a seed.
#[derive(Debug, Default)]
pub struct Decay {
    /// The disk at its last rests, oldest first; empty when nothing will look back.
    images: VecDeque<Disk>,
    looks_back: bool,
    struck: BTreeSet<(SegmentName, usize)>,
    /// Logs with a pair of swapped blocks: of two pairs in one segment the search for what follows a break
    /// takes the wrong run of headers at times, and whole batches are lost with the harmed ones.
    swapped: BTreeSet<LogKey>,
    /// Of two generations one must stay (3.4, known limits).
    checkpoint_struck: bool,
    /// Counts.
    pub counts: RotCounts,
}

/// Bytes to be changed.
struct Edit {
    segment: u64,
    at: usize,
    /// None: it cannot be read any more.
    bytes: Option<Vec<u8>>,
    len: usize,
}

impl Edit {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.len
    }
}

impl Decay {
    /// Of a seed; `looks_back`: old versions of blocks and files may come back.
    #[must_use]
    pub fn new(looks_back: bool) -> Decay {
        Decay { looks_back, ..Decay::default() }
    }

    /// No process runs.
    pub fn rests(&mut self, disk: &Disk) {
        self.checkpoint_struck = false;
        if self.looks_back {
            self.images.push_back(disk.clone());
            if self.images.len() > IMAGES {
                self.images.pop_front();
            }
        }
    }

    /// Whether a checkpoint was struck since the last life.
    #[must_use]
    pub fn struck_checkpoint(&self) -> bool {
        self.checkpoint_struck
    }

    /// One blow. What it was; nothing where there was nothing to hit.
    pub fn strike(
        &mut self,
        rot: Rot,
        chance: u64,
        disk: &mut Disk,
        checker: &mut Checker,
    ) -> Option<String> {
        let rng = &mut Rng::new(chance);
        match rot {
            Rot::Checkpoint => self.checkpoint(disk, rng),
            Rot::Snapshot => self.snapshot(disk, rng),
            Rot::List => self.list(disk, rng),
            Rot::Marker => self.marker(disk, rng),
            _ => self.blocks(rot, disk, checker, rng),
        }
    }

    fn blocks(
        &mut self,
        rot: Rot,
        disk: &mut Disk,
        checker: &mut Checker,
        rng: &mut Rng,
    ) -> Option<String> {
        let logs = checker.logs_with_batches();
        if logs.is_empty() {
            return None;
        }
        let log = rng.pick(&logs);
        if rot == Rot::Swapped && self.swapped.contains(&log) {
            return None;
        }
        let kept = checker.kept(log);
        let places = places::find(disk, log, |frame| {
            let found = kept.binary_search_by_key(&frame.base, |one| one.base);
            found.is_ok_and(|at| kept[at] == *frame)
        });
        for _ in 0..if places.is_empty() { 0 } else { ATTEMPTS } {
            let edits = self.edits(rot, disk, log, &places, rng);
            let blocks = blocks_of(&edits, log, disk.block());
            let harmed: Vec<Place> = places
                .iter()
                .filter(|place| is_harmed(disk, log, place, &edits))
                .copied()
                .collect();
            if harmed.is_empty() || blocks.iter().any(|block| self.struck.contains(block)) {
                continue;
            }
            for edit in &edits {
                let name = SegmentName { log, base_offset: edit.segment };
                match &edit.bytes {
                    Some(bytes) => disk.overwrite(name, edit.at, bytes),
                    None => disk.spoil(name, edit.at),
                }
            }
            self.struck.extend(blocks);
            *self.count(rot) += 1;
            self.counts.harmed += harmed.len() as u64;
            for place in &harmed {
                checker.harms(log, place.frame);
            }
            if rot == Rot::Swapped {
                checker.spares(log, SWAP_SPARES);
                self.swapped.insert(log);
            }
            let at: Vec<(u64, usize)> = edits.iter().map(|edit| (edit.segment, edit.at)).collect();
            let bases: Vec<u64> = harmed.iter().map(|place| place.frame.base).collect();
            return Some(format!("{log}: {rot:?} at {at:?}, batches {bases:?}"));
        }
        None
    }

    fn count(&mut self, rot: Rot) -> &mut u64 {
        let counts = &mut self.counts;
        match rot {
            Rot::Flipped => &mut counts.flipped,
            Rot::Zeroed => &mut counts.zeroed,
            Rot::Unreadable => &mut counts.unreadable,
            Rot::Swapped => &mut counts.swapped,
            Rot::Foreign => &mut counts.foreign,
            Rot::Stale => &mut counts.stale,
            Rot::Checkpoint => &mut counts.checkpoints,
            Rot::Snapshot => &mut counts.snapshots,
            Rot::List => &mut counts.lists,
            Rot::Marker => &mut counts.markers,
        }
    }

    /// What one blow would change; empty where there is nothing to change it into.
    fn edits(
        &self,
        rot: Rot,
        disk: &Disk,
        log: LogKey,
        places: &[Place],
        rng: &mut Rng,
    ) -> Vec<Edit> {
        let block = disk.block();
        let place = any_place(places, rng);
        let segment = place.segment;
        let name = SegmentName { log, base_offset: segment };
        let at = (place.at + rng.index(place.range().len())) / block * block;
        let whole =
            |at: usize, bytes: Vec<u8>| Edit { segment, at, bytes: Some(bytes), len: block };
        match rot {
            Rot::Flipped => flips(disk, name, place, rng),
            Rot::Zeroed => vec![whole(at, vec![0; block])],
            Rot::Unreadable => vec![Edit { segment, at, bytes: None, len: block }],
            Rot::Swapped => {
                let other = any_place(places, rng);
                let there = (other.at + rng.index(other.range().len())) / block * block;
                if other.segment != segment || there == at {
                    return Vec::new();
                }
                let (one, two) = (block_of(disk, name, at), block_of(disk, name, there));
                vec![whole(at, two), whole(there, one)]
            }
            Rot::Foreign => {
                let files: Vec<SegmentName> = disk
                    .names()
                    .logs()
                    .flat_map(|log| disk.names().segments(log).map(|(name, _)| name))
                    .filter(|other| *other != name)
                    .collect();
                if files.is_empty() {
                    return Vec::new();
                }
                let other = rng.pick(&files);
                let there = rng.index(disk.size_of(other).div_ceil(block)) * block;
                vec![whole(at, block_of(disk, other, there))]
            }
            _ => match self.images.front().filter(|image| image.size_of(name) > at) {
                Some(image) => vec![whole(at, block_of(image, name, at))],
                None => Vec::new(),
            },
        }
    }

    fn checkpoint(&mut self, disk: &mut Disk, rng: &mut Rng) -> Option<String> {
        let shard_of = |file: &SmallFile| match file {
            SmallFile::Checkpoint { shard, .. } => Some(*shard),
            _ => None,
        };
        let files = disk.checkpoints();
        let of = |shard: u32| files.iter().rev().filter(move |file| shard_of(file) == Some(shard));
        let mut shards: Vec<u32> = files.iter().filter_map(shard_of).collect();
        shards.sort_unstable();
        shards.dedup();
        shards.retain(|shard| of(*shard).count() > 1);
        if shards.is_empty() || self.checkpoint_struck {
            return None;
        }
        let mut newest = of(rng.pick(&shards));
        let (newest, older) = (*newest.next()?, *newest.next()?);
        let body = match rng.below(3) {
            0 => None,
            1 => disk.names().small(older).cloned(),
            _ => torn(disk, newest, rng),
        };
        self.checkpoint_struck = true;
        self.replace(Rot::Checkpoint, disk, newest, body)
    }

    fn snapshot(&mut self, disk: &mut Disk, rng: &mut Rng) -> Option<String> {
        let has = |log: &LogKey| disk.names().small(SmallFile::Snapshot(*log)).is_some();
        let logs: Vec<LogKey> = disk.names().logs().filter(has).collect();
        if logs.is_empty() {
            return None;
        }
        let file = SmallFile::Snapshot(rng.pick(&logs));
        let body = match rng.below(4) {
            0 => None,
            1 => disk.names().small(SmallFile::Snapshot(rng.pick(&logs))).cloned(),
            2 => self.images.front().and_then(|image| image.names().small(file).cloned()),
            _ => torn(disk, file, rng),
        };
        self.replace(Rot::Snapshot, disk, file, body)
    }

    fn list(&mut self, disk: &mut Disk, rng: &mut Rng) -> Option<String> {
        let has = |log: &LogKey| disk.names().small(SmallFile::Quarantine(*log)).is_some();
        let logs: Vec<LogKey> = disk.names().logs().filter(has).collect();
        if logs.is_empty() {
            return None;
        }
        let file = SmallFile::Quarantine(rng.pick(&logs));
        let body = if rng.percent(50) { None } else { torn(disk, file, rng) };
        self.replace(Rot::List, disk, file, body)
    }

    fn marker(&mut self, disk: &mut Disk, rng: &mut Rng) -> Option<String> {
        disk.names().small(SmallFile::CleanMarker)?;
        let file = SmallFile::CleanMarker;
        let body = if rng.percent(50) { None } else { torn(disk, file, rng) };
        self.replace(Rot::Marker, disk, file, body)
    }

    fn replace(
        &mut self,
        rot: Rot,
        disk: &mut Disk,
        file: SmallFile,
        body: Option<Vec<u8>>,
    ) -> Option<String> {
        let bytes = body.as_ref().map(Vec::len);
        if disk.names().small(file) == body.as_ref() {
            return None;
        }
        disk.replace_small(file, body);
        *self.count(rot) += 1;
        Some(format!("{file:?} is another one now, bytes {bytes:?}"))
    }
}

/// Any batch, of the last ones a little more often: there a log's end is decided.
fn any_place(places: &[Place], rng: &mut Rng) -> Place {
    let last = places.len().min(3);
    let from = if rng.percent(25) { places.len() - last } else { 0 };
    places[from + rng.index(places.len() - from)]
}

fn flips(disk: &Disk, name: SegmentName, place: Place, rng: &mut Rng) -> Vec<Edit> {
    let bits = rng.within(1, 8);
    let one = |_| {
        let at = place.at + rng.index(place.range().len());
        let mut byte = vec![0];
        disk.peek(name, at, &mut byte);
        byte[0] ^= 1 << rng.below(8);
        Edit { segment: place.segment, at, bytes: Some(byte), len: 1 }
    };
    (0..bits).map(one).collect()
}

fn block_of(disk: &Disk, name: SegmentName, at: usize) -> Vec<u8> {
    let mut bytes = vec![0; disk.block()];
    disk.peek(name, at, &mut bytes);
    bytes
}

fn blocks_of(edits: &[Edit], log: LogKey, block: usize) -> BTreeSet<(SegmentName, usize)> {
    let of = |edit: &Edit| (SegmentName { log, base_offset: edit.segment }, edit.at / block);
    edits.iter().map(of).collect()
}

fn is_harmed(disk: &Disk, log: LogKey, place: &Place, edits: &[Edit]) -> bool {
    let own = place.range();
    edits.iter().any(|edit| {
        let (from, to) = (own.start.max(edit.range().start), own.end.min(edit.range().end));
        if edit.segment != place.segment || from >= to {
            return false;
        }
        let Some(bytes) = &edit.bytes else { return true };
        let mut before = vec![0; to - from];
        disk.peek(SegmentName { log, base_offset: place.segment }, from, &mut before);
        before != bytes[from - edit.at..to - edit.at]
    })
}

/// What a file may become; none: of one torn to nothing before, nothing is left.
fn torn(disk: &Disk, file: SmallFile, rng: &mut Rng) -> Option<Vec<u8>> {
    let mut body = disk.names().small(file).filter(|body| !body.is_empty()).cloned()?;
    let at = rng.index(body.len());
    if rng.percent(30) {
        body.truncate(at);
    } else {
        body[at] ^= 1 << rng.below(8);
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;
    use crate::room::ReadLog;
    use crate::stand::{KEY, Stand};

    /// A log at rest and a checker that has seen it recovered.
    fn at_rest() -> (Disk, Checker) {
        let mut stand = Stand::new(KEY, 65_536);
        stand.start().expect("starts");
        for size in [90, 700, 1_200, 6_000, 40, 3_500] {
            stand.append(2, size).expect("appends");
            stand.run().expect("runs");
        }
        stand.wait(SECOND).expect("a checkpoint");
        let found = stand.read_all().expect("reads");
        stand.cut();
        let mut checker = Checker::default();
        let read = ReadLog { frames: found.frames, end: found.end, ..ReadLog::default() };
        for (sequence, frame) in (0..).zip(&read.frames) {
            checker.sends(frame.hash, KEY, (1, sequence * 2, true), (2, None));
        }
        checker.recovered(KEY, read);
        assert_eq!(checker.violation, None);
        (stand.disk, checker)
    }

    #[test]
    fn a_blow_harms_exactly_the_batches_it_names() {
        let (disk, mut checker) = at_rest();
        let kept = checker.kept(KEY).to_vec();
        let places = places::find(&disk, KEY, |frame| kept.contains(frame));
        assert_eq!(places.len(), kept.len());
        for rot in [Rot::Flipped, Rot::Zeroed, Rot::Swapped] {
            for chance in 0..20 {
                let mut struck = disk.clone();
                let mut decay = Decay::new(false);
                let told = decay.strike(rot, chance, &mut struck, &mut checker);
                assert!(told.is_some(), "{rot:?} {chance}");
                let changed = places.iter().filter(|place| {
                    let name = SegmentName { log: KEY, base_offset: place.segment };
                    disk.bytes_of(name)[place.range()] != struck.bytes_of(name)[place.range()]
                });
                assert_eq!(changed.count() as u64, decay.counts.harmed, "{told:?}");
            }
        }
    }

    #[test]
    fn a_file_torn_to_nothing_can_be_torn_again() {
        let (mut disk, _) = at_rest();
        disk.replace_small(SmallFile::CleanMarker, Some(Vec::new()));
        for chance in 0..20 {
            assert_eq!(torn(&disk, SmallFile::CleanMarker, &mut Rng::new(chance)), None);
        }
    }

    #[test]
    fn a_block_is_struck_once() {
        let (mut disk, mut checker) = at_rest();
        let mut decay = Decay::new(false);
        for chance in 0..200 {
            let _ = decay.strike(Rot::Unreadable, chance, &mut disk, &mut checker);
        }
        let blocks = decay.struck.len() as u64;
        assert_eq!(decay.counts.unreadable, blocks);
        assert!(blocks > 3, "{blocks}");
    }
}
