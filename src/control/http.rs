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
    },
    /// All doors are open.
    Ready,
    /// Nothing new is taken.
    Stopping,
}

/// What the handlers read.
pub(crate) struct Status {
    /// Changes with start and stop.
    pub(crate) phase: watch::Receiver<Phase>,
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
        Phase::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Phase::Starting { recovered, shards } => {
            let text = format!("starting: {recovered} of {shards} shards have recovered\n");
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
    }
}

async fn metrics_text(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let scrape = Scrape {
        shards: status.counters.iter().map(|counters| counters.values()).collect(),
        ready: *status.phase.borrow() == Phase::Ready,
        uptime: status.started.elapsed(),
        started_at: status.started_at,
        direct_io: status.direct_io,
        memory_bytes_max: status.memory_bytes_max,
        resident_bytes: metrics::resident_bytes(),
    };
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&scrape))
}
