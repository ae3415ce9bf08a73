//! How bytes look: headers, record batches, the codecs of every protocol. Pure functions over slices.

pub mod error_code;
pub mod ids;
