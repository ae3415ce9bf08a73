//! `[node]`: who this broker is.

use super::keys::Keys;
use std::path::PathBuf;

/// `[node]`
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Number in the cluster.
    pub(crate) id: i32,
    /// Directory of everything durable.
    pub(crate) data_dir: PathBuf,
    /// Told to Kafka clients.
    pub(crate) rack: Option<String>,
}

impl Node {
    pub(super) fn read(keys: &mut Keys) -> Node {
        let id = keys.integer(
            ("node.id", "Number of this node; Kafka's broker ids are this × 1024 + shard."),
            0,
            0..=2_000_000,
        );
        let data_dir = keys.text(
            ("node.data_dir", "Everything durable lies here; one process at a time."),
            "./ringway-data",
            "a path",
            |text| !text.is_empty(),
        );
        let rack = keys.text(
            ("node.rack", "Rack told to Kafka clients; empty = none."),
            "",
            "up to 255 bytes",
            |text| text.len() <= 255,
        );
        keys.names(
            ("node.roles", "What this node does; this version knows one role."),
            &["broker"],
        );
        Node {
            id: i32::try_from(id).unwrap_or(0),
            data_dir: PathBuf::from(data_dir),
            rack: Some(rack).filter(|rack| !rack.is_empty()),
        }
    }
}
