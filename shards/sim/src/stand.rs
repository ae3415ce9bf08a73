//! One log alone over the simulated disk, request by request: what the exhaustive modes drive.
//! Owner: `flip.rs`, `damage.rs`, `enumerate.rs`.
//! Invariant: requests are carried out in the order in which they were made; nothing is drawn.
//! Not here: clients and chance (`world.rs`), what must hold (`ledger.rs`).

use crate::clock::{MS, SECOND};
use crate::disk::Disk;
use crate::ledger::{Found, Ledger};
use crate::rng::hash_bytes;
use crate::room::{FrameSeen, see_all, see_kafka};
use ringway_log::blocks::{Blocks, Piece};
use ringway_log::directory::{DirectoryProgress, DirectoryStart, clean_marker};
use ringway_log::io::{IoDone, IoOut, Now, SmallFile};
use ringway_log::logs::{
    AppendError, AppendFacts, Batch, Durability, LogEvent, LogSettings, Logs, LogsConfig,
    ReadFailure, ReadStart, Upkeep,
};
use ringway_log::read::FrameList;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The log.
pub const KEY: LogKey = LogKey { topic_id: 7, partition: 3 };
/// Another one, whose blocks are foreign to the first.
pub const OTHER: LogKey = LogKey { topic_id: 7, partition: 4 };
/// Blocks of memory it has.
const BLOCKS: usize = 40;
/// Requests after which something runs in circles.
const STEPS_MAX: u32 = 20_000;

/// One place where a process may die: the disk as it is, and what was promised until then.
#[derive(Clone)]
pub struct Moment {
    /// The disk, requests in flight included.
    pub disk: Disk,
    /// The promises.
    pub ledger: Ledger,
}

/// A process with one log, and its disk.
pub struct Stand {
    /// The log.
    pub key: LogKey,
    /// The shard that owns it, one of two; the other has nothing.
    pub shard: u32,
    /// The disk.
    pub disk: Disk,
    /// What was promised.
    pub ledger: Ledger,
    /// Every step is remembered here, if wanted.
    pub moments: Option<Vec<Moment>>,
    /// Said by the log.
    pub notices: Vec<String>,
    /// Settings of the log.
    pub settings: LogSettings,
    logs: Option<Logs>,
    memory: Vec<Piece>,
    blocks: Blocks,
    io: IoOut,
    queue: VecDeque<u64>,
    now: Now,
    told: Told,
    serial: u64,
}

/// What events said since the last look.
#[derive(Default)]
struct Told {
    started: bool,
    /// Log end, as the last recovery told it.
    end: u64,
    offline: Option<String>,
    stopped: Option<u64>,
    reads: BTreeMap<u64, Result<FrameList, ReadFailure>>,
}

impl Stand {
    /// No process yet, an empty disk.
    #[must_use]
    pub fn new(key: LogKey, segment_bytes: u64) -> Stand {
        Stand {
            key,
            shard: 0,
            disk: Disk::new(4096),
            ledger: Ledger::default(),
            moments: None,
            notices: Vec::new(),
            settings: LogSettings {
                segment_bytes,
                segment_ns: u64::MAX,
                retention_bytes: None,
                retention_ns: None,
                durability: Durability::Fsync,
                topic_name: "stand".to_owned(),
                topic_uuid: [7; 16],
            },
            logs: None,
            memory: (0..BLOCKS).map(|_| Piece::zeroed()).collect(),
            blocks: Blocks::new(Vec::new(), 0),
            io: IoOut::default(),
            queue: VecDeque::new(),
            now: Now { mono_ns: SECOND, wall_ns: 1_760_000_000 * SECOND },
            told: Told::default(),
            serial: 0,
        }
    }

    /// The process is gone, without a word; the disk is `disk` now and `ledger` was promised.
    pub fn reset(&mut self, disk: Disk, ledger: Ledger) {
        self.end();
        (self.disk, self.ledger) = (disk, ledger);
    }

