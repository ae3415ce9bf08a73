//! The binary `ringway`: the broker, and the commands that talk to one.
#![forbid(unsafe_code)]

mod boot;
mod cli;
mod config;
mod control;
mod refusal;
mod report;
#[cfg(test)]
mod tidy;

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(help_or_error) => {
            // A closed stdout or stderr is nobody's business.
            drop(help_or_error.print());
            return ExitCode::from(
                u8::try_from(help_or_error.exit_code()).unwrap_or(refusal::USAGE),
            );
        }
    };
    match cli::run(command) {
        Ok(code) => code,
        Err(refusal) => {
            drop(writeln!(std::io::stderr().lock(), "ringway: {}", refusal.text));
            ExitCode::from(refusal.code)
        }
    }
}
