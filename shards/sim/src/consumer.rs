//! A consumer's rows: where it stands in each partition, also across lives of the server.
//! Owner: `Client`.
//! Invariant: it goes on at the offset after the last batch it saw, or says that it jumps.
//! Not here: what must hold (`checker.rs`).

use crate::client::Around;
use crate::rng::Rng;
use crate::room::see_kafka;
use ringway_client::kafka::{FetchPart, FetchRequest, KafkaReply, KafkaSession, LATEST};
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;

/// One consumer.
#[derive(Debug)]
pub struct Consumer {
    /// Next offset per target.
    offsets: BTreeMap<usize, u64>,
    fetching: bool,
    bytes_max: u64,
    asked: Option<usize>,
}

impl Consumer {
    /// A consumer of some partitions, from the beginning.
    pub fn new(rng: &mut Rng, targets: usize) -> Consumer {
        let count = 1 + rng.index(targets.min(4));
        let first = rng.index(targets);
        let offsets = (0..count).map(|n| ((first + n) % targets, 0)).collect();
        Consumer {
            offsets,
            fetching: false,
            bytes_max: rng.pick(&[200, 5_000, 200_000]),
            asked: None,
        }
    }

    /// Does the next thing.
    pub fn act(&mut self, session: &mut KafkaSession, out: &mut Vec<u8>, around: &mut Around<'_>) {
        if self.asked.is_none() && around.rng.percent(10) {
            let index = around.rng.index(self.offsets.len());
            let Some(target) = self.offsets.keys().nth(index).copied() else { return };
            let place = &around.targets[target];
            if session.list_offsets(out, &place.topic, &[place.partition], LATEST).is_ok() {
                self.asked = Some(target);
            }
        }
        if self.fetching {
            return;
        }
        if around.rng.percent(3) {
            // Reads again from somewhere: mostly cold.
            if let Some(offset) = self.offsets.values_mut().next() {
                *offset = around.rng.below(*offset + 1);
            }
        }
        let part = |(target, offset): (&usize, &u64)| FetchPart {
            topic: &around.targets[*target].topic,
            partition: around.targets[*target].partition,
            offset: i64::try_from(*offset).unwrap_or(i64::MAX),
            bytes_max: i32::try_from(self.bytes_max).unwrap_or(i32::MAX),
        };
        let mut parts: Vec<FetchPart<'_>> = self.offsets.iter().map(part).collect();
        parts.sort_by_key(|part| (part.topic, part.partition));
        let request = FetchRequest {
            wait_ms_max: around.rng.pick(&[0, 1, 5, 20]),
            bytes_min: around.rng.pick(&[1, 1, 500]),
            bytes_max: i32::try_from(self.bytes_max * 2).unwrap_or(i32::MAX),
            version_11: around.rng.percent(50),
            parts: &parts,
        };
        self.fetching = session.fetch(out, &request).is_ok();
    }

    /// A reply came.
    pub fn reply(&mut self, reply: KafkaReply, around: &mut Around<'_>) {
        match reply {
            KafkaReply::Offsets { parts, .. } => {
                let Some(target) = self.asked.take() else { return };
                for part in parts {
                    if let (ErrorCode::None, Ok(end)) = (part.error, u64::try_from(part.offset)) {
                        around.checker.told_end(around.targets[target].key, end);
                    }
                }
            }
            KafkaReply::Fetched { error, parts, .. } => {
                self.fetching = false;
                if error != ErrorCode::None && !error.is_retriable() {
                    around.checker.fail("CLIENT", || format!("fetch refused: {error:?}"));
                }
                for part in parts {
                    let fits = |target: &&usize| {
                        let place = &around.targets[**target];
                        place.topic == part.topic && place.partition == part.partition
                    };
                    let Some(target) = self.offsets.keys().find(fits).copied() else { continue };
                    let told = (part.high_watermark, part.log_start);
                    self.part(target, part.error, told, &part.records, around);
                }
            }
            _ => {}
        }
    }

    fn part(
        &mut self,
        target: usize,
        error: ErrorCode,
        (high_watermark, log_start): (i64, i64),
        batches: &[u8],
        around: &mut Around<'_>,
    ) {
        let key = around.targets[target].key;
        let offset = self.offsets.get(&target).copied().unwrap_or(0);
        let high_watermark = u64::try_from(high_watermark).unwrap_or(0);
        match error {
            ErrorCode::None => {
                let mut frames = Vec::new();
                see_kafka(batches, &mut frames);
                around.checker.polled(key, offset, &frames, high_watermark);
                if let Some(last) = frames.last() {
                    self.offsets.insert(target, last.last + 1);
                }
            }
            ErrorCode::OffsetOutOfRange => {
                let start = u64::try_from(log_start).unwrap_or(0);
                if start <= offset {
                    around.checker.fail("D9", || {
                        format!("{key}: offset {offset} was reached and is out of range now, log start {start}, end {high_watermark}")
                    });
                }
                self.offsets.insert(target, start);
            }
            error if error.is_retriable() && error != ErrorCode::CorruptMessage => {}
            error => {
                around
                    .checker
                    .fail("D6", || format!("{key}: fetch at {offset} refused: {error:?}"));
            }
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.fetching = false;
        self.asked = None;
    }
}
