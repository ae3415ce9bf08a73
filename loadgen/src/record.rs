//! What a record's value looks like, so that whoever reads it can check it by itself.
//!
//! ```text
//! 0 run u32 · 4 producer u32 · 8 seq u64 · 16 due_ns u64 · 24 crc u32 · 28 filler
//! ```
//! All little-endian. `crc` is CRC-32 over the filler, then bytes 0..24: the filler is the same in every
//! record of a run, so its part is computed once and a record costs 24 bytes of hashing to make.

/// Bytes before the filler.
pub(crate) const HEAD_BYTES: usize = 28;
const SUMMED_BYTES: usize = 24;

/// The fields of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which run of the generator wrote it.
    pub(crate) run: u32,
    /// Which connection of that run.
    pub(crate) producer: u32,
    /// Per producer and partition, from 0 without gap.
    pub(crate) seq: u64,
    /// When it was due, ns on the run's clock.
    pub(crate) due_ns: u64,
}

/// Writes values of one size.
#[derive(Clone, Debug)]
pub(crate) struct ValueWriter {
    filler_crc: u32,
    size: usize,
}

/// The filler of a value of `size` bytes: fixed pseudo-random bytes that no codec shrinks.
pub(crate) fn filler(size: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size.saturating_sub(HEAD_BYTES) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size.saturating_sub(HEAD_BYTES));
    bytes
}

impl ValueWriter {
    /// For values of `size` bytes, at least [`HEAD_BYTES`].
    pub(crate) fn new(size: usize) -> ValueWriter {
        assert!(size >= HEAD_BYTES, "values of {size} bytes cannot be checked");
        ValueWriter { filler_crc: crc32fast::hash(&filler(size)), size }
    }

    /// Writes the head over the first bytes of `value`, which ends with the filler.
    pub(crate) fn write(&self, head: &Head, value: &mut [u8]) {
        assert!(value.len() == self.size, "a value of {} bytes, not {}", value.len(), self.size);
        value[0..4].copy_from_slice(&head.run.to_le_bytes());
        value[4..8].copy_from_slice(&head.producer.to_le_bytes());
        value[8..16].copy_from_slice(&head.seq.to_le_bytes());
        value[16..24].copy_from_slice(&head.due_ns.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new_with_initial(self.filler_crc);
        hasher.update(&value[..SUMMED_BYTES]);
        value[SUMMED_BYTES..HEAD_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}

/// Reads a value and checks its bytes; `None` = corrupt.
pub(crate) fn read(value: &[u8]) -> Option<Head> {
    let (head, filler) = value.split_first_chunk::<HEAD_BYTES>()?;
    let (summed, crc) = head.split_first_chunk::<SUMMED_BYTES>()?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(filler);
    hasher.update(summed);
    if hasher.finalize().to_le_bytes() != crc {
        return None;
    }
    let (run, rest) = summed.split_first_chunk::<4>()?;
    let (producer, rest) = rest.split_first_chunk::<4>()?;
    let (seq, due) = rest.split_first_chunk::<8>()?;
    Some(Head {
        run: u32::from_le_bytes(*run),
        producer: u32::from_le_bytes(*producer),
        seq: u64::from_le_bytes(*seq),
        due_ns: u64::from_le_bytes(*due.first_chunk::<8>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(size: usize, head: &Head) -> Vec<u8> {
        let mut value = vec![0; HEAD_BYTES];
        value.extend_from_slice(&filler(size));
        ValueWriter::new(size).write(head, &mut value);
        value
    }

    #[test]
    fn what_is_written_reads_back() {
        let head = Head { run: 7, producer: 3, seq: 1 << 40, due_ns: 12_345 };
        for size in [HEAD_BYTES, HEAD_BYTES + 1, 100, 1000] {
            let value = value(size, &head);
            assert_eq!(value.len(), size);
            assert_eq!(read(&value), Some(head));
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let head = Head { run: 7, producer: 3, seq: 9, due_ns: 12_345 };
        let value = value(64, &head);
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&damaged), None, "bit {bit}");
        }
        for cut in 0..value.len() {
            assert_eq!(read(&value[..cut]), None, "cut at {cut}");
        }
    }
}
