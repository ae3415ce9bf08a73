//! Where settings come from: file, environment, flags, the later winning over the earlier.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Prefix of the variables that set a key.
pub(crate) const VARIABLE_PREFIX: &str = "RINGWAY__";

/// What to read settings from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// All variables of the process.
    pub(crate) variables: Vec<(String, String)>,
    /// Key, text, and the flag it came from.
    pub(crate) flags: Vec<(&'static str, String, &'static str)>,
}

/// A place that set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// File and line.
    File(PathBuf, usize),
    /// Variable.
    Variable(String),
    /// Flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One value as given; everything is kept as text and read by the key's own parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// Scalar, or the elements of an array.
    pub(crate) texts: Vec<String>,
    /// Whether it was written as an array.
    pub(crate) list: bool,
    /// Who said so.
    pub(crate) origin: Origin,
}

/// All values by dotted key. A variable is under its own name until a key claims it.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// From file and flags.
    pub(crate) keys: BTreeMap<String, Given>,
    /// `RINGWAY__…`, by name.
    pub(crate) variables: BTreeMap<String, String>,
    /// From flags: they win over variables.
    pub(crate) flags: BTreeMap<&'static str, Given>,
}

impl Layers {
    /// Reads all sources; a file that cannot be read or parsed is a problem, as text.
    pub(crate) fn read(sources: &Sources) -> Result<Layers, Vec<String>> {
        let Some(path) = &sources.file else { return Layers::of(sources, "") };
        let text = std::fs::read_to_string(path)
            .map_err(|error| vec![format!("cannot read {}: {error}", path.display())])?;
        Layers::of(sources, &text)
    }

    /// The same with the text of the file at hand.
    pub(crate) fn of(sources: &Sources, text: &str) -> Result<Layers, Vec<String>> {
        let mut layers = Layers::default();
        if let Some(path) = &sources.file {
            layers.read_file(path, text)?;
        }
        for (name, value) in &sources.variables {
            if name.starts_with(VARIABLE_PREFIX) {
                layers.variables.insert(name.clone(), value.clone());
            }
        }
        for (key, text, flag) in &sources.flags {
            let given =
                Given { texts: vec![text.clone()], list: false, origin: Origin::Flag(flag) };
            layers.flags.insert(key, given);
        }
        Ok(layers)
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), Vec<String>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let say = |error: &toml::de::Error| {
                let line = error.span().map_or(0, |span| line_of(text, span.start));
                format!("{}:{line}: {}", path.display(), error.message())
            };
            return Err(errors.iter().map(say).collect());
        }
        self.flatten(path, text, "", table.get_ref());
        Ok(())
    }

    fn flatten(&mut self, path: &Path, text: &str, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            if let DeValue::Table(inner) = value.get_ref() {
                self.flatten(path, text, &key, inner);
                continue;
            }
            let (texts, list) = match value.get_ref() {
                DeValue::Array(array) => {
                    (array.iter().map(|item| scalar(item.get_ref())).collect(), true)
                }
                other => (vec![scalar(other)], false),
            };
            let origin = Origin::File(path.to_owned(), line_of(text, name.span().start));
            self.keys.insert(key, Given { texts, list, origin });
        }
    }
}

fn scalar(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => "a table or array".to_owned(),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
