//! Reads keys one by one: each names its default, range and meaning in the place that reads it, so that
//! the reference table, the error texts and the struct cannot disagree.

use super::source::{Given, Layers, Origin, VARIABLE_PREFIX};
use super::units;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// One line of the reference, and the effective value of one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Dotted key.
    pub(crate) key: &'static str,
    /// What holds when nobody sets it.
    pub(crate) default: String,
    /// What may be set.
    pub(crate) allowed: String,
    /// Meaning, and the cost of a wrong value.
    pub(crate) meaning: &'static str,
    /// In effect.
    pub(crate) value: String,
    /// File and line, variable, flag, or `default`.
    pub(crate) origin: String,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Keys {
    layers: Layers,
    /// All keys read so far.
    pub(crate) rows: Vec<Row>,
    /// Everything wrong so far, one line each.
    pub(crate) problems: Vec<String>,
}

/// A key, its meaning.
pub(crate) type Named = (&'static str, &'static str);

impl Keys {
    /// Starts with what the sources hold.
    pub(crate) fn new(layers: Layers) -> Keys {
        Keys { layers, rows: Vec::new(), problems: Vec::new() }
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &mut self,
        named: Named,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let allowed = format!("{} to {}", range.start(), range.end());
        let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        self.scalar(named, default.to_string(), allowed, parse).unwrap_or(default)
    }

    /// A signed number within `range` (Kafka's −1 = unlimited).
    pub(crate) fn signed(&mut self, named: Named, default: i64, range: RangeInclusive<i64>) -> i64 {
        let allowed = format!("{} to {}", range.start(), range.end());
        let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        self.scalar(named, default.to_string(), allowed, parse).unwrap_or(default)
    }

    /// A whole number within `range`, or `auto`.
    pub(crate) fn auto_integer(&mut self, named: Named, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!("`auto` or {} to {}", range.start(), range.end());
        let parse = |text: &str| match text {
            "auto" => Some(None),
            number => number.parse().ok().filter(|number| range.contains(number)).map(Some),
        };
        self.scalar(named, "auto".to_owned(), allowed, parse).flatten()
    }

    /// Bytes within `range`.
    pub(crate) fn size(&mut self, named: Named, default: u64, range: RangeInclusive<u64>) -> u64 {
        let parse = |text: &str| units::parse_size(text).filter(|bytes| range.contains(bytes));
        let default_text = units::show_size(default);
        self.scalar(named, default_text, show_sizes(&range), parse).unwrap_or(default)
    }

    /// Bytes within `range`, or `auto`.
    pub(crate) fn auto_size(&mut self, named: Named, range: RangeInclusive<u64>) -> Option<u64> {
        let allowed = format!("`auto` or {}", show_sizes(&range));
        let parse = |text: &str| match text {
            "auto" => Some(None),
            size => units::parse_size(size).filter(|bytes| range.contains(bytes)).map(Some),
        };
        self.scalar(named, "auto".to_owned(), allowed, parse).flatten()
    }

    /// A duration within `range`.
    pub(crate) fn duration(
        &mut self,
        named: Named,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let show = units::show_duration;
        let allowed = format!("{} to {}", show(*range.start()), show(*range.end()));
        let parse = |text: &str| units::parse_duration(text).filter(|time| range.contains(time));
        self.scalar(named, show(default), allowed, parse).unwrap_or(default)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, named: Named, default: bool) -> bool {
        let parse = |text: &str| text.parse().ok();
        self.scalar(named, default.to_string(), "`true` or `false`".to_owned(), parse)
            .unwrap_or(default)
    }

