//! Kafka's primitive types, read with bounds and written.
//! Owner: a reader belongs to one frame.
//! Invariant: `count` is the only way to read a count, and no count exceeds remaining / least element size.
//! Not here: which fields an API has.

use crate::varint;
use std::ops::Range;

/// Tagged fields in one section.
pub const TAGS_MAX: u32 = 64;
/// Bytes of the tagged fields of one section.
pub const TAG_BYTES_MAX: usize = 64 << 10;

/// Why bytes are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("{what} at byte {at}: {needed} bytes needed, {remaining} remain")]
    Short {
        /// Kind of field.
        what: &'static str,
        /// Where in the frame.
        at: usize,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        remaining: usize,
    },
    /// A count that the bytes behind it cannot hold.
    #[error("count {count} at byte {at}: {remaining} bytes remain, {least} each at least")]
    Count {
        /// What it says.
        count: i64,
        /// Where in the frame.
        at: usize,
        /// Bytes there are.
        remaining: usize,
        /// Bytes of the smallest element.
        least: usize,
    },
    /// A negative length where there is none.
    #[error("length {length} at byte {at}")]
    Length {
        /// What it says.
        length: i64,
        /// Where in the frame.
        at: usize,
    },
    /// A varint of more than five bytes or 32 bits.
    #[error("bad varint at byte {at}")]
    Varint {
        /// Where in the frame.
        at: usize,
    },
    /// Null where the field must be there.
    #[error("null at byte {at}")]
    Null {
        /// Where in the frame.
        at: usize,
    },
    /// A string that is no UTF-8.
    #[error("no UTF-8 at byte {at}")]
    Utf8 {
        /// Where in the frame.
        at: usize,
    },
    /// Tagged fields not ascending, too many or too long.
    #[error("bad tagged field {tag} at byte {at}")]
    Tag {
        /// Which.
        tag: u32,
        /// Where in the frame.
        at: usize,
    },
    /// More nested elements than allowed.
    #[error("more than {limit} elements at byte {at}")]
    Elements {
        /// How many are allowed.
        limit: u32,
        /// Where in the frame.
        at: usize,
    },
    /// Bytes behind the last field.
    #[error("{remaining} bytes left over at byte {at}")]
    LeftOver {
        /// Where in the frame.
        at: usize,
        /// How many.
        remaining: usize,
    },
    /// An API or version that has no table here.
    #[error("API {key} version {version} is not served")]
    NotServed {
        /// API.
        key: i16,
        /// Version.
        version: i16,
    },
}

