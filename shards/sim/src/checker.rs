//! What must hold: a shadow of every partition, compared with the log after each recovery and with
//! every reply during a life. D1–D9 are the invariants of `docs/testing.md`.
//! Owner: the world.
//! Invariant: it knows only what clients sent and were told, and what the log's own reads give back.
//! Not here: reading the log (`reader.rs`), damaged media (`checker/harm.rs`), histories of real clients
//! (`history.rs`).

mod harm;
mod lookups;
mod seen;

pub use self::lookups::LookUp;
pub use self::seen::{LookUpCounts, PassingCounts, Seen};

use self::harm::{Harm, is_there, whole};
use crate::room::{FrameSeen, ReadLog};
use crate::teams::Teams;
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet};

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// D1 … D9, or what else broke.
    pub invariant: &'static str,
    /// Values.
    pub detail: String,
}

/// Where a log may say that it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// Nowhere: the medium keeps what it was given.
    Never,
    /// Where it was harmed, and there alone.
    Harmed,
    /// Anywhere: the device lies.
    Anywhere,
}

/// What holds on a device like this seed's.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What was acknowledged or shown is kept (D1, D9 over a restart).
    pub promises: bool,
    /// Ranges may be quarantined.
    pub quarantine: Quarantine,
}

impl Default for Rules {
    /// A device that keeps the contract.
    fn default() -> Rules {
        Rules { promises: true, quarantine: Quarantine::Never }
    }
}

/// A batch that a client sent.
#[derive(Clone, Debug)]
struct Sent {
    key: LogKey,
    producer: u64,
    sequence: u64,
    idempotent: bool,
    /// Life in which it was sent last.
    life: u32,
    /// Life whose recovery did not find it.
    dropped: Option<u32>,
    records: u64,
    /// Time of its records, ms, where the topic keeps what its producer says.
    time_ms: Option<i64>,
}

/// One partition.
#[derive(Clone, Debug, Default)]
struct Shadow {
    /// The log as the last recovery left it.
    kept: Vec<FrameSeen>,
    /// Acknowledged in this life: base offset → batch.
    acked: BTreeMap<u64, u64>,
    /// Shown to consumers in this life: base offset → batch.
    exposed: BTreeMap<u64, u64>,
    /// Greatest high watermark told.
    exposed_end: u64,
    log_start: u64,
    /// Where the last recovery ended it.
    end: u64,
    /// The life that began with that recovery: what is new is of it, and of lives that could not open the log.
    read_in: u32,
    /// Ranges that the last recovery called damaged.
    quarantined: Vec<(u64, u64)>,
    /// Sent, and in no recovered log so far.
    missing: BTreeSet<u64>,
    harm: Harm,
}

/// The shadow of everything.
#[derive(Debug, Default)]
pub struct Checker {
    sent: BTreeMap<u64, Sent>,
    logs: BTreeMap<LogKey, Shadow>,
    life: u32,
    /// What has to hold.
    pub rules: Rules,
    /// Logs whose readers pass damage over.
    pub skipping: BTreeSet<LogKey>,
    /// What members of the group were told.
    pub teams: Teams,
    /// Counts.
    pub seen: Seen,
    /// The first thing that did not hold.
    pub violation: Option<Violation>,
}

impl Checker {
    /// A new life serves.
    pub fn life_begins(&mut self, life: u32) {
        self.life = life;
        self.teams.life_begins(life);
    }

    /// A log is gone for good, with its topic.
    pub fn forget(&mut self, key: LogKey) {
        self.logs.remove(&key);
    }

