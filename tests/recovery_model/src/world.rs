//! One seed: lives of a broker, how each ends, and the start after it.
//! Owner: one seed.
//! Invariant: the same seed, profile and mutant give the same world.
//! Not here: what a life does (`life.rs`), what must be true (`oracle.rs`).

use crate::disk::{Disk, LOGS, SHARDS};
use crate::life::{Life, Sizes, Tally, Truncation, tell};
use crate::mutants::Mutant;
use crate::oracle::Seen;
use crate::profile::Profile;
use crate::quarantine::{Damaged, Quarantine};
use crate::reader::Reader;
use crate::rng::Rng;
use crate::scan::{Placed, View};
use crate::start::{Recovered, Settings, Stopped, start, topic};

/// Cuts and crashes inside one recovery at most.
const CUTS_INSIDE_MAX: u32 = 3;
/// What a header checksum is XORed with.
const SECRET: u32 = 0x5ec2_e7a1;

/// What many worlds came across.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub cuts: u64,
    pub crashes: u64,
    pub stops: u64,
    pub inside: u64,
    pub compared: u64,
    pub again: u64,
    pub torn_headers: u64,
    pub torn_payloads: u64,
    pub forged: u64,
    pub stale: u64,
    pub rot: u64,
    pub sealed_rot: u64,
    pub unusable: u64,
    pub snapshots_used: u64,
    pub collateral: u64,
    pub exempt: u64,
    pub life: Tally,
}

/// What readers got of a log, and the list after it.
struct Read {
    served: Vec<(u64, Placed)>,
    list: Quarantine,
}

/// What two starts from the same disk must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Digest {
    batches: Vec<(u64, u64)>,
    next: u64,
    /// Offsets and first byte. Where a lost end was said to end depends on whether the next segment was
    /// there already.
    list: Vec<(u64, u64, u64, usize)>,
}

/// One seed in progress.
pub struct World {
    life: Life,
    pub count: Count,
}

fn reads(
    disk: &Disk,
    log: usize,
    found: &Recovered,
    settings: &Settings,
    rng: &mut Rng,
) -> Result<Read, String> {
    let view = View {
        segments: disk.segments(log),
        topic: topic(log),
        secret: settings.secret,
        table: Some(&found.table),
        mutant: settings.mutant,
    };
    let bases: Vec<u64> = view.segments.iter().map(|segment| segment.0).collect();
    let (log_start, end, index) = (found.log_start, found.mark, &found.index);
    let mut reader = Reader { view, list: found.list.clone(), log_start, end, index };
    let served = reader.read_all(rng)?;
    let served = served.into_iter().map(|placed| (bases[placed.si], placed)).collect();
    Ok(Read { served, list: reader.list })
}

fn digests(
    disk: &Disk,
    logs: &[Recovered],
    settings: &Settings,
    seed: u64,
) -> Result<Vec<Digest>, String> {
    let mut digests = Vec::new();
    for (log, found) in logs.iter().enumerate() {
        let read = reads(disk, log, found, settings, &mut Rng(seed))?;
        let batches = read.served.iter().map(|(_, placed)| (placed.head.base, placed.head.id));
        let told = |range: &Damaged| (range.from, range.to, range.segment, range.at);
        let (batches, list) = (batches.collect(), read.list.0.iter().map(told).collect());
        digests.push(Digest { batches, next: found.mark.offset, list });
    }
    Ok(digests)
}

fn agree(what: &str, one: &[Digest], other: &[Digest]) -> Result<(), String> {
    for (log, (one, other)) in one.iter().zip(other).enumerate() {
        if one != other {
            let (n, m) = (one.batches.len(), other.batches.len());
            return Err(format!(
                "D7: log{log}, {what}: ends {} and {}, {n} and {m} batches, {:?} and {:?}",
                one.next, other.next, one.list, other.list
            ));
        }
    }
    Ok(())
}

