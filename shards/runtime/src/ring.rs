#![expect(unsafe_code, reason = "eventfd and io_uring are system calls on raw memory")]
//! One shard's io_uring, and the eventfd.
//! Owner: the shard loop.
//! Invariant: memory named in an operation lives until its completion was reaped.
//! Not here: what operations are for (`disk.rs`, `net.rs`).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// An eventfd: a counter that makes its descriptor readable.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// A new one, non-blocking.
    ///
    /// # Errors
    /// When the process may not open another descriptor.
    pub fn new() -> std::io::Result<EventFd> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else knows it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EventFd(File::from(owned)))
    }

    /// Makes it readable.
    pub fn signal(&self) {
        // Fails only when the counter is at its maximum: then it is readable anyway.
        drop((&self.0).write(&1u64.to_ne_bytes()));
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // Fails when it was unreadable already.
        drop((&self.0).read(&mut count));
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
