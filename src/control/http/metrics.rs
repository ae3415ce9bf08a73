//! The shards' counters as Prometheus text, one table row per family.

use super::{Poison, Poisoned};
use ringway_runtime::counters::{CounterValues, FLUSH_BUCKETS_NS};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Prometheus text format 0.0.4.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything a scrape shows, taken at about one moment.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    /// By shard.
    pub(crate) shards: Vec<CounterValues>,
    /// All doors open and nothing poisoned.
    pub(crate) ready: bool,
    /// What takes nothing more.
    pub(crate) poisoned: Poison,
    /// Since the start.
    pub(crate) uptime: Duration,
    /// The start.
    pub(crate) started_at: SystemTime,
    /// O_DIRECT in use.
    pub(crate) direct_io: bool,
    /// In effect.
    pub(crate) memory_bytes_max: u64,
    /// Of the process.
    pub(crate) resident_bytes: Option<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// One family with a value per shard.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&CounterValues) -> u64,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    value: fn(&CounterValues) -> u64,
) -> Family {
    Family { name, kind: Kind::Counter, help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&CounterValues) -> u64) -> Family {
    Family { name, kind: Kind::Gauge, help, value }
}

const FLUSH: &str = "ringway_flush_duration_seconds";
const FLUSH_HELP: &str = "Latency of durable writes and flushes.";
const POISONED: &str = "ringway_log_poisoned";
const POISONED_HELP: &str = "1 for each log that takes nothing more until a restart.";
const CLOSED: &str = "ringway_connection_closed_total";
const CLOSED_HELP: &str = "Connections closed by a door, by reason.";

const FAMILIES: &[Family] = &[
    counter("ringway_log_appended_records_total", "Records appended.", |v| {
        v.shard.log.appended_records
    }),
    counter("ringway_log_appended_batches_total", "Record batches appended.", |v| {
        v.shard.log.appended_batches
    }),
    counter("ringway_log_appended_bytes_total", "Frame bytes appended.", |v| {
        v.shard.log.appended_bytes
    }),
    counter(
        "ringway_log_written_bytes_total",
        "Bytes written to segments, padding included.",
        |v| v.shard.log.written_bytes,
    ),
    counter("ringway_log_group_writes_total", "Flush groups written.", |v| {
        v.shard.log.group_writes
    }),
    counter("ringway_cold_read_bytes_total", "Bytes read from segments for fetches.", |v| {
        v.shard.log.cold_read_bytes
    }),
    counter(
        "ringway_tail_read_bytes_total",
        "Bytes of fetches served from the tail in memory.",
        |v| v.shard.log.tail_read_bytes,
    ),
    counter("ringway_log_rolled_segments_total", "Segments begun.", |v| v.shard.log.rolls),
    counter("ringway_log_retired_segments_total", "Segments removed by retention.", |v| {
        v.shard.log.retired_segments
    }),
    counter(
        "ringway_log_dropped_batches_total",
        "Batches dropped by recovery as torn tails.",
        |v| v.shard.log.dropped_batches,
    ),
    gauge("ringway_log_quarantined_ranges", "Offset ranges known to be damaged.", |v| {
        v.shard.log.quarantined
    }),
    counter("ringway_log_scrubbed_bytes_total", "Bytes of closed segments read by scrubs.", |v| {
        v.shard.log.scrubbed_bytes
    }),
    counter("ringway_log_scrub_found_total", "Damaged ranges that scrubs found.", |v| {
        v.shard.log.scrub_found
    }),
    counter(
        "ringway_log_scrub_passes_total",
        "Times that a shard's scrub has read all closed segments.",
        |v| v.shard.log.scrub_passes,
    ),
    gauge("ringway_log_poisoned_logs", "Logs that take nothing more until a restart.", |v| {
        v.shard.log.poisoned
    }),
    gauge("ringway_log_full_logs", "Logs that refuse produces until there is space.", |v| {
        v.shard.log.full
    }),
    gauge(
        "ringway_log_stalled",
        "Logs whose write has not been answered for `log.io_stall_ms`.",
        |v| v.shard.log.stalled,
    ),
    gauge("ringway_log_tail_bytes", "Bytes of tail held in memory.", |v| v.shard.log.tail_bytes),
    counter("ringway_produce_batches_total", "Record batches accepted.", |v| {
        v.shard.produced_batches
    }),
    counter("ringway_produce_records_total", "Records accepted by the doors.", |v| {
        v.doors.produce_records
    }),
    counter("ringway_produce_duplicate_batches_total", "Batches answered as duplicates.", |v| {
        v.shard.duplicate_batches
    }),
    counter("ringway_produce_refused_batches_total", "Batches refused.", |v| {
        v.shard.refused_batches
    }),
    counter("ringway_fetch_records_total", "Records sent to consumers.", |v| {
        v.shard.fetched_records
    }),
    counter(
        "ringway_quarantine_skipped_records_total",
        "Quarantined records passed over by fetches of topics with on_quarantine = skip.",
        |v| v.shard.skipped_records,
    ),
    counter("ringway_fetch_bytes_total", "Bytes of records sent to consumers.", |v| {
        v.shard.fetched_bytes
    }),
    counter("ringway_mesh_requests_total", "Requests handed to another shard.", |v| {
        v.shard.foreign_requests
    }),
    gauge("ringway_shard_waiting_requests", "Fetches, produces and joins that wait.", |v| {
        v.shard.waiting_rows
    }),
    gauge("ringway_shard_groups", "Consumer groups coordinated.", |v| v.shard.groups),
    counter("ringway_kafka_requests_total", "Kafka requests parsed.", |v| v.doors.kafka_requests),
    counter(
        "ringway_kafka_foreign_requests_total",
        "Kafka partitions asked of a shard that does not own them.",
        |v| v.doors.kafka_foreign_requests,
    ),
    counter("ringway_native_frames_total", "Native frames parsed.", |v| v.doors.native_frames),
    gauge("ringway_connections", "Connections open.", |v| v.ring.connections_open),
    counter("ringway_connection_accepted_total", "Connections accepted.", |v| {
        v.ring.connections_accepted
    }),
    counter(
        "ringway_connection_refused_total",
        "Connections refused for want of descriptors or above the limit.",
        |v| v.ring.connections_refused,
    ),
    counter("ringway_network_received_bytes_total", "Bytes received.", |v| v.ring.bytes_in),
    counter("ringway_network_sent_bytes_total", "Bytes sent.", |v| v.ring.bytes_out),
    counter(
        "ringway_network_sent_by_reference_bytes_total",
        "Of the bytes sent, those that went straight from blocks of the log, never copied.",
        |v| v.ring.bytes_by_reference,
    ),
    counter("ringway_network_receives_total", "Receives completed.", |v| v.ring.receives),
    counter("ringway_network_sends_total", "Sends completed.", |v| v.ring.sends),
    counter("ringway_disk_written_bytes_total", "Bytes written to disk.", |v| {
        v.ring.disk_bytes_written
    }),
    counter("ringway_disk_read_bytes_total", "Bytes read from disk.", |v| v.ring.disk_bytes_read),
    counter("ringway_disk_errors_total", "Disk operations failed.", |v| v.ring.disk_errors),
    gauge("ringway_disk_in_flight", "Writes, reads and flushes under way.", |v| {
        v.ring.disk_in_flight
    }),
    counter("ringway_ring_enters_total", "Calls of io_uring_enter.", |v| v.ring.enters),
    counter("ringway_ring_submissions_total", "Operations submitted.", |v| v.ring.sqes),
    counter("ringway_ring_completions_total", "Completions reaped.", |v| v.ring.cqes),
    gauge("ringway_shard_blocks", "Pooled blocks of 64 KiB.", |v| v.ring.blocks_total),
    gauge("ringway_shard_free_blocks", "Pooled blocks nobody holds.", |v| v.ring.blocks_free),
];