    fn end(&mut self) {
        self.logs = None;
        self.queue.clear();
        self.io.clear();
        self.notices.clear();
        self.told = Told::default();
        let blocks = std::mem::replace(&mut self.blocks, Blocks::new(Vec::new(), 0));
        let memory = blocks.into_memory();
        if !memory.is_empty() {
            self.memory = memory;
        }
    }

    /// Starts a process and recovers the log.
    ///
    /// # Errors
    /// Why it does not come up.
    pub fn start(&mut self) -> Result<(), String> {
        self.end();
        let mut start = DirectoryStart::new([9; 16], 0x5EC2_E755, 4096, &mut self.io);
        let facts = loop {
            let done = self.step(false).ok_or("the directory's start waits for nothing")?;
            match start.on_io(done, &mut self.io) {
                DirectoryProgress::Working => self.remember(),
                DirectoryProgress::Ready(facts) => break facts,
                DirectoryProgress::Refused(text) => return Err(text),
            }
        };
        self.blocks = Blocks::new(std::mem::take(&mut self.memory), 64 << 20);
        let config = LogsConfig {
            shard: self.shard,
            flush_group_bytes_max: 1 << 20,
            frame_bytes_max: 300 << 10,
            checkpoint_interval_ns: SECOND,
            cold_read_bytes_max: 1 << 20,
            reserve_blocks: 4,
            shard_count: 2,
            upkeep: Upkeep::default(),
        };
        let mine = vec![(self.key, self.settings.clone())];
        let (now, blocks) = (self.now, &mut self.blocks);
        self.logs = Some(Logs::start(config, Arc::new(facts), mine, now, blocks, &mut self.io));
        self.run()?;
        if !self.told.started {
            return Err("the start does not end".to_owned());
        }
        if let Some(logs) = &mut self.logs {
            logs.peers_recovered(&mut self.io);
        }
        self.run()
    }

