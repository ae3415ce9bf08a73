//! One run: threads, their connections, and the phases all of them keep.

use crate::args::{CpuList, Dialect, Mode, Rate, RunArgs};
use crate::clock::{Clock, Phases, nanos};
use crate::conn;
use crate::consumer::{Consumer, ConsumerOptions, Until};
use crate::cpu::CpuTimes;
use crate::door::kafka::{KafkaConsume, KafkaProduce};
use crate::door::native::{NativeConsume, NativeProduce};
use crate::door::redis::{RedisConsume, RedisProduce};
use crate::door::{ConsumeDoor, ProduceDoor};
use crate::history::{History, HistoryFile};
use crate::ledger::Lane;
use crate::plan::{self, Link};
use crate::producer::{Producer, ProducerOptions, Schedule};
use crate::setup::{Layout, prepare};
use crate::shared::Shared;
use crate::stats::Stats;
use crate::template::BatchTemplate;
use anyhow::{Context, anyhow, bail};
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Between setup and the first record, for threads and connections to come up.
const COME_UP: Duration = Duration::from_millis(200);
/// Each further connection gets so much of it.
const COME_UP_EACH: Duration = Duration::from_micros(300);
/// The CPU is read so long before the end, while every thread still works.
const CPU_BEFORE_END_NS: u64 = 5_000_000;
/// Between two attempts to dial again.
const DIAL_AGAIN: Duration = Duration::from_millis(20);
/// glommio's buffers for files, which this program does not read that way.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// What a run gave.
pub(crate) struct Outcome {
    /// Counts of all threads.
    pub(crate) stats: Stats,
    /// Cores used while measuring, by all threads and by the busiest.
    pub(crate) cpu: (f64, f64),
    /// Cores the threads ran on.
    pub(crate) cpus: Vec<usize>,
    /// Partitions of the topic.
    pub(crate) partitions: usize,
}

/// Everything a thread needs.
struct Job {
    args: Arc<RunArgs>,
    layout: Arc<Layout>,
    clock: Clock,
    phases: Phases,
    run: u32,
    history: Option<HistoryFile>,
    shared: Arc<Shared>,
    producers: Vec<(u32, Link, Schedule)>,
    consumers: Vec<Link>,
}

/// Runs the load.
///
/// # Errors
/// The server cannot be reached (`setup::Unreachable`), refuses, or a connection breaks.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<Outcome> {
    let cpus = cpus(args.cpus.as_ref())?;
    let layout = Arc::new(prepare(&args)?);
    let marks = args.mark.as_deref();
    let history = args.history.as_deref().map(|path| HistoryFile::create(path, marks));
    let history = history.transpose()?;
    let producers = match args.mode {
        Mode::Consume => Vec::new(),
        Mode::Produce | Mode::E2e => plan::links(&layout.places, args.connections, true),
    };
    let consumers = match args.mode {
        Mode::Produce => Vec::new(),
        Mode::Consume | Mode::E2e => plan::links(&layout.places, args.connections, false),
    };
    let clock = Clock::start();
    let phases = phases(&args, producers.len() + consumers.len());
    let shared = Arc::new(Shared::new(producers.len(), layout.places.len()));
    let args = Arc::new(args);
    let job = |at: usize| Job {
        args: Arc::clone(&args),
        layout: Arc::clone(&layout),
        clock,
        phases,
        // Tells this run's records from others' in the same topic.
        run: u32::try_from(clock.unix_ms(0) & 0x7fff_ffff).unwrap_or(1),
        history: history.clone(),
        shared: Arc::clone(&shared),
        producers: of_thread(at, cpus.len(), &producers)
            .map(|(index, link)| {
                let schedule = schedule(&args, phases, index, producers.len());
                (u32::try_from(index).unwrap_or(u32::MAX), link.clone(), schedule)
            })
            .collect(),
        // From the other end, so that two cores share one producer and one consumer.
        consumers: of_thread(cpus.len() - 1 - at, cpus.len(), &consumers)
            .map(|(_, link)| link.clone())
            .collect(),
    };
    let (done, results) = sync_channel(cpus.len());
    let mut threads = Vec::new();
    for (at, &cpu) in cpus.iter().enumerate() {
        let (job, done) = (job(at), done.clone());
        let thread = std::thread::Builder::new().name(format!("loadgen-{cpu}"));
        threads.push(thread.spawn(move || thread_main(cpu, job, &done))?);
    }
    drop(done);
    let (mut stats, mut results_left) = (Stats::new()?, cpus.len());
    let mut cpu_at = CpuMeter::new(clock, phases);
    while results_left > 0 {
        match results.recv_timeout(cpu_at.wait()) {
            Ok(result) => {
                cpu_at.finish(phases);
                stats.merge(result?)?;
                results_left -= 1;
            }
            Err(RecvTimeoutError::Timeout) => cpu_at.sample(),
            Err(RecvTimeoutError::Disconnected) => bail!("a thread of the generator is gone"),
        }
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))?;
    }
    match args.mode {
        Mode::Produce => {}
        Mode::Consume => stats.ledger.settle_holes(),
        Mode::E2e => {
            let acked = std::mem::take(&mut stats.acked_seqs);
            stats.ledger.settle(&acked);
        }
    }
    Ok(Outcome { stats, cpu: cpu_at.cores(), cpus, partitions: layout.places.len() })
}

