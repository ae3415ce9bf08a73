//! One simulated file: what is durable, what is written but not flushed, what is still in flight.
//! Owner: `Disk`.
//! Invariant: a read sees durable bytes under all completed writes; a cut keeps any part of the rest.
//! Not here: names (`names.rs`), requests (`disk.rs`).

mod chosen;
mod harm;

use crate::rng::{Rng, mix};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The unit that is written whole or not at all when the power goes, but for the one of a shorn write.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;
/// Of 100 torn writes, those that leave one sector neither old nor new.
const SHORN_PERCENT: u64 = 25;

/// A write that no flush has covered yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Names it among the disk's requests.
    pub op: u64,
    /// Byte position.
    pub at: usize,
    /// What was asked to be written.
    pub bytes: Vec<u8>,
    /// Order of completion; `None` while in flight.
    pub completed: Option<u64>,
    /// A part of it holds what a durable write put there since, and is not on its way any more.
    superseded: bool,
}

/// How a cut treats one pending write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing arrived.
    None,
    /// All arrived.
    All,
    /// Each sector by itself.
    Sectors,
    /// The first sectors.
    Prefix,
    /// All but one sector.
    Hole,
    /// Old and new sectors mixed, mostly new.
    Mixed,
}

impl Tear {
    /// Any of them.
    pub fn any(rng: &mut Rng) -> Tear {
        let all = [Tear::None, Tear::All, Tear::Sectors, Tear::Prefix, Tear::Hole, Tear::Mixed];
        rng.pick(&all)
    }

    /// Whether a sector survives; `chosen` is the one that this tear turns about.
    fn keeps(self, sector: usize, chosen: usize, rng: &mut Rng) -> bool {
        match self {
            Tear::None => false,
            Tear::All => true,
            Tear::Sectors => rng.percent(50),
            Tear::Prefix => sector < chosen,
            Tear::Hole => sector != chosen,
            Tear::Mixed => sector == chosen || rng.percent(85),
        }
    }
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Shared with the copies of this file: a disk is copied for every case of the exhaustive modes.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    size: usize,
    durable_size: usize,
    pending: Vec<Pending>,
    /// Pages that cannot be read until they are written again.
    unreadable: BTreeSet<usize>,
}

impl File {
    /// A file of zeros whose size is durable.
    #[must_use]
    pub fn new(size: usize) -> File {
        File { size, durable_size: size, ..File::default() }
    }

