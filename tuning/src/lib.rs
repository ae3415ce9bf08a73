//! Host settings that Ringway cares about: what is set, what is wanted, and why. Reads only.

use std::fs;
use std::path::Path;

/// One setting of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which setting.
    pub name: &'static str,
    /// As found; empty when the host does not show it.
    pub found: String,
    /// Whether Ringway is content with it.
    pub good: bool,
    /// Why it matters and how to change it.
    pub advice: &'static str,
}

/// Looks at every setting.
#[must_use]
pub fn checks() -> Vec<Check> {
    let mut rows = vec![io_uring(), open_files(), locked_memory(), governor(), huge_pages()];
    rows.extend(schedulers());
    rows
}

fn io_uring() -> Check {
    let found = text("/proc/sys/kernel/io_uring_disabled");
    Check {
        name: "kernel.io_uring_disabled",
        good: found.is_empty() || found == "0",
        found,
        advice: "0 lets every process create a ring; sysctl -w kernel.io_uring_disabled=0",
    }
}

fn open_files() -> Check {
    let found = limit("Max open files");
    Check {
        name: "open files, hard limit",
        good: number(&found).is_none_or(|files| files >= 65_536),
        found,
        advice: "one descriptor per connection, two per open segment; LimitNOFILE=1048576",
    }
}

fn locked_memory() -> Check {
    let found = limit("Max locked memory");
    Check {
        name: "locked memory, hard limit",
        good: number(&found).is_none_or(|bytes| bytes >= 8 << 20),
        found,
        advice: "registered buffers count against it; LimitMEMLOCK=infinity",
    }
}

fn governor() -> Check {
    let found = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    Check {
        name: "cpu0 governor",
        good: found.is_empty() || found == "performance",
        found,
        advice: "a core that slows down between flushes adds to every acknowledgement; performance",
    }
}

fn huge_pages() -> Check {
    let found = text("/sys/kernel/mm/transparent_hugepage/enabled");
    Check {
        name: "transparent huge pages",
        good: !found.contains("[always]"),
        found,
        advice: "always lets the kernel stall a shard to make one; madvise is enough",
    }
}

fn schedulers() -> Vec<Check> {
    let Ok(devices) = fs::read_dir("/sys/block") else { return Vec::new() };
    let mut rows: Vec<Check> =
        devices.flatten().filter_map(|device| scheduler(&device.path())).collect();
    rows.sort_by(|a, b| a.found.cmp(&b.found));
    rows
}

fn scheduler(device: &Path) -> Option<Check> {
    let name = device.file_name()?.to_str()?;
    if !(name.starts_with("nvme") || name.starts_with("vd") || name.starts_with("sd")) {
        return None;
    }
    let queue = text(device.join("queue/scheduler"));
    let cache = text(device.join("queue/write_cache"));
    Some(Check {
        name: "block device",
        good: queue.is_empty() || queue.contains("[none]") || queue.contains("[mq-deadline]"),
        found: format!("{name}: scheduler {queue}, cache {cache}"),
        advice: "none suits NVMe; `write back` means that a flush has work to do",
    })
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Hard limit of this process, by the row's name in `/proc/self/limits`.
fn limit(row: &str) -> String {
    let limits = text("/proc/self/limits");
    let line = limits.lines().find(|line| line.starts_with(row)).unwrap_or_default();
    line[row.len().min(line.len())..].split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_names_a_remedy_and_limits_are_found() {
        for check in checks() {
            assert!(!check.advice.is_empty(), "{}", check.name);
        }
        assert!(!limit("Max open files").is_empty());
    }
}
