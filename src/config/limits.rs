//! `[limits]`: what one client may cost, and how long a stop may last.

use super::keys::{Keys, number32};
use std::time::Duration;

/// `[limits]`
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Largest native payload.
    pub(crate) message_bytes_max: u32,
    /// Requests of one connection in flight.
    pub(crate) conn_requests_max: u32,
    /// From accept to the first whole frame.
    pub(crate) preauth_timeout_ms: u64,
    /// Nested elements of one cold Kafka frame.
    pub(crate) kafka_elements_max: u32,
    /// Waiting fetches, produces and joins of a shard.
    pub(crate) waiting_rows_max: u32,
    /// Connections of a shard.
    pub(crate) connections_max: u32,
    /// For all accepted work to finish at a stop.
    pub(crate) drain_timeout_ms: u64,
    /// For the whole stop.
    pub(crate) shutdown_timeout: Duration,
}

impl Limits {
    pub(super) fn read(keys: &mut Keys) -> Limits {
        let message_bytes_max = keys.size(
            (
                "limits.message_bytes_max",
                "Largest native message; SIGHUP changes it while serving.",
            ),
            50 << 20,
            (64 << 10)..=(1 << 30),
        );
        let conn_requests_max = keys.integer(
            ("limits.conn_requests_max", "Requests of one connection in flight."),
            1_024,
            1..=65_536,
        );
        let preauth_timeout_ms = keys.integer(
            (
                "limits.preauth_timeout_ms",
                "From accept to the first whole frame, or the connection goes.",
            ),
            5_000,
            100..=600_000,
        );
        let kafka_elements_max = keys.integer(
            (
                "limits.kafka_elements_max",
                "Array elements in one Kafka request, Produce and Fetch apart.",
            ),
            100_000,
            1_000..=10_000_000,
        );
        let waiting_rows_max = keys.integer(
            ("limits.waiting_rows_max", "Waiting fetches, produces and joins of a shard."),
            65_536,
            1_024..=10_000_000,
        );
        let connections_max = keys.integer(
            ("limits.connections_max", "Connections of a shard; more wait in the backlog."),
            20_000,
            16..=1_000_000,
        );
        let drain_timeout_ms = keys.integer(
            ("limits.drain_timeout_ms", "At a stop, for accepted work to finish."),
            10_000,
            0..=600_000,
        );
        let shutdown_timeout = keys.duration(
            (
                "limits.shutdown_timeout",
                "For the whole stop; then exit 1 without the clean marker.",
            ),
            Duration::from_secs(30),
            Duration::from_secs(1)..=Duration::from_secs(3_600),
        );
        Limits {
            message_bytes_max: number32(message_bytes_max),
            conn_requests_max: number32(conn_requests_max),
            preauth_timeout_ms,
            kafka_elements_max: number32(kafka_elements_max),
            waiting_rows_max: number32(waiting_rows_max),
            connections_max: number32(connections_max),
            drain_timeout_ms,
            shutdown_timeout,
        }
    }
}
