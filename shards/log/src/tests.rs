//! Tests of the whole log on a disk in memory: round trips, crashes, damage, refusals.
//! Owner: this crate.
//! Invariant: what was flushed is read back, byte for byte, whatever was cut.
//! Not here: long runs over many seeds (`shards/sim`).

pub(crate) mod disk;
mod life;
mod rules;
