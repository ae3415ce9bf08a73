//! `[log]`: memory, flushes, checkpoints, the scrub.

use super::keys::{Keys, number32};

/// A shard cannot work in less: receive buffers, open groups and cold reads need blocks.
pub(crate) const SHARD_BYTES_MIN: u64 = 24 << 20;
/// `[kafka.broker]` has a key for the same.
pub(super) const SEGMENT_BYTES: &str = "log.segment_bytes";

/// Whether something the host may lack is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// When it is there.
    Prefer,
    /// Or the start fails.
    Require,
    /// Never.
    Off,
}

const USES: [(&str, Use); 3] =
    [("prefer", Use::Prefer), ("require", Use::Require), ("off", Use::Off)];

/// `[log]`
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// Roll limit of topics that do not say; `None` = what `[kafka.broker]` says.
    pub(crate) segment_bytes: Option<u64>,
    /// Memory of all shards together; `None` = a quarter of the host, at most 1 GiB per shard.
    pub(crate) memory_bytes_max: Option<u64>,
    /// O_DIRECT.
    pub(crate) direct_io: Use,
    /// Largest flush group.
    pub(crate) flush_group_bytes_max: u32,
    /// Between two checkpoints of a shard.
    pub(crate) checkpoint_interval_ms: u64,
    /// A write older than this has stalled.
    pub(crate) io_stall_ms: u64,
    /// Every sealed segment is read once in this time; 0 = never.
    pub(crate) scrub_interval_h: u64,
    /// For it, all shards together.
    pub(crate) scrub_bytes_per_s_max: u64,
}

impl Log {
    pub(super) fn read(keys: &mut Keys) -> Log {
        let memory_bytes_max = keys.auto_size(
            (
                "log.memory_bytes_max",
                "Block memory of all shards; `auto` = min(1/4 of RAM or cgroup limit, 1GiB × shards).",
            ),
            SHARD_BYTES_MIN..=(1 << 44),
        );
        let direct_io = keys.choice(
            (
                "log.direct_io",
                "O_DIRECT: `prefer` warns where the file system has none, `require` refuses.",
            ),
            &USES,
        );
        let flush_group_bytes_max = keys.size(
            ("log.flush_group_bytes_max", "Bytes of one log that share a flush at most."),
            4 << 20,
            (128 << 10)..=(64 << 20),
        );
        let checkpoint_interval_ms = keys.integer(
            (
                "log.checkpoint_interval_ms",
                "Between two checkpoints of a shard; longer = longer scans after a crash.",
            ),
            1_000,
            100..=60_000,
        );
        let io_stall_ms = keys.integer(
            (
                "log.io_stall_ms",
                "A write not answered for so long counts in `ringway_log_stalled`; its clients wait on.",
            ),
            30_000,
            100..=600_000,
        );
        let (scrub_interval_h, scrub_bytes_per_s_max) = Log::read_scrub(keys);
        let segment_bytes = keys.auto_size(
            (
                SEGMENT_BYTES,
                "A segment is closed at this size; `auto` = `kafka.broker.log.segment.bytes`.",
            ),
            (1 << 20)..=(i32::MAX as u64),
        );
        keys.choice(
            (
                "log.registered_buffers",
                "Buffers registered with the kernel; this version registers none.",
            ),
            &[("prefer", ()), ("off", ())],
        );
        keys.choice(
            ("log.flush_scope", "What a flush covers: `log` = the writes of one partition's log."),
            &[("log", ())],
        );
        Log {
            segment_bytes,
            memory_bytes_max,
            direct_io,
            flush_group_bytes_max: number32(flush_group_bytes_max),
            checkpoint_interval_ms,
            io_stall_ms,
            scrub_interval_h,
            scrub_bytes_per_s_max,
        }
    }

    fn read_scrub(keys: &mut Keys) -> (u64, u64) {
        let interval = keys.integer(
            (
                "log.scrub_interval_h",
                "Closed segments are read once in so many hours and damage is named; 0 = never.",
            ),
            168,
            0..=8_760,
        );
        let bytes_per_s = keys.size(
            (
                "log.scrub_bytes_per_s_max",
                "Read for that in a second, all shards together; too low = a pass outlasts its interval.",
            ),
            16 << 20,
            (64 << 10)..=(1 << 30),
        );
        (interval, bytes_per_s)
    }
}
