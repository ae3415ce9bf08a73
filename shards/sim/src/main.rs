//! `ringway-sim`: runs seeds and says what did not hold, or checks a client history.
//! Owner: nobody.
//! Invariant: seeds run one by one, each a pure function of itself; only the report knows real time.
//! Not here: the world (`world.rs`).
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program reports")]
#![expect(clippy::disallowed_methods, reason = "arguments and elapsed time belong to the program")]

use ringway_sim::arguments::{Arguments, USAGE};
use ringway_sim::counters::Counters;
use ringway_sim::exhaustive::Exhaustive;
use ringway_sim::process::Pool;
use ringway_sim::shrink::{Only, shrink};
use ringway_sim::tally::Tally;
use ringway_sim::world::{Outcome, Task};
use ringway_sim::{history, mutant, seeds, world};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// From so many seeds on, every state that must come up has to.
const MUST_HAPPEN_SEEDS: u64 = 500;

thread_local! {
    /// What the last panic of this thread said.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// Something that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Broken {
    seed: u64,
    life: u32,
    invariant: String,
    detail: String,
}

/// What one worker found.
#[derive(Default)]
struct Found {
    counters: Counters,
    seeds: u64,
    broken: Vec<Broken>,
    hash: u64,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if arguments.check {
        return check(arguments.whole);
    }
    if let Some(name) = &arguments.mutant
        && let Err(text) = mutant::choose(name)
    {
        eprintln!("{text}");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|info| {
        LAST_PANIC.set(Some(info.to_string().replace('\n', " ")));
    }));
    match arguments.exhaustive {
        Some(mode) => try_every(mode, &arguments),
        None => report(&arguments),
    }
}

