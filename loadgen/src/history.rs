//! What happened, record by record, as JSON lines for a checker.
//!
//! `{"op":"send|ack|poll","topic":T,"partition":P,"producer":ID,"seq":N,"offset":O,"t_us":T}`, one line per
//! record; `offset` is −1 where unknown; `t_us` counts from the start of the run. A send is written before
//! its bytes leave, an acknowledgement after it has come.

use anyhow::Context;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Lines are written to the file in runs of about this many bytes.
const RUN_BYTES: usize = 64 * 1024;

/// The file, shared by every connection; lines stay whole because each run is one appending write.
#[derive(Clone, Debug)]
pub(crate) struct HistoryFile(Arc<File>);

impl HistoryFile {
    /// Creates the file, emptying one that is there.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn create(path: &Path) -> anyhow::Result<HistoryFile> {
        let context = || format!("cannot write {}", path.display());
        File::create(path).with_context(context)?;
        let file = File::options().append(true).open(path).with_context(context)?;
        Ok(HistoryFile(Arc::new(file)))
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
    /// Producer.
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
        let Told { partition, producer, seq, offset, now_ns } = first;
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

    /// Writes what is buffered.
    ///
    /// # Errors
    /// The file refuses the write.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        if let Some(HistoryFile(file)) = &self.file {
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
        let file = HistoryFile::create(&dir).unwrap();
        let mut history = History::new(Some(file), "a\"b");
        let told = Told { partition: 1, producer: 2, seq: 3, offset: 40, now_ns: 5_000 };
        history.tell("ack", told, 2).unwrap();
        history.tell("poll", Told { offset: -1, ..told }, 1).unwrap();
        history.flush().unwrap();
        let text = std::fs::read_to_string(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let wanted = serde_json::json!({"op": "ack", "topic": "ab", "partition": 1, "producer": 2,
            "seq": 4, "offset": 41, "t_us": 5});
        assert_eq!((lines.len(), &lines[1]), (3, &wanted));
        assert_eq!(lines[2]["offset"], -1);
    }
}
