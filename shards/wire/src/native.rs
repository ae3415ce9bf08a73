//! Native frames: where one ends, what its payload is, and the frames that answer.
//! Owner: nobody, functions over slices.
//! Invariant: a length is checked against its limit before anybody waits or allocates for it.
//! Not here: header layouts (`header.rs`), what a message asks for (`native/control.rs`).

pub mod control;
pub mod gob;

use crate::error_code::ErrorCode;
use crate::header::{
    BATCH_VERSION, BatchHeader, ENVELOPE_VERSION, Encoding, EnvelopeHeader, EnvelopeLine,
    HEADER_LEN, HeaderError, IdError, KAFKA_AT, KAFKA_HEADER_LEN, Kind, Line, MAGIC, MessageType,
    flags_of_attributes, stamp,
};
use gob::GobError;

/// Receiver of messages that the broker itself handles.
pub const BROKER: &[u8] = b"broker";
/// Decimal digits of the greatest `u64`: a correlation number always fits the 20 bytes of an envelope.
const CORRELATION_DIGITS: usize = 20;

/// Why bytes are not a native frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Payload above the limit.
    #[error("message too large: {actual} bytes, limit {limit}")]
    TooLarge {
        /// Payload bytes announced.
        actual: u32,
        /// Payload bytes allowed.
        limit: u32,
    },
    /// The payload is not the gob it should be.
    #[error(transparent)]
    Gob(#[from] GobError),
    /// The payload of an error frame is too short for its code.
    #[error("error frame with {actual} payload bytes, expected at least 2")]
    NoCode {
        /// Bytes there are.
        actual: usize,
    },
}

/// What the first bytes of a frame tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStart {
    /// So many bytes must be there before more can be said.
    NeedMore(usize),
    /// An envelope of so many bytes, header included.
    Envelope(usize),
    /// A batch frame of so many bytes, header included; its header checksum is right.
    Batch(usize),
}

/// Reads the start of a frame as far as it has come; damage shows at the first byte that proves it.
/// Payloads (all but the 128 bytes) may have `payload_max` bytes.
///
/// # Errors
/// [`FrameError`]; the stream is lost but for `TooLarge`, after which the payload can be skipped.
#[inline]
pub fn frame_start(bytes: &[u8], payload_max: u32) -> Result<FrameStart, FrameError> {
    if bytes.len() < HEADER_LEN {
        check_first_bytes(bytes)?;
        return Ok(FrameStart::NeedMore(HEADER_LEN));
    }
    if bytes.get(2) == Some(&ENVELOPE_VERSION) {
        let actual = EnvelopeHeader::access(bytes)?.payload_len();
        if actual > payload_max {
            return Err(FrameError::TooLarge { actual, limit: payload_max });
        }
        return Ok(FrameStart::Envelope(whole(actual)));
    }
    let header = BatchHeader::access(bytes)?;
    BatchHeader::check_crc(bytes, 0)?;
    header.check_lengths(u32::MAX)?;
    let actual = header.frame_len().saturating_sub(128);
    if actual > payload_max {
        return Err(FrameError::TooLarge { actual, limit: payload_max });
    }
    Ok(FrameStart::Batch(whole(actual)))
}

fn whole(payload_len: u32) -> usize {
    usize::try_from(payload_len).unwrap_or(usize::MAX).saturating_add(HEADER_LEN)
}

fn check_first_bytes(bytes: &[u8]) -> Result<(), HeaderError> {
    let magic = MAGIC;
    let actual =
        [bytes.first().copied().unwrap_or(magic[0]), bytes.get(1).copied().unwrap_or(magic[1])];
    if actual != magic {
        return Err(HeaderError::Magic { expected: magic, actual });
    }
    match bytes.get(2) {
        None | Some(&(ENVELOPE_VERSION | BATCH_VERSION)) => Ok(()),
        Some(&actual) => Err(HeaderError::Version { expected: ENVELOPE_VERSION, actual }),
    }
}

