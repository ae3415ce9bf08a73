//! The Redis door: a stream per partition, a request is `batch` pipelined XADDs.

use super::{Answer, Chunk, FETCH_WAIT_MS, Position};
use crate::record::Head;
use crate::resp::{self, Replies, Value};
use crate::template::BatchTemplate;
use std::collections::VecDeque;

/// Stream key of a partition.
pub(crate) fn stream_key(topic: &str, partition: u32) -> Vec<u8> {
    format!("{topic}-{partition}").into_bytes()
}

/// Appends entries.
pub(crate) struct RedisProduce {
    topic: String,
    template: BatchTemplate,
    replies: Replies,
    next_correlation: u64,
    /// Correlation, answers missing, first refusal.
    waiting: VecDeque<(u64, usize, Option<String>)>,
}

impl RedisProduce {
    /// On a fresh connection.
    pub(crate) fn new(topic: &str, template: BatchTemplate) -> RedisProduce {
        RedisProduce {
            topic: topic.to_owned(),
            template,
            replies: Replies::default(),
            next_correlation: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn send(&mut self, partition: u32, first: Head, out: &mut Vec<u8>) -> u64 {
        let key = stream_key(&self.topic, partition);
        let count = self.template.count();
        for value in self.template.fill_values(first) {
            resp::xadd(&key, value, out);
        }
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        self.waiting.push_back((correlation, count, None));
        correlation
    }

    pub(super) fn receive(&mut self, data: &[u8]) {
        self.replies.receive(data);
    }

    pub(super) fn next_answer(&mut self) -> anyhow::Result<Option<Answer>> {
        while let Some(value) = self.replies.next_value()? {
            let Some((_, missing, refusal)) = self.waiting.front_mut() else {
                anyhow::bail!("Redis answered something that was not asked");
            };
            *missing -= 1;
            if let Value::Error(text) = value {
                refusal.get_or_insert_with(|| text.escape_ascii().to_string());
            }
            if *missing > 0 {
                continue;
            }
            if let Some((correlation, _, refusal)) = self.waiting.pop_front() {
                return Ok(Some(match refusal {
                    Some(why) => Answer::Refused { correlation, why },
                    None => Answer::Acked { correlation, offset: -1 },
                }));
            }
        }
        Ok(None)
    }
}

/// Reads entries of all streams of the connection in one request.
pub(crate) struct RedisConsume {
    topic: String,
    entries_max: usize,
    asked: bool,
    replies: Replies,
    ready: VecDeque<Chunk>,
}

impl RedisConsume {
    /// On a fresh connection; entries per request are as many as `fetch_bytes` holds.
    pub(crate) fn new(topic: &str, fetch_bytes: u32, size: usize) -> RedisConsume {
        let fetch_bytes = usize::try_from(fetch_bytes).unwrap_or(usize::MAX);
        RedisConsume {
            topic: topic.to_owned(),
            entries_max: (fetch_bytes / size.max(1)).clamp(1, 10_000),
            asked: false,
            replies: Replies::default(),
            ready: VecDeque::new(),
        }
    }

    pub(super) fn ask(&mut self, positions: &mut [Position], now_ns: u64, out: &mut Vec<u8>) {
        let early = positions.iter().any(|position| position.not_before_ns > now_ns);
        if self.asked || early || positions.is_empty() {
            return;
        }
        let keys: Vec<Vec<u8>> =
            positions.iter().map(|p| stream_key(&self.topic, p.partition)).collect();
        let asked: Vec<(&[u8], &[u8])> =
            keys.iter().zip(&*positions).map(|(key, p)| (&key[..], &p.id[..])).collect();
        resp::xread(&asked, self.entries_max, u64::from(FETCH_WAIT_MS), out);
        self.asked = true;
        for position in positions {
            position.asked = true;
        }
    }

    pub(super) fn receive(&mut self, data: &[u8]) {
        self.replies.receive(data);
    }

    pub(super) fn next_chunk(&mut self) -> anyhow::Result<Option<Chunk>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Ok(Some(chunk));
        }
        let Some(value) = self.replies.next_value()? else { return Ok(None) };
        self.asked = false;
        for (key, entries) in resp::entries(value)? {
            let partition = std::str::from_utf8(&key).ok().and_then(|key| key.rsplit_once('-'));
            let Some(partition) = partition.and_then(|(_, number)| number.parse().ok()) else {
                anyhow::bail!("Redis names a stream {} that was not asked", key.escape_ascii());
            };
            self.ready.push_back(Chunk::Entries { partition, entries });
        }
        self.ready.push_back(Chunk::Answered);
        Ok(self.ready.pop_front())
    }
}
