//! Little-endian writing and bounds-checked reading of the small files, with a CRC-32C at the end.
//! Owner: `checkpoint.rs`, `snapshot.rs`, `quarantine.rs`, `directory.rs`.
//! Invariant: a body is opened only when magic, version and CRC are right; a count never exceeds what remains.
//! Not here: what the fields mean.

/// Writes one small file's body.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A body of this kind.
    pub(crate) fn new(magic: [u8; 4], version: u16) -> Writer {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&version.to_le_bytes());
        Writer(bytes)
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.0.extend_from_slice(value);
    }

    /// Closes the body with its CRC.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let crc = crc_fast::crc32_iscsi(&self.0);
        self.u32(crc);
        self.0
    }
}

/// Reads one small file's body.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// Why a body is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Not this kind of file, cut short, or its CRC is wrong.
    Damaged,
    /// Written by a newer Ringway.
    Newer(u16),
}

impl<'a> Reader<'a> {
    /// Checks magic, CRC and that the version is at most `version`.
    pub(crate) fn open(body: &'a [u8], magic: [u8; 4], version: u16) -> Result<Self, Unopened> {
        let (inner, crc) = body.split_last_chunk::<4>().ok_or(Unopened::Damaged)?;
        if inner.len() < 6 || inner[..4] != magic {
            return Err(Unopened::Damaged);
        }
        if crc_fast::crc32_iscsi(inner) != u32::from_le_bytes(*crc) {
            return Err(Unopened::Damaged);
        }
        let found = u16::from_le_bytes([inner[4], inner[5]]);
        if found > version { Err(Unopened::Newer(found)) } else { Ok(Reader(&inner[6..])) }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count of things of at least `each` bytes: no more than what remains can hold.
    pub(crate) fn count(&mut self, each: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count.checked_mul(each.max(1))? <= self.0.len()).then_some(count)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count(1)?;
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_cut_body_is_not_opened() {
        let mut writer = Writer::new(*b"TEST", 1);
        writer.u64(7);
        writer.bytes(b"abc");
        let body = writer.finish();
        let mut reader = Reader::open(&body, *b"TEST", 1).expect("opens");
        assert_eq!((reader.u64(), reader.bytes()), (Some(7), Some(&b"abc"[..])));
        assert_eq!(reader.u8(), None);
        for bit in 0..body.len() * 8 {
            let mut bad = body.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Reader::open(&bad, *b"TEST", 1).is_err(), "bit {bit}");
        }
        for len in 0..body.len() {
            assert!(Reader::open(&body[..len], *b"TEST", 1).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let body = Writer::new(*b"TEST", 9).finish();
        assert_eq!(Reader::open(&body, *b"TEST", 2).err(), Some(Unopened::Newer(9)));
    }
}
