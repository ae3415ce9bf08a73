//! What a run met: the rare states that must come up, or the run proves less than it says.
//! Owner: the world; `main.rs` sums them.
//! Invariant: each must-happen count is derived from the disk, the log's notices or the checker.
//! Not here: judging.

use crate::checker::Seen;
use crate::disk::DiskCounts;
use crate::node::Node;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// Counts of one seed, or of many.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Lives ended by a power cut.
    pub cuts: u64,
    /// Lives ended by a crash.
    pub crashes: u64,
    /// Lives ended by a clean stop.
    pub clean_stops: u64,
    /// Cuts and crashes inside a recovery.
    pub cuts_in_recovery: u64,
    /// Recoveries compared with an uninterrupted one.
    pub recoveries_compared: u64,
    /// Batches dropped as torn tails.
    pub torn_tails: u64,
    /// Recoveries that ended at a torn header.
    pub torn_headers: u64,
    /// Recoveries that ended at a torn payload.
    pub torn_payloads: u64,
    /// Forged headers behind a break, rejected.
    pub forged_rejected: u64,
    /// Headers of earlier lives behind a break, rejected.
    pub stale_rejected: u64,
    /// Cuts that met a segment coming into use.
    pub rolls_at_cut: u64,
    /// Appends after a truncation inside a block, then a recovery by scan.
    pub appended_in_block: u64,
    /// Recoveries without the newest checkpoint.
    pub checkpoints_unusable: u64,
    /// Reads of clients from disk, bytes.
    pub cold_read_bytes: u64,
    /// Restarts with another number of shards.
    pub shard_changes: u64,
    /// Restarts with lower limits.
    pub settings_lowered: u64,
    /// Batches sent.
    pub sent: u64,
    /// Batches acknowledged.
    pub acked: u64,
    /// Batches read by consumers.
    pub polled: u64,
    /// Unacknowledged batches that survived.
    pub survived: u64,
    /// Unacknowledged batches that did not.
    pub dropped: u64,
    /// Batches with forged frames inside.
    pub hostile: u64,
    /// Offset commits acknowledged.
    pub commits: u64,
    /// Retries recognised after a recovery.
    pub dedupe_after_recovery: u64,
    /// Segments made.
    pub rolls: u64,
    /// Segments renamed into `dropped/`.
    pub set_aside: u64,
    /// Bounds of each log after the newest recovery.
    pub bounds: BTreeMap<LogKey, (u64, u64)>,
}

impl Counters {
    /// Takes what the checker and the disk counted.
    pub fn take_seen(&mut self, seen: &Seen, disk: &DiskCounts, hostile: u64) {
        self.sent += seen.sent;
        self.acked += seen.acked;
        self.polled += seen.polled;
        self.survived += seen.survived;
        self.commits += seen.commits;
        self.dropped += seen.dropped;
        self.dedupe_after_recovery += seen.deduped_after_recovery;
        self.set_aside += disk.set_aside;
        self.rolls_at_cut += disk.rolls_at_cut;
        self.hostile += hostile;
    }

    /// Takes what a process that ends now counted.
    pub fn take_process(&mut self, node: &Node) {
        let Some(process) = &node.process else { return };
        for room in &process.rooms {
            if let Some(shard) = &room.shard {
                let log = shard.counts().log;
                self.rolls += log.rolls;
                self.torn_headers += log.torn_headers;
                self.torn_payloads += log.torn_payloads;
                self.forged_rejected += log.forged_headers;
                self.stale_rejected += log.stale_headers;
                self.checkpoints_unusable += log.unusable_checkpoints;
                self.cold_read_bytes += log.cold_read_bytes;
            }
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Counters) {
        for ((_, mine, _), (_, theirs, _)) in self.rows_mut().into_iter().zip(other.rows()) {
            *mine += theirs;
        }
    }

    /// Name and count of each row, and whether it must happen.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, u64, bool)> {
        let mut copy = self.clone();
        copy.rows_mut().into_iter().map(|(name, count, must)| (name, *count, must)).collect()
    }

    fn rows_mut(&mut self) -> Vec<(&'static str, &mut u64, bool)> {
        vec![
            ("cuts", &mut self.cuts, true),
            ("crashes", &mut self.crashes, true),
            ("clean_stops", &mut self.clean_stops, true),
            ("cuts_in_recovery", &mut self.cuts_in_recovery, true),
            ("recoveries_compared", &mut self.recoveries_compared, true),
            ("sent", &mut self.sent, true),
            ("acked", &mut self.acked, true),
            ("polled", &mut self.polled, true),
            ("survived", &mut self.survived, true),
            ("commits", &mut self.commits, true),
            ("dropped", &mut self.dropped, true),
            ("hostile", &mut self.hostile, true),
            ("torn_tails", &mut self.torn_tails, true),
            ("torn_headers", &mut self.torn_headers, true),
            ("torn_payloads", &mut self.torn_payloads, true),
            ("forged_rejected", &mut self.forged_rejected, true),
            ("stale_rejected", &mut self.stale_rejected, true),
            ("rolls_at_cut", &mut self.rolls_at_cut, true),
            ("appended_in_block", &mut self.appended_in_block, true),
            ("checkpoints_unusable", &mut self.checkpoints_unusable, true),
            ("cold_read_bytes", &mut self.cold_read_bytes, true),
            ("shard_changes", &mut self.shard_changes, true),
            ("settings_lowered", &mut self.settings_lowered, true),
            ("dedupe_after_recovery", &mut self.dedupe_after_recovery, true),
            ("rolls", &mut self.rolls, true),
            ("set_aside", &mut self.set_aside, true),
        ]
    }
}
