//! The log: where bytes lie, how they become durable, how they survive. Sans-I/O: every effect is an
//! [`io::IoRequest`], every answer an [`io::IoDone`].
#![forbid(unsafe_code)]

pub mod blocks;
pub mod directory;
pub mod io;
pub mod logs;
pub mod read;

pub use logs::SegmentFacts;