    /// Goes on until nothing is in flight and nothing is due.
    ///
    /// # Errors
    /// It runs in circles, or the log went offline.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let Some(logs) = &mut self.logs else { return Ok(()) };
            let wake = logs.plan(self.now, &mut self.blocks, &mut self.io);
            self.events();
            if let Some(text) = &self.told.offline {
                return Err(format!("offline: {text}"));
            }
            match self.step(true) {
                Some(done) => {
                    let Some(logs) = &mut self.logs else { return Ok(()) };
                    let ours = logs.on_io(self.now, done, &mut self.blocks, &mut self.io);
                    assert!(ours, "an answer without owner");
                    self.events();
                    self.remember();
                }
                None if wake.is_some_and(|at| at <= self.now.mono_ns) => self.now.mono_ns += 1,
                // A stop looks again a few ms later.
                None if wake.is_some_and(|at| at <= self.now.mono_ns + 10 * MS) => {
                    self.now.mono_ns += 10 * MS;
                }
                None => return Ok(()),
            }
        }
        Err("requests without end".to_owned())
    }

    /// Submits what was asked and carries the oldest request out.
    fn step(&mut self, with_blocks: bool) -> Option<IoDone> {
        let requests = std::mem::take(&mut self.io.requests);
        for request in &requests {
            let blocks = with_blocks.then_some(&mut self.blocks);
            let taken = self.disk.submit(self.now.mono_ns, request, &self.io.slices, blocks);
            self.queue.push_back(taken.op);
            self.remember();
        }
        self.io.clear();
        let op = self.queue.pop_front()?;
        let (done, _) = self.disk.complete(op, with_blocks.then_some(&mut self.blocks))?;
        Some(done)
    }

    fn remember(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { disk: self.disk.clone(), ledger: self.ledger.clone() });
        }
    }

    fn events(&mut self) {
        let mut due = false;
        let Some(logs) = &mut self.logs else { return };
        while let Some(event) = logs.next_event() {
            match event {
                LogEvent::Recovered { end, notices, .. } => {
                    if self.told.started {
                        self.ledger.truncated(end);
                    }
                    self.told.end = end;
                    self.notices.extend(notices);
                }
                LogEvent::Offline(_, text) => self.told.offline = Some(text),
                LogEvent::Poisoned(_, text) => self.told.offline = Some(format!("poison: {text}")),
                LogEvent::Started(_) => {
                    self.told.started = true;
                    self.ledger.exposed(self.told.end);
                }
                LogEvent::Flushed { upto, .. } => self.ledger.flushed(upto),
                LogEvent::StartMoved { start, .. } => self.ledger.start_moved(start),
                LogEvent::ReadDone(ticket, result) => {
                    self.told.reads.insert(ticket.0, result);
                }
                LogEvent::SnapshotDue(_) => due = true,
                LogEvent::Warning(text) => self.notices.push(text),
                LogEvent::Stopped(generation) => self.told.stopped = Some(generation),
                LogEvent::Snapshot(_, body) if body != self.key.partition.to_le_bytes() => {
                    self.told.offline = Some("the state of another log was taken over".to_owned());
                }
                LogEvent::Snapshot(..)
                | LogEvent::Replayed(..)
                | LogEvent::Created { .. }
                | LogEvent::TimeDone(..)
                | LogEvent::Refused(_)
                | LogEvent::Removed(_) => {}
            }
        }
        if due {
            let body = self.key.partition.to_le_bytes().to_vec();
            logs.put_snapshot(self.key, body, &mut self.io);
        }
    }

    /// Time passes, then everything due is done.
    ///
    /// # Errors
    /// See [`Stand::run`].
    pub fn wait(&mut self, ns: u64) -> Result<(), String> {
        self.now.mono_ns += ns;
        self.now.wall_ns += ns;
        self.run()
    }

    /// Appends a batch of `records` records with about `bytes` of payload; not yet written.
    ///
    /// # Errors
    /// Refused for good.
    pub fn append(&mut self, records: u64, bytes: usize) -> Result<(), String> {
        let batch = self.batch(records, bytes);
        let mut seen = Vec::new();
        see_kafka(&batch, &mut seen);
        let hash = seen.first().map_or(0, |frame| frame.hash);
        let facts = AppendFacts { leader_epoch: 1, encoding: 1, log_append_time_ms: None };
        for _ in 0..100 {
            let Some(logs) = &mut self.logs else { return Err("no process".to_owned()) };
            let (now, blocks) = (self.now, &mut self.blocks);
            match logs.append(self.key, Batch::Bytes(&batch), facts, now, blocks) {
                Ok(appended) => {
                    self.ledger.appended(appended.base_offset, appended.last_offset, hash);
                    return Ok(());
                }
                Err(AppendError::Busy | AppendError::NoSpace) => self.run()?,
                Err(other) => return Err(other.to_string()),
            }
        }
        Err("an append finds the log busy for ever".to_owned())
    }

    fn batch(&mut self, records: u64, bytes: usize) -> Vec<u8> {
        let mut writer = BatchWriter::new(BatchOptions::default());
        let share = bytes / usize::try_from(records.max(1)).unwrap_or(1);
        for _ in 0..records {
            self.serial += 1;
            let mut value = self.serial.to_le_bytes().to_vec();
            while value.len() < share {
                let word = hash_bytes(self.serial, &value[value.len() - 8..]);
                value.extend_from_slice(&word.to_le_bytes());
            }
            let pushed = writer.push(self.now.wall_ms(), None, Some(&value), &[]);
            assert!(pushed.is_ok(), "{pushed:?}");
        }
        let finished = writer.finish();
        assert!(finished.is_ok(), "{finished:?}");
        writer.batch().to_vec()
    }

    /// Truncates the log to `offset`, as a follower would.
    ///
    /// # Errors
    /// See [`Stand::run`].
    pub fn truncate(&mut self, offset: u64) -> Result<(), String> {
        self.ledger.truncates(offset);
        if let Some(logs) = &mut self.logs {
            logs.truncate(self.key, offset, self.now, &mut self.io);
        }
        self.run()
    }

    /// A clean stop, marker and all; the process is gone.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<(), String> {
        if let Some(logs) = &mut self.logs {
            logs.stop(&mut self.io);
        }
        self.run()?;
        let generation = self.told.stopped.ok_or("the stop does not end")?;
        self.end();
        self.disk.crash_by(&mut || true);
        let marker = clean_marker(&[(self.shard, generation)]);
        self.disk.replace_small(SmallFile::CleanMarker, Some(marker));
        Ok(())
    }

    /// The power goes when nothing is in flight; what was not made durable is lost.
    pub fn cut(&mut self) {
        self.end();
        self.disk.cut_by(1, &mut || false);
    }

    /// Reads the whole log, over damaged ranges.
    ///
    /// # Errors
    /// A read that brings nothing, or does not end.
    pub fn read_all(&mut self) -> Result<Found, String> {
        let Some(logs) = &self.logs else { return Err("no process".to_owned()) };
        let (log_start, end) = (logs.start_offset(self.key), logs.flushed_offset(self.key));
        let mut found = Found { log_start, end, ..Found::default() };
        let mut from = log_start;
        while from < end {
            match self.read(from)? {
                Ok(frames) => {
                    let next = frames.last().map_or(from, |frame| frame.last + 1);
                    found.frames.extend(frames);
                    if next <= from {
                        return Err(format!(
                            "a read at {from} of {log_start}..{end} brings nothing"
                        ));
                    }
                    from = next;
                }
                Err(until) if until > from => {
                    found.holes.push((from, until));
                    from = until;
                }
                Err(until) => return Err(format!("a hole at {from} ends at {until}")),
            }
        }
        found.listed = self.listed();
        Ok(found)
    }

    /// Bytes that reads took from the disk since the start.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.logs.as_ref().map_or(0, |logs| logs.counts().cold_read_bytes)
    }

    /// Damaged ranges that the log lists.
    #[must_use]
    pub fn listed(&self) -> Vec<(u64, u64)> {
        let Some(logs) = &self.logs else { return Vec::new() };
        logs.quarantined(self.key).iter().map(|range| (range.from, range.to)).collect()
    }

    /// Batches from the one that holds `from`, or the end of the damaged range it lies in.
    ///
    /// # Errors
    /// Anything else.
    pub fn read(&mut self, from: u64) -> Result<Result<Vec<FrameSeen>, u64>, String> {
        let Some(logs) = &mut self.logs else { return Err("no process".to_owned()) };
        let mut list = FrameList::default();
        let (blocks, io) = (&mut self.blocks, &mut self.io);
        match logs.read(self.key, from, u64::MAX, 1 << 20, blocks, io, &mut list) {
            ReadStart::Done => {}
            ReadStart::Quarantined { until } => return Ok(Err(until)),
            ReadStart::Waiting(ticket) => {
                self.run()?;
                match self.told.reads.remove(&ticket.0) {
                    Some(Ok(done)) => list = done,
                    Some(Err(ReadFailure::Quarantined { until })) => return Ok(Err(until)),
                    other => return Err(format!("a read at {from} got {other:?}")),
                }
            }
            // Nothing is repaired here: whatever no batch has is in the list of damage.
            other @ (ReadStart::Empty
            | ReadStart::OutOfRange
            | ReadStart::Gap { .. }
            | ReadStart::Busy) => {
                return Err(format!("a read at {from} got {other:?}"));
            }
        }
        let mut frames = Vec::new();
        let mut bytes = Vec::new();
        for frame in &list.frames {
            bytes.clear();
            for slice in &list.slices[frame.slices.start as usize..frame.slices.end as usize] {
                bytes.extend_from_slice(self.blocks.bytes(*slice));
            }
            see_all(&bytes, &mut frames);
        }
        list.release(&mut self.blocks);
        Ok(Ok(frames))
    }
}
