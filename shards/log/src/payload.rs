//! Payload check of the unproven tail (reliability.md 3.4, step 4): CRC-32C of every kept batch that nothing vouches for.
//! Owner: recovery.
//! Invariant: the first failure ends the log there; behind a quarantined range it ends at the frame's own start.
//! Not here: headers (`verdict.rs`).

use crate::frame::{CRC_FROM, REGION, region_of, within};
use crate::scan::{At, View};
use crate::verdict::{Scan, Verdict};
use crate::window::Missing;
use crc_fast::{CrcAlgorithm, Digest};

/// A check in progress.
pub(crate) struct PayloadCheck {
    /// Into the kept frames.
    index: usize,
    digest: Digest,
    /// Next byte to hash; none: the frame is not begun.
    position: Option<u64>,
}

impl std::fmt::Debug for PayloadCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadCheck").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Feeds `from..to` of a segment into `digest`, as far as it is in memory; `from` moves along.
pub(crate) fn hash_range(
    view: &View<'_>,
    si: usize,
    from: &mut u64,
    to: u64,
    digest: &mut Digest,
) -> Result<(), Missing> {
    while *from < to {
        let index = region_of(*from);
        let bytes = view.chunk(si, index)?;
        let upto = to.min((u64::from(index) + 1) * REGION);
        let end = if upto.is_multiple_of(REGION) { bytes.len() } else { within(upto) as usize };
        digest.update(bytes.get(within(*from) as usize..end.min(bytes.len())).unwrap_or(&[]));
        *from = upto;
    }
    Ok(())
}

impl PayloadCheck {
    pub(crate) fn new(scan: &Scan) -> PayloadCheck {
        let unproven = |kept: &crate::verdict::Kept| kept.placed.head.last_offset() >= scan.w;
        let index = scan.kept.iter().position(unproven).unwrap_or(scan.kept.len());
        PayloadCheck { index, digest: Digest::new(CrcAlgorithm::Crc32Iscsi), position: None }
    }

    /// Goes on as far as possible; `Ok` when the end of the log is settled.
    pub(crate) fn run(&mut self, scan: &mut Scan, view: &View<'_>) -> Result<(), Missing> {
        while let Some(kept) = scan.kept.get(self.index) {
            let placed = kept.placed;
            if placed.head.last_offset() >= scan.w {
                let mut from = self.position.unwrap_or(placed.position + CRC_FROM as u64);
                let hashed = hash_range(view, placed.si, &mut from, placed.end(), &mut self.digest);
                self.position = Some(from);
                hashed?;
                self.position = None;
                let crc = self.digest.finalize_reset();
                if crc != u64::from(placed.head.kafka_crc) {
                    cut(scan, self.index);
                    return Ok(());
                }
            }
            self.index += 1;
        }
        Ok(())
    }
}

/// Ends the log before the kept frame `index`.
fn cut(scan: &mut Scan, index: usize) {
    let failed = scan.kept[index];
    let base = failed.placed.head.base_offset;
    let mut end = scan.before;
    if failed.jump {
        let (si, p) = (failed.placed.si, failed.placed.position);
        end = At { si, p, o: base, crc: 0, len: 0, any: true, floor: end.floor };
    } else if let Some(before) = index.checked_sub(1).and_then(|at| scan.kept.get(at)) {
        end.advance(&before.placed);
    }
    end.o = base;
    scan.torn_batches += (scan.kept.len() - index) as u64;
    scan.met.torn_payloads += 1;
    scan.kept.truncate(index);
    scan.damaged.retain(|range| range.to <= base);
    scan.lives.retain(|life| life.1 < base);
    scan.at = end;
    scan.next = base;
    scan.new_segment = false;
    scan.verdict = Verdict::Torn;
}
