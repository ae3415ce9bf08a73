//! Counters of one shard: written by that shard alone, read by anyone.
//! Owner: the shard loop.
//! Invariant: relaxed stores by one writer; no reader ever slows a shard.
//! Not here: names and sums for the outside (`src/metrics.rs`).

use ringway_doors::session::DoorCounts;
use ringway_partition::shard::ShardCounts;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the flush latency buckets, ns: 10 µs to 30 s; the last counts everything above.
pub const FLUSH_BUCKETS_NS: [u64; 20] = [
    10_000,
    20_000,
    50_000,
    75_000,
    100_000,
    150_000,
    200_000,
    300_000,
    500_000,
    750_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];

/// Counts of the runtime itself since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// Calls of io_uring_enter.
    pub enters: u64,
    /// Operations submitted.
    pub sqes: u64,
    /// Completions reaped.
    pub cqes: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused for want of descriptors or above the limit.
    pub connections_refused: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Of them, bytes sent straight from blocks of the log.
    pub bytes_by_reference: u64,
    /// Receives completed.
    pub receives: u64,
    /// Sends completed.
    pub sends: u64,
    /// Disk operations failed.
    pub disk_errors: u64,
    /// Bytes written to disk.
    pub disk_bytes_written: u64,
    /// Bytes read from disk.
    pub disk_bytes_read: u64,
    /// Writes, reads and flushes submitted and not completed.
    pub disk_in_flight: u64,
    /// Pooled blocks nobody holds.
    pub blocks_free: u64,
    /// Pooled blocks.
    pub blocks_total: u64,
    /// Durable writes and flushes completed.
    pub flushes: u64,
    /// Sum of their latencies, ns.
    pub flush_ns: u64,
    /// By latency, bounds in [`FLUSH_BUCKETS_NS`].
    pub flush_buckets: [u64; FLUSH_BUCKETS_NS.len()],
}

impl RingCounts {
    /// Counts one durable write or flush.
    pub fn flushed(&mut self, ns: u64) {
        self.flushes += 1;
        self.flush_ns += ns;
        let bucket = FLUSH_BUCKETS_NS.iter().position(|bound| ns <= *bound);
        if let Some(bucket) = bucket {
            self.flush_buckets[bucket] += 1;
        }
    }
}

/// What a reader gets: all counts of one shard at about one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValues {
    /// Of the logic.
    pub shard: ShardCounts,
    /// Of the doors.
    pub doors: DoorCounts,
    /// Of the runtime.
    pub ring: RingCounts,
}

macro_rules! fields {
    ($($($part:ident).+,)+) => {
        /// Single counts of [`CounterValues`]; the flush buckets come behind them.
        const FIELDS: usize = [$(stringify!($($part).+)),+].len();

        impl ShardCounters {
            /// Copies all counts; called by the owning shard alone, about once a turn.
            pub fn publish(&self, values: &CounterValues) {
                let mut words = self.words.iter();
                $(store(&mut words, values.$($part).+);)+
                for bucket in values.ring.flush_buckets {
                    store(&mut words, bucket);
                }
            }

            /// All counts as of about now; any thread may ask at any time.
            #[must_use]
            pub fn values(&self) -> CounterValues {
                let mut words = self.words.iter();
                let mut values = CounterValues::default();
                $(values.$($part).+ = load(&mut words);)+
                for bucket in &mut values.ring.flush_buckets {
                    *bucket = load(&mut words);
                }
                values
            }
        }
    };
}

fields! {
    shard.log.appended_batches,
    shard.log.appended_records,
    shard.log.appended_bytes,
    shard.log.written_bytes,
    shard.log.group_writes,
    shard.log.cold_read_bytes,
    shard.log.tail_read_bytes,
    shard.log.rolls,
    shard.log.retired_segments,
    shard.log.dropped_batches,
    shard.log.quarantined,
    shard.log.scrubbed_bytes,
    shard.log.scrub_found,
    shard.log.scrub_passes,
    shard.log.poisoned,
    shard.log.full,
    shard.log.stalled,
    shard.log.tail_bytes,
    shard.log.recovered,
    shard.log.scanned_bytes,
    shard.log.torn_headers,
    shard.log.torn_payloads,
    shard.log.forged_headers,
    shard.log.stale_headers,
    shard.log.unusable_checkpoints,
    shard.produced_batches,
    shard.duplicate_batches,
    shard.refused_batches,
    shard.fetched_records,
    shard.skipped_records,
    shard.fetched_bytes,
    shard.foreign_requests,
    shard.waiting_rows,
    shard.groups,
    doors.kafka_requests,
    doors.native_frames,
    doors.kafka_foreign_requests,
    doors.malformed,
    doors.unknown_protocol,
    doors.unsupported,
    doors.produce_records,
    ring.enters,
    ring.sqes,
    ring.cqes,
    ring.connections_accepted,
    ring.connections_refused,
    ring.connections_open,
    ring.bytes_in,
    ring.bytes_out,
    ring.bytes_by_reference,
    ring.receives,
    ring.sends,
    ring.disk_errors,
    ring.disk_bytes_written,
    ring.disk_bytes_read,
    ring.disk_in_flight,
    ring.blocks_free,
    ring.blocks_total,
    ring.flushes,
    ring.flush_ns,
}

const WORDS: usize = FIELDS + FLUSH_BUCKETS_NS.len();

/// One shard's counters. Aligned to two cache lines: the prefetcher fetches pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardCounters {
    words: [AtomicU64; WORDS],
}

impl Default for ShardCounters {
    fn default() -> ShardCounters {
        ShardCounters { words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

fn store(words: &mut std::slice::Iter<'_, AtomicU64>, value: u64) {
    if let Some(word) = words.next() {
        word.store(value, Ordering::Relaxed);
    }
}

fn load(words: &mut std::slice::Iter<'_, AtomicU64>) -> u64 {
    words.next().map_or(0, |word| word.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_word() {
        let missing = "a count was added elsewhere: name it in `fields!`";
        assert_eq!(size_of::<CounterValues>(), WORDS * 8, "{missing}");
    }

    #[test]
    fn what_is_published_is_read() {
        let counters = ShardCounters::default();
        let mut values = CounterValues::default();
        values.shard.log.appended_batches = 1;
        values.doors.produce_records = 2;
        values.ring.flushed(9_000);
        values.ring.flushed(29_000_000_000);
        values.ring.flushed(31_000_000_000);
        counters.publish(&values);
        assert_eq!(counters.values(), values);
        assert_eq!(values.ring.flush_buckets[0], 1);
        assert_eq!(values.ring.flush_buckets[19], 1);
        assert_eq!(values.ring.flushes, 3);
    }
}
