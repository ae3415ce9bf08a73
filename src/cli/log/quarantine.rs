//! `ringway log quarantine`: the ranges that the broker has named and does not serve.

use super::directory::{Choice, FoundLog, Stopped, refused};
use crate::cli::Output;
use crate::cli::progress::Progress;
use crate::cli::server::print;
use crate::refusal::Refusal;
use ringway_log::inspect::{checkpoint_lines, quarantine_list};
use ringway_log::logs::QuarantineFacts;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

/// Below the help text.
pub(super) const AFTER: &str = "\
The list is what recoveries and reads have found so far. It is no evidence: a lost or damaged list is found again
by the scan and by reads. To look for damage that nobody has met yet: ringway log verify DIR.

The damaged bytes stay where they are. What to do with a range:
  its records exist elsewhere   produce them again
  they do not                   set the topic's on_quarantine=skip, and consumers pass the range by themselves,
                                or stop the broker and ringway log repair DIR";

/// Arguments of `log quarantine`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of a stopped broker.
    directory: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let stopped = Stopped::open(&args.directory, &args.choice, false)?;
    let mut rows = Vec::new();
    for log in &stopped.logs {
        rows.push((log, list(log)?));
        if let Some(gaps) = unlisted(&stopped, log) {
            let title = log.title();
            let text =
                format!("{title}: no list can be read; a start names the recorded gaps: {gaps}");
            Progress::new(None, "").say(&text);
        }
    }
    let json = rows.iter().flat_map(|(log, list)| {
        list.iter().flatten().map(|range| {
            let mut row = range_json(range);
            row["topic"] = json!(log.topic());
            row["partition"] = json!(log.key.partition);
            row
        })
    });
    print(args.output, || table(&rows), &Value::Array(json.collect()));
    Ok(ExitCode::SUCCESS)
}

/// The gaps of a log without a list, as its newest checkpoint records them.
fn unlisted(stopped: &Stopped, log: &FoundLog) -> Option<String> {
    if log.list.as_deref().and_then(quarantine_list).is_some() {
        return None;
    }
    let newest = checkpoint_lines(log.key, &stopped.facts).into_iter().next()?;
    let gap = |(_, start, end): &(u32, u64, u64)| {
        let end = (*end).max(newest.log_start);
        (end < *start).then(|| format!("offsets {end}..{start}"))
    };
    let gaps: Vec<String> = newest.lives.iter().filter_map(gap).collect();
    (!gaps.is_empty()).then(|| gaps.join(", "))
}

/// The list of one log; `None`: the file is damaged.
pub(super) fn list(log: &FoundLog) -> Result<Option<Vec<QuarantineFacts>>, Refusal> {
    let path = log.directory.join("quarantine");
    match fs::read(&path) {
        Ok(body) => Ok(quarantine_list(&body)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Some(Vec::new())),
        Err(cause) => Err(refused(&path, &cause)),
    }
}

/// One range for programs.
pub(super) fn range_json(range: &QuarantineFacts) -> Value {
    json!({
        "segment": range.segment,
        "position": range.position,
        "until_position": range.until_position,
        "from": range.from,
        "to": range.to,
        "reason": range.reason,
        "found_by": range.found_by,
        "found_ms": range.found_ms,
    })
}

/// One range for people.
pub(super) fn range_line(range: &QuarantineFacts) -> String {
    let QuarantineFacts { segment, position, from, to, reason, found_by, found_ms, .. } = range;
    let until = range.until_position.map_or("the end".to_owned(), |until| until.to_string());
    format!(
        "offsets {from}..{to}: {reason}, {segment:020}.seg bytes {position} to {until}, found by {found_by} at \
         {found_ms} ms since 1970"
    )
}

fn table(rows: &[(&FoundLog, Option<Vec<QuarantineFacts>>)]) -> String {
    let mut text = String::new();
    for (log, list) in rows {
        let title = log.title();
        // Writing to a String cannot fail.
        match list {
            None => writeln!(text, "{title}: the list is damaged; it is found again")
                .unwrap_or_default(),
            Some(list) => {
                for range in list {
                    writeln!(text, "{title}: {}", range_line(range)).unwrap_or_default();
                }
            }
        }
    }
    let ranges: usize = rows.iter().map(|(_, list)| list.as_ref().map_or(0, Vec::len)).sum();
    writeln!(text, "{} logs, {ranges} quarantined ranges", rows.len()).unwrap_or_default();
    text
}
