//! `ringway-sim`: runs seeds and says what did not hold, or checks a client history.
//! Owner: nobody.
//! Invariant: seeds run one by one, each a pure function of itself; only the report knows real time.
//! Not here: the world (`world.rs`).
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program reports")]
#![expect(clippy::disallowed_methods, reason = "arguments and elapsed time belong to the program")]

use ringway_sim::arguments::{Arguments, USAGE};
use ringway_sim::counters::Counters;
use ringway_sim::process::Pool;
use ringway_sim::{history, mutant, world};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

thread_local! {
    /// What the last panic of this thread said.
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// What one worker found.
#[derive(Default)]
struct Found {
    counters: Counters,
    seeds: u64,
    /// Seed, life, invariant, detail.
    violations: Vec<(u64, u32, String, String)>,
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
    report(&arguments)
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
    let started = Instant::now();
    let found: Vec<Found> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..arguments.jobs).map(|job| scope.spawn(move || work(arguments, job))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    let mut counters = Counters::default();
    let mut violations = Vec::new();
    let mut seeds = 0;
    let mut hash = 0;
    for one in found {
        counters.add(&one.counters);
        violations.extend(one.violations);
        seeds += one.seeds;
        hash ^= one.hash;
    }
    violations.sort();
    for (seed, life, invariant, detail) in &violations {
        println!(
            "SEED={seed} PROFILE={} COMMIT={} LIFE={life} INVARIANT={invariant} {detail}",
            arguments.profile,
            commit()
        );
        let mutant =
            arguments.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
        println!(
            "  repeat: ringway-sim --seed {seed} --profile {} --trace{mutant}",
            arguments.profile
        );
    }
    let failures = counters.cuts + counters.crashes + counters.cuts_in_recovery;
    let rate = failures as f64 / seconds;
    let per_core = failures as f64 / cpu_seconds().unwrap_or(seconds).max(0.01);
    println!(
        "seeds {seeds} cuts {failures} cuts/s {rate:.0} cuts/s/core {per_core:.0} seconds {seconds:.1} \
         violations {} trace {hash:016x}",
        violations.len()
    );
    for (name, count, must_happen) in counters.rows() {
        let missing = if must_happen && count == 0 { "  MUST HAPPEN" } else { "" };
        println!("  {name} {count}{missing}");
    }
    let missing = counters.rows().iter().any(|(_, count, must)| *must && *count == 0);
    let enough = seeds >= 1000 && arguments.mutant.is_none();
    if violations.is_empty() && !(missing && enough) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn work(arguments: &Arguments, job: u64) -> Found {
    let mut found = Found::default();
    let mut pool = Pool::default();
    let mut seed = arguments.first + job;
    while seed < arguments.first + arguments.seeds {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            world::run(seed, arguments.trace, std::mem::take(&mut pool))
        }));
        found.seeds += 1;
        match ran {
            Ok((outcome, back)) => {
                pool = back;
                found.hash ^= outcome.hash;
                found.counters.add(&outcome.counters);
                for line in outcome.lines {
                    println!("{line}");
                }
                if let Some((life, violation)) = outcome.violation {
                    let invariant = violation.invariant.to_owned();
                    found.violations.push((seed, life, invariant, violation.detail));
                }
            }
            Err(_) => {
                let text = LAST_PANIC.take().unwrap_or_default();
                found.violations.push((seed, 0, "PANIC".to_owned(), text));
            }
        }
        if found.violations.len() as u64 >= arguments.violations_max {
            break;
        }
        seed += arguments.jobs;
    }
    found
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
