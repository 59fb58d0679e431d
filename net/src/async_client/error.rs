//! What can go wrong, and whether the operation happened all the same.

use crate::client::ProtocolError;
use crate::wire_error::{ErrorCode, Happened, WireError};
use metastore_statemachine::Revision;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why an operation failed. [`Error::happened`] says what is known of its effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A setting cannot be.
    #[error("the setting {name} {rule}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A request that can never be sent.
    #[error("{what} is too large: {actual} where {limit} is allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// The size found.
        actual: usize,
    },
    /// The condition of a write did not hold; nothing was changed.
    #[error("the condition did not hold: the key is at revision {revision}")]
    Conflict {
        /// The key's revision, 0 when it is absent.
        revision: Revision,
    },
    /// Something that a transaction has read was changed before it could be committed; nothing was written.
    #[error("the transaction met a change of [{}] at revision {revision}, after {attempts} attempts", .key.escape_ascii())]
    TransactionConflict {
        /// The key, or the prefix of the range, that has changed.
        key: Vec<u8>,
        /// When.
        revision: Revision,
        /// How often the transaction was tried.
        attempts: u32,
    },
    /// The revision asked for is no longer kept; nothing was changed.
    #[error("compacted: the oldest revision is {oldest}")]
    Compacted {
        /// The oldest one that is.
        oldest: Revision,
    },
    /// The revision asked for has not happened; nothing was changed.
    #[error("a future revision: the current one is {current}")]
    FutureRevision {
        /// The current one.
        current: Revision,
    },
    /// A transaction looks at more keys, or answers with more bytes, than one may; nothing was changed.
    #[error("the transaction is too much for one command")]
    OverBudget,
    /// The key does not hold a counter; nothing was changed.
    #[error("the value is not a counter")]
    NotANumber,
    /// The sum does not fit an `i64`; nothing was changed.
    #[error("the counter would overflow")]
    Overflow,
    /// An append would make the value too long; nothing was changed.
    #[error("the value would outgrow its limit")]
    ValueTooLarge,
    /// The server says no. Nothing has happened.
    #[error("{0}")]
    Server(Box<WireError>),
    /// The deadline has passed, and nothing has happened.
    #[error("the deadline has passed, nothing was done{}", because(.last))]
    Deadline {
        /// What the last attempt met, if any failed before.
        last: Option<Box<Fault>>,
    },
    /// A write was sent, and how it ended is not known: it may have happened, or may yet.
    #[error("the outcome is unknown: {cause}")]
    OutcomeUnknown {
        /// Why there is no answer.
        cause: Box<Fault>,
    },
    /// A command of a batch was not sent, because an earlier one of its shard failed and order would be lost.
    #[error("not sent: an earlier part of the batch failed")]
    Skipped,
    /// A range broke after rows had been handed out. They are right, but there may have been more.
    #[error("the range broke off: {cause}")]
    Interrupted {
        /// Why it broke.
        cause: Box<Fault>,
    },
    /// Nothing can be asked: no address was given, or none answered.
    #[error("there is nobody to ask{}", because(.last))]
    Unreachable {
        /// What the last attempt met.
        last: Option<Box<Fault>>,
    },
}

/// Why one attempt failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// There is no connection to an address.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The socket reported an error.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// The server closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The server gave no sign of life.
    #[error("no sign of life for {} ms", .silence.as_millis())]
    Silent {
        /// For how long.
        silence: Duration,
    },
    /// The server does not speak as it should, or gave up the connection.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// The server answered with an error.
    #[error("{0}")]
    Server(WireError),
    /// No answer came before the deadline.
    #[error("no answer before the deadline")]
    Late,
    /// The request is longer than the server takes.
    #[error("the request is too large: {actual} where {limit} is allowed")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// The request's size.
        actual: usize,
    },
    /// The server's answer lacks something that it must have.
    #[error("{what}")]
    Unreadable {
        /// What is missing.
        what: &'static str,
    },
    /// An earlier attempt of this operation was not answered, and a later one found that the condition no longer
    /// holds: either it was met and used up by the first, or somebody else was faster.
    #[error(
        "the condition held no longer when it was tried again, the key is at revision {revision}; before: {before}"
    )]
    Ambiguous {
        /// The key's revision, 0 when it is absent.
        revision: Revision,
        /// Why the earlier attempt was not answered.
        before: Box<Fault>,
    },
}

fn because(last: &Option<Box<Fault>>) -> String {
    last.as_ref()
        .map_or_else(String::new, |fault| format!("; last: {fault}"))
}

impl Error {
    /// Whether the operation took effect.
    pub fn happened(&self) -> Happened {
        match self {
            Error::OutcomeUnknown { .. } => Happened::Unknown,
            Error::Server(error) => error.happened,
            Error::Setting { .. }
            | Error::TooLarge { .. }
            | Error::Conflict { .. }
            | Error::TransactionConflict { .. }
            | Error::Compacted { .. }
            | Error::FutureRevision { .. }
            | Error::OverBudget
            | Error::NotANumber
            | Error::Overflow
            | Error::ValueTooLarge
            | Error::Deadline { .. }
            | Error::Skipped
            | Error::Interrupted { .. }
            | Error::Unreachable { .. } => Happened::NotDone,
        }
    }

    /// The server's code, where the server said no.
    pub fn code(&self) -> Option<ErrorCode> {
        if let Error::Server(error) = self {
            Some(error.code)
        } else {
            None
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(Arc::new(error))
    }
}

/// One attempt that failed, and what is known of its effect.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) happened: Happened,
}

impl Failure {
    /// The request had no effect and will have none.
    pub(super) fn not_done(fault: Fault) -> Failure {
        Failure {
            fault,
            happened: Happened::NotDone,
        }
    }

    /// The server said no.
    pub(super) fn server(error: WireError) -> Failure {
        Failure {
            happened: error.happened,
            fault: Fault::Server(error),
        }
    }
}
