//! Cuts and crashes of the whole disk whose outcome is chosen instead of drawn.
//! Owner: `Disk`.
//! Invariant: pieces are asked in one fixed order: requests in flight, names, small files, files.
//! Not here: which outcomes are tried (`enumerate.rs`).

use super::{Disk, Work};
use crate::rng::mix;

impl Disk {
    /// Pieces that a cut may take or leave, writes counted in pieces of `unit` sectors.
    #[must_use]
    pub fn chances(&self, unit: usize) -> usize {
        let files: usize = self.files.iter().map(|file| file.chances(unit)).sum();
        self.half_done_works() + self.names.chances() + files
    }

    /// Requests in flight that may have happened although nobody was told.
    fn half_done_works(&self) -> usize {
        self.works.values().filter(|held| changes_names(&held.work)).count()
    }

    /// Power goes: a piece survives where `keep` says so.
    pub fn cut_by(&mut self, unit: usize, keep: &mut dyn FnMut() -> bool) {
        let settled = self.names.changes();
        self.half_done_by(true, keep);
        self.names.cut_by(settled, keep);
        for file in &mut self.files {
            file.cut_by(unit, keep);
        }
        self.forget_process();
    }

    /// What a dying process leaves to chance.
    #[must_use]
    pub fn crash_chances(&self) -> usize {
        let files: usize = self.files.iter().map(|file| file.in_flight()).sum();
        self.half_done_works() + files
    }

    /// The process dies: what was in flight happens, volatile, where `keep` says so.
    pub fn crash_by(&mut self, keep: &mut dyn FnMut() -> bool) {
        self.half_done_by(false, keep);
        for file in &mut self.files {
            file.crash_by(&mut self.order, keep);
        }
        self.forget_process();
    }

    fn half_done_by(&mut self, durable: bool, keep: &mut dyn FnMut() -> bool) {
        for held in std::mem::take(&mut self.works).into_values() {
            let work = held.work;
            if !changes_names(&work) || !keep() {
                continue;
            }
            let order = self.order;
            self.order += 1;
            match work {
                Work::Adopt { file, name } => self.names.set(order, name, Some(file)),
                Work::Unlink { name } => self.names.set(order, name, None),
                Work::Resize { file, bytes, .. } => self.files[file].resize(bytes, durable),
                Work::PutSmall { file, body } => self.names.put_small(order, file, body, durable),
                Work::RemoveLog { log } => self.names.remove_log(order, log),
                Work::Prepare { .. }
                | Work::Flush { .. }
                | Work::SyncDir { .. }
                | Work::Write { .. }
                | Work::Read { .. }
                | Work::Open { .. }
                | Work::Close { .. }
                | Work::List { .. }
                | Work::ReadSmall { .. } => {}
            }
        }
    }

    /// Hash of everything that a later process or cut can see.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = self.names.fingerprint();
        for file in self.names.live_files() {
            hash = self.files[file].fingerprint(mix(hash, file as u64));
        }
        hash
    }
}

fn changes_names(work: &Work) -> bool {
    matches!(
        work,
        Work::Adopt { .. }
            | Work::Unlink { .. }
            | Work::Resize { .. }
            | Work::PutSmall { .. }
            | Work::RemoveLog { .. }
    )
}
