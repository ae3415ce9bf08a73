//! The quarantine list of one log: damaged ranges that are named and never served (reliability.md 3.6).
//! Owner: `Log`.
//! Invariant: an entry is durable before the log opens or the failing fetch is answered; entries never overlap.
//! Not here: finding damage (`verdict.rs`, `cold.rs`); the list is never an input of recovery's scan.

use crate::codec::{Reader, Writer};

const MAGIC: [u8; 4] = *b"RWQL";
const VERSION: u16 = 1;

/// What is wrong with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// No acceptable header where one must be.
    Header,
    /// The payload's CRC-32C is wrong.
    Payload,
    /// The segment ends or is gone where the log must go on.
    Missing,
}

/// One damaged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quarantined {
    /// Segment, by its base offset.
    pub(crate) segment: u64,
    /// First damaged byte.
    pub(crate) at: u64,
    /// Where readable frames go on in this segment; `u64::MAX`: in the next one.
    pub(crate) until: u64,
    /// First offset lost.
    pub(crate) from: u64,
    /// First offset after it.
    pub(crate) to: u64,
    /// Why.
    pub(crate) damage: Damage,
    /// Wall clock when it was found.
    pub(crate) found_ns: u64,
}

/// All damaged ranges of one log, in order of offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine {
    entries: Vec<Quarantined>,
    /// Rises with every change; durable once `saved` has reached it.
    pub(crate) version: u64,
    pub(crate) saved: u64,
    pub(crate) saving: Option<u64>,
}

impl Quarantine {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_saved(&self) -> bool {
        self.saved == self.version
    }

    /// Adds a range unless it is known. True: the list changed and must be written.
    pub(crate) fn add(&mut self, entry: Quarantined) -> bool {
        if entry.to <= entry.from {
            return false;
        }
        if self.entries.iter().any(|old| old.from <= entry.from && entry.to <= old.to) {
            return false;
        }
        self.entries.retain(|old| !(entry.from <= old.from && old.to <= entry.to));
        let at = self.entries.partition_point(|old| old.from < entry.from);
        self.entries.insert(at, entry);
        self.version += 1;
        true
    }

    /// The range that holds `offset`.
    pub(crate) fn find(&self, offset: u64) -> Option<&Quarantined> {
        self.entries.iter().find(|entry| entry.from <= offset && offset < entry.to)
    }

    /// Ranges below the log start are gone with their segments.
    pub(crate) fn trim(&mut self, log_start: u64) {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.to > log_start);
        if self.entries.len() != before {
            self.version += 1;
        }
    }

    /// Ranges at or above `end` describe offsets that were given up.
    pub(crate) fn truncate(&mut self, end: u64) {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.from < end);
        if self.entries.len() != before {
            self.version += 1;
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION);
        out.count(self.entries.len());
        for entry in &self.entries {
            for number in
                [entry.segment, entry.at, entry.until, entry.from, entry.to, entry.found_ns]
            {
                out.u64(number);
            }
            out.u8(match entry.damage {
                Damage::Header => 0,
                Damage::Payload => 1,
                Damage::Missing => 2,
            });
        }
        out.finish()
    }

    /// A damaged list is an empty one: reads find the ranges again.
    pub(crate) fn decode(body: &[u8]) -> Quarantine {
        let entries = Quarantine::read(body).unwrap_or_default();
        Quarantine { entries, ..Quarantine::default() }
    }

    fn read(body: &[u8]) -> Option<Vec<Quarantined>> {
        let mut from = Reader::open(body, MAGIC, VERSION).ok()?;
        let count = from.count(49)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Quarantined {
                segment: from.u64()?,
                at: from.u64()?,
                until: from.u64()?,
                from: from.u64()?,
                to: from.u64()?,
                found_ns: from.u64()?,
                damage: match from.u8()? {
                    1 => Damage::Payload,
                    2 => Damage::Missing,
                    _ => Damage::Header,
                },
            });
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> Quarantined {
        let damage = Damage::Header;
        Quarantined { segment: 0, at: from, until: to, from, to, damage, found_ns: 5 }
    }

    #[test]
    fn the_list_survives_its_codec_and_knows_each_range_once() {
        let mut list = Quarantine::default();
        assert!(list.add(range(10, 20)) && list.add(range(3, 5)) && !list.add(range(12, 15)));
        assert!(list.add(range(9, 21)), "a wider range replaces the narrow one");
        let again = Quarantine::decode(&list.encode());
        assert_eq!(again.entries, list.entries);
        assert_eq!(again.find(9).map(|entry| entry.to), Some(21));
        assert!(again.find(21).is_none() && again.find(5).is_none());
        assert_eq!(Quarantine::decode(b"rubbish").len(), 0);
    }
}
