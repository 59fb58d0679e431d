//! What an outcome says beyond its base: the results of a transaction, what a commit ran into, where to go on.

use crate::generated;
use crate::ids::Revision;
use crate::outcome::{Outcome, OutcomeCode, OutcomeError};
use crate::row::{Row, RowError};
use crate::structured::TXN_DEPTH_MAX;
use crate::wire::{Reader, Short, length_u32, length_usize};

/// The last part of an outcome.
///
/// ```text
///      0        2        4                 8
///    0 |  kind  |  zero  |     length      |   length: of what follows
///    8 |  as the kind says             ... |
///
///  1 Txn              the results of a transaction, see TxnResults
///  2 ResumeAfter      a key: the keys of the range up to it are done, there may be more behind it
///  3 ConflictKey      the key that has changed since it was read
///  4 ConflictPrefix   the prefix (or start) of the range in which a key has changed since it was read
///  5 FailedStep       u32: which step did what the outcome's code says, counted from 0 in the order in which
///                     steps are done, those of nested transactions included
///  6 ShardRevisions   for each shard 16 bytes: its revision u64, its number u32, zero u32
/// ```
///
/// Little-endian, at any byte offset, self-delimiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail<'a> {
    /// What the operations of a transaction came to.
    Txn(TxnResults<'a>),
    /// Keys up to this one are done; there may be more.
    ResumeAfter(&'a [u8]),
    /// This key has changed since it was read.
    ConflictKey(&'a [u8]),
    /// A key of the range with this prefix has changed since it was read.
    ConflictPrefix(&'a [u8]),
    /// The step that could not be done.
    FailedStep(u32),
    /// What each of several shards took.
    ShardRevisions(ShardRevisions<'a>),
}

const KIND_TXN: u16 = 1;
const KIND_RESUME_AFTER: u16 = 2;
const KIND_CONFLICT_KEY: u16 = 3;
const KIND_CONFLICT_PREFIX: u16 = 4;
const KIND_FAILED_STEP: u16 = 5;
const KIND_SHARD_REVISIONS: u16 = 6;

/// Why bytes are not a detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetailError {
    /// The bytes end inside.
    #[error("it needs {needed} bytes, there are {available}")]
    Truncated {
        /// Bytes that the parts seen so far need.
        needed: usize,
        /// Bytes present.
        available: usize,
    },
    /// The kind is from a later version.
    #[error("unknown kind {kind}")]
    UnknownKind {
        /// The number found.
        kind: u16,
    },
    /// A field that must be zero, or one of a few numbers, is not.
    #[error("{field} cannot be {found}")]
    FieldValue {
        /// The field's name in the schema.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// The content has another length than the one announced.
    #[error("{announced} bytes were announced, the content has {actual}")]
    Length {
        /// Length announced.
        announced: usize,
        /// Length of the content.
        actual: usize,
    },
    /// Results nest deeper than transactions may.
    #[error("results nest more than {TXN_DEPTH_MAX} deep")]
    TooDeep,
    /// A row is malformed.
    #[error("row: {0}")]
    Row(RowError),
    /// The outcome of a mutation is malformed, or has a detail of its own.
    #[error("the outcome of a mutation is malformed")]
    Mutation,
}

/// Which list of a transaction was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Some compare did not hold.
    Otherwise = 0,
    /// Every compare held.
    Then = 1,
}

/// The results of a transaction.
///
/// ```text
///      0        2        4                 8
///    0 | branch |  zero  |      count      |   branch: 1 then, 0 otherwise; count: of results, one an operation
///    8 |  kind  |  more  |     length      |   per result; more: 1 if a range's limit left rows out, else 0
///      |  as the kind says             ... |
///
///  0 mutation       an outcome
///  1 get            a row, or nothing
///  2 range          rows, back to back
///  3 delete_range   u64: how many keys were deleted
///  4 txn            results of the nested transaction
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnResults<'a> {
    /// Which list was done.
    pub branch: Branch,
    /// Number of results.
    pub count: u32,
    /// The results, checked.
    results: &'a [u8],
}

/// What one operation of a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnResult<'a> {
    /// The outcome of a command on one key: `Done` or `Absent`.
    Mutation {
        /// The outcome's own code, as [`Outcome::code`].
        code: OutcomeCode,
        /// As [`Outcome::revision`].
        revision: Revision,
        /// As [`Outcome::number`].
        number: Option<i64>,
        /// As [`Outcome::previous`].
        previous: Option<Row<'a>>,
    },
    /// The row of a key.
    Get(Option<Row<'a>>),
    /// The rows of a range.
    Range {
        /// Whether the limit left some out.
        has_more: bool,
        /// Back to back.
        rows: RowList<'a>,
    },
    /// How many keys were deleted.
    DeleteRange(u64),
    /// A transaction within.
    Txn(TxnResults<'a>),
}

const RESULT_MUTATION: u16 = 0;
const RESULT_GET: u16 = 1;
const RESULT_RANGE: u16 = 2;
const RESULT_DELETE_RANGE: u16 = 3;
const RESULT_TXN: u16 = 4;

/// Rows back to back, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowList<'a>(&'a [u8]);

impl<'a> Iterator for RowList<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let (row, length) = Row::decode(self.0).expect("rows were checked by decode");
        self.0 = &self.0[length..];
        Some(row)
    }
}

/// What each of several shards took, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRevisions<'a>(&'a [u8]);

/// The revision that one shard has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRevision {
    /// The shard.
    pub shard: u32,
    /// Its revision.
    pub revision: Revision,
}

