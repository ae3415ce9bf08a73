//! How bytes look: headers, record batches, the codecs of every protocol. Pure functions over slices.
//! Owner: nobody, there is no state.
//! Invariant: nothing that a peer sends can panic, or allocate more than a bounded multiple of its bytes.
//! Not here: clock, sockets, files, threads, environment; what requests mean.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::cast_possible_truncation))]

pub mod batch;
pub mod batch_writer;
pub mod compression;
pub mod crc32c;
pub mod error_code;
pub mod header;
pub mod ids;
pub mod kafka;
pub mod native;
pub mod records;
pub mod varint;
