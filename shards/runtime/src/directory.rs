#![expect(clippy::disallowed_methods, reason = "opens the data directory before any shard runs")]
//! The data directory: made, locked, probed, before any shard starts.
//! Owner: `boot.rs`, for the life of the process.
//! Invariant: the lock outlives the last write in flight (its descriptor is in every ring).
//! Not here: what lies in it (`ringway-log`).

use crate::error::StartError;
use crate::layout::TEMPORARY;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

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
    /// Failed flushes of this life, raised by the shard that reaps one and read by all (P12): the one
    /// word shards share.
    pub flush_failures: Arc<AtomicU64>,
}

/// How long a held lock is waited for: a killed predecessor's writes may still be in flight.
pub const LOCK_WAIT: Duration = Duration::from_millis(4_500);
const LOCK_RETRY: Duration = Duration::from_millis(10);
const LOCK_FILE: &str = "lock";
/// Smallest block ever used, and the largest that still divides a pooled block.
const BLOCK_MIN: u64 = 4096;
const BLOCK_MAX: u64 = 65536;
/// How deep temporary files can lie: `t/<topic>/p/<partition>/`.
const DEPTH_MAX: usize = 5;

/// Makes (0700), locks and probes the directory; removes temporary files of an earlier life.
///
/// # Errors
/// When it cannot be made or written, is entered by others, is in use for [`LOCK_WAIT`], or has no
/// O_DIRECT with [`DirectIo::Require`].
pub fn open_data_directory(path: &Path, direct_io: DirectIo) -> Result<DataDirectory, StartError> {
    open_within(path, direct_io, LOCK_WAIT)
}

fn open_within(
    path: &Path,
    direct_io: DirectIo,
    lock_wait: Duration,
) -> Result<DataDirectory, StartError> {
    let unusable =
        |error: Error| StartError::Directory { path: path.to_owned(), cause: error.to_string() };
    if path.is_file() {
        return Err(unusable(Error::other("it is a file, no directory")));
    }
    make(path).map_err(unusable)?;
    let path = path.canonicalize().map_err(unusable)?;
    check_owner(&path)?;
    let lock = lock(&path, lock_wait)?;
    remove_temporary(&path, 0).map_err(unusable)?;
    let can_direct = direct_io != DirectIo::Off && probe_direct(&path).map_err(unusable)?;
    if direct_io == DirectIo::Require && !can_direct {
        return Err(StartError::DirectIoMissing { path });
    }
    let device_block = std::fs::metadata(&path).map_err(unusable)?.blksize();
    let block = device_block.next_power_of_two().clamp(BLOCK_MIN, BLOCK_MAX);
    let block = u32::try_from(block).unwrap_or(u32::MAX);
    let (lock, flush_failures) = (Arc::new(lock), Arc::default());
    Ok(DataDirectory { path, lock, direct_io: can_direct, block, flush_failures })
}

/// Makes the directory and durable entries for every parent made anew.
fn make(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    if !parent.exists() {
        make(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

fn check_owner(path: &Path) -> Result<(), StartError> {
    let unusable = |cause: String| StartError::Directory { path: path.to_owned(), cause };
    let facts = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    let me = std::fs::metadata("/proc/self").map_or(facts.uid(), |own| own.uid());
    if facts.uid() != me {
        return Err(unusable(format!("it belongs to user {}, this is user {me}", facts.uid())));
    }
    let mode = facts.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    // An empty one was made for us by somebody with an ordinary umask: take it.
    let empty = std::fs::read_dir(path).is_ok_and(|mut names| names.next().is_none());
    if empty && std::fs::set_permissions(path, Permissions::from_mode(0o700)).is_ok() {
        return Ok(());
    }
    Err(StartError::DirectoryMode { path: path.to_owned(), mode })
}

#[expect(clippy::disallowed_methods, reason = "waits for a lock before any shard runs")]
fn lock(path: &Path, wait: Duration) -> Result<OwnedFd, StartError> {
    let unusable =
        |error: Error| StartError::Directory { path: path.to_owned(), cause: error.to_string() };
    let name = path.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&name).map_err(unusable)?;
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
            Err(TryLockError::WouldBlock) if asked.elapsed() < wait => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = (&file).take(20).read_to_string(&mut pid);
                let told = read.is_ok() && pid.trim().parse::<u32>().is_ok();
                let pid = if told { pid.trim().to_owned() } else { "unknown".to_owned() };
                return Err(StartError::DirectoryInUse { path: path.to_owned(), pid });
            }
        }
    }
    file.set_len(0).map_err(unusable)?;
    writeln!(file, "{}", std::process::id()).map_err(unusable)?;
    Ok(OwnedFd::from(file))
}

