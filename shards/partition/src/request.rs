//! What doors ask and shards answer, without a word of any protocol's frames.
//! Owner: doors make requests, `Shard` answers each exactly once.
//! Invariant: every `Request` gets one `Reply` with its id, also when the shard refuses it.
//! Not here: bytes of frames (`doors`), waiting rules (`shard.rs`).

use crate::catalog::Catalog;
use ringway_log::blocks::Slice;
use ringway_log::io::{IoDone, IoOut};
use ringway_log::read::FrameList;
use ringway_wire::error_code::ErrorCode;
use ringway_wire::ids::{LogKey, ShardId};
use std::ops::Range;
use std::sync::Arc;

/// Who asked: the connection (never reused within a life) and that connection's own number.
/// Connections with the top bit set are the shard's own (internal topics).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// Connection.
    pub connection: u32,
    /// Request of that connection, chosen by its session.
    pub request: u32,
}

/// A record batch as a door received it: exactly the Kafka RecordBatch v2 (61-byte header, records).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In this shard's blocks, contiguous; carries one hold.
    Received(Slice),
    /// Crossed the mesh as one owned copy.
    Owned(Vec<u8>),
}

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPart {
    /// Which log.
    pub key: LogKey,
    /// First offset wanted.
    pub offset: u64,
    /// Bytes at most for this partition (the first batch of the reply always comes whole, F2).
    pub bytes_max: u32,
    /// The client's idea of the leader epoch, −1 = no check (F8).
    pub leader_epoch: i32,
}

/// What a door asks.
#[derive(Clone, Debug)]
pub enum Request {
    /// Append one batch.
    Produce {
        /// Which log.
        key: LogKey,
        /// 0, 1 or −1; 0 gets a reply too (the door drops it).
        acks: i16,
        /// Not appended any more once this has passed (O4).
        deadline_ns: u64,
        /// The batch.
        payload: Payload,
        /// Encoding byte for the native line (3 = unspecified, from Kafka).
        encoding: u8,
    },
    /// Read several partitions, waiting as one (F4).
    Fetch {
        /// In the order of the request; the reply keeps it.
        parts: Vec<FetchPart>,
        /// Enough bytes over all parts to answer at once.
        bytes_min: u32,
        /// Bytes at most over all parts.
        bytes_max: u32,
        /// When to answer with what there is.
        deadline_ns: u64,
    },
    /// Offset by time or special.
    ListOffsets {
        /// Which log.
        key: LogKey,
        /// Milliseconds, or a special.
        at: OffsetAt,
        /// The client's leader epoch, −1 = no check.
        leader_epoch: i32,
    },
    /// A change or question for the control plane.
    Meta(MetaOp),
    /// A new producer id and epoch (no transactional id).
    InitProducerId {
        /// Current id, −1 = none; with `epoch` asks for the next epoch of the same id (KIP-360).
        producer_id: i64,
        /// Current epoch, −1 = none.
        epoch: i16,
    },
    /// A call on a consumer group; any shard takes it, the coordinator answers.
    Group(GroupRequest),
    /// Segment facts of a log, for DescribeTopic and metrics.
    DescribeLog {
        /// Which log.
        key: LogKey,
    },
}

/// Which offset ListOffsets wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// −1: high watermark.
    Latest,
    /// −2, −4: log start.
    Earliest,
    /// −3: greatest timestamp and its offset.
    MaxTimestamp,
    /// First record with this timestamp (ms) or later.
    Time(i64),
}

/// A change of metadata, carried to the control plane with the request's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaOp {
    /// Create one topic.
    CreateTopic {
        /// Checked by the control plane.
        name: String,
        /// −1 = default.
        partitions: i32,
        /// −1 = default; counts nodes (B4).
        replication_factor: i16,
        /// Raw settings as given.
        configs: Vec<(String, Option<String>)>,
        /// Check only.
        validate_only: bool,
        /// Made by the broker itself (`__consumer_offsets`).
        internal: bool,
    },
    /// Change settings of one topic.
    AlterTopic {
        /// Which.
        topic_id: u64,
        /// Raw settings as given; `None` = back to the default.
        configs: Vec<(String, Option<String>)>,
    },
    /// Delete one topic by id.
    DeleteTopic {
        /// Which.
        topic_id: u64,
    },
    /// Reserve a block of producer ids durably (I8).
    ReserveProducerIds {
        /// How many.
        count: u32,
    },
}

/// The control plane's answer to a [`MetaOp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaAnswer {
    /// Created (or would be, with `validate_only`).
    Created {
        /// Number of the topic; 0 with `validate_only`.
        topic_id: u64,
        /// Resolved partition count.
        partitions: u32,
    },
    /// The new settings hold.
    Altered,
    /// Gone.
    Deleted,
    /// Ids `first..first + count` are this shard's.
    ProducerIds {
        /// First.
        first: i64,
        /// How many.
        count: u32,
    },
    /// Refused.
    Failed {
        /// Code.
        code: ErrorCode,
        /// What happened, with values.
        message: String,
    },
}

