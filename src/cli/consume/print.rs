//! One record on stdout: its bytes as they are, or a JSON object.

use super::Output;
use ringway_client::records::Delivered;
use serde_json::{Map, Value};
use std::io::{BufWriter, StdoutLock, Write};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Prints to `W`, counting.
pub(in crate::cli) struct Printer<W: Write = StdoutLock<'static>> {
    out: BufWriter<W>,
    topic: String,
    output: Output,
    key: bool,
    headers: bool,
    left: Option<u64>,
}

impl Printer {
    /// To stdout; `count` records at most.
    pub(in crate::cli) fn new(
        topic: &str,
        output: Output,
        key: bool,
        headers: bool,
        count: Option<u64>,
    ) -> Printer {
        let out = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock());
        Printer { out, topic: topic.to_owned(), output, key, headers, left: count }
    }
}

impl<W: Write> Printer<W> {
    /// Whether as many as asked for are printed.
    pub(in crate::cli) fn done(&self) -> bool {
        self.left == Some(0)
    }

    /// Records that may still be printed, `None` = all.
    pub(in crate::cli) fn left(&self) -> Option<u64> {
        self.left
    }

    /// Prints one; `false` when that was enough or it is too many.
    pub(in crate::cli) fn print(
        &mut self,
        partition: u32,
        record: &Delivered<'_>,
    ) -> std::io::Result<bool> {
        match &mut self.left {
            Some(0) => return Ok(false),
            Some(left) => *left -= 1,
            None => {}
        }
        match self.output {
            Output::Raw => self.print_raw(record)?,
            Output::Json => self.print_json(partition, record)?,
        }
        Ok(!self.done())
    }

    /// Writes what is gathered.
    pub(in crate::cli) fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }

    fn print_raw(&mut self, record: &Delivered<'_>) -> std::io::Result<()> {
        if self.headers {
            for (index, (name, value)) in record.headers.enumerate() {
                if index > 0 {
                    self.out.write_all(b",")?;
                }
                self.out.write_all(name)?;
                self.out.write_all(b"=")?;
                self.out.write_all(value.unwrap_or_default())?;
            }
            self.out.write_all(b"\t")?;
        }
        if self.key {
            self.out.write_all(record.key.unwrap_or_default())?;
            self.out.write_all(b"\t")?;
        }
        self.out.write_all(record.value.unwrap_or_default())?;
        self.out.write_all(b"\n")
    }

    fn print_json(&mut self, partition: u32, record: &Delivered<'_>) -> std::io::Result<()> {
        let mut row = Map::new();
        row.insert("topic".to_owned(), Value::from(self.topic.as_str()));
        row.insert("partition".to_owned(), Value::from(partition));
        row.insert("offset".to_owned(), Value::from(record.offset));
        row.insert("timestamp_ms".to_owned(), Value::from(record.timestamp_ms));
        put(&mut row, "key", record.key);
        put(&mut row, "value", record.value);
        if !record.headers.is_empty() {
            let mut headers = Map::new();
            for (name, value) in record.headers {
                put(&mut headers, &String::from_utf8_lossy(name), value);
            }
            row.insert("headers".to_owned(), Value::Object(headers));
        }
        writeln!(self.out, "{}", Value::Object(row))
    }
}

/// Text as text, anything else as `<name>_hex`.
fn put(row: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else {
        row.insert(name.to_owned(), Value::Null);
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => row.insert(name.to_owned(), Value::from(text)),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            row.insert(format!("{name}_hex"), Value::from(hex))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_client::records;
    use ringway_wire::batch::RecordBatchView;
    use ringway_wire::batch_writer::{BatchOptions, BatchWriter};

    fn printed(output: Output, key: bool, headers: bool, count: Option<u64>) -> String {
        let mut batch = BatchWriter::new(BatchOptions::default());
        let given: [(&[u8], Option<&[u8]>); 1] = [(b"h", Some(b"v"))];
        batch.push(5, Some(b"k"), Some(b"one"), &given).expect("fits");
        batch.push(6, None, Some(b"\xff\x00"), &[]).expect("fits");
        batch.push(7, None, None, &[]).expect("fits");
        batch.finish().expect("finishes");
        let view = RecordBatchView::parse(batch.batch()).expect("parses");
        let out = BufWriter::new(Vec::new());
        let topic = "t".to_owned();
        let mut printer = Printer { out, topic, output, key, headers, left: count };
        records::walk(&view, |record| {
            printer.print(3, &record).expect("memory takes all");
        })
        .expect("walks");
        let bytes = printer.out.into_inner().expect("flushes");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn raw_is_the_bytes_and_a_newline() {
        assert_eq!(printed(Output::Raw, false, false, None), "one\n\u{fffd}\0\n\n");
        assert_eq!(printed(Output::Raw, true, true, Some(1)), "h=v\tk\tone\n");
        assert_eq!(printed(Output::Raw, false, false, Some(0)), "");
    }

    #[test]
    fn json_tells_text_bytes_and_nothing_apart() {
        let text = printed(Output::Json, false, false, None);
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(rows[0]["key"], "k");
        assert_eq!(rows[0]["headers"]["h"], "v");
        assert_eq!(
            (rows[0]["partition"].as_u64(), rows[0]["timestamp_ms"].as_i64()),
            (Some(3), Some(5))
        );
        assert_eq!(rows[1]["value_hex"], "ff00");
        assert_eq!((&rows[2]["value"], rows[2]["offset"].as_i64()), (&Value::Null, Some(2)));
    }
}
