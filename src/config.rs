//! Every setting of a broker: read, checked, explained. Flags win over variables, those over the file.

pub(crate) mod broker;
pub(crate) mod keys;
pub(crate) mod memory;
pub(crate) mod reference;
pub(crate) mod source;
pub(crate) mod units;

use broker::Broker;
use keys::{Keys, Row};
use source::{Layers, Sources};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Shards of one node at most: a broker id is node × 1024 + shard.
const SHARDS_MAX: u64 = 1024;
/// `auto` shows every shard as a broker up to this many: librdkafka starts a thread per broker.
const ADVERTISED_SHARDS_MAX: u32 = 16;
/// Shard ports lie this far above the bootstrap port unless `kafka.shard_bind` says otherwise.
const SHARD_PORT_DISTANCE: u16 = 10_000;
/// A shard cannot work in less: receive buffers, open groups and cold reads need blocks.
pub(crate) const SHARD_BYTES_MIN: u64 = 24 << 20;

/// All settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `[node]`
    pub(crate) node: Node,
    /// `[shards]`
    pub(crate) shards: Shards,
    /// `[kafka]`
    pub(crate) kafka: Kafka,
    /// `[kafka.broker]`
    pub(crate) broker: Broker,
    /// `[native]`: where native clients connect.
    pub(crate) native_bind: SocketAddr,
    /// `[native]`: they send something at least this often.
    pub(crate) native_heartbeat: Duration,
    /// `[http]`: where `/livez`, `/readyz` and `/metrics` are.
    pub(crate) http_bind: Vec<SocketAddr>,
    /// `[log]`
    pub(crate) log: Log,
    /// `[limits]`
    pub(crate) limits: Limits,
    /// Every key with its effective value and origin.
    pub(crate) rows: Vec<Row>,
}

/// `[node]`
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Number in the cluster.
    pub(crate) id: i32,
    /// Directory of everything durable.
    pub(crate) data_dir: PathBuf,
    /// Told to Kafka clients.
    pub(crate) rack: Option<String>,
}

/// `[shards]`
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    /// `None` = allowed cores minus the control core, at least 1.
    pub(crate) count: Option<u32>,
    /// Cores to choose from; `None` = all that the process may use.
    pub(crate) cpus: Option<Vec<usize>>,
    /// Cores of the control plane; `None` = one that no shard has, when there is one.
    pub(crate) control_cpus: Option<Vec<usize>>,
}

/// What Kafka clients are told about brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advertise {
    /// Shards up to [`ADVERTISED_SHARDS_MAX`], node above.
    Auto,
    /// Every shard is a broker.
    Shard,
    /// One broker per node.
    Node,
}

/// `[kafka]`
#[derive(Clone, Debug)]
pub(crate) struct Kafka {
    /// Bootstrap address.
    pub(crate) bind: SocketAddr,
    /// First shard's address; the others follow port by port (port 0: any free ones).
    pub(crate) shard_bind: SocketAddr,
    /// Host clients are told; empty = the address of `shard_bind`.
    pub(crate) advertised: String,
    /// Which brokers clients see.
    pub(crate) advertise: Advertise,
    /// Whether others than this host may connect without authentication.
    pub(crate) allow_anonymous: bool,
}

/// Whether something the host may lack is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// When it is there.
    Prefer,
    /// Or the start fails.
    Require,
    /// Never.
    Off,
}

const USES: [(&str, Use); 3] =
    [("prefer", Use::Prefer), ("require", Use::Require), ("off", Use::Off)];

const SEGMENT_BYTES: &str = "log.segment_bytes";

/// `[log]`
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// Roll limit of topics that do not say; `None` = what `[kafka.broker]` says.
    pub(crate) segment_bytes: Option<u64>,
    /// Memory of all shards together; `None` = a quarter of the host, at most 1 GiB per shard.
    pub(crate) memory_bytes_max: Option<u64>,
    /// O_DIRECT.
    pub(crate) direct_io: Use,
    /// Largest flush group.
    pub(crate) flush_group_bytes_max: u32,
    /// Between two checkpoints of a shard.
    pub(crate) checkpoint_interval_ms: u64,
    /// A write older than this has stalled.
    pub(crate) io_stall_ms: u64,
    /// Every sealed segment is read once in this time; 0 = never.
    pub(crate) scrub_interval_h: u64,
    /// For it, all shards together.
    pub(crate) scrub_bytes_per_s_max: u64,
}

