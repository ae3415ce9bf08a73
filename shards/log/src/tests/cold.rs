//! Reads from disk while the log changes around them.
//! Owner: the tests of this crate.
//! Invariant: a read ends, with right bytes or because its segment has gone; it calls nothing damaged that is sound.
//! Not here: what a read finds (`rules.rs`, `damage.rs`), scrubs (`scrub.rs`).

use super::life::{KEY, World, batch, settings};
use crate::logs::{LogSettings, ReadFailure, ReadStart};
use crate::read::FrameList;

/// A frame that fills a segment and lies in two regions: a read waits inside it, before its walk has gone over to
/// that segment.
const PAYLOAD: usize = 100_000;

#[test]
fn a_read_inside_a_frame_finds_its_place_when_segments_before_it_go() {
    let mut moved = 0;
    for seed in 0..100 {
        let mut world =
            World::with_log(seed, LogSettings { segment_bytes: 128 << 10, ..settings() });
        for n in 0..24u8 {
            world.append_wait(&batch(1, &vec![n; PAYLOAD], 5));
            world.flush();
        }
        world.restart_clean();
        let dropped =
            LogSettings { segment_bytes: 128 << 10, retention_bytes: Some(400_000), ..settings() };
        world.logs().configure(KEY, dropped);
        world.now.mono_ns += 60_000_000_000;
        for _ in 0..seed % 30 {
            world.turn(40);
        }
        let (from, upto) = (world.logs().start_offset(KEY), world.logs().flushed_offset(KEY));
        let World { logs, blocks, io, .. } = &mut world;
        let logs = logs.as_mut().expect("started");
        let began = logs.read(KEY, from, upto, 1 << 20, blocks, io, &mut FrameList::default());
        let ReadStart::Waiting(ticket) = began else { panic!("{began:?}: nothing is in memory") };
        let ended = (0..2_000).find_map(|_| {
            world.turn(40);
            world.reads.remove(&ticket.0)
        });
        match ended.unwrap_or_else(|| panic!("seed {seed}: the read does not end")) {
            Ok(mut frames) => {
                assert_eq!(frames.frames[0].base_offset, from, "seed {seed}");
                frames.release(&mut world.blocks);
            }
            // The segment that it read was due as well.
            Err(ReadFailure::Gone) => {}
            Err(other) => panic!("seed {seed}: {other:?}"),
        }
        moved += u64::from(world.disk.segments(KEY)[0] > from);
        assert!(world.logs().quarantined(KEY).is_empty(), "seed {seed}");
    }
    assert!(moved > 10, "segments went in {moved} of 100 runs");
}