/// Calls on a classic consumer group (kafka.md §4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// JoinGroup.
    Join(JoinGroup),
    /// SyncGroup.
    Sync {
        /// Group.
        group: String,
        /// Generation the member believes in.
        generation: i32,
        /// Member.
        member: String,
        /// Protocol type and name when sent (v5+).
        protocol: Option<(String, String)>,
        /// The leader's assignments, empty from followers.
        assignments: Vec<(String, Vec<u8>)>,
    },
    /// Heartbeat.
    Heartbeat {
        /// Group.
        group: String,
        /// Generation.
        generation: i32,
        /// Member.
        member: String,
    },
    /// LeaveGroup: every named member leaves.
    Leave {
        /// Group.
        group: String,
        /// Members.
        members: Vec<String>,
    },
    /// OffsetCommit, answered once durable (G16).
    Commit {
        /// Group.
        group: String,
        /// −1 = simple consumer.
        generation: i32,
        /// Empty = simple consumer.
        member: String,
        /// What to store.
        offsets: Vec<CommittedOffset>,
    },
    /// OffsetFetch.
    Fetch {
        /// Group.
        group: String,
        /// `None` = all that the group has.
        partitions: Option<Vec<LogKey>>,
    },
}

impl GroupRequest {
    /// The group it is about.
    #[must_use]
    pub fn group(&self) -> &str {
        match self {
            GroupRequest::Join(join) => &join.group,
            GroupRequest::Sync { group, .. }
            | GroupRequest::Heartbeat { group, .. }
            | GroupRequest::Leave { group, .. }
            | GroupRequest::Commit { group, .. }
            | GroupRequest::Fetch { group, .. } => group,
        }
    }
}

/// A JoinGroup call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// Group.
    pub group: String,
    /// Empty = new member.
    pub member: String,
    /// Whether a new member must come back with its id first (v4+, G2).
    pub member_id_required: bool,
    /// For made-up member ids and descriptions.
    pub client_id: String,
    /// Peer address as text.
    pub client_host: String,
    /// ms.
    pub session_timeout_ms: i32,
    /// ms; the door already put the session timeout here for v0 (G3).
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// Name and metadata, in order of preference.
    pub protocols: Vec<(String, Vec<u8>)>,
}

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Which log.
    pub key: LogKey,
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch the client saw, −1 = none.
    pub leader_epoch: i32,
    /// Client's text, ≤ 4,096 bytes.
    pub metadata: String,
}

/// Answers of a group's coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupReply {
    /// JoinGroup.
    Joined {
        /// `None` or why not; with `MemberIdRequired` `member` holds the id to use.
        code: ErrorCode,
        /// Generation.
        generation: i32,
        /// Type.
        protocol_type: String,
        /// Chosen protocol.
        protocol: String,
        /// Leader's member id.
        leader: String,
        /// This member's id.
        member: String,
        /// All members with their metadata, for the leader alone.
        members: Vec<(String, Vec<u8>)>,
    },
    /// SyncGroup.
    Synced {
        /// Code.
        code: ErrorCode,
        /// Type.
        protocol_type: String,
        /// Name.
        protocol: String,
        /// This member's share.
        assignment: Vec<u8>,
    },
    /// Heartbeat.
    Heartbeat(ErrorCode),
    /// LeaveGroup: one code per member asked, in order.
    Left(Vec<(String, ErrorCode)>),
    /// OffsetCommit: one code per offset asked, in order.
    Committed(Vec<(LogKey, ErrorCode)>),
    /// OffsetFetch: offset −1 where nothing is committed (G1).
    Offsets {
        /// Code for the whole group.
        code: ErrorCode,
        /// Found, in the order asked.
        offsets: Vec<CommittedOffset>,
    },
    /// The group cannot be served here and now.
    Failed(ErrorCode),
}

/// Bytes of a fetched partition.
#[derive(Debug)]
pub enum Fetched {
    /// Frames in this shard's blocks, each slice with a hold: the door sends or releases them all.
    Frames(FrameList),
    /// Crossed the mesh: whole frames (native line included), back to back.
    Owned(Vec<u8>),
}

/// One partition of a fetch reply.
#[derive(Debug)]
pub struct FetchedPart {
    /// Which log.
    pub key: LogKey,
    /// `None` or why nothing came.
    pub code: ErrorCode,
    /// Consumers may read below it.
    pub high_watermark: u64,
    /// First offset kept.
    pub log_start: u64,
    /// The batches.
    pub fetched: Fetched,
}