/// Reads a frame field by field; positions are those of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    frame: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `frame` from byte `at` on.
    #[inline]
    #[must_use]
    pub fn new(frame: &'a [u8], at: usize) -> Reader<'a> {
        Reader { frame, rest: frame.get(at..).unwrap_or_default() }
    }

    /// Position in the frame.
    #[inline]
    #[must_use]
    pub fn at(&self) -> usize {
        self.frame.len().saturating_sub(self.rest.len())
    }

    /// Bytes not read yet.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((chunk, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.short("field", N));
        };
        self.rest = rest;
        Ok(*chunk)
    }

    /// A signed byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    /// A 16-bit number.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A 64-bit number.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned varint.
    ///
    /// # Errors
    /// [`DecodeError::Varint`].
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        varint::take_u32(&mut self.rest).ok_or(DecodeError::Varint { at: self.at() })
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    #[inline]
    pub fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.short(what, len));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// A count of elements of `least` bytes or more each; `None` = null. Compact when `flexible`.
    ///
    /// # Errors
    /// [`DecodeError::Count`] when the rest cannot hold so many.
    #[inline]
    pub fn count(&mut self, flexible: bool, least: usize) -> Result<Option<u32>, DecodeError> {
        let at = self.at();
        let count = if flexible {
            i64::from(self.uvarint()?).saturating_sub(1)
        } else {
            i64::from(self.i32()?)
        };
        if count == -1 {
            return Ok(None);
        }
        let remaining = self.remaining();
        let fits = u32::try_from(count).ok().filter(|&count| {
            usize::try_from(count).is_ok_and(|n| n.saturating_mul(least.max(1)) <= remaining)
        });
        fits.map(Some).ok_or(DecodeError::Count { count, at, remaining, least })
    }

    /// Length and bytes of a string field, null as `None`.
    #[inline]
    fn string_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        let at = self.at();
        let length = if flexible {
            i64::from(self.uvarint()?).saturating_sub(1)
        } else {
            i64::from(self.i16()?)
        };
        self.nullable("string", length, at)
    }

    #[inline]
    fn nullable(
        &mut self,
        what: &'static str,
        length: i64,
        at: usize,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| DecodeError::Length { length, at })?;
        self.take(what, length).map(Some)
    }

    /// A string whose bytes nobody checked.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn raw_string(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        self.string_bytes(flexible)
    }

    /// A string that may be null.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let at = self.at();
        match self.string_bytes(flexible)? {
            None => Ok(None),
            Some(bytes) => {
                std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::Utf8 { at })
            }
        }
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        let at = self.at();
        self.nullable_string(flexible)?.ok_or(DecodeError::Null { at })
    }

    /// Where a `bytes` or `records` field lies in the frame; `None` = null.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    pub fn bytes_range(&mut self, flexible: bool) -> Result<Option<Range<usize>>, DecodeError> {
        let at = self.at();
        let length = if flexible {
            i64::from(self.uvarint()?).saturating_sub(1)
        } else {
            i64::from(self.i32()?)
        };
        let from = self.at();
        Ok(self.nullable("bytes", length, at)?.map(|_| from..self.at()))
    }

    /// Skips a section of tagged fields; `flexible` false = there is none.
    ///
    /// # Errors
    /// [`DecodeError::Tag`] when they do not ascend or exceed [`TAGS_MAX`] or [`TAG_BYTES_MAX`].
    #[inline]
    pub fn skip_tags(&mut self, flexible: bool) -> Result<(), DecodeError> {
        if !flexible {
            return Ok(());
        }
        // Nearly every section is empty.
        if let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(());
        }
        self.tags(|_, _| {})
    }

    /// Reads a section of tagged fields, calling `each` with tag and bytes.
    ///
    /// # Errors
    /// [`DecodeError::Tag`], as [`Reader::skip_tags`].
    pub fn tags(&mut self, mut each: impl FnMut(u32, &'a [u8])) -> Result<(), DecodeError> {
        let from = self.at();
        let count = self.uvarint()?;
        if count > TAGS_MAX {
            return Err(DecodeError::Tag { tag: count, at: from });
        }
        let mut least = 0u64;
        for _ in 0..count {
            let at = self.at();
            let tag = self.uvarint()?;
            let length = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
            let bytes = self.take("tagged field", length)?;
            let section = self.at().saturating_sub(from);
            if u64::from(tag) < least || section > TAG_BYTES_MAX {
                return Err(DecodeError::Tag { tag, at });
            }
            least = u64::from(tag).saturating_add(1);
            each(tag, bytes);
        }
        Ok(())
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// [`DecodeError::LeftOver`].
    #[inline]
    pub fn end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::LeftOver { at: self.at(), remaining }),
        }
    }

    #[cold]
    fn short(&self, what: &'static str, needed: usize) -> DecodeError {
        DecodeError::Short { what, at: self.at(), needed, remaining: self.remaining() }
    }
}

/// Appends a count: compact when `flexible`.
#[inline]
pub fn put_count(out: &mut Vec<u8>, flexible: bool, count: usize) {
    if flexible {
        varint::put_u32(out, u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1));
    } else {
        out.extend_from_slice(&i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
    }
}

