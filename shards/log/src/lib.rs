//! The log: where bytes lie, how they become durable, how they survive. Sans-I/O: every effect is an
//! [`io::IoRequest`], every answer an [`io::IoDone`].
//! Owner: the shard that owns the partitions.
//! Invariant: acknowledged means flushed; recovery finds every flushed batch again.
//! Not here: what batches mean (`partition`), sockets, files, clocks, threads.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm, clippy::cast_possible_truncation)]

mod append;
pub mod blocks;
mod checkpoint;
mod codec;
mod cold;
pub mod directory;
mod event;
mod evidence;
mod finding;
mod frame;
mod group;
mod index;
pub mod inspect;
pub mod io;
mod keeper;
mod life_table;
mod log;
mod log_plan;
mod log_reads;
pub mod logs;
pub mod lost_meta;
mod named;
mod ops;
mod payload;
mod poison;
mod quarantine;
pub mod read;
mod recover;
pub mod repair;
mod retention;
mod roll;
mod scan;
mod scrub;
mod seek;
mod segment;
mod settings;
mod snapshot;
mod stall;
mod start;
mod stop;
mod tail;
mod tail_reads;
#[cfg(test)]
mod tests;
mod truncate;
mod turn;
mod verdict;
pub mod verify;
mod window;

pub use logs::SegmentFacts;
