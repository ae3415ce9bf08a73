//! A blocking connection to a broker's native port, around the client core that knows no sockets.

use super::Output;
use crate::config::units;
use crate::refusal::{FAILED, Refusal, UNREACHABLE};
use clap::Args;
use ringway_client::ClientError;
use ringway_client::native::{NativeReply, NativeSession, TopicMetadata};
use ringway_wire::error_code::ErrorCode;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

/// How soon a partition that is opening is asked again.
const OPENING_RETRY: Duration = Duration::from_millis(20);
/// Bytes read from the socket at once.
const READ_BYTES: usize = 256 << 10;

/// Where the broker is and how patient the command is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Server {
    /// Native address of a broker.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "RINGWAY_SERVER",
        default_value = "127.0.0.1:7420"
    )]
    pub(crate) server: String,
    /// How long to wait for the broker, such as `500ms` or `10s`.
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let time = units::parse_duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "a time above zero with its unit is needed, such as 500ms or 10s".to_owned())
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    session: NativeSession,
    out: Vec<u8>,
    buffer: Vec<u8>,
    address: String,
    timeout: Duration,
}

impl Server {
    /// Connects to the broker itself.
    pub(crate) fn connect(&self) -> Result<Connection, Refusal> {
        Connection::open(&self.server, self.timeout)
    }

    /// Connects to the shard at `address`, or to the broker where shards cannot be reached one by one.
    pub(crate) fn connect_shard(&self, address: &str) -> Result<Connection, Refusal> {
        if address.is_empty() {
            return self.connect();
        }
        Connection::open(address, self.timeout).or_else(|_| self.connect())
    }
}

impl Connection {
    fn open(address: &str, timeout: Duration) -> Result<Connection, Refusal> {
        let stream = connect(address, timeout)?;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(timeout)))
            .and_then(|()| stream.set_write_timeout(Some(timeout)));
        prepared.map_err(|cause| unreachable(address, &cause))?;
        Ok(Connection {
            stream,
            session: NativeSession::new(),
            out: Vec::new(),
            buffer: vec![0; READ_BYTES],
            address: address.to_owned(),
            timeout,
        })
    }

    /// Requests sent and not yet answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.session.in_flight()
    }

    /// Queues a request; [`Connection::flush`] sends it.
    pub(crate) fn queue<T>(
        &mut self,
        request: impl FnOnce(&mut NativeSession, &mut Vec<u8>) -> Result<T, ClientError>,
    ) -> Result<T, Refusal> {
        request(&mut self.session, &mut self.out)
            .map_err(|error| Refusal { code: FAILED, text: error.to_string() })
    }

    /// Sends what is queued.
    pub(crate) fn flush(&mut self) -> Result<(), Refusal> {
        self.stream.write_all(&self.out).map_err(|cause| self.lost(&cause))?;
        self.out.clear();
        Ok(())
    }

    /// The next answer, waited for.
    pub(crate) fn reply(&mut self) -> Result<NativeReply, Refusal> {
        loop {
            if let Some(reply) = self.ready_reply()? {
                return Ok(reply);
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(self.lost(&ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => self.session.receive(&self.buffer[..bytes]),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.lost(&cause)),
            }
        }
    }

    /// The next answer, if it has come already.
    pub(crate) fn ready_reply(&mut self) -> Result<Option<NativeReply>, Refusal> {
        self.session.next_reply().map_err(|error| {
            let text = format!("{} does not speak the native protocol: {error}", self.address);
            Refusal { code: FAILED, text }
        })
    }

    /// One request and its answer; an error of the server is a refusal. A partition that was just made, or whose
    /// broker has just started, opens in a moment: it is asked again for as long as the command is patient.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing tells a client that a partition has opened"
    )]
    pub(crate) fn call(
        &mut self,
        request: impl Fn(&mut NativeSession, &mut Vec<u8>) -> Result<u64, ClientError>,
    ) -> Result<NativeReply, Refusal> {
        let begun = Instant::now();
        loop {
            self.queue(&request)?;
            self.flush()?;
            match self.reply()? {
                NativeReply::Error { code: ErrorCode::NotLeaderOrFollower, .. }
                    if begun.elapsed() < self.timeout =>
                {
                    std::thread::sleep(OPENING_RETRY);
                }
                NativeReply::Error { code, message, .. } => {
                    let text = format!("{message} ({})", code.name());
                    return Err(Refusal { code: FAILED, text });
                }
                reply => return Ok(reply),
            }
        }
    }

    /// One topic with the shards of its partitions.
    pub(crate) fn topic(&mut self, name: &str) -> Result<TopicMetadata, Refusal> {
        let reply = self.call(|session, out| session.metadata(out, Some(&[name])))?;
        let NativeReply::Metadata { reply, .. } = reply else { return Err(unexpected(&reply)) };
        match reply.topics.into_iter().find(|topic| topic.name == name) {
            Some(topic) if topic.code == 0 => Ok(topic),
            _ => {
                let text = format!("topic {name} does not exist: ringway topic create {name}");
                Err(Refusal { code: FAILED, text })
            }
        }
    }

    /// The most bytes of records that the broker takes in one batch.
    pub(crate) fn message_bytes_max(&mut self) -> Result<usize, Refusal> {
        let reply = self.call(|session, out| session.hello(out))?;
        let NativeReply::HelloOk { reply, .. } = reply else { return Err(unexpected(&reply)) };
        Ok(usize::try_from(reply.limits.message_bytes_max).unwrap_or(usize::MAX))
    }

    fn lost(&self, cause: &std::io::Error) -> Refusal {
        let (address, limit) = (&self.address, units::show_duration(self.timeout));
        let text = match cause.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("the broker at {address} did not answer within {limit} (--timeout)")
            }
            _ => format!("lost the connection to the broker at {address}: {cause}"),
        };
        Refusal { code: UNREACHABLE, text }
    }
}

/// An answer of another kind than was asked for.
pub(crate) fn unexpected(reply: &NativeReply) -> Refusal {
    Refusal { code: FAILED, text: format!("unexpected answer of the broker: {reply:?}") }
}

fn connect(address: &str, timeout: Duration) -> Result<TcpStream, Refusal> {
    let found = address.to_socket_addrs().map_err(|cause| unreachable(address, &cause))?;
    let mut failure = unreachable(address, &"the name has no address");
    for socket in found {
        match TcpStream::connect_timeout(&socket, timeout) {
            Ok(stream) => return Ok(stream),
            Err(cause) => failure = unreachable(address, &cause),
        }
    }
    Err(failure)
}

fn unreachable(address: &str, cause: &dyn std::fmt::Display) -> Refusal {
    let text = format!("no broker at {address}: {cause}; start one, or name another by --server");
    Refusal { code: UNREACHABLE, text }
}

/// Prints rows for people or one JSON value for programs; a closed stdout is nobody's business.
pub(crate) fn print(output: Output, table: impl FnOnce() -> String, json: &serde_json::Value) {
    let mut text = match output {
        Output::Table => table(),
        Output::Json => json.to_string(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}
