//! A life of the broker: appends, groups, flushes, rolls, checkpoints, snapshots, retention, truncation.
//! Owner: one world.
//! Invariant: rules of writing P1 to P9; one step of I/O at a time, so that a cut may fall between any two.
//! Not here: starts (`start.rs`), judging (`oracle.rs`).

use crate::disk::{Disk, Entry, FIRST_EXTENT, Index, LOGS, Mark, Producers, SHARDS, Snapshot};
use crate::frame::{self, BLOCK, HEADER, Head, align_up};
use crate::mutants::Mutant;
use crate::oracle::{Ledger, Sent};
use crate::profile::Profile;
use crate::rng::Rng;
use crate::start::{PRODUCERS, Recovered, Settings, note, topic};
use crate::table::Table;

/// Frames built and not yet written.
#[derive(Clone, Debug, Default)]
struct Group {
    segment: u64,
    start: usize,
    bytes: Vec<u8>,
    /// Frames of the ledger up to its end.
    sent: usize,
    end: Mark,
}

/// Steps of a group under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Written,
    Answered,
    Flushing,
}

/// A truncation: what has to happen before anything may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    None,
    First,
    FirstWritten,
    Second,
    SecondWritten,
    Aside,
    SyncAside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retention {
    None,
    Unlinking,
    Syncing,
}

/// A log that is being written to.
#[derive(Clone, Debug)]
pub struct Live {
    active: u64,
    position: usize,
    leo: u64,
    prev: (u32, usize),
    pub flushed: Mark,
    pub epoch: u32,
    table: Table,
    bound: usize,
    bound_durable: usize,
    pub log_start: u64,
    start_durable: u64,
    group: Option<Group>,
    flight: Option<(Group, Stage)>,
    names_synced: bool,
    pub truncation: Truncation,
    pub truncate_to: u64,
    retention: Retention,
    producers: Producers,
    index: Index,
    /// Derived state is that of the flushed end.
    derived: bool,
}

impl Live {
    /// As recovery left it.
    pub fn new(found: &Recovered) -> Live {
        Live {
            active: found.mark.segment,
            position: found.mark.position,
            leo: found.mark.offset,
            prev: (found.mark.crc, found.mark.len),
            flushed: found.mark,
            epoch: found.epoch,
            table: found.table.clone(),
            bound: found.bound,
            bound_durable: found.bound,
            log_start: found.log_start,
            start_durable: found.log_start,
            group: None,
            flight: None,
            names_synced: true,
            truncation: Truncation::None,
            truncate_to: 0,
            retention: Retention::None,
            producers: found.producers.clone(),
            index: found.index.clone(),
            derived: true,
        }
    }

    fn is_idle(&self) -> bool {
        self.group.is_none()
            && self.flight.is_none()
            && self.truncation == Truncation::None
            && self.retention == Retention::None
            && self.names_synced
    }

    fn entry(&self, clean: bool) -> Entry {
        Entry {
            end: self.flushed,
            log_start: self.log_start,
            bound: self.bound,
            table: self.table.clone(),
            clean,
        }
    }
}

/// Sizes and odds; some change between lives.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub segment_max: usize,
    pub group_max: usize,
    pub frame_max: usize,
    pub hostile_percent: usize,
    pub truncations: usize,
}

/// What a world came across.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub groups: u64,
    pub rolls: u64,
    pub truncations: u64,
    pub retained: u64,
    pub snapshots: u64,
    pub lies: u64,
}

/// The running broker and its disk.
pub struct Life {
    pub disk: Disk,
    pub rng: Rng,
    pub settings: Settings,
    pub profile: Profile,
    pub sizes: Sizes,
    pub logs: Vec<Live>,
    pub ledgers: Vec<Ledger>,
    pub tally: Tally,
    /// Shards with a checkpoint written and not yet durable.
    writing: [bool; SHARDS],
    frames: u64,
    pub trace: Option<Vec<String>>,
}

macro_rules! tell {
    ($life:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $life.trace {
            trace.push(format!($($text)*));
        }
    };
}
pub(crate) use tell;

