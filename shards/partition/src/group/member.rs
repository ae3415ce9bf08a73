//! One member of a classic group.
//! Owner: `Group`.
//! Invariant: it waits in at most one call at a time.
//! Not here: what its group does (`classic.rs`).

use crate::request::{JoinGroup, RequestId};

const NS_PER_MS: u64 = 1_000_000;

/// One member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Order of first joining: the earliest leads.
    pub(super) order: u64,
    pub(super) session_ns: u64,
    pub(super) rebalance_ns: u64,
    pub(super) protocols: Vec<(String, Vec<u8>)>,
    pub(super) assignment: Vec<u8>,
    /// Its JoinGroup waits for the others.
    pub(super) joining: Option<RequestId>,
    /// Its SyncGroup waits for the leader.
    pub(super) syncing: Option<RequestId>,
    /// Gone when nothing was heard until then.
    pub(super) expires_ns: u64,
}

pub(super) fn ms_to_ns(ms: i32) -> u64 {
    u64::try_from(ms).unwrap_or(0) * NS_PER_MS
}

impl Member {
    pub(super) fn new(order: u64, join: &JoinGroup, now_ns: u64) -> Member {
        let session_ns = ms_to_ns(join.session_timeout_ms);
        Member {
            order,
            session_ns,
            rebalance_ns: ms_to_ns(join.rebalance_timeout_ms),
            protocols: join.protocols.clone(),
            assignment: Vec::new(),
            joining: None,
            syncing: None,
            expires_ns: now_ns + session_ns,
        }
    }

    /// Takes what a new JoinGroup says.
    pub(super) fn update(&mut self, join: &JoinGroup) {
        self.session_ns = ms_to_ns(join.session_timeout_ms);
        self.rebalance_ns = ms_to_ns(join.rebalance_timeout_ms);
        self.protocols.clone_from(&join.protocols);
    }

    /// Something was heard, or told: the session starts anew.
    pub(super) fn touch(&mut self, now_ns: u64) {
        self.expires_ns = now_ns + self.session_ns;
    }

    /// G5: whoever waits for an answer of ours is not late.
    pub(super) fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Vec<u8> {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map_or_else(Vec::new, |(_, metadata)| metadata.clone())
    }
}
