//! Binds ports before the shards start.
//! Owner: `boot.rs`.
//! Invariant: a port in use by anybody else is noticed, not shared.
//! Not here: accepting (`accept.rs`).

use crate::error::StartError;
use ringway_doors::session::Dialects;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

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

/// How long a taken port is tried again: a killed ring frees its ports asynchronously.
pub const BIND_WAIT: Duration = Duration::from_secs(1);
const BIND_RETRY: Duration = Duration::from_millis(50);
/// Connections the kernel completes ahead of us.
const BACKLOG: i32 = 1024;

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
    let alone = bind_alone(address, listener)?;
    let failed = |error: Error| refused(address, listener, &error);
    let address = alone.local_addr().map_err(failed)?;
    // The port is ours for as long as we hold it unbound, a moment; then everybody binds it together.
    drop(alone);
    (0..shards).map(|_| listen(address, true).map_err(failed)).collect()
}

/// Binds `address` for one shard alone.
///
/// # Errors
/// As [`bind_shared`].
pub fn bind_own(address: SocketAddr, listener: &str) -> Result<Bound, StartError> {
    bind_alone(address, listener)
}

#[expect(clippy::disallowed_methods, reason = "waits for a port before any shard runs")]
fn bind_alone(address: SocketAddr, listener: &str) -> Result<Bound, StartError> {
    let asked = Instant::now();
    loop {
        match listen(address, false) {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == ErrorKind::AddrInUse && asked.elapsed() < BIND_WAIT => {
                std::thread::sleep(BIND_RETRY);
            }
            Err(error) => return Err(refused(address, listener, &error)),
        }
    }
}

fn listen(address: SocketAddr, shared: bool) -> std::io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(Bound::from(socket))
}

fn refused(address: SocketAddr, listener: &str, error: &Error) -> StartError {
    let listener = listener.to_owned();
    if error.kind() == ErrorKind::AddrInUse {
        return StartError::PortTaken { address, listener };
    }
    StartError::Listen { address, listener, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_port_that_nobody_else_can_take() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("address");
        let shared = bind_shared(any, 3, "--kafka").expect("bound");
        let address = shared[0].local_addr().expect("address");
        assert!(shared.iter().all(|one| one.local_addr().expect("address") == address));
        let error = bind_shared(address, 1, "--kafka").expect_err("taken");
        assert_eq!(error.exit_code(), 75);
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("--kafka"), "{text}");
    }

    #[test]
    fn an_address_of_somebody_else_is_no_port_taken() {
        let foreign: SocketAddr = "192.0.2.1:1".parse().expect("address");
        assert_eq!(bind_own(foreign, "--native").expect_err("foreign").exit_code(), 78);
    }
}
