//! Bounds-checked reading of Kafka's primitive types.
//!
//! Kafka's generated decoders allocate by the announced element count; a client that talks to any
//! address must not, so replies are read by hand.

use crate::error::ClientError;
use bytes::{Buf, Bytes};
use ringway_wire::error_code::ErrorCode;

/// Reads one reply from its front.
pub(super) struct Reader {
    bytes: Bytes,
    flexible: bool,
}

impl Reader {
    /// Over `bytes`; `flexible` selects compact strings, compact arrays and tagged fields.
    pub(super) fn new(bytes: Bytes, flexible: bool) -> Reader {
        Reader { bytes, flexible }
    }

    /// Switches between the two encodings (ApiVersions falls back to version 0).
    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn need(&self, wanted: usize, what: &'static str) -> Result<(), ClientError> {
        let left = self.bytes.remaining();
        if left < wanted {
            return Err(ClientError::Truncated { what, wanted, left });
        }
        Ok(())
    }

    pub(super) fn i8(&mut self, what: &'static str) -> Result<i8, ClientError> {
        self.need(1, what)?;
        Ok(self.bytes.get_i8())
    }

    pub(super) fn i16(&mut self, what: &'static str) -> Result<i16, ClientError> {
        self.need(2, what)?;
        Ok(self.bytes.get_i16())
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, ClientError> {
        self.need(4, what)?;
        Ok(self.bytes.get_i32())
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, ClientError> {
        self.need(8, what)?;
        Ok(self.bytes.get_i64())
    }

    pub(super) fn error(&mut self) -> Result<ErrorCode, ClientError> {
        Ok(ErrorCode::from_code(self.i16("error code")?))
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Result<[u8; 16], ClientError> {
        self.need(16, what)?;
        let mut uuid = [0; 16];
        self.bytes.copy_to_slice(&mut uuid);
        Ok(uuid)
    }

    fn uvarint(&mut self, what: &'static str) -> Result<u32, ClientError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            self.need(1, what)?;
            let byte = self.bytes.get_u8();
            let part = u32::from(byte & 0x7f);
            let moved = part.checked_shl(shift).filter(|m| m >> shift == part);
            value |= moved.ok_or_else(|| ClientError::Malformed {
                what,
                detail: "varint exceeds 32 bits".into(),
            })?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ClientError::Malformed { what, detail: "varint of more than 5 bytes".into() })
    }

    /// Length of a string, byte run or array; `None` is null.
    fn length(&mut self, what: &'static str, wide: bool) -> Result<Option<usize>, ClientError> {
        let length = if self.flexible {
            i64::from(self.uvarint(what)?) - 1
        } else if wide {
            i64::from(self.i32(what)?)
        } else {
            i64::from(self.i16(what)?)
        };
        match length {
            -1 => Ok(None),
            n => match usize::try_from(n) {
                Ok(n) => {
                    self.need(n, what)?;
                    Ok(Some(n))
                }
                Err(_) => {
                    Err(ClientError::Malformed { what, detail: format!("negative length {n}") })
                }
            },
        }
    }

    /// A string that may be null.
    pub(super) fn nullable_string(
        &mut self,
        what: &'static str,
    ) -> Result<Option<String>, ClientError> {
        let Some(n) = self.length(what, false)? else { return Ok(None) };
        let bytes = self.bytes.split_to(n);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(ClientError::Malformed { what, detail: "not UTF-8".into() }),
        }
    }

    /// A string; null reads as empty.
    pub(super) fn string(&mut self, what: &'static str) -> Result<String, ClientError> {
        Ok(self.nullable_string(what)?.unwrap_or_default())
    }

    /// A byte run, null reads as empty; shares the frame's memory.
    pub(super) fn byte_run(&mut self, what: &'static str) -> Result<Bytes, ClientError> {
        match self.length(what, true)? {
            Some(n) => Ok(self.bytes.split_to(n)),
            None => Ok(Bytes::new()),
        }
    }

    /// An array, null reads as empty. The count is at most the bytes that remain, as every element
    /// takes at least one.
    pub(super) fn array<T>(
        &mut self,
        what: &'static str,
        mut element: impl FnMut(&mut Reader) -> Result<T, ClientError>,
    ) -> Result<Vec<T>, ClientError> {
        let count = self.length(what, true)?.unwrap_or(0);
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Skips tagged fields, which exist in flexible versions only.
    pub(super) fn tags(&mut self) -> Result<(), ClientError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint("tag count")? {
            self.uvarint("tag")?;
            let size = self.uvarint("tag size")? as usize;
            self.need(size, "tagged field")?;
            self.bytes.advance(size);
        }
        Ok(())
    }
}
