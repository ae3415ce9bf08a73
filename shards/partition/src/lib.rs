//! What the bytes mean: partitions, idempotent producers, waiting fetches, consumer groups. Sans-I/O.
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm, clippy::cast_possible_truncation)]

pub mod catalog;
pub mod request;
pub mod shard;
pub mod topic_config;
mod topic_settings;
