//! One shard's loop: reap the ring, step the logic, submit once per turn.
//! Owner: the executor that `boot.rs` starts for the shard.
//! Invariant: nothing here blocks but the ring itself; nothing is in flight when `run` returns.
//! Not here: what anything means.

use crate::counters::ShardCounters;
use crate::directory::DataDirectory;
use crate::disk::Disk;
use crate::engine::{Engine, Parts};
use crate::error::{RunError, StartError};
use crate::mesh::{FromShard, ShardEnds, ToShard};
use crate::net::{ListenerSeed, Net};
use crate::ring::{Ring, TaskRun, raise_file_limit};
use crate::{block_pool, clock, probe};
use ringway_doors::session::{Door, DoorConfig};
use ringway_log::blocks::Blocks;
use ringway_log::directory::DirectoryFacts;
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{Input, JobResult, Out};
use ringway_partition::shard::{Shard, ShardConfig};
use std::cell::Cell;
use std::io::Error;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bounds of one shard's runtime.
#[derive(Clone, Debug)]
pub struct RunLimits {
    /// All block memory of the shard, bytes (its share of `memory_bytes_max`).
    pub memory_bytes: usize,
    /// Connections at most.
    pub connections_max: usize,
    /// How long accepted work may take at a stop, ns.
    pub drain_timeout_ns: u64,
    /// How long the loop polls its ring before it sleeps, µs; 0 = not at all.
    pub busy_poll_us: u64,
}

/// Everything a shard is started with.
pub struct ShardSeed {
    /// Settings of the logic.
    pub shard: ShardConfig,
    /// Settings of the doors.
    pub doors: Arc<DoorConfig>,
    /// What is known of the data directory.
    pub facts: Arc<DirectoryFacts>,
    /// Metadata.
    pub catalog: Arc<Catalog>,
    /// Where the logs lie.
    pub directory: DataDirectory,
    /// Where to listen once told to open the doors.
    pub listeners: Vec<ListenerSeed>,
    /// Bounds.
    pub limits: RunLimits,
    /// Links to the other shards and the control plane.
    pub ends: ShardEnds,
    /// Written by this shard, read by anyone.
    pub counters: Arc<ShardCounters>,
}

/// Slots of the ring's table of files: the lock, open segments, and files that scripts open for a moment.
const FILES: u32 = 8192;
/// Shares of jobs beside the loop's 1,000.
const JOB_SHARES: usize = 100;
/// How long cancelled operations may take to end before the shard gives up waiting.
const CANCEL_NS: u64 = 5_000_000_000;

/// Where the shard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until the control plane says otherwise.
    Running,
    /// Nothing is read any more; what was accepted is finished.
    Draining { until_ns: u64 },
    /// The logic writes its last checkpoint.
    Stopping { until_ns: u64 },
    /// Connections are shut down, operations cancelled.
    Closing { until_ns: u64 },
}

/// Runs the shard until it was stopped; to be awaited on a glommio executor pinned to its core.
///
/// # Errors
/// When the ring or the memory cannot be had or the ring fails. [`crate::mesh::FromShard::Failed`] was
/// sent before.
pub async fn run(seed: ShardSeed) -> Result<(), RunError> {
    let drain_timeout_ns = seed.limits.drain_timeout_ns;
    let busy_poll = Duration::from_micros(seed.limits.busy_poll_us);
    let shard = seed.shard.shard;
    // After a failure the kernel may still write into memory of ours: then it is never given back.
    let mut engine: ManuallyDrop<Box<Engine>> = ManuallyDrop::new(start(seed)?);
    let fd = engine.ring.fd();
    engine.ends.mesh.bell().set_ring_fd(fd);
    let mut looping = ManuallyDrop::new(Loop::new(drain_timeout_ns, busy_poll));
    let looped = looping.run(&mut engine).await;
    engine.ends.mesh.bell().set_ring_fd(-1);
    let last = match &looped {
        Ok(()) => FromShard::Stopped,
        Err(error) => FromShard::Failed(format!("shard {shard}: {error}")),
    };
    engine.ends.control.send(last);
    if looped.is_ok() {
        drop((ManuallyDrop::into_inner(engine), ManuallyDrop::into_inner(looping)));
    }
    looped.map_err(|error| RunError::Ring { shard, cause: error.to_string() })
}

