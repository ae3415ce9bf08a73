//! One connection's protocol, behind the few calls a producer and a consumer need.

pub(crate) mod kafka;
pub(crate) mod native;
pub(crate) mod redis;

use crate::record::Head;
use crate::resp::Entry;
use bytes::Bytes;

/// What became of a request to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Durable.
    Acked {
        /// Of the request.
        correlation: u64,
        /// Of its first record, −1 = the protocol does not say.
        offset: i64,
    },
    /// Not appended.
    Refused {
        /// Of the request.
        correlation: u64,
        /// The server's reason.
        why: String,
    },
}

/// A producing connection.
pub(crate) enum ProduceDoor {
    /// Kafka.
    Kafka(kafka::KafkaProduce),
    /// Ringway.
    Native(native::NativeProduce),
    /// Redis.
    Redis(redis::RedisProduce),
}

impl ProduceDoor {
    /// Appends one request with records from `first` on; returns its correlation.
    pub(crate) fn send(
        &mut self,
        partition: u32,
        first: Head,
        timestamp_ms: i64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<u64> {
        match self {
            ProduceDoor::Kafka(door) => door.send(partition, first, timestamp_ms, out),
            ProduceDoor::Native(door) => door.send(partition, first, timestamp_ms, out),
            ProduceDoor::Redis(door) => Ok(door.send(partition, first, out)),
        }
    }

    /// Takes what the socket gave.
    pub(crate) fn receive(&mut self, data: &[u8]) {
        match self {
            ProduceDoor::Kafka(door) => door.receive(data),
            ProduceDoor::Native(door) => door.receive(data),
            ProduceDoor::Redis(door) => door.receive(data),
        }
    }

    /// The next answer, if one is here.
    pub(crate) fn next_answer(&mut self) -> anyhow::Result<Option<Answer>> {
        match self {
            ProduceDoor::Kafka(door) => door.next_answer(),
            ProduceDoor::Native(door) => door.next_answer(),
            ProduceDoor::Redis(door) => door.next_answer(),
        }
    }
}

/// Where a consumer stands in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Partition.
    pub(crate) partition: u32,
    /// Next offset to read.
    pub(crate) offset: i64,
    /// Redis: id of the last entry read.
    pub(crate) id: Bytes,
    /// A fetch is under way.
    pub(crate) asked: bool,
    /// Nothing is asked before this, after an error.
    pub(crate) not_before_ns: u64,
}

/// What a fetch brought for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Kafka record batches one after another, the last possibly cut.
    Batches {
        /// Partition.
        partition: u32,
        /// The batches.
        bytes: Bytes,
    },
    /// Native frames one after another, whole: one fetch's answer.
    Frames {
        /// Partition.
        partition: u32,
        /// The frames.
        bytes: Bytes,
    },
    /// Entries of a stream.
    Entries {
        /// Partition.
        partition: u32,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The server refuses.
    Refused {
        /// Partition.
        partition: u32,
        /// Its reason.
        why: String,
    },
    /// A fetch of several partitions has been answered: all its positions may be asked again.
    Answered,
}

/// A consuming connection.
pub(crate) enum ConsumeDoor {
    /// Kafka.
    Kafka(kafka::KafkaConsume),
    /// Ringway.
    Native(native::NativeConsume),
    /// Redis.
    Redis(redis::RedisConsume),
}

/// How long a server may hold an empty fetch.
pub(crate) const FETCH_WAIT_MS: u16 = 100;

impl ConsumeDoor {
    /// Appends fetches for positions that have none under way and may be asked at `now_ns`.
    pub(crate) fn ask(
        &mut self,
        positions: &mut [Position],
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        match self {
            ConsumeDoor::Kafka(door) => door.ask(positions, now_ns, out),
            ConsumeDoor::Native(door) => door.ask(positions, now_ns, out),
            ConsumeDoor::Redis(door) => {
                door.ask(positions, now_ns, out);
                Ok(())
            }
        }
    }

    /// Takes what the socket gave.
    pub(crate) fn receive(&mut self, data: &[u8]) {
        match self {
            ConsumeDoor::Kafka(door) => door.receive(data),
            ConsumeDoor::Native(door) => door.receive(data),
            ConsumeDoor::Redis(door) => door.receive(data),
        }
    }

    /// The next chunk, if one is here.
    pub(crate) fn next_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        match self {
            ConsumeDoor::Kafka(door) => door.next_chunk(),
            ConsumeDoor::Native(door) => door.next_chunk(),
            ConsumeDoor::Redis(door) => door.next_chunk(),
        }
    }
}
