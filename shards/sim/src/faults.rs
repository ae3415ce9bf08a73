//! Fault profiles, and which faults one seed has: a random part of what its profile allows.
//! Owner: the world draws a `Faults` per seed, a plan draws troubles from it.
//! Invariant: the workload of a seed is the same under every profile.
//! Not here: what a fault does to the disk (`device.rs`), how lives end (`plan.rs`).

use crate::clock::{MS, SECOND};
use crate::rng::Rng;

/// What can go wrong besides cuts, crashes, the network and hostile payloads, which every seed has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing: the device does what it says.
    Crash,
    /// Requests fail or take long; it says so.
    Eio,
    /// Space runs out and comes back.
    Space,
    /// What was durable decays, and small files are lost.
    Rot,
    /// It says that it did what it did not do.
    Liar,
    /// All of it.
    Mixed,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 6] =
        [Profile::Crash, Profile::Eio, Profile::Space, Profile::Rot, Profile::Liar, Profile::Mixed];

    /// By its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Crash => "crash",
            Profile::Eio => "eio",
            Profile::Space => "space",
            Profile::Rot => "rot",
            Profile::Liar => "liar",
            Profile::Mixed => "mixed",
        }
    }

    fn kinds(self) -> &'static [Kind] {
        match self {
            Profile::Crash => &[],
            Profile::Eio => EIO,
            Profile::Space => SPACE,
            Profile::Rot => ROT,
            Profile::Liar => LIAR,
            Profile::Mixed => MIXED,
        }
    }
}

const EIO: &[Kind] = &[
    Kind::WriteError,
    Kind::ShortWrite,
    Kind::FlushError,
    Kind::ReadError,
    Kind::NameError,
    Kind::Slow,
];
const SPACE: &[Kind] = &[Kind::NoSpace, Kind::NoSpaceToWrite, Kind::Slow];
const ROT: &[Kind] = &[
    Kind::Rot(Rot::Flipped),
    Kind::Rot(Rot::Zeroed),
    Kind::Rot(Rot::Unreadable),
    Kind::Rot(Rot::Swapped),
    Kind::Rot(Rot::Foreign),
    Kind::Rot(Rot::Stale),
    Kind::Rot(Rot::Checkpoint),
    Kind::Rot(Rot::Snapshot),
    Kind::Rot(Rot::List),
    Kind::Rot(Rot::Marker),
];
const LIAR: &[Kind] = &[Kind::FlushIgnored, Kind::WriteLost, Kind::WriteMisplaced];
const MIXED: &[Kind] = &[
    Kind::WriteError,
    Kind::ShortWrite,
    Kind::FlushError,
    Kind::ReadError,
    Kind::NameError,
    Kind::Slow,
    Kind::NoSpace,
    Kind::NoSpaceToWrite,
    Kind::FlushIgnored,
    Kind::WriteLost,
    Kind::WriteMisplaced,
    Kind::Rot(Rot::Flipped),
    Kind::Rot(Rot::Zeroed),
    Kind::Rot(Rot::Unreadable),
    Kind::Rot(Rot::Swapped),
    Kind::Rot(Rot::Foreign),
    Kind::Rot(Rot::Stale),
    Kind::Rot(Rot::Checkpoint),
    Kind::Rot(Rot::Snapshot),
    Kind::Rot(Rot::List),
    Kind::Rot(Rot::Marker),
];

/// What a device can do to one request, or to what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A write fails; any part of it arrived.
    WriteError,
    /// A write moves fewer bytes than asked.
    ShortWrite,
    /// A flush, or the flush inside a durable write, fails for the whole device (C7).
    FlushError,
    /// A read fails; the same read works the next time.
    ReadError,
    /// A request on names or small files fails, done or not.
    NameError,
    /// An answer takes 1 ms to 30 s.
    Slow,
    /// Nothing can be allocated for a while.
    NoSpace,
    /// A write into allocated space finds none.
    NoSpaceToWrite,
    /// A flush does nothing and succeeds.
    FlushIgnored,
    /// A write does nothing and succeeds.
    WriteLost,
    /// A write lands one block off and succeeds.
    WriteMisplaced,
    /// What it stores decays.
    Rot(Rot),
}

impl Kind {
    /// Whether the device says that something went well that did not.
    #[must_use]
    pub fn is_lie(self) -> bool {
        matches!(self, Kind::FlushIgnored | Kind::WriteLost | Kind::WriteMisplaced)
    }

    /// Whether what is stored decays.
    #[must_use]
    pub fn is_rot(self) -> bool {
        matches!(self, Kind::Rot(_))
    }
}

