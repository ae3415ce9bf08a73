//! Cold disk work as lists of steps: each is one operation of the ring, done after the one before.
//! Owner: `Disk`.
//! Invariant: a script answers once; what it opened or made and did not finish, it removes.
//! Not here: the operations themselves (`disk.rs`).

use crate::layout;
use ringway_log::io::{Dir, Errno, IoId, IoOk, SegmentName, SmallFile};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeSet, VecDeque};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One operation.
#[derive(Debug)]
pub(crate) enum Step {
    /// One that exists is fine.
    MakeDir(CString),
    /// Opens into `slot`; when the name is absent the next `skip` steps are left out, `None` fails.
    Open { path: CString, flags: i32, slot: u32, skip: Option<usize> },
    /// Allocates `from..to`; where the file system cannot, zeros are written instead.
    Allocate { slot: u32, from: u64, to: u64 },
    /// Writes zeros over `at..to`.
    Zeros { slot: u32, at: u64, to: u64 },
    /// Writes the script's body from byte `at` on.
    WriteBody { slot: u32, at: usize },
    /// Reads into the script's body until the end of the file.
    ReadBody { slot: u32 },
    /// fsync, or fdatasync.
    Sync { slot: u32, data: bool },
    /// Replaces what had the new name.
    Rename { from: CString, to: CString },
    /// Removes a file, or an empty directory.
    Unlink { path: CString, dir: bool, absent_fine: bool },
    /// Size of a file, into the answer.
    Size { path: CString },
    /// Cuts a file.
    Truncate { slot: u32, path: PathBuf, bytes: u64 },
    /// Empties the slot.
    Close { slot: u32 },
}

/// What a finished script proves.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The directory and its parents exist.
    Made(PathBuf),
    /// And their names are durable.
    Durable(PathBuf),
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Script {
    /// Request to answer.
    pub(crate) id: IoId,
    /// Steps to do; the first is in flight.
    pub(crate) steps: VecDeque<Step>,
    /// Steps done instead of the rest after a failure; their own failures mean nothing.
    pub(crate) cleanup: Vec<Step>,
    /// Bytes read or to be written.
    pub(crate) body: Vec<u8>,
    /// Answer when all goes well.
    pub(crate) answer: IoOk,
    /// First failure.
    pub(crate) error: Option<Errno>,
    /// Slot used, and whether it stays with the requester on success.
    pub(crate) slot: Option<(u32, bool)>,
    /// Path behind the slot from success on.
    pub(crate) path: Option<PathBuf>,
    /// Learnt on success.
    pub(crate) proofs: Vec<Proof>,
}

impl Script {
    /// One that does nothing yet.
    pub(crate) fn new(id: IoId) -> Script {
        Script {
            id,
            steps: VecDeque::new(),
            cleanup: Vec::new(),
            body: Vec::new(),
            answer: IoOk::Done,
            error: None,
            slot: None,
            path: None,
            proofs: Vec::new(),
        }
    }
}

/// Plans scripts; knows which directories need no more care.
#[derive(Debug)]
pub(crate) struct Planner {
    root: PathBuf,
    /// Flags for opening segments.
    segment_flags: i32,
    made: BTreeSet<PathBuf>,
    durable: BTreeSet<PathBuf>,
}

impl Planner {
    /// For the log directory at `root`.
    pub(crate) fn new(root: PathBuf, direct_io: bool) -> Planner {
        let direct = if direct_io { libc::O_DIRECT } else { 0 };
        let segment_flags = libc::O_RDWR | direct;
        Planner { root, segment_flags, made: BTreeSet::new(), durable: BTreeSet::new() }
    }

    /// The log directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes in what a finished script proved.
    pub(crate) fn learn(&mut self, proof: Proof) {
        match proof {
            Proof::Made(path) => self.made.insert(path),
            Proof::Durable(path) => self.durable.insert(path),
        };
    }

