//! The quarantine list of one log: damaged ranges that are named and never served (reliability.md 3.6).
//! Owner: `Log`.
//! Invariant: an entry is durable before the log opens or the failing fetch is answered; entries never overlap.
//! Not here: finding damage (`verdict.rs`, `cold.rs`); the list is never an input of recovery's scan.

use crate::codec::{Reader, Writer};
use crate::event::QuarantineFacts;
use ringway_wire::ids::LogKey;

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
    /// A whole header that does not belong here: another log's, another life's, or out of order.
    Place,
    /// The device gave no bytes.
    Unreadable,
}

/// Every reason, in the order of its number in the file.
const DAMAGES: [Damage; 5] =
    [Damage::Header, Damage::Payload, Damage::Missing, Damage::Place, Damage::Unreadable];

impl Damage {
    /// One word for people and programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Damage::Header => "header",
            Damage::Payload => "payload",
            Damage::Missing => "missing",
            Damage::Place => "place",
            Damage::Unreadable => "unreadable",
        }
    }
}

/// Who came across a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finder {
    /// The scan of a start.
    Recovery,
    /// A fetch, a time look-up or a truncation.
    Read,
    /// Nobody asked for it (Q5).
    Scrub,
}

const FINDERS: [Finder; 3] = [Finder::Recovery, Finder::Read, Finder::Scrub];

impl Finder {
    /// One word for people and programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Finder::Recovery => "recovery",
            Finder::Read => "read",
            Finder::Scrub => "scrub",
        }
    }
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
    /// Who found it.
    pub(crate) finder: Finder,
}

impl Quarantined {
    /// The line for the operator.
    pub(crate) fn line(&self, log: LogKey) -> String {
        let Quarantined { segment, at, from, to, .. } = self;
        let (damage, finder) = (self.damage.name(), self.finder.name());
        let bytes = match self.until {
            u64::MAX => format!("from byte {at} to its end"),
            until => format!("bytes {at} to {until}"),
        };
        format!(
            "log {log}: damaged data ({damage}, found by {finder}) in segment {segment}, {bytes}: offsets {from} to \
             {to} are quarantined; everything else stays readable"
        )
    }

    /// As it is told.
    pub(crate) fn facts(&self) -> QuarantineFacts {
        QuarantineFacts {
            segment: self.segment,
            position: self.at,
            until_position: (self.until < u64::MAX).then_some(self.until),
            from: self.from,
            to: self.to,
            reason: self.damage.name(),
            found_by: self.finder.name(),
            found_ms: self.found_ns / 1_000_000,
        }
    }
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

    /// Offsets at or above `end` were given up: what stands there later is not what was damaged.
    pub(crate) fn truncate(&mut self, end: u64) {
        if self.entries.iter().all(|entry| entry.to <= end) {
            return;
        }
        self.entries.retain(|entry| entry.from < end);
        for entry in &mut self.entries {
            entry.to = entry.to.min(end);
        }
        self.version += 1;
    }

    /// All ranges, as they are told.
    pub(crate) fn facts(&self) -> Vec<QuarantineFacts> {
        self.entries.iter().map(Quarantined::facts).collect()
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
            let damage = DAMAGES.iter().position(|damage| *damage == entry.damage).unwrap_or(0);
            let finder = FINDERS.iter().position(|finder| *finder == entry.finder).unwrap_or(0);
            out.u8(u8::try_from(finder << 4 | damage).unwrap_or(0));
        }
        out.finish()
    }

    /// None: the list is damaged. It is as good as an empty one: reads find the ranges again.
    pub(crate) fn open(body: &[u8]) -> Option<Quarantine> {
        Quarantine::read(body).map(|entries| Quarantine { entries, ..Quarantine::default() })
    }

    fn read(body: &[u8]) -> Option<Vec<Quarantined>> {
        let mut from = Reader::open(body, MAGIC, VERSION).ok()?;
        let count = from.count(49)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let (segment, at, until) = (from.u64()?, from.u64()?, from.u64()?);
            let (first, to, found_ns) = (from.u64()?, from.u64()?, from.u64()?);
            // Lower half the reason, upper half the finder; what a newer Ringway wrote reads as the first.
            let words = usize::from(from.u8()?);
            let damage = *DAMAGES.get(words & 15).unwrap_or(&Damage::Header);
            let finder = *FINDERS.get(words >> 4).unwrap_or(&Finder::Recovery);
            entries.push(Quarantined {
                segment,
                at,
                until,
                from: first,
                to,
                damage,
                found_ns,
                finder,
            });
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> Quarantined {
        let (damage, finder) = (Damage::Unreadable, Finder::Read);
        Quarantined { segment: 0, at: from, until: to, from, to, damage, found_ns: 5, finder }
    }

    #[test]
    fn the_list_survives_its_codec_and_knows_each_range_once() {
        let mut list = Quarantine::default();
        assert!(list.add(range(10, 20)) && list.add(range(3, 5)) && !list.add(range(12, 15)));
        assert!(list.add(range(9, 21)), "a wider range replaces the narrow one");
        let again = Quarantine::open(&list.encode()).expect("whole");
        assert_eq!(again.entries, list.entries);
        assert_eq!(again.find(9).map(|entry| entry.to), Some(21));
        assert!(again.find(21).is_none() && again.find(5).is_none());
        assert!(Quarantine::open(b"rubbish").is_none());
    }
}
