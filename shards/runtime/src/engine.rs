//! One shard's turn: what completed goes to sessions and logic, their effects to disk, net and mesh.
//! Owner: the shard loop.
//! Invariant: a turn is bounded; nothing here waits.
//! Not here: sleeping and order of start and stop (`shard_loop.rs`).

use crate::clock;
use crate::counters::{CounterValues, RingCounts, ShardCounters};
use crate::disk::Disk;
use crate::mesh::{FromShard, ShardEnds, ToShard};
use crate::net::{Arrived, Net};
use crate::ring::{Completion, Kind, Ring};
use ringway_doors::session::{Door, DoorOut};
use ringway_log::blocks::Blocks;
use ringway_log::io::Now;
use ringway_partition::request::{Fetched, Input, Job, JobResult, Notice, Out, Reply, RequestId};
use ringway_partition::shard::Shard;
use std::sync::Arc;

/// How often effects may bring about new inputs before the ring is looked at again.
const ROUNDS_MAX: usize = 8;
/// Mesh messages taken in per turn: the disk and the clients want their turn too.
const MESH_MAX: usize = 1024;

/// Everything of a running shard.
pub(crate) struct Engine {
    pub(crate) ring: Ring,
    pub(crate) disk: Disk,
    pub(crate) net: Net,
    pub(crate) ends: ShardEnds,
    pub(crate) blocks: Blocks,
    pub(crate) now: Now,
    /// Jobs the logic wants done beside the loop.
    pub(crate) jobs: Vec<(u64, Job)>,
    /// Words of the control plane that are about the loop itself.
    pub(crate) orders: Vec<ToShard>,
    /// The logic has written its last checkpoint.
    pub(crate) stopped: bool,
    shard: Box<Shard>,
    door: Door,
    out: Out,
    door_out: DoorOut,
    counters: Arc<ShardCounters>,
    counts: RingCounts,
    completions: Vec<Completion>,
    replies: Vec<(RequestId, Reply)>,
    wake_at_ns: Option<u64>,
    /// Something was stepped after the last tick.
    stepped: bool,
    published_ns: u64,
    unpublished: bool,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) ring: Ring,
    pub(crate) disk: Disk,
    pub(crate) net: Net,
    pub(crate) ends: ShardEnds,
    pub(crate) blocks: Blocks,
    pub(crate) shard: Box<Shard>,
    pub(crate) door: Door,
    /// With the effects of the logic's start.
    pub(crate) out: Out,
    pub(crate) counters: Arc<ShardCounters>,
}

impl Engine {
    /// Nothing has happened yet but the start of the logic.
    pub(crate) fn new(parts: Parts) -> Box<Engine> {
        let Parts { ring, disk, net, ends, blocks, shard, door, out, counters } = parts;
        Box::new(Engine {
            ring,
            disk,
            net,
            ends,
            blocks,
            now: clock::now(),
            jobs: Vec::new(),
            orders: Vec::new(),
            stopped: false,
            shard,
            door,
            out,
            door_out: DoorOut::default(),
            counters,
            counts: RingCounts::default(),
            completions: Vec::new(),
            replies: Vec::new(),
            wake_at_ns: None,
            stepped: true,
            published_ns: 0,
            unpublished: false,
        })
    }

    /// One turn: everything that has happened, then its effects. Returns whether the control plane's
    /// eventfd was read and wants to be armed again.
    pub(crate) fn turn(&mut self, hold: bool) -> bool {
        self.now = clock::now();
        let control = self.reap();
        self.take_mesh();
        self.take_control();
        self.expire();
        self.end_turn();
        let hold = hold || self.ends.mesh.congested();
        self.net.arm(&mut self.ring, &mut self.blocks, self.now.mono_ns, hold);
        if let Some(text) = self.net.next_complaint() {
            self.ends.control.send(FromShard::Notice(Notice::Warning(text)));
        }
        self.end_sessions();
        self.ends.mesh.retry();
        self.ends.control.retry();
        let Engine { ends, ring, .. } = self;
        ends.mesh.ring_sleepers(|fd| ring.wake(fd));
        self.publish();
        control
    }

