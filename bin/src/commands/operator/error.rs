//! Why something is not done that an operator has asked for.

use std::fmt;

use metastore_net::blocking::ClientError;
use metastore_net::{ErrorCode, ReplicaHome};

use super::super::{Exit, error::exit_of_client};
use super::ShardView;

/// A question that was not answered, and where.
#[derive(Debug, thiserror::Error)]
#[error("node {} core {}, at {address}: {error}", .at.node_id, .at.core_index)]
pub(crate) struct AskFailed {
    pub(crate) at: ReplicaHome,
    pub(crate) address: String,
    pub(crate) error: ClientError,
}

impl AskFailed {
    /// Whether it may go better later. A change of which nobody knows whether it was made is looked at again, too.
    pub(in crate::commands) fn may_pass(&self) -> bool {
        match &self.error {
            ClientError::Connect { .. }
            | ClientError::Connection(_)
            | ClientError::OutcomeUnknown { .. } => true,
            ClientError::Server(error) => matches!(
                error.code,
                ErrorCode::NotLeader
                    | ErrorCode::Unavailable
                    | ErrorCode::Overloaded
                    | ErrorCode::ShuttingDown
                    | ErrorCode::Deadline
                    | ErrorCode::ReadOnly
                    | ErrorCode::Conflict
            ),
        }
    }

    /// Whether there is somebody who has said no.
    pub(in crate::commands) fn is_refusal(&self) -> bool {
        matches!(self.error, ClientError::Server(_))
    }

    /// Where whoever refused sends us, if anywhere.
    pub(in crate::commands) fn hint(&self) -> Option<&str> {
        match &self.error {
            ClientError::Server(error) if !error.hint.is_empty() => Some(&error.hint),
            ClientError::Server(_)
            | ClientError::Connect { .. }
            | ClientError::Connection(_)
            | ClientError::OutcomeUnknown { .. } => None,
        }
    }
}

/// Nobody was found who leads a shard.
#[derive(Debug)]
pub(crate) struct NoLeader {
    shard: u32,
    /// Of those who answered, what the one said that knows of the newest replica.
    pub(in crate::commands) best: Option<Box<ShardView>>,
    silent: Vec<String>,
}

impl NoLeader {
    pub(super) fn new(shard: u32) -> NoLeader {
        NoLeader {
            shard,
            best: None,
            silent: Vec::new(),
        }
    }

    pub(super) fn note_silent(&mut self, failed: &AskFailed) {
        self.silent.push(failed.to_string());
    }

    pub(super) fn note_view(&mut self, view: ShardView) {
        let newest = self.best.as_ref().map_or(0, |best| best.reply.newest);
        if view.reply.newest > newest {
            self.best = Some(Box::new(view));
        }
    }
}

impl std::error::Error for NoLeader {}

impl fmt::Display for NoLeader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoLeader {
            shard,
            best,
            silent,
        } = self;
        write!(formatter, "nobody leads shard {shard}")?;
        if let Some(best) = best {
            let ReplicaHome {
                node_id,
                core_index,
            } = best.at;
            write!(formatter, ", as node {node_id} core {core_index} says")?;
        }
        if !silent.is_empty() {
            write!(formatter, "; no answer from {}", silent.join(", "))?;
        }
        Ok(())
    }
}

