#![expect(unsafe_code, reason = "io_uring, eventfd and limits are system calls on raw memory")]
//! One shard's io_uring, its receive buffers, and the eventfd.
//! Owner: the shard loop.
//! Invariant: memory named in an operation lives until its completion was reaped.
//! Not here: what operations are for (`disk.rs`, `net.rs`).

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Operations queued between two submissions; a turn that needs more submits in between.
pub const SUBMISSIONS: u32 = 1024;
/// Completions the kernel may post between two reaps without taking its slow path.
pub const COMPLETIONS: u32 = 8192;

/// What an operation was for: its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nobody cares, but it is waited for at the end.
    Ignored = 0,
    /// Accept on listener `index`.
    Accept,
    /// Receive of connection `index`.
    Receive,
    /// Send of connection `index`.
    Send,
    /// Write, read or flush `index` of the disk.
    Transfer,
    /// Step of script `index` of the disk.
    Script,
    /// Read of the control plane's eventfd.
    Control,
    /// Posted into this ring by another shard; no operation of ours.
    Woken,
}

const KINDS: [Kind; 8] = [
    Kind::Ignored,
    Kind::Accept,
    Kind::Receive,
    Kind::Send,
    Kind::Transfer,
    Kind::Script,
    Kind::Control,
    Kind::Woken,
];

/// User data of an operation.
#[must_use]
pub fn tag(kind: Kind, index: u32) -> u64 {
    (kind as u64) << 32 | u64::from(index)
}

/// One reaped completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// What for.
    pub kind: Kind,
    /// Which.
    pub index: u32,
    /// Result or negative errno.
    pub result: i32,
    /// More completions of the same operation will come.
    pub more: bool,
    /// Receive buffer used.
    pub buffer: Option<u16>,
}

/// How completions reach the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRun {
    /// DEFER_TASKRUN: the kernel's share of the work runs when the loop waits, never in between.
    Deferred,
    /// COOP_TASKRUN: it runs at any system call.
    Cooperative,
}

/// One shard's ring.
pub struct Ring {
    inner: IoUring,
    in_flight: u64,
    unsubmitted: bool,
    /// Calls of io_uring_enter since start.
    pub enters: u64,
    /// Operations queued since start.
    pub sqes: u64,
    /// Completions reaped since start.
    pub cqes: u64,
}

