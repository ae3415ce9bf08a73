//! What a client of the simulation may touch while it acts.
//! Owner: `World` lends it for one action.
//! Invariant: nothing here outlives the action.
//! Not here: what clients do (`producer.rs`, `consumer.rs`).

use crate::checker::Checker;
use crate::node::Node;
use crate::rng::Rng;
use crate::workload::{Maker, Mix, Target};

/// What a client may touch while it acts.
pub struct Around<'a> {
    /// Server and network.
    pub node: &'a mut Node,
    /// Told of everything.
    pub checker: &'a mut Checker,
    /// Chance.
    pub rng: &'a mut Rng,
    /// Partitions.
    pub targets: &'a [Target],
    /// Makes batches.
    pub maker: &'a mut Maker,
    /// What batches are like.
    pub mix: Mix,
    /// A batch may be missing without its sender hearing of it: limits were lowered once, and it was
    /// refused; or the device lies.
    pub sequences_break: bool,
    /// How often a client that waits doubles its pause.
    pub rest_max: u32,
}
