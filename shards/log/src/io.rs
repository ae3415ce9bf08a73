//! The seam: what the log asks of a disk and what a disk answers. Plain data, no trait.
//! Owner: `Logs` makes requests; `runtime/disk.rs` and `sim/disk.rs` carry them out.
//! Invariant: the contract C1–C10 of `docs/testing.md` holds for both disks alike.
//! Not here: how it is done (io_uring, virtual time).

use crate::blocks::Slice;
use ringway_wire::ids::LogKey;
use std::ops::Range;

/// The time of a step: the only clock that logic ever sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds: everything that ages.
    pub mono_ns: u64,
    /// Wall-clock nanoseconds since 1970: record times and retention only.
    pub wall_ns: u64,
}

impl Now {
    /// Wall clock in Kafka's milliseconds.
    #[must_use]
    pub fn wall_ms(self) -> i64 {
        i64::try_from(self.wall_ns / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// Names one request of one shard; never reused within a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// A file the disk holds open for this shard (a slot of its registered-file table). Chosen by the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A segment's place: `t/<topic_id>/p/<partition>/<base_offset:020>.seg` below the log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The log it belongs to.
    pub log: LogKey,
    /// Offset of its first record, and its file name.
    pub base_offset: u64,
}

/// A directory that can be listed or synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dir {
    /// The log directory itself.
    Root,
    /// `checkpoints/`.
    Checkpoints,
    /// `t/`: names are topic ids.
    Topics,
    /// `t/<topic_id>/p/`: names are partitions.
    Partitions(u64),
    /// `t/<topic_id>/p/<partition>/`: segments, their `.idx`, and the log's small files.
    Log(LogKey),
}

/// A file written whole or not at all: temporary name, fsync, rename, sync of its directory (P7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SmallFile {
    /// `meta`: uuid, format version, block, start counter, secret.
    Meta,
    /// `clean`: the clean-shutdown marker.
    CleanMarker,
    /// `checkpoints/shard-<shard>.<generation>`.
    Checkpoint {
        /// Shard that wrote it (of the life that wrote it).
        shard: u32,
        /// Rising number; never reused by that shard number.
        generation: u64,
    },
    /// `snapshot` in the log's directory.
    Snapshot(LogKey),
    /// `quarantine` in the log's directory.
    Quarantine(LogKey),
    /// `partition.meta` in the log's directory: topic uuid, name, topic_id, partition.
    PartitionMeta(LogKey),
}

/// What the log asks of the disk. Every request is answered by exactly one [`IoDone`] with its id.
/// Offsets, memory offsets and lengths of `Write` and `Read` are multiples of the directory's block.
#[derive(Clone, Debug)]
pub enum IoRequest {
    /// Gathered write of `data` (a range of [`IoOut::slices`]) at `at`. `durable`: completes only once
    /// these bytes are on stable storage (RWF_DSYNC). The disk holds the slices until done, then they
    /// are the requester's again (the disk does not release them).
    Write {
        /// Request.
        id: IoId,
        /// Open file.
        file: FileId,
        /// Byte position in the file.
        at: u64,
        /// Into `IoOut::slices`, in file order.
        data: Range<u32>,
        /// Durable on completion.
        durable: bool,
    },
    /// Reads `into.end - into.start` bytes; nobody looks at the target before the answer.
    Read {
        /// Request.
        id: IoId,
        /// Open file.
        file: FileId,
        /// Byte position in the file.
        at: u64,
        /// Target; one hold belongs to the requester throughout.
        into: Slice,
    },
    /// fdatasync: covers exactly the writes completed before it was submitted (C2).
    Flush {
        /// Request.
        id: IoId,
        /// Open file.
        file: FileId,
    },
    /// Creates a segment under a temporary name (and its directories), allocates `bytes` of zeros
    /// (written out when `zero`, else merely allocated) and makes the file durable. Answer: `File`.
    Prepare {
        /// Request.
        id: IoId,
        /// The name it will get by `Adopt`.
        name: SegmentName,
        /// Bytes allocated: its first extent.
        bytes: u64,
        /// Zeroed by writes, so that later small writes need no journal.
        zero: bool,
    },
    /// Renames a prepared file to its final name. Durable only after `SyncDir(Log)`.
    Adopt {
        /// Request.
        id: IoId,
        /// From `Prepare`.
        file: FileId,
        /// Final name.
        name: SegmentName,
    },
    /// Grows a segment: bytes `from..to` allocated (zeroed when `zero`), size durable on completion.
    Extend {
        /// Request.
        id: IoId,
        /// Open file.
        file: FileId,
        /// Old size.
        from: u64,
        /// New size.
        to: u64,
        /// Zeroed by writes.
        zero: bool,
    },
    /// Cuts a sealed segment's unused space off behind `bytes`.
    Trim {
        /// Request.
        id: IoId,
        /// Open file.
        file: FileId,
        /// New size.
        bytes: u64,
    },
    /// Opens an existing segment. Answer: `File` with its size; ENOENT when absent.
    Open {
        /// Request.
        id: IoId,
        /// Which.
        name: SegmentName,
    },
    /// Gives a file back. No writes may be in flight on it.
    Close {
        /// Request.
        id: IoId,
        /// Which.
        file: FileId,
    },
    /// Removes a segment's name. Durable only after `SyncDir`.
    Unlink {
        /// Request.
        id: IoId,
        /// Which.
        name: SegmentName,
    },
    /// Renames a segment into `dropped/` of its log (P9). Durable only after `SyncDir`.
    SetAside {
        /// Request.
        id: IoId,
        /// Which.
        name: SegmentName,
    },
    /// Removes the directory of a deleted log with everything in it.
    RemoveLog {
        /// Request.
        id: IoId,
        /// Which.
        log: LogKey,
    },
    /// fsync of a directory and of every parent made anew since.
    SyncDir {
        /// Request.
        id: IoId,
        /// Which.
        dir: Dir,
    },
    /// Names in a directory (an absent one has none). Answer: `Names`.
    List {
        /// Request.
        id: IoId,
        /// Which.
        dir: Dir,
    },
    /// Reads a small file whole (≤ [`SMALL_FILE_BYTES_MAX`]). Answer: `Small(None)` when absent.
    ReadSmall {
        /// Request.
        id: IoId,
        /// Which.
        file: SmallFile,
    },
    /// Replaces a small file atomically and durably (P7, its `SyncDir` included).
    WriteSmall {
        /// Request.
        id: IoId,
        /// Which.
        file: SmallFile,
        /// New content.
        body: Vec<u8>,
    },
    /// Removes a small file; durable on completion. Absent is fine.
    RemoveSmall {
        /// Request.
        id: IoId,
        /// Which.
        file: SmallFile,
    },
}

