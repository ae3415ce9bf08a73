//! A disk that loses what was not flushed: files, names, small files, and what a cut or a crash leaves of them.
//! Owner: one world.
//! Invariant: `durable` changes by flushes, cuts and harm alone.
//! Not here: who writes what (`life.rs`, `start.rs`), damage (`harm.rs`).

use crate::frame::{BLOCK, SECTOR};
use crate::quarantine::Quarantine;
use crate::rng::Rng;
use crate::table::Table;
use std::collections::BTreeMap;

/// Logs of the directory.
pub const LOGS: usize = 2;
/// Shards at most.
pub const SHARDS: usize = 3;
/// First size of a segment.
pub const FIRST_EXTENT: usize = 16_384;

/// A write that no flush covers yet.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: usize,
    pub data: Vec<u8>,
    pub done: bool,
}

/// A segment's file.
#[derive(Clone, Debug)]
pub struct File {
    /// What a read sees.
    pub seen: Vec<u8>,
    pub durable: Vec<u8>,
    pub pending: Vec<Write>,
    /// What stood in a block before its last write.
    pub older: BTreeMap<usize, Vec<u8>>,
}

fn apply(bytes: &mut [u8], at: usize, data: &[u8]) {
    if at < bytes.len() {
        let n = data.len().min(bytes.len() - at);
        bytes[at..at + n].copy_from_slice(&data[..n]);
    }
}

impl File {
    /// A file of zeros.
    pub fn new(bytes: usize) -> File {
        let zeros = vec![0; bytes];
        File { seen: zeros.clone(), durable: zeros, pending: Vec::new(), older: BTreeMap::new() }
    }

    /// Asks for a write.
    pub fn submit(&mut self, at: usize, data: Vec<u8>) {
        for (n, _) in data.chunks(BLOCK).enumerate() {
            let place = at + n * BLOCK;
            if let Some(old) = self.seen.get(place..place + BLOCK)
                && old.iter().any(|byte| *byte != 0)
            {
                self.older.insert(place, old.to_vec());
            }
        }
        self.pending.push(Write { at, data, done: false });
    }

    /// Every write is answered.
    pub fn complete(&mut self) {
        for write in self.pending.iter_mut().filter(|write| !write.done) {
            write.done = true;
            apply(&mut self.seen, write.at, &write.data);
        }
    }

    /// Writes answered before are durable, and so is the size.
    pub fn flush(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for write in std::mem::take(&mut self.pending) {
            if write.done {
                apply(&mut self.durable, write.at, &write.data);
            } else {
                self.pending.push(write);
            }
        }
    }

    /// Writes answered before are durable, as far as the durable size reaches.
    pub fn flush_data(&mut self) {
        let size = self.durable.len();
        self.flush();
        self.durable.truncate(size);
    }

    fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.seen.len() == self.durable.len()
    }

    /// Power is gone: any sectors of unflushed writes survive.
    fn cut(&mut self, rng: &mut Rng) {
        if self.is_quiet() {
            return;
        }
        if self.durable.len() != self.seen.len() && rng.percent(50) {
            self.durable.resize(self.seen.len(), 0);
        }
        for write in std::mem::take(&mut self.pending) {
            let sectors = write.data.len() / SECTOR;
            let (mode, k) = (rng.below(6), rng.below(sectors));
            for (n, data) in write.data.chunks(SECTOR).enumerate() {
                let keep = match mode {
                    0 => false,
                    1 => true,
                    2 => rng.percent(50),
                    3 => n < k,
                    4 => n != k,
                    _ => n == k || rng.percent(85),
                };
                if keep {
                    apply(&mut self.durable, write.at + n * SECTOR, data);
                }
            }
        }
        self.seen = self.durable.clone();
    }

    /// The process died: writes in flight may still complete, until the next life takes the lock.
    fn crash(&mut self, rng: &mut Rng) {
        for write in std::mem::take(&mut self.pending) {
            if write.done {
                self.pending.push(write);
                continue;
            }
            let all = rng.below(3);
            for (n, data) in write.data.chunks(BLOCK).enumerate() {
                if all == 1 || (all == 2 && rng.percent(50)) {
                    let at = write.at + n * BLOCK;
                    apply(&mut self.seen, at, data);
                    self.pending.push(Write { at, data: data.to_vec(), done: true });
                }
            }
        }
    }
}

/// A small file: written anew, renamed, and durable with the next sync of its directory.
#[derive(Clone, Debug)]
pub struct Small<T: Clone> {
    durable: Option<T>,
    pending: Option<T>,
    /// What it held before.
    older: Option<T>,
    removed: bool,
}

