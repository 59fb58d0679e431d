//! Planted bugs. A checker that cannot find its bug is not a checker.
//!
//! | mutant | where | what is wrong | found by |
//! |---|---|---|---|
//! | `acknowledge-before-flush` | driver | a log write is reported as soon as it is submitted | power loss |
//! | `skipped-flush` | device | durable writes and flushes are confirmed and stay in the cache | power loss |
//! | `flush-before-write` | driver | the flush is submitted with the write instead of after it | power loss |
//! | `short-write-taken-as-whole` | driver | a write that was cut short counts as complete | power loss |
//! | `error-taken-as-success` | driver | a failed write or flush counts as complete | power loss |
//! | `recovery-from-cache` | driver | a start reads the log without flushing it first | power loss after a killed process |
//! | `snapshot-named-before-flush` | driver | the file of a snapshot gets its name before its content is durable | power loss |
//! | `truncate-at-or-below-watermark` | recovery | damage to what was durable is cut off like a torn tail | a damaged record |
//! | `stale-record-of-reused-segment` | recovery | records of a file's earlier life are not told apart | reuse of segments |
//! | `snapshot-recorded-before-named` | engine | the log is told of a snapshot before its file has its name, and releases what it covers | power loss |
//! | `old-snapshot-removed-first` | engine | the file that a snapshot replaces is removed before the log names the new one | power loss |
//! | `snapshot-labelled-behind-state` | engine | the index of a snapshot is saved apart from its state, and is one entry behind | states compared after a start |
//! | `snapshot-chunk-not-checked` | engine | a start checks the headers of a snapshot's chunks and not their bytes | a damaged snapshot |
//! | `record-body-not-checked` | recovery | a start checks the headers of records and not their bodies | power loss, a damaged record |
//! | `torn-segment-start-refused` | recovery | a segment whose first record was torn counts as damaged | power loss while a segment is begun |
//! | `messages-leave-early` | engine | messages to other nodes leave before what they promise is durable | a cluster |
//! | `reads-without-round` | engine | reads are answered without asking the others who leads | a cluster |
//! | `vote-is-forgotten` | engine | a start forgets for whom the replica voted | a cluster |
//! | `wiped-disk-comes-back` | operator | a node whose disks were replaced comes back under its old ids | a cluster |
//! | `full-disk-write-taken-as-whole` | driver | a write that found no room in its middle counts as complete, and the next one follows it | a full disk |
//!
//! Those of the driver and the device are switches of the simulator. Those of recovery and engine are switches in the
//! log and in the core that exist only with their feature `testing`, which no server is built with.

use std::fmt;
use std::str::FromStr;

use metastore_engine::Rules as CoreRules;
use metastore_wal::recovery::Rules;
use thiserror::Error;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A log write is reported as soon as it is submitted.
    AcknowledgeBeforeFlush,
    /// Durable writes and flushes are confirmed and stay in the cache.
    SkippedFlush,
    /// The flush is submitted with the write instead of after it.
    FlushBeforeWrite,
    /// A write that was cut short counts as complete.
    ShortWriteTakenAsWhole,
    /// A failed write or flush counts as complete.
    ErrorTakenAsSuccess,
    /// A start reads the log without flushing it first.
    RecoveryFromCache,
    /// The file of a snapshot gets its name before its content is durable.
    SnapshotNamedBeforeFlush,
    /// Damage to what was durable is cut off like a torn tail.
    TruncateAtOrBelowWatermark,
    /// Records of a file's earlier life are not told apart.
    StaleRecordOfReusedSegment,
    /// The log is told of a snapshot, and given up, before the snapshot's file has its name.
    SnapshotRecordedBeforeNamed,
    /// The file that a snapshot replaces is removed before the log names the new one.
    OldSnapshotRemovedFirst,
    /// A snapshot's index is not that of the state in it.
    SnapshotLabelledBehindState,
    /// A start checks the headers of a snapshot's chunks and not their bytes.
    SnapshotChunkNotChecked,
    /// A start checks the headers of records and not their bodies.
    RecordBodyNotChecked,
    /// After a crash while a segment was begun, the node does not start.
    TornSegmentStartRefused,
    /// A write that found no room in its middle counts as complete.
    FullDiskWriteTakenAsWhole,
    /// Messages to other nodes leave before what they promise is durable.
    MessagesLeaveEarly,
    /// Reads are answered without asking the others who leads.
    ReadsWithoutRound,
    /// A start forgets for whom the replica voted.
    VoteIsForgotten,
    /// A node whose disks were replaced comes back under its old ids.
    WipedDiskComesBack,
}

