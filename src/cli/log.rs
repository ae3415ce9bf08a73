//! `ringway log verify|inspect|export|repair|quarantine`: tools for the data directory of a stopped broker.

mod directory;
mod export;
mod findings;
mod history;
mod inspect;
mod meta;
mod metadata;
mod quarantine;
mod repair;
mod topics;
mod verify;

use crate::refusal::Refusal;
use clap::Subcommand;
use std::process::ExitCode;

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check every header and payload; exit 1 when anything acknowledged is missing or damaged.
    #[command(after_help = verify::AFTER)]
    Verify(verify::Args),
    /// Show segments, frames, checkpoints, lives and quarantine of each log.
    #[command(after_help = inspect::AFTER)]
    Inspect(inspect::Args),
    /// Print every readable record; damaged ranges are named on stderr.
    #[command(after_help = export::AFTER)]
    Export(export::Args),
    /// Write damaged logs anew from everything readable in them; the old files are kept aside.
    #[command(after_help = repair::AFTER)]
    Repair(repair::Args),
    /// List the ranges that the broker has named damaged and does not serve.
    #[command(after_help = quarantine::AFTER)]
    Quarantine(quarantine::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    match &args.action {
        Action::Verify(args) => verify::run(args),
        Action::Inspect(args) => inspect::run(args),
        Action::Export(args) => export::run(args),
        Action::Repair(args) => repair::run(args),
        Action::Quarantine(args) => quarantine::run(args),
    }
}
