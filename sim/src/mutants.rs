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
//!
//! Those of the driver and the device are switches of the simulator. Those of recovery are switches in the log that
//! exist only with its feature `testing`.

use std::fmt;
use std::str::FromStr;

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
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 9] = [
        Mutant::AcknowledgeBeforeFlush,
        Mutant::SkippedFlush,
        Mutant::FlushBeforeWrite,
        Mutant::ShortWriteTakenAsWhole,
        Mutant::ErrorTakenAsSuccess,
        Mutant::RecoveryFromCache,
        Mutant::SnapshotNamedBeforeFlush,
        Mutant::TruncateAtOrBelowWatermark,
        Mutant::StaleRecordOfReusedSegment,
    ];

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
        }
    }

    /// The checks of a recovery that has this bug, or none.
    #[must_use]
    pub fn recovery_rules(mutant: Option<Mutant>) -> Rules {
        match mutant {
            Some(Mutant::TruncateAtOrBelowWatermark) => Rules::DamageIsTorn,
            Some(Mutant::StaleRecordOfReusedSegment) => Rules::StaleIsLive,
            Some(
                Mutant::AcknowledgeBeforeFlush
                | Mutant::SkippedFlush
                | Mutant::FlushBeforeWrite
                | Mutant::ShortWriteTakenAsWhole
                | Mutant::ErrorTakenAsSuccess
                | Mutant::RecoveryFromCache
                | Mutant::SnapshotNamedBeforeFlush,
            )
            | None => Rules::Complete,
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
        Mutant::ALL
            .into_iter()
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
