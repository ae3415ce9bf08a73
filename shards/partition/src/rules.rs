//! The owners of waiting rows of one shard, side by side.
//! Owner: `Shard`.
//! Invariant: a row lives with exactly one of them.
//! Not here: which input goes to whom (`shard.rs`, `log_events.rs`).

use crate::fetch::Fetches;
use crate::group::coordinator::Coordinator;
use crate::group::held_calls::HeldCalls;
use crate::list_offsets::Searches;
use crate::mesh::Mesh;
use crate::openings::Openings;
use crate::produce::HeldProduces;
use crate::producer_ids::ProducerIds;

/// The owners of waiting rows, each in its own file.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) openings: Openings,
    pub(crate) produces: HeldProduces,
    pub(crate) fetches: Fetches,
    pub(crate) searches: Searches,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) mesh: Mesh,
    pub(crate) groups: Coordinator,
    pub(crate) held_calls: HeldCalls,
}
