//! `[shards]`: how many, on which cores.

use super::keys::{Keys, number32};

/// Shards of one node at most: a broker id is node × 1024 + shard.
const SHARDS_MAX: u64 = 1024;

/// `[shards]`
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    /// `None` = allowed cores minus the control core, at least 1.
    pub(crate) count: Option<u32>,
    /// Cores to choose from; `None` = all that the process may use.
    pub(crate) cpus: Option<Vec<usize>>,
    /// Cores of the control plane; `None` = one that no shard has, when there is one.
    pub(crate) control_cpus: Option<Vec<usize>>,
}

impl Shards {
    pub(super) fn read(keys: &mut Keys) -> Shards {
        let count = keys.auto_integer(
            (
                "shards.count",
                "Shards, one core each; `auto` = allowed cores minus one, at least 1.",
            ),
            1..=SHARDS_MAX,
        );
        Shards {
            count: count.map(number32),
            cpus: keys.cpus(("shards.cpus", "Cores to take; `auto` = those the process may use.")),
            control_cpus: keys.cpus((
                "shards.control_cpus",
                "Cores of the control plane; `auto` = one that no shard has, if there is one.",
            )),
        }
    }
}