fn start(seed: ShardSeed) -> Result<Box<Engine>, RunError> {
    let ShardSeed { shard, doors, facts, catalog, directory, listeners, limits, ends, counters } =
        seed;
    let number = shard.shard;
    let mut ends = ends;
    let made = make(&limits, &directory, facts.block, listeners);
    let (ring, disk, net, mut blocks) = match made {
        Ok(made) => made,
        Err(error) => {
            let text = format!("shard {number}: {error}");
            ends.control.send(FromShard::Failed(text));
            return Err(error.into());
        }
    };
    let mut out = Out::default();
    let now = clock::now();
    let logic = Shard::start(shard, facts, Arc::clone(&catalog), now, &mut blocks, &mut out);
    let door = Door::new(doors, catalog, number);
    let shard = Box::new(logic);
    Ok(Engine::new(Parts { ring, disk, net, ends, blocks, shard, door, out, counters }))
}

fn make(
    limits: &RunLimits,
    directory: &DataDirectory,
    block: u32,
    listeners: Vec<ListenerSeed>,
) -> Result<(Ring, Disk, Net, Blocks), StartError> {
    let denied = |error: Error| probe::denied(&error);
    let blocks = block_pool::blocks(limits.memory_bytes)?;
    let files =
        raise_file_limit().map_or(FILES, |max| FILES.min(u32::try_from(max / 2).unwrap_or(FILES)));
    let ring = Ring::new(TaskRun::Deferred, files).map_err(denied)?;
    let disk = Disk::new(directory, block, files, &ring).map_err(denied)?;
    let net = Net::new(listeners, limits.connections_max, &ring, &blocks).map_err(denied)?;
    Ok((ring, disk, net, blocks))
}

/// The loop around the engine's turns.
struct Loop {
    phase: Phase,
    drain_timeout_ns: u64,
    busy_poll: Duration,
    jobs: Jobs,
    /// What the kernel reads the eventfd into; boxed: it must not move while the read is in flight.
    control_count: Box<u64>,
}

impl Loop {
    fn new(drain_timeout_ns: u64, busy_poll: Duration) -> Loop {
        let control_count = Box::new(0);
        Loop {
            phase: Phase::Running,
            drain_timeout_ns,
            busy_poll,
            jobs: Jobs::new(),
            control_count,
        }
    }

    async fn run(&mut self, engine: &mut Engine) -> std::io::Result<()> {
        self.arm_control(engine);
        loop {
            if engine.turn(self.phase != Phase::Running) && !self.closing() {
                self.arm_control(engine);
            }
            self.obey(engine);
            if self.proceed(engine)? {
                return Ok(());
            }
            self.jobs.start(engine);
            if self.jobs.live() {
                engine.ring.submit()?;
                // Sleeps nowhere: the job has this core meanwhile.
                glommio::executor().yield_task_queue_now().await;
                self.jobs.finish(engine);
            } else {
                self.wait(engine)?;
            }
        }
    }

    fn closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Submits and sleeps until something happens.
    fn wait(&self, engine: &mut Engine) -> std::io::Result<()> {
        if !engine.may_sleep() {
            return engine.ring.submit();
        }
        if !self.busy_poll.is_zero() && poll(engine, self.busy_poll)? {
            return Ok(());
        }
        engine.ends.mesh.bell().about_to_sleep();
        if engine.ends.mesh.has_incoming() {
            engine.ends.mesh.bell().awake();
            return engine.ring.submit();
        }
        let bound = self.phase.until_ns();
        let at = engine.wake_at_ns().into_iter().chain(bound).min();
        let timeout = at.map(|at| Duration::from_nanos(at.saturating_sub(clock::mono_ns())));
        let waited = match timeout {
            Some(Duration::ZERO) => engine.ring.submit(),
            timeout => engine.ring.submit_and_wait(timeout),
        };
        engine.ends.mesh.bell().awake();
        waited
    }

    /// Has the ring read the control plane's eventfd. Armed before the queues are looked at, so a word
    /// that comes in between completes it.
    fn arm_control(&mut self, engine: &mut Engine) {
        let Engine { ring, ends, .. } = engine;
        ring.read_event(ends.control.wake_fd(), &mut self.control_count);
    }

