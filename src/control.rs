//! The control plane: metadata and HTTP. Slow work lives here, so that no shard ever waits for it.

pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod meta;
