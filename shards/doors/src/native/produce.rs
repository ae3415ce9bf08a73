//! Produce by batch frames: one frame, one batch, one ack.
//! Owner: one native connection.
//! Invariant: the payload goes on as it lies in the frame, from byte 67.
//! Not here: checking batches (`partition/produce.rs`); the header's checksum was checked when the frame was measured.

use crate::door::Close;
use crate::turn::{BATCH_AT, Turn, close, refusal};
use ringway_log::blocks::Slice;
use ringway_partition::request::{Payload, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BatchHeader, Kind};
use ringway_wire::ids::LogKey;
use ringway_wire::native::{ProduceAck, put_error_frame, put_produce_ack};

/// Not appended any more once this has passed: a batch held up so long is better sent again.
const TIMEOUT_NS: u64 = 30_000_000_000;

/// What the ack repeats.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    key: LogKey,
    correlation: u64,
}

/// The append that a data frame asks for; a frame for no partition of ours is refused at once.
///
/// # Errors
/// When the frame is none that a producer sends.
pub(crate) fn start(
    frame: Slice,
    turn: &mut Turn<'_>,
) -> Result<Option<(Request, Waiting)>, Close> {
    let bytes = turn.blocks.bytes(frame);
    let header =
        BatchHeader::access(bytes).map_err(|error| close("malformed_frame", error.to_string()))?;
    if header.kind() != Kind::Data {
        let detail = format!("{:?} frame from a client", header.kind());
        return Err(close("malformed_frame", detail));
    }
    let key = LogKey { topic_id: header.topic_id(), partition: header.partition() };
    let waiting = Waiting { key, correlation: header.correlation() };
    let encoding = header.encoding() as u8;
    let records = u64::try_from(header.record_count()).unwrap_or(0);
    let topic = turn.door.catalog.by_id.get(&key.topic_id);
    if topic.is_none_or(|topic| key.partition >= topic.partitions) {
        waiting.refuse(ErrorCode::UnknownTopicOrPartition, &format!("no partition {key}"), turn);
        return Ok(None);
    }
    turn.door.counts.produce_records += records;
    let batch = frame.part(BATCH_AT, frame.len());
    let request = Request::Produce {
        key,
        acks: -1,
        deadline_ns: turn.now.mono_ns.saturating_add(TIMEOUT_NS),
        payload: Payload::Received(turn.blocks.hold(batch)),
        encoding,
    };
    Ok(Some((request, waiting)))
}

impl Waiting {
    /// Sends the ack or the refusal.
    pub(crate) fn finish(self, reply: Reply, turn: &mut Turn<'_>) {
        if let Reply::Produced { base_offset, append_time_ns, .. } = reply {
            let LogKey { topic_id, partition } = self.key;
            let correlation = self.correlation;
            let ack = ProduceAck { correlation, topic_id, partition, base_offset, append_time_ns };
            let from = turn.out.bytes.len();
            put_produce_ack(&mut turn.out.bytes, &ack);
            turn.send_from(from);
            return;
        }
        let (code, message) = refusal(reply);
        self.refuse(code, &message, turn);
    }

    /// Sends a refusal.
    pub(crate) fn refuse(self, code: ErrorCode, message: &str, turn: &mut Turn<'_>) {
        let LogKey { topic_id, partition } = self.key;
        let from = turn.out.bytes.len();
        let to = &mut turn.out.bytes;
        put_error_frame(to, topic_id, partition, self.correlation, code, message);
        turn.send_from(from);
    }
}
