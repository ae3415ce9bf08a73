//! What clients were promised, held against what lies on the disk.

use super::directory::refused;
use crate::refusal::Refusal;
use ringway_client::records;
use ringway_log::verify::LogReport;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::Path;

/// Examples told of each kind of fault.
const EXAMPLES_MAX: usize = 10;
/// `producer` of a history is the run of the generator above this bit, and below it the connection.
const PRODUCER_BITS: u32 = 16;

/// A line of the file, as far as it is of use.
#[derive(Deserialize)]
struct Row {
    op: String,
    topic: String,
    partition: u32,
    producer: u64,
    seq: u64,
    offset: i64,
    t_us: u64,
}

/// Where an acknowledged record has turned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    No,
    Yes,
    /// Another record stands at its offset.
    Other(u64, u64),
}

/// An acknowledged record.
#[derive(Clone, Copy, Debug)]
struct Acked {
    offset: u64,
    producer: u64,
    seq: u64,
    seen: Seen,
}

/// Everything acknowledged, by log.
#[derive(Debug, Default)]
pub(super) struct History {
    logs: BTreeMap<(String, u32), Vec<Acked>>,
    answer: Answer,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    acked: u64,
    found: u64,
    /// Below the log start: retention took them.
    retired: u64,
    /// In a range that was named damaged.
    damaged: u64,
    /// Another record stands at the offset.
    moved: u64,
    /// Silently gone.
    missing: u64,
    examples: Vec<String>,
}

impl Answer {
    /// Whether every promise was kept.
    pub(super) fn is_clean(&self) -> bool {
        self.damaged + self.moved + self.missing == 0
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "acked": self.acked,
            "found": self.found,
            "retired": self.retired,
            "damaged": self.damaged,
            "moved": self.moved,
            "missing": self.missing,
            "examples": self.examples,
        })
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text);
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "history: {} acknowledged, {} found, {} retired, {} damaged, {} moved, {} missing",
            self.acked, self.found, self.retired, self.damaged, self.moved, self.missing
        )?;
        self.examples.iter().try_for_each(|example| write!(f, "\n    {example}"))
    }
}

impl History {
    /// Reads the acknowledgements of a file, up to `cut` when there is one.
    pub(super) fn read(path: &Path, cut: Option<u64>) -> Result<History, Refusal> {
        let file = File::open(path).map_err(|cause| refused(path, &cause))?;
        let mut history = History::default();
        let mut lines = BufReader::new(file).lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let line = line.map_err(|cause| refused(path, &cause))?;
            let row = match serde_json::from_str::<Row>(&line) {
                Ok(row) => row,
                // A generator that was killed leaves half a line.
                Err(_) if lines.peek().is_none() => break,
                Err(cause) => {
                    let text = format!("{}: line {}: {cause}", path.display(), number + 1);
                    return Err(Refusal::configuration(text));
                }
            };
            history.take(row, cut);
        }
        for acked in history.logs.values_mut() {
            acked.sort_unstable_by_key(|one| one.offset);
        }
        Ok(history)
    }

    fn take(&mut self, row: Row, cut: Option<u64>) {
        let Ok(offset) = u64::try_from(row.offset) else { return };
        if row.op != "ack" || cut.is_some_and(|cut| row.t_us > cut) {
            return;
        }
        self.answer.acked += 1;
        let Row { topic, partition, producer, seq, .. } = row;
        let acked = Acked { offset, producer, seq, seen: Seen::No };
        self.logs.entry((topic, partition)).or_default().push(acked);
    }

    /// Whether anything acknowledged should stand at one of these offsets.
    pub(super) fn asks_for(&self, topic: &str, partition: u32, offsets: Range<u64>) -> bool {
        let Some(acked) = self.logs.get(&(topic.to_owned(), partition)) else { return false };
        let first = acked.partition_point(|one| one.offset < offsets.start);
        acked.get(first).is_some_and(|one| one.offset < offsets.end)
    }

    /// A whole frame of that log.
    pub(super) fn found(&mut self, topic: &str, partition: u32, frame: &[u8]) {
        let Some(acked) = self.logs.get_mut(&(topic.to_owned(), partition)) else { return };
        for (_, view) in records::frames(frame).flatten() {
            // Bytes that are no records leave what they should hold missing.
            let walked = records::walk(&view, |record| {
                let Ok(offset) = u64::try_from(record.offset) else { return };
                let first = acked.partition_point(|one| one.offset < offset);
                for one in acked[first..].iter_mut().take_while(|one| one.offset == offset) {
                    one.seen = one.compare(record.value);
                }
            });
            drop(walked);
        }
    }

    /// A log was read to its end: what of it was found counts, the rest is a fault.
    pub(super) fn judge(&mut self, topic: &str, partition: u32, report: &LogReport) {
        let Some(acked) = self.logs.remove(&(topic.to_owned(), partition)) else { return };
        let answer = &mut self.answer;
        for Acked { offset, producer, seq, seen } in acked {
            let what = format!("{topic}/{partition} offset {offset}: record {producer}:{seq}");
            let damaged = |one: &&ringway_log::verify::Finding| {
                one.is_damage() && one.offset <= offset && offset < one.until
            };
            match seen {
                _ if offset < report.log_start => answer.retired += 1,
                Seen::Yes if offset < report.end => answer.found += 1,
                Seen::Other(other, number) if offset < report.end => {
                    answer.moved += 1;
                    answer.example(format!("{what} acknowledged, {other}:{number} stands there"));
                }
                Seen::No | Seen::Yes | Seen::Other(..) => {
                    match report.findings.iter().find(damaged) {
                        Some(finding) => {
                            answer.damaged += 1;
                            answer.example(format!("{what} is damaged ({})", finding.kind.name()));
                        }
                        None => {
                            answer.missing += 1;
                            let end = report.end;
                            answer.example(format!("{what} is missing; the log ends at {end}"));
                        }
                    }
                }
            }
        }
    }

    /// All logs are read: what was promised in logs that are not there is missing.
    pub(super) fn answer(mut self) -> Answer {
        for ((topic, partition), acked) in std::mem::take(&mut self.logs) {
            self.answer.missing += acked.len() as u64;
            let text = format!("{topic}/{partition}: no such log, {} records", acked.len());
            self.answer.example(text);
        }
        self.answer
    }
}

