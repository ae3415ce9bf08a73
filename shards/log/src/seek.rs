//! Nears the frame that holds an offset, between two entries of the sparse index, by looking at headers:
//! each tells its offset, so a few regions read at interpolated places come as near as an index of all
//! frames would, and no index has to be kept in memory or written for cold segments.
//! Owner: one cold read, before it walks.
//! Invariant: a header is believed here only with the secret, of this log and of a life that may stand
//! there. What comes out is a hint all the same: a walk from it that breaks begins again at the entry.
//! Not here: the index (`index.rs`), the walk (`cold.rs`).

use crate::frame::{REGION, region_of};
use crate::scan::{Placed, View};
use crate::verdict::next_magic;
use crate::window::Missing;

/// Regions looked at, at most: batches of like sizes need one or two.
const PROBES_MAX: u32 = 8;
/// Nearer than this a walk reads no more than another look would.
const NEAR_BYTES: u64 = 2 * REGION;

/// A place in a segment: position and offset of a frame.
pub(crate) type Place = (u64, u64);

/// One search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seek {
    offset: u64,
    /// A frame at or before what is sought.
    low: Place,
    /// Behind it.
    high: Place,
    probes: u32,
}

impl Seek {
    /// Between the frame `low`, at or before `offset`, and `high`, a frame or the end behind it.
    pub(crate) fn new(offset: u64, low: Place, high: Place) -> Seek {
        Seek { offset, low, high, probes: 0 }
    }

    /// Goes on as far as the bytes in memory allow: a frame at or before what is sought, and near it
    /// unless frames are large or sizes very uneven.
    ///
    /// # Errors
    /// The region to look at next.
    pub(crate) fn step(&mut self, view: &View<'_>, si: usize) -> Result<Place, Missing> {
        while let Some(region) = self.guess() {
            let found = self.first_header(view, si, region)?;
            self.probes += 1;
            match found {
                Some(placed) if placed.head.base_offset <= self.offset => {
                    self.low = (placed.position, placed.head.base_offset);
                }
                Some(placed) => self.high = (u64::from(region) * REGION, placed.head.base_offset),
                // Inside a large frame: how large, only the walk can tell.
                None => break,
            }
        }
        Ok(self.low)
    }

    /// The region where the offset should lie if batches were alike, unless it is as good as found.
    fn guess(&self) -> Option<u32> {
        let span = self.high.0.saturating_sub(self.low.0);
        let offsets = self.high.1.saturating_sub(self.low.1);
        if span <= NEAR_BYTES || offsets == 0 || self.probes == PROBES_MAX {
            return None;
        }
        let share = u128::from(span) * u128::from(self.offset.saturating_sub(self.low.1))
            / u128::from(offsets);
        let at = self.low.0 + u64::try_from(share).unwrap_or(span).min(span - 1);
        // The region that holds `low` would only find it again.
        (region_of(at) > region_of(self.low.0)).then_some(region_of(at))
    }

    fn first_header(
        &self,
        view: &View<'_>,
        si: usize,
        region: u32,
    ) -> Result<Option<Placed>, Missing> {
        let bytes = view.chunk(si, region)?;
        let mut from = 0;
        while let Some(step) = bytes.get(from..).and_then(next_magic) {
            let at = from + step;
            from = at + 1;
            let position = u64::from(region) * REGION + at as u64;
            if let Some(placed) = view.header(si, position)?
                && self.fits(view, &placed)
            {
                return Ok(Some(placed));
            }
        }
        Ok(None)
    }

    fn fits(&self, view: &View<'_>, placed: &Placed) -> bool {
        let head = &placed.head;
        let between = head.base_offset >= self.low.1 && head.base_offset < self.high.1;
        between
            && head.is_sound(view.rules.key)
            && view.epoch_fits(head.base_offset, head.log_epoch, 0)
    }
}
