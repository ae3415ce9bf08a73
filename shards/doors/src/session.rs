//! One connection: bytes in, requests out; replies in, bytes out, in the order of the requests (W1).
//! Owner: the shard loop keeps one per connection.
//! Invariant: every slice received is released or passed on; replies leave in request order.
//! Not here: sockets, what requests mean, how a dialect looks (`kafka.rs`, `native.rs`).

use crate::door::Taken;
use crate::input::{Input, Next};
use crate::kafka::KafkaDoor;
use crate::native::NativeDoor;
use crate::sniff::{self, Dialect};
use crate::turn::{self, Turn, close};
use ringway_log::blocks::{Blocks, Slice};
use ringway_log::io::Now;
use ringway_partition::request::{Reply, RequestId};

pub use crate::door::{Close, Dialects, Door, DoorConfig, DoorCounts, DoorOut, Part, ReceiveInto};

/// What the connection turned out to speak.
enum Speaks {
    /// No whole frame has come yet.
    Unknown,
    Kafka(KafkaDoor),
    Native(NativeDoor),
}

/// After a refused large block: when to ask again.
const STARVED_RETRY_NS: u64 = 10_000_000;
/// From the first byte of a frame to its length, ns (L7).
const FRAME_HEAD_NS: u64 = 10_000_000_000;
/// Per byte of a frame that is on its way: 1 KiB/s at least (L7).
const FRAME_BYTE_NS: u64 = 1_000_000_000 / 1024;

/// One connection.
pub struct Session {
    connection: u32,
    peer: String,
    input: Input,
    speaks: Speaks,
    /// A frame lies whole in `input` but its turn has not come.
    blocked: bool,
    starved: bool,
    closed: bool,
    /// Bytes of earlier calls that have not left yet.
    unsent: usize,
    opened_ns: u64,
    /// When the last whole frame or reply went through.
    active_ns: u64,
    /// When the first bytes of the frame under way came.
    frame_since_ns: Option<u64>,
    starved_until_ns: u64,
    limits: Limits,
}

/// What `receive_into` and `wake_at_ns` must know of [`DoorConfig`] without a door at hand.
#[derive(Clone, Copy, Default)]
struct Limits {
    known: bool,
    first_frame_ns: u64,
    kafka_idle_ns: u64,
    native_silence_ns: u64,
    conn_requests_max: usize,
    conn_send_bytes_max: usize,
}

impl Session {
    /// A fresh connection from `peer` (address as text, for group members and logs).
    #[must_use]
    pub fn new(connection: u32, peer: String, dialects: Dialects, now: Now) -> Session {
        // There is one set of dialects so far; naming it here keeps a new one from being forgotten.
        let Dialects::Auto = dialects;
        Session {
            connection,
            peer,
            input: Input::new(),
            speaks: Speaks::Unknown,
            blocked: false,
            starved: false,
            closed: false,
            unsent: 0,
            opened_ns: now.mono_ns,
            active_ns: now.mono_ns,
            frame_since_ns: None,
            starved_until_ns: 0,
            limits: Limits::default(),
        }
    }

    /// Bytes have come; the hold on `data` is the session's now.
    pub fn receive(
        &mut self,
        now: Now,
        data: Slice,
        door: &mut Door,
        blocks: &mut Blocks,
        out: &mut DoorOut,
    ) {
        if self.closed {
            blocks.release(data);
            return;
        }
        self.input.push(data, blocks);
        self.pump(now, door, blocks, out);
    }

    /// `bytes` more have come into the large block named by [`Session::receive_into`].
    pub fn landed(
        &mut self,
        now: Now,
        bytes: u32,
        door: &mut Door,
        blocks: &mut Blocks,
        out: &mut DoorOut,
    ) {
        if self.closed {
            return;
        }
        self.input.landed(bytes);
        self.pump(now, door, blocks, out);
    }

    /// Tells how many bytes of this connection have not left yet. `true`: requests wait here for just
    /// that, call [`Session::tick`].
    pub fn set_unsent(&mut self, bytes: usize) -> bool {
        self.unsent = bytes;
        self.blocked && !self.closed && bytes <= self.limits.conn_send_bytes_max
    }