    /// Remembers the first violation.
    pub fn fail(&mut self, invariant: &'static str, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, detail: detail() });
        }
    }

    /// A client sends a batch (again).
    pub fn sends(
        &mut self,
        hash: u64,
        key: LogKey,
        (producer, sequence, idempotent): (u64, u64, bool),
        (records, time_ms): (u64, Option<i64>),
    ) {
        let life = self.life;
        self.seen.sent += 1;
        let row =
            Sent { key, producer, sequence, idempotent, life, dropped: None, records, time_ms };
        self.sent.entry(hash).or_insert(row).life = life;
        let first = || Shadow { read_in: life, ..Shadow::default() };
        self.logs.entry(key).or_insert_with(first).missing.insert(hash);
    }

    /// A client was told that a batch is durable at `base`.
    pub fn acked(&mut self, hash: u64, key: LogKey, base: u64) {
        self.seen.acked += 1;
        let Some(records) = self.sent.get(&hash).map(|sent| sent.records) else {
            return self.fail("D2", || format!("{key}: ack at {base} of a batch never sent"));
        };
        let shadow = self.logs.entry(key).or_default();
        let kept_end = shadow.kept.last().map_or(shadow.log_start, |frame| frame.last + 1);
        if base < kept_end {
            let found = shadow.kept.iter().any(|frame| frame.base == base && frame.hash == hash);
            if found {
                self.seen.deduped_after_recovery += 1;
                return;
            }
            let damaged = shadow.quarantined.iter().any(|(from, to)| (*from..*to).contains(&base));
            if base >= shadow.log_start && damaged && self.rules.quarantine == Quarantine::Harmed {
                return self.acked_in_damage(hash, key, base, records);
            }
            if base >= shadow.log_start && !damaged {
                self.fail("D1", || {
                    format!("{key}: ack at {base}, an offset that another batch holds since the recovery")
                });
            }
            return;
        }
        if base < shadow.end && self.rules.quarantine == Quarantine::Harmed {
            return self.acked_in_damage(hash, key, base, records);
        }
        let other = shadow.acked.insert(base, hash).filter(|other| *other != hash);
        let overlap = shadow.acked.range(base + 1..base + records.max(1)).next().is_some();
        let exposed = shadow.exposed.get(&base).copied().filter(|other| *other != hash);
        let twice = shadow.acked.iter().any(|(at, batch)| *batch == hash && *at != base);
        if other.is_some() || overlap || exposed.is_some() {
            self.fail("D1", || format!("{key}: offset {base} given to two batches"));
        } else if twice {
            self.fail("D2", || format!("{key}: one batch acknowledged at {base} and elsewhere"));
        }
    }

    /// A client was told that offsets end at `end`.
    pub fn told_end(&mut self, key: LogKey, end: u64) {
        // Replies on two connections may pass one another: only the greatest counts.
        let shadow = self.logs.entry(key).or_default();
        shadow.exposed_end = shadow.exposed_end.max(end);
    }

    /// Greatest end told so far.
    #[must_use]
    pub fn exposed_end(&self, key: LogKey) -> u64 {
        self.logs.get(&key).map_or(0, |shadow| shadow.exposed_end)
    }

    /// First offset kept, as far as known.
    #[must_use]
    pub fn log_start(&self, key: LogKey) -> u64 {
        self.logs.get(&key).map_or(0, |shadow| shadow.log_start)
    }

    /// Greatest log_epoch seen, as a client could learn it.
    #[must_use]
    pub fn newest_epoch(&self, key: LogKey) -> u32 {
        let kept = self.logs.get(&key).and_then(|shadow| shadow.kept.last());
        kept.map_or(1, |frame| frame.log_epoch)
    }

    /// A consumer that asked for `offset` got these batches and this high watermark.
    pub fn polled(&mut self, key: LogKey, offset: u64, frames: &[FrameSeen], high_watermark: u64) {
        let shadow = self.logs.entry(key).or_default();
        shadow.exposed_end = shadow.exposed_end.max(high_watermark);
        let mut expected = None;
        for frame in frames {
            if !frame.hollow {
                self.seen.polled += 1;
                self.judge(key, frame);
            }
            if !self.leads_on(key, offset, expected, frame) {
                let (base, last) = (frame.base, frame.last);
                self.fail("D3", || {
                    format!("{key}: asked {offset}, expected {expected:?}, got {base}..={last}")
                });
            }
            if frame.last >= high_watermark {
                let last = frame.last;
                self.fail("D9", || format!("{key}: got {last}, high watermark {high_watermark}"));
            }
            expected = Some(frame.last + 1);
            if !frame.hollow {
                self.expose(key, frame);
            }
        }
    }

    /// Whether a batch is what comes next for a reader at `offset`: where its topic passes damage over, that
    /// may lie behind, or be a batch without records.
    fn leads_on(
        &mut self,
        key: LogKey,
        offset: u64,
        expected: Option<u64>,
        frame: &FrameSeen,
    ) -> bool {
        let skips = self.skipping.contains(&key);
        match expected {
            _ if frame.hollow => {
                self.seen.stepped_over += 1;
                let own = frame.sound && frame.base == offset;
                own && skips && self.is_harmed(key, (offset, frame.last + 1))
            }
            None if frame.base > offset => {
                self.seen.passed_over += 1;
                skips && self.is_harmed(key, (offset, frame.base))
            }
            None => offset <= frame.last,
            Some(next) => frame.base == next,
        }
    }

    fn expose(&mut self, key: LogKey, frame: &FrameSeen) {
        let shadow = self.logs.entry(key).or_default();
        let known = find(&shadow.kept, frame.base);
        let acked = shadow.acked.get(&frame.base).copied();
        let before = shadow.exposed.insert(frame.base, frame.hash);
        let other = |known: Option<u64>| known.is_some_and(|hash| hash != frame.hash);
        if other(known) || other(acked) || other(before) {
            let base = frame.base;
            self.fail("D1", || format!("{key}: two batches were seen at offset {base}"));
        }
    }

    /// One batch that left the process.
    fn judge(&mut self, key: LogKey, frame: &FrameSeen) {
        let (base, life) = (frame.base, self.life);
        if !frame.sound {
            return self.fail("D5", || format!("{key}: the batch at {base} has a wrong CRC"));
        }
        let Some(sent) = self.sent.get(&frame.hash) else {
            return self.fail("D2", || format!("{key}: nobody sent the batch at {base}"));
        };
        if sent.key != key {
            let there = sent.key;
            return self.fail("D5", || format!("{key}: the batch at {base} was sent to {there}"));
        }
        if sent.records != frame.last - frame.base + 1 {
            let (records, last) = (sent.records, frame.last);
            return self.fail("D2", || format!("{key}: {records} records at {base}..={last}"));
        }
        if let Some(dropped) = sent.dropped.filter(|dropped| sent.life < *dropped) {
            self.fail("D4", || {
                format!("{key}: the batch at {base} was dropped by the recovery of life {dropped}, not sent since, and is back in life {life}")
            });
        }
    }

    /// A recovery ended: the whole log, as reads give it.
    pub fn recovered(&mut self, key: LogKey, read: ReadLog) {
        let ReadLog { frames, quarantined, log_start, end } = read;
        self.seen.recovered += frames.len() as u64;
        for frame in &frames {
            self.judge(key, frame);
        }
        self.check_offsets(key, &frames, &quarantined, log_start, end);
        self.check_promises(key, &frames, &quarantined, (log_start, end));
        self.check_damage(key, &frames, &quarantined);
        self.check_new(key, &frames);
        self.check_producers(key, &frames, !quarantined.is_empty());
        self.spare_unseen(key, &quarantined);
        self.adopt(key, frames, log_start);
        if let Some(shadow) = self.logs.get_mut(&key) {
            shadow.quarantined = quarantined;
            shadow.end = end;
            shadow.read_in = self.life;
            shadow.exposed_end = end;
        }
    }

    /// Every offset is in a batch or in a range that the log says is damaged.
    fn check_offsets(
        &mut self,
        key: LogKey,
        frames: &[FrameSeen],
        quarantined: &[(u64, u64)],
        log_start: u64,
        end: u64,
    ) {
        let never = self.rules.quarantine == Quarantine::Never;
        if let Some((from, to)) = quarantined.first().filter(|_| never) {
            return self
                .fail("D6", || format!("{key}: {from}..{to} quarantined, nothing was damaged"));
        }
        let mut ranges: Vec<(u64, u64)> =
            frames.iter().map(|frame| (frame.base, frame.last + 1)).collect();
        ranges.extend_from_slice(quarantined);
        ranges.sort_unstable();
        let mut next = log_start;
        for (from, to) in ranges {
            if from != next {
                return self
                    .fail("D3", || format!("{key}: offset {next} expected, batch at {from}"));
            }
            next = to;
        }
        if next != end {
            self.fail("D3", || format!("{key}: readable up to {next}, high watermark {end}"));
        }
    }

    /// Everything told in the last life is there, or its damage is named.
    fn check_promises(
        &mut self,
        key: LogKey,
        frames: &[FrameSeen],
        quarantined: &[(u64, u64)],
        (log_start, end): (u64, u64),
    ) {
        if !self.rules.promises {
            return;
        }
        let shadow = self.logs.entry(key).or_default();
        if log_start < shadow.log_start {
            let before = shadow.log_start;
            self.fail("D3", || format!("{key}: log start fell from {before} to {log_start}"));
        }
        for (invariant, promised, what) in self.promised(key, log_start) {
            let base = promised.base;
            if is_there(frames, base, promised.hash) {
                continue;
            }
            let judged = self.judge_missing(key, (invariant, promised), (frames, quarantined));
            if let Some((invariant, how)) = judged {
                self.fail(invariant, || {
                    format!("{key}: {what} batch at {base} is {how}, log ends at {end}")
                });
            }
        }
        let told = self.exposed_end(key);
        if end < told {
            self.fail("D9", || format!("{key}: end {told} was told, log ends at {end}"));
        }
    }

    /// Batches from `log_start` on that were recovered, acknowledged or shown.
    fn promised(
        &self,
        key: LogKey,
        log_start: u64,
    ) -> Vec<(&'static str, FrameSeen, &'static str)> {
        let Some(shadow) = self.logs.get(&key) else { return Vec::new() };
        let told = |base: &u64, hash: &u64| {
            whole(*base, *hash, self.sent.get(hash).map_or(1, |sent| sent.records))
        };
        let kept = shadow.kept.iter().filter(|frame| frame.base >= log_start);
        let mut promised: Vec<_> = kept.map(|frame| ("D1", *frame, "recovered")).collect();
        let acked = shadow.acked.range(log_start..);
        promised.extend(acked.map(|(base, hash)| ("D1", told(base, hash), "acknowledged")));
        let shown = shadow.exposed.range(log_start..);
        promised.extend(shown.map(|(base, hash)| ("D9", told(base, hash), "shown")));
        promised
    }

    /// What a life added carries that life's epoch, greater than any before.
    fn check_new(&mut self, key: LogKey, frames: &[FrameSeen]) {
        let shadow = self.logs.entry(key).or_default();
        let (old_end, lives) = (shadow.end, self.life.saturating_sub(shadow.read_in).max(1));
        let old_epoch = shadow.kept.iter().map(|frame| frame.log_epoch).max().unwrap_or(0);
        let new = frames.iter().filter(|frame| frame.base >= old_end);
        let mut epochs: Vec<u32> = new.map(|frame| frame.log_epoch).collect();
        let in_order = epochs.is_sorted();
        epochs.dedup();
        let Some(first) = epochs.first() else { return };
        if *first <= old_epoch || !in_order || epochs.len() > lives as usize {
            self.fail("D4", || {
                format!(
                    "{key}: new batches of {lives} lives carry epochs {epochs:?} after {old_epoch}"
                )
            });
        }
    }

    /// Order and uniqueness per producer; with `holes` some of its batches may be missing.
    fn check_producers(&mut self, key: LogKey, frames: &[FrameSeen], holes: bool) {
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let mut hashes = BTreeSet::new();
        let mut broken: Option<(&'static str, String)> = None;
        let shadow = self.logs.entry(key).or_default();
        for frame in frames.iter().filter(|frame| !shadow.harm.came_back(frame)) {
            if !hashes.insert(frame.hash) && broken.is_none() {
                broken = Some(("D2", format!("the batch at {} is there twice", frame.base)));
            }
            let Some(sent) = self.sent.get(&frame.hash) else { continue };
            let before = last.insert(sent.producer, sent.sequence + sent.records);
            let in_order = before.is_none_or(|before| {
                let exact = sent.idempotent && !holes;
                if exact { sent.sequence == before } else { sent.sequence >= before }
            });
            if !in_order && broken.is_none() {
                let (producer, sequence) = (sent.producer, sent.sequence);
                broken = Some((
                    "D3",
                    format!("producer {producer}: {sequence} follows {before:?} at {}", frame.base),
                ));
            }
        }
        if let Some((invariant, detail)) = broken {
            self.fail(invariant, || format!("{key}: {detail}"));
        }
    }

    fn adopt(&mut self, key: LogKey, frames: Vec<FrameSeen>, log_start: u64) {
        let life = self.life;
        let shadow = self.logs.entry(key).or_default();
        let old_end = shadow.end;
        for frame in frames.iter().filter(|frame| frame.base >= old_end) {
            self.seen.survived += u64::from(!shadow.acked.contains_key(&frame.base));
        }
        for frame in &frames {
            shadow.missing.remove(&frame.hash);
        }
        for hash in &shadow.missing {
            if let Some(sent) = self.sent.get_mut(hash) {
                if sent.dropped.is_none() {
                    self.seen.dropped += 1;
                }
                // The life that begins now: only a batch sent in it, or later, may come back.
                sent.dropped = Some(life);
            }
        }
        shadow.kept = frames;
        shadow.log_start = log_start;
        shadow.acked.clear();
        shadow.exposed.clear();
    }

    /// The log as last recovered, for comparing two recoveries.
    #[must_use]
    pub fn kept(&self, key: LogKey) -> &[FrameSeen] {
        self.logs.get(&key).map_or(&[], |shadow| &shadow.kept)
    }
}

