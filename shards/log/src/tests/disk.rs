//! A disk in memory for tests: carries requests out, loses what was not flushed, tears what was in flight.
//! Owner: the tests of this crate.
//! Invariant: names are durable only after `SyncDir`; bytes only after a durable write, an extend or a flush.
//! Not here: the simulator's disk with its full set of faults (`shards/sim`).

use crate::blocks::Blocks;
use crate::io::{
    Dir, EIO, ENOENT, ENOSPC, Errno, FileId, IoDone, IoOk, IoOut, IoRequest, SegmentName, SmallFile,
};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// A small generator: streams must not change between versions of a crate.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
}

enum Job {
    /// Bytes as they were at submission.
    Write {
        inode: usize,
        at: usize,
        bytes: Vec<u8>,
        durable: bool,
    },
    /// A read that was joined with one of an unreadable place.
    Joined,
    Other(IoRequest),
}

/// Kinds of requests that tests let fail, each with a flush inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prepare,
    Extend,
    SyncDir,
    Checkpoint,
}

fn kind(request: &IoRequest) -> Option<Kind> {
    match request {
        IoRequest::Prepare { .. } => Some(Kind::Prepare),
        IoRequest::Extend { .. } => Some(Kind::Extend),
        IoRequest::SyncDir { .. } => Some(Kind::SyncDir),
        IoRequest::WriteSmall { file: SmallFile::Checkpoint { .. }, .. } => Some(Kind::Checkpoint),
        _ => None,
    }
}

#[derive(Default)]
pub(crate) struct Disk {
    inodes: Vec<Inode>,
    files: BTreeMap<FileId, usize>,
    names: BTreeMap<SegmentName, usize>,
    durable_names: BTreeMap<SegmentName, usize>,
    small: BTreeMap<SmallFile, Vec<u8>>,
    pub(crate) set_aside: Vec<SegmentName>,
    queue: Vec<(crate::io::IoId, Job)>,
    next_file: u32,
    /// Bytes still to be allocated; none: no limit.
    pub(crate) space: Option<u64>,
    /// Fails the next write in this way.
    pub(crate) fail_write: Option<Result<IoOk, Errno>>,
    /// Fails the next request of this kind.
    pub(crate) fail_next: Option<(Kind, Errno)>,
    /// Failed flushes so far (C10); tests raise it too, for a flush of another shard.
    pub(crate) flush_failures: u64,
    /// Writes, flushes and small files asked for.
    pub(crate) writes: u64,
    /// (file offset range) of a segment that cannot be read.
    pub(crate) unreadable: Option<(SegmentName, u64, u64)>,
    pub(crate) reads: u64,
    /// A small file that cannot be written.
    pub(crate) fail_small: Option<SmallFile>,
}

