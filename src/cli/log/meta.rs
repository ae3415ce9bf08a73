//! `ringway log repair --meta`: the directory's own file made anew from its segments and checkpoints.

use super::directory::{Segments, aside, checkpoints, failed, find_logs, lock, refused, sync};
use crate::cli::progress::Progress;
use crate::refusal::Refusal;
use ringway_log::directory::DirectoryFacts;
use ringway_log::io::SegmentName;
use ringway_log::lost_meta::{LostMeta, Remade};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Bytes looked at in each segment: many groups of any size.
const LOOK_BYTES: u32 = 1 << 20;
/// Smallest block.
const BLOCK_BYTES_MIN: u64 = 4096;

/// Runs the command.
pub(super) fn remake(directory: &Path, dry_run: bool) -> Result<ExitCode, Refusal> {
    let _alone = lock(directory, true)?;
    let path = directory.join("meta");
    let old = match fs::read(&path) {
        Ok(body) => Some(body),
        Err(cause) if cause.kind() == ErrorKind::NotFound => None,
        Err(cause) => return Err(refused(&path, &cause)),
    };
    if let Some(body) = &old
        && DirectoryFacts::inspect(body, Vec::new(), Vec::new()).is_ok()
    {
        report(&format!("{} is whole: nothing to do", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let remade = look(directory)?;
    let Remade { frames, block, start_counter, .. } = remade;
    let would = if dry_run { "would be " } else { "" };
    if !dry_run {
        put(directory, &remade.body, old.is_some())?;
    }
    report(&format!(
        "{} {would}made anew: {frames} frames agree on the secret, block {block}, start counter \
         {start_counter}; now run `ringway log verify {}`",
        path.display(),
        directory.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn report(text: &str) {
    Progress::new(None, "").say(text);
}

/// Reads the beginning of every segment.
fn look(directory: &Path) -> Result<Remade, Refusal> {
    let mut lost = LostMeta::new(&checkpoints(directory)?);
    let mut bytes = Vec::new();
    for log in find_logs(directory)? {
        let mut segments = Segments::new(&log);
        for (base_offset, file_bytes) in &log.segments {
            bytes.clear();
            bytes.resize(usize::try_from(u64::from(LOOK_BYTES).min(*file_bytes)).unwrap_or(0), 0);
            segments.read(*base_offset, 0, &mut bytes, LOOK_BYTES)?;
            lost.look(SegmentName { log: log.key, base_offset: *base_offset }, &bytes);
        }
    }
    let facts = fs::metadata(directory).map_err(|cause| failed(directory, &cause))?;
    let block = facts.blksize().next_power_of_two().max(BLOCK_BYTES_MIN);
    let (mut uuid, mut secret) = ([0; 16], [0; 4]);
    assert!(getrandom::fill(&mut uuid).is_ok(), "the kernel gives random numbers");
    assert!(getrandom::fill(&mut secret).is_ok(), "the kernel gives random numbers");
    let made = lost.remake((uuid, u32::from_le_bytes(secret)), u32::try_from(block).unwrap_or(0));
    made.map_err(Refusal::configuration)
}

/// Temporary name, durable, renamed, durable again; what was there is kept aside.
fn put(directory: &Path, body: &[u8], keep: bool) -> Result<(), Refusal> {
    let (path, temporary) = (directory.join("meta"), directory.join("meta.remade.tmp"));
    if keep {
        let old = aside(directory, "meta");
        fs::copy(&path, &old).map_err(|cause| failed(&old, &cause))?;
    }
    let written = fs::write(&temporary, body)
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|cause| failed(&path, &cause))?;
    sync(directory)
}
