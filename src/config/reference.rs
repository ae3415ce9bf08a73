//! The reference of all keys, as a table in Markdown and as lines of one configuration.

use super::keys::{Row, variable_of};
use std::fmt::Write as _;

/// The table that stands in `docs/operating.md`.
#[cfg(test)]
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| key | default | allowed | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let default = if row.default.is_empty() { "(empty)" } else { &row.default };
        // Writing to a String cannot fail.
        let _ignored = writeln!(
            text,
            "| `{}` | `{default}` | {} | {} |",
            quoted(row.key),
            row.allowed,
            row.meaning
        );
    }
    text
}

/// Kafka's own names hold dots and stand in quotes, as in the file.
fn quoted(key: &str) -> String {
    match key.strip_prefix("kafka.broker.") {
        Some(name) => format!("kafka.broker.\"{name}\""),
        None => key.to_owned(),
    }
}

/// Effective values: `key = value  # origin`, and the variable that would set it when nobody did.
pub(crate) fn effective(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let origin = match row.origin.as_str() {
            "default" => format!("default; {}", variable_of(row.key)),
            set => set.to_owned(),
        };
        let _ignored = writeln!(text, "{} = {:?}  # {origin}", quoted(row.key), row.value);
    }
    text
}

/// Compares the part of `docs/operating.md` between the marks of `what` with `fresh`; rewrites it when
/// UPDATE_DOCS is set.
#[cfg(test)]
pub(crate) fn docs_fresh(what: &str, fresh: &str) {
    let begin = format!("<!-- {what}: written by UPDATE_DOCS=1 cargo test docs_fresh -->\n");
    let end = format!("<!-- end of {what} -->\n");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let old = std::fs::read_to_string(&path).expect("docs/operating.md is there");
    let (head, rest) = old.split_once(&begin).expect("begin mark");
    let (found, tail) = rest.split_once(&end).expect("end mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{begin}{fresh}{end}{tail}")).expect("writable");
    } else {
        assert_eq!(found, fresh, "run UPDATE_DOCS=1 cargo test docs_fresh -- --test-threads 1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::source::Sources;

    #[test]
    fn docs_fresh_config_table_equals_the_code() {
        let rows = Config::load(&Sources::default()).expect("defaults are valid").rows;
        docs_fresh("config table", &markdown(&rows));
    }
}
