//! Configuration: file, variables and flags to settings or to problems; topic settings.
//! Input: lines. `!NAME=value` is a variable, `@key=value` a flag, `#name=value` a topic setting; all others
//! are the file.
#![no_main]

#[expect(dead_code, reason = "the broker's own module; what starts a broker is not used here")]
#[path = "../../../src"]
mod ringway {
    pub mod config;
}

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use ringway::config::source::{Layers, Sources};
use ringway::config::{Config, keys, reference};
use ringway_fuzz::memory::measured;
use ringway_fuzz::{Dice, canary, give_back, libfuzzer_mutate};
use ringway_partition::topic_config::{ConfigSource, TopicConfig};
use std::sync::OnceLock;

/// Every key has a row with its texts, whatever is read; error texts quote what they complain about.
const ROOM: usize = 256 << 10;

/// All keys there are.
fn all_keys() -> &'static [&'static str] {
    static KEYS: OnceLock<Vec<&'static str>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let config = Config::load(&Sources::default()).expect("defaults are valid");
        config.rows.iter().map(|row| row.key).collect()
    })
}

/// The input, parted.
#[derive(Default)]
struct Given {
    file: String,
    variables: Vec<(String, String)>,
    flags: Vec<(&'static str, String, &'static str)>,
    topic: Vec<(String, Option<String>)>,
}

fn part(text: &str) -> Given {
    let mut given = Given::default();
    for line in text.lines() {
        let pair = line.get(1..).and_then(|rest| rest.split_once('='));
        match (line.as_bytes().first(), pair) {
            (Some(b'!'), Some((name, value))) => {
                given.variables.push((name.to_owned(), value.to_owned()))
            }
            (Some(b'@'), Some((name, value))) => {
                if let Some(key) = all_keys().iter().find(|key| **key == name) {
                    given.flags.push((*key, value.to_owned(), "--flag"));
                }
            }
            (Some(b'#'), Some((name, value))) => {
                let value = (value != "default").then(|| value.to_owned());
                given.topic.push((name.to_owned(), value));
            }
            _ => given.file += &format!("{line}\n"),
        }
    }
    given
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(input) else { return Corpus::Reject };
    all_keys();
    let given = part(text);
    let sources = Sources {
        file: (!given.file.is_empty()).then(|| "ringway.toml".into()),
        variables: given.variables.clone(),
        flags: given.flags.clone(),
    };
    // The parsed file holds its texts and names; a dotted key is written out in full for each value.
    let room = 64 * input.len() + ROOM;
    let read = measured(room, || Layers::of(&sources, &given.file).and_then(Config::of));
    match read {
        Ok(config) => again(&config, &given),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in &problems {
                assert!(!problem.contains('\n'), "a problem of several lines: {problem:?}");
                assert!(
                    problem.len() <= 3 * input.len() + 600,
                    "{} bytes for a problem",
                    problem.len()
                );
            }
            look_for_canary(&problems, &given);
        }
    }
    topic(&given);
    Corpus::Keep
});

/// What was set, given back as variables, has the same effect; the stronger layer has won. Defaults are left
/// out: two keys that say the same thing may not both be set.
fn again(config: &Config, given: &Given) {
    let set = config.rows.iter().filter(|row| row.origin != "default");
    let variables = set.map(|row| (keys::variable_of(row.key), row.value.clone()));
    let sources = Sources { variables: variables.collect(), ..Sources::default() };
    let again = Config::load(&sources).unwrap_or_else(|problems| panic!("not twice: {problems:?}"));
    for (row, again) in config.rows.iter().zip(&again.rows) {
        assert_eq!((row.key, &row.value), (again.key, &again.value));
        let flag = given.flags.iter().rev().find(|flag| flag.0 == row.key);
        let name = keys::variable_of(row.key);
        let variable = given.variables.iter().rev().find(|variable| variable.0 == name);
        match (flag, variable) {
            (Some(flag), _) => assert_eq!((&row.value, row.origin.as_str()), (&flag.1, "--flag")),
            (None, Some(variable)) => assert_eq!((&row.value, &row.origin), (&variable.1, &name)),
            (None, None) => {
                assert!(row.origin == "default" || row.origin.starts_with("ringway.toml:"))
            }
        }
    }
    assert!(!reference::effective(&config.rows).is_empty());
}

