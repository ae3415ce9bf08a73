//! The order of start, and its mirror image for the stop. Whatever a start refuses is one line and an
//! exit code; nothing durable is touched before the configuration, the host and the ports are right.

mod banner;
mod listeners;
mod metadata;
mod plan;
mod reload;
mod shard_threads;

use crate::config::{self, Config};
use crate::control::http::{self, Phase, Recovering, Status};
use crate::control::hub::{Event, Hub, Recovered};
use crate::control::meta::topics::Metadata;
use crate::refusal::{FAILED, Refusal};
use crate::report::{self, Level};
use banner::Banner;
use listeners::Listeners;
use reload::Reload;
use ringway_log::blocks::Blocks;
use ringway_log::directory::{DirectoryFacts, DirectoryProgress, DirectoryStart, clean_marker};
use ringway_log::io::{IoId, IoOut, IoRequest, SmallFile};
use ringway_runtime::counters::ShardCounters;
use ringway_runtime::directory::{DataDirectory, open_data_directory};
use ringway_runtime::disk::BlockingDisk;
use ringway_runtime::error::StartError;
use ringway_runtime::mesh::{self, ToShard};
use ringway_runtime::placement::{self, Placement};
use ringway_runtime::probe;
use shard_threads::{Ended, ShardThreads};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A start that takes longer tells how far it has come, this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// All that is known before any shard runs.
struct Prepared {
    config: Config,
    placement: Placement,
    directory: DataDirectory,
    facts: Arc<DirectoryFacts>,
    listeners: Listeners,
    metadata: Metadata,
    memory_bytes_max: u64,
    files_max: u64,
    began: Instant,
}

/// Starts, serves, stops. `load` reads the configuration, at the start and at every SIGHUP.
///
/// # Errors
/// What kept it from serving, or from stopping cleanly.
pub(crate) fn serve(
    load: impl Fn() -> Result<Config, Refusal> + 'static,
) -> Result<ExitCode, Refusal> {
    let prepared = prepare(load()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Refusal::failed("control plane", &cause))?;
    let ended = runtime.block_on(run(Box::new(prepared), Box::new(load)));
    // A handler that hangs must not keep a stopped broker alive.
    runtime.shutdown_background();
    ended
}

/// Host, directory, ports, metadata: everything that can refuse, in the order of the cheapest refusal.
fn prepare(config: Config) -> Result<Prepared, Refusal> {
    let began = Instant::now();
    let host = probe::probe()?;
    let placement = place(&config)?;
    let shards = u32::try_from(placement.shards.len()).unwrap_or(u32::MAX);
    let memory_bytes_max = memory(&config, shards)?;
    let directory = open_data_directory(&config.node.data_dir, plan::direct_io(&config.log))?;
    let listeners = Listeners::bind(&config, shards)?;
    let facts = Arc::new(start_directory(&directory)?);
    let metadata = metadata::open(&config, &directory, &facts, &listeners, shards)?;
    Ok(Prepared {
        config,
        placement,
        directory,
        facts,
        listeners,
        metadata,
        memory_bytes_max,
        files_max: host.files_max,
        began,
    })
}

fn place(config: &Config) -> Result<Placement, StartError> {
    let shards = &config.shards;
    let reserved = shards.control_cpus.as_deref().unwrap_or_default();
    let mut allowed = placement::allowed_cores();
    if shards.cpus.is_none() && allowed.iter().any(|core| !reserved.contains(core)) {
        allowed.retain(|core| !reserved.contains(core));
    }
    let cpus = shards.cpus.as_ref().map(|cpus| {
        let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        cpus.join(",")
    });
    // With a core of its own given, the control plane needs none of the others.
    let count = match (shards.count, reserved.is_empty()) {
        (None, false) if cpus.is_none() => Some(allowed.len()),
        (count, _) => count.map(|count| count as usize),
    };
    let mut placed = placement::place(&allowed, cpus.as_deref(), count)?;
    if let Some(core) = reserved.first() {
        placed.control = *core;
    }
    Ok(placed)
}

