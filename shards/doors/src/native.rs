//! The native door.
//! Owner: one `Session`.
//! Invariant: every frame has a 128-byte header.
//! Not here: frames (`input.rs`).

use crate::door::{Close, DoorConfig, Taken};
use crate::turn::{Turn, close};
use ringway_log::blocks::Slice;
use ringway_partition::request::Reply;

/// One connection's native side.
pub(crate) struct NativeDoor;

impl NativeDoor {
    pub(crate) fn new() -> NativeDoor {
        NativeDoor
    }

    pub(crate) fn measure(_bytes: &[u8], _config: &DoorConfig) -> Result<Option<usize>, Close> {
        Err(close("unknown_protocol", "native"))
    }

    pub(crate) fn frame(&mut self, _frame: Slice, _turn: &mut Turn<'_>) -> Result<Taken, Close> {
        Ok(Taken::Yes)
    }

    pub(crate) fn reply(
        &mut self,
        _id: u32,
        reply: Reply,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        turn.drop_reply(reply);
        Ok(())
    }

    pub(crate) fn unanswered(&self) -> usize {
        0
    }

    pub(crate) fn said_hello(&self) -> bool {
        false
    }

    pub(crate) fn end(&mut self, _gone: &mut impl FnMut(u32)) {}
}
