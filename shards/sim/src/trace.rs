//! What happened: always as a hash, on request as text.
//! Owner: the node.
//! Invariant: the hash depends on nothing but the seed.
//! Not here: printing.

use crate::queue::Asker;
use crate::rng::mix;
use ringway_log::io::IoRequest;

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
