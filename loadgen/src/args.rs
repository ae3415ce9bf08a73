//! The command line, checked.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of a record's own fields (`record.rs`); no value is shorter.
pub(crate) const SIZE_MIN: usize = crate::record::HEAD_BYTES;
/// Bytes of one request at most: what Kafka's default `socket.request.max.bytes` takes.
const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Connections at most: one file each, below the usual limit of 20,000.
const CONNECTIONS_MAX: usize = 10_000;

/// Sends records on a schedule, reads them back, and checks every one.
#[derive(Parser, Debug)]
#[command(name = "ringway-loadgen", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Subcommands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run one load against one server.
    #[command(after_long_help = EXAMPLES)]
    Run(Box<RunArgs>),
}

const EXAMPLES: &str = "\
Examples:
  End to end, 5,000 records of 1,000 bytes per second, for 30 s:
    ringway-loadgen run --target native://127.0.0.1:7420 --mode e2e --rate 5000 --size 1000 --duration 30

  As fast as 8 requests of 1,000 records in flight allow, on the Kafka door, result as JSON:
    ringway-loadgen run --target kafka://127.0.0.1:9092 --mode produce --size 1000 --batch 1000 --in-flight 8 --json -

  Read a topic from its beginning to what is now its end, and check order, gaps, duplicates and bytes:
    ringway-loadgen run --target kafka://127.0.0.1:9092 --mode consume --topic loadgen

  Single records into a Redis stream, for comparison, client on core 1:
    ringway-loadgen run --target redis://127.0.0.1:6379 --mode produce --in-flight 256 --cpus 1

Latency counts from the moment a record was due, not from when it could be sent: a server that stalls
is charged for every record it delayed. With --rate max there is no schedule, and latency counts from the send.

Exit codes: 0 all well; 1 records lost, duplicated, reordered or corrupt, or the run failed; 2 wrong
arguments; 69 the server cannot be reached.";

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Server: native://HOST:PORT, kafka://HOST:PORT or redis://HOST:PORT.
    #[arg(long, value_parser = parse_target)]
    pub(crate) target: Target,
    /// Write, read what is there, or both at once with latency from end to end.
    #[arg(long, value_enum, default_value_t = Mode::E2e)]
    pub(crate) mode: Mode,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 100)]
    pub(crate) size: usize,
    /// Records per request (Redis: pipelined XADDs per request).
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Requests in flight per connection.
    #[arg(long, default_value_t = 256)]
    pub(crate) in_flight: usize,
    /// Records per second over all connections, or `max`.
    #[arg(long, default_value = "max", value_parser = parse_rate)]
    pub(crate) rate: Rate,
    /// Seconds before anything is measured; what is sent then is still checked.
    #[arg(long, default_value = "1", value_parser = parse_seconds)]
    pub(crate) warmup: Duration,
    /// Seconds measured.
    #[arg(long, default_value = "10", value_parser = parse_seconds)]
    pub(crate) duration: Duration,
    /// Seconds to wait for outstanding acknowledgements and records at the end.
    #[arg(long, default_value = "10", value_parser = parse_seconds)]
    pub(crate) drain: Duration,
    /// Topic; created if absent. Redis: prefix of the stream keys.
    #[arg(long, default_value = "loadgen")]
    pub(crate) topic: String,
    /// Partitions of the topic if it is created; all partitions it has are used.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: u32,
    /// Producing connections (and as many consuming ones, at most one per partition).
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Cores of the client, e.g. 1 or 2-5,8. One thread each. Default: the last allowed core.
    #[arg(long, value_parser = parse_cpus)]
    pub(crate) cpus: Option<CpuList>,
    /// Bytes a fetch may bring per partition.
    #[arg(long, default_value_t = 4 * 1024 * 1024)]
    pub(crate) fetch_bytes: u32,
    /// Dial again when a connection breaks, instead of failing; what was in flight counts as neither
    /// acknowledged nor lost.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Write the result as JSON here (- = stdout); keys: docs/loadgen.md.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the latency distribution here, in HdrHistogram's percentile text form.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
    /// Write every send, acknowledgement and poll here, one JSON line each.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Send a mark to this Unix socket whenever acknowledgements have come: M and their t_us, u64 LE.
    #[arg(long, value_name = "SOCKET", requires = "history")]
    pub(crate) mark: Option<PathBuf>,
}

