//! Idempotent producers of one partition: their last batches, so that a retry is told apart from new data.
//! Owner: `Partition`.
//! Invariant: rebuilt from batch headers alone it equals what was kept while writing (kafka.md I6).
//! Not here: giving out producer ids (`producer_ids.rs`), transactions.

use ringway_log::logs::BatchFacts;
use ringway_wire::error_code::ErrorCode;
use std::collections::{BTreeMap, VecDeque};

/// Flushed batches remembered per producer: Kafka's number, and the most a client has in flight.
const WINDOW: usize = 5;
/// `producer.id.expiration.ms`, in ns.
pub(crate) const EXPIRE_NS: u64 = 86_400_000 * 1_000_000;
/// Producers remembered per partition; beyond it the longest silent ones go.
const PRODUCERS_MAX: usize = 65_536;
/// First size at which expired producers are looked for.
const SWEEP_MIN: usize = 1024;

/// What a batch says about its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) last_offset_delta: i32,
}

impl Sequenced {
    /// Sequence of the last record: counted by offsets, never by records (I10), modulo 2^31 (I4).
    fn last(self) -> i32 {
        sequence_add(self.first, i64::from(self.last_offset_delta))
    }
}

/// `sequence + n` on the circle 0…2^31−1.
fn sequence_add(sequence: i32, n: i64) -> i32 {
    i32::try_from((i64::from(sequence) + n) & i64::from(i32::MAX)).unwrap_or(0)
}

/// One batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SequencedBatch {
    first: i32,
    last: i32,
    base_offset: u64,
    last_offset: u64,
    append_time_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first. Longer than [`WINDOW`] only while batches are not flushed: a crash may take
    /// those away again, and what then remains must still be the last five.
    batches: VecDeque<SequencedBatch>,
    /// Monotonic time of the last write.
    touched_ns: u64,
}

/// What to do with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    New,
    /// It is here already.
    Duplicate { base_offset: u64, last_offset: u64, append_time_ns: u64 },
    /// Tell the producer.
    Refused(ErrorCode, String),
}

/// All producers of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
    sweep_at: usize,
}

impl ProducerStates {
    /// Judges a batch; changes nothing.
    pub(crate) fn check(&self, batch: Sequenced, now_ns: u64) -> Verdict {
        let Some(producer) = self.producers.get(&batch.producer_id) else { return Verdict::New };
        if now_ns.saturating_sub(producer.touched_ns) > EXPIRE_NS {
            return Verdict::New;
        }
        let refused = |code, what: &str| {
            let Sequenced { producer_id, epoch, first, .. } = batch;
            let text = format!("producer {producer_id} epoch {epoch} sequence {first}: {what}");
            Verdict::Refused(code, text)
        };
        if batch.epoch < producer.epoch {
            let what = format!("epoch is below the current {}", producer.epoch);
            return refused(ErrorCode::InvalidProducerEpoch, &what);
        }
        if batch.epoch > producer.epoch {
            if batch.first == 0 {
                return Verdict::New;
            }
            return refused(ErrorCode::OutOfOrderSequenceNumber, "a new epoch starts at 0");
        }
        let last = batch.last();
        let twin = producer.batches.iter().rev().find(|b| b.first == batch.first && b.last == last);
        if let Some(twin) = twin {
            return Verdict::Duplicate {
                base_offset: twin.base_offset,
                last_offset: twin.last_offset,
                append_time_ns: twin.append_time_ns,
            };
        }
        match producer.batches.back() {
            Some(newest) if batch.first != sequence_add(newest.last, 1) => {
                let what = format!("the next is {}", sequence_add(newest.last, 1));
                refused(ErrorCode::OutOfOrderSequenceNumber, &what)
            }
            Some(_) | None => Verdict::New,
        }
    }

    /// Whether there is anything to hold a batch of this producer against.
    pub(crate) fn knows(&self, producer_id: i64, now_ns: u64) -> bool {
        let producer = self.producers.get(&producer_id);
        producer.is_some_and(|producer| now_ns.saturating_sub(producer.touched_ns) <= EXPIRE_NS)
    }