/// Families without a shard: name, kind, help, value; `None` leaves the family out.
fn process_families(scrape: &Scrape) -> Vec<(&'static str, &'static str, Option<f64>)> {
    let whole = |number: u64| {
        #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in f64")]
        let value = number as f64;
        value
    };
    let started = scrape.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    vec![
        (
            "ringway_ready",
            "1 while all doors are open and nothing is poisoned.",
            Some(f64::from(u8::from(scrape.ready))),
        ),
        (
            "ringway_metadata_poisoned",
            "1 when a metadata commit failed: no topics are made or deleted until a restart.",
            Some(f64::from(u8::from(scrape.poisoned.metadata.is_some()))),
        ),
        ("ringway_uptime_seconds", "Since the start.", Some(scrape.uptime.as_secs_f64())),
        ("ringway_direct_io", "1 where files bypass the page cache.", {
            Some(f64::from(u8::from(scrape.direct_io)))
        }),
        ("ringway_memory_max_bytes", "Block memory of all shards at most.", {
            Some(whole(scrape.memory_bytes_max))
        }),
        ("process_start_time_seconds", "Start of the process, Unix time.", {
            Some(started.as_secs_f64())
        }),
        ("process_resident_memory_bytes", "Resident memory.", scrape.resident_bytes.map(whole)),
    ]
}

/// The whole text.
pub(crate) fn render(scrape: &Scrape) -> String {
    let mut text = String::with_capacity(32 << 10);
    head(&mut text, "ringway_build_info", "gauge", "Constant 1; the labels say what runs.");
    let version = env!("CARGO_PKG_VERSION");
    put(&mut text, format_args!("ringway_build_info{{version=\"{version}\"}} 1"));
    for (name, help, value) in process_families(scrape) {
        if let Some(value) = value {
            head(&mut text, name, "gauge", help);
            put(&mut text, format_args!("{name} {value}"));
        }
    }
    for family in FAMILIES {
        head(&mut text, family.name, family.kind.name(), family.help);
        for (shard, values) in scrape.shards.iter().enumerate() {
            let value = (family.value)(values);
            put(&mut text, format_args!("{}{{shard=\"{shard}\"}} {value}", family.name));
        }
    }
    head(&mut text, POISONED, "gauge", POISONED_HELP);
    for Poisoned { topic, partition, .. } in &scrape.poisoned.logs {
        let labels = format_args!("topic=\"{topic}\",partition=\"{partition}\"");
        put(&mut text, format_args!("{POISONED}{{{labels}}} 1"));
    }
    closed(&mut text, scrape);
    flushes(&mut text, scrape);
    text
}

