//! One connection with everything around it.
//! Owner: the tests.
//! Invariant: `Peer::finish` checks that no hold is left.
//! Not here: what is asserted.

use crate::session::*;
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request as KafkaRequest, StrBytes,
};
use ringway_log::blocks::{BLOCK_BYTES, Blocks, Piece, Slice};
use ringway_log::io::Now;
use ringway_partition::catalog::{Broker, Catalog, Topic};
use ringway_partition::request::{Reply, Request, RequestId};
use ringway_partition::topic_config::TopicConfig;
use ringway_wire::ids::TopicUuid;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Large blocks in all, bytes.
pub(super) const LARGE_BYTES_MAX: usize = 64 << 20;

pub(super) fn config() -> DoorConfig {
    DoorConfig {
        kafka_request_bytes_max: 100 << 20,
        message_bytes_max: 50 << 20,
        conn_requests_max: 1024,
        conn_send_bytes_max: 2 << 20,
        kafka_elements_max: 200_000,
        first_frame_ns: 5_000_000_000,
        kafka_idle_ns: 600_000_000_000,
        native_heartbeat_ns: 10_000_000_000,
        auto_create: true,
        fetch_bytes_max: 57_671_680,
        broker_configs: BTreeMap::from([("num.partitions".to_owned(), "1".to_owned())]),
        offsets_partitions: 50,
        software: "ringway 0".to_owned(),
    }
}

pub(super) fn topic(id: u64, name: &str, partitions: u32) -> Topic {
    let mut uuid = [0xAB; 16];
    uuid[8..].copy_from_slice(&id.to_be_bytes());
    let (name, config) = (name.to_owned(), TopicConfig::default());
    Topic { id, uuid: TopicUuid(uuid), name, partitions, internal: false, config }
}

pub(super) fn catalog() -> Catalog {
    let broker = |id: i32| Broker {
        id,
        host: "127.0.0.1".to_owned(),
        port: u16::try_from(19092 + id).expect("port"),
        rack: None,
    };
    let mut catalog = Catalog {
        version: 1,
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        brokers: vec![broker(0), broker(1)],
        shard_count: 2,
        advertise_shards: true,
        ..Catalog::default()
    };
    catalog.insert(topic(7, "gpu", 4));
    catalog
}

/// One connection, its shard's door and blocks.
pub(super) struct Peer {
    pub(super) now: Now,
    pub(super) blocks: Blocks,
    pub(super) door: Door,
    pub(super) session: Session,
    /// Asked and not answered.
    pub(super) asked: VecDeque<(RequestId, Request)>,
    pub(super) gone: Vec<RequestId>,
    /// Sent to the peer and not looked at.
    pub(super) sent: Vec<u8>,
    pub(super) close: Option<Close>,
    /// Pieces sent by reference.
    pub(super) by_reference: usize,
    out: DoorOut,
}

pub(super) fn pool(count: usize) -> Blocks {
    Blocks::new((0..count).map(|_| Piece::zeroed()).collect(), LARGE_BYTES_MAX)
}

impl Peer {
    pub(super) fn new() -> Peer {
        Peer::with(config(), catalog())
    }

