//! The store of a lone node: one redb file, one durable commit per transaction.

use super::store::{Event, Expect, MetaStore, Op, Outcome, Page, Row, StoreError, Txn, Watched};
use redb::backends::InMemoryBackend;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend as _, TableDefinition,
    WriteTransaction,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Key → create revision, mod revision (little-endian), value.
const ROWS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rows");
/// `revision` → number of the last commit.
const COUNTERS: TableDefinition<'static, &str, u64> = TableDefinition::new("counters");
/// Events kept for watchers; older ones read as compacted.
const EVENTS_MAX: usize = 4_096;
/// Two revisions before each value.
const REVISIONS_BYTES: usize = 16;

/// What to do without a readable store.
pub(crate) const METADATA_REMEDY: &str = "restore it from a backup and remove metastore.revision, or make it anew from the logs with \
     `ringway log repair DIR --metadata`";

/// An open store.
pub(crate) struct LocalStore {
    database: Database,
    path: PathBuf,
    revision: u64,
    events: VecDeque<Event>,
    /// First revision whose events are all kept.
    events_from: u64,
    /// What failed, until the file is opened again.
    poison: Option<String>,
    /// None: a copy.
    mark: Option<Mark>,
}

/// The file beside a store that tells the newest revision which a commit reached: redb goes back to the commit
/// before when a page of the newest is damaged, and says nothing. Written after every commit and never flushed:
/// the revision in it may be too low, never too high.
struct Mark(File);

impl Mark {
    /// Where it lies.
    fn path(store: &Path) -> PathBuf {
        store.with_extension("revision")
    }

    fn open(store: &Path) -> std::io::Result<Mark> {
        File::options().create(true).truncate(false).write(true).open(Mark::path(store)).map(Mark)
    }

    /// Of one width: what a crash leaves of it is the old number, the new one or none.
    fn put(&self, revision: u64) {
        // Without it the next start only knows less.
        drop(self.0.write_all_at(format!("{revision:020}\n").as_bytes(), 0));
    }

    /// 0: nothing is known.
    fn read(store: &Path) -> u64 {
        let text = std::fs::read_to_string(Mark::path(store)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

/// Removes the mark of a store that is replaced: the revisions of the new one begin anew.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn forget_revision(store: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(Mark::path(store)) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl LocalStore {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// The file cannot be opened, repaired or written.
    pub(crate) fn open(path: &Path) -> Result<LocalStore, StoreError> {
        guarded(path, || {
            let database = Database::create(path).map_err(|cause| failure(path, &cause))?;
            let mut store = LocalStore::over(database, path)?;
            let mark = Mark::open(path).map_err(|cause| failure(&Mark::path(path), &cause))?;
            mark.put(store.revision);
            store.mark = Some(mark);
            Ok(store)
        })
    }

    /// Opens a copy of the file's bytes in memory: whatever is done to it, the file stays as it is.
    ///
    /// # Errors
    /// These bytes are no store, or a damaged one.
    pub(crate) fn open_copy(bytes: &[u8], path: &Path) -> Result<LocalStore, StoreError> {
        let memory = InMemoryBackend::new();
        let filled = memory.set_len(bytes.len() as u64).and_then(|()| memory.write(0, bytes));
        filled.map_err(|cause| failure(path, &cause))?;
        guarded(path, || {
            let database = Database::builder().create_with_backend(memory);
            LocalStore::over(database.map_err(|cause| failure(path, &cause))?, path)
        })
    }

    fn over(database: Database, path: &Path) -> Result<LocalStore, StoreError> {
        let failed = |cause: &dyn std::fmt::Display| failure(path, cause);
        let write = database.begin_write().map_err(|cause| failed(&cause))?;
        let revision = prepare(&write).map_err(|cause| failed(&cause))?;
        let reached = Mark::read(path);
        if revision < reached {
            return Err(failed(&format!(
                "it went back from revision {reached} to {revision}, what was committed since cannot be read; to go \
                 on without that, remove metastore.revision"
            )));
        }
        write.commit().map_err(|cause| failed(&cause))?;
        Ok(LocalStore {
            database,
            path: path.to_owned(),
            revision,
            events: VecDeque::new(),
            events_from: revision + 1,
            poison: None,
            mark: None,
        })
    }

    fn failed(&self, cause: &dyn std::fmt::Display) -> StoreError {
        failure(&self.path, cause)
    }

    fn prepare_commit(
        &self,
        txn: &Txn,
    ) -> Result<(WriteTransaction, Outcome, Vec<Event>), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let (outcome, events) = self.run(&write, txn)?;
        Ok((write, outcome, events))
    }

    /// Everything but the commit: outcome, and the events it will have caused.
    fn run(
        &self,
        write: &WriteTransaction,
        txn: &Txn,
    ) -> Result<(Outcome, Vec<Event>), redb::Error> {
        let mut rows = write.open_table(ROWS)?;
        let mut found = Vec::new();
        let mut met = true;
        for (key, expect) in &txn.compares {
            let row = rows.get(key.as_str())?.and_then(|bytes| decode(key, bytes.value()));
            met &= holds(expect, row.as_ref());
            found.extend(row);
        }
        let ops = if met { &txn.then } else { &txn.otherwise };
        let revision = if ops.is_empty() { self.revision } else { self.revision + 1 };
        let mut events = Vec::with_capacity(ops.len());
        for op in ops {
            events.extend(apply(&mut rows, op, revision)?);
        }
        write.open_table(COUNTERS)?.insert("revision", revision)?;
        let outcome =
            if met { Outcome::Committed { revision } } else { Outcome::NotMet { revision, found } };
        Ok((outcome, events))
    }

    fn read_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, redb::Error> {
        let read = self.database.begin_read()?;
        let table = read.open_table(ROWS)?;
        let mut page = Page { rows: Vec::new(), revision: self.revision, more: false };
        let start = after.filter(|after| *after > prefix).unwrap_or(prefix);
        for entry in table.range(start..)? {
            let (key, value) = entry?;
            let key = key.value();
            if !key.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|after| key <= after) {
                continue;
            }
            if page.rows.len() == limit {
                page.more = true;
                break;
            }
            page.rows.extend(decode(key, value.value()));
        }
        Ok(page)
    }
}