impl Acked {
    /// A record that carries the generator's stamp must be this one; any other counts by its offset alone.
    fn compare(&self, value: Option<&[u8]>) -> Seen {
        let Some((run, producer, seq)) = value.and_then(stamp) else { return Seen::Yes };
        let producer = (u64::from(run) << PRODUCER_BITS) + u64::from(producer);
        if (producer, seq) == (self.producer, self.seq) {
            Seen::Yes
        } else {
            Seen::Other(producer, seq)
        }
    }
}

/// Run, producer and sequence of a value that `ringway-loadgen` made: 24 bytes and a CRC-32 over what follows
/// them and themselves.
fn stamp(value: &[u8]) -> Option<(u32, u32, u64)> {
    let (head, rest) = value.split_first_chunk::<24>()?;
    let (crc, filler) = rest.split_first_chunk::<4>()?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(filler);
    hasher.update(head);
    if hasher.finalize().to_le_bytes() != *crc {
        return None;
    }
    let run = u32::from_le_bytes(*head.first_chunk::<4>()?);
    let producer = u32::from_le_bytes(*head[4..].first_chunk::<4>()?);
    Some((run, producer, u64::from_le_bytes(*head[8..].first_chunk::<8>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_log::verify::{Finding, FindingKind};

    fn history(offsets: &[i64], cut: Option<u64>) -> History {
        let mut history = History::default();
        for offset in offsets {
            let (op, topic, t_us) = ("ack".to_owned(), "t".to_owned(), offset.unsigned_abs() * 10);
            let (producer, seq, offset) = ((3 << 16) + 1, t_us, *offset);
            history.take(Row { op, topic, partition: 0, producer, seq, offset, t_us }, cut);
        }
        history
    }

    fn value(producer: u32, seq: u64) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&producer.to_le_bytes());
        head.extend_from_slice(&seq.to_le_bytes());
        head.extend_from_slice(&[0; 8]);
        let filler = [7; 40];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&filler);
        hasher.update(&head);
        head.extend_from_slice(&hasher.finalize().to_le_bytes());
        head.extend_from_slice(&filler);
        head
    }

    #[test]
    fn each_fate_of_an_acknowledged_record_is_told_apart() {
        let mut history = history(&[0, 5, 10, 20, 30, 40], None);
        let acked = history.logs.get_mut(&("t".to_owned(), 0)).expect("known");
        for (at, seq) in [(1, 50), (2, 77), (5, 400)] {
            acked[at].seen = acked[at].compare(Some(&value(1, seq)));
        }
        let (kind, until_position) = (FindingKind::Payload, None);
        let finding =
            Finding { kind, segment: 0, position: 0, until_position, offset: 20, until: 21 };
        let findings = vec![finding];
        let report = LogReport { log_start: 3, end: 40, findings, ..LogReport::default() };
        history.judge("t", 0, &report);
        let answer = history.answer();
        let counts = (answer.retired, answer.found, answer.moved, answer.damaged, answer.missing);
        // The record at 40 was read behind a torn payload: beyond the end nothing counts.
        assert_eq!((answer.acked, counts), (6, (1, 1, 1, 1, 2)), "{answer}");
        assert!(!answer.is_clean());
    }

    #[test]
    fn a_cut_leaves_out_what_was_acknowledged_later_and_a_lost_log_loses_all() {
        assert_eq!(history(&[0, 1, 2, 3], Some(20)).answer.acked, 3);
        let answer = history(&[0, 1, -1], None).answer();
        assert_eq!((answer.acked, answer.missing), (2, 2));
    }

    #[test]
    fn a_value_without_a_stamp_counts_by_its_offset() {
        let acked = Acked { offset: 0, producer: (3 << 16) + 1, seq: 9, seen: Seen::No };
        assert_eq!(acked.compare(Some(b"plain")), Seen::Yes);
        assert_eq!(acked.compare(Some(&value(1, 9))), Seen::Yes);
        assert_eq!(acked.compare(Some(&value(2, 9))), Seen::Other((3 << 16) + 2, 9));
    }
}
