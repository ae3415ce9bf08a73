//! A stopped data directory as its tools see it: its lock, its facts, its logs, and how their bytes are read.

use super::findings::finding_line;
use super::topics::Topics;
use crate::cli::progress::Progress;
use crate::refusal::Refusal;
use ringway_log::directory::{DirectoryFacts, META_REMEDY, checkpoint_name};
use ringway_log::inspect::{checkpointed, partition_name};
use ringway_log::verify::{Finding, FrameLine, LogReport, LogVerify, VerifyStep};
use ringway_runtime::directory::LOCK_WAIT;
use ringway_wire::ids::LogKey;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A stopped directory; no broker starts in it while this lives.
pub(super) struct Stopped {
    /// Where.
    pub(super) directory: PathBuf,
    /// What `meta` and the checkpoints say.
    pub(super) facts: DirectoryFacts,
    /// Every log there is or must be, in order.
    pub(super) logs: Vec<FoundLog>,
    /// Which topics exist; else what is wrong with the metadata store.
    pub(super) topics: Result<Topics, String>,
    /// What is odd, and no damage.
    pub(super) notes: Vec<String>,
    /// None: somebody else holds it.
    held: Option<File>,
}

/// A log as its directory shows it.
pub(super) struct FoundLog {
    /// Which.
    pub(super) key: LogKey,
    /// Its own directory.
    pub(super) directory: PathBuf,
    /// The topic's name, when somebody tells it.
    pub(super) name: Option<String>,
    /// `partition.meta` is whole.
    pub(super) is_named: bool,
    /// A checkpoint tells of it, and it has no directory.
    pub(super) is_gone: bool,
    /// Base offset and file size, oldest first.
    pub(super) segments: Vec<(u64, u64)>,
    /// Body of its quarantine list, when it can be read.
    pub(super) list: Option<Vec<u8>>,
    /// What stands there instead of a segment: no broker can read it.
    pub(super) odd: Vec<String>,
    /// What is odd, and no damage.
    pub(super) notes: Vec<String>,
}

