//! `ringway log export`: every readable record of a stopped broker's logs, on stdout.

use super::directory::{Choice, FoundLog, Segments, Stopped};
use crate::cli::consume::{self, Printer};
use crate::cli::progress::Progress;
use crate::refusal::{FAILED, Refusal};
use ringway_client::records;
use ringway_log::verify::Finding;
use std::path::PathBuf;
use std::process::ExitCode;

/// Below the help text.
pub(super) const AFTER: &str = "\
Each log is read twice: once to find its end and its damage, once to print. What is damaged is left out and named
on stderr, log by log; what a crash left of unacknowledged writes is not printed.

  ringway log export /var/lib/ringway --topic orders -o json > orders.ldjson
  ringway log export /var/lib/ringway --topic orders -p 3 --from-offset 1000 -n 10

Exit code: 0 everything acknowledged was printed, 1 some of it is damaged, 78 the directory cannot be read.";

/// Arguments of `log export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of a stopped broker.
    directory: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// First offset of each log.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from_offset: u64,
    /// Stop after so many records.
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<u64>,
    /// Print the key and a tab before the value.
    #[arg(long)]
    key: bool,
    /// Print the headers and a tab before key and value.
    #[arg(long)]
    headers: bool,
    /// How to print: the value's bytes, or one object per line.
    #[arg(short, long, value_enum, default_value_t)]
    output: consume::Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    let stopped = Stopped::open(&args.directory, &args.choice, false)?;
    let progress = Progress::new(Some(stopped.bytes() * 2), "records");
    let (mut left, mut damaged) = (args.count, stopped.metadata_finding().is_some());
    if let Some(cause) = stopped.metadata_finding() {
        progress.say(cause);
    }
    for log in &stopped.logs {
        if left == Some(0) {
            break;
        }
        damaged |= export(args, &stopped, log, &progress, &mut left)?;
    }
    progress.finish();
    Ok(if damaged { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Prints one log. True: some of it is damaged.
fn export(
    args: &Args,
    stopped: &Stopped,
    log: &FoundLog,
    progress: &Progress,
    left: &mut Option<u64>,
) -> Result<bool, Refusal> {
    let report = stopped.walk(log, progress, |_| Ok(true))?.unwrap_or_default();
    for finding in &report.findings {
        progress.say(&format!("{}: {}", log.title(), log.line(finding)));
    }
    for remark in log.remarks() {
        progress.say(&format!("{}: {remark}", log.title()));
    }
    let mut printer = Printer::new(log.topic(), args.output, args.key, args.headers, *left);
    let mut segments = Segments::new(log);
    let first = args.from_offset.max(report.log_start);
    stopped.walk(log, progress, |line| {
        if line.base_offset >= report.end {
            return Ok(false);
        }
        if !line.payload_ok || line.last_offset < first {
            return Ok(true);
        }
        let frame = segments.frame(line, stopped.facts.block)?;
        print(&mut printer, log.key.partition, &frame, first)
    })?;
    printer.flush().map_err(|cause| Refusal::failed("stdout", &cause))?;
    *left = printer.left();
    Ok(!log.odd.is_empty() || report.findings.iter().any(Finding::is_damage))
}

/// Prints a frame's records from `first` on. False: that was enough.
fn print(printer: &mut Printer, partition: u32, frame: &[u8], first: u64) -> Result<bool, Refusal> {
    for parsed in records::frames(frame) {
        let (_, view) = parsed.map_err(|error| Refusal::failed("frame", &error))?;
        let mut printed = Ok(true);
        records::walk(&view, |record| {
            let wanted = u64::try_from(record.offset).is_ok_and(|offset| offset >= first);
            if wanted && matches!(printed, Ok(true)) {
                printed = printer.print(partition, &record);
            }
        })
        .map_err(|error| Refusal::failed("records", &error))?;
        if !printed.map_err(|cause| Refusal::failed("stdout", &cause))? {
            return Ok(false);
        }
    }
    Ok(true)
}
