//! `ringway log repair --metadata`: the metadata store made anew from what the log directories say of themselves.

use super::directory::{aside, checkpoints, failed, find_logs, lock, refused, sync};
use super::topics::Topics;
use crate::cli::progress::Progress;
use crate::control::meta::local::{LocalStore, forget_revision};
use crate::control::meta::topics::remake::{Named, Remade, stored_cluster_id};
use crate::refusal::Refusal;
use ringway_log::inspect::{checkpointed_keys, partition_name};
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// The store's file.
const STORE: &str = "metastore.redb";

/// Runs the command.
pub(super) fn remake(directory: &Path, dry_run: bool) -> Result<ExitCode, Refusal> {
    let _alone = lock(directory, true)?;
    let path = directory.join(STORE);
    if Topics::read(directory).is_ok() {
        say(&format!("{} is whole: nothing to do", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let remade = Remade::new(&look(directory)?)
        .map_err(|why| refused(&path, &format!("cannot be made anew: {why}")))?;
    let known = fs::read(&path)
        .ok()
        .and_then(|body| stored_cluster_id(&LocalStore::open_copy(&body, &path).ok()?));
    let kept = known.is_some();
    if !dry_run {
        put(directory, &remade, known)?;
    }
    tell(&path, &remade, kept, if dry_run { "would be " } else { "" });
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) {
    Progress::new(None, "").say(text);
}

fn tell(path: &Path, remade: &Remade, kept: bool, would: &str) {
    let identity = if kept { "the old cluster id" } else { "a new cluster id" };
    let (path, topics) = (path.display(), remade.topics.len());
    say(&format!("{path} {would}made anew: {topics} topics, {identity}"));
    for (name, row) in &remade.topics {
        let settings = if row.internal { "its own settings" } else { "DEFAULT settings" };
        let (id, partitions) = (row.topic_id, row.partitions);
        say(&format!("topic {name}: number {id}, {partitions} partitions, {settings}"));
    }
    for topic_id in &remade.nameless {
        say(&format!(
            "t/{topic_id}: no partition.meta in it can be read, so nothing tells the topic's name: its logs stay \
             where they are and are not served"
        ));
    }
    say(
        "what topics were given as settings is lost: the defaults of the broker's configuration hold until `ringway \
         topic set` gives them again. Retention is one of them: look at its defaults before the next start, which \
         removes what is older",
    );
}

/// Every log there is, and those of which only a checkpoint tells; with their names, as far as they are known.
fn look(directory: &Path) -> Result<BTreeMap<LogKey, Option<Named>>, Refusal> {
    let mut logs: BTreeMap<LogKey, Option<Named>> =
        checkpointed_keys(&checkpoints(directory)?).into_iter().map(|key| (key, None)).collect();
    for log in find_logs(directory)? {
        let path = log.directory.join("partition.meta");
        let name = match fs::read(&path) {
            Ok(body) => partition_name(&body),
            Err(cause) if cause.kind() == ErrorKind::NotFound => None,
            Err(cause) => return Err(refused(&path, &cause)),
        };
        if let Some(name) = &name
            && name.key != log.key
        {
            return Err(refused(&path, &format!("says that it belongs to log {}", name.key)));
        }
        logs.insert(log.key, name.map(|name| Named { topic: name.topic, uuid: name.uuid }));
    }
    Ok(logs)
}

/// Made under a temporary name, durable, renamed; what was there is kept aside.
fn put(directory: &Path, remade: &Remade, cluster_id: Option<String>) -> Result<(), Refusal> {
    let (path, temporary) = (directory.join(STORE), directory.join("metastore.remade.tmp"));
    match fs::remove_file(&temporary) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            return Err(failed(&temporary, &cause));
        }
        _ => {}
    }
    forget_revision(&temporary).map_err(|cause| failed(&temporary, &cause))?;
    let mut uuid = [0; 16];
    assert!(getrandom::fill(&mut uuid).is_ok(), "the kernel gives random numbers");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut store = LocalStore::open(&temporary).map_err(|cause| failed(&temporary, &cause))?;
    let filled = remade.fill(&mut store, cluster_id, uuid, now_ms);
    filled.map_err(|cause| failed(&temporary, &cause))?;
    drop(store);
    for old in [&temporary, &path] {
        forget_revision(old).map_err(|cause| failed(old, &cause))?;
    }
    if path.exists() {
        let old = aside(directory, STORE);
        fs::hard_link(&path, &old).map_err(|cause| failed(&old, &cause))?;
        say(&format!("the old file is {}", old.display()));
    }
    fs::rename(&temporary, &path).map_err(|cause| failed(&path, &cause))?;
    sync(directory)
}
