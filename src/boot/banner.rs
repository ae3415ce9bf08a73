//! What a start prints for the person who started it.

use super::Prepared;
use crate::config::units;
use crate::control::hub::Recovered;
use ringway_partition::catalog::Catalog;
use std::fmt::Display;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

/// Everything but what only the end of the start knows.
pub(super) struct Banner {
    rows: Vec<(&'static str, String)>,
    clean: bool,
    bootstrap: SocketAddr,
    began: Instant,
}

impl Banner {
    /// Collects it while the parts are at hand.
    pub(super) fn new(prepared: &Prepared, catalog: &Catalog) -> Banner {
        let listeners = &prepared.listeners;
        let kafka = match listeners.kafka_shards.as_slice() {
            [] => format!("{} (one broker per node)", listeners.kafka),
            shards => format!("{} (shards at {})", listeners.kafka, list(shards)),
        };
        let placement = &prepared.placement;
        let shards = format!(
            "{} on {} {}; control plane on core {}",
            placement.shards.len(),
            if placement.shards.len() == 1 { "core" } else { "cores" },
            list(&placement.shards),
            placement.control
        );
        let directory = &prepared.directory;
        let path = std::path::absolute(&directory.path).unwrap_or_else(|_| directory.path.clone());
        let through = if directory.direct_io {
            "direct I/O"
        } else {
            "no direct I/O here, through the page cache"
        };
        let paths: Vec<String> =
            listeners.http_addresses.iter().map(|address| format!("http://{address}")).collect();
        let rows = vec![
            ("kafka", kafka),
            ("native", listeners.native.to_string()),
            ("http", format!("{} /livez /readyz /metrics", list(&paths))),
            ("node", format!("{} of cluster {}", catalog.node_id, catalog.cluster_id)),
            ("shards", shards),
            ("data", format!("{} ({through})", path.display())),
            ("durability", "fsync: a record is acknowledged after it was flushed".to_owned()),
            ("memory", units::show_size(prepared.memory_bytes_max)),
        ];
        // An empty directory was never stopped, cleanly or not.
        let clean = !prepared.facts.clean.is_empty() || prepared.facts.logs.is_empty();
        Banner { rows, clean, bootstrap: listeners.kafka, began: prepared.began }
    }

    /// Writes it to stdout.
    pub(super) fn print(&self, found: &Recovered) {
        let mut text = format!("ringway {} is ready\n", env!("CARGO_PKG_VERSION"));
        for (name, value) in &self.rows {
            text.push_str(&format!("  {name:<10} {value}\n"));
        }
        let stop = if self.clean { "clean" } else { "after an unclean stop" };
        text.push_str(&format!(
            "  {:<10} {} logs, {stop}, {} scanned, {} batches dropped, {} ranges quarantined, {} ms\n",
            "start",
            found.logs,
            units::show_size(found.scanned_bytes),
            found.dropped_batches,
            found.quarantined,
            self.began.elapsed().as_millis()
        ));
        let at = self.bootstrap;
        text.push_str(&format!("  {:<10} echo hello | kcat -b {at} -P -t demo\n", "try"));
        let consume = format!("kcat -b {at} -C -t demo -o beginning -e");
        text.push_str(&format!("  {:<10} {consume}\n", ""));
        let mut out = std::io::stdout().lock();
        // A closed stdout is nobody's business.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
