//! What a door and its caller hand one another: settings, counts, effects.
//! Owner: the shard loop has one [`Door`] per shard; a session borrows it for the length of a call.
//! Invariant: the effects of a call are drained before the next one.
//! Not here: what a session does (`session.rs`).

use ringway_log::blocks::Slice;
use ringway_partition::catalog::Catalog;
use ringway_partition::request::{Request, RequestId};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialects {
    /// Kafka and native, told apart by the first byte.
    Auto,
}

/// Settings every door of the process shares.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// Largest Kafka request, bytes (`socket.request.max.bytes`); the first one must be < 16 MiB.
    pub kafka_request_bytes_max: u32,
    /// Largest native payload, bytes (L5).
    pub message_bytes_max: u32,
    /// Requests in flight per connection (L9).
    pub conn_requests_max: usize,
    /// Bytes waiting to leave on one connection; above, none of its requests is begun (L8).
    pub conn_send_bytes_max: usize,
    /// Nested elements in one cold Kafka frame.
    pub kafka_elements_max: u32,
    /// From accept to the first complete frame (L3), ns.
    pub first_frame_ns: u64,
    /// Idle Kafka connection is closed after this, ns (L10).
    pub kafka_idle_ns: u64,
    /// Native heartbeat interval, ns; three missed close.
    pub native_heartbeat_ns: u64,
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// Upper bound of one fetch reply, bytes.
    pub fetch_bytes_max: u32,
    /// Broker configs described to clients: Kafka's name → value.
    pub broker_configs: BTreeMap<String, String>,
    /// Group rules the door itself needs.
    pub offsets_partitions: u32,
    /// `ringway` and its version.
    pub software: String,
}

/// Counts of one shard's doors since start, copied to the shard's counters once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Kafka requests parsed.
    pub kafka_requests: u64,
    /// Native frames parsed.
    pub native_frames: u64,
    /// Kafka partitions asked here that another shard owns (B3).
    pub kafka_foreign_requests: u64,
    /// Connections closed for a malformed frame.
    pub malformed: u64,
    /// Connections closed because no dialect fits their first bytes.
    pub unknown_protocol: u64,
    /// Kafka API keys or versions not served.
    pub unsupported: u64,
    /// Records accepted for produce.
    pub produce_records: u64,
}

/// What the sessions of one shard share.
pub struct Door {
    /// Settings.
    pub config: Arc<DoorConfig>,
    /// Newest metadata.
    pub catalog: Arc<Catalog>,
    /// This shard.
    pub shard: u32,
    /// Counts.
    pub counts: DoorCounts,
    /// Reply buffers to be used again.
    pub spare: Vec<Vec<u8>>,
}

impl Door {
    /// The door of one shard, nothing counted yet.
    #[must_use]
    pub fn new(config: Arc<DoorConfig>, catalog: Arc<Catalog>, shard: u32) -> Door {
        Door { config, catalog, shard, counts: DoorCounts::default(), spare: Vec::new() }
    }
}

/// Where the next bytes of the connection should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveInto {
    /// Any free block: then call [`crate::session::Session::receive`].
    Provided,
    /// The bytes `from..to` of this large block (its hold is the session's): then [`crate::session::Session::landed`].
    Large {
        /// Block.
        block: u32,
        /// First byte missing.
        from: u32,
        /// End of the frame.
        to: u32,
    },
    /// Paused: ask again after the next reply or tick.
    Nothing,
}

/// Why a session wants its connection closed (after what is queued was sent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Counted under this label, e.g. `malformed_frame`, `unsupported_version`, `idle`.
    pub reason: &'static str,
    /// For the log, values included, bytes from outside escaped.
    pub detail: String,
}

/// A piece of what is to be sent, in order.
#[derive(Clone, Debug)]
pub enum Part {
    /// Of [`DoorOut::bytes`].
    Bytes(Range<u32>),
    /// By reference; the hold goes to the sender, which releases it after the send.
    Slice(Slice),
}

/// Effects of one call on a session; drained by the caller after every call.
#[derive(Debug, Default)]
pub struct DoorOut {
    /// For the shard.
    pub requests: Vec<(RequestId, Request)>,
    /// Requests nobody waits for any more.
    pub gone: Vec<RequestId>,
    /// Encoded bytes the parts point into.
    pub bytes: Vec<u8>,
    /// To send, in order.
    pub parts: Vec<Part>,
    /// Close after sending.
    pub close: Option<Close>,
}

/// What became of a frame offered to a dialect.
pub(crate) enum Taken {
    /// Done with: its bytes may go.
    Yes,
    /// Its turn has not come: offer it again after the next reply.
    Blocked,
}