/// A whole envelope, borrowed.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    /// Its header.
    pub header: &'a EnvelopeHeader,
    /// Its payload as it travelled.
    pub payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Views a whole envelope, as long as [`frame_start`] said.
    ///
    /// # Errors
    /// [`FrameError::Header`], also when the payload is cut off.
    pub fn parse(bytes: &'a [u8]) -> Result<Envelope<'a>, FrameError> {
        let header = EnvelopeHeader::access(bytes)?;
        let expected = whole(header.payload_len());
        let short = HeaderError::Short { expected, actual: bytes.len() };
        let payload = bytes.get(HEADER_LEN..expected).ok_or(short)?;
        Ok(Envelope { header, payload })
    }

    /// The payload without the gob around it; JSON stays JSON, plain bytes stay plain.
    ///
    /// # Errors
    /// [`FrameError::Gob`].
    pub fn content(&self) -> Result<&'a [u8], FrameError> {
        match self.header.encoding() {
            Encoding::Gob => Ok(gob::unwrap(self.payload)?),
            Encoding::Json | Encoding::Plain | Encoding::Unspecified => Ok(self.payload),
        }
    }

    /// The line of the answer to this message: its ids, encoding and correlation, turned round.
    #[must_use]
    pub fn answer(&self, message_type: MessageType) -> EnvelopeLine<'a> {
        EnvelopeLine {
            encoding: self.header.encoding(),
            message_type,
            flags: 0,
            reserved: self.header.reserved(),
            payload_len: 0,
            message_id: self.header.message_id(),
            source_id: self.header.target_id(),
            target_id: self.header.source_id(),
            correlation_id: self.header.correlation_id(),
        }
    }
}

impl std::fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("message_type", &self.header.message_type())
            .field("message_id", &self.header.message_id().escape_ascii().to_string())
            .field("payload", &self.payload.len())
            .finish()
    }
}

/// Appends an envelope whose content is `content` (JSON bytes, or plain ones), wrapped as `line.encoding`
/// asks; the payload length is set here.
///
/// # Errors
/// [`IdError`]; `out` is as before.
pub fn put_envelope(
    out: &mut Vec<u8>,
    line: &EnvelopeLine<'_>,
    content: &[u8],
) -> Result<(), IdError> {
    let gob_front = match line.encoding {
        Encoding::Gob => gob::front(content.len()),
        Encoding::Json | Encoding::Plain | Encoding::Unspecified => gob::Front::default(),
    };
    let actual = content.len().saturating_add(gob_front.bytes().len());
    let too_long = IdError {
        field: "payload",
        reason: "too long",
        actual,
        limit: usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    };
    let payload_len = u32::try_from(actual).map_err(|_| too_long)?;
    let header = EnvelopeLine { payload_len, ..*line }.to_bytes()?;
    out.extend_from_slice(&header);
    out.extend_from_slice(gob_front.bytes());
    out.extend_from_slice(content);
    Ok(())
}

/// A request to the broker with a number as correlation id.
#[must_use]
pub fn request_line<'a>(message_id: &'a str, correlation: &'a CorrelationText) -> EnvelopeLine<'a> {
    EnvelopeLine {
        encoding: Encoding::Json,
        message_type: MessageType::Request,
        flags: 0,
        reserved: [0; 2],
        payload_len: 0,
        message_id: message_id.as_bytes(),
        source_id: b"",
        target_id: BROKER,
        correlation_id: correlation.bytes(),
    }
}

/// A correlation number as an envelope carries it: decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelationText {
    digits: [u8; CORRELATION_DIGITS],
    from: usize,
}

impl CorrelationText {
    /// The digits of `number`.
    #[must_use]
    pub fn new(number: u64) -> CorrelationText {
        let mut text =
            CorrelationText { digits: [b'0'; CORRELATION_DIGITS], from: CORRELATION_DIGITS };
        let mut left = number;
        for (place, digit) in text.digits.iter_mut().enumerate().rev() {
            let [low, ..] = left.wrapping_rem(10).to_le_bytes();
            *digit = low.wrapping_add(b'0');
            text.from = place;
            left = left.wrapping_div(10);
            if left == 0 {
                break;
            }
        }
        text
    }

    /// The digits.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.digits.get(self.from..).unwrap_or_default()
    }
}

/// The number that a correlation id spells in decimal digits: batch frames that follow an envelope carry
/// it. Other ids are echoed in envelopes and read as 0 in batch frames.
#[must_use]
pub fn correlation_number(id: &[u8]) -> Option<u64> {
    let digits = id.first().is_some_and(u8::is_ascii_digit);
    std::str::from_utf8(id).ok().filter(|_| digits)?.parse().ok()
}

/// What a produce-ack tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceAck {
    /// The producer's number of the batch.
    pub correlation: u64,
    /// Topic.
    pub topic_id: u64,
    /// Partition.
    pub partition: u32,
    /// Offset of the batch's first record.
    pub base_offset: u64,
    /// When it was appended, Unix ns.
    pub append_time_ns: u64,
}

