//! A producing connection: sends what is due, keeps what is in flight, times every answer.

use crate::clock::{Clock, Phases};
use crate::conn::{Next, Peer, SEND_BYTES};
use crate::door::{Answer, ProduceDoor};
use crate::history::{History, Told};
use crate::ledger::Lane;
use crate::record::Head;
use crate::shared::Shared;
use crate::stats::Stats;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Schedule {
    /// At once.
    Max,
    /// One every `period_ns`, the next at `next_ns`; fractions of a nanosecond are kept.
    Every {
        /// Between two requests.
        period_ns: f64,
        /// When the next one is due.
        next_ns: f64,
    },
}

impl Schedule {
    /// When the next request is due.
    fn due_ns(&self, now_ns: u64) -> u64 {
        match self {
            Schedule::Max => now_ns,
            Schedule::Every { next_ns, .. } => *next_ns as u64,
        }
    }

    fn advance(&mut self) {
        if let Schedule::Every { period_ns, next_ns } = self {
            *next_ns += *period_ns;
        }
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    correlation: u64,
    lane: usize,
    seq: u64,
    due_ns: u64,
}

/// One connection's work.
pub(crate) struct Producer {
    door: ProduceDoor,
    clock: Clock,
    phases: Phases,
    schedule: Schedule,
    in_flight_max: usize,
    batch: u64,
    lanes: Vec<(Lane, u64)>,
    next_lane: usize,
    in_flight: VecDeque<Sent>,
    /// When a place in flight became free last.
    free_since_ns: u64,
    was_full: bool,
    was_down: bool,
    history: History,
    shared: Arc<Shared>,
    stats: Rc<RefCell<Stats>>,
}

/// What a producer needs besides its door.
pub(crate) struct ProducerOptions {
    /// Time.
    pub(crate) clock: Clock,
    /// Phases of the run.
    pub(crate) phases: Phases,
    /// When requests are due.
    pub(crate) schedule: Schedule,
    /// Requests in flight at most.
    pub(crate) in_flight_max: usize,
    /// Records per request.
    pub(crate) batch: u64,
    /// Partitions in turn.
    pub(crate) lanes: Vec<Lane>,
    /// Where lines go.
    pub(crate) history: History,
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
    /// This thread's counts.
    pub(crate) stats: Rc<RefCell<Stats>>,
}

impl Producer {
    /// Nothing sent yet.
    pub(crate) fn new(door: ProduceDoor, options: ProducerOptions) -> Producer {
        assert!(!options.lanes.is_empty(), "a producer has a partition");
        Producer {
            door,
            clock: options.clock,
            phases: options.phases,
            schedule: options.schedule,
            in_flight_max: options.in_flight_max,
            batch: options.batch,
            lanes: options.lanes.into_iter().map(|lane| (lane, 0)).collect(),
            next_lane: 0,
            in_flight: VecDeque::new(),
            free_since_ns: 0,
            was_full: false,
            was_down: false,
            history: options.history,
            shared: options.shared,
            stats: options.stats,
        }
    }

    /// The connection broke for the reason `why`; `door` is for the next one.
    pub(crate) fn dialled_again(&mut self, door: ProduceDoor, why: &str) {
        self.forget_in_flight();
        self.door = door;
        self.was_down = true;
        let mut stats = self.stats.borrow_mut();
        stats.reconnects += 1;
        stats.error(why);
    }

    /// What is in flight will never be answered.
    fn forget_in_flight(&mut self) {
        let mut stats = self.stats.borrow_mut();
        for sent in self.in_flight.drain(..) {
            stats.unknown += self.batch;
            self.shared.expect(self.lanes[sent.lane].0.partition, self.batch);
        }
    }

    /// The run is over for this connection.
    ///
    /// # Errors
    /// The history cannot be written.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        self.forget_in_flight();
        self.shared.producers_left.fetch_sub(1, Ordering::AcqRel);
        self.history.flush()
    }