impl FoundLog {
    fn gone(directory: &Path, key: LogKey) -> FoundLog {
        let topic = directory.join("t").join(key.topic_id.to_string());
        let directory = topic.join("p").join(key.partition.to_string());
        FoundLog {
            key,
            directory,
            name: None,
            is_named: false,
            is_gone: true,
            segments: Vec::new(),
            list: None,
            odd: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Looks at what lies in its directory.
    fn look(&mut self) -> Result<(), Refusal> {
        for name in names(&self.directory)? {
            let Some(base) = name.strip_suffix(".seg") else { continue };
            let Ok(base) = base.parse() else {
                self.notes.push(format!("{name} is no segment: passed over"));
                continue;
            };
            let path = self.directory.join(&name);
            if path != self.segment(base) {
                self.odd.push(format!("{name} is not how a segment is named, and passed over"));
                continue;
            }
            if path.is_symlink() {
                self.notes.push(format!("{name} is a symbolic link"));
            }
            match fs::metadata(&path) {
                Ok(facts) if facts.is_file() => self.segments.push((base, facts.len())),
                Ok(_) => self.odd.push(format!("{name} is no file, and passed over")),
                Err(cause) => self.odd.push(format!("{name} is passed over: {cause}")),
            }
        }
        self.segments.sort_unstable();
        let named = fs::read(self.directory.join("partition.meta")).ok();
        let named = named.and_then(|body| partition_name(&body));
        self.is_named = named.is_some();
        self.name = named.map(|named| named.topic);
        self.list = fs::read(self.directory.join("quarantine")).ok();
        if !self.is_named {
            let text =
                "partition.meta is missing or damaged: a repair makes it anew from metastore.redb";
            self.notes.push(text.to_owned());
        }
        Ok(())
    }

    /// Everything that is to be said of it besides its findings.
    pub(super) fn remarks(&self) -> impl Iterator<Item = &String> {
        self.odd.iter().chain(&self.notes)
    }

    /// Topic and partition for people; a topic whose name nothing tells goes by its number, as its directory does.
    pub(super) fn title(&self) -> String {
        let LogKey { topic_id, partition } = self.key;
        match &self.name {
            Some(name) => format!("{name}/{partition}"),
            None => format!("#{topic_id}/{partition}"),
        }
    }

    /// Topic name; empty when neither the metadata store nor `partition.meta` tells.
    pub(super) fn topic(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// One finding as a line.
    pub(super) fn line(&self, finding: &Finding) -> String {
        if self.is_gone {
            let Finding { offset, until, .. } = finding;
            let (kind, directory) = (finding.kind.name(), self.directory.display());
            return format!(
                "{kind}: the whole directory {directory}, offsets {offset}..{until} and what was written after the \
                 newest checkpoint"
            );
        }
        finding_line(finding)
    }

    /// The file of a segment.
    pub(super) fn segment(&self, base: u64) -> PathBuf {
        self.directory.join(format!("{base:020}.seg"))
    }

    /// Bytes of all its segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Which logs a command is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Choice {
    /// Only this topic, by name or number.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only this partition.
    #[arg(long, short, value_name = "N")]
    partition: Option<u32>,
}

impl Choice {
    fn takes(&self, log: &FoundLog) -> bool {
        let topic = self.topic.as_ref();
        topic.is_none_or(|name| *name == log.topic() || *name == log.key.topic_id.to_string())
            && self.partition.is_none_or(|partition| partition == log.key.partition)
    }
}

impl Stopped {
    /// Locks the directory and looks at it. `alone`: to change something, so no other tool may look on.
    pub(super) fn open(directory: &Path, choice: &Choice, alone: bool) -> Result<Stopped, Refusal> {
        let lock = lock(directory, alone)?;
        let mut stopped = Stopped::look(directory)?;
        stopped.held = Some(lock);
        let all = stopped.logs.len();
        stopped.logs.retain(|log| choice.takes(log));
        if stopped.logs.is_empty() && all > 0 {
            let text = format!(
                "none of the {all} logs in {} is the one asked for: `ringway log verify {0}` lists them",
                directory.display()
            );
            return Err(Refusal::configuration(text));
        }
        Ok(stopped)
    }

    /// Looks once more at a directory that the caller has locked.
    pub(super) fn look(directory: &Path) -> Result<Stopped, Refusal> {
        let mut logs = find_logs(directory)?;
        let facts = facts(directory, logs.iter().map(|log| log.key).collect())?;
        let topics = Topics::read(directory);
        for (key, holds) in checkpointed(&facts) {
            // A topic that was deleted may still stand in a checkpoint.
            let wanted = topics.as_ref().map_or(holds, |topics| topics.has(key));
            if wanted && logs.iter().all(|log| log.key != key) {
                logs.push(FoundLog::gone(directory, key));
            }
        }
        logs.sort_unstable_by_key(|log| log.key);
        let mut notes = Vec::new();
        if let Ok(topics) = &topics {
            for log in &mut logs {
                log.name = topics.name(log.key.topic_id).map(str::to_owned).or(log.name.take());
            }
            notes = topics.without_logs(&logs.iter().map(|log| log.key).collect());
        }
        let directory = directory.to_owned();
        Ok(Stopped { directory, facts, logs, topics, notes, held: None })
    }

    /// What is wrong with the metadata store: nobody misses it where no log ever was.
    pub(super) fn metadata_finding(&self) -> Option<&str> {
        let cause = self.topics.as_ref().err()?;
        (!self.logs.is_empty()).then_some(cause.as_str())
    }

    /// Bytes of all logs chosen.
    pub(super) fn bytes(&self) -> u64 {
        self.logs.iter().map(FoundLog::bytes).sum()
    }

    /// Reads a log from its first byte to its last; `take` is told every frame, and ends the walk with false.
    pub(super) fn walk(
        &self,
        log: &FoundLog,
        progress: &Progress,
        mut take: impl FnMut(&FrameLine) -> Result<bool, Refusal>,
    ) -> Result<Option<LogReport>, Refusal> {
        let (segments, list) = (log.segments.clone(), log.list.as_deref());
        let mut verifier = LogVerify::new(log.key, &self.facts, segments, list);
        let mut segments = Segments::new(log);
        let mut bytes = Vec::new();
        let mut records = 0;
        loop {
            match verifier.step() {
                VerifyStep::Done(report) => return Ok(Some(report)),
                VerifyStep::Frame(line) => {
                    records += u64::try_from(line.records).unwrap_or(0);
                    if !take(&line)? {
                        return Ok(None);
                    }
                }
                VerifyStep::Read { segment, at, len } => {
                    bytes.clear();
                    bytes.resize(len, 0);
                    let lost = segments.read(segment, at, &mut bytes, self.facts.block)?;
                    verifier.feed(&bytes, lost);
                    progress.advance(len, records);
                }
            }
        }
    }
}

/// The segment that is open.
pub(super) struct Segments<'a> {
    log: &'a FoundLog,
    open: Option<(u64, File)>,
}

impl<'a> Segments<'a> {
    /// None is open yet.
    pub(super) fn new(log: &'a FoundLog) -> Segments<'a> {
        Segments { log, open: None }
    }

    /// Reads all of `bytes`, block by block where the device gives errors: which blocks stay zero, as bits.
    pub(super) fn read(
        &mut self,
        segment: u64,
        at: u64,
        bytes: &mut [u8],
        block: u32,
    ) -> Result<u16, Refusal> {
        let file = match self.open.take() {
            Some((base, file)) if base == segment => file,
            _ => {
                let path = self.log.segment(segment);
                File::open(&path).map_err(|cause| refused(&path, &cause))?
            }
        };
        let mut lost = 0;
        if !fill(&file, bytes, at) {
            for (n, piece) in (0u32..).zip(bytes.chunks_mut(block as usize)) {
                if !fill(&file, piece, at + u64::from(n) * u64::from(block)) {
                    piece.fill(0);
                    lost |= 1u16.checked_shl(n).unwrap_or(0);
                }
            }
        }
        self.open = Some((segment, file));
        Ok(lost)
    }

    /// A whole frame.
    pub(super) fn frame(&mut self, line: &FrameLine, block: u32) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; line.frame_len as usize];
        self.read(line.segment, line.position, &mut bytes, block)?;
        Ok(bytes)
    }
}

/// Whether all bytes came; those behind the end of the file are zeros.
fn fill(file: &File, bytes: &mut [u8], at: u64) -> bool {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

/// Keeps a broker from starting meanwhile, and refuses when one runs.
pub(super) fn lock(directory: &Path, alone: bool) -> Result<File, Refusal> {
    if directory.is_file() {
        return Err(Refusal::configuration(format!(
            "{} is a file: name the data directory, the one given to `ringway serve --data-dir`, and choose a log \
             in it with --topic and --partition",
            directory.display()
        )));
    }
    let path = directory.join("lock");
    let file = File::open(&path).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Refusal::configuration(format!(
            "{} is no data directory, it has no file `lock`: name the one given to `ringway serve --data-dir`",
            directory.display()
        )),
        _ => refused(&path, &cause),
    })?;
    // The kernel gives a stopped broker's lock back only once its last ring is gone, a little later.
    let asked = Instant::now();
    let tried = || if alone { file.try_lock() } else { file.try_lock_shared() };
    while tried().is_err() {
        if asked.elapsed() >= LOCK_WAIT {
            let text =
                format!("data directory {} is in use: stop the broker first", directory.display());
            return Err(Refusal::configuration(text));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(file)
}

/// Why an operation on `path` failed (exit 1); `refused` is for what the operator set wrong (exit 78).
pub(super) fn failed(path: &Path, cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::failed(&path.display().to_string(), cause)
}

/// A name that nothing has yet for what is kept of `name`: a second repair may come within the same second.
pub(super) fn aside(directory: &Path, name: &str) -> PathBuf {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut seconds = now.as_secs();
    loop {
        let path = directory.join(format!("{name}.damaged-{seconds}"));
        // What cannot be looked at is no free name either.
        if matches!(path.symlink_metadata(), Err(cause) if cause.kind() == ErrorKind::NotFound) {
            return path;
        }
        seconds += 1;
    }
}

/// Makes the names in `directory` durable.
pub(super) fn sync(directory: &Path) -> Result<(), Refusal> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|cause| failed(directory, &cause))
}

