//! What can be wrong with the bytes a server sent.

/// The connection cannot be used further: its bytes make no sense, or exceed a bound.
///
/// None of these is transient: close the connection and open a new one. Errors that a server *reports*
/// arrive as replies instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A frame ends before its contents do, or a count exceeds what remains.
    #[error("{what} ends early: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes (or elements) wanted.
        wanted: usize,
        /// Bytes left in the frame.
        left: usize,
    },
    /// A frame longer than this session accepts.
    #[error("frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Announced length.
        bytes: u64,
        /// The session's bound.
        limit: usize,
    },
    /// A field has a value it must not have.
    #[error("{what}: {detail}")]
    Malformed {
        /// Which field.
        what: &'static str,
        /// What was found.
        detail: String,
    },
    /// A checksum does not fit.
    #[error("{what}: checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// Which one.
        what: &'static str,
        /// In the bytes.
        found: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// A reply nobody waits for.
    #[error("reply with correlation {correlation} is not awaited")]
    Unexpected {
        /// The correlation received.
        correlation: i64,
    },
    /// A request that cannot be encoded, for example with a name longer than its field.
    #[error("request cannot be encoded: {0}")]
    Encode(String),
}
