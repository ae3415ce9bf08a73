//! The codecs of record batches, as clients write them: gzip, snappy (two dresses), lz4 frames, zstd.
//! Owner: nobody; called in low-share tasks, by tools and by clients, never in a shard's loop.
//! Invariant: output never exceeds the cap its caller names, whatever the input claims.
//! Not here: when a broker may look inside a batch (kafka.md §3.3).

use std::io::{Read, Write};

/// zstd windows above this are refused: librdkafka and Java stay at or below 8 MiB up to level 19.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;
/// First bytes of the Java snappy stream.
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and least compatible version before the first block of the Java snappy stream.
const XERIAL_HEADER_LEN: usize = 16;

/// Attribute bits 0–2 of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    None = 0,
    /// gzip, several members allowed.
    Gzip = 1,
    /// snappy, a raw block or the Java ("xerial") stream.
    Snappy = 2,
    /// lz4 frame format.
    Lz4 = 3,
    /// zstd, several frames allowed.
    Zstd = 4,
}

impl Codec {
    /// The codec that `attributes` name; `None` for 5 to 7.
    #[inline]
    #[must_use]
    pub const fn of_attributes(attributes: i16) -> Option<Codec> {
        match attributes & 0b111 {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// As settings and tools name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Codec> {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]
            .into_iter()
            .find(|codec| codec.name() == name)
    }
}

/// Why bytes do not decompress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// More comes out than the caller allows.
    #[error("{codec} output exceeds {cap} bytes")]
    TooLarge {
        /// Which codec.
        codec: &'static str,
        /// The caller's cap.
        cap: usize,
    },
    /// Not of this codec, or damaged.
    #[error("bad {codec} data: {cause}")]
    Damaged {
        /// Which codec.
        codec: &'static str,
        /// What its reader says.
        cause: String,
    },
}

/// What `bytes` decompress to, at most `cap` bytes.
///
/// # Errors
/// [`CompressionError`]; none is transient.
pub fn decompress(codec: Codec, bytes: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    match codec {
        Codec::None => {
            if bytes.len() > cap {
                return Err(too_large(codec, cap));
            }
            out.extend_from_slice(bytes);
        }
        Codec::Gzip => read_capped(codec, flate2::read::MultiGzDecoder::new(bytes), &mut out, cap)?,
        Codec::Snappy => match bytes.strip_prefix(XERIAL_MAGIC) {
            Some(_) => xerial(bytes, &mut out, cap)?,
            None => snappy_block(bytes, &mut out, cap)?,
        },
        Codec::Lz4 => lz4(bytes, &mut out, cap)?,
        Codec::Zstd => zstd(bytes, &mut out, cap)?,
    }
    Ok(out)
}

/// `bytes` compressed, for clients and tests; the broker never compresses.
///
/// # Errors
/// [`CompressionError::Damaged`] when the codec refuses (snappy: more than 4 GiB).
pub fn compress(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).map_err(|error| damaged(codec, &error))?;
            encoder.finish().map_err(|error| damaged(codec, &error))
        }
        Codec::Snappy => {
            snap::raw::Encoder::new().compress_vec(bytes).map_err(|error| damaged(codec, &error))
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).map_err(|error| damaged(codec, &error))?;
            encoder.finish().map_err(|error| damaged(codec, &error))
        }
        Codec::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            Ok(ruzstd::encoding::compress_to_vec(bytes, level))
        }
    }
}

fn too_large(codec: Codec, cap: usize) -> CompressionError {
    CompressionError::TooLarge { codec: codec.name(), cap }
}

fn damaged(codec: Codec, cause: &dyn std::fmt::Display) -> CompressionError {
    CompressionError::Damaged { codec: codec.name(), cause: cause.to_string() }
}

/// Appends what `reader` yields; one byte beyond `cap` is asked for to see that there is more.
fn read_capped(
    codec: Codec,
    reader: impl Read,
    out: &mut Vec<u8>,
    cap: usize,
) -> Result<(), CompressionError> {
    let room = cap.saturating_sub(out.len());
    let limit = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(limit).read_to_end(out).map_err(|error| damaged(codec, &error))?;
    if read > room { Err(too_large(codec, cap)) } else { Ok(()) }
}

