//! All groups of a shard.
//! Owner: `Shard`.
//! Invariant: every group call is answered exactly once.
//! Not here: the state machine of one group.

use crate::request::{GroupReply, GroupRequest, MetaAnswer, Reply, RequestId};
use crate::turn::Turn;
use ringway_log::logs::ReadFailure;
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::LogKey;

/// The coordinator of this shard's groups.
#[derive(Default)]
pub(crate) struct Coordinator {}

impl Coordinator {
    pub(crate) fn len(&self) -> usize {
        0
    }

    pub(crate) fn offsets_log(&self, _turn: &Turn<'_>, _group: &str) -> Option<LogKey> {
        None
    }

    pub(crate) fn request(&mut self, turn: &mut Turn<'_>, id: RequestId, _call: GroupRequest) {
        turn.reply(id, Reply::Group(GroupReply::Failed(ErrorCode::CoordinatorNotAvailable)));
    }

    pub(crate) fn log_opened(&mut self, _turn: &mut Turn<'_>, _key: LogKey) {}

    pub(crate) fn read_done(
        &mut self,
        turn: &mut Turn<'_>,
        _partition: u32,
        result: Result<FrameList, ReadFailure>,
    ) {
        if let Ok(mut frames) = result {
            frames.release(turn.blocks);
        }
    }

    pub(crate) fn serve(&mut self, _turn: &mut Turn<'_>) {}

    pub(crate) fn catalog_changed(&mut self, _turn: &mut Turn<'_>) {}

    pub(crate) fn topic_answered(&mut self, _turn: &mut Turn<'_>, _answer: MetaAnswer) {}

    pub(crate) fn own_reply(&mut self, _turn: &mut Turn<'_>, _id: RequestId, _reply: Reply) {}

    pub(crate) fn tick(&mut self, _turn: &mut Turn<'_>) -> Option<u64> {
        None
    }

    pub(crate) fn stop(&mut self, _turn: &mut Turn<'_>) {}
}
