//! Base-128 varints: unsigned (Kafka's compact lengths) and zigzag (fields of records).
//! Owner: nobody, pure functions over slices.
//! Invariant: at most 5 (32 bit) or 10 (64 bit) bytes are read, and no bit is dropped.
//! Not here: bounds of what the numbers count (`records.rs`, `kafka/primitives.rs`).

/// Takes an unsigned 32-bit varint off the front of `bytes`.
#[inline]
#[must_use]
pub fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(bytes, 5)?).ok()
}

/// Takes a zigzag 32-bit varint off the front of `bytes`.
#[inline]
#[must_use]
pub fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = take_u32(bytes)?;
    Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
}

/// Takes a zigzag 64-bit varint off the front of `bytes`.
#[inline]
#[must_use]
pub fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = take(bytes, 10)?;
    Some((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
}

#[inline]
fn take(bytes: &mut &[u8], bytes_max: u32) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    take_long(bytes, bytes_max)
}

fn take_long(bytes: &mut &[u8], bytes_max: u32) -> Option<u64> {
    let mut value = 0u64;
    let mut left = *bytes;
    for place in 0..bytes_max {
        let (&byte, rest) = left.split_first()?;
        left = rest;
        let bits = u64::from(byte & 0x7F);
        let shift = place.wrapping_mul(7);
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            *bytes = left;
            return Some(value);
        }
    }
    None
}

/// Appends an unsigned varint.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    put(out, u64::from(value));
}

/// Appends a zigzag 32-bit varint.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    put(out, zigzag(i64::from(value)));
}

/// Appends a zigzag 64-bit varint.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

/// Bytes that [`put_i32`] and [`put_i64`] need for `value`.
#[inline]
#[must_use]
pub fn len_i64(value: i64) -> usize {
    // Seven bits a byte, at least one byte.
    let bits = 64u32.saturating_sub((zigzag(value) | 1).leading_zeros());
    bits.div_ceil(7) as usize
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let cases: [(i64, &[u8]); 9] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7F]),
            (64, &[0x80, 1]),
            (300, &[0xD8, 4]),
            (i64::from(i32::MAX), &[0xFE, 0xFF, 0xFF, 0xFF, 0x0F]),
            (i64::from(i32::MIN), &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
            (i64::MIN, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(len_i64(value), expected.len(), "{value}");
            assert_eq!(take_i64(&mut &out[..]), Some(value));
            let narrow = i32::try_from(value).ok();
            assert_eq!(take_i32(&mut &out[..]), narrow, "{value}");
        }
    }

    #[test]
    fn too_long_too_wide_and_cut_off_are_refused() {
        assert_eq!(take_u32(&mut &[][..]), None);
        assert_eq!(take_u32(&mut &[0x80][..]), None);
        assert_eq!(take_u32(&mut &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F][..]), Some(u32::MAX));
        assert_eq!(take_u32(&mut &[0xFF, 0xFF, 0xFF, 0xFF, 0x1F][..]), None);
        assert_eq!(take_u32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None);
        assert_eq!(take_i64(&mut &[0xFF; 10][..]), None);
        let mut wide = [0xFF; 10];
        wide[9] = 2;
        assert_eq!(take_i64(&mut &wide[..]), None);
    }
}
