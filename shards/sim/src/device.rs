//! What a device does wrong in one life: which request meets which trouble, and what becomes of it.
//! Owner: `Disk`.
//! Invariant: each trouble is met once; a read that failed works the next time it is tried.
//! Not here: carrying it out (`disk.rs`), which troubles there are (`faults.rs`).

use crate::faults::{Kind, Trouble};
use crate::rng::Rng;
use ringway_log::io::{EIO, ENOSPC, Errno};

/// A flush or write that was linked to one that failed (C8).
pub const ECANCELED: Errno = Errno(125);

/// A request as troubles see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A write; durable ones have a flush inside.
    Write {
        /// RWF_DSYNC.
        durable: bool,
    },
    /// A flush.
    Flush,
    /// A read of a segment: file and position.
    Read(usize, usize),
    /// Space for a segment.
    Allocation,
    /// A small file is written.
    SmallWrite,
    /// Names, sizes, small files.
    Name,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It fails; done in part, or not at all.
    Failed(Errno),
    /// Nothing of it happens for lack of space.
    Refused,
    /// Fewer bytes than asked are moved.
    Short,
    /// The device's flush fails under it (C7).
    FlushFailed,
    /// It succeeds, but another's failed flush took its bytes (P12).
    Robbed,
    /// Its flush does nothing.
    Ignored,
    /// It never happens and succeeds.
    Lost,
    /// It lands one block off and succeeds.
    Misplaced,
}

/// What troubles were met.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceCounts {
    /// Writes failed, flushes not counted.
    pub write_errors: u64,
    /// Short writes.
    pub short_writes: u64,
    /// Failed flushes.
    pub flush_errors: u64,
    /// Writes that succeeded after a failed flush had taken their bytes.
    pub robbed: u64,
    /// Failed reads.
    pub read_errors: u64,
    /// Failed requests on names and small files.
    pub name_errors: u64,
    /// Slow answers.
    pub slow: u64,
    /// Allocations refused.
    pub refusals: u64,
    /// Flushes that did nothing.
    pub flushes_ignored: u64,
    /// Writes that never happened.
    pub writes_lost: u64,
    /// Writes that landed elsewhere.
    pub writes_misplaced: u64,
}

/// The device's mood in one life.
#[derive(Clone, Debug)]
pub struct Device {
    /// Not met yet; `nth` counts down.
    troubles: Vec<Trouble>,
    rng: Rng,
    no_space_until_ns: u64,
    /// The read that failed last.
    failed_read: Option<(usize, usize)>,
    hits: u64,
    /// Since the disk was made.
    pub counts: DeviceCounts,
}

impl Default for Device {
    /// A sound one.
    fn default() -> Device {
        Device {
            troubles: Vec::new(),
            rng: Rng::new(0),
            no_space_until_ns: 0,
            failed_read: None,
            hits: 0,
            counts: DeviceCounts::default(),
        }
    }
}

impl Device {
    /// A life begins.
    pub fn begin(&mut self, troubles: &[Trouble], rng: Rng) {
        self.troubles = troubles.iter().filter(|one| !one.kind.is_rot()).copied().collect();
        self.rng = rng;
        self.failed_read = None;
        self.no_space_until_ns = 0;
        self.hits = 0;
    }

    /// From now on nothing goes wrong.
    pub fn heal(&mut self) {
        self.begin(&[], Rng::new(0));
    }

    /// Whether something went wrong in this life.
    #[must_use]
    pub fn was_hit(&self) -> bool {
        self.hits > 0
    }

    /// Until when nothing can be allocated.
    #[must_use]
    pub fn no_space_until_ns(&self) -> u64 {
        self.no_space_until_ns
    }

    /// Chance for what a trouble leaves open.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// What a request meets, and how much longer it takes.
    pub fn meet(&mut self, now_ns: u64, asked: Asked) -> (Option<Fate>, u64) {
        let mut fate = None;
        let mut delay_ns = 0;
        let mut at = 0;
        while at < self.troubles.len() {
            let trouble = self.troubles[at];
            if !self.concerns(trouble.kind, asked) {
                at += 1;
            } else if trouble.nth > 0 {
                self.troubles[at].nth -= 1;
                at += 1;
            } else if fate.is_some() && trouble.kind != Kind::Slow {
                at += 1;
            } else {
                self.troubles.remove(at);
                self.hits += 1;
                match trouble.kind {
                    Kind::Slow => {
                        self.counts.slow += 1;
                        delay_ns += trouble.for_ns;
                    }
                    Kind::NoSpace => self.no_space_until_ns = now_ns + trouble.for_ns,
                    kind => fate = self.strike(kind, asked),
                }
            }
        }
        let scarce = match asked {
            Asked::Allocation => true,
            Asked::SmallWrite => self.rng.percent(50),
            Asked::Write { .. } | Asked::Flush | Asked::Read(..) | Asked::Name => false,
        };
        if fate.is_none() && scarce && now_ns < self.no_space_until_ns {
            self.counts.refusals += 1;
            fate = Some(Fate::Refused);
        }
        (fate, delay_ns)
    }

