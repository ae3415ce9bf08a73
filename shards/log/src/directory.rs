//! Start steps 3 (meta, start counter) and 4 (sync, clean marker) of a log directory, once per process.
//! Owner: `boot.rs` before the shards start; the simulator likewise.
//! Invariant: the start counter is durable before any recovery acts; nothing found in a directory is acted on before its sync.
//! Not here: the lock (`runtime`), recovery of single logs (`recover.rs`).

use crate::checkpoint;
use crate::codec::{Reader, Unopened, Writer};
use crate::io::{Dir, Errno, IoDone, IoId, IoOk, IoOut, IoRequest, SmallFile};
use ringway_wire::ids::LogKey;
use std::collections::BTreeSet;

const META_MAGIC: [u8; 4] = *b"RWMT";
/// Format of everything below the log directory.
const FORMAT_VERSION: u16 = 1;
const CLEAN_MAGIC: [u8; 4] = *b"RWCL";
/// Smallest block; the largest is what a pooled block holds.
const BLOCK_BYTES_MIN: u32 = 4096;
/// Requests in flight at once.
const IN_FLIGHT_MAX: usize = 64;
/// What to do without a readable `meta`.
pub const META_REMEDY: &str = "restore it from a backup, or make it anew from the segments with `ringway log repair DIR --meta`";

/// What every shard of this life knows of its log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// Identity of the directory.
    pub uuid: [u8; 16],
    /// Block of every write, bytes; fixed at creation (3.1).
    pub block: u32,
    /// XORed into header_crc on disk (P5).
    pub secret: u32,
    /// Bumped durably by this start; log_epochs of this life are above it.
    pub start_counter: u32,
    /// (shard, generation) listed by the clean marker, empty after an unclean stop.
    pub clean: Vec<(u32, u64)>,
    /// All checkpoint files there are: (shard, generation, body).
    pub checkpoints: Vec<(u32, u64, Vec<u8>)>,
    /// Logs found on disk.
    pub logs: Vec<LogKey>,
}

/// How the start of a directory stands.
#[derive(Debug)]
pub enum DirectoryProgress {
    /// Waiting for the disk.
    Working,
    /// Done.
    Ready(DirectoryFacts),
    /// Cannot be used; the text names cause and remedy.
    Refused(String),
}

/// Which step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    SyncRoot,
    Meta,
    Topics,
    Partitions,
    BumpMeta,
    SyncAll,
    CleanMarker,
    RemoveMarker,
    Checkpoints,
    Done,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Sync,
    Meta,
    Topics,
    Names,
    Partitions(u64),
    Bump,
    Marker,
    Unmark,
    Checkpoint(u32, u64),
}

/// Runs the steps. A new directory gets `new_uuid`, `new_secret` and `new_block`.
pub struct DirectoryStart {
    facts: DirectoryFacts,
    stage: Stage,
    /// Requests not yet sent, last first, and those in flight.
    waiting: Vec<(Ask, IoRequest)>,
    in_flight: Vec<(IoId, Ask)>,
    next_id: u64,
    topics: Vec<u64>,
    files: Vec<(u32, u64)>,
    is_new: bool,
    refusal: Option<String>,
}

impl DirectoryStart {
    /// First requests are in `io`.
    pub fn new(
        new_uuid: [u8; 16],
        new_secret: u32,
        new_block: u32,
        io: &mut IoOut,
    ) -> DirectoryStart {
        let facts = DirectoryFacts {
            uuid: new_uuid,
            block: new_block,
            secret: new_secret,
            start_counter: 0,
            clean: Vec::new(),
            checkpoints: Vec::new(),
            logs: Vec::new(),
        };
        let mut start = DirectoryStart {
            facts,
            stage: Stage::SyncRoot,
            waiting: Vec::new(),
            in_flight: Vec::new(),
            next_id: 1,
            topics: Vec::new(),
            files: Vec::new(),
            is_new: false,
            refusal: None,
        };
        start.sync(Dir::Root);
        start.send(io);
        start
    }

    /// Feeds an answer.
    pub fn on_io(&mut self, done: IoDone, io: &mut IoOut) -> DirectoryProgress {
        if let Some(at) = self.in_flight.iter().position(|(id, _)| *id == done.id) {
            let (_, ask) = self.in_flight.swap_remove(at);
            self.take(ask, done.result);
        }
        if let Some(text) = &self.refusal {
            return DirectoryProgress::Refused(text.clone());
        }
        while self.in_flight.is_empty() && self.waiting.is_empty() {
            if self.stage == Stage::Done {
                return DirectoryProgress::Ready(self.facts.clone());
            }
            self.next_stage();
            if let Some(text) = &self.refusal {
                return DirectoryProgress::Refused(text.clone());
            }
        }
        self.send(io);
        DirectoryProgress::Working
    }

