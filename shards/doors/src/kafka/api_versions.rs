//! ApiVersions: tells what is served here, whatever version asks (V1–V7).
//! Owner: nobody, one answer.
//! Invariant: a version of the future gets the oldest form and error 35, so that the client can come down (V4).
//! Not here: the table and its bytes (`wire/kafka/{api,api_versions}.rs`).

use super::call::Head;
use crate::turn::Turn;
use ringway_log::blocks::Slice;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::kafka::api_versions::{put_api_versions, put_unsupported_api_versions};
use ringway_wire::kafka::primitives::Reader;

/// From this version on clients name their software.
const SOFTWARE_FROM: i16 = 3;

/// Answers.
pub(crate) fn start(head: Head, served: bool, frame: Slice, body_at: usize, turn: &mut Turn<'_>) {
    let from = turn.out.bytes.len();
    if !served {
        put_unsupported_api_versions(&mut turn.out.bytes, head.correlation);
        return turn.send_from(from);
    }
    let named =
        head.version < SOFTWARE_FROM || software_is_named(turn.blocks.bytes(frame), body_at);
    let code = if named { ErrorCode::None } else { ErrorCode::InvalidRequest };
    put_api_versions(&mut turn.out.bytes, head.version, head.correlation, code);
    turn.send_from(from);
}

/// Whether name and version of the client's software are `[a-zA-Z0-9](?:[a-zA-Z0-9\\-.]*[a-zA-Z0-9])?` (V6).
fn software_is_named(frame: &[u8], body_at: usize) -> bool {
    let mut reader = Reader::new(frame, body_at);
    let mut named = || {
        let text = reader.raw_string(true).ok().flatten().unwrap_or_default();
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        edge(text.first()) && edge(text.last()) && text.iter().all(inner)
    };
    named() && named()
}
