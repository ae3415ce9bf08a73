//! The command line: one file per subcommand.

pub(crate) mod check_config;
pub(crate) mod consume;
pub(crate) mod from;
pub(crate) mod log;
pub(crate) mod produce;
pub(crate) mod progress;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod settings;
pub(crate) mod topic;

use crate::refusal::Refusal;
use clap::{Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

/// A telemetry message broker: a partitioned log, every acknowledged record on disk.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// All subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker until SIGTERM or SIGINT.
    Serve(serve::Args),
    /// Create, list, describe and delete topics.
    Topic(topic::Args),
    /// Send lines to a topic; done when all of them are on disk.
    Produce(produce::Args),
    /// Print records of a topic.
    Consume(consume::Args),
    /// Look into a stopped broker's data directory.
    Log(log::Args),
    /// Read the configuration as `serve` would and show every value and where it comes from.
    CheckConfig(check_config::Args),
}

/// How a reading command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Runs one command.
pub(crate) fn run(command: Command) -> Result<ExitCode, Refusal> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Topic(args) => topic::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Log(args) => log::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
    }
}

#[cfg(test)]
mod tests;
