//! One connection of `consume`: a fetch in flight for each of its partitions. A partition that cannot be read
//! further stops with the reason; the others go on.

use super::super::server::{Connection, unexpected};
use super::Place;
use crate::config::units;
use crate::refusal::Refusal;
use bytes::Bytes;
use ringway_client::native::{
    At, DescribeTopicReply, Fetch, ListOffsets, NamedOffset, NativeReply, QuarantineDescription,
};
use ringway_client::records;
use ringway_wire::error_code::ErrorCode;
use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Bytes of one fetch at most.
const FETCH_BYTES: u32 = 1 << 20;
/// How long the broker may hold a fetch for which it has nothing.
const WAIT: Duration = Duration::from_millis(1_000);
/// The same where several partitions share a connection and answer in turn.
const WAIT_SHARED: Duration = Duration::from_millis(100);

/// What a reader brings.
pub(super) enum Brought {
    /// Frames of a partition, and the first offset due of them.
    Frames(u32, u64, Bytes),
    /// A partition cannot be read further.
    Stopped(String),
    /// The connection is lost.
    Lost(Refusal),
}

/// The printer has had enough.
struct Enough;

/// What comes next for a partition.
enum Next {
    Fetch,
    /// It has come to its end.
    End,
    /// Answered later.
    Asked,
    Stop(String),
}

/// See the module.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) topic: String,
    pub(super) topic_id: u64,
    /// Longer than this nobody waits for records that are there.
    pub(super) timeout: Duration,
    /// Partition by correlation.
    pub(super) asked: BTreeMap<u64, u32>,
    pub(super) places: BTreeMap<u32, Place>,
}

impl Reader {
    /// Reads until every partition has come to its end or stopped.
    pub(super) fn run(mut self, bring: &SyncSender<Brought>) {
        if let Err(refusal) = self.read(bring) {
            // The printer may have had enough already.
            drop(bring.send(Brought::Lost(refusal)));
        }
    }

