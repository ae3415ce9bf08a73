//! CRC-32C, Kafka's checksum of a batch from `attributes` to the end: of all of it, and of all of it behind another front.
//! Owner: nobody, plain functions.
//! Invariant: a checksum recombined equals that of one scan.
//! Not here: CRC-32 of headers (`header.rs`): another polynomial.

/// CRC-32C of contiguous bytes.
#[inline]
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Castagnoli's polynomial, bits reversed: the least significant bit stands for x^31.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// x^(2^k) modulo the polynomial, by squaring. The order of x is 2^31 − 1 (the polynomial has the factor
/// x + 1), so the 31 entries repeat.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it and refuses a panic")]
const POWERS: [u32; 31] = {
    let mut powers = [0x4000_0000; 31];
    let mut k = 1;
    while k < 31 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// The checksum's part of what `len` zero bytes behind it make: a multiplication by x^(8 × len), some
/// hundred steps where `crc_fast::checksum_combine` squares matrices (12 µs a call).
fn shift(crc: u32, len: u64) -> u32 {
    let mut shifted = crc;
    let mut left = len;
    // Each byte is x^8: the table's entry 3.
    for &power in POWERS.iter().cycle().skip(3) {
        if left == 0 {
            break;
        }
        if left & 1 == 1 {
            shifted = multiply(power, shifted);
        }
        left >>= 1;
    }
    shifted
}

/// Product of two polynomials modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

/// The checksum of a batch whose first bytes changed from `before` to `after` while the `rest_len` bytes
/// behind them stayed; needs neither those bytes nor their own checksum.
#[must_use]
pub fn recombine(crc: u32, before: &[u8], after: &[u8], rest_len: u64) -> u32 {
    debug_assert_eq!(before.len(), after.len());
    // crc(A‖B) = shift(crc(A), |B|) ^ crc(B), and shift is linear: the difference of the fronts is enough.
    crc ^ shift(crc32c(before) ^ crc32c(after), rest_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crc_fast::CrcAlgorithm::Crc32Iscsi;

    #[test]
    fn the_two_polynomials_are_not_swapped() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn shifting_agrees_with_the_library_at_every_length() {
        for power in 0..40 {
            for length in [(1u64 << power) - 1, 1 << power, (1 << power) + 1] {
                let theirs = crc_fast::checksum_combine(Crc32Iscsi, 0x1234_5678, 0, length);
                assert_eq!(u64::from(shift(0x1234_5678, length)), theirs, "{length}");
            }
        }
    }

    #[test]
    fn a_checksum_recombined_equals_one_scan() {
        let bytes: Vec<u8> =
            (0..5000u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        for cut in [0, 1, 15, 16, 40, 4096, 4999, 5000] {
            let (a, b) = bytes.split_at(cut);
            let mut changed = bytes.clone();
            changed[..cut].reverse();
            let again = recombine(crc32c(&bytes), a, &changed[..cut], b.len() as u64);
            assert_eq!(again, crc32c(&changed), "cut {cut}");
        }
    }
}