impl World {
    /// Before its first start.
    pub fn new(seed: u64, profile: Profile, mutant: Mutant, trace: bool) -> World {
        let mut rng = Rng(seed.wrapping_mul(0xD134_2543_DE82_EF95) ^ 77);
        let profile = profile.draw(&mut rng);
        let secret = if mutant == Mutant::NoSecret { 0 } else { SECRET };
        let settings = Settings { shards: 1, salt: 0, secret, mutant };
        let sizes = Sizes {
            hostile_percent: rng.one_of(&[0, 20, 60]),
            truncations: rng.below(4),
            ..World::sizes(&mut rng)
        };
        let mut life = Life::new(seed, profile, settings, sizes, rng);
        life.trace = trace.then(Vec::new);
        for ledger in &mut life.ledgers {
            ledger.strict = !profile.rots && !profile.lies && !profile.ends;
            ledger.moves = profile.moved || profile.lies;
        }
        World { life, count: Count::default() }
    }

    fn sizes(rng: &mut Rng) -> Sizes {
        Sizes {
            segment_max: rng.one_of(&[16_384, 24_576, 32_768, 65_536]),
            group_max: rng.one_of(&[4_096, 8_192, 16_384]),
            frame_max: rng.one_of(&[4_000, 9_000, 20_000]),
            hostile_percent: 0,
            truncations: 0,
        }
    }

    /// Lives one after the other, and a last start.
    ///
    /// # Errors
    /// The invariant that broke.
    pub fn run(&mut self, lives: u32) -> Result<(), String> {
        let result = self.lives(lives);
        self.count.life = self.life.tally;
        for ledger in &self.life.ledgers {
            self.count.collateral += ledger.collateral;
            self.count.exempt += ledger.exempt;
        }
        result
    }