/// Why a command of operators fails as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    /// No node has this id.
    #[error(
        "there is no node {node}: the cluster knows of {}; `metastore member add` makes one known",
        numbers(.known)
    )]
    NodeUnknown {
        /// What was asked for.
        node: u32,
        /// Who there is.
        known: Vec<u32>,
    },
    /// No shard has this id.
    #[error("there is no shard {shard}: the cluster has {count}, from 0 on")]
    ShardUnknown {
        /// What was asked for.
        shard: u32,
        /// How many there are.
        count: usize,
    },
    /// A node was said to be lost.
    #[error(
        "node {node} answers at {address}, so that it is not lost; stop it, or say --even-if-alive"
    )]
    Alive {
        /// Which.
        node: u32,
        /// Where.
        address: String,
    },
    /// A node that runs is to be forgotten.
    #[error("node {node} answers at {address}: stop it first; nothing was changed")]
    StillRuns {
        /// Which.
        node: u32,
        /// Where.
        address: String,
    },
    /// A node that still has members is to be forgotten.
    #[error(
        "node {node} has members of shards {}; nothing was changed; `metastore member remove` or `replace` takes them away",
        numbers(.shards)
    )]
    NotEmpty {
        /// Which.
        node: u32,
        /// Of which shards.
        shards: Vec<u32>,
    },
    /// A node is to replace itself.
    #[error("node {node} cannot take its own place: --dead and --with name the same node")]
    ItsOwnPlace {
        /// Which.
        node: u32,
    },
    /// A node that something is to live on does not answer.
    #[error("node {node} does not answer: {why}")]
    Silent {
        /// Which.
        node: u32,
        /// What happened.
        why: String,
    },
    /// Nobody leads a shard, and nothing was changed.
    #[error("{0}; nothing was changed")]
    NoLeader(NoLeader),
    /// A shard would be left without a voter that can fail.
    #[error(
        "without node {node} too few voters are left: {}; nothing was changed; add a node before, or say --give-up-spare",
        .short.join(", ")
    )]
    NoSpare {
        /// Who is to go.
        node: u32,
        /// What is short of voters, in words.
        short: Vec<String>,
    },
    /// Who is to lead cannot.
    #[error("node {node} cannot lead shard {shard}: {why}; its voters live on {}", numbers(.voters))]
    CannotLead {
        /// Who.
        node: u32,
        /// What.
        shard: u32,
        /// Why not.
        why: &'static str,
        /// Who could.
        voters: Vec<u32>,
    },
    /// The lead was asked for and not given.
    #[error("shard {shard} has no other leader after {waited_ms} ms: {why}")]
    NotTransferred {
        /// Of which shard.
        shard: u32,
        /// How long.
        waited_ms: u128,
        /// What was last heard.
        why: String,
    },
    /// No node has taken in that another is there.
    #[error("no node knows of node {node} now: {}", .refused.join("; "))]
    NotKnown {
        /// Which.
        node: u32,
        /// What each said.
        refused: Vec<String>,
    },
    /// A question was not answered.
    #[error(transparent)]
    Asked(#[from] AskFailed),
}

impl OperatorError {
    pub(in crate::commands) fn exit(&self) -> Exit {
        match self {
            OperatorError::NodeUnknown { .. }
            | OperatorError::ShardUnknown { .. }
            | OperatorError::ItsOwnPlace { .. } => Exit::Usage,
            OperatorError::Alive { .. }
            | OperatorError::StillRuns { .. }
            | OperatorError::NotEmpty { .. }
            | OperatorError::NoSpare { .. }
            | OperatorError::CannotLead { .. }
            | OperatorError::NotKnown { .. } => Exit::Negative,
            OperatorError::Silent { .. }
            | OperatorError::NoLeader(_)
            | OperatorError::NotTransferred { .. } => Exit::Unavailable,
            OperatorError::Asked(failed) => exit_of_client(&failed.error),
        }
    }
}

/// Numbers in words.
fn numbers(numbers: &[u32]) -> String {
    match numbers {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(u32::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use metastore_net::{Happened, WireError};

    use super::super::home;
    use super::*;

    fn refused(code: ErrorCode) -> AskFailed {
        AskFailed {
            at: home(2, 1),
            address: "n2:7401".to_owned(),
            error: ClientError::Server(WireError::new(code)),
        }
    }

    #[test]
    fn what_the_members_do_not_allow_does_not_pass() {
        assert!(refused(ErrorCode::NotLeader).may_pass());
        assert!(refused(ErrorCode::Unavailable).may_pass());
        assert!(!refused(ErrorCode::BadRequest).may_pass());
        let mut unknown = WireError::new(ErrorCode::Unavailable);
        unknown.happened = Happened::Unknown;
        let unknown = AskFailed {
            error: ClientError::Server(unknown),
            ..refused(ErrorCode::Unavailable)
        };
        assert!(unknown.may_pass(), "whoever asks looks what became of it");
    }

    #[test]
    fn errors_name_what_and_where() {
        let error = OperatorError::NodeUnknown {
            node: 9,
            known: vec![1, 2, 3],
        };
        assert!(
            error
                .to_string()
                .starts_with("there is no node 9: the cluster knows of 1, 2 and 3")
        );
        let mut none = NoLeader::new(5);
        none.note_silent(&refused(ErrorCode::Unavailable));
        assert_eq!(
            none.to_string(),
            "nobody leads shard 5; no answer from node 2 core 1, at n2:7401: the shard is unavailable"
        );
    }
}
