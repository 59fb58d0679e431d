//! Why a body is not what its kind demands. One type for both ends: the server answers with it, the client gives up
//! on the connection.

use crate::wire_error::{ErrorCode, WireError};
use metastore_statemachine::{CommandError, OutcomeError, RowError};

pub use metastore_statemachine::TableFault;

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body ends before its content does.
    #[error("{needed} bytes are needed where {available} are left")]
    Truncated {
        /// Bytes that the next part takes.
        needed: usize,
        /// Bytes that are left.
        available: usize,
    },
    /// The body goes on behind its content.
    #[error("{bytes} bytes follow the content")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A field that must be zero in this version is not.
    #[error("a reserved field is not zero")]
    ReservedNotZero,
    /// A table that does not pass the verifier.
    #[error("the table is invalid: {fault}")]
    Table {
        /// What the verifier found.
        fault: TableFault,
    },
    /// A field has a value that this version does not know.
    #[error("{field} cannot be {found}")]
    FieldValue {
        /// The field's name in the schema.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// The frame's kind is unknown.
    #[error("unknown kind {found}")]
    Kind {
        /// The kind's number.
        found: u16,
    },
    /// A key is empty where one is needed.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key is longer than allowed.
    #[error("a key of {actual} bytes is above the limit of {limit}")]
    KeyTooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The key's length in bytes.
        actual: usize,
    },
    /// More commands or keys in one request than allowed.
    #[error("{actual} items are above the limit of {limit}")]
    TooMany {
        /// The greatest count allowed.
        limit: usize,
        /// The count found.
        actual: usize,
    },
    /// A command breaks a rule.
    #[error("command {position}: {error}")]
    Command {
        /// Which one, counted from 0.
        position: usize,
        /// The rule.
        error: CommandError,
    },
    /// A command that takes several log entries stands in a batch, whose commands take one each.
    #[error("command {position}: delete_range does not go into a batch")]
    NotInBatch {
        /// Which one, counted from 0.
        position: usize,
    },
    /// An outcome in an answer cannot be read.
    #[error("outcome: {0}")]
    Outcome(OutcomeError),
    /// A row in an answer cannot be read.
    #[error("row: {0}")]
    Row(RowError),
}

impl From<BodyError> for WireError {
    fn from(error: BodyError) -> WireError {
        let message = error.to_string();
        let (code, limit, actual) = match error {
            BodyError::KeyTooLarge { limit, actual } | BodyError::TooMany { limit, actual } => {
                (ErrorCode::TooLarge, limit, actual)
            }
            BodyError::Command { error, .. } => code_of_command(&error),
            BodyError::Kind { .. } => (ErrorCode::Unsupported, 0, 0),
            BodyError::Truncated { .. }
            | BodyError::Trailing { .. }
            | BodyError::ReservedNotZero
            | BodyError::Table { .. }
            | BodyError::FieldValue { .. }
            | BodyError::KeyEmpty
            | BodyError::NotInBatch { .. }
            | BodyError::Outcome(_)
            | BodyError::Row(_) => (ErrorCode::BadRequest, 0, 0),
        };
        WireError {
            limit: limit as u64,
            actual: actual as u64,
            ..WireError::new(code)
        }
        .with_message(message)
    }
}

/// The code that a command's error is answered with, and the limit and the actual size where it has any.
fn code_of_command(error: &CommandError) -> (ErrorCode, usize, usize) {
    match *error {
        CommandError::KeyTooLarge { limit, actual }
        | CommandError::ValueTooLarge { limit, actual } => (ErrorCode::TooLarge, limit, actual),
        CommandError::UnknownKind { .. }
        | CommandError::UnknownFlags { .. }
        | CommandError::NotSupported { .. } => (ErrorCode::Unsupported, 0, 0),
        CommandError::Truncated { .. }
        | CommandError::FlagNotAllowed { .. }
        | CommandError::KeyEmpty
        | CommandError::ValueNotAllowed { .. }
        | CommandError::OperandNotI64 { .. }
        | CommandError::Contradiction
        | CommandError::TrailingBytes { .. }
        | CommandError::Structure(_)
        | CommandError::NamespaceReserved { .. } => (ErrorCode::BadRequest, 0, 0),
    }
}
