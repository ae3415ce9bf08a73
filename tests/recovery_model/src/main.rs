//! The rules of recovery (reliability.md 3) as a program of their own, and worlds that try to break them.
//! Owner: `main`.
//! Invariant: not a line is shared with `shards/log`: a mistake there is not repeated here.
//! Not here: the shipped code (`shards/sim` drives that).

mod disk;
mod evidence;
mod frame;
mod harm;
mod life;
mod mutants;
mod oracle;
mod profile;
mod quarantine;
mod reader;
mod rng;
mod scan;
mod start;
mod table;
mod world;

use mutants::{MUTANTS, Mutant};
use profile::Profile;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;
use world::{Count, World};

const USAGE: &str = "\
recovery-model PROFILE FIRST COUNT [--mutant NAME] [--trace] [--lives N] [--jobs N]
recovery-model --mutants [NAME…] [--seeds-max N]     every mutant must break something within its seeds
PROFILE: crash, hostile, truncate, rot, rots, moved, liar, meta, ends, repair, small, mixed, joined by +";

/// Lives of a seed, the last one only a start.
const LIVES: u32 = 7;

#[derive(Clone)]
struct Order {
    profile: String,
    first: u64,
    count: u64,
    mutant: Mutant,
    lives: u32,
    jobs: u64,
    trace: bool,
    /// Stops at the first seed that breaks something.
    first_only: bool,
}

/// A seed that broke something.
struct Broken {
    seed: u64,
    what: String,
}

fn hunt(order: &Order) -> Result<(u64, Count, Vec<Broken>), String> {
    let profile = Profile::parse(&order.profile).ok_or(USAGE)?;
    let enough = AtomicBool::new(false);
    let job = |job: u64| {
        let (mut seeds, mut total, mut broken) = (0, Count::default(), Vec::new());
        for seed in (order.first..order.first + order.count).filter(|n| n % order.jobs == job) {
            if enough.load(Relaxed) {
                break;
            }
            let mut world = World::new(seed, profile, order.mutant, order.trace);
            let result = world.run(order.lives);
            seeds += 1;
            total.add(&world.count);
            world.trace().iter().for_each(|line| println!("{line}"));
            if let Err(what) = result {
                broken.push(Broken { seed, what });
                enough.store(order.first_only, Relaxed);
            }
        }
        (seeds, total, broken)
    };
    let (mut seeds, mut total, mut broken) = (0, Count::default(), Vec::new());
    let done: Vec<_> = thread::scope(|scope| {
        let job = &job;
        let threads: Vec<_> = (0..order.jobs).map(|n| scope.spawn(move || job(n))).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for one in done {
        let (more, count, found) = one.map_err(|_| "a world panicked".to_owned())?;
        seeds += more;
        total.add(&count);
        broken.extend(found);
    }
    broken.sort_by_key(|broken| broken.seed);
    Ok((seeds, total, broken))
}

fn report(order: &Order) -> Result<bool, String> {
    let begun = Instant::now();
    let (seeds, n, broken) = hunt(order)?;
    let Count { cuts, crashes, stops, inside, compared, again, .. } = n;
    println!(
        "{}: {seeds} seeds from {}, {} broken | {cuts} cuts, {crashes} crashes, {stops} stops, {inside} cuts or \
         crashes inside a start, {compared} starts compared, {again} begun again | {:.1} s",
        order.profile,
        order.first,
        broken.len(),
        begun.elapsed().as_secs_f64()
    );
    println!("  {n:?}");
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for Broken { seed, what } in &broken {
        let kind = what.split(|c: char| c.is_ascii_digit() && c != '1').next().unwrap_or(what);
        let kind = format!("{}{}", &what[..2.min(what.len())], &kind[2.min(kind.len())..]);
        match kinds.iter_mut().find(|known| known.0 == kind) {
            Some(known) => known.1 += 1,
            None => {
                println!("  seed {seed}: {what}");
                kinds.push((kind, 1));
            }
        }
    }
    for (kind, times) in kinds {
        println!("  {times} times {kind}");
    }
    Ok(broken.is_empty())
}

/// All mutants, or those that are named, or those that some seeds suffice for.
fn hunt_mutants(names: &[String], seeds_max: u64, jobs: u64) -> Result<bool, String> {
    let mut all = true;
    for (mutant, profile, seeds, what) in MUTANTS {
        let named = names.is_empty() || names.contains(&format!("{mutant:?}"));
        if !named || *seeds > seeds_max {
            continue;
        }
        let order = Order {
            profile: (*profile).to_owned(),
            first: 1,
            count: *seeds,
            mutant: *mutant,
            lives: LIVES,
            jobs,
            trace: false,
            first_only: true,
        };
        let (_, _, broken) = hunt(&order)?;
        match broken.first() {
            Some(Broken { seed, what }) => println!("{mutant:?}: {profile} seed {seed}: {what}"),
            None => println!("{mutant:?}: SURVIVES {seeds} seeds of {profile} ({what})"),
        }
        all &= !broken.is_empty();
    }
    Ok(all)
}

fn run() -> Result<bool, String> {
    let mut words = std::env::args().skip(1);
    let mut order = Order {
        profile: String::new(),
        first: 1,
        count: 1,
        mutant: Mutant::None,
        lives: LIVES,
        jobs: 2,
        trace: false,
        first_only: false,
    };
    let (mut plain, mut mutants, mut seeds_max) = (Vec::new(), false, u64::MAX);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--mutant" => order.mutant = mutants::by_name(&value()?).ok_or(USAGE)?,
            "--lives" => order.lives = value()?.parse().map_err(|_| USAGE)?,
            "--jobs" => order.jobs = value()?.parse().map_err(|_| USAGE)?,
            "--trace" => (order.trace, order.jobs) = (true, 1),
            "--mutants" => mutants = true,
            "--seeds-max" => seeds_max = value()?.parse().map_err(|_| USAGE)?,
            _ => plain.push(word),
        }
    }
    if mutants {
        return hunt_mutants(&plain, seeds_max, order.jobs);
    }
    let [profile, first, count] = plain.as_slice() else { return Err(USAGE.to_owned()) };
    order.profile.clone_from(profile);
    order.first = first.parse().map_err(|_| USAGE)?;
    order.count = count.parse().map_err(|_| USAGE)?;
    report(&order)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}
