//! The envelope header: big-endian, names padded with NUL.
//! Owner: nobody, pure functions over bytes.
//! Invariant: the layout is `formats.md` §2 to the byte; an id that does not fit is refused, never cut.
//! Not here: payloads of envelopes (`native.rs`).

use super::{ENVELOPE_VERSION, Encoding, HEADER_LEN, HeaderError, MAGIC, check_front, flat};
use rkyv::Archive;
use std::mem::{align_of, offset_of, size_of};

/// What an envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Asks; answered by one response or error with its correlation id.
    Request = 0,
    /// Answers.
    Response = 1,
    /// Needs no answer.
    Event = 2,
    /// Answers that it failed.
    Error = 3,
}

impl MessageType {
    /// Numbers that have a meaning.
    pub const KNOWN: &'static [u8] = &[0, 1, 2, 3];

    /// The type with this number.
    #[inline]
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<MessageType> {
        match byte {
            0 => Some(MessageType::Request),
            1 => Some(MessageType::Response),
            2 => Some(MessageType::Event),
            3 => Some(MessageType::Error),
            _ => None,
        }
    }
}

/// Layout of [`EnvelopeHeader`]: big-endian, strings NUL-padded.
#[derive(Archive)]
#[rkyv(archived = EnvelopeHeader)]
pub struct EnvelopeLayout {
    magic: [u8; 2],
    version: u8,
    encoding: u8,
    message_type: u8,
    flags: u8,
    reserved: [u8; 2],
    payload_len: [u8; 4],
    message_id: [u8; 32],
    source_id: [u8; 32],
    target_id: [u8; 32],
    correlation_id: [u8; 20],
}

const _: () = {
    assert!(size_of::<EnvelopeHeader>() == HEADER_LEN && align_of::<EnvelopeHeader>() == 1);

    assert!(offset_of!(EnvelopeHeader, magic) == 0);
    assert!(offset_of!(EnvelopeHeader, version) == 2);
    assert!(offset_of!(EnvelopeHeader, encoding) == 3);
    assert!(offset_of!(EnvelopeHeader, message_type) == 4);
    assert!(offset_of!(EnvelopeHeader, flags) == 5);
    assert!(offset_of!(EnvelopeHeader, reserved) == 6);
    assert!(offset_of!(EnvelopeHeader, payload_len) == 8);
    assert!(offset_of!(EnvelopeHeader, message_id) == 12);
    assert!(offset_of!(EnvelopeHeader, source_id) == 44);
    assert!(offset_of!(EnvelopeHeader, target_id) == 76);
    assert!(offset_of!(EnvelopeHeader, correlation_id) == 108);
};

/// The name that does not fit its field of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}: {actual} > {limit}")]
pub struct IdError {
    /// Which field.
    pub field: &'static str,
    /// Too long, or holds the NUL that would end it.
    pub reason: &'static str,
    /// Its bytes, or where the NUL stands.
    pub actual: usize,
    /// Bytes the field holds, or 0.
    pub limit: usize,
}

/// Everything of an envelope header; ids as text without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeLine<'a> {
    /// Encoding of the payload; never `Unspecified`.
    pub encoding: Encoding,
    /// Request, response, event, error.
    pub message_type: MessageType,
    /// Compression and chunking; 0 to peers that did not offer them.
    pub flags: u8,
    /// Bytes 6 and 7, preserved from what was received.
    pub reserved: [u8; 2],
    /// Payload bytes.
    pub payload_len: u32,
    /// Method or event name, ≤ 32 bytes.
    pub message_id: &'a [u8],
    /// Sender, ≤ 32 bytes.
    pub source_id: &'a [u8],
    /// Receiver, ≤ 32 bytes.
    pub target_id: &'a [u8],
    /// Echoed in the answer, ≤ 20 bytes.
    pub correlation_id: &'a [u8],
}

impl EnvelopeLine<'_> {
    /// The 128 bytes.
    ///
    /// # Errors
    /// [`IdError`] for an id that is longer than its field or holds a NUL: it would be cut silently.
    pub fn to_bytes(&self) -> Result<[u8; HEADER_LEN], IdError> {
        let mut header = [0; HEADER_LEN];
        header[0..2].copy_from_slice(&MAGIC);
        header[2] = ENVELOPE_VERSION;
        header[3] = self.encoding as u8;
        header[4] = self.message_type as u8;
        header[5] = self.flags;
        header[6..8].copy_from_slice(&self.reserved);
        header[8..12].copy_from_slice(&self.payload_len.to_be_bytes());
        put_id(&mut header[12..44], "message_id", self.message_id)?;
        put_id(&mut header[44..76], "source_id", self.source_id)?;
        put_id(&mut header[76..108], "target_id", self.target_id)?;
        put_id(&mut header[108..128], "correlation_id", self.correlation_id)?;
        Ok(header)
    }
}

fn put_id(to: &mut [u8], field: &'static str, id: &[u8]) -> Result<(), IdError> {
    let limit = to.len();
    if let Some(actual) = id.iter().position(|&byte| byte == 0) {
        return Err(IdError { field, reason: "holds a NUL at", actual, limit: 0 });
    }
    let too_long = IdError { field, reason: "too long", actual: id.len(), limit };
    to.get_mut(..id.len()).ok_or(too_long)?.copy_from_slice(id);
    Ok(())
}

impl EnvelopeHeader {
    /// Views the first 128 bytes as an envelope header; magic, version, encoding and type are known ones.
    /// The payload length is the caller's to bound.
    ///
    /// # Errors
    /// [`HeaderError`]: short, magic, version, encoding, kind, in this order.
    #[inline]
    pub fn access(bytes: &[u8]) -> Result<&EnvelopeHeader, HeaderError> {
        let header = flat::<EnvelopeHeader>(bytes)?;
        check_front(header.magic, header.version, ENVELOPE_VERSION)?;
        if header.encoding > Encoding::Plain as u8 {
            return Err(HeaderError::Encoding { expected: 2, actual: header.encoding });
        }
        if MessageType::from_u8(header.message_type).is_none() {
            let expected = MessageType::KNOWN;
            return Err(HeaderError::Kind { expected, actual: header.message_type });
        }
        Ok(header)
    }

    /// Encoding of the payload.
    #[inline]
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        match Encoding::from_u8(self.encoding) {
            Some(encoding) => encoding,
            None => Encoding::Unspecified,
        }
    }

    /// Request, response, event, error.
    #[inline]
    #[must_use]
    pub const fn message_type(&self) -> MessageType {
        match MessageType::from_u8(self.message_type) {
            Some(message_type) => message_type,
            None => MessageType::Error,
        }
    }

    /// Bits 0–2 compression, bit 3 more chunks follow.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Bytes 6 and 7.
    #[inline]
    #[must_use]
    pub const fn reserved(&self) -> [u8; 2] {
        self.reserved
    }

    /// Bytes after the header.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        u32::from_be_bytes(self.payload_len)
    }

    /// Method or event name, without padding.
    #[inline]
    #[must_use]
    pub fn message_id(&self) -> &[u8] {
        until_nul(&self.message_id)
    }

    /// Sender, without padding.
    #[inline]
    #[must_use]
    pub fn source_id(&self) -> &[u8] {
        until_nul(&self.source_id)
    }

    /// Receiver, without padding.
    #[inline]
    #[must_use]
    pub fn target_id(&self) -> &[u8] {
        until_nul(&self.target_id)
    }

    /// What the answer echoes, without padding.
    #[inline]
    #[must_use]
    pub fn correlation_id(&self) -> &[u8] {
        until_nul(&self.correlation_id)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}
