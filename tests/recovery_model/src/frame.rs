//! A frame as the disk holds it: 128 bytes of header, then the rest of the Kafka batch.
//! Owner: nobody, plain values.
//! Invariant: a [`Head`] exists only for a header whose checksum, with the secret, is right.
//! Not here: where it may stand (`scan.rs`). Checksums are a hash of our own, quick and as good for a model.

/// What a power cut tears at.
pub const SECTOR: usize = 512;
/// What a write is made of.
pub const BLOCK: usize = 4096;
/// Bytes of a header.
pub const HEADER: usize = 128;
/// Where the bytes under the payload's checksum start.
const PAYLOAD_FROM: usize = 88;

/// Rounds up to whole blocks.
pub fn align_up(n: usize) -> usize {
    n.div_ceil(BLOCK) * BLOCK
}

fn hash(parts: &[&[u8]]) -> u32 {
    let mut h: u64 = 0x517c_c1b7_2722_0a95;
    for part in parts {
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            h = (h ^ u64::from_le_bytes(word.try_into().expect("eight")))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
            h ^= h >> 29;
        }
        let rest = words.remainder();
        let tail = rest.iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        h = (h ^ tail ^ ((part.len() as u64) << 56)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        h ^= h >> 32;
    }
    (h ^ (h >> 32)) as u32
}

/// A believed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the frame.
    pub len: usize,
    /// Its checksum without the secret: the next frame's `prev_crc`.
    pub crc: u32,
    /// Stands where the append time does; unique, so that the oracle knows every frame.
    pub id: u64,
    /// The log it belongs to.
    pub topic: u64,
    /// The life that wrote it.
    pub epoch: u32,
    /// Checksum of the frame before.
    pub prev_crc: u32,
    /// Length of the frame before.
    pub prev_len: usize,
    /// Every offset below was flushed when it was built.
    pub flushed_upto: u64,
    /// First offset.
    pub base: u64,
    /// Last offset.
    pub last: u64,
    pub batch_len: usize,
    pub payload_crc: u32,
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"))
}

/// Whether a header may begin here: the cheap look.
pub fn has_magic(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes.starts_with(b"V2\x02")
}

fn header_crc(bytes: &[u8]) -> u32 {
    hash(&[&bytes[..12], &bytes[16..HEADER]])
}

impl Head {
    /// Magic, version, kind, checksum with the secret, a length of at least a header.
    pub fn parse(bytes: &[u8], secret: u32) -> Option<Head> {
        if !has_magic(bytes) || bytes[4] != 0 {
            return None;
        }
        let base = u64::from_be_bytes(bytes[67..75].try_into().expect("eight"));
        let head = Head {
            len: le32(bytes, 8) as usize,
            crc: le32(bytes, 12) ^ secret,
            id: le64(bytes, 16),
            topic: le64(bytes, 24),
            epoch: le32(bytes, 36),
            prev_crc: le32(bytes, 40),
            prev_len: le32(bytes, 44) as usize,
            flushed_upto: le64(bytes, 48),
            base,
            last: base.saturating_add(u64::from(be32(bytes, 90))),
            batch_len: be32(bytes, 75) as usize,
            payload_crc: be32(bytes, 84),
        };
        (head.crc == header_crc(bytes) && head.len >= HEADER).then_some(head)
    }

    /// What it says about itself is consistent, and it is of this log.
    pub fn is_sound(&self, topic: u64) -> bool {
        self.topic == topic
            && self.flushed_upto <= self.base
            && self.batch_len + 79 == self.len
            && self.last - self.base < 1 << 31
    }

    /// Offset after the last record.
    pub fn next(&self) -> u64 {
        self.last.saturating_add(1)
    }

    /// Whether the payload of the frame that begins with these bytes is whole.
    pub fn payload_is_right(&self, frame: &[u8]) -> bool {
        frame.len() >= self.len && hash(&[&frame[PAYLOAD_FROM..self.len]]) == self.payload_crc
    }
}

/// Bytes of a frame around `payload`; lengths and checksums of `head` are filled in.
pub fn build(head: &Head, records: u64, payload: &[u8], secret: u32) -> (Vec<u8>, Head) {
    let mut bytes = vec![0u8; HEADER + payload.len()];
    bytes[HEADER..].copy_from_slice(payload);
    let mut put = |at: usize, word: &[u8]| bytes[at..at + word.len()].copy_from_slice(word);
    let len = (HEADER + payload.len()) as u32;
    let last_delta = (records - 1) as u32;
    put(0, b"V2\x02");
    put(8, &len.to_le_bytes());
    put(16, &head.id.to_le_bytes());
    put(24, &head.topic.to_le_bytes());
    put(36, &head.epoch.to_le_bytes());
    put(40, &head.prev_crc.to_le_bytes());
    put(44, &(head.prev_len as u32).to_le_bytes());
    put(48, &head.flushed_upto.to_le_bytes());
    put(67, &head.base.to_be_bytes());
    put(75, &(len - 79).to_be_bytes());
    put(90, &last_delta.to_be_bytes());
    put(124, &(records as u32).to_be_bytes());
    let payload_crc = hash(&[&bytes[PAYLOAD_FROM..]]);
    bytes[84..88].copy_from_slice(&payload_crc.to_be_bytes());
    let crc = header_crc(&bytes);
    bytes[12..16].copy_from_slice(&(crc ^ secret).to_le_bytes());
    let head = Head::parse(&bytes, secret).expect("just built");
    (bytes, head)
}