    /// `IoRequest::Prepare`.
    pub(crate) fn prepare(
        &self,
        id: IoId,
        name: SegmentName,
        bytes: u64,
        zero: bool,
        slot: u32,
    ) -> Script {
        let path = layout::prepared(&self.root, name, id.0);
        let mut script = Script::new(id);
        self.make_dirs(&mut script, &layout::log(&self.root, name.log));
        let flags = self.segment_flags | libc::O_CREAT | libc::O_TRUNC;
        script.steps.push_back(Step::Open { path: c_path(&path), flags, slot, skip: None });
        grow(&mut script, slot, 0, bytes, zero);
        script.cleanup.push(Step::Close { slot });
        script.cleanup.push(unlink(&path, true));
        script.answer = IoOk::File { file: ringway_log::io::FileId(slot), bytes };
        script.slot = Some((slot, true));
        script.path = Some(path);
        script
    }

    /// `IoRequest::Adopt` of the file that lies at `from`.
    pub(crate) fn adopt(&self, id: IoId, from: &Path, name: SegmentName, slot: u32) -> Script {
        let to = layout::segment(&self.root, name);
        let mut script = Script::new(id);
        script.steps.push_back(Step::Rename { from: c_path(from), to: c_path(&to) });
        script.path = Some(to);
        script.slot = Some((slot, true));
        script
    }

    /// `IoRequest::Extend`.
    pub(crate) fn extend(id: IoId, slot: u32, from: u64, to: u64, zero: bool) -> Script {
        let mut script = Script::new(id);
        grow(&mut script, slot, from, to, zero);
        script
    }

    /// `IoRequest::Trim`.
    pub(crate) fn trim(id: IoId, slot: u32, path: &Path, bytes: u64) -> Script {
        let mut script = Script::new(id);
        script.steps.push_back(Step::Truncate { slot, path: path.to_owned(), bytes });
        script
    }

    /// `IoRequest::Open`.
    pub(crate) fn open(&self, id: IoId, name: SegmentName, slot: u32) -> Script {
        let path = layout::segment(&self.root, name);
        let mut script = Script::new(id);
        let flags = self.segment_flags;
        script.steps.push_back(Step::Open { path: c_path(&path), flags, slot, skip: None });
        script.steps.push_back(Step::Size { path: c_path(&path) });
        script.cleanup.push(Step::Close { slot });
        script.answer = IoOk::File { file: ringway_log::io::FileId(slot), bytes: 0 };
        script.slot = Some((slot, true));
        script.path = Some(path);
        script
    }

    /// `IoRequest::Close`.
    pub(crate) fn close(id: IoId, slot: u32) -> Script {
        let mut script = Script::new(id);
        script.steps.push_back(Step::Close { slot });
        script.slot = Some((slot, false));
        script
    }

    /// `IoRequest::Unlink`.
    pub(crate) fn unlink(&self, id: IoId, name: SegmentName) -> Script {
        let mut script = Script::new(id);
        script.steps.push_back(unlink(&layout::segment(&self.root, name), false));
        script
    }

    /// `IoRequest::SetAside`.
    pub(crate) fn set_aside(&self, id: IoId, name: SegmentName) -> Script {
        let mut script = Script::new(id);
        self.make_dirs(&mut script, &layout::dropped(&self.root, name.log));
        let from = c_path(&layout::segment(&self.root, name));
        let to = c_path(&layout::dropped_segment(&self.root, name));
        script.steps.push_back(Step::Rename { from, to });
        script
    }

    /// `IoRequest::RemoveLog` of a log with these `files` and sub-directories, innermost first.
    pub(crate) fn remove_log(
        &mut self,
        id: IoId,
        log: LogKey,
        names: &[(PathBuf, bool)],
        slot: u32,
    ) -> Script {
        let home = layout::log(&self.root, log);
        self.made.retain(|path| !path.starts_with(&home));
        self.durable.retain(|path| !path.starts_with(&home));
        let mut script = Script::new(id);
        for (path, dir) in names {
            let path = c_path(path);
            script.steps.push_back(Step::Unlink { path, dir: *dir, absent_fine: true });
        }
        script.steps.push_back(Step::Unlink { path: c_path(&home), dir: true, absent_fine: true });
        let parent = layout::dir(&self.root, Dir::Partitions(log.topic_id));
        sync_dir(&mut script, &parent, slot);
        script.slot = Some((slot, false));
        script
    }

