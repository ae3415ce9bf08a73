//! A producer's rows: batches in flight per partition, retries in order, identities.
//! Owner: `Client`.
//! Invariant: an idempotent batch is sent again with the same bytes or never; another never twice.
//! Not here: bytes of requests (`ringway-client`).

use crate::around::Around;
use crate::dialect::{Answer, Dialect};
use crate::rng::Rng;
use crate::workload::{Aim, Batch};
use ringway_partition::request::{MetaAnswer, MetaOp};
use ringway_wire::error_code::ErrorCode;
use std::collections::{BTreeMap, VecDeque};

/// Batches of one partition.
#[derive(Debug, Default)]
struct Lane {
    target: usize,
    next_sequence: i32,
    batches: VecDeque<Row>,
    /// A batch failed: nothing more until all answers are here, then everything again.
    failed: bool,
}

#[derive(Debug)]
struct Row {
    batch: Batch,
    sequence: u64,
    in_flight: bool,
    /// Sent with acks = 0.
    mute: bool,
}

/// One producer.
#[derive(Debug)]
pub struct Producer {
    idempotent: bool,
    identity: Option<(i64, i16)>,
    /// Tells identities apart for the checker.
    number: u64,
    asked_identity: bool,
    lanes: Vec<Lane>,
    window: usize,
    abandon_percent: u64,
    waiting: BTreeMap<u64, (usize, u64)>,
}

impl Producer {
    /// A producer to some partitions.
    pub fn new(number: u64, idempotent: bool, rng: &mut Rng, targets: usize) -> Producer {
        let count = 1 + rng.index(targets.min(4));
        let first = rng.index(targets);
        let lane = |n: usize| Lane { target: (first + n) % targets, ..Lane::default() };
        Producer {
            idempotent,
            identity: None,
            number: number << 32,
            asked_identity: false,
            lanes: (0..count).map(lane).collect(),
            window: rng.pick(&[1, 2, 5, 5]),
            abandon_percent: rng.pick(&[0, 10, 50]),
            waiting: BTreeMap::new(),
        }
    }

    /// Does the next thing.
    pub fn act(&mut self, session: &mut Dialect, out: &mut Vec<u8>, around: &mut Around<'_>) {
        if self.idempotent && self.identity.is_none() {
            if session.is_kafka() {
                self.asked_identity = self.asked_identity || session.identity(out).is_ok();
                return;
            }
            // Our own dialect has no call for it: such a client brings a number of its own.
            let (answer, _) = around.node.control.apply(MetaOp::ReserveProducerIds { count: 1 });
            let MetaAnswer::ProducerIds { first, .. } = answer else { return };
            self.number += 1;
            self.identity = Some((first, 0));
        }
        let chosen = around.rng.index(self.lanes.len());
        for index in 0..self.lanes.len() {
            if index == chosen {
                self.refill(index, around);
            }
            self.send(index, session, out, around);
        }
    }

    fn refill(&mut self, index: usize, around: &mut Around<'_>) {
        let lane = &mut self.lanes[index];
        for _ in 0..around.rng.within(1, 3) {
            if lane.failed || lane.batches.len() >= self.window {
                return;
            }
            let key = around.targets[lane.target].key;
            let next_offset = around.checker.exposed_end(key);
            let aim = Aim { key, next_offset, epoch: around.checker.newest_epoch(key) };
            let sequence = self.identity.map(|(id, epoch)| (id, epoch, lane.next_sequence));
            let now_ms = around.node.clock.now().wall_ms();
            let batch = around.maker.make(around.rng, around.mix, aim, now_ms, sequence);
            let sequence = u64::try_from(lane.next_sequence).unwrap_or(0);
            lane.next_sequence += i32::try_from(batch.records).unwrap_or(1);
            lane.batches.push_back(Row { batch, sequence, in_flight: false, mute: false });
        }
    }

