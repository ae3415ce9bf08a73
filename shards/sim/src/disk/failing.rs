//! Writes and flushes that fail, and what they take with them (C7, C8, P12).
//! Owner: `Disk`.
//! Invariant: what a log may not acknowledge any more is told with the completion that shows it.
//! Not here: which request meets what (`device.rs`).

use super::{Disk, Failure, Work, has_flush};
use crate::device::Fate;
use crate::file::Tear;
use ringway_log::io::{EIO, ENOSPC, Errno, IoOk};

impl Disk {
    /// A write arrives as its fate wills.
    pub(super) fn complete_write(
        &mut self,
        op: u64,
        file: usize,
        (bytes, durable): (u32, bool),
        fate: Option<Fate>,
    ) -> (Result<IoOk, Errno>, Option<Failure>) {
        let block = self.block;
        let target = &mut self.files[file];
        let rng = self.device.rng();
        let all = Ok(IoOk::Bytes(bytes));
        match fate {
            None => {
                if durable {
                    target.settle_one(op);
                }
                (all, None)
            }
            Some(Fate::Short) => {
                let sectors = u64::from(bytes) / crate::file::SECTOR as u64;
                let count = u32::try_from(rng.below(sectors)).unwrap_or(0);
                let moved = count * u32::try_from(crate::file::SECTOR).unwrap_or(512);
                target.shorten(op, moved as usize);
                (Ok(IoOk::Bytes(moved)), Some(Failure::Short))
            }
            Some(Fate::Ignored) => (all, None),
            Some(Fate::Lost) => {
                target.forget(op);
                (all, None)
            }
            Some(Fate::Misplaced) => {
                let forward = rng.percent(50);
                target.misplace(op, block, forward);
                if durable {
                    target.settle_one(op);
                }
                (all, None)
            }
            Some(Fate::Robbed) => {
                target.keep_part(op, Tear::any(rng), rng);
                self.device.counts.robbed += 1;
                (all, None)
            }
            Some(Fate::FlushFailed) => {
                self.flush_failed();
                (Err(EIO), Some(Failure::Flush))
            }
            Some(Fate::Failed(errno)) => {
                target.keep_part(op, Tear::any(rng), rng);
                self.taint();
                (Err(errno), Some(Failure::Write))
            }
            Some(Fate::Refused) => (Err(ENOSPC), Some(Failure::Write)),
        }
    }

    /// A flush of the device failed (C7): any unflushed write may be gone, every flush in flight fails, and
    /// a write whose own flush is still to come may succeed without its bytes.
    pub(super) fn flush_failed(&mut self) {
        let Disk { device, files, works, .. } = self;
        let rng = device.rng();
        for file in files.iter_mut().filter(|file| !file.is_quiet()) {
            file.lose_unflushed(rng);
        }
        for held in works.values_mut().filter(|held| held.fate.is_none()) {
            held.fate = match &held.work {
                Work::Flush { .. } => Some(Fate::Failed(EIO)),
                Work::Write { durable: true, .. } if rng.percent(50) => Some(Fate::Failed(EIO)),
                Work::Write { durable: true, .. } => Some(Fate::Robbed),
                work => (has_flush(work) && rng.percent(30)).then_some(Fate::Failed(EIO)),
            };
        }
        self.taint();
    }

    /// A flush has failed (C10): durable writes under way now belong to logs whose unflushed bytes are in doubt (P12).
    fn taint(&mut self) {
        self.flush_failures += 1;
        for held in self.works.values_mut() {
            held.tainted |= matches!(held.work, Work::Write { durable: true, .. });
        }
    }
}