    /// Whether more waits to leave than the peer may let wait: nothing should be read from it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.limits.known && self.unsent > self.limits.conn_send_bytes_max
    }

    /// Where the next bytes should go.
    #[must_use]
    pub fn receive_into(&self) -> ReceiveInto {
        let full = self.limits.known && self.unanswered() >= self.limits.conn_requests_max;
        // Bytes that cannot be parsed yet are enough to hold: TCP keeps the rest.
        let waiting = (self.blocked || full) && self.input.has_unparsed();
        if self.closed || self.starved || full || waiting {
            return ReceiveInto::Nothing;
        }
        self.input.receive_into()
    }

    /// The shard answers `request`.
    pub fn reply(
        &mut self,
        now: Now,
        request: u32,
        reply: Reply,
        door: &mut Door,
        blocks: &mut Blocks,
        out: &mut DoorOut,
    ) {
        if self.closed {
            turn::release_reply(reply, blocks);
            return;
        }
        self.active_ns = now.mono_ns;
        let mut turn =
            Turn { now, connection: self.connection, peer: &self.peer, door, blocks, out };
        let answered = match &mut self.speaks {
            Speaks::Kafka(kafka) => kafka.reply(request, reply, &mut turn),
            Speaks::Native(native) => native.reply(request, reply, &mut turn),
            Speaks::Unknown => {
                turn.drop_reply(reply);
                Ok(())
            }
        };
        match answered {
            Ok(()) if self.input.has_unparsed() => self.pump(now, door, blocks, out),
            Ok(()) => {}
            Err(close) => self.close(close, door, blocks, out),
        }
    }

    /// When [`Session::tick`] is wanted, monotonic ns.
    #[must_use]
    pub fn wake_at_ns(&self) -> Option<u64> {
        if self.closed {
            return None;
        }
        let starved = self.starved.then_some(self.starved_until_ns);
        [starved, self.frame_deadline_ns(), self.silence_deadline_ns()].into_iter().flatten().min()
    }

    /// Time has passed: idle and first-frame limits.
    pub fn tick(&mut self, now: Now, door: &mut Door, blocks: &mut Blocks, out: &mut DoorOut) {
        if self.closed {
            return;
        }
        self.learn(&door.config);
        if self.frame_deadline_ns().is_some_and(|at| now.mono_ns >= at) {
            let slow = close("slow_frame", "a frame came in slower than 1 KiB/s");
            return self.close(slow, door, blocks, out);
        }
        if self.silence_deadline_ns().is_some_and(|at| now.mono_ns >= at) {
            let seconds = now.mono_ns.saturating_sub(self.active_ns) / 1_000_000_000;
            let reason = match self.speaks {
                Speaks::Unknown => "first_frame_timeout",
                Speaks::Kafka(_) | Speaks::Native(_) => "idle",
            };
            let idle = close(reason, format!("nothing heard for {seconds} s"));
            return self.close(idle, door, blocks, out);
        }
        if self.starved || self.blocked {
            self.pump(now, door, blocks, out);
        }
    }

    /// The connection is gone: releases what it holds, names requests nobody waits for in `out.gone`.
    pub fn end(&mut self, blocks: &mut Blocks, out: &mut DoorOut) {
        self.closed = true;
        self.input.release(blocks);
        let connection = self.connection;
        let mut gone = |request| out.gone.push(RequestId { connection, request });
        match &mut self.speaks {
            Speaks::Kafka(kafka) => kafka.end(&mut gone, blocks),
            Speaks::Native(native) => native.end(&mut gone),
            Speaks::Unknown => {}
        }
    }

    /// Parses what can be parsed.
    fn pump(&mut self, now: Now, door: &mut Door, blocks: &mut Blocks, out: &mut DoorOut) {
        self.learn(&door.config);
        self.blocked = false;
        self.starved = false;
        loop {
            let unsent = self.unsent + out.bytes.len();
            if self.unanswered() >= self.limits.conn_requests_max
                || unsent > self.limits.conn_send_bytes_max
            {
                self.blocked = true;
                break;
            }
            let next = {
                let (speaks, config) = (&self.speaks, &*door.config);
                self.input.next(|bytes| speaks.measure(bytes, config), blocks)
            };
            let frame = match next {
                Next::Frame(frame) => frame,
                Next::More => break,
                Next::Starved => {
                    self.starved = true;
                    self.starved_until_ns = now.mono_ns + STARVED_RETRY_NS;
                    break;
                }
                Next::Refused(close) => return self.close(close, door, blocks, out),
            };
            self.active_ns = now.mono_ns;
            self.frame_since_ns = None;
            match self.take_frame(now, frame, door, blocks, out) {
                Ok(Taken::Yes) => self.input.consume(frame.len(), blocks),
                Ok(Taken::Blocked) => {
                    self.blocked = true;
                    break;
                }
                Err(close) => return self.close(close, door, blocks, out),
            }
        }
        if self.starved {
            // Our memory is short, the peer is not slow.
            self.frame_since_ns = None;
        } else if self.input.partial().is_some() {
            self.frame_since_ns.get_or_insert(now.mono_ns);
        }
    }

    fn take_frame(
        &mut self,
        now: Now,
        frame: Slice,
        door: &mut Door,
        blocks: &mut Blocks,
        out: &mut DoorOut,
    ) -> Result<Taken, Close> {
        if matches!(self.speaks, Speaks::Unknown) {
            match sniff::sniff(blocks.bytes(frame))? {
                Some(Dialect::Kafka) => self.speaks = Speaks::Kafka(KafkaDoor::new()),
                Some(Dialect::Native) => self.speaks = Speaks::Native(NativeDoor::new()),
                None => {}
            }
        }
        let mut turn =
            Turn { now, connection: self.connection, peer: &self.peer, door, blocks, out };
        match &mut self.speaks {
            Speaks::Kafka(kafka) => kafka.frame(frame, &mut turn),
            Speaks::Native(native) => native.frame(frame, &mut turn),
            Speaks::Unknown => Ok(Taken::Yes),
        }
    }

    fn close(&mut self, close: Close, door: &mut Door, blocks: &mut Blocks, out: &mut DoorOut) {
        match close.reason {
            "unknown_protocol" | "json_not_served" => door.counts.unknown_protocol += 1,
            "unsupported_version" => door.counts.unsupported += 1,
            "idle" | "first_frame_timeout" | "acks0_error" => {}
            _ => door.counts.malformed += 1,
        }
        self.closed = true;
        self.input.release(blocks);
        out.close = Some(close);
    }

    /// By when the frame under way must be whole.
    fn frame_deadline_ns(&self) -> Option<u64> {
        let bytes = self.input.partial()?;
        let all = FRAME_HEAD_NS + u64::from(bytes) * FRAME_BYTE_NS;
        self.frame_since_ns.map(|since| since.saturating_add(all))
    }

    fn learn(&mut self, config: &DoorConfig) {
        self.limits = Limits {
            known: true,
            first_frame_ns: config.first_frame_ns,
            kafka_idle_ns: config.kafka_idle_ns,
            native_silence_ns: config.native_heartbeat_ns.saturating_mul(3),
            conn_requests_max: config.conn_requests_max.max(1),
            conn_send_bytes_max: config.conn_send_bytes_max,
        };
    }

    /// When a silent peer is closed; never while a request of it waits (W5).
    fn silence_deadline_ns(&self) -> Option<u64> {
        if !self.limits.known {
            // The first tick learns the limits.
            return Some(self.opened_ns);
        }
        let limits = &self.limits;
        match &self.speaks {
            Speaks::Unknown => Some(self.opened_ns.saturating_add(limits.first_frame_ns)),
            Speaks::Kafka(kafka) if kafka.unanswered() > 0 => None,
            Speaks::Kafka(_) => Some(self.active_ns.saturating_add(limits.kafka_idle_ns)),
            Speaks::Native(native) if native.unanswered() > 0 || !native.said_hello() => None,
            Speaks::Native(_) => Some(self.active_ns.saturating_add(limits.native_silence_ns)),
        }
    }

    fn unanswered(&self) -> usize {
        match &self.speaks {
            Speaks::Unknown => 0,
            Speaks::Kafka(kafka) => kafka.unanswered(),
            Speaks::Native(native) => native.unanswered(),
        }
    }
}

impl Speaks {
    /// Length of the frame that `bytes` begin, `None` when they are too few to tell.
    fn measure(&self, bytes: &[u8], config: &DoorConfig) -> Result<Option<usize>, Close> {
        match self {
            Speaks::Unknown => match sniff::sniff(bytes)? {
                None => Ok(None),
                Some(Dialect::Kafka) => KafkaDoor::measure(bytes, true, config),
                Some(Dialect::Native) => NativeDoor::measure(bytes, config),
            },
            Speaks::Kafka(_) => KafkaDoor::measure(bytes, false, config),
            Speaks::Native(_) => NativeDoor::measure(bytes, config),
        }
    }
}
