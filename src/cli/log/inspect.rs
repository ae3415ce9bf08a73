//! `ringway log inspect`: what lies in each log of a stopped broker, for people.

use super::directory::{Choice, FoundLog, Stopped};
use super::findings::finding_json;
use super::quarantine;
use crate::cli::Output;
use crate::cli::progress::Progress;
use crate::cli::server::print;
use crate::refusal::Refusal;
use ringway_log::inspect::{CheckpointLine, checkpoint_lines, damaged_checkpoints};
use ringway_log::verify::{Finding, FrameLine};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Below the help text.
pub(super) const AFTER: &str = "\
A frame's line: its offsets, segment and byte, length, the life (log_epoch) that wrote it, the flushed offset its
writer knew, its own CRC and whether it names the frame before it, and whether its payload's CRC-32C is right.
`break` is the first frame of the log, of a recorded gap, or behind damage.

Without --findings only the frames asked for are read, from the first segment on; to see all damage use --findings
or ringway log verify DIR.

  ringway log inspect /var/lib/ringway --topic orders -p 0
  ringway log inspect /var/lib/ringway --topic orders -p 0 --from-offset 80000 -n 50 -o json";

/// Arguments of `log inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of a stopped broker.
    directory: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Frames shown of each log.
    #[arg(short = 'n', long = "frames", value_name = "N", default_value_t = 10)]
    frames: usize,
    /// Show frames from the one that holds this offset on.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from_offset: u64,
    /// Read to the end and name all damage.
    #[arg(long)]
    findings: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let stopped = Stopped::open(&args.directory, &args.choice, false)?;
    let progress = Progress::new(args.findings.then(|| stopped.bytes()), "records read");
    let mut views = Vec::with_capacity(stopped.logs.len());
    for log in &stopped.logs {
        views.push(look(args, &stopped, log, &progress)?);
    }
    progress.finish();
    let facts = &stopped.facts;
    let json = json!({
        "block": facts.block,
        "start_counter": facts.start_counter,
        "checkpoints": facts.checkpoints.iter().map(|file| json!([file.0, file.1])).collect::<Vec<_>>(),
        "damaged_checkpoints": damaged_checkpoints(facts),
        "metadata": stopped.metadata_finding(),
        "logs": views.iter().map(LogView::json).collect::<Vec<_>>(),
    });
    print(args.output, || table(&stopped, &views), &json);
    Ok(ExitCode::SUCCESS)
}

/// What is shown of one log.
struct LogView<'a> {
    log: &'a FoundLog,
    checkpoints: Vec<CheckpointLine>,
    quarantine: Option<Vec<ringway_log::logs::QuarantineFacts>>,
    frames: Vec<FrameLine>,
    /// None: not looked for.
    findings: Option<Vec<Finding>>,
}

fn look<'a>(
    args: &Args,
    stopped: &Stopped,
    log: &'a FoundLog,
    progress: &Progress,
) -> Result<LogView<'a>, Refusal> {
    let mut frames = Vec::new();
    let report = stopped.walk(log, progress, |line| {
        if line.last_offset >= args.from_offset && frames.len() < args.frames {
            frames.push(*line);
        }
        Ok(args.findings || frames.len() < args.frames)
    })?;
    Ok(LogView {
        log,
        checkpoints: checkpoint_lines(log.key, &stopped.facts),
        quarantine: quarantine::list(log)?,
        frames,
        findings: report.map(|report| report.findings),
    })
}

