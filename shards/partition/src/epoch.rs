//! Leader epoch history: at which offset each epoch of leadership began (scaleout.md Z1).
//! Owner: `Partition`.
//! Invariant: epochs and start offsets ascend together.
//! Not here: log_epochs and the life table (`log`), which only coincide with it on a lone node.

/// Lives remembered per log; older ones are folded into the oldest kept.
const EPOCHS_MAX: usize = 1024;

/// Epoch → start offset, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochHistory {
    entries: Vec<(i32, u64)>,
}

impl EpochHistory {
    /// Leadership `epoch` begins at `start`, the log end of that moment.
    pub(crate) fn begin(&mut self, epoch: i32, start: u64) {
        // An epoch that wrote nothing is replaced by its successor at the same offset.
        while self.entries.last().is_some_and(|&(e, s)| s >= start || e >= epoch) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        if self.entries.len() > EPOCHS_MAX {
            self.entries.remove(0);
        }
    }

    /// A batch of `epoch` lies at `base_offset` (recovery).
    pub(crate) fn observe(&mut self, epoch: i32, base_offset: u64) {
        if self.entries.last().is_none_or(|&(last, _)| epoch > last) {
            self.begin(epoch, base_offset);
        }
    }

    /// OffsetForLeaderEpoch (kafka.md F10): the greatest epoch ≤ `epoch` and where it ended.
    #[cfg_attr(not(test), expect(dead_code, reason = "OffsetForLeaderEpoch is not served yet"))]
    pub(crate) fn end_of(&self, epoch: i32, log_end: u64) -> Option<(i32, u64)> {
        let next = self.entries.partition_point(|&(e, _)| e <= epoch);
        let (found, _) = *self.entries.get(next.checked_sub(1)?)?;
        let end = self.entries.get(next).map_or(log_end, |&(_, start)| start);
        Some((found, end))
    }

    /// Forgets what ended at or below the log start.
    pub(crate) fn trim(&mut self, log_start: u64) {
        let keep = self.entries.partition_point(|&(_, start)| start <= log_start);
        self.entries.drain(..keep.saturating_sub(1));
    }

    /// Entries that began at or below `upto`, for a snapshot.
    pub(crate) fn entries_upto(&self, upto: u64) -> &[(i32, u64)] {
        &self.entries[..self.entries.partition_point(|&(_, start)| start <= upto)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f10_the_end_of_an_epoch_is_the_start_of_the_next() {
        let mut history = EpochHistory::default();
        history.begin(2, 0);
        history.begin(5, 40);
        assert_eq!(history.end_of(1, 99), None);
        assert_eq!(history.end_of(2, 99), Some((2, 40)));
        assert_eq!(history.end_of(4, 99), Some((2, 40)));
        assert_eq!(history.end_of(7, 99), Some((5, 99)));
    }

    #[test]
    fn z1_history_rebuilt_from_batches_equals_the_one_kept_while_writing() {
        let mut kept = EpochHistory::default();
        let mut rebuilt = EpochHistory::default();
        for (epoch, from, to) in [(1, 0, 10), (2, 10, 10), (4, 10, 30)] {
            kept.begin(epoch, from);
            for offset in from..to {
                rebuilt.observe(epoch, offset);
            }
        }
        assert_eq!(kept, rebuilt);
    }

    #[test]
    fn trimming_keeps_the_epoch_that_holds_the_log_start() {
        let mut history = EpochHistory::default();
        for (epoch, start) in [(1, 0), (2, 10), (3, 20)] {
            history.begin(epoch, start);
        }
        history.trim(15);
        assert_eq!(history.entries_upto(u64::MAX), &[(2, 10), (3, 20)]);
    }
}
