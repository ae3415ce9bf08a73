//! What a run met: the rare states that must come up, or the run proves less than it says.
//! Owner: the world; `main.rs` sums them.
//! Invariant: each must-happen count is derived from the disk, the log's notices or the checker.
//! Not here: judging.

use crate::checker::{LookUpCounts, PassingCounts, Seen};
use crate::device::DeviceCounts;
use crate::disk::DiskCounts;
use crate::faults::Profile;
use crate::node::Node;
use crate::rot::RotCounts;
use crate::teams::TeamCounts;
use crate::watch::WatchCounts;

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
    /// Writes of which a cut left one sector neither old nor new.
    pub shorn: u64,
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
    /// Fetches that began behind the damage they were asked for.
    pub passed_over: u64,
    /// Batches without records that moved a reader over damage at a log's end.
    pub stepped_over: u64,
    /// Unacknowledged batches that survived.
    pub survived: u64,
    /// Unacknowledged batches that did not.
    pub dropped: u64,
    /// Batches with forged frames inside.
    pub hostile: u64,
    /// Offset commits acknowledged.
    pub commits: u64,
    /// Look-ups by time.
    pub look_ups: LookUpCounts,
    /// Topics that come and go.
    pub passing: PassingCounts,
    /// Members of the group.
    pub teams: TeamCounts,
    /// Retries recognised after a recovery.
    pub dedupe_after_recovery: u64,
    /// Segments made.
    pub rolls: u64,
    /// Segments renamed into `dropped/`.
    pub set_aside: u64,
    /// Starts that the device refused.
    pub starts_refused: u64,
    /// Logs that a recovery left closed.
    pub logs_closed: u64,
    /// Ranges that a recovery quarantined.
    pub quarantined: u64,
    /// … because a block had rotted.
    pub rot_by_recovery: u64,
    /// Ranges that a read found damaged.
    pub rot_by_read: u64,
    /// … that a scrub found.
    pub rot_by_scrub: u64,
    /// Times that a scrub has read every closed segment of a shard.
    pub scrub_passes: u64,
    /// Bytes read by scrubs.
    pub scrubbed_bytes: u64,
    /// Starts that came through although small files were lost or wrong, by files.
    pub metadata_survived: u64,
    /// What rotted.
    pub rot: RotCounts,
    /// What the device did wrong.
    pub device: DeviceCounts,
    /// What became of the logs it failed.
    pub watch: WatchCounts,
}

impl Counters {
    /// Takes what the checker and the disk counted.
    pub fn take_seen(&mut self, seen: &Seen, disk: &DiskCounts, hostile: u64) {
        self.sent += seen.sent;
        self.acked += seen.acked;
        self.polled += seen.polled;
        self.passed_over += seen.passed_over;
        self.stepped_over += seen.stepped_over;
        self.survived += seen.survived;
        self.commits += seen.commits;
        self.look_ups = seen.look_ups;
        self.passing = seen.passing;
        self.dropped += seen.dropped;
        self.dedupe_after_recovery += seen.deduped_after_recovery;
        self.set_aside += disk.set_aside;
        self.rolls_at_cut += disk.rolls_at_cut;
        self.shorn += disk.shorn;
        self.hostile += hostile;
    }

