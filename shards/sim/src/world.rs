//! One seed: six lives of a server and its clients, each ended by a cut, a crash or a clean stop, some
//! with cuts inside the recovery, and the checks between them.
//! Owner: `main.rs` and the tests.
//! Invariant: a run is a pure function of seed and profile.
//! Not here: events (`node.rs`), what must hold (`checker.rs`).

mod cast;
mod recovery;
mod rotting;

use self::cast::{make_clients, make_scrubbing, make_topics};
use crate::around::Around;
use crate::checker::{Checker, Quarantine, Rules, Violation};
use crate::client::Client;
use crate::clock::{Clock, SECOND};
use crate::control::Control;
use crate::counters::Counters;
use crate::disk::Disk;
use crate::faults::{Faults, Kind, Profile, Rot};
use crate::network::Weather;
use crate::node::{Happening, Node};
use crate::plan::{End, LifePlan};
use crate::process::{Pool, Settings};
use crate::reader::read_log;
use crate::rng::{Rng, mix};
use crate::room::ReadLog;
use crate::rot::Decay;
use crate::shrink::Only;
use crate::workload::{Maker, Mix, Target};
use ringway_partition::request::Notice;
use ringway_wire::ids::LogKey;
use std::collections::BTreeSet;

/// Lives of a seed.
pub const LIVES: u32 = 6;
/// No start and no stop takes longer, in virtual time.
const PATIENCE_NS: u64 = 600 * SECOND;

/// How a seed ended.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold, and in which life.
    pub violation: Option<(u32, Violation)>,
    /// What was met.
    pub counters: Counters,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Told, when asked for.
    pub lines: Vec<String>,
}

/// One seed's world.
pub struct World {
    seed: u64,
    node: Node,
    clients: Vec<Client>,
    /// Clients that do nothing.
    absent: Vec<usize>,
    checker: Checker,
    rng: Rng,
    targets: Vec<Target>,
    maker: Maker,
    mix: Mix,
    settings: Settings,
    counters: Counters,
    life: u32,
    lowered: bool,
    /// Logs whose end the last recovery moved into a block.
    cut_in_block: BTreeSet<String>,
    /// The last life ended with a clean stop.
    clean: bool,
    /// How often a client that waits doubles its pause, in this life.
    rest_max: u32,
    decay: Decay,
}

/// The whole log of every partition, for comparing recoveries.
type Digest = Vec<(LogKey, ReadLog)>;

/// What to run.
#[derive(Clone, Debug)]
pub struct Task {
    /// Seed.
    pub seed: u64,
    /// What can go wrong.
    pub profile: Profile,
    /// The part of its plan that is run.
    pub only: Only,
    /// Tell what happens.
    pub trace: bool,
}

impl Task {
    /// All of a seed.
    #[must_use]
    pub fn new(seed: u64, profile: Profile) -> Task {
        Task { seed, profile, only: Only::default(), trace: false }
    }
}

/// Runs one seed of a profile.
#[must_use]
pub fn run(task: &Task, pool: Pool) -> (Outcome, Pool) {
    let mut world = World::new(task.seed, task.trace, pool);
    let plans = task.only.of(world.plans(task.profile));
    for client in 0..world.clients.len() {
        world.absent.extend((!task.only.has_client(client)).then_some(client));
    }
    let last = plans.len().saturating_sub(1);
    for (place, (life, plan)) in plans.iter().enumerate() {
        if !world.live(*life, plan, place == last) {
            break;
        }
    }
    world.end()
}

/// The plan of a seed, and how many clients it has.
#[must_use]
pub fn plans(seed: u64, profile: Profile) -> (Vec<LifePlan>, usize) {
    let mut world = World::new(seed, false, Pool::default());
    (world.plans(profile), world.clients.len())
}

/// Runs one seed's workload through lives written down; a last recovery follows them.
#[must_use]
pub fn run_scripted(seed: u64, script: &[LifePlan], pool: Pool) -> (Outcome, Pool) {
    let mut world = World::new(seed, false, pool);
    let after = LifePlan::plain(0);
    let lives = script.iter().map(|plan| (plan, false)).chain(std::iter::once((&after, true)));
    for (life, (plan, last)) in (0..).zip(lives) {
        if !world.live(life, plan, last) {
            break;
        }
    }
    world.end()
}

