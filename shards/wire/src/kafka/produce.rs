//! Produce, versions 3 to 13, without allocation: where each partition's records lie.
//! Owner: nobody; the request borrows its frame.
//! Invariant: a request exists only when its whole frame was walked; its partitions then read without error.
//! Not here: what is in the records (`batch.rs`), the answer (`doors`).

use super::api::{Api, PRODUCE};
use super::primitives::{DecodeError, Reader};
use super::topic_ref::TopicRef;
use std::ops::Range;

/// A Produce request.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRequest<'a> {
    /// Transactional producers name themselves.
    pub transactional_id: Option<&'a str>,
    /// 0, 1 or −1; others are the door's to refuse.
    pub acks: i16,
    /// How long the client waits, ms.
    pub timeout_ms: i32,
    /// Topics named.
    pub topics: u32,
    topics_at: Reader<'a>,
    version: i16,
    flexible: bool,
}

/// One partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition<'a> {
    /// Its topic.
    pub topic: TopicRef<'a>,
    /// Which topic of the request, from 0.
    pub topic_place: u32,
    /// Partitions of this topic in the request.
    pub topic_partitions: u32,
    /// Partition index.
    pub partition: i32,
    /// Where in the frame its records lie; empty when null.
    pub records: Range<usize>,
}

impl<'a> ProduceRequest<'a> {
    /// Walks the whole request whose body begins at byte `at` of `frame`.
    ///
    /// # Errors
    /// [`DecodeError`]: the connection is to be closed.
    #[inline]
    pub fn parse(
        frame: &'a [u8],
        at: usize,
        version: i16,
    ) -> Result<ProduceRequest<'a>, DecodeError> {
        let flexible = match Api::of(PRODUCE) {
            Some(api) if api.serves(version) => api.is_flexible(version),
            _ => return Err(DecodeError::NotServed { key: PRODUCE, version }),
        };
        let mut reader = Reader::new(frame, at);
        let transactional_id = reader.nullable_string(flexible)?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let least = topic_least(version, flexible);
        let topics = reader.count(flexible, least)?.ok_or(DecodeError::Null { at: reader.at() })?;
        let topics_at = reader;
        let request = ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            topics,
            topics_at,
            version,
            flexible,
        };
        let mut walk = request.partitions();
        while let Some(partition) = walk.try_next() {
            partition?;
        }
        walk.reader.skip_tags(flexible)?;
        walk.reader.end()?;
        Ok(request)
    }

    /// Its partitions in order.
    #[inline]
    #[must_use]
    pub fn partitions(&self) -> ProducePartitions<'a> {
        ProducePartitions {
            reader: self.topics_at,
            version: self.version,
            flexible: self.flexible,
            topics_left: self.topics,
            topic: TopicRef::Name(""),
            topics_begun: 0,
            topic_partitions: 0,
            partitions_left: 0,
            in_topic: false,
        }
    }
}

/// Bytes of the smallest topic: its reference, a count, tags.
const fn topic_least(version: i16, flexible: bool) -> usize {
    TopicRef::least(version, flexible).saturating_add(if flexible { 2 } else { 4 })
}

/// Walks the partitions of a Produce request.
#[derive(Clone, Copy, Debug)]
pub struct ProducePartitions<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    topics_left: u32,
    topic: TopicRef<'a>,
    topics_begun: u32,
    topic_partitions: u32,
    partitions_left: u32,
    in_topic: bool,
}

impl<'a> ProducePartitions<'a> {
    #[inline]
    fn try_next(&mut self) -> Option<Result<ProducePartition<'a>, DecodeError>> {
        // Topics without partitions are passed over, hence a loop.
        loop {
            if let Some(left) = self.partitions_left.checked_sub(1) {
                self.partitions_left = left;
                return Some(self.partition());
            }
            if self.in_topic {
                self.in_topic = false;
                if let Err(error) = self.reader.skip_tags(self.flexible) {
                    return Some(Err(error));
                }
            }
            self.topics_left = self.topics_left.checked_sub(1)?;
            if let Err(error) = self.begin_topic() {
                self.topics_left = 0;
                return Some(Err(error));
            }
        }
    }

    #[inline]
    fn begin_topic(&mut self) -> Result<(), DecodeError> {
        self.topic = TopicRef::read(&mut self.reader, self.version, self.flexible)?;
        // Index, length of the records, tags.
        let least = if self.flexible { 6 } else { 8 };
        let count = self.reader.count(self.flexible, least)?;
        self.topic_partitions = count.ok_or(DecodeError::Null { at: self.reader.at() })?;
        self.partitions_left = self.topic_partitions;
        self.topics_begun = self.topics_begun.saturating_add(1);
        self.in_topic = true;
        Ok(())
    }

    #[inline]
    fn partition(&mut self) -> Result<ProducePartition<'a>, DecodeError> {
        let partition = self.reader.i32()?;
        let records = self.reader.bytes_range(self.flexible)?.unwrap_or_default();
        self.reader.skip_tags(self.flexible)?;
        Ok(ProducePartition {
            topic: self.topic,
            topic_place: self.topics_begun.saturating_sub(1),
            topic_partitions: self.topic_partitions,
            partition,
            records,
        })
    }
}

impl<'a> Iterator for ProducePartitions<'a> {
    type Item = ProducePartition<'a>;

    #[inline]
    fn next(&mut self) -> Option<ProducePartition<'a>> {
        // `parse` has walked the same bytes: there is no error left to find.
        self.try_next()?.ok()
    }
}

#[cfg(test)]
mod tests;
