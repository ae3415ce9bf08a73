//! What a process begins with: block memory, and the directory on its disk.
//! Owner: one run of a target with a disk.
//! Invariant: memory that is given back serves the next run; made anew, its zeros would cost more than a run.
//! Not here: the disk (`disk.rs`), what runs over it (`node.rs`, `broker.rs`).

use crate::disk::Disk;
use ringway_log::blocks::{Blocks, Piece};
use ringway_log::directory::{DirectoryFacts, DirectoryProgress, DirectoryStart};
use ringway_log::io::IoOut;
use std::sync::Mutex;

/// Secret of every directory.
pub const SECRET: u32 = 0x5EC2_E755;
/// Memory of large frames.
const LARGE_BYTES_MAX: usize = 16 << 20;
/// Answers of the disk until a directory must have started.
const ANSWERS_MAX: u32 = 5_000;

/// Given back by earlier runs.
static SPARE: Mutex<Vec<Piece>> = Mutex::new(Vec::new());

/// Memory of a process: `count` blocks.
pub fn blocks(count: usize) -> Blocks {
    let mut spare = SPARE.lock().expect("one thread");
    while spare.len() < count {
        spare.push(Piece::zeroed());
    }
    let rest = spare.len() - count;
    Blocks::new(spare.split_off(rest), LARGE_BYTES_MAX)
}

/// The process is gone: takes its memory back.
pub fn give_back(blocks: &mut Blocks) {
    let blocks = std::mem::replace(blocks, Blocks::new(Vec::new(), 0));
    SPARE.lock().expect("one thread").extend(blocks.into_memory());
}

/// Starts the directory of `disk`, an empty one or one that was there before.
pub fn directory(disk: &mut Disk, blocks: &mut Blocks) -> DirectoryFacts {
    let mut io = IoOut::default();
    let mut start = DirectoryStart::new([9; 16], SECRET, 4096, &mut io);
    for _ in 0..ANSWERS_MAX {
        disk.submit(&mut io, blocks);
        let done = disk.next_done().expect("the directory waits for nothing");
        match start.on_io(done, &mut io) {
            DirectoryProgress::Working => {}
            DirectoryProgress::Ready(facts) => return facts,
            DirectoryProgress::Refused(text) => panic!("directory refused: {text}"),
        }
    }
    panic!("the directory does not start");
}
