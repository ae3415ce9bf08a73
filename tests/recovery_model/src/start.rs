//! A start (3.7, steps 3 to 9): from a disk that a cut, a crash or a stop left to logs that may be appended to.
//! Owner: one start; it may be cut anywhere and begun again.
//! Invariant: what it decides comes from the disk alone; it destroys nothing.
//! Not here: the scan (`scan.rs`), what follows (`life.rs`).

use crate::disk::{
    Disk, Entry, FIRST_EXTENT, Found, Index, LOGS, Mark, Producers, SHARDS, Snapshot,
};
use crate::frame::BLOCK;
use crate::mutants::Mutant;
use crate::quarantine::{Damaged, Quarantine};
use crate::rng::Rng;
use crate::scan::{At, Met, Placed, Scan, Step, Verdict, View};
use crate::table::Table;
use std::collections::BTreeSet;

/// Producers whose last batches are remembered.
pub const PRODUCERS: u64 = 3;

/// How a log directory is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub shards: usize,
    /// Moves logs to other shards.
    pub salt: usize,
    pub secret: u32,
    pub mutant: Mutant,
}

impl Settings {
    /// The shard that owns a log.
    pub fn shard(&self, log: usize) -> usize {
        (log + self.salt) % self.shards
    }
}

/// What ended a start early.
pub enum Stopped {
    Cut,
    Crash,
}

/// The name of a log inside its frames.
pub fn topic(log: usize) -> u64 {
    100 + log as u64
}

/// How recovery left a log.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub mark: Mark,
    /// End of the last kept frame; below `mark.offset` when offsets were given up.
    pub end: u64,
    pub log_start: u64,
    pub bound: usize,
    pub epoch: u32,
    pub table: Table,
    /// The table it started from.
    pub source: Table,
    pub list: Quarantine,
    pub producers: Producers,
    pub index: Index,
    pub verdict: Verdict,
    pub met: Met,
    pub unusable_entry: bool,
    pub snapshot_used: bool,
    pub new_segment: bool,
    pub unproven: BTreeSet<u64>,
    pub beyond: Vec<u64>,
}

/// Where a recovery begins, and what it holds true.
struct Source {
    top: Option<Found>,
    best: Option<Found>,
    table: Option<Table>,
}

impl Source {
    fn choose(disk: &Disk, log: usize, mutant: Mutant) -> Source {
        let entries = disk.entries(log, mutant == Mutant::NewestFileWins);
        let top = entries.first().cloned();
        let table = top.as_ref().map(|top| top.entry.table.clone());
        let usable = |found: &&Found| {
            let end = &found.entry.end;
            let there =
                disk.file(log, end.segment).is_some_and(|file| end.position <= file.seen.len());
            let undone = table
                .as_ref()
                .is_some_and(|table| table.undone(found.entry.table.last_epoch(), end.offset));
            there && !undone
        };
        let best = entries.iter().find(usable).cloned();
        Source { top, best, table }
    }

    fn is_clean(&self, marker: &[(usize, u64)]) -> bool {
        let (Some(top), Some(best)) = (&self.top, &self.best) else { return false };
        let same = (top.shard, top.generation) == (best.shard, best.generation);
        top.entry.clean && same && marker.contains(&(top.shard, top.generation))
    }

    fn scan(&self, disk: &Disk, log: usize) -> Scan {
        let segments = disk.segments(log);
        let at = match &self.best {
            Some(found) => {
                let Mark { segment, position, offset, crc, len } = found.entry.end;
                let si = segments.iter().position(|(base, _)| *base == segment).unwrap_or(0);
                At { si, p: position, o: offset, crc, len, any: len == 0, floor: 0 }
            }
            None => At::start_of(0, segments[0].0),
        };
        let w = self.top.as_ref().map_or(0, |top| top.entry.end.offset);
        let reach = self.top.as_ref().map(|top| top.entry.bound).filter(|bound| *bound > 0);
        Scan::new(at, w, None, reach)
    }
}

