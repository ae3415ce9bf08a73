//! Every port the process listens on, bound before anything durable is touched.

use crate::config::Config;
use ringway_doors::session::Dialects;
use ringway_runtime::error::StartError;
use ringway_runtime::net::{ListenerSeed, bind_own, bind_shared};
use std::net::{SocketAddr, TcpListener};

/// Bound listeners and where they really are (port 0 was any free one).
pub(super) struct Listeners {
    /// Per shard.
    pub(super) seeds: Vec<Vec<ListenerSeed>>,
    /// For the control plane.
    pub(super) http: Vec<TcpListener>,
    /// Bootstrap address.
    pub(super) kafka: SocketAddr,
    /// Each shard's own, empty when shards are hidden.
    pub(super) kafka_shards: Vec<SocketAddr>,
    /// Native address.
    pub(super) native: SocketAddr,
    /// HTTP addresses.
    pub(super) http_addresses: Vec<SocketAddr>,
}

impl Listeners {
    /// Binds everything the configuration names.
    pub(super) fn bind(config: &Config, shards: u32) -> Result<Listeners, StartError> {
        let mut seeds: Vec<Vec<ListenerSeed>> = (0..shards).map(|_| Vec::new()).collect();
        let kafka = share(config.kafka.bind, shards, "--kafka", &mut seeds)?;
        let native = share(config.native_bind, shards, "--native", &mut seeds)?;
        let mut kafka_shards = Vec::new();
        if config.kafka.advertises_shards(shards) {
            for (shard, seeds) in (0..).zip(&mut seeds) {
                let listener = bind_own(shard_address(config, shard)?, "--kafka-shards")?;
                kafka_shards.push(address(&listener, "--kafka-shards")?);
                seeds.push(ListenerSeed { listener, dialects: Dialects::Auto });
            }
        }
        let mut http = Vec::new();
        let mut http_addresses = Vec::new();
        for wanted in &config.http_bind {
            let listener = bind_own(*wanted, "--http")?;
            http_addresses.push(address(&listener, "--http")?);
            http.push(listener);
        }
        Ok(Listeners { seeds, http, kafka, kafka_shards, native, http_addresses })
    }
}

fn share(
    wanted: SocketAddr,
    shards: u32,
    name: &str,
    seeds: &mut [Vec<ListenerSeed>],
) -> Result<SocketAddr, StartError> {
    let mut bound = wanted;
    for (listener, seeds) in bind_shared(wanted, shards, name)?.into_iter().zip(seeds) {
        bound = address(&listener, name)?;
        seeds.push(ListenerSeed { listener, dialects: Dialects::Auto });
    }
    Ok(bound)
}

/// Ports count up from the first shard's; any free one where that is 0.
fn shard_address(config: &Config, shard: u16) -> Result<SocketAddr, StartError> {
    let first = config.kafka.shard_bind;
    if first.port() == 0 {
        return Ok(first);
    }
    let port = first.port().checked_add(shard).ok_or_else(|| StartError::Listen {
        address: first,
        listener: "--kafka-shards".to_owned(),
        cause: format!("shard {shard} would need a port above 65535"),
    })?;
    Ok(SocketAddr::new(first.ip(), port))
}

fn address(listener: &TcpListener, name: &str) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|cause| StartError::Listen {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        listener: name.to_owned(),
        cause: cause.to_string(),
    })
}
