//! Why a value is not what a command with structure needs.

use flatbuffers::InvalidFlatbuffer;

use super::TXN_DEPTH_MAX;
use crate::command::CommandKind;
use crate::ids::NamespaceId;

/// What is wrong with the value of a command with structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StructureFault {
    /// The verifier refuses the table.
    #[error("the table is invalid: {0}")]
    Table(TableFault),
    /// A field that is needed is absent.
    #[error("{field} is missing")]
    Missing {
        /// The field's name in the schema.
        field: &'static str,
    },
    /// A field has a value that this version does not know.
    #[error("{field} cannot be {found}")]
    FieldValue {
        /// The field's name in the schema.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// A compare is about a key or about a range, not both.
    #[error("a compare names both a key and a range")]
    KeyAndRange,
    /// A key either is there or is not.
    #[error("existence is compared with == or != alone")]
    ExistenceOrder,
    /// Transactions within transactions within transactions.
    #[error("transactions nest more than {TXN_DEPTH_MAX} deep")]
    TooDeep,
    /// Shards are named each once, in order.
    #[error("the shards do not ascend")]
    ShardOrder,
    /// Only commands on single keys are steps of a transaction.
    #[error("{kind:?} cannot be a step of a transaction")]
    StepKind {
        /// The kind found.
        kind: CommandKind,
    },
    /// A step is about another keyspace than its transaction.
    #[error("a step is in namespace {step} and the transaction in {command}")]
    StepNamespace {
        /// The step's namespace.
        step: NamespaceId,
        /// The transaction's namespace.
        command: NamespaceId,
    },
    /// The base key is not one that the command names.
    #[error("the routing key is not among the keys and ranges that the command names")]
    RoutingKey,
    /// The value of a compaction is a revision.
    #[error("a revision has 8 bytes, not {length}")]
    RevisionLength {
        /// Bytes found.
        length: usize,
    },
}

/// What the verifier of a table found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    /// A required field is missing.
    #[error("a required field is missing")]
    RequiredFieldMissing,
    /// A text is not UTF-8 or has no end.
    #[error("a text is not valid")]
    Text,
    /// A part lies at an unaligned position.
    #[error("a part is not aligned")]
    Unaligned,
    /// An offset leads out of the value.
    #[error("an offset leads out of it")]
    OutOfBounds,
    /// A union's type and value do not fit.
    #[error("a union is inconsistent")]
    Union,
    /// Too many or too deeply nested tables.
    #[error("it is too complex")]
    TooComplex,
}

impl From<&InvalidFlatbuffer> for TableFault {
    fn from(invalid: &InvalidFlatbuffer) -> TableFault {
        match invalid {
            InvalidFlatbuffer::MissingRequiredField { .. } => TableFault::RequiredFieldMissing,
            InvalidFlatbuffer::Utf8Error { .. }
            | InvalidFlatbuffer::MissingNullTerminator { .. } => TableFault::Text,
            InvalidFlatbuffer::Unaligned { .. } => TableFault::Unaligned,
            InvalidFlatbuffer::RangeOutOfBounds { .. }
            | InvalidFlatbuffer::SignedOffsetOutOfBounds { .. } => TableFault::OutOfBounds,
            InvalidFlatbuffer::InconsistentUnion { .. } => TableFault::Union,
            InvalidFlatbuffer::TooManyTables
            | InvalidFlatbuffer::ApparentSizeTooLarge
            | InvalidFlatbuffer::DepthLimitReached => TableFault::TooComplex,
        }
    }
}
