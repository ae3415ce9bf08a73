//! What a verifier finds wrong in a log, and where.
//! Owner: nobody, plain values.
//! Invariant: everything but a torn tail concerns acknowledged data.
//! Not here: finding it (`verify.rs`, `named.rs`).

use crate::quarantine::Damage;
use crate::verdict::Damaged;

/// What is wrong at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// An unfinished write at the end: nothing acknowledged is missing.
    TornTail,
    /// No whole header where one must be.
    Header,
    /// The header is right, the payload is not.
    Payload,
    /// A whole header that does not belong here.
    Place,
    /// The segment ends or is gone where the log must go on.
    Missing,
    /// The device gives no bytes.
    Unreadable,
    /// A segment that holds nothing of this log and stands inside another one's offsets.
    Stray,
    /// Nothing stands where the broker names a loss: the log went on behind it.
    GivenUp,
    /// The broker names it damaged and does not serve it, although it is readable.
    Unserved,
    /// The newest checkpoint names an end that is no end of a frame of this log.
    Checkpoint,
}

impl FindingKind {
    /// One or two words for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::TornTail => "torn tail",
            FindingKind::Header => Damage::Header.name(),
            FindingKind::Payload => Damage::Payload.name(),
            FindingKind::Place => Damage::Place.name(),
            FindingKind::Missing | FindingKind::GivenUp => Damage::Missing.name(),
            FindingKind::Unreadable => Damage::Unreadable.name(),
            FindingKind::Stray => "stray",
            FindingKind::Unserved => "unserved",
            FindingKind::Checkpoint => "checkpoint",
        }
    }
}

impl From<Damage> for FindingKind {
    fn from(damage: Damage) -> FindingKind {
        match damage {
            Damage::Header => FindingKind::Header,
            Damage::Payload => FindingKind::Payload,
            Damage::Missing => FindingKind::Missing,
            Damage::Place => FindingKind::Place,
            Damage::Unreadable => FindingKind::Unreadable,
        }
    }
}

/// One thing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// Segment, by its base offset.
    pub segment: u64,
    /// First byte in the segment.
    pub position: u64,
    /// Where readable frames go on in this segment; `None`: in the next one, or nowhere.
    pub until_position: Option<u64>,
    /// First offset concerned.
    pub offset: u64,
    /// First offset after it.
    pub until: u64,
}

impl Finding {
    /// Whether acknowledged data is concerned: a torn tail is what a crash leaves of unacknowledged writes.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.kind != FindingKind::TornTail
    }

    /// Whether the bytes of its segment are concerned: what is only said of them leaves the segment as it is.
    pub(crate) fn is_of_bytes(&self) -> bool {
        self.is_damage() && !matches!(self.kind, FindingKind::GivenUp | FindingKind::Unserved)
    }
}

impl From<&Damaged> for Finding {
    fn from(range: &Damaged) -> Finding {
        Finding {
            kind: range.damage.into(),
            segment: range.segment,
            position: range.at,
            until_position: (range.until < u64::MAX).then_some(range.until),
            offset: range.from,
            until: range.to,
        }
    }
}
