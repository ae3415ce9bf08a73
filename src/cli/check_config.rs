//! `ringway check-config`

use super::Output;
use super::settings::Settings;
use crate::config::reference;
use crate::refusal::Refusal;
use serde_json::{Map, Value, json};
use std::io::Write as _;
use std::process::ExitCode;

/// Flags of `check-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,
    /// How to print the values.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints what is in effect; a problem is exit 78 and a line each.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let rows = args.settings.load()?.rows;
    let text = match args.output {
        Output::Table => reference::effective(&rows),
        Output::Json => {
            let rows = rows
                .iter()
                .map(|row| (row.key.to_owned(), json!({"value": row.value, "origin": row.origin})));
            let mut text = Value::Object(rows.collect::<Map<_, _>>()).to_string();
            text.push('\n');
            text
        }
    };
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
    Ok(ExitCode::SUCCESS)
}