    fn concerns(&self, kind: Kind, asked: Asked) -> bool {
        let flushes = matches!(asked, Asked::Write { durable: true } | Asked::Flush);
        let writes = matches!(asked, Asked::Write { .. });
        match kind {
            Kind::WriteError | Kind::ShortWrite | Kind::NoSpaceToWrite => writes,
            Kind::WriteLost | Kind::WriteMisplaced => writes,
            Kind::FlushError | Kind::FlushIgnored => flushes,
            Kind::ReadError => match asked {
                Asked::Read(file, at) => self.failed_read != Some((file, at)),
                _ => false,
            },
            Kind::NameError => matches!(asked, Asked::Name | Asked::SmallWrite | Asked::Allocation),
            Kind::NoSpace => asked == Asked::Allocation,
            Kind::Slow => true,
            Kind::Rot(_) => false,
        }
    }

    fn strike(&mut self, kind: Kind, asked: Asked) -> Option<Fate> {
        let counts = &mut self.counts;
        let (count, fate) = match kind {
            Kind::WriteError => {
                let errno = self.rng.pick(&[EIO, EIO, ECANCELED]);
                (&mut counts.write_errors, Fate::Failed(errno))
            }
            Kind::NoSpaceToWrite => (&mut counts.write_errors, Fate::Failed(ENOSPC)),
            Kind::ShortWrite => (&mut counts.short_writes, Fate::Short),
            Kind::FlushError => (&mut counts.flush_errors, Fate::FlushFailed),
            Kind::ReadError => {
                if let Asked::Read(file, at) = asked {
                    self.failed_read = Some((file, at));
                }
                (&mut counts.read_errors, Fate::Failed(EIO))
            }
            Kind::NameError => (&mut counts.name_errors, Fate::Failed(EIO)),
            Kind::FlushIgnored => (&mut counts.flushes_ignored, Fate::Ignored),
            Kind::WriteLost => (&mut counts.writes_lost, Fate::Lost),
            Kind::WriteMisplaced => (&mut counts.writes_misplaced, Fate::Misplaced),
            Kind::Slow | Kind::NoSpace | Kind::Rot(_) => return None,
        };
        *count += 1;
        Some(fate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(troubles: &[(Kind, u64, u64)]) -> Device {
        let mut device = Device::default();
        let trouble = |(kind, nth, for_ns): &(Kind, u64, u64)| Trouble {
            kind: *kind,
            nth: *nth,
            for_ns: *for_ns,
            chance: 0,
        };
        let troubles: Vec<Trouble> = troubles.iter().map(trouble).collect();
        device.begin(&troubles, Rng::new(1));
        device
    }

    #[test]
    fn the_nth_request_of_a_kind_meets_the_trouble_once() {
        let mut device = device(&[(Kind::ShortWrite, 2, 0)]);
        let write = Asked::Write { durable: true };
        assert_eq!(device.meet(0, write).0, None);
        assert_eq!(device.meet(0, Asked::Flush).0, None);
        assert_eq!(device.meet(0, write).0, None);
        assert_eq!(device.meet(0, write).0, Some(Fate::Short));
        assert_eq!(device.meet(0, write).0, None);
        assert!(device.was_hit());
    }

    #[test]
    fn a_failed_read_works_when_it_is_tried_again() {
        let mut device = device(&[(Kind::ReadError, 0, 0), (Kind::ReadError, 0, 0)]);
        assert_eq!(device.meet(0, Asked::Read(1, 0)).0, Some(Fate::Failed(EIO)));
        assert_eq!(device.meet(0, Asked::Read(1, 0)).0, None);
        assert_eq!(device.meet(0, Asked::Read(1, 4096)).0, Some(Fate::Failed(EIO)));
    }

    #[test]
    fn space_is_short_for_a_while_and_then_back() {
        let mut device = device(&[(Kind::NoSpace, 0, 100)]);
        assert_eq!(device.meet(10, Asked::Allocation).0, Some(Fate::Refused));
        assert_eq!(device.meet(109, Asked::Allocation).0, Some(Fate::Refused));
        assert_eq!(device.meet(109, Asked::Write { durable: true }).0, None);
        assert_eq!(device.meet(110, Asked::Allocation).0, None);
    }
}
