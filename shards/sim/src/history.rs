//! Checks the history of real clients: JSON lines of sends, acknowledgements and polls.
//! Owner: `main.rs --check`.
//! Invariant: one pass over the lines, memory in proportion to what was sent.
//! Not here: who wrote it (`ringway-loadgen --history`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines read.
    pub lines: u64,
    /// Records sent.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records polled.
    pub polled: u64,
    /// Acknowledged and never polled, though polls came as far, or should have.
    pub lost: u64,
    /// Polled at two offsets.
    pub duplicated: u64,
    /// Of one producer, polled in another order than sent.
    pub reordered: u64,
    /// Polled and never sent.
    pub phantom: u64,
    /// Offsets that no poll brought, between two that polls brought.
    pub gaps: u64,
    /// Polled at another offset than acknowledged, or two records acknowledged at one offset.
    pub moved: u64,
    /// The first few, told.
    pub examples: Vec<String>,
}

impl Summary {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let wrong = self.lost + self.duplicated + self.reordered;
        wrong + self.phantom + self.gaps + self.moved == 0
    }

    fn wrong(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < 10 {
            self.examples.push(text());
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lines {} sent {} acked {} polled {} lost {} duplicated {} reordered {} phantom {} gaps {} moved {}",
            self.lines,
            self.sent,
            self.acked,
            self.polled,
            self.lost,
            self.duplicated,
            self.reordered,
            self.phantom,
            self.gaps,
            self.moved
        )?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}

/// A record as its producer numbers it.
type Name = (u64, u64);

#[derive(Default)]
struct Partition {
    sent: BTreeSet<Name>,
    acked: BTreeMap<u64, Name>,
    polled: BTreeMap<u64, Name>,
}

/// Checks a history; `whole`: its polls read all there is, so that an acknowledged record before the first
/// of them, or in a partition without any, is lost too.
///
/// # Errors
/// A line that cannot be read.
pub fn check(input: impl BufRead, whole: bool) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let mut partitions: BTreeMap<(String, u64), Partition> = BTreeMap::new();
    for (number, line) in input.lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let row = Row::parse(&line).map_err(|text| format!("line {}: {text}", number + 1))?;
        summary.lines += 1;
        let place = (row.topic.clone(), row.partition);
        let partition = partitions.entry(place).or_default();
        take(row, partition, &mut summary);
    }
    for ((topic, number), partition) in &partitions {
        judge(&format!("{topic}/{number}"), partition, whole, &mut summary);
    }
    Ok(summary)
}

fn take(row: Row, partition: &mut Partition, summary: &mut Summary) {
    let name = (row.producer, row.sequence);
    match (row.op.as_str(), row.offset) {
        ("send", _) => {
            summary.sent += 1;
            partition.sent.insert(name);
        }
        ("ack", Some(offset)) => {
            summary.acked += 1;
            if partition.acked.insert(offset, name).is_some_and(|before| before != name) {
                summary.moved += 1;
                summary.wrong(|| format!("offset {offset} acknowledged for two records"));
            }
        }
        ("poll", Some(offset)) => {
            summary.polled += 1;
            if partition.polled.insert(offset, name).is_some_and(|before| before != name) {
                summary.moved += 1;
                summary.wrong(|| format!("two records polled at offset {offset}"));
            }
        }
        _ => {}
    }
}

fn judge(place: &str, partition: &Partition, whole: bool, summary: &mut Summary) {
    let mut seen: BTreeMap<Name, u64> = BTreeMap::new();
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut before: Option<u64> = None;
    for (offset, name) in &partition.polled {
        if let Some(gap) = before.map(|before| offset - before - 1).filter(|gap| *gap > 0) {
            summary.gaps += gap;
            summary.wrong(|| format!("{place}: {gap} offsets missing before {offset}"));
        }
        before = Some(*offset);
        if !partition.sent.contains(name) {
            summary.phantom += 1;
            summary.wrong(|| format!("{place}: nobody sent {name:?}, polled at {offset}"));
        }
        if let Some(first) = seen.insert(*name, *offset) {
            summary.duplicated += 1;
            summary.wrong(|| format!("{place}: {name:?} polled at {first} and {offset}"));
            continue;
        }
        let last = newest.insert(name.0, name.1);
        if last.is_some_and(|last| last > name.1) {
            summary.reordered += 1;
            summary.wrong(|| format!("{place}: {name:?} polled after {last:?} of its producer"));
        }
    }
    let polled = partition.polled.keys().next().copied().zip(before);
    missing(place, partition, polled, whole, summary);
}