    /// One of several names; the first is the default.
    pub(crate) fn choice<T: Copy>(&mut self, named: Named, names: &[(&'static str, T)]) -> T {
        let quoted: Vec<String> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
        let parse =
            |text: &str| names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        let (default, value) = names[0];
        self.scalar(named, default.to_owned(), quoted.join(", "), parse).unwrap_or(value)
    }

    /// Text that `check` accepts.
    pub(crate) fn text(
        &mut self,
        named: Named,
        default: &str,
        allowed: &str,
        check: fn(&str) -> bool,
    ) -> String {
        let parse = |text: &str| check(text).then(|| text.to_owned());
        self.scalar(named, default.to_owned(), allowed.to_owned(), parse)
            .unwrap_or_else(|| default.to_owned())
    }

    /// CPU numbers, or `auto`.
    pub(crate) fn cpus(&mut self, named: Named) -> Option<Vec<usize>> {
        let allowed = "`auto` or a list such as `1-15` or `0,2-3`".to_owned();
        let parse = |text: &str| match text {
            "auto" => Some(None),
            list => units::parse_cpus(list).map(Some),
        };
        self.scalar(named, "auto".to_owned(), allowed, parse).flatten()
    }

    /// IP address and port; port 0 = any free one.
    pub(crate) fn address(&mut self, named: Named, default: SocketAddr) -> SocketAddr {
        self.scalar(named, default.to_string(), IP_AND_PORT.to_owned(), |text| text.parse().ok())
            .unwrap_or(default)
    }

    /// IP address and port, or `auto`.
    pub(crate) fn auto_address(&mut self, named: Named) -> Option<SocketAddr> {
        let parse = |text: &str| match text {
            "auto" => Some(None),
            address => address.parse().ok().map(Some),
        };
        self.scalar(named, "auto".to_owned(), format!("`auto` or {IP_AND_PORT}"), parse).flatten()
    }

    /// Several addresses; one may stand without brackets, in a variable they are parted by commas.
    pub(crate) fn addresses(&mut self, named: Named, default: SocketAddr) -> Vec<SocketAddr> {
        let allowed = format!("one or more of {IP_AND_PORT}");
        let parse = |given: &Given| -> Option<Vec<SocketAddr>> {
            let parts = given.texts.iter().flat_map(|text| text.split(','));
            let all: Option<Vec<SocketAddr>> = parts.map(|text| text.trim().parse().ok()).collect();
            all.filter(|all| !all.is_empty())
        };
        self.read(named, default.to_string(), allowed, parse).unwrap_or_else(|| vec![default])
    }

    /// One or more of `names`, as a list or separated by commas; the first is the default.
    pub(crate) fn names(&mut self, named: Named, names: &[&'static str]) {
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let parse = |given: &Given| {
            let mut parts = given.texts.iter().flat_map(|text| text.split(','));
            (!given.texts.is_empty() && parts.all(|text| names.contains(&text.trim())))
                .then_some(())
        };
        self.read(named, names[0].to_owned(), quoted.join(", "), parse);
    }

    /// Adds a problem that names a key already read, its value and what is allowed.
    pub(crate) fn refuse(&mut self, key: &str, why: &str) {
        let row = self.rows.iter().find(|row| row.key == key);
        let (value, origin) = row.map_or(("", ""), |row| (&row.value, &row.origin));
        self.problems.push(format!("{key} = {value} ({origin}): {why}"));
    }

    /// Whether somebody set `key`.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.rows.iter().any(|row| row.key == key && row.origin != "default")
    }

    /// What nobody asked for is unknown: says so, with the nearest known key.
    pub(crate) fn refuse_unknown(&mut self) {
        let known: BTreeSet<&str> = self.rows.iter().map(|row| row.key).collect();
        for (key, given) in &self.layers.keys {
            let near = nearest(key, known.iter().copied());
            self.problems.push(format!("{key} ({}): unknown key{near}", given.origin));
        }
        let names: Vec<String> = known.iter().map(|key| variable_of(key)).collect();
        for name in self.layers.variables.keys() {
            let near = nearest(name, names.iter().map(String::as_str));
            self.problems.push(format!("{name}: unknown variable{near}"));
        }
        for (key, given) in &self.layers.flags {
            self.problems.push(format!("{key} ({}): flag sets an unknown key", given.origin));
        }
    }

    fn scalar<T>(
        &mut self,
        named: Named,
        default: String,
        allowed: String,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.read(named, default, allowed, |given| match (given.list, given.texts.as_slice()) {
            (false, [text]) => parse(text),
            _ => None,
        })
    }

    /// `None` when nobody set it, or when what was set is a problem.
    fn read<T>(
        &mut self,
        (key, meaning): Named,
        default: String,
        allowed: String,
        parse: impl Fn(&Given) -> Option<T>,
    ) -> Option<T> {
        let given = self.take(key);
        let value = given.as_ref().map_or_else(|| default.clone(), |given| given.texts.join(", "));
        let origin =
            given.as_ref().map_or_else(|| "default".to_owned(), |given| given.origin.to_string());
        let parsed = given.as_ref().and_then(parse);
        if given.is_some() && parsed.is_none() {
            self.problems.push(format!("{key} = {value:?} ({origin}): allowed is {allowed}"));
        }
        self.rows.push(Row { key, default, allowed, meaning, value, origin });
        parsed
    }

    /// The strongest layer's value, removed from all.
    fn take(&mut self, key: &'static str) -> Option<Given> {
        let name = variable_of(key);
        let file = self.layers.keys.remove(key);
        let variable = self.layers.variables.remove(&name).map(|text| Given {
            texts: vec![text],
            list: false,
            origin: Origin::Variable(name),
        });
        self.layers.flags.remove(key).or(variable).or(file)
    }
}

const IP_AND_PORT: &str = "an IP address and port such as `127.0.0.1:9092`, port 0 = any free one";

/// The variable that sets `key`: sections parted by `__`, Kafka's dots as `_`.
pub(crate) fn variable_of(key: &str) -> String {
    let (section, name) = match key.strip_prefix("kafka.broker.") {
        Some(name) => ("KAFKA__BROKER".to_owned(), name),
        None => {
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            (section.to_uppercase(), name)
        }
    };
    format!("{VARIABLE_PREFIX}{section}__{}", name.replace('.', "_").to_uppercase())
}

/// Ranges keep it well below the limit.
pub(super) fn number32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Where the doors are unless the operator says otherwise.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn show_sizes(range: &RangeInclusive<u64>) -> String {
    format!("{} to {}", units::show_size(*range.start()), units::show_size(*range.end()))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const ALIKE: f64 = 0.8;
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate}?"))
}