    /// Size as a reader sees it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether everything it holds is durable.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.size == self.durable_size
    }

    /// Sets the size; volatile until the next flush unless `durable`.
    pub fn resize(&mut self, size: usize, durable: bool) {
        self.size = size;
        if durable {
            self.settle_size();
        }
    }

    /// A write was submitted.
    pub fn submit(&mut self, op: u64, at: usize, bytes: Vec<u8>) {
        self.pending.push(Pending { op, at, bytes, completed: None, superseded: false });
    }

    /// A write arrived; returns its bytes to compare them with what the requester now holds.
    pub fn complete(&mut self, op: u64, order: u64) -> &[u8] {
        for write in &mut self.pending {
            if write.op == op {
                write.completed = Some(order);
                return &write.bytes;
            }
        }
        &[]
    }

    /// A write with RWF_DSYNC arrived: durable by itself.
    pub fn settle_one(&mut self, op: u64) {
        if let Some(index) = self.pending.iter().position(|write| write.op == op) {
            let write = self.pending.remove(index);
            self.store(write.at, &write.bytes);
            // The cache holds one version of a sector: what it had of these bytes before is superseded
            // and can no longer reach the medium.
            for older in self.pending.iter_mut().filter(|older| older.completed.is_some()) {
                let from = older.at.max(write.at);
                let to = (older.at + older.bytes.len()).min(write.at + write.bytes.len());
                if from < to {
                    older.bytes[from - older.at..to - older.at]
                        .copy_from_slice(&write.bytes[from - write.at..to - write.at]);
                    older.superseded = true;
                }
            }
        }
    }

    /// A flush ended: writes completed before `mark` are durable, in the order they completed.
    pub fn flush(&mut self, mark: u64) {
        self.settle_size();
        let (mut done, rest): (Vec<Pending>, Vec<Pending>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|write| write.completed.is_some_and(|order| order < mark));
        done.sort_by_key(|write| write.completed);
        for write in &done {
            self.store(write.at, &write.bytes);
        }
        self.pending = rest;
    }

    /// Reads up to `into.len()` bytes at `at`; returns how many there are.
    pub fn read(&self, at: usize, into: &mut [u8]) -> usize {
        let count = self.size.saturating_sub(at).min(into.len());
        let into = &mut into[..count];
        self.load(at, into);
        let mut done: Vec<&Pending> =
            self.pending.iter().filter(|write| write.completed.is_some()).collect();
        done.sort_by_key(|write| write.completed);
        for write in done {
            let from = write.at.max(at);
            let to = (write.at + write.bytes.len()).min(at + count);
            if from < to {
                into[from - at..to - at]
                    .copy_from_slice(&write.bytes[from - write.at..to - write.at]);
            }
        }
        count
    }

    /// Power goes: any part of what is not durable survives. How many writes were shorn.
    pub fn cut(&mut self, rng: &mut Rng, mood: CutMood) -> u64 {
        if self.size != self.durable_size {
            if rng.percent(50) {
                self.settle_size();
            }
            self.size = self.durable_size;
        }
        let mut writes = std::mem::take(&mut self.pending);
        // What completed earlier usually, not always, reached the medium earlier.
        writes.sort_by_key(|write| write.completed.unwrap_or(u64::MAX));
        let mut shorn = 0;
        for write in &writes {
            let tear = mood.tear(rng);
            shorn += u64::from(self.tear(write, tear, rng));
        }
        shorn
    }

    /// The process dies: completed writes stay in the device's cache, those in flight may still land.
    pub fn crash(&mut self, rng: &mut Rng, order: &mut u64) {
        let mut kept = Vec::new();
        for mut write in std::mem::take(&mut self.pending) {
            if write.completed.is_none() {
                match rng.below(3) {
                    0 => continue,
                    1 => {}
                    _ => {
                        let pages = rng.index(write.bytes.len() / PAGE + 1);
                        write.bytes.truncate(pages * PAGE);
                    }
                }
                if write.bytes.is_empty() {
                    continue;
                }
                write.completed = Some(*order);
                *order += 1;
            }
            kept.push(write);
        }
        self.pending = kept;
    }

    /// A write that arrived in part: the sectors that did are written, none is flushed.
    pub fn keep_part(&mut self, op: u64, tear: Tear, rng: &mut Rng) {
        let Some(write) = self.take(op) else { return };
        let sectors = write.bytes.len() / SECTOR;
        let chosen = rng.index(sectors.max(1));
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for sector in 0..sectors {
            if tear.keeps(sector, chosen, rng) {
                match runs.last_mut().filter(|run| run.1 == sector) {
                    Some(run) => run.1 += 1,
                    None => runs.push((sector, sector + 1)),
                }
            }
        }
        for (from, to) in runs {
            let bytes = write.bytes[from * SECTOR..to * SECTOR].to_vec();
            self.pending.push(Pending { at: write.at + from * SECTOR, bytes, ..write.clone() });
        }
    }

    /// A write that moved its first `bytes` only.
    pub fn shorten(&mut self, op: u64, bytes: usize) {
        let Some(mut write) = self.take(op) else { return };
        write.bytes.truncate(bytes);
        if bytes > 0 {
            self.pending.push(write);
        }
    }

    /// A write that never happened.
    pub fn forget(&mut self, op: u64) {
        let _ = self.take(op);
    }

    /// A write that lands `by` bytes behind its place, or before it; nowhere, if there is no such place.
    pub fn misplace(&mut self, op: u64, by: usize, forward: bool) {
        let Some(write) = self.take(op) else { return };
        let at = if forward { Some(write.at + by) } else { write.at.checked_sub(by) };
        let Some(at) = at.filter(|at| at + write.bytes.len() <= self.size) else { return };
        self.pending.push(Pending { at, ..write });
    }

    /// Any written and unflushed write may be gone (C7).
    pub fn lose_unflushed(&mut self, rng: &mut Rng) {
        self.pending.retain(|write| write.completed.is_none() || rng.percent(50));
    }

    fn take(&mut self, op: u64) -> Option<Pending> {
        let index = self.pending.iter().position(|write| write.op == op)?;
        Some(self.pending.remove(index))
    }

    /// Keeps the sectors of a write that arrived. True: it was shorn, too.
    fn tear(&mut self, write: &Pending, tear: Tear, rng: &mut Rng) -> bool {
        let sectors = write.bytes.len() / SECTOR;
        let chosen = rng.index(sectors.max(1));
        for sector in 0..sectors {
            if tear.keeps(sector, chosen, rng) {
                let from = sector * SECTOR;
                self.store(write.at + from, &write.bytes[from..from + SECTOR]);
            }
        }
        // A stream of its own, which leaves that of the cut as it is.
        let mut aside = Rng::new(mix(rng.clone().bits(), write.at as u64));
        let part = !matches!(tear, Tear::None | Tear::All);
        let shorn = part && !write.superseded && aside.percent(SHORN_PERCENT);
        if shorn {
            self.shear(write.at + chosen * SECTOR, &mut aside);
        }
        shorn
    }

    /// The sector that was being written when the power went: noise, or not readable until it is written again.
    fn shear(&mut self, at: usize, rng: &mut Rng) {
        if rng.percent(50) && at < self.durable_size {
            self.spoil(at);
            return;
        }
        let noise: Vec<u8> = (0..SECTOR / 8).flat_map(|_| rng.bits().to_le_bytes()).collect();
        self.store(at, &noise);
    }

    fn settle_size(&mut self) {
        if self.size < self.durable_size {
            self.pages.truncate(self.size.div_ceil(PAGE));
        }
        self.durable_size = self.size;
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        let mut done = 0;
        // Bytes beyond the size went with the space that held them.
        let end = bytes.len().min(self.durable_size.max(self.size).saturating_sub(at));
        while done < end {
            let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
            let count = (PAGE - offset).min(end - done);
            if self.pages.len() <= page {
                self.pages.resize_with(page + 1, || None);
            }
            self.unreadable.remove(&page);
            let page = Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE])));
            page[offset..offset + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    fn load(&self, at: usize, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let (page, offset) = ((at + done) / PAGE, (at + done) % PAGE);
            let count = (PAGE - offset).min(into.len() - done);
            let target = &mut into[done..done + count];
            match self.pages.get(page) {
                Some(Some(page)) => target.copy_from_slice(&page[offset..offset + count]),
                _ => target.fill(0),
            }
            done += count;
        }
    }
}