type Step = Result<(), String>;

impl Life {
    /// Before its first start.
    pub fn new(seed: u64, profile: Profile, settings: Settings, sizes: Sizes, rng: Rng) -> Life {
        Life {
            disk: Disk::new(),
            rng,
            settings,
            profile,
            sizes,
            logs: Vec::new(),
            ledgers: vec![Ledger::default(); LOGS],
            tally: Tally::default(),
            writing: [false; SHARDS],
            frames: seed << 20,
            trace: None,
        }
    }

    /// A start has ended.
    pub fn begin(&mut self, found: &[Recovered]) {
        self.logs = found.iter().map(Live::new).collect();
        self.writing = [false; SHARDS];
    }

    /// Some steps of everything, in any order.
    ///
    /// # Errors
    /// A rule of writing was broken.
    pub fn run(&mut self, steps: usize) -> Step {
        for _ in 0..steps {
            let log = usize::from(!self.rng.percent(75));
            match self.rng.below(100) {
                0..=43 => {
                    for _ in 0..self.rng.range(1, 3) {
                        self.append(log)?;
                    }
                }
                44..=84 => self.io(log)?,
                85..=90 => {
                    let shard = self.rng.below(self.settings.shards);
                    if !self.truncates(shard) {
                        self.checkpoint(shard, false);
                    }
                }
                91..=93 => self.retain(log),
                94..=95 => self.snapshot(log),
                _ if self.profile.truncate => self.truncate(log),
                _ => {}
            }
            for log in 0..LOGS {
                if self.logs[log].truncation != Truncation::None && self.rng.percent(50) {
                    self.truncate(log);
                }
            }
        }
        Ok(())
    }

    fn truncates(&self, shard: usize) -> bool {
        let waits = |log: &usize| {
            use Truncation::{Aside, None, SyncAside};
            !matches!(self.logs[*log].truncation, None | Aside | SyncAside)
        };
        (0..LOGS).filter(|log| self.settings.shard(*log) == shard).any(|log| waits(&log))
    }

    /// A clean stop: everything accepted is flushed, then checkpoints with the clean flag, then the marker.
    ///
    /// # Errors
    /// A rule of writing was broken.
    pub fn stop(&mut self) -> Step {
        for _ in 0..400 {
            for log in 0..LOGS {
                if self.logs[log].truncation != Truncation::None {
                    self.truncate(log);
                } else {
                    self.io(log)?;
                }
                if self.logs[log].retention != Retention::None {
                    self.retain(log);
                }
            }
            if self.logs.iter().all(Live::is_idle) {
                break;
            }
        }
        let mut marker = Vec::new();
        for log in 0..LOGS {
            self.snapshot(log);
        }
        for shard in 0..self.settings.shards {
            if self.writing[shard] {
                self.checkpoint(shard, false);
            }
            self.checkpoint(shard, true);
            self.checkpoint(shard, true);
            let newest = self.disk.durable_checkpoints(shard).first().map_or(0, |c| c.generation);
            marker.push((shard, newest));
        }
        self.disk.logs.iter_mut().for_each(|log| log.snapshot.sync());
        self.disk.clean.put(marker);
        self.disk.clean.sync();
        Ok(())
    }

    /// Writes a checkpoint of a shard; called again, makes it durable.
    fn checkpoint(&mut self, shard: usize, clean: bool) {
        let own: Vec<usize> = (0..LOGS).filter(|log| self.settings.shard(*log) == shard).collect();
        if !self.writing[shard] {
            let entries = own.iter().map(|log| (*log, self.logs[*log].entry(clean))).collect();
            self.disk.put_checkpoint(shard, entries);
            self.writing[shard] = true;
            return;
        }
        self.writing[shard] = false;
        self.disk.sync_checkpoints();
        let newest: Vec<_> = self.disk.durable_checkpoints(shard).into_iter().take(2).collect();
        let of = |at: usize, log: usize| {
            let entries = &newest.get(at)?.entries;
            entries.iter().find(|entry| entry.0 == log).map(|entry| &entry.1)
        };
        for log in own {
            let live = &mut self.logs[log];
            let start = |at: usize| of(at, log).map_or(0, |entry| entry.log_start);
            live.start_durable = if newest.len() == 2 { start(0).min(start(1)) } else { start(0) };
            // The newest may be lost.
            let bound = |at: usize| of(at, log).map_or(0, |entry| entry.bound);
            live.bound_durable = match self.settings.mutant {
                Mutant::BoundInOneGeneration => bound(0),
                _ => bound(0).min(bound(1)),
            };
        }
        let keep: Vec<u64> = newest.iter().map(|checkpoint| checkpoint.generation).collect();
        self.disk.prune(shard, &keep);
        tell!(self, "  checkpoint of shard {shard} durable");
    }