fn closed(text: &mut String, scrape: &Scrape) {
    head(text, CLOSED, "counter", CLOSED_HELP);
    for (shard, values) in scrape.shards.iter().enumerate() {
        for (reason, count) in [
            ("malformed_frame", values.doors.malformed),
            ("unknown_protocol", values.doors.unknown_protocol),
            ("unsupported_version", values.doors.unsupported),
        ] {
            let labels = format_args!("{CLOSED}{{shard=\"{shard}\",reason=\"{reason}\"}} {count}");
            text.write_fmt(labels).unwrap_or_default();
            text.push('\n');
        }
    }
}

fn flushes(text: &mut String, scrape: &Scrape) {
    head(text, FLUSH, "histogram", FLUSH_HELP);
    for (shard, values) in scrape.shards.iter().enumerate() {
        let ring = &values.ring;
        let mut count = 0;
        for (bucket, bound) in ring.flush_buckets.iter().zip(FLUSH_BUCKETS_NS) {
            count += bucket;
            let bound = Duration::from_nanos(bound).as_secs_f64();
            put(text, format_args!("{FLUSH}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {count}"));
        }
        // The counters are read one by one: the total may be behind the buckets by a flush.
        let total = ring.flushes.max(count);
        let sum = Duration::from_nanos(ring.flush_ns).as_secs_f64();
        put(text, format_args!("{FLUSH}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {total}"));
        put(text, format_args!("{FLUSH}_sum{{shard=\"{shard}\"}} {sum}"));
        put(text, format_args!("{FLUSH}_count{{shard=\"{shard}\"}} {total}"));
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    put(text, format_args!("# HELP {name} {help}"));
    put(text, format_args!("# TYPE {name} {kind}"));
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(line).unwrap_or_default();
    text.push('\n');
}

/// Resident memory, where `/proc` shows it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The table that stands in `docs/operating.md`.
#[cfg(test)]
fn markdown(scrape: &Scrape) -> String {
    let mut text = String::from("| metric | type | meaning |\n|---|---|---|\n");
    let rendered = render(scrape);
    let mut help = "";
    for line in rendered.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            put(&mut text, format_args!("| `{name}` | {kind} | {help} |"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reference::docs_fresh;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    fn scrape() -> Scrape {
        let mut first = CounterValues::default();
        first.shard.log.appended_records = 7;
        first.ring.flushed(15_000);
        first.ring.flushed(40_000_000_000);
        Scrape {
            shards: vec![first, CounterValues::default()],
            ready: true,
            poisoned: Poison {
                logs: vec![Poisoned {
                    topic: "t.a".to_owned(),
                    partition: 3,
                    cause: String::new(),
                }],
                metadata: None,
            },
            uptime: Duration::from_millis(1_500),
            started_at: UNIX_EPOCH + Duration::from_secs(5),
            direct_io: true,
            memory_bytes_max: 1 << 30,
            resident_bytes: Some(4_096),
        }
    }

    #[test]
    fn values_stand_under_their_names_by_shard() {
        let text = render(&scrape());
        for line in [
            "ringway_log_appended_records_total{shard=\"0\"} 7",
            "ringway_log_appended_records_total{shard=\"1\"} 0",
            "ringway_direct_io 1",
            "ringway_ready 1",
            "ringway_metadata_poisoned 0",
            "ringway_log_poisoned{topic=\"t.a\",partition=\"3\"} 1",
            "ringway_uptime_seconds 1.5",
            "ringway_flush_duration_seconds_bucket{shard=\"0\",le=\"0.00001\"} 0",
            "ringway_flush_duration_seconds_bucket{shard=\"0\",le=\"0.00002\"} 1",
            "ringway_flush_duration_seconds_bucket{shard=\"0\",le=\"+Inf\"} 2",
            "ringway_flush_duration_seconds_count{shard=\"0\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn docs_fresh_metrics_table_equals_the_code() {
        docs_fresh("metrics table", &markdown(&scrape()));
    }

    #[test]
    fn every_family_is_declared_once() {
        let text = render(&scrape());
        let mut names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(
            names.iter().all(|name| name.starts_with("ringway_") || name.starts_with("process_"))
        );
    }

    #[test]
    fn promtool_finds_nothing_to_complain_about() {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed (Debian package prometheus)");
        let mut stdin = promtool.stdin.take().expect("piped");
        stdin.write_all(render(&scrape()).as_bytes()).expect("written");
        drop(stdin);
        let done = promtool.wait_with_output().expect("ends");
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
