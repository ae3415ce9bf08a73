//! Requests as the disk takes them over: checked against C1, their bytes remembered.
//! Owner: `Disk`.
//! Invariant: nothing happens yet; a write's bytes are those of this moment (C6).
//! Not here: their effect (`disk.rs`).

use super::{Disk, Weight, Work, to_usize};
use crate::device::Asked;
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::{Dir, FileId, IoId, IoRequest};

impl Disk {
    pub(super) fn submit_write(
        &mut self,
        op: u64,
        file: FileId,
        at: u64,
        slices: &[Slice],
        durable: bool,
        blocks: Option<&Blocks>,
    ) -> Work {
        let at = to_usize(at);
        assert!(at.is_multiple_of(self.block), "C1: write at {at}");
        let mut bytes = Vec::new();
        for slice in slices {
            self.check_slice(*slice);
            if let Some(blocks) = blocks {
                bytes.extend_from_slice(blocks.bytes(*slice));
            }
        }
        assert!(!bytes.is_empty(), "C1: empty write at {at}");
        let file = self.inode(file);
        let target = &mut self.files[file];
        assert!(
            at + bytes.len() <= target.size(),
            "P17: write of {}..{} into a file of {}",
            at,
            at + bytes.len(),
            target.size()
        );
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        target.submit(op, at, bytes);
        Work::Write { file, slices: slices.to_vec(), bytes: count, durable }
    }

    pub(super) fn submit_read(
        &mut self,
        file: FileId,
        at: u64,
        into: Slice,
        blocks: Option<&mut Blocks>,
    ) -> Work {
        let at = to_usize(at);
        assert!(at.is_multiple_of(self.block), "C1: read at {at}");
        self.check_slice(into);
        if let Some(blocks) = blocks {
            // Enough of every sector that whoever looks too early sees no header and no right CRC.
            for sector in blocks.target_mut(into).chunks_mut(crate::file::SECTOR) {
                sector[..64].fill(0xDB);
            }
        }
        Work::Read { file: self.inode(file), at, into }
    }

    pub(super) fn submit_name(&mut self, request: &IoRequest) -> (IoId, Work, Weight) {
        match request {
            IoRequest::Prepare { id, name, bytes, .. } => {
                let slot = self.free_slot();
                let work = Work::Prepare { slot, bytes: to_usize(*bytes), log: name.log };
                (*id, work, Weight::Allocation)
            }
            IoRequest::Adopt { id, file, name } => {
                (*id, Work::Adopt { file: self.inode(*file), name: *name }, Weight::Name)
            }
            IoRequest::Extend { id, file, to, .. } => {
                let file = self.inode(*file);
                let work = Work::Resize { file, bytes: to_usize(*to), durable: true };
                (*id, work, Weight::Allocation)
            }
            IoRequest::Trim { id, file, bytes } => {
                let file = self.inode(*file);
                (*id, Work::Resize { file, bytes: to_usize(*bytes), durable: false }, Weight::Name)
            }
            IoRequest::Open { id, name } => (*id, Work::Open { name: *name }, Weight::Name),
            IoRequest::Close { id, file } => (*id, Work::Close { slot: file.0 }, Weight::Name),
            IoRequest::Unlink { id, name } => (*id, Work::Unlink { name: *name }, Weight::Name),
            IoRequest::SetAside { id, name } => {
                self.counts.set_aside += 1;
                (*id, Work::Unlink { name: *name }, Weight::Name)
            }
            IoRequest::RemoveLog { id, log } => (*id, Work::RemoveLog { log: *log }, Weight::Name),
            IoRequest::SyncDir { id, dir } => {
                (*id, Work::SyncDir { dir: *dir, mark: self.order }, Weight::Flush)
            }
            IoRequest::List { id, dir } => (*id, Work::List { dir: *dir }, Weight::Name),
            IoRequest::ReadSmall { id, file } => {
                (*id, Work::ReadSmall { file: *file }, Weight::Transfer)
            }
            IoRequest::WriteSmall { id, file, body } => {
                let body = Some(body.clone());
                (*id, Work::PutSmall { file: *file, body }, Weight::Flush)
            }
            IoRequest::RemoveSmall { id, file } => {
                (*id, Work::PutSmall { file: *file, body: None }, Weight::Flush)
            }
            IoRequest::Write { id, .. }
            | IoRequest::Read { id, .. }
            | IoRequest::Flush { id, .. } => (*id, Work::List { dir: Dir::Root }, Weight::Name),
        }
    }
}

/// A request as troubles see it.
pub(super) fn asked(work: &Work) -> Asked {
    match work {
        Work::Write { durable, .. } => Asked::Write { durable: *durable },
        Work::Flush { .. } => Asked::Flush,
        Work::Read { file, at, .. } => Asked::Read(*file, *at),
        Work::Prepare { .. } | Work::Resize { durable: true, .. } => Asked::Allocation,
        Work::PutSmall { body: Some(_), .. } => Asked::SmallWrite,
        Work::PutSmall { body: None, .. } | Work::Resize { durable: false, .. } => Asked::Name,
        Work::Adopt { .. } | Work::Open { .. } | Work::Close { .. } | Work::Unlink { .. } => {
            Asked::Name
        }
        Work::RemoveLog { .. } | Work::SyncDir { .. } => Asked::Name,
        Work::List { .. } | Work::ReadSmall { .. } => Asked::Name,
    }
}