/// What one cut is inclined to: a run of cuts that all tear alike would miss the rare mixtures.
#[derive(Clone, Copy, Debug)]
pub enum CutMood {
    /// Every write by itself, any way.
    Any,
    /// Nothing unflushed survives.
    Nothing,
    /// Everything unflushed survives.
    Everything,
    /// Only tears inside writes.
    Torn,
}

impl CutMood {
    /// Draws a mood.
    pub fn draw(rng: &mut Rng) -> CutMood {
        match rng.below(10) {
            0 | 1 => CutMood::Nothing,
            2 => CutMood::Everything,
            3 | 4 => CutMood::Torn,
            _ => CutMood::Any,
        }
    }

    fn tear(self, rng: &mut Rng) -> Tear {
        match self {
            CutMood::Nothing => Tear::None,
            CutMood::Everything => Tear::All,
            CutMood::Torn => rng.pick(&[Tear::Sectors, Tear::Prefix, Tear::Hole, Tear::Mixed]),
            CutMood::Any => Tear::any(rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_at(file: &File, at: usize) -> u8 {
        let mut one = [0xEE];
        assert_eq!(file.read(at, &mut one), 1);
        one[0]
    }

    #[test]
    fn a_flush_covers_only_writes_completed_before_it() {
        let mut file = File::new(8192);
        file.submit(1, 0, vec![1; 4096]);
        file.submit(2, 4096, vec![2; 4096]);
        file.complete(1, 10);
        let mark = 11;
        file.complete(2, 11);
        file.flush(mark);
        file.cut(&mut Rng::new(1), CutMood::Nothing);
        assert_eq!((byte_at(&file, 0), byte_at(&file, 4096)), (1, 0));
    }

    #[test]
    fn a_write_in_flight_is_not_read() {
        let mut file = File::new(4096);
        file.submit(1, 0, vec![1; 4096]);
        assert_eq!(byte_at(&file, 0), 0);
        file.complete(1, 0);
        assert_eq!(byte_at(&file, 0), 1);
    }

    #[test]
    fn a_size_is_volatile_until_flushed() {
        let mut seen = [false; 2];
        for seed in 0..50 {
            let mut file = File::new(4096);
            file.resize(8192, false);
            file.cut(&mut Rng::new(seed), CutMood::Nothing);
            seen[usize::from(file.size() == 8192)] = true;
        }
        assert_eq!(seen, [true, true]);
    }

    #[test]
    fn a_durable_write_supersedes_what_the_cache_held_there() {
        let mut file = File::new(8192);
        file.submit(1, 0, vec![1; 8192]);
        file.complete(1, 0);
        file.submit(2, 0, vec![2; 4096]);
        file.complete(2, 1);
        file.settle_one(2);
        file.cut(&mut Rng::new(1), CutMood::Everything);
        assert_eq!((byte_at(&file, 0), byte_at(&file, 4096)), (2, 1));
    }

    #[test]
    fn a_torn_write_may_leave_a_sector_neither_old_nor_new_and_nothing_outside_itself() {
        let (mut noise, mut unreadable) = (0, 0);
        for seed in 0..200 {
            let mut file = File::new(3 * PAGE);
            file.overwrite(0, &[7; 3 * PAGE]);
            file.submit(1, PAGE, vec![1; PAGE]);
            let shorn = file.cut(&mut Rng::new(seed), CutMood::Torn);
            assert!(file.is_readable(0, PAGE) && file.is_readable(2 * PAGE, PAGE), "{seed}");
            let mut bytes = vec![0; 3 * PAGE];
            file.read(0, &mut bytes);
            assert!(bytes[..PAGE].iter().chain(&bytes[2 * PAGE..]).all(|byte| *byte == 7));
            let sound = |sector: &&[u8]| sector.iter().all(|byte| *byte == 7 || *byte == 1);
            let other = bytes.chunks(SECTOR).filter(|sector| !sound(sector)).count() as u64;
            let gone = u64::from(!file.is_readable(PAGE, PAGE));
            assert_eq!(other + gone, shorn, "{seed}");
            (noise, unreadable) = (noise + other, unreadable + gone);
            file.submit(2, PAGE, vec![2; PAGE]);
            file.complete(2, 0);
            assert!(file.is_readable(0, 3 * PAGE), "it was written again");
        }
        assert!(noise > 5 && unreadable > 5, "{noise} and {unreadable} of 200");
    }

    #[test]
    fn what_a_durable_write_put_there_is_never_shorn() {
        for seed in 0..200 {
            let mut file = File::new(2 * PAGE);
            file.submit(1, 0, vec![1; 2 * PAGE]);
            file.complete(1, 0);
            file.submit(2, 0, vec![2; PAGE]);
            file.complete(2, 1);
            file.settle_one(2);
            file.cut(&mut Rng::new(seed), CutMood::Torn);
            let mut bytes = vec![0; PAGE];
            file.read(0, &mut bytes);
            assert!(file.is_readable(0, PAGE) && bytes == [2; PAGE], "{seed}");
        }
    }

    #[test]
    fn completed_writes_survive_a_crash_and_not_the_cut_after_it() {
        let mut file = File::new(4096);
        file.submit(1, 0, vec![1; 4096]);
        file.complete(1, 0);
        file.crash(&mut Rng::new(3), &mut 1);
        assert_eq!(byte_at(&file, 0), 1);
        file.cut(&mut Rng::new(3), CutMood::Nothing);
        assert_eq!(byte_at(&file, 0), 0);
    }
}
