//! Names of things that cross every floor: logs, shards, topic uuids.
//! Owner: nobody, plain values.
//! Invariant: `shard_of` is a pure function of its arguments; every node computes the same answer.
//! Not here: topic names (`partition/catalog.rs` maps them to numbers).

/// One partition of one topic: the unit that a shard owns and a log stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// This cluster's number of the topic, never reused.
    pub topic_id: u64,
    /// Partition index inside the topic.
    pub partition: u32,
}

impl std::fmt::Display for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic_id, self.partition)
    }
}

/// Identity of a topic across clusters and re-creations; Kafka's topic id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicUuid(pub [u8; 16]);

/// Index of a shard on this node, from 0.
pub type ShardId = u32;

/// Node number × this = the broker id of the node's first shard (Kafka clients see shards as brokers).
pub const BROKERS_PER_NODE: i32 = 1024;

/// The shard that owns `key` on a node with `shard_count` shards.
///
/// Multiply-shift hash of the topic plus the partition, so that the partitions of one topic go round
/// the shards evenly and two topics start at different shards.
#[must_use]
pub fn shard_of(key: LogKey, shard_count: u32) -> ShardId {
    // Fibonacci hashing: the odd constant is 2^64 / golden ratio.
    let start = key.topic_id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let place = start.wrapping_add(u64::from(key.partition));
    let shard = place.checked_rem(u64::from(shard_count)).unwrap_or(0);
    u32::try_from(shard).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_go_round_the_shards() {
        for topic_id in 1..50 {
            let mut owned = [0u32; 4];
            for partition in 0..8 {
                owned[shard_of(LogKey { topic_id, partition }, 4) as usize] += 1;
            }
            assert_eq!(owned, [2, 2, 2, 2], "topic {topic_id}");
        }
    }
}
