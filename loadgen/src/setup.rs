//! Before the run: is the server there, does the topic exist, who leads its partitions, where do they end.
//! Plain blocking sockets; nothing here is measured.

use crate::args::{Dialect, Mode, RunArgs, resolve};
use crate::door::Position;
use crate::door::redis::stream_key;
use crate::resp::{self, Replies, Value};
use anyhow::{Context, bail};
use bytes::Bytes;
use ringway_client::kafka::{EARLIEST, KafkaReply, KafkaSession, LATEST, TopicSpec};
use ringway_client::native::{At, ListOffsets, NamedOffset, NativeReply, NativeSession};
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// To connect, and to wait for any single answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new topic may take until it has leaders.
const TOPIC_READY: Duration = Duration::from_secs(10);

/// The server does not answer at all.
#[derive(Debug)]
pub(crate) struct Unreachable(String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where its leader listens.
    pub(crate) address: SocketAddr,
    /// Where a consumer starts.
    pub(crate) from: Position,
    /// Where its log ended when the run began.
    pub(crate) end_offset: i64,
    /// Redis: id of its last entry.
    pub(crate) end_id: Bytes,
}

/// The topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Native number of the topic, 0 elsewhere.
    pub(crate) topic_id: u64,
    /// Its partitions by index.
    pub(crate) places: Vec<Place>,
}

/// Finds or creates the topic and asks where its partitions begin and end.
///
/// # Errors
/// [`Unreachable`], or the server refuses.
pub(crate) fn prepare(args: &RunArgs) -> anyhow::Result<Layout> {
    let address = resolve(&args.target.address)?;
    match args.target.dialect {
        Dialect::Kafka => kafka(args, address),
        Dialect::Native => native(args, address),
        Dialect::Redis => redis(args, address),
    }
}

fn dial(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let unreachable = |error: std::io::Error| Unreachable(format!("{address}: {error}"));
    let stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(unreachable)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `request` and feeds what comes back until `next` has an answer.
fn call<T>(
    stream: &mut TcpStream,
    request: &[u8],
    mut next: impl FnMut(&[u8]) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    stream.write_all(request).context("the server does not take the request")?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer).context("the server does not answer")?;
        if n == 0 {
            bail!("the server closed the connection");
        }
        if let Some(answer) = next(&buffer[..n])? {
            return Ok(answer);
        }
    }
}

fn start(args: &RunArgs, partition: u32, earliest: i64, latest: i64) -> Position {
    let offset = if args.mode == Mode::Consume { earliest } else { latest };
    Position { partition, offset, id: Bytes::new(), asked: false, not_before_ns: 0 }
}

/// Asks again until `ask` says the topic is ready.
fn until_ready<T>(mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(ready) = ask()? {
            return Ok(ready);
        }
        if begun.elapsed() > TOPIC_READY {
            bail!("the topic has no leaders after {} s", TOPIC_READY.as_secs());
        }
        #[expect(clippy::disallowed_methods, reason = "no executor runs yet")]
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct KafkaConnection {
    stream: TcpStream,
    session: KafkaSession,
}

impl KafkaConnection {
    fn dial(address: SocketAddr) -> anyhow::Result<KafkaConnection> {
        let session = KafkaSession::new("ringway-loadgen");
        Ok(KafkaConnection { stream: dial(address)?, session })
    }

    fn call(&mut self, request: &[u8]) -> anyhow::Result<KafkaReply> {
        let session = &mut self.session;
        call(&mut self.stream, request, |data| {
            session.receive(data);
            Ok(session.next_reply()?)
        })
    }
}

fn kafka(args: &RunArgs, address: SocketAddr) -> anyhow::Result<Layout> {
    let mut connection = KafkaConnection::dial(address)?;
    let mut created = false;
    let leaders = until_ready(|| kafka_leaders(args, &mut connection, &mut created))?;
    let mut at: BTreeMap<SocketAddr, KafkaConnection> = BTreeMap::new();
    let mut places = Vec::new();
    for (partition, address) in leaders.into_iter().enumerate() {
        let connection = match at.entry(address) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(KafkaConnection::dial(address)?)
            }
        };
        let index = i32::try_from(partition)?;
        let earliest = kafka_offset(args, connection, index, EARLIEST)?;
        let latest = kafka_offset(args, connection, index, LATEST)?;
        let from = start(args, u32::try_from(partition)?, earliest, latest);
        places.push(Place { address, from, end_offset: latest, end_id: Bytes::new() });
    }
    Ok(Layout { topic_id: 0, places })
}

