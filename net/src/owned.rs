//! Answers that outlive the bytes they came in.

use crate::read::{GetManyReply, GetReply, ReadPosition};
use metastore_statemachine::{Outcome, OutcomeCode, Revision, Row};

/// A [`Row`] with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRow {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Revision at which the key came into being.
    pub create_revision: Revision,
    /// Revision of the key's last change.
    pub mod_revision: Revision,
    /// Changes since the key came into being.
    pub version: u64,
    /// The lease that the key hangs on, zero for none.
    pub lease: u64,
}

impl From<Row<'_>> for OwnedRow {
    fn from(row: Row<'_>) -> OwnedRow {
        OwnedRow {
            key: row.key.to_vec(),
            value: row.value.to_vec(),
            create_revision: row.create_revision,
            mod_revision: row.mod_revision,
            version: row.version,
            lease: row.lease,
        }
    }
}

/// An [`Outcome`] with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedOutcome {
    /// How the command ended.
    pub code: OutcomeCode,
    /// The revision taken, or the one that explains why none was.
    pub revision: Revision,
    /// A counter's value.
    pub number: Option<i64>,
    /// The row as the command found it, if that was asked for.
    pub previous: Option<OwnedRow>,
}

impl From<Outcome<'_>> for OwnedOutcome {
    fn from(outcome: Outcome<'_>) -> OwnedOutcome {
        OwnedOutcome {
            code: outcome.code,
            revision: outcome.revision,
            number: outcome.number,
            previous: outcome.previous.map(OwnedRow::from),
        }
    }
}

/// One key as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetAnswer {
    /// Where it was read.
    pub position: ReadPosition,
    /// The key, if it is there.
    pub row: Option<OwnedRow>,
}

impl From<GetReply<'_>> for GetAnswer {
    fn from(reply: GetReply<'_>) -> GetAnswer {
        GetAnswer {
            position: reply.position,
            row: reply.row.map(OwnedRow::from),
        }
    }
}

/// Several keys as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetManyAnswer {
    /// Where they were read.
    pub position: ReadPosition,
    /// Per key asked for, in that order, its row if it is there.
    pub rows: Vec<Option<OwnedRow>>,
}

impl From<GetManyReply<'_>> for GetManyAnswer {
    fn from(reply: GetManyReply<'_>) -> GetManyAnswer {
        GetManyAnswer {
            position: reply.position,
            rows: reply.rows().map(|row| row.map(OwnedRow::from)).collect(),
        }
    }
}
