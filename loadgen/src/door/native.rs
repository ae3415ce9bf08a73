//! The native door.

use super::{Answer, Chunk, FETCH_WAIT_MS, Position};
use crate::record::Head;
use crate::template::BatchTemplate;
use anyhow::bail;
use ringway_client::native::{Encoding, Fetch, NativeReply, NativeSession};

/// Produces batch frames.
pub(crate) struct NativeProduce {
    session: NativeSession,
    topic_id: u64,
    template: BatchTemplate,
}

impl NativeProduce {
    /// On a fresh connection.
    pub(crate) fn new(topic_id: u64, template: BatchTemplate) -> NativeProduce {
        let session = NativeSession::new().with_encoding(Encoding::Plain);
        NativeProduce { session, topic_id, template }
    }

    pub(super) fn send(
        &mut self,
        partition: u32,
        first: Head,
        timestamp_ms: i64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<u64> {
        let batch = self.template.fill(first, timestamp_ms);
        Ok(self.session.produce(out, self.topic_id, partition, batch)?)
    }

    pub(super) fn receive(&mut self, data: &[u8]) {
        self.session.receive(data);
    }

    pub(super) fn next_answer(&mut self) -> anyhow::Result<Option<Answer>> {
        match self.session.next_reply()? {
            None => Ok(None),
            Some(NativeReply::Acked { correlation, base_offset, .. }) => {
                let offset = i64::try_from(base_offset).unwrap_or(-1);
                Ok(Some(Answer::Acked { correlation, offset }))
            }
            Some(NativeReply::Error { correlation, code, message }) => {
                let why = format!("{}: {message}", code.name());
                Ok(Some(Answer::Refused { correlation, why }))
            }
            Some(other) => bail!("expected an answer to a batch, got {other:?}"),
        }
    }
}

/// Fetches deliveries, a request per partition.
pub(crate) struct NativeConsume {
    session: NativeSession,
    topic_id: u64,
    fetch_bytes: u32,
    /// Correlation and partition of what is under way; at most one per partition.
    asked: Vec<(u64, u32)>,
}

impl NativeConsume {
    /// On a fresh connection; `fetch_bytes` is the limit per partition.
    pub(crate) fn new(topic_id: u64, fetch_bytes: u32) -> NativeConsume {
        NativeConsume { session: NativeSession::new(), topic_id, fetch_bytes, asked: Vec::new() }
    }

    pub(super) fn ask(
        &mut self,
        positions: &mut [Position],
        now_ns: u64,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        for position in positions {
            if position.asked || position.not_before_ns > now_ns {
                continue;
            }
            let request = Fetch {
                topic_id: self.topic_id,
                partition: position.partition,
                offset: u64::try_from(position.offset).unwrap_or(0),
                bytes_max: self.fetch_bytes,
                bytes_min: 1,
                wait_ms_max: u32::from(FETCH_WAIT_MS),
            };
            let correlation = self.session.fetch(out, &request)?;
            self.asked.push((correlation, position.partition));
            position.asked = true;
        }
        Ok(())
    }

    pub(super) fn receive(&mut self, data: &[u8]) {
        self.session.receive(data);
    }

    pub(super) fn next_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        let Some(reply) = self.session.next_reply()? else { return Ok(None) };
        let correlation = reply.correlation();
        let Some(at) = self.asked.iter().position(|(asked, _)| *asked == correlation) else {
            bail!("an answer to fetch {correlation}, which was not asked")
        };
        let (_, partition) = self.asked.swap_remove(at);
        match reply {
            NativeReply::Fetched { frames, .. } => {
                Ok(Some(Chunk::Frames { partition, bytes: frames }))
            }
            NativeReply::Error { code, message, .. } => {
                let why = format!("{}: {message}", code.name());
                Ok(Some(Chunk::Refused { partition, why }))
            }
            other => bail!("expected an answer to Fetch, got {other:?}"),
        }
    }
}
