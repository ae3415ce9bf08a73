//! The simulated disk: carries out `IoRequest`s by the contract C1–C9, late, out of order, and loses
//! what nobody made durable.
//! Owner: the world; it outlives the processes that use it.
//! Invariant: C1 alignment, C2 what a flush covers, C6 nobody touches bytes in flight: else a panic.
//! Not here: when a completion comes (`world.rs`), bytes (`file.rs`), names (`names.rs`).

use crate::file::{CutMood, File};
use crate::names::{Names, plain_name};
use crate::rng::{Rng, hash_bytes, mix};
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::{
    Dir, ENOENT, Errno, FileId, IoDone, IoId, IoOk, IoRequest, SegmentName, SmallFile,
};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// What a process left to do when its request is due.
#[derive(Clone, Debug)]
enum Work {
    Write { file: usize, slices: Vec<Slice>, bytes: u32, durable: bool },
    Read { file: usize, at: usize, into: Slice },
    Flush { file: usize, mark: u64 },
    Prepare { slot: u32, bytes: usize, log: LogKey },
    Adopt { file: usize, name: SegmentName },
    Resize { file: usize, bytes: usize, durable: bool },
    Open { name: SegmentName },
    Close { slot: u32 },
    Unlink { name: SegmentName },
    RemoveLog { log: LogKey },
    SyncDir { dir: Dir, mark: u64 },
    List { dir: Dir },
    ReadSmall { file: SmallFile },
    PutSmall { file: SmallFile, body: Option<Vec<u8>> },
}

/// How long a request is likely to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A read or a write.
    Transfer,
    /// A flush or anything that has one inside.
    Flush,
    /// Space is allocated and perhaps zeroed.
    Allocation,
    /// Names only.
    Name,
}

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskCounts {
    /// Pending writes that a cut met.
    pub unflushed_at_cut: u64,
    /// Segments whose adoption a cut met: in flight, or not synced yet.
    pub rolls_at_cut: u64,
    /// Segments renamed into `dropped/`.
    pub set_aside: u64,
    /// Segments adopted.
    pub adopted: u64,
}

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    block: usize,
    files: Vec<File>,
    names: Names,
    slots: Vec<Option<usize>>,
    works: BTreeMap<u64, (IoId, Work)>,
    next_op: u64,
    order: u64,
    /// Counts for the report.
    pub counts: DiskCounts,
}

impl Disk {
    /// An empty disk of blocks of `block` bytes.
    #[must_use]
    pub fn new(block: usize) -> Disk {
        Disk {
            block,
            files: Vec::new(),
            names: Names::default(),
            slots: Vec::new(),
            works: BTreeMap::new(),
            next_op: 0,
            order: 0,
            counts: DiskCounts::default(),
        }
    }

    /// Takes a request over; the number names it for [`Disk::complete`].
    ///
    /// # Panics
    /// When the request breaks C1, names a file that is not open, or writes beyond what is allocated.
    pub fn submit(
        &mut self,
        request: &IoRequest,
        gather: &[Slice],
        blocks: Option<&mut Blocks>,
    ) -> (u64, Weight) {
        let op = self.next_op;
        self.next_op += 1;
        let (id, work, weight) = match request {
            IoRequest::Write { id, file, at, data, durable } => {
                let slices = &gather[data.start as usize..data.end as usize];
                let work = self.submit_write(op, *file, *at, slices, *durable, blocks.as_deref());
                (*id, work, Weight::Transfer)
            }
            IoRequest::Read { id, file, at, into } => {
                (*id, self.submit_read(*file, *at, *into, blocks), Weight::Transfer)
            }
            IoRequest::Flush { id, file } => {
                let work = Work::Flush { file: self.inode(*file), mark: self.order };
                (*id, work, Weight::Flush)
            }
            other => self.submit_name(other),
        };
        self.works.insert(op, (id, work));
        (op, weight)
    }

