//! What must never happen, and was seen.

use metastore_engine::{HaltReason, LogIndex, ReplicaId, ShardId, StartError};
use metastore_statemachine::{CommandKind, Revision};
use thiserror::Error;

use crate::checkers::ClusterViolation;

/// A broken promise. Finding one ends a run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// An answer left although no durable record holds its command.
    #[error("a {kind:?} of {key:?} was acknowledged before its record was durable")]
    AcknowledgedBeforeDurable {
        /// What was acknowledged.
        kind: CommandKind,
        /// Its key.
        key: String,
    },
    /// An answer says something else than the log.
    #[error("a {kind:?} of {key:?} was answered {answered}, by the log it ended {expected}")]
    WrongOutcome {
        /// What was answered.
        kind: CommandKind,
        /// Its key.
        key: String,
        /// The answer.
        answered: String,
        /// What the log says.
        expected: String,
    },
    /// Something that was answered later stands earlier in the log.
    #[error(
        "a {kind:?} of {key:?} took place before something that was answered before it was sent"
    )]
    OrderBroken {
        /// What took place too early.
        kind: CommandKind,
        /// Its key.
        key: String,
    },
    /// A command stands in the log more often than clients may expect after what they were told.
    #[error("{key:?}: {in_log} commands are in the log, of {sent} sent {refused} were refused")]
    RefusedAndDone {
        /// The key.
        key: String,
        /// How often it was sent.
        sent: u64,
        /// How often it was refused.
        refused: u64,
        /// How often it is in the log.
        in_log: u64,
    },
    /// A durable entry is not there after a recovery.
    #[error(
        "replica {replica} ends at {found} after a recovery, entries up to {durable} were durable"
    )]
    EntriesLost {
        /// The replica.
        replica: ReplicaId,
        /// Where its log ends.
        found: LogIndex,
        /// Where it must not end before.
        durable: LogIndex,
    },
    /// A durable entry has changed.
    #[error("entry {index} of replica {replica} is another one after a recovery")]
    EntryChanged {
        /// The replica.
        replica: ReplicaId,
        /// The entry.
        index: LogIndex,
    },
    /// Recovery found an entry that nobody wrote since the last one.
    #[error("entry {index} of replica {replica} comes from nowhere")]
    EntryInvented {
        /// The replica.
        replica: ReplicaId,
        /// The entry.
        index: LogIndex,
    },
    /// A read saw an older state than something that was answered before it was sent.
    #[error("a read of shard {shard} saw revision {found}, revision {seen} had been seen before")]
    ReadWentBack {
        /// The shard.
        shard: ShardId,
        /// What it saw.
        found: Revision,
        /// What had been seen.
        seen: Revision,
    },
    /// A read saw what is not durable.
    #[error("a read of shard {shard} saw revision {found}, only {durable} is durable")]
    ReadBeforeDurable {
        /// The shard.
        shard: ShardId,
        /// What it saw.
        found: Revision,
        /// What is durable.
        durable: Revision,
    },
    /// A read returned something else than the log holds.
    #[error(
        "{key:?} at revision {revision} of shard {shard}: read {found}, the log says {expected}"
    )]
    WrongRow {
        /// The shard.
        shard: ShardId,
        /// The revision.
        revision: Revision,
        /// The key.
        key: String,
        /// What was read.
        found: String,
        /// What is right.
        expected: String,
    },
    /// A range has more or fewer rows than the log comes to.
    #[error("the range {prefix:?} has {found} rows, the log says {expected}")]
    WrongRange {
        /// Its prefix.
        prefix: String,
        /// How many rows it had.
        found: u64,
        /// How many it should have.
        expected: u64,
    },
    /// A replica's state is not what its log comes to.
    #[error("the state of shard {shard} at entry {applied} is not what its log comes to")]
    StateDiffers {
        /// The shard.
        shard: ShardId,
        /// Applied up to here.
        applied: LogIndex,
    },
    /// A healthy log was refused.
    #[error("recovery refuses a healthy log: {cause}")]
    RecoveryRefused {
        /// Why.
        cause: String,
    },
    /// A snapshot that the log names cannot be loaded.
    #[error("a snapshot cannot be loaded: {cause}")]
    SnapshotRefused {
        /// Why.
        cause: String,
    },
    /// A snapshot covers what is not in the log.
    #[error(
        "the log of replica {replica} names a snapshot at {index}, and nothing behind {durable} was durable"
    )]
    SnapshotInvented {
        /// The replica.
        replica: ReplicaId,
        /// Where the snapshot is said to be.
        index: LogIndex,
        /// The last entry that was durable.
        durable: LogIndex,
    },
    /// A recovered log is no prefix of what was written, or lacks something durable.
    #[error(
        "what a log recovers to is what it was after none of the parts {durable}..={staged}, of which the first is durable"
    )]
    LogDiffers {
        /// The newest part known to be durable.
        durable: u64,
        /// The newest part staged.
        staged: u64,
    },
    /// A damaged log was accepted.
    #[error("recovery accepted a log whose durable record {sequence} is damaged")]
    DamageAccepted {
        /// The record.
        sequence: u64,
    },
    /// A damaged snapshot was loaded.
    #[error("a start loaded a snapshot that is damaged")]
    SnapshotDamageAccepted,
    /// A recovered core does not start.
    #[error("the core does not start: {0}")]
    StartRefused(StartError),
    /// The core asked to be stopped.
    #[error("the core halts: {0}")]
    Halted(HaltReason),
    /// A request was answered that is not waiting for an answer.
    #[error("request {request} of connection {connection} is not waiting for an answer")]
    AnswerWithoutRequest {
        /// The connection.
        connection: u64,
        /// The request.
        request: u64,
    },
    /// An answer does not have the form of its request's answers.
    #[error("request {request} of connection {connection}: {what}")]
    BadAnswer {
        /// The connection.
        connection: u64,
        /// The request.
        request: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Faults have stopped and yet something is not answered.
    #[error("{waiting} requests are not answered {after_ms} ms after the last fault")]
    Stuck {
        /// How many.
        waiting: usize,
        /// After how long.
        after_ms: u64,
    },
    /// Faults have stopped and yet nothing is written.
    #[error("writes are still refused {after_ms} ms after the last fault")]
    StillRefused {
        /// After how long.
        after_ms: u64,
    },
    /// What clients saw of a key fits no order of events.
    #[error("{key:?}: {what}")]
    History {
        /// The key.
        key: String,
        /// What contradicts what.
        what: String,
    },
    /// Nodes do not keep together what a cluster promises.
    #[error(transparent)]
    Cluster(#[from] ClusterViolation),
    /// An assertion failed.
    #[error("an assertion failed: {message}")]
    Panicked {
        /// What it says.
        message: String,
    },
}

impl Violation {
    /// Who saw it.
    #[must_use]
    pub fn checker(&self) -> &'static str {
        match self {
            Violation::AcknowledgedBeforeDurable { .. }
            | Violation::WrongOutcome { .. }
            | Violation::OrderBroken { .. }
            | Violation::RefusedAndDone { .. }
            | Violation::EntriesLost { .. }
            | Violation::EntryChanged { .. }
            | Violation::EntryInvented { .. }
            | Violation::ReadWentBack { .. }
            | Violation::ReadBeforeDurable { .. }
            | Violation::WrongRow { .. }
            | Violation::WrongRange { .. }
            | Violation::StateDiffers { .. }
            | Violation::SnapshotInvented { .. } => "ledger",
            Violation::RecoveryRefused { .. }
            | Violation::SnapshotRefused { .. }
            | Violation::StartRefused(_) => "start",
            Violation::LogDiffers { .. } => "log alone",
            Violation::DamageAccepted { .. } | Violation::SnapshotDamageAccepted => "damage",
            Violation::Halted(_) => "halt",
            Violation::AnswerWithoutRequest { .. } | Violation::BadAnswer { .. } => "answers",
            Violation::Stuck { .. } | Violation::StillRefused { .. } => "liveness",
            Violation::History { .. } => "history",
            Violation::Cluster(violation) => violation.checker(),
            Violation::Panicked { .. } => "assertion",
        }
    }
}

/// Bytes of a key as people read them.
#[must_use]
pub fn readable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
