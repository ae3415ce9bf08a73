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

/// What somebody does to the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets it forward by so many ns.
    Forward(u64),
    /// Sets it back by so many ns.
    Back(u64),
    /// Stops it for so many ns.
    Stopped(u64),
}

/// Virtual time of one world.
#[derive(Clone, Debug)]
pub struct Clock {
    mono_ns: u64,
    wall_offset_ns: u64,
    /// The wall clock stands still until then.
    stopped_until_ns: u64,
}

impl Default for Clock {
    /// Starts a little after zero, at a fixed date.
    fn default() -> Clock {
        Clock { mono_ns: SECOND, wall_offset_ns: 1_760_000_000 * SECOND, stopped_until_ns: 0 }
    }
}

impl Clock {
    /// What every step sees.
    #[must_use]
    pub fn now(&self) -> Now {
        let stood = self.stopped_until_ns.saturating_sub(self.mono_ns);
        let wall_ns = self.mono_ns + stood + self.wall_offset_ns;
        Now { mono_ns: self.mono_ns, wall_ns }
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

    /// Somebody changes the wall clock.
    pub fn change_wall(&mut self, change: Change) {
        let now = self.now();
        self.stopped_until_ns = 0;
        let offset = now.wall_ns - self.mono_ns;
        self.wall_offset_ns = match change {
            Change::Forward(by_ns) => offset.saturating_add(by_ns),
            Change::Back(by_ns) => offset.saturating_sub(by_ns),
            Change::Stopped(for_ns) => {
                self.stopped_until_ns = self.mono_ns + for_ns;
                offset - for_ns
            }
        };
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
        clock.change_wall(Change::Back(SECOND));
        assert_eq!(clock.now().mono_ns, before.mono_ns + 5);
        assert_eq!(clock.now().wall_ns + SECOND, before.wall_ns + 5);
    }

    #[test]
    fn a_stopped_wall_clock_stands_and_then_goes_on() {
        let mut clock = Clock::default();
        let before = clock.now();
        clock.change_wall(Change::Stopped(100));
        assert_eq!(clock.now().wall_ns, before.wall_ns);
        clock.advance(before.mono_ns + 99);
        assert_eq!(clock.now().wall_ns, before.wall_ns);
        clock.advance(before.mono_ns + 150);
        assert_eq!(clock.now().wall_ns, before.wall_ns + 50);
    }
}