impl World {
    fn new(seed: u64, trace: bool, pool: Pool) -> World {
        let mut rng = Rng::new(seed);
        let mut later = Rng::new(mix(seed, 11));
        let mut scrubs = Rng::new(mix(seed, 12));
        let mut skips = Rng::new(mix(seed, 13));
        let block = rng.pick(&[4096, 4096, 4096, 8192]);
        let mut control = Control::new(&mut rng);
        let targets = make_topics(&mut rng, &mut skips, &mut control);
        let weather =
            Weather { chunk_percent: rng.pick(&[0, 10, 60]), slow_percent: rng.pick(&[0, 2, 20]) };
        let mix = Mix::draw(&mut rng);
        let skipping = targets.iter().map(|target| target.key);
        let skipping = skipping.filter(|key| control.skips_quarantined(*key)).collect();
        let mut checker = Checker::default();
        checker.skipping = skipping;
        let clients = make_clients(&mut rng, &mut later, targets.len());
        let disk = Disk::new(block);
        let mut node = Node::new(disk, control, Clock::default(), weather, rng.fork(), pool);
        node.trace.lines = trace.then(Vec::new);
        let settings = Settings {
            shards: 1,
            advertise_shards: rng.percent(50),
            block: u32::try_from(block).unwrap_or(4096),
            blocks: rng.pick(&[96, 128, 192]),
            flush_group_bytes_max: rng.pick(&[64 << 10, 256 << 10, 1 << 20]),
            frame_bytes_max: 300 << 10,
            id_seed: 0,
            checkpoint_interval_ms: rng.pick(&[2, 10, 50, 1000]),
            scrubbing: make_scrubbing(&mut scrubs),
        };
        World {
            seed,
            node,
            clients,
            absent: Vec::new(),
            checker,
            rng,
            targets,
            maker: Maker::new(seed),
            mix,
            settings,
            counters: Counters::default(),
            life: 0,
            lowered: false,
            cut_in_block: BTreeSet::new(),
            clean: false,
            rest_max: 0,
            decay: Decay::default(),
        }
    }

    fn plans(&mut self, profile: Profile) -> Vec<LifePlan> {
        // A stream of its own: the workload of a seed is the same under every profile.
        let mut rng = Rng::new(mix(self.seed, 0xFA));
        let faults = Faults::draw(&mut rng, profile);
        let quarantine = match (faults.lies(), faults.rots()) {
            (true, _) => Quarantine::Anywhere,
            (false, true) => Quarantine::Harmed,
            (false, false) => Quarantine::Never,
        };
        self.checker.rules = Rules { promises: !faults.lies(), quarantine };
        let old = [Kind::Rot(Rot::Stale), Kind::Rot(Rot::Snapshot)];
        self.decay = Decay::new(old.iter().any(|kind| faults.kinds.contains(kind)));
        LifePlan::draw_all(&mut rng, &faults, LIVES, self.targets.len())
    }

    fn end(mut self) -> (Outcome, Pool) {
        self.counters.take_seen(&self.checker.seen, &self.node.disk.counts, self.maker.hostile);
        self.counters.take_faults(&self.node.disk.device.counts, &self.node.watch.counts);
        self.counters.stepped_over += self.node.stepped_over;
        self.counters.rot = self.decay.counts;
        self.counters.teams = self.checker.teams.counts;
        let violation = self.checker.violation.take().map(|violation| (self.life, violation));
        let (pool, trace) = self.node.into_parts();
        let hash = trace.hash();
        let lines = trace.lines.unwrap_or_default();
        (Outcome { violation, counters: self.counters, hash, lines }, pool)
    }

    /// One life; false when the seed ends here.
    fn live(&mut self, life: u32, plan: &LifePlan, last: bool) -> bool {
        self.life = life;
        self.change_settings(plan);
        let rng = Rng::new(mix(mix(self.seed, 0xDE), u64::from(life)));
        self.node.disk.device.begin(&plan.troubles, rng);
        let before = std::mem::take(&mut self.cut_in_block);
        let lost_files = self.rot_at_rest(plan);
        if !self.recover(plan) {
            return false;
        }
        self.checker.life_begins(life);
        let Some(digest) = self.read_all() else { return false };
        self.counters.metadata_survived += lost_files;
        for (key, read) in digest {
            let (log_start, end) = (read.log_start, read.end);
            self.node.trace.tell(|| format!("life {life}: {key} is {log_start}..{end}"));
            for frame in &read.frames {
                self.node.trace.tell(|| format!("  {frame:?}"));
            }
            let grew = end > self.checker.kept(key).last().map_or(0, |frame| frame.last + 1);
            if before.contains(&key.to_string()) && grew && !self.clean {
                self.counters.appended_in_block += 1;
            }
            self.check_start(key, log_start);
            self.checker.recovered(key, read);
        }
        if self.checker.violation.is_some() || last {
            return false;
        }
        self.work(plan);
        self.checker.violation.is_none()
    }

