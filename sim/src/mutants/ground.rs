//! Where each mutant is looked for, and by whom.

use metastore_bugs::Mutant;

use crate::oracle::Checkers;

/// The worlds in which a mutant is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Those of single nodes: `metastore-sim power-loss`.
    Nodes,
    /// Those of clusters: `metastore-sim run`.
    Clusters,
}

impl Ground {
    /// The worlds in which a mutant is looked for.
    #[must_use]
    pub fn of(mutant: Mutant) -> Ground {
        match mutant {
            Mutant::AcknowledgeBeforeFlush
            | Mutant::FlushBeforeWrite
            | Mutant::ShortWriteTakenAsWhole
            | Mutant::ErrorTakenAsSuccess
            | Mutant::SnapshotLabelledBehindState
            | Mutant::SnapshotRecordedBeforeNamed
            | Mutant::OldSnapshotRemovedFirst
            | Mutant::TruncateAtOrBelowWatermark
            | Mutant::StaleRecordOfReusedSegment
            | Mutant::SnapshotNamedBeforeFlush
            | Mutant::TornSegmentStartRefused
            | Mutant::FullDiskWriteTakenAsWhole
            | Mutant::RecordBodyNotChecked
            | Mutant::SnapshotChunkNotChecked
            | Mutant::SkippedFlush
            | Mutant::RecoveryFromCache
            | Mutant::StagedIsPersisted
            | Mutant::TornRecordRefused
            | Mutant::SnapshotNameNotFlushed
            | Mutant::SegmentNameNotFlushed
            | Mutant::CutTailComesBack
            | Mutant::SegmentReusedBeforeNamed
            | Mutant::ReleaseNotWritten
            | Mutant::CommitBelowSnapshot
            | Mutant::RevisionOfNewestRow => Ground::Nodes,
            Mutant::ReplacedSuffixSurvives
            | Mutant::SnapshotLabelledAsHandedOut
            | Mutant::CommitOfTornRecord
            | Mutant::ProbeTakenForMatch
            | Mutant::AppendNotAnchored
            | Mutant::MisplacedRecordTaken
            | Mutant::ChangeAppliedLate
            | Mutant::SnapshotOfOlderMembers
            | Mutant::ChangeForgottenByStart
            | Mutant::JointLeftByFirstLeader
            | Mutant::ReadsBeforeFirstCommit
            | Mutant::LeaseWithoutClock
            | Mutant::LostReadBlocks
            | Mutant::UnknownToldAsNotDone
            | Mutant::WipedDiskComesBack
            | Mutant::MessagesLeaveEarly
            | Mutant::VoteIsForgotten => Ground::Clusters,
        }
    }

    /// The command that runs one of them.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Ground::Nodes => "power-loss --crashes 1",
            Ground::Clusters => "replay",
        }
    }
}

/// Who looks for a mutant. Where the order of things is what is wrong, the checkers that watch that order would see it
/// in any world; it must also be found by what it leads to.
pub(super) fn checkers_of(mutant: Mutant) -> Checkers {
    let is_order = matches!(
        mutant,
        Mutant::AcknowledgeBeforeFlush
            | Mutant::FlushBeforeWrite
            | Mutant::SkippedFlush
            | Mutant::StagedIsPersisted
            | Mutant::MessagesLeaveEarly
    );
    match is_order {
        true => Checkers::AllButOrder,
        false => Checkers::All,
    }
}
