//! Go's gob, as far as peers use it: one byte slice around JSON bytes.
//! Owner: nobody, pure functions.
//! Invariant: `unwrap` of `front` and n bytes is those n bytes; any other form is an error.
//! Not here: other gob types; no peer sends them.

/// `0A 00`: type id of a byte slice (5, zigzag) and the zero before a value that is no struct.
const BYTE_SLICE: [u8; 2] = [0x0A, 0x00];

/// Why bytes are not a gob byte slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GobError {
    /// Ends inside its front.
    #[error("gob cut off after {actual} bytes")]
    Short {
        /// Bytes there are.
        actual: usize,
    },
    /// A number is not written in the least bytes, or has more than eight.
    #[error("gob number is not minimal")]
    Number,
    /// Not a byte slice.
    #[error("gob type: expected {expected:02x?}, got {actual:02x?}")]
    Type {
        /// `0A 00`.
        expected: [u8; 2],
        /// What stood there.
        actual: [u8; 2],
    },
    /// One of its two lengths does not fit the bytes there are.
    #[error("gob length: expected {expected}, got {actual}")]
    Length {
        /// Bytes there are.
        expected: usize,
        /// Bytes it says.
        actual: u64,
    },
}

/// What stands before the bytes of a gob byte slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Front {
    bytes: [u8; 20],
    len: usize,
}

impl Front {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn push_uint(&mut self, number: u64) {
        let bytes = number.to_be_bytes();
        let [.., low] = bytes;
        if low < 0x80 && number < 0x80 {
            return self.push(&[low]);
        }
        // 256 − k, then the k bytes that are left without leading zeros.
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let significant = bytes.get(zeros..).unwrap_or_default();
        self.push(&[u8::try_from(significant.len()).unwrap_or(8).wrapping_neg()]);
        self.push(significant);
    }
}

/// What to write before `len` bytes to make them a gob byte slice.
#[must_use]
pub fn front(len: usize) -> Front {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    let mut inner = Front::default();
    inner.push(&BYTE_SLICE);
    inner.push_uint(len);
    let rest = u64::try_from(inner.len).unwrap_or(0).saturating_add(len);
    let mut front = Front::default();
    front.push_uint(rest);
    front.push(inner.bytes());
    front
}

/// The bytes inside a gob byte slice.
///
/// # Errors
/// [`GobError`].
pub fn unwrap(bytes: &[u8]) -> Result<&[u8], GobError> {
    let mut rest = bytes;
    let short = GobError::Short { actual: bytes.len() };
    let length = take_uint(&mut rest, short)?;
    check_length(length, rest)?;
    let (actual, behind) = rest.split_first_chunk::<2>().ok_or(short)?;
    if *actual != BYTE_SLICE {
        return Err(GobError::Type { expected: BYTE_SLICE, actual: *actual });
    }
    rest = behind;
    let length = take_uint(&mut rest, short)?;
    check_length(length, rest)?;
    Ok(rest)
}

fn check_length(actual: u64, rest: &[u8]) -> Result<(), GobError> {
    let expected = rest.len();
    if u64::try_from(expected) == Ok(actual) {
        Ok(())
    } else {
        Err(GobError::Length { expected, actual })
    }
}

fn take_uint(rest: &mut &[u8], short: GobError) -> Result<u64, GobError> {
    let (&first, behind) = rest.split_first().ok_or(short)?;
    if first < 0x80 {
        *rest = behind;
        return Ok(u64::from(first));
    }
    let count = usize::from(first.wrapping_neg());
    if count > 8 {
        return Err(GobError::Number);
    }
    let (digits, behind) = behind.split_at_checked(count).ok_or(short)?;
    *rest = behind;
    let number = digits.iter().fold(0u64, |number, &digit| (number << 8) | u64::from(digit));
    if digits.first() == Some(&0) || number < 0x80 {
        return Err(GobError::Number);
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_go() {
        let cases: [(usize, &[u8]); 6] = [
            (0, &[0x03, 0x0A, 0, 0]),
            (2, &[0x05, 0x0A, 0, 0x02]),
            (127, &[0xFF, 0x82, 0x0A, 0, 0x7F]),
            (128, &[0xFF, 0x84, 0x0A, 0, 0xFF, 0x80]),
            (256, &[0xFE, 0x01, 0x05, 0x0A, 0, 0xFE, 0x01, 0x00]),
            (65_536, &[0xFD, 0x01, 0, 0x06, 0x0A, 0, 0xFD, 0x01, 0, 0]),
        ];
        for (len, expected) in cases {
            assert_eq!(front(len).bytes(), expected, "{len}");
            let content = vec![0x7B; len];
            let wrapped = [expected, &content].concat();
            assert_eq!(unwrap(&wrapped), Ok(&content[..]), "{len}");
        }
    }

    #[test]
    fn each_damage_has_its_error() {
        assert_eq!(unwrap(&[]), Err(GobError::Short { actual: 0 }));
        assert_eq!(unwrap(&[0xF0, 0]), Err(GobError::Number));
        assert_eq!(unwrap(&[0xFF, 0x03, 0x0A, 0, 0]), Err(GobError::Number));
        assert_eq!(unwrap(&[4, 0x0A, 0, 0]), Err(GobError::Length { expected: 3, actual: 4 }));
        let wrong = GobError::Type { expected: [0x0A, 0], actual: [0x0C, 0] };
        assert_eq!(unwrap(&[3, 0x0C, 0, 0]), Err(wrong));
        assert_eq!(unwrap(&[3, 0x0A, 0, 1]), Err(GobError::Length { expected: 0, actual: 1 }));
    }
}