    fn snapshot(&mut self, log: usize) {
        let live = &self.logs[log];
        if !live.derived || live.truncation != Truncation::None {
            return;
        }
        let (epoch, mark) = (live.epoch, live.flushed);
        let (producers, index) = (live.producers.clone(), live.index.clone());
        let file = &mut self.disk.logs[log].snapshot;
        file.sync();
        file.put(Snapshot { epoch, mark, producers, index });
        self.tally.snapshots += 1;
        tell!(self, "  log{log} snapshot at {}", mark.offset);
    }

    fn append(&mut self, log: usize) -> Step {
        if self.logs[log].truncation != Truncation::None {
            return Ok(());
        }
        let payload_len = match self.rng.below(100) {
            0..=11 => self.rng.range(3_000, self.sizes.frame_max),
            12..=37 => self.rng.range(600, 3_000),
            38..=60 if self.profile.hostile => 172,
            _ => self.rng.range(20, 500),
        };
        if !self.make_room(log, HEADER + payload_len)? {
            return Ok(());
        }
        let records = if self.rng.percent(70) { 1 } else { self.rng.range(2, 5) as u64 };
        self.frames += 1;
        let fill = self.rng.word();
        let mut payload: Vec<u8> = (0..payload_len)
            .map(|n| fill.wrapping_add(n as u64 / 8).to_le_bytes()[n % 8])
            .collect();
        let live = &self.logs[log];
        let group = live.group.as_ref().expect("made");
        let position = group.start + group.bytes.len();
        let hostile = self.sizes.hostile_percent;
        if self.profile.hostile && self.rng.percent(hostile) {
            self.forge(log, position, &mut payload);
        }
        let live = &mut self.logs[log];
        let ledger = &mut self.ledgers[log];
        if ledger.told > live.leo {
            return Err(format!("D1-reuse: offset {} is given again", live.leo));
        }
        let head = Head {
            id: self.frames.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            topic: topic(log),
            epoch: live.epoch,
            prev_crc: live.prev.0,
            prev_len: live.prev.1,
            flushed_upto: live.flushed.offset,
            base: live.leo,
            ..Head::default()
        };
        let (bytes, head) = frame::build(&head, records, &payload, self.settings.secret);
        let group = live.group.as_mut().expect("made");
        group.bytes.extend_from_slice(&bytes);
        let segment = group.segment;
        live.position = position + head.len;
        live.prev = (head.crc, head.len);
        live.leo = head.next();
        ledger.sent.push(Sent { head, segment, position, bad: false });
        let (crc, len) = live.prev;
        group.sent = ledger.sent.len();
        group.end = Mark { segment, position: live.position, offset: live.leo, crc, len };
        tell!(
            self,
            "  log{log} append {}..={} at {segment}:{position} len {} epoch {} flushed {}",
            head.base,
            head.last,
            head.len,
            head.epoch,
            head.flushed_upto
        );
        Ok(())
    }

