//! Which cores the shards get.
//! Owner: `boot.rs`, once.
//! Invariant: a shard only ever gets a core this process may run on (taskset, cpusets).
//! Not here: pinning (glommio does it), how many shards a data directory remembers.

use crate::error::StartError;

/// Cores of the shards and of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// One core per shard; its index is the shard's number.
    pub shards: Vec<usize>,
    /// The control plane's core; a shard's too when there is only one.
    pub control: usize,
}

/// Cores this process may run on, ascending; never empty.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores.dedup();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Parses `0-3,8,10-11`.
///
/// # Errors
/// When it is no such list or names no core.
pub fn parse_cores(list: &str) -> Result<Vec<usize>, StartError> {
    let wrong = |cause: String| StartError::Cores { given: list.to_owned(), cause };
    let number = |text: &str| {
        let text = text.trim();
        text.parse::<usize>()
            .ok()
            .filter(|core| *core < CORES_MAX)
            .ok_or_else(|| wrong(format!("{text:?} is no core number below {CORES_MAX}")))
    };
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(wrong(format!("{part:?} runs backwards")));
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// Above any machine's core number; bounds what a range may expand to.
const CORES_MAX: usize = 8192;

/// Chooses cores among `allowed`: those of `cpus` when given, and as many shards as `shards` says, else
/// all but one (the control plane's), at least one.
///
/// # Errors
/// When `cpus` names a core this process may not use, or fewer cores than shards are there.
pub fn place(
    allowed: &[usize],
    cpus: Option<&str>,
    shards: Option<usize>,
) -> Result<Placement, StartError> {
    let usable = match cpus {
        None => allowed.to_vec(),
        Some(list) => {
            let cores = parse_cores(list)?;
            if let Some(core) = cores.iter().find(|core| !allowed.contains(core)) {
                let cause = format!("core {core} is not among the allowed cores {allowed:?}");
                return Err(StartError::Cores { given: list.to_owned(), cause });
            }
            cores
        }
    };
    // An explicit list is meant for the shards; without one a core is left for the control plane.
    let spare = usize::from(cpus.is_none() && usable.len() > 1);
    let count = shards.unwrap_or(usable.len() - spare).max(1);
    if count > usable.len() {
        return Err(StartError::Cores {
            given: cpus.map_or_else(|| format!("{usable:?}"), str::to_owned),
            cause: format!("{count} shards need {count} cores, {} are there", usable.len()),
        });
    }
    let shards = usable[..count].to_vec();
    let control = allowed.iter().rev().find(|core| !shards.contains(core)).copied();
    let control = control.unwrap_or(shards[count - 1]);
    Ok(Placement { shards, control })
}

/// Pins the calling thread to `core`; whether the kernel agreed.
pub fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_list_is_ranges_and_numbers() {
        assert_eq!(parse_cores("0-2, 8,2").expect("list"), [0, 1, 2, 8]);
        for wrong in ["", "a", "3-1", "1-", "-", "0-9999999999", "99999"] {
            assert!(parse_cores(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_core_is_the_control_planes_unless_it_is_the_only_one() {
        let both = place(&[0, 1], None, None).expect("placement");
        assert_eq!(both, Placement { shards: vec![0], control: 1 });
        let one = place(&[3], None, None).expect("placement");
        assert_eq!(one, Placement { shards: vec![3], control: 3 });
        let two = place(&[0, 1], None, Some(2)).expect("placement");
        assert_eq!(two, Placement { shards: vec![0, 1], control: 1 });
        let listed = place(&[0, 1, 2, 3], Some("0-1"), None).expect("placement");
        assert_eq!(listed, Placement { shards: vec![0, 1], control: 3 });
    }

    #[test]
    fn cores_outside_the_allowed_set_are_refused_by_name() {
        let error = place(&[0, 1], Some("0,5"), None).expect_err("core 5");
        assert!(error.to_string().contains("core 5"), "{error}");
        assert!(place(&[0], None, Some(2)).is_err());
    }
}
