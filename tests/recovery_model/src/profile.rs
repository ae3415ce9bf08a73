//! Which troubles a world has.
//! Owner: one world.
//! Invariant: a name is words joined by `+`.
//! Not here: doing the harm (`harm.rs`, `life.rs`).

/// Switches of a profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Profile {
    /// Payloads that contain what looks like headers.
    pub hostile: bool,
    /// A leader orders logs back.
    pub truncate: bool,
    /// One flipped bit, zeroed sector or zeroed block between two lives.
    pub rot: bool,
    /// As `rot`, up to four.
    pub rots: bool,
    /// One block between two lives is swapped, stale, a copy of another, or another log's.
    pub moved: bool,
    /// Writes that never happen or lie one block off.
    pub lies: bool,
    /// Checkpoints, snapshots and quarantine lists are lost or one version old.
    pub meta: bool,
    /// The last segment of a log ends early.
    pub ends: bool,
    /// An operator gives up what is quarantined in recorded gaps.
    pub repair: bool,
    /// Small worlds.
    pub small: bool,
    /// Each seed draws from all of the above but `lies` and `rots`.
    pub mixed: bool,
}

impl Profile {
    /// From its name.
    pub fn parse(name: &str) -> Option<Profile> {
        let mut profile = Profile::default();
        for word in name.split('+') {
            match word {
                "crash" | "retention" => {}
                "hostile" => profile.hostile = true,
                "truncate" => profile.truncate = true,
                "rot" => profile.rot = true,
                "rots" => profile.rots = true,
                "moved" => profile.moved = true,
                "liar" => profile.lies = true,
                "meta" => profile.meta = true,
                "ends" => profile.ends = true,
                "repair" => profile.repair = true,
                "small" => profile.small = true,
                "mixed" => profile.mixed = true,
                _ => return None,
            }
        }
        Some(profile)
    }

    /// What one seed of it has.
    pub fn draw(mut self, rng: &mut crate::rng::Rng) -> Profile {
        if self.mixed {
            self.truncate = rng.percent(50);
            self.hostile = rng.percent(50);
            self.small = rng.percent(30);
            match rng.below(4) {
                0 => self.rot = true,
                1 => self.moved = true,
                _ => self.meta = true,
            }
        }
        self
    }
}