impl MetaStore for LocalStore {
    fn txn(&mut self, txn: &Txn) -> Result<Outcome, StoreError> {
        txn.check()?;
        if let Some(cause) = &self.poison {
            let (path, cause) = (self.path.display().to_string(), cause.clone());
            return Err(StoreError::Poisoned { path, cause });
        }
        let prepare = || self.prepare_commit(txn).map_err(|cause| self.failed(&cause));
        let (write, outcome, events) = match guarded(&self.path, prepare) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.poison = Some(error.to_string());
                return Err(error);
            }
        };
        // A commit that fails may or may not have reached the disk.
        let commit = || write.commit().map_err(|cause| self.failed(&cause));
        if let Err(error) = guarded(&self.path, commit) {
            self.poison = Some(format!("a commit failed: {error}"));
            return Ok(Outcome::Unknown);
        }
        let (Outcome::Committed { revision } | Outcome::NotMet { revision, .. }) = outcome else {
            return Ok(outcome);
        };
        assert!(revision >= self.revision, "revisions never fall");
        self.revision = revision;
        if let Some(mark) = &self.mark {
            mark.put(revision);
        }
        self.events.extend(events);
        while self.events.len() > EVENTS_MAX {
            let dropped = self.events.pop_front().map_or(0, |event| event.revision);
            self.events_from = dropped + 1;
        }
        Ok(outcome)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        guarded(&self.path, || {
            self.read_page(prefix, after, limit).map_err(|cause| self.failed(&cause))
        })
    }

    fn watch(&self, prefix: &str, from_revision: u64) -> Watched {
        if from_revision < self.events_from {
            return Watched::Compacted;
        }
        let wanted =
            |event: &&Event| event.revision >= from_revision && event.key.starts_with(prefix);
        let events = self.events.iter().filter(wanted).cloned().collect();
        Watched::Events { events, next: self.revision + 1 }
    }

    fn poison(&self) -> Option<&str> {
        self.poison.as_deref()
    }
}