    /// `IoRequest::SyncDir`.
    pub(crate) fn sync(&self, id: IoId, dir: Dir, slot: u32) -> Script {
        let mut script = Script::new(id);
        self.make_durable(&mut script, &layout::dir(&self.root, dir), slot);
        if let Dir::Log(key) = dir {
            let dropped = layout::dropped(&self.root, key);
            if self.made.contains(&dropped) {
                sync_dir(&mut script, &dropped, slot);
            }
        }
        script.slot = Some((slot, false));
        script
    }

    /// `IoRequest::ReadSmall`.
    pub(crate) fn read_small(&self, id: IoId, file: SmallFile, slot: u32) -> Script {
        let (dir, name) = layout::small(&self.root, file);
        let mut script = Script::new(id);
        let path = c_path(&dir.join(name));
        script.steps.push_back(Step::Open { path, flags: libc::O_RDONLY, slot, skip: Some(2) });
        script.steps.push_back(Step::ReadBody { slot });
        script.steps.push_back(Step::Close { slot });
        script.cleanup.push(Step::Close { slot });
        script.answer = IoOk::Small(None);
        script.slot = Some((slot, false));
        script
    }

    /// `IoRequest::WriteSmall` (P7).
    pub(crate) fn write_small(
        &self,
        id: IoId,
        file: SmallFile,
        body: Vec<u8>,
        slot: u32,
    ) -> Script {
        let (dir, name) = layout::small(&self.root, file);
        let temporary = dir.join(format!("{name}{}", layout::TEMPORARY));
        let mut script = Script::new(id);
        self.make_dirs(&mut script, &dir);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        script.steps.push_back(Step::Open { path: c_path(&temporary), flags, slot, skip: None });
        script.steps.push_back(Step::WriteBody { slot, at: 0 });
        script.steps.push_back(Step::Sync { slot, data: false });
        script.steps.push_back(Step::Close { slot });
        let to = c_path(&dir.join(name));
        script.steps.push_back(Step::Rename { from: c_path(&temporary), to });
        self.make_durable(&mut script, &dir, slot);
        script.cleanup.push(Step::Close { slot });
        script.cleanup.push(unlink(&temporary, true));
        script.body = body;
        script.slot = Some((slot, false));
        script
    }

    /// `IoRequest::RemoveSmall`.
    pub(crate) fn remove_small(&self, id: IoId, file: SmallFile, slot: u32) -> Script {
        let (dir, name) = layout::small(&self.root, file);
        let mut script = Script::new(id);
        script.steps.push_back(unlink(&dir.join(name), true));
        sync_dir(&mut script, &dir, slot);
        script.slot = Some((slot, false));
        script
    }

    fn make_dirs(&self, script: &mut Script, path: &Path) {
        if self.made.contains(path) {
            return;
        }
        for dir in layout::below_root(&self.root, path) {
            script.steps.push_back(Step::MakeDir(c_path(&dir)));
        }
        script.proofs.push(Proof::Made(path.to_owned()));
    }

    /// The directory itself, and all its parents the first time: another shard may have made them and
    /// not synced them yet.
    fn make_durable(&self, script: &mut Script, path: &Path, slot: u32) {
        sync_dir(script, path, slot);
        if path == self.root || self.durable.contains(path) {
            return;
        }
        for dir in layout::below_root(&self.root, path).iter().rev().skip(1) {
            sync_dir(script, dir, slot);
        }
        sync_dir(script, &self.root, slot);
        script.proofs.push(Proof::Durable(path.to_owned()));
    }
}

fn grow(script: &mut Script, slot: u32, from: u64, to: u64, zero: bool) {
    script.steps.push_back(Step::Allocate { slot, from, to });
    if zero {
        script.steps.push_back(Step::Zeros { slot, at: from, to });
    }
    script.steps.push_back(Step::Sync { slot, data: true });
}

fn unlink(path: &Path, absent_fine: bool) -> Step {
    Step::Unlink { path: c_path(path), dir: false, absent_fine }
}

/// An absent directory has nothing to sync.
fn sync_dir(script: &mut Script, path: &Path, slot: u32) {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    script.steps.push_back(Step::Open { path: c_path(path), flags, slot, skip: Some(2) });
    script.steps.push_back(Step::Sync { slot, data: false });
    script.steps.push_back(Step::Close { slot });
}

fn c_path(path: &Path) -> CString {
    // Paths are numbers below a directory that was opened under its name: no zero byte in them.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}
