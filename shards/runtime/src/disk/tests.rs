//! The contract C1–C8, on this host's file system.
//! Owner: `disk.rs`.
//! Invariant: both disks give the same answers to the same requests.
//! Not here: C9 (a killed process), see `tests/`.

#![expect(clippy::disallowed_methods, reason = "looks at files from outside")]

use super::*;
use crate::block_pool::blocks;
use crate::directory::{DirectIo, open_data_directory};
use crate::ring::{Completion, TaskRun};
use ringway_log::io::{Dir, ENOENT, SegmentName, SmallFile};

const BLOCK: u32 = 4096;
const FILES: u32 = 16;
const LOG: LogKey = LogKey { topic_id: 5, partition: 1 };
const NAME: SegmentName = SegmentName { log: LOG, base_offset: 0 };

struct Bench {
    disk: Disk,
    ring: Ring,
    blocks: Blocks,
    io: IoOut,
    next: u64,
    temp: tempfile::TempDir,
    counts: RingCounts,
}

impl Bench {
    fn new() -> Bench {
        let temp = tempfile::tempdir().expect("temp dir");
        let directory = open_data_directory(temp.path(), DirectIo::Auto).expect("directory");
        let ring = Ring::new(TaskRun::Deferred, FILES).expect("ring");
        let disk = Disk::new(&directory, BLOCK, FILES, &ring).expect("disk");
        let blocks = blocks(4 << 20).expect("blocks");
        let counts = RingCounts::default();
        Bench { disk, ring, blocks, io: IoOut::default(), next: 0, temp, counts }
    }

    fn id(&mut self) -> IoId {
        self.next += 1;
        IoId(self.next)
    }

    fn ask(&mut self, make: impl FnOnce(IoId) -> IoRequest) -> Result<IoOk, Errno> {
        let id = self.id();
        self.io.requests.push(make(id));
        let done = self.run();
        assert_eq!((done.len(), done[0].id), (1, id));
        done[0].result.clone()
    }

    fn run(&mut self) -> Vec<IoDone> {
        self.disk.submit(&mut self.io, &mut self.blocks, &mut self.ring, 0);
        let mut done = Vec::new();
        let mut reaped: Vec<Completion> = Vec::new();
        while self.disk.busy() {
            done.extend(self.disk.next_ready());
            if self.ring.in_flight() == 0 {
                continue;
            }
            self.ring.submit_and_wait(None).expect("ring");
            self.ring.reap(&mut reaped);
            self.disk.look_over(&reaped);
            for one in reaped.drain(..) {
                match one.kind {
                    Kind::Transfer => {
                        let counts = &mut self.counts;
                        done.push(self.disk.transferred(one.index, one.result, 1000, counts));
                    }
                    _ => done.extend(self.disk.stepped(one.index, one.result, &mut self.ring)),
                }
            }
        }
        done
    }

    fn prepared(&mut self) -> FileId {
        let prepare = |id| IoRequest::Prepare { id, name: NAME, bytes: 1 << 20, zero: true };
        let Ok(IoOk::File { file, bytes }) = self.ask(prepare) else { panic!("no file") };
        assert_eq!(bytes, 1 << 20);
        file
    }

    fn segment(&mut self) -> FileId {
        let file = self.prepared();
        let adopted = self.ask(|id| IoRequest::Adopt { id, file, name: NAME });
        assert_eq!(adopted, Ok(IoOk::Done));
        let synced = self.ask(|id| IoRequest::SyncDir { id, dir: Dir::Log(LOG) });
        assert_eq!(synced, Ok(IoOk::Done));
        file
    }

    fn filled(&mut self, byte: u8, bytes: u32) -> Slice {
        let block = self.blocks.take().expect("block");
        self.blocks.tail_mut(block)[..bytes as usize].fill(byte);
        let slice = self.blocks.freeze(block, 0, bytes);
        self.blocks.release_block(block);
        slice
    }
}

#[test]
fn a_durable_gathered_write_is_read_back_and_counted() {
    let mut bench = Bench::new();
    let file = bench.segment();
    let first = bench.filled(1, 65536);
    let second = bench.filled(2, 4096);
    bench.io.slices.extend([first, second]);
    let written = bench
        .ask(|id| IoRequest::Write { id, file, at: 8192, data: 0..2, durable: true })
        .expect("written");
    assert_eq!(written, IoOk::Bytes(65536 + 4096));
    assert_eq!((bench.counts.flushes, bench.counts.disk_bytes_written), (1, 69632));
    let into = bench.filled(9, 8192);
    let read = bench.ask(|id| IoRequest::Read { id, file, at: 8192 + 61440, into });
    assert_eq!(read, Ok(IoOk::Bytes(8192)));
    let bytes = bench.blocks.bytes(into);
    assert!(bytes[..4096].iter().all(|byte| *byte == 1));
    assert!(bytes[4096..].iter().all(|byte| *byte == 2));
    assert_eq!(bench.ask(|id| IoRequest::Flush { id, file }), Ok(IoOk::Done));
}