    fn send(&mut self, now_ns: u64, due_ns: u64, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let index = self.next_lane;
        self.next_lane = (index + 1) % self.lanes.len();
        let (lane, next_seq) = &mut self.lanes[index];
        let (lane, seq) = (*lane, *next_seq);
        *next_seq += self.batch;
        let Lane { run, producer, partition } = lane;
        let told = Told { partition, run, producer, seq, offset: -1, now_ns };
        self.history.tell("send", told, self.batch)?;
        let head = Head { run: lane.run, producer: lane.producer, seq, due_ns };
        let timestamp_ms = self.clock.unix_ms(now_ns);
        let correlation = self.door.send(lane.partition, head, timestamp_ms, out)?;
        self.in_flight.push_back(Sent { correlation, lane: index, seq, due_ns });
        let mut stats = self.stats.borrow_mut();
        stats.sent += self.batch;
        if let Schedule::Every { .. } = self.schedule {
            stats.lag.record(now_ns.saturating_sub(due_ns.max(self.free_since_ns)), 1);
        }
        Ok(())
    }

    fn answered(&mut self, correlation: u64) -> anyhow::Result<Sent> {
        let at = self.in_flight.iter().position(|sent| sent.correlation == correlation);
        let sent = at.and_then(|at| self.in_flight.remove(at));
        sent.ok_or_else(|| anyhow::anyhow!("an answer to {correlation}, which is not in flight"))
    }

    fn acked(&mut self, sent: Sent, offset: i64, now_ns: u64) -> anyhow::Result<()> {
        let lane = self.lanes[sent.lane].0;
        let upto = sent.seq + self.batch;
        {
            let mut stats = self.stats.borrow_mut();
            stats.acked += self.batch;
            stats.acked_seqs.entry(lane).or_default().insert_run(sent.seq, upto);
            if self.phases.measures(now_ns) {
                stats.measured_acked += self.batch;
            }
            if self.phases.measures(sent.due_ns) {
                stats.ack.record(now_ns.saturating_sub(sent.due_ns), self.batch);
            }
        }
        self.shared.expect(lane.partition, self.batch);
        let Lane { run, producer, partition } = lane;
        let told = Told { partition, run, producer, seq: sent.seq, offset, now_ns };
        self.history.tell("ack", told, self.batch)?;
        Ok(())
    }
}

impl Peer for Producer {
    fn receive(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.door.receive(data);
        let now_ns = self.clock.now_ns();
        let mut acked = false;
        while let Some(answer) = self.door.next_answer()? {
            match answer {
                Answer::Acked { correlation, offset } => {
                    let sent = self.answered(correlation)?;
                    self.acked(sent, offset, now_ns)?;
                    acked = true;
                }
                Answer::Refused { correlation, why } => {
                    self.answered(correlation)?;
                    let mut stats = self.stats.borrow_mut();
                    stats.refused += self.batch;
                    stats.error(&why);
                }
            }
            if self.was_full {
                self.free_since_ns = now_ns;
                self.was_full = false;
            }
        }
        if acked {
            self.history.mark(now_ns)?;
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut Vec<u8>) -> anyhow::Result<Next> {
        loop {
            let now_ns = self.clock.now_ns();
            if std::mem::take(&mut self.was_down) {
                // While nobody listened, nothing was late by the generator's fault.
                self.free_since_ns = now_ns;
            }
            if now_ns < self.phases.begin_ns {
                return Ok(Next::At(self.phases.begin_ns));
            }
            let due_ns = self.schedule.due_ns(now_ns);
            if due_ns >= self.phases.end_ns {
                let give_up_ns = self.phases.end_ns.saturating_add(self.phases.drain_ns);
                let done = self.in_flight.is_empty() || now_ns >= give_up_ns;
                return Ok(if done { Next::Done } else { Next::At(give_up_ns) });
            }
            if due_ns > now_ns {
                return Ok(Next::At(due_ns));
            }
            if self.in_flight.len() >= self.in_flight_max {
                if !self.was_full && matches!(self.schedule, Schedule::Every { .. }) {
                    self.stats.borrow_mut().window_full += 1;
                }
                self.was_full = true;
                let give_up_ns = self.phases.end_ns.saturating_add(self.phases.drain_ns);
                return Ok(if now_ns >= give_up_ns { Next::Done } else { Next::At(give_up_ns) });
            }
            if out.len() >= SEND_BYTES {
                return Ok(Next::OnReply);
            }
            self.send(now_ns, due_ns, out)?;
            self.schedule.advance();
        }
    }
}
