//! Kafka's protocol as bytes: headers, the hot APIs by hand, the shape check before the cold ones.
//! Owner: nobody, functions over slices.
//! Invariant: what the shape check lets through cannot make `kafka-protocol` allocate beyond the frame's size.
//! Not here: what requests mean (`doors`), record batches (`batch.rs`).

pub mod api;
pub mod api_versions;
pub mod fetch;
pub mod primitives;
pub mod produce;
pub mod request_header;
pub mod response_frame;
pub mod shape;
pub mod topic_ref;
