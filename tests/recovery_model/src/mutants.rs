//! Mutants: the rules without one guard each. Every one must break an invariant within its seeds.
//! Owner: one run.
//! Invariant: `None` is the rules as the product has them.
//! Not here: what each switches off; its name is looked for in `scan.rs`, `start.rs`, `life.rs`.

macro_rules! mutants {
    ($($name:ident $profile:literal $seeds:literal $what:literal)*) => {
        /// A rule that is left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            /// Nothing is left out.
            None,
            $(#[doc = $what] $name,)*
        }

        /// Mutant, its profile, the seeds that must suffice, what it leaves out.
        pub const MUTANTS: &[(Mutant, &str, u64, &str)] =
            &[$((Mutant::$name, $profile, $seeds, $what),)*];
    };
}

mutants! {
    AckEarly "crash" 20 "a group is acknowledged when its write is answered, before the flush"
    NoDirSync "crash" 20 "a new segment is used before its name is durable"
    ExtensionNotSynced "crash" 20 "space is used before its size is durable"
    UnlinkFirst "retention" 200 "segments go before both checkpoints hold the new log start"
    OneGeneration "meta+truncate" 200 "a start and a truncation write one checkpoint generation"
    TruncationNotSynced "truncate" 50 "appends go on before the checkpoints of a truncation are durable"
    NoSecret "hostile" 100 "header checksums are not secret"
    NoEpoch "truncate" 50 "log_epoch is not looked at"
    NoChainNoEpoch "truncate" 50 "neither"
    AnyOffset "moved" 20 "a base offset may be anything"
    SecondPlaceMissed "crash" 20 "a frame at the next block is never looked for"
    ShortLookAhead "rot" 1000 "evidence is looked for in one group bound"
    BlockStartsOnly "rot" 20 "evidence is looked for at block starts"
    EvidenceProvesNothing "rot" 50 "flushed_upto of headers behind a break is not taken"
    LaterSegmentsUnseen "rot" 200 "later segments prove nothing"
    SealedBreakEndsLog "rot" 100 "a break in a sealed segment ends the log"
    EveryBreakIsTorn "rot" 20 "no break is ever rot"
    JumpForgotten "rot" 2000 "a torn frame behind a quarantined range ends the log before that range"
    NoPayloadCheck "crash" 20 "the unproven tail is kept by its headers"
    NoRecoveryFlush "crash" 50 "what recovery kept is told before it is flushed"
    StartWithoutSync "crash" 500 "a start acts on names that are not durable"
    BeyondEndKept "truncate" 20 "segments beyond the end stay in place"
    NewestFileWins "truncate" 400 "entries are ordered by generation alone"
    LaterLivesStay "truncate" 20 "a new life leaves the lives above its start in the table"
    NoBump "crash" 20 "a start goes on with the greatest epoch it found"
    SmallestOffset "moved" 200 "behind a break the log goes on at the smallest offset, wherever it lies"
    LaterOffsetsCount "moved" 200 "offsets of later segments count as evidence"
    StopIsTheEnd "moved" 6000 "a read that reaches the flushed end early does not name what is missing"
    LostEndHasNoEnd "rots" 1000 "a range up to the flushed end is said to reach to the end of the segment"
    OneBreakAtATime "moved" 12000 "a read judges one break, and leaves the rest of the segment to other reads"
    BehindTheEnd "liar" 400 "what came to lie behind the log's end is read until it is written over"
    BoundInOneGeneration "moved+meta" 6000 "a group is as large as the newest checkpoint alone allows"
    TruncatedListVolatile "truncate+moved" 2000 "appends go on before the list without truncated ranges is durable"
    GapNeedsFrame "ends+repair" 400 "a recorded gap is one only when a frame stands behind it"
    SnapshotUndone "truncate" 1000 "a snapshot from before a truncation is used"
}

/// The mutant with this name.
pub fn by_name(name: &str) -> Option<Mutant> {
    MUTANTS.iter().map(|row| row.0).find(|mutant| format!("{mutant:?}") == name)
}
