//! What clients send: sizes, records, and payloads that pretend to be the log's own frames.
//! Owner: the world draws a `Mix` per seed; clients draw batches from it.
//! Invariant: no two batches of a seed have the same bytes unless one is a retry of the other.
//! Not here: when a batch is sent (`client.rs`).

use crate::rng::Rng;
use crate::room::{FrameSeen, see_kafka};
use ringway_wire::batch_writer::{BatchOptions, BatchWriter};
use ringway_wire::compression::Codec;
use ringway_wire::header::{Encoding, Kind, Line};
use ringway_wire::ids::LogKey;

/// A partition that clients use.
#[derive(Clone, Debug)]
pub struct Target {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Which log that is.
    pub key: LogKey,
    /// Whether old segments go by size.
    pub retained: bool,
    /// Whether records get the time of their append.
    pub log_append_time: bool,
}

/// What the batches of a seed are like.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Percent of batches with one large value.
    pub big_percent: u64,
    /// Bytes of the largest value.
    pub big_bytes_max: u64,
    /// Percent of batches whose payload holds forged frames.
    pub hostile_percent: u64,
    /// Percent of batches that are compressed.
    pub compressed_percent: u64,
}

impl Mix {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Mix {
        Mix {
            big_percent: rng.pick(&[0, 4, 4, 20]),
            big_bytes_max: rng.pick(&[4_000, 20_000, 80_000]),
            hostile_percent: rng.pick(&[0, 0, 20, 50]),
            compressed_percent: rng.pick(&[0, 0, 0, 10]),
        }
    }
}

/// A batch ready to be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Kafka's RecordBatch v2.
    pub bytes: Vec<u8>,
    /// Its identity.
    pub hash: u64,
    /// Records in it.
    pub records: u64,
    /// Time of all of them, ms.
    pub time_ms: i64,
}

/// Makes batches.
#[derive(Debug)]
pub struct Maker {
    writer: BatchWriter,
    value: Vec<u8>,
    serial: u64,
    /// Batches with forged frames made so far.
    pub hostile: u64,
}

/// Where a batch is to go and what its sender believes about the log there.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// Log.
    pub key: LogKey,
    /// About the next offset.
    pub next_offset: u64,
    /// About the log's epoch.
    pub epoch: u32,
}

impl Maker {
    /// Nothing made yet; `seed` keeps the batches of two seeds apart.
    #[must_use]
    pub fn new(seed: u64) -> Maker {
        Maker {
            writer: BatchWriter::new(BatchOptions::default()),
            value: Vec::new(),
            serial: seed << 20,
            hostile: 0,
        }
    }

    /// A batch; `sequence` is its producer id, epoch and first sequence, if idempotent.
    pub fn make(
        &mut self,
        rng: &mut Rng,
        mix: Mix,
        aim: Aim,
        now_ms: i64,
        sequence: Option<(i64, i16, i32)>,
    ) -> Batch {
        let (producer_id, producer_epoch, base_sequence) = sequence.unwrap_or((-1, -1, -1));
        let hostile = rng.percent(mix.hostile_percent);
        let big = rng.percent(mix.big_percent);
        let codec = if !hostile && rng.percent(mix.compressed_percent) {
            rng.pick(&[Codec::Lz4, Codec::Snappy, Codec::Gzip])
        } else {
            Codec::None
        };
        self.writer.reset(BatchOptions {
            codec,
            producer_id,
            producer_epoch,
            base_sequence,
            ..BatchOptions::default()
        });
        let records = if hostile || big { 1 } else { rng.within(1, 5) };
        for _ in 0..records {
            self.serial += 1;
            let len = match (big, hostile) {
                (true, _) => rng.within(600, mix.big_bytes_max),
                (_, true) => rng.within(4_200, 9_000),
                _ => rng.within(12, 300),
            };
            self.fill(usize::try_from(len).unwrap_or(12), rng.bits());
            if hostile {
                self.forge(rng, aim);
            }
            let pushed = self.writer.push(now_ms, None, Some(&self.value), &[]);
            assert!(pushed.is_ok(), "{pushed:?}");
        }
        self.hostile += u64::from(hostile);
        let finished = self.writer.finish();
        assert!(finished.is_ok(), "{finished:?}");
        let bytes = self.writer.batch().to_vec();
        let mut seen: Vec<FrameSeen> = Vec::new();
        see_kafka(&bytes, &mut seen);
        let hash = seen.first().map_or(0, |frame| frame.hash);
        Batch { bytes, hash, records, time_ms: now_ms }
    }