impl LogView<'_> {
    fn json(&self) -> Value {
        let segment = |(base, bytes): &(u64, u64)| json!({"base": base, "file_bytes": bytes});
        json!({
            "topic": self.log.topic(),
            "topic_id": self.log.key.topic_id,
            "partition": self.log.key.partition,
            "gone": self.log.is_gone,
            "odd": self.log.odd,
            "notes": self.log.notes,
            "segments": self.log.segments.iter().map(segment).collect::<Vec<_>>(),
            "checkpoints": self.checkpoints.iter().map(checkpoint_json).collect::<Vec<_>>(),
            "quarantine": self.quarantine.as_ref().map(|list| {
                list.iter().map(quarantine::range_json).collect::<Vec<_>>()
            }),
            "frames": self.frames.iter().map(frame_json).collect::<Vec<_>>(),
            "findings": self.findings.as_ref().map(|list| {
                list.iter().map(finding_json).collect::<Vec<_>>()
            }),
        })
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let log = self.log;
        writeln!(
            text,
            "\n{}, topic id {}, {}",
            log.title(),
            log.key.topic_id,
            log.directory.display()
        )?;
        if log.is_gone {
            writeln!(text, "  the directory is gone: nothing but a checkpoint tells of it")?;
        }
        for (base, bytes) in &log.segments {
            writeln!(text, "  segment {base:020}.seg  {bytes} bytes")?;
        }
        for remark in log.remarks() {
            writeln!(text, "  {remark}")?;
        }
        for line in &self.checkpoints {
            let CheckpointLine { shard, generation, segment, position, offset, log_start, .. } =
                line;
            let clean = if line.clean { ", clean" } else { "" };
            writeln!(
                text,
                "  checkpoint shard-{shard}.{generation}: offsets {log_start}..{offset}, flushed end at byte \
                 {position} of {segment:020}.seg, group limit {}{clean}",
                line.group_bytes_max
            )?;
        }
        if let Some(newest) = self.checkpoints.first() {
            for (epoch, start, previous_end) in &newest.lives {
                let gap = start.saturating_sub(*previous_end);
                let gap = if gap > 0 {
                    format!(", a gap of {gap} offsets before it")
                } else {
                    String::new()
                };
                writeln!(text, "  life {epoch}: from offset {start}{gap}")?;
            }
        }
        match &self.quarantine {
            None => writeln!(text, "  quarantine: the list is damaged; it is found again")?,
            Some(list) => {
                for range in list {
                    writeln!(text, "  quarantine {}", quarantine::range_line(range))?;
                }
            }
        }
        for frame in &self.frames {
            writeln!(text, "  {}", frame_line(frame))?;
        }
        for finding in self.findings.iter().flatten() {
            writeln!(text, "  {}", log.line(finding))?;
        }
        Ok(())
    }
}

fn frame_line(frame: &FrameLine) -> String {
    let FrameLine { segment, position, frame_len, base_offset, last_offset, .. } = frame;
    let linked = if frame.linked { "linked" } else { "break" };
    let payload = if frame.payload_ok { "payload right" } else { "PAYLOAD WRONG" };
    format!(
        "frame {base_offset}..{} at byte {position} of {segment:020}.seg, {frame_len} bytes, life {}, flushed \
         {}, crc {:08x} after {:08x} {linked}, {payload}",
        last_offset + 1,
        frame.log_epoch,
        frame.flushed_upto,
        frame.header_crc,
        frame.prev_crc
    )
}

fn frame_json(frame: &FrameLine) -> Value {
    json!({
        "segment": frame.segment,
        "position": frame.position,
        "frame_len": frame.frame_len,
        "base_offset": frame.base_offset,
        "last_offset": frame.last_offset,
        "records": frame.records,
        "log_epoch": frame.log_epoch,
        "flushed_upto": frame.flushed_upto,
        "header_crc": frame.header_crc,
        "prev_crc": frame.prev_crc,
        "linked": frame.linked,
        "payload_ok": frame.payload_ok,
        "max_timestamp": frame.max_timestamp,
        "append_time_ns": frame.append_time_ns,
        "producer_id": frame.producer_id,
    })
}

fn checkpoint_json(line: &CheckpointLine) -> Value {
    json!({
        "shard": line.shard,
        "generation": line.generation,
        "segment": line.segment,
        "position": line.position,
        "offset": line.offset,
        "log_start": line.log_start,
        "group_bytes_max": line.group_bytes_max,
        "clean": line.clean,
        "lives": line.lives,
    })
}

fn table(stopped: &Stopped, views: &[LogView<'_>]) -> String {
    let facts = &stopped.facts;
    let mut text = format!(
        "{}: block {} bytes, started {} times, {} checkpoint files, {} logs\n",
        stopped.directory.display(),
        facts.block,
        facts.start_counter,
        facts.checkpoints.len(),
        views.len()
    );
    for (shard, generation) in damaged_checkpoints(facts) {
        // Writing to a String cannot fail.
        writeln!(text, "checkpoints/shard-{shard}.{generation} is damaged").unwrap_or_default();
    }
    if let Some(cause) = stopped.metadata_finding() {
        writeln!(text, "{cause}").unwrap_or_default();
    }
    for view in views {
        view.write(&mut text).unwrap_or_default();
    }
    text
}
