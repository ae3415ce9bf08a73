//! A bar on stderr for work that takes long, when somebody looks at it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Shorter work shows nothing.
const LONG: Duration = Duration::from_secs(1);
/// Redraws per second.
const REDRAWS_HZ: u8 = 5;

/// Shown from [`LONG`] on.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    began: Instant,
    shown: Cell<bool>,
}

impl Progress {
    /// For `bytes` of input, or an unknown amount; `what` the records counted are.
    pub(crate) fn new(bytes: Option<u64>, what: &'static str) -> Progress {
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        let template = match bytes {
            Some(_) => "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar, what, began: Instant::now(), shown: Cell::new(false) }
    }

    /// `bytes` more are read, `records` are done in all.
    pub(crate) fn advance(&self, bytes: usize, records: u64) {
        self.bar.inc(bytes as u64);
        if !self.shown.get() && self.began.elapsed() > LONG && std::io::stderr().is_terminal() {
            self.shown.set(true);
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ));
        }
        if self.shown.get() {
            self.bar.set_message(format!("{records} {}", self.what));
        }
    }

    /// A line on stderr that the bar does not write over.
    pub(crate) fn say(&self, line: &str) {
        // A closed stderr is nobody's business.
        self.bar.suspend(|| drop(writeln!(std::io::stderr().lock(), "{line}")));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
