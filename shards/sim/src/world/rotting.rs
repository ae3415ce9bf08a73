//! When the medium of a world rots: between two lives, and at some events of a life.
//! Owner: the world.
//! Invariant: whether and when is planned; only where is drawn, from what is on the disk then.
//! Not here: what a blow does (`rot.rs`).

use super::World;
use crate::faults::{Kind, Rot, Trouble};
use crate::plan::LifePlan;

impl World {
    /// What rots before this life starts. How many small files are lost or wrong now.
    pub(super) fn rot_at_rest(&mut self, plan: &LifePlan) -> u64 {
        self.decay.rests(&self.node.disk);
        let mut files = 0;
        for (rot, chance) in blows(plan, |nth| nth == 0) {
            files += u64::from(self.blow(rot, chance) && !rot.hits_blocks());
        }
        files
    }

    /// Clients work; between two events a block rots, where that is planned.
    pub(super) fn pump_while_rotting(&mut self, plan: &LifePlan, until: u64) -> Option<bool> {
        let mut nths: Vec<u64> = plan
            .troubles
            .iter()
            .filter(|one| one.kind.is_rot() && one.nth > 0)
            .map(|one| one.nth.min(plan.work_events))
            .collect();
        nths.sort_unstable();
        nths.dedup();
        let mut done = 0;
        for nth in nths {
            self.node.set_fuse(Some(nth - done));
            if self.pump(until, false) != Some(false) {
                return None;
            }
            done = nth;
            for (rot, chance) in blows(plan, |of| of > 0 && of.min(plan.work_events) == nth) {
                self.decay.counts.while_running += u64::from(self.blow(rot, chance));
            }
        }
        self.node.set_fuse(Some(plan.work_events - done));
        self.pump(until, false)
    }

    fn blow(&mut self, rot: Rot, chance: u64) -> bool {
        let told = self.decay.strike(rot, chance, &mut self.node.disk, &mut self.checker);
        if let Some(what) = &told {
            self.node.trace.tell(|| format!("ROT {what}"));
        }
        told.is_some()
    }
}

/// Planned blows of a life, by when.
fn blows(plan: &LifePlan, when: impl Fn(u64) -> bool) -> Vec<(Rot, u64)> {
    let of = |one: &Trouble| match one.kind {
        Kind::Rot(rot) if when(one.nth) => Some((rot, one.chance)),
        _ => None,
    };
    plan.troubles.iter().filter_map(of).collect()
}
