//! A whole shard on its executor, talked to over real sockets.
//! Owner: `shard_loop.rs`.
//! Invariant: what a client sends is answered; a stop leaves nothing in flight.
//! Not here: what the protocols mean (`doors`).

#![expect(clippy::disallowed_types, reason = "the client's side")]

use super::*;
use crate::directory::{DirectIo, open_data_directory};
use crate::mesh::{ControlEnds, links};
use crate::net::bind_shared;
use glommio::{LocalExecutorBuilder, Placement};
use ringway_doors::session::Dialects;
use ringway_partition::catalog::Broker;
use ringway_partition::request::Notice;
use ringway_partition::shard::{GroupConfig, Upkeep};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);

struct Node {
    control: ControlEnds,
    address: SocketAddr,
    counters: Arc<ShardCounters>,
    thread: JoinHandle<Result<(), RunError>>,
    _temp: tempfile::TempDir,
}

fn shard_config() -> ShardConfig {
    ShardConfig {
        shard: 0,
        flush_group_bytes_max: 4 << 20,
        frame_bytes_max: 64 << 20,
        checkpoint_interval_ms: 10_000,
        upkeep: Upkeep::default(),
        waiting_rows_max: 10_000,
        seed: 1,
        group: GroupConfig {
            session_timeout_ms_min: 6000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3000,
            members_max: 1000,
            offsets_partitions: 50,
        },
    }
}

fn door_config() -> DoorConfig {
    DoorConfig {
        kafka_request_bytes_max: 100 << 20,
        message_bytes_max: 50 << 20,
        conn_requests_max: 1024,
        conn_send_bytes_max: 2 << 20,
        kafka_elements_max: 100_000,
        first_frame_ns: 5_000_000_000,
        kafka_idle_ns: 600_000_000_000,
        native_heartbeat_ns: 10_000_000_000,
        auto_create: true,
        fetch_bytes_max: 55 << 20,
        broker_configs: BTreeMap::new(),
        offsets_partitions: 50,
        software: "ringway test".to_owned(),
    }
}

fn node() -> Node {
    let temp = tempfile::tempdir().expect("temp dir");
    let directory = open_data_directory(temp.path(), DirectIo::Auto).expect("directory");
    let any = "127.0.0.1:0".parse().expect("address");
    let listener = bind_shared(any, 1, "test").expect("bound").remove(0);
    let address = listener.local_addr().expect("address");
    let facts = DirectoryFacts {
        uuid: [1; 16],
        block: 4096,
        secret: 7,
        start_counter: 1,
        clean: Vec::new(),
        checkpoints: Vec::new(),
        logs: Vec::new(),
    };
    let broker = Broker { id: 0, host: "127.0.0.1".to_owned(), port: address.port(), rack: None };
    let catalog = Catalog {
        version: 1,
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        brokers: vec![broker],
        shard_count: 1,
        advertise_shards: true,
        ..Catalog::default()
    };
    let (mut ends, control) = links(1).expect("links");
    let counters = Arc::new(ShardCounters::default());
    let seed = ShardSeed {
        shard: shard_config(),
        doors: Arc::new(door_config()),
        facts: Arc::new(facts),
        catalog: Arc::new(catalog),
        directory,
        listeners: vec![ListenerSeed { listener, dialects: Dialects::Auto }],
        limits: RunLimits {
            memory_bytes: 32 << 20,
            connections_max: 3,
            drain_timeout_ns: 2_000_000_000,
            busy_poll_us: 0,
        },
        ends: ends.remove(0),
        counters: Arc::clone(&counters),
    };
    let thread = std::thread::spawn(move || {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 16).make();
        executor.expect("executor").run(run(seed))
    });
    Node { control, address, counters, thread, _temp: temp }
}

