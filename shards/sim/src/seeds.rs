//! Seeds that once failed.
//! Owner: `main.rs`.
//! Invariant: every line of `seeds.txt` is read, or the program does not start.
//! Not here: running them.

use crate::faults::Profile;

const TEXT: &str = include_str!("seeds.txt");

/// The committed seeds of a profile.
///
/// # Errors
/// A line that makes no sense.
pub fn committed(profile: Profile) -> Result<Vec<u64>, String> {
    let mut seeds = Vec::new();
    for line in TEXT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let of = words.next().and_then(Profile::from_name);
        let seed = words.next().and_then(|word| word.parse().ok());
        let (Some(of), Some(seed)) = (of, seed) else {
            return Err(format!("seeds.txt: {line}"));
        };
        if of == profile {
            seeds.push(seed);
        }
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_profile_and_a_seed() {
        for profile in Profile::ALL {
            assert!(committed(profile).is_ok());
        }
    }
}