    /// A group with room for a frame; rolls where it must. False: not now.
    fn make_room(&mut self, log: usize, frame: usize) -> Result<bool, String> {
        let Sizes { segment_max, group_max, .. } = self.sizes;
        let live = &mut self.logs[log];
        if let Some(group) = &live.group {
            let bytes = group.bytes.len() + frame;
            return Ok(bytes <= group_max && group.start + align_up(bytes) <= segment_max);
        }
        if live.position != 0 && align_up(live.position) + align_up(frame) > segment_max {
            if !live.names_synced {
                return Ok(false);
            }
            let (sealed, end, base) = (live.active, align_up(live.position), live.leo);
            if self.disk.logs[log].names.contains_key(&base) {
                return Err(format!("P6: segment {base} exists already"));
            }
            let file = self.disk.file_mut(log, sealed);
            if file.seen.len() > end {
                file.seen.truncate(end);
            }
            self.disk.create(log, base, FIRST_EXTENT.max(align_up(frame)));
            live.active = base;
            live.position = 0;
            live.names_synced = self.settings.mutant == Mutant::NoDirSync;
            self.tally.rolls += 1;
            tell!(self, "  log{log} roll: segment {base}");
        }
        let live = &mut self.logs[log];
        let (segment, start) = (live.active, align_up(live.position));
        live.group = Some(Group { segment, start, ..Group::default() });
        Ok(true)
    }

    /// A producer writes what looks like headers at every block of its payload: it knows everything but the secret.
    fn forge(&mut self, log: usize, position: usize, payload: &mut [u8]) {
        let live = &self.logs[log];
        let (base, epoch, flushed) = (live.leo, live.epoch, live.flushed.offset);
        let chained = self.rng.percent(50);
        let mut prev = None;
        let mut at = align_up(position + HEADER) - position - HEADER;
        while at + 2 * HEADER < payload.len() {
            let mut head = Head {
                id: self.rng.word() & !1,
                topic: topic(log),
                epoch: epoch + self.rng.one_of(&[0, 0, 0, 1, 1, 2]),
                base: base + 1 + self.rng.below(3) as u64,
                ..Head::default()
            };
            head.flushed_upto = if self.rng.percent(70) { head.base } else { flushed };
            if let (true, Some((crc, len, next))) = (chained, prev) {
                (head.prev_crc, head.prev_len) = (crc, len);
                (head.base, head.flushed_upto) = (next, next);
            }
            let (bytes, head) = frame::build(&head, 1, &[7; 40], 0);
            payload[at..at + bytes.len()].copy_from_slice(&bytes);
            prev = Some((head.crc, head.len, head.next()));
            at += BLOCK;
        }
    }

    /// The next step of a log's group: extend, raise the bound, write, be answered, flush.
    fn io(&mut self, log: usize) -> Step {
        if self.logs[log].flight.is_some() {
            self.finish(log);
            return Ok(());
        }
        let mutant = self.settings.mutant;
        let live = &mut self.logs[log];
        if !live.names_synced {
            self.disk.logs[log].sync();
            live.names_synced = true;
            return Ok(());
        }
        if live.truncation != Truncation::None {
            return Ok(());
        }
        let Some(group) = &live.group else { return Ok(()) };
        let bytes = align_up(group.bytes.len());
        let need = group.start + bytes;
        let file = self.disk.file_mut(log, group.segment);
        if file.seen.len() < need {
            let double = (file.seen.len() * 2).min(self.sizes.segment_max);
            file.seen.resize(need.max(double), 0);
            return Ok(());
        }
        if file.durable.len() < need && mutant != Mutant::ExtensionNotSynced {
            file.flush();
            return Ok(());
        }
        if bytes > live.bound_durable {
            if live.bound < bytes {
                live.bound = (live.bound * 2).max(bytes).max(2 * BLOCK);
            }
            let shard = self.settings.shard(log);
            self.checkpoint(shard, false);
            return Ok(());
        }
        self.submit(log)
    }