/// Recovers one log: reads only.
fn recover(disk: &Disk, log: usize, settings: &Settings, marker: &[(usize, u64)]) -> Recovered {
    let mutant = settings.mutant;
    let source = Source::choose(disk, log, mutant);
    let mut scan = source.scan(disk, log);
    let view = View {
        segments: disk.segments(log),
        topic: topic(log),
        secret: settings.secret,
        table: source.table.as_ref(),
        mutant,
    };
    if !source.is_clean(marker) {
        while !matches!(scan.step(&view), Step::End) {}
        scan.check_payloads(&view);
    }
    let counter = match mutant {
        Mutant::NoBump => 0,
        _ => disk.counter.get().copied().unwrap_or(0),
    };
    let mut table = source.table.clone().unwrap_or_default();
    let keep_later = mutant == Mutant::LaterLivesStay;
    for (epoch, base) in &scan.lives {
        if *epoch > table.last_epoch() {
            table.push(*epoch, *base, *base, keep_later);
        }
    }
    let greatest = table.greatest_epoch().max(scan.seen_epoch).max(counter);
    let epoch = if mutant == Mutant::NoBump { greatest.max(1) } else { greatest + 1 };
    table.push(epoch, scan.next, scan.at.o, keep_later);
    let end = scan.at;
    let segment = view.segments[end.si].0;
    let first = view.segments[0].0.min(end.o);
    let log_start = source.top.as_ref().map_or(first, |top| top.entry.log_start);
    let (crc, len) = (end.crc, end.len);
    let mut mark = Mark { segment, position: end.p, offset: scan.next, crc, len };
    if scan.new_segment {
        (mark.segment, mark.position) = (scan.next, 0);
    }
    let unproven = scan.kept.iter().filter(|kept| kept.placed.head.last >= scan.w);
    let mut unproven: BTreeSet<u64> =
        unproven.map(|kept| view.segments[kept.placed.si].0).collect();
    unproven.insert(segment);
    let beyond = view.segments[end.si + 1..].iter().map(|(base, _)| *base).collect();
    let mut found = Recovered {
        mark,
        end: end.o,
        log_start,
        bound: source.top.as_ref().map_or(0, |top| top.entry.bound),
        epoch,
        source: source.table.clone().unwrap_or_default(),
        table,
        list: Quarantine::default(),
        producers: Producers::new(),
        index: Index::new(),
        verdict: scan.verdict,
        met: scan.met,
        unusable_entry: source.best.is_some() != source.top.is_some(),
        snapshot_used: false,
        new_segment: scan.new_segment,
        unproven,
        beyond,
    };
    let (from, again) = replay(disk, log, settings, &end, &mut found);
    let mut damaged = std::mem::take(&mut scan.damaged);
    // What the replay passed it has judged again, as the next start will.
    damaged.retain(|range| range.from < from || range.from >= end.o);
    damaged.extend(again);
    if log_start < first {
        let (segment, at, until) = (log_start, 0, usize::MAX);
        damaged.push(Damaged { from: log_start, to: first, segment, at, until });
    }
    let old = disk.logs[log].quarantine.get().cloned();
    if old.is_none() {
        damaged.extend(given_up(&found.table, log_start));
    }
    found.list = old.unwrap_or_default();
    found.list.truncate(found.mark.offset);
    for range in damaged {
        found.list.add(range);
    }
    found
}

/// Offsets given up where a log was rotten to its end, as the life table remembers them.
fn given_up(table: &Table, log_start: u64) -> impl Iterator<Item = Damaged> + '_ {
    let gaps =
        table.0.iter().filter(move |life| life.previous_end < life.start && log_start < life.start);
    gaps.map(move |life| Damaged {
        from: life.previous_end.max(log_start),
        to: life.start,
        segment: life.start,
        at: 0,
        until: usize::MAX,
    })
}

/// Tells the index of a frame.
pub fn note(index: &mut Index, segment: u64, offset: u64, position: usize) {
    let entries = index.entry(segment).or_default();
    let due = entries.last().map_or(BLOCK, |last| last.1 / BLOCK * BLOCK + BLOCK);
    if position >= due {
        entries.push((offset, position));
    }
}