    /// Nothing goes from the start of a log without retention.
    fn check_start(&mut self, key: LogKey, log_start: u64) {
        let retained = self.targets.iter().any(|target| target.key == key && target.retained);
        if log_start > 0 && !retained && self.checker.rules.promises {
            self.checker.fail("D3", || format!("{key}: starts at {log_start} without retention"));
        }
    }

    fn change_settings(&mut self, plan: &LifePlan) {
        // A process draws its member ids anew.
        self.settings.id_seed = mix(self.seed, u64::from(self.life));
        if let Some(change) = plan.clock {
            self.node.clock.change_wall(change);
        }
        if let Some(shards) = plan.shards {
            self.counters.shard_changes +=
                u64::from(self.life > 0 && shards != self.settings.shards);
            self.settings.shards = shards;
        }
        let Some(lowered) = plan.lowered.filter(|lowered| *lowered != self.lowered) else { return };
        self.lowered = lowered;
        self.counters.settings_lowered += u64::from(lowered);
        self.settings.frame_bytes_max = if lowered { 16 << 10 } else { 300 << 10 };
        self.settings.flush_group_bytes_max =
            if lowered { 64 << 10 } else { self.rng.pick(&[64 << 10, 256 << 10, 1 << 20]) };
        let names: Vec<String> = self.node.control.topics().map(|t| t.name.clone()).collect();
        for name in names {
            self.node.control.configure(&name, |config| {
                config.message_bytes_max = if lowered { 4_096 } else { 1 << 20 };
                config.segment_bytes = if lowered { 64 << 10 } else { config.segment_bytes * 2 };
            });
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Recovered { quarantined, dropped_batches, .. } => {
                self.counters.torn_tails += dropped_batches;
                self.counters.quarantined += quarantined;
                self.counters.rot_by_recovery +=
                    if self.checker.rules.quarantine == Quarantine::Harmed {
                        *quarantined
                    } else {
                        0
                    };
                if *quarantined > 0 && self.checker.rules.quarantine == Quarantine::Never {
                    self.checker.fail("D6", || {
                        format!("{quarantined} ranges quarantined on undamaged media")
                    });
                }
            }
            Notice::Poisoned { .. } if self.node.disk.device.was_hit() => {}
            Notice::Poisoned { key, cause } => {
                self.checker.fail("D8", || format!("{key} poisoned on a sound disk: {cause}"));
            }
            Notice::Warning(text) => self.warning(text),
            Notice::Stopped { .. } => {}
        }
    }

