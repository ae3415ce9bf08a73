//! One partition of this shard: its parts side by side, and the table of all of them.
//! Owner: `Shard`.
//! Invariant: a key of the table is a partition this shard owns and the catalog knows.
//! Not here: logic; each part has a file of its own.

use crate::catalog::Topic;
use crate::epoch::EpochHistory;
use crate::leader::Leader;
use crate::produce_rows::{Held, Unflushed};
use crate::producer_state::ProducerStates;
use crate::waiters::WaitHead;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Whether a partition takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Being recovered or made.
    Opening,
    /// Takes everything.
    Serving,
    /// Recovery failed.
    Offline(String),
    /// Reads only, until restart (P13).
    Poisoned(String),
}

/// One partition.
pub(crate) struct Partition {
    pub(crate) key: LogKey,
    pub(crate) topic: Arc<Topic>,
    pub(crate) standing: Standing,
    pub(crate) leader: Leader,
    pub(crate) epochs: EpochHistory,
    pub(crate) producers: ProducerStates,
    /// Appended, waiting for the high watermark, in order of offset.
    pub(crate) unflushed: VecDeque<Unflushed>,
    /// Waiting for room in the log, in order of arrival.
    pub(crate) held: VecDeque<Held>,
    /// Fetch rows that wait for the high watermark.
    pub(crate) watchers: WaitHead,
    /// Kafka bytes of all batches below the high watermark since start: what waiting fetches count.
    pub(crate) visible_bytes: u64,
}

impl Partition {
    pub(crate) fn new(key: LogKey, topic: Arc<Topic>) -> Partition {
        Partition {
            key,
            topic,
            standing: Standing::Opening,
            leader: Leader::default(),
            epochs: EpochHistory::default(),
            producers: ProducerStates::default(),
            unflushed: VecDeque::new(),
            held: VecDeque::new(),
            watchers: WaitHead::default(),
            visible_bytes: 0,
        }
    }

    /// Why it cannot be read now.
    pub(crate) fn unreadable(&self) -> Option<(ErrorCode, String)> {
        match &self.standing {
            Standing::Serving | Standing::Poisoned(_) => None,
            Standing::Opening => {
                // Not 5: Java's and Python's consumers know no LEADER_NOT_AVAILABLE in a fetch.
                Some((ErrorCode::NotLeaderOrFollower, format!("{} is opening", self.key)))
            }
            Standing::Offline(why) => {
                Some((ErrorCode::KafkaStorageError, format!("{} is offline: {why}", self.key)))
            }
        }
    }

    /// Why it cannot be written, now or soon. An opening log can: what comes meanwhile is held, because a
    /// producer that pipelines would get its second batch in before it tries the first one again.
    pub(crate) fn unwritable(&self) -> Option<(ErrorCode, String)> {
        match &self.standing {
            Standing::Poisoned(why) => {
                Some((ErrorCode::KafkaStorageError, format!("{} is poisoned: {why}", self.key)))
            }
            Standing::Opening => None,
            Standing::Serving | Standing::Offline(_) => self.unreadable(),
        }
    }

    /// Its log is being made or recovered.
    pub(crate) fn opening(&self) -> bool {
        matches!(self.standing, Standing::Opening)
    }

    /// Whether a client's idea of the leader epoch is ours (kafka.md F8); −1 asks for no check.
    pub(crate) fn check_epoch(&self, leader_epoch: i32) -> ErrorCode {
        match leader_epoch.cmp(&self.leader.epoch()) {
            _ if leader_epoch < 0 => ErrorCode::None,
            std::cmp::Ordering::Less => ErrorCode::FencedLeaderEpoch,
            std::cmp::Ordering::Equal => ErrorCode::None,
            std::cmp::Ordering::Greater => ErrorCode::UnknownLeaderEpoch,
        }
    }
}

/// All partitions of a shard.
#[derive(Default)]
pub(crate) struct Partitions {
    slots: Vec<Option<Partition>>,
    free: Vec<usize>,
    index: BTreeMap<LogKey, usize>,
    /// The last one asked for: a batch of requests mostly goes on with the same one.
    last: Option<(LogKey, usize)>,
}

impl Partitions {
    pub(crate) fn insert(&mut self, partition: Partition) {
        let key = partition.key;
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[at] = Some(partition);
        let before = self.index.insert(key, at);
        assert_eq!(before, None, "{key} is in the table twice");
    }

    pub(crate) fn remove(&mut self, key: LogKey) -> Option<Partition> {
        let at = self.index.remove(&key)?;
        self.last = None;
        self.free.push(at);
        self.slots[at].take()
    }

    pub(crate) fn get(&self, key: LogKey) -> Option<&Partition> {
        let at = match self.last {
            Some((last, at)) if last == key => at,
            Some(_) | None => *self.index.get(&key)?,
        };
        self.slots[at].as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: LogKey) -> Option<&mut Partition> {
        let at = match self.last {
            Some((last, at)) if last == key => at,
            Some(_) | None => *self.index.get(&key)?,
        };
        self.last = Some((key, at));
        self.slots[at].as_mut()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = LogKey> {
        self.index.keys().copied()
    }
}
