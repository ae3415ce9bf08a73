//! How each life of a seed goes: drawn by chance, or written down as a scenario.
//! Owner: the world.
//! Invariant: all decisions about faults of a life are here, none in what carries them out.
//! Not here: what clients do (`workload.rs`), how a disk tears (`file.rs`).

use crate::clock::{Change, MS, SECOND};
use crate::faults::{Faults, Kind, Trouble};
use crate::rng::Rng;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The power goes.
    Cut,
    /// The process dies.
    Crash,
    /// A clean stop.
    Stop,
    /// A clean stop, and the power goes after so many events of it.
    StopCutOff(u64),
}

/// One life.
#[derive(Clone, Debug)]
pub struct LifePlan {
    /// Shards, where they change.
    pub shards: Option<u32>,
    /// What happens to the wall clock.
    pub clock: Option<Change>,
    /// Limits of settings become low, or normal again.
    pub lowered: Option<bool>,
    /// The newest checkpoint file is damaged, if there are others.
    pub damage: bool,
    /// Its recovery is cut off after so many events, by the power or by a crash; then again.
    pub recovery_ends: Vec<(u64, bool)>,
    /// The interrupted recovery is compared with an uninterrupted one, where the disk allows it.
    pub compare: bool,
    /// Clients work for so many ns at most.
    pub work_ns: u64,
    /// … and so many events at most.
    pub work_events: u64,
    /// What its device does wrong, from its start on.
    pub troubles: Vec<Trouble>,
    /// How it ends.
    pub end: End,
}

impl LifePlan {
    /// A life of some work that the power ends.
    #[must_use]
    pub fn plain(work_ns: u64) -> LifePlan {
        LifePlan {
            shards: None,
            clock: None,
            lowered: None,
            damage: false,
            recovery_ends: Vec::new(),
            compare: true,
            work_ns,
            work_events: 3_000,
            troubles: Vec::new(),
            end: End::Cut,
        }
    }

    /// Draws `lives` lives and the recovery that follows the last, for a seed with `logs` partitions.
    #[must_use]
    pub fn draw_all(rng: &mut Rng, faults: &Faults, lives: u32, logs: usize) -> Vec<LifePlan> {
        let mut lowered = false;
        let mut plans = Vec::new();
        for life in 0..=lives {
            let mut plan = LifePlan::draw(rng, life, lowered, logs);
            lowered = plan.lowered.unwrap_or(lowered);
            // The last recovery is judged in full: its device is sound.
            plan.troubles = if life < lives { faults.life(rng) } else { Vec::new() };
            plan.outlast(rng);
            plans.push(plan);
        }
        plans
    }

    /// Works on until what follows a long trouble can show.
    fn outlast(&mut self, rng: &mut Rng) {
        let long = |trouble: &&Trouble| match trouble.kind {
            Kind::NoSpace => true,
            Kind::Slow => trouble.for_ns > 50 * MS,
            _ => false,
        };
        let longest = self.troubles.iter().filter(long).map(|trouble| trouble.for_ns).max();
        if let Some(for_ns) = longest.filter(|_| rng.percent(60)) {
            self.work_ns += for_ns + rng.within(SECOND, 6 * SECOND);
            self.work_events = rng.within(1_000, 4_000);
        }
    }

    /// Whether it is counted in seconds: clients that wait then wait longer.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.work_ns > SECOND
    }

    fn draw(rng: &mut Rng, life: u32, lowered: bool, logs: usize) -> LifePlan {
        let later = life > 0;
        let change = rng.pick(&[
            Change::Forward(3_600 * SECOND),
            Change::Back(3_600 * SECOND),
            Change::Back(86_400 * SECOND),
            Change::Stopped(5 * SECOND),
        ]);
        let clock = (later && rng.percent(20)).then_some(change);
        let shards =
            (!later || rng.percent(40)).then(|| u32::try_from(rng.within(1, 3)).unwrap_or(1));
        let lowered = (later && rng.percent(25)).then_some(!lowered);
        let again = [30, 35, 50].iter().take_while(|percent| rng.percent(**percent)).count();
        let events = 60 + 40 * logs as u64;
        let recovery_ends = (0..if later { again } else { 0 })
            .map(|_| (rng.within(1, events), rng.percent(70)))
            .collect();
        let length = rng.pick(&[3, 10, 30, 60]) * MS;
        let most = rng.pick(&[200, 600, 2_000]);
        LifePlan {
            shards,
            clock,
            lowered,
            damage: later && rng.percent(4),
            recovery_ends,
            compare: rng.percent(40),
            work_ns: rng.within(1, length),
            work_events: rng.within(50, most),
            troubles: Vec::new(),
            end: match rng.below(100) {
                0..=64 => End::Cut,
                65..=86 => End::Crash,
                87..=96 => End::Stop,
                _ => End::StopCutOff(rng.within(1, 200)),
            },
        }
    }
}