impl IoRequest {
    /// Whose answer it will be.
    #[must_use]
    pub fn id(&self) -> IoId {
        match self {
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
}

/// Small files larger than this are refused as damaged.
pub const SMALL_FILE_BYTES_MAX: usize = 64 << 20;

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct IoDone {
    /// Whose.
    pub id: IoId,
    /// Outcome; `Err` holds the errno.
    pub result: Result<IoOk, Errno>,
    /// Flushes of this log directory that have failed in this life, whoever asked for them, as the disk
    /// knows when it hands this answer over (C10): a durable write, a `Flush`, or the flush inside
    /// another request. Every shard of the directory is told the same count; it never falls.
    pub flush_failures: u64,
}

/// A positive errno of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match *self {
            EIO => " (EIO, device error)",
            EFBIG => " (EFBIG, file size limit)",
            ENOSPC => " (ENOSPC, no space left)",
            EROFS => " (EROFS, file system is read-only)",
            EDQUOT => " (EDQUOT, quota used up)",
            _ => "",
        };
        write!(f, "errno {}{name}", self.0)
    }
}

/// No such file.
pub const ENOENT: Errno = Errno(2);
/// Device error.
pub const EIO: Errno = Errno(5);
/// The file would grow beyond a limit of the process or the file system.
pub const EFBIG: Errno = Errno(27);
/// No space left.
pub const ENOSPC: Errno = Errno(28);
/// The file system took no more writes, as ext4 does after an error.
pub const EROFS: Errno = Errno(30);
/// The quota is used up: to a writer the same as a full disk.
pub const EDQUOT: Errno = Errno(122);

/// What a successful request brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoOk {
    /// `Flush`, `Adopt`, `Extend`, `Trim`, `Close`, `Unlink`, `SetAside`, `RemoveLog`, `SyncDir`, `WriteSmall`, `RemoveSmall`.
    Done,
    /// `Write`, `Read`: bytes moved; fewer than asked is a short transfer (P11).
    Bytes(u32),
    /// `Prepare`, `Open`.
    File {
        /// Slot of the file.
        file: FileId,
        /// Its size.
        bytes: u64,
    },
    /// `List`: plain names, in no order.
    Names(Vec<String>),
    /// `ReadSmall`.
    Small(Option<Vec<u8>>),
}

/// Requests of one turn, reused from turn to turn.
#[derive(Debug, Default)]
pub struct IoOut {
    /// In order of submission; nothing is promised about order of completion (C3).
    pub requests: Vec<IoRequest>,
    /// Gather lists of the writes.
    pub slices: Vec<Slice>,
}

impl IoOut {
    /// Empties both lists, keeps their memory.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.slices.clear();
    }
}