    fn submit(&mut self, log: usize) -> Step {
        let Some(mut group) = self.logs[log].group.take() else { return Ok(()) };
        group.bytes.resize(align_up(group.bytes.len()), 0);
        let range = group.start..group.start + group.bytes.len();
        let ledger = &mut self.ledgers[log];
        ledger.may_write(group.segment, &range)?;
        ledger.submitted = group.sent;
        let mut at = Some(group.start);
        if self.profile.lies && self.rng.percent(4) {
            at = match self.rng.below(3) {
                0 => None,
                1 => Some(group.start + BLOCK),
                _ => group.start.checked_sub(BLOCK),
            };
            ledger.harmed = true;
            self.tally.lies += 1;
            tell!(self, "LIE log{log} {}:{} goes to {at:?}", group.segment, group.start);
        }
        let file = self.disk.file_mut(log, group.segment);
        if let Some(at) = at {
            file.submit(at, group.bytes.clone());
        }
        tell!(self, "  log{log} write {}:{range:?}", group.segment);
        self.logs[log].flight = Some((group, Stage::Written));
        Ok(())
    }

    fn finish(&mut self, log: usize) {
        let live = &mut self.logs[log];
        let Some((group, stage)) = &mut live.flight else { return };
        let file = self.disk.file_mut(log, group.segment);
        match stage {
            Stage::Written => {
                file.complete();
                *stage = Stage::Answered;
                if self.settings.mutant != Mutant::AckEarly {
                    return;
                }
            }
            Stage::Answered => {
                *stage = Stage::Flushing;
                return;
            }
            Stage::Flushing => file.flush_data(),
        }
        let Some((group, _)) = live.flight.take() else { return };
        live.flushed = group.end;
        let ledger = &mut self.ledgers[log];
        for sent in &ledger.sent[..group.sent] {
            if sent.head.base >= ledger.acked && !sent.bad {
                live.producers.insert(sent.head.id % PRODUCERS, (sent.head.base, sent.head.id));
                note(&mut live.index, sent.segment, sent.head.base, sent.position);
            }
        }
        ledger.acked = group.end.offset;
        ledger.told = ledger.told.max(group.end.offset);
        self.tally.groups += 1;
        tell!(self, "  log{log} flushed to {}", group.end.offset);
    }

    /// A leader orders the log back (P9), step by step.
    fn truncate(&mut self, log: usize) {
        let shard = self.settings.shard(log);
        let mutant = self.settings.mutant;
        match self.logs[log].truncation {
            Truncation::None => self.begin_truncation(log),
            Truncation::First if self.writing[shard] => self.checkpoint(shard, false),
            Truncation::First => {
                self.checkpoint(shard, false);
                self.logs[log].truncation = Truncation::FirstWritten;
                if mutant == Mutant::TruncationNotSynced {
                    self.commit_truncation(log);
                    self.logs[log].truncation = Truncation::None;
                }
            }
            Truncation::FirstWritten => {
                if self.writing[shard] {
                    self.checkpoint(shard, false);
                }
                self.logs[log].truncation = Truncation::Second;
                if mutant == Mutant::OneGeneration {
                    self.commit_truncation(log);
                    self.logs[log].truncation = Truncation::Aside;
                }
            }
            Truncation::Second => {
                self.checkpoint(shard, false);
                self.logs[log].truncation = Truncation::SecondWritten;
            }
            Truncation::SecondWritten => {
                if self.writing[shard] {
                    self.checkpoint(shard, false);
                }
                // Not before: a cut would leave the log as it was, and ranges of it without their names.
                let file = &mut self.disk.logs[log].quarantine;
                if let Some(mut list) = file.get().cloned() {
                    list.truncate(self.logs[log].truncate_to);
                    file.sync();
                    file.put(list);
                }
                self.commit_truncation(log);
                self.logs[log].truncation = Truncation::Aside;
            }
            Truncation::Aside => {
                let end = self.logs[log].active;
                let names = self.disk.logs[log].names.range(end + 1..);
                let beyond: Vec<u64> = names.map(|(base, _)| *base).collect();
                for base in beyond {
                    if mutant != Mutant::BeyondEndKept {
                        self.disk.logs[log].remove(base);
                    }
                }
                self.logs[log].truncation = Truncation::SyncAside;
            }
            Truncation::SyncAside => {
                self.disk.logs[log].sync();
                if mutant != Mutant::TruncatedListVolatile {
                    self.disk.logs[log].quarantine.sync();
                }
                self.logs[log].truncation = Truncation::None;
                tell!(self, "  log{log} truncation done");
            }
        }
    }

