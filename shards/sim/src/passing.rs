//! A client with a topic that comes and goes: makes it, writes, reads, deletes it, makes it again.
//! Owner: `Client`.
//! Invariant: one call in flight, and nobody else uses the topic: what is found in a new one was never its.
//! Not here: topics that stay (`world/cast.rs`).

use crate::around::Around;
use crate::dialect::{Answer, Dialect, Part, Want};
use crate::workload::{Aim, Target};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The connection is new: it may be there or not.
    Unknown,
    Absent,
    /// Deleted by this client on this connection, and not made again.
    Deleted,
    /// Made by this client on this connection; nothing was written yet.
    Fresh,
    There,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create,
    Delete,
    /// A batch and its correlation.
    Produce(u64, u64),
    Fetch(u64),
}

/// One such client.
#[derive(Debug)]
pub struct Passing {
    target: Target,
    state: State,
    asked: Option<Asked>,
    offset: u64,
    producer: u64,
    sequence: u64,
    /// How often the topic was made.
    made: u64,
}

impl Passing {
    /// A client whose topic nobody has made yet.
    #[must_use]
    pub fn new(number: usize) -> Passing {
        let key = LogKey { topic_id: 0, partition: 0 };
        let topic = format!("passing-{number}");
        Passing {
            target: Target { topic, partition: 0, key, retained: false, log_append_time: false },
            state: State::Unknown,
            asked: None,
            offset: 0,
            producer: (1 << 48) + number as u64,
            sequence: 0,
            made: 0,
        }
    }

    /// Does the next thing.
    pub fn act(&mut self, session: &mut Dialect, out: &mut Vec<u8>, around: &mut Around<'_>) {
        if self.asked.is_some() {
            return;
        }
        if self.state == State::Unknown {
            self.look(around);
        }
        let chance = around.rng.below(100);
        let name = self.target.topic.clone();
        self.asked = match self.state {
            State::Deleted if chance < 40 => self.fetch(session, out),
            State::Absent | State::Deleted | State::Unknown => {
                session.create_topic(out, &name).is_ok().then_some(Asked::Create)
            }
            State::Fresh if chance < 60 => self.fetch(session, out),
            State::There if chance < 12 => {
                session.delete_topic(out, &name).is_ok().then_some(Asked::Delete)
            }
            State::There if chance < 35 => self.fetch(session, out),
            State::Fresh | State::There => self.produce(session, out, around),
        };
    }

    /// What the control plane says now: it alone knows what became of a call without an answer.
    fn look(&mut self, around: &mut Around<'_>) {
        let found = around.node.control.topics().find(|topic| topic.name == self.target.topic);
        let topic_id = found.map(|topic| topic.id);
        if topic_id != Some(self.target.key.topic_id) {
            around.checker.forget(self.target.key);
            self.offset = 0;
        }
        self.state = match topic_id {
            Some(topic_id) => {
                self.target.key = LogKey { topic_id, partition: 0 };
                State::There
            }
            None => State::Absent,
        };
    }

    fn fetch(&mut self, session: &mut Dialect, out: &mut Vec<u8>) -> Option<Asked> {
        let want = Want { target: 0, offset: self.offset };
        let targets = std::slice::from_ref(&self.target);
        session.fetch(out, targets, &[want], (1, 5_001, 1)).ok().map(Asked::Fetch)
    }

    fn produce(
        &mut self,
        session: &mut Dialect,
        out: &mut Vec<u8>,
        around: &mut Around<'_>,
    ) -> Option<Asked> {
        let key = self.target.key;
        let next_offset = around.checker.exposed_end(key);
        let aim = Aim { key, next_offset, epoch: around.checker.newest_epoch(key) };
        let now_ms = around.node.clock.now().wall_ms();
        let batch = around.maker.make(around.rng, around.mix, aim, now_ms, None);
        let correlation = session.produce(out, &self.target, -1, &batch.bytes).ok()?;
        let producer = (self.producer, self.sequence, false);
        self.sequence += batch.records;
        around.checker.sends(batch.hash, key, producer, (batch.records, Some(now_ms)));
        Some(Asked::Produce(batch.hash, correlation))
    }

