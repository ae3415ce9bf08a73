//! `[kafka]`: addresses, and the brokers that clients are told of.

use super::keys::{Keys, loopback};
use std::net::SocketAddr;

/// `auto` shows every shard as a broker up to this many: librdkafka starts a thread per broker.
const ADVERTISED_SHARDS_MAX: u32 = 16;
/// Shard ports lie this far above the bootstrap port unless `kafka.shard_bind` says otherwise.
const SHARD_PORT_DISTANCE: u16 = 10_000;

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

impl Kafka {
    pub(super) fn read(keys: &mut Keys) -> Kafka {
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
