//! One process over the disk: starts the directory and the log, reads everything, appends.
//! Owner: one run of the recovery target.
//! Invariant: every wait is bounded; what does not end panics.
//! Not here: what the disk holds (`written.rs`), what must come out of it (the target).

use crate::disk::Disk;
use crate::process::{blocks, directory, give_back};
use ringway_log::blocks::Blocks;
use ringway_log::io::{IoOut, Now};
use ringway_log::logs::{
    AppendError, AppendFacts, Batch, Durability, LogEvent, LogSettings, Logs, LogsConfig,
    ReadFailure, ReadStart, ReadTicket, Upkeep,
};
use ringway_log::read::FrameList;
use ringway_wire::ids::LogKey;
use std::sync::Arc;

/// The one log.
pub const KEY: LogKey = LogKey { topic_id: 7, partition: 3 };
/// Blocks of memory.
const BLOCKS: usize = 40;
/// Turns until something must have happened.
const TURNS_MAX: u32 = 20_000;

/// A broker that runs.
pub struct Broker {
    blocks: Blocks,
    logs: Logs,
    io: IoOut,
    now: Now,
    recovered: bool,
    offline: Option<String>,
    read: Option<(ReadTicket, Result<FrameList, ReadFailure>)>,
}

impl Broker {
    /// Writes the directory's own files on an empty disk.
    pub fn format(disk: &mut Disk) {
        let mut blocks = blocks(BLOCKS);
        directory(disk, &mut blocks);
        disk.restart();
        give_back(&mut blocks);
    }

    /// Starts on `disk` and recovers the log; the text when it stays offline.
    pub fn start(disk: &mut Disk) -> (Broker, Option<String>) {
        let mut blocks = blocks(BLOCKS);
        disk.restart();
        let facts = directory(disk, &mut blocks);
        let config = LogsConfig {
            shard: 0,
            flush_group_bytes_max: 256 << 10,
            frame_bytes_max: 128 << 10,
            checkpoint_interval_ns: 1_000_000_000,
            cold_read_bytes_max: 1 << 18,
            reserve_blocks: 16,
            shard_count: 1,
            upkeep: Upkeep::default(),
        };
        let settings = LogSettings {
            segment_bytes: 256 << 10,
            segment_ns: u64::MAX,
            retention_bytes: None,
            retention_ns: None,
            durability: Durability::Fsync,
            topic_name: "events".to_owned(),
            topic_uuid: [7; 16],
        };
        let now = Now { mono_ns: 1, wall_ns: 1_700_000_000_000_000_000 };
        let mut io = IoOut::default();
        let mine = vec![(KEY, settings)];
        let logs = Logs::start(config, Arc::new(facts), mine, now, &mut blocks, &mut io);
        let mut broker =
            Broker { blocks, logs, io, now, recovered: false, offline: None, read: None };
        let mut peers_told = false;
        for _ in 0..TURNS_MAX {
            broker.turn(disk);
            if broker.offline.is_some() {
                break;
            }
            if broker.recovered && !peers_told {
                peers_told = true;
                broker.logs.peers_recovered(&mut broker.io);
            } else if peers_told {
                break;
            }
        }
        assert!(broker.recovered || broker.offline.is_some(), "recovery does not end");
        let offline = broker.offline.clone();
        (broker, offline)
    }

    /// Stops as a killed process does; its memory serves the next one.
    pub fn end(mut self) {
        give_back(&mut self.blocks);
    }

    /// Log end, all of it flushed.
    pub fn log_end(&self) -> u64 {
        self.logs.flushed_offset(KEY)
    }

    fn turn(&mut self, disk: &mut Disk) {
        self.now.mono_ns += 1_000_000;
        self.now.wall_ns += 1_000_000;
        self.logs.plan(self.now, &mut self.blocks, &mut self.io);
        disk.submit(&mut self.io, &mut self.blocks);
        while let Some(done) = disk.next_done() {
            self.logs.on_io(self.now, done, &mut self.blocks, &mut self.io);
            disk.submit(&mut self.io, &mut self.blocks);
        }
        while let Some(event) = self.logs.next_event() {
            match event {
                LogEvent::Recovered { .. } => self.recovered = true,
                LogEvent::Offline(_, text) => self.offline = Some(text),
                LogEvent::ReadDone(ticket, result) => self.read = Some((ticket, result)),
                LogEvent::SnapshotDue(key) => self.logs.put_snapshot(key, vec![1], &mut self.io),
                LogEvent::Poisoned(_, text) => panic!("poisoned without a fault: {text}"),
                _ => {}
            }
        }
    }