impl Mutant {
    /// All that a single node may have.
    pub const OF_A_NODE: [Mutant; 16] = [
        Mutant::AcknowledgeBeforeFlush,
        Mutant::SkippedFlush,
        Mutant::FlushBeforeWrite,
        Mutant::ShortWriteTakenAsWhole,
        Mutant::ErrorTakenAsSuccess,
        Mutant::RecoveryFromCache,
        Mutant::SnapshotNamedBeforeFlush,
        Mutant::TruncateAtOrBelowWatermark,
        Mutant::StaleRecordOfReusedSegment,
        Mutant::SnapshotRecordedBeforeNamed,
        Mutant::OldSnapshotRemovedFirst,
        Mutant::SnapshotLabelledBehindState,
        Mutant::SnapshotChunkNotChecked,
        Mutant::RecordBodyNotChecked,
        Mutant::TornSegmentStartRefused,
        Mutant::FullDiskWriteTakenAsWhole,
    ];

    /// Those that show where nodes depend on each other.
    pub const OF_A_CLUSTER: [Mutant; 4] = [
        Mutant::MessagesLeaveEarly,
        Mutant::ReadsWithoutRound,
        Mutant::VoteIsForgotten,
        Mutant::WipedDiskComesBack,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Mutant> {
        Mutant::OF_A_NODE.into_iter().chain(Mutant::OF_A_CLUSTER)
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mutant::AcknowledgeBeforeFlush => "acknowledge-before-flush",
            Mutant::SkippedFlush => "skipped-flush",
            Mutant::FlushBeforeWrite => "flush-before-write",
            Mutant::ShortWriteTakenAsWhole => "short-write-taken-as-whole",
            Mutant::ErrorTakenAsSuccess => "error-taken-as-success",
            Mutant::RecoveryFromCache => "recovery-from-cache",
            Mutant::SnapshotNamedBeforeFlush => "snapshot-named-before-flush",
            Mutant::TruncateAtOrBelowWatermark => "truncate-at-or-below-watermark",
            Mutant::StaleRecordOfReusedSegment => "stale-record-of-reused-segment",
            Mutant::SnapshotRecordedBeforeNamed => "snapshot-recorded-before-named",
            Mutant::OldSnapshotRemovedFirst => "old-snapshot-removed-first",
            Mutant::SnapshotLabelledBehindState => "snapshot-labelled-behind-state",
            Mutant::SnapshotChunkNotChecked => "snapshot-chunk-not-checked",
            Mutant::RecordBodyNotChecked => "record-body-not-checked",
            Mutant::TornSegmentStartRefused => "torn-segment-start-refused",
            Mutant::FullDiskWriteTakenAsWhole => "full-disk-write-taken-as-whole",
            Mutant::MessagesLeaveEarly => "messages-leave-early",
            Mutant::ReadsWithoutRound => "reads-without-round",
            Mutant::VoteIsForgotten => "vote-is-forgotten",
            Mutant::WipedDiskComesBack => "wiped-disk-comes-back",
        }
    }

    /// The checks of a recovery that has this bug, or none.
    #[must_use]
    pub fn recovery_rules(mutant: Option<Mutant>) -> Rules {
        match mutant {
            Some(Mutant::TruncateAtOrBelowWatermark) => Rules::DamageIsTorn,
            Some(Mutant::StaleRecordOfReusedSegment) => Rules::StaleIsLive,
            Some(Mutant::TornSegmentStartRefused) => Rules::TornSegmentStartIsDamage,
            Some(Mutant::RecordBodyNotChecked) => Rules::BodyIsNotChecked,
            Some(_) | None => Rules::Complete,
        }
    }

    /// The orders and checks of a core that has this bug, or none.
    #[must_use]
    pub fn core_rules(mutant: Option<Mutant>) -> CoreRules {
        match mutant {
            Some(Mutant::SnapshotRecordedBeforeNamed) => CoreRules::RecordedBeforeNamed,
            Some(Mutant::OldSnapshotRemovedFirst) => CoreRules::RemovedBeforeRecorded,
            Some(Mutant::SnapshotLabelledBehindState) => CoreRules::LabelBehindState,
            Some(Mutant::SnapshotChunkNotChecked) => CoreRules::ChunkIsNotChecked,
            Some(Mutant::MessagesLeaveEarly) => CoreRules::MessagesLeaveEarly,
            Some(Mutant::ReadsWithoutRound) => CoreRules::ReadsWithoutRound,
            Some(Mutant::VoteIsForgotten) => CoreRules::VoteIsForgotten,
            Some(_) | None => CoreRules::Complete,
        }
    }
}

/// There is no mutant of this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no mutant {name:?}; `list-mutants` names them")]
pub struct UnknownMutant {
    /// What was asked for.
    name: String,
}

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Mutant, UnknownMutant> {
        Mutant::all()
            .find(|mutant| mutant.name() == name)
            .ok_or_else(|| UnknownMutant {
                name: name.to_owned(),
            })
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
