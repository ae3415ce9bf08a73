//! Tests of the whole log on a disk in memory: round trips, crashes, damage, refusals.
//! Owner: this crate.
//! Invariant: what was flushed is read back, byte for byte, whatever was cut.
//! Not here: long runs over many seeds (`shards/sim`).

mod cold;
mod damage;
#[expect(clippy::wildcard_enum_match_arm, reason = "a test disk treats most requests alike")]
pub(crate) mod disk;
mod full;
mod life;
mod lives;
mod lost_meta;
mod misplaced;
mod poison;
mod rules;
mod scrub;
mod start;
mod tools;
