//! What a turn of a shard or a call on a session brings about: disk requests, replies, bytes, messages.
//! Owner: the node.
//! Invariant: bytes of a connection leave in the order in which its session made them.
//! Not here: what makes a shard or a session act (`node.rs`).

use super::{Happening, Node, READER};
use crate::clock::US;
use crate::disk::Weight;
use crate::network::Way;
use crate::process::Phase;
use crate::queue::{Asker, Event};
use crate::rng::mix;
use crate::trace::hash_request;
use ringway_doors::session::DoorOut;
use ringway_log::io::{IoOut, IoRequest, SmallFile};
use ringway_partition::request::{
    Input, MeshMessage, MetaAnswer, MetaOp, Notice, Out, Request, RequestId,
};
use ringway_wire::ids::shard_of;
use std::sync::Arc;

impl Node {
    /// Carries out what a turn brought about.
    pub(super) fn effects(&mut self, shard: u32, mut out: Out) {
        self.submit(Asker::Shard(shard), &mut out.io);
        let now_ns = self.clock.mono_ns();
        if let Some(at) = out.wake_at_ns.take() {
            self.plan_wake(shard, at.max(now_ns + 1));
        }
        for (id, op) in out.meta.drain(..) {
            self.meta(shard, id, op);
        }
        for (to, message) in out.mesh.drain(..) {
            match &message {
                MeshMessage::Ask { tag, request: Request::Produce { key, .. } } => {
                    self.watch.forwarded(shard, to, *tag, *key);
                }
                MeshMessage::Answer { tag, reply } => {
                    self.watch.answers_shard(shard, to, *tag, reply);
                }
                MeshMessage::Ask { .. } | MeshMessage::Forget { .. } => {}
            }
            let Some(process) = &mut self.process else { break };
            let at = process.mesh_at(shard, to, now_ns + self.rng.within(200, 20_000));
            self.queue.plan(at, Event::Mesh(shard, to, message));
        }
        for (number, job) in out.jobs.drain(..) {
            let result = ringway_partition::job::run(&job);
            self.queue.plan(now_ns + 5 * US, Event::Job(shard, number, result));
        }
        for notice in out.notices.drain(..) {
            self.notice(shard, notice);
        }
        for (id, reply) in out.replies.drain(..) {
            let now = self.clock.now();
            let no_space_until_ns = self.disk.device.no_space_until_ns();
            let Some(process) = &mut self.process else { break };
            let owner = self.watch.log_of(id).map(|key| shard_of(key, process.settings.shards));
            let at = (now_ns, no_space_until_ns);
            self.watch.answers(at, (id, owner == Some(shard)), &reply);
            let room = &mut process.rooms[shard as usize];
            if id.connection == READER {
                self.news.push(Happening::Read(id.request, room.read_back(reply)));
                continue;
            }
            let mut door = self.spare_door.pop().unwrap_or_default();
            match room.sessions.get_mut(&id.connection) {
                Some(session) => {
                    session.reply(
                        now,
                        id.request,
                        reply,
                        &mut room.door,
                        &mut room.blocks,
                        &mut door,
                    );
                }
                None => {
                    let _ = room.read_back(reply);
                }
            }
            self.door_effects(shard, id.connection, door);
        }
        out.io.clear();
        self.spare_out.push(out);
    }

    pub(super) fn door_effects(&mut self, shard: u32, connection: u32, mut out: DoorOut) {
        // Bytes first: what the requests bring about at once is answered behind them.
        let Some(process) = &mut self.process else { return };
        let bytes = process.rooms[shard as usize].gather(&mut out);
        if !bytes.is_empty() && self.network.send(connection, Way::Down, &bytes) {
            self.plan_delivery(connection, Way::Down);
        }
        for (id, request) in out.requests.drain(..) {
            if let Request::Produce { key, acks, .. } = &request {
                self.watch.asked(self.clock.mono_ns(), id, *key, *acks);
            }
            self.input(shard, Input::Request(id, request));
        }
        for id in out.gone.drain(..) {
            self.input(shard, Input::Gone(id));
        }
        if let Some(close) = out.close.take() {
            self.trace
                .tell(|| format!("server closes {connection}: {} {}", close.reason, close.detail));
            if self.network.end(connection, Way::Down) {
                self.plan_delivery(connection, Way::Down);
            }
            self.watch.gone(connection);
            let mut last = self.spare_door.pop().unwrap_or_default();
            if let Some(process) = &mut self.process {
                process.rooms[shard as usize].hang_up(connection, &mut last);
            }
            self.door_effects(shard, connection, last);
        }
        self.spare_door.push(out);
    }

