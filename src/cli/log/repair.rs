//! `ringway log repair`: writes damaged logs of a stopped broker anew from everything readable in them.

use super::directory::{Choice, FoundLog, Segments, Stopped, aside, failed, refused, sync};
use crate::cli::progress::Progress;
use crate::refusal::{FAILED, Refusal};
use ringway_log::repair::{NewSegment, Repair, Repaired, checkpoint_body, quarantine_body};
use ringway_log::verify::{Finding, LogReport};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Below the help text.
pub(super) const AFTER: &str = "\
A log is repaired only when `ringway log verify` names damage in it. Every readable record keeps its offset; the
offsets of what is lost are recorded as a gap and given to nobody again. Consumers pass the gap by themselves, also
where the log has gone on behind a loss. What was named damaged and is readable again is served again.

Nothing is changed in place: the log is written anew beside the old one, made durable, checked, and then the two
change places in one step. The old files stay, in t/TOPIC/p/PARTITION.damaged-TIME: delete them when nobody needs
them. A repair that is cut off leaves the old log as it was; run it again.

Without its file `meta` no header of a directory can be believed, and no broker starts in it. --meta makes it anew:
every frame tells the directory's secret, and they have to agree. Run `ringway log verify` afterwards.

Without `metastore.redb` the broker knows no topic, and does not start where logs are. --metadata makes it anew from
the file partition.meta of every log: names, numbers, partitions. Settings of topics are not in there: topics come back
with the defaults. The old file is kept aside.

Copy what only lies in a damaged range from a backup or produce it anew: a repair cannot bring it back.

  ringway log repair /var/lib/ringway --dry-run
  ringway log repair /var/lib/ringway --topic orders -p 3
  ringway log repair /var/lib/ringway --meta
  ringway log repair /var/lib/ringway --metadata";

/// File of a log that says what its numbered directory is.
const NAME: &str = "partition.meta";

/// Arguments of `log repair`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data directory of a stopped broker.
    directory: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Make the file `meta` anew, which is lost or damaged; nothing else is looked at.
    #[arg(long, conflicts_with_all = ["topic", "partition"])]
    meta: bool,
    /// Make `metastore.redb` anew, which is lost or damaged; nothing else is looked at.
    #[arg(long, conflicts_with_all = ["topic", "partition", "meta"])]
    metadata: bool,
    /// Say what would be done and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Refusal> {
    if args.meta {
        return super::meta::remake(&args.directory, args.dry_run);
    }
    if args.metadata {
        return super::metadata::remake(&args.directory, args.dry_run);
    }
    let stopped = Stopped::open(&args.directory, &args.choice, true)?;
    let progress = Progress::new(Some(stopped.bytes()), "records checked");
    if let Some(cause) = stopped.metadata_finding() {
        progress.say(cause);
    }
    let (mut repaired, mut failures) = (Vec::new(), Vec::new());
    for log in &stopped.logs {
        match repair(args, &stopped, log, &mut repaired, &progress) {
            Ok(()) => {}
            Err(refusal) => {
                progress.say(&format!("{}: not repaired: {}", log.title(), refusal.text));
                failures.push(refusal);
            }
        }
    }
    if !args.dry_run && !repaired.is_empty() {
        let after = Stopped::look(&args.directory)?;
        for plan in &repaired {
            confirm(&after, plan, &progress)?;
        }
    }
    progress.finish();
    let done = if args.dry_run { "would be repaired" } else { "repaired" };
    progress.say(&format!("{} logs looked at, {} {done}", stopped.logs.len(), repaired.len()));
    match failures.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => {
            let text = format!("{} logs are as they were before", failures.len());
            Err(Refusal { code: first.code, text })
        }
    }
}

/// Repairs a log when there is something to repair; what is `repaired` already stands in the same checkpoints.
fn repair(
    args: &Args,
    stopped: &Stopped,
    log: &FoundLog,
    repaired: &mut Vec<Repaired>,
    progress: &Progress,
) -> Result<(), Refusal> {
    let report = stopped.walk(log, progress, |_| Ok(true))?.unwrap_or_default();
    if log.odd.is_empty() && !report.findings.iter().any(Finding::is_damage) {
        return name(args, stopped, log, progress);
    }
    if let (true, Err(cause)) = (log.is_gone, &stopped.topics) {
        let text =
            format!("{}: its directory is gone, and so may its topic be: {cause}", log.title());
        return Err(Refusal { code: FAILED, text });
    }
    for finding in report.findings.iter().filter(|finding| finding.is_damage()) {
        progress.say(&format!("{}: {}", log.title(), log.line(finding)));
    }
    for remark in log.remarks() {
        progress.say(&format!("{}: {remark}", log.title()));
    }
    let plan = plan(stopped, log, report, progress)?;
    progress.say(&format!(
        "{}: {} records stay readable, {} segments are written anew, {} stay as they are",
        log.title(),
        plan.records,
        plan.written.len(),
        plan.kept.len()
    ));
    if args.dry_run {
        repaired.push(plan);
        return Ok(());
    }
    let anew = build(stopped, log, &plan)?;
    repaired.push(plan);
    let swapped = swap(stopped, log, &anew, repaired);
    if swapped.is_err() {
        // What is left of it would only take space that may be short.
        drop(fs::remove_dir_all(&anew));
        repaired.pop();
    }
    if let Some(aside) = swapped? {
        progress.say(&format!("{}: the old files are in {}", log.title(), aside.display()));
    }
    Ok(())
}

