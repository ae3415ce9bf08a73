#![expect(unsafe_code, reason = "hands the kernel pointers into blocks and paths")]
//! Carries out the log's requests on the shard's ring.
//! Owner: the shard loop.
//! Invariant: C1–C10 of `docs/testing.md`; every request is answered once.
//! Not here: what is written where (`ringway-log`), the order of cold steps (`script.rs`).

pub use crate::blocking_disk::BlockingDisk;
use crate::blocking_disk::list;
use crate::counters::RingCounts;
use crate::directory::DataDirectory;
use crate::layout;
use crate::ring::{Completion, Kind, Ring, map, tag};
use crate::running::{Running, ZEROS_BYTES, truncate};
use crate::script::{Planner, Script, Step};
use io_uring::opcode;
use io_uring::types::{Fixed, FsyncFlags};
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::{EIO, ENOSPC, Errno, FileId, IoDone, IoId, IoOk, IoOut, IoRequest};
use ringway_wire::ids::LogKey;

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slot of the directory's lock: the kernel's reference keeps it locked while writes are in flight.
const LOCK_SLOT: u32 = 0;

/// What allocations leave free on the file system, bytes: two first extents. Checkpoints, snapshots and
/// metadata live in it when the disk is full, without which nothing could be retired or deleted (P16).
const RESERVE_BYTES: u64 = 8 << 20;

/// A write, read or flush in flight.
struct Transfer {
    id: IoId,
    flush: bool,
    started_ns: u64,
    read: bool,
    /// What `writev` points to; kept to be used again.
    pieces: Vec<libc::iovec>,
}

/// The disk of one shard.
pub struct Disk {
    planner: Planner,
    block: u64,
    /// Path of the file in each slot; slot = index.
    files: Vec<Option<PathBuf>>,
    free_slots: Vec<u32>,
    transfers: Vec<Transfer>,
    free_transfers: Vec<u32>,
    transfers_live: usize,
    scripts: Vec<Option<Box<Running>>>,
    free_scripts: Vec<u32>,
    scripts_live: usize,
    zeros: NonNull<u8>,
    can_truncate: bool,
    ready: Vec<IoDone>,
    /// Shared with the disks of all shards of this directory.
    flush_failures: Arc<AtomicU64>,
}

impl Disk {
    /// For `directory` on `ring`, whose table has `files` slots; `block` from the directory's `meta`.
    ///
    /// # Errors
    /// When the lock cannot be registered.
    pub fn new(
        directory: &DataDirectory,
        block: u32,
        files: u32,
        ring: &Ring,
    ) -> std::io::Result<Disk> {
        ring.register_file(LOCK_SLOT, directory.lock.as_fd())?;
        let truncate = ring.missing(&[("ftruncate", opcode::Ftruncate::CODE)])?;
        Ok(Disk {
            planner: Planner::new(directory.path.clone(), directory.direct_io),
            block: u64::from(block),
            files: vec![None; files as usize],
            free_slots: (LOCK_SLOT + 1..files).rev().collect(),
            transfers: Vec::new(),
            free_transfers: Vec::new(),
            transfers_live: 0,
            scripts: Vec::new(),
            free_scripts: Vec::new(),
            scripts_live: 0,
            zeros: map(ZEROS_BYTES)?,
            can_truncate: truncate.is_empty(),
            ready: Vec::new(),
            flush_failures: Arc::clone(&directory.flush_failures),
        })
    }