#[test]
fn a_read_past_the_end_is_short() {
    let mut bench = Bench::new();
    let file = bench.segment();
    let into = bench.filled(9, 8192);
    let read = bench.ask(|id| IoRequest::Read { id, file, at: (1 << 20) - 4096, into });
    assert_eq!(read, Ok(IoOk::Bytes(4096)));
    assert!(bench.blocks.bytes(into)[..4096].iter().all(|byte| *byte == 0), "zeroed");
}

#[test]
#[should_panic(expected = "C1")]
fn an_unaligned_transfer_is_a_broken_invariant() {
    let mut bench = Bench::new();
    let file = bench.segment();
    let into = bench.filled(9, 512);
    drop(bench.ask(|id| IoRequest::Read { id, file, at: 0, into }));
}

#[test]
fn the_prepared_name_is_not_a_segment_until_adopted() {
    let mut bench = Bench::new();
    let file = bench.prepared();
    assert_eq!(bench.ask(|id| IoRequest::Open { id, name: NAME }), Err(ENOENT));
    assert_eq!(bench.ask(|id| IoRequest::Adopt { id, file, name: NAME }), Ok(IoOk::Done));
    let Ok(IoOk::File { bytes, .. }) = bench.ask(|id| IoRequest::Open { id, name: NAME }) else {
        panic!("no file");
    };
    assert_eq!(bytes, 1 << 20);
}

#[test]
fn a_segment_grows_and_is_cut() {
    let mut bench = Bench::new();
    let file = bench.segment();
    let size = |bench: &Bench| {
        std::fs::metadata(layout::segment(bench.temp.path(), NAME)).expect("segment").len()
    };
    let grown = bench
        .ask(|id| IoRequest::Extend { id, file, from: 1 << 20, to: 3 << 20, zero: false })
        .expect("extended");
    assert_eq!((grown, size(&bench)), (IoOk::Done, 3 << 20));
    assert_eq!(bench.ask(|id| IoRequest::Trim { id, file, bytes: 8192 }), Ok(IoOk::Done));
    assert_eq!(size(&bench), 8192);
}

#[test]
fn a_full_table_of_files_refuses_and_recovers() {
    let mut bench = Bench::new();
    let file = bench.segment();
    let mut open = Vec::new();
    let refused = loop {
        match bench.ask(|id| IoRequest::Open { id, name: NAME }) {
            Ok(IoOk::File { file, .. }) => open.push(file),
            other => break other,
        }
    };
    assert_eq!(refused, Err(Errno(libc::EMFILE)));
    open.push(file);
    assert_eq!(open.len() as u32, FILES - 1);
    for file in open {
        assert_eq!(bench.ask(|id| IoRequest::Close { id, file }), Ok(IoOk::Done));
    }
    assert!(bench.ask(|id| IoRequest::Open { id, name: NAME }).is_ok());
}

#[test]
fn a_failed_prepare_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let free = bench.disk.free_slots.len();
    // A file where the topic's directory should be.
    std::fs::write(bench.temp.path().join("t"), b"x").expect("file");
    let failed = bench.ask(|id| IoRequest::Prepare { id, name: NAME, bytes: 4096, zero: false });
    assert_eq!(failed, Err(Errno(libc::ENOTDIR)));
    assert_eq!(bench.disk.free_slots.len(), free);
    assert!(!bench.disk.busy());
}

