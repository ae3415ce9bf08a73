//! The command line.
//! Owner: `main.rs`.
//! Invariant: an unknown argument is refused.
//! Not here: what is done with it.

use crate::exhaustive::Exhaustive;
use crate::faults::Profile;
use crate::shrink::Only;

/// Told with `--help` and after a mistake.
pub const USAGE: &str =
    "usage: ringway-sim [--seeds N] [--seed N] [--profile crash|eio|space|rot|liar|mixed]
                   [--jobs N] [--trace] [--mutant NAME] [--violations N] [--twice]
                   [--only PART]
       ringway-sim --flip | --damage | --enumerate [--jobs N] [--mutant NAME]
       ringway-sim --flip --bytes N [--seed FIRST] [--jobs N]
       ringway-sim --check [--whole] < HISTORY";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// First seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Worlds at a time.
    pub jobs: u64,
    /// Fault profile.
    pub profile: Profile,
    /// Tell what happens.
    pub trace: bool,
    /// A planted bug, in builds that have some.
    pub mutant: Option<String>,
    /// Each worker stops after so many violations.
    pub violations_max: u64,
    /// Run each seed twice and compare.
    pub twice: bool,
    /// The part of each seed's plan that is run.
    pub only: Only,
    /// Try every case of a kind instead of seeds.
    pub exhaustive: Option<Exhaustive>,
    /// A bit of each of so many bytes of a large segment, from the seed's on.
    pub bytes: Option<u64>,
    /// Check a history from standard input instead.
    pub check: bool,
    /// Its polls read all there is, from the first record on.
    pub whole: bool,
    /// Tell how to use it.
    pub help: bool,
}

impl Arguments {
    /// Reads them.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn parse(given: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut arguments = Arguments {
            first: 1,
            seeds: 1,
            jobs: 1,
            profile: Profile::Crash,
            trace: false,
            mutant: None,
            violations_max: 3,
            twice: false,
            only: Only::default(),
            exhaustive: None,
            bytes: None,
            check: false,
            whole: false,
            help: false,
        };
        let mut given = given;
        while let Some(word) = given.next() {
            match word.as_str() {
                "--seeds" => arguments.seeds = number(&word, given.next())?.max(1),
                "--seed" => arguments.first = number(&word, given.next())?,
                "--jobs" => arguments.jobs = number(&word, given.next())?.clamp(1, 64),
                "--bytes" => arguments.bytes = Some(number(&word, given.next())?.max(1)),
                "--violations" => arguments.violations_max = number(&word, given.next())?.max(1),
                "--profile" => {
                    let name = given.next().unwrap_or_default();
                    let known = Profile::from_name(&name);
                    arguments.profile = known.ok_or_else(|| {
                        let names = Profile::ALL.map(Profile::name).join(", ");
                        format!("--profile {name}: none of {names}")
                    })?;
                }
                "--mutant" => {
                    arguments.mutant = Some(given.next().ok_or("--mutant: which?")?);
                }
                "--twice" => arguments.twice = true,
                "--only" => {
                    let text = given.next().ok_or("--only: which part?")?;
                    arguments.only = Only::parse(&text)?;
                }
                "--trace" => arguments.trace = true,
                "--check" => arguments.check = true,
                "--whole" => arguments.whole = true,
                "--help" | "-h" => arguments.help = true,
                other => match Exhaustive::from_word(other) {
                    Some(mode) => arguments.exhaustive = Some(mode),
                    None => return Err(format!("unknown argument {other}")),
                },
            }
        }
        if arguments.bytes.is_some() && arguments.exhaustive != Some(Exhaustive::Flip) {
            return Err("--bytes: only together with --flip".to_owned());
        }
        Ok(arguments)
    }
}

fn number(word: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{word}: a number is missing"))?;
    value.parse().map_err(|_| format!("{word} {value}: not a number"))
}
