//! Where `--from` begins: a name, an offset, a time, or so long ago.

use crate::config::units;
use ringway_client::native::{At, NamedOffset};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A place in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// First record kept.
    Beginning,
    /// What comes from now on.
    End,
    /// This offset.
    Offset(u64),
    /// First record of this time (Unix ms) or later.
    Time(i64),
    /// So many ms ago.
    Ago(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<From, String> {
        let wrong =
            || format!("{text:?} is none of beginning, end, offset:N, @2026-01-31T12:00:00Z, -1h");
        let parsed = match text {
            "beginning" => Some(From::Beginning),
            "end" => Some(From::End),
            _ => match (text.strip_prefix("offset:"), text.strip_prefix('@')) {
                (Some(offset), _) => offset.parse().ok().map(From::Offset),
                (_, Some(time)) => rfc3339_ms(time).map(From::Time),
                _ => text
                    .strip_prefix('-')
                    .and_then(units::parse_duration)
                    .map(|time| From::Ago(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))),
            },
        };
        parsed.ok_or_else(wrong)
    }
}

impl From {
    /// What to ask the broker; an offset needs no question.
    pub(crate) fn question(self) -> Result<At, u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        match self {
            From::Beginning => Ok(At::Named(NamedOffset::Earliest)),
            From::End => Ok(At::Named(NamedOffset::Latest)),
            From::Offset(offset) => Err(offset),
            From::Time(ms) => Ok(At::TimeMs(ms)),
            From::Ago(ms) => Ok(At::TimeMs(now.saturating_sub(ms).max(0))),
        }
    }
}

/// Unix ms of `2026-01-31T12:00:00Z`, with optional fraction and offset.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.splitn(3, '-').map(|part| digits(part, 4));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let zone_at = rest.rfind(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.splitn(3, ':').map(|part| digits(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - zone_seconds(zone)?) * 1_000 + fraction_ms(fraction)?)
}

fn digits(text: &str, length_max: usize) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && text.len() <= length_max).then(|| text.parse().ok()).flatten()
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (digits(hours, 2)? * 3_600 + digits(minutes, 2)? * 60))
}

fn fraction_ms(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<3}").get(..3)?.parse().ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, by Howard Hinnant's `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, from) in [
            ("beginning", From::Beginning),
            ("end", From::End),
            ("offset:17", From::Offset(17)),
            ("@1970-01-01T00:00:00Z", From::Time(0)),
            ("-1h", From::Ago(3_600_000)),
            ("-250ms", From::Ago(250)),
        ] {
            assert_eq!(text.parse(), Ok(from), "{text}");
        }
        for bad in
            ["", "start", "offset:", "offset:-1", "-1", "1h", "@yesterday", "@2026-02-30T00:00:00Z"]
        {
            assert!(bad.parse::<From>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_agree_with_the_calendar() {
        for (text, ms) in [
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-11-21T14:00:00.5Z", 1_795_269_600_500),
            ("2026-11-21T15:00:00+01:00", 1_795_269_600_000),
            ("2026-11-21 13:30:00-00:30", 1_795_269_600_000),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(rfc3339_ms(text), Some(ms), "{text}");
        }
        for bad in ["2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T00:00:00", "x"] {
            assert_eq!(rfc3339_ms(bad), None, "{bad}");
        }
    }
}
