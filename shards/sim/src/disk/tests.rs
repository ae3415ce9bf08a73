//! The contract C1–C8, rule by rule, and what a liar says (M3).
//! Owner: the tests of this crate.
//! Invariant: a test fails when the disk breaks its rule.
//! Not here: C9 and what a cut keeps (`file.rs`, `names.rs`).

use super::*;
use crate::faults::{Kind, Trouble};
use crate::process::Pool;

const LOG: LogKey = LogKey { topic_id: 1, partition: 0 };
const NAME: SegmentName = SegmentName { log: LOG, base_offset: 0 };
const BLOCK: usize = 4096;

/// A disk with one open file of four blocks, and memory to write from.
struct Bench {
    disk: Disk,
    blocks: Blocks,
    file: FileId,
    next: u64,
    held: Vec<Slice>,
}

impl Bench {
    fn new(troubles: &[(Kind, u64)]) -> Bench {
        let blocks = Blocks::new(Pool::default().take(8), 1 << 20);
        let disk = Disk::new(BLOCK);
        let mut bench = Bench { disk, blocks, file: FileId(0), next: 1, held: Vec::new() };
        let prepare = |id| IoRequest::Prepare { id, name: NAME, bytes: 4 * 4096, zero: true };
        let Ok(IoOk::File { file, .. }) = bench.now(prepare) else { panic!("no file") };
        bench.file = file;
        let adopt = |id| IoRequest::Adopt { id, file, name: NAME };
        assert_eq!(bench.now(adopt), Ok(IoOk::Done));
        let sync = |id| IoRequest::SyncDir { id, dir: Dir::Log(LOG) };
        assert_eq!(bench.now(sync), Ok(IoOk::Done));
        let troubles: Vec<Trouble> = troubles
            .iter()
            .map(|(kind, nth)| Trouble { kind: *kind, nth: *nth, for_ns: 0, chance: 0 })
            .collect();
        bench.disk.device.begin(&troubles, Rng::new(1));
        bench
    }

    fn ask(&mut self, request: impl FnOnce(IoId) -> IoRequest, gather: &[Slice]) -> u64 {
        let id = IoId(self.next);
        self.next += 1;
        self.disk.submit(0, &request(id), gather, Some(&mut self.blocks)).op
    }

    fn end(&mut self, op: u64) -> Result<IoOk, Errno> {
        let (done, _) = self.disk.complete(op, Some(&mut self.blocks)).expect("in flight");
        done.result
    }

    fn now(&mut self, request: impl FnOnce(IoId) -> IoRequest) -> Result<IoOk, Errno> {
        let op = self.ask(request, &[]);
        self.end(op)
    }

    /// A slice of one block, filled.
    fn filled(&mut self, byte: u8) -> Slice {
        let block = self.blocks.take().expect("a block");
        self.blocks.tail_mut(block)[..BLOCK].fill(byte);
        let slice = self.blocks.freeze(block, 0, 4096);
        self.held.push(slice);
        slice
    }

    fn write(&mut self, at: u64, byte: u8, durable: bool) -> u64 {
        let slice = self.filled(byte);
        let file = self.file;
        self.ask(|id| IoRequest::Write { id, file, at, data: 0..1, durable }, &[slice])
    }

    fn flush(&mut self) -> u64 {
        let file = self.file;
        self.ask(|id| IoRequest::Flush { id, file }, &[])
    }

    /// First byte of each block, as a reader sees it.
    fn seen(&self) -> Vec<u8> {
        let first = |at: usize| {
            let mut one = [0xEE];
            assert_eq!(self.disk.peek(NAME, at * BLOCK, &mut one), 1);
            one[0]
        };
        (0..4).map(first).collect()
    }

    /// … after many different cuts: the values that each block came to have, where no sector was shorn.
    fn after_cuts(&self, at: usize) -> Vec<u8> {
        let mut values: Vec<u8> = (0..40)
            .filter_map(|seed| {
                let mut disk = self.disk.clone();
                disk.cut(&mut Rng::new(seed));
                let mut one = [0xEE];
                assert_eq!(disk.peek(NAME, at * BLOCK, &mut one), 1);
                (disk.counts.shorn == 0).then_some(one[0])
            })
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

#[test]
#[should_panic(expected = "C1")]
fn c1_a_write_between_blocks_is_refused() {
    Bench::new(&[]).write(512, 1, true);
}

#[test]
fn c2_a_flush_covers_what_was_complete_when_it_was_asked() {
    let mut bench = Bench::new(&[]);
    let early = bench.write(0, 1, false);
    bench.end(early).unwrap();
    let flush = bench.flush();
    let late = bench.write(4096, 2, false);
    bench.end(late).unwrap();
    bench.end(flush).unwrap();
    assert_eq!(bench.after_cuts(0), [1]);
    assert_eq!(bench.after_cuts(1), [0, 2]);
}

#[test]
fn c2_a_durable_write_covers_itself_alone() {
    let mut bench = Bench::new(&[]);
    let (plain, durable) = (bench.write(0, 1, false), bench.write(4096, 2, true));
    bench.end(plain).unwrap();
    bench.end(durable).unwrap();
    assert_eq!(bench.after_cuts(0), [0, 1]);
    assert_eq!(bench.after_cuts(1), [2]);
}

#[test]
fn c3_requests_end_in_any_order() {
    let mut bench = Bench::new(&[]);
    let (first, second) = (bench.write(0, 1, true), bench.write(4096, 2, true));
    bench.end(second).unwrap();
    assert_eq!(bench.seen(), [0, 2, 0, 0]);
    bench.end(first).unwrap();
    assert_eq!(bench.seen(), [1, 2, 0, 0]);
}

#[test]
fn c4_a_name_without_a_sync_may_go() {
    let mut bench = Bench::new(&[]);
    let name = SegmentName { base_offset: 7, ..NAME };
    let prepare = |id| IoRequest::Prepare { id, name, bytes: 4096, zero: true };
    let Ok(IoOk::File { file, .. }) = bench.now(prepare) else { panic!("no file") };
    bench.now(|id| IoRequest::Adopt { id, file, name }).unwrap();
    let there = |disk: &Disk, seed| {
        let mut disk = disk.clone();
        disk.cut(&mut Rng::new(seed));
        disk.names().segment(name).is_some()
    };
    let kept = (0..40).filter(|seed| there(&bench.disk, *seed)).count();
    assert!(kept > 0 && kept < 40, "{kept}");
    bench.now(|id| IoRequest::SyncDir { id, dir: Dir::Log(LOG) }).unwrap();
    assert!((0..40).all(|seed| there(&bench.disk, seed)));
}

#[test]
fn c5_new_space_is_zeros_and_old_space_keeps_its_bytes() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.seen(), [0; 4]);
    let write = bench.write(0, 9, true);
    bench.end(write).unwrap();
    let file = bench.file;
    let extend = |id| IoRequest::Extend { id, file, from: 4 * 4096, to: 5 * 4096, zero: false };
    bench.now(extend).unwrap();
    let mut one = [0xEE];
    assert_eq!(bench.disk.peek(NAME, 4 * BLOCK, &mut one), 1);
    assert_eq!((one[0], bench.seen()[0]), (0, 9));
}