impl RunArgs {
    /// Refuses what cannot work, naming argument, value and range.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.size < SIZE_MIN {
            bail!(
                "--size {} is below {SIZE_MIN}, the bytes each record needs to be checked",
                self.size
            );
        }
        let request = self.batch.saturating_mul(self.size.saturating_add(32));
        if self.batch == 0 || request > REQUEST_BYTES_MAX {
            bail!("--batch {}: a request must hold 1 record or more, up to 100 MiB", self.batch);
        }
        if self.in_flight == 0 || self.partitions == 0 {
            bail!("--in-flight and --partitions must be at least 1");
        }
        if self.connections == 0 || self.connections > CONNECTIONS_MAX {
            bail!("--connections {} is outside 1..={CONNECTIONS_MAX}", self.connections);
        }
        if self.duration.is_zero() {
            bail!("--duration must be above 0");
        }
        Ok(())
    }
}

/// What to do with the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Write; latency until the acknowledgement.
    Produce,
    /// Read from the beginning to what is the end now.
    Consume,
    /// Write and read at once; latency until the record is read back.
    E2e,
}

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// As the requests in flight allow.
    Max,
    /// Records per second.
    PerSecond(f64),
}

/// Which protocol, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Protocol.
    pub(crate) dialect: Dialect,
    /// As given, for messages.
    pub(crate) text: String,
    /// Host and port.
    pub(crate) address: String,
}

/// Protocols spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ringway's own.
    Native,
    /// Kafka's.
    Kafka,
    /// Redis streams.
    Redis,
}

/// Cores in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

/// The first address of `host:port`.
///
/// # Errors
/// The name does not resolve.
pub(crate) fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut found =
        address.to_socket_addrs().with_context(|| format!("cannot resolve {address}"))?;
    found.next().with_context(|| format!("{address} has no address"))
}

fn parse_target(text: &str) -> Result<Target, String> {
    let (scheme, address) =
        text.split_once("://").ok_or("expected native://, kafka:// or redis://HOST:PORT")?;
    let dialect = match scheme {
        "native" => Dialect::Native,
        "kafka" => Dialect::Kafka,
        "redis" => Dialect::Redis,
        other => return Err(format!("unknown protocol {other}: use native, kafka or redis")),
    };
    let address = address.trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() {
        return Err(format!("{address} lacks a port"));
    }
    Ok(Target { dialect, text: text.to_owned(), address: address.to_owned() })
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate::PerSecond(rate)),
        _ => Err("expected a number above 0, or max".into()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse::<f64>().map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.parse().map_err(|_| format!("{part} is no core"))?;
        let last: u16 = last.parse().map_err(|_| format!("{part} is no core"))?;
        if last < first {
            return Err(format!("{part} runs backwards"));
        }
        cpus.extend((first..=last).map(usize::from));
    }
    Ok(CpuList(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn targets_name_protocol_and_port() {
        let target = parse_target("kafka://127.0.0.1:9092/").unwrap();
        assert_eq!((target.dialect, target.address.as_str()), (Dialect::Kafka, "127.0.0.1:9092"));
        assert!(parse_target("127.0.0.1:9092").is_err());
        assert!(parse_target("http://127.0.0.1:1").is_err());
        assert!(parse_target("native://localhost").is_err());
    }

    #[test]
    fn cores_are_lists_of_numbers_and_ranges() {
        assert_eq!(parse_cpus("2-4,8"), Ok(CpuList(vec![2, 3, 4, 8])));
        assert!(parse_cpus("4-2").is_err());
        assert!(parse_cpus("a").is_err());
    }

    #[test]
    fn rates_are_positive_or_max() {
        assert_eq!(parse_rate("max"), Ok(Rate::Max));
        assert_eq!(parse_rate("5_000"), Ok(Rate::PerSecond(5000.0)));
        assert!(parse_rate("0").is_err());
        assert!(parse_rate("-1").is_err());
    }
}
