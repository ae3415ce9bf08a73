//! Where batches lie on a disk, found by their identity: what damage hits, and what it must not.
//! Owner: nobody, plain values.
//! Invariant: found by bytes alone, without the log's own knowledge.
//! Not here: damage (`damage.rs`, `rot.rs`).

use crate::disk::Disk;
use crate::room::{FrameSeen, see_all};
use ringway_log::io::SegmentName;
use ringway_wire::header::BatchHeader;
use ringway_wire::ids::LogKey;
use std::collections::BTreeSet;
use std::ops::Range;

/// A batch on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Segment, by its base offset.
    pub segment: u64,
    /// First byte.
    pub at: usize,
    /// What it is.
    pub frame: FrameSeen,
}

impl Place {
    /// Its bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.frame.frame_len as usize
    }
}

/// Every whole batch of a log that `wanted` knows.
pub fn find(disk: &Disk, log: LogKey, wanted: impl Fn(&FrameSeen) -> bool) -> Vec<Place> {
    let mut places = Vec::new();
    let names: Vec<SegmentName> = disk.names().segments(log).map(|(name, _)| name).collect();
    for name in names {
        let bytes = disk.bytes_of(name);
        let mut at = 0;
        while at + 128 <= bytes.len() {
            let Some(step) = bytes[at..].iter().position(|byte| *byte == b'V') else { break };
            at += step;
            if let Some(frame) = whole(&bytes[at..], log).filter(|frame| wanted(frame)) {
                places.push(Place { segment: name.base_offset, at, frame });
                at += frame.frame_len as usize;
            } else {
                at += 1;
            }
        }
    }
    places
}

fn whole(bytes: &[u8], log: LogKey) -> Option<FrameSeen> {
    let header = BatchHeader::access(bytes).ok()?;
    let len = header.frame_len() as usize;
    if header.topic_id() != log.topic_id || header.partition() != log.partition || len < 128 {
        return None;
    }
    let mut seen = Vec::new();
    see_all(bytes.get(..len)?, &mut seen);
    seen.pop().filter(|frame| frame.sound)
}

/// Base offsets of the batches that lie, in part, in `range` of a segment.
#[must_use]
pub fn touched(places: &[Place], segment: u64, range: &Range<usize>) -> BTreeSet<u64> {
    let hit = |place: &&Place| {
        let own = place.range();
        place.segment == segment && own.start < range.end && range.start < own.end
    };
    places.iter().filter(hit).map(|place| place.frame.base).collect()
}
