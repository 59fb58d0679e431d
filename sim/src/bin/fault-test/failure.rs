//! Why a round is a failure.

use metastore_engine::{ReplicaId, ShardId};
use metastore_sim::checkers::ClusterViolation;
use thiserror::Error;

use crate::nodes::NodeError;
use crate::small_disk::DiskError;
use crate::witness::WitnessError;

/// What went wrong in a round, and where everything is kept.
#[derive(Debug, Error)]
#[error("seed {seed}: {cause}\nwhat is left of it is kept in {kept}")]
pub(crate) struct Failure {
    /// The round.
    pub(crate) seed: u64,
    /// What went wrong.
    pub(crate) cause: Cause,
    /// Where data, messages of the nodes, faults and history are.
    pub(crate) kept: String,
}

/// What went wrong.
#[derive(Debug, Error)]
pub(crate) enum Cause {
    /// What clients were told, or what logs hold, cannot be.
    #[error("violation: {0}")]
    Violation(#[from] ClusterViolation),
    /// A log cannot be read, or contradicts another.
    #[error("violation: {0}")]
    Witness(#[from] WitnessError),
    /// A node ended, does not end, does not answer, or would not start.
    #[error("violation: {0}")]
    Node(#[from] NodeError),
    /// A server answered what none may.
    #[error("violation: {0}")]
    BadAnswer(String),
    /// Nothing is wrong any more, and somebody is not answered.
    #[error("violation: {who} is not answered {seconds} s after the last fault")]
    Starved {
        /// Who.
        who: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Nothing is wrong any more, and replicas do not come to the same.
    #[error(
        "violation: the replicas of shard {shard} are apart {seconds} s after the last write: {standing}"
    )]
    Apart {
        /// The shard.
        shard: ShardId,
        /// How long was waited.
        seconds: u64,
        /// How they stand.
        standing: String,
    },
    /// Replicas that have applied as much hold something else.
    #[error("violation: the states of replicas {one} and {other} differ at entry {applied}")]
    StatesDiffer {
        /// The one.
        one: ReplicaId,
        /// The other.
        other: ReplicaId,
        /// What both have applied.
        applied: u64,
    },
    /// What was not tried was not tested.
    #[error("only {succeeded} of {all} operations succeeded")]
    Idle {
        /// How many did.
        succeeded: u64,
        /// How many there were.
        all: u64,
    },
    /// A disk of a node's own.
    #[error("a small disk: {0}")]
    Disk(#[from] DiskError),
    /// This machine.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Cause {
    /// Whether it only says that something took too long.
    pub(crate) fn is_about_time(&self) -> bool {
        match self {
            Cause::Starved { .. } | Cause::Apart { .. } | Cause::Idle { .. } => true,
            Cause::Node(error) => matches!(
                error,
                NodeError::Silent { .. } | NodeError::StillRuns { .. }
            ),
            Cause::Violation(_)
            | Cause::Witness(_)
            | Cause::BadAnswer(_)
            | Cause::StatesDiffer { .. }
            | Cause::Disk(_)
            | Cause::System { .. } => false,
        }
    }
}

/// What was tried when the system said no.
pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Cause {
    let what = what.into();
    move |source| Cause::System { what, source }
}
