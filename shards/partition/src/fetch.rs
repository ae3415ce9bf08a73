//! Fetches: several partitions read as one, waiting as one row (kafka.md F1–F5, F8).
//! Owner: `Shard`.
//! Invariant: nothing at or above the high watermark leaves; a row is answered once or forgotten.
//! Not here: where bytes lie (`log/read.rs`), one part's read (`fetch_part.rs`).

use crate::deadlines::{Deadlines, RowUse};
use crate::fetch_part::{self, Part, Started};
use crate::mesh::{Mesh, Waiter};
use crate::request::{FetchPart, MeshMessage, Reply, RequestId};
use crate::turn::{Reader, Turn, mesh_asker};
use crate::waiters::WaitLists;
use ringway_log::logs::ReadFailure;
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;
use std::collections::BTreeMap;

/// A fetch that found no block for a cold read looks again after this.
const STARVED_RETRY_NS: u64 = 5_000_000;
/// Another shard is to answer so much before a fetch is due: what it has by then goes into the answer, however
/// much more was wanted. Later its bytes would be left out of every answer.
const FOREIGN_LEAD_NS: u64 = 5_000_000;

/// A fetch as asked.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) parts: Vec<FetchPart>,
    pub(crate) bytes_min: u32,
    pub(crate) bytes_max: u32,
    pub(crate) deadline_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Parts are being read; what they bring may still be too little.
    First,
    /// Waiting for the high watermark of its parts.
    Waiting,
    /// Parts are being read for the last time: then it is answered.
    Last,
    /// No block for a cold read: tried again.
    Starved,
}

struct Row {
    id: RequestId,
    generation: u32,
    phase: Phase,
    bytes_min: u32,
    bytes_max: u32,
    deadline_ns: u64,
    /// Bytes known to be there for all parts together, while waiting.
    found: u64,
    /// Reads and asks in flight that must end before the row goes on.
    pending: u32,
    parts: Vec<Part>,
}

/// All fetches that could not be answered at once.
#[derive(Default)]
pub(crate) struct Fetches {
    rows: Vec<Option<Row>>,
    free: Vec<u32>,
    generation: u32,
    live: usize,
    by_request: BTreeMap<RequestId, u32>,
    lists: WaitLists,
    deadlines: Deadlines,
    starved: Vec<u32>,
    /// Row vectors to be used again.
    spare: Vec<Vec<Part>>,
    woken: Vec<u32>,
}

