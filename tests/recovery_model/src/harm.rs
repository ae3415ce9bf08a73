//! Damage between two lives: bits, blocks in wrong places, small files lost or old.
//! Owner: one world, while its disk is quiet.
//! Invariant: the ledger of a log is told that it was harmed, and what that may cost.
//! Not here: writes that lie (`life.rs`).

use crate::disk::{LOGS, SHARDS, Small};
use crate::frame::{BLOCK, HEADER, SECTOR};
use crate::life::{Life, tell};
use crate::oracle::Sent;
use crate::quarantine::Damaged;

/// Sound batches that a block in a wrong place may cost, beside as many as stood in the two blocks: a batch
/// at its new place may be served in the stead of those between, and its last one claims bytes of others.
const NEIGHBOURS: usize = 2;

impl Life {
    /// What befalls the disk before a start.
    pub fn harm(&mut self) {
        if !self.disk.is_quiet() {
            return;
        }
        if self.profile.repair && self.rng.percent(50) {
            self.repair();
        }
        if self.profile.ends && self.rng.percent(40) {
            self.lose_an_end();
        }
        let times = match (self.profile.rot, self.profile.rots) {
            (_, true) => self.rng.range(1, 4),
            (true, false) => usize::from(self.rng.percent(75)),
            (false, false) => 0,
        };
        for _ in 0..times {
            self.rot();
        }
        if self.profile.moved && self.rng.percent(75) {
            self.move_a_block();
        }
        if self.profile.meta && self.rng.percent(60) {
            self.lose_a_small_file();
        }
    }

    /// A frame that was submitted, the newest ones more often: (log, segment, position, length).
    fn some_frame(&mut self) -> Option<(usize, u64, usize, usize)> {
        let log = usize::from(!self.rng.percent(80));
        let ledger = &self.ledgers[log];
        let sent: Vec<_> =
            ledger.sent[..ledger.submitted].iter().filter(|sent| !sent.bad).collect();
        if sent.is_empty() {
            return None;
        }
        let at = if self.rng.percent(40) {
            sent.len() - 1 - self.rng.below(sent.len().min(8))
        } else {
            self.rng.below(sent.len())
        };
        let (segment, position, len) = (sent[at].segment, sent[at].position, sent[at].head.len);
        let there = self.disk.logs[log].names.contains_key(&segment);
        there.then_some((log, segment, position, len))
    }

    fn overwrite(&mut self, log: usize, segment: u64, at: usize, data: &[u8]) {
        self.ledgers[log].harmed = true;
        let file = self.disk.file_mut(log, segment);
        let n = data.len().min(file.seen.len().saturating_sub(at));
        file.seen[at..at + n].copy_from_slice(&data[..n]);
        file.durable.clone_from(&file.seen);
    }

    fn rot(&mut self) {
        let Some((log, segment, position, len)) = self.some_frame() else { return };
        let within = if self.rng.percent(60) { HEADER } else { len };
        let at = position + self.rng.below(within);
        let Some(byte) = self.disk.file(log, segment).and_then(|file| file.seen.get(at)).copied()
        else {
            return;
        };
        match self.rng.below(6) {
            0 => self.overwrite(log, segment, at / SECTOR * SECTOR, &[0; SECTOR]),
            1 => self.overwrite(log, segment, at / BLOCK * BLOCK, &[0; BLOCK]),
            _ => {
                let bit = self.rng.below(8);
                self.overwrite(log, segment, at, &[byte ^ 1 << bit]);
            }
        }
        tell!(self, "ROT log{log} {segment}:{at}");
    }

