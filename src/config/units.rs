//! Durations and sizes as people write them: `250ms 5s 1h 7d`, `64KiB 1GiB`.

use std::time::Duration;

const SIZES: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const TIMES_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Bytes of `64KiB`, `1GiB`, `512B` or a plain number of bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    for (unit, bytes) in SIZES {
        if let Some(number) = text.strip_suffix(unit) {
            return number.trim_end().parse::<u64>().ok()?.checked_mul(bytes);
        }
    }
    text.strip_suffix('B').unwrap_or(text).trim_end().parse().ok()
}

/// The shortest exact way to write `bytes`.
pub(crate) fn show_size(bytes: u64) -> String {
    for (unit, size) in SIZES {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}B")
}

/// Duration of `250ms`, `5s`, `10m`, `1h`, `7d`; a number without unit is refused.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    for (unit, ms) in TIMES_MS {
        let Some(number) = text.strip_suffix(unit) else { continue };
        if let Ok(number) = number.trim_end().parse::<u64>() {
            return number.checked_mul(ms).map(Duration::from_millis);
        }
    }
    None
}

/// The shortest exact way to write `duration` (whole milliseconds).
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    for (unit, size) in TIMES_MS.into_iter().rev() {
        if ms >= size && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    "0ms".to_owned()
}

/// CPU numbers of a list as the kernel writes it: `0`, `1-15`, `0,2-3`.
pub(crate) fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    const CPUS_MAX: usize = 4096;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in
            [("64KiB", 65_536), ("1GiB", 1 << 30), ("7B", 7), ("123", 123), ("2 MiB", 2 << 20)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "KiB", "1.5GiB", "-1", "1GB", "99999999999TiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!(show_size(65_536), "64KiB");
        assert_eq!(show_size(1_048_588), "1048588B");
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        for bad in ["", "5", "s", "1.5h", "-1s", "5 weeks"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn cpu_lists_are_those_of_the_kernel() {
        assert_eq!(parse_cpus("0"), Some(vec![0]));
        assert_eq!(parse_cpus("4,1-3,2"), Some(vec![1, 2, 3, 4]));
        for bad in ["", "a", "3-1", "1-", "99999"] {
            assert_eq!(parse_cpus(bad), None, "{bad}");
        }
    }
}
