//! One broker's life on the test disk: start, append, flush, read, cut, start again.
//! Owner: the tests of this crate.
//! Invariant: every batch that was told flushed is found again at its offset.
//! Not here: single rules (`rules.rs`).

use super::disk::{Dice, Disk};
use crate::blocks::{BLOCK_BYTES, Blocks, Piece};
use crate::directory::{DirectoryFacts, DirectoryProgress, DirectoryStart, clean_marker};
use crate::io::{IoOut, Now, SmallFile};
use crate::logs::{
    AppendError, AppendFacts, Appended, Batch, BatchFacts, Durability, LogEvent, LogSettings, Logs,
    LogsConfig, ReadFailure, ReadStart, StartReport, Upkeep,
};
use crate::read::FrameList;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const KEY: LogKey = LogKey { topic_id: 7, partition: 3 };

/// Base offset and bytes of each Kafka batch.
pub(crate) type Frames = Vec<(u64, Vec<u8>)>;

pub(crate) fn pool(count: usize) -> Blocks {
    let piece = |_| Piece::Heap(vec![0xAA; BLOCK_BYTES].into_boxed_slice());
    Blocks::new((0..count).map(piece).collect(), 64 << 20)
}

pub(crate) fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 1 << 20,
        segment_ns: u64::MAX,
        retention_bytes: None,
        retention_ns: None,
        durability: Durability::Fsync,
        topic_name: "events".to_owned(),
        topic_uuid: [7; 16],
    }
}