impl<'a> ShardRevisions<'a> {
    /// The revisions in the order of the answer.
    pub fn iter(&self) -> impl Iterator<Item = ShardRevision> + use<'a> {
        let (parts, _) = self.0.as_chunks();
        parts.iter().map(|part| {
            let wire = generated::ShardRevision(*part);
            ShardRevision {
                shard: wire.shard(),
                revision: Revision(wire.revision()),
            }
        })
    }

    /// The wire form of some revisions, in `bytes`.
    pub fn encode(
        revisions: impl IntoIterator<Item = ShardRevision>,
        bytes: &'a mut Vec<u8>,
    ) -> ShardRevisions<'a> {
        bytes.clear();
        for place in revisions {
            let wire = generated::ShardRevision::new(place.revision.0, place.shard, 0);
            bytes.extend_from_slice(&wire.0);
        }
        ShardRevisions(bytes)
    }

    fn decode(bytes: &'a [u8]) -> Result<ShardRevisions<'a>, DetailError> {
        let (parts, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(DetailError::Length {
                announced: bytes.len(),
                actual: bytes.len() - rest.len(),
            });
        }
        for part in parts {
            check_zero(generated::ShardRevision(*part).zero())?;
        }
        Ok(ShardRevisions(bytes))
    }
}

impl<'a> Detail<'a> {
    /// Reads the detail at the front of `bytes` and tells how many bytes it has.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(Detail<'a>, usize), DetailError> {
        let mut reader = Reader::new(bytes);
        let base = generated::DetailBase(reader.take_array()?);
        check_zero(u32::from(base.zero()))?;
        let content = reader.take(length_usize(base.length()))?;
        let detail = match base.kind() {
            KIND_TXN => Detail::Txn(TxnResults::decode(content, 1)?),
            KIND_RESUME_AFTER => Detail::ResumeAfter(content),
            KIND_CONFLICT_KEY => Detail::ConflictKey(content),
            KIND_CONFLICT_PREFIX => Detail::ConflictPrefix(content),
            KIND_FAILED_STEP => Detail::FailedStep(u32::from_le_bytes(exactly(content)?)),
            KIND_SHARD_REVISIONS => Detail::ShardRevisions(ShardRevisions::decode(content)?),
            kind => return Err(DetailError::UnknownKind { kind }),
        };
        Ok((detail, reader.position()))
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let content_bytes = self.encoded_len() - size_of::<generated::DetailBase>();
        let base = generated::DetailBase::new(self.kind(), 0, length_u32(content_bytes));
        out.extend_from_slice(&base.0);
        match self {
            Detail::Txn(results) => results.encode_into(out),
            Detail::ResumeAfter(bytes)
            | Detail::ConflictKey(bytes)
            | Detail::ConflictPrefix(bytes) => out.extend_from_slice(bytes),
            Detail::FailedStep(step) => out.extend_from_slice(&step.to_le_bytes()),
            Detail::ShardRevisions(ShardRevisions(bytes)) => out.extend_from_slice(bytes),
        }
    }

    pub(crate) fn encoded_len(&self) -> usize {
        let content_bytes = match self {
            Detail::Txn(results) => size_of::<generated::TxnBase>() + results.results.len(),
            Detail::ResumeAfter(bytes)
            | Detail::ConflictKey(bytes)
            | Detail::ConflictPrefix(bytes) => bytes.len(),
            Detail::FailedStep(step) => size_of_val(step),
            Detail::ShardRevisions(ShardRevisions(bytes)) => bytes.len(),
        };
        size_of::<generated::DetailBase>() + content_bytes
    }

    fn kind(&self) -> u16 {
        match self {
            Detail::Txn(_) => KIND_TXN,
            Detail::ResumeAfter(_) => KIND_RESUME_AFTER,
            Detail::ConflictKey(_) => KIND_CONFLICT_KEY,
            Detail::ConflictPrefix(_) => KIND_CONFLICT_PREFIX,
            Detail::FailedStep(_) => KIND_FAILED_STEP,
            Detail::ShardRevisions(_) => KIND_SHARD_REVISIONS,
        }
    }
}

