//! Kafka's primitives, read from a frame by position: nothing is borrowed between two reads.
//! Owner: the walkers of Produce and Fetch.
//! Invariant: a position never passes the end; a count is at most the bytes that remain.
//! Not here: any message.

use std::ops::Range;

/// The bytes end, or contradict themselves, before the message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut;

/// A position in a body whose strings and arrays are compact when `flexible`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    pub(crate) at: usize,
    pub(crate) flexible: bool,
}

/// Tagged fields per section at most; nobody sends more than a handful.
const TAGS_MAX: u32 = 64;

impl Reader {
    fn fixed<const N: usize>(&mut self, bytes: &[u8]) -> Result<[u8; N], Cut> {
        let value = bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(Cut)?;
        self.at += N;
        Ok(*value)
    }

    pub(crate) fn u8(&mut self, bytes: &[u8]) -> Result<u8, Cut> {
        self.fixed::<1>(bytes).map(|[byte]| byte)
    }

    pub(crate) fn i16(&mut self, bytes: &[u8]) -> Result<i16, Cut> {
        self.fixed(bytes).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, bytes: &[u8]) -> Result<i32, Cut> {
        self.fixed(bytes).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, bytes: &[u8]) -> Result<i64, Cut> {
        self.fixed(bytes).map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, bytes: &[u8]) -> Result<[u8; 16], Cut> {
        self.fixed(bytes)
    }

    /// The next `length` bytes.
    pub(crate) fn take(&mut self, length: usize, bytes: &[u8]) -> Result<Range<usize>, Cut> {
        let end = self.at.checked_add(length).filter(|&end| end <= bytes.len()).ok_or(Cut)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// An unsigned varint of at most five bytes.
    pub(crate) fn varint(&mut self, bytes: &[u8]) -> Result<u32, Cut> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8(bytes)?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| Cut);
            }
        }
        Err(Cut)
    }

    /// A nullable length or count: compact ones are one higher, plain ones `plain` wide.
    fn length(&mut self, wide: bool, bytes: &[u8]) -> Result<Option<usize>, Cut> {
        let length = if self.flexible {
            i64::from(self.varint(bytes)?) - 1
        } else if wide {
            i64::from(self.i32(bytes)?)
        } else {
            i64::from(self.i16(bytes)?)
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| Cut),
        }
    }

    /// A nullable string.
    pub(crate) fn string(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Cut> {
        self.length(false, bytes)?.map(|length| self.take(length, bytes)).transpose()
    }

    /// Nullable bytes.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Cut> {
        self.length(true, bytes)?.map(|length| self.take(length, bytes)).transpose()
    }

    /// The count of an array (null counts as none) of elements of `bytes_min` bytes or more.
    pub(crate) fn count(&mut self, bytes_min: usize, bytes: &[u8]) -> Result<u32, Cut> {
        let count = self.length(true, bytes)?.unwrap_or(0);
        let room = bytes.len().saturating_sub(self.at);
        if count > room / bytes_min.max(1) {
            return Err(Cut);
        }
        u32::try_from(count).map_err(|_| Cut)
    }

    /// Skips a tag section, where the version has one.
    pub(crate) fn tags(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint(bytes)?;
        if count > TAGS_MAX {
            return Err(Cut);
        }
        let mut least = 0;
        for _ in 0..count {
            let tag = self.varint(bytes)?;
            if tag < least {
                return Err(Cut);
            }
            least = tag.checked_add(1).ok_or(Cut)?;
            let length = self.varint(bytes)?;
            self.take(length as usize, bytes)?;
        }
        Ok(())
    }
}

/// Appends an unsigned varint.
pub(crate) fn put_varint(mut value: u32, to: &mut Vec<u8>) {
    while let Some(rest) = Some(value >> 7).filter(|&rest| rest > 0) {
        to.push(value.to_le_bytes()[0] | 0x80);
        value = rest;
    }
    to.push(value.to_le_bytes()[0]);
}

/// Appends the length or count of something that is there.
pub(crate) fn put_length(length: usize, flexible: bool, wide: bool, to: &mut Vec<u8>) {
    // Lengths are bounded by frames below 2 GiB.
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    if flexible {
        put_varint(length.unsigned_abs().saturating_add(1), to);
    } else if wide {
        to.extend_from_slice(&length.to_be_bytes());
    } else {
        to.extend_from_slice(&i16::try_from(length).unwrap_or(i16::MAX).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_their_edges() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX - 1, u32::MAX] {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            let mut reader = Reader { at: 0, flexible: true };
            assert_eq!(reader.varint(&bytes), Ok(value));
            assert_eq!(reader.at, bytes.len());
        }
    }

    #[test]
    fn an_endless_or_overlong_varint_is_refused() {
        let mut reader = Reader { at: 0, flexible: true };
        assert_eq!(reader.varint(&[0xFF; 5]), Err(Cut));
        let mut reader = Reader { at: 0, flexible: true };
        assert_eq!(reader.varint(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), Err(Cut));
    }

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        let bytes = i32::MAX.to_be_bytes();
        assert_eq!(Reader { at: 0, flexible: false }.count(1, &bytes), Err(Cut));
    }
}
