//! The floor that knows io_uring, glommio, sockets, threads and the clock.
//!
//! One shard = one pinned thread with one ring of its own: [`shard_loop::run`] reaps the ring, steps the
//! logic of the floors below and submits once per turn.

mod accept;
pub mod block_pool;
mod blocking_disk;
pub mod clock;
mod connection;
pub mod counters;
pub mod directory;
pub mod disk;
pub mod doorbell;
mod engine;
pub mod error;
mod id_hash;
mod layout;
mod listen;
pub mod mesh;
pub mod net;
pub mod placement;
pub mod probe;
pub mod ring;
mod running;
mod script;
pub mod shard_loop;
mod sync;
