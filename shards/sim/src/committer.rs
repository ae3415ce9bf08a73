//! A client that commits offsets of a group of its own, and looks them up again.
//! Owner: `Client`.
//! Invariant: one commit in flight; what it is told goes to the checker.
//! Not here: membership of groups (`member.rs`); bytes of requests (`ringway-client`).

use crate::around::Around;
use crate::dialect::{Answer, Dialect};
use crate::rng::Rng;
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;

/// What is known of one partition's committed offset.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Greatest acknowledged.
    durable: Option<u64>,
    /// Greatest sent.
    sent: u64,
}

/// What waits for an answer.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Commit(usize, u64),
    Look(usize),
}

/// One committer.
#[derive(Debug)]
pub struct Committer {
    group: String,
    places: BTreeMap<usize, Place>,
    asked: Option<Asked>,
    /// Looks first in every life.
    look_next: usize,
}

impl Committer {
    /// A committer for some partitions; its group is its own.
    pub fn new(number: usize, rng: &mut Rng, targets: usize) -> Committer {
        let count = 1 + rng.index(targets.min(3));
        let places = (0..count).map(|target| (target, Place::default())).collect();
        Committer { group: format!("group-{number}"), places, asked: None, look_next: 0 }
    }

    /// Does the next thing.
    pub fn act(&mut self, session: &mut Dialect, out: &mut Vec<u8>, around: &mut Around<'_>) {
        if self.asked.is_some() {
            return;
        }
        let chosen = if self.look_next < self.places.len() {
            self.look_next
        } else {
            around.rng.index(self.places.len())
        };
        let Some((target, place)) = self.places.iter_mut().nth(chosen) else { return };
        let at = &around.targets[*target];
        if self.look_next < chosen + 1 || around.rng.percent(20) {
            self.look_next = self.look_next.max(chosen + 1);
            if session.committed(out, &self.group, at).is_ok() {
                self.asked = Some(Asked::Look(*target));
            }
            return;
        }
        let offset = place.sent + around.rng.within(1, 9);
        if session.commit(out, (&self.group, "", -1), at, offset).is_ok() {
            place.sent = offset;
            self.asked = Some(Asked::Commit(*target, offset));
        }
    }

    /// An answer came.
    pub fn answer(&mut self, answer: Answer, around: &mut Around<'_>) {
        match (answer, self.asked) {
            (Answer::Committed(code), Some(Asked::Commit(target, offset))) => {
                self.asked = None;
                if code == ErrorCode::None {
                    around.checker.seen.commits += 1;
                    if let Some(place) = self.places.get_mut(&target) {
                        place.durable = Some(offset);
                    }
                } else if !code.is_retriable() && code != ErrorCode::NotCoordinator {
                    around.checker.fail("CLIENT", || format!("commit refused: {code:?}"));
                }
            }
            (Answer::CommittedOffset(code, found), Some(Asked::Look(target))) => {
                self.asked = None;
                if code == ErrorCode::None {
                    self.looked(target, found, around);
                } else {
                    self.look_next = 0;
                }
            }
            _ => {}
        }
    }

    fn looked(&mut self, target: usize, found: Option<u64>, around: &mut Around<'_>) {
        let Some(place) = self.places.get_mut(&target) else { return };
        let key = around.targets[target].key;
        let Place { durable, sent } = *place;
        let lost = found < durable && around.checker.rules.promises;
        if lost || found.is_some_and(|found| found > sent) {
            let group = &self.group;
            around.checker.fail("D1", || {
                format!("{group} {key}: committed {durable:?}, sent {sent}, found {found:?}")
            });
        }
    }

    /// Server and connection are gone.
    pub fn lost(&mut self) {
        self.asked = None;
        self.look_next = 0;
    }
}
