//! Virtual time: monotonic nanoseconds that only events move, and a wall clock that may lie.
//! Owner: the world.
//! Invariant: monotonic time never falls, the wall clock may.
//! Not here: the event queue (`world.rs`).

use ringway_log::io::Now;

/// One microsecond.
pub const US: u64 = 1_000;
/// One millisecond.
pub const MS: u64 = 1_000_000;
/// One second.
pub const SECOND: u64 = 1_000_000_000;

/// Virtual time of one world.
#[derive(Clone, Debug)]
pub struct Clock {
    mono_ns: u64,
    wall_offset_ns: u64,
}

impl Default for Clock {
    /// Starts a little after zero, at a fixed date.
    fn default() -> Clock {
        Clock { mono_ns: SECOND, wall_offset_ns: 1_760_000_000 * SECOND }
    }
}

impl Clock {
    /// What every step sees.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono_ns: self.mono_ns, wall_ns: self.mono_ns + self.wall_offset_ns }
    }

    /// Monotonic time.
    #[must_use]
    pub fn mono_ns(&self) -> u64 {
        self.mono_ns
    }

    /// Moves on to an event's time.
    ///
    /// # Panics
    /// When time would fall.
    pub fn advance(&mut self, to_ns: u64) {
        assert!(to_ns >= self.mono_ns, "time falls from {} to {to_ns}", self.mono_ns);
        self.mono_ns = to_ns;
    }

    /// Somebody sets the wall clock.
    pub fn jump_wall(&mut self, forward: bool, by_ns: u64) {
        let at = self.wall_offset_ns;
        self.wall_offset_ns =
            if forward { at.saturating_add(by_ns) } else { at.saturating_sub(by_ns) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_may_fall_and_the_monotonic_may_not() {
        let mut clock = Clock::default();
        let before = clock.now();
        clock.advance(before.mono_ns + 5);
        clock.jump_wall(false, SECOND);
        assert_eq!(clock.now().mono_ns, before.mono_ns + 5);
        assert_eq!(clock.now().wall_ns + SECOND, before.wall_ns + 5);
    }
}