/// What a shard answers.
#[derive(Debug)]
pub enum Reply {
    /// Durable (unless acks = 0 or the topic says otherwise).
    Produced {
        /// Offset of the batch's first record.
        base_offset: u64,
        /// When it was appended.
        append_time_ns: u64,
        /// Whether the topic stamps append times (the reply then carries it in ms).
        log_append_time: bool,
        /// First offset kept.
        log_start: u64,
    },
    /// All parts, in the order asked.
    Fetched(Vec<FetchedPart>),
    /// ListOffsets.
    Offset {
        /// −1 when none.
        offset: i64,
        /// −1 when none.
        timestamp_ms: i64,
        /// Of the found record, −1 when none (O3).
        leader_epoch: i32,
    },
    /// Control plane.
    Meta(MetaAnswer),
    /// InitProducerId.
    ProducerId {
        /// Id.
        producer_id: i64,
        /// Epoch.
        epoch: i16,
    },
    /// Group.
    Group(GroupReply),
    /// DescribeLog.
    Log(LogFacts),
    /// Refused.
    Failed {
        /// Code.
        code: ErrorCode,
        /// What happened, with values, for people.
        message: String,
    },
}

/// Answer to `DescribeLog` (mission S3-10): derived from headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFacts {
    /// First offset kept.
    pub log_start: u64,
    /// Consumers may read below it.
    pub high_watermark: u64,
    /// Log end offset.
    pub log_end: u64,
    /// Segments, oldest first.
    pub segments: Vec<ringway_log::SegmentFacts>,
    /// Damaged ranges, in order of offsets.
    pub quarantined: Vec<ringway_log::logs::QuarantineFacts>,
}

/// What crosses between two shards: always owned bytes, never a `Slice`.
#[derive(Debug)]
pub enum MeshMessage {
    /// Asked on behalf of a connection of the sender.
    Ask {
        /// The sender's number for it.
        tag: u64,
        /// With owned payloads only.
        request: Request,
    },
    /// The answer.
    Answer {
        /// The asker's number.
        tag: u64,
        /// With owned bytes only.
        reply: Reply,
    },
    /// The asker no longer waits.
    Forget {
        /// The asker's number.
        tag: u64,
    },
}

/// Long CPU work in slices beside the loop: at once in the simulator.
#[derive(Debug)]
pub enum Job {
    /// First record at or after a time in one batch (decompresses it).
    FindTime {
        /// The whole frame.
        frame: Vec<u8>,
        /// ms.
        at: i64,
        /// `max.message.bytes` of the topic.
        message_bytes_max: u32,
    },
    /// Records without a key in one compressed batch for a compacted topic (kafka.md P7).
    NullKeys {
        /// The batch as produced.
        batch: Vec<u8>,
        /// `max.message.bytes` of the topic.
        message_bytes_max: u32,
    },
}

/// What a job found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// Offset and timestamp, when there is one.
    Time(Option<(u64, i64)>),
    /// Why the batch may not be stored, if it may not.
    NullKeys(Result<(), (ErrorCode, String)>),
}

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Input {
    /// A door asks.
    Request(RequestId, Request),
    /// The connection is gone: nobody waits for this any more.
    Gone(RequestId),
    /// The disk answers.
    Io(IoDone),
    /// New metadata.
    Catalog(Arc<Catalog>),
    /// The control plane answers.
    Meta(RequestId, MetaAnswer),
    /// Another shard speaks.
    Mesh(ShardId, MeshMessage),
    /// A job ended.
    Job(u64, JobResult),
    /// Every shard has durable step-9 checkpoints: old checkpoint files may go, serving may start.
    PeersRecovered,
    /// Clean stop: refuse new work, flush, checkpoint, then report [`Notice::Stopped`].
    Stop,
    /// `Out::wake_at_ns` has come, or the turn ends: submit open groups, expire rows.
    Tick,
}

/// What the control plane should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Step 9 done: own logs recovered, checkpoints durable.
    Recovered {
        /// Logs of this shard.
        logs: u32,
        /// Batches dropped as torn tails.
        dropped_batches: u64,
        /// Offset ranges quarantined.
        quarantined: u64,
        /// Bytes read by the scans.
        scanned_bytes: u64,
    },
    /// One line for the operator's log.
    Warning(String),
    /// A log takes nothing more until a restart: poisoned, or offline since its recovery failed (P14).
    Poisoned {
        /// Which.
        key: LogKey,
        /// Cause.
        cause: String,
    },
    /// Clean stop is complete: generation of this shard's last checkpoint.
    Stopped {
        /// For the clean marker.
        checkpoint_generation: u64,
    },
}

/// Effects of a turn, reused from turn to turn: no allocation when warm.
#[derive(Debug, Default)]
pub struct Out {
    /// For the disk.
    pub io: IoOut,
    /// For the doors.
    pub replies: Vec<(RequestId, Reply)>,
    /// For the control plane, each answered by `Input::Meta`.
    pub meta: Vec<(RequestId, MetaOp)>,
    /// For other shards.
    pub mesh: Vec<(ShardId, MeshMessage)>,
    /// For the low-share task.
    pub jobs: Vec<(u64, Job)>,
    /// For the control plane, no answer.
    pub notices: Vec<Notice>,
    /// Next time `Tick` is wanted (monotonic ns).
    pub wake_at_ns: Option<u64>,
}

/// A range into a list of slices.
pub type SliceRange = Range<u32>;
