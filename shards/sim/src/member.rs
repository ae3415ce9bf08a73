//! A member of a consumer group: joins, syncs, beats, commits, leaves, and tries what it may no longer do.
//! Owner: `Client`.
//! Invariant: one call in flight; it commits for partitions of its own share alone.
//! Not here: commits from outside a group (`committer.rs`), what generations were told (`teams.rs`).

use crate::around::Around;
use crate::dialect::{Answer, Dialect, GroupAnswer};
use crate::rng::Rng;
use ringway_wire::error_code::ErrorCode;

/// The one group of a seed's members.
const GROUP: &str = "team";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Out,
    /// Has joined its generation and needs its share.
    Joined,
    Stable,
}

/// What a call says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    /// On purpose it is that of a member that has left, or of the generation before.
    late: bool,
    /// It may not succeed: the generation or the member was over when it was sent.
    void: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Join,
    Sync,
    Leave,
    Heartbeat(Claim),
    /// Which partition, and which offset.
    Commit(Claim, usize, u64),
    /// Which partition, and what was durable there.
    Look(usize, Option<u64>),
}

/// One member.
#[derive(Debug)]
pub struct Member {
    id: String,
    generation: i32,
    /// Members of its generation, for the leader alone.
    roster: Vec<String>,
    /// Partitions that it owns in its generation.
    owned: Vec<usize>,
    state: State,
    asked: Option<Asked>,
    rebalance_timeout_ms: i32,
    /// An id that has left, and its generation.
    gone: Option<(String, i32)>,
}

impl Member {
    /// A member that has not joined yet.
    pub fn new(rng: &mut Rng) -> Member {
        Member {
            id: String::new(),
            generation: -1,
            roster: Vec::new(),
            owned: Vec::new(),
            state: State::Out,
            asked: None,
            rebalance_timeout_ms: rng.pick(&[2, 5, 20]),
            gone: None,
        }
    }

    /// Does the next thing.
    pub fn act(&mut self, session: &mut Dialect, out: &mut Vec<u8>, around: &mut Around<'_>) {
        if self.asked.is_some() {
            return;
        }
        let chance = around.rng.below(100);
        self.asked = match self.state {
            State::Out => self.join(session, out),
            State::Joined => self.sync(session, out, around),
            State::Stable if chance < 10 => {
                let sent = session.leave_group(out, GROUP, &self.id);
                sent.is_ok().then_some(Asked::Leave)
            }
            State::Stable if chance < 16 => self.join(session, out),
            State::Stable if chance < 40 => self.beat(chance < 22, session, out, around),
            State::Stable if chance < 60 => self.look(session, out, around),
            State::Stable => self.commit(chance < 68, session, out, around),
        };
    }

    fn join(&self, session: &mut Dialect, out: &mut Vec<u8>) -> Option<Asked> {
        let sent = session.join_group(out, GROUP, &self.id, self.rebalance_timeout_ms);
        sent.is_ok().then_some(Asked::Join)
    }

    fn sync(
        &self,
        session: &mut Dialect,
        out: &mut Vec<u8>,
        around: &mut Around<'_>,
    ) -> Option<Asked> {
        let partitions = around.targets.len();
        let shares = around.checker.teams.deal(self.generation, &self.roster, partitions);
        let sent = session.sync_group(out, GROUP, (&self.id, self.generation), &shares);
        sent.is_ok().then_some(Asked::Sync)
    }

    /// Who a call says that it is of; `late`: of a member or a generation that is over.
    fn claim(&self, late: bool, around: &Around<'_>) -> (&str, i32, Claim) {
        let (id, generation) = match &self.gone {
            Some((id, generation)) if late => (id.as_str(), *generation),
            None if late => (self.id.as_str(), self.generation - 1),
            Some(_) | None => (self.id.as_str(), self.generation),
        };
        let void = late || generation < around.checker.teams.newest(id);
        (id, generation, Claim { late, void })
    }

    fn beat(
        &self,
        late: bool,
        session: &mut Dialect,
        out: &mut Vec<u8>,
        around: &Around<'_>,
    ) -> Option<Asked> {
        let (id, generation, claim) = self.claim(late, around);
        let sent = session.heartbeat(out, GROUP, (id, generation));
        sent.is_ok().then_some(Asked::Heartbeat(claim))
    }

    fn commit(
        &self,
        late: bool,
        session: &mut Dialect,
        out: &mut Vec<u8>,
        around: &mut Around<'_>,
    ) -> Option<Asked> {
        let owned = *self.owned.get(around.rng.index(self.owned.len()))?;
        let (id, generation, claim) = self.claim(late, around);
        let step = around.rng.within(1, 9);
        let offset = around.checker.teams.next_offset(owned, step);
        let who = (GROUP, id, generation);
        let sent = session.commit(out, who, &around.targets[owned], offset);
        sent.is_ok().then_some(Asked::Commit(claim, owned, offset))
    }

    fn look(
        &self,
        session: &mut Dialect,
        out: &mut Vec<u8>,
        around: &mut Around<'_>,
    ) -> Option<Asked> {
        let partition = around.rng.index(around.targets.len());
        let durable = around.checker.teams.durable(partition);
        let sent = session.committed(out, GROUP, &around.targets[partition]);
        sent.is_ok().then_some(Asked::Look(partition, durable))
    }