/// Reads the CPU when measuring begins and ends.
struct CpuMeter {
    clock: Clock,
    wanted: Vec<u64>,
    samples: Vec<(u64, CpuTimes)>,
}

impl CpuMeter {
    fn new(clock: Clock, phases: Phases) -> CpuMeter {
        let end_ns = phases.end_ns.saturating_sub(CPU_BEFORE_END_NS);
        CpuMeter { clock, wanted: vec![end_ns, phases.measure_ns], samples: Vec::new() }
    }

    fn wait(&self) -> Duration {
        let at_ns = self.wanted.last().copied().unwrap_or(u64::MAX);
        // A year: recv_timeout must not overflow the clock.
        let ns = at_ns.saturating_sub(self.clock.now_ns()).min(31_536_000_000_000_000);
        Duration::from_nanos(ns)
    }

    fn sample(&mut self) {
        if self.wanted.pop().is_some() {
            self.samples.push((self.clock.now_ns(), CpuTimes::now()));
        }
    }

    /// A thread has ended: a run without a fixed end ends here.
    fn finish(&mut self, phases: Phases) {
        if phases.end_ns == u64::MAX && self.samples.len() == 1 {
            self.sample();
        }
    }

    fn cores(&self) -> (f64, f64) {
        match &self.samples[..] {
            [(from_ns, before), (to_ns, after)] => {
                let elapsed = Duration::from_nanos(to_ns - from_ns);
                after.cores_since(before, elapsed)
            }
            _ => (0.0, 0.0),
        }
    }
}

fn of_thread<T>(at: usize, threads: usize, all: &[T]) -> impl Iterator<Item = (usize, &T)> {
    all.iter().enumerate().skip(at).step_by(threads)
}

fn cpus(asked: Option<&CpuList>) -> anyhow::Result<Vec<usize>> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    let Some(CpuList(asked)) = asked else {
        return Ok(vec![*allowed.last().context("this process has no allowed core")?]);
    };
    if let Some(cpu) = asked.iter().find(|cpu| !allowed.contains(cpu)) {
        bail!("--cpus: core {cpu} is not among the allowed ones {allowed:?}");
    }
    Ok(asked.clone())
}

fn phases(args: &RunArgs, connections: usize) -> Phases {
    let more = u32::try_from(connections).unwrap_or(u32::MAX);
    let begin_ns = nanos(COME_UP + COME_UP_EACH.saturating_mul(more));
    let drain_ns = nanos(args.drain);
    if args.mode == Mode::Consume {
        return Phases { begin_ns: 0, measure_ns: 0, end_ns: u64::MAX, drain_ns };
    }
    let measure_ns = begin_ns + nanos(args.warmup);
    Phases { begin_ns, measure_ns, end_ns: measure_ns + nanos(args.duration), drain_ns }
}

/// The schedule of producer `index` of `count`; they take turns.
fn schedule(args: &RunArgs, phases: Phases, index: usize, count: usize) -> Schedule {
    match args.rate {
        Rate::Max => Schedule::Max,
        Rate::PerSecond(rate) => {
            let all_ns = 1e9 * args.batch as f64 / rate;
            let next_ns = phases.begin_ns as f64 + all_ns * index as f64;
            Schedule::Every { period_ns: all_ns * count as f64, next_ns }
        }
    }
}

fn thread_main(cpu: usize, job: Job, done: &SyncSender<anyhow::Result<Stats>>) {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    let result = if pinned {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .name(&format!("loadgen-{cpu}"))
            .io_memory(IO_MEMORY_BYTES)
            .make();
        match executor {
            Ok(executor) => executor.run(serve(job)),
            Err(error) => Err(anyhow!("no executor on core {cpu}: {error}")),
        }
    } else {
        Err(anyhow!("cannot pin a thread to core {cpu}"))
    };
    // The receiver lives until every thread has sent; if it is gone, so is the run.
    drop(done.send(result));
}

