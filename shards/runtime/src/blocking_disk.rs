#![expect(clippy::disallowed_methods, reason = "the disk of commands and of the start, no shard")]
//! The log's requests carried out one after the other with ordinary system calls.
//! Owner: `boot.rs` for the start of a directory, commands on a stopped one; never a shard.
//! Invariant: same names, same order of operations, same answers as `disk.rs`.
//! Not here: speed.

use crate::layout;
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::{
    Dir, EIO, Errno, FileId, IoDone, IoId, IoOk, IoOut, IoRequest, SMALL_FILE_BYTES_MAX,
    SegmentName, SmallFile,
};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Zeros written at once.
const ZEROS: [u8; 4096] = [0; 4096];

struct Opened {
    file: File,
    path: PathBuf,
}

/// Carries requests out at once.
pub struct BlockingDisk {
    root: PathBuf,
    files: BTreeMap<u32, Opened>,
    next_file: u32,
    /// Directories synced since any was made: parents of many logs, once is enough.
    synced: BTreeSet<PathBuf>,
}

impl BlockingDisk {
    /// For the data directory at `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> BlockingDisk {
        BlockingDisk { root, files: BTreeMap::new(), next_file: 0, synced: BTreeSet::new() }
    }

    /// Carries out and removes all requests in `io`, in order; one answer each.
    pub fn run(&mut self, io: &mut IoOut, blocks: &mut Blocks) -> Vec<IoDone> {
        let requests = std::mem::take(&mut io.requests);
        let slices = std::mem::take(&mut io.slices);
        requests.into_iter().map(|request| self.carry_out(request, &slices, blocks)).collect()
    }

    fn carry_out(&mut self, request: IoRequest, slices: &[Slice], blocks: &mut Blocks) -> IoDone {
        let unit = |result: Result<()>| result.map(|()| IoOk::Done);
        let (id, result) = match request {
            IoRequest::Write { id, file, at, data, durable } => {
                let data = &slices[data.start as usize..data.end as usize];
                (id, self.write(file, at, data, durable, blocks))
            }
            IoRequest::Read { id, file, at, into } => (id, self.read(file, at, into, blocks)),
            IoRequest::Flush { id, file } => (id, unit(self.file(file).and_then(File::sync_data))),
            IoRequest::Prepare { id, name, bytes, zero } => {
                (id, self.prepare(id, name, bytes, zero))
            }
            IoRequest::Adopt { id, file, name } => (id, unit(self.adopt(file, name))),
            IoRequest::Extend { id, file, from, to, zero } => {
                (id, unit(self.file(file).and_then(|file| extend(file, from, to, zero))))
            }
            IoRequest::Trim { id, file, bytes } => {
                (id, unit(self.file(file).and_then(|file| file.set_len(bytes))))
            }
            IoRequest::Open { id, name } => (id, self.open(name)),
            IoRequest::Close { id, file } => {
                (id, self.files.remove(&file.0).map(|_| IoOk::Done).ok_or_else(unknown_file))
            }
            IoRequest::Unlink { id, name } => {
                (id, unit(std::fs::remove_file(layout::segment(&self.root, name))))
            }
            IoRequest::SetAside { id, name } => (id, unit(self.set_aside(name))),
            IoRequest::RemoveLog { id, log } => (id, unit(self.remove_log(log))),
            IoRequest::SyncDir { id, dir } => (id, unit(self.sync_dir(dir))),
            IoRequest::List { id, dir } => (id, list(&layout::dir(&self.root, dir))),
            IoRequest::ReadSmall { id, file } => (id, self.read_small(file)),
            IoRequest::WriteSmall { id, file, body } => (id, unit(self.write_small(file, &body))),
            IoRequest::RemoveSmall { id, file } => (id, unit(self.remove_small(file))),
        };
        let errno = |error: &Error| error.raw_os_error().map_or(EIO, Errno);
        IoDone { id, result: result.map_err(|error| errno(&error)), flush_failures: 0 }
    }

    fn file(&self, file: FileId) -> Result<&File> {
        self.files.get(&file.0).map(|opened| &opened.file).ok_or_else(unknown_file)
    }

    fn keep(&mut self, file: File, path: PathBuf) -> Result<IoOk> {
        let bytes = file.metadata()?.len();
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Opened { file, path });
        Ok(IoOk::File { file: FileId(id), bytes })
    }

    fn write(
        &self,
        file: FileId,
        at: u64,
        data: &[Slice],
        durable: bool,
        blocks: &Blocks,
    ) -> Result<IoOk> {
        let file = self.file(file)?;
        let mut written = 0u32;
        for slice in data {
            let bytes = blocks.bytes(*slice);
            file.write_all_at(bytes, at + u64::from(written))?;
            written += slice.end - slice.start;
        }
        if durable {
            file.sync_data()?;
        }
        Ok(IoOk::Bytes(written))
    }

    fn read(&self, file: FileId, at: u64, into: Slice, blocks: &mut Blocks) -> Result<IoOk> {
        let file = self.file(file)?;
        let target = blocks.target_mut(into);
        let mut filled = 0;
        while filled < target.len() {
            match file.read_at(&mut target[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(IoOk::Bytes(u32::try_from(filled).unwrap_or(u32::MAX)))
    }

    fn prepare(&mut self, id: IoId, name: SegmentName, bytes: u64, zero: bool) -> Result<IoOk> {
        self.make_dirs(&layout::log(&self.root, name.log))?;
        let path = layout::prepared(&self.root, name, id.0);
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        extend(&file, 0, bytes, zero)?;
        self.keep(file, path)
    }

    fn adopt(&mut self, file: FileId, name: SegmentName) -> Result<()> {
        let path = layout::segment(&self.root, name);
        let opened = self.files.get_mut(&file.0).ok_or_else(unknown_file)?;
        std::fs::rename(&opened.path, &path)?;
        opened.path = path;
        Ok(())
    }

    fn open(&mut self, name: SegmentName) -> Result<IoOk> {
        let path = layout::segment(&self.root, name);
        // A stopped directory may be looked at by somebody who may not write it.
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.or_else(|_| File::open(&path))?;
        self.keep(file, path)
    }

    fn set_aside(&mut self, name: SegmentName) -> Result<()> {
        self.make_dirs(&layout::dropped(&self.root, name.log))?;
        let to = layout::dropped_segment(&self.root, name);
        std::fs::rename(layout::segment(&self.root, name), to)
    }

    fn remove_log(&self, key: LogKey) -> Result<()> {
        absent_is_fine(std::fs::remove_dir_all(layout::log(&self.root, key)))?;
        sync(&layout::dir(&self.root, Dir::Partitions(key.topic_id)))
    }

    fn sync_dir(&mut self, dir: Dir) -> Result<()> {
        let path = layout::dir(&self.root, dir);
        self.sync_chain(&path)?;
        if let Dir::Log(key) = dir {
            sync(&layout::dropped(&self.root, key))?;
        }
        Ok(())
    }

    /// Syncs a directory, and its parents unless they are synced and nothing was made in them since.
    fn sync_chain(&mut self, path: &Path) -> Result<()> {
        let mut chain = layout::below_root(&self.root, path);
        chain.insert(0, self.root.clone());
        for dir in chain.iter().rev() {
            if dir == path || !self.synced.contains(dir) {
                sync(dir)?;
                self.synced.insert(dir.clone());
            }
        }
        Ok(())
    }

    fn make_dirs(&mut self, path: &Path) -> Result<()> {
        self.synced.clear();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn read_small(&self, file: SmallFile) -> Result<IoOk> {
        let (dir, name) = layout::small(&self.root, file);
        let path = dir.join(name);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(IoOk::Small(None)),
            Err(error) => return Err(error),
            Ok(facts) if facts.len() > SMALL_FILE_BYTES_MAX as u64 => {
                return Err(Error::from_raw_os_error(libc::EFBIG));
            }
            Ok(_) => {}
        }
        Ok(IoOk::Small(Some(std::fs::read(&path)?)))
    }

    fn write_small(&mut self, file: SmallFile, body: &[u8]) -> Result<()> {
        let (dir, name) = layout::small(&self.root, file);
        self.make_dirs(&dir)?;
        let temporary = dir.join(format!("{name}{}", layout::TEMPORARY));
        let mut options = OpenOptions::new();
        let mut opened =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        opened.write_all(body)?;
        opened.sync_all()?;
        std::fs::rename(&temporary, dir.join(name))?;
        self.sync_chain(&dir)
    }

    fn remove_small(&self, file: SmallFile) -> Result<()> {
        let (dir, name) = layout::small(&self.root, file);
        absent_is_fine(std::fs::remove_file(dir.join(name)))?;
        sync(&dir)
    }
}

fn unknown_file() -> Error {
    Error::from_raw_os_error(libc::EBADF)
}

fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// An absent directory has nothing to sync.
fn sync(path: &Path) -> Result<()> {
    absent_is_fine(File::open(path).and_then(|dir| dir.sync_all()))
}

fn extend(mut file: &File, from: u64, to: u64, zero: bool) -> Result<()> {
    file.set_len(to)?;
    if zero {
        file.seek(SeekFrom::Start(from))?;
        let mut left = to.saturating_sub(from);
        while left > 0 {
            let bytes = ZEROS.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&ZEROS[..bytes])?;
            left -= bytes as u64;
        }
    }
    file.sync_all()
}

pub(crate) fn list(path: &Path) -> Result<IoOk> {
    let mut names = Vec::new();
    match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries {
                // Names that are no UTF-8 are none of ours.
                names.extend(entry?.file_name().into_string());
            }
        }
    }
    Ok(IoOk::Names(names))
}
