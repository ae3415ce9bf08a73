//! Sessions driven by bytes, with a stand-in for the shard.
//! Owner: `cargo test`.
//! Invariant: after every test the blocks are as free as before it.
//! Not here: unit tests of leaves; they stand at the foot of their files.

mod golden;
mod groups;
mod hostile;
mod kafka_data;
mod kafka_meta;
mod native;
mod ordering;
mod peer;
