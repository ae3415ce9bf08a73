//! `ringway serve`

use super::settings::Settings;
use crate::boot;
use crate::refusal::Refusal;
use std::process::ExitCode;

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,
}

#[cfg(test)]
impl Args {
    /// For the tests of the parser.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Serves until told to stop.
pub(crate) fn run(args: Args) -> Result<ExitCode, Refusal> {
    boot::serve(move || args.settings.load())
}
