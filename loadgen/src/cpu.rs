//! What the generator itself costs, from /proc.

use std::fs;
use std::time::Duration;

/// Clock ticks per second in /proc; Linux has fixed it at 100 for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of this process at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTimes {
    process: f64,
    threads: Vec<(u64, f64)>,
}

impl CpuTimes {
    /// Of the process, ended threads included, and of every thread that lives; empty where /proc cannot be read.
    pub(crate) fn now() -> CpuTimes {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return CpuTimes::default() };
        let threads = tasks
            .filter_map(|task| {
                let task = task.ok()?;
                let id = task.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(task.path().join("stat")).ok()?;
                Some((id, seconds(&stat)?))
            })
            .collect();
        let process = fs::read_to_string("/proc/self/stat").ok();
        CpuTimes { process: process.and_then(|stat| seconds(&stat)).unwrap_or(0.0), threads }
    }

    /// Cores used on average since `before`, by the process and by the busiest thread that still lives.
    pub(crate) fn cores_since(&self, before: &CpuTimes, elapsed: Duration) -> (f64, f64) {
        let spent: Vec<f64> = self
            .threads
            .iter()
            .map(|(id, now)| {
                let then = before.threads.iter().find(|(other, _)| other == id);
                now - then.map_or(0.0, |(_, seconds)| *seconds)
            })
            .collect();
        let elapsed = elapsed.as_secs_f64().max(0.001);
        let busiest = spent.iter().copied().fold(0.0, f64::max);
        ((self.process - before.process) / elapsed, busiest / elapsed)
    }
}

/// User and system time of a /proc/…/stat line; the name in parentheses may hold anything.
fn seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c) R 1 1 1 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 1 0 100 0 0";
        assert_eq!(seconds(stat), Some(4.0));
        assert_eq!(seconds("nothing"), None);
    }

    #[test]
    fn this_process_has_threads() {
        let now = CpuTimes::now();
        assert!(!now.threads.is_empty());
        let (all, busiest) = now.cores_since(&now, Duration::from_secs(1));
        assert_eq!((all, busiest), (0.0, 0.0));
    }
}