impl Disk {
    /// Takes over what was asked.
    pub(crate) fn submit(&mut self, io: &mut IoOut, blocks: &Blocks) {
        let hit = io.requests.iter().any(|request| self.is_unreadable(request));
        for request in io.requests.drain(..) {
            let id = request.id();
            let writes = !matches!(request, IoRequest::Read { .. } | IoRequest::Close { .. });
            self.writes += u64::from(writes);
            let job = match request {
                IoRequest::Write { file, at, data, durable, .. } => {
                    let slices = &io.slices[data.start as usize..data.end as usize];
                    let mut bytes = Vec::new();
                    for slice in slices {
                        assert!(
                            slice.start % 4096 == 0 && slice.len() % 4096 == 0,
                            "C1: {slice:?}"
                        );
                        bytes.extend_from_slice(blocks.bytes(*slice));
                    }
                    assert!(at % 4096 == 0 && !bytes.is_empty(), "C1");
                    let inode = self.files[&file];
                    let at = usize::try_from(at).expect("small");
                    assert!(
                        at + bytes.len() <= self.inodes[inode].durable.len(),
                        "write beyond durable space"
                    );
                    Job::Write { inode, at, bytes, durable }
                }
                // As kernels do with neighbours asked for at once: all fail with the bad one.
                IoRequest::Read { .. } if hit => Job::Joined,
                other => Job::Other(other),
            };
            self.queue.push((id, job));
        }
        io.clear();
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Carries one waiting request out, chosen by the dice.
    pub(crate) fn complete(&mut self, dice: &mut Dice, blocks: &mut Blocks) -> Option<IoDone> {
        if self.queue.is_empty() {
            return None;
        }
        let at = usize::try_from(dice.below(self.queue.len() as u64)).expect("small");
        let (id, job) = self.queue.remove(at);
        let result = match job {
            Job::Write { inode, at, bytes, durable } => self.write(inode, at, &bytes, durable),
            Job::Joined => Err(EIO),
            Job::Other(request) => self.run(request, blocks),
        };
        let flush_failures = self.flush_failures;
        Some(IoDone { id, result, flush_failures })
    }

    fn write(
        &mut self,
        inode: usize,
        at: usize,
        bytes: &[u8],
        durable: bool,
    ) -> Result<IoOk, Errno> {
        if let Some(result) = self.fail_write.take() {
            self.flush_failures += u64::from(durable && result.is_err());
            return result;
        }
        let file = &mut self.inodes[inode];
        file.current[at..at + bytes.len()].copy_from_slice(bytes);
        if durable {
            file.durable[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Ok(IoOk::Bytes(u32::try_from(bytes.len()).expect("small")))
    }

    fn is_unreadable(&self, request: &IoRequest) -> bool {
        let (Some((name, from, to)), IoRequest::Read { file, at, into, .. }) =
            (self.unreadable, request)
        else {
            return false;
        };
        let there = self.names.get(&name) == self.files.get(file);
        there && *at < to && from < *at + into.len() as u64
    }

    fn allocate(&mut self, bytes: u64) -> Result<(), Errno> {
        match &mut self.space {
            Some(left) if *left < bytes => Err(ENOSPC),
            Some(left) => {
                *left -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn give(&mut self, inode: usize) -> IoOk {
        self.next_file += 1;
        let file = FileId(self.next_file);
        self.files.insert(file, inode);
        IoOk::File { file, bytes: self.inodes[inode].current.len() as u64 }
    }

    fn run(&mut self, request: IoRequest, blocks: &mut Blocks) -> Result<IoOk, Errno> {
        if let Some((_, errno)) =
            self.fail_next.take_if(|(failing, _)| kind(&request) == Some(*failing))
        {
            self.flush_failures += u64::from(errno == EIO);
            return Err(errno);
        }
        let size = |bytes: u64| usize::try_from(bytes).expect("small");
        match request {
            IoRequest::Write { .. } => unreachable!("taken apart at submission"),
            IoRequest::Read { file, at, into, .. } => {
                self.reads += 1;
                let inode = self.files[&file];
                let bytes = &self.inodes[inode].current;
                let end = (size(at) + into.len()).min(bytes.len());
                let got = &bytes[size(at).min(end)..end];
                blocks.target_mut(into)[..got.len()].copy_from_slice(got);
                Ok(IoOk::Bytes(u32::try_from(got.len()).expect("small")))
            }
            IoRequest::Flush { file, .. } => {
                let inode = self.files[&file];
                self.inodes[inode].durable = self.inodes[inode].current.clone();
                Ok(IoOk::Done)
            }
            IoRequest::Prepare { bytes, .. } => {
                self.allocate(bytes)?;
                let zeros = vec![0; size(bytes)];
                self.inodes.push(Inode { current: zeros.clone(), durable: zeros });
                Ok(self.give(self.inodes.len() - 1))
            }
            IoRequest::Adopt { file, name, .. } => {
                assert!(!self.names.contains_key(&name), "{name:?} exists");
                self.names.insert(name, self.files[&file]);
                Ok(IoOk::Done)
            }
            IoRequest::Extend { file, from, to, .. } => {
                self.allocate(to - from)?;
                let inode = self.files[&file];
                assert_eq!(
                    self.inodes[inode].current.len(),
                    size(from),
                    "extend from the old size"
                );
                self.inodes[inode].current.resize(size(to), 0);
                self.inodes[inode].durable.resize(size(to), 0);
                Ok(IoOk::Done)
            }
            IoRequest::Trim { file, bytes, .. } => {
                let inode = self.files[&file];
                self.inodes[inode].current.truncate(size(bytes));
                self.inodes[inode].durable.truncate(size(bytes));
                Ok(IoOk::Done)
            }
            IoRequest::Open { name, .. } => {
                let inode = *self.names.get(&name).ok_or(ENOENT)?;
                Ok(self.give(inode))
            }
            IoRequest::Close { file, .. } => {
                self.files.remove(&file).map(|_| IoOk::Done).ok_or(ENOENT)
            }
            IoRequest::Unlink { name, .. } => {
                self.names.remove(&name).map(|_| IoOk::Done).ok_or(ENOENT)
            }
            IoRequest::SetAside { name, .. } => {
                self.set_aside.push(name);
                self.names.remove(&name).map(|_| IoOk::Done).ok_or(ENOENT)
            }
            IoRequest::RemoveLog { log, .. } => {
                self.names.retain(|name, _| name.log != log);
                Ok(IoOk::Done)
            }
            IoRequest::SyncDir { dir, .. } => {
                if let Dir::Log(key) = dir {
                    self.durable_names.retain(|name, _| name.log != key);
                    let names = self.names.iter().filter(|(name, _)| name.log == key);
                    self.durable_names.extend(names.map(|(name, inode)| (*name, *inode)));
                }
                Ok(IoOk::Done)
            }
            IoRequest::List { dir, .. } => Ok(IoOk::Names(self.list(dir))),
            IoRequest::ReadSmall { file, .. } => Ok(IoOk::Small(self.small.get(&file).cloned())),
            IoRequest::WriteSmall { file, .. } if self.fail_small == Some(file) => Err(ENOSPC),
            IoRequest::WriteSmall { file, body, .. } => {
                self.small.insert(file, body);
                Ok(IoOk::Done)
            }
            IoRequest::RemoveSmall { file, .. } => {
                self.small.remove(&file);
                Ok(IoOk::Done)
            }
        }
    }

    fn list(&self, dir: Dir) -> Vec<String> {
        let logs = self.names.keys().map(|name| name.log);
        let mut names: Vec<String> = match dir {
            Dir::Root => Vec::new(),
            Dir::Checkpoints => {
                let name = |file: &SmallFile| match file {
                    SmallFile::Checkpoint { shard, generation } => {
                        Some(format!("shard-{shard}.{generation}"))
                    }
                    _ => None,
                };
                self.small.keys().filter_map(name).collect()
            }
            Dir::Topics => logs.map(|log| log.topic_id.to_string()).collect(),
            Dir::Partitions(topic) => logs
                .filter(|log| log.topic_id == topic)
                .map(|log| log.partition.to_string())
                .collect(),
            Dir::Log(key) => {
                let own = self.names.keys().filter(|name| name.log == key);
                own.map(|name| format!("{:020}.seg", name.base_offset)).collect()
            }
        };
        names.dedup();
        names
    }

    /// Power is cut: writes in flight survive in part, names and bytes not made durable are gone.
    pub(crate) fn cut(&mut self, dice: &mut Dice) {
        for (_, job) in std::mem::take(&mut self.queue) {
            match job {
                Job::Write { inode, at, bytes, .. } => {
                    let mode = dice.below(4);
                    let keep_below = dice.below(bytes.len() as u64 / 512 + 1);
                    for (n, sector) in bytes.chunks(512).enumerate() {
                        let keep = match mode {
                            0 => false,
                            1 => true,
                            2 => dice.percent(50),
                            _ => (n as u64) < keep_below,
                        };
                        if keep {
                            let at = at + n * 512;
                            self.inodes[inode].durable[at..at + sector.len()]
                                .copy_from_slice(sector);
                        }
                    }
                }
                Job::Other(IoRequest::WriteSmall { file, body, .. }) if dice.percent(50) => {
                    self.small.insert(file, body);
                }
                Job::Joined | Job::Other(_) => {}
            }
        }
        for inode in &mut self.inodes {
            inode.current = inode.durable.clone();
        }
        if dice.percent(50) {
            self.names = self.durable_names.clone();
        } else {
            self.durable_names = self.names.clone();
        }
        self.files.clear();
    }

    /// Whether nothing is in flight and nothing volatile: what stop leaves.
    pub(crate) fn flip(&mut self, name: SegmentName, at: u64, bit: u8) {
        let inode = self.names[&name];
        let at = usize::try_from(at).expect("small");
        self.inodes[inode].current[at] ^= 1 << bit;
        self.inodes[inode].durable[at] ^= 1 << bit;
    }

    /// Bytes land where nobody wrote them.
    pub(crate) fn overwrite(&mut self, name: SegmentName, at: usize, bytes: &[u8]) {
        let inode = self.names[&name];
        let file = &mut self.inodes[inode];
        file.current[at..at + bytes.len()].copy_from_slice(bytes);
        file.durable[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Bytes of a segment stand in another place of it too.
    pub(crate) fn copy_within(&mut self, name: SegmentName, from: u64, len: usize, to: u64) {
        let inode = self.names[&name];
        let (from, to) =
            (usize::try_from(from).expect("small"), usize::try_from(to).expect("small"));
        self.inodes[inode].current.copy_within(from..from + len, to);
        self.inodes[inode].durable.copy_within(from..from + len, to);
    }

    /// A segment's name is gone.
    pub(crate) fn lose(&mut self, name: SegmentName) {
        self.names.remove(&name);
        self.durable_names.remove(&name);
    }

    pub(crate) fn shorten(&mut self, name: SegmentName, bytes: usize) {
        let inode = self.names[&name];
        self.inodes[inode].current.truncate(bytes);
        self.inodes[inode].durable.truncate(bytes);
    }

    /// Somebody copies a file into the directory.
    pub(crate) fn put_segment(&mut self, name: SegmentName, bytes: &[u8]) {
        self.inodes.push(Inode { current: bytes.to_vec(), durable: bytes.to_vec() });
        self.names.insert(name, self.inodes.len() - 1);
        self.durable_names.insert(name, self.inodes.len() - 1);
    }

    pub(crate) fn small(&self, file: SmallFile) -> Option<&[u8]> {
        self.small.get(&file).map(Vec::as_slice)
    }

    pub(crate) fn bytes_of(&self, name: SegmentName) -> &[u8] {
        &self.inodes[self.names[&name]].current
    }

    /// A segment has grown and nobody has made its size durable.
    pub(crate) fn grow(&mut self, name: SegmentName, bytes: usize) {
        let inode = self.names[&name];
        let len = self.inodes[inode].current.len();
        self.inodes[inode].current.resize(len + bytes, 0);
    }

    pub(crate) fn has_durable_size(&self, name: SegmentName) -> bool {
        let inode = &self.inodes[self.names[&name]];
        inode.current.len() == inode.durable.len()
    }

    pub(crate) fn segments(&self, key: LogKey) -> Vec<u64> {
        self.names.keys().filter(|name| name.log == key).map(|name| name.base_offset).collect()
    }

    pub(crate) fn forget_small(&mut self, file: SmallFile) {
        self.small.remove(&file);
    }

    pub(crate) fn put_small(&mut self, file: SmallFile, body: Vec<u8>) {
        self.small.insert(file, body);
    }

    pub(crate) fn forget_checkpoints(&mut self) {
        self.small.retain(|file, _| !matches!(file, SmallFile::Checkpoint { .. }));
    }
}
