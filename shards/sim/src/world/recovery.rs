//! A start, cut off as planned and begun again, and what must come of it (D7).
//! Owner: the world.
//! Invariant: a start or a log that fails is right only in a life in which the device failed.
//! Not here: one log's content (`checker.rs`).

use super::{Digest, PATIENCE_NS, World};
use crate::clock::SECOND;
use crate::network::Weather;
use crate::node::{Happening, Node};
use crate::plan::LifePlan;
use crate::reader::{Unread, read_log};
use ringway_wire::ids::LogKey;

impl World {
    /// Starts until every log is recovered, cut off on the way as planned.
    pub(super) fn recover(&mut self, plan: &LifePlan) -> bool {
        if plan.damage && self.node.disk.is_quiet() && !self.decay.struck_checkpoint() {
            self.node.disk.damage_newest_checkpoint(&mut self.rng);
        }
        let comparable =
            plan.compare && !plan.recovery_ends.is_empty() && self.node.disk.is_quiet();
        let reference = if comparable { self.reference() } else { None };
        let mut ends = plan.recovery_ends.iter();
        let mut interrupted = false;
        loop {
            let end = ends.next();
            self.node.set_fuse(end.map(|(events, _)| *events));
            self.node.start(self.settings.clone());
            let until = self.node.clock.mono_ns() + PATIENCE_NS;
            let served = loop {
                match self.node.next(until) {
                    Some(Happening::Serving) => break true,
                    Some(Happening::Fuse) => break false,
                    Some(Happening::Notice(notice)) => self.notice(&notice),
                    Some(Happening::Refused(text)) => {
                        self.refused(&text);
                        break false;
                    }
                    Some(_) => {}
                    None => {
                        self.checker.fail("D7", || "the start does not end".to_owned());
                        return false;
                    }
                }
            };
            self.node.set_fuse(None);
            self.take_breach();
            if served || self.checker.violation.is_some() {
                break;
            }
            interrupted = true;
            self.counters.cuts_in_recovery += 1;
            self.take_process();
            let cut = end.is_none_or(|(_, cut)| *cut);
            self.node.trace.tell(|| format!("RECOVERY ENDS, cut {cut}"));
            self.node.fail(cut);
        }
        if let (true, Some(reference)) = (interrupted, reference) {
            self.compare(&reference);
        }
        self.checker.violation.is_none()
    }

    /// A start came to nothing: whoever runs the server starts it again a little later.
    fn refused(&mut self, text: &str) {
        if !self.node.disk.device.was_hit() {
            self.checker.fail("D7", || format!("directory refused: {text}"));
        }
        self.counters.starts_refused += 1;
        let later = self.node.clock.mono_ns() + SECOND;
        self.node.clock.advance(later);
    }

    pub(super) fn take_breach(&mut self) {
        if let Some(text) = self.node.watch.breach.take() {
            self.checker.fail("D8", || text);
        }
    }

    /// What an uninterrupted recovery of a copy of this disk gives.
    fn reference(&mut self) -> Option<Digest> {
        let pool = self.node.lend_pool();
        let weather = Weather { chunk_percent: 0, slow_percent: 0 };
        let (disk, control) = (self.node.disk.clone(), self.node.control.clone());
        let mut shadow =
            Node::new(disk, control, self.node.clock.clone(), weather, self.rng.fork(), pool);
        shadow.disk.device.heal();
        shadow.start(self.settings.clone());
        let until = shadow.clock.mono_ns() + PATIENCE_NS;
        let mut served = false;
        while let Some(happening) = shadow.next(until) {
            if matches!(happening, Happening::Serving) {
                served = true;
                break;
            }
        }
        let digest = served.then(|| whole(&mut shadow)).flatten();
        let (pool, _) = shadow.into_parts();
        self.node.return_pool(pool);
        digest
    }

    fn compare(&mut self, reference: &Digest) {
        self.counters.recoveries_compared += 1;
        for (key, wanted) in reference {
            match read_log(&mut self.node, *key) {
                // While another shard still starts, retention goes on here.
                Ok(read) if read == wanted.clone().from_start(read.log_start) => {}
                Ok(read) => {
                    let (here, there) = (read.frames.len(), wanted.frames.len());
                    self.checker.fail("D7", || {
                        format!(
                            "{key}: {here} batches after an interrupted recovery, {there} without"
                        )
                    });
                }
                Err(unread) => self.unread(*key, unread),
            }
        }
    }

    /// A log that cannot be read: right when its device failed in this life, and only then.
    pub(super) fn unread(&mut self, key: LogKey, unread: Unread) {
        match unread {
            Unread::Closed(_) if self.node.disk.device.was_hit() => self.counters.logs_closed += 1,
            Unread::Closed(code) => {
                self.checker.fail("D6", || format!("{key}: after a recovery: {code:?}"));
            }
            Unread::Broken(violation) => {
                self.checker.fail(violation.invariant, || violation.detail);
            }
        }
    }
}

/// Every log of a node, or nothing when one cannot be read.
fn whole(node: &mut Node) -> Option<Digest> {
    let mut digest = Vec::new();
    for key in node.control.logs() {
        digest.push((key, read_log(node, key).ok()?));
    }
    Some(digest)
}