impl Fetches {
    /// Rows waiting.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Takes a fetch: answers it now or keeps a row.
    pub(crate) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        mesh: &mut Mesh,
        id: RequestId,
        fetch: Fetch,
    ) {
        // Rows that only read hold the disk's attention, not a client's patience: twice is plenty.
        if self.live / 2 > turn.ground.config.waiting_rows_max {
            let message = format!("{} fetches wait already", self.live);
            return turn.refuse(id, ErrorCode::RequestTimedOut, message);
        }
        let mut parts = self.spare.pop().unwrap_or_default();
        parts.extend(fetch.parts.iter().map(|part| Part::new(*part)));
        self.generation = self.generation.wrapping_add(1);
        let row = Row {
            id,
            generation: self.generation,
            phase: Phase::First,
            bytes_min: fetch.bytes_min,
            bytes_max: fetch.bytes_max,
            deadline_ns: fetch.deadline_ns,
            found: 0,
            pending: 0,
            parts,
        };
        let at = self.insert(row);
        self.read(turn, mesh, at);
    }

    fn insert(&mut self, row: Row) -> u32 {
        self.live += 1;
        match self.free.pop() {
            Some(at) => {
                self.rows[at as usize] = Some(row);
                at
            }
            None => {
                self.rows.push(Some(row));
                u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    fn row(&mut self, at: u32) -> Option<&mut Row> {
        self.rows.get_mut(at as usize)?.as_mut()
    }

    /// Starts reading every part of a row, in order, within what is left of its limit.
    fn read(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, at: u32) {
        let Some(mut row) = self.rows[at as usize].take() else { return };
        let mut left = row.bytes_max;
        let mut any = false;
        let mut starved = false;
        let now_ns = turn.now.mono_ns;
        for index in 0..row.parts.len() {
            let part = &mut row.parts[index];
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let key = part.asked.key;
            if !turn.ground.owns(key) {
                if row.phase == Phase::First {
                    let row_use = RowUse { row: at, generation: row.generation };
                    part.ask(
                        turn,
                        mesh,
                        Waiter::FetchPart { row: row_use, part: number },
                        0,
                        now_ns,
                    );
                    row.pending += 1;
                } else {
                    left = left.saturating_sub(part.bytes());
                    any |= part.bytes() > 0;
                }
                continue;
            }
            match fetch_part::read(turn, part, left, any) {
                Started::Done => {}
                Started::Reading(ticket) => {
                    let reader = Reader::Fetch { row: at, part: number };
                    turn.ground.readers.insert(ticket, reader);
                    row.pending += 1;
                    left = left.saturating_sub(part.asked.bytes_max);
                    any = true;
                }
                Started::NoBlock => starved = true,
            }
            left = left.saturating_sub(part.bytes());
            any |= part.bytes() > 0;
        }
        let crowded = self.live > turn.ground.config.waiting_rows_max;
        if starved && !any && row.pending == 0 && now_ns < row.deadline_ns && !crowded {
            row.phase = Phase::Starved;
            self.by_request.insert(row.id, at);
            self.rows[at as usize] = Some(row);
            self.starved.push(at);
            return;
        }
        if row.pending > 0 {
            self.by_request.insert(row.id, at);
        }
        self.rows[at as usize] = Some(row);
        self.settle(turn, mesh, at);
    }

    /// Once nothing is in flight: answers, or waits.
    fn settle(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, at: u32) {
        let rows_max = turn.ground.config.waiting_rows_max;
        let crowded = self.live > rows_max || turn.ground.stopping;
        let now_ns = turn.now.mono_ns;
        let Some(row) = self.row(at) else { return };
        if row.pending > 0 {
            return;
        }
        let found: u64 = row.parts.iter().map(|part| u64::from(part.bytes())).sum();
        let urgent = row.parts.iter().any(Part::is_urgent);
        let enough = found >= u64::from(row.bytes_min) || now_ns >= row.deadline_ns;
        if enough || urgent || crowded || row.phase == Phase::Last {
            self.answer(turn, mesh, at);
        } else {
            self.wait(turn, mesh, at, found);
        }
    }

    /// Puts a row into the lists of its partitions; what was read is read again when it wakes.
    fn wait(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, at: u32, found: u64) {
        let Some(mut row) = self.rows[at as usize].take() else { return };
        row.phase = Phase::Waiting;
        row.found = found;
        let row_use = RowUse { row: at, generation: row.generation };
        for (number, part) in (0u32..).zip(row.parts.iter_mut()) {
            part.found = part.bytes();
            part.release(turn.blocks);
            if let Some(partition) = turn.ground.partitions.get_mut(part.asked.key) {
                part.mark = partition.visible_bytes;
                part.node = Some(self.lists.insert(&mut partition.watchers, at, number));
            } else {
                let others = found - u64::from(part.found);
                let needed = u64::from(row.bytes_min).saturating_sub(others);
                let bytes_min = u32::try_from(needed.max(1)).unwrap_or(u32::MAX);
                let waiter = Waiter::FetchPart { row: row_use, part: number };
                let deadline_ns = row.deadline_ns.saturating_sub(FOREIGN_LEAD_NS);
                part.ask(turn, mesh, waiter, bytes_min, deadline_ns);
            }
        }
        self.by_request.insert(row.id, at);
        let deadline_ns = row.deadline_ns;
        self.rows[at as usize] = Some(row);
        let rows = &self.rows;
        self.deadlines.insert(deadline_ns, row_use, self.live, |use_| is_waiting(rows, use_));
    }

    /// The high watermark of `key` moved: rows that now have enough are read and answered.
    pub(crate) fn wake(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, key: LogKey) {
        let Some(partition) = turn.ground.partitions.get(key) else { return };
        let visible = partition.visible_bytes;
        let head = partition.watchers;
        let mut woken = std::mem::take(&mut self.woken);
        for (at, number) in self.lists.iter(head) {
            let Some(row) = self.rows[at as usize].as_mut() else { continue };
            let part = &mut row.parts[number as usize];
            row.found += visible - part.mark;
            part.mark = visible;
            if row.found >= u64::from(row.bytes_min) {
                woken.push(at);
            }
        }
        self.finish_all(turn, mesh, &mut woken);
        self.woken = woken;
    }

    /// The partition is about to leave the table: nobody stays in its list. The rows are to be
    /// finished with [`Fetches::finish_detached`] once it is gone.
    pub(crate) fn detach(&mut self, turn: &mut Turn<'_>, key: LogKey) -> Vec<u32> {
        let Some(partition) = turn.ground.partitions.get(key) else { return Vec::new() };
        let mut rows: Vec<u32> = self.lists.iter(partition.watchers).map(|(at, _)| at).collect();
        rows.dedup();
        for at in &rows {
            self.unlist(turn, *at);
        }
        rows
    }

    /// See [`Fetches::detach`].
    pub(crate) fn finish_detached(
        &mut self,
        turn: &mut Turn<'_>,
        mesh: &mut Mesh,
        mut rows: Vec<u32>,
    ) {
        self.finish_all(turn, mesh, &mut rows);
    }

    fn finish_all(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, rows: &mut Vec<u32>) {
        for at in rows.drain(..) {
            self.finish(turn, mesh, at);
        }
    }

    /// Reads a waiting row for the last time.
    fn finish(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, at: u32) {
        // A row may be named twice: by two parts, or by an answer during this very loop.
        if self.row(at).is_none_or(|row| row.phase != Phase::Waiting) {
            return;
        }
        self.unlist(turn, at);
        if let Some(row) = self.row(at) {
            row.phase = Phase::Last;
            self.read(turn, mesh, at);
        }
    }

    fn unlist(&mut self, turn: &mut Turn<'_>, at: u32) {
        let Fetches { rows, lists, .. } = self;
        let Some(row) = rows[at as usize].as_mut() else { return };
        for part in &mut row.parts {
            if let Some(node) = part.node.take() {
                let partition = turn.ground.partitions.get_mut(part.asked.key);
                let Some(partition) = partition else { unreachable!("listed in a partition") };
                lists.remove(&mut partition.watchers, node);
            }
        }
    }

    /// Answers a row with what its parts hold; asks still out are forgotten.
    fn answer(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, at: u32) {
        let Some(mut row) = self.take(at) else { return };
        assert_eq!(row.pending, 0, "no read is in flight");
        let mut left = row.bytes_max;
        let mut any = false;
        let mut reply = Vec::with_capacity(row.parts.len());
        for mut part in row.parts.drain(..) {
            part.forget(turn, mesh);
            // F2: the first batch of all comes whole, later ones only if they fit.
            if any && part.bytes() > left {
                part.release(turn.blocks);
            }
            left = left.saturating_sub(part.bytes());
            any |= part.bytes() > 0;
            turn.ground.counts.fetched_bytes += u64::from(part.bytes());
            turn.ground.counts.fetched_records += part.records();
            if part.bytes() > 0 {
                turn.ground.counts.skipped_records += part.skipped;
            }
            reply.push(part.into_reply(turn));
        }
        self.give_back(row.parts);
        turn.reply(row.id, Reply::Fetched(reply));
    }

    fn take(&mut self, at: u32) -> Option<Row> {
        let row = self.rows.get_mut(at as usize)?.take()?;
        self.free.push(at);
        self.live -= 1;
        self.by_request.remove(&row.id);
        Some(row)
    }

    fn give_back(&mut self, parts: Vec<Part>) {
        // As many as one turn of a busy shard uses; more would only hold memory.
        if self.spare.len() < 256 {
            self.spare.push(parts);
        }
    }

    /// A read of the log ended for one part.
    pub(crate) fn read_done(
        &mut self,
        turn: &mut Turn<'_>,
        mesh: &mut Mesh,
        at: u32,
        number: u32,
        result: Result<FrameList, ReadFailure>,
    ) {
        let Some(row) = self.row(at) else { unreachable!("a forgotten read has no reader") };
        row.pending -= 1;
        let any = row.parts.iter().any(|part| part.bytes() > 0);
        let part = &mut row.parts[number as usize];
        match result {
            Err(ReadFailure::Quarantined { until })
                if fetch_part::skips_quarantined(turn.ground, part) =>
            {
                part.pass(until);
                // Without a block now the part stays empty, and its client asks again.
                let bytes_max = part.asked.bytes_max;
                if let Started::Reading(ticket) = fetch_part::read(turn, part, bytes_max, any) {
                    turn.ground.readers.insert(ticket, Reader::Fetch { row: at, part: number });
                    row.pending += 1;
                }
            }
            result => part.landed(turn, result),
        }
        self.settle(turn, mesh, at);
    }

    /// Another shard answered for one part.
    pub(crate) fn part_answered(
        &mut self,
        turn: &mut Turn<'_>,
        mesh: &mut Mesh,
        row_use: RowUse,
        number: u32,
        reply: Reply,
    ) {
        let at = row_use.row;
        let now_ns = turn.now.mono_ns;
        let Some(row) = self.row(at).filter(|row| row.generation == row_use.generation) else {
            return;
        };
        let part = &mut row.parts[number as usize];
        part.answered(reply);
        match row.phase {
            Phase::First => {
                row.pending -= 1;
                self.settle(turn, mesh, at);
            }
            Phase::Waiting => {
                row.found = row.found - u64::from(part.found) + u64::from(part.bytes());
                part.found = part.bytes();
                let urgent = part.is_urgent() || now_ns >= row.deadline_ns;
                if urgent || row.found >= u64::from(row.bytes_min) {
                    self.finish(turn, mesh, at);
                }
            }
            Phase::Last | Phase::Starved => {}
        }
    }

    /// End of a turn: deadlines, and rows that found no block. Returns when it is wanted again.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh) -> Option<u64> {
        let now_ns = turn.now.mono_ns;
        loop {
            let rows = &self.rows;
            let Some(row) = self.deadlines.due(now_ns, |use_| is_waiting(rows, use_)) else {
                break;
            };
            self.finish(turn, mesh, row.row);
        }
        for at in std::mem::take(&mut self.starved) {
            if let Some(row) = self.row(at).filter(|row| row.phase == Phase::Starved) {
                row.phase = Phase::First;
                self.read(turn, mesh, at);
            }
        }
        let rows = &self.rows;
        let next = self.deadlines.next_ns(|use_| is_waiting(rows, use_));
        let retry = (!self.starved.is_empty()).then(|| now_ns + STARVED_RETRY_NS);
        [next, retry].into_iter().flatten().min()
    }

    /// Clean stop: all rows are answered now.
    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh) {
        for at in 0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX) {
            self.finish(turn, mesh, at);
        }
    }

    /// Nobody waits for this fetch any more. True: there was a row, and it is gone unanswered.
    pub(crate) fn gone(&mut self, turn: &mut Turn<'_>, mesh: &mut Mesh, id: RequestId) -> bool {
        let Some(at) = self.by_request.get(&id).copied() else { return false };
        self.unlist(turn, at);
        let Some(mut row) = self.take(at) else { return false };
        self.starved.retain(|starved| *starved != at);
        turn.ground.readers.retain(|ticket, reader| {
            let ours = matches!(reader, Reader::Fetch { row, .. } if *row == at);
            if ours {
                turn.ground.logs.forget_read(*ticket);
            }
            !ours
        });
        for mut part in row.parts.drain(..) {
            part.forget(turn, mesh);
            part.release(turn.blocks);
        }
        self.give_back(row.parts);
        if let Some(shard) = mesh_asker(id) {
            // The asker's tag is free again only after an answer.
            let tag = u64::from(id.request);
            let (code, message) = (ErrorCode::RequestTimedOut, "forgotten".to_owned());
            let reply = Reply::Failed { code, message };
            turn.out.mesh.push((shard, MeshMessage::Answer { tag, reply }));
        }
        true
    }
}

fn is_waiting(rows: &[Option<Row>], use_: RowUse) -> bool {
    let row = rows.get(use_.row as usize).and_then(Option::as_ref);
    row.is_some_and(|row| row.generation == use_.generation && row.phase == Phase::Waiting)
}
