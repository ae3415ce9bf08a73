//! A simulated client: producer or consumer over a session of the shipped client core.
//! Owner: the world.
//! Invariant: whatever a client is told goes to the checker before the client acts on it.
//! Not here: transport (`node.rs`), what must hold (`checker.rs`).

use crate::around::Around;
use crate::clock::{MS, US};
use crate::committer::Committer;
use crate::consumer::Consumer;
use crate::dialect::{Answer, Dialect, Part};
use crate::member::Member;
use crate::passing::Passing;
use crate::producer::Producer;
use crate::rng::Rng;
use ringway_wire::error_code::ErrorCode;

/// What a client does.
#[derive(Debug)]
pub enum Role {
    /// Produces.
    Producer(Producer),
    /// Consumes.
    Consumer(Consumer),
    /// Commits offsets of a group.
    Committer(Committer),
    /// Is a member of a group.
    Member(Member),
    /// Has a topic that comes and goes.
    Passing(Passing),
}

/// One client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    role: Role,
    connection: Option<u32>,
    session: Dialect,
    out: Vec<u8>,
    greet: bool,
    /// How often in a row nothing came of anything: its pauses double.
    rest: u32,
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(number: usize, role: Role, session: Dialect) -> Client {
        Client { number, role, connection: None, session, out: Vec::new(), greet: false, rest: 0 }
    }

    /// Its connection.
    #[must_use]
    pub fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Wakes: connects, or does the next thing; plans the next wake.
    pub fn act(&mut self, around: &mut Around<'_>) {
        let Some(process) = &around.node.process else { return };
        let shards = process.shards();
        let Some(connection) = self.connection else {
            let shard = u32::try_from(around.rng.below(u64::from(shards))).unwrap_or(0);
            self.connection = Some(around.node.connect(self.number, shard));
            self.session = self.session.fresh();
            self.greet = around.rng.percent(50);
            around.node.wake_client(self.number, around.rng.within(1, 200) * US);
            return;
        };
        // What is still on its way on an old connection could pass what is newer: a commit, a topic's end.
        let stays = matches!(self.role, Role::Committer(_) | Role::Passing(_));
        if !stays && around.rng.percent(1) {
            around.node.client_close(connection);
            self.closed(around);
            return;
        }
        self.out.clear();
        if self.greet {
            self.greet = self.session.greet(&mut self.out).is_err();
        }
        match &mut self.role {
            Role::Producer(producer) => producer.act(&mut self.session, &mut self.out, around),
            Role::Consumer(consumer) => consumer.act(&mut self.session, &mut self.out, around),
            Role::Committer(committer) => committer.act(&mut self.session, &mut self.out, around),
            Role::Member(member) => member.act(&mut self.session, &mut self.out, around),
            Role::Passing(passing) => passing.act(&mut self.session, &mut self.out, around),
        }
        if self.out.is_empty() {
            self.rest += 1;
        } else {
            around.node.client_send(connection, &self.out);
        }
        self.rest = self.rest.min(around.rest_max);
        let after = if around.rng.percent(10) {
            around.rng.within(1, 15) * MS
        } else {
            (around.rng.within(20, 900) * US) << self.rest
        };
        around.node.wake_client(self.number, after);
    }

    /// Bytes came.
    pub fn receive(&mut self, connection: u32, bytes: &[u8], around: &mut Around<'_>) {
        if self.connection != Some(connection) {
            return;
        }
        self.session.receive(bytes);
        loop {
            match self.session.next_answers() {
                Ok(Some(answers)) => {
                    for answer in answers {
                        self.answer(answer, around);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    let number = self.number;
                    return around.checker.fail("CLIENT", || {
                        format!("client {number}: reply makes no sense: {error}")
                    });
                }
            }
        }
    }

    fn answer(&mut self, answer: Answer, around: &mut Around<'_>) {
        let empty = |parts: &[Part]| parts.iter().all(|part| part.frames.is_empty());
        match &answer {
            Answer::Produced(_, ErrorCode::None, ..) => self.rest = 0,
            Answer::Produced(..) => self.rest += 2,
            Answer::Fetched(_, parts) if empty(parts) => self.rest += 1,
            Answer::Fetched(..) | Answer::Identity(..) | Answer::Offset(..) => self.rest = 0,
            Answer::Committed(_) | Answer::CommittedOffset(..) => self.rest = 0,
            Answer::Topic(_) | Answer::Group(_) => self.rest = 0,
        }
        match &mut self.role {
            Role::Producer(producer) => producer.answer(answer, around),
            Role::Consumer(consumer) => consumer.answer(answer, around),
            Role::Committer(committer) => committer.answer(answer, around),
            Role::Member(member) => member.answer(answer, around),
            Role::Passing(passing) => passing.answer(answer, around),
        }
    }

    /// The connection is gone; what was not answered is unknown. Connects again later.
    pub fn closed(&mut self, around: &mut Around<'_>) {
        self.lost(around.rng);
        around.node.wake_client(self.number, around.rng.within(50, 3000) * US);
    }

    /// Server and connection are gone.
    pub fn lost(&mut self, rng: &mut Rng) {
        self.connection = None;
        match &mut self.role {
            Role::Producer(producer) => producer.lost(rng),
            Role::Consumer(consumer) => consumer.lost(),
            Role::Committer(committer) => committer.lost(),
            Role::Member(member) => member.lost(),
            Role::Passing(passing) => passing.lost(),
        }
    }
}