/// What decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rot {
    /// One to eight bits of a batch.
    Flipped,
    /// A block is zeros.
    Zeroed,
    /// A block cannot be read.
    Unreadable,
    /// Two blocks have changed places.
    Swapped,
    /// A block holds one of another file.
    Foreign,
    /// A block holds what it once held.
    Stale,
    /// A shard's newest checkpoint is torn, lost, or what the one before it was.
    Checkpoint,
    /// A snapshot is torn, lost, old, or another log's: positions and producers in it are wrong.
    Snapshot,
    /// A quarantine list is torn or lost.
    List,
    /// The marker of a clean stop is torn or lost.
    Marker,
}

impl Rot {
    /// Whether it hits blocks of segments.
    #[must_use]
    pub fn hits_blocks(self) -> bool {
        !matches!(self, Rot::Checkpoint | Rot::Snapshot | Rot::List | Rot::Marker)
    }
}

/// One trouble of a life: it meets the `nth` request of those that can have it, and is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What happens.
    pub kind: Kind,
    /// To which request, counted from the start of the life. Rot: after so many events of its work; 0: at
    /// rest, before it starts.
    pub nth: u64,
    /// For how long, ns, where that means something.
    pub for_ns: u64,
    /// Where the chance of rot begins.
    pub chance: u64,
}

/// What a seed's device is like.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Kinds that are on.
    pub kinds: Vec<Kind>,
    /// Percent of lives that have some.
    pub lives_percent: u64,
    /// Troubles of such a life at most.
    pub per_life_max: u64,
}

impl Faults {
    /// Draws a random part of what the profile allows, at least one kind.
    pub fn draw(rng: &mut Rng, profile: Profile) -> Faults {
        let all = profile.kinds();
        let mut kinds: Vec<Kind> = all.iter().copied().filter(|_| rng.percent(50)).collect();
        if kinds.is_empty() && !all.is_empty() {
            kinds.push(rng.pick(all));
        }
        Faults {
            kinds,
            lives_percent: rng.pick(&[30, 60, 90]),
            per_life_max: rng.pick(&[1, 1, 2, 4]),
        }
    }

    /// Whether acknowledged data may be lost: the device lies.
    #[must_use]
    pub fn lies(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_lie())
    }

    /// Whether what is stored may decay.
    #[must_use]
    pub fn rots(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_rot())
    }

    /// Draws the troubles of one life.
    pub fn life(&self, rng: &mut Rng) -> Vec<Trouble> {
        if self.kinds.is_empty() || !rng.percent(self.lives_percent) {
            return Vec::new();
        }
        let count = rng.within(1, self.per_life_max);
        (0..count).map(|_| self.trouble(rng)).collect()
    }

    fn trouble(&self, rng: &mut Rng) -> Trouble {
        let kind = rng.pick(&self.kinds);
        if let Kind::Rot(rot) = kind {
            let while_it_runs = rot.hits_blocks() && rng.percent(40);
            let nth = if while_it_runs { rng.within(1, 400) } else { 0 };
            return Trouble { kind, nth, for_ns: 0, chance: rng.bits() };
        }
        let reach = match kind {
            // Few requests of these kinds are made in a life.
            Kind::NoSpace => rng.pick(&[2, 8]),
            _ => rng.pick(&[4, 20, 60, 150]),
        };
        let for_ns = match kind {
            Kind::Slow => match rng.below(4) {
                0 => rng.within(SECOND, 30 * SECOND),
                1 => rng.within(100 * MS, SECOND),
                _ => rng.within(MS, 100 * MS),
            },
            Kind::NoSpace => rng.pick(&[50 * MS, 500 * MS, 2 * SECOND]),
            _ => 0,
        };
        Trouble { kind, nth: rng.below(reach), for_ns, chance: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_has_a_part_of_what_its_profile_allows() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_name(profile.name()), Some(profile));
            let mut sizes = std::collections::BTreeSet::new();
            for seed in 0..200 {
                let faults = Faults::draw(&mut Rng::new(seed), profile);
                assert!(faults.kinds.iter().all(|kind| profile.kinds().contains(kind)));
                sizes.insert(faults.kinds.len());
            }
            assert_eq!(sizes.contains(&0), profile == Profile::Crash);
            assert!(profile == Profile::Crash || sizes.len() > 2, "{profile:?}: {sizes:?}");
        }
    }

    #[test]
    fn a_sound_device_has_no_troubles() {
        let faults = Faults::draw(&mut Rng::new(1), Profile::Crash);
        assert!((0..50).all(|seed| faults.life(&mut Rng::new(seed)).is_empty()));
    }
}
