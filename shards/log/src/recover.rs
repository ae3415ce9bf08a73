//! Recovers one log (reliability.md 3.7, step 8): checkpoint, scan, payload check, replay, and what must be durable.
//! Owner: `Log`, until it is live.
//! Invariant: it destroys nothing; cut anywhere and run again it ends the same (D7).
//! Not here: the accept rule (`scan.rs`), verdicts (`verdict.rs`), step 9 (`start.rs`).

use crate::checkpoint::{Entry, Found, Mark};
use crate::event::LogEvent;
use crate::io::{Dir, ENOENT, Errno, IoOk, IoRequest, SegmentName, SmallFile};
use crate::life_table::LifeTable;
use crate::ops::LogOp;
use crate::payload::PayloadCheck;
use crate::quarantine::{Quarantine, Quarantined};
use crate::scan::{At, Rules, View};
use crate::segment::{Segment, by_base, first_extent, holder};
use crate::settings::LogSettings;
use crate::snapshot::{self, Snapshot};
use crate::turn::Turn;
use crate::verdict::{Damaged, Scan, Step};
use crate::window::{Asked, Missing, Window};
use ringway_wire::ids::LogKey;

/// Chunks a recovering log holds at most, and how many are asked for at once.
const WINDOW_CHUNKS: usize = 16;
const READ_AHEAD_CHUNKS: u32 = 4;
/// Frames replayed in one turn.
const REPLAY_FRAMES_MAX: u32 = 2048;
/// How soon a recovery that lacked memory looks again.
const MEMORY_RETRY_NS: u64 = 1_000_000;

#[derive(Debug)]
enum Phase {
    Begin,
    Listing,
    Unlinking,
    SyncUnlinked,
    Opening,
    Scan,
    Payload(Box<PayloadCheck>),
    Replay,
    Flushing,
    Syncing,
    Preparing,
    Adopting,
    SyncNew,
    Done,
}

/// How recovery left the log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Segment>,
    /// Segments beyond the end, to be set aside after step 9.
    pub(crate) beyond: Vec<u64>,
    /// End: where the next group goes behind.
    pub(crate) mark: Mark,
    pub(crate) log_start: u64,
    pub(crate) bound: u64,
    pub(crate) epoch: u32,
    pub(crate) table: LifeTable,
    pub(crate) quarantine: Quarantine,
    pub(crate) notices: Vec<String>,
    pub(crate) dropped_batches: u64,
    pub(crate) new_quarantined: u64,
    pub(crate) scanned_bytes: u64,
    /// Offset of the snapshot that was used.
    pub(crate) snapshot_offset: u64,
}

/// What a step of recovery came to.
pub(crate) enum Progress {
    Working,
    /// There is nothing on disk: to be made like a new log.
    Absent {
        epoch: u32,
    },
    Ready(Box<Recovered>),
    Offline(String),
}

/// One recovery.
#[derive(Debug)]
pub(crate) struct Recovery {
    key: LogKey,
    slot: u32,
    phase: Phase,
    entries: Vec<Found>,
    /// Requests in flight besides chunks.
    waiting: u32,
    failure: Option<String>,
    segments: Vec<Segment>,
    window: Window,
    scan: Option<Scan>,
    source_table: Option<LifeTable>,
    snapshot: Option<Snapshot>,
    snapshot_offset: u64,
    replay_started: bool,
    quarantine: Quarantine,
    damaged: Vec<Damaged>,
    scanned_bytes: u64,
    result: Option<Recovered>,
    /// Segments whose tail is unproven until flushed.
    unproven: Vec<u64>,
    end: At,
    segment_bytes: u64,
    /// The active segment has to be made.
    create: bool,
}

impl Recovery {
    pub(crate) fn new(
        key: LogKey,
        slot: u32,
        entries: Vec<Found>,
        settings: &LogSettings,
    ) -> Recovery {
        Recovery {
            key,
            slot,
            phase: Phase::Begin,
            entries,
            waiting: 0,
            failure: None,
            segments: Vec::new(),
            window: Window::new(WINDOW_CHUNKS, 0),
            scan: None,
            source_table: None,
            snapshot: None,
            snapshot_offset: 0,
            replay_started: false,
            quarantine: Quarantine::default(),
            damaged: Vec::new(),
            scanned_bytes: 0,
            result: None,
            unproven: Vec::new(),
            end: At::start_of(0, 0),
            segment_bytes: settings.segment_bytes,
            create: false,
        }
    }