impl Node {
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(FromShard) -> Option<T>) -> T {
        let asked = Instant::now();
        loop {
            // Asked first: what it said before it ended is still there to be read.
            let ended = self.thread.is_finished();
            if let Some((_, word)) = self.control.try_recv() {
                if let Some(found) = pick(word) {
                    return found;
                }
            } else {
                assert!(asked.elapsed() < PATIENCE && !ended, "no {what}");
                std::thread::yield_now();
            }
        }
    }

    fn open(&mut self) {
        self.wait_for("recovery", |word| {
            matches!(word, FromShard::Notice(Notice::Recovered { .. })).then_some(())
        });
        self.control.send(0, ToShard::PeersRecovered).expect("room");
        self.control.send(0, ToShard::OpenDoors).expect("room");
        self.wait_for("open doors", |word| matches!(word, FromShard::DoorsOpen).then_some(()));
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    fn stop(mut self) -> Arc<ShardCounters> {
        self.control.send(0, ToShard::Stop).expect("room");
        self.wait_for("stop", |word| matches!(word, FromShard::Stopped).then_some(()));
        self.thread.join().expect("no panic").expect("clean end");
        self.counters
    }
}

/// ApiVersions v0, correlation id 7, no client id.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xFF, 0xFF];

fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("length");
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).expect("body");
    body
}

#[test]
fn requests_are_answered_in_order_however_they_are_cut() {
    let mut node = node();
    node.open();
    let mut client = node.connect();
    for _ in 0..3 {
        client.write_all(&API_VERSIONS).expect("sent");
        let body = answer(&mut client);
        assert_eq!(&body[..6], &[0, 0, 0, 7, 0, 0]);
    }
    for byte in API_VERSIONS.iter().chain(&API_VERSIONS) {
        client.write_all(&[*byte]).expect("sent");
    }
    assert_eq!(answer(&mut client), answer(&mut client));
    drop(client);
    let counters = node.stop();
    let ring = counters.values().ring;
    assert_eq!((ring.connections_accepted, ring.bytes_in), (1, 5 * 14));
    assert!(ring.bytes_out > 0 && ring.connections_open == 0, "{ring:?}");
}

#[test]
fn garbage_closes_the_connection_and_nothing_else() {
    let mut node = node();
    node.open();
    let mut good = node.connect();
    let mut bad = node.connect();
    bad.write_all(&[0xFF; 4096]).expect("sent");
    let mut rest = Vec::new();
    // Closed or reset, as the kernel pleases.
    let ended = bad.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    good.write_all(&API_VERSIONS).expect("sent");
    assert_eq!(answer(&mut good)[3], 7);
    node.stop();
}

#[test]
fn connections_above_the_limit_wait_until_somebody_leaves() {
    let mut node = node();
    node.open();
    let talk = |stream: &mut TcpStream| {
        let sent = stream.write_all(&API_VERSIONS);
        let mut first = [0; 8];
        sent.is_ok() && stream.read_exact(&mut first).is_ok()
    };
    let mut clients: Vec<TcpStream> = (0..3).map(|_| node.connect()).collect();
    assert!(clients.iter_mut().all(talk));
    // The kernel takes it; the shard has stopped accepting, or closes the one that came at the same moment.
    let mut fourth = node.connect();
    fourth.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
    assert!(!talk(&mut fourth), "a fourth");
    clients.clear();
    let asked = Instant::now();
    while !talk(&mut node.connect()) {
        assert!(asked.elapsed() < PATIENCE, "room for one again");
    }
    node.stop();
}

#[test]
fn a_stop_ends_idle_connections_and_leaves_nothing_in_flight() {
    let mut node = node();
    node.open();
    let mut idle = node.connect();
    idle.write_all(&API_VERSIONS[..5]).expect("sent");
    node.stop();
    let mut rest = Vec::new();
    assert!(matches!(idle.read_to_end(&mut rest), Ok(0) | Err(_)));
}

#[test]
fn an_idle_shard_sleeps() {
    let mut node = node();
    node.open();
    // Counts are published about once a millisecond: those of the start come first.
    std::thread::park_timeout(Duration::from_millis(50));
    let before = node.counters.values().ring.enters;
    std::thread::park_timeout(Duration::from_millis(300));
    let after = node.counters.values().ring.enters;
    assert!(after - before <= 3, "{} turns while nothing happened", after - before);
    node.stop();
}
