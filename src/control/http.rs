//! HTTP for operators: is it alive, is it ready, what does it count.

pub(crate) mod metrics;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::Scrape;
use ringway_runtime::counters::ShardCounters;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// Where the process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Logs are being recovered.
    Starting {
        /// Shards done.
        recovered: u32,
        /// Of so many.
        shards: u32,
        /// Logs on disk.
        logs: u64,
    },
    /// All doors are open.
    Ready,
    /// Nothing new is taken.
    Stopping,
}

/// A log that takes nothing more until a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Poisoned {
    /// Its topic.
    pub(crate) topic: String,
    /// Its partition.
    pub(crate) partition: u32,
    /// What failed.
    pub(crate) cause: String,
}

/// What takes nothing more until a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Poison {
    /// Logs.
    pub(crate) logs: Vec<Poisoned>,
    /// Metadata: topics, producer ids.
    pub(crate) metadata: Option<String>,
}

/// Poisoned logs that `/readyz` names; the rest are counted.
const POISONED_NAMED_MAX: usize = 20;

/// How far all shards together have come in their recoveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovering {
    /// Logs recovered, or offline.
    pub(crate) logs_done: u64,
    /// Bytes read for it.
    pub(crate) bytes_read: u64,
}

/// See [`Recovering`].
pub(crate) fn recovering(counters: &[Arc<ShardCounters>]) -> Recovering {
    let mut sum = Recovering::default();
    for counts in counters.iter().map(|counters| counters.values().shard.log) {
        sum.logs_done += counts.recovered;
        sum.bytes_read += counts.scanned_bytes;
    }
    sum
}

/// What the handlers read.
pub(crate) struct Status {
    /// Changes with start and stop.
    pub(crate) phase: watch::Receiver<Phase>,
    /// Grows; only a restart empties it (P14).
    pub(crate) poisoned: watch::Receiver<Poison>,
    /// One per shard.
    pub(crate) counters: Vec<Arc<ShardCounters>>,
    /// For the uptime.
    pub(crate) started: Instant,
    /// For the start time.
    pub(crate) started_at: SystemTime,
    /// Whether files are opened with O_DIRECT.
    pub(crate) direct_io: bool,
    /// In effect.
    pub(crate) memory_bytes_max: u64,
}

/// Serves until the runtime ends.
///
/// # Errors
/// The listener cannot be registered with the runtime, or fails.
pub(crate) async fn serve(listener: TcpListener, status: Arc<Status>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(status);
    axum::serve(listener, routes).await
}

async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let phase = status.phase.borrow().clone();
    match phase {
        Phase::Ready => match poisoned_text(&status.poisoned.borrow()) {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
        },
        Phase::Starting { recovered, shards, logs } => {
            let Recovering { logs_done, bytes_read } = recovering(&status.counters);
            let text = format!(
                "starting: {recovered} of {shards} shards, {logs_done} of {logs} logs have recovered, \
                 {bytes_read} bytes read\n"
            );
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
    }
}

/// Names what is poisoned, if anything is.
fn poisoned_text(Poison { logs, metadata }: &Poison) -> Option<String> {
    let mut text = String::new();
    if let Some(cause) = metadata {
        text.push_str(&format!("poisoned: metadata takes no changes until a restart: {cause}\n"));
    }
    if logs.is_empty() {
        return Some(text).filter(|text| !text.is_empty());
    }
    text.push_str(&format!("poisoned: {} logs take no writes until a restart\n", logs.len()));
    for Poisoned { topic, partition, cause } in logs.iter().take(POISONED_NAMED_MAX) {
        text.push_str(&format!("{topic}/{partition}: {cause}\n"));
    }
    if logs.len() > POISONED_NAMED_MAX {
        text.push_str("and more: see ringway_log_poisoned in /metrics\n");
    }
    Some(text)
}

async fn metrics_text(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let poisoned = status.poisoned.borrow().clone();
    let scrape = Scrape {
        shards: status.counters.iter().map(|counters| counters.values()).collect(),
        ready: *status.phase.borrow() == Phase::Ready && poisoned == Poison::default(),
        poisoned,
        uptime: status.started.elapsed(),
        started_at: status.started_at,
        direct_io: status.direct_io,
        memory_bytes_max: status.memory_bytes_max,
        resident_bytes: metrics::resident_bytes(),
    };
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&scrape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p14_readyz_names_poisoned_logs_up_to_a_bound() {
        let text = |logs: Vec<Poisoned>| poisoned_text(&Poison { logs, metadata: None });
        assert_eq!(text(Vec::new()), None);
        let log =
            |partition| Poisoned { topic: "t".to_owned(), partition, cause: "errno 5".to_owned() };
        let one = text(vec![log(3)]).expect("not ready");
        assert_eq!(one, "poisoned: 1 logs take no writes until a restart\nt/3: errno 5\n");
        let many = text((0..1000).map(log).collect()).expect("not ready");
        assert_eq!(many.lines().count(), POISONED_NAMED_MAX + 2);
        let poison = Poison { logs: vec![log(3)], metadata: Some("a commit failed".to_owned()) };
        let both = poisoned_text(&poison).expect("not ready");
        assert!(both.starts_with("poisoned: metadata takes no changes until a restart: a commit"));
        assert!(both.ends_with(&one), "{both}");
    }
}