fn memory(config: &Config, shards: u32) -> Result<u64, Refusal> {
    let least = u64::from(shards) * config::log::SHARD_BYTES_MIN;
    let bytes = config.log.memory_bytes_max.unwrap_or_else(|| {
        config::memory::memory_bytes_default(shards, config::memory::host_memory_bytes())
    });
    if bytes < least {
        let (have, need) = (config::units::show_size(bytes), config::units::show_size(least));
        let text = format!("log.memory_bytes_max = {have}: {shards} shards need at least {need}");
        return Err(Refusal::configuration(text));
    }
    Ok(bytes)
}

/// Start steps 3 and 4 of the directory, with ordinary system calls: no shard runs yet.
fn start_directory(directory: &DataDirectory) -> Result<DirectoryFacts, Refusal> {
    let mut secret = [0; 4];
    getrandom::fill(&mut secret).map_err(|cause| Refusal::failed("random numbers", &cause))?;
    let mut io = IoOut::default();
    let mut blocks = Blocks::new(Vec::new(), 0);
    let mut disk = BlockingDisk::new(directory.path.clone());
    let secret = u32::from_le_bytes(secret);
    let mut start = DirectoryStart::new(draw_uuid(), secret, directory.block, &mut io);
    loop {
        let answers = disk.run(&mut io, &mut blocks);
        if answers.is_empty() {
            return Err(Refusal::failed(
                "data directory",
                &"its start asked for nothing and did not end",
            ));
        }
        for done in answers {
            match start.on_io(done, &mut io) {
                DirectoryProgress::Working => {}
                DirectoryProgress::Ready(facts) => return Ok(facts),
                DirectoryProgress::Refused(text) => return Err(Refusal::configuration(text)),
            }
        }
    }
}

/// A random (version 4) uuid.
fn draw_uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    assert!(getrandom::fill(&mut bytes).is_ok(), "the kernel gives random numbers");
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// From the first shard to the last: serves until told to stop or until a shard fails.
async fn run(prepared: Box<Prepared>, load: reload::Load) -> Result<ExitCode, Refusal> {
    let mut signals = Signals::new().map_err(|cause| Refusal::failed("signals", &cause))?;
    let directory = prepared.directory.clone();
    let limit = prepared.config.limits.shutdown_timeout;
    let (mut broker, banner) = launch(prepared, load)?;
    let started = tokio::select! {
        started = broker.open() => Some(started?),
        () = signals.stop() => None,
    };
    if let Some(found) = started {
        banner.print(&found);
        loop {
            tokio::select! {
                end = broker.fails() => return Err(end),
                signal = signals.next() => match signal {
                    Told::Stop => break,
                    Told::Reload => broker.reload(),
                },
            }
        }
    }
    tokio::select! {
        stopped = tokio::time::timeout(limit, broker.stop()) => match stopped {
            Ok(generations) => write_clean_marker(&directory, &generations?),
            Err(_) => Err(broker.hung(limit)),
        },
        () = signals.stop() => {
            Err(Refusal { code: FAILED, text: "stopped by a second signal".to_owned() })
        }
    }
}

