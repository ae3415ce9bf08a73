//! The server's side of a world: real shards, sessions and blocks over the simulated disk and network.
//! Owner: the world; a shadow run of a recovery has one of its own.
//! Invariant: everything random comes from the node's generator, everything timed from its queue.
//! Not here: clients (`client.rs`), what must hold (`checker.rs`).

mod effects;

use crate::clock::{Clock, US};
use crate::control::Control;
use crate::disk::Disk;
use crate::network::{Delivery, Network, Way, Weather};
use crate::process::{Phase, Pool, Process, Settings};
use crate::queue::{Asker, Event, Queue};
use crate::rng::{Rng, hash_bytes};
use crate::room::{ReadBack, Took};
use crate::trace::Trace;
use crate::watch::Watch;
use ringway_doors::session::DoorOut;
use ringway_log::directory::{DirectoryProgress, DirectoryStart};
use ringway_log::io::IoOut;
use ringway_partition::request::{Input, Notice, Out, RequestId};
use std::sync::Arc;

/// Events within a millisecond that no sound server needs: it goes round in circles.
const BURST_MAX: u32 = 100_000;

/// The connection number of the checker's own requests.
pub const READER: u32 = 0x7FFF_FFFF;

/// What concerns the world outside the node.
#[derive(Debug)]
pub enum Happening {
    /// A client asked to be woken now.
    Client(usize),
    /// Bytes reached a client.
    Bytes(u32, Vec<u8>),
    /// The server closed a client's connection.
    Closed(u32),
    /// Answer to one of the checker's own requests.
    Read(u32, ReadBack),
    /// A shard tells something.
    Notice(Notice),
    /// Every log is recovered; connections are accepted.
    Serving,
    /// A clean stop has ended.
    Stopped,
    /// The start came to nothing.
    Refused(String),
    /// The fuse has burnt down: whatever was going on is to be cut off here.
    Fuse,
    /// Something that only the node minds.
    Nothing,
}

/// The server's side.
pub struct Node {
    /// Virtual time.
    pub clock: Clock,
    /// The disk.
    pub disk: Disk,
    /// Durable metadata.
    pub control: Control,
    /// Connections.
    pub network: Network,
    /// The living process.
    pub process: Option<Process>,
    /// What happened, hashed and told.
    pub trace: Trace,
    /// What failed logs do.
    pub watch: Watch,
    /// Batches without records that led reads of whole logs over damage at their end.
    pub stepped_over: u64,
    queue: Queue,
    rng: Rng,
    pool: Pool,
    news: Vec<Happening>,
    spare_out: Vec<Out>,
    spare_door: Vec<DoorOut>,
    slow_disk_percent: u64,
    fuse: Option<u64>,
    /// When the newest burst of events began, and how many came since.
    burst: (u64, u32),
}

impl Node {
    /// No process yet.
    #[must_use]
    pub fn new(
        disk: Disk,
        control: Control,
        clock: Clock,
        weather: Weather,
        mut rng: Rng,
        pool: Pool,
    ) -> Node {
        let slow_disk_percent = rng.pick(&[0, 2, 20]);
        Node {
            clock,
            disk,
            control,
            network: Network::new(weather),
            process: None,
            trace: Trace::default(),
            watch: Watch::default(),
            stepped_over: 0,
            queue: Queue::default(),
            rng,
            pool,
            news: Vec::new(),
            spare_out: Vec::new(),
            spare_door: Vec::new(),
            slow_disk_percent,
            fuse: None,
            burst: (0, 0),
        }
    }

    /// Gives the block memory back.
    #[must_use]
    pub fn into_parts(mut self) -> (Pool, Trace) {
        self.end_process();
        (self.pool, self.trace)
    }

    /// Lends the block memory while no process lives.
    pub fn lend_pool(&mut self) -> Pool {
        std::mem::take(&mut self.pool)
    }

    /// Takes it back.
    pub fn return_pool(&mut self, pool: Pool) {
        self.pool = pool;
    }

    /// Starts a process: the directory first, then its shards.
    pub fn start(&mut self, settings: Settings) {
        self.trace.mark(self.clock.mono_ns(), 1, u64::from(settings.shards));
        let catalog = self.control.catalog(settings.shards, settings.advertise_shards);
        let mut io = IoOut::default();
        let (uuid, secret) = ([7; 16], u32::try_from(self.rng.bits() >> 32).unwrap_or(1));
        let start = DirectoryStart::new(uuid, secret, settings.block, &mut io);
        self.process = Some(Process::new(settings, start, Arc::new(catalog)));
        self.submit(Asker::Boot, &mut io);
    }

    /// The power goes (or the process dies); returns the connections that are no more.
    pub fn fail(&mut self, cut: bool) -> Vec<(u32, usize)> {
        self.trace.mark(self.clock.mono_ns(), 2, u64::from(cut));
        self.queue.clear();
        self.news.clear();
        self.end_process();
        let mut rng = self.rng.fork();
        if cut {
            self.disk.cut(&mut rng);
        } else {
            self.disk.crash(&mut rng);
        }
        self.network.drop_all()
    }

