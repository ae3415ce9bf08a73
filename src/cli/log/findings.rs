//! How one finding is told, to people and to programs.

use ringway_log::verify::{Finding, FindingKind};
use serde_json::{Value, json};

/// One finding as JSON.
pub(super) fn finding_json(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.name(),
        "damage": finding.is_damage(),
        "segment": finding.segment,
        "position": finding.position,
        "until_position": finding.until_position,
        "offset": finding.offset,
        "until": finding.until,
    })
}

/// One finding as a line.
pub(super) fn finding_line(finding: &Finding) -> String {
    let Finding { segment, position, offset, until, .. } = finding;
    let (kind, file) = (finding.kind.name(), format!("{segment:020}.seg"));
    let place = format!("{kind}: {file} at byte {position}, offsets {offset}..{until}");
    match finding.kind {
        FindingKind::GivenUp => {
            format!("{place}: the log goes on behind them, and the broker names them lost")
        }
        FindingKind::Unserved => {
            format!(
                "{place} are readable, but named damaged before: a repair has the broker serve them again"
            )
        }
        FindingKind::Stray => format!(
            "{kind}: {file} holds nothing of this log and stands inside another segment's offsets: a repair leaves \
             it out"
        ),
        FindingKind::TornTail
        | FindingKind::Header
        | FindingKind::Payload
        | FindingKind::Place
        | FindingKind::Missing
        | FindingKind::Unreadable
        | FindingKind::Checkpoint => place,
    }
}
