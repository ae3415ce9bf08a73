//! A script under way: which operation its next step is, and what its result means.
//! Owner: `Disk`.
//! Invariant: a step is settled before the next one is asked for.
//! Not here: submitting (`disk.rs`), which steps there are (`script.rs`).

use crate::script::{Script, Step};
use io_uring::types::{DestinationSlot, Fd, Fixed, FsyncFlags};
use io_uring::{opcode, squeue};
use ringway_log::io::{EIO, Errno, IoOk, SMALL_FILE_BYTES_MAX};
use std::path::PathBuf;
use std::ptr::NonNull;

/// Zeros written at once: small enough not to hold up a neighbour's flush.
pub(crate) const ZEROS_BYTES: usize = 256 * 1024;
/// Bytes read at once of a small file.
const SMALL_READ_BYTES: usize = 64 * 1024;
/// Where paths start that are absolute anyway.
const HERE: Fd = Fd(libc::AT_FDCWD);

/// A script with the memory its step in flight points into: boxed by its owner, so that it never moves.
pub(crate) struct Running {
    /// The script.
    pub(crate) script: Script,
    facts: libc::statx,
    chunk: usize,
}

impl Running {
    /// About to begin; `facts` are zeroed.
    pub(crate) fn new(script: Script, facts: libc::statx) -> Running {
        Running { script, facts, chunk: 0 }
    }

    /// Whether this result says that the step in flight was a flush that failed.
    pub(crate) fn fails_flush(&self, result: i32) -> bool {
        let again = matches!(-result, libc::EINTR | libc::EAGAIN);
        result < 0 && !again && matches!(self.script.steps.front(), Some(Step::Sync { .. }))
    }

    /// Takes in the result of the step in flight and removes it, unless it has to go on.
    pub(crate) fn settle(&mut self, result: i32) {
        let Running { script, facts, chunk } = self;
        let Some(step) = script.steps.front_mut() else { return };
        let errno = result.min(0).wrapping_neg();
        let moved = result.max(0).unsigned_abs();
        if matches!(step, Step::ReadBody { .. }) {
            let read = script.body.len() - std::mem::take(chunk);
            script.body.truncate(read + moved as usize);
        }
        match step {
            Step::MakeDir(_) if errno == libc::EEXIST => {}
            Step::Open { skip: Some(skip), .. } if errno == libc::ENOENT => {
                let skip = *skip;
                script.steps.drain(..skip.min(script.steps.len() - 1));
            }
            Step::Unlink { absent_fine: true, .. } if errno == libc::ENOENT => {}
            Step::Allocate { slot, from, to } if errno == libc::EOPNOTSUPP => {
                *step = Step::Zeros { slot: *slot, at: *from, to: *to };
                return;
            }
            _ if matches!(errno, libc::EINTR | libc::EAGAIN) => return,
            _ if errno != 0 => return fail(script, Errno(errno)),
            Step::Zeros { at, to, .. } => {
                *at += u64::from(moved);
                if *at < *to {
                    return if moved == 0 {
                        fail(script, EIO)
                    };
                }
            }
            Step::WriteBody { at, .. } => {
                *at += moved as usize;
                if *at < script.body.len() {
                    return if moved == 0 {
                        fail(script, EIO)
                    };
                }
            }
            Step::ReadBody { .. } if script.body.len() > SMALL_FILE_BYTES_MAX => {
                return fail(script, Errno(libc::EFBIG));
            }
            Step::ReadBody { .. } if moved > 0 => return,
            Step::ReadBody { .. } => {
                script.answer = IoOk::Small(Some(std::mem::take(&mut script.body)));
            }
            Step::Size { .. } => {
                if let IoOk::File { bytes, .. } = &mut script.answer {
                    *bytes = facts.stx_size;
                }
            }
            _ => {}
        }
        script.steps.pop_front();
    }

    /// The operation of the first step.
    pub(crate) fn entry(&mut self, zeros: NonNull<u8>) -> squeue::Entry {
        let Running { script, facts, chunk } = self;
        let step = script.steps.front().expect("a step to start");
        match step {
            Step::MakeDir(path) => opcode::MkDirAt::new(HERE, path.as_ptr()).mode(0o700).build(),
            Step::Open { path, flags, slot, .. } => {
                let slot = DestinationSlot::try_from_slot_target(*slot).ok();
                opcode::OpenAt::new(HERE, path.as_ptr())
                    .flags(*flags)
                    .mode(0o600)
                    .file_index(slot)
                    .build()
            }
            Step::Allocate { slot, from, to } => {
                opcode::Fallocate::new(Fixed(*slot), to - from).offset(*from).build()
            }
            Step::Zeros { slot, at, to } => {
                let left = usize::try_from(to - at).unwrap_or(usize::MAX);
                let length = u32::try_from(left.min(ZEROS_BYTES)).unwrap_or(u32::MAX);
                opcode::Write::new(Fixed(*slot), zeros.as_ptr(), length).offset(*at).build()
            }
            Step::WriteBody { slot, at } => {
                let rest = &script.body[*at..];
                let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                opcode::Write::new(Fixed(*slot), rest.as_ptr(), length).offset(*at as u64).build()
            }
            Step::ReadBody { slot } => {
                let start = script.body.len();
                script.body.resize(start + SMALL_READ_BYTES, 0);
                *chunk = SMALL_READ_BYTES;
                let room = &mut script.body[start..];
                let length = u32::try_from(room.len()).unwrap_or(u32::MAX);
                opcode::Read::new(Fixed(*slot), room.as_mut_ptr(), length)
                    .offset(start as u64)
                    .build()
            }
            Step::Sync { slot, data } => {
                let flags = if *data { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
                opcode::Fsync::new(Fixed(*slot)).flags(flags).build()
            }
            Step::Rename { from, to } => {
                opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build()
            }
            Step::Unlink { path, dir, .. } => {
                let flags = if *dir { libc::AT_REMOVEDIR } else { 0 };
                opcode::UnlinkAt::new(HERE, path.as_ptr()).flags(flags).build()
            }
            Step::Size { path } => {
                let target: *mut libc::statx = facts;
                opcode::Statx::new(HERE, path.as_ptr(), target.cast())
                    .mask(libc::STATX_SIZE)
                    .build()
            }
            Step::Truncate { slot, bytes, .. } => {
                opcode::Ftruncate::new(Fixed(*slot), *bytes).build()
            }
            Step::Close { slot } => opcode::Close::new(Fixed(*slot)).build(),
        }
    }
}

fn fail(script: &mut Script, errno: Errno) {
    if script.error.is_some() {
        // A failure while cleaning up: go on with the rest.
        script.steps.pop_front();
        return;
    }
    script.error = Some(errno);
    script.steps.clear();
    script.steps.extend(script.cleanup.drain(..));
}

/// On kernels without `ftruncate` by ring (before 6.9): a plain call, once per sealed segment.
pub(crate) fn truncate(path: &PathBuf, bytes: u64) -> i32 {
    let cut = std::fs::OpenOptions::new().write(true).open(path);
    match cut.and_then(|file| file.set_len(bytes)) {
        Ok(()) => 0,
        Err(error) => -error.raw_os_error().unwrap_or(EIO.0),
    }
}