    fn take(&mut self, ask: Ask, result: Result<IoOk, Errno>) {
        let answer = match result {
            Ok(answer) => answer,
            Err(errno) => {
                self.refusal =
                    Some(format!("log directory: {ask:?} failed with errno {}", errno.0));
                return;
            }
        };
        match (ask, answer) {
            (Ask::Meta, IoOk::Small(body)) => self.read_meta(body.as_deref()),
            (Ask::Topics, IoOk::Names(names)) => {
                self.topics = names.iter().filter_map(|name| name.parse().ok()).collect();
                self.topics.sort_unstable();
            }
            (Ask::Names, IoOk::Names(names)) => {
                self.files = names.iter().filter_map(|name| checkpoint_name(name)).collect();
                self.files.sort_unstable();
            }
            (Ask::Partitions(topic_id), IoOk::Names(names)) => {
                let keys = names.iter().filter_map(|name| name.parse().ok());
                self.facts.logs.extend(keys.map(|partition| LogKey { topic_id, partition }));
            }
            (Ask::Marker, IoOk::Small(body)) => {
                self.facts.clean = body.and_then(|body| read_marker(&body)).unwrap_or_default();
            }
            (Ask::Checkpoint(shard, generation), IoOk::Small(Some(body))) => {
                self.facts.checkpoints.push((shard, generation, body));
            }
            (
                Ask::Sync
                | Ask::Meta
                | Ask::Topics
                | Ask::Names
                | Ask::Partitions(_)
                | Ask::Bump
                | Ask::Marker
                | Ask::Unmark
                | Ask::Checkpoint(..),
                _,
            ) => {}
        }
    }

    fn read_meta(&mut self, body: Option<&[u8]>) {
        let Some(body) = body else {
            self.is_new = true;
            return;
        };
        match decode_meta(body) {
            Ok(meta) => {
                self.facts.uuid = meta.uuid;
                self.facts.block = meta.block;
                self.facts.secret = meta.secret;
                self.facts.start_counter = meta.start_counter;
            }
            Err(text) => self.refusal = Some(text),
        }
    }

    fn next_stage(&mut self) {
        self.stage = match self.stage {
            Stage::SyncRoot => {
                self.ask(Ask::Meta, |id| IoRequest::ReadSmall { id, file: SmallFile::Meta });
                Stage::Meta
            }
            Stage::Meta => {
                self.ask(Ask::Topics, |id| IoRequest::List { id, dir: Dir::Topics });
                self.ask(Ask::Names, |id| IoRequest::List { id, dir: Dir::Checkpoints });
                Stage::Topics
            }
            Stage::Topics => {
                for topic_id in self.topics.clone() {
                    let dir = Dir::Partitions(topic_id);
                    self.ask(Ask::Partitions(topic_id), |id| IoRequest::List { id, dir });
                }
                Stage::Partitions
            }
            Stage::Partitions => {
                self.bump();
                Stage::BumpMeta
            }
            Stage::BumpMeta => {
                self.sync_all();
                Stage::SyncAll
            }
            Stage::SyncAll => {
                let file = SmallFile::CleanMarker;
                self.ask(Ask::Marker, |id| IoRequest::ReadSmall { id, file });
                Stage::CleanMarker
            }
            Stage::CleanMarker => {
                let file = SmallFile::CleanMarker;
                self.ask(Ask::Unmark, |id| IoRequest::RemoveSmall { id, file });
                Stage::RemoveMarker
            }
            Stage::RemoveMarker => {
                for (shard, generation) in self.files.clone() {
                    let file = SmallFile::Checkpoint { shard, generation };
                    self.ask(Ask::Checkpoint(shard, generation), |id| IoRequest::ReadSmall {
                        id,
                        file,
                    });
                }
                Stage::Checkpoints
            }
            Stage::Checkpoints | Stage::Done => {
                self.facts.checkpoints.sort_by_key(|(shard, generation, _)| (*shard, *generation));
                self.facts.logs.sort_unstable();
                Stage::Done
            }
        };
    }

    /// The start counter goes up durably, before anything else is written.
    fn bump(&mut self) {
        if self.is_new && !self.facts.logs.is_empty() {
            self.refusal = Some(format!(
                "log directory: `meta` is missing but {} logs are there: {META_REMEDY}",
                self.facts.logs.len()
            ));
            return;
        }
        let block = self.facts.block;
        let largest = u32::try_from(crate::blocks::BLOCK_BYTES).unwrap_or(u32::MAX);
        if !block.is_power_of_two() || !(BLOCK_BYTES_MIN..=largest).contains(&block) {
            self.refusal = Some(format!(
                "log directory: block of {block} bytes is not a power of two from {BLOCK_BYTES_MIN} to {largest}"
            ));
            return;
        }
        self.facts.start_counter += 1;
        let body = encode_meta(&self.facts);
        self.ask(Ask::Bump, |id| IoRequest::WriteSmall { id, file: SmallFile::Meta, body });
    }

