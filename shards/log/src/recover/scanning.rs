//! Where a log's recovery starts, and the scan from there to the end: headers, then payloads of the unproven tail.
//! Owner: one recovery.
//! Invariant: nothing is written here; the same disk gives the same end (D7).
//! Not here: the accept rule (`scan.rs`), verdicts (`verdict.rs`), payload hashing (`payload.rs`).

use super::passed::Passed;
use super::{Phase, Recovered, Recovery};
use crate::checkpoint::{Found, Mark};
use crate::payload::PayloadCheck;
use crate::quarantine::{Damage, Quarantine};
use crate::scan::At;
use crate::segment::{Segment, by_base};
use crate::turn::Turn;
use crate::verdict::{Damaged, Scan, Step, given_up, lost_start};

impl Recovery {
    /// The entry to start from: its segment is there and long enough, and no later life began below it.
    fn usable(&self) -> Option<&Found> {
        let top = &self.entries.first()?.entry.table;
        self.entries.iter().find(|found| {
            let end = &found.entry.end;
            let there = by_base(&self.segments, end.segment).is_some_and(|at| {
                self.segments[at].file.is_some() && end.position <= self.segments[at].file_bytes
            });
            there && !top.undone(found.entry.table.last_epoch(), end.offset)
        })
    }

    pub(super) fn choose(&mut self, turn: &mut Turn<'_>) -> bool {
        let top = self.entries.first().cloned();
        self.source_table = top.as_ref().map(|top| top.entry.table.clone());
        let w = top.as_ref().map_or(0, |top| top.entry.end.offset);
        let reach = top.as_ref().map(|top| top.entry.bound).filter(|bound| *bound > 0);
        if self.segments.is_empty() {
            // Everything is gone but the checkpoint: the whole range is named, a new segment goes on behind it.
            let start = top.as_ref().map_or(0, |top| top.entry.log_start);
            self.segments.push(Segment::new(w));
            let mut scan = Scan::new(At::start_of(0, start), w, None, None, true);
            let (from, to, damage) = (start, w, Damage::Missing);
            scan.damaged.push(Damaged { segment: start, at: 0, until: u64::MAX, from, to, damage });
            scan.at = At::start_of(0, w);
            (scan.next, scan.new_segment) = (w, true);
            self.scan = Some(scan);
            return self.conclude(turn);
        }
        let best = self.usable().cloned();
        turn.shared.counts.unusable_checkpoints += u64::from(best != top);
        let at = match &best {
            Some(found) => {
                let end = found.entry.end;
                let si = by_base(&self.segments, end.segment).unwrap_or(0);
                let (crc, len) = (end.crc, end.len);
                At { si, p: end.position, o: end.offset, crc, len, any: len == 0, floor: 0 }
            }
            None => At::start_of(0, self.segments[0].base),
        };
        self.scan = Some(Scan::new(at, w, None, reach, true));
        self.passed = Passed::begin(at);
        let clean = match (&top, &best) {
            (Some(top), Some(best)) => {
                let listed = turn.shared.facts.clean.contains(&(top.shard, top.generation));
                top.entry.clean && listed && top == best
            }
            (None, _) | (_, None) => false,
        };
        if clean { self.conclude(turn) } else { self.enter(Phase::Scan) }
    }

    pub(super) fn scan_on(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let table = self.source_table.take();
        let missing = loop {
            match scan.step(&self.view(turn, table.as_ref())) {
                Ok(Step::Frame(placed)) => self.passed.add(placed),
                Ok(Step::Damaged) => self.passed = Passed::default(),
                Ok(Step::End) => break None,
                Err(missing) => break Some(missing),
            }
        };
        self.source_table = table;
        let check = Box::new(PayloadCheck::new(&scan));
        self.scan = Some(scan);
        match missing {
            Some(missing) => self.fetch(missing, turn),
            None => self.enter(Phase::Payload(check)),
        }
    }

    pub(super) fn check_payloads(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(mut scan) = self.scan.take() else { return false };
        let Phase::Payload(mut check) = std::mem::replace(&mut self.phase, Phase::Done) else {
            return false;
        };
        let done = check.run(&mut scan, &self.view(turn, None));
        self.scan = Some(scan);
        match done {
            Ok(()) => self.conclude(turn),
            Err(missing) => {
                self.phase = Phase::Payload(check);
                self.fetch(missing, turn)
            }
        }
    }

    /// The end is known: life table, epoch, mark; then the replay up to it.
    fn conclude(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(scan) = self.scan.take() else { return false };
        let top = self.top().cloned();
        let mut table = self.source_table.clone().unwrap_or_default();
        for (epoch, base) in &scan.lives {
            if *epoch > table.last_epoch() {
                table.push(*epoch, *base, *base);
            }
        }
        let counts = &mut turn.shared.counts;
        counts.torn_headers += scan.met.torn_headers;
        counts.torn_payloads += scan.met.torn_payloads;
        counts.forged_headers += scan.met.forged_headers;
        counts.stale_headers += scan.met.stale_headers;
        let counter = turn.shared.facts.start_counter;
        let epoch = table.greatest_epoch().max(scan.seen_epoch).max(counter) + 1;
        table.push(epoch, scan.next, scan.at.o);
        self.end = scan.at;
        self.passed.end_at(&scan.at);
        let first = self.segments[0].base.min(self.end.o);
        let log_start = top.as_ref().map_or(first, |top| top.log_start);
        let unproven = scan.kept.iter().filter(|kept| kept.placed.head.last_offset() >= scan.w);
        self.unproven = unproven.map(|kept| self.segments[kept.placed.si].base).collect();
        let segment = self.segments[self.end.si].base;
        // A process that died in an extension left a size that is seen and not durable: without this flush
        // the space behind the end would be written to, and could vanish with everything in it (P17).
        self.unproven.push(segment);
        self.unproven.dedup();
        let (position, offset) = (self.end.p, scan.next);
        let mut mark = Mark { segment, position, offset, crc: self.end.crc, len: self.end.len };
        if scan.new_segment {
            self.create = true;
            (mark.segment, mark.position) = (scan.next, 0);
        }
        let beyond = self.segments.split_off(self.end.si + 1);
        self.close_all(&beyond, turn);
        let beyond = beyond.into_iter().map(|segment| segment.base).collect();
        let mut notices = Vec::new();
        if scan.torn_batches > 0 {
            notices.push(format!(
                "log {}: torn tail in segment {segment} at position {position}: the log ends at offset {}",
                self.key, self.end.o
            ));
        }
        self.damaged = scan.damaged;
        self.given_up.extend(lost_start(log_start, first));
        // A list that is there knows what was given up, and what a repair left out for good.
        if self.list_lost {
            self.given_up.extend(given_up(&table, log_start));
        }
        self.result = Some(Recovered {
            segments: Vec::new(),
            beyond,
            mark,
            log_start,
            bound: top.map_or(0, |top| top.bound),
            epoch,
            table,
            quarantine: Quarantine::default(),
            notices,
            dropped_batches: scan.torn_batches,
            new_quarantined: 0,
            scanned_bytes: 0,
            snapshot_offset: 0,
            replayed_bytes: 0,
        });
        self.start_replay(turn)
    }
}