thread_local! {
    /// This thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What a damaged file says may break what the code of the store takes for granted: its panic is an error like
/// any other, and told as one.
fn guarded<T>(path: &Path, look: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let looked = catch_unwind(AssertUnwindSafe(look));
    GUARDED.set(outer);
    looked.unwrap_or_else(|_| Err(failure(path, &"damaged, what it says cannot be")))
}

fn failure(path: &Path, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed { path: path.display().to_string(), cause: cause.to_string() }
}

fn prepare(write: &WriteTransaction) -> Result<u64, redb::Error> {
    write.open_table(ROWS)?;
    let counters = write.open_table(COUNTERS)?;
    let revision = counters.get("revision")?.map_or(0, |revision| revision.value());
    Ok(revision)
}

fn holds(expect: &Expect, row: Option<&Row>) -> bool {
    match (expect, row) {
        (Expect::Absent, row) => row.is_none(),
        (_, None) => false,
        (Expect::CreateRevision(revision), Some(row)) => row.create_revision == *revision,
        (Expect::ModRevision(revision), Some(row)) => row.mod_revision == *revision,
        (Expect::Value(value), Some(row)) => row.value == *value,
    }
}

fn apply(
    rows: &mut redb::Table<'_, &'static str, &'static [u8]>,
    op: &Op,
    revision: u64,
) -> Result<Option<Event>, redb::Error> {
    match op {
        Op::Put(key, value) => {
            let old = rows.get(key.as_str())?.and_then(|bytes| decode(key, bytes.value()));
            let created = old.map_or(revision, |row| row.create_revision);
            let mut bytes = Vec::with_capacity(REVISIONS_BYTES + value.len());
            bytes.extend_from_slice(&created.to_le_bytes());
            bytes.extend_from_slice(&revision.to_le_bytes());
            bytes.extend_from_slice(value);
            rows.insert(key.as_str(), bytes.as_slice())?;
            Ok(Some(Event { revision, key: key.clone(), value: Some(value.clone()) }))
        }
        Op::Delete(key) => {
            let existed = rows.remove(key.as_str())?.is_some();
            Ok(existed.then(|| Event { revision, key: key.clone(), value: None }))
        }
    }
}

fn decode(key: &str, bytes: &[u8]) -> Option<Row> {
    let (created, rest) = bytes.split_first_chunk::<8>()?;
    let (modified, value) = rest.split_first_chunk::<8>()?;
    Some(Row {
        key: key.to_owned(),
        value: value.to_vec(),
        create_revision: u64::from_le_bytes(*created),
        mod_revision: u64::from_le_bytes(*modified),
    })
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn open(directory: &tempfile::TempDir) -> LocalStore {
        LocalStore::open(&directory.path().join("metastore.redb")).expect("opens")
    }

    #[test]
    fn local_store_conforms() {
        conformance::run(&mut || {
            let directory = tempfile::tempdir().expect("temporary directory");
            let store = open(&directory);
            (Box::new(store), Box::new(directory))
        });
    }

    #[test]
    fn rows_and_revisions_survive_a_restart_and_old_events_are_compacted() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let put = |value: &str| Txn {
            then: vec![Op::Put("a".to_owned(), value.as_bytes().to_vec())],
            ..Txn::default()
        };
        let mut store = open(&directory);
        store.txn(&put("1")).expect("commits");
        store.txn(&put("2")).expect("commits");
        drop(store);
        let mut store = open(&directory);
        let page = store.range("a", None, 10).expect("reads");
        assert_eq!((page.revision, page.rows[0].create_revision), (2, 1));
        assert_eq!((page.rows[0].mod_revision, &*page.rows[0].value), (2, &b"2"[..]));
        assert_eq!(store.watch("", 2), Watched::Compacted);
        assert_eq!(store.watch("", 3), Watched::Events { events: vec![], next: 3 });
        assert_eq!(store.txn(&put("3")).expect("commits"), Outcome::Committed { revision: 3 });
    }

    /// Memory whose syncs fail while the switch is on.
    #[derive(Debug, Default)]
    struct FailingSync {
        memory: redb::backends::InMemoryBackend,
        fails: Arc<AtomicBool>,
    }

    impl redb::StorageBackend for FailingSync {
        fn len(&self) -> Result<u64, io::Error> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            if self.fails.load(Ordering::Relaxed) {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.memory.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.memory.write(offset, data)
        }
    }

    /// D8 for metadata: a sync that fails once may have lost what it covers, and the next one says nothing of it.
    #[test]
    fn after_a_failed_commit_nothing_is_tried_again() {
        let backend = FailingSync::default();
        let fails = Arc::clone(&backend.fails);
        let database = Database::builder().create_with_backend(backend).expect("made");
        let mut store = LocalStore::over(database, Path::new("metastore.redb")).expect("opens");
        let put = |key: &str| Txn {
            then: vec![Op::Put(key.to_owned(), b"1".to_vec())],
            ..Txn::default()
        };
        assert_eq!(store.txn(&put("a")).expect("commits"), Outcome::Committed { revision: 1 });
        assert_eq!(store.poison(), None);
        fails.store(true, Ordering::Relaxed);
        assert_eq!(store.txn(&put("b")).expect("nobody knows"), Outcome::Unknown);
        fails.store(false, Ordering::Relaxed);
        let cause = store.poison().expect("told").to_owned();
        assert!(cause.contains("a commit failed"), "{cause}");
        let refused = store.txn(&put("c")).expect_err("not tried").to_string();
        for part in ["metastore.redb", &cause, "until a restart"] {
            assert!(refused.contains(part), "{refused}");
        }
        let watched = Watched::Events { events: vec![], next: 2 };
        assert_eq!(store.watch("", 2), watched, "nothing is told as done");
    }

    #[test]
    fn a_copy_tells_the_same_and_leaves_the_file_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("metastore.redb");
        let mut store = open(&directory);
        let then = vec![Op::Put("a".to_owned(), b"1".to_vec())];
        store.txn(&Txn { then, ..Txn::default() }).expect("commits");
        // As a crash leaves it: not yet closed.
        let whole = std::fs::read(&path).expect("reads");
        let copy = LocalStore::open_copy(&whole, &path).expect("opens");
        assert_eq!(copy.range("", None, 10).expect("reads").rows.len(), 1);
        assert_eq!(std::fs::read(&path).expect("reads"), whole);
        for at in (0..whole.len()).step_by(4096) {
            let mut torn = whole.clone();
            torn[at..at + 4096].fill(0xa5);
            // Told or refused, and no panic.
            drop(LocalStore::open_copy(&torn, &path).and_then(|copy| copy.range("", None, 10)));
        }
        assert!(LocalStore::open_copy(&whole[..whole.len() / 2], &path).is_err());
    }

    /// Damage may be told or not seen; it is never a panic, nor a store that says more than was put in.
    #[test]
    fn a_damaged_file_is_an_error_and_no_panic() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("metastore.redb");
        let mut store = open(&directory);
        for n in 0..200 {
            let then = vec![Op::Put(format!("topic/{n}"), vec![b'x'; 200])];
            store.txn(&Txn { then, ..Txn::default() }).expect("commits");
        }
        drop(store);
        let whole = std::fs::read(&path).expect("reads");
        let mut dice = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = |n: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            usize::try_from(dice % n.max(1) as u64).expect("small")
        };
        let mut refused = 0;
        for round in 0..400 {
            let mut bytes = whole.clone();
            match round % 4 {
                0 => bytes[below(512)] ^= 1 << below(8),
                1 => {
                    let at = below(whole.len());
                    bytes[at] ^= 1 << below(8);
                }
                2 => {
                    let (at, byte) = (below(whole.len()), below(256));
                    let end = (at + 4096).min(whole.len());
                    bytes[at..end].fill(u8::try_from(byte).expect("a byte"));
                }
                _ => bytes.truncate(1 + below(whole.len())),
            }
            std::fs::write(&path, &bytes).expect("writes");
            let read = LocalStore::open(&path).and_then(|store| store.range("topic/", None, 1000));
            match read {
                Ok(page) => assert!(page.rows.len() <= 200),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 100, "{refused} of 400");
    }

    /// As it is after redb met a wrong byte in the newest commit: the commit before, without a word.
    #[test]
    fn a_store_that_goes_back_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("metastore.redb");
        let mut store = LocalStore::open(&path).expect("opens");
        let mut put = |key: &str| {
            let then = vec![Op::Put(key.to_owned(), vec![7; 100])];
            store.txn(&Txn { then, ..Txn::default() }).expect("durable");
            std::fs::read(&path).expect("reads")
        };
        let older = put("key/0");
        let newest = put("key/1");
        drop(store);
        std::fs::write(&path, &older).expect("writes");
        for opened in [LocalStore::open_copy(&older, &path), LocalStore::open(&path)] {
            let error = opened.map(drop).expect_err("refused").to_string();
            assert!(error.contains("from revision 2 to 1"), "{error}");
        }
        std::fs::write(&path, &newest).expect("writes");
        assert_eq!(LocalStore::open(&path).expect("opens").revision, 2);
        std::fs::write(&path, &older).expect("writes");
        forget_revision(&path).expect("removes");
        assert_eq!(LocalStore::open(&path).expect("the older one is wanted").revision, 1);
    }

    #[test]
    fn a_second_owner_of_the_file_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let _first = open(&directory);
        let second = LocalStore::open(&directory.path().join("metastore.redb"));
        assert!(matches!(second, Err(StoreError::Failed { .. })));
    }
}