    /// An answer came.
    pub fn answer(&mut self, answer: Answer, around: &mut Around<'_>) {
        let Some(asked) = self.asked else { return };
        let code = match (answer, asked) {
            (Answer::Group(GroupAnswer::Joined { code, generation, leader, id, roster }), _) => {
                match code {
                    ErrorCode::None => self.joined(generation, &leader, id, roster, around),
                    ErrorCode::MemberIdRequired => (self.id, self.generation) = (id, -1),
                    _ => {}
                }
                code
            }
            (Answer::Group(GroupAnswer::Synced(code, share)), _) => {
                if code == ErrorCode::None {
                    self.synced(&share, around);
                }
                code
            }
            (Answer::Group(GroupAnswer::Left(code)), _) => {
                if code == ErrorCode::None {
                    self.left(around);
                }
                code
            }
            (Answer::Group(GroupAnswer::Heartbeat(code)), Asked::Heartbeat(claim)) => {
                around.checker.teams.counts.heartbeats += u64::from(code == ErrorCode::None);
                self.judge(claim, code, around)
            }
            (Answer::Committed(code), Asked::Commit(claim, partition, offset)) => {
                if code == ErrorCode::None {
                    around.checker.teams.committed(partition, offset);
                }
                self.judge(claim, code, around)
            }
            (Answer::CommittedOffset(code, found), Asked::Look(partition, owed)) => {
                if code == ErrorCode::None {
                    looked(partition, owed, found, around);
                }
                code
            }
            _ => return,
        };
        self.asked = None;
        self.refused(code, around);
    }

    /// A call that says who sends it was answered: what that means for this member.
    fn judge(&self, claim: Claim, code: ErrorCode, around: &mut Around<'_>) -> ErrorCode {
        if !claim.void {
            return code;
        }
        if code == ErrorCode::None {
            let (id, generation, asked) = (&self.id, self.generation, self.asked);
            around.checker.fail("GROUP", || {
                format!("{asked:?} succeeded, too late: member {id} in generation {generation}")
            });
        }
        around.checker.teams.counts.fenced += u64::from(!code.is_retriable());
        // Of a call that pretends it tells nothing about this member.
        if claim.late { ErrorCode::None } else { code }
    }

    fn joined(
        &mut self,
        generation: i32,
        leader: &str,
        id: String,
        roster: Vec<String>,
        around: &mut Around<'_>,
    ) {
        let missing = leader == id && !roster.contains(&id);
        let back = self.id == id && generation < self.generation;
        if missing || back || !around.checker.teams.joined(generation, leader, &id, &roster) {
            around.checker.fail("GROUP", || {
                format!("{id} joined generation {generation} of leader {leader}, roster {roster:?}")
            });
        }
        (self.id, self.generation, self.roster) = (id, generation, roster);
        self.owned.clear();
        self.state = State::Joined;
    }

    fn synced(&mut self, share: &[u8], around: &mut Around<'_>) {
        let (id, generation) = (&self.id, self.generation);
        match around.checker.teams.synced(generation, id, share) {
            Some(owned) => self.owned = owned,
            None => around.checker.fail("GROUP", || {
                let share = share.escape_ascii();
                format!(
                    "{id} in generation {generation} got what its leader gave to nobody: {share}"
                )
            }),
        }
        self.state = State::Stable;
    }

    fn left(&mut self, around: &mut Around<'_>) {
        around.checker.teams.counts.leaves += 1;
        self.gone = Some((std::mem::take(&mut self.id), self.generation));
        self.state = State::Out;
    }

    fn refused(&mut self, code: ErrorCode, around: &mut Around<'_>) {
        match code {
            ErrorCode::None | ErrorCode::MemberIdRequired => {}
            ErrorCode::UnknownMemberId => {
                self.id = String::new();
                self.state = State::Out;
            }
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                around.checker.teams.counts.rebalances +=
                    u64::from(code == ErrorCode::RebalanceInProgress);
                self.state = State::Out;
            }
            code if code.is_retriable() || code == ErrorCode::NotCoordinator => {}
            code => around.checker.fail("CLIENT", || format!("member refused: {code:?}")),
        }
    }

    /// The connection is gone; the server may be another one.
    pub fn lost(&mut self) {
        // The next process may know other generations.
        self.gone = None;
        if self.state == State::Joined {
            self.state = State::Out;
        }
        // A commit on its way may come after newer ones of this member; not after those of its successor.
        if let Some(Asked::Commit(..)) = self.asked.take() {
            self.id = String::new();
            self.state = State::Out;
        }
    }
}

fn looked(partition: usize, owed: Option<u64>, found: Option<u64>, around: &mut Around<'_>) {
    let promises = around.checker.rules.promises;
    if !around.checker.teams.found(partition, owed, found, promises) {
        let key = around.targets[partition].key;
        around.checker.fail("D1", || {
            format!("{GROUP} {key}: {owed:?} was committed when it was asked for, found {found:?}")
        });
    }
}
