//! The data directory: made, locked, probed, before any shard starts.
//! Owner: `boot.rs`, for the life of the process.
//! Invariant: the lock outlives the last write in flight (its descriptor is in every ring).
//! Not here: what lies in it (`ringway-log`).

use crate::error::StartError;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether files are opened with O_DIRECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectIo {
    /// When the file system can.
    #[default]
    Auto,
    /// Refuse to start without.
    Require,
    /// Never.
    Off,
}

/// An open, locked data directory.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    /// Where.
    pub path: PathBuf,
    /// Held until the last clone goes and the last write is done.
    pub lock: Arc<OwnedFd>,
    /// Whether its files are opened with O_DIRECT; without, writes go through the page cache and every
    /// flush is still a flush.
    pub direct_io: bool,
    /// Block for a new directory: what its device writes at once, at least 4096.
    pub block: u32,
}

/// How long a held lock is waited for: a killed predecessor's writes may still be in flight.
pub const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes (0700), locks and probes the directory; removes temporary files of an earlier life.
///
/// # Errors
/// When it cannot be made or written, is entered by others, is in use for [`LOCK_WAIT`], or has no
/// O_DIRECT with [`DirectIo::Require`].
pub fn open_data_directory(path: &Path, direct_io: DirectIo) -> Result<DataDirectory, StartError> {
    let _ = direct_io;
    let cause = "not built".to_owned();
    Err(StartError::Directory { path: path.to_owned(), cause })
}