    fn read(&mut self, bring: &SyncSender<Brought>) -> Result<(), Refusal> {
        let partitions: Vec<u32> = self.places.keys().copied().collect();
        for partition in partitions {
            self.ask(partition)?;
        }
        while !self.asked.is_empty() {
            self.connection.flush()?;
            let reply = self.connection.reply()?;
            let partition = self.asked.remove(&reply.correlation());
            let partition = partition.ok_or_else(|| unexpected(&reply))?;
            let Ok(next) = self.answered(partition, reply, bring)? else { return Ok(()) };
            match next {
                Next::Fetch => self.ask(partition)?,
                Next::Asked => {}
                Next::End => {
                    self.places.remove(&partition);
                }
                Next::Stop(why) => {
                    self.places.remove(&partition);
                    if bring.send(Brought::Stopped(why)).is_err() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        partition: u32,
        reply: NativeReply,
        bring: &SyncSender<Brought>,
    ) -> Result<Result<Next, Enough>, Refusal> {
        Ok(Ok(match reply {
            NativeReply::Fetched { frames, .. } => {
                let from = self.places.get(&partition).map_or(0, |place| place.next);
                let next = self.advance(partition, &frames)?;
                if !frames.is_empty()
                    && bring.send(Brought::Frames(partition, from, frames)).is_err()
                {
                    return Ok(Err(Enough));
                }
                next
            }
            NativeReply::Error { code: ErrorCode::OffsetOutOfRange, .. } => {
                let at = At::Named(NamedOffset::Earliest);
                let request = ListOffsets { topic_id: self.topic_id, partition, at };
                let queued =
                    self.connection.queue(|session, out| session.list_offsets(out, &request))?;
                self.asked.insert(queued, partition);
                Next::Asked
            }
            NativeReply::Offset { reply, .. } => self.begin_anew(partition, reply.offset),
            NativeReply::Error { code: ErrorCode::CorruptMessage, .. } => {
                let topic = &self.topic;
                let queued =
                    self.connection.queue(|session, out| session.describe_topic(out, topic))?;
                self.asked.insert(queued, partition);
                Next::Asked
            }
            NativeReply::TopicDescribed { reply, .. } => {
                let offset = self.places.get(&partition).map_or(0, |place| place.next);
                Next::Stop(damage_text(&reply, partition, offset))
            }
            NativeReply::Error { code, message, .. } => {
                let (topic, code) = (&self.topic, code.name());
                let offset = self.places.get(&partition).map_or(0, |place| place.next);
                Next::Stop(format!("{topic}/{partition}: at offset {offset}: {message} ({code})"))
            }
            reply => return Err(unexpected(&reply)),
        }))
    }

    fn ask(&mut self, partition: u32) -> Result<(), Refusal> {
        let Some(place) = self.places.get(&partition) else { return Ok(()) };
        let wait = if self.places.len() > 1 { WAIT_SHARED } else { WAIT };
        // The answer has to come while the connection still waits for it.
        let wait = wait.min(self.timeout / 2);
        let request = Fetch {
            topic_id: self.topic_id,
            partition,
            offset: place.next,
            bytes_max: FETCH_BYTES,
            bytes_min: 1,
            wait_ms_max: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let correlation = self.connection.queue(|session, out| session.fetch(out, &request))?;
        self.asked.insert(correlation, partition);
        Ok(())
    }

    /// Moves behind `frames`; what is there and does not come is waited for no longer than the command is
    /// patient.
    fn advance(&mut self, partition: u32, frames: &[u8]) -> Result<Next, Refusal> {
        let Some(place) = self.places.get_mut(&partition) else { return Ok(Next::End) };
        let before = place.next;
        for frame in records::frames(frames) {
            let (header, _) = frame.map_err(|error| Refusal::failed("fetched frame", &error))?;
            let end = header.last_offset().map_or(0, |last| last.saturating_add(1));
            place.next = place.next.max(end);
        }
        let Some(upto) = place.upto else { return Ok(Next::Fetch) };
        if place.next >= upto {
            return Ok(Next::End);
        }
        if place.next > before {
            place.stands_since = None;
            return Ok(Next::Fetch);
        }
        if place.stands_since.get_or_insert_with(Instant::now).elapsed() < self.timeout {
            return Ok(Next::Fetch);
        }
        let (topic, limit) = (&self.topic, units::show_duration(self.timeout));
        Ok(Next::Stop(format!(
            "{topic}/{partition}: the broker gives nothing at offset {before} of {upto} since {limit} (--timeout)"
        )))
    }

    /// Retention took the offset away, or it was never there: on from what is kept, if that lies ahead.
    fn begin_anew(&mut self, partition: u32, start: i64) -> Next {
        let Some(place) = self.places.get_mut(&partition) else { return Next::End };
        let start = u64::try_from(start).unwrap_or(0);
        if start <= place.next {
            let (topic, next) = (&self.topic, place.next);
            return Next::Stop(format!("{topic}/{partition}: has no offset {next} yet"));
        }
        place.next = start;
        Next::Fetch
    }
}

/// What is damaged at `offset`, as far as the broker tells, and what to do.
fn damage_text(topic: &DescribeTopicReply, partition: u32, offset: u64) -> String {
    let name = &topic.name;
    let ranges = topic.partitions.iter().filter(|row| row.partition == partition);
    let mut ranges = ranges.flat_map(|row| &row.quarantined);
    let range = ranges.find(|range| range.from <= offset && offset < range.to);
    let (what, behind) = match range {
        Some(QuarantineDescription { from, to, reason, found_by, .. }) => (
            format!("offsets {from}..{to} are quarantined ({reason}, found by {found_by})"),
            format!("read on behind it (-p {partition} --from offset:{to}), "),
        ),
        None => ("its range is not known".to_owned(), String::new()),
    };
    format!(
        "{name}/{partition}: offset {offset} is damaged: {what}; {behind}let all consumers pass \
         (ringway topic set {name} on_quarantine=skip) or repair the log (ringway log repair): docs/operating.md, \"Damaged data\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_client::native::PartitionDescription;

    #[test]
    fn damage_is_told_with_its_range_and_the_remedy() {
        let range = QuarantineDescription {
            from: 4,
            to: 7,
            reason: "payload".to_owned(),
            found_by: "read".to_owned(),
            ..QuarantineDescription::default()
        };
        let row = PartitionDescription {
            partition: 2,
            quarantined: vec![range],
            ..PartitionDescription::default()
        };
        let topic = DescribeTopicReply {
            name: "t".to_owned(),
            partitions: vec![row],
            ..DescribeTopicReply::default()
        };
        let text = damage_text(&topic, 2, 5);
        for word in
            ["t/2", "offset 5 ", "4..7", "payload", "--from offset:7", "set t on_quarantine=skip"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
        for (partition, offset) in [(2, 7), (2, 3), (1, 5)] {
            let text = damage_text(&topic, partition, offset);
            assert!(text.contains("not known") && !text.contains("4..7"), "{text}");
        }
    }
}
