//! Ringway's client core: native and Kafka sessions as bytes in and bytes out.
//!
//! A session opens no socket and reads no clock. Its request methods append bytes to a buffer of the
//! caller and return a correlation; what the socket gives goes in by `receive`, and `next_reply` yields
//! what it meant. The command line, the load generator and the simulator drive the same sessions.
//!
//! ```
//! use ringway_client::kafka::{KafkaReply, KafkaSession};
//!
//! let mut session = KafkaSession::new("example");
//! let mut out = Vec::new();
//! let correlation = session.metadata(&mut out, None, false)?;
//! // … send `out`, then feed what comes back:
//! session.receive(&[]);
//! assert!(session.next_reply()?.is_none(), "nothing has come for {correlation} yet");
//! # let _: Option<KafkaReply> = None;
//! # Ok::<(), ringway_client::ClientError>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod inbox;
pub mod kafka;
pub mod native;
pub mod partitioner;
pub mod records;

pub use error::ClientError;
