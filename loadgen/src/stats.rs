//! What a thread counted; merged at the end.

use crate::ledger::{Lane, Ledger};
use crate::ranges::Ranges;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies are kept from 1 ns to 10 minutes with three digits; longer ones count as 10 minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Distinct error texts kept.
const ERRORS_MAX: usize = 20;

/// Latencies, ns.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(pub(crate) Histogram<u64>);

impl Latencies {
    fn new() -> anyhow::Result<Latencies> {
        Ok(Latencies(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?))
    }

    /// Counts `count` records that took `ns`.
    pub(crate) fn record(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns.max(1), count);
    }
}

/// One thread's counts.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Due (or sent) until acknowledged, of records due while measuring.
    pub(crate) ack: Latencies,
    /// Due until read back, of records due while measuring.
    pub(crate) end_to_end: Latencies,
    /// Due, and a place in flight free, until handed to the socket.
    pub(crate) lag: Latencies,
    /// Records sent in the whole run.
    pub(crate) sent: u64,
    /// Records acknowledged in the whole run.
    pub(crate) acked: u64,
    /// Records the server refused.
    pub(crate) refused: u64,
    /// Records sent whose answer never came.
    pub(crate) unknown: u64,
    /// Records read in the whole run.
    pub(crate) received: u64,
    /// Bytes of their values.
    pub(crate) received_bytes: u64,
    /// Acknowledged while measuring.
    pub(crate) measured_acked: u64,
    /// Read while measuring.
    pub(crate) measured_received: u64,
    /// First and last moment something was read, ns.
    pub(crate) read_span_ns: Option<(u64, u64)>,
    /// Requests that were due while all places in flight were taken.
    pub(crate) window_full: u64,
    /// Connections dialled again.
    pub(crate) reconnects: u64,
    /// Error texts and how often.
    pub(crate) errors: BTreeMap<String, u64>,
    /// What was acknowledged.
    pub(crate) acked_seqs: BTreeMap<Lane, Ranges>,
    /// What was read.
    pub(crate) ledger: Ledger,
}

impl Stats {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// The histogram bounds are refused, which they are not.
    pub(crate) fn new() -> anyhow::Result<Stats> {
        Ok(Stats {
            ack: Latencies::new()?,
            end_to_end: Latencies::new()?,
            lag: Latencies::new()?,
            sent: 0,
            acked: 0,
            refused: 0,
            unknown: 0,
            received: 0,
            received_bytes: 0,
            measured_acked: 0,
            measured_received: 0,
            read_span_ns: None,
            window_full: 0,
            reconnects: 0,
            errors: BTreeMap::new(),
            acked_seqs: BTreeMap::new(),
            ledger: Ledger::default(),
        })
    }

    /// Counts an error text.
    pub(crate) fn error(&mut self, text: &str) {
        if self.errors.len() < ERRORS_MAX || self.errors.contains_key(text) {
            *self.errors.entry(text.to_owned()).or_default() += 1;
        }
    }

    /// Records were read at `now_ns`.
    pub(crate) fn read_at(&mut self, now_ns: u64) {
        let first = self.read_span_ns.map_or(now_ns, |(first, _)| first.min(now_ns));
        let last = self.read_span_ns.map_or(now_ns, |(_, last)| last.max(now_ns));
        self.read_span_ns = Some((first, last));
    }

    /// Adds another thread's counts.
    ///
    /// # Errors
    /// Histograms of other bounds, which there are none of.
    pub(crate) fn merge(&mut self, other: Stats) -> anyhow::Result<()> {
        self.ack.0.add(&other.ack.0)?;
        self.end_to_end.0.add(&other.end_to_end.0)?;
        self.lag.0.add(&other.lag.0)?;
        self.sent += other.sent;
        self.acked += other.acked;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.measured_acked += other.measured_acked;
        self.measured_received += other.measured_received;
        for moment in other.read_span_ns.into_iter().flat_map(|(first, last)| [first, last]) {
            self.read_at(moment);
        }
        self.window_full += other.window_full;
        self.reconnects += other.reconnects;
        for (text, count) in other.errors {
            *self.errors.entry(text).or_default() += count;
        }
        self.acked_seqs.extend(other.acked_seqs);
        self.ledger.merge(other.ledger);
        Ok(())
    }
}
