//! What a run found, for people and as JSON.

use crate::args::{Mode, Rate, RunArgs};
use crate::run::Outcome;
use crate::stats::{Latencies, Stats};
use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// A thread above this share of its core cannot be told from the bottleneck.
const BUSY_SHARE: f64 = 0.9;
/// A generator that sends later than this at p99 measures itself.
const LAG_NS_MAX: u64 = 1_000_000;

/// The result; its fields are the JSON keys, described in docs/loadgen.md.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    target: String,
    mode: &'static str,
    size: usize,
    batch: usize,
    in_flight: usize,
    rate: Option<f64>,
    connections: usize,
    partitions: usize,
    warmup_s: f64,
    duration_s: f64,
    sent: u64,
    acked: u64,
    refused: u64,
    unknown: u64,
    received: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupt: u64,
    offset_gaps: u64,
    foreign: u64,
    clean: bool,
    latency: Option<&'static str>,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    p9999_us: Option<f64>,
    max_us: Option<f64>,
    ack_p50_us: Option<f64>,
    ack_p99_us: Option<f64>,
    ack_max_us: Option<f64>,
    msgs_per_s: f64,
    mb_per_s: f64,
    cpus: Vec<usize>,
    cpu_cores: f64,
    cpu_busiest: f64,
    schedule_lag_us_p99: Option<f64>,
    schedule_lag_us_max: Option<f64>,
    window_full: u64,
    reconnects: u64,
    generator_bound: bool,
    warnings: Vec<String>,
    errors: BTreeMap<String, u64>,
}
fn us(ns: u64) -> f64 {
    (ns as f64 / 100.0).round() / 10.0
}

fn quantile(latencies: &Latencies, quantile: f64) -> Option<f64> {
    let Latencies(histogram) = latencies;
    (!histogram.is_empty()).then(|| us(histogram.value_at_quantile(quantile)))
}

fn max(latencies: &Latencies) -> Option<f64> {
    let Latencies(histogram) = latencies;
    (!histogram.is_empty()).then(|| us(histogram.max()))
}