/// A setting is refused and changes nothing, or it is described as it was given.
fn topic(given: &Given) {
    let mut config = TopicConfig::default();
    for (name, value) in &given.topic {
        let before = config.clone();
        if config.set(name, value.as_deref()).is_err() {
            assert_eq!(config, before, "a refused setting has an effect");
            continue;
        }
        let rows = config.describe();
        let row = rows.iter().find(|row| row.name == name.as_str()).expect("it was set");
        match value {
            Some(value) => assert_eq!(
                (row.value.as_str(), row.source),
                (value.trim(), ConfigSource::DynamicTopic)
            ),
            None => {
                assert_eq!((row.value.as_str(), row.source), (row.default, ConfigSource::Default))
            }
        }
    }
    let overrides =
        config.overrides.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    let again = TopicConfig::from_overrides(overrides).expect("what was set can be set");
    assert_eq!(again, config, "the order of settings matters");
}

fn look_for_canary(problems: &[String], given: &Given) {
    let nested = |problem: &&String| {
        problem.starts_with("kafka.broker.") && problem.contains("(ringway.toml:")
    };
    let Some(problem) = problems.iter().find(nested) else { return };
    if problem.contains("allowed is") {
        let overridden = given.variables.iter().any(|(name, _)| {
            let key = all_keys().iter().find(|key| keys::variable_of(key) == *name);
            key.and_then(|key| key.rsplit_once('.'))
                .is_some_and(|(_, name)| given.file.contains(name))
        });
        if overridden {
            canary("config: a nested key out of range, behind one that a variable overrides");
        }
    }
}

const VALUES: [&str; 24] = [
    "0",
    "1",
    "2",
    "-1",
    "65536",
    "1000000",
    "99999999999999999999",
    "1.5",
    "true",
    "false",
    "\"auto\"",
    "\"64KiB\"",
    "\"1GiB\"",
    "\"250ms\"",
    "\"7d\"",
    "\"127.0.0.1:0\"",
    "\"0.0.0.0:9092\"",
    "\"[::1]:7420\"",
    "[\"127.0.0.1:1\", \"127.0.0.1:2\"]",
    "\"0,2-3\"",
    "\"prefer\"",
    "\"\"",
    "1979-05-27",
    "{ a = 1 }",
];
const TOPIC_NAMES: [&str; 8] = [
    "retention.ms",
    "segment.bytes",
    "cleanup.policy",
    "max.message.bytes",
    "compression.type",
    "min.cleanable.dirty.ratio",
    "preallocate",
    "no.such",
];
const TOPIC_VALUES: [&str; 9] = [
    "1",
    "-1",
    "compact",
    "compact, delete",
    "zstd",
    "0.5",
    "NaN",
    "default",
    "9223372036854775808",
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice::new(seed);
    let mut input = data[..size].to_vec();
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&input).lines().map(str::to_owned).collect();
    let at = dice.below(lines.len() + 1);
    match dice.below(8) {
        0..=2 => lines.insert(at, line(&mut dice)),
        3 if !lines.is_empty() => drop(lines.remove(at.min(lines.len() - 1))),
        4 if lines.len() > 1 => {
            let other = dice.below(lines.len());
            lines.swap(at.min(other), other);
        }
        5 => lines = vec![line(&mut dice)],
        _ => {
            libfuzzer_mutate(&mut input, max_size);
            return give_back(&input, data, max_size);
        }
    }
    give_back((lines.join("\n") + "\n").as_bytes(), data, max_size)
});

fn line(dice: &mut Dice) -> String {
    let key = dice.pick(all_keys());
    let value = dice.pick(&VALUES);
    let plain = value.trim_matches('"');
    match dice.below(6) {
        0 => format!("!{}={plain}", keys::variable_of(key)),
        1 => format!("@{key}={plain}"),
        2 => format!("#{}={}", dice.pick(&TOPIC_NAMES), dice.pick(&TOPIC_VALUES)),
        3 => format!(
            "[{}]",
            dice.pick(&["kafka.broker", "kafka", "shards", "log", "limits", "node"])
        ),
        4 => match key.strip_prefix("kafka.broker.") {
            Some(name) => format!("kafka.broker.\"{name}\" = {value}"),
            None => format!("{key} = {value}"),
        },
        // Under a section that stands somewhere above.
        _ => format!("{} = {value}", key.split_once('.').map_or(key, |(_, name)| name)),
    }
}
