//! A log over a disk that answers at once and keeps no bytes: what is left is the log's own cost.

use ringway_log::blocks::{Blocks, Piece};
use ringway_log::directory::{DirectoryFacts, DirectoryProgress, DirectoryStart};
use ringway_log::io::{FileId, IoDone, IoOk, IoOut, IoRequest, Now, SmallFile};
use ringway_log::logs::{
    AppendFacts, Batch, Durability, LogEvent, LogSettings, Logs, LogsConfig, Upkeep,
};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The only log.
pub(crate) const KEY: LogKey = LogKey { topic_id: 7, partition: 0 };
/// 64 MiB: two rolls' worth of tail.
const POOL_BLOCKS: usize = 1024;
/// Rounds until a start must have ended.
const START_ROUNDS_MAX: usize = 100_000;

/// A Kafka batch of `records` records of `size` bytes.
pub(crate) fn batch(records: usize, size: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchOptions::default());
    let value = vec![0x5a; size];
    for _ in 0..records {
        if writer.push(1_700_000_000_000, None, Some(&value), &[]).is_err() {
            break;
        }
    }
    match writer.finish() {
        Ok(()) => writer.batch().to_vec(),
        Err(_) => Vec::new(),
    }
}

/// Answers everything with success.
#[derive(Default)]
struct Disk {
    small: BTreeMap<SmallFile, Vec<u8>>,
    files: u32,
}

impl Disk {
    fn answer(&mut self, request: IoRequest) -> IoDone {
        let id = request.id();
        let ok = match request {
            IoRequest::Write { .. } => IoOk::Done,
            IoRequest::Read { into, .. } => {
                IoOk::Bytes(u32::try_from(into.len()).unwrap_or(u32::MAX))
            }
            IoRequest::Prepare { bytes, .. } => {
                self.files += 1;
                IoOk::File { file: FileId(self.files), bytes }
            }
            IoRequest::List { .. } => IoOk::Names(Vec::new()),
            IoRequest::ReadSmall { file, .. } => IoOk::Small(self.small.get(&file).cloned()),
            IoRequest::WriteSmall { file, body, .. } => {
                self.small.insert(file, body);
                IoOk::Done
            }
            _ => IoOk::Done,
        };
        IoDone { id, result: Ok(ok), flush_failures: 0 }
    }
}

/// One shard's logs, their blocks and their disk.
pub(crate) struct World {
    disk: Disk,
    /// Where frames lie.
    pub(crate) blocks: Blocks,
    /// The logs.
    pub(crate) logs: Logs,
    /// What they ask for.
    pub(crate) io: IoOut,
    now: Now,
    requests: Vec<IoRequest>,
}

impl World {
    /// A new, empty log.
    pub(crate) fn new() -> World {
        let mut disk = Disk::default();
        let mut io = IoOut::default();
        let facts = start_directory(&mut disk, &mut io);
        let pieces = (0..POOL_BLOCKS).map(|_| Piece::zeroed());
        let mut blocks = Blocks::new(pieces.collect(), 64 << 20);
        let config = LogsConfig {
            shard: 0,
            flush_group_bytes_max: 4 << 20,
            frame_bytes_max: 2 << 20,
            checkpoint_interval_ns: 1_000_000_000,
            cold_read_bytes_max: 1 << 20,
            reserve_blocks: 128,
            shard_count: 1,
            upkeep: Upkeep::default(),
        };
        let now = Now { mono_ns: 1, wall_ns: 1_700_000_000_000_000_000 };
        let logs = Logs::start(config, Arc::new(facts), Vec::new(), now, &mut blocks, &mut io);
        let mut world = World { disk, blocks, logs, io, now, requests: Vec::new() };
        world.turn();
        world.logs.peers_recovered(&mut world.io);
        world.logs.create(KEY, settings(), now, &mut world.io);
        for _ in 0..100 {
            world.turn();
        }
        world
    }

    /// Plans, and answers until nothing is asked any more.
    pub(crate) fn turn(&mut self) {
        self.now.mono_ns += 1_000_000;
        self.now.wall_ns += 1_000_000;
        self.logs.plan(self.now, &mut self.blocks, &mut self.io);
        while !self.io.requests.is_empty() {
            self.requests.append(&mut self.io.requests);
            let bytes: Vec<u32> =
                self.requests.iter().map(|request| self.written(request)).collect();
            self.io.clear();
            for (request, bytes) in self.requests.drain(..).zip(bytes) {
                let mut done = self.disk.answer(request);
                if bytes > 0 {
                    done.result = Ok(IoOk::Bytes(bytes));
                }
                self.logs.on_io(self.now, done, &mut self.blocks, &mut self.io);
            }
        }
        while let Some(event) = self.logs.next_event() {
            if let LogEvent::SnapshotDue(key) = event {
                self.logs.put_snapshot(key, vec![0; 64], &mut self.io);
            }
        }
    }

    /// Bytes a write asks for.
    fn written(&self, request: &IoRequest) -> u32 {
        let IoRequest::Write { data, .. } = request else { return 0 };
        let range = data.start as usize..data.end as usize;
        let bytes: usize = self.io.slices[range].iter().map(|slice| slice.len()).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Appends one batch, taking a turn whenever the log asks for one.
    pub(crate) fn append(&mut self, batch: &[u8]) -> u64 {
        let facts = AppendFacts { leader_epoch: 1, encoding: 3, log_append_time_ms: None };
        for _ in 0..START_ROUNDS_MAX {
            let appended =
                self.logs.append(KEY, Batch::Bytes(batch), facts, self.now, &mut self.blocks);
            match appended {
                Ok(appended) => return appended.base_offset,
                Err(_) => self.turn(),
            }
        }
        panic!("the log takes no batch");
    }
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 1 << 30,
        segment_ns: u64::MAX,
        // Old segments go, so that a long measurement needs no more memory than a short one.
        retention_bytes: Some(4 << 30),
        retention_ns: None,
        durability: Durability::Fsync,
        topic_name: "bench".to_owned(),
        topic_uuid: [7; 16],
    }
}

fn start_directory(disk: &mut Disk, io: &mut IoOut) -> DirectoryFacts {
    let mut start = DirectoryStart::new([9; 16], 0x5EC2_E755, 4096, io);
    for _ in 0..START_ROUNDS_MAX {
        for request in std::mem::take(&mut io.requests) {
            match start.on_io(disk.answer(request), io) {
                DirectoryProgress::Working => {}
                DirectoryProgress::Ready(facts) => {
                    io.clear();
                    return facts;
                }
                DirectoryProgress::Refused(text) => panic!("{text}"),
            }
        }
    }
    panic!("the directory does not start");
}
