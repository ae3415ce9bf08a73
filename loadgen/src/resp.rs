//! Redis streams over RESP: XADD and XREAD, pipelined.

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};

/// Elements of one reply at most, nested ones included; an XREAD of 10,000 entries has 50,000.
const ELEMENTS_MAX: usize = 1_000_000;
/// Bytes of one bulk string at most: Redis' own `proto-max-bulk-len`.
const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Nesting of an XREAD reply is 4.
const DEPTH_MAX: usize = 8;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `+OK`
    Simple(Bytes),
    /// `-ERR …`
    Error(Bytes),
    /// `:1`
    Integer(i64),
    /// `$3`
    Bulk(Bytes),
    /// `*2`
    Array(Vec<Value>),
    /// `$-1` or `*-1`
    Null,
}

/// Replies of one connection.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    bytes: BytesMut,
}

impl Replies {
    /// Takes what the socket gave.
    pub(crate) fn receive(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// The next whole reply, if one is here.
    ///
    /// # Errors
    /// The bytes are no RESP.
    pub(crate) fn next_value(&mut self) -> anyhow::Result<Option<Value>> {
        let mut elements = 0;
        let Some(length) = measure(&self.bytes, 0, &mut elements)? else { return Ok(None) };
        let mut whole = self.bytes.split_to(length).freeze();
        read(&mut whole).map(Some)
    }
}

/// Bytes of the value at the front, `None` if it is not all here.
fn measure(bytes: &[u8], depth: usize, elements: &mut usize) -> anyhow::Result<Option<usize>> {
    *elements += 1;
    if depth > DEPTH_MAX || *elements > ELEMENTS_MAX {
        bail!("Redis reply of more than {DEPTH_MAX} levels or {ELEMENTS_MAX} elements");
    }
    let Some(line_end) = bytes.windows(2).take(1 << 16).position(|pair| pair == b"\r\n") else {
        if bytes.len() > 1 << 16 {
            bail!("Redis reply line of more than 64 KiB");
        }
        return Ok(None);
    };
    let after = line_end + 2;
    let (kind, line) = bytes.split_first().context("empty Redis reply")?;
    match kind {
        b'+' | b'-' | b':' => Ok(Some(after)),
        b'$' => match number(&line[..line_end - 1])? {
            -1 => Ok(Some(after)),
            n => {
                let n = usize::try_from(n).ok().filter(|n| *n <= BULK_BYTES_MAX);
                let end = after + n.context("Redis string of impossible length")? + 2;
                Ok((bytes.len() >= end).then_some(end))
            }
        },
        b'*' => {
            let mut end = after;
            for _ in 0..number(&line[..line_end - 1])?.max(0) {
                match measure(&bytes[end..], depth + 1, elements)? {
                    Some(length) => end += length,
                    None => return Ok(None),
                }
            }
            Ok(Some(end))
        }
        other => bail!("Redis reply begins with {}", other.escape_ascii()),
    }
}

/// Takes the value at the front, which `measure` has found whole.
fn read(bytes: &mut Bytes) -> anyhow::Result<Value> {
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n").context("cut Redis reply")?;
    let mut line = bytes.split_to(line_end);
    bytes.advance(2);
    let kind = line.split_to(1);
    Ok(match kind[0] {
        b'+' => Value::Simple(line),
        b'-' => Value::Error(line),
        b':' => Value::Integer(number(&line)?),
        b'$' => match usize::try_from(number(&line)?) {
            Ok(length) => {
                let bulk = bytes.split_to(length);
                bytes.advance(2);
                Value::Bulk(bulk)
            }
            Err(_) => Value::Null,
        },
        _ => match u32::try_from(number(&line)?) {
            Ok(count) => {
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(read(bytes)?);
                }
                Value::Array(values)
            }
            Err(_) => Value::Null,
        },
    })
}

fn number(text: &[u8]) -> anyhow::Result<i64> {
    let text = std::str::from_utf8(text).context("Redis number")?;
    text.parse().with_context(|| format!("Redis number {text:?}"))
}