/// What keeps a tool from its work, with the path.
pub(super) fn refused(path: &Path, cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::configuration(format!("{}: {cause}", path.display()))
}

fn facts(directory: &Path, logs: Vec<LogKey>) -> Result<DirectoryFacts, Refusal> {
    let path = directory.join("meta");
    let meta = match fs::read(&path) {
        Err(cause) if cause.kind() == ErrorKind::NotFound && !logs.is_empty() => {
            return Err(refused(&path, &format!("missing: {META_REMEDY}")));
        }
        read => read.map_err(|cause| refused(&path, &cause))?,
    };
    let checkpoints = checkpoints(directory)?;
    DirectoryFacts::inspect(&meta, checkpoints, logs).map_err(Refusal::configuration)
}

/// Every checkpoint file: shard, generation, body.
pub(super) fn checkpoints(directory: &Path) -> Result<Vec<(u32, u64, Vec<u8>)>, Refusal> {
    let mut checkpoints = Vec::new();
    for name in names(&directory.join("checkpoints"))? {
        let Some((shard, generation)) = checkpoint_name(&name) else { continue };
        let path = directory.join("checkpoints").join(&name);
        let body = fs::read(&path).map_err(|cause| refused(&path, &cause))?;
        checkpoints.push((shard, generation, body));
    }
    Ok(checkpoints)
}

/// `t/<topic_id>/p/<partition>/<base_offset>.seg`, in order.
pub(super) fn find_logs(directory: &Path) -> Result<Vec<FoundLog>, Refusal> {
    let topics = directory.join("t");
    let mut logs = Vec::new();
    for topic_id in numbers(&topics)? {
        for partition in numbers(&topics.join(topic_id.to_string()).join("p"))? {
            let Ok(partition) = u32::try_from(partition) else { continue };
            let mut log = FoundLog::gone(directory, LogKey { topic_id, partition });
            log.is_gone = false;
            log.look()?;
            logs.push(log);
        }
    }
    Ok(logs)
}

fn numbers(directory: &Path) -> Result<Vec<u64>, Refusal> {
    let mut numbers: Vec<u64> =
        names(directory)?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Names in a directory; an absent one has none.
fn names(directory: &Path) -> Result<Vec<String>, Refusal> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(refused(directory, &cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| refused(directory, &cause))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