/// Requests on small files, directories and names, with the answers of a disk that works.
fn cold_story() -> Vec<(IoRequest, Result<IoOk, Errno>)> {
    let id = IoId(0);
    let big = vec![7u8; 200_000];
    let meta = SmallFile::PartitionMeta(LOG);
    let checkpoint = SmallFile::Checkpoint { shard: 0, generation: 3 };
    let names =
        |names: &[&str]| Ok(IoOk::Names(names.iter().map(|name| (*name).to_owned()).collect()));
    let small = |body: &[u8]| Ok(IoOk::Small(Some(body.to_vec())));
    vec![
        (IoRequest::SyncDir { id, dir: Dir::Checkpoints }, Ok(IoOk::Done)),
        (IoRequest::ReadSmall { id, file: SmallFile::Meta }, Ok(IoOk::Small(None))),
        (IoRequest::List { id, dir: Dir::Topics }, names(&[])),
        (IoRequest::WriteSmall { id, file: meta, body: b"m".to_vec() }, Ok(IoOk::Done)),
        (IoRequest::WriteSmall { id, file: meta, body: big.clone() }, Ok(IoOk::Done)),
        (IoRequest::ReadSmall { id, file: meta }, small(&big)),
        (IoRequest::WriteSmall { id, file: checkpoint, body: Vec::new() }, Ok(IoOk::Done)),
        (IoRequest::ReadSmall { id, file: checkpoint }, small(b"")),
        (IoRequest::List { id, dir: Dir::Checkpoints }, names(&["shard-0.3"])),
        (IoRequest::List { id, dir: Dir::Topics }, names(&["5"])),
        (IoRequest::List { id, dir: Dir::Partitions(5) }, names(&["1"])),
        (IoRequest::RemoveSmall { id, file: checkpoint }, Ok(IoOk::Done)),
        (IoRequest::RemoveSmall { id, file: checkpoint }, Ok(IoOk::Done)),
        (IoRequest::Unlink { id, name: NAME }, Err(ENOENT)),
        (
            IoRequest::Prepare { id, name: NAME, bytes: 8192, zero: true },
            Ok(IoOk::File { file: FileId(0), bytes: 8192 }),
        ),
        (IoRequest::Adopt { id, file: FileId(0), name: NAME }, Ok(IoOk::Done)),
        (IoRequest::Close { id, file: FileId(0) }, Ok(IoOk::Done)),
        (IoRequest::SetAside { id, name: NAME }, Ok(IoOk::Done)),
        (IoRequest::SyncDir { id, dir: Dir::Log(LOG) }, Ok(IoOk::Done)),
        (IoRequest::Open { id, name: NAME }, Err(ENOENT)),
        (IoRequest::RemoveLog { id, log: LOG }, Ok(IoOk::Done)),
        (IoRequest::List { id, dir: Dir::Partitions(5) }, names(&[])),
        (IoRequest::RemoveLog { id, log: LOG }, Ok(IoOk::Done)),
    ]
}

/// Files are numbered by the disk: puts the number it chose into later requests.
fn renumber(request: IoRequest, chosen: FileId) -> IoRequest {
    match request {
        IoRequest::Adopt { id, name, .. } => IoRequest::Adopt { id, file: chosen, name },
        IoRequest::Close { id, .. } => IoRequest::Close { id, file: chosen },
        other => other,
    }
}

#[test]
fn both_disks_tell_the_same_story() {
    let mut bench = Bench::new();
    let free = bench.disk.free_slots.len();
    let other = tempfile::tempdir().expect("temp dir");
    let mut blocking = BlockingDisk::new(other.path().to_owned());
    let mut chosen = [FileId(0); 2];
    for (request, expected) in cold_story() {
        let shown = format!("{request:?}");
        bench.io.requests.push(renumber(request.clone(), chosen[0]));
        let ring_done = bench.run().pop().expect("answer").result;
        let mut io = IoOut::default();
        io.requests.push(renumber(request, chosen[1]));
        let plain_done = blocking.run(&mut io, &mut bench.blocks).pop().expect("answer").result;
        for (index, mut result) in [ring_done, plain_done].into_iter().enumerate() {
            if let Ok(IoOk::File { file, .. }) = &mut result {
                chosen[index] = std::mem::replace(file, FileId(0));
            }
            assert_eq!(result, expected, "disk {index}: {shown:.200}");
        }
    }
    assert_eq!(bench.disk.free_slots.len(), free, "every slot came back");
    let left = std::fs::read_dir(bench.temp.path().join("checkpoints")).expect("dir").count();
    assert_eq!(left, 0, "no temporary file is left");
}

#[test]
fn many_writes_in_flight_are_each_answered_once() {
    let mut bench = Bench::new();
    let file = bench.segment();
    let slices: Vec<Slice> = (0..32).map(|byte| bench.filled(byte, 4096)).collect();
    for (index, slice) in slices.iter().enumerate() {
        let id = bench.id();
        let from = u32::try_from(index).expect("small");
        let at = index as u64 * 4096;
        bench.io.slices.push(*slice);
        let data = from..from + 1;
        bench.io.requests.push(IoRequest::Write { id, file, at, data, durable: index % 2 == 0 });
    }
    let mut done: Vec<IoId> = bench.run().iter().map(|done| done.id).collect();
    done.sort();
    done.dedup();
    assert_eq!((done.len(), bench.ring.in_flight()), (32, 0));
    let into = bench.filled(99, 4096);
    let read = bench.ask(|id| IoRequest::Read { id, file, at: 31 * 4096, into });
    assert_eq!(read, Ok(IoOk::Bytes(4096)));
    assert!(bench.blocks.bytes(into).iter().all(|byte| *byte == 31));
}