    fn meta(&mut self, shard: u32, id: RequestId, op: MetaOp) {
        let now_ns = self.clock.mono_ns();
        let (answer, changed) = self.control.apply(op);
        let mut at = now_ns + self.rng.within(20 * US, 400 * US);
        if changed {
            self.publish();
        }
        if answer == MetaAnswer::Deleted {
            // Catalogs and answers come through one queue: who is told so has no such topic any more.
            at = self.process.as_mut().map_or(at, |process| process.catalog_at(shard, at));
        }
        self.queue.plan(at, Event::Meta(shard, id, answer));
    }

    /// Sends the newest catalog to every shard.
    pub fn publish(&mut self) {
        let Some(process) = &mut self.process else { return };
        let settings = &process.settings;
        let catalog = Arc::new(self.control.catalog(settings.shards, settings.advertise_shards));
        let now_ns = self.clock.mono_ns();
        for to in 0..process.settings.shards {
            let at = process.catalog_at(to, now_ns + self.rng.within(10 * US, 300 * US));
            self.queue.plan(at, Event::Catalog(to, Arc::clone(&catalog)));
        }
    }

    fn plan_wake(&mut self, shard: u32, at: u64) {
        let Some(process) = &mut self.process else { return };
        let room = &mut process.rooms[shard as usize];
        if room.wake_at_ns.is_none_or(|planned| at < planned) {
            room.wake_at_ns = Some(at);
            self.queue.plan(at, Event::Wake(shard));
        }
    }

    fn notice(&mut self, shard: u32, notice: Notice) {
        self.trace.tell(|| format!("shard {shard}: {notice:?}"));
        if let Notice::Poisoned { key, .. } = &notice {
            self.watch.told(*key);
        }
        let Some(process) = &mut self.process else { return };
        match process.note(shard, &notice) {
            Phase::Recovered => {
                process.phase = Phase::Serving;
                for to in 0..process.settings.shards {
                    self.input(to, Input::PeersRecovered);
                }
                self.news.push(Happening::Notice(notice));
                self.news.push(Happening::Serving);
                return;
            }
            Phase::Stopped => {
                let body = ringway_log::directory::clean_marker(&process.stopped);
                let id = ringway_log::io::IoId(u64::MAX);
                let mut io = IoOut::default();
                io.requests.push(IoRequest::WriteSmall { id, file: SmallFile::CleanMarker, body });
                self.submit(Asker::Boot, &mut io);
            }
            Phase::Starting | Phase::Serving | Phase::Stopping => {}
        }
        self.news.push(Happening::Notice(notice));
    }

    pub(super) fn submit(&mut self, asker: Asker, io: &mut IoOut) {
        let now = self.clock.mono_ns();
        for request in &io.requests {
            let blocks = match (asker, &mut self.process) {
                (Asker::Shard(shard), Some(process)) => {
                    process.rooms.get_mut(shard as usize).map(|room| &mut room.blocks)
                }
                _ => None,
            };
            if let IoRequest::Write { file, .. } | IoRequest::Flush { file, .. } = request {
                self.watch.writes(self.disk.log_of(*file));
            }
            let taken = self.disk.submit(now, request, &io.slices, blocks);
            let hash = hash_request(0, request);
            self.trace.mix(mix(hash, now));
            self.trace.io(now, asker, request);
            let slow = self.rng.percent(self.slow_disk_percent);
            let after = match taken.weight {
                Weight::Transfer => self.rng.within(15, if slow { 20_000 } else { 150 }),
                Weight::Flush => self.rng.within(40, if slow { 40_000 } else { 500 }),
                Weight::Allocation => {
                    let long = self.rng.percent(40);
                    self.rng.within(100, if long { 20_000 } else { 1_000 })
                }
                Weight::Name => self.rng.within(5, 60),
            };
            let at = now + after * US + taken.delay_ns;
            self.queue.plan(at, Event::Disk(asker, taken.op));
        }
        io.clear();
    }
}
