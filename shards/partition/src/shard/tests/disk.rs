//! A disk in memory that answers every request, at once or when it is told to.

use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::{
    Dir, EIO, ENOENT, ENOSPC, FileId, IoDone, IoId, IoOk, IoOut, IoRequest, SegmentName, SmallFile,
};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Survives the shards that use it.
#[derive(Default)]
pub(super) struct Disk {
    contents: Vec<Vec<u8>>,
    names: BTreeMap<SegmentName, usize>,
    small: BTreeMap<SmallFile, Vec<u8>>,
    open: BTreeMap<u32, usize>,
    next_file: u32,
    /// Writes and flushes wait here while held, with the shard that asked.
    held: VecDeque<(usize, IoRequest, Vec<Slice>)>,
    pub(super) hold_writes: bool,
    pub(super) fail_writes: bool,
    /// Fails one write, the next that is carried out.
    pub(super) fail_one_write: bool,
    /// Allocations are refused.
    pub(super) full: bool,
    /// Failed flushes of all shards (C10).
    flush_failures: u64,
    pub(super) hold_reads: bool,
}

impl Disk {
    /// A crash: requests in flight are lost, files are closed.
    pub(super) fn restart(&mut self) {
        self.held.clear();
        self.open.clear();
        (self.hold_writes, self.fail_writes, self.hold_reads) = (false, false, false);
        (self.fail_one_write, self.full, self.flush_failures) = (false, false, 0);
    }

    /// Directories of logs that hold anything.
    pub(super) fn logs(&self) -> Vec<LogKey> {
        let logs: BTreeSet<LogKey> = self.names.keys().map(|name| name.log).collect();
        logs.into_iter().collect()
    }

    /// Flips a bit of the first place where `needle` stands in a segment of `log`, `skip` bytes behind it.
    pub(super) fn damage(&mut self, log: LogKey, needle: &[u8], skip: usize) {
        let found =
            self.names.iter().filter(|(name, _)| name.log == log).find_map(|(_, content)| {
                let bytes = &self.contents[*content];
                let at = bytes.windows(needle.len()).position(|window| window == needle)?;
                Some((*content, at))
            });
        let (content, at) = found.expect("the needle stands on the disk");
        self.contents[content][at + skip] ^= 1;
    }

    /// The directory of `log` is gone.
    pub(super) fn lose(&mut self, log: LogKey) {
        self.names.retain(|name, _| name.log != log);
        for file in
            [SmallFile::Snapshot(log), SmallFile::Quarantine(log), SmallFile::PartitionMeta(log)]
        {
            self.small.remove(&file);
        }
    }

    /// Whether it has the file that names it.
    pub(super) fn has_partition_meta(&self, log: LogKey) -> bool {
        self.small.contains_key(&SmallFile::PartitionMeta(log))
    }

    /// Every segment of `log` is cut to nothing.
    pub(super) fn empty_segments(&mut self, log: LogKey) {
        let of_log = self.names.iter().filter(|(name, _)| name.log == log);
        of_log.for_each(|(_, content)| self.contents[*content].clear());
    }

    /// Puts another body into a small file.
    pub(super) fn put_small(&mut self, file: SmallFile, body: Vec<u8>) {
        self.small.insert(file, body);
    }

    /// Carries out the requests of a turn, in order.
    pub(super) fn submit(
        &mut self,
        shard: usize,
        io: &mut IoOut,
        blocks: &mut Blocks,
    ) -> Vec<IoDone> {
        let mut done = Vec::new();
        for request in io.requests.drain(..) {
            let slices = match &request {
                IoRequest::Write { data, .. } => {
                    io.slices[data.start as usize..data.end as usize].to_vec()
                }
                _ => Vec::new(),
            };
            let write = is_write(&request);
            let read = matches!(request, IoRequest::Read { .. });
            if (write && self.hold_writes) || (read && self.hold_reads) {
                self.held.push_back((shard, request, slices));
            } else {
                done.push(self.carry_out(request, &slices, blocks));
            }
        }
        io.clear();
        done
    }