    fn obey(&mut self, engine: &mut Engine) {
        for order in std::mem::take(&mut engine.orders) {
            match order {
                ToShard::OpenDoors if self.phase == Phase::Running => {
                    engine.net.open();
                    engine.ends.control.send(FromShard::DoorsOpen);
                    // The accept goes out with the next turn.
                    engine.input(Input::Tick);
                }
                ToShard::Stop if self.phase == Phase::Running => {
                    engine.net.stop_reading(&mut engine.ring);
                    let until_ns = engine.now.mono_ns + self.drain_timeout_ns;
                    self.phase = Phase::Draining { until_ns };
                }
                _ => {}
            }
        }
    }

    /// Moves a stop on; whether it is complete.
    fn proceed(&mut self, engine: &mut Engine) -> std::io::Result<bool> {
        let now_ns = engine.now.mono_ns;
        match self.phase {
            Phase::Running => {}
            Phase::Draining { until_ns } => {
                // Every accepted batch is in a write by now: with none in flight all are durable.
                if !engine.disk.busy() || now_ns >= until_ns {
                    engine.input(Input::Stop);
                    self.phase = Phase::Stopping { until_ns: now_ns + self.drain_timeout_ns };
                }
            }
            Phase::Stopping { until_ns } => {
                if engine.stopped && (engine.net.all_sent() || now_ns >= until_ns) {
                    engine.net.end_all();
                    engine.ring.cancel_all();
                    // The turn that removes the connections comes next.
                    engine.input(Input::Tick);
                    self.phase = Phase::Closing { until_ns: now_ns + CANCEL_NS };
                }
            }
            Phase::Closing { until_ns } => {
                if engine.ring.in_flight() == 0 && engine.net.count() == 0 {
                    engine.publish_now();
                    return Ok(true);
                }
                if now_ns >= until_ns {
                    let left = engine.ring.in_flight();
                    return Err(Error::other(format!("{left} operations do not end")));
                }
            }
        }
        Ok(false)
    }
}

impl Phase {
    fn until_ns(self) -> Option<u64> {
        match self {
            Phase::Running => None,
            Phase::Draining { until_ns }
            | Phase::Stopping { until_ns }
            | Phase::Closing { until_ns } => Some(until_ns),
        }
    }
}

/// Looks at the ring for a while before sleeping; whether something came.
fn poll(engine: &mut Engine, limit: Duration) -> std::io::Result<bool> {
    let until = Instant::now() + limit;
    engine.ring.submit()?;
    loop {
        if engine.ring.wants_enter() {
            engine.ring.submit()?;
        }
        if engine.ring.has_completions() || engine.ends.mesh.has_incoming() {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::hint::spin_loop();
    }
}

/// Long work beside the loop: tasks of a queue with few shares.
struct Jobs {
    queue: Option<glommio::TaskQueueHandle>,
    live: Rc<Cell<usize>>,
    done: Rc<Cell<Vec<(u64, JobResult)>>>,
}

impl Jobs {
    fn new() -> Jobs {
        Jobs { queue: None, live: Rc::default(), done: Rc::default() }
    }

    fn live(&self) -> bool {
        self.live.get() > 0
    }

    fn start(&mut self, engine: &mut Engine) {
        for (number, job) in engine.jobs.drain(..) {
            let queue = *self.queue.get_or_insert_with(|| {
                glommio::executor().create_task_queue(
                    glommio::Shares::Static(JOB_SHARES),
                    glommio::Latency::NotImportant,
                    "jobs",
                )
            });
            self.live.set(self.live.get() + 1);
            let (live, done) = (Rc::clone(&self.live), Rc::clone(&self.done));
            let work = async move {
                let result = ringway_partition::job::run(&job);
                let mut all = done.take();
                all.push((number, result));
                done.set(all);
                live.set(live.get() - 1);
            };
            match glommio::spawn_local_into(work, queue) {
                Ok(task) => drop(task.detach()),
                // The queue lives as long as the executor.
                Err(error) => unreachable!("job queue: {error}"),
            }
        }
    }

    fn finish(&self, engine: &mut Engine) {
        for (number, result) in self.done.take() {
            engine.job_done(number, result);
        }
    }
}

#[cfg(test)]
mod tests;