/// Start step 7: what an earlier life began and did not finish has no meaning.
fn remove_temporary(path: &Path, depth: usize) -> Result<(), Error> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEPTH_MAX {
            remove_temporary(&entry.path(), depth + 1)?;
        } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes one block with O_DIRECT: an open alone succeeds on file systems that refuse the write.
fn probe_direct(path: &Path) -> Result<bool, Error> {
    let name = path.join(format!("direct{TEMPORARY}"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_DIRECT);
    let written = match options.open(&name) {
        Err(error) => Err(error),
        Ok(mut file) => {
            let block = usize::try_from(BLOCK_MIN).unwrap_or(0);
            let memory = vec![0u8; 2 * block];
            let start = memory.as_ptr().align_offset(block);
            file.write_all(&memory[start..start + block])
        }
    };
    // With EINVAL the file may exist all the same.
    drop(std::fs::remove_file(&name));
    match written {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_with_its_parents() {
        let temp = tempfile::tempdir().expect("temp dir");
        let path = temp.path().join("a/b");
        let open = open_data_directory(&path, DirectIo::Auto).expect("opens");
        assert_eq!(std::fs::metadata(&open.path).expect("exists").mode() & 0o777, 0o700);
        assert!(open.block >= 4096 && open.block.is_power_of_two());
    }

    #[test]
    fn a_held_lock_names_the_holder() {
        let temp = tempfile::tempdir().expect("temp dir");
        let first = open_data_directory(temp.path(), DirectIo::Auto).expect("opens");
        let wait = Duration::from_millis(30);
        let error = open_within(temp.path(), DirectIo::Auto, wait).expect_err("in use");
        assert_eq!(error.exit_code(), 78);
        let pid = std::process::id().to_string();
        assert!(error.to_string().contains(&pid), "{error}");
        drop(first);
        open_within(temp.path(), DirectIo::Auto, wait).expect("free again");
    }

    #[test]
    fn a_directory_others_may_enter_is_refused_unless_empty() {
        let temp = tempfile::tempdir().expect("temp dir");
        let open_to_all = Permissions::from_mode(0o755);
        std::fs::set_permissions(temp.path(), open_to_all.clone()).expect("chmod");
        drop(open_data_directory(temp.path(), DirectIo::Auto).expect("empty: taken"));
        std::fs::set_permissions(temp.path(), open_to_all).expect("chmod");
        let error = open_data_directory(temp.path(), DirectIo::Auto).expect_err("mode");
        assert!(error.to_string().contains("0755"), "{error}");
    }

    #[test]
    fn a_path_that_is_no_directory_is_refused() {
        let temp = tempfile::tempdir().expect("temp dir");
        let file = temp.path().join("file");
        std::fs::write(&file, b"x").expect("file");
        let error = open_data_directory(&file.join("sub"), DirectIo::Auto).expect_err("file");
        assert_eq!(error.exit_code(), 78);
        let error = open_data_directory(&file, DirectIo::Auto).expect_err("file");
        assert_eq!(error.exit_code(), 78);
        assert!(error.to_string().contains("it is a file, no directory"), "{error}");
    }

    #[test]
    fn temporary_files_of_an_earlier_life_go() {
        let temp = tempfile::tempdir().expect("temp dir");
        let log = temp.path().join("t/1/p/0");
        std::fs::create_dir_all(&log).expect("dirs");
        std::fs::set_permissions(temp.path(), Permissions::from_mode(0o700)).expect("chmod");
        std::fs::write(log.join("00.5.tmp"), b"x").expect("file");
        std::fs::write(log.join("00.seg"), b"x").expect("file");
        open_data_directory(temp.path(), DirectIo::Auto).expect("opens");
        assert!(!log.join("00.5.tmp").exists() && log.join("00.seg").exists());
    }
}