/// The log changes places with the one made anew, and the checkpoints that tell so take their names: their space is
/// taken before, so that a full disk leaves no log without them.
fn swap(
    stopped: &Stopped,
    log: &FoundLog,
    anew: &Path,
    repaired: &[Repaired],
) -> Result<Option<PathBuf>, Refusal> {
    let checkpoints = write_checkpoints(stopped, repaired)?;
    let aside = exchange(stopped, log, anew)?;
    for (temporary, path) in &checkpoints {
        fs::rename(temporary, path).map_err(|cause| failed(path, &cause))?;
    }
    sync(&stopped.directory.join("checkpoints"))?;
    Ok(aside)
}

/// Makes `partition.meta` anew when nothing else is wrong with a log; no broker reads it.
fn name(
    args: &Args,
    stopped: &Stopped,
    log: &FoundLog,
    progress: &Progress,
) -> Result<(), Refusal> {
    if log.is_named {
        return Ok(());
    }
    let body = stopped.topics.as_ref().ok().and_then(|topics| topics.partition_meta(log.key));
    let done = match (&body, args.dry_run) {
        (None, _) => "cannot be made anew, metastore.redb does not have its topic",
        (Some(_), true) => "would be made anew",
        (Some(_), false) => "is made anew",
    };
    if let (Some(body), false) = (&body, args.dry_run) {
        let (path, temporary) =
            (log.directory.join(NAME), log.directory.join("partition.meta.tmp"));
        write(&temporary, body)?;
        fs::rename(&temporary, &path).map_err(|cause| failed(&path, &cause))?;
        sync(&log.directory)?;
    }
    progress.say(&format!("{}: {NAME} {done}", log.title()));
    Ok(())
}

fn plan(
    stopped: &Stopped,
    log: &FoundLog,
    report: LogReport,
    progress: &Progress,
) -> Result<Repaired, Refusal> {
    let bases: Vec<u64> = log.segments.iter().map(|(base, _)| *base).collect();
    let mut repair = Repair::new(log.key, &stopped.facts, report, &bases);
    stopped.walk(log, progress, |line| {
        repair.take(line);
        Ok(true)
    })?;
    Ok(repair.finish())
}

/// Writes the log anew beside the old one, durably; what a failure leaves is removed.
fn build(stopped: &Stopped, log: &FoundLog, plan: &Repaired) -> Result<PathBuf, Refusal> {
    let parent = log.directory.parent().unwrap_or(&stopped.directory);
    make(&stopped.directory, parent)?;
    let anew = parent.join(format!("{}.repaired", log.key.partition));
    // Left by a repair that was cut off before the exchange.
    match fs::remove_dir_all(&anew) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(failed(&anew, &cause)),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir(&anew).map_err(|cause| failed(&anew, &cause))?;
    let filled = fill(stopped, log, plan, &anew).and_then(|()| sync(parent));
    if filled.is_err() {
        drop(fs::remove_dir_all(&anew));
    }
    filled.map(|()| anew)
}

fn fill(stopped: &Stopped, log: &FoundLog, plan: &Repaired, anew: &Path) -> Result<(), Refusal> {
    let mut segments = Segments::new(log);
    for segment in &plan.written {
        write_segment(anew, segment, &mut segments, stopped.facts.block)?;
    }
    for base in &plan.kept {
        keep_segment(anew, log, *base, plan.kept.last() == Some(base))?;
    }
    if log.is_named {
        copy(&log.directory.join(NAME), &anew.join(NAME))?;
    } else if let Some(body) =
        stopped.topics.as_ref().ok().and_then(|topics| topics.partition_meta(log.key))
    {
        write(&anew.join(NAME), &body)?;
    }
    write(&anew.join("quarantine"), &quarantine_body())?;
    sync(anew)
}

