//! The Kafka door.

use super::{Answer, Chunk, FETCH_WAIT_MS, Position};
use crate::record::Head;
use crate::template::BatchTemplate;
use anyhow::bail;
use ringway_client::kafka::{FetchPart, FetchRequest, KafkaReply, KafkaSession, ProduceRequest};
use ringway_wire::error_code::ErrorCode;
use std::collections::VecDeque;

/// The server gives a request up after this; loads wait longer only for a broken disk.
const TIMEOUT_MS: i32 = 30_000;

/// Produces batches.
pub(crate) struct KafkaProduce {
    session: KafkaSession,
    topic: String,
    template: BatchTemplate,
}

impl KafkaProduce {
    /// On a fresh connection.
    pub(crate) fn new(topic: &str, template: BatchTemplate) -> KafkaProduce {
        let session = KafkaSession::new("ringway-loadgen");
        KafkaProduce { session, topic: topic.to_owned(), template }
    }

    pub(super) fn send(
        &mut self,
        partition: u32,
        first: Head,
        timestamp_ms: i64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<u64> {
        let request = ProduceRequest {
            topic: &self.topic,
            partition: partition.cast_signed(),
            acks: -1,
            timeout_ms: TIMEOUT_MS,
            batch: self.template.fill(first, timestamp_ms),
        };
        let correlation = self.session.produce(out, &request)?;
        Ok(u64::from(correlation.cast_unsigned()))
    }

    pub(super) fn receive(&mut self, data: &[u8]) {
        self.session.receive(data);
    }

    pub(super) fn next_answer(&mut self) -> anyhow::Result<Option<Answer>> {
        match self.session.next_reply()? {
            None => Ok(None),
            Some(KafkaReply::Produced { correlation, error, base_offset, message, .. }) => {
                let correlation = u64::from(correlation.cast_unsigned());
                Ok(Some(if error == ErrorCode::None {
                    Answer::Acked { correlation, offset: base_offset }
                } else {
                    Answer::Refused { correlation, why: why(error, message.as_deref()) }
                }))
            }
            Some(other) => bail!("expected an answer to Produce, got {other:?}"),
        }
    }
}

fn why(error: ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{}: {message}", error.name()),
        Some(_) | None => error.name().to_owned(),
    }
}

/// Fetches batches, all partitions of the connection in one request.
pub(crate) struct KafkaConsume {
    session: KafkaSession,
    topic: String,
    fetch_bytes: i32,
    ready: VecDeque<Chunk>,
}

impl KafkaConsume {
    /// On a fresh connection; `fetch_bytes` is the limit per partition.
    pub(crate) fn new(topic: &str, fetch_bytes: u32) -> KafkaConsume {
        KafkaConsume {
            session: KafkaSession::new("ringway-loadgen"),
            topic: topic.to_owned(),
            fetch_bytes: i32::try_from(fetch_bytes).unwrap_or(i32::MAX),
            ready: VecDeque::new(),
        }
    }

    pub(super) fn ask(
        &mut self,
        positions: &mut [Position],
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        if self.session.in_flight() > 0 || positions.iter().any(|p| p.not_before_ns > now_ns) {
            return Ok(());
        }
        let parts: Vec<FetchPart<'_>> = positions
            .iter()
            .map(|position| FetchPart {
                topic: &self.topic,
                partition: position.partition.cast_signed(),
                offset: position.offset,
                bytes_max: self.fetch_bytes,
            })
            .collect();
        if parts.is_empty() {
            return Ok(());
        }
        let request = FetchRequest {
            wait_ms_max: i32::from(FETCH_WAIT_MS),
            bytes_min: 1,
            bytes_max: self.fetch_bytes.saturating_mul(4).min(48 * 1024 * 1024),
            version_11: false,
            parts: &parts,
        };
        self.session.fetch(out, &request)?;
        for position in positions {
            position.asked = true;
        }
        Ok(())
    }

    pub(super) fn receive(&mut self, data: &[u8]) {
        self.session.receive(data);
    }

    pub(super) fn next_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Ok(Some(chunk));
        }
        match self.session.next_reply()? {
            None => return Ok(None),
            Some(KafkaReply::Fetched { error: ErrorCode::None, parts, .. }) => {
                for part in parts {
                    let partition = part.partition.cast_unsigned();
                    self.ready.push_back(if part.error == ErrorCode::None {
                        Chunk::Batches { partition, bytes: part.records }
                    } else {
                        Chunk::Refused { partition, why: part.error.name().to_owned() }
                    });
                }
            }
            Some(KafkaReply::Fetched { error, .. }) => bail!("fetch refused: {}", error.name()),
            Some(other) => bail!("expected an answer to Fetch, got {other:?}"),
        }
        self.ready.push_back(Chunk::Answered);
        Ok(self.ready.pop_front())
    }
}