    /// The process ended by itself after a clean stop.
    pub fn leave(&mut self) -> Vec<(u32, usize)> {
        self.queue.clear();
        self.news.clear();
        self.end_process();
        // What nobody waited for may still land before the next process has the lock (C9).
        let mut rng = self.rng.fork();
        self.disk.crash(&mut rng);
        self.network.drop_all()
    }

    /// Asks every shard to stop cleanly.
    pub fn stop(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.phase = Phase::Stopping;
        for shard in 0..process.shards() {
            self.input(shard, Input::Stop);
        }
    }

    fn end_process(&mut self) {
        self.watch.forget();
        if let Some(process) = self.process.take() {
            process.give_back(&mut self.pool);
        }
    }

    /// Sets a fuse of so many events, or none.
    pub fn set_fuse(&mut self, events: Option<u64>) {
        self.fuse = events;
    }

    /// Wakes a client after `after_ns`.
    pub fn wake_client(&mut self, client: usize, after_ns: u64) {
        self.queue.plan(self.clock.mono_ns() + after_ns, Event::Client(client));
    }

    /// A client connects to `shard`.
    pub fn connect(&mut self, client: usize, shard: u32) -> u32 {
        let connection = self.network.connect(client, shard);
        let now = self.clock.now();
        if let Some(process) = &mut self.process {
            process.rooms[shard as usize].accept(now, connection);
        }
        connection
    }

    /// A client sends whole requests.
    pub fn client_send(&mut self, connection: u32, bytes: &[u8]) {
        self.trace.requests(self.clock.mono_ns(), connection, bytes);
        if self.network.send(connection, Way::Up, bytes) {
            self.plan_delivery(connection, Way::Up);
        }
    }

    /// A client closes, losing any part of what is still on its way down.
    pub fn client_close(&mut self, connection: u32) {
        self.network.tear(connection, &mut self.rng);
        if self.network.end(connection, Way::Up) {
            self.plan_delivery(connection, Way::Up);
        }
    }

    /// Asks a shard directly, for the checker.
    pub fn ask(&mut self, shard: u32, number: u32, request: ringway_partition::request::Request) {
        let id = RequestId { connection: READER, request: number };
        self.input(shard, Input::Request(id, request));
    }

    /// The next thing of concern outside, or `None` when `until_ns` comes first or nothing is left.
    pub fn next(&mut self, until_ns: u64) -> Option<Happening> {
        loop {
            if !self.news.is_empty() {
                return Some(self.news.remove(0));
            }
            if self.queue.next_at()? > until_ns {
                return None;
            }
            if let Some(left) = &mut self.fuse {
                if *left == 0 {
                    self.fuse = None;
                    return Some(Happening::Fuse);
                }
                *left -= 1;
            }
            let (at, event) = self.queue.pop()?;
            self.clock.advance(at);
            self.watch.at(at);
            self.count(at, &event);
            match self.happen(event) {
                Happening::Nothing => {}
                happening => return Some(happening),
            }
        }
    }

    /// Time must get on, or a processor would burn.
    fn count(&mut self, at: u64, event: &Event) {
        if at > self.burst.0 + 1_000 * US {
            self.burst = (at, 0);
        }
        self.burst.1 += 1;
        assert!(self.burst.1 < BURST_MAX, "SPIN: {BURST_MAX} events within 1 ms, now {event:?}");
    }

    fn happen(&mut self, event: Event) -> Happening {
        let now = self.clock.mono_ns();
        match event {
            Event::Disk(asker, op) => {
                self.trace.mark(now, 3, op);
                self.disk_done(asker, op);
            }
            Event::Up(connection) => {
                self.trace.mark(now, 4, u64::from(connection));
                self.up(connection);
            }
            Event::Down(connection) => return self.down(connection),
            Event::TurnEnd(shard) => {
                if let Some(process) = &mut self.process {
                    process.rooms[shard as usize].turn_planned = false;
                }
                self.step(shard, Input::Tick);
            }
            Event::Wake(shard) => {
                if let Some(process) = &mut self.process {
                    process.rooms[shard as usize].wake_at_ns = None;
                }
                self.step(shard, Input::Tick);
            }
            Event::Mesh(from, to, message) => {
                self.trace.mark(now, 5, u64::from(from) << 8 | u64::from(to));
                self.input(to, Input::Mesh(from, message));
            }
            Event::Meta(shard, id, answer) => self.input(shard, Input::Meta(id, answer)),
            Event::Catalog(shard, catalog) => {
                if let Some(process) = &mut self.process {
                    process.rooms[shard as usize].door.catalog = Arc::clone(&catalog);
                }
                self.input(shard, Input::Catalog(catalog));
            }
            Event::Job(shard, number, result) => self.input(shard, Input::Job(number, result)),
            Event::Client(client) => {
                self.trace.mark(now, 6, client as u64);
                return Happening::Client(client);
            }
        }
        Happening::Nothing
    }

