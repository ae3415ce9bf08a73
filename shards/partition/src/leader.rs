//! Who leads a partition and how far consumers may see.
//! Owner: `Partition`.
//! Invariant: the high watermark never falls and never passes the flushed offset (one replica).
//! Not here: which epoch began where (`epoch.rs`), followers (they come with replication).

/// The role a partition is told to take (scaleout.md Z3). One node alone tells itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BecomeLeader {
    /// Stamped into every batch from now on.
    pub(crate) leader_epoch: i32,
    /// Replicas whose flushed offset counts; alone 1.
    pub(crate) in_sync: u32,
}

/// Leadership of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leader {
    epoch: i32,
    high_watermark: u64,
    in_sync: u32,
}

impl Leader {
    /// Takes the lead at a flushed end.
    pub(crate) fn become_leader(&mut self, role: BecomeLeader, flushed: u64) {
        assert!(role.leader_epoch >= self.epoch, "leader epoch {} fell", role.leader_epoch);
        self.epoch = role.leader_epoch;
        self.in_sync = role.in_sync;
        self.advance(flushed);
    }

    /// This disk holds everything below `flushed`. True: consumers may see more than before.
    pub(crate) fn advance(&mut self, flushed: u64) -> bool {
        assert!(flushed >= self.high_watermark, "flushed {flushed} < {}", self.high_watermark);
        let moved = flushed > self.high_watermark;
        // With one replica the minimum over the in-sync replicas is this disk's own offset.
        self.high_watermark = flushed;
        moved
    }

    /// Epoch of the current leader.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Consumers may read below it.
    pub(crate) fn high_watermark(&self) -> u64 {
        self.high_watermark
    }

    /// Replicas in sync, this one included.
    pub(crate) fn in_sync(&self) -> u32 {
        self.in_sync
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z2_the_high_watermark_follows_the_flushed_offset_of_a_lone_replica() {
        let mut leader = Leader::default();
        leader.become_leader(BecomeLeader { leader_epoch: 3, in_sync: 1 }, 10);
        assert_eq!((leader.epoch(), leader.high_watermark(), leader.in_sync()), (3, 10, 1));
        assert!(!leader.advance(10));
        assert!(leader.advance(12));
        assert_eq!(leader.high_watermark(), 12);
    }

    #[test]
    #[should_panic(expected = "flushed 4")]
    fn z2_the_high_watermark_never_falls() {
        let mut leader = Leader::default();
        leader.advance(5);
        leader.advance(4);
    }
}
