//! `ringway log verify`: reads a stopped data directory from its first byte to its last, changes nothing.

use super::Output;
use super::progress::Progress;
use super::server::print;
use crate::refusal::{FAILED, Refusal};
use clap::Subcommand;
use ringway_log::directory::{DirectoryFacts, checkpoint_name};
use ringway_log::verify::{Finding, FindingKind, LogReport, LogVerify, VerifyStep};
use ringway_runtime::directory::LOCK_WAIT;
use ringway_wire::ids::LogKey;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check every header and payload of a stopped broker's data directory; exit 1 when anything
    /// acknowledged is missing or damaged.
    Verify {
        /// Data directory.
        directory: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let Action::Verify { directory, output } = &args.action;
    let _lock = lock(directory)?;
    let logs = find_logs(directory)?;
    let facts = facts(directory, logs.iter().map(|log| log.key).collect())?;
    let bytes = logs.iter().flat_map(|log| &log.segments).map(|(_, bytes)| bytes).sum();
    let progress = Progress::new(Some(bytes), "records checked");
    let mut reports = Vec::with_capacity(logs.len());
    let mut records = 0;
    for log in logs {
        let report = verify(&log, &facts, &progress, records)?;
        records += report.records;
        reports.push((log, report));
    }
    progress.finish();
    let rows: Vec<Value> = reports.iter().map(|(log, report)| row(log, report)).collect();
    print(*output, || table(&reports), &Value::Array(rows));
    let sound = reports.iter().all(|(_, report)| report.findings.iter().all(harmless));
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// A torn tail is what a crash leaves of unacknowledged writes.
fn harmless(finding: &Finding) -> bool {
    match finding.kind {
        FindingKind::TornTail => true,
        FindingKind::Rot | FindingKind::Payload => false,
    }
}

/// A log as its directory shows it.
struct FoundLog {
    key: LogKey,
    directory: PathBuf,
    /// Base offset and file size.
    segments: Vec<(u64, u64)>,
}

/// Keeps a broker from starting meanwhile, and refuses when one runs.
fn lock(directory: &Path) -> Result<File, Refusal> {
    let path = directory.join("lock");
    let file = File::open(&path).map_err(|cause| refused(&path, &cause))?;
    // The kernel gives a stopped broker's lock back only once its last ring is gone, a little later.
    let asked = Instant::now();
    while file.try_lock_shared().is_err() {
        if asked.elapsed() >= LOCK_WAIT {
            let text =
                format!("data directory {} is in use: stop the broker first", directory.display());
            return Err(Refusal::configuration(text));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(file)
}

fn refused(path: &Path, cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::configuration(format!("{}: {cause}", path.display()))
}

fn facts(directory: &Path, logs: Vec<LogKey>) -> Result<DirectoryFacts, Refusal> {
    let path = directory.join("meta");
    let meta = fs::read(&path).map_err(|cause| refused(&path, &cause))?;
    let mut checkpoints = Vec::new();
    for name in names(&directory.join("checkpoints"))? {
        let Some((shard, generation)) = checkpoint_name(&name) else { continue };
        let path = directory.join("checkpoints").join(&name);
        let body = fs::read(&path).map_err(|cause| refused(&path, &cause))?;
        checkpoints.push((shard, generation, body));
    }
    DirectoryFacts::inspect(&meta, checkpoints, logs).map_err(Refusal::configuration)
}

/// `t/<topic_id>/p/<partition>/<base_offset>.seg`, in order.
fn find_logs(directory: &Path) -> Result<Vec<FoundLog>, Refusal> {
    let topics = directory.join("t");
    let mut logs = Vec::new();
    for topic in numbers(&topics)? {
        let partitions = topics.join(topic.to_string()).join("p");
        for partition in numbers(&partitions)? {
            let directory = partitions.join(partition.to_string());
            let Ok(partition) = u32::try_from(partition) else { continue };
            let mut segments = Vec::new();
            for name in names(&directory)? {
                let base = name.strip_suffix(".seg").and_then(|base| base.parse().ok());
                let Some(base) = base else { continue };
                let path = directory.join(&name);
                let facts = fs::metadata(&path).map_err(|cause| refused(&path, &cause))?;
                segments.push((base, facts.len()));
            }
            segments.sort_unstable();
            logs.push(FoundLog { key: LogKey { topic_id: topic, partition }, directory, segments });
        }
    }
    Ok(logs)
}

fn numbers(directory: &Path) -> Result<Vec<u64>, Refusal> {
    let mut numbers: Vec<u64> =
        names(directory)?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Names in a directory; an absent one has none.
fn names(directory: &Path) -> Result<Vec<String>, Refusal> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(refused(directory, &cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| refused(directory, &cause))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

fn verify(
    log: &FoundLog,
    facts: &DirectoryFacts,
    progress: &Progress,
    records: u64,
) -> Result<LogReport, Refusal> {
    let mut verifier = LogVerify::new(log.key, facts, log.segments.clone());
    let mut open: Option<(u64, File)> = None;
    let mut bytes = Vec::new();
    loop {
        let (segment, at, len) = match verifier.step() {
            VerifyStep::Done(report) => return Ok(report),
            VerifyStep::Read { segment, at, len } => (segment, at, len),
        };
        let path = log.directory.join(format!("{segment:020}.seg"));
        let file = match open.take() {
            Some((base, file)) if base == segment => file,
            _ => File::open(&path).map_err(|cause| refused(&path, &cause))?,
        };
        bytes.resize(len, 0);
        let read = read_at(&file, &mut bytes, at);
        verifier.feed(&bytes[..read]);
        progress.advance(read, records);
        open = Some((segment, file));
    }
}

/// What can be read; a bad sector ends it, and the verifier tells what is missing.
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> usize {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    read
}

fn kind(finding: &Finding) -> &'static str {
    match finding.kind {
        FindingKind::TornTail => "torn tail",
        FindingKind::Rot => "rot",
        FindingKind::Payload => "payload",
    }
}

fn row(log: &FoundLog, report: &LogReport) -> Value {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "kind": kind(finding),
            "segment": finding.segment,
            "position": finding.position,
            "offset": finding.offset,
            "until": finding.until,
        })
    });
    json!({
        "topic_id": log.key.topic_id,
        "partition": log.key.partition,
        "segments": log.segments.len(),
        "batches": report.batches,
        "records": report.records,
        "frame_bytes": report.frame_bytes,
        "start": report.start,
        "end": report.end,
        "log_epoch": report.log_epoch,
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn table(reports: &[(FoundLog, LogReport)]) -> String {
    let mut text = format!(
        "{:>8}  {:>9}  {:>8}  {:>10}  {:>12}  {:>14}  {}\n",
        "TOPIC ID", "PARTITION", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "OFFSETS"
    );
    for (log, report) in reports {
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{:>8}  {:>9}  {:>8}  {:>10}  {:>12}  {:>14}  {}..{}",
            log.key.topic_id,
            log.key.partition,
            log.segments.len(),
            report.batches,
            report.records,
            report.frame_bytes,
            report.start,
            report.end
        )
        .unwrap_or_default();
        for finding in &report.findings {
            let Finding { segment, position, offset, until, .. } = finding;
            let kind = kind(finding);
            let place = format!("{segment:020}.seg at byte {position}, offsets {offset}..{until}");
            writeln!(text, "          {kind}: {place}").unwrap_or_default();
        }
    }
    let findings: usize = reports.iter().map(|(_, report)| report.findings.len()).sum();
    let (logs, records) = (reports.len(), reports.iter().map(|(_, r)| r.records).sum::<u64>());
    writeln!(text, "{logs} logs, {records} records, {findings} findings").unwrap_or_default();
    text
}