/// Appends a string; what a 16-bit length cannot hold is cut at a character (texts for people only).
#[inline]
pub fn put_string(out: &mut Vec<u8>, flexible: bool, text: &str) {
    const BYTES_MAX: usize = 32_767;
    let text = text.get(..text.floor_char_boundary(BYTES_MAX)).unwrap_or_default();
    if flexible {
        put_count(out, true, text.len());
    } else {
        out.extend_from_slice(&i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends an empty section of tagged fields where there is one.
#[inline]
pub fn put_no_tags(out: &mut Vec<u8>, flexible: bool) {
    if flexible {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_bounded_by_what_remains() {
        let frame = [0, 0, 0, 2, 1, 1, 1, 1];
        assert_eq!(Reader::new(&frame, 0).count(false, 2), Ok(Some(2)));
        let error = Reader::new(&frame, 0).count(false, 3).unwrap_err();
        assert_eq!(error.to_string(), "count 2 at byte 0: 4 bytes remain, 3 each at least");
        assert!(Reader::new(&[0x7F, 0xFF, 0xFF, 0xFF], 0).count(false, 0).is_err());
        assert_eq!(Reader::new(&[0xFF; 4], 0).count(false, 1), Ok(None));
        assert!(Reader::new(&[0xFF, 0xFF, 0xFF, 0xFE], 0).count(false, 1).is_err());
        assert_eq!(Reader::new(&[0], 0).count(true, 1), Ok(None));
        assert_eq!(Reader::new(&[1], 0).count(true, 1), Ok(Some(0)));
        assert!(Reader::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], 0).count(true, 1).is_err());
    }

    #[test]
    fn tags_ascend_and_are_few() {
        assert_eq!(Reader::new(&[2, 0, 1, 9, 3, 0], 0).skip_tags(true), Ok(()));
        let twice = Reader::new(&[2, 3, 0, 3, 0], 0).skip_tags(true);
        assert_eq!(twice, Err(DecodeError::Tag { tag: 3, at: 3 }));
        let falling = Reader::new(&[2, 3, 0, 1, 0], 0).skip_tags(true);
        assert_eq!(falling, Err(DecodeError::Tag { tag: 1, at: 3 }));
        let many = Reader::new(&[65], 0).skip_tags(true);
        assert_eq!(many, Err(DecodeError::Tag { tag: 65, at: 0 }));
        assert!(Reader::new(&[1, 0, 5, 1], 0).skip_tags(true).is_err());
        assert_eq!(Reader::new(&[], 0).skip_tags(false), Ok(()));
        let mut seen = Vec::new();
        let section = [3, 0, 1, b'a', 2, 3, b'b', b'c', b'd', 9, 0];
        Reader::new(&section, 0).tags(|tag, bytes| seen.push((tag, bytes))).unwrap();
        assert_eq!(seen, [(0, &b"a"[..]), (2, b"bcd"), (9, b"")]);
    }

    #[test]
    fn strings_come_back() {
        for flexible in [false, true] {
            let mut out = Vec::new();
            put_string(&mut out, flexible, "topic");
            out.extend_from_slice(if flexible { &[0] } else { &[0xFF, 0xFF] });
            put_string(&mut out, flexible, "");
            let mut reader = Reader::new(&out, 0);
            assert_eq!(reader.string(flexible), Ok("topic"));
            assert_eq!(reader.nullable_string(flexible), Ok(None));
            assert_eq!(reader.string(flexible), Ok(""));
            assert_eq!(reader.end(), Ok(()));
        }
        assert_eq!(Reader::new(&[0, 1, 0xFF], 0).string(false), Err(DecodeError::Utf8 { at: 0 }));
        assert_eq!(Reader::new(&[0xFF, 0xFF], 0).string(false), Err(DecodeError::Null { at: 0 }));
        let negative = Reader::new(&[0xFF, 0xFE], 0).string(false);
        assert_eq!(negative, Err(DecodeError::Length { length: -2, at: 0 }));
    }
}
