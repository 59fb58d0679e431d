//! What several nodes together must never show.

use metastore_engine::{LogIndex, NodeId, Quarantine, ReplicaId, ShardId, Term};
use thiserror::Error;

use super::linearizability::NotLinearizable;

/// A broken promise of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterViolation {
    /// Two replicas lead in one term.
    #[error("replicas {one} and {other} both lead shard {shard} in term {term}")]
    TwoLeaders {
        /// The shard.
        shard: ShardId,
        /// The term.
        term: Term,
        /// One of them.
        one: ReplicaId,
        /// The other.
        other: ReplicaId,
    },
    /// A replica leads that never was a voter.
    #[error("replica {replica} leads shard {shard} in term {term} and never was a voter")]
    LeadsWithoutVote {
        /// The shard.
        shard: ShardId,
        /// The term.
        term: Term,
        /// The replica.
        replica: ReplicaId,
    },
    /// A replica voted for two in one term.
    #[error("replica {replica} voted for {before} and then for {after} in term {term}")]
    VotedTwice {
        /// The replica.
        replica: ReplicaId,
        /// The term.
        term: Term,
        /// Its first vote.
        before: ReplicaId,
        /// Its second.
        after: ReplicaId,
    },
    /// A term went back.
    #[error("replica {replica} was in term {before} and then in {after}")]
    TermWentBack {
        /// The replica.
        replica: ReplicaId,
        /// The term that it had seen.
        before: Term,
        /// The one it has now.
        after: Term,
    },
    /// A commit index went back.
    #[error("replica {replica} knew entries up to {before} to be committed and then up to {after}")]
    CommitWentBack {
        /// The replica.
        replica: ReplicaId,
        /// What it had known.
        before: LogIndex,
        /// What it knows.
        after: LogIndex,
    },
    /// Something is committed that is not in the log.
    #[error("the log of replica {replica} ends at {last}, and says that {commit} is committed")]
    CommitBeyondLog {
        /// The replica.
        replica: ReplicaId,
        /// Where its log ends.
        last: LogIndex,
        /// What it calls committed.
        commit: LogIndex,
    },
    /// Two logs hold different things at the same index and term, or behind it.
    #[error(
        "shard {shard}: replica {replica} and others differ at index {index}, term {term}: {what}"
    )]
    LogsDiffer {
        /// The shard.
        shard: ShardId,
        /// Who wrote it otherwise.
        replica: ReplicaId,
        /// What is different.
        what: String,
        /// The index.
        index: LogIndex,
        /// The term.
        term: Term,
    },
    /// What was committed is another one.
    #[error(
        "shard {shard}: entry {index} was committed with term {before}, replica {replica} has it with term {after}"
    )]
    CommittedEntryChanged {
        /// The shard.
        shard: ShardId,
        /// Who has it otherwise.
        replica: ReplicaId,
        /// The entry.
        index: LogIndex,
        /// Its term when it was committed.
        before: Term,
        /// Its term now.
        after: Term,
    },
    /// A message left before what it promises was durable.
    #[error("{message} left when {durable} were durable")]
    PromisedTooEarly {
        /// The message.
        message: String,
        /// What was durable.
        durable: String,
    },
    /// Something was acknowledged that a quorum could still lose.
    #[error(
        "shard {shard}: a command was acknowledged, and of {quorum} replicas that must hold it durably {holders} do"
    )]
    NotOnQuorum {
        /// The shard.
        shard: ShardId,
        /// How many replicas must have it.
        quorum: usize,
        /// How many have it.
        holders: usize,
    },
    /// Two replicas came to different states by the same entries.
    #[error("shard {shard}: the states of {one} and {other} differ after entry {applied}")]
    StatesDiffer {
        /// The shard.
        shard: ShardId,
        /// The last entry that they have applied.
        applied: LogIndex,
        /// One of them.
        one: ReplicaId,
        /// The other.
        other: ReplicaId,
    },
    /// An entry was applied that nobody was seen to write.
    #[error("shard {shard}: entry {index} was applied, and nobody wrote it")]
    AppliedUnseen {
        /// The shard.
        shard: ShardId,
        /// The entry.
        index: LogIndex,
    },
    /// A recovery lost or invented something.
    #[error(
        "node {node} recovered a log of replica {replica} up to {found} that it cannot have had; up to {durable} it was durable"
    )]
    RecoveredLogDiffers {
        /// The node.
        node: NodeId,
        /// The replica, 0 when it is unknown.
        replica: ReplicaId,
        /// The last index that was durable.
        durable: LogIndex,
        /// The last index that was found.
        found: LogIndex,
    },
    /// A replica takes no part, and nothing that it holds was damaged.
    #[error("replica {replica} is in quarantine for nothing: {why}")]
    StrangeQuarantine {
        /// The replica.
        replica: ReplicaId,
        /// What it says.
        why: Quarantine,
    },
    /// A replica in quarantine does not know what it has promised, and says that it does.
    #[error("replica {replica} is in quarantine and has forgotten what it promised")]
    PromisesForgotten {
        /// The replica.
        replica: ReplicaId,
    },
    /// A replica in quarantine does what only a healthy one may do.
    #[error("replica {replica} is in quarantine and sends {message}")]
    ActsInQuarantine {
        /// The replica.
        replica: ReplicaId,
        /// What it sends.
        message: String,
    },
    /// No order of events explains what clients saw.
    #[error("shard {shard}: {cause}")]
    NotLinearizable {
        /// The shard.
        shard: ShardId,
        /// Why.
        cause: NotLinearizable,
    },
    /// A core holds more than it may.
    #[error("node {node} holds {held} {what}, and may hold {limit}")]
    OverBudget {
        /// The node.
        node: NodeId,
        /// What it holds.
        what: &'static str,
        /// How much of it.
        held: u64,
        /// How much it may hold.
        limit: u64,
    },
    /// Faults have stopped, and somebody still waits.
    #[error("{who} is not answered {calm_ms} ms after the last fault")]
    Starved {
        /// Who.
        who: String,
        /// How long ago the last fault was.
        calm_ms: u64,
    },
    /// Faults have stopped, and members are still being changed, or are not those that live.
    #[error("shard {shard}: {what} {calm_ms} ms after the last fault")]
    MembersUnsettled {
        /// The shard.
        shard: ShardId,
        /// What is not as it should be.
        what: String,
        /// How long ago the last fault was.
        calm_ms: u64,
    },
    /// Faults have stopped, and somebody waits while others are served who asked later.
    #[error(
        "client {client} waits or has given up {calm_ms} ms after the last fault, and others are served"
    )]
    Overtaken {
        /// The client.
        client: usize,
        /// How long ago the last fault was.
        calm_ms: u64,
    },
    /// Faults have stopped, and replicas are still apart.
    #[error(
        "shard {shard}: replicas have applied {least} to {most} entries {calm_ms} ms after the last fault"
    )]
    NotConverged {
        /// The shard.
        shard: ShardId,
        /// The least that one has applied.
        least: LogIndex,
        /// The most.
        most: LogIndex,
        /// How long ago the last fault was.
        calm_ms: u64,
    },
}