#[test]
#[should_panic(expected = "C6")]
fn c6_bytes_in_flight_are_the_disks() {
    let mut bench = Bench::new(&[]);
    let write = bench.write(0, 1, true);
    let slice = bench.held[0];
    bench.blocks.target_mut(slice)[17] ^= 1;
    bench.end(write).unwrap();
}

#[test]
fn c6_the_target_of_a_read_holds_nothing_before_the_answer() {
    let mut bench = Bench::new(&[]);
    let into = bench.filled(3);
    let file = bench.file;
    let read = bench.ask(|id| IoRequest::Read { id, file, at: 0, into }, &[]);
    assert_eq!(bench.blocks.bytes(into)[0], 0xDB);
    bench.end(read).unwrap();
    assert_eq!(bench.blocks.bytes(into)[0], 0);
}

#[test]
fn c7_a_failed_flush_takes_any_unflushed_write_and_the_next_one_succeeds() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut bench = Bench::new(&[(Kind::FlushError, 0)]);
        let trouble = Trouble { kind: Kind::FlushError, nth: 0, for_ns: 0, chance: 0 };
        bench.disk.device.begin(&[trouble], Rng::new(seed));
        let write = bench.write(0, 1, false);
        bench.end(write).unwrap();
        let (failing, other) = (bench.flush(), bench.flush());
        assert_eq!(bench.end(failing), Err(EIO));
        assert_eq!(bench.end(other), Err(EIO), "in flight on the same device");
        let next = bench.flush();
        assert_eq!(bench.end(next), Ok(IoOk::Done));
        lost += usize::from(bench.seen()[0] == 0);
    }
    assert!(lost > 0 && lost < 20, "{lost}");
}

#[test]
fn c7_a_write_whose_flush_was_still_to_come_may_succeed_without_its_bytes() {
    let mut robbed = 0;
    for seed in 0..40 {
        let mut bench = Bench::new(&[]);
        let trouble = Trouble { kind: Kind::FlushError, nth: 0, for_ns: 0, chance: 0 };
        bench.disk.device.begin(&[trouble], Rng::new(seed));
        let (failing, other) = (bench.write(0, 1, true), bench.write(4096, 2, true));
        assert_eq!(bench.end(failing), Err(EIO));
        let (done, failed) =
            bench.disk.complete(other, Some(&mut bench.blocks)).expect("in flight");
        assert!(failed.is_some(), "its log is in doubt whatever it was told");
        robbed += usize::from(done.result.is_ok() && bench.seen()[1] == 0);
    }
    assert!(robbed > 0, "{robbed}");
}

#[test]
fn c8_a_durable_write_that_fails_is_not_durable() {
    let mut codes = Vec::new();
    for seed in 0..20 {
        let mut bench = Bench::new(&[]);
        let trouble = Trouble { kind: Kind::WriteError, nth: 0, for_ns: 0, chance: 0 };
        bench.disk.device.begin(&[trouble], Rng::new(seed));
        let write = bench.write(0, 1, true);
        codes.push(bench.end(write).unwrap_err().0);
        assert_eq!(bench.after_cuts(0).first(), Some(&0));
    }
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes, [EIO.0, crate::device::ECANCELED.0]);
}

#[test]
fn c8_a_short_write_says_so() {
    let mut bench = Bench::new(&[(Kind::ShortWrite, 0)]);
    let write = bench.write(0, 1, true);
    let Ok(IoOk::Bytes(bytes)) = bench.end(write) else { panic!("not short") };
    assert!(bytes < 4096 && bytes.is_multiple_of(512), "{bytes}");
}

#[test]
fn a_liar_says_that_all_went_well() {
    for kind in [Kind::FlushIgnored, Kind::WriteLost, Kind::WriteMisplaced] {
        let mut bench = Bench::new(&[(kind, 0)]);
        let write = bench.write(4096, 5, true);
        assert_eq!(bench.end(write), Ok(IoOk::Bytes(4096)));
        match kind {
            Kind::FlushIgnored => assert_eq!(bench.after_cuts(1), [0, 5]),
            Kind::WriteLost => assert_eq!(bench.seen(), [0; 4]),
            _ => assert_eq!(bench.seen()[1], 0, "{:?}", bench.seen()),
        }
    }
}
