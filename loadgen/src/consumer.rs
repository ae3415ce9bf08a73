//! A consuming connection: reads on, checks every record, times those of this run.

use crate::clock::{Clock, Phases};
use crate::conn::{Next, Peer};
use crate::door::{Chunk, ConsumeDoor, Position};
use crate::history::{History, Told};
use crate::ledger::Lane;
use crate::record::{self, Head};
use crate::shared::Shared;
use crate::stats::Stats;
use bytes::Bytes;
use ringway_client::records;
use ringway_wire::batch::RecordBatchView;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// After a refused fetch, the partition is left alone so long.
const RETRY_NS: u64 = 100_000_000;
/// How often to look whether the run is over.
const LOOK_NS: u64 = 20_000_000;

/// Where a consumer stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// When all that the producers had acknowledged has come.
    ProducersDone,
    /// At these offsets (Redis: ids), one per position.
    End(Vec<(i64, Bytes)>),
}

/// One connection's work.
pub(crate) struct Consumer {
    door: ConsumeDoor,
    positions: Vec<Position>,
    until: Until,
    options: ConsumerOptions,
    /// Distinct records of this run, per position.
    distinct: Vec<u64>,
    last_read_ns: u64,
}

/// What a consumer needs besides its door.
pub(crate) struct ConsumerOptions {
    /// Time.
    pub(crate) clock: Clock,
    /// Phases of the run.
    pub(crate) phases: Phases,
    /// Number of this run.
    pub(crate) run: u32,
    /// Whether records of other runs are checked too, instead of being counted as foreign.
    pub(crate) any_run: bool,
    /// Where lines go.
    pub(crate) history: History,
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
    /// This thread's counts.
    pub(crate) stats: Rc<RefCell<Stats>>,
}

impl Consumer {
    /// Nothing read yet.
    pub(crate) fn new(
        door: ConsumeDoor,
        positions: Vec<Position>,
        until: Until,
        options: ConsumerOptions,
    ) -> Consumer {
        let distinct = vec![0; positions.len()];
        Consumer { door, positions, until, options, distinct, last_read_ns: 0 }
    }

    /// The connection broke for the reason `why`; `door` is for the next one.
    pub(crate) fn dialled_again(&mut self, door: ConsumeDoor, why: &str) {
        for position in &mut self.positions {
            position.asked = false;
        }
        self.door = door;
        let mut stats = self.options.stats.borrow_mut();
        stats.reconnects += 1;
        stats.error(why);
    }