impl<T: Clone> Default for Small<T> {
    fn default() -> Small<T> {
        Small { durable: None, pending: None, older: None, removed: false }
    }
}

impl<T: Clone> Small<T> {
    /// What a read sees.
    pub fn get(&self) -> Option<&T> {
        if self.removed { None } else { self.pending.as_ref().or(self.durable.as_ref()) }
    }

    /// What survives.
    pub fn durable(&self) -> Option<&T> {
        self.durable.as_ref()
    }

    /// Renames a new version over the old one.
    pub fn put(&mut self, value: T) {
        self.pending = Some(value);
    }

    /// Unlinks it.
    pub fn remove(&mut self) {
        self.removed = true;
    }

    /// Its directory is synced.
    pub fn sync(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.older = self.durable.replace(pending);
        }
        if self.removed {
            *self = Small::default();
        }
    }

    fn is_quiet(&self) -> bool {
        self.pending.is_none() && !self.removed
    }

    fn cut(&mut self, rng: &mut Rng) {
        if self.is_quiet() {
            return;
        }
        if rng.percent(50) {
            self.sync();
        } else {
            (self.pending, self.removed) = (None, false);
        }
    }

    /// Damage: the version before.
    pub fn fall_back(&mut self) {
        *self = Small { durable: self.older.take(), ..Small::default() };
    }
}

/// A flushed end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub segment: u64,
    pub position: usize,
    pub offset: u64,
    /// Of the last frame before it; length 0: none is known.
    pub crc: u32,
    pub len: usize,
}

/// A log in a checkpoint.
#[derive(Clone, Debug)]
pub struct Entry {
    pub end: Mark,
    pub log_start: u64,
    pub bound: usize,
    pub table: Table,
    pub clean: bool,
}

/// A checkpoint file of a shard.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub generation: u64,
    pub entries: Vec<(usize, Entry)>,
}

/// An entry and the file it stands in.
#[derive(Clone, Debug)]
pub struct Found {
    pub shard: usize,
    pub generation: u64,
    pub entry: Entry,
}

/// Last batch (base offset, id) of every producer.
pub type Producers = BTreeMap<u64, (u64, u64)>;
/// Frame starts of a segment that reads begin at: (offset, position).
pub type Index = BTreeMap<u64, Vec<(u64, usize)>>;

/// Derived state at a flushed end.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub epoch: u32,
    pub mark: Mark,
    pub producers: Producers,
    pub index: Index,
}

#[derive(Clone, Debug)]
enum NameOp {
    Add(u64, usize),
    Remove(u64),
}

/// The directory of a log.
#[derive(Clone, Debug, Default)]
pub struct LogDir {
    /// Segments by base offset, with their file.
    pub names: BTreeMap<u64, usize>,
    durable: BTreeMap<u64, usize>,
    pending: Vec<NameOp>,
    pub quarantine: Small<Quarantine>,
    pub snapshot: Small<Snapshot>,
}

fn change(names: &mut BTreeMap<u64, usize>, op: &NameOp) {
    match op {
        NameOp::Add(base, file) => names.insert(*base, *file),
        NameOp::Remove(base) => names.remove(base),
    };
}

impl LogDir {
    /// A new name.
    pub fn add(&mut self, base: u64, file: usize) {
        self.op(NameOp::Add(base, file));
    }

    /// Unlinks a segment, or sets it aside.
    pub fn remove(&mut self, base: u64) {
        self.op(NameOp::Remove(base));
    }

    fn op(&mut self, op: NameOp) {
        change(&mut self.names, &op);
        self.pending.push(op);
    }

    /// SyncDir.
    pub fn sync(&mut self) {
        for op in self.pending.drain(..) {
            change(&mut self.durable, &op);
        }
    }

    fn cut(&mut self, rng: &mut Rng) {
        let mode = rng.below(3);
        for op in std::mem::take(&mut self.pending) {
            if mode == 0 || (mode == 1 && rng.percent(50)) {
                change(&mut self.durable, &op);
            }
        }
        self.names = self.durable.clone();
        self.quarantine.cut(rng);
        self.snapshot.cut(rng);
    }
}

/// A log directory.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub files: Vec<File>,
    pub logs: [LogDir; LOGS],
    /// One file per shard and generation.
    pub checkpoints: [Vec<Small<Checkpoint>>; SHARDS],
    generations: [u64; SHARDS],
    /// Start counter.
    pub counter: Small<u32>,
    /// Clean marker: (shard, generation).
    pub clean: Small<Vec<(usize, u64)>>,
}