/// Leaders by partition, `None` while some are missing; creates the topic once if it is absent.
fn kafka_leaders(
    args: &RunArgs,
    connection: &mut KafkaConnection,
    created: &mut bool,
) -> anyhow::Result<Option<Vec<SocketAddr>>> {
    let mut out = Vec::new();
    connection.session.metadata(&mut out, Some(&[&args.topic]), false)?;
    let KafkaReply::Metadata { brokers, topics, .. } = connection.call(&out)? else {
        bail!("expected an answer to Metadata");
    };
    let topic = topics.into_iter().next().context("Metadata names no topic")?;
    match topic.error {
        ErrorCode::None | ErrorCode::LeaderNotAvailable => {}
        ErrorCode::UnknownTopicOrPartition if *created => return Ok(None),
        ErrorCode::UnknownTopicOrPartition if args.mode == Mode::Consume => {
            bail!("there is no topic {}", args.topic)
        }
        ErrorCode::UnknownTopicOrPartition => {
            kafka_create(args, connection)?;
            *created = true;
            return Ok(None);
        }
        other => bail!("topic {}: {}", args.topic, other.name()),
    }
    let mut by_partition = BTreeMap::new();
    for partition in &topic.partitions {
        let leader = brokers.iter().find(|broker| broker.id == partition.leader);
        let Some(leader) = leader else { return Ok(None) };
        let address = resolve(&format!("{}:{}", leader.host, leader.port))?;
        by_partition.insert(partition.index, address);
    }
    Ok((!by_partition.is_empty()).then(|| by_partition.into_values().collect()))
}

fn kafka_create(args: &RunArgs, connection: &mut KafkaConnection) -> anyhow::Result<()> {
    let mut out = Vec::new();
    let partitions = i32::try_from(args.partitions)?;
    let spec = TopicSpec { name: &args.topic, partitions, configs: &[] };
    connection.session.create_topics(&mut out, &[spec], 10_000)?;
    let KafkaReply::TopicsCreated { results, .. } = connection.call(&out)? else {
        bail!("expected an answer to CreateTopics");
    };
    for result in results {
        if !matches!(result.error, ErrorCode::None | ErrorCode::TopicAlreadyExists) {
            let message = result.message.unwrap_or_default();
            bail!("cannot create topic {}: {} {message}", args.topic, result.error.name());
        }
    }
    Ok(())
}

fn kafka_offset(
    args: &RunArgs,
    connection: &mut KafkaConnection,
    partition: i32,
    timestamp: i64,
) -> anyhow::Result<i64> {
    // A topic made a moment ago has logs that are still being opened.
    until_ready(|| {
        let mut out = Vec::new();
        connection.session.list_offsets(&mut out, &args.topic, &[partition], timestamp)?;
        let KafkaReply::Offsets { parts, .. } = connection.call(&out)? else {
            bail!("expected an answer to ListOffsets");
        };
        let part = parts.into_iter().next().context("ListOffsets names no partition")?;
        match part.error {
            ErrorCode::None => Ok(Some(part.offset)),
            ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower => Ok(None),
            other => bail!("ListOffsets of partition {partition}: {}", other.name()),
        }
    })
}

struct NativeConnection {
    stream: TcpStream,
    session: NativeSession,
}

impl NativeConnection {
    fn dial(address: SocketAddr) -> anyhow::Result<NativeConnection> {
        Ok(NativeConnection { stream: dial(address)?, session: NativeSession::new() })
    }

    fn call(&mut self, request: &[u8]) -> anyhow::Result<NativeReply> {
        let session = &mut self.session;
        call(&mut self.stream, request, |data| {
            session.receive(data);
            Ok(session.next_reply()?)
        })
    }
}

fn native(args: &RunArgs, address: SocketAddr) -> anyhow::Result<Layout> {
    let mut connection = NativeConnection::dial(address)?;
    let mut created = false;
    let (topic_id, leaders) = until_ready(|| native_leaders(args, &mut connection, &mut created))?;
    let mut places = Vec::new();
    for (partition, address) in leaders {
        let mut connection = NativeConnection::dial(address)?;
        let mut offset = |at| native_offset(&mut connection, topic_id, partition, at);
        let (earliest, latest) = (offset(NamedOffset::Earliest)?, offset(NamedOffset::Latest)?);
        let from = start(args, partition, earliest, latest);
        places.push(Place { address, from, end_offset: latest, end_id: Bytes::new() });
    }
    Ok(Layout { topic_id, places })
}