/// Derived state: from the snapshot, then from the headers behind it. Where it began, and what it found damaged.
fn replay(
    disk: &Disk,
    log: usize,
    settings: &Settings,
    end: &At,
    found: &mut Recovered,
) -> (u64, Vec<Damaged>) {
    let mutant = settings.mutant;
    let mut segments = disk.segments(log);
    segments.truncate(end.si + 1);
    let stop = Some((segments[end.si].0, end.p));
    let table = found.table.clone();
    let view =
        View { segments, topic: topic(log), secret: settings.secret, table: Some(&table), mutant };
    let by_base = |base: u64| view.segments.iter().position(|segment| segment.0 == base);
    let resume = |mark: &Mark| {
        let same = by_base(mark.segment).map(|si| (si, mark.position));
        same.or_else(|| by_base(mark.offset).map(|si| (si, 0)))
    };
    let good = |snapshot: &&Snapshot| {
        let mark = &snapshot.mark;
        let linked = mark.offset < end.o || (mark.crc, mark.len) == (end.crc, end.len);
        let undone = table.undone(snapshot.epoch, mark.offset);
        mark.offset <= end.o
            && mark.offset >= found.log_start
            && linked
            && (!undone || mutant == Mutant::SnapshotUndone)
    };
    let snapshot = disk.logs[log].snapshot.get().filter(good).cloned();
    let mut snapshot = snapshot.filter(|snapshot| resume(&snapshot.mark).is_some());
    loop {
        let at = match &snapshot {
            Some(Snapshot { mark, producers, index, .. }) => {
                (found.producers, found.index) = (producers.clone(), index.clone());
                let (si, p) = resume(mark).unwrap_or((0, 0));
                let (crc, len) = (mark.crc, mark.len);
                At { si, p, o: mark.offset, crc, len, any: len == 0, floor: 0 }
            }
            None => {
                (found.producers, found.index) = (Producers::new(), Index::new());
                let below = view.segments.partition_point(|(base, _)| *base <= found.log_start);
                let si = below.saturating_sub(1);
                At::start_of(si, view.segments[si].0)
            }
        };
        found.snapshot_used = snapshot.is_some();
        let mut scan = Scan::new(at, end.o, stop, None);
        let mut begun = false;
        loop {
            match scan.step(&view) {
                Step::Frame(placed) => {
                    begun = true;
                    tell(found, &view, &placed);
                }
                Step::Damaged if !begun && snapshot.is_some() => break,
                Step::Damaged => {}
                Step::End => return (at.o, scan.damaged),
            }
        }
        snapshot = None;
    }
}

fn tell(found: &mut Recovered, view: &View<'_>, placed: &Placed) {
    let head = &placed.head;
    note(&mut found.index, view.segments[placed.si].0, head.base, placed.position);
    found.producers.insert(head.id % PRODUCERS, (head.base, head.id));
}

/// What may cut a start off after each of its steps.
struct Cuts<'a>(Option<&'a mut Rng>);

impl Cuts<'_> {
    fn tick(&mut self) -> Result<(), Stopped> {
        if let Some(rng) = self.0.as_deref_mut()
            && rng.percent(6)
        {
            return Err(if rng.percent(70) { Stopped::Cut } else { Stopped::Crash });
        }
        Ok(())
    }
}

/// One start. `cuts`: it may be cut or crash after every step.
///
/// # Errors
/// It was.
pub fn start(
    disk: &mut Disk,
    settings: &Settings,
    cuts: Option<&mut Rng>,
) -> Result<Vec<Recovered>, Stopped> {
    let cuts = &mut Cuts(cuts);
    let marker = begin(disk, settings, cuts)?;
    finish_retention(disk, cuts)?;
    let mut logs = Vec::new();
    for log in 0..LOGS {
        let found = recover(disk, log, settings, &marker);
        cuts.tick()?;
        settle(disk, log, &found, settings, cuts)?;
        logs.push(found);
    }
    put_checkpoints(disk, &logs, settings, cuts)?;
    for (log, found) in logs.iter().enumerate() {
        for base in &found.beyond {
            if settings.mutant != Mutant::BeyondEndKept && *base != found.mark.segment {
                disk.logs[log].remove(*base);
                cuts.tick()?;
            }
        }
        disk.logs[log].sync();
        cuts.tick()?;
    }
    Ok(logs)
}

