//! What the bytes mean: partitions, idempotent producers, waiting fetches, consumer groups. Sans-I/O.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::cast_possible_truncation))]

mod batch_rules;
pub mod catalog;
mod deadlines;
mod epoch;
mod fetch;
mod fetch_part;
pub mod group;
pub mod job;
mod leader;
mod list_offsets;
mod log_events;
mod mesh;
mod openings;
mod partition;
mod produce;
mod produce_rows;
mod producer_ids;
mod producer_state;
mod refused_turns;
pub mod request;
mod rules;
pub mod shard;
mod shard_config;
pub mod topic_config;
mod topic_settings;
mod turn;
mod waiters;