    /// An answer came.
    pub fn answer(&mut self, answer: Answer, around: &mut Around<'_>) {
        match (answer, self.asked) {
            (Answer::Topic(code), Some(Asked::Create)) => {
                self.asked = None;
                self.created(code, around);
            }
            (Answer::Topic(code), Some(Asked::Delete)) => {
                self.asked = None;
                self.deleted(code, around);
            }
            (Answer::Produced(of, code, base, _), Some(Asked::Produce(hash, correlation)))
                if of == correlation =>
            {
                self.asked = None;
                self.produced(hash, code, base, around);
            }
            (Answer::Fetched(of, parts), Some(Asked::Fetch(correlation))) if of == correlation => {
                self.asked = None;
                for part in parts {
                    self.fetched(&part, around);
                }
            }
            _ => {}
        }
    }

    fn created(&mut self, code: ErrorCode, around: &mut Around<'_>) {
        if code == ErrorCode::None {
            self.look(around);
            self.state = State::Fresh;
            around.checker.seen.passing.remade += u64::from(self.made > 0);
            self.made += 1;
        } else if code == ErrorCode::TopicAlreadyExists || code.is_retriable() {
            self.state = State::Unknown;
        } else {
            around.checker.fail("CLIENT", || format!("topic refused: {code:?}"));
        }
    }

    fn deleted(&mut self, code: ErrorCode, around: &mut Around<'_>) {
        match code {
            ErrorCode::None => {
                self.look(around);
                around.checker.seen.passing.deleted += 1;
                self.state = State::Deleted;
            }
            ErrorCode::UnknownTopicOrPartition => self.state = State::Unknown,
            code if code.is_retriable() => {}
            code => around.checker.fail("CLIENT", || format!("delete refused: {code:?}")),
        }
    }

    fn produced(&mut self, hash: u64, code: ErrorCode, base: u64, around: &mut Around<'_>) {
        let key = self.target.key;
        let too_much = [
            ErrorCode::MessageTooLarge,
            ErrorCode::RecordListTooLarge,
            ErrorCode::InvalidTimestamp,
        ];
        if code == ErrorCode::None {
            self.state = State::There;
            around.checker.acked(hash, key, base);
        } else if !code.is_retriable() && !too_much.contains(&code) {
            around.checker.fail("CLIENT", || format!("{key}: produce refused: {code:?}"));
        } else {
            // It may be there all the same.
            self.state = State::There;
        }
    }

    fn fetched(&mut self, part: &Part, around: &mut Around<'_>) {
        let key = self.target.key;
        let counts = &mut around.checker.seen.passing;
        match (part.code, self.state) {
            (ErrorCode::None, State::Deleted) => {
                around.checker.fail("D4", || format!("{key} is deleted and still read"));
            }
            (ErrorCode::None, State::Fresh) => {
                counts.found_empty += 1;
                let (end, batches) = (part.high_watermark, part.frames.len());
                if end > 0 || batches > 0 {
                    around.checker.fail("D4", || {
                        format!("{key} was just made and has {batches} batches, end {end}")
                    });
                }
            }
            (ErrorCode::None, _) => {
                around.checker.polled(key, self.offset, &part.frames, part.high_watermark);
                if let Some(last) = part.frames.last() {
                    self.offset = last.last + 1;
                }
            }
            (ErrorCode::UnknownTopicOrPartition, State::Deleted) => counts.told_gone += 1,
            (ErrorCode::CorruptMessage, _) if around.checker.may_be_damaged(key, self.offset) => {
                self.offset += 1;
            }
            (ErrorCode::OffsetOutOfRange, _) if !around.checker.rules.promises => self.offset = 0,
            (ErrorCode::UnknownTopicOrPartition, State::There) => self.state = State::Unknown,
            (code, _) if code.is_retriable() && code != ErrorCode::CorruptMessage => {}
            (code, state) => {
                let offset = self.offset;
                around
                    .checker
                    .fail("D6", || format!("{key} {state:?}: fetch at {offset}: {code:?}"));
            }
        }
    }

    /// The connection is gone; what was not answered is unknown.
    pub fn lost(&mut self) {
        self.asked = None;
        self.state = State::Unknown;
        // What is still on its way on the old connection may be passed by the new one.
        self.producer += 1 << 20;
        self.sequence = 0;
    }
}