/// Names are durable, this start has its number, and the marker of the last stop counts once.
fn begin(
    disk: &mut Disk,
    settings: &Settings,
    cuts: &mut Cuts<'_>,
) -> Result<Vec<(usize, u64)>, Stopped> {
    if settings.mutant != Mutant::StartWithoutSync {
        disk.sync_directories();
        cuts.tick()?;
    }
    let counter = disk.counter.get().copied().unwrap_or(0);
    disk.counter.put(counter + 1);
    cuts.tick()?;
    disk.counter.sync();
    cuts.tick()?;
    let marker = disk.clean.get().cloned().unwrap_or_default();
    if !marker.is_empty() {
        disk.clean.put(Vec::new());
        cuts.tick()?;
        disk.clean.sync();
        cuts.tick()?;
    }
    Ok(marker)
}

/// Segments below the log start go, where a cut came between the two.
fn finish_retention(disk: &mut Disk, cuts: &mut Cuts<'_>) -> Result<(), Stopped> {
    for log in 0..LOGS {
        let start = disk.entries(log, false).first().map_or(0, |top| top.entry.log_start);
        let bases: Vec<u64> = disk.logs[log].names.keys().copied().collect();
        let gone: Vec<u64> =
            bases.windows(2).filter(|two| two[1] <= start).map(|two| two[0]).collect();
        for base in &gone {
            disk.logs[log].remove(*base);
            cuts.tick()?;
        }
        if !gone.is_empty() {
            disk.logs[log].sync();
            cuts.tick()?;
        }
    }
    Ok(())
}

/// What a recovery makes durable before anything is served.
fn settle(
    disk: &mut Disk,
    log: usize,
    found: &Recovered,
    settings: &Settings,
    cuts: &mut Cuts<'_>,
) -> Result<(), Stopped> {
    let old = disk.logs[log].quarantine.get().cloned().unwrap_or_default();
    if old != found.list {
        disk.logs[log].quarantine.put(found.list.clone());
        cuts.tick()?;
        disk.logs[log].quarantine.sync();
        cuts.tick()?;
    }
    if settings.mutant != Mutant::NoRecoveryFlush {
        for base in &found.unproven {
            disk.file_mut(log, *base).flush();
            cuts.tick()?;
        }
        disk.logs[log].sync();
        cuts.tick()?;
    }
    if found.new_segment && !disk.logs[log].names.contains_key(&found.mark.segment) {
        disk.create(log, found.mark.segment, FIRST_EXTENT);
        cuts.tick()?;
        disk.logs[log].sync();
        cuts.tick()?;
    }
    Ok(())
}

/// Two generations of each shard; then those of earlier starts go.
fn put_checkpoints(
    disk: &mut Disk,
    logs: &[Recovered],
    settings: &Settings,
    cuts: &mut Cuts<'_>,
) -> Result<(), Stopped> {
    let mut kept = vec![Vec::new(); SHARDS];
    for (shard, keep) in kept.iter_mut().enumerate().take(settings.shards) {
        let own = (0..LOGS).filter(|log| settings.shard(*log) == shard);
        let entries: Vec<(usize, Entry)> = own.map(|log| (log, entry(&logs[log]))).collect();
        let generations = if settings.mutant == Mutant::OneGeneration { 1 } else { 2 };
        for _ in 0..generations {
            keep.push(disk.put_checkpoint(shard, entries.clone()));
            cuts.tick()?;
            disk.sync_checkpoints();
            cuts.tick()?;
        }
    }
    for (shard, keep) in kept.iter().enumerate() {
        disk.prune(shard, keep);
    }
    cuts.tick()
}

fn entry(found: &Recovered) -> Entry {
    Entry {
        end: found.mark,
        log_start: found.log_start,
        bound: found.bound,
        table: found.table.clone(),
        clean: false,
    }
}