    /// Appends a batch and waits for its flush; its offset.
    pub fn append(&mut self, disk: &mut Disk, batch: &[u8]) -> u64 {
        let facts = AppendFacts { leader_epoch: 1, encoding: 3, log_append_time_ms: None };
        let mut offset = None;
        for _ in 0..TURNS_MAX {
            if offset.is_none() {
                let batch = Batch::Bytes(batch);
                match self.logs.append(KEY, batch, facts, self.now, &mut self.blocks) {
                    Ok(appended) => offset = Some(appended.base_offset),
                    Err(AppendError::Busy) => {}
                    Err(other) => panic!("append refused: {other}"),
                }
            }
            self.turn(disk);
            if let Some(offset) = offset {
                if self.logs.flushed_offset(KEY) > offset {
                    return offset;
                }
            }
        }
        panic!("the append is never flushed");
    }

    /// Everything readable as (base offset, batch), and the ranges named as damaged.
    pub fn read_all(&mut self, disk: &mut Disk) -> (Vec<(u64, Vec<u8>)>, Vec<(u64, u64)>) {
        let (mut all, mut holes) = (Vec::new(), Vec::new());
        let end = self.log_end();
        let mut from = self.logs.start_offset(KEY);
        while from < end {
            match self.read(disk, from, end) {
                Ok(frames) => {
                    assert!(!frames.is_empty(), "nothing at {from}, the end is {end}");
                    for (base, last, batch) in frames {
                        assert!(last >= from && last < end, "{base}..={last} read from {from}");
                        from = last + 1;
                        all.push((base, batch));
                    }
                }
                Err(until) => {
                    assert!(until > from);
                    holes.push((from, until));
                    from = until;
                }
            }
        }
        (all, holes)
    }

    /// Frames from `from` on, or where the damaged range there ends.
    fn read(
        &mut self,
        disk: &mut Disk,
        from: u64,
        end: u64,
    ) -> Result<Vec<(u64, u64, Vec<u8>)>, u64> {
        let mut list = FrameList::default();
        for _ in 0..TURNS_MAX {
            let (blocks, io) = (&mut self.blocks, &mut self.io);
            match self.logs.read(KEY, from, end, 1 << 16, blocks, io, &mut list) {
                ReadStart::Done => return Ok(self.take_frames(list)),
                ReadStart::Quarantined { until } => return Err(until),
                ReadStart::Busy => self.turn(disk),
                ReadStart::Waiting(ticket) => match self.wait(disk, ticket) {
                    Ok(list) => return Ok(self.take_frames(list)),
                    Err(ReadFailure::Quarantined { until }) => return Err(until),
                    Err(ReadFailure::Gone) => panic!("the log is gone"),
                },
                other => panic!("{other:?} at {from} below {end}"),
            }
        }
        panic!("the read does not end");
    }

    fn wait(&mut self, disk: &mut Disk, ticket: ReadTicket) -> Result<FrameList, ReadFailure> {
        for _ in 0..TURNS_MAX {
            self.turn(disk);
            if let Some((answered, result)) = self.read.take() {
                assert_eq!(answered, ticket);
                return result;
            }
        }
        panic!("the read is never answered");
    }

    fn take_frames(&mut self, mut list: FrameList) -> Vec<(u64, u64, Vec<u8>)> {
        let mut frames = Vec::new();
        for frame in &list.frames {
            let mut bytes = Vec::new();
            for slice in &list.slices[frame.slices.start as usize..frame.slices.end as usize] {
                bytes.extend_from_slice(self.blocks.bytes(*slice));
            }
            assert_eq!(bytes.len(), frame.frame_len as usize);
            frames.push((frame.base_offset, frame.last_offset, bytes.split_off(67)));
        }
        list.release(&mut self.blocks);
        frames
    }
}