    fn move_a_block(&mut self) {
        let Some((log, segment, position, len)) = self.some_frame() else { return };
        let at = (position + self.rng.below(len)) / BLOCK * BLOCK;
        let Some((other_log, other_segment, other, _)) = self.some_frame() else { return };
        let other = other / BLOCK * BLOCK;
        let block = |life: &Life, log: usize, segment: u64, at: usize| {
            let file = life.disk.file(log, segment)?;
            file.seen.get(at..at + BLOCK).map(<[u8]>::to_vec)
        };
        let (Some(mine), Some(theirs)) =
            (block(self, log, segment, at), block(self, other_log, other_segment, other))
        else {
            return;
        };
        let same = (log, segment) == (other_log, other_segment);
        let more = self.frames_within(log, segment, at) + self.frames_within(log, segment, other);
        self.ledgers[log].neighbours += NEIGHBOURS + more;
        match self.rng.below(3) {
            0 if same => {
                self.overwrite(log, segment, at, &theirs);
                self.overwrite(log, segment, other, &mine);
                tell!(self, "SWAP log{log} {segment}:{at} and {other}");
            }
            1 => {
                let file = self.disk.file(log, segment);
                let Some(old) = file.and_then(|file| file.older.get(&at)).cloned() else { return };
                self.overwrite(log, segment, at, &old);
                tell!(self, "STALE log{log} {segment}:{at}");
            }
            _ => {
                self.overwrite(log, segment, at, &theirs);
                tell!(
                    self,
                    "COPY log{log} {segment}:{at} of log{other_log} {other_segment}:{other}"
                );
            }
        }
    }

    fn frames_within(&self, log: usize, segment: u64, block: usize) -> usize {
        let touches = |sent: &&Sent| {
            let end = sent.position + sent.head.len;
            sent.segment == segment && sent.position < block + BLOCK && block < end
        };
        self.ledgers[log].sent.iter().filter(touches).count()
    }

    /// The last segment is cut off where one of its frames begins.
    fn lose_an_end(&mut self) {
        let log = usize::from(!self.rng.percent(80));
        let Some(segment) = self.disk.logs[log].names.keys().next_back().copied() else { return };
        let ledger = &self.ledgers[log];
        let sent = ledger.sent[..ledger.submitted].iter().filter(|sent| sent.segment == segment);
        let places: Vec<usize> = sent.map(|sent| sent.position).collect();
        let back = 1 + self.rng.below(4);
        let Some(at) = places.len().checked_sub(back).map(|n| places[n]) else { return };
        self.ledgers[log].harmed = true;
        let file = self.disk.file_mut(log, segment);
        file.seen.truncate(at / BLOCK * BLOCK);
        file.durable.clone_from(&file.seen);
        tell!(self, "END LOST log{log} {segment}:{at}");
    }

    /// An operator gives up what the list names in recorded gaps: the list is without it from now on.
    fn repair(&mut self) {
        for log in 0..LOGS {
            let lives = match self.disk.entries(log, false).first() {
                Some(top) => top.entry.table.0.clone(),
                None => continue,
            };
            let Some(mut list) = self.disk.logs[log].quarantine.get().cloned() else { continue };
            let in_gap = |range: &Damaged| {
                lives.iter().any(|life| life.previous_end <= range.from && range.to <= life.start)
            };
            let gone: Vec<Damaged> = list.0.extract_if(.., |range| in_gap(range)).collect();
            for range in gone {
                tell!(self, "GIVEN UP log{log} {range:?}");
                self.ledgers[log].give_up(range.from, range.to);
            }
            self.disk.logs[log].quarantine.put(list);
            self.disk.logs[log].quarantine.sync();
        }
    }

    fn lose_a_small_file(&mut self) {
        let log = usize::from(!self.rng.percent(80));
        let newest = self.disk.entries(log, false).first().map(|top| (top.shard, top.generation));
        match self.rng.below(5) {
            which @ 0..=1 => {
                let Some((shard, generation)) = newest else { return };
                assert!(shard < SHARDS && log < LOGS);
                let files = self.disk.checkpoints[shard].iter_mut();
                for file in files {
                    if file.get().is_some_and(|found| found.generation == generation) {
                        if which == 0 { *file = Small::default() } else { file.fall_back() }
                    }
                }
                tell!(self, "LOST the newest checkpoint of log{log}");
            }
            2 => self.disk.logs[log].snapshot = Small::default(),
            3 => self.disk.logs[log].snapshot.fall_back(),
            _ => self.disk.logs[log].quarantine = Small::default(),
        }
    }
}
