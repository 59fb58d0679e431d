//! What can go wrong with a command.

use std::io;

use metastore_net::blocking::ClientError;
use metastore_net::{ErrorCode, Happened, WireError};

use super::Exit;
use super::cluster::NewClusterError;
use super::import_tree::TreeError;
use super::operator::OperatorError;
use super::recover::RecoverError;
use super::snapshot::SnapshotFileError;
use super::txn::TxnFileError;
use super::wal::WalError;
use crate::config::ConfigErrors;
use crate::node::StartError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The server cannot be reached, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
    /// The log cannot be looked at.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The snapshot cannot be looked at.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFileError),
    /// The tree cannot be imported or compared.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The document of a transaction cannot be used.
    #[error(transparent)]
    Txn(#[from] TxnFileError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// There can be no such cluster.
    #[error(transparent)]
    Cluster(#[from] NewClusterError),
    /// The data cannot be formatted.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nodes and shards are not as an operator wants them.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A cluster is not recovered.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

impl CommandError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            CommandError::Client(error) => exit_of_client(error),
            // What it means depends on the command, which `run` knows.
            CommandError::Output(_) => Exit::Unavailable,
            CommandError::Wal(error) => error.exit(),
            CommandError::Snapshot(error) => error.exit(),
            CommandError::Tree(error) => error.exit(),
            CommandError::Txn(_) => Exit::Usage,
            CommandError::Config(_) | CommandError::Cluster(_) => Exit::Usage,
            CommandError::Start(error) => exit_of_start(error),
            CommandError::Operator(error) => error.exit(),
            CommandError::Recover(error) => error.exit(),
        }
    }

    /// Whether nobody reads the answer any more.
    pub(crate) fn is_reader_gone(&self) -> bool {
        matches!(self, CommandError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// How a command ends that could not start a node.
pub(super) fn exit_of_start(error: &StartError) -> Exit {
    match error.is_usage() {
        true => Exit::Usage,
        false => Exit::Unavailable,
    }
}

pub(super) fn exit_of_client(error: &ClientError) -> Exit {
    match error {
        // An address that cannot be one is a mistake of the caller, not a server that is away.
        ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
            Exit::Usage
        }
        ClientError::Connect { .. } | ClientError::Connection(_) => Exit::Unavailable,
        ClientError::OutcomeUnknown { .. } => Exit::OutcomeUnknown,
        ClientError::Server(error) => exit_of_wire(error),
    }
}

/// How a refusal of the server ends a command.
pub(super) fn exit_of_wire(error: &WireError) -> Exit {
    if error.happened == Happened::Unknown {
        return Exit::OutcomeUnknown;
    }
    match error.code {
        ErrorCode::Conflict | ErrorCode::Compacted | ErrorCode::FutureRevision => Exit::Negative,
        ErrorCode::BadRequest
        | ErrorCode::TooLarge
        | ErrorCode::CrossShard
        | ErrorCode::NamespaceUnknown
        | ErrorCode::Unsupported => Exit::Usage,
        ErrorCode::HelloRequired
        | ErrorCode::WrongCluster
        | ErrorCode::NotLeader
        | ErrorCode::StaleMap
        | ErrorCode::Unavailable
        | ErrorCode::Overloaded
        | ErrorCode::QuotaExceeded
        | ErrorCode::LockedBy
        | ErrorCode::SessionExpired
        | ErrorCode::SequenceTooOld
        | ErrorCode::NewEpoch
        | ErrorCode::Deadline
        | ErrorCode::ReadOnly
        | ErrorCode::Cancelled
        | ErrorCode::ShuttingDown
        | ErrorCode::Internal
        | ErrorCode::BadFrame
        | ErrorCode::PinLost
        | ErrorCode::Other(_) => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_net::blocking::ConnectionFault;

    #[test]
    fn exit_codes_are_as_promised() {
        let exits = [
            Exit::Done,
            Exit::Negative,
            Exit::Usage,
            Exit::Unavailable,
            Exit::OutcomeUnknown,
        ];
        assert_eq!(exits.map(Exit::code), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_lost_change_is_not_taken_for_an_unavailable_server() {
        let lost = ClientError::OutcomeUnknown {
            cause: ConnectionFault::Timeout,
        };
        assert_eq!(exit_of_client(&lost), Exit::OutcomeUnknown);
        assert_eq!(
            exit_of_client(&ConnectionFault::Timeout.into()),
            Exit::Unavailable
        );
        let mut error = WireError::new(ErrorCode::Deadline);
        assert_eq!(exit_of_wire(&error), Exit::Unavailable);
        error.happened = Happened::Unknown;
        assert_eq!(exit_of_wire(&error), Exit::OutcomeUnknown);
    }

    #[test]
    fn a_malformed_address_is_wrong_usage_and_a_closed_port_is_not() {
        let error_of = |kind: io::ErrorKind| ClientError::Connect {
            address: String::new(),
            source: kind.into(),
        };
        let malformed = error_of(io::ErrorKind::InvalidInput);
        let refused = error_of(io::ErrorKind::ConnectionRefused);
        assert_eq!(exit_of_client(&malformed), Exit::Usage);
        assert_eq!(exit_of_client(&refused), Exit::Unavailable);
    }
}