    fn send(
        &mut self,
        index: usize,
        session: &mut Dialect,
        out: &mut Vec<u8>,
        around: &mut Around<'_>,
    ) {
        let lane = &mut self.lanes[index];
        if lane.failed {
            if lane.batches.iter().any(|row| row.in_flight) {
                return;
            }
            lane.failed = false;
        }
        let target = &around.targets[lane.target];
        let mute = !self.idempotent && session.is_kafka();
        for row in lane.batches.iter_mut().filter(|row| !row.in_flight) {
            let acks = around.rng.pick(if mute { &[-1, 1, 0] } else { &[-1, -1, 1] });
            let Ok(correlation) = session.produce(out, target, acks, &row.batch.bytes) else {
                continue;
            };
            row.in_flight = true;
            row.mute = acks == 0;
            if !row.mute {
                self.waiting.insert(correlation, (index, row.batch.hash));
            }
            let producer = (self.number, row.sequence, self.idempotent);
            let identity = self.identity;
            around.node.trace.tell(|| {
                let Row { batch, sequence, .. } = row;
                let (key, records, hash) = (target.key, batch.records, batch.hash);
                format!("produce {key} {hash:016x} records {records} producer {producer:?} identity {identity:?} sequence {sequence} correlation {correlation}")
            });
            let time_ms = (!target.log_append_time).then_some(row.batch.time_ms);
            let facts = (row.batch.records, time_ms);
            around.checker.sends(row.batch.hash, target.key, producer, facts);
        }
        // Nobody will answer these.
        lane.batches.retain(|row| !row.mute);
    }

    /// An answer came.
    pub fn answer(&mut self, answer: Answer, around: &mut Around<'_>) {
        match answer {
            Answer::Identity(error, producer_id, epoch) => {
                self.asked_identity = false;
                if error == ErrorCode::None {
                    self.number += 1;
                    self.identity = Some((producer_id, epoch));
                } else if !error.is_retriable() {
                    around.checker.fail("CLIENT", || format!("InitProducerId: {error:?}"));
                }
            }
            Answer::Produced(correlation, error, base, message) => {
                if let Some((index, hash)) = self.waiting.remove(&correlation) {
                    around
                        .node
                        .trace
                        .tell(|| format!("answer {hash:016x}: {error:?} {base} {message}"));
                    self.produced(index, hash, error, base, around);
                }
            }
            Answer::Fetched(..) | Answer::Offset(..) => {}
            Answer::Committed(_) | Answer::CommittedOffset(..) => {}
            Answer::Topic(_) | Answer::Group(_) => {}
        }
    }

    fn produced(
        &mut self,
        index: usize,
        hash: u64,
        error: ErrorCode,
        base: u64,
        around: &mut Around<'_>,
    ) {
        let lane = &mut self.lanes[index];
        let Some(place) = lane.batches.iter().position(|row| row.batch.hash == hash) else {
            return;
        };
        lane.batches[place].in_flight = false;
        let key = around.targets[lane.target].key;
        match error {
            ErrorCode::None => {
                around.checker.acked(hash, key, base);
                lane.batches.remove(place);
                if place > 0 && self.idempotent {
                    around.checker.fail("D2", || {
                        format!("{key}: a later batch was acknowledged first, at {base}")
                    });
                }
            }
            // The clock was set back by hours after the batch was made, or limits were lowered.
            ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidTimestamp => {
                if self.idempotent {
                    self.abandon();
                } else {
                    lane.batches.remove(place);
                }
            }
            ErrorCode::OutOfOrderSequenceNumber
                if self.idempotent && (lane.failed || place > 0) =>
            {
                lane.failed = true;
            }
            // Its predecessor was refused as too large, and the refusal lost with the server.
            ErrorCode::OutOfOrderSequenceNumber if self.idempotent && around.sequences_break => {
                self.abandon();
            }
            error if error.is_retriable() && self.idempotent => lane.failed = true,
            error if error.is_retriable() => {
                lane.batches.remove(place);
            }
            error => {
                around.checker.fail("CLIENT", || format!("{key}: produce refused: {error:?}"));
            }
        }
    }

    fn abandon(&mut self) {
        // A refused batch has used its sequences up: only a new identity can go on.
        for lane in &mut self.lanes {
            lane.batches.clear();
            lane.next_sequence = 0;
            lane.failed = false;
        }
        self.waiting.clear();
        self.identity = None;
        self.asked_identity = false;
        self.number += 1;
    }

    /// The connection is gone.
    pub fn lost(&mut self, rng: &mut Rng) {
        self.waiting.clear();
        self.asked_identity = false;
        for lane in &mut self.lanes {
            lane.failed = false;
            for row in &mut lane.batches {
                row.in_flight = false;
            }
            if !self.idempotent {
                lane.batches.clear();
            }
        }
        if !self.idempotent {
            // What is still on its way on the old connection may be passed by the new one.
            self.number += 1;
        } else if rng.percent(self.abandon_percent) {
            self.abandon();
        }
    }
}
