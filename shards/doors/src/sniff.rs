//! Tells the dialect of a connection by its first bytes, once.
//! Owner: nobody, pure functions.
//! Invariant: at most the first three bytes decide; they are not consumed.
//! Not here: lengths and contents of frames (`kafka.rs`, `native.rs`).

use crate::door::Close;
use crate::turn::close;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Kafka's protocol.
    Kafka,
    /// 128-byte headers.
    Native,
}

/// The dialect that `bytes` begin, `None` when they are too few.
///
/// # Errors
/// When no dialect served here begins so.
pub(crate) fn sniff(bytes: &[u8]) -> Result<Option<Dialect>, Close> {
    match *bytes {
        [] | [b'V'] | [b'V', b'2'] => Ok(None),
        // A first Kafka frame is below 16 MiB, so its length begins with a zero byte.
        [0, ..] => Ok(Some(Dialect::Kafka)),
        [b'V', b'2', 1 | 2, ..] => Ok(Some(Dialect::Native)),
        [b'V', b'2', version, ..] => Err(close(
            "bad_version",
            format!("native header version {version}, served are 1 and 2"),
        )),
        [b'V', second, ..] => {
            let got = second.escape_ascii();
            Err(close("bad_magic", format!("expected magic \"V2\", got \"V{got}\"")))
        }
        [b'{', ..] => Err(close("json_not_served", "JSON lines are not served on this port")),
        [first, ..] => {
            Err(close("unknown_protocol", format!("no dialect begins with byte {first:#04x}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        assert_eq!(sniff(b""), Ok(None));
        assert_eq!(sniff(b"\0"), Ok(Some(Dialect::Kafka)));
        assert_eq!(sniff(b"V"), Ok(None));
        assert_eq!(sniff(b"V2"), Ok(None));
        assert_eq!(sniff(b"V2\x01"), Ok(Some(Dialect::Native)));
        assert_eq!(sniff(b"V2\x02"), Ok(Some(Dialect::Native)));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let reason = |bytes: &[u8]| sniff(bytes).map_err(|close| close.reason);
        assert_eq!(reason(b"V2\x03"), Err("bad_version"));
        assert_eq!(reason(b"V3"), Err("bad_magic"));
        assert_eq!(reason(b"{\"type\""), Err("json_not_served"));
        for first in (0..=255u8).filter(|first| !matches!(first, 0 | b'V' | b'{')) {
            assert_eq!(reason(&[first]), Err("unknown_protocol"));
        }
    }
}