    /// Lets everything through that is held for a shard.
    pub(super) fn release(&mut self, shard: usize, blocks: &mut Blocks) -> Vec<IoDone> {
        (self.hold_writes, self.hold_reads) = (false, false);
        let held = std::mem::take(&mut self.held);
        let (due, rest) = held.into_iter().partition(|(asker, _, _)| *asker == shard);
        self.held = rest;
        let due: VecDeque<(usize, IoRequest, Vec<Slice>)> = due;
        due.into_iter()
            .map(|(_, request, slices)| self.carry_out(request, &slices, blocks))
            .collect()
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn carry_out(&mut self, request: IoRequest, slices: &[Slice], blocks: &mut Blocks) -> IoDone {
        let fails =
            is_write(&request) && (self.fail_writes || std::mem::take(&mut self.fail_one_write));
        self.flush_failures += u64::from(fails);
        let flush_failures = self.flush_failures;
        let ok = |id: IoId, ok: IoOk| IoDone { id, result: Ok(ok), flush_failures };
        match request {
            IoRequest::Prepare { id, .. } | IoRequest::Extend { id, .. } if self.full => {
                IoDone { id, result: Err(ENOSPC), flush_failures }
            }
            IoRequest::Write { id, .. } | IoRequest::Flush { id, .. } if fails => {
                IoDone { id, result: Err(EIO), flush_failures }
            }
            IoRequest::Write { id, file, at, .. } => {
                let content = &mut self.contents[self.open[&file.0]];
                let mut at = usize::try_from(at).unwrap();
                let from = at;
                for slice in slices {
                    let bytes = blocks.bytes(*slice);
                    assert!(at + bytes.len() <= content.len(), "writes stay inside the file");
                    content[at..at + bytes.len()].copy_from_slice(bytes);
                    at += bytes.len();
                }
                ok(id, IoOk::Bytes(u32::try_from(at - from).unwrap()))
            }
            IoRequest::Read { id, file, at, into } => {
                let content = &self.contents[self.open[&file.0]];
                let at = usize::try_from(at).unwrap().min(content.len());
                let end = (at + into.len()).min(content.len());
                let target = blocks.target_mut(into);
                target[..end - at].copy_from_slice(&content[at..end]);
                ok(id, IoOk::Bytes(u32::try_from(end - at).unwrap()))
            }
            IoRequest::Flush { id, .. }
            | IoRequest::SyncDir { id, .. }
            | IoRequest::SetAside { id, .. } => ok(id, IoOk::Done),
            IoRequest::Prepare { id, bytes, .. } => {
                self.contents.push(vec![0; usize::try_from(bytes).unwrap()]);
                let content = self.contents.len() - 1;
                let file = self.slot(content);
                ok(id, IoOk::File { file, bytes })
            }
            IoRequest::Adopt { id, file, name } => {
                self.names.insert(name, self.open[&file.0]);
                ok(id, IoOk::Done)
            }
            IoRequest::Extend { id, file, to: bytes, .. } | IoRequest::Trim { id, file, bytes } => {
                let content = self.open[&file.0];
                self.contents[content].resize(usize::try_from(bytes).unwrap(), 0);
                ok(id, IoOk::Done)
            }
            IoRequest::Open { id, name } => match self.names.get(&name).copied() {
                None => IoDone { id, result: Err(ENOENT), flush_failures },
                Some(content) => {
                    let bytes = self.contents[content].len() as u64;
                    let file = self.slot(content);
                    ok(id, IoOk::File { file, bytes })
                }
            },
            IoRequest::Close { id, file } => {
                self.open.remove(&file.0);
                ok(id, IoOk::Done)
            }
            IoRequest::Unlink { id, name } => {
                self.names.remove(&name);
                ok(id, IoOk::Done)
            }
            IoRequest::RemoveLog { id, log } => {
                self.names.retain(|name, _| name.log != log);
                self.small.retain(|file, _| log_of(*file) != Some(log));
                ok(id, IoOk::Done)
            }
            IoRequest::List { id, dir } => ok(id, IoOk::Names(self.list(dir))),
            IoRequest::ReadSmall { id, file } => {
                ok(id, IoOk::Small(self.small.get(&file).cloned()))
            }
            IoRequest::WriteSmall { id, file, body } => {
                self.small.insert(file, body);
                ok(id, IoOk::Done)
            }
            IoRequest::RemoveSmall { id, file } => {
                self.small.remove(&file);
                ok(id, IoOk::Done)
            }
        }
    }

    fn slot(&mut self, content: usize) -> FileId {
        self.next_file += 1;
        self.open.insert(self.next_file, content);
        FileId(self.next_file)
    }

    fn list(&self, dir: Dir) -> Vec<String> {
        let logs = self.logs();
        let names: BTreeSet<String> = match dir {
            Dir::Root => BTreeSet::new(),
            Dir::Checkpoints => self
                .small
                .keys()
                .filter_map(|file| match file {
                    SmallFile::Checkpoint { shard, generation } => {
                        Some(format!("shard-{shard}.{generation}"))
                    }
                    _ => None,
                })
                .collect(),
            Dir::Topics => logs.iter().map(|log| log.topic_id.to_string()).collect(),
            Dir::Partitions(topic) => logs
                .iter()
                .filter(|log| log.topic_id == topic)
                .map(|log| log.partition.to_string())
                .collect(),
            Dir::Log(log) => self
                .names
                .keys()
                .filter(|name| name.log == log)
                .map(|name| format!("{:020}.seg", name.base_offset))
                .collect(),
        };
        names.into_iter().collect()
    }
}

fn is_write(request: &IoRequest) -> bool {
    matches!(request, IoRequest::Write { .. } | IoRequest::Flush { .. })
}

fn log_of(file: SmallFile) -> Option<LogKey> {
    match file {
        SmallFile::Snapshot(log) | SmallFile::Quarantine(log) | SmallFile::PartitionMeta(log) => {
            Some(log)
        }
        SmallFile::Meta | SmallFile::CleanMarker | SmallFile::Checkpoint { .. } => None,
    }
}
