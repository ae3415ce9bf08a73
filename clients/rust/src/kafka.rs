//! The Kafka dialect: requests encoded, replies read.
//!
//! Versions are fixed (Produce 9, Fetch 12 or 11, Metadata 12, …), all within what Ringway and Kafka 4
//! serve. Frequent requests are written by hand, rare ones through `kafka-protocol`.

mod call;
mod decode;
mod membership;
mod reader;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use membership::JoinRequest;
pub use reply::{
    Broker, CommittedPart, FetchedPart, KafkaReply, OffsetPart, PartitionMetadata, TopicMetadata,
    TopicResult,
};
pub use request::{CommitPart, FetchPart, FetchRequest, MemberOf, ProduceRequest, TopicSpec};

use crate::error::ClientError;
use crate::inbox::Inbox;
use call::Call;
use reader::Reader;
use std::collections::VecDeque;

/// Longest reply a session accepts unless told otherwise: a fetch of 64 MiB and its headers.
pub const REPLY_BYTES_MAX: usize = 65 * 1024 * 1024;

/// `ListOffsets` timestamp: the high watermark.
pub const LATEST: i64 = -1;
/// `ListOffsets` timestamp: the first offset kept.
pub const EARLIEST: i64 = -2;

/// One connection to a Kafka server. Kafka answers in the order of the requests, so replies are matched
/// by order and checked by correlation.
#[derive(Debug)]
pub struct KafkaSession {
    client_id: String,
    next_correlation: i32,
    waiting: VecDeque<(i32, Call)>,
    inbox: Inbox,
    reply_bytes_max: usize,
}

impl KafkaSession {
    /// A session that calls itself `client_id`, which is cut to 255 bytes' worth of characters.
    #[must_use]
    pub fn new(client_id: &str) -> KafkaSession {
        let client_id = client_id.chars().take(63).collect();
        KafkaSession {
            client_id,
            next_correlation: 1,
            waiting: VecDeque::new(),
            inbox: Inbox::default(),
            reply_bytes_max: REPLY_BYTES_MAX,
        }
    }

    /// Sets the longest reply accepted, bytes.
    #[must_use]
    pub fn with_reply_bytes_max(mut self, bytes: usize) -> KafkaSession {
        self.reply_bytes_max = bytes;
        self
    }

    /// Requests sent and not yet answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Takes what the socket gave.
    pub fn receive(&mut self, data: &[u8]) {
        self.inbox.receive(data);
    }

    /// The next whole reply, if one is here.
    ///
    /// # Errors
    /// The bytes are no Kafka reply, or none that was asked for: the connection is of no further use.
    pub fn next_reply(&mut self) -> Result<Option<KafkaReply>, ClientError> {
        let Some(prefix) = self.inbox.peek().first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*prefix);
        let length = usize::try_from(announced).map_err(|_| ClientError::Malformed {
            what: "reply length",
            detail: format!("negative: {announced}"),
        })?;
        if length > self.reply_bytes_max {
            let bytes = u64::try_from(length).unwrap_or(u64::MAX);
            return Err(ClientError::TooLarge { bytes, limit: self.reply_bytes_max });
        }
        if self.inbox.len() < 4 + length {
            self.inbox.expect(4 + length);
            return Ok(None);
        }
        self.inbox.skip(4);
        let frame = self.inbox.take(length);
        self.read(Reader::new(frame, false)).map(Some)
    }

    fn read(&mut self, mut reader: Reader) -> Result<KafkaReply, ClientError> {
        let correlation = reader.i32("correlation")?;
        let unexpected = ClientError::Unexpected { correlation: i64::from(correlation) };
        let (wanted, call) = self.waiting.pop_front().ok_or(unexpected.clone())?;
        if wanted != correlation {
            return Err(unexpected);
        }
        reader.set_flexible(call.is_flexible());
        if call != Call::ApiVersions {
            // Its reply keeps the first header form in every version (KIP-511).
            reader.tags()?;
        }
        decode::read(call, correlation, &mut reader)
    }

    fn begin(&mut self, call: Call) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.checked_add(1).unwrap_or(1);
        self.waiting.push_back((correlation, call));
        correlation
    }
}
