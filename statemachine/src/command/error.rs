//! Why a command is refused.

use super::{CommandFlags, CommandKind};
use crate::ids::NamespaceId;
use crate::structured::StructureFault;
use crate::wire::Short;

/// Something the format has room for and this version does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Keys that vanish with their lease.
    Lease,
    /// Exactly-once retries.
    Session,
}

/// Why bytes are not a command, or not an acceptable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The bytes end inside the command.
    #[error("the command needs {needed} bytes, there are {available}")]
    Truncated {
        /// Bytes that the parts seen so far need.
        needed: usize,
        /// Bytes present.
        available: usize,
    },
    /// The kind is reserved or from a later version.
    #[error("unknown command kind {kind}")]
    UnknownKind {
        /// The number found.
        kind: u16,
    },
    /// A flag is from a later version; what it would add cannot be skipped.
    #[error("unknown command flags {flags:#06x}")]
    UnknownFlags {
        /// The unknown bits.
        flags: u16,
    },
    /// The flag has no meaning for the kind.
    #[error("{kind:?} does not take the flag {flag:?}")]
    FlagNotAllowed {
        /// The command's kind.
        kind: CommandKind,
        /// The flag in question.
        flag: CommandFlags,
    },
    /// A key has at least one byte.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key is longer than the limit.
    #[error("the key has {actual} bytes, at most {limit} are allowed")]
    KeyTooLarge {
        /// Allowed bytes.
        limit: usize,
        /// Bytes found.
        actual: usize,
    },
    /// The value is longer than the limit.
    #[error("the value has {actual} bytes, at most {limit} are allowed")]
    ValueTooLarge {
        /// Allowed bytes.
        limit: usize,
        /// Bytes found.
        actual: usize,
    },
    /// A delete has no value.
    #[error("{kind:?} does not take a value")]
    ValueNotAllowed {
        /// The command's kind.
        kind: CommandKind,
    },
    /// A counter's operand is exactly eight bytes.
    #[error("the operand has {length} bytes instead of 8")]
    OperandNotI64 {
        /// Bytes found.
        length: usize,
    },
    /// Both "must be absent" and "must have this revision".
    #[error("IF_ABSENT and EXPECTED_REVISION contradict each other")]
    Contradiction,
    /// Accepting it would promise what does not happen.
    #[error("{feature:?} is not supported by this version")]
    NotSupported {
        /// What was asked for.
        feature: Feature,
    },
    /// More bytes than the one command that was expected.
    #[error("{count} bytes follow the command")]
    TrailingBytes {
        /// Bytes too many.
        count: usize,
    },
    /// The namespace is not for clients.
    #[error("namespace {namespace} is reserved")]
    NamespaceReserved {
        /// The namespace named.
        namespace: NamespaceId,
    },
    /// The value is not what a command with structure needs.
    #[error(transparent)]
    Structure(#[from] StructureFault),
}

impl From<Short> for CommandError {
    fn from(short: Short) -> CommandError {
        CommandError::Truncated {
            needed: short.needed,
            available: short.available,
        }
    }
}