    fn lives(&mut self, lives: u32) -> Result<(), String> {
        for n in 0..lives {
            self.restart(n == 0)?;
            if n + 1 == lives {
                break;
            }
            tell!(self.life, "LIFE {n}");
            let rng = &mut self.life.rng;
            let steps = match (self.life.profile.small, rng.below(3)) {
                (true, _) => rng.range(3, 16),
                (false, 0) => rng.range(2, 20),
                (false, 1) => rng.range(20, 80),
                (false, _) => rng.range(60, 160),
            };
            self.life.run(steps)?;
            self.end()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let life = &mut self.life;
        let way = life.rng.below(100);
        if way >= 87 {
            tell!(life, "STOP");
            self.count.stops += 1;
            return life.stop();
        }
        for (live, ledger) in life.logs.iter().zip(&mut life.ledgers) {
            use Truncation::{First, FirstWritten, Second, SecondWritten};
            if matches!(live.truncation, First | FirstWritten | Second | SecondWritten) {
                ledger.maybe = Some((live.epoch, live.truncate_to));
            }
        }
        let mut rng = Rng(life.rng.word());
        if way < 65 {
            tell!(life, "CUT");
            self.count.cuts += 1;
            life.disk.cut(&mut rng);
        } else {
            tell!(life, "CRASH");
            self.count.crashes += 1;
            life.disk.crash(&mut rng);
        }
        Ok(())
    }

    fn restart(&mut self, first: bool) -> Result<(), String> {
        let life = &mut self.life;
        life.harm();
        life.settings.shards = life.rng.range(1, SHARDS);
        life.settings.salt = life.rng.below(SHARDS);
        if life.rng.percent(30) {
            let Sizes { hostile_percent, truncations, .. } = life.sizes;
            life.sizes = Sizes { hostile_percent, truncations, ..World::sizes(&mut life.rng) };
        }
        let settings = life.settings;
        let reads_seed = life.rng.word();
        let mut whole = None;
        if life.disk.is_quiet() && life.rng.percent(25) {
            let mut copy = life.disk.clone();
            if let Ok(logs) = start(&mut copy, &settings, None) {
                whole = Some(digests(&copy, &logs, &settings, reads_seed)?);
            }
        }
        let mut inside = 0;
        let logs = loop {
            for (log, ledger) in life.ledgers.iter_mut().enumerate() {
                ledger.look(&life.disk, log, settings.secret);
            }
            let mut rng = Rng(life.rng.word());
            let cuts = (inside < CUTS_INSIDE_MAX && !first).then_some(&mut rng);
            let stopped = match start(&mut life.disk, &settings, cuts) {
                Ok(logs) => break logs,
                Err(stopped) => stopped,
            };
            inside += 1;
            tell!(
                life,
                "{} inside the start",
                if let Stopped::Cut = stopped { "CUT" } else { "CRASH" }
            );
            match stopped {
                Stopped::Cut => life.disk.cut(&mut rng),
                Stopped::Crash => life.disk.crash(&mut rng),
            }
        };
        self.count.inside += u64::from(inside);
        if let Some(whole) = whole.filter(|_| inside > 0) {
            self.count.compared += 1;
            let now = digests(&self.life.disk, &logs, &settings, reads_seed)?;
            agree("a start in one piece and one that was cut", &whole, &now)?;
        }
        self.judge(&logs)?;
        self.start_again(&logs)?;
        self.life.begin(&logs);
        Ok(())
    }

    /// Readers read everything; the oracle judges; what they found damaged is in the list from now on.
    fn judge(&mut self, logs: &[Recovered]) -> Result<(), String> {
        for (log, found) in logs.iter().enumerate() {
            let life = &mut self.life;
            let met = found.met;
            tell!(
                life,
                "START log{log} {:?} end {} mark {:?} epoch {} {:?} list {:?}",
                found.verdict,
                found.end,
                found.mark,
                found.epoch,
                found.table.0,
                found.list.0
            );
            let mut rng = Rng(life.rng.word());
            let read = reads(&life.disk, log, found, &life.settings, &mut rng)
                .map_err(|error| format!("{error} (log{log})"))?;
            tell!(life, "  reads: {:?}", read.list.0);
            if read.list != found.list {
                let file = &mut life.disk.logs[log].quarantine;
                file.put(read.list.clone());
                file.sync();
            }
            let seen = Seen { found, served: &read.served, list: &read.list };
            let judged = life.ledgers[log].judge(log, &seen);
            judged.map_err(|error| format!("{error} (log{log})"))?;
            let count = &mut self.count;
            count.torn_headers += met.torn_headers;
            count.torn_payloads += met.torn_payloads;
            count.forged += met.forged;
            count.stale += met.stale;
            count.rot += met.rot;
            count.sealed_rot += met.sealed_rot;
            count.unusable += u64::from(found.unusable_entry);
            count.snapshots_used += u64::from(found.snapshot_used);
        }
        Ok(())
    }

    /// A start of the same disk once more, with other reads, finds the same.
    fn start_again(&mut self, logs: &[Recovered]) -> Result<(), String> {
        let life = &mut self.life;
        let damaged = (0..LOGS).any(|log| life.disk.logs[log].quarantine.get().is_some());
        if !life.rng.percent(if damaged { 60 } else { 15 }) {
            return Ok(());
        }
        self.count.again += 1;
        let listed: Vec<Recovered> = logs
            .iter()
            .enumerate()
            .map(|(log, found)| {
                let list = life.disk.logs[log].quarantine.get().cloned().unwrap_or_default();
                Recovered { list, ..found.clone() }
            })
            .collect();
        let now = digests(&life.disk, &listed, &life.settings, life.rng.word())?;
        let mut copy = life.disk.clone();
        let Ok(again) = start(&mut copy, &life.settings, None) else { return Ok(()) };
        let again = digests(&copy, &again, &life.settings, life.rng.word())?;
        agree("a start and the one after it", &now, &again)
    }

    /// What happened, if it was to be told.
    pub fn trace(&mut self) -> Vec<String> {
        self.life.trace.take().unwrap_or_default()
    }
}

macro_rules! add {
    ($to:expr, $from:expr, $($field:ident)*) => {
        $($to.$field += $from.$field;)*
    };
}

impl Count {
    /// Takes in what another world came across.
    pub fn add(&mut self, other: &Count) {
        add!(self, other, cuts crashes stops inside compared again torn_headers torn_payloads);
        add!(self, other, forged stale rot sealed_rot unusable snapshots_used collateral exempt);
        add!(self.life, other.life, groups rolls truncations retained snapshots lies);
    }
}
