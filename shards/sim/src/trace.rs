//! What happened: always as a hash, on request as text.
//! Owner: the node.
//! Invariant: the hash depends on nothing but the seed.
//! Not here: printing.

use crate::queue::Asker;
use crate::rng::{hash_bytes, mix};
use ringway_log::io::{IoId, IoRequest};

/// Hash and text of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    /// Lines, when asked for.
    pub lines: Option<Vec<String>>,
}

impl Trace {
    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Folds a word in.
    pub fn mix(&mut self, word: u64) {
        self.hash = mix(self.hash, word);
    }

    /// Folds an event in.
    pub fn mark(&mut self, at_ns: u64, kind: u64, what: u64) {
        self.hash = mix(mix(mix(self.hash, at_ns), kind), what);
    }

    /// Tells a line, if anybody listens.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line());
        }
    }

    /// Tells a disk request.
    pub fn io(&mut self, at_ns: u64, asker: Asker, request: &IoRequest) {
        self.tell(|| match request {
            IoRequest::WriteSmall { id, file, body } => {
                format!("{at_ns} {asker:?} WriteSmall {id:?} {file:?} {} bytes", body.len())
            }
            other => format!("{at_ns} {asker:?} {other:?}"),
        });
    }

    /// Tells whole requests that a client sends, Kafka's by name and version.
    pub fn requests(&mut self, at_ns: u64, connection: u32, bytes: &[u8]) {
        if self.lines.is_none() {
            return;
        }
        let mut rest = bytes;
        while rest.len() >= 12 {
            let (line, len) = match rest {
                [b'V', b'2', 1, ..] => (envelope(rest), frame_len_at(rest, false)),
                [b'V', b'2', ..] => {
                    (format!("native batch of {} bytes", rest.len()), frame_len_at(rest, true))
                }
                _ => kafka(rest),
            };
            self.tell(|| format!("{at_ns} connection {connection} sends {line}"));
            rest = rest.get(len..).unwrap_or_default();
        }
    }
}

/// Folds a request into the trace hash.
#[must_use]
pub fn hash_request(hash: u64, request: &IoRequest) -> u64 {
    let kind = |n: u64, id: &IoId| mix(mix(hash, n), id.0);
    match request {
        IoRequest::Write { id, file, at, data, .. } => {
            mix(mix(kind(1, id), u64::from(file.0)), at ^ (u64::from(data.end - data.start) << 56))
        }
        IoRequest::Read { id, file, at, .. } => mix(mix(kind(2, id), u64::from(file.0)), *at),
        IoRequest::Flush { id, file } => mix(kind(3, id), u64::from(file.0)),
        IoRequest::Prepare { id, name, bytes, .. } => {
            mix(mix(kind(4, id), name.base_offset), *bytes)
        }
        IoRequest::Adopt { id, name, .. } => mix(kind(5, id), name.base_offset),
        IoRequest::Extend { id, to, .. } => mix(kind(6, id), *to),
        IoRequest::Trim { id, bytes, .. } => mix(kind(7, id), *bytes),
        IoRequest::Open { id, name } => mix(kind(8, id), name.base_offset),
        IoRequest::Close { id, file } => mix(kind(9, id), u64::from(file.0)),
        IoRequest::Unlink { id, name } => mix(kind(10, id), name.base_offset),
        IoRequest::SetAside { id, name } => mix(kind(11, id), name.base_offset),
        IoRequest::RemoveLog { id, log } => mix(kind(12, id), log.topic_id),
        IoRequest::SyncDir { id, .. } => kind(13, id),
        IoRequest::List { id, .. } => kind(14, id),
        IoRequest::ReadSmall { id, .. } => kind(15, id),
        IoRequest::WriteSmall { id, body, .. } => hash_bytes(kind(16, id), body),
        IoRequest::RemoveSmall { id, .. } => kind(17, id),
    }
}

fn frame_len_at(bytes: &[u8], batch: bool) -> usize {
    let word = [bytes[8], bytes[9], bytes[10], bytes[11]];
    if batch { u32::from_le_bytes(word) as usize } else { 128 + u32::from_be_bytes(word) as usize }
}

fn envelope(bytes: &[u8]) -> String {
    let name = bytes.get(12..44).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    format!("native {}", String::from_utf8_lossy(&name[..end]))
}

fn kafka(bytes: &[u8]) -> (String, usize) {
    let len = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    let key = i16::from_be_bytes([bytes[4], bytes[5]]);
    let version = i16::from_be_bytes([bytes[6], bytes[7]]);
    let correlation = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let name = match key {
        0 => "Produce",
        1 => "Fetch",
        2 => "ListOffsets",
        3 => "Metadata",
        8 => "OffsetCommit",
        9 => "OffsetFetch",
        10 => "FindCoordinator",
        18 => "ApiVersions",
        19 => "CreateTopics",
        20 => "DeleteTopics",
        22 => "InitProducerId",
        _ => "other",
    };
    (format!("Kafka {name} v{version} correlation {correlation}, {len} bytes"), 4 + len)
}