/// Starts HTTP, every shard's thread and the metadata thread.
fn launch(
    mut prepared: Box<Prepared>,
    load: reload::Load,
) -> Result<(Box<Broker>, Banner), Refusal> {
    let shards = u32::try_from(prepared.placement.shards.len()).unwrap_or(u32::MAX);
    let catalog = prepared.metadata.catalog();
    let logs = prepared.facts.logs.iter().filter(|log| catalog.by_id.contains_key(&log.topic_id));
    let logs = logs.count() as u64;
    let (phase, phases) = watch::channel(Phase::Starting { recovered: 0, shards, logs });
    let (ends, control) = mesh::links(shards).map_err(|cause| Refusal::failed("links", &cause))?;
    let counters = (0..shards).map(|_| Arc::default()).collect::<Vec<_>>();
    let (poisoned, poisoned_logs) = watch::channel(http::Poison::default());
    let status = Arc::new(Status {
        phase: phases,
        poisoned: poisoned_logs,
        counters: counters.clone(),
        started: prepared.began,
        started_at: SystemTime::now(),
        direct_io: prepared.directory.direct_io,
        memory_bytes_max: prepared.memory_bytes_max,
    });
    for listener in std::mem::take(&mut prepared.listeners.http) {
        tokio::spawn(serve_http(listener, Arc::clone(&status)));
    }
    if !prepared.directory.direct_io {
        let text = "this file system has no O_DIRECT: writes pass the page cache; every \
                    acknowledged record is flushed all the same";
        report::log(Level::Warn, "boot", text, &[]);
    }
    let banner = Banner::new(&prepared, &catalog);
    let doors = Arc::new(plan::door_config(&prepared.config, &catalog));
    let seeds = plan::seeds(&mut prepared, &catalog, &doors, ends, &counters);
    let threads = shard_threads::start(seeds, &prepared.placement.shards)?;
    pin_control(&prepared.placement);
    let reload = Reload::new(load, prepared.config, doors);
    let hub = Hub::new(control, prepared.metadata, poisoned)
        .map_err(|cause| Refusal::failed("metadata", &cause))?;
    let start = Start { logs, counters };
    let checkpoints = BTreeMap::new();
    let broker = Broker { hub, threads, phase, shards, start, checkpoints, stopped: 0, reload };
    Ok((Box::new(broker), banner))
}

/// HTTP that fails is told, and stops nobody from producing.
async fn serve_http(listener: std::net::TcpListener, status: Arc<Status>) {
    if let Err(cause) = http::serve(listener, status).await {
        report::log(Level::Error, "http", &format!("stopped: {cause}"), &[]);
    }
}

/// The control plane's core is nobody else's, where there is one.
fn pin_control(placement: &Placement) {
    if !placement.shards.contains(&placement.control) {
        placement::pin(placement.control);
    }
}

fn write_clean_marker(
    directory: &DataDirectory,
    generations: &[(u32, u64)],
) -> Result<ExitCode, Refusal> {
    let mut io = IoOut::default();
    io.requests.push(IoRequest::WriteSmall {
        id: IoId(0),
        file: SmallFile::CleanMarker,
        body: clean_marker(generations),
    });
    let mut disk = BlockingDisk::new(directory.path.clone());
    let answers = disk.run(&mut io, &mut Blocks::new(Vec::new(), 0));
    let written = answers.iter().all(|done| done.result.is_ok());
    if written {
        report::log(Level::Info, "boot", "stopped, everything is on disk", &[]);
        return Ok(ExitCode::SUCCESS);
    }
    let text = "the clean marker could not be written: the next start scans the logs".to_owned();
    Err(Refusal { code: FAILED, text })
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Stop,
    Reload,
}

/// SIGTERM and SIGINT stop, SIGHUP reads the configuration again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Received and let go: by default it kills a process whose file meets a size limit, which is a
    /// refusal like a full disk (EFBIG, P16).
    _file_size: Signal,
}

/// SIGXFSZ on Linux.
const FILE_SIZE: i32 = 25;

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let _file_size = signal(SignalKind::from_raw(FILE_SIZE))?;
        Ok(Signals { terminate, interrupt, hangup, _file_size })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Until told to stop; nothing is in a state to be changed meanwhile.
    async fn stop(&mut self) {
        while self.next().await == Told::Reload {}
    }
}

/// What a start has to do, and where to see how far it has come.
struct Start {
    logs: u64,
    counters: Vec<Arc<ShardCounters>>,
}

impl Start {
    /// A line for who waits.
    fn tell(&self) {
        let Recovering { logs_done, bytes_read } = http::recovering(&self.counters);
        let fields = [
            ("recovered", logs_done.into()),
            ("logs", self.logs.into()),
            ("bytes", bytes_read.into()),
        ];
        report::log(Level::Info, "boot", "still recovering", &fields);
    }
}

/// The running shards, and where each stands.
struct Broker {
    hub: Hub,
    threads: ShardThreads,
    phase: watch::Sender<Phase>,
    shards: u32,
    start: Start,
    checkpoints: BTreeMap<u32, u64>,
    stopped: u32,
    reload: Reload,
}

