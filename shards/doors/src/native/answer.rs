//! Answers by envelope: the ids of the request turned round, JSON inside.
//! Owner: nobody, plain functions.
//! Invariant: an answer is told in the encoding of its request.
//! Not here: what is answered.

use crate::turn::Turn;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::header::{EnvelopeHeader, HEADER_LEN, MessageType};
use ringway_wire::native::control::ErrorReply;
use ringway_wire::native::{Envelope, correlation_number, put_envelope};
use serde::Serialize;

/// The header of a request, kept until its answer.
#[derive(Clone)]
pub(crate) struct Asker(Box<[u8; HEADER_LEN]>);

impl Asker {
    /// Keeps the header that `frame` begins with.
    pub(crate) fn new(frame: &[u8]) -> Asker {
        let mut header = Box::new([0; HEADER_LEN]);
        if let Some(first) = frame.first_chunk() {
            *header = *first;
        }
        Asker(header)
    }

    /// The number that deliver frames repeat.
    pub(crate) fn correlation(&self) -> u64 {
        let header = EnvelopeHeader::access(&self.0[..]).ok();
        header.and_then(|header| correlation_number(header.correlation_id())).unwrap_or(0)
    }

    /// Appends and sends a response.
    pub(crate) fn respond(&self, body: &impl Serialize, turn: &mut Turn<'_>) {
        let from = turn.out.bytes.len();
        self.put(MessageType::Response, body, turn);
        turn.send_from(from);
    }

    /// Appends and sends a refusal.
    pub(crate) fn refuse(&self, code: ErrorCode, message: impl Into<String>, turn: &mut Turn<'_>) {
        let message = message.into();
        let message = if message.is_empty() { code.name().to_owned() } else { message };
        let from = turn.out.bytes.len();
        self.put(MessageType::Error, &ErrorReply::new(code, message), turn);
        turn.send_from(from);
    }

    /// Appends a message without sending it yet.
    pub(crate) fn put(&self, kind: MessageType, body: &impl Serialize, turn: &mut Turn<'_>) {
        let Ok(header) = EnvelopeHeader::access(&self.0[..]) else { return };
        let line = Envelope { header, payload: &[] }.answer(kind);
        // Plain structs with text keys always become JSON; ids that came in fit when they go out.
        let json = serde_json::to_vec(body).unwrap_or_default();
        let put = put_envelope(&mut turn.out.bytes, &line, &json);
        debug_assert!(put.is_ok(), "{put:?}");
    }
}
