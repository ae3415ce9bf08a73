//! `ringway consume`: prints records of some or all partitions, raw or as JSON.

use super::from::From;
use super::server::{Connection, Server, unexpected};
use crate::refusal::{FAILED, Refusal};
use clap::ValueEnum;
use reader::{Brought, Reader};
use ringway_client::native::{At, ListOffsets, NamedOffset, NativeReply, TopicMetadata};
use ringway_client::records;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Instant;

mod print;
mod reader;

pub(super) use print::Printer;

/// Fetches read ahead of printing.
const FETCHES_AHEAD: usize = 16;

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// The value's bytes and a newline.
    #[default]
    Raw,
    /// One object per line.
    Json,
}

/// Arguments of `consume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topic.
    topic: String,
    /// Where to begin: beginning, end, offset:N, @2026-01-31T12:00:00Z, -1h.
    #[arg(long, value_name = "PLACE", default_value = "end", allow_hyphen_values = true)]
    from: From,
    /// Stop after so many records.
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<u64>,
    /// Partitions, such as `0` or `0,3` [default: all].
    #[arg(short = 'p', long = "partition", value_name = "P", value_delimiter = ',')]
    partitions: Vec<u32>,
    /// Stop at what is there now.
    #[arg(long)]
    no_follow: bool,
    /// Print the key and a tab before the value.
    #[arg(long)]
    key: bool,
    /// Print the headers and a tab before key and value.
    #[arg(long)]
    headers: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// One partition's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    next: u64,
    /// Not beyond this offset.
    upto: Option<u64>,
    /// When the broker first gave nothing although there is more.
    stands_since: Option<Instant>,
}

/// Prints until the end that was asked for; partitions that cannot be read make it a failure, not an end.
pub(crate) fn run(args: Args) -> Result<ExitCode, Refusal> {
    let mut connection = args.server.connect()?;
    let topic = connection.topic(&args.topic)?;
    let (places, beyond) = places(&mut connection, &topic, &args)?;
    let mut printer = Printer::new(&args.topic, args.output, args.key, args.headers, args.count);
    if args.count == Some(0) {
        return Ok(ExitCode::SUCCESS);
    }
    beyond.iter().for_each(|why| complain(why));
    let brought = start_readers(&args.server, &topic, places)?;
    let whole = print_all(&brought, &mut printer)?;
    Ok(if whole && beyond.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// One line about a partition.
fn complain(why: &str) {
    // A closed stderr is nobody's business.
    drop(writeln!(std::io::stderr().lock(), "ringway: {why}"));
}

/// Where each wanted partition begins and, without following, ends; and why others have nothing to begin at.
fn places(
    connection: &mut Connection,
    topic: &TopicMetadata,
    args: &Args,
) -> Result<(BTreeMap<u32, Place>, Vec<String>), Refusal> {
    let all = topic.partitions.iter().map(|row| row.partition);
    let wanted = if args.partitions.is_empty() { all.collect() } else { args.partitions.clone() };
    let (mut places, mut beyond) = (BTreeMap::new(), Vec::new());
    for partition in wanted {
        if partition as usize >= topic.partitions.len() {
            let count = topic.partitions.len();
            let text = format!("topic {} has no partition {partition}, only {count}", topic.name);
            return Err(Refusal::usage(text));
        }
        let mut ask = |at| offset_at(connection, topic.topic_id, partition, at);
        // Asked in any case: a partition that answers is open, so that fetches find it so.
        let latest = ask(At::Named(NamedOffset::Latest))?.unwrap_or(0);
        let upto = args.no_follow.then_some(latest);
        let next = match args.from.question() {
            Err(offset) => offset,
            // Nothing that young: then what comes from now on.
            Ok(at) => ask(at)?.unwrap_or(latest),
        };
        if next > latest {
            let name = &topic.name;
            beyond.push(format!(
                "{name}/{partition}: offset {next} is beyond the end: the next record gets {latest}"
            ));
        } else if upto.is_none_or(|upto| next < upto) {
            places.insert(partition, Place { next, upto, stands_since: None });
        }
    }
    Ok((places, beyond))
}

fn offset_at(
    connection: &mut Connection,
    topic_id: u64,
    partition: u32,
    at: At,
) -> Result<Option<u64>, Refusal> {
    let request = ListOffsets { topic_id, partition, at };
    let reply = connection.call(|session, out| session.list_offsets(out, &request))?;
    let NativeReply::Offset { reply, .. } = reply else { return Err(unexpected(&reply)) };
    Ok(u64::try_from(reply.offset).ok())
}

/// One thread per shard, so that none waits for another; the channel ends when all have.
fn start_readers(
    server: &Server,
    topic: &TopicMetadata,
    places: BTreeMap<u32, Place>,
) -> Result<Receiver<Brought>, Refusal> {
    let mut by_address: BTreeMap<&str, BTreeMap<u32, Place>> = BTreeMap::new();
    for (partition, place) in places {
        let address = topic.partitions[partition as usize].address.as_str();
        by_address.entry(address).or_default().insert(partition, place);
    }
    let (bring, brought) = sync_channel(FETCHES_AHEAD);
    for (address, places) in by_address {
        let connection = server.connect_shard(address)?;
        let reader = Reader {
            connection,
            topic: topic.name.clone(),
            topic_id: topic.topic_id,
            timeout: server.timeout,
            asked: BTreeMap::new(),
            places,
        };
        let bring = bring.clone();
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || reader.run(&bring))
            .map_err(|cause| Refusal::failed("reader thread", &cause))?;
    }
    Ok(brought)
}

/// Whether every partition was read as far as was asked for.
fn print_all(brought: &Receiver<Brought>, printer: &mut Printer) -> Result<bool, Refusal> {
    let mut whole = true;
    loop {
        let next = match brought.try_recv() {
            Ok(next) => next,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                // Nothing is on its way: what was printed should be seen.
                if printer.flush().is_err() {
                    return Ok(whole);
                }
                match brought.recv() {
                    Ok(next) => next,
                    Err(_) => break,
                }
            }
        };
        let (partition, from, frames) = match next {
            Brought::Frames(partition, from, frames) => (partition, from, frames),
            Brought::Stopped(why) => {
                complain(&why);
                whole = false;
                continue;
            }
            Brought::Lost(refusal) => {
                drop(printer.flush());
                return Err(refusal);
            }
        };
        for frame in records::frames(&frames) {
            let (_, view) = frame.map_err(|error| Refusal::failed("fetched frame", &error))?;
            let mut written = Ok(true);
            let walked = records::walk(&view, |record| {
                let due = u64::try_from(record.offset).is_ok_and(|offset| offset >= from);
                if due && matches!(written, Ok(true)) {
                    written = printer.print(partition, &record);
                }
            });
            walked.map_err(|error| Refusal::failed("fetched batch", &error))?;
            match written {
                Ok(true) => {}
                // Enough printed, or nobody reads any more.
                Ok(false) => break,
                Err(_) => return Ok(whole),
            }
        }
        if printer.done() {
            break;
        }
    }
    drop(printer.flush());
    Ok(whole)
}
