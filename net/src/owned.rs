//! Answers that outlive the bytes they came in.

use crate::read::{GetManyReply, GetReply, ReadPosition};
use metastore_statemachine::{
    Branch, Detail, Outcome, OutcomeCode, Revision, Row, ShardRevision, TxnResult, TxnResults,
};

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

impl OwnedRow {
    /// Whether it stands for all keys that begin alike: no key has version 0.
    #[must_use]
    pub fn is_common_prefix(&self) -> bool {
        self.version == 0
    }
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
    /// What a command with structure has to say beyond that.
    pub detail: Option<OwnedDetail>,
}

/// A [`Detail`] with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedDetail {
    /// What a transaction came to.
    Txn(OwnedTxn),
    /// Keys up to this one are done; there may be more.
    ResumeAfter(Vec<u8>),
    /// This key has changed since it was read.
    ConflictKey(Vec<u8>),
    /// A key of the range with this prefix has changed since it was read.
    ConflictPrefix(Vec<u8>),
    /// The step that could not be done, counted from 0.
    FailedStep(u32),
    /// What each of several shards took.
    ShardRevisions(Vec<ShardRevision>),
}

impl From<Detail<'_>> for OwnedDetail {
    fn from(detail: Detail<'_>) -> OwnedDetail {
        match detail {
            Detail::Txn(results) => OwnedDetail::Txn(OwnedTxn::from(results)),
            Detail::ResumeAfter(key) => OwnedDetail::ResumeAfter(key.to_vec()),
            Detail::ConflictKey(key) => OwnedDetail::ConflictKey(key.to_vec()),
            Detail::ConflictPrefix(prefix) => OwnedDetail::ConflictPrefix(prefix.to_vec()),
            Detail::FailedStep(step) => OwnedDetail::FailedStep(step),
            Detail::ShardRevisions(revisions) => {
                OwnedDetail::ShardRevisions(revisions.iter().collect())
            }
        }
    }
}

/// The results of a transaction, with bytes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedTxn {
    /// Which list was done.
    pub branch: Branch,
    /// One result an operation.
    pub results: Vec<OwnedTxnResult>,
}

/// A [`TxnResult`] with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedTxnResult {
    /// The outcome of a command on one key.
    Mutation(OwnedOutcome),
    /// The row of a key.
    Get(Option<OwnedRow>),
    /// The rows of a range.
    Range {
        /// Whether the limit left some out.
        has_more: bool,
        /// In the order asked for.
        rows: Vec<OwnedRow>,
    },
    /// How many keys were deleted.
    DeleteRange(u64),
    /// A transaction within.
    Txn(OwnedTxn),
}

impl From<TxnResults<'_>> for OwnedTxn {
    fn from(results: TxnResults<'_>) -> OwnedTxn {
        OwnedTxn {
            branch: results.branch,
            results: results.iter().map(OwnedTxnResult::from).collect(),
        }
    }
}

impl From<TxnResult<'_>> for OwnedTxnResult {
    fn from(result: TxnResult<'_>) -> OwnedTxnResult {
        match result {
            TxnResult::Mutation {
                code,
                revision,
                number,
                previous,
            } => OwnedTxnResult::Mutation(OwnedOutcome {
                code,
                revision,
                number,
                previous: previous.map(OwnedRow::from),
                detail: None,
            }),
            TxnResult::Get(row) => OwnedTxnResult::Get(row.map(OwnedRow::from)),
            TxnResult::Range { has_more, rows } => OwnedTxnResult::Range {
                has_more,
                rows: rows.map(OwnedRow::from).collect(),
            },
            TxnResult::DeleteRange(count) => OwnedTxnResult::DeleteRange(count),
            TxnResult::Txn(results) => OwnedTxnResult::Txn(OwnedTxn::from(results)),
        }
    }
}

impl From<Outcome<'_>> for OwnedOutcome {
    fn from(outcome: Outcome<'_>) -> OwnedOutcome {
        OwnedOutcome {
            code: outcome.code,
            revision: outcome.revision,
            number: outcome.number,
            previous: outcome.previous.map(OwnedRow::from),
            detail: outcome.detail.map(OwnedDetail::from),
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