/// What was acknowledged and is not among the offsets polled, from the first to the last of them.
fn missing(
    place: &str,
    partition: &Partition,
    polled: Option<(u64, u64)>,
    whole: bool,
    summary: &mut Summary,
) {
    let (first, last) = match polled {
        Some((first, last)) => (if whole { 0 } else { first }, last),
        None if whole => (0, 0),
        None => return,
    };
    for (offset, name) in partition.acked.range(first..=last) {
        match partition.polled.get(offset) {
            Some(polled) if polled == name => {}
            Some(polled) => {
                summary.moved += 1;
                summary.wrong(|| {
                    format!("{place}: {name:?} acknowledged, {polled:?} polled at {offset}")
                });
            }
            None => {
                summary.lost += 1;
                summary.wrong(|| format!("{place}: {name:?} acknowledged at {offset} is gone"));
            }
        }
    }
    let beyond = partition.acked.range(last + 1..).count() as u64;
    if beyond > 0 {
        summary.lost += beyond;
        summary.wrong(|| format!("{place}: {beyond} acknowledged beyond the last offset polled"));
    }
}

struct Row {
    op: String,
    topic: String,
    partition: u64,
    producer: u64,
    sequence: u64,
    offset: Option<u64>,
}

impl Row {
    /// Reads one flat JSON object of strings and numbers; anything deeper is refused.
    fn parse(line: &str) -> Result<Row, String> {
        let fields = flat_object(line)?;
        let text =
            |name: &str| fields.get(name).cloned().ok_or_else(|| format!("{name} is missing"));
        let number = |name: &str| {
            text(name).and_then(|value| value.parse().map_err(|_| format!("{name}: {value}")))
        };
        Ok(Row {
            op: text("op")?,
            topic: text("topic")?,
            partition: number("partition")?,
            producer: number("producer")?,
            sequence: number("seq")?,
            offset: number("offset").ok(),
        })
    }
}

fn flat_object(line: &str) -> Result<BTreeMap<String, String>, String> {
    let inner = line.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.ok_or("not an object")?;
    let mut fields = BTreeMap::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (name, after) = string(rest)?;
        let after = after.trim_start().strip_prefix(':').ok_or("a colon is missing")?.trim_start();
        let (value, after) = if after.starts_with('"') {
            string(after)?
        } else {
            let end = after.find(',').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        fields.insert(name, value);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Ok(fields)
}

fn string(text: &str) -> Result<(String, &str), String> {
    let rest = text.strip_prefix('"').ok_or("a string is missing")?;
    let end = rest.find('"').ok_or("a string does not end")?;
    if rest[..end].contains('\\') {
        return Err("escapes are not used in histories".to_owned());
    }
    Ok((rest[..end].to_owned(), &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(rows: &[(&str, u64, u64, i64)]) -> Summary {
        judged(rows, false)
    }

    fn judged(rows: &[(&str, u64, u64, i64)], whole: bool) -> Summary {
        let line = |(op, producer, seq, offset): &(&str, u64, u64, i64)| {
            format!(
                "{{\"op\":\"{op}\",\"topic\":\"t\",\"partition\":0,\"producer\":{producer},\"seq\":{seq},\"offset\":{offset},\"t_us\":1}}\n"
            )
        };
        let text: String = rows.iter().map(line).collect();
        check(text.as_bytes(), whole).unwrap()
    }

    #[test]
    fn a_right_history_is_clean() {
        let summary = history(&[("send", 1, 0, -1), ("ack", 1, 0, 0), ("poll", 1, 0, 0)]);
        assert!(summary.is_clean(), "{summary}");
        assert_eq!((summary.sent, summary.acked, summary.polled), (1, 1, 1));
    }

    #[test]
    fn each_kind_of_wrong_is_told_apart() {
        let sent = [("send", 1, 0, -1), ("send", 1, 1, -1)];
        let with = |more: &[(&'static str, u64, u64, i64)]| {
            let mut rows = sent.to_vec();
            rows.extend_from_slice(more);
            history(&rows)
        };
        assert_eq!(with(&[("ack", 1, 0, 0), ("ack", 1, 1, 1), ("poll", 1, 0, 0)]).lost, 1);
        assert_eq!(with(&[("poll", 1, 0, 0), ("poll", 1, 0, 1)]).duplicated, 1);
        assert_eq!(with(&[("poll", 1, 1, 0), ("poll", 1, 0, 1)]).reordered, 1);
        assert_eq!(with(&[("poll", 9, 9, 0)]).phantom, 1);
        assert_eq!(with(&[("poll", 1, 0, 0), ("poll", 1, 1, 5)]).gaps, 4);
        assert_eq!(with(&[("ack", 1, 0, 0), ("poll", 1, 1, 0)]).moved, 1);
    }

    #[test]
    fn polls_of_everything_miss_nothing_at_either_end() {
        let rows = [("send", 1, 0, -1), ("ack", 1, 0, 0), ("send", 1, 1, -1), ("ack", 1, 1, 1)];
        assert_eq!(history(&rows).lost, 0);
        assert_eq!(judged(&rows, true).lost, 2);
        let with = [&rows[..], &[("poll", 1, 1, 1)]].concat();
        assert_eq!(history(&with).lost, 0);
        assert_eq!(judged(&with, true).lost, 1);
    }
}