fn two_digits(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// Records and megabytes a second: of what was measured, or of all that a consumer read.
fn throughput(args: &RunArgs, stats: &Stats) -> (f64, f64) {
    let (records, seconds) = match args.mode {
        Mode::Produce => (stats.measured_acked, args.duration.as_secs_f64()),
        Mode::E2e => (stats.measured_received, args.duration.as_secs_f64()),
        Mode::Consume => {
            let span_ns = stats.read_span_ns.map_or(0, |(first, last)| last - first);
            (stats.received, Duration::from_nanos(span_ns).as_secs_f64().max(1e-6))
        }
    };
    let msgs_per_s = records as f64 / seconds;
    let mb_per_s = match args.mode {
        Mode::Produce | Mode::E2e => msgs_per_s * args.size as f64 / 1e6,
        Mode::Consume => stats.received_bytes as f64 / seconds / 1e6,
    };
    (msgs_per_s, mb_per_s)
}

impl Report {
    /// Of a finished run.
    pub(crate) fn new(args: &RunArgs, outcome: &Outcome) -> Report {
        let stats = &outcome.stats;
        let verdict = stats.ledger.verdict;
        let (latency, latencies) = match args.mode {
            Mode::Produce => (Some("ack"), &stats.ack),
            Mode::E2e => (Some("end_to_end"), &stats.end_to_end),
            Mode::Consume => (None, &stats.end_to_end),
        };
        let (msgs_per_s, mb_per_s) = throughput(args, stats);
        let (cpu_cores, cpu_busiest) = outcome.cpu;
        let warnings = warnings(args, outcome);
        Report {
            target: args.target.text.clone(),
            mode: match args.mode {
                Mode::Produce => "produce",
                Mode::Consume => "consume",
                Mode::E2e => "e2e",
            },
            size: args.size,
            batch: args.batch,
            in_flight: args.in_flight,
            rate: match args.rate {
                Rate::Max => None,
                Rate::PerSecond(rate) => Some(rate),
            },
            connections: args.connections,
            partitions: outcome.partitions,
            warmup_s: args.warmup.as_secs_f64(),
            duration_s: args.duration.as_secs_f64(),
            sent: stats.sent,
            acked: stats.acked,
            refused: stats.refused,
            unknown: stats.unknown,
            received: stats.received,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            reordered: verdict.reordered,
            corrupt: verdict.corrupt,
            offset_gaps: verdict.offset_gaps,
            foreign: verdict.foreign,
            clean: verdict.is_clean(),
            latency,
            p50_us: quantile(latencies, 0.5),
            p90_us: quantile(latencies, 0.9),
            p99_us: quantile(latencies, 0.99),
            p999_us: quantile(latencies, 0.999),
            p9999_us: quantile(latencies, 0.9999),
            max_us: max(latencies),
            ack_p50_us: quantile(&stats.ack, 0.5),
            ack_p99_us: quantile(&stats.ack, 0.99),
            ack_max_us: max(&stats.ack),
            msgs_per_s: msgs_per_s.round(),
            mb_per_s: two_digits(mb_per_s),
            cpus: outcome.cpus.clone(),
            cpu_cores: two_digits(cpu_cores),
            cpu_busiest: two_digits(cpu_busiest),
            schedule_lag_us_p99: quantile(&stats.lag, 0.99),
            schedule_lag_us_max: max(&stats.lag),
            window_full: stats.window_full,
            reconnects: stats.reconnects,
            generator_bound: !warnings.is_empty(),
            warnings,
            errors: stats.errors.clone(),
        }
    }

    /// Whether the server kept its word and did some work.
    pub(crate) fn is_good(&self) -> bool {
        let idle = self.acked == 0 && self.received == 0 && self.mode != "consume";
        self.clean && !idle
    }

    /// Writes the report for people.
    ///
    /// # Errors
    /// `out` refuses a write.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> std::io::Result<()> {
        let rate = self.rate.map_or("max".to_owned(), |rate| format!("{rate}/s"));
        writeln!(
            out,
            "{} {} · {} B · batch {} × {} in flight · {} connections · {} partitions · {rate}",
            self.target,
            self.mode,
            self.size,
            self.batch,
            self.in_flight,
            self.connections,
            self.partitions
        )?;
        writeln!(out, "  {:>12.0} records/s   {:.2} MB/s", self.msgs_per_s, self.mb_per_s)?;
        if let (Some(what), Some(p50), Some(max)) = (self.latency, self.p50_us, self.max_us) {
            let [p90, p99, p999, p9999] =
                [self.p90_us, self.p99_us, self.p999_us, self.p9999_us].map(|p| p.unwrap_or(max));
            writeln!(
                out,
                "  {what} latency µs: p50 {p50} · p90 {p90} · p99 {p99} · p99.9 {p999} · p99.99 {p9999} · max {max}"
            )?;
        }
        if let (Mode::E2e, Some(p50), Some(p99)) = (self.mode(), self.ack_p50_us, self.ack_p99_us) {
            writeln!(out, "  ack latency µs: p50 {p50} · p99 {p99}")?;
        }
        writeln!(
            out,
            "  sent {} · acked {} · refused {} · unknown {} · received {}",
            self.sent, self.acked, self.refused, self.unknown, self.received
        )?;
        writeln!(
            out,
            "  lost {} · duplicated {} · reordered {} · corrupt {} · offset gaps {}",
            self.lost, self.duplicated, self.reordered, self.corrupt, self.offset_gaps
        )?;
        write!(
            out,
            "  generator: {} cores used of {:?}, busiest {:.0} %",
            self.cpu_cores,
            self.cpus,
            self.cpu_busiest * 100.0
        )?;
        if let Some(lag) = self.schedule_lag_us_p99 {
            write!(out, ", schedule lag p99 {lag} µs, window full {}", self.window_full)?;
        }
        writeln!(out)?;
        for (error, count) in &self.errors {
            writeln!(out, "  {count} × {error}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        Ok(())
    }

    fn mode(&self) -> Mode {
        match self.mode {
            "produce" => Mode::Produce,
            "consume" => Mode::Consume,
            _ => Mode::E2e,
        }
    }
}

/// Whether the generator, not the server, set the pace.
fn warnings(args: &RunArgs, outcome: &Outcome) -> Vec<String> {
    let mut warnings = Vec::new();
    let (_, busiest) = outcome.cpu;
    if busiest > BUSY_SHARE {
        warnings.push(format!(
            "the generator uses {:.0} % of a core: the server may do more; give it more --cpus and --connections",
            busiest * 100.0
        ));
    }
    let Latencies(lag) = &outcome.stats.lag;
    if args.rate != Rate::Max && lag.value_at_quantile(0.99) > LAG_NS_MAX {
        warnings.push(format!(
            "records left {} µs after they were due at p99: the generator is late by itself",
            us(lag.value_at_quantile(0.99))
        ));
    }
    warnings
}

/// Writes the distribution in HdrHistogram's percentile text form, values in µs.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_hdr(path: &Path, histogram: &Histogram<u64>) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(context)?);
    percentiles(&mut out, histogram).with_context(context)?;
    out.flush().with_context(context)
}
fn percentiles(out: &mut impl Write, histogram: &Histogram<u64>) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for value in histogram.iter_quantiles(5) {
        total += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let at = value.value_iterated_to() as f64 / 1000.0;
        if quantile < 1.0 {
            writeln!(
                out,
                "{at:>12.3} {quantile:>14.12} {total:>10} {:>14.2}",
                1.0 / (1.0 - quantile)
            )?;
        } else {
            writeln!(out, "{at:>12.3} {quantile:>14.12} {total:>10}")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    let (max, count) = (histogram.max() as f64 / 1000.0, histogram.len());
    writeln!(out, "#[Max     = {max:>12.3}, Total count    = {count:>12}]")?;
    let buckets = histogram.buckets();
    writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]", 2048)
}
