//! What happened, record by record, as JSON lines for a checker.
//!
//! `{"op":"send|ack|poll","topic":T,"partition":P,"producer":ID,"seq":N,"offset":O,"t_us":T}`, one line per
//! record; `offset` is −1 where unknown; `t_us` counts from the start of the run. A send is written before
//! its bytes leave, an acknowledgement after it has come. A mark, `M` and `t_us` as u64 LE on a socket, follows
//! the acknowledgements of one receive: those of its time and before are durable, whatever breaks next.

use anyhow::Context;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// Lines are written to the file in runs of about this many bytes.
const RUN_BYTES: usize = 64 * 1024;
/// Below the run's number in a line's `producer`: histories of several runs on one topic may be checked together.
const PRODUCER_BITS: u32 = 16;

/// The file, shared by every connection; lines stay whole because each run is one appending write.
#[derive(Clone, Debug)]
pub(crate) struct HistoryFile {
    file: Arc<File>,
    marks: Option<Arc<UnixStream>>,
}

impl HistoryFile {
    /// Creates the file, emptying one that is there, and connects to the socket that marks go to.
    ///
    /// # Errors
    /// It cannot be created, or nobody listens.
    pub(crate) fn create(path: &Path, marks: Option<&Path>) -> anyhow::Result<HistoryFile> {
        let context = || format!("cannot write {}", path.display());
        File::create(path).with_context(context)?;
        let file = File::options().append(true).open(path).with_context(context)?;
        let connect = |socket: &Path| {
            UnixStream::connect(socket).with_context(|| format!("no marks to {}", socket.display()))
        };
        let marks = marks.map(connect).transpose()?.map(Arc::new);
        Ok(HistoryFile { file: Arc::new(file), marks })
    }
}

/// One connection's lines.
#[derive(Debug)]
pub(crate) struct History {
    file: Option<HistoryFile>,
    topic: String,
    lines: Vec<u8>,
}

/// What is told of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// Partition.
    pub(crate) partition: u32,
    /// Run.
    pub(crate) run: u32,
    /// Producer of that run.
    pub(crate) producer: u32,
    /// Sequence.
    pub(crate) seq: u64,
    /// Offset, −1 = unknown.
    pub(crate) offset: i64,
    /// When, ns since the run began.
    pub(crate) now_ns: u64,
}

impl History {
    /// Lines for `file`, or none at all.
    pub(crate) fn new(file: Option<HistoryFile>, topic: &str) -> History {
        // Topic names are [a-zA-Z0-9._-]; others are refused by the server, but must not break the JSON.
        let topic = topic.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
        History { file, topic, lines: Vec::new() }
    }

    /// Adds a line for each of `count` records from `first` on.
    ///
    /// # Errors
    /// The file refuses a write.
    pub(crate) fn tell(&mut self, op: &str, first: Told, count: u64) -> anyhow::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let Told { partition, run, producer, seq, offset, now_ns } = first;
        let producer = (u64::from(run) << PRODUCER_BITS) + u64::from(producer);
        for at in 0..count {
            let offset = if offset < 0 { -1 } else { offset.saturating_add_unsigned(at) };
            writeln!(
                self.lines,
                r#"{{"op":"{op}","topic":"{}","partition":{partition},"producer":{producer},"seq":{},"offset":{offset},"t_us":{}}}"#,
                self.topic,
                seq + at,
                now_ns / 1000
            )?;
        }
        if self.lines.len() >= RUN_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Tells who takes marks that every acknowledgement of this connection up to `now_ns` has come.
    ///
    /// # Errors
    /// Nobody takes it any more.
    pub(crate) fn mark(&self, now_ns: u64) -> anyhow::Result<()> {
        let marks = self.file.as_ref().and_then(|file| file.marks.as_deref());
        let Some(mut marks) = marks else { return Ok(()) };
        let mut message = [b'M'; 9];
        message[1..].copy_from_slice(&(now_ns / 1000).to_le_bytes());
        marks.write_all(&message).context("cannot send a mark")
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// The file refuses the write.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        if let Some(HistoryFile { file, .. }) = &self.file {
            file.as_ref().write_all(&self.lines).context("cannot write the history")?;
        }
        self.lines.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_one_json_line() {
        let dir = std::env::temp_dir().join(format!("ringway-history-{}", std::process::id()));
        let file = HistoryFile::create(&dir, None).unwrap();
        let mut history = History::new(Some(file), "a\"b");
        let told = Told { partition: 1, run: 1, producer: 2, seq: 3, offset: 40, now_ns: 5_000 };
        history.tell("ack", told, 2).unwrap();
        history.tell("poll", Told { offset: -1, ..told }, 1).unwrap();
        history.flush().unwrap();
        let text = std::fs::read_to_string(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let wanted = serde_json::json!({"op": "ack", "topic": "ab", "partition": 1, "producer": 65538,
            "seq": 4, "offset": 41, "t_us": 5});
        assert_eq!((lines.len(), &lines[1]), (3, &wanted));
        assert_eq!(lines[2]["offset"], -1);
    }
}
