//! Planted bugs. The shipped source has none: a copy made by `tests/mutants/run` replaces this file and
//! the lines it breaks, so that what is simulated otherwise is exactly what ships.
//! Owner: `main.rs`.
//! Invariant: here no name is known.
//! Not here: the table of bugs (`tests/mutants/table.toml`).

/// Plants the bug called `name`.
///
/// # Errors
/// Always, in this build.
pub fn choose(name: &str) -> Result<(), String> {
    Err(format!("--mutant {name}: this build has no planted bugs; use tests/mutants/run"))
}
