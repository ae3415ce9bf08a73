//! What the cluster knows about itself: a small transactional store, and the topics kept in it.

pub(crate) mod catalog;
#[cfg(test)]
mod conformance;
pub(crate) mod local;
pub(crate) mod names;
pub(crate) mod store;
pub(crate) mod topics;
