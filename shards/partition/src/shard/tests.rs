//! A shard as a whole, over the real logs and a disk in memory.

mod disk;
mod fetches;
mod groups;
mod produces;
mod quarantine;
mod seeds;
mod world;
