//! D8 as it happens: what a log whose device failed may still do, and when its producers must have heard.
//! Owner: the node; forgotten with its process.
//! Invariant: judged where an answer is made, not where it arrives: the network excuses nothing.
//! Not here: what failed (`disk.rs`), what is durable (`checker.rs`).

use crate::clock::SECOND;
use crate::disk::Failure;
use ringway_partition::request::{Reply, RequestId};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A producer of a failed log hears of it within this.
const ANSWER_WITHIN_NS: u64 = SECOND;
/// Space that is back is used within this (P16).
const RESUME_WITHIN_NS: u64 = 5 * SECOND;

/// What must have happened by some time.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// This produce is answered.
    Answer(RequestId, LogKey),
    /// The operator is told of this log.
    Told(LogKey),
}

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchCounts {
    /// Logs poisoned after a failed write.
    pub by_write: u64,
    /// … a short write.
    pub by_short_write: u64,
    /// … a failed flush of their own.
    pub by_flush: u64,
    /// … a failed flush of another log's write, on the same shard.
    pub by_other_flush: u64,
    /// … on another shard.
    pub by_other_shard: u64,
    /// Recoveries whose own flush failed.
    pub by_sync: u64,
    /// Produces refused with a storage error.
    pub refused: u64,
    /// Logs that acknowledged again after refusing for lack of space.
    pub resumed: u64,
    /// Requests on metadata that failed and poisoned a log.
    pub by_name: u64,
}

/// What is watched in one life.
#[derive(Debug, Default)]
pub struct Watch {
    asks: BTreeMap<RequestId, LogKey>,
    /// (from, to, tag) of produces that cross the mesh.
    forwarded: BTreeMap<(u32, u32, u64), LogKey>,
    failed: BTreeMap<LogKey, Failure>,
    told: BTreeSet<LogKey>,
    due: VecDeque<(u64, Due)>,
    /// Logs that refused for lack of space.
    full: BTreeSet<LogKey>,
    /// Shard of the newest failed flush.
    failed_on: Option<u32>,
    /// What did not hold.
    pub breach: Option<String>,
    /// Counts; they outlive the process.
    pub counts: WatchCounts,
}

impl Watch {
    /// The process is gone.
    pub fn forget(&mut self) {
        let counts = self.counts;
        *self = Watch { counts, breach: self.breach.take(), ..Watch::default() };
    }

    /// A session hands a produce to its shard; one that asks for no answer is not waited for.
    pub fn asked(&mut self, now_ns: u64, id: RequestId, key: LogKey, acks: i16) {
        if acks == 0 {
            return;
        }
        self.asks.insert(id, key);
        if self.failed.contains_key(&key) {
            self.due.push_back((now_ns + ANSWER_WITHIN_NS, Due::Answer(id, key)));
        }
    }

    /// A produce leaves a shard for the one that owns its log.
    pub fn forwarded(&mut self, from: u32, to: u32, tag: u64, key: LogKey) {
        self.forwarded.insert((from, to, tag), key);
    }

    /// The connection is gone: nobody waits.
    pub fn gone(&mut self, connection: u32) {
        let first = RequestId { connection, request: 0 };
        let last = RequestId { connection, request: u32::MAX };
        let gone: Vec<RequestId> = self.asks.range(first..=last).map(|(id, _)| *id).collect();
        for id in gone {
            self.asks.remove(&id);
        }
    }

    /// The log that a session's produce is for.
    #[must_use]
    pub fn log_of(&self, id: RequestId) -> Option<LogKey> {
        self.asks.get(&id).copied()
    }

    /// A shard answers a session: for a log of its own (`own`), or what another shard answered it.
    pub fn answers(
        &mut self,
        (now_ns, no_space_until_ns): (u64, u64),
        (id, own): (RequestId, bool),
        reply: &Reply,
    ) {
        let Some(key) = self.asks.remove(&id) else { return };
        if own {
            self.judge(key, reply);
        }
        let Reply::Failed { code, message } = reply else { return };
        if *code != ErrorCode::KafkaStorageError {
            return;
        }
        self.counts.refused += 1;
        let lasting = self.failed.contains_key(&key) || self.told.contains(&key);
        if lasting || no_space_until_ns == 0 {
            return;
        }
        self.full.insert(key);
        if now_ns > no_space_until_ns + RESUME_WITHIN_NS {
            self.breach.get_or_insert_with(|| {
                let since = (now_ns - no_space_until_ns) / 1_000_000;
                format!("{key}: refused {since} ms after space was back: {message}")
            });
        }
    }

    /// A shard answers another one.
    pub fn answers_shard(&mut self, from: u32, to: u32, tag: u64, reply: &Reply) {
        if let Some(key) = self.forwarded.remove(&(to, from, tag)) {
            self.judge(key, reply);
        }
    }

