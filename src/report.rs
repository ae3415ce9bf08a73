//! What the broker tells its operator: one JSON object per line on stderr.

use serde_json::{Map, Value};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much an operator should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// For the record.
    Info,
    /// Served all the same, but not as it should be.
    Warn,
    /// Something was lost to service.
    Error,
}

/// Writes one line; a closed stderr is nobody's business.
pub(crate) fn log(level: Level, component: &str, message: &str, fields: &[(&str, Value)]) {
    let line = line(level, component, message, fields, SystemTime::now());
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

fn line(
    level: Level,
    component: &str,
    message: &str,
    fields: &[(&str, Value)],
    at: SystemTime,
) -> String {
    let ms = at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let mut object = Map::new();
    object.insert("ts".to_owned(), Value::from(u64::try_from(ms).unwrap_or(u64::MAX)));
    object.insert("level".to_owned(), Value::from(level));
    object.insert("component".to_owned(), Value::from(component));
    object.insert("msg".to_owned(), Value::from(message));
    for (name, value) in fields {
        object.insert((*name).to_owned(), value.clone());
    }
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_the_message_holds() {
        let fields = [("shard", Value::from(3))];
        let line = line(Level::Warn, "log", "bad\n\"bytes\"", &fields, UNIX_EPOCH);
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["msg"], "bad\n\"bytes\"");
        assert_eq!((value["shard"].as_u64(), value["ts"].as_u64()), (Some(3), Some(0)));
    }
}