/// Runs an exhaustive mode.
fn try_every(mode: Exhaustive, arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let (jobs, most) = (arguments.jobs, arguments.violations_max);
    let bytes = arguments.bytes.map(|count| (arguments.first, count));
    let results: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let run = |job| {
            let ran = catch_unwind(AssertUnwindSafe(|| mode.run(bytes, (job, jobs), most)));
            ran.unwrap_or_else(|_| Err(format!("PANIC {}", LAST_PANIC.take().unwrap_or_default())))
        };
        let workers: Vec<_> = (0..jobs).map(|job| scope.spawn(move || run(job))).collect();
        let ended = |_| Err("a worker died".to_owned());
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(ended)).collect()
    });
    let mut tally = Tally::default();
    for result in results {
        match result {
            Ok(one) => tally.add(one),
            Err(text) => {
                println!("MODE={} COMMIT={} INVARIANT=D7 {text}", mode.name(), commit());
                return ExitCode::FAILURE;
            }
        }
    }
    for (invariant, detail) in &tally.told {
        println!("MODE={} COMMIT={} INVARIANT={invariant} {detail}", mode.name(), commit());
    }
    println!("{} seconds {:.1}", mode.summary(&tally), started.elapsed().as_secs_f64());
    if mode.holds(&tally) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(whole: bool) -> ExitCode {
    match history::check(std::io::stdin().lock(), whole) {
        Ok(summary) if summary.is_clean() => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Ok(summary) => {
            println!("{summary}");
            ExitCode::FAILURE
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

fn report(arguments: &Arguments) -> ExitCode {
    let seeds = match seeds_of(arguments) {
        Ok(seeds) => seeds,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let found: Vec<Found> = std::thread::scope(|scope| {
        let (jobs, seeds) = (usize::try_from(arguments.jobs).unwrap_or(1), &seeds);
        let workers: Vec<_> =
            (0..jobs).map(|job| scope.spawn(move || work(arguments, seeds, job))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let mut all = Found::default();
    for one in found {
        all.counters.add(&one.counters);
        all.broken.extend(one.broken);
        all.seeds += one.seeds;
        all.hash ^= one.hash;
    }
    all.broken.sort();
    summary(arguments, &all, started.elapsed().as_secs_f64().max(0.001));
    for (place, broken) in all.broken.iter().enumerate() {
        tell(arguments, broken, place == 0);
    }
    let missing = |(_, count, must): &(&str, u64, bool)| *must && *count == 0;
    let missing = all.counters.rows(arguments.profile).iter().any(missing);
    let enough = all.seeds >= MUST_HAPPEN_SEEDS && arguments.mutant.is_none();
    if all.broken.is_empty() && !(missing && enough) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Seeds to run: those that once failed first, when there are many.
fn seeds_of(arguments: &Arguments) -> Result<Vec<u64>, String> {
    let many = arguments.seeds > 1 && arguments.mutant.is_none();
    let mut seeds = if many { seeds::committed(arguments.profile)? } else { Vec::new() };
    seeds.extend(arguments.first..arguments.first + arguments.seeds);
    Ok(seeds)
}

fn summary(arguments: &Arguments, all: &Found, seconds: f64) {
    let counters = &all.counters;
    let failures = counters.cuts + counters.crashes + counters.cuts_in_recovery;
    let rate = failures as f64 / seconds;
    let per_core = failures as f64 / cpu_seconds().unwrap_or(seconds).max(0.01);
    println!(
        "profile {} seeds {} cuts {failures} cuts/s {rate:.0} cuts/s/core {per_core:.0} seconds {seconds:.1} \
         violations {} trace {:016x}",
        arguments.profile.name(),
        all.seeds,
        all.broken.len(),
        all.hash
    );
    for (name, count, must_happen) in counters.rows(arguments.profile) {
        let missing = if must_happen && count == 0 { "  MUST HAPPEN" } else { "" };
        println!("  {name} {count}{missing}");
    }
}

/// Tells what did not hold and how to see it again; of the first one a small part that still fails.
fn tell(arguments: &Arguments, broken: &Broken, small: bool) {
    let Broken { seed, life, invariant, detail } = broken;
    let profile = arguments.profile.name();
    println!(
        "SEED={seed} PROFILE={profile} COMMIT={} LIFE={life} INVARIANT={invariant} {detail}",
        commit()
    );
    let mutant =
        arguments.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
    let repeat = format!("ringway-sim --seed {seed} --profile {profile} --trace{mutant}");
    println!("  repeat: {repeat}");
    if small && arguments.mutant.is_none() && arguments.only == Only::default() {
        let (plans, clients) = world::plans(*seed, arguments.profile);
        let clients = u32::try_from(clients).unwrap_or(0);
        let mut pool = Pool::default();
        // A panic keeps the blocks of its run: fewer of those.
        let runs_max = if invariant == "PANIC" { 40 } else { 250 };
        let only = shrink(&plans, clients, runs_max, &mut |only| {
            let task = Task { only: only.clone(), ..Task::new(*seed, arguments.profile) };
            let (found, back) = run_one(&task, std::mem::take(&mut pool));
            pool = back;
            found.err().is_some_and(|other| other.invariant == *invariant)
        });
        let left = only.of(plans.clone());
        let troubles: usize = left.iter().map(|(_, plan)| plan.troubles.len()).sum();
        println!(
            "  shrunk: {} of {} lives, {troubles} troubles: {repeat} --only '{only}'",
            left.len(),
            plans.len()
        );
    }
}

fn work(arguments: &Arguments, seeds: &[u64], job: usize) -> Found {
    let mut found = Found::default();
    let mut pool = Pool::default();
    for seed in seeds.iter().skip(job).step_by(usize::try_from(arguments.jobs).unwrap_or(1)) {
        let only = arguments.only.clone();
        let task = Task { seed: *seed, profile: arguments.profile, only, trace: arguments.trace };
        let (ran, back) = run_one(&task, std::mem::take(&mut pool));
        pool = back;
        found.seeds += 1;
        match ran {
            Ok(outcome) => {
                found.hash ^= outcome.hash;
                found.counters.add(&outcome.counters);
                if arguments.twice {
                    let (again, back) = run_one(&task, std::mem::take(&mut pool));
                    pool = back;
                    let hash = again.map_or(0, |again| again.hash);
                    if hash != outcome.hash {
                        let detail = format!("traces {:016x} and {hash:016x}", outcome.hash);
                        let invariant = "M1".to_owned();
                        found.broken.push(Broken { seed: *seed, life: 0, invariant, detail });
                    }
                }
            }
            Err(broken) => found.broken.push(broken),
        }
        if found.broken.len() as u64 >= arguments.violations_max {
            break;
        }
    }
    found
}

/// One run; a panic is told by the rule that its text begins with.
fn run_one(task: &Task, pool: Pool) -> (Result<Outcome, Broken>, Pool) {
    let seed = task.seed;
    match catch_unwind(AssertUnwindSafe(|| world::run(task, pool))) {
        Ok((mut outcome, pool)) => {
            for line in outcome.lines.drain(..) {
                println!("{line}");
            }
            match outcome.violation.take() {
                None => (Ok(outcome), pool),
                Some((life, violation)) => {
                    let invariant = violation.invariant.to_owned();
                    (Err(Broken { seed, life, invariant, detail: violation.detail }), pool)
                }
            }
        }
        Err(_) => {
            let detail = LAST_PANIC.take().unwrap_or_default();
            let broken = Broken { seed, life: 0, invariant: "PANIC".to_owned(), detail };
            (Err(broken), Pool::default())
        }
    }
}

/// Processor time of this process, from the kernel's 100 Hz counts: on a shared host the only fair clock.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |n: usize| fields.split_whitespace().nth(n)?.parse::<f64>().ok();
    Some((field(11)? + field(12)?) / 100.0)
}

/// The commit that a violation is to be repeated on.
fn commit() -> String {
    let head = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    head.map_or_else(
        |_| "unknown".to_owned(),
        |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
    )
}
