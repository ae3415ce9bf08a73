//! `ringway log verify`: reads a stopped data directory from its first byte to its last, changes nothing.

use super::directory::{Choice, FoundLog, Segments, Stopped};
use super::findings::finding_json;
use super::history::{Answer, History};
use crate::cli::Output;
use crate::cli::progress::Progress;
use crate::cli::server::print;
use crate::refusal::{FAILED, Refusal};
use ringway_log::inspect::damaged_checkpoints;
use ringway_log::verify::{Finding, LogReport};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Below the help text.
pub(super) const AFTER: &str = "\
Every frame is read: header CRC, place (topic, partition, offset), link to the frame before it, payload CRC-32C;
then the newest checkpoint must agree with what was found. Nothing is changed.

What the broker does not serve is named, too: a loss behind which the log went on, and records that are readable
again but stand in its list of damaged ranges (`unserved`). Only `ringway log repair` gives a loss up for good.
Without that list every recorded gap is named, as the next start of the broker will. A log without a directory is
missing when a checkpoint tells of it and `metastore.redb` has its topic; that file is read and not changed.

A torn tail is what a crash leaves of writes that were never acknowledged: it is named and no damage.
With --history every acknowledged record of the file must be there, at its offset, with its own content.

  ringway log verify /var/lib/ringway
  ringway log verify /var/lib/ringway --topic orders -o json
  ringway log verify /var/lib/ringway --history run.jsonl --cut 1500000

Exit code: 0 nothing acknowledged is missing or damaged, 1 something is, 78 the directory cannot be read.";

/// Arguments of `log verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of a stopped broker.
    directory: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// What clients saw, as `ringway-loadgen --history` writes it: every acknowledged record must be there.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Only acknowledgements up to this `t_us` of the history count: the last mark before a power cut.
    #[arg(long, value_name = "T_US", requires = "history")]
    cut: Option<u64>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let mut history =
        args.history.as_deref().map(|path| History::read(path, args.cut)).transpose()?;
    let stopped = Stopped::open(&args.directory, &args.choice, false)?;
    let progress = Progress::new(Some(stopped.bytes()), "records checked");
    let mut reports = Vec::with_capacity(stopped.logs.len());
    for log in &stopped.logs {
        reports.push((log, check(&stopped, log, &progress, history.as_mut())?));
    }
    progress.finish();
    let answer = history.map(History::answer);
    let checkpoints = damaged_checkpoints(&stopped.facts);
    let json = json!({
        "logs": reports.iter().map(|(log, report)| row(log, report)).collect::<Vec<_>>(),
        "damaged_checkpoints": checkpoints,
        "metadata": stopped.metadata_finding(),
        "notes": stopped.notes,
        "history": answer.as_ref().map(Answer::json),
    });
    print(args.output, || table(&stopped, &reports, answer.as_ref()), &json);
    let is_damaged = |(log, report): &(&FoundLog, LogReport)| {
        !log.odd.is_empty() || report.findings.iter().any(Finding::is_damage)
    };
    let damaged = reports.iter().any(is_damaged);
    let sound = !damaged
        && stopped.metadata_finding().is_none()
        && answer.is_none_or(|answer| answer.is_clean());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn check(
    stopped: &Stopped,
    log: &FoundLog,
    progress: &Progress,
    mut history: Option<&mut History>,
) -> Result<LogReport, Refusal> {
    let (topic, partition) = (log.topic(), log.key.partition);
    let mut segments = Segments::new(log);
    let report = stopped.walk(log, progress, |line| {
        if let Some(history) = history.as_deref_mut()
            && line.payload_ok
            && history.asks_for(topic, partition, line.base_offset..line.last_offset + 1)
        {
            history.found(topic, partition, &segments.frame(line, stopped.facts.block)?);
        }
        Ok(true)
    })?;
    let report = report.unwrap_or_default();
    if let Some(history) = history {
        history.judge(topic, partition, &report);
    }
    Ok(report)
}

fn row(log: &FoundLog, report: &LogReport) -> Value {
    json!({
        "topic": log.topic(),
        "topic_id": log.key.topic_id,
        "partition": log.key.partition,
        "gone": log.is_gone,
        "segments": log.segments.len(),
        "batches": report.batches,
        "records": report.records,
        "frame_bytes": report.frame_bytes,
        "start": report.start,
        "end": report.end,
        "log_start": report.log_start,
        "log_epoch": report.log_epoch,
        "odd": log.odd,
        "notes": log.notes,
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn table(stopped: &Stopped, reports: &[(&FoundLog, LogReport)], answer: Option<&Answer>) -> String {
    let width = reports.iter().map(|(log, _)| log.title().len()).max().unwrap_or(0).max(3);
    let mut text = format!(
        "{:<width$}  {:>8}  {:>8}  {:>10}  {:>12}  {:>14}  {}\n",
        "LOG", "TOPIC ID", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "OFFSETS"
    );
    for (log, report) in reports {
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{:<width$}  {:>8}  {:>8}  {:>10}  {:>12}  {:>14}  {}..{}",
            log.title(),
            log.key.topic_id,
            log.segments.len(),
            report.batches,
            report.records,
            report.frame_bytes,
            report.start,
            report.end
        )
        .unwrap_or_default();
        for finding in &report.findings {
            writeln!(text, "    {}", log.line(finding)).unwrap_or_default();
        }
        for remark in log.remarks() {
            writeln!(text, "    {remark}").unwrap_or_default();
        }
    }
    for (shard, generation) in damaged_checkpoints(&stopped.facts) {
        let text = &mut text;
        let remedy = "recovery passes it over and scans more";
        writeln!(text, "checkpoints/shard-{shard}.{generation} is damaged: {remedy}")
            .unwrap_or_default();
    }
    for line in stopped.notes.iter().map(String::as_str).chain(stopped.metadata_finding()) {
        writeln!(text, "{line}").unwrap_or_default();
    }
    let findings = reports.iter().flat_map(|(_, report)| &report.findings);
    let damaged = findings.clone().filter(|finding| finding.is_damage()).count();
    let torn = findings.count() - damaged;
    let damaged = damaged + reports.iter().map(|(log, _)| log.odd.len()).sum::<usize>();
    let (logs, records) = (reports.len(), reports.iter().map(|(_, r)| r.records).sum::<u64>());
    writeln!(text, "{logs} logs, {records} records, {damaged} damaged ranges, {torn} torn tails")
        .unwrap_or_default();
    if let Some(answer) = answer {
        writeln!(text, "{answer}").unwrap_or_default();
    }
    text
}
