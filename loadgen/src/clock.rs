//! The run's time: nanoseconds since it began, the same on every thread.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock with a common start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    start_unix_ms: i64,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock {
            start: Instant::now(),
            start_unix_ms: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Nanoseconds since the start.
    pub(crate) fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// Wall time of a moment of this clock, ms.
    pub(crate) fn unix_ms(&self, now_ns: u64) -> i64 {
        let since = i64::try_from(now_ns / 1_000_000).unwrap_or(i64::MAX);
        self.start_unix_ms.saturating_add(since)
    }
}

/// A duration in nanoseconds, 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When the phases of a run begin and end, ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    /// First record is due.
    pub(crate) begin_ns: u64,
    /// Measuring starts.
    pub(crate) measure_ns: u64,
    /// Nothing is due any more, measuring ends.
    pub(crate) end_ns: u64,
    /// How long to wait for what is outstanding then.
    pub(crate) drain_ns: u64,
}

impl Phases {
    /// Whether a moment is measured.
    pub(crate) fn measures(&self, at_ns: u64) -> bool {
        (self.measure_ns..self.end_ns).contains(&at_ns)
    }
}