/// Appends the 128 bytes of a produce-ack.
pub fn put_produce_ack(out: &mut Vec<u8>, ack: &ProduceAck) {
    let mut header = [0; HEADER_LEN];
    let line = Line {
        encoding: Encoding::Unspecified,
        append_time_ns: ack.append_time_ns,
        base_offset: ack.base_offset,
        ..answer_line(Kind::ProduceAck, ack.topic_id, ack.partition, ack.correlation)
    };
    stamp(&mut header, &line, 0);
    out.extend_from_slice(&header);
}

/// What a produce-ack's header tells.
#[must_use]
pub fn produce_ack(header: &BatchHeader) -> ProduceAck {
    ProduceAck {
        correlation: header.correlation(),
        topic_id: header.topic_id(),
        partition: header.partition(),
        base_offset: header.base_offset(),
        append_time_ns: header.append_time_ns(),
    }
}

/// Appends an error frame: `code` and what happened, for the request `correlation`. A message of 64 KiB
/// and more is cut: it is for people.
pub fn put_error_frame(
    out: &mut Vec<u8>,
    topic_id: u64,
    partition: u32,
    correlation: u64,
    code: ErrorCode,
    message: &str,
) {
    const MESSAGE_BYTES_MAX: usize = 65_535;
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    let message = message.get(..end).unwrap_or_default();
    let payload_len = u32::try_from(message.len()).unwrap_or(0).saturating_add(2);
    let mut header = [0; HEADER_LEN];
    let line = Line {
        frame_len: payload_len.saturating_add(128),
        ..answer_line(Kind::Error, topic_id, partition, correlation)
    };
    stamp(&mut header, &line, 0);
    out.extend_from_slice(&header);
    out.extend_from_slice(&code.code().to_le_bytes());
    out.extend_from_slice(message.as_bytes());
}

/// The code and message in the payload of an error frame; bytes that are no UTF-8 become U+FFFD.
///
/// # Errors
/// [`FrameError::NoCode`].
pub fn error_payload(payload: &[u8]) -> Result<(ErrorCode, String), FrameError> {
    let no_code = FrameError::NoCode { actual: payload.len() };
    let (code, message) = payload.split_first_chunk::<2>().ok_or(no_code)?;
    let code = ErrorCode::from_code(i16::from_le_bytes(*code));
    Ok((code, String::from_utf8_lossy(message).into_owned()))
}

/// The native line of a batch that a client produces; everything the broker stamps is zero.
/// `frame_len` is 128 + bytes of records, `attributes` those of the batch.
#[must_use]
pub fn produce_line(
    topic_id: u64,
    partition: u32,
    correlation: u64,
    encoding: Encoding,
    attributes: i16,
    frame_len: u32,
) -> Line {
    Line {
        encoding,
        flags: flags_of_attributes(attributes),
        frame_len,
        leader_epoch: -1,
        ..answer_line(Kind::Data, topic_id, partition, correlation)
    }
}

/// The header of a stored frame as a client sees it: kind deliver, its correlation, a plain checksum, and
/// none of the evidence about the disk (P5). Bytes 67 to 128 are those of `stored`.
#[must_use]
pub fn deliver_header(
    stored: &BatchHeader,
    kafka: &[u8; KAFKA_HEADER_LEN],
    correlation: u64,
) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[KAFKA_AT..].copy_from_slice(kafka);
    let line = Line {
        encoding: stored.encoding(),
        flags: stored.flags(),
        frame_len: stored.frame_len(),
        append_time_ns: stored.append_time_ns(),
        base_offset: stored.base_offset(),
        leader_epoch: stored.leader_epoch(),
        ..Line::delivered(stored.topic_id(), stored.partition(), correlation)
    };
    stamp(&mut header, &line, 0);
    header
}

