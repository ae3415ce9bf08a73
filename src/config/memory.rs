//! How much block memory the shards get when nobody says.

use super::SHARD_BYTES_MIN;

/// `log.memory_bytes_max = "auto"`: min(a quarter of RAM or of the cgroup's limit, 1 GiB × shards), but
/// never less than the shards need.
pub(crate) fn memory_bytes_default(shards: u32, host_bytes: Option<u64>) -> u64 {
    const SHARD_BYTES: u64 = 1 << 30;
    let wanted = u64::from(shards) * SHARD_BYTES;
    let quarter = host_bytes.map_or(wanted, |bytes| bytes / 4);
    wanted.min(quarter).max(u64::from(shards) * SHARD_BYTES_MIN)
}

/// Memory this process may use: the cgroup's limit or the host's RAM, whichever is less; `None` where
/// `/proc` and `/sys` are hidden.
pub(crate) fn host_memory_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map(|kib| kib << 10);
    let cgroup = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find_map(|text| text.trim().parse::<u64>().ok());
    match (total, cgroup) {
        (Some(total), Some(cgroup)) => Some(total.min(cgroup)),
        (total, cgroup) => total.or(cgroup),
    }
}