    fn disk_done(&mut self, asker: Asker, op: u64) {
        let Some(process) = &mut self.process else { return };
        match asker {
            Asker::Boot => {
                let Some((done, _)) = self.disk.complete(op, None) else { return };
                let mut io = IoOut::default();
                let progress = match &mut process.start {
                    Some(start) => start.on_io(done, &mut io),
                    None => {
                        process.marker_written = true;
                        self.news.push(Happening::Stopped);
                        return;
                    }
                };
                self.submit(Asker::Boot, &mut io);
                match progress {
                    DirectoryProgress::Working => {}
                    DirectoryProgress::Ready(facts) => self.start_shards(Arc::new(facts)),
                    DirectoryProgress::Refused(text) => self.news.push(Happening::Refused(text)),
                }
            }
            Asker::Shard(shard) => {
                let blocks =
                    &mut process.rooms.get_mut(shard as usize).map(|room| &mut room.blocks);
                let done = self.disk.complete(op, blocks.as_deref_mut());
                let Some((done, failed)) = done else { return };
                if let Some((key, failure)) = failed {
                    self.trace.tell(|| format!("{key} is failed by its device: {failure:?}"));
                    self.watch.fails(self.clock.mono_ns(), Some(shard), key, failure);
                }
                self.input(shard, Input::Io(done));
            }
        }
    }

    fn start_shards(&mut self, facts: Arc<ringway_log::directory::DirectoryFacts>) {
        let now = self.clock.now();
        let Some(process) = &mut self.process else { return };
        process.start = None;
        process.make_rooms(&mut self.pool);
        for shard in 0..process.settings.shards {
            let mut out = self.spare_out.pop().unwrap_or_default();
            if let Some(process) = &mut self.process {
                process.start_shard(shard, Arc::clone(&facts), now, &mut out);
            }
            self.effects(shard, out);
            self.plan_turn_end(shard);
        }
    }

    fn up(&mut self, connection: u32) {
        let Some(shard) = self.network.shard_of(connection) else { return };
        let Some(process) = &mut self.process else { return };
        let Some(room) = process.rooms.get_mut(shard as usize) else { return };
        let bytes_max = match room.room_for(connection) {
            Took::Bytes(count) => count,
            Took::Paused => {
                // Looked at again soon: a reply or a freed block may have come.
                self.queue.plan(self.clock.mono_ns() + 100 * US, Event::Up(connection));
                return;
            }
            Took::Gone => return self.network.remove(connection),
        };
        let mut out = self.spare_door.pop().unwrap_or_default();
        match self.network.deliver(connection, Way::Up, bytes_max) {
            Delivery::Bytes(bytes) => {
                let now = self.clock.now();
                self.trace.mix(hash_bytes(2, &bytes));
                if let Some(process) = &mut self.process {
                    process.rooms[shard as usize].receive(now, connection, &bytes, &mut out);
                }
            }
            Delivery::End => {
                self.watch.gone(connection);
                if let Some(process) = &mut self.process {
                    process.rooms[shard as usize].hang_up(connection, &mut out);
                }
                self.network.remove(connection);
            }
            Delivery::Gone => {}
        }
        self.door_effects(shard, connection, out);
        if self.network.wants_more(connection, Way::Up) {
            self.plan_delivery(connection, Way::Up);
        }
    }

    fn down(&mut self, connection: u32) -> Happening {
        let delivery = self.network.deliver(connection, Way::Down, usize::MAX);
        if self.network.wants_more(connection, Way::Down) {
            self.plan_delivery(connection, Way::Down);
        }
        match delivery {
            Delivery::Bytes(bytes) => {
                self.trace.mix(hash_bytes(3, &bytes));
                Happening::Bytes(connection, bytes)
            }
            Delivery::End => Happening::Closed(connection),
            Delivery::Gone => Happening::Nothing,
        }
    }

    fn plan_delivery(&mut self, connection: u32, way: Way) {
        let after = self.network.plan(connection, way, &mut self.rng);
        let event = match way {
            Way::Up => Event::Up(connection),
            Way::Down => Event::Down(connection),
        };
        self.queue.plan(self.clock.mono_ns() + after, event);
    }

    fn plan_turn_end(&mut self, shard: u32) {
        let Some(process) = &mut self.process else { return };
        let room = &mut process.rooms[shard as usize];
        if !room.turn_planned {
            room.turn_planned = true;
            let after = self.rng.pick(&[0, 2, 10, 40]) * US;
            self.queue.plan(self.clock.mono_ns() + after, Event::TurnEnd(shard));
        }
    }

    /// Something happens to a shard; its turn ends soon after.
    fn input(&mut self, shard: u32, input: Input) {
        self.step(shard, input);
        self.plan_turn_end(shard);
    }

    fn step(&mut self, shard: u32, input: Input) {
        let now = self.clock.now();
        let Some(process) = &mut self.process else { return };
        let Some(room) = process.rooms.get_mut(shard as usize) else { return };
        let mut out = self.spare_out.pop().unwrap_or_default();
        if let Some(logic) = &mut room.shard {
            logic.step(now, input, &mut room.blocks, &mut out);
        }
        self.effects(shard, out);
    }
}