    /// Remembers logs whose end a recovery moved into a block, and counts what reads found.
    fn warning(&mut self, text: &str) {
        self.counters.rot_by_read += u64::from(text.contains("found by read"));
        let Some((key, rest)) =
            text.strip_prefix("log ").and_then(|rest| rest.split_once(": torn tail"))
        else {
            return;
        };
        let word = |name: &str| {
            let after = rest.split_once(name).map_or("", |(_, after)| after);
            after.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<u64>().ok())
        };
        let position = word("position ").unwrap_or(0);
        if !position.is_multiple_of(u64::from(self.settings.block)) {
            self.cut_in_block.insert(key.to_owned());
        }
    }

    /// Reads every log whole.
    fn read_all(&mut self) -> Option<Digest> {
        let mut digest = Vec::new();
        for key in self.node.control.logs() {
            match read_log(&mut self.node, key) {
                Ok(read) => digest.push((key, read)),
                Err(unread) => self.unread(key, unread),
            }
            if self.checker.violation.is_some() {
                return None;
            }
        }
        Some(digest)
    }

    /// Clients at work until this life ends.
    fn work(&mut self, plan: &LifePlan) {
        self.rest_max = if plan.is_long() { 9 } else { 3 };
        for client in 0..self.clients.len() {
            let after = self.rng.within(0, 300_000);
            if !self.absent.contains(&client) {
                self.node.wake_client(client, after);
            }
        }
        let until = self.node.clock.mono_ns() + plan.work_ns;
        if self.pump_while_rotting(plan, until).is_none() && self.checker.violation.is_none() {
            // Nothing happens until then: time passes all the same.
            self.node.clock.advance(until);
        }
        self.node.set_fuse(None);
        match plan.end {
            End::Cut => self.fall(true),
            End::Crash => self.fall(false),
            End::Stop => self.stop(None),
            End::StopCutOff(events) => self.stop(Some(events)),
        }
        self.take_breach();
    }

    fn fall(&mut self, cut: bool) {
        if cut {
            self.counters.cuts += 1;
        } else {
            self.counters.crashes += 1;
        }
        self.take_process();
        self.clean = false;
        self.node.trace.tell(|| format!("LIFE {} ENDS, cut {cut}", self.life));
        let lost = self.node.fail(cut);
        self.forget(&lost);
    }

    /// A process ends. What its scrub named is judged here: no client may have come to read it.
    fn take_process(&mut self) {
        let before = self.counters.rot_by_scrub;
        self.counters.take_process(&self.node);
        let named = self.counters.rot_by_scrub - before;
        if named > 0 && self.checker.rules.quarantine == Quarantine::Never {
            self.checker
                .fail("D6", || format!("{named} ranges named by a scrub of undamaged media"));
        }
    }

    fn stop(&mut self, cut_off: Option<u64>) {
        self.node.stop();
        let until = self.node.clock.mono_ns() + PATIENCE_NS;
        self.node.set_fuse(cut_off);
        let stopped = self.pump(until, true);
        self.node.set_fuse(None);
        if stopped == Some(true) {
            self.counters.clean_stops += 1;
            self.clean = true;
            self.take_process();
            let lost = self.node.leave();
            self.forget(&lost);
        } else {
            if cut_off.is_none() && self.checker.violation.is_none() {
                self.checker.fail("STOP", || "the clean stop does not end".to_owned());
            }
            self.fall(true);
        }
    }

    fn forget(&mut self, _lost: &[(u32, usize)]) {
        for client in &mut self.clients {
            client.lost(&mut self.rng);
        }
    }

    /// Runs clients and server. `Some(true)`: a clean stop ended; `Some(false)`: the fuse burnt down.
    fn pump(&mut self, until: u64, stopping: bool) -> Option<bool> {
        while let Some(happening) = self.node.next(until) {
            match happening {
                Happening::Fuse => return Some(false),
                Happening::Stopped => return Some(true),
                Happening::Notice(notice) => self.notice(&notice),
                Happening::Client(number) if !stopping => self.with_client(number, Client::act),
                Happening::Bytes(connection, bytes) => {
                    if let Some(number) = self.node.network.client_of(connection) {
                        self.with_client(number, |client, around| {
                            client.receive(connection, &bytes, around);
                        });
                    }
                }
                Happening::Closed(connection) => {
                    if let Some(number) = self.node.network.client_of(connection) {
                        self.node.network.remove(connection);
                        self.with_client(number, |client, around| {
                            if client.connection() == Some(connection) {
                                client.closed(around);
                            }
                        });
                    }
                }
                Happening::Client(_) | Happening::Read(..) => {}
                Happening::Serving | Happening::Nothing | Happening::Refused(_) => {}
            }
            self.take_breach();
            if self.checker.violation.is_some() {
                return None;
            }
        }
        None
    }

    fn with_client(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Around<'_>)) {
        // Of a batch that is damaged nobody remembers the sequence.
        let sequences_break = self.counters.settings_lowered > 0
            || self.checker.rules.quarantine != Quarantine::Never;
        let mut around = Around {
            node: &mut self.node,
            checker: &mut self.checker,
            rng: &mut self.rng,
            targets: &self.targets,
            maker: &mut self.maker,
            mix: self.mix,
            sequences_break,
            rest_max: self.rest_max,
        };
        if let Some(client) = self.clients.get_mut(number) {
            act(client, &mut around);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_hours_take_the_time_of_their_events() {
        let mut world = World::new(3, false, Pool::default());
        world.absent = (0..world.clients.len()).collect();
        let hours = 36_000 * SECOND;
        let plan = LifePlan { end: End::Stop, work_events: 100_000, ..LifePlan::plain(hours) };
        assert!(world.live(0, &plan, false), "{:?}", world.checker.violation);
        assert!(world.node.clock.mono_ns() >= hours);
    }

    #[test]
    fn every_profile_gives_the_same_trace_twice() {
        let mut pool = Pool::default();
        let mut hash = |seed, profile| {
            let (outcome, back) = run(&Task::new(seed, profile), std::mem::take(&mut pool));
            pool = back;
            outcome.hash
        };
        for profile in Profile::ALL {
            assert_eq!(hash(4, profile), hash(4, profile), "{profile:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_and_its_neighbour_another() {
        let mut pool = Pool::default();
        let mut hash = |seed| {
            let (outcome, back) = run(&Task::new(seed, Profile::Crash), std::mem::take(&mut pool));
            pool = back;
            outcome.hash
        };
        for seed in 1..=10 {
            let first = hash(seed);
            assert_eq!(hash(seed), first, "seed {seed}");
            assert_ne!(hash(seed + 1), first, "seed {seed}");
        }
    }
}
