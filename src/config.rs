//! Every setting of a broker: read, checked, explained. Flags win over variables, those over the file.

pub(crate) mod broker;
pub(crate) mod kafka;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod node;
pub(crate) mod reference;
pub(crate) mod shards;
pub(crate) mod source;
pub(crate) mod units;

use broker::Broker;
use kafka::{Advertise, Kafka};
use keys::{Keys, Row, loopback};
use limits::Limits;
use log::{Log, SEGMENT_BYTES, SHARD_BYTES_MIN};
use node::Node;
use shards::Shards;
use source::{Layers, Sources};
use std::net::SocketAddr;
use std::time::Duration;

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

#[cfg(test)]
mod tests;
