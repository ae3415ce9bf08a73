//! Recovery over a segment that was written by the rules and then damaged: scan, verdict, reads, appends.
//! Input: a plan of appends, group ends and damage (`src/written.rs`).
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use ringway_fuzz::broker::{Broker, KEY};
use ringway_fuzz::canary;
use ringway_fuzz::disk::Disk;
use ringway_fuzz::written::{Written, one_more};
use ringway_log::io::SegmentName;

/// Steps beyond it make runs slow and find nothing that shorter plans do not.
const PLAN_MAX: usize = 96;

type Batches = Vec<(u64, Vec<u8>)>;
type Holes = Vec<(u64, u64)>;

fuzz_target!(|plan: &[u8]| -> Corpus {
    if plan.len() > PLAN_MAX {
        return Corpus::Reject;
    }
    let written = Written::new(plan);
    if written.frames.is_empty() {
        return Corpus::Reject;
    }
    let mut disk = Disk::default();
    Broker::format(&mut disk);
    disk.put(SegmentName { log: KEY, base_offset: 0 }, written.content.clone());
    recover(&written, &mut disk);
    Corpus::Keep
});

fn recover(written: &Written, disk: &mut Disk) {
    let (mut broker, offline) = Broker::start(disk);
    if let Some(text) = offline {
        panic!("a readable disk must not keep a log offline: {text}");
    }
    let (batches, holes) = broker.read_all(disk);
    let end = broker.log_end();
    check(written, &batches, &holes, end);

    // D7: recovering again changes nothing.
    broker.end();
    let (mut broker, offline) = Broker::start(disk);
    assert_eq!(offline, None);
    assert_eq!(broker.log_end(), end, "the log end moves from recovery to recovery");
    assert_eq!(broker.read_all(disk), (batches.clone(), holes.clone()), "D7");

    // D4: what was dropped stays dropped once other bytes follow.
    let appended = broker.append(disk, &one_more());
    assert!(appended >= end, "offset {appended} was given before");
    broker.end();
    let (mut broker, offline) = Broker::start(disk);
    assert_eq!(offline, None);
    let (mut after, holes_after) = broker.read_all(disk);
    let last = after.pop().expect("the batch that was acknowledged");
    assert_eq!((last.0, &last.1[61..]), (appended, &b"after"[..]), "D1");
    assert_eq!((after, holes_after), (batches, holes), "D4");
    broker.end();
}

fn check(written: &Written, batches: &Batches, holes: &Holes, end: u64) {
    for (base, batch) in batches {
        let frame = written.frames.iter().find(|frame| frame.base_offset == *base);
        let Some(frame) = frame else { panic!("D2: a batch at {base} that nobody wrote") };
        // Only the native line may differ, and its damage is seen too.
        assert_eq!(batch, &frame.batch, "D5: damaged bytes at {base} are readable");
        assert!(!frame.damaged, "D5: a damaged header at {base} was believed");
    }
    let w = written.witnessed();
    assert!(end >= w, "D1: the log ends at {end}, {w} was flushed");
    for frame in written.frames.iter().filter(|frame| frame.last_offset < w) {
        let readable = batches.iter().any(|(base, _)| *base == frame.base_offset);
        let named =
            holes.iter().any(|(from, to)| *from <= frame.base_offset && frame.last_offset < *to);
        assert!(readable || named, "D1: offset {} is silently absent", frame.base_offset);
        assert!(readable || frame.damaged, "D6: sound offset {} is given up", frame.base_offset);
    }
    let of_group = |group| written.frames.iter().filter(move |frame| frame.group == group);
    let lost = |offset: u64| holes.iter().any(|(from, to)| *from <= offset && offset < *to);
    let kept = |offset: u64| batches.iter().any(|(base, _)| *base == offset);
    if of_group(0).any(|frame| lost(frame.base_offset)) && of_group(0).any(|frame| frame.forged) {
        if of_group(1).any(|frame| kept(frame.base_offset)) {
            canary("recovery: rot in the first of two groups, a forged header in its payload");
        }
    }
}