/// `[limits]`
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Largest native payload.
    pub(crate) message_bytes_max: u32,
    /// Requests of one connection in flight.
    pub(crate) conn_requests_max: u32,
    /// From accept to the first whole frame.
    pub(crate) preauth_timeout_ms: u64,
    /// Nested elements of one cold Kafka frame.
    pub(crate) kafka_elements_max: u32,
    /// Waiting fetches, produces and joins of a shard.
    pub(crate) waiting_rows_max: u32,
    /// Connections of a shard.
    pub(crate) connections_max: u32,
    /// For all accepted work to finish at a stop.
    pub(crate) drain_timeout_ms: u64,
    /// For the whole stop.
    pub(crate) shutdown_timeout: Duration,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every problem found, one line each.
    pub(crate) fn load(sources: &Sources) -> Result<Config, Vec<String>> {
        Config::of(Layers::read(sources)?)
    }

    /// The same from layers already read.
    ///
    /// # Errors
    /// Every problem found, one line each.
    pub(crate) fn of(layers: Layers) -> Result<Config, Vec<String>> {
        let mut keys = Keys::new(layers);
        let mut config = Config::read(&mut keys);
        keys.refuse_unknown();
        config.settle_segment_bytes(&mut keys);
        config.validate(&mut keys);
        config.rows = std::mem::take(&mut keys.rows);
        if keys.problems.is_empty() { Ok(config) } else { Err(keys.problems) }
    }

    fn read(keys: &mut Keys) -> Config {
        Config {
            node: Node::read(keys),
            shards: Shards::read(keys),
            kafka: Kafka::read(keys),
            broker: Broker::read(keys),
            native_bind: keys.address(
                ("native.bind", "Address of the native protocol, on every shard."),
                loopback(7420),
            ),
            native_heartbeat: keys.duration(
                (
                    "native.heartbeat",
                    "Native clients send something this often; three missed close the connection.",
                ),
                Duration::from_secs(10),
                Duration::from_millis(100)..=Duration::from_secs(600),
            ),
            http_bind: keys.addresses(
                ("http.bind", "Addresses of `/livez`, `/readyz` and `/metrics`."),
                loopback(8080),
            ),
            log: Log::read(keys),
            limits: Limits::read(keys),
            rows: Vec::new(),
        }
    }

    /// Two keys name the roll limit, for those who think in files and those who know Kafka.
    fn settle_segment_bytes(&mut self, keys: &mut Keys) {
        const KAFKA: &str = "kafka.broker.log.segment.bytes";
        let Some(bytes) = self.log.segment_bytes else { return };
        if keys.is_set(KAFKA) {
            keys.refuse(SEGMENT_BYTES, &format!("{KAFKA} is set too: keep one of them"));
        }
        self.broker.topic_defaults.insert("segment.bytes".to_owned(), bytes.to_string());
        self.broker.described.insert("log.segment.bytes".to_owned(), bytes.to_string());
    }

    /// What single keys cannot know: contradictions between them.
    fn validate(&self, keys: &mut Keys) {
        let kafka = &self.kafka;
        for (key, address) in self.binds() {
            if !address.ip().is_loopback() && !kafka.allow_anonymous {
                keys.refuse(
                    key,
                    "others than this host could connect without authentication: bind to \
                     127.0.0.1, or set kafka.allow_anonymous = true (--allow-anonymous)",
                );
            }
        }
        if kafka.shard_bind.ip().is_unspecified() && kafka.advertised.is_empty() {
            keys.refuse(
                "kafka.advertised",
                "must name the host clients connect to, because Kafka is bound to every address",
            );
        }
        if kafka.advertised_port().is_some() && kafka.advertise != Advertise::Node {
            keys.refuse(
                "kafka.advertised",
                "names one port, but every shard has its own: add kafka.advertise = \"node\"",
            );
        }
        let shards = u64::from(self.shards.count.unwrap_or(1));
        let last_port = u64::from(kafka.shard_bind.port()) + shards - 1;
        if last_port > u64::from(u16::MAX) {
            keys.refuse(
                "kafka.shard_bind",
                &format!("{shards} shards would end at port {last_port}; 65535 is the last"),
            );
        }
        if let Some(memory) = self.log.memory_bytes_max
            && memory < shards * SHARD_BYTES_MIN
        {
            let needed = units::show_size(shards * SHARD_BYTES_MIN);
            keys.refuse("log.memory_bytes_max", &format!("{shards} shards need {needed}"));
        }
        if self.broker.session_timeout_ms_min > self.broker.session_timeout_ms_max {
            keys.refuse(
                "kafka.broker.group.min.session.timeout.ms",
                "is above kafka.broker.group.max.session.timeout.ms",
            );
        }
        if Duration::from_millis(self.limits.drain_timeout_ms) > self.limits.shutdown_timeout {
            keys.refuse("limits.drain_timeout_ms", "is above limits.shutdown_timeout");
        }
        self.refuse_shared_ports(keys);
    }

    fn refuse_shared_ports(&self, keys: &mut Keys) {
        let binds = self.binds();
        for (index, (key, address)) in binds.iter().enumerate() {
            let other = binds[..index].iter().find(|(_, other)| overlap(*address, *other));
            if let Some((other, _)) = other {
                keys.refuse(key, &format!("is also the address of {other}"));
            }
        }
    }

    fn binds(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut binds = vec![
            ("kafka.bind", self.kafka.bind),
            ("kafka.shard_bind", self.kafka.shard_bind),
            ("native.bind", self.native_bind),
        ];
        binds.extend(self.http_bind.iter().map(|address| ("http.bind", *address)));
        binds
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    host && one.port() == other.port() && one.port() != 0
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Ranges keep it well below the limit.
fn number32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Node {
    fn read(keys: &mut Keys) -> Node {
        let id = keys.integer(
            ("node.id", "Number of this node; Kafka's broker ids are this × 1024 + shard."),
            0,
            0..=2_000_000,
        );
        let data_dir = keys.text(
            ("node.data_dir", "Everything durable lies here; one process at a time."),
            "./ringway-data",
            "a path",
            |text| !text.is_empty(),
        );
        let rack = keys.text(
            ("node.rack", "Rack told to Kafka clients; empty = none."),
            "",
            "up to 255 bytes",
            |text| text.len() <= 255,
        );
        keys.names(
            ("node.roles", "What this node does; this version knows one role."),
            &["broker"],
        );
        Node {
            id: i32::try_from(id).unwrap_or(0),
            data_dir: PathBuf::from(data_dir),
            rack: Some(rack).filter(|rack| !rack.is_empty()),
        }
    }
}

impl Shards {
    fn read(keys: &mut Keys) -> Shards {
        let count = keys.auto_integer(
            (
                "shards.count",
                "Shards, one core each; `auto` = allowed cores minus one, at least 1.",
            ),
            1..=SHARDS_MAX,
        );
        Shards {
            count: count.map(number32),
            cpus: keys.cpus(("shards.cpus", "Cores to take; `auto` = those the process may use.")),
            control_cpus: keys.cpus((
                "shards.control_cpus",
                "Cores of the control plane; `auto` = one that no shard has, if there is one.",
            )),
        }
    }
}

impl Kafka {
    fn read(keys: &mut Keys) -> Kafka {
        let bind =
            keys.address(("kafka.bind", "Bootstrap address, on every shard."), loopback(9092));
        let shard_bind = keys.auto_address((
            "kafka.shard_bind",
            "First shard's own address, the others follow; `auto` = bootstrap port + 10000.",
        ));
        let advertised = keys.text(
            (
                "kafka.advertised",
                "Host told to clients, or HOST:PORT with advertise = \"node\" behind a port map; empty = \
                 the address bound.",
            ),
            "",
            "a host name or IP address, or HOST:PORT",
            |text| text.len() <= 253 && !text.contains(|c: char| c.is_whitespace() || c == '/'),
        );
        let advertise = keys.choice(
            (
                "kafka.advertise",
                "Brokers clients see: each shard, or one per node; `auto` = shards up to 16.",
            ),
            &[("auto", Advertise::Auto), ("shard", Advertise::Shard), ("node", Advertise::Node)],
        );
        let allow_anonymous = keys.flag(
            (
                "kafka.allow_anonymous",
                "Lets any door bind to more than this host although nobody authenticates.",
            ),
            false,
        );
        let derived = || {
            let port = match bind.port() {
                0 => 0,
                port => port.checked_add(SHARD_PORT_DISTANCE).unwrap_or(0),
            };
            SocketAddr::new(bind.ip(), port)
        };
        let shard_bind = shard_bind.unwrap_or_else(derived);
        Kafka { bind, shard_bind, advertised, advertise, allow_anonymous }
    }

    /// Whether clients see every one of so many shards as a broker.
    pub(crate) fn advertises_shards(&self, shards: u32) -> bool {
        match self.advertise {
            Advertise::Shard => true,
            Advertise::Node => false,
            Advertise::Auto => shards <= ADVERTISED_SHARDS_MAX,
        }
    }

    /// The host of `advertised`, when one is set.
    pub(crate) fn advertised_host(&self) -> Option<&str> {
        let host = self.advertised_pair().map_or(self.advertised.as_str(), |(host, _)| host);
        (!host.is_empty()).then_some(host)
    }

    /// The port of `advertised`, when it has one.
    pub(crate) fn advertised_port(&self) -> Option<u16> {
        self.advertised_pair().map(|(_, port)| port)
    }

    /// `HOST:PORT`; an IPv6 address has more colons and no port here.
    fn advertised_pair(&self) -> Option<(&str, u16)> {
        let (host, port) = self.advertised.split_once(':')?;
        Some((host, port.parse().ok()?))
    }
}

impl Log {
    fn read(keys: &mut Keys) -> Log {
        let memory_bytes_max = keys.auto_size(
            (
                "log.memory_bytes_max",
                "Block memory of all shards; `auto` = min(1/4 of RAM or cgroup limit, 1GiB × shards).",
            ),
            SHARD_BYTES_MIN..=(1 << 44),
        );
        let direct_io = keys.choice(
            (
                "log.direct_io",
                "O_DIRECT: `prefer` warns where the file system has none, `require` refuses.",
            ),
            &USES,
        );
        let flush_group_bytes_max = keys.size(
            ("log.flush_group_bytes_max", "Bytes of one log that share a flush at most."),
            4 << 20,
            (128 << 10)..=(64 << 20),
        );
        let checkpoint_interval_ms = keys.integer(
            (
                "log.checkpoint_interval_ms",
                "Between two checkpoints of a shard; longer = longer scans after a crash.",
            ),
            1_000,
            100..=60_000,
        );
        let io_stall_ms = keys.integer(
            (
                "log.io_stall_ms",
                "A write not answered for so long counts in `ringway_log_stalled`; its clients wait on.",
            ),
            30_000,
            100..=600_000,
        );
        let (scrub_interval_h, scrub_bytes_per_s_max) = Log::read_scrub(keys);
        let segment_bytes = keys.auto_size(
            (
                SEGMENT_BYTES,
                "A segment is closed at this size; `auto` = `kafka.broker.log.segment.bytes`.",
            ),
            (1 << 20)..=(i32::MAX as u64),
        );
        keys.choice(
            (
                "log.registered_buffers",
                "Buffers registered with the kernel; this version registers none.",
            ),
            &[("prefer", ()), ("off", ())],
        );
        keys.choice(
            ("log.flush_scope", "What a flush covers: `log` = the writes of one partition's log."),
            &[("log", ())],
        );
        Log {
            segment_bytes,
            memory_bytes_max,
            direct_io,
            flush_group_bytes_max: number32(flush_group_bytes_max),
            checkpoint_interval_ms,
            io_stall_ms,
            scrub_interval_h,
            scrub_bytes_per_s_max,
        }
    }

    fn read_scrub(keys: &mut Keys) -> (u64, u64) {
        let interval = keys.integer(
            (
                "log.scrub_interval_h",
                "Closed segments are read once in so many hours and damage is named; 0 = never.",
            ),
            168,
            0..=8_760,
        );
        let bytes_per_s = keys.size(
            (
                "log.scrub_bytes_per_s_max",
                "Read for that in a second, all shards together; too low = a pass outlasts its interval.",
            ),
            16 << 20,
            (64 << 10)..=(1 << 30),
        );
        (interval, bytes_per_s)
    }
}

impl Limits {
    fn read(keys: &mut Keys) -> Limits {
        let message_bytes_max = keys.size(
            (
                "limits.message_bytes_max",
                "Largest native message; SIGHUP changes it while serving.",
            ),
            50 << 20,
            (64 << 10)..=(1 << 30),
        );
        let conn_requests_max = keys.integer(
            ("limits.conn_requests_max", "Requests of one connection in flight."),
            1_024,
            1..=65_536,
        );
        let preauth_timeout_ms = keys.integer(
            (
                "limits.preauth_timeout_ms",
                "From accept to the first whole frame, or the connection goes.",
            ),
            5_000,
            100..=600_000,
        );
        let kafka_elements_max = keys.integer(
            (
                "limits.kafka_elements_max",
                "Array elements in one Kafka request, Produce and Fetch apart.",
            ),
            100_000,
            1_000..=10_000_000,
        );
        let waiting_rows_max = keys.integer(
            ("limits.waiting_rows_max", "Waiting fetches, produces and joins of a shard."),
            65_536,
            1_024..=10_000_000,
        );
        let connections_max = keys.integer(
            ("limits.connections_max", "Connections of a shard; more wait in the backlog."),
            20_000,
            16..=1_000_000,
        );
        let drain_timeout_ms = keys.integer(
            ("limits.drain_timeout_ms", "At a stop, for accepted work to finish."),
            10_000,
            0..=600_000,
        );
        let shutdown_timeout = keys.duration(
            (
                "limits.shutdown_timeout",
                "For the whole stop; then exit 1 without the clean marker.",
            ),
            Duration::from_secs(30),
            Duration::from_secs(1)..=Duration::from_secs(3_600),
        );
        Limits {
            message_bytes_max: number32(message_bytes_max),
            conn_requests_max: number32(conn_requests_max),
            preauth_timeout_ms,
            kafka_elements_max: number32(kafka_elements_max),
            waiting_rows_max: number32(waiting_rows_max),
            connections_max: number32(connections_max),
            drain_timeout_ms,
            shutdown_timeout,
        }
    }
}

#[cfg(test)]
mod tests;
