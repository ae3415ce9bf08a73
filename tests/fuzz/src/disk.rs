//! A disk in memory that does what it is asked, in order, and keeps everything.
//! Owner: one run of the recovery target.
//! Invariant: every request is answered exactly once.
//! Not here: lost and torn writes (`shards/sim`); the target damages bytes itself.

use ringway_log::blocks::Blocks;
use ringway_log::io::{
    Dir, ENOENT, Errno, FileId, IoDone, IoId, IoOk, IoOut, IoRequest, SegmentName, SmallFile,
};
use std::collections::{BTreeMap, VecDeque};

/// The disk.
#[derive(Default)]
pub struct Disk {
    contents: Vec<Vec<u8>>,
    names: BTreeMap<SegmentName, usize>,
    files: BTreeMap<FileId, usize>,
    small: BTreeMap<SmallFile, Vec<u8>>,
    done: VecDeque<IoDone>,
    next_file: u32,
}

impl Disk {
    /// Puts a segment where recovery will find it.
    pub fn put(&mut self, name: SegmentName, content: Vec<u8>) {
        self.names.insert(name, self.contents.len());
        self.contents.push(content);
    }

    /// A new process: nothing is open, nothing in flight.
    pub fn restart(&mut self) {
        self.files.clear();
        self.done.clear();
    }

    /// Carries out what was asked.
    pub fn submit(&mut self, io: &mut IoOut, blocks: &mut Blocks) {
        for request in io.requests.drain(..) {
            let id: IoId = request.id();
            let result = match request {
                IoRequest::Write { file, at, data, .. } => {
                    let content = &mut self.contents[self.files[&file]];
                    let (mut at, from) = (at as usize, at as usize);
                    for slice in &io.slices[data.start as usize..data.end as usize] {
                        let bytes = blocks.bytes(*slice);
                        content[at..at + bytes.len()].copy_from_slice(bytes);
                        at += bytes.len();
                    }
                    Ok(IoOk::Bytes((at - from) as u32))
                }
                other => self.run(other, blocks),
            };
            self.done.push_back(IoDone { id, result, flush_failures: 0 });
        }
        io.clear();
    }

    /// The next answer.
    pub fn next_done(&mut self) -> Option<IoDone> {
        self.done.pop_front()
    }

    /// Nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.done.is_empty()
    }

    fn open(&mut self, content: usize) -> IoOk {
        self.next_file += 1;
        let file = FileId(self.next_file);
        self.files.insert(file, content);
        IoOk::File { file, bytes: self.contents[content].len() as u64 }
    }

    fn run(&mut self, request: IoRequest, blocks: &mut Blocks) -> Result<IoOk, Errno> {
        match request {
            IoRequest::Read { file, at, into, .. } => {
                let content = &self.contents[self.files[&file]];
                let from = (at as usize).min(content.len());
                let to = (from + into.len()).min(content.len());
                blocks.target_mut(into)[..to - from].copy_from_slice(&content[from..to]);
                return Ok(IoOk::Bytes((to - from) as u32));
            }
            IoRequest::Prepare { bytes, .. } => {
                self.contents.push(vec![0; bytes as usize]);
                return Ok(self.open(self.contents.len() - 1));
            }
            IoRequest::Open { name, .. } => {
                let content = *self.names.get(&name).ok_or(ENOENT)?;
                return Ok(self.open(content));
            }
            IoRequest::Adopt { file, name, .. } => {
                assert!(self.names.insert(name, self.files[&file]).is_none(), "{name:?} exists");
            }
            IoRequest::Extend { file, to, .. } => {
                self.contents[self.files[&file]].resize(to as usize, 0)
            }
            IoRequest::Trim { file, bytes, .. } => {
                self.contents[self.files[&file]].truncate(bytes as usize);
            }
            IoRequest::Close { file, .. } => {
                self.files.remove(&file);
            }
            IoRequest::Unlink { name, .. } | IoRequest::SetAside { name, .. } => {
                self.names.remove(&name).ok_or(ENOENT)?;
            }
            IoRequest::RemoveLog { log, .. } => self.names.retain(|name, _| name.log != log),
            IoRequest::List { dir, .. } => return Ok(IoOk::Names(self.list(dir))),
            IoRequest::ReadSmall { file, .. } => {
                return Ok(IoOk::Small(self.small.get(&file).cloned()));
            }
            IoRequest::WriteSmall { file, body, .. } => {
                self.small.insert(file, body);
            }
            IoRequest::RemoveSmall { file, .. } => {
                self.small.remove(&file);
            }
            IoRequest::Write { .. } | IoRequest::Flush { .. } | IoRequest::SyncDir { .. } => {}
        }
        Ok(IoOk::Done)
    }

    fn list(&self, dir: Dir) -> Vec<String> {
        let logs = self.names.keys().map(|name| name.log);
        let mut names: Vec<String> = match dir {
            Dir::Root => Vec::new(),
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
            Dir::Topics => logs.map(|log| log.topic_id.to_string()).collect(),
            Dir::Partitions(topic) => logs
                .filter(|log| log.topic_id == topic)
                .map(|log| log.partition.to_string())
                .collect(),
            Dir::Log(key) => self
                .names
                .keys()
                .filter(|name| name.log == key)
                .map(|name| format!("{:020}.seg", name.base_offset))
                .collect(),
        };
        names.dedup();
        names
    }
}
