//! Protocol doors: bytes to requests, replies to bytes, one [`session::Session`] per connection. Sans-I/O.
//! Owner: the shard loop of `runtime`, or the simulator's world.
//! Invariant: nothing a peer sends may panic; every length is checked before memory is taken for it.
//! Not here: sockets, clocks, what requests mean (`partition`), how bytes look (`wire`).
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm, clippy::cast_possible_truncation)]

mod door;
mod input;
mod kafka;
mod native;
mod order;
pub mod session;
mod sniff;
mod turn;

#[cfg(test)]
mod tests;
