//! Writes that take too long: counted and said, never given up (P15).
//! Owner: `Logs`.
//! Invariant: a stalled write is neither a failure nor a success; acknowledgements wait for it.
//! Not here: failures (`poison.rs`).

use crate::event::LogEvent;
use crate::log::Log;
use crate::turn::Turn;

/// How often writes in flight are looked at.
const LOOK_NS: u64 = 1_000_000_000;

/// When to look, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    look_ns: u64,
}

impl Stalls {
    /// Counts stalled writes now and then; when to look again, while any write is in flight.
    pub(crate) fn plan(&mut self, logs: &mut [Log], turn: &mut Turn<'_>) -> Option<u64> {
        let now_ns = turn.now.mono_ns;
        if turn.shared.writes_in_flight == 0 && turn.shared.counts.stalled == 0 {
            return None;
        }
        if self.look_ns <= now_ns {
            self.look_ns = now_ns + LOOK_NS;
            turn.shared.counts.stalled = 0;
            for log in logs {
                log.look_for_stall(turn);
            }
        }
        Some(self.look_ns)
    }
}

impl Log {
    fn look_for_stall(&mut self, turn: &mut Turn<'_>) {
        let (now_ns, stall_ns) = (turn.now.mono_ns, turn.shared.config.upkeep.io_stall_ns);
        let Some(group) = &mut self.in_flight else { return };
        let age_ns = now_ns.saturating_sub(group.since_ns);
        if age_ns < stall_ns {
            return;
        }
        turn.shared.counts.stalled += 1;
        if !std::mem::replace(&mut group.stall_told, true) {
            let (text, ms) = (self.describe_write(), age_ns / 1_000_000);
            let text =
                format!("{text} is not answered for {ms} ms: the disk is stuck or overloaded");
            turn.tell(LogEvent::Warning(text));
        }
    }
}