    pub(super) fn with(config: DoorConfig, catalog: Catalog) -> Peer {
        let now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };
        Peer {
            now,
            blocks: pool(6),
            door: Door::new(Arc::new(config), Arc::new(catalog), 0),
            session: Session::new(9, "10.0.0.1:5".to_owned(), Dialects::Auto, now),
            asked: VecDeque::new(),
            gone: Vec::new(),
            sent: Vec::new(),
            close: None,
            by_reference: 0,
            out: DoorOut::default(),
        }
    }

    /// Bytes come in, in pieces of at most `piece`; stops where the session takes no more. Returns how many it took.
    pub(super) fn send_in(&mut self, bytes: &[u8], piece: usize) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.close.is_none() {
            let rest = &bytes[at..bytes.len().min(at.saturating_add(piece))];
            match self.session.receive_into() {
                ReceiveInto::Nothing => break,
                ReceiveInto::Provided => {
                    let rest = &rest[..rest.len().min(BLOCK_BYTES)];
                    let slice = self.slice(rest);
                    self.session.receive(
                        self.now,
                        slice,
                        &mut self.door,
                        &mut self.blocks,
                        &mut self.out,
                    );
                    at += rest.len();
                }
                ReceiveInto::Large { block, from, to } => {
                    let count = rest.len().min((to - from) as usize);
                    self.blocks.tail_mut(block)[from as usize..][..count]
                        .copy_from_slice(&rest[..count]);
                    let count32 = u32::try_from(count).expect("small");
                    self.session.landed(
                        self.now,
                        count32,
                        &mut self.door,
                        &mut self.blocks,
                        &mut self.out,
                    );
                    at += count;
                }
            }
            self.drain();
        }
        at
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        assert_eq!(self.send_in(bytes, usize::MAX), bytes.len(), "{:?}", self.close);
    }

    /// Bytes in a block of their own, with one hold.
    pub(super) fn slice(&mut self, bytes: &[u8]) -> Slice {
        let block = if bytes.len() <= BLOCK_BYTES {
            self.blocks.take().expect("a free block")
        } else {
            self.blocks.take_large(bytes.len()).expect("room")
        };
        self.blocks.tail_mut(block)[..bytes.len()].copy_from_slice(bytes);
        let end = u32::try_from(bytes.len()).expect("small");
        let slice = self.blocks.freeze(block, 0, end);
        self.blocks.release_block(block);
        slice
    }

    pub(super) fn answer(&mut self, id: RequestId, reply: Reply) {
        let (door, blocks, out) = (&mut self.door, &mut self.blocks, &mut self.out);
        self.session.reply(self.now, id.request, reply, door, blocks, out);
        self.drain();
    }

    /// The oldest question, its payload's hold given back.
    pub(super) fn next(&mut self) -> (RequestId, Request) {
        let (id, request) = self.asked.pop_front().expect("a question");
        self.let_go(&request);
        (id, request)
    }

    /// The oldest question, answered at once.
    pub(super) fn answer_next(&mut self, reply: Reply) -> Request {
        let (id, request) = self.next();
        self.answer(id, reply);
        request
    }

    fn let_go(&mut self, request: &Request) {
        use ringway_partition::request::Payload;
        if let Request::Produce { payload: Payload::Received(slice), .. } = request {
            self.blocks.release(*slice);
        }
    }

    pub(super) fn tick(&mut self, after_ns: u64) {
        self.now.mono_ns += after_ns;
        let (door, blocks, out) = (&mut self.door, &mut self.blocks, &mut self.out);
        self.session.tick(self.now, door, blocks, out);
        self.drain();
    }

    fn drain(&mut self) {
        let out = std::mem::take(&mut self.out);
        for (id, _) in &out.requests {
            assert_eq!(id.connection, 9);
        }
        self.asked.extend(out.requests);
        self.gone.extend(out.gone);
        for part in out.parts {
            match part {
                Part::Bytes(range) => {
                    let range = range.start as usize..range.end as usize;
                    self.sent.extend_from_slice(&out.bytes[range]);
                }
                Part::Slice(slice) => {
                    self.by_reference += 1;
                    self.sent.extend_from_slice(self.blocks.bytes(slice));
                    self.blocks.release(slice);
                }
            }
        }
        assert!(self.close.is_none() || out.close.is_none(), "closed twice");
        self.close = self.close.take().or(out.close);
    }

    /// The connection ends: every hold must be back.
    pub(super) fn finish(mut self) -> Vec<RequestId> {
        self.session.end(&mut self.blocks, &mut self.out);
        self.drain();
        while let Some((_, request)) = self.asked.pop_front() {
            self.let_go(&request);
        }
        assert_eq!(self.blocks.holds(), 0, "holds left");
        self.gone
    }

    /// The next answer: its correlation and body.
    pub(super) fn take_frame(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_be_bytes(*self.sent.first_chunk()?) as usize;
        assert!(self.sent.len() >= 4 + length, "half an answer was sent");
        let frame = self.sent[4..4 + length].to_vec();
        self.sent.drain(..4 + length);
        Some(frame)
    }

    /// The next answer to `R` at `version`.
    pub(super) fn response<R: KafkaRequest>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = self.take_frame();
        let frame = frame.unwrap_or_else(|| panic!("no answer, {:?}", self.close));
        let mut body = &frame[..];
        let header = <R::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut body, header).expect("head of the answer");
        let response = R::Response::decode(&mut body, version).expect("body of the answer");
        assert_eq!(body, b"", "bytes left over at version {version}");
        (header.correlation_id, response)
    }
}

/// A request as a client sends it.
pub(super) fn frame<R: KafkaRequest>(version: i16, correlation: i32, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("tester")));
    let mut bytes = vec![0; 4];
    header.encode(&mut bytes, R::header_version(version)).expect("head");
    request.encode(&mut bytes, version).expect("body");
    let length = u32::try_from(bytes.len() - 4).expect("small");
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

pub(super) fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A batch of `records` records whose bytes are `size` in all.
pub(super) fn batch(records: i32, size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).expect("small")).collect();
    bytes[21..23].copy_from_slice(&[0, 0]);
    bytes[57..61].copy_from_slice(&records.to_be_bytes());
    bytes
}

pub(super) fn produced(base_offset: u64) -> Reply {
    Reply::Produced { base_offset, append_time_ns: 5_000_000, log_append_time: false, log_start: 0 }
}