    /// Whether the loop may sleep; else the next turn has work already.
    pub(crate) fn may_sleep(&mut self) -> bool {
        !self.stepped
            && self.orders.is_empty()
            && !self.disk.has_ready()
            && !self.ring.has_completions()
            && !self.ends.mesh.has_incoming()
    }

    /// When to wake though nothing completes.
    pub(crate) fn wake_at_ns(&self) -> Option<u64> {
        let net = self.net.wake_at_ns(self.now.mono_ns);
        let queues = self.ends.mesh.congested() || self.ends.control.waiting();
        let retry = queues.then_some(self.now.mono_ns + RETRY_NS);
        let publish = self.unpublished.then_some(self.published_ns + PUBLISH_NS);
        self.wake_at_ns.into_iter().chain(net).chain(retry).chain(publish).min()
    }

    /// Something happens to the logic.
    pub(crate) fn input(&mut self, input: Input) {
        self.stepped = true;
        self.shard.step(self.now, input, &mut self.blocks, &mut self.out);
    }

    /// A job has ended.
    pub(crate) fn job_done(&mut self, job: u64, result: JobResult) {
        self.input(Input::Job(job, result));
    }

    fn reap(&mut self) -> bool {
        let mut control = false;
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions);
        self.disk.look_over(&completions);
        for completion in completions.drain(..) {
            match completion.kind {
                Kind::Ignored | Kind::Woken => {}
                Kind::Control => control = true,
                Kind::Transfer => {
                    let (index, result) = (completion.index, completion.result);
                    let ns = self.now.mono_ns;
                    let done = self.disk.transferred(index, result, ns, &mut self.counts);
                    self.input(Input::Io(done));
                }
                Kind::Script => {
                    let (index, result) = (completion.index, completion.result);
                    if let Some(done) = self.disk.stepped(index, result, &mut self.ring) {
                        self.input(Input::Io(done));
                    }
                }
                Kind::Accept | Kind::Receive | Kind::Send => self.arrived(&completion),
            }
        }
        self.completions = completions;
        control
    }

    fn arrived(&mut self, completion: &Completion) {
        let Engine { net, door, blocks, door_out, now, counts, .. } = self;
        let slot = match net.completed(completion, *now, blocks, counts) {
            Arrived::Nothing => return,
            Arrived::Connection { slot } => slot,
            Arrived::Bytes { slot, data } => {
                let Some(session) = net.session(slot) else { return blocks.release(data) };
                session.receive(*now, data, door, blocks, door_out);
                slot
            }
            Arrived::Large { slot, bytes } => {
                let Some(session) = net.session(slot) else { return };
                session.landed(*now, bytes, door, blocks, door_out);
                slot
            }
            Arrived::Room { slot } => {
                let Some(session) = net.session(slot) else { return };
                session.tick(*now, door, blocks, door_out);
                slot
            }
        };
        self.session_effects(slot);
    }

    /// What a session wants after one call on it.
    fn session_effects(&mut self, slot: u32) {
        self.net.took_turn(slot, &mut self.door_out, &mut self.blocks);
        self.door_out.bytes.clear();
        self.requests();
    }

    fn requests(&mut self) {
        let mut requests = std::mem::take(&mut self.door_out.requests);
        for (id, request) in requests.drain(..) {
            self.input(Input::Request(id, request));
        }
        self.door_out.requests = requests;
        let mut gone = std::mem::take(&mut self.door_out.gone);
        for id in gone.drain(..) {
            self.input(Input::Gone(id));
        }
        self.door_out.gone = gone;
    }

    fn take_mesh(&mut self) {
        for _ in 0..MESH_MAX {
            let Some((from, message)) = self.ends.mesh.receive() else { break };
            self.input(Input::Mesh(from, message));
        }
    }

    fn take_control(&mut self) {
        while let Some(word) = self.ends.control.receive() {
            match word {
                ToShard::Catalog(catalog) => {
                    self.door.catalog = Arc::clone(&catalog);
                    self.input(Input::Catalog(catalog));
                }
                ToShard::Doors(config) => self.door.config = config,
                ToShard::Meta(id, answer) => self.input(Input::Meta(id, answer)),
                ToShard::PeersRecovered => self.input(Input::PeersRecovered),
                order @ (ToShard::OpenDoors | ToShard::Stop) => self.orders.push(order),
            }
        }
    }

    fn expire(&mut self) {
        while let Some(slot) = self.net.next_due(self.now.mono_ns) {
            let Engine { net, door, blocks, door_out, now, .. } = self;
            let Some(session) = net.session(slot) else { continue };
            session.tick(*now, door, blocks, door_out);
            self.session_effects(slot);
        }
    }

    /// Submits open groups, hands effects on, and goes round while they bring about new inputs.
    fn end_turn(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.stepped = false;
            self.shard.step(self.now, Input::Tick, &mut self.blocks, &mut self.out);
            self.wake_at_ns = self.out.wake_at_ns.take();
            self.effects();
            if !self.stepped {
                break;
            }
        }
    }

    fn effects(&mut self) {
        let ns = self.now.mono_ns;
        self.disk.submit(&mut self.out.io, &mut self.blocks, &mut self.ring, ns);
        while let Some(done) = self.disk.next_ready() {
            self.input(Input::Io(done));
        }
        // The list goes back when done: inputs of this round append to the other one.
        let mut replies = std::mem::take(&mut self.replies);
        std::mem::swap(&mut replies, &mut self.out.replies);
        for (id, reply) in replies.drain(..) {
            self.reply(id, reply);
        }
        self.replies = replies;
        for (to, message) in self.out.mesh.drain(..) {
            self.ends.mesh.send(to, message);
        }
        for (id, op) in self.out.meta.drain(..) {
            self.ends.control.send(FromShard::Meta(id, op));
        }
        for notice in self.out.notices.drain(..) {
            self.stopped |= matches!(notice, Notice::Stopped { .. });
            self.ends.control.send(FromShard::Notice(notice));
        }
        self.jobs.append(&mut self.out.jobs);
    }

    fn reply(&mut self, id: RequestId, reply: Reply) {
        let Engine { net, door, blocks, door_out, now, .. } = self;
        let slot = net.slot_of(id.connection);
        let Some((slot, session)) = slot.and_then(|slot| Some((slot, net.session(slot)?))) else {
            return release(reply, blocks);
        };
        session.reply(*now, id.request, reply, door, blocks, door_out);
        self.session_effects(slot);
    }

    /// Ends the sessions of connections that are gone for good.
    fn end_sessions(&mut self) {
        while let Some(mut connection) = self.net.next_ended(&mut self.blocks) {
            connection.session.end(&mut self.blocks, &mut self.door_out);
            for part in self.door_out.parts.drain(..) {
                if let ringway_doors::session::Part::Slice(slice) = part {
                    self.blocks.release(slice);
                }
            }
            self.door_out.bytes.clear();
            self.door_out.close = None;
            self.requests();
        }
    }

    /// Copies the counts out, about once a millisecond: summing them up walks over all logs.
    fn publish(&mut self) {
        if self.now.mono_ns < self.published_ns + PUBLISH_NS {
            self.unpublished = true;
            return;
        }
        self.publish_now();
    }

    /// Copies the counts out: the last ones of a life must not wait for a turn that never comes.
    pub(crate) fn publish_now(&mut self) {
        self.published_ns = self.now.mono_ns;
        self.unpublished = false;
        self.counts.enters = self.ring.enters;
        self.counts.sqes = self.ring.sqes;
        self.counts.cqes = self.ring.cqes;
        self.counts.connections_open = self.net.count() as u64;
        self.counts.disk_in_flight = self.disk.in_flight() as u64;
        self.counts.blocks_free = self.blocks.free_count() as u64;
        self.counts.blocks_total = self.blocks.pooled_count() as u64;
        self.counters.publish(&CounterValues {
            shard: self.shard.counts(),
            doors: self.door.counts,
            ring: self.counts,
        });
    }
}

/// Counts are at most this old.
const PUBLISH_NS: u64 = 1_000_000;
/// Full queues are tried again after this, should nothing else happen.
const RETRY_NS: u64 = 1_000_000;

/// Gives back what a reply holds when nobody waits for it any more.
fn release(reply: Reply, blocks: &mut Blocks) {
    if let Reply::Fetched(parts) = reply {
        for part in parts {
            if let Fetched::Frames(mut frames) = part.fetched {
                frames.release(blocks);
            }
        }
    }
}