impl<'a> TxnResults<'a> {
    /// The results in the order of the operations.
    pub fn iter(&self) -> impl Iterator<Item = TxnResult<'a>> + use<'a> {
        let mut reader = Reader::new(self.results);
        (0..self.count)
            .map(move |_| take_result(&mut reader, 0).expect("results were checked by decode"))
    }

    fn decode(bytes: &'a [u8], depth: usize) -> Result<TxnResults<'a>, DetailError> {
        if depth > TXN_DEPTH_MAX {
            return Err(DetailError::TooDeep);
        }
        let mut reader = Reader::new(bytes);
        let base = generated::TxnBase(reader.take_array()?);
        check_zero(u32::from(base.zero()))?;
        let branch = match base.branch() {
            0 => Branch::Otherwise,
            1 => Branch::Then,
            found => {
                let found = u64::from(found);
                let field = "branch";
                return Err(DetailError::FieldValue { field, found });
            }
        };
        for _ in 0..base.count() {
            take_result(&mut reader, depth)?;
        }
        if reader.position() < bytes.len() {
            return Err(DetailError::Length {
                announced: bytes.len(),
                actual: reader.position(),
            });
        }
        Ok(TxnResults {
            branch,
            count: base.count(),
            results: &bytes[size_of::<generated::TxnBase>()..],
        })
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        let base = generated::TxnBase::new(self.branch as u16, 0, self.count);
        out.extend_from_slice(&base.0);
        out.extend_from_slice(self.results);
    }
}

/// The next result of a transaction that is `depth` deep.
fn take_result<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<TxnResult<'a>, DetailError> {
    let base = generated::ResultBase(reader.take_array()?);
    let content = reader.take(length_usize(base.length()))?;
    let most = u16::from(base.kind() == RESULT_RANGE);
    if base.more() > most {
        return Err(DetailError::FieldValue {
            field: "more",
            found: u64::from(base.more()),
        });
    }
    Ok(match base.kind() {
        RESULT_MUTATION => mutation(content)?,
        RESULT_GET if content.is_empty() => TxnResult::Get(None),
        RESULT_GET => {
            let (row, length) = Row::decode(content).map_err(DetailError::Row)?;
            check_length(content, length)?;
            TxnResult::Get(Some(row))
        }
        RESULT_RANGE => {
            let mut rest = content;
            while !rest.is_empty() {
                let (_, length) = Row::decode(rest).map_err(DetailError::Row)?;
                rest = &rest[length..];
            }
            TxnResult::Range {
                has_more: base.more() == 1,
                rows: RowList(content),
            }
        }
        RESULT_DELETE_RANGE => TxnResult::DeleteRange(u64::from_le_bytes(exactly(content)?)),
        RESULT_TXN => TxnResult::Txn(TxnResults::decode(content, depth + 1)?),
        kind => return Err(DetailError::UnknownKind { kind }),
    })
}

fn mutation(content: &[u8]) -> Result<TxnResult<'_>, DetailError> {
    match Outcome::decode_plain(content) {
        Ok((outcome, length)) if length == content.len() => Ok(TxnResult::Mutation {
            code: outcome.code,
            revision: outcome.revision,
            number: outcome.number,
            previous: outcome.previous,
        }),
        Ok(_)
        | Err(
            OutcomeError::Truncated { .. }
            | OutcomeError::UnknownCode { .. }
            | OutcomeError::UnknownFlags { .. }
            | OutcomeError::PreviousLength { .. }
            | OutcomeError::NumberNotAnnounced { .. }
            | OutcomeError::Previous(_)
            | OutcomeError::Detail(_),
        ) => Err(DetailError::Mutation),
    }
}

fn exactly<const LENGTH: usize>(content: &[u8]) -> Result<[u8; LENGTH], DetailError> {
    content.try_into().map_err(|_| DetailError::Length {
        announced: content.len(),
        actual: LENGTH,
    })
}

