//! Reads a whole log through the shard's own fetches, for the checker.
//! Owner: the world.
//! Invariant: nothing is read that a consumer could not read.
//! Not here: judging it (`checker.rs`).

use crate::checker::Violation;
use crate::clock::{MS, SECOND};
use crate::node::{Happening, Node};
use crate::room::{FrameSeen, PartSeen, ReadBack, ReadLog};
use ringway_partition::request::{FetchPart, Request};
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, shard_of};

/// How often a log that is not open yet, or gives nothing for the moment, is asked again.
const PATIENCE: u32 = 200;

/// Why a log was not read.
#[derive(Clone, Debug)]
pub enum Unread {
    /// It is not open, and says so.
    Closed(ErrorCode),
    /// It answers, and wrongly.
    Broken(Violation),
}

impl From<Violation> for Unread {
    fn from(violation: Violation) -> Unread {
        Unread::Broken(violation)
    }
}

/// Reads it.
///
/// # Errors
/// What broke, when the log does not answer or answers with damage; or that it is closed.
pub fn read_log(node: &mut Node, key: LogKey) -> Result<ReadLog, Unread> {
    let mut log = read_all(node, key)?;
    if !log.quarantined.is_empty() {
        check_listed(node, &log, key)?;
    }
    // Retention may have moved the start meanwhile.
    let start = log.log_start;
    log.frames.retain(|frame| frame.last >= start);
    log.quarantined.retain(|range| range.1 > start);
    Ok(log)
}

fn read_all(node: &mut Node, key: LogKey) -> Result<ReadLog, Unread> {
    let skips = node.control.skips_quarantined(key);
    let mut log = ReadLog::default();
    let mut offset = 0;
    let mut patience = PATIENCE;
    loop {
        let part = fetch(node, key, offset)?;
        match part.code {
            Some(ErrorCode::None) => {
                log.log_start = part.log_start;
                log.end = part.high_watermark;
                let Some(last) = part.frames.last() else {
                    if offset >= log.end {
                        return Ok(log);
                    }
                    if patience == 0 || !may_be_busy(node, key) {
                        return Err(stuck(key, offset, log.end).into());
                    }
                    wait(node, &mut patience);
                    continue;
                };
                let next = last.last + 1;
                if skips {
                    node.stepped_over += u64::from(last.hollow);
                    take_passing(&mut log, offset, &part.frames);
                } else {
                    log.frames.extend_from_slice(&part.frames);
                }
                offset = next;
                if offset >= log.end {
                    return Ok(log);
                }
                if !part.frames.iter().all(|frame| frame.sound) {
                    return Ok(log);
                }
            }
            Some(ErrorCode::CorruptMessage) if offset < part.high_watermark => {
                (log.log_start, log.end) = (part.log_start, part.high_watermark);
                take_hole(&mut log, (offset, offset + 1));
                offset += 1;
                if offset >= log.end {
                    return Ok(log);
                }
            }
            // At first, and while the log is read: retention goes on.
            Some(ErrorCode::OffsetOutOfRange) if offset < part.log_start => {
                offset = part.log_start;
            }
            // An offline log stays so until the next start.
            Some(ErrorCode::KafkaStorageError) => {
                return Err(Unread::Closed(ErrorCode::KafkaStorageError));
            }
            Some(code) if code.is_retriable() && patience > 0 => wait(node, &mut patience),
            Some(code) if code.is_retriable() => return Err(Unread::Closed(code)),
            code => {
                let detail = format!("{key}: reading at {offset} after a recovery: {code:?}");
                return Err(Violation { invariant: "D6", detail }.into());
            }
        }
    }
}

/// Batches of a topic whose readers pass damage over: what is between them, or in one without records, is
/// damaged, and has to be in the log's list like all damage.
fn take_passing(log: &mut ReadLog, mut offset: u64, frames: &[FrameSeen]) {
    for frame in frames {
        take_hole(log, (offset, frame.base));
        if frame.hollow {
            take_hole(log, (offset.max(frame.base), frame.last + 1));
        } else {
            log.frames.push(*frame);
        }
        offset = frame.last + 1;
    }
}

fn take_hole(log: &mut ReadLog, (from, to): (u64, u64)) {
    match log.quarantined.last_mut().filter(|range| range.1 == from) {
        _ if from >= to => {}
        Some(range) => range.1 = to,
        None => log.quarantined.push((from, to)),
    }
}

/// Whether a log may give nothing for the moment: no range in its list of damage is told before the list is
/// durable (Q1), and a scrub may have found one just now. A client that waits for nothing asks again.
fn may_be_busy(node: &Node, key: LogKey) -> bool {
    node.disk.writes_list(key) || node.disk.device.was_hit()
}

fn stuck(key: LogKey, offset: u64, end: u64) -> Violation {
    let detail = format!("{key}: nothing to read at {offset}, high watermark {end}");
    Violation { invariant: "D3", detail }
}

fn fetch(node: &mut Node, key: LogKey, offset: u64) -> Result<PartSeen, Violation> {
    let now = node.clock.mono_ns();
    let part = FetchPart { key, offset, bytes_max: 1 << 20, leader_epoch: -1 };
    let request =
        Request::Fetch { parts: vec![part], bytes_min: 0, bytes_max: 1 << 20, deadline_ns: now };
    match ask(node, key, request)? {
        ReadBack::Parts(parts) => parts.into_iter().next().ok_or_else(|| none(key, "no part")),
        ReadBack::Failed(code, _) => Ok(PartSeen { code: Some(code), ..PartSeen::default() }),
        other => Err(none(key, &format!("{other:?}"))),
    }
}

/// What a fetch refuses as damaged the log names by itself, too.
fn check_listed(node: &mut Node, log: &ReadLog, key: LogKey) -> Result<(), Violation> {
    let listed = match ask(node, key, Request::DescribeLog { key })? {
        ReadBack::Listed(listed) => listed,
        other => return Err(none(key, &format!("{other:?}"))),
    };
    for (from, to) in &log.quarantined {
        let named = |at: &u64| listed.iter().any(|range| (range.0..range.1).contains(at));
        if let Some(at) = (*from..*to).find(|at| !named(at)) {
            // Retention may have taken it, and its name with it, since it was read.
            let start = fetch(node, key, at)?.log_start;
            let Some(at) = (start.max(*from)..*to).find(|at| !named(at)) else { continue };
            let detail =
                format!("{key}: {at} is refused as damaged and not in the list {listed:?}");
            return Err(Violation { invariant: "D1", detail });
        }
    }
    Ok(())
}

/// Asks the shard that has a log.
fn ask(node: &mut Node, key: LogKey, request: Request) -> Result<ReadBack, Violation> {
    let shards = node.process.as_ref().map_or(1, |process| process.shards());
    node.ask(shard_of(key, shards), 1, request);
    let until = node.clock.mono_ns() + 60 * SECOND;
    while let Some(happening) = node.next(until) {
        if let Happening::Read(_, back) = happening {
            return Ok(back);
        }
    }
    Err(none(key, "no answer"))
}

fn none(key: LogKey, what: &str) -> Violation {
    Violation { invariant: "READ", detail: format!("{key}: a fetch after a recovery got {what}") }
}

/// Lets the node go on for a while; a device that takes seconds is given minutes.
fn wait(node: &mut Node, patience: &mut u32) {
    *patience -= 1;
    let long = node.disk.device.was_hit() && *patience < PATIENCE / 2;
    let until = node.clock.mono_ns() + if long { SECOND } else { MS };
    while node.next(until).is_some() {}
    node.clock.advance(until);
}