/// The batch at `base`, by its hash.
fn find(frames: &[FrameSeen], base: u64) -> Option<u64> {
    let index = frames.binary_search_by_key(&base, |frame| frame.base).ok()?;
    frames.get(index).map(|frame| frame.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogKey = LogKey { topic_id: 1, partition: 0 };

    fn frame(base: u64, hash: u64, epoch: u32) -> FrameSeen {
        FrameSeen { base, last: base, log_epoch: epoch, hash, sound: true, ..FrameSeen::default() }
    }

    fn read(frames: Vec<FrameSeen>, end: u64) -> ReadLog {
        ReadLog { frames, end, ..ReadLog::default() }
    }

    fn checker(batches: &[u64]) -> Checker {
        let mut checker = Checker::default();
        checker.life_begins(1);
        for (sequence, hash) in batches.iter().enumerate() {
            checker.sends(*hash, LOG, (7, sequence as u64, true), (1, None));
        }
        checker
    }

    fn after(checker: &mut Checker, frames: &[FrameSeen]) -> Option<&'static str> {
        checker.life_begins(2);
        let end = frames.last().map_or(0, |frame| frame.last + 1);
        checker.recovered(LOG, read(frames.to_vec(), end));
        checker.violation.as_ref().map(|violation| violation.invariant)
    }

    #[test]
    fn a_prefix_with_all_acknowledged_batches_is_right() {
        let mut checker = checker(&[10, 11, 12]);
        checker.acked(10, LOG, 0);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1), frame(1, 11, 1)]), None);
    }

    #[test]
    fn a_lost_acknowledged_batch_is_found() {
        let mut checker = checker(&[10, 11]);
        checker.acked(11, LOG, 1);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1)]), Some("D1"));
    }

    #[test]
    fn another_batch_at_an_acknowledged_offset_is_found() {
        let mut checker = checker(&[10, 11]);
        checker.acked(11, LOG, 0);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1)]), Some("D1"));
    }

    #[test]
    fn a_duplicate_is_found() {
        let mut checker = checker(&[10]);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1), frame(1, 10, 1)]), Some("D2"));
    }

    #[test]
    fn a_phantom_is_found() {
        let mut checker = checker(&[10]);
        assert_eq!(after(&mut checker, &[frame(0, 99, 1)]), Some("D2"));
    }

    #[test]
    fn a_reordered_producer_is_found() {
        let mut checker = checker(&[10, 11]);
        assert_eq!(after(&mut checker, &[frame(0, 11, 1), frame(1, 10, 1)]), Some("D3"));
    }

    #[test]
    fn a_gap_of_offsets_is_found() {
        let mut checker = checker(&[10, 11]);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1), frame(2, 11, 1)]), Some("D3"));
    }

    #[test]
    fn a_hole_in_a_producers_sequence_is_found() {
        let mut checker = checker(&[10, 11, 12]);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1), frame(1, 12, 1)]), Some("D3"));
    }

    #[test]
    fn a_damaged_batch_is_found() {
        let mut checker = checker(&[10]);
        let damaged = FrameSeen { sound: false, ..frame(0, 10, 1) };
        assert_eq!(after(&mut checker, &[damaged]), Some("D5"));
    }

    #[test]
    fn a_batch_that_comes_back_is_found() {
        let mut checker = checker(&[10]);
        assert_eq!(after(&mut checker, &[]), None);
        checker.life_begins(3);
        checker.recovered(LOG, read(vec![frame(0, 10, 1)], 1));
        assert_eq!(checker.violation.map(|violation| violation.invariant), Some("D4"));
    }

    #[test]
    fn an_epoch_used_twice_is_found() {
        let mut checker = checker(&[10, 11]);
        assert_eq!(after(&mut checker, &[frame(0, 10, 5)]), None);
        checker.sends(11, LOG, (7, 1, true), (1, None));
        checker.life_begins(3);
        checker.recovered(LOG, read(vec![frame(0, 10, 5), frame(1, 11, 5)], 2));
        assert_eq!(checker.violation.map(|violation| violation.invariant), Some("D4"));
    }

    #[test]
    fn each_life_has_one_epoch_also_where_a_recovery_could_not_open_the_log() {
        // The log is read when life 2 and, at last, when life `next` begins.
        let seen = |next: u32, epochs: [u32; 3]| {
            let mut checker = checker(&[10, 11, 12, 13]);
            assert_eq!(after(&mut checker, &[frame(0, 10, 4)]), None);
            for hash in 11..14 {
                checker.sends(hash, LOG, (7, hash - 10, true), (1, None));
            }
            checker.life_begins(next);
            let new = (1..).zip(epochs).map(|(base, epoch)| frame(base, base + 10, epoch));
            let frames = std::iter::once(frame(0, 10, 4)).chain(new).collect();
            checker.recovered(LOG, read(frames, 4));
            checker.violation.map(|violation| violation.invariant)
        };
        assert_eq!(seen(3, [5, 5, 5]), None);
        assert_eq!(seen(3, [5, 5, 6]), Some("D4"), "of two lives, and one was");
        assert_eq!(seen(4, [5, 5, 7]), None, "life 3 could not open it at first");
        assert_eq!(seen(4, [5, 6, 7]), Some("D4"), "of three lives, and two were");
        assert_eq!(seen(4, [6, 5, 5]), Some("D4"), "an earlier life's behind a later one's");
        assert_eq!(seen(4, [4, 4, 5]), Some("D4"), "an epoch used twice");
        assert_eq!(seen(5, [5, 6, 7]), None);
    }

    #[test]
    fn a_batch_shown_and_gone_is_found() {
        let mut checker = checker(&[10]);
        checker.polled(LOG, 0, &[frame(0, 10, 1)], 1);
        assert_eq!(after(&mut checker, &[]), Some("D9"));
    }

    #[test]
    fn bytes_above_the_high_watermark_are_found() {
        let mut checker = checker(&[10]);
        checker.polled(LOG, 0, &[frame(0, 10, 1)], 0);
        assert_eq!(checker.violation.map(|violation| violation.invariant), Some("D9"));
    }

    #[test]
    fn a_step_over_offsets_that_are_not_damaged_or_not_to_be_skipped_is_found() {
        let hollow = FrameSeen { hollow: true, last: 1, ..frame(0, 0, 0) };
        let polled = |skips: bool, quarantine, frames: &[FrameSeen]| {
            let mut checker = checker(&[10]);
            checker.rules.quarantine = quarantine;
            checker.skipping = BTreeSet::from_iter(skips.then_some(LOG));
            checker.polled(LOG, 0, frames, 3);
            checker.violation.map(|violation| violation.invariant)
        };
        for frames in [[hollow], [frame(2, 10, 1)]] {
            assert_eq!(polled(true, Quarantine::Anywhere, &frames), None);
            assert_eq!(polled(false, Quarantine::Anywhere, &frames), Some("D3"));
            assert_eq!(polled(true, Quarantine::Harmed, &frames), Some("D3"));
        }
        let torn = FrameSeen { sound: false, ..hollow };
        assert_eq!(polled(true, Quarantine::Anywhere, &[torn]), Some("D3"));
        let far = FrameSeen { last: 3, ..hollow };
        assert_eq!(polled(true, Quarantine::Anywhere, &[far]), Some("D9"), "beyond the watermark");
    }

    #[test]
    fn a_recovered_batch_that_a_later_recovery_loses_is_found() {
        let mut checker = checker(&[10]);
        assert_eq!(after(&mut checker, &[frame(0, 10, 1)]), None);
        checker.life_begins(3);
        checker.recovered(LOG, read(Vec::new(), 0));
        assert_eq!(checker.violation.map(|violation| violation.invariant), Some("D1"));
    }
}