    fn judge(&mut self, key: LogKey, reply: &Reply) {
        if !matches!(reply, Reply::Produced { .. }) {
            return;
        }
        if self.full.remove(&key) {
            self.counts.resumed += 1;
        }
        if let Some(failure) = self.failed.get(&key) {
            self.breach.get_or_insert_with(|| {
                format!("{key} acknowledges a batch after its device failed it ({failure:?})")
            });
        }
    }

    /// A shard asks to write to a log, or to flush it.
    pub fn writes(&mut self, key: LogKey) {
        if let Some(failure) = self.failed.get(&key) {
            self.breach.get_or_insert_with(|| {
                format!("{key} writes on after its device failed it ({failure:?})")
            });
        }
    }

    /// The device failed a log, and its shard hears of it now.
    pub fn fails(&mut self, now_ns: u64, shard: Option<u32>, key: LogKey, failure: Failure) {
        let others = failure == Failure::OtherFlush && self.failed_on != shard;
        if failure != Failure::OtherFlush {
            self.failed_on = shard;
        }
        if self.failed.contains_key(&key) {
            return;
        }
        self.failed.insert(key, failure);
        let counts = &mut self.counts;
        *match failure {
            Failure::Write => &mut counts.by_write,
            Failure::Short => &mut counts.by_short_write,
            Failure::Flush => &mut counts.by_flush,
            Failure::OtherFlush if others => &mut counts.by_other_shard,
            Failure::OtherFlush => &mut counts.by_other_flush,
            Failure::Sync => &mut counts.by_sync,
        } += 1;
        if failure == Failure::Sync {
            // Nobody waits for a log that is not open yet.
            return;
        }
        let until = now_ns + ANSWER_WITHIN_NS;
        let waiting = self.asks.iter().filter(|(_, asked)| **asked == key);
        self.due.extend(waiting.map(|(id, _)| (until, Due::Answer(*id, key))));
        self.due.push_back((until, Due::Told(key)));
    }

    /// The operator is told that a log is poisoned, or offline.
    pub fn told(&mut self, key: LogKey) {
        if !self.failed.contains_key(&key) {
            self.counts.by_name += 1;
        }
        self.told.insert(key);
    }

    /// Time passes.
    pub fn at(&mut self, now_ns: u64) {
        while let Some((until, due)) = self.due.front().copied().filter(|due| due.0 < now_ns) {
            self.due.pop_front();
            let late = match due {
                Due::Answer(id, key) if self.asks.contains_key(&id) => {
                    format!("{key}: produce {id:?} has no answer yet")
                }
                Due::Told(key) if !self.told.contains(&key) => {
                    format!("{key}: the operator was not told")
                }
                Due::Answer(..) | Due::Told(_) => continue,
            };
            let since = now_ns - until + ANSWER_WITHIN_NS;
            self.breach.get_or_insert_with(|| format!("{late}, {since} ns after the failure"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogKey = LogKey { topic_id: 1, partition: 0 };
    const ASK: RequestId = RequestId { connection: 1, request: 1 };

    fn produced() -> Reply {
        Reply::Produced { base_offset: 0, append_time_ns: 0, log_append_time: false, log_start: 0 }
    }

    fn failed() -> Reply {
        Reply::Failed { code: ErrorCode::KafkaStorageError, message: String::new() }
    }

    fn watch() -> Watch {
        let mut watch = Watch::default();
        watch.asked(0, ASK, LOG, 1);
        watch.fails(10, Some(0), LOG, Failure::Write);
        watch
    }

    #[test]
    fn an_acknowledgement_after_a_failure_is_a_breach() {
        let mut watch = watch();
        watch.answers((11, 0), (ASK, true), &produced());
        assert!(watch.breach.is_some());
    }

    #[test]
    fn an_error_in_time_is_none() {
        let mut watch = watch();
        watch.answers((11, 0), (ASK, true), &failed());
        watch.told(LOG);
        watch.at(3 * SECOND);
        assert_eq!(watch.breach, None);
    }

    #[test]
    fn silence_is_a_breach_after_a_second() {
        let mut watch = watch();
        watch.told(LOG);
        watch.at(SECOND);
        assert_eq!(watch.breach, None);
        watch.at(SECOND + 11);
        assert!(watch.breach.is_some());
    }

    #[test]
    fn a_failure_nobody_is_told_of_is_a_breach() {
        let mut watch = watch();
        watch.answers((11, 0), (ASK, true), &failed());
        watch.at(2 * SECOND);
        assert!(watch.breach.is_some());
    }

    #[test]
    fn a_write_after_a_failure_is_a_breach() {
        let mut watch = watch();
        watch.writes(LOG);
        assert!(watch.breach.is_some());
    }

    #[test]
    fn a_refusal_long_after_space_is_back_is_a_breach() {
        let mut watch = Watch::default();
        watch.asked(0, ASK, LOG, 1);
        watch.answers((SECOND, 4 * SECOND), (ASK, true), &failed());
        assert_eq!(watch.breach, None);
        watch.asked(0, ASK, LOG, 1);
        watch.answers((10 * SECOND, 4 * SECOND), (ASK, true), &failed());
        assert!(watch.breach.is_some());
    }
}
