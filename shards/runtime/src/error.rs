//! Why a start fails and why a running shard ends, each in one line with its remedy.
//! Owner: nobody, plain values.
//! Invariant: every `StartError` has an exit code of sysexits: 78 configuration, 75 try again.
//! Not here: what is printed (`boot.rs`).

use std::net::SocketAddr;
use std::path::PathBuf;

/// Something outside this process keeps it from starting. None is transient but [`StartError::PortTaken`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Kernel too old.
    #[error("this kernel is Linux {running}, Ringway needs {needed} or newer: boot a newer kernel")]
    KernelTooOld {
        /// As uname says.
        running: String,
        /// As we need it.
        needed: &'static str,
    },
    /// The kernel refuses a ring to this process.
    #[error("io_uring is refused ({errno}): {remedy}")]
    RingDenied {
        /// The error of io_uring_setup, as text.
        errno: String,
        /// What to change.
        remedy: &'static str,
    },
    /// The ring lacks operations.
    #[error(
        "io_uring of this kernel lacks {missing}: use Linux 6.1 or newer, or lift the restriction on io_uring operations"
    )]
    OpcodesMissing {
        /// Names of the operations.
        missing: String,
    },
    /// Too few descriptors.
    #[error(
        "{available} open files are allowed, at least {needed} are needed: raise the hard limit (ulimit -Hn, LimitNOFILE=)"
    )]
    TooFewFiles {
        /// Hard limit.
        available: u64,
        /// Least number that works.
        needed: u64,
    },
    /// The data directory cannot be made or written.
    #[error(
        "data directory {path} cannot be used: {cause}; give a directory this user may write with --data-dir"
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's error.
        cause: String,
    },
    /// Others may read or write the data directory.
    #[error(
        "data directory {path} has mode {mode:04o}: only its owner may enter it (chmod 700 {path})"
    )]
    DirectoryMode {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process holds the lock.
    #[error(
        "data directory {path} is in use by process {pid}: stop it, or give another --data-dir"
    )]
    DirectoryInUse {
        /// Which.
        path: PathBuf,
        /// Holder, `unknown` when it cannot be told.
        pid: String,
    },
    /// No O_DIRECT and the configuration insists.
    #[error(
        "the file system of {path} has no O_DIRECT and direct_io = \"require\": use ext4 or XFS, or direct_io = \"auto\""
    )]
    DirectIoMissing {
        /// Which.
        path: PathBuf,
    },
    /// Somebody listens there already (may go away: exit 75).
    #[error(
        "{address} is taken by another process: stop it, or choose another address for {listener}"
    )]
    PortTaken {
        /// Where.
        address: SocketAddr,
        /// Name of the listener, e.g. `--kafka`.
        listener: String,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address} for {listener}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Name of the listener.
        listener: String,
        /// The system's error.
        cause: String,
    },
    /// The block arena cannot be mapped.
    #[error("cannot reserve {bytes} bytes of block memory: {cause}; lower memory_bytes_max")]
    Memory {
        /// Wanted.
        bytes: usize,
        /// The system's error.
        cause: String,
    },
    /// A list of cores that makes no sense here.
    #[error("cores {given:?}: {cause}")]
    Cores {
        /// As given.
        given: String,
        /// What is wrong.
        cause: String,
    },
}

impl StartError {
    /// Exit code: 75 when waiting may help, else 78.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, StartError::PortTaken { .. }) { 75 } else { 78 }
    }
}

/// Why a shard ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not even begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The ring itself failed.
    #[error("shard {shard}: io_uring failed: {cause}")]
    Ring {
        /// Which shard.
        shard: u32,
        /// The system's error.
        cause: String,
    },
}