/// Lets the log and the one made anew change places. Where the old one is then.
fn exchange(stopped: &Stopped, log: &FoundLog, anew: &Path) -> Result<Option<PathBuf>, Refusal> {
    let parent = log.directory.parent().unwrap_or(&stopped.directory);
    // Under the name that the old files keep: no repair that is cut off takes them for what it left itself.
    let aside = aside(parent, &log.key.partition.to_string());
    let place = if log.is_gone { &log.directory } else { &aside };
    renameat_with(CWD, anew, CWD, place, RenameFlags::NOREPLACE)
        .map_err(|cause| failed(place, &cause))?;
    if !log.is_gone {
        renameat_with(CWD, &aside, CWD, &log.directory, RenameFlags::EXCHANGE)
            .map_err(|cause| failed(&log.directory, &cause))?;
    }
    sync(parent)?;
    Ok((!log.is_gone).then_some(aside))
}

/// Makes what is missing of the way from `root` to a directory, durably.
fn make(root: &Path, directory: &Path) -> Result<(), Refusal> {
    if directory.is_dir() || directory == root {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(root);
    make(root, parent)?;
    fs::create_dir(directory).map_err(|cause| failed(directory, &cause))?;
    sync(parent)
}

fn write(path: &Path, body: &[u8]) -> Result<(), Refusal> {
    let written = fs::write(path, body).and_then(|()| File::open(path)?.sync_all());
    written.map_err(|cause| failed(path, &cause))
}

fn write_segment(
    directory: &Path,
    segment: &NewSegment,
    from: &mut Segments<'_>,
    block: u32,
) -> Result<(), Refusal> {
    let path = directory.join(format!("{:020}.seg", segment.base));
    let file = File::create_new(&path).map_err(|cause| failed(&path, &cause))?;
    file.set_len(segment.bytes).map_err(|cause| failed(&path, &cause))?;
    for piece in &segment.pieces {
        let mut bytes = vec![0; piece.len as usize];
        from.read(piece.segment, piece.from, &mut bytes, block)?;
        file.write_all_at(&bytes, piece.to).map_err(|cause| failed(&path, &cause))?;
    }
    file.sync_all().map_err(|cause| failed(&path, &cause))
}

/// A sealed segment gets a second name; the one that is appended to, a copy: the old log stays as it is.
fn keep_segment(directory: &Path, log: &FoundLog, base: u64, last: bool) -> Result<(), Refusal> {
    let (old, new) = (log.segment(base), directory.join(format!("{base:020}.seg")));
    if last {
        return copy(&old, &new);
    }
    fs::hard_link(&old, &new).map_err(|cause| failed(&new, &cause))
}

fn copy(old: &Path, new: &Path) -> Result<(), Refusal> {
    let copied = fs::copy(old, new).and_then(|_| File::open(new)?.sync_all());
    copied.map_err(|cause| failed(new, &cause))
}

/// Two generations above all others tell where the repaired logs end (P9): durable under a temporary name, which
/// comes first, and the name that they get.
fn write_checkpoints(
    stopped: &Stopped,
    repaired: &[Repaired],
) -> Result<Vec<(PathBuf, PathBuf)>, Refusal> {
    let directory = stopped.directory.join("checkpoints");
    make(&stopped.directory, &directory)?;
    let newest = stopped.facts.checkpoints.iter().map(|(_, generation, _)| *generation).max();
    let newest = newest.unwrap_or(0);
    let mut written = Vec::new();
    for generation in [newest + 1, newest + 2] {
        let temporary = directory.join(format!("shard-0.{generation}.tmp"));
        if let Err(refusal) = write(&temporary, &checkpoint_body(generation, repaired)) {
            drop(fs::remove_file(&temporary));
            return Err(refusal);
        }
        written.push((temporary, directory.join(format!("shard-0.{generation}"))));
    }
    sync(&directory)?;
    Ok(written)
}

/// Reads a repaired log once more: it must be whole, and hold what was readable before.
fn confirm(stopped: &Stopped, plan: &Repaired, progress: &Progress) -> Result<(), Refusal> {
    let Some(log) = stopped.logs.iter().find(|log| log.key == plan.key()) else {
        let text = format!("log {} is gone after its repair", plan.key());
        return Err(refused(&stopped.directory, &text));
    };
    let report = stopped.walk(log, progress, |_| Ok(true))?.unwrap_or_default();
    let whole = !report.findings.iter().any(Finding::is_damage);
    if whole && report.records == plan.records && report.next == plan.next {
        return Ok(());
    }
    let text = format!(
        "{}: after its repair it has {} records up to {} and {} findings, wanted were {} up to {}; the old \
         files are whole, put them back",
        log.title(),
        report.records,
        report.next,
        report.findings.len(),
        plan.records,
        plan.next
    );
    Err(Refusal::failed("repair", &text))
}
