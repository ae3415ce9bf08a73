//! Runs models one by one, each in a process of its own: a model that fails leaves nothing behind, and what it
//! prints is shown only when it should not have failed.

use std::process::{Command, ExitCode};
use std::time::Instant;

/// Name, whether a bug is planted that must be found, the model.
pub type Model = (&'static str, bool, fn());

/// Runs all models, or the one that is named first among the arguments, by `explore`.
///
/// # Panics
/// When this program cannot start itself.
pub fn run_all(tool: &str, models: &[Model], explore: fn(fn())) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &String| models.iter().find(|model| model.0 == name);
    if let Some((_, _, model)) = arguments.first().and_then(named) {
        explore(*model);
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("a path of this program");
    let mut sound = true;
    for (name, planted, _) in models {
        let begun = Instant::now();
        let mut child = Command::new(&program);
        let ended = child.arg(name).args(&arguments).output().expect("this program starts");
        let failed = !ended.status.success();
        let verdict = match (planted, failed) {
            (false, false) => "all sound",
            (true, true) => "planted bug found",
            (false, true) => "FAILED",
            (true, false) => "planted bug NOT found: the model is broken",
        };
        let told = String::from_utf8_lossy(&ended.stdout);
        let comma = if told.is_empty() { "" } else { ", " };
        let seconds = begun.elapsed().as_secs_f64();
        println!("{tool}: {name}: {}{comma}{verdict}, {seconds:.1} s", told.trim_end());
        if *planted != failed {
            let said: String = String::from_utf8_lossy(&ended.stderr).chars().take(4000).collect();
            eprintln!("{said}");
            sound = false;
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
