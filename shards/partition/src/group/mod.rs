//! Consumer groups: membership and committed offsets of the groups this shard coordinates.
//! Owner: `Shard`.
//! Invariant: a group lives on the shard that owns its partition of `__consumer_offsets` (kafka.md B7).
//! Not here: frames (`doors`).

pub(crate) mod coordinator;