/// All connections of one thread.
async fn serve(job: Job) -> anyhow::Result<Stats> {
    let job = Rc::new(job);
    let stats = Rc::new(RefCell::new(Stats::new()?));
    let mut tasks = Vec::new();
    for (number, link, schedule) in &job.producers {
        let producer = Box::new(producer(&job, *number, link, *schedule, &stats));
        let (job, address) = (Rc::clone(&job), link.address);
        tasks.push(glommio::spawn_local(serve_producer(job, address, producer)));
    }
    for link in &job.consumers {
        let consumer = Box::new(consumer(&job, link, &stats));
        let (job, address) = (Rc::clone(&job), link.address);
        tasks.push(glommio::spawn_local(serve_consumer(job, address, consumer)));
    }
    let mut result = Ok(());
    for task in tasks {
        let ended = task.await;
        if result.is_ok() {
            result = ended;
        }
    }
    result?;
    let stats = Rc::try_unwrap(stats).map_err(|_| anyhow!("a connection outlived its run"))?;
    Ok(stats.into_inner())
}

async fn serve_producer(
    job: Rc<Job>,
    address: SocketAddr,
    mut producer: Box<Producer>,
) -> anyhow::Result<()> {
    let result = loop {
        let ended = conn::drive(address, job.clock, &mut *producer).await;
        let Err(error) = ended else { break Ok(()) };
        if !may_dial_again(&job) {
            break Err(error);
        }
        producer.dialled_again(produce_door(&job), &format!("{error:#}"));
        Timer::new(DIAL_AGAIN).await;
    };
    producer.finish()?;
    result
}

async fn serve_consumer(
    job: Rc<Job>,
    address: SocketAddr,
    mut consumer: Box<Consumer>,
) -> anyhow::Result<()> {
    let result = loop {
        let ended = conn::drive(address, job.clock, &mut *consumer).await;
        let Err(error) = ended else { break Ok(()) };
        if !may_dial_again(&job) {
            break Err(error);
        }
        consumer.dialled_again(consume_door(&job), &format!("{error:#}"));
        Timer::new(DIAL_AGAIN).await;
    };
    consumer.finish()?;
    result
}

fn may_dial_again(job: &Job) -> bool {
    let until_ns = job.phases.end_ns.saturating_add(job.phases.drain_ns);
    job.args.reconnect && job.clock.now_ns() < until_ns
}

fn produce_door(job: &Job) -> ProduceDoor {
    let template = BatchTemplate::new(job.args.batch, job.args.size);
    let topic = &job.args.topic;
    match job.args.target.dialect {
        Dialect::Kafka => ProduceDoor::Kafka(KafkaProduce::new(topic, template)),
        Dialect::Native => ProduceDoor::Native(NativeProduce::new(job.layout.topic_id, template)),
        Dialect::Redis => ProduceDoor::Redis(RedisProduce::new(topic, template)),
    }
}

fn consume_door(job: &Job) -> ConsumeDoor {
    let (topic, fetch_bytes) = (&job.args.topic, job.args.fetch_bytes);
    match job.args.target.dialect {
        Dialect::Kafka => ConsumeDoor::Kafka(KafkaConsume::new(topic, fetch_bytes)),
        Dialect::Native => {
            ConsumeDoor::Native(NativeConsume::new(job.layout.topic_id, fetch_bytes))
        }
        Dialect::Redis => ConsumeDoor::Redis(RedisConsume::new(topic, fetch_bytes, job.args.size)),
    }
}

fn producer(
    job: &Job,
    number: u32,
    link: &Link,
    schedule: Schedule,
    stats: &Rc<RefCell<Stats>>,
) -> Producer {
    let lane = |&index: &usize| Lane {
        run: job.run,
        producer: number,
        partition: job.layout.places[index].from.partition,
    };
    let options = ProducerOptions {
        clock: job.clock,
        phases: job.phases,
        schedule,
        in_flight_max: job.args.in_flight,
        batch: u64::try_from(job.args.batch).unwrap_or(u64::MAX),
        lanes: link.partitions.iter().map(lane).collect(),
        history: History::new(job.history.clone(), &job.args.topic),
        shared: Arc::clone(&job.shared),
        stats: Rc::clone(stats),
    };
    Producer::new(produce_door(job), options)
}

fn consumer(job: &Job, link: &Link, stats: &Rc<RefCell<Stats>>) -> Consumer {
    let places = || link.partitions.iter().map(|&index| &job.layout.places[index]);
    let positions = places().map(|place| place.from.clone()).collect();
    let until = if job.args.mode == Mode::Consume {
        Until::End(places().map(|place| (place.end_offset, place.end_id.clone())).collect())
    } else {
        Until::ProducersDone
    };
    let options = ConsumerOptions {
        clock: job.clock,
        phases: job.phases,
        run: job.run,
        any_run: job.args.mode == Mode::Consume,
        history: History::new(job.history.clone(), &job.args.topic),
        shared: Arc::clone(&job.shared),
        stats: Rc::clone(stats),
    };
    Consumer::new(consume_door(job), positions, until, options)
}
