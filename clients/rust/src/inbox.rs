//! Bytes that have come and are not yet a whole frame.

use bytes::{Buf, Bytes, BytesMut};

/// Receive buffer of one connection. Whole frames leave as `Bytes` without a copy; once they are dropped
/// the memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: BytesMut,
}

impl Inbox {
    /// Appends what the socket gave.
    pub(crate) fn receive(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// Everything that is here.
    pub(crate) fn peek(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that are here.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next `n` bytes, which must be here.
    pub(crate) fn take(&mut self, n: usize) -> Bytes {
        assert!(n <= self.bytes.len(), "took {n} of {} bytes", self.bytes.len());
        self.bytes.split_to(n).freeze()
    }

    /// Drops the next `n` bytes, which must be here.
    pub(crate) fn skip(&mut self, n: usize) {
        assert!(n <= self.bytes.len(), "skipped {n} of {} bytes", self.bytes.len());
        self.bytes.advance(n);
    }

    /// Asks for room for `n` bytes in all, so that a large frame grows once.
    pub(crate) fn expect(&mut self, n: usize) {
        let missing = n.saturating_sub(self.bytes.len());
        self.bytes.reserve(missing);
    }
}