    /// The run is over for this connection.
    ///
    /// # Errors
    /// The history cannot be written.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        self.options.history.flush()
    }

    fn index(&self, partition: u32) -> anyhow::Result<usize> {
        let at = self.positions.iter().position(|position| position.partition == partition);
        at.ok_or_else(|| anyhow::anyhow!("records of partition {partition}, which was not asked"))
    }

    fn batch(
        &mut self,
        index: usize,
        view: &RecordBatchView<'_>,
        now_ns: u64,
    ) -> anyhow::Result<()> {
        let header = view.header();
        let (first, next) = (
            header.base_offset(),
            header.base_offset() + i64::from(header.last_offset_delta()) + 1,
        );
        let from = self.positions[index].offset;
        if view.check_crc().is_err() {
            self.options.stats.borrow_mut().ledger.verdict.corrupt += 1;
        }
        if first > from {
            let mut stats = self.options.stats.borrow_mut();
            stats.ledger.verdict.offset_gaps += u64::try_from(first - from).unwrap_or(0);
        }
        let mut told = Ok(());
        let walked = records::walk(view, |delivered| {
            // A fetch may begin inside a batch: what lies before was read already.
            if delivered.offset >= from && told.is_ok() {
                told = self.record(index, delivered.value, delivered.offset, now_ns);
            }
        });
        told?;
        if walked.is_err() {
            self.options.stats.borrow_mut().ledger.verdict.corrupt += 1;
        }
        self.positions[index].offset = next.max(from);
        Ok(())
    }

    fn record(
        &mut self,
        index: usize,
        value: Option<&[u8]>,
        offset: i64,
        now_ns: u64,
    ) -> anyhow::Result<()> {
        let partition = self.positions[index].partition;
        let measured = self.options.phases.measures(now_ns);
        let mut stats = self.options.stats.borrow_mut();
        stats.received += 1;
        stats.received_bytes += u64::try_from(value.map_or(0, <[u8]>::len)).unwrap_or(0);
        if measured {
            stats.measured_received += 1;
        }
        let Some(Head { run, producer, seq, due_ns }) = value.and_then(record::read) else {
            stats.ledger.verdict.corrupt += 1;
            return Ok(());
        };
        let own = run == self.options.run;
        if !own && !self.options.any_run {
            stats.ledger.verdict.foreign += 1;
            return Ok(());
        }
        let before = stats.ledger.distinct;
        stats.ledger.read(Lane { run, producer, partition }, seq);
        self.distinct[index] += stats.ledger.distinct - before;
        if own && self.options.phases.measures(due_ns) {
            stats.end_to_end.record(now_ns.saturating_sub(due_ns), 1);
        }
        drop(stats);
        let told = Told { partition, run, producer, seq, offset, now_ns };
        self.options.history.tell("poll", told, 1)
    }

    fn chunk(&mut self, chunk: Chunk, now_ns: u64) -> anyhow::Result<()> {
        match chunk {
            Chunk::Answered => {
                for position in &mut self.positions {
                    position.asked = false;
                }
            }
            Chunk::Batches { partition, bytes } => {
                let index = self.index(partition)?;
                self.read_something(!bytes.is_empty(), now_ns);
                for view in records::batches(&bytes) {
                    self.batch(index, &view?, now_ns)?;
                }
            }
            Chunk::Frames { partition, bytes } => {
                let index = self.index(partition)?;
                self.positions[index].asked = false;
                self.read_something(!bytes.is_empty(), now_ns);
                for frame in records::frames(&bytes) {
                    let (_, view) = frame?;
                    self.batch(index, &view, now_ns)?;
                }
            }
            Chunk::Entries { partition, entries } => {
                let index = self.index(partition)?;
                self.read_something(!entries.is_empty(), now_ns);
                for entry in entries {
                    self.record(index, Some(&entry.value), -1, now_ns)?;
                    self.positions[index].id = entry.id;
                }
            }
            Chunk::Refused { partition, why } => {
                let index = self.index(partition)?;
                self.positions[index].asked = false;
                self.positions[index].not_before_ns = now_ns + RETRY_NS;
                self.options.stats.borrow_mut().error(&why);
            }
        }
        Ok(())
    }

    fn read_something(&mut self, something: bool, now_ns: u64) {
        if something {
            self.last_read_ns = now_ns;
            self.options.stats.borrow_mut().read_at(now_ns);
        }
    }

    fn is_done(&self, now_ns: u64) -> bool {
        let Phases { end_ns, drain_ns, .. } = self.options.phases;
        match &self.until {
            Until::ProducersDone => {
                let shared = &self.options.shared;
                let producing = shared.producers_left.load(Ordering::Acquire) > 0;
                let here = |(position, distinct): (&Position, &u64)| {
                    *distinct >= shared.expected(position.partition)
                };
                let all = !producing && self.positions.iter().zip(&self.distinct).all(here);
                let quiet_since_ns = self.last_read_ns.max(end_ns);
                all || now_ns >= quiet_since_ns.saturating_add(drain_ns)
            }
            Until::End(ends) => {
                let at_end = |(position, (offset, id)): (&Position, &(i64, Bytes))| {
                    position.offset >= *offset && (id.is_empty() || position.id == id)
                };
                self.positions.iter().zip(ends).all(at_end)
                    || now_ns >= self.last_read_ns.saturating_add(drain_ns)
            }
        }
    }
}

impl Peer for Consumer {
    fn receive(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.door.receive(data);
        let now_ns = self.options.clock.now_ns();
        while let Some(chunk) = self.door.next_chunk()? {
            self.chunk(chunk, now_ns)?;
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut Vec<u8>) -> anyhow::Result<Next> {
        let now_ns = self.options.clock.now_ns();
        if self.is_done(now_ns) {
            return Ok(Next::Done);
        }
        self.door.ask(&mut self.positions, now_ns, out)?;
        Ok(Next::At(now_ns + LOOK_NS))
    }
}
