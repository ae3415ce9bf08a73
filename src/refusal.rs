//! Why a command ends without having done its work: one line for a person, one number for a script.

use ringway_runtime::error::StartError;
use std::fmt::Display;

/// Failed for a reason that has no code of its own.
pub(crate) const FAILED: u8 = 1;
/// Wrong flag or argument.
pub(crate) const USAGE: u8 = 2;
/// No server answers at that address.
pub(crate) const UNREACHABLE: u8 = 69;
/// The configuration or the host is not right.
pub(crate) const CONFIGURATION: u8 = 78;

/// One line and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// See `docs/operating.md`.
    pub(crate) code: u8,
    /// Cause and remedy; several lines only for several problems of one configuration.
    pub(crate) text: String,
}

impl Refusal {
    /// The system refused something that has no remedy of its own.
    pub(crate) fn failed(what: &str, cause: &dyn Display) -> Refusal {
        Refusal { code: FAILED, text: format!("{what}: {cause}") }
    }

    /// An argument makes no sense.
    pub(crate) fn usage(text: String) -> Refusal {
        Refusal { code: USAGE, text }
    }

    /// The configuration or the host is not right.
    pub(crate) fn configuration(text: String) -> Refusal {
        Refusal { code: CONFIGURATION, text }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Refusal {
        Refusal { code: error.exit_code(), text: error.to_string() }
    }
}