impl ClusterViolation {
    /// Who saw it.
    #[must_use]
    pub fn checker(&self) -> &'static str {
        match self {
            ClusterViolation::TwoLeaders { .. }
            | ClusterViolation::LeadsWithoutVote { .. }
            | ClusterViolation::VotedTwice { .. }
            | ClusterViolation::TermWentBack { .. }
            | ClusterViolation::CommitWentBack { .. }
            | ClusterViolation::CommitBeyondLog { .. }
            | ClusterViolation::LogsDiffer { .. }
            | ClusterViolation::CommittedEntryChanged { .. }
            | ClusterViolation::NotOnQuorum { .. }
            | ClusterViolation::AppliedUnseen { .. }
            | ClusterViolation::StatesDiffer { .. } => "replication",
            ClusterViolation::OverBudget { .. } => "budgets",
            ClusterViolation::PromisedTooEarly { .. } => "promises",
            ClusterViolation::RecoveredLogDiffers { .. }
            | ClusterViolation::PromisesForgotten { .. } => "log watch",
            ClusterViolation::StrangeQuarantine { .. }
            | ClusterViolation::ActsInQuarantine { .. } => "quarantine",
            ClusterViolation::NotLinearizable { .. } => "linearizability",
            ClusterViolation::Starved { .. }
            | ClusterViolation::MembersUnsettled { .. }
            | ClusterViolation::Overtaken { .. }
            | ClusterViolation::NotConverged { .. } => "calm",
        }
    }
}
