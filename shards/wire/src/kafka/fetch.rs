//! Fetch, versions 4 to 18, without allocation: the request.
//! Owner: nobody; the request borrows its frame.
//! Invariant: a request exists only when its whole frame was walked.
//! Not here: sessions, waiting, the answer (`doors`, `partition`).

use super::api::{Api, FETCH};
use super::primitives::{DecodeError, Reader};
use super::topic_ref::TopicRef;

/// A Fetch request.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// ms.
    pub max_wait_ms: i32,
    /// Bytes to wait for.
    pub min_bytes: i32,
    /// Bytes at most.
    pub max_bytes: i32,
    /// 1 = committed transactions only.
    pub isolation_level: i8,
    /// 0 = none, or a new one (v7+).
    pub session_id: i32,
    /// −1 = no session, 0 = a new one (v7+).
    pub session_epoch: i32,
    /// Topics named.
    pub topics: u32,
    /// Partitions that the session is to forget.
    pub forgotten: u32,
    /// Where the client is (v11+).
    pub rack_id: &'a str,
    topics_at: Reader<'a>,
    version: i16,
    flexible: bool,
}

/// One partition of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition<'a> {
    /// Its topic.
    pub topic: TopicRef<'a>,
    /// Which topic of the request, from 0.
    pub topic_place: u32,
    /// Partitions of this topic in the request.
    pub topic_partitions: u32,
    /// Partition index.
    pub partition: i32,
    /// The client's leader epoch, −1 = no check (v9+).
    pub current_leader_epoch: i32,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// Epoch of the last record the client has, −1 = unknown (v12+).
    pub last_fetched_epoch: i32,
    /// Bytes at most of this partition.
    pub partition_max_bytes: i32,
}

impl<'a> FetchRequest<'a> {
    /// Walks the whole request whose body begins at byte `at` of `frame`.
    ///
    /// # Errors
    /// [`DecodeError`]: the connection is to be closed.
    pub fn parse(
        frame: &'a [u8],
        at: usize,
        version: i16,
    ) -> Result<FetchRequest<'a>, DecodeError> {
        let flexible = match Api::of(FETCH) {
            Some(api) if api.serves(version) => api.is_flexible(version),
            _ => return Err(DecodeError::NotServed { key: FETCH, version }),
        };
        let mut reader = Reader::new(frame, at);
        if version <= 14 {
            // The replica's id; only brokers send another than −1, and none of them talks to us this way.
            reader.i32()?;
        }
        let max_wait_ms = reader.i32()?;
        let min_bytes = reader.i32()?;
        let max_bytes = reader.i32()?;
        let isolation_level = reader.i8()?;
        let (session_id, session_epoch) =
            if version >= 7 { (reader.i32()?, reader.i32()?) } else { (0, -1) };
        let topics = reader.count(flexible, topic_least(version, flexible))?;
        let topics = topics.ok_or(DecodeError::Null { at: reader.at() })?;
        let mut request = FetchRequest {
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            topics,
            forgotten: 0,
            rack_id: "",
            topics_at: reader,
            version,
            flexible,
        };
        let mut walk = request.partitions();
        while let Some(partition) = walk.try_next() {
            partition?;
        }
        request.parse_tail(walk.reader)?;
        Ok(request)
    }

    fn parse_tail(&mut self, mut reader: Reader<'a>) -> Result<(), DecodeError> {
        let (version, flexible) = (self.version, self.flexible);
        if version >= 7 {
            let topics = reader.count(flexible, topic_least(version, flexible))?.unwrap_or(0);
            for _ in 0..topics {
                TopicRef::read(&mut reader, version, flexible)?;
                let partitions = reader.count(flexible, 4)?.unwrap_or(0);
                for _ in 0..partitions {
                    reader.i32()?;
                }
                reader.skip_tags(flexible)?;
                self.forgotten = self.forgotten.saturating_add(partitions);
            }
        }
        if version >= 11 {
            self.rack_id = reader.nullable_string(flexible)?.unwrap_or_default();
        }
        reader.skip_tags(flexible)?;
        reader.end()
    }

    /// Its partitions in order.
    #[inline]
    #[must_use]
    pub fn partitions(&self) -> FetchPartitions<'a> {
        FetchPartitions {
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

/// Bytes of the smallest partition.
const fn partition_least(version: i16) -> usize {
    match version {
        // Index, offset, size.
        ..=4 => 16,
        // And the log start,
        5..=8 => 24,
        // the leader epoch,
        9..=11 => 28,
        // the last epoch fetched and tags.
        _ => 33,
    }
}

/// Walks the partitions of a Fetch request.
#[derive(Clone, Copy, Debug)]
pub struct FetchPartitions<'a> {
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

impl<'a> FetchPartitions<'a> {
    #[inline]
    fn try_next(&mut self) -> Option<Result<FetchPartition<'a>, DecodeError>> {
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
        let count = self.reader.count(self.flexible, partition_least(self.version))?;
        self.topic_partitions = count.ok_or(DecodeError::Null { at: self.reader.at() })?;
        self.partitions_left = self.topic_partitions;
        self.topics_begun = self.topics_begun.saturating_add(1);
        self.in_topic = true;
        Ok(())
    }

    #[inline]
    fn partition(&mut self) -> Result<FetchPartition<'a>, DecodeError> {
        let reader = &mut self.reader;
        let version = self.version;
        let partition = reader.i32()?;
        let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
        let fetch_offset = reader.i64()?;
        let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
        if version >= 5 {
            // The follower's log start.
            reader.i64()?;
        }
        let partition_max_bytes = reader.i32()?;
        reader.skip_tags(self.flexible)?;
        Ok(FetchPartition {
            topic: self.topic,
            topic_place: self.topics_begun.saturating_sub(1),
            topic_partitions: self.topic_partitions,
            partition,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            partition_max_bytes,
        })
    }
}

impl<'a> Iterator for FetchPartitions<'a> {
    type Item = FetchPartition<'a>;

    #[inline]
    fn next(&mut self) -> Option<FetchPartition<'a>> {
        // `parse` has walked the same bytes: there is no error left to find.
        self.try_next()?.ok()
    }
}

#[cfg(test)]
mod tests;
