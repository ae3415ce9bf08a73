//! Carries out the log's requests on the shard's ring.
//! Owner: the shard loop.
//! Invariant: C1–C9 of `docs/testing.md`; every request is answered once.
//! Not here: what is written where (`ringway-log`).

pub use crate::blocking_disk::BlockingDisk;
