//! Cases written down, of more than one blow: what alone decides there is tried nowhere else.
//! Owner: `damage.rs`.
//! Invariant: one batch lies in one block.
//! Not here: every block and every small file (`damage.rs`).

use crate::checker::Violation;
use crate::clock::SECOND;
use crate::disk::Disk;
use crate::flip::{Beside, Scene};
use crate::ledger::Ledger;
use crate::places::{self, Place};
use crate::stand::{KEY, Stand};
use crate::tally::Tally;
use ringway_log::io::SegmentName;

/// Tries all of them.
///
/// # Errors
/// A log cannot be built.
pub(super) fn run(stand: &mut Stand, tally: &mut Tally) -> Result<(), String> {
    for beside in [Beside::Checkpoints, Beside::Clean, Beside::Nothing] {
        rewind(stand, beside)?;
        let result = keeps_its_history(stand);
        tally.judge(result, || format!("{beside:?}: a block of another history behind the end"));
    }
    let base = list_and_forget(stand)?;
    let result = gives_again(stand, base);
    tally.judge(result, || format!("offset {base} in the list, and nothing vouches for it"));
    Ok(())
}

fn broken(detail: String) -> Violation {
    Violation { invariant: "D7", detail }
}

fn segment(base_offset: u64) -> SegmentName {
    SegmentName { log: KEY, base_offset }
}

fn append(stand: &mut Stand) -> Result<(), String> {
    stand.append(1, 700)?;
    stand.run()
}

fn place_of_last(stand: &Stand) -> Result<Place, String> {
    let last = stand.ledger.line().last().map(|one| one.hash);
    let found = places::find(&stand.disk, KEY, |frame| Some(frame.hash) == last);
    found.first().copied().ok_or_else(|| "the last batch is not on the disk".to_owned())
}

/// A volume that was brought back to an earlier state, but for one block of the time after it: both times
/// gave the same offsets in the same life, so that only the link to the batch before tells them apart.
fn rewind(stand: &mut Stand, beside: Beside) -> Result<(), String> {
    stand.reset(Disk::new(4096), Ledger::default());
    stand.start()?;
    append(stand)?;
    stand.wait(SECOND)?;
    stand.cut();
    let (earlier, promised) = (stand.disk.clone(), stand.ledger.clone());
    // The first time two batches follow.
    stand.start()?;
    append(stand)?;
    append(stand)?;
    stand.cut();
    let kept = place_of_last(stand)?;
    let block = stand.disk.block();
    let from = kept.at / block * block;
    let bytes = stand.disk.bytes_of(segment(kept.segment))[from..from + block].to_vec();
    // The second time one; behind it stands what the first time left.
    stand.reset(earlier, promised);
    stand.start()?;
    append(stand)?;
    let mut scene = Scene::of("rewound", stand, beside)?;
    scene.disk.overwrite(segment(kept.segment), from, &bytes);
    stand.reset(scene.disk, scene.ledger);
    Ok(())
}

/// Nothing of the other history is served, now or once the log has gone on.
fn keeps_its_history(stand: &mut Stand) -> Result<(), Violation> {
    for _ in 0..2 {
        stand.start().map_err(broken)?;
        let found = stand.read_all().map_err(broken)?;
        stand.ledger.judge(&found)?;
        append(stand).map_err(broken)?;
        stand.cut();
    }
    Ok(())
}

/// The last batch was lost and a read has named it; then everything else that knew of it is lost too.
fn list_and_forget(stand: &mut Stand) -> Result<u64, String> {
    stand.reset(Disk::new(4096), Ledger::default());
    stand.start()?;
    for _ in 0..4 {
        append(stand)?;
    }
    stand.wait(SECOND)?;
    stand.stop()?;
    let lost = place_of_last(stand)?;
    let zeros = vec![0; lost.range().len()];
    stand.disk.overwrite(segment(lost.segment), lost.at, &zeros);
    stand.start()?;
    let base = lost.frame.base;
    let listed = stand.read_all()?.listed;
    if listed != [(base, base + 1)] {
        return Err(format!("the read of a lost batch at {base} lists {listed:?}"));
    }
    let scene = Scene::of("forgotten", stand, Beside::Nothing)?;
    stand.reset(scene.disk, scene.ledger);
    Ok(base)
}

/// Its offset is given to the next batch, which is served.
fn gives_again(stand: &mut Stand, base: u64) -> Result<(), Violation> {
    stand.start().map_err(broken)?;
    append(stand).map_err(broken)?;
    let given = stand.ledger.line().last().copied();
    stand.cut();
    stand.start().map_err(broken)?;
    let read = stand.read(base).map_err(broken)?;
    let first = read.as_ref().ok().and_then(|frames| frames.first());
    match (given, first) {
        (Some(given), Some(first)) if (given.base, given.hash) == (base, first.hash) => Ok(()),
        (given, _) => {
            let detail = format!("{given:?} was appended, a read at {base} gives {read:?}");
            Err(Violation { invariant: "D1", detail })
        }
    }
}