type NativeLeaders = (u64, Vec<(u32, SocketAddr)>);

fn native_leaders(
    args: &RunArgs,
    connection: &mut NativeConnection,
    created: &mut bool,
) -> anyhow::Result<Option<NativeLeaders>> {
    let mut out = Vec::new();
    connection.session.metadata(&mut out, Some(&[&args.topic]))?;
    let reply = match connection.call(&out)? {
        NativeReply::Metadata { reply, .. } => reply,
        other => bail!("expected an answer to Metadata, got {other:?}"),
    };
    let topic = reply.topics.into_iter().next().context("Metadata names no topic")?;
    match ErrorCode::from_code(topic.code) {
        ErrorCode::None => {}
        ErrorCode::UnknownTopicOrPartition if *created => return Ok(None),
        ErrorCode::UnknownTopicOrPartition if args.mode == Mode::Consume => {
            bail!("there is no topic {}", args.topic)
        }
        ErrorCode::UnknownTopicOrPartition => {
            native_create(args, connection)?;
            *created = true;
            return Ok(None);
        }
        other => bail!("topic {}: {}", args.topic, other.name()),
    }
    let leaders: anyhow::Result<Vec<(u32, SocketAddr)>> =
        topic.partitions.iter().map(|p| Ok((p.partition, resolve(&p.address)?))).collect();
    let leaders = leaders?;
    Ok((!leaders.is_empty()).then_some((topic.topic_id, leaders)))
}

fn native_create(args: &RunArgs, connection: &mut NativeConnection) -> anyhow::Result<()> {
    let mut out = Vec::new();
    let partitions = i32::try_from(args.partitions)?;
    connection.session.create_topic(&mut out, &args.topic, partitions, BTreeMap::new())?;
    match connection.call(&out)? {
        NativeReply::TopicCreated { .. }
        | NativeReply::Error { code: ErrorCode::TopicAlreadyExists, .. } => Ok(()),
        NativeReply::Error { code, message, .. } => {
            bail!("cannot create topic {}: {} {message}", args.topic, code.name())
        }
        other => bail!("expected an answer to CreateTopic, got {other:?}"),
    }
}

fn native_offset(
    connection: &mut NativeConnection,
    topic_id: u64,
    partition: u32,
    at: NamedOffset,
) -> anyhow::Result<i64> {
    until_ready(|| {
        let mut out = Vec::new();
        let request = ListOffsets { topic_id, partition, at: At::Named(at) };
        connection.session.list_offsets(&mut out, &request)?;
        match connection.call(&out)? {
            NativeReply::Offset { reply, .. } => Ok(Some(reply.offset.max(0))),
            NativeReply::Error {
                code: ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower,
                ..
            } => Ok(None),
            other => bail!("expected an answer to ListOffsets, got {other:?}"),
        }
    })
}

fn redis(args: &RunArgs, address: SocketAddr) -> anyhow::Result<Layout> {
    let mut stream = dial(address)?;
    let mut replies = Replies::default();
    let mut places = Vec::new();
    for partition in 0..args.partitions {
        let key = stream_key(&args.topic, partition);
        let mut out = Vec::new();
        resp::command(&[b"XREVRANGE", &key, b"+", b"-", b"COUNT", b"1"], &mut out);
        let reply = call(&mut stream, &out, |data| {
            replies.receive(data);
            replies.next_value()
        })?;
        let end_id = last_id(reply)?;
        let mut from = start(args, partition, 0, 0);
        let beginning = args.mode == Mode::Consume;
        from.id = if beginning { Bytes::from_static(b"0-0") } else { end_id.clone() };
        places.push(Place { address, from, end_offset: 0, end_id });
    }
    Ok(Layout { topic_id: 0, places })
}

/// Id of the only entry of an XREVRANGE reply, `0-0` for an empty stream.
fn last_id(reply: Value) -> anyhow::Result<Bytes> {
    let nothing = || Bytes::from_static(b"0-0");
    match reply {
        Value::Array(mut entries) => match entries.pop() {
            None => Ok(nothing()),
            Some(Value::Array(entry)) => match entry.into_iter().next() {
                Some(Value::Bulk(id)) => Ok(id),
                other => bail!("Redis names no id: {other:?}"),
            },
            Some(other) => bail!("Redis answered XREVRANGE with {other:?}"),
        },
        Value::Error(text) => bail!("Redis: {}", text.escape_ascii()),
        other => bail!("Redis answered XREVRANGE with {other:?}"),
    }
}