fn snappy_block(bytes: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), CompressionError> {
    let codec = Codec::Snappy;
    let length = snap::raw::decompress_len(bytes).map_err(|error| damaged(codec, &error))?;
    let from = out.len();
    let to = from.saturating_add(length);
    if to > cap {
        return Err(too_large(codec, cap));
    }
    // A snappy copy of 3 bytes yields at most 64: a greater claim is a lie, told before allocating for it.
    if length > bytes.len().saturating_mul(64) {
        return Err(damaged(codec, &format!("{length} bytes claimed by {} bytes", bytes.len())));
    }
    out.resize(to, 0);
    let room = out.get_mut(from..).unwrap_or_default();
    let done = snap::raw::Decoder::new().decompress(bytes, room);
    done.map(|_| ()).map_err(|error| damaged(codec, &error))
}

fn xerial(bytes: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), CompressionError> {
    let codec = Codec::Snappy;
    let cut = || damaged(codec, &"xerial stream cut off");
    let mut rest = bytes.get(XERIAL_HEADER_LEN..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(cut)?;
        snappy_block(block, out, cap)?;
        rest = behind;
    }
    Ok(())
}

fn lz4(bytes: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), CompressionError> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(bytes);
    loop {
        let left = decoder.get_ref().len();
        if left == 0 {
            return Ok(());
        }
        read_capped(Codec::Lz4, &mut decoder, out, cap)?;
        if decoder.get_ref().len() == left {
            return Err(damaged(Codec::Lz4, &"no frame"));
        }
    }
}

fn zstd(bytes: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), CompressionError> {
    let codec = Codec::Zstd;
    let mut rest = bytes;
    while !rest.is_empty() {
        let before = rest.len();
        let opened = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(
            &mut rest,
            ZSTD_WINDOW_BYTES_MAX,
        );
        let decoder = opened.map_err(|error| damaged(codec, &error))?;
        read_capped(codec, decoder, out, cap)?;
        if rest.len() == before {
            return Err(damaged(codec, &"no frame"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|n: u32| format!("line {} ", n % 700).into_bytes()).collect()
    }

    #[test]
    fn every_codec_gives_back_what_it_took_and_keeps_to_the_cap() {
        for codec in ALL {
            for plain in [text(), b"x".to_vec(), Vec::new()] {
                let packed = compress(codec, &plain).unwrap();
                assert_eq!(decompress(codec, &packed, plain.len()).unwrap(), plain, "{codec:?}");
                if !plain.is_empty() {
                    let cap = plain.len() - 1;
                    let refused = decompress(codec, &packed, cap).unwrap_err();
                    assert_eq!(refused, CompressionError::TooLarge { codec: codec.name(), cap });
                }
            }
        }
    }

    #[test]
    fn several_members_and_frames_are_one_text() {
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            let mut packed = compress(codec, b"first ").unwrap();
            packed.extend(compress(codec, b"second").unwrap());
            assert_eq!(decompress(codec, &packed, 100).unwrap(), b"first second", "{codec:?}");
        }
    }

    #[test]
    fn java_snappy_stream_is_read() {
        let mut stream = XERIAL_MAGIC.to_vec();
        stream.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        for part in [&b"hello "[..], b"world"] {
            let block = compress(Codec::Snappy, part).unwrap();
            stream.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            stream.extend(block);
        }
        assert_eq!(decompress(Codec::Snappy, &stream, 11).unwrap(), b"hello world");
        for cut in 9..stream.len() {
            // A cut between two blocks is a shorter stream; everywhere else it is an error.
            let read = decompress(Codec::Snappy, &stream[..cut], 11);
            assert!(read.is_err() || b"hello world".starts_with(&read.unwrap()), "cut {cut}");
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert!(decompress(codec, &[0xFF; 40], 1 << 20).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        // A raw snappy block of 5 bytes that claims 2^32 − 1.
        let lie = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F];
        assert!(decompress(Codec::Snappy, &lie, usize::MAX).is_err());
    }
}
