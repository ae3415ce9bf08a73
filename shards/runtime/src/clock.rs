//! The clock: the only place that reads it for a shard.
//! Owner: the shard loop, once per turn.
//! Invariant: `mono_ns` never goes back.
//! Not here: timers (`shard_loop.rs`).

use ringway_log::io::Now;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// All shards and the control plane share this zero, so that deadlines may cross the mesh.
static START: OnceLock<Instant> = OnceLock::new();

/// Now, on both clocks.
#[must_use]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ns: mono_ns(), wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
}

/// Nanoseconds since this process first asked, plus one second so that zero is always past.
#[must_use]
pub fn mono_ns() -> u64 {
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).saturating_add(1_000_000_000)
}