    /// Takes what the device did and what came of it.
    pub fn take_faults(&mut self, device: &DeviceCounts, watch: &WatchCounts) {
        self.device = *device;
        self.watch = *watch;
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
                self.rot_by_scrub += log.scrub_found;
                self.scrub_passes += log.scrub_passes;
                self.scrubbed_bytes += log.scrubbed_bytes;
            }
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Counters) {
        for ((_, mine, _), (_, theirs, _)) in
            self.rows_mut().into_iter().zip(other.rows(Profile::Crash))
        {
            *mine += theirs;
        }
    }

    /// Name and count of each row, and whether it must happen under a profile.
    #[must_use]
    pub fn rows(&self, profile: Profile) -> Vec<(&'static str, u64, bool)> {
        let mut copy = self.clone();
        let row = |(name, count, when): Row<'_>| {
            let must = match when {
                When::Always => true,
                When::In(profiles) => profiles.contains(&profile) || profile == Profile::Mixed,
            };
            (name, *count, must)
        };
        copy.rows_mut().into_iter().map(row).collect()
    }

    fn rows_mut(&mut self) -> Vec<Row<'_>> {
        let mut rows = vec![
            ("cuts", &mut self.cuts, When::Always),
            ("crashes", &mut self.crashes, When::Always),
            ("clean_stops", &mut self.clean_stops, When::Always),
            ("cuts_in_recovery", &mut self.cuts_in_recovery, When::Always),
            ("recoveries_compared", &mut self.recoveries_compared, When::In(CRASH)),
            ("sent", &mut self.sent, When::Always),
            ("acked", &mut self.acked, When::Always),
            ("polled", &mut self.polled, When::Always),
            ("survived", &mut self.survived, When::Always),
            ("commits", &mut self.commits, When::Always),
            ("dropped", &mut self.dropped, When::Always),
            ("hostile", &mut self.hostile, When::Always),
            ("torn_tails", &mut self.torn_tails, When::Always),
            ("torn_headers", &mut self.torn_headers, When::In(CRASH)),
            ("torn_payloads", &mut self.torn_payloads, When::In(CRASH)),
            ("forged_rejected", &mut self.forged_rejected, When::In(CRASH)),
            ("stale_rejected", &mut self.stale_rejected, When::In(CRASH)),
            ("rolls_at_cut", &mut self.rolls_at_cut, When::In(CRASH)),
            ("writes_shorn", &mut self.shorn, When::Always),
            ("appended_in_block", &mut self.appended_in_block, When::In(CRASH)),
            ("checkpoints_unusable", &mut self.checkpoints_unusable, When::In(CRASH_OR_ROT)),
            ("cold_read_bytes", &mut self.cold_read_bytes, When::Always),
            ("shard_changes", &mut self.shard_changes, When::Always),
            ("settings_lowered", &mut self.settings_lowered, When::Always),
            ("dedupe_after_recovery", &mut self.dedupe_after_recovery, When::Always),
            ("rolls", &mut self.rolls, When::Always),
            ("set_aside", &mut self.set_aside, When::In(CRASH)),
        ];
        let (look_ups, passing) = (&mut self.look_ups, &mut self.passing);
        rows.extend([
            ("times_found", &mut look_ups.found, When::In(HONEST)),
            ("times_found_exactly", &mut look_ups.exact, When::In(HONEST)),
            ("times_not_found", &mut look_ups.none, When::In(HONEST)),
            ("topics_made_again", &mut passing.remade, When::Always),
            ("topics_deleted", &mut passing.deleted, When::Always),
            ("new_topics_empty", &mut passing.found_empty, When::Always),
            ("deleted_topics_gone", &mut passing.told_gone, When::Always),
        ]);
        let teams = &mut self.teams;
        rows.extend([
            ("group_generations", &mut teams.generations, When::Always),
            ("group_generations_shared", &mut teams.shared, When::Always),
            ("group_syncs", &mut teams.syncs, When::Always),
            ("group_heartbeats", &mut teams.heartbeats, When::Always),
            ("group_rebalances", &mut teams.rebalances, When::Always),
            ("group_leaves", &mut teams.leaves, When::Always),
            ("group_fenced", &mut teams.fenced, When::Always),
            ("group_commits", &mut teams.commits, When::Always),
            ("group_offsets_found", &mut teams.found, When::Always),
        ]);
        let device = &mut self.device;
        rows.extend([
            ("write_errors", &mut device.write_errors, When::In(EIO_OR_SPACE)),
            ("short_writes", &mut device.short_writes, When::In(EIO)),
            ("flush_errors", &mut device.flush_errors, When::In(EIO)),
            ("writes_robbed", &mut device.robbed, When::In(EIO)),
            ("read_errors", &mut device.read_errors, When::In(EIO)),
            ("name_errors", &mut device.name_errors, When::In(EIO)),
            ("slow_requests", &mut device.slow, When::In(EIO_OR_SPACE)),
            ("allocations_refused", &mut device.refusals, When::In(SPACE)),
            ("flushes_ignored", &mut device.flushes_ignored, When::In(LIAR)),
            ("writes_lost", &mut device.writes_lost, When::In(LIAR)),
            ("writes_misplaced", &mut device.writes_misplaced, When::In(LIAR)),
        ]);
        let watch = &mut self.watch;
        rows.extend([
            ("poisoned_by_write", &mut watch.by_write, When::In(EIO_OR_SPACE)),
            ("poisoned_by_short_write", &mut watch.by_short_write, When::In(EIO)),
            ("poisoned_by_flush", &mut watch.by_flush, When::In(EIO)),
            ("poisoned_by_other_flush", &mut watch.by_other_flush, When::In(EIO)),
            ("poisoned_from_other_shard", &mut watch.by_other_shard, When::In(EIO)),
            ("recovery_flushes_failed", &mut watch.by_sync, When::In(EIO)),
            ("poisoned_by_metadata", &mut watch.by_name, When::In(EIO)),
            ("produces_refused", &mut watch.refused, When::In(EIO_OR_SPACE)),
            ("logs_resumed", &mut watch.resumed, When::In(SPACE)),
            ("starts_refused", &mut self.starts_refused, When::In(EIO)),
            ("logs_closed", &mut self.logs_closed, When::In(EIO)),
            ("quarantined", &mut self.quarantined, When::In(LIAR)),
            ("rot_found_by_recovery", &mut self.rot_by_recovery, When::In(ROT)),
            ("rot_found_by_read", &mut self.rot_by_read, When::In(ROT)),
            ("rot_found_by_scrub", &mut self.rot_by_scrub, When::In(ROT)),
            ("damage_passed_over", &mut self.passed_over, When::In(ROT)),
            ("damaged_ends_stepped_over", &mut self.stepped_over, When::In(ROT)),
            ("scrub_passes", &mut self.scrub_passes, When::Always),
            ("scrubbed_bytes", &mut self.scrubbed_bytes, When::Always),
            ("metadata_faults_survived", &mut self.metadata_survived, When::In(ROT)),
        ]);
        let rot = &mut self.rot;
        rows.extend([
            ("batches_flipped", &mut rot.flipped, When::In(ROT)),
            ("blocks_zeroed", &mut rot.zeroed, When::In(ROT)),
            ("blocks_unreadable", &mut rot.unreadable, When::In(ROT)),
            ("blocks_swapped", &mut rot.swapped, When::In(ROT)),
            ("blocks_foreign", &mut rot.foreign, When::In(ROT)),
            ("blocks_stale", &mut rot.stale, When::In(ROT)),
            ("rot_while_running", &mut rot.while_running, When::In(ROT)),
            ("batches_harmed", &mut rot.harmed, When::In(ROT)),
            ("checkpoints_rotten", &mut rot.checkpoints, When::In(ROT)),
            ("snapshots_rotten", &mut rot.snapshots, When::In(ROT)),
            ("lists_rotten", &mut rot.lists, When::In(ROT)),
            ("markers_rotten", &mut rot.markers, When::In(ROT)),
        ]);
        rows
    }
}

const CRASH: &[Profile] = &[Profile::Crash];
const CRASH_OR_ROT: &[Profile] = &[Profile::Crash, Profile::Rot];
const ROT: &[Profile] = &[Profile::Rot];
const EIO: &[Profile] = &[Profile::Eio];
const SPACE: &[Profile] = &[Profile::Space];
const EIO_OR_SPACE: &[Profile] = &[Profile::Eio, Profile::Space];
const HONEST: &[Profile] = &[Profile::Crash, Profile::Eio, Profile::Space, Profile::Rot];
const LIAR: &[Profile] = &[Profile::Liar];

/// Under which profiles a state must come up in a long run.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    In(&'static [Profile]),
}

type Row<'a> = (&'static str, &'a mut u64, When);