impl Disk {
    /// Every log with one empty segment.
    pub fn new() -> Disk {
        let mut disk = Disk::default();
        for log in 0..LOGS {
            disk.create(log, 0, FIRST_EXTENT);
            disk.logs[log].sync();
        }
        disk
    }

    /// A new segment; its name is not durable yet, its size is.
    pub fn create(&mut self, log: usize, base: u64, bytes: usize) {
        self.files.push(File::new(bytes));
        self.logs[log].add(base, self.files.len() - 1);
    }

    /// The file of a segment.
    pub fn file(&self, log: usize, base: u64) -> Option<&File> {
        self.logs[log].names.get(&base).map(|at| &self.files[*at])
    }

    /// The file of a segment, to write to.
    pub fn file_mut(&mut self, log: usize, base: u64) -> &mut File {
        &mut self.files[self.logs[log].names[&base]]
    }

    /// Bytes of all segments, by base offset.
    pub fn segments(&self, log: usize) -> Vec<(u64, &[u8])> {
        let names = self.logs[log].names.iter();
        names.map(|(base, file)| (*base, self.files[*file].seen.as_slice())).collect()
    }

    /// Power is gone.
    pub fn cut(&mut self, rng: &mut Rng) {
        self.files.iter_mut().for_each(|file| file.cut(rng));
        self.logs.iter_mut().for_each(|log| log.cut(rng));
        self.checkpoints.iter_mut().flatten().for_each(|file| file.cut(rng));
        self.counter.cut(rng);
        self.clean.cut(rng);
    }

    /// The process died.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.files.iter_mut().for_each(|file| file.crash(rng));
    }

    /// Nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        let log = |log: &LogDir| {
            log.pending.is_empty() && log.quarantine.is_quiet() && log.snapshot.is_quiet()
        };
        self.files.iter().all(File::is_quiet)
            && self.logs.iter().all(log)
            && self.checkpoints.iter().flatten().all(Small::is_quiet)
    }

    /// A start syncs every directory before it acts on anything it reads there.
    pub fn sync_directories(&mut self) {
        for log in &mut self.logs {
            log.sync();
            log.quarantine.sync();
            log.snapshot.sync();
        }
        self.sync_checkpoints();
        self.counter.sync();
        self.clean.sync();
    }

    /// SyncDir of the checkpoints.
    pub fn sync_checkpoints(&mut self) {
        self.checkpoints.iter_mut().flatten().for_each(Small::sync);
    }

    /// A new checkpoint file; its generation.
    pub fn put_checkpoint(&mut self, shard: usize, entries: Vec<(usize, Entry)>) -> u64 {
        self.generations[shard] += 1;
        let generation = self.generations[shard];
        let mut file = Small::default();
        file.put(Checkpoint { generation, entries });
        let files = &mut self.checkpoints[shard];
        files.retain(|file| file.durable.is_some() || file.pending.is_some());
        files.push(file);
        generation
    }

    /// Unlinks the checkpoint files of a shard but these.
    pub fn prune(&mut self, shard: usize, keep: &[u64]) {
        for file in &mut self.checkpoints[shard] {
            if file.get().is_some_and(|found| !keep.contains(&found.generation)) {
                file.remove();
            }
        }
    }

    /// Durable checkpoints of a shard, newest first.
    pub fn durable_checkpoints(&self, shard: usize) -> Vec<&Checkpoint> {
        let files = self.checkpoints[shard].iter();
        let mut found: Vec<_> = files.filter_map(Small::durable).collect();
        found.sort_by_key(|file| std::cmp::Reverse(file.generation));
        found
    }

    /// All entries of a log, the greatest first: by (last log_epoch, generation).
    pub fn entries(&self, log: usize, by_generation: bool) -> Vec<Found> {
        let mut found = Vec::new();
        for (shard, files) in self.checkpoints.iter().enumerate() {
            for file in files.iter().filter_map(Small::get) {
                for (_, entry) in file.entries.iter().filter(|(of, _)| *of == log) {
                    let (generation, entry) = (file.generation, entry.clone());
                    found.push(Found { shard, generation, entry });
                }
            }
        }
        let epoch = |found: &Found| if by_generation { 0 } else { found.entry.table.last_epoch() };
        found.sort_by_key(|found| std::cmp::Reverse((epoch(found), found.generation)));
        found
    }
}
