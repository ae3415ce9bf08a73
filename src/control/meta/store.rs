//! `MetaStore`: rows under keys, changed by transactions that name what they assume, watched without gaps.
//! A decision taken from a cache is a transaction whose compares name what was read.

/// Compares and operations of one transaction at most, each.
pub(crate) const TXN_PARTS_MAX: usize = 100;
/// Longest key.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Longest value.
pub(crate) const VALUE_BYTES_MAX: usize = 16 << 10;

/// One row as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Key.
    pub(crate) key: String,
    /// Value.
    pub(crate) value: Vec<u8>,
    /// Revision that made it.
    pub(crate) create_revision: u64,
    /// Revision that changed it last.
    pub(crate) mod_revision: u64,
}

/// What a transaction assumes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "compares that a cluster's rows need"))]
pub(crate) enum Expect {
    /// There is no such row.
    Absent,
    /// Made by this revision.
    CreateRevision(u64),
    /// Last changed by this revision.
    ModRevision(u64),
    /// Holds this value.
    Value(Vec<u8>),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Makes or replaces a row.
    Put(String, Vec<u8>),
    /// Removes a row; absent is fine.
    Delete(String),
}

/// All or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Txn {
    /// What must hold.
    pub(crate) compares: Vec<(String, Expect)>,
    /// Done when all of it holds.
    pub(crate) then: Vec<Op>,
    /// Done when not.
    pub(crate) otherwise: Vec<Op>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `then` is durable.
    Committed {
        /// Of this commit (of the last one, when `then` was empty).
        revision: u64,
    },
    /// A compare failed; `otherwise` is durable.
    NotMet {
        /// Of this commit, or the last one.
        revision: u64,
        /// Rows of the compared keys that exist, before `otherwise`.
        found: Vec<Row>,
    },
    /// Nobody can say whether it happened: read, then decide.
    Unknown,
}

/// Rows at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// In order of keys.
    pub(crate) rows: Vec<Row>,
    /// Revision at which they were read.
    pub(crate) revision: u64,
    /// Whether there are further ones.
    pub(crate) more: bool,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Commit it belongs to.
    pub(crate) revision: u64,
    /// Key.
    pub(crate) key: String,
    /// New value, `None` = deleted.
    pub(crate) value: Option<Vec<u8>>,
}

/// What a watch has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// All changes below the prefix with `from_revision ≤ revision < next`, in order.
    Events {
        /// Changes.
        events: Vec<Event>,
        /// Watch on from here.
        next: u64,
    },
    /// Changes that old are no longer kept: range, compare, watch from the next revision.
    Compacted,
}

/// What goes wrong in a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Out of bounds; nothing was done.
    #[error("metadata transaction refused: {0}")]
    Refused(String),
    /// The store failed.
    #[error("metadata store {path}: {cause}")]
    Failed {
        /// Where it lies.
        path: String,
        /// What it said.
        cause: String,
    },
    /// A commit failed earlier: what is durable is known only once the store is opened again.
    #[error(
        "metadata store {path} takes no changes until a restart: {cause}; look after the disk, then restart"
    )]
    Poisoned {
        /// Where it lies.
        path: String,
        /// What failed.
        cause: String,
    },
}

/// The one interface to metadata.
pub(crate) trait MetaStore: Send {
    /// Runs a transaction; durable when it says so. After the first one that fails none is tried again:
    /// a later commit that succeeds would not say that the failed one's writes are on the disk (D8).
    ///
    /// # Errors
    /// Out of bounds, the store failed before anything was done, or it failed before.
    fn txn(&mut self, txn: &Txn) -> Result<Outcome, StoreError>;

    /// Up to `limit` rows below `prefix` with keys greater than `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StoreError>;

    /// Changes below `prefix` since `from_revision`, that one included.
    fn watch(&self, prefix: &str, from_revision: u64) -> Watched;

    /// What failed, when it takes no more transactions.
    fn poison(&self) -> Option<&str>;
}

impl Txn {
    /// Checks the bounds every store keeps.
    ///
    /// # Errors
    /// [`StoreError::Refused`] naming the bound.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let refuse = |what: String| Err(StoreError::Refused(what));
        let ops = self.then.len().max(self.otherwise.len());
        if self.compares.len() > TXN_PARTS_MAX || ops > TXN_PARTS_MAX {
            return refuse(format!("more than {TXN_PARTS_MAX} compares or operations"));
        }
        for op in self.then.iter().chain(&self.otherwise) {
            let (key, bytes) = match op {
                Op::Put(key, value) => (key, value.len()),
                Op::Delete(key) => (key, 0),
            };
            if key.len() > KEY_BYTES_MAX || bytes > VALUE_BYTES_MAX {
                return refuse(format!("key of {} or value of {bytes} bytes", key.len()));
            }
        }
        Ok(())
    }
}

/// Every row below `prefix`, read page by page.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn read_all(store: &dyn MetaStore, prefix: &str) -> Result<(Vec<Row>, u64), StoreError> {
    const PAGE_ROWS: usize = 1_000;
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.key.clone());
        let page = store.range(prefix, after.as_deref(), PAGE_ROWS)?;
        rows.extend(page.rows);
        if !page.more {
            return Ok((rows, page.revision));
        }
    }
}

/// The row of exactly `key`.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn read_row(store: &dyn MetaStore, key: &str) -> Result<Option<Row>, StoreError> {
    let page = store.range(key, None, 1)?;
    Ok(page.rows.into_iter().find(|row| row.key == key))
}
