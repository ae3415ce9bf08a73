//! The size field and header around every Kafka response.
//! Owner: nobody; writes into the caller's buffer.
//! Invariant: ApiVersions responses have header version 0 whatever their version is (V5).
//! Not here: bodies.

use super::api::{API_VERSIONS, Api};

/// A response that has begun in a buffer: its size is patched at the end.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ResponseFrame {
    from: usize,
}

impl ResponseFrame {
    /// Appends size (patched by [`ResponseFrame::end`]) and header for a response to `key` and `version`.
    #[inline]
    pub fn begin(out: &mut Vec<u8>, key: i16, version: i16, correlation: i32) -> ResponseFrame {
        let from = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&correlation.to_be_bytes());
        let flexible = Api::of(key).is_some_and(|api| api.is_flexible(version));
        if flexible && key != API_VERSIONS {
            out.push(0);
        }
        ResponseFrame { from }
    }

    /// Patches the size; `inserted` bytes go out between those in `out` without being in it.
    #[inline]
    pub fn end(self, out: &mut [u8], inserted: usize) {
        let body = out.len().saturating_sub(self.from).saturating_sub(4).saturating_add(inserted);
        let size = i32::try_from(body).unwrap_or(i32::MAX);
        if let Some(field) = out.get_mut(self.from..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = size.to_be_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::{METADATA, PRODUCE};

    #[test]
    fn header_version_follows_the_api() {
        let head = |key, version| {
            let mut out = vec![0xEE];
            let frame = ResponseFrame::begin(&mut out, key, version, 7);
            frame.end(&mut out, 100);
            out
        };
        assert_eq!(head(METADATA, 8), [0xEE, 0, 0, 0, 104, 0, 0, 0, 7]);
        assert_eq!(head(METADATA, 9), [0xEE, 0, 0, 0, 105, 0, 0, 0, 7, 0]);
        assert_eq!(head(PRODUCE, 9), [0xEE, 0, 0, 0, 105, 0, 0, 0, 7, 0]);
        assert_eq!(head(API_VERSIONS, 4), [0xEE, 0, 0, 0, 104, 0, 0, 0, 7]);
    }
}
