//! One connection: moves bytes between a socket and a peer, which knows what they mean.

use crate::clock::Clock;
use anyhow::{Context as _, bail};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Received at a time.
const READ_BYTES: usize = 512 * 1024;
/// A peer stops filling beyond this until it is sent.
pub(crate) const SEND_BYTES: usize = 512 * 1024;
/// Turns of one connection before the others of its thread get theirs.
const TURNS_MAX: usize = 32;
/// Dialling takes no longer.
const DIAL: Duration = Duration::from_secs(10);

/// When a peer wants to be filled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something has come.
    OnReply,
    /// At this moment, ns, or when something has come.
    At(u64),
    /// It is done.
    Done,
}

/// What a connection is for: a producer or a consumer.
pub(crate) trait Peer {
    /// Bytes have come.
    ///
    /// # Errors
    /// They make no sense, the connection must be closed.
    fn receive(&mut self, data: &[u8]) -> anyhow::Result<()>;

    /// Appends requests that are due.
    ///
    /// # Errors
    /// A request cannot be made.
    fn fill(&mut self, out: &mut Vec<u8>) -> anyhow::Result<Next>;
}

/// Serves `peer` until it is done.
///
/// # Errors
/// The connection cannot be made, breaks, or the peer refuses its bytes.
pub(crate) async fn drive(
    address: SocketAddr,
    clock: Clock,
    peer: &mut impl Peer,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect_timeout(address, DIAL)
        .await
        .map_err(|error| anyhow::anyhow!("{address}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| anyhow::anyhow!("{address}: {error}"))?;
    let mut pump = Pump {
        stream,
        clock,
        read: vec![0; READ_BYTES],
        out: Vec::with_capacity(SEND_BYTES),
        sent: 0,
        timer: None,
    };
    poll_fn(|cx| pump.poll(cx, peer)).await.with_context(|| format!("connection to {address}"))
}

struct Pump {
    stream: TcpStream,
    clock: Clock,
    read: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    timer: Option<(u64, Timer)>,
}

impl Pump {
    fn poll(&mut self, cx: &mut Context<'_>, peer: &mut impl Peer) -> Poll<anyhow::Result<()>> {
        for _ in 0..TURNS_MAX {
            match self.turn(cx, peer) {
                Ok(Some(Next::Done)) => return Poll::Ready(Ok(())),
                Ok(Some(_)) => return Poll::Pending,
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round of receiving, filling and sending; `None` when there may be more to do at once.
    fn turn(&mut self, cx: &mut Context<'_>, peer: &mut impl Peer) -> anyhow::Result<Option<Next>> {
        let mut busy = false;
        match Pin::new(&mut self.stream).poll_read(cx, &mut self.read) {
            Poll::Ready(Ok(0)) => bail!("closed by the server"),
            Poll::Ready(Ok(n)) => {
                peer.receive(&self.read[..n])?;
                busy = true;
            }
            Poll::Ready(Err(error)) => return Err(error.into()),
            Poll::Pending => {}
        }
        let next = if self.out.is_empty() { peer.fill(&mut self.out)? } else { Next::OnReply };
        while self.sent < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(n)) => self.sent += n,
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => break,
            }
        }
        if self.sent == self.out.len() && !self.out.is_empty() {
            self.out.clear();
            self.sent = 0;
            busy = true;
        }
        if next == Next::Done && self.out.is_empty() {
            return Ok(Some(Next::Done));
        }
        if busy {
            return Ok(None);
        }
        Ok(self.wait(cx, next))
    }

    /// Arms the timer for `next`; `None` if that moment has come.
    fn wait(&mut self, cx: &mut Context<'_>, next: Next) -> Option<Next> {
        let Next::At(at_ns) = next else { return Some(next) };
        let now_ns = self.clock.now_ns();
        if at_ns <= now_ns {
            return None;
        }
        let (_, timer) = match &mut self.timer {
            Some(armed) if armed.0 == at_ns => armed,
            slot => slot.insert((at_ns, Timer::new(Duration::from_nanos(at_ns - now_ns)))),
        };
        match Pin::new(timer).poll(cx) {
            Poll::Ready(_) => {
                self.timer = None;
                None
            }
            Poll::Pending => Some(next),
        }
    }
}