/// Appends one command.
pub(crate) fn command(parts: &[&[u8]], out: &mut Vec<u8>) {
    put_line(b'*', parts.len(), out);
    for part in parts {
        put_line(b'$', part.len(), out);
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn put_line(kind: u8, number: usize, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends `XADD key * v value`.
pub(crate) fn xadd(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    command(&[b"XADD", key, b"*", b"v", value], out);
}

/// Appends `XREAD` of several streams, each after its id.
pub(crate) fn xread(keys: &[(&[u8], &[u8])], count: usize, block_ms: u64, out: &mut Vec<u8>) {
    let (count, block) = (count.to_string(), block_ms.to_string());
    let mut parts: Vec<&[u8]> =
        vec![b"XREAD", b"COUNT", count.as_bytes(), b"BLOCK", block.as_bytes(), b"STREAMS"];
    parts.extend(keys.iter().map(|(key, _)| *key));
    parts.extend(keys.iter().map(|(_, id)| *id));
    command(&parts, out);
}

/// One entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `milliseconds-number`.
    pub(crate) id: Bytes,
    /// Value of its field.
    pub(crate) value: Bytes,
}

/// Entries of an XREAD reply, per stream key.
///
/// # Errors
/// The reply is an error, or not of XREAD's form.
pub(crate) fn entries(reply: Value) -> anyhow::Result<Vec<(Bytes, Vec<Entry>)>> {
    let streams = match reply {
        Value::Array(streams) => streams,
        Value::Null => return Ok(Vec::new()),
        Value::Error(text) => bail!("Redis: {}", text.escape_ascii()),
        other => bail!("Redis answered XREAD with {other:?}"),
    };
    streams.into_iter().map(stream).collect()
}

fn stream(value: Value) -> anyhow::Result<(Bytes, Vec<Entry>)> {
    let [Value::Bulk(key), Value::Array(entries)] = array(value)? else {
        bail!("a stream of XREAD is not key and entries")
    };
    let entries: anyhow::Result<Vec<Entry>> = entries
        .into_iter()
        .map(|value| {
            let [Value::Bulk(id), Value::Array(mut fields)] = array(value)? else {
                bail!("an entry of XREAD is not id and fields")
            };
            match fields.pop() {
                Some(Value::Bulk(value)) => Ok(Entry { id, value }),
                _ => bail!("an entry of XREAD has no value"),
            }
        })
        .collect();
    Ok((key, entries?))
}

fn array(value: Value) -> anyhow::Result<[Value; 2]> {
    match value {
        Value::Array(values) => {
            values.try_into().ok().context("an array of XREAD has not two elements")
        }
        other => bail!("expected an array from Redis, got {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &[u8]) -> Vec<Value> {
        let mut replies = Replies::default();
        let mut values = Vec::new();
        for byte in text {
            replies.receive(&[*byte]);
            while let Some(value) = replies.next_value().unwrap() {
                values.push(value);
            }
        }
        values
    }

    #[test]
    fn replies_come_whole_in_order() {
        let values = feed(b"+OK\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*0\r\n-ERR x\r\n");
        let wanted = [
            Value::Simple(Bytes::from_static(b"OK")),
            Value::Integer(-5),
            Value::Bulk(Bytes::from_static(b"a\r\n")),
            Value::Null,
            Value::Null,
            Value::Array(Vec::new()),
            Value::Error(Bytes::from_static(b"ERR x")),
        ];
        assert_eq!(values, wanted);
    }

    #[test]
    fn entries_of_two_streams_are_found() {
        let reply = b"*2\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nv\r\n$2\r\nhi\r\n*2\r\n$1\r\nb\r\n*0\r\n";
        let streams = entries(feed(reply).remove(0)).unwrap();
        assert_eq!(streams.len(), 2);
        let entry = &streams[0].1[0];
        assert_eq!((&entry.id[..], &entry.value[..]), (&b"1-0"[..], &b"hi"[..]));
        assert!(streams[1].1.is_empty());
        assert_eq!(entries(Value::Null).unwrap(), []);
    }

    #[test]
    fn garbage_is_an_error() {
        for text in [&b"?\r\n"[..], b"$x\r\n", b"$-2\r\n", b"*1\r\n?\r\n"] {
            let mut replies = Replies::default();
            replies.receive(text);
            assert!(replies.next_value().is_err(), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn commands_have_lengths_in_decimal() {
        let mut out = Vec::new();
        xadd(b"t-0", b"0123456789", &mut out);
        let wanted =
            b"*5\r\n$4\r\nXADD\r\n$3\r\nt-0\r\n$1\r\n*\r\n$1\r\nv\r\n$10\r\n0123456789\r\n";
        assert_eq!(out.escape_ascii().to_string(), wanted.escape_ascii().to_string());
    }
}
