//! The native door: envelopes for control, batch frames for data.
//! Owner: one `Session`.
//! Invariant: every request is answered once, with its correlation, whenever its answer is there: unlike
//! Kafka's, native answers need not keep the order of the requests.
//! Not here: frames (`input.rs`), layouts (`wire`).

mod answer;
mod fetch;
mod metadata;
mod produce;
mod rows;
mod topics;

use crate::door::{Close, DoorConfig, Taken};
use crate::turn::{Turn, close};
use answer::Asker;
use ringway_log::blocks::Slice;
use ringway_partition::request::{Payload, Reply, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{BATCH_VERSION, HEADER_LEN, MessageType};
use ringway_wire::native::control::{
    ALTER_TOPIC, AlterTopic, CREATE_TOPIC, CreateTopic, DELETE_TOPIC, DESCRIBE_TOPIC, FETCH,
    HEARTBEAT, HELLO, LIST_OFFSETS, METADATA,
};
use ringway_wire::native::{BROKER, Envelope, FrameError, FrameStart, frame_start};
use rows::Rows;
use serde::de::DeserializeOwned;

/// Largest payload of a control message, bytes: a list of names takes a hundred times its size once it is
/// answered, so that 50 MiB of empty ones would be all the memory there is.
const CONTROL_BYTES_MAX: usize = 256 * 1024;

/// A request whose answer is being made.
enum Row {
    Produce(produce::Waiting),
    Call(Asker, Call),
}

/// What a control message remembers between asking and answering.
enum Call {
    Create(String),
    Alter(String),
    Delete(String),
    Describe(Box<topics::Describing>),
    Fetch,
    ListOffsets,
}

/// One connection's native side.
pub(crate) struct NativeDoor {
    rows: Rows<Row>,
    said_hello: bool,
}

impl NativeDoor {
    /// Nothing under way.
    pub(crate) fn new() -> NativeDoor {
        NativeDoor { rows: Rows::new(), said_hello: false }
    }

    /// Length of the frame that `bytes` begin, `None` when they are too few to tell. A batch frame's header
    /// checksum is right then.
    ///
    /// # Errors
    /// When the bytes begin no native frame, or one above the limit.
    pub(crate) fn measure(bytes: &[u8], config: &DoorConfig) -> Result<Option<usize>, Close> {
        match frame_start(bytes, config.message_bytes_max) {
            Ok(FrameStart::NeedMore(_)) => Ok(None),
            Ok(FrameStart::Envelope(total)) if total > HEADER_LEN + CONTROL_BYTES_MAX => {
                let bytes = total - HEADER_LEN;
                let text =
                    format!("a control message of {bytes} bytes, {CONTROL_BYTES_MAX} at most");
                Err(close("oversized_frame", text))
            }
            Ok(FrameStart::Envelope(total) | FrameStart::Batch(total)) => Ok(Some(total)),
            Err(error @ FrameError::TooLarge { .. }) => {
                Err(close("oversized_frame", error.to_string()))
            }
            Err(error) => Err(close("malformed_frame", error.to_string())),
        }
    }

    /// Starts a request.
    ///
    /// # Errors
    /// When the connection must be closed for it.
    pub(crate) fn frame(&mut self, frame: Slice, turn: &mut Turn<'_>) -> Result<Taken, Close> {
        turn.door.counts.native_frames += 1;
        if turn.blocks.bytes(frame).get(2) == Some(&BATCH_VERSION) {
            if let Some((request, waiting)) = produce::start(frame, turn)? {
                self.ask(request, Row::Produce(waiting), turn);
            }
        } else {
            self.envelope(frame, turn)?;
        }
        Ok(Taken::Yes)
    }

    /// The shard answers.
    ///
    /// # Errors
    /// None so far; the signature is that of the other doors.
    pub(crate) fn reply(
        &mut self,
        id: u32,
        reply: Reply,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        match self.rows.remove(id) {
            None => turn.drop_reply(reply),
            Some(Row::Produce(waiting)) => waiting.finish(reply, turn),
            Some(Row::Call(asker, call)) => match call {
                Call::Create(name) => topics::created(&asker, name, reply, turn),
                Call::Alter(name) => topics::altered(&asker, name, reply, turn),
                Call::Delete(name) => topics::deleted(&asker, name, reply, turn),
                Call::Describe(describing) => {
                    if let Some((request, describing)) = describing.next(&asker, reply, turn) {
                        let call = Call::Describe(Box::new(describing));
                        self.ask(request, Row::Call(asker, call), turn);
                    }
                }
                Call::Fetch => fetch::finish(&asker, reply, turn),
                Call::ListOffsets => topics::listed(&asker, reply, turn),
            },
        }
        Ok(())
    }

    /// Requests not yet answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.rows.len()
    }

    /// Whether the peer introduced itself: then it also keeps the connection alive.
    pub(crate) fn said_hello(&self) -> bool {
        self.said_hello
    }

    /// Names the requests nobody waits for any more.
    pub(crate) fn end(&mut self, gone: &mut impl FnMut(u32)) {
        self.rows.clear(gone);
    }

    fn ask(&mut self, request: Request, row: Row, turn: &mut Turn<'_>) {
        match self.rows.insert(row) {
            Ok(id) => turn.ask(id, request),
            Err(row) => {
                if let Request::Produce { payload: Payload::Received(slice), .. } = request {
                    turn.blocks.release(slice);
                }
                let (code, message) = (ErrorCode::ThrottlingQuotaExceeded, "too many requests");
                match row {
                    Row::Produce(waiting) => waiting.refuse(code, message, turn),
                    Row::Call(asker, _) => asker.refuse(code, message, turn),
                }
            }
        }
    }

    fn envelope(&mut self, frame: Slice, turn: &mut Turn<'_>) -> Result<(), Close> {
        let bytes = turn.blocks.bytes(frame);
        let malformed = |error: FrameError| close("malformed_frame", error.to_string());
        let envelope = Envelope::parse(bytes).map_err(malformed)?;
        let header = envelope.header;
        match header.message_type() {
            MessageType::Request => {}
            // An event asks for nothing; that it came shows that the peer lives.
            MessageType::Event => return Ok(()),
            kind @ (MessageType::Response | MessageType::Error) => {
                return Err(close("malformed_frame", format!("{kind:?} from a client")));
            }
        }
        let asker = Asker::new(bytes);
        if header.flags() != 0 {
            let message = "compressed or chunked envelopes were not offered";
            asker.refuse(ErrorCode::InvalidRequest, message, turn);
            return Ok(());
        }
        if !matches!(header.target_id(), b"" | BROKER) {
            let target = header.target_id().escape_ascii();
            let message = format!("no peer {target:?} is known here", target = target.to_string());
            asker.refuse(ErrorCode::InvalidRequest, message, turn);
            return Ok(());
        }
        let id = String::from_utf8_lossy(header.message_id()).into_owned();
        let content = match envelope.content() {
            Ok(content) => content.to_vec(),
            Err(error) => {
                asker.refuse(ErrorCode::InvalidRequest, error.to_string(), turn);
                return Ok(());
            }
        };
        self.message(&id, &content, asker, turn);
        Ok(())
    }

    fn message(&mut self, id: &str, content: &[u8], asker: Asker, turn: &mut Turn<'_>) {
        let asked = match id {
            HELLO => json(content).map(|body| {
                self.said_hello = true;
                asker.respond(&metadata::hello(&body, turn), turn);
                None
            }),
            METADATA => json(content).map(|body| {
                let catalog = std::sync::Arc::clone(&turn.door.catalog);
                asker.respond(&metadata::metadata(&body, &catalog), turn);
                None
            }),
            HEARTBEAT => {
                asker.respond(&serde_json::Map::new(), turn);
                Ok(None)
            }
            CREATE_TOPIC => json(content)
                .map(|body: CreateTopic| Some((topics::create(&body), Call::Create(body.name)))),
            ALTER_TOPIC => json(content).map(|body: AlterTopic| {
                let name = body.name.clone();
                Some((topics::alter(&asker, body, turn)?, Call::Alter(name)))
            }),
            DELETE_TOPIC => json(content).map(|body| {
                let request = topics::delete(&asker, &body, turn)?;
                Some((request, Call::Delete(body.name)))
            }),
            DESCRIBE_TOPIC => json(content).map(|body| {
                let (request, describing) = topics::describe(&asker, &body, turn)?;
                Some((request, Call::Describe(Box::new(describing))))
            }),
            LIST_OFFSETS => json(content)
                .map(|body| Some((topics::list_offsets(&asker, &body, turn)?, Call::ListOffsets))),
            FETCH => {
                json(content).map(|body| Some((fetch::start(&asker, body, turn)?, Call::Fetch)))
            }
            other => Err(format!("unknown message {other:?}")),
        };
        match asked {
            Ok(Some((request, call))) => self.ask(request, Row::Call(asker, call), turn),
            Ok(None) => {}
            Err(message) => asker.refuse(ErrorCode::InvalidRequest, message, turn),
        }
    }
}

/// Reads a message; an empty one is `{}`.
fn json<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    let content = if content.is_empty() { b"{}" } else { content };
    serde_json::from_slice(content).map_err(|error| error.to_string())
}
