//! Start steps 3 (meta, start counter) and 4 (sync, clean marker) of a log directory, once per process.
//! Owner: `boot.rs` before the shards start; the simulator likewise.
//! Invariant: the start counter is durable before any recovery acts.
//! Not here: the lock (`runtime`), recovery of single logs (`recover.rs`).

use crate::io::{IoDone, IoOut};

/// What every shard of this life knows of its log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// Identity of the directory.
    pub uuid: [u8; 16],
    /// Block of every write, bytes; fixed at creation (3.1).
    pub block: u32,
    /// XORed into header_crc on disk (P5).
    pub secret: u32,
    /// Bumped durably by this start; log_epochs of this life are above it.
    pub start_counter: u32,
    /// (shard, generation) listed by the clean marker, empty after an unclean stop.
    pub clean: Vec<(u32, u64)>,
    /// All checkpoint files there are: (shard, generation, body).
    pub checkpoints: Vec<(u32, u64, Vec<u8>)>,
    /// Logs found on disk.
    pub logs: Vec<ringway_wire::ids::LogKey>,
}

/// How the start of a directory stands.
#[derive(Debug)]
pub enum DirectoryProgress {
    /// Waiting for the disk.
    Working,
    /// Done.
    Ready(DirectoryFacts),
    /// Cannot be used; the text names cause and remedy.
    Refused(String),
}

/// Runs the steps. A new directory gets `new_uuid`, `new_secret` and `new_block`.
pub struct DirectoryStart {
    _new: ([u8; 16], u32, u32),
}

impl DirectoryStart {
    /// First requests are in `io`.
    pub fn new(
        new_uuid: [u8; 16],
        new_secret: u32,
        new_block: u32,
        io: &mut IoOut,
    ) -> DirectoryStart {
        let _ = io;
        DirectoryStart { _new: (new_uuid, new_secret, new_block) }
    }

    /// Feeds an answer.
    pub fn on_io(&mut self, done: IoDone, io: &mut IoOut) -> DirectoryProgress {
        let _ = (done, io);
        DirectoryProgress::Working
    }
}

/// Body of `SmallFile::CleanMarker`: written last at a clean stop, with the generation of every shard's
/// last checkpoint. The next [`DirectoryStart`] reads it into [`DirectoryFacts::clean`].
#[must_use]
pub fn clean_marker(shards: &[(u32, u64)]) -> Vec<u8> {
    let _ = shards;
    Vec::new()
}