    fn fill(&mut self, len: usize, mut word: u64) {
        self.value.clear();
        self.value.extend_from_slice(&self.serial.to_le_bytes());
        while self.value.len() < len {
            word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.value.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Writes complete frames into the value wherever a block of the file would begin, if the batch is
    /// the first of its flush group. They know everything that a client can know.
    fn forge(&mut self, rng: &mut Rng, aim: Aim) {
        let style = rng.below(16);
        let mut forger = BatchWriter::new(BatchOptions::default());
        let mut base = aim.next_offset + rng.within(0, 3);
        let mut before = (0u32, 0u32);
        // 128 bytes of header and about 10 of record stand before the value in the file.
        let lead = 128 + 10;
        let mut block = 1;
        while block * 4096 + 400 < lead + self.value.len() {
            forger.reset(BatchOptions::default());
            let pushed = forger.push(1, None, Some(&self.serial.to_le_bytes()), &[]);
            if pushed.is_err() || forger.finish().is_err() {
                return;
            }
            let line = Line {
                encoding: Encoding::Plain,
                kind: Kind::Data,
                flags: 0,
                frame_len: 0,
                append_time_ns: rng.bits(),
                topic_id: aim.key.topic_id,
                partition: aim.key.partition,
                log_epoch: match style {
                    0 => aim.epoch,
                    1 => aim.epoch + 1,
                    2 => 1 << 30,
                    3..=7 => aim.epoch + 1000,
                    _ => aim.epoch + u32::try_from(rng.below(3)).unwrap_or(0),
                },
                prev_crc: before.0,
                prev_frame_len: before.1,
                flushed_upto: if rng.percent(70) { base } else { aim.next_offset },
                correlation: 0,
                base_offset: base,
                leader_epoch: i32::try_from(aim.epoch).unwrap_or(0),
            };
            let frame = forger.frame(&line);
            let jitter = if rng.percent(50) { 0 } else { rng.index(40) };
            let at = block * 4096 - lead + jitter;
            if at + frame.len() > self.value.len() {
                return;
            }
            before = (
                u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]),
                u32::try_from(frame.len()).unwrap_or(0),
            );
            self.value[at..at + frame.len()].copy_from_slice(frame);
            base += 1;
            block += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_payloads_hold_whole_frames() {
        let mut maker = Maker::new(1);
        let mix =
            Mix { big_percent: 0, big_bytes_max: 0, hostile_percent: 100, compressed_percent: 0 };
        let key = LogKey { topic_id: 3, partition: 1 };
        let aim = Aim { key, next_offset: 7, epoch: 2 };
        let batch = maker.make(&mut Rng::new(1), mix, aim, 1, None);
        let forged = batch.bytes.windows(3).filter(|bytes| *bytes == b"V2\x02").count();
        assert!(forged >= 1, "{forged}");
    }

    #[test]
    fn every_batch_has_an_identity_of_its_own() {
        let mut maker = Maker::new(1);
        let mut rng = Rng::new(1);
        let mix = Mix::draw(&mut rng);
        let aim = Aim { key: LogKey { topic_id: 1, partition: 0 }, next_offset: 0, epoch: 1 };
        let mut hashes: Vec<u64> =
            (0..50).map(|_| maker.make(&mut rng, mix, aim, 1, None).hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 50);
    }
}