    /// The batch was appended at `base_offset`; everything below `flushed` is on disk.
    pub(crate) fn record(
        &mut self,
        batch: Sequenced,
        base_offset: u64,
        append_time_ns: u64,
        now_ns: u64,
        flushed: u64,
    ) {
        let delta = u64::try_from(batch.last_offset_delta).unwrap_or(0);
        let entry = SequencedBatch {
            first: batch.first,
            last: batch.last(),
            base_offset,
            last_offset: base_offset + delta,
            append_time_ns,
        };
        if !self.producers.contains_key(&batch.producer_id) {
            self.make_room(now_ns);
        }
        let producer = self.producers.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            batches: VecDeque::with_capacity(WINDOW + 1),
            touched_ns: now_ns,
        });
        let expired = now_ns.saturating_sub(producer.touched_ns) > EXPIRE_NS;
        if batch.epoch != producer.epoch || expired {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        producer.touched_ns = now_ns;
        assert!(
            producer.batches.back().is_none_or(|b| b.last_offset < base_offset),
            "batches of a producer ascend"
        );
        producer.batches.push_back(entry);
        producer.trim(flushed);
    }

    /// Recovery passed this batch; `age_ns` is how long ago it was appended.
    pub(crate) fn replay(&mut self, facts: &BatchFacts, now_ns: u64, age_ns: u64) {
        let delta = facts.last_offset.saturating_sub(facts.base_offset);
        if facts.producer_id < 0 || age_ns > EXPIRE_NS {
            return;
        }
        let batch = Sequenced {
            producer_id: facts.producer_id,
            epoch: facts.producer_epoch,
            first: facts.base_sequence,
            last_offset_delta: i32::try_from(delta).unwrap_or(i32::MAX),
        };
        let then = now_ns.saturating_sub(age_ns);
        self.record(batch, facts.base_offset, facts.append_time_ns, then, u64::MAX);
    }

    /// Producers remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    fn make_room(&mut self, now_ns: u64) {
        if self.producers.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        self.producers.retain(|_, p| now_ns.saturating_sub(p.touched_ns) <= EXPIRE_NS);
        if self.producers.len() >= PRODUCERS_MAX {
            let mut touched: Vec<u64> = self.producers.values().map(|p| p.touched_ns).collect();
            touched.sort_unstable();
            let oldest = touched[touched.len() / 8];
            self.producers.retain(|_, p| p.touched_ns > oldest);
        }
        self.sweep_at = (self.producers.len() * 2).min(PRODUCERS_MAX);
    }

    /// Appends the state of all batches below `upto` to a snapshot.
    pub(crate) fn encode(&self, upto: u64, into: &mut Vec<u8>) {
        let count_at = into.len();
        into.extend_from_slice(&[0; 4]);
        let mut count = 0u32;
        for (id, producer) in &self.producers {
            let flushed = producer.batches.iter().filter(|b| b.last_offset < upto);
            let kept = flushed.clone().count();
            if kept == 0 {
                continue;
            }
            count += 1;
            into.extend_from_slice(&id.to_le_bytes());
            into.extend_from_slice(&producer.epoch.to_le_bytes());
            into.push(u8::try_from(kept.min(WINDOW)).unwrap_or(0));
            for batch in flushed.skip(kept.saturating_sub(WINDOW)) {
                into.extend_from_slice(&batch.first.to_le_bytes());
                into.extend_from_slice(&batch.last.to_le_bytes());
                into.extend_from_slice(&batch.base_offset.to_le_bytes());
                into.extend_from_slice(&batch.last_offset.to_le_bytes());
                into.extend_from_slice(&batch.append_time_ns.to_le_bytes());
            }
        }
        into[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    }

    /// Reads what [`ProducerStates::encode`] wrote; ages are taken from append times.
    pub(crate) fn decode(
        from: &mut Reader<'_>,
        now_ns: u64,
        wall_ns: u64,
    ) -> Option<ProducerStates> {
        let count = u32::from_le_bytes(from.take()?);
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let id = i64::from_le_bytes(from.take()?);
            let epoch = i16::from_le_bytes(from.take()?);
            let [kept] = from.take::<1>()?;
            let mut batches = VecDeque::with_capacity(WINDOW + 1);
            for _ in 0..kept {
                batches.push_back(SequencedBatch {
                    first: i32::from_le_bytes(from.take()?),
                    last: i32::from_le_bytes(from.take()?),
                    base_offset: u64::from_le_bytes(from.take()?),
                    last_offset: u64::from_le_bytes(from.take()?),
                    append_time_ns: u64::from_le_bytes(from.take()?),
                });
            }
            let appended = batches.back()?.append_time_ns;
            let age_ns = wall_ns.saturating_sub(appended);
            if age_ns <= EXPIRE_NS {
                let touched_ns = now_ns.saturating_sub(age_ns);
                producers.insert(id, Producer { epoch, batches, touched_ns });
            }
        }
        Some(ProducerStates { producers, sweep_at: 0 })
    }
}

