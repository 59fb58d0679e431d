//! The bugs that can be planted, one line each: what is wrong, its name, and what it brings back.

macro_rules! bank {
    ($($(#[doc = $doc:literal])+ $mutant:ident: $name:literal, $recreates:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $mutant,)+
        }

        #[cfg(feature = "bug-bank")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant),+];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $name,)+
                }
            }

            /// The bug that it brings back, by its number in `docs/TESTING.md`.
            #[must_use]
            pub fn recreates(self) -> &'static str {
                match self {
                    $(Mutant::$mutant => $recreates,)+
                }
            }
        }
    };
}

bank! {
    /// A log write is reported as soon as it is submitted.
    AcknowledgeBeforeFlush: "acknowledge-before-flush", "B01";
    /// raft is told that entries are durable as soon as they are staged.
    StagedIsPersisted: "staged-is-persisted", "B01";
    /// The flush is submitted with the write instead of after it.
    FlushBeforeWrite: "flush-before-write", "B02";
    /// A write that was cut short counts as complete.
    ShortWriteTakenAsWhole: "short-write-taken-as-whole", "B02";
    /// A failed write or flush counts as complete.
    ErrorTakenAsSuccess: "error-taken-as-success", "B03";
    /// A snapshot's index is not that of the state in it.
    SnapshotLabelledBehindState: "snapshot-labelled-behind-state", "B04";
    /// The index of a leader's snapshot passes over what was applied ahead and is in its state.
    SnapshotLabelledAsHandedOut: "snapshot-labelled-as-handed-out", "B04";
    /// The file of a snapshot gets its name before its content is durable.
    SnapshotNamedBeforeFlush: "snapshot-named-before-flush", "B05";
    /// The log is told of a snapshot, and given up, before the snapshot's file has its name.
    SnapshotRecordedBeforeNamed: "snapshot-recorded-before-named", "B05";
    /// The file that a snapshot replaces is removed before the log names the new one.
    OldSnapshotRemovedFirst: "old-snapshot-removed-first", "B05";
    /// After a crash while a record was written, the node does not start.
    TornRecordRefused: "torn-record-refused", "B06";
    /// Damage to what was durable is cut off like a torn tail.
    TruncateAtOrBelowWatermark: "truncate-at-or-below-watermark", "B07";
    /// Records of a file's earlier life are not told apart.
    StaleRecordOfReusedSegment: "stale-record-of-reused-segment", "B08";
    /// The name of a snapshot's file is not made durable.
    SnapshotNameNotFlushed: "snapshot-name-not-flushed", "B09";
    /// The name of a segment's file is not made durable.
    SegmentNameNotFlushed: "segment-name-not-flushed", "B09";
    /// What a recovery cut off the log is found again by a later one.
    CutTailComesBack: "cut-tail-comes-back", "B10";
    /// Entries that others replaced are found again by a start.
    ReplacedSuffixSurvives: "replaced-suffix-survives", "B10";
    /// The file of a segment is used again before anything durable says that it was released.
    SegmentReusedBeforeNamed: "segment-reused-before-named", "B11";
    /// No record says which segments were released, and their files are used again.
    ReleaseNotWritten: "release-not-written", "B11";
    /// After a crash while a segment was begun, the node does not start.
    TornSegmentStartRefused: "torn-segment-start-refused", "B13";
    /// A write that found no room in its middle counts as complete.
    FullDiskWriteTakenAsWhole: "full-disk-write-taken-as-whole", "B14";
    /// A start checks the headers of records and not their bodies.
    RecordBodyNotChecked: "record-body-not-checked", "B15";
    /// A start checks the headers of a snapshot's chunks and not their bytes.
    SnapshotChunkNotChecked: "snapshot-chunk-not-checked", "B15";
    /// Where a record is missed, whatever intact record lies in its place is taken for it.
    MisplacedRecordTaken: "misplaced-record-taken", "B16";
    /// Durable writes and flushes are confirmed and stay in the cache.
    SkippedFlush: "skipped-flush", "B17";
    /// A start reads the log without flushing it first.
    RecoveryFromCache: "recovery-from-cache", "B17";
    /// A node whose disks were replaced comes back under its old ids.
    WipedDiskComesBack: "wiped-disk-comes-back", "B18";
    /// Messages to other nodes leave before what they promise is durable.
    MessagesLeaveEarly: "messages-leave-early", "B19";
    /// A start forgets for whom the replica voted.
    VoteIsForgotten: "vote-is-forgotten", "B21";
    /// A start takes the commit index from a torn record whose entries it cuts off.
    CommitOfTornRecord: "commit-of-torn-record", "B22";
    /// The record of a snapshot says less to be committed than the snapshot covers, and a start believes it.
    CommitBelowSnapshot: "commit-below-snapshot", "B23";
    /// After a start from a snapshot, revisions go on behind the newest key that is left.
    RevisionOfNewestRow: "revision-of-newest-row", "B24";
    /// A leader takes the hint of a follower that rejects for what the follower has.
    ProbeTakenForMatch: "probe-taken-for-match", "B26";
    /// Entries are sent behind the index of an older probe.
    AppendNotAnchored: "append-not-anchored", "B26";
    /// A follower goes on with the members before a change until it starts again.
    ChangeAppliedLate: "change-applied-late", "B27";
    /// The record of a snapshot names the members of the snapshot before it.
    SnapshotOfOlderMembers: "snapshot-of-older-members", "B28";
    /// A start knows the members of its snapshot, and no change behind it.
    ChangeForgottenByStart: "change-forgotten-by-start", "B28";
    /// A joint state is left by the leader that was asked for the change, and by nobody after it.
    JointLeftByFirstLeader: "joint-left-by-first-leader", "B29";
    /// A new leader answers reads before it has committed anything.
    ReadsBeforeFirstCommit: "reads-before-first-commit", "B30";
    /// A leader answers reads as long as it takes itself for one, and a pause does not tell it otherwise.
    LeaseWithoutClock: "lease-without-clock", "B33";
    /// Reads whose confirmation is lost are neither asked for again nor given up, and those behind them wait.
    LostReadBlocks: "lost-read-blocks", "B35";
    /// Commands that may yet be committed are answered as certainly not done.
    UnknownToldAsNotDone: "unknown-told-as-not-done", "B37";
}

#[cfg(feature = "bug-bank")]
mod names {
    use std::fmt;
    use std::str::FromStr;

    use super::Mutant;

    /// There is no mutant of this name.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct UnknownMutant {
        /// What was asked for.
        pub name: String,
    }

    impl fmt::Display for UnknownMutant {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            let name = &self.name;
            write!(
                formatter,
                "there is no mutant {name:?}; `list-mutants` names them"
            )
        }
    }

    impl std::error::Error for UnknownMutant {}

    impl FromStr for Mutant {
        type Err = UnknownMutant;

        fn from_str(name: &str) -> Result<Mutant, UnknownMutant> {
            let mut all = Mutant::ALL.iter().copied();
            all.find(|mutant| mutant.name() == name)
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
}
#[cfg(feature = "bug-bank")]
pub use names::UnknownMutant;

#[cfg(all(test, feature = "bug-bank"))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutant_is_found_by_its_name_and_by_no_other() {
        let names: BTreeSet<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        for &mutant in Mutant::ALL {
            assert_eq!(mutant.name().parse(), Ok(mutant));
            assert!(mutant.recreates().starts_with('B'));
        }
        let unknown = "b00".parse::<Mutant>().expect_err("there is none");
        assert!(unknown.to_string().contains("\"b00\""));
    }
}
