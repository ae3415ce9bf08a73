//! `meta` made anew when it is lost: secret, block and start counter as the segments and checkpoints tell them (P5).
//! Owner: `ringway log repair --meta`; the caller reads and writes.
//! Invariant: only what frames of this directory agree on is believed; counters go on above everything found.
//! Not here: reading files, damaged logs (`repair.rs`).

use crate::checkpoint;
use crate::directory::{DirectoryFacts, encode_meta};
use crate::frame::{HEADER_BYTES, Head, REGION, align_up, header_place, verified_head};
use crate::io::SegmentName;
use ringway_wire::header::header_crc;
use std::collections::BTreeMap;

/// How every refusal begins.
const LOST: &str = "log directory: `meta` is lost";
/// Starts that may have left no trace in any checkpoint or frame: numbers are cheap, a number given twice is not.
const STARTS_UNSEEN: u32 = 1_000;
/// Blocks that a directory may have, as bits: 4 KiB to 64 KiB.
const BLOCKS: [u32; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// What frames say while they are looked at.
#[derive(Debug, Default)]
pub struct LostMeta {
    /// Frames that agree with each secret.
    secrets: BTreeMap<u32, u64>,
    /// Blocks that some frame after a gap cannot have been written with.
    not_blocks: [bool; BLOCKS.len()],
    epoch: u32,
    /// Some segment begins with bytes that are neither a frame nor zeros.
    unknown: u64,
}

/// The new `meta`, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remade {
    /// Body of `meta`.
    pub body: Vec<u8>,
    /// Frames that agree with the secret; 0: there are none, any secret is right.
    pub frames: u64,
    /// Block of the directory.
    pub block: u32,
    /// The next start counts on from here.
    pub start_counter: u32,
}

impl LostMeta {
    /// Lives are numbered on above those of every readable checkpoint file.
    #[must_use]
    pub fn new(checkpoints: &[(u32, u64, Vec<u8>)]) -> LostMeta {
        let files = checkpoints.iter().filter_map(|(_, _, body)| checkpoint::decode(body));
        let epochs = files.flat_map(|file| file.entries).map(|one| one.table.greatest_epoch());
        LostMeta { epoch: epochs.max().unwrap_or(0), ..LostMeta::default() }
    }

    /// A segment and its first bytes: its first frame names a secret, those behind it agree or not.
    pub fn look(&mut self, name: SegmentName, bytes: &[u8]) {
        let Some(secret) = secret_of(name, bytes) else {
            self.unknown += u64::from(bytes.iter().take(HEADER_BYTES).any(|byte| *byte != 0));
            return;
        };
        let (mut at, mut offset, mut frames) = (0, name.base_offset, 0);
        while let Some((position, head)) = next(bytes, at, offset, secret) {
            if head.topic_id != name.log.topic_id || head.partition != name.log.partition {
                break;
            }
            if position != header_place(at) {
                self.note_gap(at, position);
            }
            frames += 1;
            self.epoch = self.epoch.max(head.log_epoch);
            (at, offset) = (position + u64::from(head.frame_len), head.next_offset());
        }
        *self.secrets.entry(secret).or_default() += frames;
    }

    /// A group begins at `position`, the frame before ended at `end`.
    fn note_gap(&mut self, end: u64, position: u64) {
        for (not, block) in self.not_blocks.iter_mut().zip(BLOCKS) {
            *not |= align_up(end, u64::from(block)) != position;
        }
    }

    /// What was found. `block` is what a new directory on this device would have.
    ///
    /// # Errors
    /// A text that says why nothing can be made of it.
    pub fn remake(
        &self,
        (new_uuid, new_secret): ([u8; 16], u32),
        block: u32,
    ) -> Result<Remade, String> {
        let mut found: Vec<(u64, u32)> =
            self.secrets.iter().map(|(secret, frames)| (*frames, *secret)).collect();
        found.sort_unstable();
        let (frames, secret) = found.pop().unwrap_or((0, new_secret));
        if let Some((others, _)) = found.last().filter(|(others, _)| *others > 1 || frames == 1) {
            return Err(format!(
                "{LOST} and the segments do not agree: {frames} frames tell one secret, {others} \
                 another; are files of two directories mixed here?"
            ));
        }
        if frames == 0 && self.unknown > 0 {
            return Err(format!(
                "{LOST} and none of {} segments begins with a frame: nothing tells the secret",
                self.unknown
            ));
        }
        let fits = |wanted: u32| {
            BLOCKS.iter().zip(self.not_blocks).any(|(block, not)| *block == wanted && !not)
        };
        let least = BLOCKS.into_iter().find(|block| fits(*block));
        let Some(block) = Some(block).filter(|block| fits(*block)).or(least) else {
            return Err(format!("{LOST} and no block from 4 KiB to 64 KiB fits all frames"));
        };
        let start_counter = self.epoch.saturating_add(STARTS_UNSEEN);
        let facts = DirectoryFacts {
            uuid: new_uuid,
            block,
            secret,
            start_counter,
            clean: Vec::new(),
            checkpoints: Vec::new(),
            logs: Vec::new(),
        };
        Ok(Remade { body: encode_meta(&facts), frames, block, start_counter })
    }
}

/// The secret with which the first frame's header would be right, if it is one of this segment.
fn secret_of(name: SegmentName, bytes: &[u8]) -> Option<u32> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let stored = verified_head(header, 0);
    let secret = stored.crc ^ header_crc(header);
    let head = Head::parse(bytes, secret)?;
    (head.is_sound(name.log) && head.base_offset == name.base_offset).then_some(secret)
}

/// The frame behind one that ends at `end`: right there, or at a block within the next 64 KiB.
fn next(bytes: &[u8], end: u64, offset: u64, secret: u32) -> Option<(u64, Head)> {
    let fresh = align_up(end, u64::from(BLOCKS[0]));
    let blocks = (0..=REGION / u64::from(BLOCKS[0])).map(|n| fresh + n * u64::from(BLOCKS[0]));
    std::iter::once(header_place(end)).chain(blocks).find_map(|position| {
        let head = Head::parse(bytes.get(usize::try_from(position).ok()?..)?, secret)?;
        (head.base_offset == offset).then_some((position, head))
    })
}