impl Ring {
    /// A ring for this very thread, with a sparse table of `files` registered descriptors.
    ///
    /// # Errors
    /// When the kernel refuses it: see `probe.rs` for causes and remedies.
    pub fn new(mode: TaskRun, files: u32) -> Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_clamp().setup_submit_all().setup_single_issuer();
        match mode {
            TaskRun::Deferred => builder.setup_defer_taskrun().setup_taskrun_flag(),
            TaskRun::Cooperative => builder.setup_coop_taskrun().setup_taskrun_flag(),
        };
        let inner = builder.build(SUBMISSIONS)?;
        if files > 0 {
            inner.submitter().register_files_sparse(files)?;
        }
        // Spares the descriptor look-up of each enter; older kernels go without.
        drop(inner.submitter().register_ring_fd());
        Ok(Ring { inner, in_flight: 0, unsubmitted: false, enters: 0, sqes: 0, cqes: 0 })
    }

    /// Names of those operations of `wanted` that this kernel does not have.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn missing(&self, wanted: &[(&'static str, u8)]) -> Result<Vec<&'static str>> {
        let mut probe = Probe::new();
        self.inner.submitter().register_probe(&mut probe)?;
        let missing = wanted.iter().filter(|(_, code)| !probe.is_supported(*code));
        Ok(missing.map(|(name, _)| *name).collect())
    }

    /// Puts a descriptor into a slot of the table; the kernel keeps a reference of its own.
    ///
    /// # Errors
    /// When the slot does not exist.
    pub fn register_file(&self, slot: u32, fd: BorrowedFd<'_>) -> Result<()> {
        self.inner.submitter().register_files_update(slot, &[fd.as_raw_fd()]).map(drop)
    }

    /// Has the kernel signal `event` at every completion.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn register_event(&self, event: &EventFd) -> Result<()> {
        self.inner.submitter().register_eventfd(event.as_raw_fd())
    }

    /// Switches signalling of the registered event.
    pub fn signal_event(&mut self, on: bool) {
        let completions = self.inner.completion();
        if on { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    /// Queues an operation; it starts with the next submission.
    ///
    /// # Safety
    /// All memory the entry points to must stay valid, and be touched by nobody where the kernel writes,
    /// until its last completion was reaped.
    ///
    /// # Panics
    /// When the kernel takes no operation from a full queue for good.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) {
        self.in_flight += 1;
        self.sqes += 1;
        self.unsubmitted = true;
        for _ in 0..SUBMIT_TRIES {
            // SAFETY: passed on to our caller.
            let pushed = unsafe { self.inner.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            drop(self.submit());
        }
        panic!("the kernel takes no more operations");
    }

    /// Wakes the shard that sleeps in the ring `fd`.
    pub fn wake(&mut self, fd: RawFd) {
        let wake = opcode::MsgRingData::new(Fd(fd), 0, tag(Kind::Woken, 0), None);
        // SAFETY: the operation names no memory.
        unsafe { self.push(&wake.build().user_data(tag(Kind::Ignored, 0))) };
    }

    /// Accepts connections of a listener until it is cancelled: a completion with a new descriptor each.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, user_data: u64) {
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        // SAFETY: the operation names no memory.
        unsafe { self.push(&accept.build().user_data(user_data)) };
    }

    /// Reads an eventfd into `count` once it is signalled: a completion of [`Kind::Control`].
    pub fn read_event(&mut self, event: BorrowedFd<'_>, count: &mut Box<u64>) {
        let target: *mut u64 = &raw mut **count;
        let read = opcode::Read::new(Fd(event.as_raw_fd()), target.cast(), 8);
        // SAFETY: the count is boxed and lives as long as the loop, which ends when nothing is in flight.
        unsafe { self.push(&read.build().user_data(tag(Kind::Control, 0))) };
    }

    /// Asks the kernel to cancel every operation in flight.
    pub fn cancel_all(&mut self) {
        let cancel = opcode::AsyncCancel2::new(io_uring::types::CancelBuilder::any().all());
        // SAFETY: the operation names no memory.
        unsafe { self.push(&cancel.build().user_data(tag(Kind::Ignored, 0))) };
    }

    /// Asks the kernel to cancel the operations with this user data.
    pub fn cancel(&mut self, user_data: u64) {
        let cancel = opcode::AsyncCancel::new(user_data);
        // SAFETY: the operation names no memory.
        unsafe { self.push(&cancel.build().user_data(tag(Kind::Ignored, 0))) };
    }

    /// Starts what was queued; waits for nothing.
    ///
    /// # Errors
    /// When the ring is broken.
    pub fn submit(&mut self) -> Result<()> {
        self.enters += 1;
        let entered = self.inner.submit();
        self.entered(entered)
    }

    /// Whether an enter is due: something is queued, or the kernel has work that only an enter does.
    pub fn wants_enter(&mut self) -> bool {
        let submission = self.inner.submission();
        self.unsubmitted || submission.taskrun() || submission.cq_overflow()
    }

    /// Starts what was queued, then sleeps until a completion is there or `timeout` has passed.
    ///
    /// # Errors
    /// When the ring is broken.
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.enters += 1;
        let entered = match timeout {
            None => self.inner.submit_and_wait(1),
            Some(timeout) => {
                let time = Timespec::from(timeout);
                self.inner.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        self.entered(entered)
    }

    fn entered(&mut self, entered: Result<usize>) -> Result<()> {
        match entered {
            Ok(_) => {
                self.unsubmitted = !self.inner.submission().is_empty();
                Ok(())
            }
            // ETIME: the timeout. The others: submit again (P11).
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                self.unsubmitted = !self.inner.submission().is_empty();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Moves all completions there are into `into`.
    pub fn reap(&mut self, into: &mut Vec<Completion>) {
        for entry in self.inner.completion() {
            self.cqes += 1;
            let user_data = entry.user_data();
            let kind = KINDS.get((user_data >> 32) as usize).copied().unwrap_or(Kind::Ignored);
            let more = cqueue::more(entry.flags());
            if !more && kind != Kind::Woken {
                self.in_flight -= 1;
            }
            into.push(Completion {
                kind,
                index: (user_data & u64::from(u32::MAX)) as u32,
                result: entry.result(),
                more,
                buffer: cqueue::buffer_select(entry.flags()),
            });
        }
    }

    /// Whether completions wait to be reaped.
    pub fn has_completions(&mut self) -> bool {
        !self.inner.completion().is_empty()
    }

    /// Operations whose last completion was not reaped yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The ring's own descriptor, for [`Ring::wake`] of others.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Submissions tried to make room for one operation.
const SUBMIT_TRIES: usize = 1000;

/// Group number of the receive buffers.
pub const RECEIVE_GROUP: u16 = 0;

/// The ring of buffers from which the kernel takes one per receive.
pub struct BufferRing {
    entries: NonNull<BufRingEntry>,
    count: u16,
    tail: u16,
    /// Block lent under each buffer number.
    lent: Vec<Option<u32>>,
    free: Vec<u16>,
}

impl BufferRing {
    /// Registers room for `count` buffers (a power of two) with `ring`.
    ///
    /// # Errors
    /// When memory or the kernel refuses.
    pub fn new(ring: &Ring, count: u16) -> Result<BufferRing> {
        assert!(count.is_power_of_two(), "{count} buffers");
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let memory = map(bytes.next_multiple_of(4096))?;
        let entries = memory.cast::<BufRingEntry>();
        // SAFETY: `entries` is page-aligned, zeroed, large enough and never unmapped.
        unsafe {
            ring.inner.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                count,
                RECEIVE_GROUP,
                0,
            )?;
        }
        let lent = vec![None; usize::from(count)];
        Ok(BufferRing { entries, count, tail: 0, lent, free: (0..count).rev().collect() })
    }

    /// How many buffers are lent.
    #[must_use]
    pub fn lent(&self) -> usize {
        usize::from(self.count) - self.free.len()
    }

    /// Lends `memory` of `block` to the kernel until [`BufferRing::taken`] gives it back.
    ///
    /// # Safety
    /// `memory` must stay valid, and be touched by nobody, until then.
    ///
    /// # Panics
    /// When all buffers are lent.
    pub unsafe fn lend(&mut self, block: u32, memory: &mut [u8]) {
        let buffer = self.free.pop().expect("a free buffer number");
        self.lent[usize::from(buffer)] = Some(block);
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is below the number of entries that were mapped.
        let slot = unsafe { self.entries.add(index) };
        // SAFETY: the kernel reads this entry only once the tail has passed it.
        let entry = unsafe { &mut *slot.as_ptr() };
        entry.set_addr(memory.as_mut_ptr() as u64);
        entry.set_len(u32::try_from(memory.len()).unwrap_or(u32::MAX));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes what was lent visible to the kernel.
    pub fn publish(&mut self) {
        // SAFETY: `entries` is the base of the mapped ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the kernel reads the tail atomically; it is aligned and lives as long as the ring.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The block behind a buffer number of a completion.
    ///
    /// # Panics
    /// When the kernel names a buffer it was not lent.
    pub fn taken(&mut self, buffer: u16) -> u32 {
        let block = self.lent[usize::from(buffer)].take().expect("a buffer that was lent");
        self.free.push(buffer);
        block
    }
}

/// Fresh zeroed memory that lives as long as the process.
///
/// # Errors
/// When there is none.
pub(crate) fn map(bytes: usize) -> Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    NonNull::new(memory.cast()).ok_or_else(|| Error::from(ErrorKind::OutOfMemory))
}

/// Raises the limit of open files to what is allowed and returns it.
///
/// # Errors
/// When the kernel does not answer.
pub fn raise_file_limit() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and of the right type.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: `raised` is ours and of the right type.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
    Ok(if set == 0 { raised.rlim_cur } else { limit.rlim_cur })
}

/// An eventfd: a counter that makes its descriptor readable.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// A new one for a thread that reads it itself, without blocking.
    ///
    /// # Errors
    /// When the process may not open another descriptor.
    pub fn new() -> Result<EventFd> {
        EventFd::with(libc::EFD_NONBLOCK)
    }

    /// A new one for a ring: only a blocking descriptor makes a read wait there.
    ///
    /// # Errors
    /// When the process may not open another descriptor.
    pub fn for_ring() -> Result<EventFd> {
        EventFd::with(0)
    }

    fn with(flags: i32) -> Result<EventFd> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) };
        if fd < 0 {
            return Err(Error::last_os_error());
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

    /// Makes it unreadable. Not for one that was made for a ring.
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