    /// Requests not answered yet.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.transfers_live + self.scripts_live + self.ready.len() > 0
    }

    /// Writes, reads and flushes the kernel has and has not completed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.transfers_live
    }

    /// Answers that needed no operation.
    pub fn next_ready(&mut self) -> Option<IoDone> {
        self.ready.pop()
    }

    /// Whether [`Disk::next_ready`] has something.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Begins all requests in `io` and empties it.
    ///
    /// # Panics
    /// When one breaks C1.
    pub fn submit(&mut self, io: &mut IoOut, blocks: &mut Blocks, ring: &mut Ring, now_ns: u64) {
        for request in io.requests.drain(..) {
            match request {
                IoRequest::Write { id, file, at, data, durable } => {
                    let slices = &io.slices[data.start as usize..data.end as usize];
                    self.write(id, file, at, slices, durable, blocks, ring, now_ns);
                }
                IoRequest::Read { id, file, at, into } => {
                    self.read(id, file, at, into, blocks, ring, now_ns);
                }
                IoRequest::Flush { id, file } => self.flush(id, file, ring, now_ns),
                cold => self.begin(cold, ring),
            }
        }
        io.clear();
    }

    /// Looks over everything reaped at once: a failed flush is known to all shards before any answer of
    /// the same reaping goes to the logic (P12).
    pub fn look_over(&self, completions: &[Completion]) {
        for completion in completions.iter().filter(|one| one.result < 0) {
            let index = completion.index as usize;
            let flush = match completion.kind {
                Kind::Transfer => self.transfers[index].flush,
                Kind::Script => self.scripts[index]
                    .as_ref()
                    .is_some_and(|one| one.fails_flush(completion.result)),
                _ => false,
            };
            if flush {
                self.flush_failures.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn answer(&self, id: IoId, result: Result<IoOk, Errno>) -> IoDone {
        IoDone { id, result, flush_failures: self.flush_failures.load(Ordering::SeqCst) }
    }

    /// A transfer's completion, looked over before.
    pub fn transferred(
        &mut self,
        index: u32,
        result: i32,
        now_ns: u64,
        counts: &mut RingCounts,
    ) -> IoDone {
        let transfer = &self.transfers[index as usize];
        let (id, flush) = (transfer.id, transfer.flush);
        if flush {
            counts.flushed(now_ns.saturating_sub(transfer.started_ns));
        }
        match u64::try_from(result) {
            Ok(bytes) if transfer.read => counts.disk_bytes_read += bytes,
            Ok(bytes) => counts.disk_bytes_written += bytes,
            Err(_) => counts.disk_errors += 1,
        }
        let only_flush = transfer.pieces.is_empty();
        self.free_transfers.push(index);
        self.transfers_live -= 1;
        let result = match u32::try_from(result) {
            Ok(_) if only_flush => Ok(IoOk::Done),
            Ok(bytes) => Ok(IoOk::Bytes(bytes)),
            Err(_) => Err(Errno(-result)),
        };
        self.answer(id, result)
    }

    /// A script step's completion, looked over before; the answer when it was the last one.
    pub fn stepped(&mut self, index: u32, result: i32, ring: &mut Ring) -> Option<IoDone> {
        let mut running = self.scripts[index as usize].take().expect("a running script");
        running.settle(result);
        self.advance(index, running, ring)
    }

    fn transfer(&mut self, id: IoId, now_ns: u64) -> (u32, &mut Transfer) {
        self.transfers_live += 1;
        let index = self.free_transfers.pop().unwrap_or_else(|| {
            let pieces = Vec::new();
            self.transfers.push(Transfer { id, flush: false, started_ns: 0, read: false, pieces });
            u32::try_from(self.transfers.len() - 1).unwrap_or(u32::MAX)
        });
        let transfer = &mut self.transfers[index as usize];
        transfer.id = id;
        transfer.flush = false;
        transfer.read = false;
        transfer.started_ns = now_ns;
        transfer.pieces.clear();
        (index, transfer)
    }

    fn check_aligned(&self, at: u64, slices: &[Slice]) {
        let block = self.block;
        assert!(at.is_multiple_of(block), "C1: transfer at {at}, block {block}");
        for slice in slices {
            let (start, end) = (u64::from(slice.start), u64::from(slice.end));
            let aligned = start.is_multiple_of(block) && end.is_multiple_of(block);
            assert!(aligned, "C1: {slice:?}, block {block}");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one request, and where it goes")]
    fn write(
        &mut self,
        id: IoId,
        file: FileId,
        at: u64,
        slices: &[Slice],
        durable: bool,
        blocks: &Blocks,
        ring: &mut Ring,
        now_ns: u64,
    ) {
        self.check_aligned(at, slices);
        let (index, transfer) = self.transfer(id, now_ns);
        transfer.flush = durable;
        for slice in slices {
            add_piece(&mut transfer.pieces, blocks.bytes(*slice));
        }
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let fd = Fixed(file.0);
        let entry = if let [piece] = transfer.pieces.as_slice() {
            let length = u32::try_from(piece.iov_len).unwrap_or(u32::MAX);
            opcode::Write::new(fd, piece.iov_base.cast(), length).offset(at).rw_flags(flags).build()
        } else {
            let count = u32::try_from(transfer.pieces.len()).unwrap_or(u32::MAX);
            opcode::Writev::new(fd, transfer.pieces.as_ptr(), count)
                .offset(at)
                .rw_flags(flags)
                .build()
        };
        // SAFETY: the requester holds the slices until the answer, so their blocks stay and nobody
        // writes below the frozen end; `pieces` is not touched before the completion.
        unsafe { ring.push(&entry.user_data(tag(Kind::Transfer, index))) };
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one request, and where it goes")]
    fn read(
        &mut self,
        id: IoId,
        file: FileId,
        at: u64,
        into: Slice,
        blocks: &mut Blocks,
        ring: &mut Ring,
        now_ns: u64,
    ) {
        self.check_aligned(at, &[into]);
        let (index, transfer) = self.transfer(id, now_ns);
        transfer.read = true;
        let target = blocks.target_mut(into);
        add_piece(&mut transfer.pieces, target);
        let length = u32::try_from(target.len()).unwrap_or(u32::MAX);
        let entry = opcode::Read::new(Fixed(file.0), target.as_mut_ptr(), length).offset(at);
        // SAFETY: one hold on the target belongs to the requester throughout and nobody looks at it
        // before the answer.
        unsafe { ring.push(&entry.build().user_data(tag(Kind::Transfer, index))) };
    }

    fn flush(&mut self, id: IoId, file: FileId, ring: &mut Ring, now_ns: u64) {
        let (index, transfer) = self.transfer(id, now_ns);
        transfer.flush = true;
        let entry = opcode::Fsync::new(Fixed(file.0)).flags(FsyncFlags::DATASYNC).build();
        // SAFETY: the operation names no memory.
        unsafe { ring.push(&entry.user_data(tag(Kind::Transfer, index))) };
    }

    /// Begins a request that takes several steps.
    fn begin(&mut self, request: IoRequest, ring: &mut Ring) {
        let id = id_of(&request);
        match self.plan(request) {
            Ok(Some(script)) => {
                // SAFETY: all-zero bytes are a valid `statx`, a struct of integers.
                let facts: libc::statx = unsafe { std::mem::zeroed() };
                let running = Box::new(Running::new(script, facts));
                let index = self.free_scripts.pop().unwrap_or_else(|| {
                    self.scripts.push(None);
                    u32::try_from(self.scripts.len() - 1).unwrap_or(u32::MAX)
                });
                self.scripts_live += 1;
                if let Some(done) = self.advance(index, running, ring) {
                    self.ready.push(done);
                }
            }
            // Answered already.
            Ok(None) => {}
            Err(errno) => self.ready.push(self.answer(id, Err(errno))),
        }
    }

    fn plan(&mut self, request: IoRequest) -> Result<Option<Script>, Errno> {
        let script = match request {
            IoRequest::Prepare { id, name, bytes, zero } => {
                self.keep_reserve(bytes)?;
                let slot = self.take_slot()?;
                self.planner.prepare(id, name, bytes, zero, slot)
            }
            IoRequest::Adopt { id, file, name } => {
                self.planner.adopt(id, self.path(file)?, name, file.0)
            }
            IoRequest::Extend { id, file, from, to, zero } => {
                self.keep_reserve(to - from)?;
                Planner::extend(id, file.0, from, to, zero)
            }
            IoRequest::Trim { id, file, bytes } => {
                Planner::trim(id, file.0, self.path(file)?, bytes)
            }
            IoRequest::Open { id, name } => {
                let slot = self.take_slot()?;
                self.planner.open(id, name, slot)
            }
            IoRequest::Close { id, file } => Planner::close(id, file.0),
            IoRequest::Unlink { id, name } => self.planner.unlink(id, name),
            IoRequest::SetAside { id, name } => self.planner.set_aside(id, name),
            IoRequest::RemoveLog { id, log } => {
                let slot = self.take_slot()?;
                let names = self.names_of(log);
                self.planner.remove_log(id, log, &names, slot)
            }
            IoRequest::SyncDir { id, dir } => {
                let slot = self.take_slot()?;
                self.planner.sync(id, dir, slot)
            }
            IoRequest::List { id, dir } => {
                // The kernel has no readdir by ring; listings happen at start and are short.
                let listed = list(&layout::dir(self.planner.root(), dir));
                let result = listed.map_err(|error| error.raw_os_error().map_or(EIO, Errno));
                self.ready.push(self.answer(id, result));
                return Ok(None);
            }
            IoRequest::ReadSmall { id, file } => {
                let slot = self.take_slot()?;
                self.planner.read_small(id, file, slot)
            }
            IoRequest::WriteSmall { id, file, body } => {
                let slot = self.take_slot()?;
                self.planner.write_small(id, file, body, slot)
            }
            IoRequest::RemoveSmall { id, file } => {
                let slot = self.take_slot()?;
                self.planner.remove_small(id, file, slot)
            }
            IoRequest::Write { .. } | IoRequest::Read { .. } | IoRequest::Flush { .. } => {
                unreachable!("transfers are no scripts")
            }
        };
        Ok(Some(script))
    }

    /// Refuses an allocation that would leave too little. What cannot be asked is left to the allocation.
    fn keep_reserve(&self, bytes: u64) -> Result<(), Errno> {
        let free = free_bytes(self.planner.root());
        let enough = free.is_none_or(|free| free >= bytes.saturating_add(RESERVE_BYTES));
        if enough { Ok(()) } else { Err(ENOSPC) }
    }

    fn take_slot(&mut self) -> Result<u32, Errno> {
        self.free_slots.pop().ok_or(Errno(libc::EMFILE))
    }

    fn path(&self, file: FileId) -> Result<&PathBuf, Errno> {
        self.files.get(file.0 as usize).and_then(Option::as_ref).ok_or(Errno(libc::EBADF))
    }

    /// Everything in a log's directory, sub-directories behind what is in them.
    fn names_of(&self, log: LogKey) -> Vec<(PathBuf, bool)> {
        let dropped = layout::dropped(self.planner.root(), log);
        let mut names = Vec::new();
        for dir in [&dropped, &layout::log(self.planner.root(), log)] {
            let Ok(IoOk::Names(inside)) = list(dir) else { continue };
            let paths = inside.iter().map(|name| dir.join(name)).filter(|path| *path != dropped);
            names.extend(paths.map(|path| (path, false)));
            if *dir == dropped {
                names.push((dropped.clone(), true));
            }
        }
        names
    }

    /// Starts the next step, or ends the script.
    fn advance(
        &mut self,
        index: u32,
        mut running: Box<Running>,
        ring: &mut Ring,
    ) -> Option<IoDone> {
        while let Some(step) = running.script.steps.front() {
            if let Step::Truncate { path, bytes, .. } = step
                && !self.can_truncate
            {
                let result = truncate(path, *bytes);
                running.settle(result);
                continue;
            }
            let entry = running.entry(self.zeros);
            // SAFETY: what the entry points to lies in the boxed `Running` or in `zeros`; neither moves
            // nor goes before this step's completion was settled.
            unsafe { ring.push(&entry.user_data(tag(Kind::Script, index))) };
            self.scripts[index as usize] = Some(running);
            return None;
        }
        self.scripts_live -= 1;
        self.free_scripts.push(index);
        Some(self.finish(running.script))
    }

    fn finish(&mut self, script: Script) -> IoDone {
        let failed = script.error.is_some();
        if let Some((slot, stays)) = script.slot {
            // An adopted file stays open under its old name when the rename failed.
            let was_open = self.files[slot as usize].is_some();
            if !stays || (failed && !was_open) {
                self.files[slot as usize] = None;
                self.free_slots.push(slot);
            } else if !failed {
                self.files[slot as usize] = script.path;
            }
        }
        if let Some(errno) = script.error {
            return self.answer(script.id, Err(errno));
        }
        for proof in script.proofs {
            self.planner.learn(proof);
        }
        self.answer(script.id, Ok(script.answer))
    }
}

/// Adds a piece, or lengthens the last one when they touch: neighbouring blocks need one entry.
fn add_piece(pieces: &mut Vec<libc::iovec>, bytes: &[u8]) {
    if let Some(last) = pieces.last_mut()
        && last.iov_base.addr() + last.iov_len == bytes.as_ptr().addr()
    {
        last.iov_len += bytes.len();
        return;
    }
    let iov_base = bytes.as_ptr().cast_mut().cast();
    pieces.push(libc::iovec { iov_base, iov_len: bytes.len() });
}

/// Free bytes of a file system, as far as this process may use them. The ring has no such operation; the
/// call reads counters in memory, once per extent.
fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all-zero bytes are a valid `statvfs`, a struct of integers.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string and `facts` is a `statvfs`; both outlive the call.
    let result = unsafe { libc::statvfs(path.as_ptr(), &raw mut facts) };
    (result == 0).then(|| facts.f_bavail.saturating_mul(facts.f_frsize))
}

fn id_of(request: &IoRequest) -> IoId {
    match request {
        IoRequest::Write { id, .. }
        | IoRequest::Read { id, .. }
        | IoRequest::Flush { id, .. }
        | IoRequest::Prepare { id, .. }
        | IoRequest::Adopt { id, .. }
        | IoRequest::Extend { id, .. }
        | IoRequest::Trim { id, .. }
        | IoRequest::Open { id, .. }
        | IoRequest::Close { id, .. }
        | IoRequest::Unlink { id, .. }
        | IoRequest::SetAside { id, .. }
        | IoRequest::RemoveLog { id, .. }
        | IoRequest::SyncDir { id, .. }
        | IoRequest::List { id, .. }
        | IoRequest::ReadSmall { id, .. }
        | IoRequest::WriteSmall { id, .. }
        | IoRequest::RemoveSmall { id, .. } => *id,
    }
}

#[cfg(test)]
mod tests;