fn check_length(content: &[u8], actual: usize) -> Result<(), DetailError> {
    if actual == content.len() {
        return Ok(());
    }
    Err(DetailError::Length {
        announced: content.len(),
        actual,
    })
}

fn check_zero(found: u32) -> Result<(), DetailError> {
    match found {
        0 => Ok(()),
        found => Err(DetailError::FieldValue {
            field: "zero",
            found: u64::from(found),
        }),
    }
}

impl From<Short> for DetailError {
    fn from(short: Short) -> DetailError {
        DetailError::Truncated {
            needed: short.needed,
            available: short.available,
        }
    }
}

/// How the rows of a range within a transaction end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeEnd {
    /// There are no more.
    Complete = 0,
    /// The limit left some out.
    LimitReached = 1,
}

/// Writes the results of a transaction, one operation after the other.
#[derive(Debug, Default)]
pub(crate) struct ResultsWriter {
    bytes: Vec<u8>,
    /// Where each transaction that is not finished began, and how many results it has, the outermost first.
    open: Vec<(usize, u32)>,
}

impl ResultsWriter {
    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a transaction: the outermost, or one within.
    pub(crate) fn begin_txn(&mut self, branch: Branch) {
        if !self.open.is_empty() {
            self.begin_result();
        }
        self.open.push((self.bytes.len(), 0));
        let base = generated::TxnBase::new(branch as u16, 0, 0);
        self.bytes.extend_from_slice(&base.0);
    }

    /// Ends the innermost transaction.
    pub(crate) fn end_txn(&mut self) {
        let Some((start, count)) = self.open.pop() else {
            panic!("a transaction ends that did not begin");
        };
        let at = start + size_of::<u32>();
        self.bytes[at..at + size_of::<u32>()].copy_from_slice(&count.to_le_bytes());
        if !self.open.is_empty() {
            self.end_result(start, RESULT_TXN, 0);
        }
    }

    pub(crate) fn mutation(&mut self, outcome: &Outcome<'_>) {
        assert_eq!(outcome.detail, None, "a mutation has no detail");
        let start = self.begin_result();
        outcome.encode_into(&mut self.bytes);
        self.end_result(start, RESULT_MUTATION, 0);
    }

    pub(crate) fn get(&mut self, row: Option<Row<'_>>) {
        let start = self.begin_result();
        if let Some(row) = row {
            row.encode_into(&mut self.bytes);
        }
        self.end_result(start, RESULT_GET, 0);
    }

    /// Begins the result of a range; its rows follow, then [`ResultsWriter::end_range`].
    pub(crate) fn begin_range(&mut self) -> usize {
        self.begin_result()
    }

    pub(crate) fn row(&mut self, row: &Row<'_>) {
        row.encode_into(&mut self.bytes);
    }

    pub(crate) fn end_range(&mut self, start: usize, end: RangeEnd) {
        self.end_result(start, RESULT_RANGE, end as u16);
    }

    pub(crate) fn delete_range(&mut self, count: u64) {
        let start = self.begin_result();
        self.bytes.extend_from_slice(&count.to_le_bytes());
        self.end_result(start, RESULT_DELETE_RANGE, 0);
    }

    /// Leaves room for a result's base and returns where its content begins.
    fn begin_result(&mut self) -> usize {
        if let Some((_, count)) = self.open.last_mut() {
            *count += 1;
        }
        self.bytes
            .extend_from_slice(&[0; size_of::<generated::ResultBase>()]);
        self.bytes.len()
    }

    fn end_result(&mut self, start: usize, kind: u16, more: u16) {
        let length = length_u32(self.bytes.len() - start);
        let base = generated::ResultBase::new(kind, more, length);
        self.bytes[start - base.0.len()..start].copy_from_slice(&base.0);
    }

    /// The results of the outermost transaction, which has ended.
    pub(crate) fn results(&self) -> TxnResults<'_> {
        assert!(self.open.is_empty(), "a transaction has not ended");
        debug_assert!(TxnResults::decode(&self.bytes, 1).is_ok());
        let (base, results) = self.bytes.split_at(size_of::<generated::TxnBase>());
        let Ok(base) = base.try_into().map(generated::TxnBase) else {
            panic!("the base of a transaction's results has its size");
        };
        TxnResults {
            branch: if base.branch() == Branch::Then as u16 {
                Branch::Then
            } else {
                Branch::Otherwise
            },
            count: base.count(),
            results,
        }
    }
}

#[cfg(test)]
mod tests;