/// A Kafka batch of `records` records with `payload` as its bytes.
pub(crate) fn batch(records: i32, payload: &[u8], max_timestamp: i64) -> Vec<u8> {
    let mut out = vec![0u8; 61];
    out.extend_from_slice(payload);
    let length = i32::try_from(out.len() - 12).expect("small");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[16] = 2;
    out[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    out[27..35].copy_from_slice(&max_timestamp.to_be_bytes());
    out[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    out[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    out[51..53].copy_from_slice(&(-1i16).to_be_bytes());
    out[53..57].copy_from_slice(&(-1i32).to_be_bytes());
    out[57..61].copy_from_slice(&records.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Everything one process and its disk are.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) dice: Dice,
    pub(crate) blocks: Blocks,
    pub(crate) logs: Option<Logs>,
    pub(crate) io: IoOut,
    pub(crate) now: Now,
    pub(crate) config: LogsConfig,
    pub(crate) settings: BTreeMap<LogKey, LogSettings>,
    /// Told since the last look.
    pub(crate) flushed: BTreeMap<LogKey, u64>,
    pub(crate) recovered: BTreeMap<LogKey, (u64, u64, u32)>,
    pub(crate) notices: Vec<String>,
    pub(crate) replayed: Vec<BatchFacts>,
    pub(crate) snapshots: Vec<(LogKey, Vec<u8>)>,
    pub(crate) poisoned: Vec<LogKey>,
    pub(crate) refused: u64,
    pub(crate) report: Option<StartReport>,
    pub(crate) offline: Vec<String>,
    pub(crate) reads: BTreeMap<u64, Result<FrameList, ReadFailure>>,
    pub(crate) times: BTreeMap<u64, Option<u64>>,
    pub(crate) moved: Vec<u64>,
    pub(crate) removed: Vec<LogKey>,
    pub(crate) stopped: Option<u64>,
    pub(crate) block: u32,
    pub(crate) answer_snapshots: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let config = LogsConfig {
            shard: 0,
            flush_group_bytes_max: 4 << 20,
            frame_bytes_max: 2 << 20,
            checkpoint_interval_ns: 1_000_000_000,
            cold_read_bytes_max: 1 << 20,
            reserve_blocks: 16,
            shard_count: 1,
            upkeep: Upkeep::default(),
        };
        World {
            disk: Disk::default(),
            dice: Dice(seed),
            blocks: Blocks::new(Vec::new(), 0),
            logs: None,
            io: IoOut::default(),
            now: Now { mono_ns: 1, wall_ns: 1_700_000_000_000_000_000 },
            config,
            settings: BTreeMap::new(),
            flushed: BTreeMap::new(),
            recovered: BTreeMap::new(),
            notices: Vec::new(),
            replayed: Vec::new(),
            snapshots: Vec::new(),
            poisoned: Vec::new(),
            refused: 0,
            report: None,
            offline: Vec::new(),
            reads: BTreeMap::new(),
            times: BTreeMap::new(),
            moved: Vec::new(),
            removed: Vec::new(),
            stopped: None,
            block: 4096,
            answer_snapshots: true,
        }
    }

    /// The same with memory of an earlier world.
    pub(crate) fn again(seed: u64, settings: LogSettings, memory: Vec<Piece>) -> World {
        let mut world = World::new(seed);
        world.blocks = Blocks::new(memory, 64 << 20);
        world.settings.insert(KEY, settings);
        world.start();
        world
    }

    /// A new process over a disk with one log.
    pub(crate) fn with_log(seed: u64, settings: LogSettings) -> World {
        World::again(seed, settings, pool(96).into_memory())
    }

    pub(crate) fn start_directory(&mut self) -> Result<DirectoryFacts, String> {
        let mut start = DirectoryStart::new([9; 16], 0x5EC2_E755, self.block, &mut self.io);
        loop {
            self.disk.submit(&mut self.io, &self.blocks);
            let done =
                self.disk.complete(&mut self.dice, &mut self.blocks).expect("work is never lost");
            match start.on_io(done, &mut self.io) {
                DirectoryProgress::Working => {}
                DirectoryProgress::Ready(facts) => return Ok(facts),
                DirectoryProgress::Refused(text) => return Err(text),
            }
        }
    }

    /// Starts the logs; returns at once.
    pub(crate) fn begin_start(&mut self) {
        let facts = self.start_directory().expect("the directory is fine");
        let mine = self.settings.iter().map(|(key, settings)| (*key, settings.clone())).collect();
        let blocks = std::mem::replace(&mut self.blocks, Blocks::new(Vec::new(), 0));
        self.blocks = Blocks::new(blocks.into_memory(), 64 << 20);
        let (config, blocks) = (self.config.clone(), &mut self.blocks);
        (self.report, self.stopped) = (None, None);
        self.disk.flush_failures = 0;
        self.recovered.clear();
        self.replayed.clear();
        self.snapshots.clear();
        self.notices.clear();
        self.logs =
            Some(Logs::start(config, Arc::new(facts), mine, self.now, blocks, &mut self.io));
    }

    pub(crate) fn start(&mut self) {
        self.begin_start();
        for _ in 0..1_000_000 {
            self.turn(100);
            if self.report.is_some()
                && self.recovered.len() + self.offline.len() >= self.settings.len()
            {
                self.logs.as_mut().expect("started").peers_recovered(&mut self.io);
                return;
            }
        }
        panic!("the start does not end");
    }

    /// One turn: plan, submit, then each waiting request is done with `percent`.
    pub(crate) fn turn(&mut self, percent: u64) {
        let Some(logs) = &mut self.logs else { return };
        self.now.mono_ns += 1_000_000;
        self.now.wall_ns += 1_000_000;
        logs.plan(self.now, &mut self.blocks, &mut self.io);
        self.disk.submit(&mut self.io, &self.blocks);
        while !self.disk.is_idle() && self.dice.percent(percent) {
            let Some(done) = self.disk.complete(&mut self.dice, &mut self.blocks) else { break };
            assert!(
                logs.on_io(self.now, done, &mut self.blocks, &mut self.io),
                "an answer without owner"
            );
            self.disk.submit(&mut self.io, &self.blocks);
        }
        self.take_events();
    }

    pub(crate) fn take_events(&mut self) {
        let Some(logs) = &mut self.logs else { return };
        let mut due = Vec::new();
        while let Some(event) = logs.next_event() {
            match event {
                LogEvent::Snapshot(key, body) => self.snapshots.push((key, body)),
                LogEvent::Replayed(_, facts) => self.replayed.push(facts),
                LogEvent::Recovered { key, start, end, log_epoch, notices } => {
                    self.recovered.insert(key, (start, end, log_epoch));
                    self.flushed.insert(key, end);
                    self.notices.extend(notices);
                }
                LogEvent::Offline(key, text) => self.offline.push(format!("{key}: {text}")),
                LogEvent::Started(report) => self.report = Some(report),
                LogEvent::Created { key, log_epoch } => {
                    self.recovered.insert(key, (0, 0, log_epoch));
                }
                LogEvent::Flushed { key, upto } => {
                    self.flushed.insert(key, upto);
                }
                LogEvent::StartMoved { start, .. } => self.moved.push(start),
                LogEvent::ReadDone(ticket, result) => {
                    self.reads.insert(ticket.0, result);
                }
                LogEvent::TimeDone(ticket, found) => {
                    self.times.insert(ticket.0, found);
                }
                LogEvent::SnapshotDue(key) => due.push(key),
                LogEvent::Poisoned(key, _) => self.poisoned.push(key),
                LogEvent::Warning(text) => self.notices.push(text),
                LogEvent::Refused(_) => self.refused += 1,
                LogEvent::Removed(key) => self.removed.push(key),
                LogEvent::Stopped(generation) => self.stopped = Some(generation),
            }
        }
        if self.answer_snapshots {
            for key in due {
                let body = logs.flushed_offset(key).to_le_bytes().to_vec();
                logs.put_snapshot(key, body, &mut self.io);
            }
        }
    }

    pub(crate) fn logs(&mut self) -> &mut Logs {
        self.logs.as_mut().expect("started")
    }

    pub(crate) fn append(&mut self, batch: &[u8]) -> Result<Appended, AppendError> {
        let facts = AppendFacts { leader_epoch: 1, encoding: 3, log_append_time_ms: None };
        let (now, blocks) = (self.now, &mut self.blocks);
        self.logs.as_mut().expect("started").append(KEY, Batch::Bytes(batch), facts, now, blocks)
    }

    /// Appends, waiting out what is transient.
    pub(crate) fn append_wait(&mut self, batch: &[u8]) -> Appended {
        for _ in 0..10_000 {
            match self.append(batch) {
                Ok(appended) => return appended,
                Err(AppendError::Busy | AppendError::NoSpace) => self.turn(100),
                Err(other) => panic!("{other}"),
            }
        }
        panic!("busy for ever");
    }

    /// Turns until everything appended is flushed.
    pub(crate) fn flush(&mut self) {
        for _ in 0..10_000 {
            self.turn(100);
            let logs = self.logs();
            if logs.flushed_offset(KEY) == logs.end_offset(KEY) {
                return;
            }
        }
        panic!("never flushed");
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            self.turn(100);
        }
    }

    /// Reads from `from`: frames as (base offset, bytes of the Kafka batch).
    pub(crate) fn read(&mut self, from: u64, bytes_max: u32) -> Result<Frames, ReadStart> {
        let mut list = FrameList::default();
        let upto = self.logs().flushed_offset(KEY);
        let logs = self.logs.as_mut().expect("started");
        let mut start =
            logs.read(KEY, from, upto, bytes_max, &mut self.blocks, &mut self.io, &mut list);
        for _ in 0..10_000 {
            match start {
                ReadStart::Done => {
                    let frames = list.frames.iter().map(|frame| {
                        let slices =
                            &list.slices[frame.slices.start as usize..frame.slices.end as usize];
                        let mut bytes = Vec::new();
                        slices
                            .iter()
                            .for_each(|slice| bytes.extend_from_slice(self.blocks.bytes(*slice)));
                        assert_eq!(bytes.len(), frame.frame_len as usize);
                        (frame.base_offset, bytes[67..].to_vec())
                    });
                    let frames = frames.collect();
                    list.release(&mut self.blocks);
                    return Ok(frames);
                }
                ReadStart::Waiting(ticket) => {
                    self.turn(100);
                    match self.reads.remove(&ticket.0) {
                        None => {}
                        Some(Ok(done)) => {
                            list = done;
                            start = ReadStart::Done;
                        }
                        Some(Err(ReadFailure::Quarantined { until })) => {
                            return Err(ReadStart::Quarantined { until });
                        }
                        Some(Err(ReadFailure::Gone)) => panic!("the log is gone"),
                    }
                }
                other @ (ReadStart::Empty
                | ReadStart::OutOfRange
                | ReadStart::Quarantined { .. }
                | ReadStart::Gap { .. }
                | ReadStart::Busy) => return Err(other),
            }
        }
        panic!("the read does not end");
    }

    /// The whole log, and the ranges it names as damaged.
    pub(crate) fn read_all(&mut self, bytes_max: u32) -> (Frames, Vec<(u64, u64)>) {
        let (mut all, mut holes) = (Vec::new(), Vec::new());
        let mut from = self.logs().start_offset(KEY);
        let end = self.logs().flushed_offset(KEY);
        while from < end {
            match self.read(from, bytes_max) {
                Ok(frames) => {
                    assert!(
                        !frames.is_empty(),
                        "a read below the end brings a frame, from {from} end {end}"
                    );
                    for (base, bytes) in frames {
                        let last = i32::from_be_bytes(bytes[23..27].try_into().expect("four"));
                        from = base + u64::try_from(last).expect("small") + 1;
                        all.push((base, bytes));
                    }
                }
                Err(ReadStart::Quarantined { until }) => {
                    assert!(until > from);
                    holes.push((from, until));
                    from = until;
                }
                Err(other) => panic!("{other:?} at {from}"),
            }
        }
        (all, holes)
    }

    /// Power cut and a new start.
    pub(crate) fn cut_and_start(&mut self) {
        self.logs = None;
        self.io = IoOut::default();
        self.disk.cut(&mut self.dice);
        self.start();
    }

    /// Clean stop with the marker, then a new start.
    pub(crate) fn stop(&mut self) -> u64 {
        let logs = self.logs.as_mut().expect("started");
        logs.stop(&mut self.io);
        for _ in 0..10_000 {
            self.turn(100);
            if let Some(generation) = self.stopped {
                self.settle();
                self.disk.put_small(SmallFile::CleanMarker, clean_marker(&[(0, generation)]));
                self.logs = None;
                return generation;
            }
        }
        panic!("the stop does not end");
    }

    pub(crate) fn restart_clean(&mut self) {
        self.stop();
        self.disk.cut(&mut self.dice);
        self.start();
    }
}