impl Producer {
    fn trim(&mut self, flushed: u64) {
        while self.batches.get(WINDOW).is_some_and(|batch| batch.last_offset < flushed) {
            self.batches.pop_front();
        }
    }
}

/// Bytes of a snapshot, read front to back.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    /// The next `N` bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, records: i32) -> Sequenced {
        Sequenced { producer_id: 7, epoch, first, last_offset_delta: records - 1 }
    }

    /// Appends `batch` and gives the offset after it.
    fn append(states: &mut ProducerStates, batch: Sequenced, at: u64, flushed: u64) -> u64 {
        assert_eq!(states.check(batch, 0), Verdict::New, "{batch:?}");
        states.record(batch, at, 1000 + at, 0, flushed);
        at + u64::try_from(batch.last_offset_delta).expect("positive") + 1
    }

    fn code(verdict: Verdict) -> ErrorCode {
        match verdict {
            Verdict::Refused(code, _) => code,
            Verdict::New | Verdict::Duplicate { .. } => ErrorCode::None,
        }
    }

    #[test]
    fn i1_a_duplicate_of_the_last_five_batches_gets_its_first_offset_and_time() {
        let mut states = ProducerStates::default();
        let mut at = 100;
        for n in 0..6 {
            at = append(&mut states, batch(0, n * 10, 10), at, at);
        }
        for n in 1..6u8 {
            let base_offset = 100 + u64::from(n) * 10;
            let verdict = states.check(batch(0, i32::from(n) * 10, 10), 0);
            let append_time_ns = 1000 + base_offset;
            let last_offset = base_offset + 9;
            assert_eq!(verdict, Verdict::Duplicate { base_offset, last_offset, append_time_ns });
        }
    }

    #[test]
    fn i2_neither_next_nor_duplicate_is_out_of_order() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 10), 0, 0);
        for wrong in [batch(0, 11, 1), batch(0, 5, 5), batch(0, 0, 9)] {
            let verdict = states.check(wrong, 0);
            assert_eq!(code(verdict), ErrorCode::OutOfOrderSequenceNumber, "{wrong:?}");
        }
        assert_eq!(states.check(batch(0, 10, 3), 0), Verdict::New);
    }

    #[test]
    fn i3_unknown_producers_start_anywhere_and_new_epochs_at_zero() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(3, 812, 1), 0, 0);
        assert_eq!(code(states.check(batch(2, 813, 1), 0)), ErrorCode::InvalidProducerEpoch);
        assert_eq!(code(states.check(batch(4, 813, 1), 0)), ErrorCode::OutOfOrderSequenceNumber);
        append(&mut states, batch(4, 0, 1), 1, 1);
        assert_eq!(code(states.check(batch(3, 813, 1), 0)), ErrorCode::InvalidProducerEpoch);
    }

    #[test]
    fn i4_sequences_wrap_to_zero_between_and_inside_batches() {
        let mut states = ProducerStates::default();
        let mut at = append(&mut states, batch(0, i32::MAX - 1, 2), 0, 0);
        at = append(&mut states, batch(0, 0, 5), at, 0);
        let mut inside = ProducerStates::default();
        append(&mut inside, batch(0, i32::MAX - 2, 5), at, 0);
        assert_eq!(inside.check(batch(0, 2, 1), 0), Verdict::New);
        assert_eq!(code(inside.check(batch(0, 1, 1), 0)), ErrorCode::OutOfOrderSequenceNumber);
    }

    #[test]
    fn i5_a_producer_is_forgotten_after_a_day_of_silence() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 10), 0, 0);
        let later = batch(0, 99, 1);
        assert_eq!(code(states.check(later, EXPIRE_NS)), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(states.check(later, EXPIRE_NS + 1), Verdict::New);
        states.record(later, 10, 0, EXPIRE_NS + 1, 0);
        assert_eq!(states.check(batch(0, 100, 1), EXPIRE_NS + 2), Verdict::New);
    }

    #[test]
    fn i6_state_from_a_snapshot_and_later_headers_equals_the_one_kept() {
        let mut kept = ProducerStates::default();
        let mut facts = Vec::new();
        let mut at = 0;
        let mut body = Vec::new();
        let mut snapshot_at = 0;
        for n in 0..20 {
            let one = batch(0, n * 3, 3);
            if n == 12 {
                // Batches 9…11 are not flushed yet when the snapshot is made.
                snapshot_at = 9 * 3;
                kept.encode(snapshot_at, &mut body);
            }
            let flushed = if n < 12 { 9 * 3 } else { at };
            let base_offset = at;
            at = append(&mut kept, one, at, flushed);
            facts.push(BatchFacts {
                base_offset,
                last_offset: at - 1,
                leader_epoch: 0,
                attributes: 0,
                producer_id: 7,
                producer_epoch: 0,
                base_sequence: one.first,
                max_timestamp: 0,
                append_time_ns: 1000 + base_offset,
            });
        }
        let mut rebuilt = ProducerStates::decode(&mut Reader(&body), 0, 0).expect("whole snapshot");
        for one in facts.iter().filter(|one| one.base_offset >= snapshot_at) {
            rebuilt.replay(one, 0, 0);
        }
        for producer in kept.producers.values_mut() {
            producer.trim(u64::MAX);
        }
        assert_eq!(kept.producers, rebuilt.producers);
        let mut from_headers = ProducerStates::default();
        for one in &facts {
            from_headers.replay(one, 0, 0);
        }
        assert_eq!(kept.producers, from_headers.producers);
    }

    #[test]
    fn i10_the_range_of_a_batch_comes_from_its_offsets() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 10), 0, 0);
        assert_eq!(states.check(batch(0, 10, 1), 0), Verdict::New);
    }

    #[test]
    fn a_cut_snapshot_is_refused_at_every_length() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 10), 0, 0);
        let mut body = Vec::new();
        states.encode(u64::MAX, &mut body);
        for len in 0..body.len() {
            assert!(ProducerStates::decode(&mut Reader(&body[..len]), 0, 0).is_none(), "{len}");
        }
    }

    #[test]
    fn producers_are_bounded_and_the_silent_ones_go_first() {
        let mut states = ProducerStates::default();
        let limit = i64::try_from(PRODUCERS_MAX).expect("small");
        for producer_id in 0..limit + 10 {
            let one = Sequenced { producer_id, epoch: 0, first: 0, last_offset_delta: 0 };
            let now = u64::try_from(producer_id).expect("positive");
            states.record(one, now, 0, now, 0);
        }
        assert!(states.len() <= PRODUCERS_MAX);
        assert!(!states.producers.contains_key(&0));
        assert!(states.producers.contains_key(&(limit + 9)));
    }
}
