//! `ringway consume`: prints records of some or all partitions, raw or as JSON.

use super::from::From;
use super::server::{Connection, Server, unexpected};
use crate::refusal::{FAILED, Refusal};
use bytes::Bytes;
use clap::ValueEnum;
use ringway_client::native::{At, Fetch, ListOffsets, NamedOffset, NativeReply, TopicMetadata};
use ringway_client::records;
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

mod print;

pub(super) use print::Printer;

/// Bytes of one fetch at most.
const FETCH_BYTES: u32 = 1 << 20;
/// How long the broker may hold a fetch for which it has nothing.
const WAIT_MS: u32 = 1_000;
/// The same where several partitions share a connection and answer in turn.
const WAIT_SHARED_MS: u32 = 100;
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
}

/// What a connection's thread brings.
type Brought = Result<(u32, u64, Bytes), Refusal>;

/// Prints until the end that was asked for.
pub(crate) fn run(args: Args) -> Result<ExitCode, Refusal> {
    let mut connection = args.server.connect()?;
    let topic = connection.topic(&args.topic)?;
    let places = places(&mut connection, &topic, &args)?;
    let mut printer = Printer::new(&args.topic, args.output, args.key, args.headers, args.count);
    if args.count == Some(0) {
        return Ok(ExitCode::SUCCESS);
    }
    let brought = start_readers(&args.server, &topic, places)?;
    print_all(&brought, &mut printer)?;
    Ok(ExitCode::SUCCESS)
}

/// Where each wanted partition begins and, without following, ends.
fn places(
    connection: &mut Connection,
    topic: &TopicMetadata,
    args: &Args,
) -> Result<BTreeMap<u32, Place>, Refusal> {
    let all = topic.partitions.iter().map(|row| row.partition);
    let wanted = if args.partitions.is_empty() { all.collect() } else { args.partitions.clone() };
    let mut places = BTreeMap::new();
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
        if upto.is_none_or(|upto| next < upto) {
            places.insert(partition, Place { next, upto });
        }
    }
    Ok(places)
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
        let reader =
            Reader { connection, topic_id: topic.topic_id, asked: BTreeMap::new(), places };
        let bring = bring.clone();
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || reader.run(&bring))
            .map_err(|cause| Refusal::failed("reader thread", &cause))?;
    }
    Ok(brought)
}

/// One connection with a fetch in flight for each of its partitions.
struct Reader {
    connection: Connection,
    topic_id: u64,
    /// Partition by correlation.
    asked: BTreeMap<u64, u32>,
    places: BTreeMap<u32, Place>,
}

impl Reader {
    fn run(mut self, bring: &SyncSender<Brought>) {
        if let Err(refusal) = self.read(bring) {
            // The printer may have had enough already.
            drop(bring.send(Err(refusal)));
        }
    }

    fn read(&mut self, bring: &SyncSender<Brought>) -> Result<(), Refusal> {
        let partitions: Vec<u32> = self.places.keys().copied().collect();
        for partition in partitions {
            self.ask(partition)?;
        }
        while !self.asked.is_empty() {
            self.connection.flush()?;
            let reply = self.connection.reply()?;
            let correlation = reply.correlation();
            let partition = self.asked.remove(&correlation).ok_or_else(|| unexpected(&reply))?;
            match reply {
                NativeReply::Fetched { frames, .. } => {
                    let from = self.places.get(&partition).map_or(0, |place| place.next);
                    let more = self.advance(partition, &frames)?;
                    if !frames.is_empty() && bring.send(Ok((partition, from, frames))).is_err() {
                        return Ok(());
                    }
                    if more {
                        self.ask(partition)?;
                    }
                }
                NativeReply::Error { code: ErrorCode::OffsetOutOfRange, .. } => {
                    self.ask_start(partition)?;
                }
                NativeReply::Offset { reply, .. } => self.begin_anew(partition, reply.offset)?,
                NativeReply::Error { code, message, .. } => {
                    let text = format!("partition {partition}: {message} ({})", code.name());
                    return Err(Refusal { code: FAILED, text });
                }
                reply => return Err(unexpected(&reply)),
            }
        }
        Ok(())
    }

    fn ask(&mut self, partition: u32) -> Result<(), Refusal> {
        let Some(place) = self.places.get(&partition) else { return Ok(()) };
        let wait_ms_max = if self.places.len() > 1 { WAIT_SHARED_MS } else { WAIT_MS };
        let request = Fetch {
            topic_id: self.topic_id,
            partition,
            offset: place.next,
            bytes_max: FETCH_BYTES,
            bytes_min: 1,
            wait_ms_max,
        };
        let correlation = self.connection.queue(|session, out| session.fetch(out, &request))?;
        self.asked.insert(correlation, partition);
        Ok(())
    }

    /// Moves behind `frames`; whether there is more to fetch.
    fn advance(&mut self, partition: u32, frames: &[u8]) -> Result<bool, Refusal> {
        let Some(place) = self.places.get_mut(&partition) else { return Ok(false) };
        for frame in records::frames(frames) {
            let (header, _) = frame.map_err(|error| Refusal::failed("fetched frame", &error))?;
            let end = header.last_offset().map_or(0, |last| last.saturating_add(1));
            place.next = place.next.max(end);
        }
        Ok(place.upto.is_none_or(|upto| place.next < upto))
    }

    /// Retention took the offset away, or it was never there.
    fn ask_start(&mut self, partition: u32) -> Result<(), Refusal> {
        let at = At::Named(NamedOffset::Earliest);
        let request = ListOffsets { topic_id: self.topic_id, partition, at };
        let correlation =
            self.connection.queue(|session, out| session.list_offsets(out, &request))?;
        self.asked.insert(correlation, partition);
        Ok(())
    }

    /// On from what is kept, if that lies ahead.
    fn begin_anew(&mut self, partition: u32, start: i64) -> Result<(), Refusal> {
        let Some(place) = self.places.get_mut(&partition) else { return Ok(()) };
        let start = u64::try_from(start).unwrap_or(0);
        if start <= place.next {
            let text = format!("partition {partition} has no offset {} yet", place.next);
            return Err(Refusal { code: FAILED, text });
        }
        place.next = start;
        self.ask(partition)
    }
}

fn print_all(brought: &Receiver<Brought>, printer: &mut Printer) -> Result<(), Refusal> {
    loop {
        let next = match brought.try_recv() {
            Ok(next) => next,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                // Nothing is on its way: what was printed should be seen.
                if printer.flush().is_err() {
                    return Ok(());
                }
                match brought.recv() {
                    Ok(next) => next,
                    Err(_) => break,
                }
            }
        };
        let (partition, from, frames) = next?;
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
                Err(_) => return Ok(()),
            }
        }
        if printer.done() {
            break;
        }
    }
    drop(printer.flush());
    Ok(())
}
