//! Recovers one log (reliability.md 3.7, step 8): checkpoint, scan, payload check, replay, and what must be durable.
//! Owner: `Log`, until it is live.
//! Invariant: it destroys nothing; cut anywhere and run again it ends the same (D7).
//! Not here: the scan (`recover/scanning.rs`), the replay (`recover/replay.rs`), what is made durable
//! (`recover/settle.rs`), step 9 (`start.rs`).

mod passed;
mod replay;
mod scanning;
mod settle;

use crate::checkpoint::{Entry, Found, Mark};
use crate::frame::whole_blocks;
use crate::inspect::partition_meta;
use crate::io::{Dir, ENOENT, Errno, IoOk, IoRequest, SegmentName, SmallFile};
use crate::life_table::LifeTable;
use crate::ops::LogOp;
use crate::payload::PayloadCheck;
use crate::quarantine::Quarantine;
use crate::scan::{At, Rules, View};
use crate::segment::{Segment, by_base};
use crate::settings::LogSettings;
use crate::snapshot::{self, Snapshot};
use crate::turn::Turn;
use crate::verdict::{Damaged, Scan};
use crate::window::{Asked, Missing, Window};
use passed::Passed;
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
    Making,
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
    /// Frame bytes behind it.
    pub(crate) replayed_bytes: u64,
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
    /// Body of `partition.meta`, should the directory be gone.
    home: Vec<u8>,
    /// Nothing is in the directory.
    gone: bool,
    replay_started: bool,
    passed: Passed,
    quarantine: Quarantine,
    /// No list is there, or none that can be read.
    list_lost: bool,
    damaged: Vec<Damaged>,
    /// Ranges that no frame names: below the oldest segment, and between two lives.
    given_up: Vec<Damaged>,
    scanned_bytes: u64,
    replayed_bytes: u64,
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
            home: partition_meta(&settings.topic_name, settings.topic_uuid, key),
            gone: false,
            replay_started: false,
            passed: Passed::default(),
            quarantine: Quarantine::default(),
            list_lost: true,
            damaged: Vec::new(),
            given_up: Vec::new(),
            scanned_bytes: 0,
            replayed_bytes: 0,
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
            let bytes = self.window.on_read(self.slot, (base, index, piece), result, turn);
            self.scanned_bytes += bytes;
            turn.shared.counts.scanned_bytes += bytes;
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
                let list = body.and_then(|body| Quarantine::open(&body));
                self.list_lost = list.is_none();
                self.quarantine = list.unwrap_or_default();
            }
            // Derived or found again: an unreadable one is an absent one.
            (LogOp::ReadSnapshot | LogOp::ReadQuarantine, _) => {}
            (LogOp::Open(base), Ok(IoOk::File { file, bytes })) => {
                turn.shared.open_files += 1;
                if let Some(at) = by_base(&self.segments, base) {
                    let bytes = whole_blocks(bytes, turn.block());
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
        self.gone = names.is_empty();
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
                Phase::Listing => self.make_directory(turn),
                Phase::Making => self.unlink_below_start(turn),
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

    /// A log that is known and whose directory is gone gets one, durably, before anything is put into it.
    fn make_directory(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.gone && !self.entries.is_empty() {
            let (file, body) = (SmallFile::PartitionMeta(self.key), std::mem::take(&mut self.home));
            self.ask(LogOp::PartitionMeta, turn, |id| IoRequest::WriteSmall { id, file, body });
        }
        self.enter(Phase::Making)
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
                if asked == Asked::NoMemory
                    && self.window.give_one(segment.base, index, turn.blocks)
                {
                    asked = self.window.ask(self.slot, segment, index, 1, turn);
                }
                if asked == Asked::NoMemory {
                    turn.retry(self.slot, MEMORY_RETRY_NS);
                }
            }
        }
        false
    }

    fn close_all(&mut self, gone: &[Segment], turn: &mut Turn<'_>) {
        for segment in gone {
            if let Some(file) = segment.file {
                turn.shared.open_files -= 1;
                self.ask(LogOp::Close, turn, |id| IoRequest::Close { id, file });
            }
        }
    }
}