    fn sync_all(&mut self) {
        if !self.files.is_empty() {
            self.sync(Dir::Checkpoints);
        }
        if !self.topics.is_empty() {
            self.sync(Dir::Topics);
        }
        for topic_id in self.topics.clone() {
            self.sync(Dir::Partitions(topic_id));
        }
        for key in self.facts.logs.clone() {
            self.sync(Dir::Log(key));
        }
    }

    fn sync(&mut self, dir: Dir) {
        self.ask(Ask::Sync, |id| IoRequest::SyncDir { id, dir });
    }

    fn ask(&mut self, ask: Ask, request: impl FnOnce(IoId) -> IoRequest) {
        let id = IoId(self.next_id);
        self.next_id += 1;
        self.waiting.push((ask, request(id)));
    }

    fn send(&mut self, io: &mut IoOut) {
        while self.in_flight.len() < IN_FLIGHT_MAX {
            let Some((ask, request)) = self.waiting.pop() else { return };
            self.in_flight.push((request.id(), ask));
            io.requests.push(request);
        }
    }
}

impl DirectoryFacts {
    /// Logs found on disk, and those that had records by what a checkpoint says: one whose directory is gone
    /// as a whole is missed, not made anew. Sorted.
    #[must_use]
    pub fn known_logs(&self) -> Vec<LogKey> {
        let files = self.checkpoints.iter().filter_map(|(_, _, body)| checkpoint::decode(body));
        let entries = files.flat_map(|file| file.entries).filter(|entry| entry.end.offset > 0);
        let known: BTreeSet<LogKey> =
            entries.map(|entry| entry.key).chain(self.logs.iter().copied()).collect();
        known.into_iter().collect()
    }

    /// What a stopped directory says, for tools that change nothing: `meta` and every checkpoint file's body.
    ///
    /// # Errors
    /// A text that names cause and remedy: `meta` is damaged or of a newer format.
    pub fn inspect(
        meta: &[u8],
        checkpoints: Vec<(u32, u64, Vec<u8>)>,
        logs: Vec<LogKey>,
    ) -> Result<DirectoryFacts, String> {
        let Meta { uuid, block, secret, start_counter } = decode_meta(meta)?;
        Ok(DirectoryFacts {
            uuid,
            block,
            secret,
            start_counter,
            clean: Vec::new(),
            checkpoints,
            logs,
        })
    }
}

/// `shard-<shard>.<generation>`: a checkpoint file's name.
#[must_use]
pub fn checkpoint_name(name: &str) -> Option<(u32, u64)> {
    let (shard, generation) = name.strip_prefix("shard-")?.split_once('.')?;
    Some((shard.parse().ok()?, generation.parse().ok()?))
}

pub(crate) fn encode_meta(facts: &DirectoryFacts) -> Vec<u8> {
    let mut out = Writer::new(META_MAGIC, FORMAT_VERSION);
    out.bytes(&facts.uuid);
    out.u32(facts.block);
    out.u32(facts.secret);
    out.u32(facts.start_counter);
    out.finish()
}

/// What `meta` holds.
struct Meta {
    uuid: [u8; 16],
    block: u32,
    secret: u32,
    start_counter: u32,
}

fn decode_meta(body: &[u8]) -> Result<Meta, String> {
    let damaged = || format!("log directory: `meta` is damaged: {META_REMEDY}");
    let mut from = match Reader::open(body, META_MAGIC, FORMAT_VERSION) {
        Ok(from) => from,
        Err(Unopened::Newer(found)) => {
            return Err(format!(
                "log directory: format version {found} is newer than {FORMAT_VERSION}, the newest this \
                 Ringway knows: start a Ringway that knows it"
            ));
        }
        Err(Unopened::Damaged) => return Err(damaged()),
    };
    let mut read = || {
        let uuid = from.bytes()?.try_into().ok()?;
        let (block, secret) = (from.u32()?, from.u32()?);
        Some(Meta { uuid, block, secret, start_counter: from.u32()? })
    };
    read().ok_or_else(damaged)
}

/// Body of `SmallFile::CleanMarker`: written last at a clean stop, with the generation of every shard's
/// last checkpoint. The next [`DirectoryStart`] reads it into [`DirectoryFacts::clean`].
#[must_use]
pub fn clean_marker(shards: &[(u32, u64)]) -> Vec<u8> {
    let mut out = Writer::new(CLEAN_MAGIC, FORMAT_VERSION);
    out.count(shards.len());
    for (shard, generation) in shards {
        out.u32(*shard);
        out.u64(*generation);
    }
    out.finish()
}

fn read_marker(body: &[u8]) -> Option<Vec<(u32, u64)>> {
    let mut from = Reader::open(body, CLEAN_MAGIC, FORMAT_VERSION).ok()?;
    let count = from.count(12)?;
    let mut shards = Vec::with_capacity(count);
    for _ in 0..count {
        shards.push((from.u32()?, from.u64()?));
    }
    Some(shards)
}