impl Broker {
    /// All logs recovered on every shard, then all doors open.
    async fn open(&mut self) -> Result<Recovered, Refusal> {
        let mut sum = Recovered::default();
        let mut recovered = 0;
        let mut patience = tokio::time::interval(PROGRESS_INTERVAL);
        patience.tick().await;
        while recovered < self.shards {
            let event = tokio::select! {
                event = self.next() => event?,
                _ = patience.tick() => {
                    self.start.tell();
                    continue;
                }
            };
            if let Event::Recovered(found) = event {
                recovered += 1;
                sum.logs += found.logs;
                sum.dropped_batches += found.dropped_batches;
                sum.quarantined += found.quarantined;
                sum.scanned_bytes += found.scanned_bytes;
                let (shards, logs) = (self.shards, self.start.logs);
                self.phase.send_replace(Phase::Starting { recovered, shards, logs });
            }
        }
        self.hub.tell_all(|| ToShard::PeersRecovered);
        self.hub.tell_all(|| ToShard::OpenDoors);
        let mut open = 0;
        while open < self.shards {
            if let Event::DoorsOpen = self.next().await? {
                open += 1;
            }
        }
        self.phase.send_replace(Phase::Ready);
        Ok(sum)
    }

    /// Serves until a shard ends that nobody told to.
    async fn fails(&mut self) -> Refusal {
        loop {
            if let Err(refusal) = self.next().await {
                return refusal;
            }
        }
    }

    /// Takes what may change while serving from the configuration as it is now.
    fn reload(&mut self) {
        if let Some(doors) = self.reload.read() {
            self.hub.tell_all(|| ToShard::Doors(Arc::clone(&doors)));
        }
    }

    /// The mirror image: not ready, doors closed, everything flushed, the last checkpoints durable, all
    /// threads gone.
    async fn stop(&mut self) -> Result<Vec<(u32, u64)>, Refusal> {
        self.phase.send_replace(Phase::Stopping);
        self.hub.tell_all(|| ToShard::Stop);
        while self.stopped < self.shards {
            match self.next().await? {
                Event::Checkpointed(shard, generation) => {
                    self.checkpoints.insert(shard, generation);
                }
                Event::Stopped => self.stopped += 1,
                Event::Recovered(_) | Event::DoorsOpen | Event::Failed(..) => {}
            }
        }
        self.threads.join().await?;
        Ok(self.checkpoints.iter().map(|(shard, generation)| (*shard, *generation)).collect())
    }

    /// The next event; a shard that failed or ended unasked is an error.
    async fn next(&mut self) -> Result<Event, Refusal> {
        let event = loop {
            tokio::select! {
                event = self.hub.next() => break event,
                ended = self.threads.ended() => {
                    // A stopped shard may be gone before its last words were read.
                    if ended.refusal.is_some() || *self.phase.borrow() != Phase::Stopping {
                        return Err(lost(ended));
                    }
                }
            }
        };
        match event {
            // Its thread ends next and knows the exit code.
            Event::Failed(shard, cause) => match self.threads.ended().await {
                Ended { refusal: Some(refusal), .. } => Err(refusal),
                Ended { refusal: None, .. } => {
                    Err(Refusal::failed(&format!("shard {shard}"), &cause))
                }
            },
            event => Ok(event),
        }
    }

    fn hung(&self, limit: Duration) -> Refusal {
        let limit = config::units::show_duration(limit);
        let missing: Vec<u32> =
            (0..self.shards).filter(|shard| !self.checkpoints.contains_key(shard)).collect();
        let text = format!(
            "the stop took more than limits.shutdown_timeout = {limit}: {} of {} shards have \
             stopped, no last checkpoint from {missing:?}",
            self.stopped, self.shards
        );
        Refusal { code: FAILED, text }
    }
}

fn lost(ended: Ended) -> Refusal {
    let what = format!("shard {}", ended.shard);
    ended.refusal.unwrap_or_else(|| Refusal::failed(&what, &"ended although nobody stopped it"))
}
