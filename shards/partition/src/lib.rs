//! What the bytes mean: partitions, idempotent producers, waiting fetches, consumer groups. Sans-I/O.
#![forbid(unsafe_code)]

pub mod catalog;
pub mod request;
pub mod shard;
pub mod topic_config;
