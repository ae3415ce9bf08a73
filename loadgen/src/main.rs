//! The load generator: sends records on a schedule, reads them back, checks every one, and times it.
//!
//! Read `run.rs` first; `conn.rs` moves the bytes, `door/` knows the protocols, `ledger.rs` judges.
#![forbid(unsafe_code)]

mod args;
mod clock;
mod conn;
mod consumer;
mod cpu;
mod door;
mod history;
mod ledger;
mod plan;
mod producer;
mod ranges;
mod record;
mod report;
mod resp;
mod run;
mod setup;
mod shared;
mod stats;
mod template;

use anyhow::Context;
use args::{Cli, Command, Mode, RunArgs};
use clap::Parser;
use report::Report;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Wrong arguments.
const EXIT_USAGE: u8 = 2;
/// The server cannot be reached (`EX_UNAVAILABLE`).
const EXIT_UNREACHABLE: u8 = 69;

fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    if let Err(error) = args.check() {
        complain(&format!("error: {error:#}"));
        return ExitCode::from(EXIT_USAGE);
    }
    match measure(*args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            if error.downcast_ref::<setup::Unreachable>().is_some() {
                return ExitCode::from(EXIT_UNREACHABLE);
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs, reports, and says whether all was well.
fn measure(args: RunArgs) -> anyhow::Result<bool> {
    let (json, hdr, mode) = (args.json.clone(), args.hdr.clone(), args.mode);
    let shown = args.clone();
    let outcome = run::run(args)?;
    let report = Report::new(&shown, &outcome);
    let to_stdout = json.as_deref() == Some(Path::new("-"));
    if !to_stdout {
        report.write_text(&mut std::io::stdout().lock()).context("cannot write to stdout")?;
    }
    if let Some(path) = json {
        let text = serde_json::to_string(&report)?;
        if to_stdout {
            writeln!(std::io::stdout().lock(), "{text}").context("cannot write to stdout")?;
        } else {
            std::fs::write(&path, text + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if let Some(path) = hdr {
        let stats = &outcome.stats;
        let latencies = if mode == Mode::Produce { &stats.ack } else { &stats.end_to_end };
        report::write_hdr(&path, &latencies.0)?;
    }
    Ok(report.is_good())
}

fn complain(text: &str) {
    // Nowhere is left to say that stderr is closed.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