    fn submit_write(
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

    fn submit_read(
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

    fn submit_name(&mut self, request: &IoRequest) -> (IoId, Work, Weight) {
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

    /// A request is due: its effect happens now. `None` when a cut or crash swallowed it.
    ///
    /// # Panics
    /// When somebody changed bytes in flight (C6).
    pub fn complete(&mut self, op: u64, blocks: Option<&mut Blocks>) -> Option<IoDone> {
        let (id, work) = self.works.remove(&op)?;
        let order = self.order;
        self.order += 1;
        let result = match work {
            Work::Write { file, slices, bytes, durable } => {
                let written = self.files[file].complete(op, order);
                if let Some(blocks) = blocks {
                    let mut from = 0;
                    for slice in &slices {
                        let to = from + slice.len();
                        assert!(
                            blocks.bytes(*slice) == &written[from..to],
                            "C6: bytes of {slice:?} changed while they were being written"
                        );
                        from = to;
                    }
                }
                if durable {
                    self.files[file].settle_one(op);
                }
                Ok(IoOk::Bytes(bytes))
            }
            Work::Read { file, at, into } => {
                let count =
                    blocks.map_or(0, |blocks| self.files[file].read(at, blocks.target_mut(into)));
                Ok(IoOk::Bytes(u32::try_from(count).unwrap_or(0)))
            }
            Work::Flush { file, mark } => {
                self.files[file].flush(mark);
                Ok(IoOk::Done)
            }
            other => self.complete_name(other, order),
        };
        Some(IoDone { id, result, flush_failures: 0 })
    }

    fn complete_name(&mut self, work: Work, order: u64) -> Result<IoOk, Errno> {
        match work {
            Work::Prepare { slot, bytes, log } => {
                self.names.make_log(log);
                self.files.push(File::new(bytes));
                self.slots[slot as usize] = Some(self.files.len() - 1);
                return Ok(IoOk::File { file: FileId(slot), bytes: bytes as u64 });
            }
            Work::Adopt { file, name } => {
                // As rename(2): a name that exists is replaced. Who loses data by it, the checker tells.
                self.counts.adopted += 1;
                self.names.set(order, name, Some(file));
            }
            Work::Resize { file, bytes, durable } => self.files[file].resize(bytes, durable),
            Work::Open { name } => {
                let file = self.names.segment(name).ok_or(ENOENT)?;
                let slot = self.free_slot();
                self.slots[slot as usize] = Some(file);
                return Ok(IoOk::File {
                    file: FileId(slot),
                    bytes: self.files[file].size() as u64,
                });
            }
            Work::Close { slot } => self.slots[slot as usize] = None,
            Work::Unlink { name } => {
                self.names.segment(name).ok_or(ENOENT)?;
                self.names.set(order, name, None);
            }
            Work::RemoveLog { log } => self.names.remove_log(order, log),
            Work::SyncDir { dir, mark } => self.names.sync(dir, mark),
            Work::List { dir } => return Ok(IoOk::Names(self.list(dir))),
            Work::ReadSmall { file } => {
                return Ok(IoOk::Small(self.names.small(file).cloned()));
            }
            Work::PutSmall { file, body } => self.names.put_small(order, file, body, true),
            Work::Write { .. } | Work::Read { .. } | Work::Flush { .. } => {}
        }
        Ok(IoOk::Done)
    }

    /// Power goes: what was not durable survives in any part.
    pub fn cut(&mut self, rng: &mut Rng) {
        let mood = CutMood::draw(rng);
        let adopting = self.works.values().any(|(_, work)| matches!(work, Work::Adopt { .. }));
        self.counts.rolls_at_cut += u64::from(adopting || self.names.has_new_segments());
        self.half_done(rng);
        self.names.cut(rng);
        for file in &mut self.files {
            if !file.is_quiet() {
                self.counts.unflushed_at_cut += 1;
                file.cut(rng, mood);
            }
        }
        self.forget_process();
    }

    /// The process dies; what was in flight may still land before the next one gets the lock (C9).
    pub fn crash(&mut self, rng: &mut Rng) {
        self.half_done(rng);
        for file in &mut self.files {
            file.crash(rng, &mut self.order);
        }
        self.forget_process();
    }

    /// Requests on names that were in flight: each happened, volatile, or did not.
    fn half_done(&mut self, rng: &mut Rng) {
        let works = std::mem::take(&mut self.works);
        for (_, work) in works.into_values() {
            if !rng.percent(50) {
                continue;
            }
            let order = self.order;
            self.order += 1;
            match work {
                Work::Adopt { file, name } => self.names.set(order, name, Some(file)),
                Work::Unlink { name } => self.names.set(order, name, None),
                Work::Resize { file, bytes, .. } => self.files[file].resize(bytes, false),
                Work::PutSmall { file, body } => self.names.put_small(order, file, body, false),
                Work::RemoveLog { log } => self.names.remove_log(order, log),
                Work::Prepare { log, .. } => self.names.make_log(log),
                Work::Flush { .. } | Work::SyncDir { .. } | Work::Write { .. } => {}
                Work::Read { .. } | Work::Open { .. } | Work::Close { .. } => {}
                Work::List { .. } | Work::ReadSmall { .. } => {}
            }
        }
    }

    fn forget_process(&mut self) {
        self.works.clear();
        self.slots.clear();
        let live = self.names.live_files();
        for (index, file) in self.files.iter_mut().enumerate() {
            if !live.contains(&index) {
                *file = File::default();
            }
        }
    }

    /// A byte of the newest checkpoint file turns: the file is there and worth nothing. False: there
    /// are not two to choose from.
    pub fn damage_newest_checkpoint(&mut self, rng: &mut Rng) -> bool {
        let generation = |file: SmallFile| match file {
            SmallFile::Checkpoint { generation, shard } => Some((generation, shard)),
            _ => None,
        };
        let mut found: Vec<(u64, u32)> = self.names.smalls().filter_map(generation).collect();
        found.sort_unstable();
        let Some((generation, shard)) = found.pop().filter(|_| !found.is_empty()) else {
            return false;
        };
        let file = SmallFile::Checkpoint { shard, generation };
        let Some(mut body) = self.names.small(file).cloned() else { return false };
        let at = rng.index(body.len());
        body[at] ^= 1 << rng.below(8);
        self.names.put_small(self.order, file, Some(body), true);
        true
    }

    /// Whether nothing is volatile.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.names.is_quiet() && self.files.iter().all(File::is_quiet)
    }

    /// Requests not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.works.len()
    }

    /// Names of everything, for the checker.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Reads a segment's bytes as they are seen now, for the checker and the counters.
    pub fn peek(&self, name: SegmentName, at: usize, into: &mut [u8]) -> usize {
        self.names.segment(name).map_or(0, |file| self.files[file].read(at, into))
    }

    fn list(&self, dir: Dir) -> Vec<String> {
        let mut names: Vec<String> = match dir {
            Dir::Root => vec!["checkpoints".to_owned(), "t".to_owned()],
            Dir::Checkpoints => Vec::new(),
            Dir::Topics => self.names.logs().map(|log| log.topic_id.to_string()).collect(),
            Dir::Partitions(topic_id) => self
                .names
                .logs()
                .filter(|log| log.topic_id == topic_id)
                .map(|log| log.partition.to_string())
                .collect(),
            Dir::Log(log) => self
                .names
                .segments(log)
                .map(|(name, _)| format!("{:020}.seg", name.base_offset))
                .collect(),
        };
        let smalls = self.names.smalls().filter(|file| crate::names::dir_of(*file) == dir);
        names.extend(smalls.map(plain_name));
        names.sort();
        names.dedup();
        names
    }

    fn inode(&self, file: FileId) -> usize {
        let slot = self.slots.get(file.0 as usize).copied().flatten();
        assert!(slot.is_some(), "{file:?} is not open");
        slot.unwrap_or(0)
    }

    fn free_slot(&mut self) -> u32 {
        // Slots are never used twice in a life: a stale number then fails at once.
        self.slots.push(None);
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    fn check_slice(&self, slice: Slice) {
        let (start, len) = (slice.start as usize, slice.len());
        assert!(
            start.is_multiple_of(self.block) && len.is_multiple_of(self.block),
            "C1: {slice:?}"
        );
    }
}

/// Folds a request into the trace hash.
#[must_use]
pub fn hash_request(hash: u64, request: &IoRequest) -> u64 {
    let kind = |n: u64, id: &IoId| mix(mix(hash, n), id.0);
    match request {
        IoRequest::Write { id, file, at, data, .. } => {
            mix(mix(kind(1, id), u64::from(file.0)), at ^ (u64::from(data.end - data.start) << 56))
        }
        IoRequest::Read { id, file, at, .. } => mix(mix(kind(2, id), u64::from(file.0)), *at),
        IoRequest::Flush { id, file } => mix(kind(3, id), u64::from(file.0)),
        IoRequest::Prepare { id, name, bytes, .. } => {
            mix(mix(kind(4, id), name.base_offset), *bytes)
        }
        IoRequest::Adopt { id, name, .. } => mix(kind(5, id), name.base_offset),
        IoRequest::Extend { id, to, .. } => mix(kind(6, id), *to),
        IoRequest::Trim { id, bytes, .. } => mix(kind(7, id), *bytes),
        IoRequest::Open { id, name } => mix(kind(8, id), name.base_offset),
        IoRequest::Close { id, file } => mix(kind(9, id), u64::from(file.0)),
        IoRequest::Unlink { id, name } => mix(kind(10, id), name.base_offset),
        IoRequest::SetAside { id, name } => mix(kind(11, id), name.base_offset),
        IoRequest::RemoveLog { id, log } => mix(kind(12, id), log.topic_id),
        IoRequest::SyncDir { id, .. } => kind(13, id),
        IoRequest::List { id, .. } => kind(14, id),
        IoRequest::ReadSmall { id, .. } => kind(15, id),
        IoRequest::WriteSmall { id, body, .. } => hash_bytes(kind(16, id), body),
        IoRequest::RemoveSmall { id, .. } => kind(17, id),
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
