//! `ringway produce`: one line = one record, in batches, each acknowledged once it is on disk.

use super::progress::Progress;
use super::server::{Connection, Server, unexpected};
use crate::refusal::{FAILED, Refusal};
use ringway_client::native::{NativeReply, TopicMetadata};
use ringway_client::partitioner::partition_of_key;
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::header::KAFKA_HEADER_LEN;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A batch is sent at this size at the latest.
const BATCH_BYTES: usize = 256 << 10;
/// Input read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead of sending.
const CHUNKS_AHEAD: usize = 8;
/// Batches of one connection that wait for their acknowledgement.
const BATCHES_IN_FLIGHT: usize = 32;
/// A silent connection says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Arguments of `produce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topic.
    topic: String,
    /// File to read, `-` = standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// What stands before it in a line is the record's key; a line without it has none.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Sends everything and waits until all of it is acknowledged.
pub(crate) fn run(args: Args) -> Result<ExitCode, Refusal> {
    let mut connection = args.server.connect()?;
    let message_bytes_max = connection.message_bytes_max()?;
    let topic = connection.topic(&args.topic)?;
    drop(connection);
    let (input, bytes) = open(&args.file)?;
    let chunks = read_ahead(input)?;
    let mut producer = Producer {
        partitions: topic.partitions.iter().map(|_| Partition::default()).collect(),
        connections: BTreeMap::new(),
        separator: args.key_separator.map(String::into_bytes).filter(|text| !text.is_empty()),
        sticky: 0,
        sent: 0,
        acknowledged: 0,
        server: args.server,
        topic,
        message_bytes_max,
    };
    let progress = Progress::new(bytes, "acknowledged");
    match producer.send_all(&chunks, &progress) {
        Ok(()) => progress.finish(),
        Err(refusal) => {
            progress.finish();
            let told = producer.acknowledged;
            let text =
                format!("{}; {told} of {} records acknowledged", refusal.text, producer.sent);
            return Err(Refusal { text, ..refusal });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(path: &PathBuf) -> Result<(Box<dyn Read + Send>, Option<u64>), Refusal> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let named = path.display().to_string();
    let file = File::open(path).map_err(|cause| Refusal::failed(&named, &cause))?;
    let facts = file.metadata().map_err(|cause| Refusal::failed(&named, &cause))?;
    let bytes = facts.is_file().then_some(facts.len());
    Ok((Box::new(file), bytes))
}

type Chunk = std::io::Result<Vec<u8>>;

/// Reads on a thread of its own, so that a quiet input neither delays batches nor heartbeats.
fn read_ahead(mut input: Box<dyn Read + Send>) -> Result<Receiver<Chunk>, Refusal> {
    let (chunks, receiver) = sync_channel(CHUNKS_AHEAD);
    let mut read = move |chunks: &SyncSender<Chunk>| {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            match input.read(&mut chunk) {
                Ok(0) => return,
                Ok(bytes) => {
                    chunk.truncate(bytes);
                    if chunks.send(Ok(chunk)).is_err() {
                        return;
                    }
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    drop(chunks.send(Err(cause)));
                    return;
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || read(&chunks))
        .map_err(|cause| Refusal::failed("input thread", &cause))?;
    Ok(receiver)
}

/// The open batch of one partition.
struct Partition {
    batch: BatchWriter,
}

impl Default for Partition {
    fn default() -> Partition {
        Partition { batch: BatchWriter::new(BatchOptions::default()) }
    }
}

/// A connection and the records of each batch in flight, oldest first by correlation.
struct Link {
    connection: Connection,
    waiting: BTreeMap<u64, u64>,
}

struct Producer {
    server: Server,
    topic: TopicMetadata,
    partitions: Vec<Partition>,
    /// By the address of the owning shard.
    connections: BTreeMap<String, Link>,
    separator: Option<Vec<u8>>,
    /// Records without key go here until its batch is full.
    sticky: usize,
    sent: u64,
    acknowledged: u64,
    message_bytes_max: usize,
}

impl Producer {
    fn send_all(&mut self, chunks: &Receiver<Chunk>, progress: &Progress) -> Result<(), Refusal> {
        let mut line: Vec<u8> = Vec::new();
        while let Some(chunk) = self.next_chunk(chunks)? {
            let mut rest = chunk.as_slice();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                if line.is_empty() {
                    self.push(&rest[..end])?;
                } else {
                    line.extend_from_slice(&rest[..end]);
                    self.push(&line)?;
                    line.clear();
                }
                rest = &rest[end + 1..];
            }
            line.extend_from_slice(rest);
            self.refuse_above(line.len())?;
            progress.advance(chunk.len(), self.acknowledged);
        }
        if !line.is_empty() {
            self.push(&line)?;
        }
        self.send_batches()?;
        self.await_acknowledgements(0)
    }

    /// The next input; while there is none, open batches go out and connections are kept alive.
    fn next_chunk(&mut self, chunks: &Receiver<Chunk>) -> Result<Option<Vec<u8>>, Refusal> {
        let mut chunk = match chunks.try_recv() {
            Ok(chunk) => Some(chunk),
            Err(TryRecvError::Disconnected) => return Ok(None),
            Err(TryRecvError::Empty) => {
                self.send_batches()?;
                None
            }
        };
        while chunk.is_none() {
            match chunks.recv_timeout(HEARTBEAT) {
                Ok(read) => chunk = Some(read),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.keep_alive()?,
            }
        }
        chunk.transpose().map_err(|cause| Refusal::failed("input", &cause))
    }

    fn keep_alive(&mut self) -> Result<(), Refusal> {
        self.await_acknowledgements(0)?;
        for link in self.connections.values_mut() {
            link.connection.queue(|session, out| session.heartbeat(out))?;
            link.connection.flush()?;
        }
        Ok(())
    }

    fn push(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (key, value) = match &self.separator {
            Some(separator) => split_key(line, separator),
            None => (None, line),
        };
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        let at = match key {
            Some(key) => partition_of_key(key, count) as usize,
            None => self.sticky,
        };
        // A line of its own may be as long as the topic allows; it never joins a batch it overfills.
        if self.partitions[at].batch.len() + line.len() > BATCH_BYTES {
            self.send_batch(at)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let batch = &mut self.partitions[at].batch;
        batch
            .push(now, key, Some(value), &[])
            .map_err(|error| Refusal { code: FAILED, text: error.to_string() })?;
        if batch.len() >= BATCH_BYTES {
            self.send_batch(at)?;
        }
        Ok(())
    }

    fn send_batches(&mut self) -> Result<(), Refusal> {
        for at in 0..self.partitions.len() {
            self.send_batch(at)?;
        }
        Ok(())
    }

    /// The broker would close the connection for it.
    fn refuse_above(&self, bytes: usize) -> Result<(), Refusal> {
        let most = self.message_bytes_max;
        if bytes <= most {
            return Ok(());
        }
        let text = format!(
            "a line takes {bytes} bytes, the broker {most} at most (limits.message_bytes_max)"
        );
        Err(Refusal { code: FAILED, text })
    }

    /// Sends partition `at`'s batch, unless it is empty; keyless records go to the next partition then.
    fn send_batch(&mut self, at: usize) -> Result<(), Refusal> {
        let batch = &mut self.partitions[at].batch;
        if batch.is_empty() {
            return Ok(());
        }
        batch.finish().map_err(|error| Refusal { code: FAILED, text: error.to_string() })?;
        let bytes = batch.batch().len().saturating_sub(KAFKA_HEADER_LEN);
        self.refuse_above(bytes)?;
        let batch = &mut self.partitions[at].batch;
        let records = u64::try_from(batch.count()).unwrap_or(0);
        let owner = &self.topic.partitions[at];
        let (topic_id, partition) = (self.topic.topic_id, owner.partition);
        let link = match self.connections.entry(owner.address.clone()) {
            std::collections::btree_map::Entry::Occupied(link) => link.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let connection = self.server.connect_shard(&owner.address)?;
                place.insert(Link { connection, waiting: BTreeMap::new() })
            }
        };
        let correlation = link
            .connection
            .queue(|session, out| session.produce(out, topic_id, partition, batch.batch()))?;
        link.connection.flush()?;
        link.waiting.insert(correlation, records);
        batch.reset(BatchOptions::default());
        self.sent += records;
        if at == self.sticky {
            self.sticky = (self.sticky + 1) % self.partitions.len();
        }
        self.await_acknowledgements(BATCHES_IN_FLIGHT)
    }

    /// Waits until no connection has more than `in_flight` batches unanswered.
    fn await_acknowledgements(&mut self, in_flight: usize) -> Result<(), Refusal> {
        for link in self.connections.values_mut() {
            while link.connection.in_flight() > in_flight {
                self.acknowledged += link.acknowledged()?;
            }
        }
        Ok(())
    }
}

impl Link {
    /// Records of the next batch that is answered.
    fn acknowledged(&mut self) -> Result<u64, Refusal> {
        match self.connection.reply()? {
            NativeReply::Acked { correlation, .. } => {
                Ok(self.waiting.remove(&correlation).unwrap_or(0))
            }
            NativeReply::Error { code, message, .. } => {
                Err(Refusal { code: FAILED, text: format!("{message} ({})", code.name()) })
            }
            reply => Err(unexpected(&reply)),
        }
    }
}

/// Key and value around the first separator.
fn split_key<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    let at = line.windows(separator.len()).position(|window| window == separator);
    match at {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_at_the_first_separator() {
        for (line, key, value) in [
            ("a:b", Some("a"), "b"),
            ("a:b:c", Some("a"), "b:c"),
            (":b", Some(""), "b"),
            ("a:", Some("a"), ""),
            ("ab", None, "ab"),
            ("", None, ""),
        ] {
            let (found_key, found_value) = split_key(line.as_bytes(), b":");
            assert_eq!(found_key, key.map(str::as_bytes), "{line}");
            assert_eq!(found_value, value.as_bytes(), "{line}");
        }
        assert_eq!(split_key(b"a::b", b"::"), (Some(&b"a"[..]), &b"b"[..]));
    }
}
