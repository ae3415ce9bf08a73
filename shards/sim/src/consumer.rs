//! A consumer's rows: where it stands in each partition, also across lives of the server.
//! Owner: `Client`.
//! Invariant: it goes on at the offset after the last batch it saw, or says that it jumps.
//! Not here: what must hold (`checker.rs`).

use crate::around::Around;
use crate::checker::{LookUp, Quarantine};
use crate::dialect::{Answer, Dialect, Part, Want};
use crate::rng::Rng;
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;

/// One consumer.
#[derive(Debug)]
pub struct Consumer {
    /// Next offset per target.
    offsets: BTreeMap<usize, u64>,
    /// The fetch in flight: its number and what it asked for.
    fetching: Option<(u64, Vec<Want>)>,
    bytes_max: u32,
    /// An offset was asked for: the number of the call, of which target, and at which time if not the end.
    asked: Option<(u64, usize, Option<LookUp>)>,
    /// Whether it looks offsets up by time, too.
    by_time: bool,
    turn: usize,
}

impl Consumer {
    /// A consumer of some partitions, from the beginning; `by_time`: it looks offsets up by time, too.
    pub fn new(rng: &mut Rng, targets: usize, by_time: bool) -> Consumer {
        let count = 1 + rng.index(targets.min(4));
        let first = rng.index(targets);
        let offsets = (0..count).map(|n| ((first + n) % targets, 0)).collect();
        let bytes_max = rng.pick(&[200, 5_001, 200_000]);
        Consumer { offsets, fetching: None, bytes_max, asked: None, by_time, turn: 0 }
    }

    /// Does the next thing.
    pub fn act(&mut self, session: &mut Dialect, out: &mut Vec<u8>, around: &mut Around<'_>) {
        if self.asked.is_none() && around.rng.percent(10) {
            self.look_up(session, out, around);
        }
        if self.fetching.is_some() {
            return;
        }
        if around.rng.percent(3) {
            // Reads again from somewhere: mostly cold.
            if let Some(offset) = self.offsets.values_mut().next() {
                *offset = around.rng.below(*offset + 1);
            }
        }
        let want = |(target, offset): (&usize, &u64)| Want { target: *target, offset: *offset };
        let mut wants: Vec<Want> = self.offsets.iter().map(want).collect();
        if !session.is_kafka() {
            self.turn += 1;
            let chosen = wants[self.turn % wants.len()];
            wants = vec![chosen];
        }
        let bytes_min = around.rng.pick(&[1, 1, 500]);
        let wait_ms = around.rng.pick(&[0, 1, 5, 20]);
        let bounds = (bytes_min, self.bytes_max, wait_ms);
        if let Ok(correlation) = session.fetch(out, around.targets, &wants, bounds) {
            self.fetching = Some((correlation, wants));
        }
    }

    fn look_up(&mut self, session: &mut Dialect, out: &mut Vec<u8>, around: &mut Around<'_>) {
        let index = around.rng.index(self.offsets.len());
        let target = self.offsets.keys().nth(index).copied().unwrap_or(0);
        let of = &around.targets[target];
        let by_time = (self.by_time && around.rng.percent(75)).then(|| {
            let now_ms = around.node.clock.now().wall_ms();
            around.checker.look_up(of.key, now_ms, around.rng)
        });
        let sent = session.look_up(out, of, by_time.map(|asked| asked.at_ms));
        self.asked = sent.ok().map(|number| (number, target, by_time));
    }

    /// An answer came.
    pub fn answer(&mut self, answer: Answer, around: &mut Around<'_>) {
        match answer {
            Answer::Offset(number, error, found) => {
                let Some((_, target, by_time)) = self.asked.take_if(|asked| asked.0 == number)
                else {
                    return;
                };
                looked_up(target, by_time, (error, found), around);
            }
            Answer::Fetched(correlation, parts) => {
                let Some((waiting, wants)) = self.fetching.take() else { return };
                if waiting != correlation {
                    self.fetching = Some((waiting, wants));
                    return;
                }
                for part in parts {
                    let fits = |want: &&Want| match &part.place {
                        None => true,
                        Some((topic, partition)) => {
                            let target = &around.targets[want.target];
                            target.topic == *topic && target.partition == *partition
                        }
                    };
                    if let Some(want) = wants.iter().find(fits).copied() {
                        self.part(want, &part, around);
                    }
                }
            }
            Answer::Identity(..) | Answer::Produced(..) => {}
            Answer::Committed(_) | Answer::CommittedOffset(..) => {}
            Answer::Topic(_) | Answer::Group(_) => {}
        }
    }

    fn part(&mut self, want: Want, part: &Part, around: &mut Around<'_>) {
        let key = around.targets[want.target].key;
        let offset = want.offset;
        match part.code {
            ErrorCode::None => {
                around.checker.polled(key, offset, &part.frames, part.high_watermark);
                if let Some(last) = part.frames.last() {
                    self.offsets.insert(want.target, last.last + 1);
                }
            }
            ErrorCode::OffsetOutOfRange => {
                let start = part.log_start.unwrap_or_else(|| around.checker.log_start(key));
                // A native error does not tell the log start, which retention may have moved.
                let explained = part.log_start.is_none() && around.targets[want.target].retained;
                if start <= offset && !explained && around.checker.rules.promises {
                    let end = part.high_watermark;
                    around.checker.fail("D9", || {
                        format!(
                            "{key}: offset {offset} was reached and is out of range, {start}..{end}"
                        )
                    });
                }
                self.offsets.insert(want.target, start);
            }
            ErrorCode::CorruptMessage if around.checker.may_be_damaged(key, offset) => {
                self.offsets.insert(want.target, offset + 1);
            }
            error if error.is_retriable() && error != ErrorCode::CorruptMessage => {}
            error => {
                around.checker.fail("D6", || format!("{key}: fetch at {offset}: {error:?}"));
            }
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.fetching = None;
        self.asked = None;
    }
}

fn looked_up(
    target: usize,
    by_time: Option<LookUp>,
    (error, found): (ErrorCode, Option<(u64, i64)>),
    around: &mut Around<'_>,
) {
    let target = &around.targets[target];
    let damaged = around.checker.rules.quarantine != Quarantine::Never;
    match (error, by_time) {
        (ErrorCode::None, Some(asked)) => {
            around.checker.looked_up(target.key, asked, found, target.retained);
        }
        (ErrorCode::None, None) => {
            around.checker.told_end(target.key, found.map_or(0, |(end, _)| end));
        }
        (ErrorCode::CorruptMessage, _) if damaged => {}
        (error, _) if error.is_retriable() && error != ErrorCode::CorruptMessage => {}
        (error, _) => {
            around.checker.fail("D6", || format!("{}: look-up {by_time:?}: {error:?}", target.key));
        }
    }
}