    fn begin_truncation(&mut self, log: usize) {
        let live = &mut self.logs[log];
        let ledger = &mut self.ledgers[log];
        let busy = live.flight.is_some()
            || live.retention != Retention::None
            || !live.names_synced
            || self.writing[self.settings.shard(log)];
        if busy || self.sizes.truncations == 0 {
            return;
        }
        // The open group is forgotten.
        ledger.sent.truncate(ledger.submitted);
        if live.group.take().is_some() {
            let Mark { segment, position, offset, crc, len } = live.flushed;
            live.position = if live.active == segment { position } else { 0 };
            (live.leo, live.prev) = (offset, (crc, len));
        }
        let sent = &ledger.sent;
        let fits = |n: &usize| {
            let (before, cut) = (&sent[*n - 1], &sent[*n]);
            !cut.bad
                && !before.bad
                && before.head.base >= live.log_start
                && before.head.next() == cut.head.base
        };
        let places: Vec<usize> = (1..sent.len()).filter(fits).collect();
        if places.is_empty() {
            return;
        }
        self.sizes.truncations -= 1;
        let back = self.rng.below(places.len().min(12));
        let Sent { head, segment, position, .. } = sent[places[places.len() - 1 - back]];
        let offset = head.base;
        let (crc, len) = (head.prev_crc, head.prev_len);
        live.flushed = Mark { segment, position, offset, crc, len };
        (live.active, live.position, live.leo, live.prev) = (segment, position, offset, (crc, len));
        live.epoch = live.table.greatest_epoch().max(live.epoch) + 1;
        let keep_later = self.settings.mutant == Mutant::LaterLivesStay;
        live.table.push(live.epoch, offset, offset, keep_later);
        (live.truncation, live.truncate_to, live.derived) = (Truncation::First, offset, false);
        self.tally.truncations += 1;
        tell!(self, "  log{log} TRUNCATE to {offset}, epoch {}", self.logs[log].epoch);
    }

    /// A truncation is durable: what it took may not come back.
    pub fn commit_truncation(&mut self, log: usize) {
        self.ledgers[log].truncate(self.logs[log].truncate_to);
    }

    /// Retention (P8), step by step.
    fn retain(&mut self, log: usize) {
        let shard = self.settings.shard(log);
        let live = &mut self.logs[log];
        if live.truncation != Truncation::None {
            return;
        }
        match live.retention {
            Retention::None => {
                let bases: Vec<u64> = self.disk.logs[log].names.keys().copied().collect();
                let durable = self.disk.durable_checkpoints(shard);
                if bases.len() < 3 || durable.len() < 2 {
                    return;
                }
                let segment = |entry: &&(usize, Entry)| entry.0 == log;
                let below = durable.iter().map(|file| {
                    file.entries.iter().find(segment).map_or(0, |entry| entry.1.end.segment)
                });
                let start = bases[self.rng.range(1, bases.len() - 2)];
                if below.min().is_some_and(|below| start <= below) && start > live.log_start {
                    live.log_start = start;
                    live.retention = Retention::Unlinking;
                    if self.settings.mutant == Mutant::UnlinkFirst {
                        live.start_durable = start;
                    }
                    tell!(self, "  log{log} retention to {start}");
                }
            }
            Retention::Unlinking if live.start_durable < live.log_start => {
                self.checkpoint(shard, false);
            }
            Retention::Unlinking => {
                let start = live.log_start;
                live.table.trim(start);
                let file = &mut self.disk.logs[log].quarantine;
                if let Some(mut list) = file.get().cloned() {
                    list.trim(start);
                    file.sync();
                    file.put(list);
                }
                let oldest = self.disk.logs[log].names.keys().next().copied();
                match oldest.filter(|base| *base < start) {
                    Some(base) => {
                        self.disk.logs[log].remove(base);
                        self.tally.retained += 1;
                    }
                    None => live.retention = Retention::Syncing,
                }
            }
            Retention::Syncing => {
                self.disk.logs[log].sync();
                live.retention = Retention::None;
            }
        }
    }
}
