//! The simulated disk: carries out `IoRequest`s by the contract C1–C9, late, out of order, and loses
//! what nobody made durable.
//! Owner: the world; it outlives the processes that use it.
//! Invariant: C1 alignment, C2 what a flush covers, C6 nobody touches bytes in flight: else a panic.
//! Not here: when a completion comes (`world.rs`), bytes (`file.rs`), names (`names.rs`).

mod chosen;
mod failing;
mod harm;
mod submit;

use crate::device::{Device, Fate};
use crate::file::{CutMood, File};
use crate::names::{Names, plain_name};
use crate::rng::Rng;
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::{
    Dir, EIO, ENOENT, ENOSPC, Errno, FileId, IoDone, IoId, IoOk, IoRequest, SegmentName, SmallFile,
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

/// A request in flight.
#[derive(Clone, Debug)]
struct Held {
    id: IoId,
    work: Work,
    fate: Option<Fate>,
    /// A flush of the device failed while this durable write was under way (P12).
    tainted: bool,
}

/// A request that was taken over.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Names it for [`Disk::complete`].
    pub op: u64,
    /// How long it is likely to take.
    pub weight: Weight,
    /// … and how much longer.
    pub delay_ns: u64,
}

/// How a log's device failed it (P11, P12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its write failed.
    Write,
    /// Its write was short.
    Short,
    /// The flush of its own write failed.
    Flush,
    /// The flush of another write failed while its own was under way.
    OtherFlush,
    /// A flush by itself failed: of a log in recovery.
    Sync,
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
    /// Writes of which a cut left one sector neither old nor new.
    pub shorn: u64,
}

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    block: usize,
    files: Vec<File>,
    names: Names,
    /// Log of each file.
    owners: Vec<LogKey>,
    slots: Vec<Option<usize>>,
    works: BTreeMap<u64, Held>,
    next_op: u64,
    order: u64,
    /// Flushes that failed in this life (C10).
    flush_failures: u64,
    /// What it does wrong.
    pub device: Device,
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
            owners: Vec::new(),
            slots: Vec::new(),
            works: BTreeMap::new(),
            next_op: 0,
            order: 0,
            flush_failures: 0,
            device: Device::default(),
            counts: DiskCounts::default(),
        }
    }

    /// Takes a request over.
    ///
    /// # Panics
    /// When the request breaks C1, names a file that is not open, or writes beyond what is allocated.
    pub fn submit(
        &mut self,
        now_ns: u64,
        request: &IoRequest,
        gather: &[Slice],
        blocks: Option<&mut Blocks>,
    ) -> Taken {
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
        let (fate, delay_ns) = self.device.meet(now_ns, submit::asked(&work));
        self.works.insert(op, Held { id, work, fate, tainted: false });
        Taken { op, weight, delay_ns }
    }

    /// The log that an open file belongs to.
    #[must_use]
    pub fn log_of(&self, file: FileId) -> LogKey {
        self.owners[self.inode(file)]
    }

    /// A request is due: its effect happens now. `None` when a cut or crash swallowed it. With it comes
    /// the log that must be poisoned from here on, if one must.
    ///
    /// # Panics
    /// When somebody changed bytes in flight (C6).
    pub fn complete(
        &mut self,
        op: u64,
        blocks: Option<&mut Blocks>,
    ) -> Option<(IoDone, Option<(LogKey, Failure)>)> {
        let Held { id, work, fate, tainted } = self.works.remove(&op)?;
        let order = self.order;
        self.order += 1;
        let mut failed = None;
        let result = match work {
            Work::Write { file, slices, bytes, durable } => {
                self.check_unchanged(file, op, order, &slices, blocks.as_deref());
                let (result, failure) = self.complete_write(op, file, (bytes, durable), fate);
                let other = (tainted && failure.is_none()).then_some(Failure::OtherFlush);
                failed = failure.or(other).map(|failure| (self.owners[file], failure));
                result
            }
            Work::Read { .. } if fate.is_some() => Err(EIO),
            Work::Read { file, at, into } if !self.files[file].is_readable(at, into.len()) => {
                Err(EIO)
            }
            Work::Read { file, at, into } => {
                let count =
                    blocks.map_or(0, |blocks| self.files[file].read(at, blocks.target_mut(into)));
                Ok(IoOk::Bytes(u32::try_from(count).unwrap_or(0)))
            }
            Work::Flush { file, mark } => match fate {
                None => {
                    self.files[file].flush(mark);
                    Ok(IoOk::Done)
                }
                Some(Fate::Ignored) => Ok(IoOk::Done),
                Some(fate) => {
                    if fate == Fate::FlushFailed {
                        self.flush_failed();
                    }
                    failed = Some((self.owners[file], Failure::Sync));
                    Err(EIO)
                }
            },
            other => match fate {
                None => self.complete_name(other, order),
                Some(Fate::Refused) => Err(ENOSPC),
                Some(_) => {
                    // Done, and the answer is an error all the same; or not done.
                    let flushes = has_flush(&other);
                    if self.device.rng().percent(50) {
                        self.half_do(other);
                    }
                    if flushes && self.device.rng().percent(50) {
                        self.flush_failed();
                    }
                    Err(EIO)
                }
            },
        };
        Some((IoDone { id, result, flush_failures: self.flush_failures }, failed))
    }

    fn check_unchanged(
        &mut self,
        file: usize,
        op: u64,
        order: u64,
        slices: &[Slice],
        blocks: Option<&Blocks>,
    ) {
        let written = self.files[file].complete(op, order);
        let Some(blocks) = blocks else { return };
        let mut from = 0;
        for slice in slices {
            let to = from + slice.len();
            assert!(
                blocks.bytes(*slice) == &written[from..to],
                "C6: bytes of {slice:?} changed while they were being written"
            );
            from = to;
        }
    }

    fn complete_name(&mut self, work: Work, order: u64) -> Result<IoOk, Errno> {
        match work {
            Work::Prepare { slot, bytes, log } => {
                self.names.make_log(log);
                self.files.push(File::new(bytes));
                self.owners.push(log);
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
        let adopting = self.works.values().any(|held| matches!(held.work, Work::Adopt { .. }));
        self.counts.rolls_at_cut += u64::from(adopting || self.names.has_new_segments());
        self.half_done(rng);
        self.names.cut(rng);
        for file in &mut self.files {
            if !file.is_quiet() {
                self.counts.unflushed_at_cut += 1;
                self.counts.shorn += file.cut(rng, mood);
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
        for held in works.into_values() {
            if rng.percent(50) {
                self.half_do(held.work);
            }
        }
    }

    /// A request on names has its effect, volatile, whatever its requester hears.
    fn half_do(&mut self, work: Work) {
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

    fn forget_process(&mut self) {
        self.works.clear();
        self.flush_failures = 0;
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

    /// Whether a write of a log's list of damage is in flight.
    #[must_use]
    pub fn writes_list(&self, log: LogKey) -> bool {
        let list = |held: &Held| matches!(held.work, Work::PutSmall { file, .. } if file == SmallFile::Quarantine(log));
        self.works.values().any(list)
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

/// Whether a request on names flushes something before it is done.
fn has_flush(work: &Work) -> bool {
    match work {
        Work::Prepare { .. } | Work::SyncDir { .. } | Work::PutSmall { .. } => true,
        Work::Resize { durable, .. } => *durable,
        _ => false,
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