fn answer_line(kind: Kind, topic_id: u64, partition: u32, correlation: u64) -> Line {
    Line { kind, ..Line::delivered(topic_id, partition, correlation) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_writer::{BatchOptions, BatchWriter};

    #[test]
    fn envelope_goes_there_and_back_in_every_encoding() {
        for encoding in [Encoding::Json, Encoding::Gob, Encoding::Plain] {
            let correlation = CorrelationText::new(77);
            let line = EnvelopeLine { encoding, ..request_line("Metadata", &correlation) };
            let mut bytes = Vec::new();
            put_envelope(&mut bytes, &line, b"{\"topics\":null}").unwrap();
            let whole = bytes.len();
            assert_eq!(frame_start(&bytes, 100), Ok(FrameStart::Envelope(whole)));
            let envelope = Envelope::parse(&bytes).unwrap();
            assert_eq!(envelope.content().unwrap(), b"{\"topics\":null}");
            assert_eq!(envelope.header.message_id(), b"Metadata");
            assert_eq!(envelope.header.target_id(), BROKER);
            assert_eq!(correlation_number(envelope.header.correlation_id()), Some(77));
            let answer = envelope.answer(MessageType::Response);
            assert_eq!((answer.source_id, answer.correlation_id), (BROKER, &b"77"[..]));
            assert!(Envelope::parse(&bytes[..whole - 1]).is_err());
        }
    }

    #[test]
    fn a_frame_that_arrives_byte_by_byte_is_judged_as_early_as_it_can_be() {
        let mut bytes = Vec::new();
        put_error_frame(&mut bytes, 5, 6, 7, ErrorCode::MessageTooLarge, "912 > 1000");
        for cut in 0..128 {
            assert_eq!(frame_start(&bytes[..cut], 100), Ok(FrameStart::NeedMore(128)));
        }
        assert_eq!(frame_start(&bytes[..128], 100), Ok(FrameStart::Batch(bytes.len())));
        let magic = HeaderError::Magic { expected: MAGIC, actual: *b"X2" };
        assert_eq!(frame_start(b"X", 100), Err(FrameError::Header(magic)));
        let version = HeaderError::Version { expected: 1, actual: 3 };
        assert_eq!(frame_start(b"V2\x03", 100), Err(FrameError::Header(version)));
        let (code, message) = error_payload(&bytes[128..]).unwrap();
        assert_eq!((code, message.as_str()), (ErrorCode::MessageTooLarge, "912 > 1000"));
        assert_eq!(error_payload(&[1]), Err(FrameError::NoCode { actual: 1 }));
    }

    #[test]
    fn payloads_above_the_limit_are_refused_by_their_header() {
        let mut bytes = Vec::new();
        let correlation = CorrelationText::new(0);
        put_envelope(&mut bytes, &request_line("Hello", &correlation), &[0; 101]).unwrap();
        let error = FrameError::TooLarge { actual: 101, limit: 100 };
        assert_eq!(frame_start(&bytes[..128], 100), Err(error));
        assert_eq!(error.to_string(), "message too large: 101 bytes, limit 100");
    }

    #[test]
    fn correlation_numbers_fit_and_come_back() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let text = CorrelationText::new(number);
            assert_eq!(text.bytes(), number.to_string().as_bytes());
            assert_eq!(correlation_number(text.bytes()), Some(number));
        }
        assert_eq!(correlation_number(b""), None);
        assert_eq!(correlation_number(b"+1"), None);
        assert_eq!(correlation_number(b"corr-1"), None);
        assert_eq!(correlation_number(b"99999999999999999999"), None);
    }

    #[test]
    fn ack_echoes_the_request() {
        let ack = ProduceAck {
            correlation: 1,
            topic_id: 2,
            partition: 3,
            base_offset: 4,
            append_time_ns: 5,
        };
        let mut bytes = Vec::new();
        put_produce_ack(&mut bytes, &ack);
        assert_eq!(frame_start(&bytes, 0), Ok(FrameStart::Batch(128)));
        let header = BatchHeader::access(&bytes).unwrap();
        assert_eq!(header.kind(), Kind::ProduceAck);
        assert_eq!(produce_ack(header), ack);
    }

    #[test]
    fn delivered_header_keeps_the_batch_and_hides_the_disk() {
        let mut writer = BatchWriter::new(BatchOptions::default());
        writer.push(1, None, Some(b"v"), &[]).unwrap();
        writer.finish().unwrap();
        let line = produce_line(9, 2, 44, Encoding::Plain, 0, 0);
        let stored = Line {
            log_epoch: 7,
            prev_crc: 8,
            prev_frame_len: 128,
            flushed_upto: 5,
            append_time_ns: 66,
            base_offset: 6,
            ..line
        };
        let frame = writer.frame(&stored).to_vec();
        let header = BatchHeader::access(&frame).unwrap();
        let kafka = frame[KAFKA_AT..].first_chunk().unwrap();
        let delivered = deliver_header(header, kafka, 44);
        assert_eq!(delivered[KAFKA_AT..], frame[KAFKA_AT..HEADER_LEN]);
        let whole = FrameStart::Batch(frame.len());
        assert_eq!(frame_start(&delivered, 1000), Ok(whole));
        let seen = BatchHeader::access(&delivered).unwrap();
        assert_eq!((seen.kind(), seen.correlation()), (Kind::Deliver, 44));
        assert_eq!((seen.append_time_ns(), seen.base_offset()), (66, 6));
        assert_eq!((seen.log_epoch(), seen.prev_crc()), (0, 0));
        assert_eq!((seen.prev_frame_len(), seen.flushed_upto()), (0, 0));
    }
}
