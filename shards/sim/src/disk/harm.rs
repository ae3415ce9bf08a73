//! Damage at rest and lost metadata, done to a disk that no process uses.
//! Owner: `Disk`.
//! Invariant: damage is durable at once; nothing else of the disk changes.
//! Not here: what is damaged when (`rot.rs`, `damage.rs`).

use super::Disk;
use ringway_log::io::{SegmentName, SmallFile};

impl Disk {
    /// The block of its log directory.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// A segment's size, 0 when there is none.
    #[must_use]
    pub fn size_of(&self, name: SegmentName) -> usize {
        self.names.segment(name).map_or(0, |file| self.files[file].size())
    }

    /// A segment's bytes.
    #[must_use]
    pub fn bytes_of(&self, name: SegmentName) -> Vec<u8> {
        let mut bytes = vec![0; self.size_of(name)];
        self.peek(name, 0, &mut bytes);
        bytes
    }

    /// One bit turns.
    pub fn flip(&mut self, name: SegmentName, at: usize, bit: u32) {
        let mut byte = [0];
        self.peek(name, at, &mut byte);
        self.overwrite(name, at, &[byte[0] ^ (1 << (bit % 8))]);
    }

    /// Bytes become others.
    pub fn overwrite(&mut self, name: SegmentName, at: usize, bytes: &[u8]) {
        if let Some(file) = self.names.segment(name) {
            self.files[file].overwrite(at, bytes);
        }
    }

    /// A segment ends earlier.
    pub fn shorten(&mut self, name: SegmentName, size: usize) {
        if let Some(file) = self.names.segment(name) {
            self.files[file].end_early(size);
        }
    }

    /// The block that holds `at` cannot be read any more.
    pub fn spoil(&mut self, name: SegmentName, at: usize) {
        let block = self.block;
        if let Some(file) = self.names.segment(name) {
            for page in (at / block * block..(at / block + 1) * block).step_by(4096) {
                self.files[file].spoil(page);
            }
        }
    }

    /// A segment's name is gone.
    pub fn lose_segment(&mut self, name: SegmentName) {
        self.names.lose_segment(name);
    }

    /// A small file is another, or gone.
    pub fn replace_small(&mut self, file: SmallFile, body: Option<Vec<u8>>) {
        self.names.put_small(self.order, file, body, true);
    }

    /// Checkpoint files, oldest generation first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<SmallFile> {
        let generation = |file: &SmallFile| match file {
            SmallFile::Checkpoint { generation, shard } => Some((*generation, *shard)),
            SmallFile::Meta
            | SmallFile::CleanMarker
            | SmallFile::Snapshot(_)
            | SmallFile::Quarantine(_)
            | SmallFile::PartitionMeta(_) => None,
        };
        let mut found: Vec<SmallFile> =
            self.names.smalls().filter(|file| generation(file).is_some()).collect();
        found.sort_by_key(generation);
        found
    }
}
