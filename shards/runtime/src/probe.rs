//! Whether this kernel and this process can run shards at all; checked before anything is touched.
//! Owner: `boot.rs`, once; `ringway doctor`.
//! Invariant: a refusal names its cause and its remedy in one line.
//! Not here: the data directory, ports.

use crate::error::StartError;
use crate::ring::{Ring, TaskRun, raise_file_limit};
use io_uring::opcode;

/// Oldest kernel that has DEFER_TASKRUN and all operations in use.
const KERNEL_NEEDED: (u32, u32) = (6, 1);
const KERNEL_NEEDED_TEXT: &str = "6.1";
/// Connections, segments and the rest fit below this only in toys (L13).
const FILES_NEEDED: u64 = 1024;

/// Operations a shard cannot do without.
const OPERATIONS: [(&str, u8); 21] = [
    ("accept", opcode::AcceptMulti::CODE),
    ("recv", opcode::Recv::CODE),
    ("send", opcode::Send::CODE),
    ("sendmsg", opcode::SendMsg::CODE),
    ("read", opcode::Read::CODE),
    ("readv", opcode::Readv::CODE),
    ("write", opcode::Write::CODE),
    ("writev", opcode::Writev::CODE),
    ("fsync", opcode::Fsync::CODE),
    ("fallocate", opcode::Fallocate::CODE),
    ("openat", opcode::OpenAt::CODE),
    ("close", opcode::Close::CODE),
    ("statx", opcode::Statx::CODE),
    ("mkdirat", opcode::MkDirAt::CODE),
    ("renameat", opcode::RenameAt::CODE),
    ("unlinkat", opcode::UnlinkAt::CODE),
    ("cancel", opcode::AsyncCancel2::CODE),
    ("msg_ring", opcode::MsgRingData::CODE),
    ("nop", opcode::Nop::CODE),
    ("timeout", opcode::Timeout::CODE),
    ("poll", opcode::PollAdd::CODE),
];

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
    let kernel = line_of("/proc/sys/kernel/osrelease");
    check_kernel(&kernel)?;
    let files_max = raise_file_limit().unwrap_or(0);
    if files_max < FILES_NEEDED {
        return Err(StartError::TooFewFiles { available: files_max, needed: FILES_NEEDED });
    }
    let ring = Ring::new(TaskRun::Deferred, 1).map_err(|error| denied(&error))?;
    let missing = ring.missing(&OPERATIONS).map_err(|error| denied(&error))?;
    if !missing.is_empty() {
        return Err(StartError::OpcodesMissing { missing: missing.join(", ") });
    }
    Ok(Host { kernel, files_max })
}

/// Cause and remedy of a refused ring.
#[must_use]
pub fn denied(error: &std::io::Error) -> StartError {
    refusal(error, &line_of("/proc/sys/kernel/io_uring_disabled"))
}

fn refusal(error: &std::io::Error, disabled: &str) -> StartError {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if matches!(disabled, "1" | "2") => {
            "the sysctl kernel.io_uring_disabled forbids it; set it to 0 (sysctl -w kernel.io_uring_disabled=0)"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "a seccomp profile forbids it; allow io_uring_setup, io_uring_enter and io_uring_register (docker run --security-opt seccomp=...)"
        }
        Some(libc::ENOSYS) => {
            "this kernel was built without io_uring or a seccomp profile hides it; allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::ENOMEM) => {
            "not enough lockable memory; raise the memlock limit (ulimit -l, LimitMEMLOCK=)"
        }
        Some(libc::EMFILE | libc::ENFILE) => "too many open files; raise LimitNOFILE=",
        _ => "Linux 6.1 or newer with io_uring is needed",
    };
    StartError::RingDenied { errno: error.to_string(), remedy }
}

fn check_kernel(release: &str) -> Result<(), StartError> {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let running = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if running >= KERNEL_NEEDED {
        return Ok(());
    }
    let running = if release.is_empty() { "unknown".to_owned() } else { release.to_owned() };
    Err(StartError::KernelTooOld { running, needed: KERNEL_NEEDED_TEXT })
}

#[expect(clippy::disallowed_methods, reason = "two files of /proc, before any shard runs")]
fn line_of(path: &str) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn an_old_kernel_is_refused_naming_both_versions() {
        for fine in ["6.1.0-18-amd64", "6.18.44", "7.0.0-rc1"] {
            check_kernel(fine).expect("new enough");
        }
        for old in ["6.0.19", "5.15.0-generic", "4.19", ""] {
            let text = check_kernel(old).expect_err("too old").to_string();
            assert!(text.contains(old) && text.contains("6.1"), "{text}");
        }
    }

    #[test]
    fn a_refused_ring_names_the_remedy() {
        let text = |errno, disabled| {
            let refused = refusal(&Error::from_raw_os_error(errno), disabled);
            assert_eq!(refused.exit_code(), 78);
            refused.to_string()
        };
        assert!(text(libc::EPERM, "2").contains("kernel.io_uring_disabled"));
        assert!(text(libc::EPERM, "0").contains("seccomp"));
        assert!(text(libc::ENOSYS, "").contains("seccomp"));
        assert!(text(libc::ENOMEM, "0").contains("memlock"));
        assert!(!text(libc::EPERM, "0").contains('\n'));
    }

    #[test]
    fn this_host_passes_its_own_probe() {
        let host = probe().expect("a host that runs the tests can run shards");
        assert!(host.files_max >= FILES_NEEDED);
    }
}
