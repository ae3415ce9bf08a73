//! The atomics that threads meet at: `tests/models` compiles the same files with a model checker's.
//! Owner: nobody.
//! Invariant: what threads share through memory names its atomics from here.
//! Not here: words that only the kernel or a statistic reads (`ring.rs`, `counters.rs`).

pub(crate) use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};
