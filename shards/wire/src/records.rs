//! Walks the uncompressed records of a batch without copying: duplicates, nulls and raw bytes survive.
//! Owner: nobody; an iterator borrows the bytes it walks.
//! Invariant: every length is bounded by what remains before it is used; nothing is allocated.
//! Not here: the batch around the records (`batch.rs`), decompression (`compression.rs`).

use crate::varint;

/// Why bytes are not records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A varint is cut off or too long.
    #[error("record {index}: {field} is not a varint")]
    Varint {
        /// Which record, from 0.
        index: u32,
        /// Which field.
        field: &'static str,
    },
    /// A length points beyond the bytes there are, or is negative where it must not be.
    #[error("record {index}: {field} is {length}, {remaining} bytes remain")]
    Length {
        /// Which record, from 0.
        index: u32,
        /// Which field.
        field: &'static str,
        /// What it says.
        length: i64,
        /// What there is.
        remaining: usize,
    },
    /// Bytes are left over, in a record or behind the last.
    #[error("record {index}: {remaining} bytes left over")]
    LeftOver {
        /// Which record, from 0.
        index: u32,
        /// Bytes too many.
        remaining: usize,
    },
}

/// One record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unused by Kafka so far.
    pub attributes: i8,
    /// ms after the batch's `baseTimestamp`.
    pub timestamp_delta: i64,
    /// Offset after the batch's `baseOffset`.
    pub offset_delta: i32,
    /// Key; `None` is not the empty key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` deletes in compacted topics.
    pub value: Option<&'a [u8]>,
    /// Headers in their order.
    pub headers: Headers<'a>,
}

/// Headers of a record, already checked; iterate for (key, value).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl Headers<'_> {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut cursor = Cursor { bytes: self.bytes, index: 0 };
        let header = cursor.header().ok()?;
        self.bytes = cursor.bytes;
        Some(header)
    }
}

/// The records of one batch, each checked when it is reached; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    count: u32,
    failed: bool,
}

