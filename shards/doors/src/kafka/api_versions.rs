//! ApiVersions: what is served here (kafka.md V1–V9).
//! Owner: nobody, one table.
//! Invariant: what stands in the table works; features and other tagged fields are never sent, since older
//! librdkafka misreads the ones that hold their default (V3).
//! Not here: the APIs.

use super::call::{Head, begin, set_length};
use super::reader::{Reader, put_length};
use crate::turn::Turn;
use ringway_log::blocks::Slice;
use ringway_wire::error_code::ErrorCode;

/// One row of the table.
pub(crate) struct Api {
    pub(crate) key: i16,
    /// Least version told to clients.
    pub(crate) advertised: i16,
    /// Least version served.
    pub(crate) least: i16,
    /// Greatest version served.
    pub(crate) greatest: i16,
    /// First version with compact fields and tags.
    pub(crate) flexible: i16,
}

const fn api(key: i16, advertised: i16, least: i16, greatest: i16, flexible: i16) -> Api {
    Api { key, advertised, least, greatest, flexible }
}

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const LIST_OFFSETS: i16 = 2;
pub(crate) const METADATA: i16 = 3;
pub(crate) const OFFSET_COMMIT: i16 = 8;
pub(crate) const OFFSET_FETCH: i16 = 9;
pub(crate) const FIND_COORDINATOR: i16 = 10;
pub(crate) const JOIN_GROUP: i16 = 11;
pub(crate) const HEARTBEAT: i16 = 12;
pub(crate) const LEAVE_GROUP: i16 = 13;
pub(crate) const SYNC_GROUP: i16 = 14;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const CREATE_TOPICS: i16 = 19;
pub(crate) const DELETE_TOPICS: i16 = 20;
pub(crate) const INIT_PRODUCER_ID: i16 = 22;
pub(crate) const DESCRIBE_CONFIGS: i16 = 32;

/// What is served. Produce is advertised from 0: librdkafka decides by that whether a codec may be used (V1).
pub(crate) const TABLE: &[Api] = &[
    api(PRODUCE, 0, 3, 13, 9),
    api(FETCH, 4, 4, 18, 12),
    api(LIST_OFFSETS, 1, 1, 10, 6),
    api(METADATA, 0, 0, 13, 9),
    api(OFFSET_COMMIT, 2, 2, 9, 8),
    api(OFFSET_FETCH, 1, 1, 9, 6),
    api(FIND_COORDINATOR, 0, 0, 6, 3),
    api(JOIN_GROUP, 0, 0, 9, 6),
    api(HEARTBEAT, 0, 0, 4, 4),
    api(LEAVE_GROUP, 0, 0, 5, 4),
    api(SYNC_GROUP, 0, 0, 5, 4),
    api(API_VERSIONS, 0, 0, 4, 3),
    api(CREATE_TOPICS, 2, 2, 7, 5),
    api(DELETE_TOPICS, 1, 1, 6, 4),
    api(INIT_PRODUCER_ID, 0, 0, 5, 2),
    api(DESCRIBE_CONFIGS, 1, 1, 4, 4),
];

/// The row of a key.
pub(crate) fn of(key: i16) -> Option<&'static Api> {
    TABLE.iter().find(|api| api.key == key)
}

/// Answers. An unknown version gets the oldest form and error 35, so that the client can come down (V4).
pub(crate) fn start(head: Head, frame: Slice, body_at: usize, turn: &mut Turn<'_>) {
    let served = of(API_VERSIONS).is_some_and(|api| head.version <= api.greatest);
    let code = if !served {
        ErrorCode::UnsupportedVersion
    } else if head.version >= 3 && !software_is_named(body_at, turn.blocks.bytes(frame)) {
        ErrorCode::InvalidRequest
    } else {
        ErrorCode::None
    };
    let version = if served { head.version } else { 0 };
    let flexible = version >= 3;
    let from = begin(Head { tagged: false, ..head }, &mut turn.out.bytes);
    let bytes = &mut turn.out.bytes;
    bytes.extend_from_slice(&code.code().to_be_bytes());
    put_length(TABLE.len(), flexible, true, bytes);
    for api in TABLE {
        for value in [api.key, api.advertised, api.greatest] {
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        if flexible {
            bytes.push(0);
        }
    }
    if version >= 1 {
        bytes.extend_from_slice(&[0; 4]);
    }
    if flexible {
        bytes.push(0);
    }
    set_length(bytes, from, 0);
    turn.send_from(from);
}

/// Whether name and version of the client's software are `[a-zA-Z0-9](?:[a-zA-Z0-9\\-.]*[a-zA-Z0-9])?` (V6).
fn software_is_named(body_at: usize, frame: &[u8]) -> bool {
    let mut reader = Reader { at: body_at, flexible: true };
    let mut named = || {
        let text = reader.string(frame).ok().flatten().and_then(|range| frame.get(range));
        text.is_some_and(|text| {
            let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            edge(text.first()) && edge(text.last()) && text.iter().all(inner)
        })
    };
    named() && named()
}