    /// The believed entry: carried on in checkpoints should the log stay offline.
    pub(crate) fn top(&self) -> Option<&Entry> {
        self.entries.first().map(|found| &found.entry)
    }

    /// Whether anything of the log was looked at.
    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::Begin)
    }

    /// What was read cannot be relied on: the log stays offline.
    pub(crate) fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }

    /// Whether requests are in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting > 0 || self.window.is_loading()
    }

    /// An answer for this log.
    pub(crate) fn on_io(&mut self, op: LogOp, result: Result<IoOk, Errno>, turn: &mut Turn<'_>) {
        if let LogOp::Chunk { base, index, piece, .. } = op {
            self.scanned_bytes +=
                self.window.on_read(self.slot, (base, index, piece), result, turn);
            self.window.begin_blockwise(self.slot, turn);
            return;
        }
        self.waiting -= 1;
        match (op, result) {
            (LogOp::List, Ok(IoOk::Names(names))) => self.listed(&names),
            (LogOp::ReadSnapshot, Ok(IoOk::Small(body))) => {
                self.snapshot = body.and_then(|body| snapshot::decode(&body));
            }
            (LogOp::ReadQuarantine, Ok(IoOk::Small(body))) => {
                self.quarantine = body.map(|body| Quarantine::decode(&body)).unwrap_or_default();
            }
            // Derived or found again: an unreadable one is an absent one.
            (LogOp::ReadSnapshot | LogOp::ReadQuarantine, _) => {}
            (LogOp::Open(base), Ok(IoOk::File { file, bytes })) => {
                turn.shared.open_files += 1;
                if let Some(at) = by_base(&self.segments, base) {
                    let segment = &mut self.segments[at];
                    (segment.file, segment.file_bytes, segment.opening) =
                        (Some(file), bytes, false);
                }
            }
            (LogOp::Prepare, Ok(IoOk::File { file, bytes })) => {
                turn.shared.open_files += 1;
                if let Some(segment) = self.segments.last_mut() {
                    (segment.file, segment.file_bytes) = (Some(file), bytes);
                }
            }
            (LogOp::Quarantine, Ok(_)) => self.quarantine.saved = self.quarantine.version,
            (LogOp::Unlink, Err(ENOENT)) => {}
            (_, Ok(_)) => {}
            (op, Err(errno)) => {
                self.failure = Some(format!("{op:?} failed with errno {}", errno.0))
            }
        }
    }

    fn listed(&mut self, names: &[String]) {
        let base =
            |name: &String| name.strip_suffix(".seg").and_then(|base| base.parse::<u64>().ok());
        let mut bases: Vec<u64> = names.iter().filter_map(base).collect();
        bases.sort_unstable();
        bases.dedup();
        self.segments = bases.into_iter().map(Segment::new).collect();
    }

    /// Goes on as far as possible.
    pub(crate) fn plan(&mut self, turn: &mut Turn<'_>) -> Progress {
        loop {
            if self.waiting > 0 {
                return Progress::Working;
            }
            if let Some(failure) = self.failure.clone() {
                if self.window.is_loading() {
                    return Progress::Working;
                }
                self.window.clear(turn.blocks);
                return Progress::Offline(failure);
            }
            let went_on = match self.phase {
                Phase::Begin => self.begin(turn),
                Phase::Listing => self.unlink_below_start(turn),
                Phase::Unlinking => self.sync(LogOp::SyncUnlinked, Phase::SyncUnlinked, turn),
                Phase::SyncUnlinked => self.open_candidates(turn),
                Phase::Opening => {
                    if self.segments.is_empty() && self.entries.is_empty() {
                        self.phase = Phase::Done;
                        return Progress::Absent { epoch: turn.shared.facts.start_counter + 1 };
                    }
                    self.choose(turn)
                }
                Phase::Scan => self.scan_on(turn),
                Phase::Payload(_) => self.check_payloads(turn),
                Phase::Replay => self.replay_on(turn),
                Phase::Flushing => self.sync(LogOp::SyncRecovered, Phase::Syncing, turn),
                Phase::Syncing => self.prepare(turn),
                Phase::Preparing => self.adopt(turn),
                Phase::Adopting => self.sync(LogOp::SyncNew, Phase::SyncNew, turn),
                Phase::SyncNew => self.enter(Phase::Done),
                Phase::Done => {
                    if self.window.is_loading() {
                        return Progress::Working;
                    }
                    self.window.clear(turn.blocks);
                    return self.finish();
                }
            };
            if !went_on {
                return Progress::Working;
            }
        }
    }

    fn ask(
        &mut self,
        op: LogOp,
        turn: &mut Turn<'_>,
        request: impl FnOnce(crate::io::IoId) -> IoRequest,
    ) {
        let id = turn.id(self.slot, op);
        turn.ask(request(id));
        self.waiting += 1;
    }

    fn sync(&mut self, op: LogOp, then: Phase, turn: &mut Turn<'_>) -> bool {
        let dir = Dir::Log(self.key);
        self.ask(op, turn, |id| IoRequest::SyncDir { id, dir });
        self.phase = then;
        true
    }

    fn begin(&mut self, turn: &mut Turn<'_>) -> bool {
        let key = self.key;
        self.ask(LogOp::List, turn, |id| IoRequest::List { id, dir: Dir::Log(key) });
        let snapshot = SmallFile::Snapshot(key);
        self.ask(LogOp::ReadSnapshot, turn, |id| IoRequest::ReadSmall { id, file: snapshot });
        let list = SmallFile::Quarantine(key);
        self.ask(LogOp::ReadQuarantine, turn, |id| IoRequest::ReadSmall { id, file: list });
        self.phase = Phase::Listing;
        true
    }

    fn unlink_below_start(&mut self, turn: &mut Turn<'_>) -> bool {
        let start = self.top().map_or(0, |top| top.log_start);
        let below = self.segments.windows(2).take_while(|pair| pair[1].base <= start).count();
        let gone: Vec<u64> = self.segments.drain(..below).map(|segment| segment.base).collect();
        for base_offset in &gone {
            let name = SegmentName { log: self.key, base_offset: *base_offset };
            self.ask(LogOp::Unlink, turn, |id| IoRequest::Unlink { id, name });
        }
        self.phase = if gone.is_empty() { Phase::SyncUnlinked } else { Phase::Unlinking };
        true
    }

    fn open_candidates(&mut self, turn: &mut Turn<'_>) -> bool {
        let bases: Vec<u64> = self.entries.iter().map(|found| found.entry.end.segment).collect();
        for base in bases {
            if let Some(at) = by_base(&self.segments, base) {
                self.open(at, turn);
            }
        }
        self.phase = Phase::Opening;
        true
    }

    fn open(&mut self, at: usize, turn: &mut Turn<'_>) {
        let segment = &mut self.segments[at];
        if segment.file.is_none() && !segment.opening {
            segment.opening = true;
            let base_offset = segment.base;
            let name = SegmentName { log: self.key, base_offset };
            self.ask(LogOp::Open(base_offset), turn, |id| IoRequest::Open { id, name });
        }
    }

    /// The entry to start from: its segment is there and long enough, and no later life began below it.
    fn usable(&self) -> Option<&Found> {
        let top = &self.entries.first()?.entry.table;
        self.entries.iter().find(|found| {
            let end = &found.entry.end;
            let there = by_base(&self.segments, end.segment).is_some_and(|at| {
                self.segments[at].file.is_some() && end.position <= self.segments[at].file_bytes
            });
            there && !top.undone(found.entry.table.last_epoch(), end.offset)
        })
    }

    fn choose(&mut self, turn: &mut Turn<'_>) -> bool {
        let top = self.entries.first().cloned();
        self.source_table = top.as_ref().map(|top| top.entry.table.clone());
        let w = top.as_ref().map_or(0, |top| top.entry.end.offset);
        let reach = top.as_ref().map(|top| top.entry.bound).filter(|bound| *bound > 0);
        if self.segments.is_empty() {
            // Everything is gone but the checkpoint: the whole range is named, a new segment goes on behind it.
            let start = top.as_ref().map_or(0, |top| top.entry.log_start);
            self.segments.push(Segment::new(w));
            let mut scan = Scan::new(At::start_of(0, start), w, None, None, true);
            let (from, to, damage) = (start, w, crate::quarantine::Damage::Missing);
            scan.damaged.push(Damaged { segment: start, at: 0, until: u64::MAX, from, to, damage });
            scan.at = At::start_of(0, w);
            (scan.next, scan.new_segment) = (w, true);
            self.scan = Some(scan);
            return self.conclude(turn);
        }
        let best = self.usable().cloned();
        turn.shared.counts.unusable_checkpoints += u64::from(best != top);
        let at = match &best {
            Some(found) => {
                let end = found.entry.end;
                let si = by_base(&self.segments, end.segment).unwrap_or(0);
                let (crc, len) = (end.crc, end.len);
                At { si, p: end.position, o: end.offset, crc, len, any: len == 0, floor: 0 }
            }
            None => At::start_of(0, self.segments[0].base),
        };
        self.scan = Some(Scan::new(at, w, None, reach, true));
        let clean = match (&top, &best) {
            (Some(top), Some(best)) => {
                let listed = turn.shared.facts.clean.contains(&(top.shard, top.generation));
                top.entry.clean && listed && top == best
            }
            (None, _) | (_, None) => false,
        };
        if clean { self.conclude(turn) } else { self.enter(Phase::Scan) }
    }

    fn enter(&mut self, phase: Phase) -> bool {
        self.phase = phase;
        true
    }

    fn view<'a>(&'a self, turn: &'a Turn<'_>, table: Option<&'a LifeTable>) -> View<'a> {
        let rules = Rules { key: self.key, secret: turn.secret(), block: turn.block(), table };
        View { segments: &self.segments, window: &self.window, blocks: turn.blocks, rules }
    }

    /// Asks for what a scan lacks. Always false: wait.
    fn fetch(&mut self, missing: Missing, turn: &mut Turn<'_>) -> bool {
        match missing {
            Missing::Open(at) => self.open(at, turn),
            Missing::Chunk(at, index) => {
                let segment = &self.segments[at];
                let mut asked = self.window.ask(self.slot, segment, index, READ_AHEAD_CHUNKS, turn);
                if asked == Asked::NoMemory && self.window.give_one(turn.blocks) {
                    asked = self.window.ask(self.slot, segment, index, 1, turn);
                }
                if asked == Asked::NoMemory {
                    turn.retry(self.slot, MEMORY_RETRY_NS);
                }
            }
        }
        false
    }

    fn scan_on(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let table = self.source_table.take();
        let missing = loop {
            match scan.step(&self.view(turn, table.as_ref())) {
                Ok(Step::Frame(_) | Step::Damaged) => {}
                Ok(Step::End) => break None,
                Err(missing) => break Some(missing),
            }
        };
        self.source_table = table;
        let check = Box::new(PayloadCheck::new(&scan));
        self.scan = Some(scan);
        match missing {
            Some(missing) => self.fetch(missing, turn),
            None => self.enter(Phase::Payload(check)),
        }
    }

    fn check_payloads(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let Phase::Payload(mut check) = std::mem::replace(&mut self.phase, Phase::Done) else {
            return false;
        };
        let done = check.run(&mut scan, &self.view(turn, None));
        self.scan = Some(scan);
        match done {
            Ok(()) => self.conclude(turn),
            Err(missing) => {
                self.phase = Phase::Payload(check);
                self.fetch(missing, turn)
            }
        }
    }

    /// The end is known: life table, epoch, mark; then the replay up to it.
    fn conclude(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(scan) = self.scan.take() else { return false };
        let top = self.top().cloned();
        let mut table = self.source_table.clone().unwrap_or_default();
        for (epoch, base) in &scan.lives {
            if *epoch > table.last_epoch() {
                table.push(*epoch, *base, *base);
            }
        }
        let counts = &mut turn.shared.counts;
        counts.torn_headers += scan.met.torn_headers;
        counts.torn_payloads += scan.met.torn_payloads;
        counts.forged_headers += scan.met.forged_headers;
        counts.stale_headers += scan.met.stale_headers;
        let counter = turn.shared.facts.start_counter;
        let epoch = table.greatest_epoch().max(scan.seen_epoch).max(counter) + 1;
        table.push(epoch, scan.next, scan.at.o);
        self.end = scan.at;
        let first = self.segments[0].base.min(self.end.o);
        let log_start = top.as_ref().map_or(0, |top| top.log_start).max(first);
        let unproven = scan.kept.iter().filter(|kept| kept.placed.head.last_offset() >= scan.w);
        self.unproven = unproven.map(|kept| self.segments[kept.placed.si].base).collect();
        let segment = self.segments[self.end.si].base;
        // A process that died in an extension left a size that is seen and not durable: without this flush
        // the space behind the end would be written to, and could vanish with everything in it (P17).
        self.unproven.push(segment);
        self.unproven.dedup();
        let (position, offset) = (self.end.p, scan.next);
        let mut mark = Mark { segment, position, offset, crc: self.end.crc, len: self.end.len };
        if scan.new_segment {
            self.create = true;
            (mark.segment, mark.position) = (scan.next, 0);
        }
        let beyond = self.segments.split_off(self.end.si + 1);
        self.close_all(&beyond, turn);
        let beyond = beyond.into_iter().map(|segment| segment.base).collect();
        let mut notices = Vec::new();
        if scan.torn_batches > 0 {
            notices.push(format!(
                "log {}: torn tail in segment {segment} at position {position}: the log ends at offset {}",
                self.key, self.end.o
            ));
        }
        self.damaged = scan.damaged;
        self.result = Some(Recovered {
            segments: Vec::new(),
            beyond,
            mark,
            log_start,
            bound: top.map_or(0, |top| top.bound),
            epoch,
            table,
            quarantine: Quarantine::default(),
            notices,
            dropped_batches: scan.torn_batches,
            new_quarantined: 0,
            scanned_bytes: 0,
            snapshot_offset: 0,
        });
        self.start_replay(turn)
    }

    fn close_all(&mut self, gone: &[Segment], turn: &mut Turn<'_>) {
        for segment in gone {
            if let Some(file) = segment.file {
                turn.shared.open_files -= 1;
                self.ask(LogOp::Close, turn, |id| IoRequest::Close { id, file });
            }
        }
    }

    fn start_replay(&mut self, turn: &mut Turn<'_>) -> bool {
        let _ = turn;
        let Some(result) = &self.result else { return false };
        let good = self.snapshot.take().filter(|snapshot| {
            let mark = &snapshot.mark;
            mark.offset <= self.end.o
                && mark.offset >= result.log_start
                && !result.table.undone(snapshot.epoch, mark.offset)
                && self.resume(mark).is_some()
        });
        let stop = Some((self.segments[self.end.si].base, self.end.p));
        let at = match &good {
            Some(snapshot) => {
                for told in &snapshot.segments {
                    if let Some(at) = by_base(&self.segments, told.base) {
                        let (file, bytes) = (self.segments[at].file, self.segments[at].file_bytes);
                        self.segments[at] = told.clone();
                        if file.is_some() {
                            (self.segments[at].file, self.segments[at].file_bytes) = (file, bytes);
                        }
                    }
                }
                let mark = snapshot.mark;
                let (si, p) = self.resume(&mark).unwrap_or((0, 0));
                let (crc, len) = (mark.crc, mark.len);
                At { si, p, o: mark.offset, crc, len, any: len == 0, floor: 0 }
            }
            None => {
                let si = holder(&self.segments, result.log_start).unwrap_or(0);
                for segment in &mut self.segments {
                    *segment = Segment {
                        file: segment.file,
                        file_bytes: segment.file_bytes,
                        ..Segment::new(segment.base)
                    };
                }
                At::start_of(si, self.segments[si].base)
            }
        };
        self.snapshot = good;
        self.replay_started = false;
        self.scan = Some(Scan::new(at, self.end.o, stop, None, false));
        self.enter(Phase::Replay)
    }

    /// Where the log goes on behind a snapshot: in its segment, or in the next when retention took that one.
    fn resume(&self, mark: &Mark) -> Option<(usize, u64)> {
        let same = by_base(&self.segments, mark.segment).map(|si| (si, mark.position));
        same.or_else(|| by_base(&self.segments, mark.offset).map(|si| (si, 0)))
    }

    /// Tells the snapshot once the replay has proved that the log goes on from it.
    fn tell_snapshot(&mut self, turn: &mut Turn<'_>) {
        self.replay_started = true;
        if let Some(snapshot) = self.snapshot.take() {
            self.snapshot_offset = snapshot.mark.offset;
            turn.tell(LogEvent::Snapshot(self.key, snapshot.body));
        }
    }

    fn replay_on(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let mut left = REPLAY_FRAMES_MAX;
        loop {
            let table = self.result.as_ref().map(|result| &result.table);
            let step = scan.step(&self.view(turn, table));
            match step {
                Ok(Step::Frame(placed)) => {
                    self.tell_snapshot(turn);
                    self.segments[placed.si].note(&placed.head, placed.position);
                    turn.tell(LogEvent::Replayed(self.key, placed.head.batch_facts()));
                    left -= 1;
                    if left == 0 {
                        turn.retry(self.slot, 0);
                        self.scan = Some(scan);
                        return false;
                    }
                }
                Ok(Step::Damaged) if !self.replay_started && self.snapshot.take().is_some() => {
                    // The log does not go on where the snapshot says: everything from the headers.
                    return self.start_replay(turn);
                }
                Ok(Step::Damaged) => {}
                Ok(Step::End) => {
                    self.tell_snapshot(turn);
                    self.damaged.extend(scan.damaged);
                    return self.settle(turn);
                }
                Err(missing) => {
                    self.scan = Some(scan);
                    return self.fetch(missing, turn);
                }
            }
        }
    }

    /// Quarantine list and the flush of the unproven tail.
    fn settle(&mut self, turn: &mut Turn<'_>) -> bool {
        let before = self.quarantine.len();
        // Ranges beyond a torn tail: their offsets are given again, to batches that are sound.
        self.quarantine.truncate(self.result.as_ref().map_or(u64::MAX, |found| found.mark.offset));
        let found_ns = turn.now.wall_ns;
        for range in std::mem::take(&mut self.damaged) {
            let Damaged { segment, at, until, from, to, damage } = range;
            let entry = Quarantined { segment, at, until, from, to, damage, found_ns };
            if self.quarantine.add(entry)
                && let Some(result) = &mut self.result
            {
                result.new_quarantined += 1;
                result.notices.push(format!(
                    "log {}: damaged data in segment {segment} at position {at}: offsets {from} to {to} are quarantined",
                    self.key
                ));
            }
        }
        if self.quarantine.len() != before || !self.quarantine.is_saved() {
            let (body, file) = (self.quarantine.encode(), SmallFile::Quarantine(self.key));
            self.ask(LogOp::Quarantine, turn, |id| IoRequest::WriteSmall { id, file, body });
        }
        for base in std::mem::take(&mut self.unproven) {
            let file = by_base(&self.segments, base).and_then(|at| self.segments[at].file);
            if let Some(file) = file {
                self.ask(LogOp::Flush, turn, |id| IoRequest::Flush { id, file });
            }
        }
        self.enter(Phase::Flushing)
    }

    /// A new segment where the log goes on behind a loss; else the active one, open.
    fn prepare(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(result) = &self.result else { return false };
        let base_offset = result.mark.segment;
        if !self.create {
            let last = self.segments.len() - 1;
            if self.segments[last].file.is_none() {
                self.open(last, turn);
                return true;
            }
            return self.enter(Phase::Done);
        }
        if self.segments.last().is_none_or(|segment| segment.base != base_offset) {
            self.segments.push(Segment::new(base_offset));
        }
        let name = SegmentName { log: self.key, base_offset };
        let bytes = first_extent(self.segment_bytes, 0, false);
        self.ask(LogOp::Prepare, turn, |id| IoRequest::Prepare { id, name, bytes, zero: true });
        self.enter(Phase::Preparing)
    }

    fn adopt(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(segment) = self.segments.last() else { return false };
        let (Some(file), base_offset) = (segment.file, segment.base) else { return false };
        let name = SegmentName { log: self.key, base_offset };
        self.ask(LogOp::Adopt, turn, |id| IoRequest::Adopt { id, file, name });
        self.enter(Phase::Adopting)
    }

    fn finish(&mut self) -> Progress {
        let Some(mut result) = self.result.take() else { return Progress::Working };
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in self.segments.iter_mut().enumerate() {
            segment.ready = true;
            segment.trimmed = true;
            segment.sealed = at < last;
            segment.extent = segment.file_bytes.min(4 << 20);
            if at == last {
                segment.end_position = result.mark.position;
                segment.end_offset = result.mark.offset;
            } else {
                segment.index.thin(crate::index::SEALED_ENTRIES_MAX);
            }
        }
        result.segments = std::mem::take(&mut self.segments);
        result.quarantine = std::mem::take(&mut self.quarantine);
        result.scanned_bytes = self.scanned_bytes;
        result.snapshot_offset = self.snapshot_offset;
        Progress::Ready(Box::new(result))
    }
}