impl<'a> Records<'a> {
    /// Walks `count` records in `bytes`; a negative count reads as none.
    #[must_use]
    pub fn new(bytes: &'a [u8], count: i32) -> Records<'a> {
        let count = u32::try_from(count).unwrap_or(0);
        Records { cursor: Cursor { bytes, index: 0 }, count, failed: false }
    }

    /// Walks all that is left and says whether it is sound: counts, lengths, nothing left over.
    ///
    /// # Errors
    /// The first [`RecordError`].
    pub fn check(mut self) -> Result<(), RecordError> {
        self.try_for_each(|record| record.map(|_| ()))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let index = self.cursor.index;
        if index >= self.count {
            self.failed = true;
            let remaining = self.cursor.bytes.len();
            return (remaining > 0).then_some(Err(RecordError::LeftOver { index, remaining }));
        }
        let record = self.cursor.record();
        self.failed = record.is_err();
        self.cursor.index = index.saturating_add(1);
        Some(record)
    }
}

#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    index: u32,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn record(&mut self) -> Result<Record<'a>, RecordError> {
        let length = self.i32("length")?;
        let body = self.take("length", length)?;
        let mut cursor = Cursor { bytes: body, index: self.index };
        let Some((&attributes, rest)) = cursor.bytes.split_first() else {
            return Err(cursor.length_error("attributes", 1));
        };
        cursor.bytes = rest;
        let timestamp_delta = varint::take_i64(&mut cursor.bytes)
            .ok_or(RecordError::Varint { index: self.index, field: "timestamp delta" })?;
        let offset_delta = cursor.i32("offset delta")?;
        let key = cursor.nullable("key length")?;
        let value = cursor.nullable("value length")?;
        let headers = cursor.headers()?;
        Ok(Record {
            attributes: attributes.cast_signed(),
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        })
    }

    #[inline]
    fn headers(&mut self) -> Result<Headers<'a>, RecordError> {
        let count = self.i32("header count")?;
        // Two bytes is the smallest header: empty key, null value.
        let count = match u32::try_from(count) {
            Ok(count) if count as usize <= self.bytes.len() / 2 => count,
            _ => return Err(self.length_error("header count", i64::from(count))),
        };
        let headers = Headers { bytes: self.bytes, count };
        for _ in 0..count {
            self.header()?;
        }
        if !self.bytes.is_empty() {
            let remaining = self.bytes.len();
            return Err(RecordError::LeftOver { index: self.index, remaining });
        }
        Ok(headers)
    }

    #[inline]
    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
        let length = self.i32("header key length")?;
        let key = self.take("header key length", length)?;
        let value = self.nullable("header value length")?;
        Ok((key, value))
    }

    #[inline]
    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, RecordError> {
        let length = self.i32(field)?;
        if length == -1 {
            return Ok(None);
        }
        self.take(field, length).map(Some)
    }

    #[inline]
    fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        let index = self.index;
        varint::take_i32(&mut self.bytes).ok_or(RecordError::Varint { index, field })
    }

    #[inline]
    fn take(&mut self, field: &'static str, length: i32) -> Result<&'a [u8], RecordError> {
        let split = usize::try_from(length).ok().and_then(|at| self.bytes.split_at_checked(at));
        let Some((taken, rest)) = split else {
            return Err(self.length_error(field, i64::from(length)));
        };
        self.bytes = rest;
        Ok(taken)
    }

    #[cold]
    fn length_error(&self, field: &'static str, length: i64) -> RecordError {
        RecordError::Length { index: self.index, field, length, remaining: self.bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key "k", value "v", headers ("h","1") ("h","2") ("n",null) and one with a key that is no UTF-8.
    const RECORD: &[u8] = &[
        0x30, 0, 0x07, 0x04, 0x02, b'k', 0x02, b'v', 0x08, //
        0x02, b'h', 0x02, b'1', 0x02, b'h', 0x02, b'2', 0x02, b'n', 0x01, 0x04, 0xFF, 0xFE, 0x02,
        b'x',
    ];

    #[test]
    fn duplicates_nulls_and_raw_bytes_survive() {
        let record = Records::new(RECORD, 1).next().unwrap().unwrap();
        assert_eq!((record.timestamp_delta, record.offset_delta), (-4, 2));
        assert_eq!((record.key, record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
        let headers: Vec<_> = record.headers.collect();
        let expected: Vec<(&[u8], Option<&[u8]>)> =
            vec![(b"h", Some(b"1")), (b"h", Some(b"2")), (b"n", None), (b"\xFF\xFE", Some(b"x"))];
        assert_eq!(headers, expected);
        assert_eq!(record.headers.len(), 4);
    }

    #[test]
    fn null_and_empty_differ() {
        // Key empty, value null, no headers.
        let bytes = [0x0C, 0, 0, 0, 0, 0x01, 0];
        let record = Records::new(&bytes, 1).next().unwrap().unwrap();
        assert_eq!((record.key, record.value), (Some(&b""[..]), None));
        assert!(record.headers.is_empty());
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        for cut in 0..RECORD.len() {
            assert!(Records::new(&RECORD[..cut], 1).check().is_err(), "cut {cut}");
        }
        assert_eq!(Records::new(RECORD, 1).check(), Ok(()));
    }

    #[test]
    fn bytes_behind_the_last_record_are_refused() {
        let mut bytes = RECORD.to_vec();
        bytes.push(0);
        let error = RecordError::LeftOver { index: 1, remaining: 1 };
        assert_eq!(Records::new(&bytes, 1).check(), Err(error));
        assert_eq!(
            Records::new(&[0], 0).check(),
            Err(RecordError::LeftOver { index: 0, remaining: 1 })
        );
        assert_eq!(Records::new(&[], -5).check(), Ok(()));
    }

    #[test]
    fn header_count_is_bounded_by_the_bytes_there_are() {
        // Says 2^31 − 1 headers in an empty rest.
        let bytes = [0x14, 0, 0, 0, 0x01, 0x01, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F];
        let error = Records::new(&bytes, 1).check().unwrap_err();
        assert_eq!(error.to_string(), "record 0: header count is 2147483647, 0 bytes remain");
    }
}
