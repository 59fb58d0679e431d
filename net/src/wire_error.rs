//! The error of a request: a code with data, and whether the operation may have happened.

use crate::body_error::BodyError;
use crate::generated::messages;
use crate::table::{TableBudget, append_root, read_root};
use flatbuffers::FlatBufferBuilder;
use metastore_statemachine::Revision;

/// What went wrong. Numbers are those of the schema's `ErrorCode` and are never given to another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not what its kind demands.
    BadRequest,
    /// This server does not know the kind, the command or the version.
    Unsupported,
    /// The first request of a connection must be `hello`.
    HelloRequired,
    /// The client expects another cluster.
    WrongCluster,
    /// Another replica leads the shard; `hint` may name its address.
    NotLeader,
    /// The client's shard map is older than `epoch`.
    StaleMap,
    /// The shard cannot be reached at present.
    Unavailable,
    /// Too much is waiting; try again after `retry_after_ms`.
    Overloaded,
    /// Something is `actual` where at most `limit` is allowed.
    TooLarge,
    /// The namespace is full: `limit`, with `actual` used.
    QuotaExceeded,
    /// `keys` do not belong to one shard.
    CrossShard,
    /// A key read by a transaction has changed, `keys` and `revision` say which and when.
    Conflict,
    /// A transaction holds `keys`; try again after `retry_after_ms`.
    LockedBy,
    /// The revision asked for is no longer kept; `revision` is the oldest one that is.
    Compacted,
    /// The revision asked for is not there yet; `revision` is the current one.
    FutureRevision,
    /// The session is unknown.
    SessionExpired,
    /// The sequence number is below the window of remembered replies.
    SequenceTooOld,
    /// The shard has begun a new epoch since the token was given out.
    NewEpoch,
    /// The time ran out; `happened` says what is known.
    Deadline,
    /// The store takes no mutations at present.
    ReadOnly,
    /// The client cancelled it.
    Cancelled,
    /// The server is going down.
    ShuttingDown,
    /// A defect of the server.
    Internal,
    /// The bytes are not a frame; the connection ends.
    BadFrame,
    /// No such namespace.
    NamespaceUnknown,
    /// The position of a range was given up because it was held too long.
    PinLost,
    /// A code of a newer server.
    Other(u16),
}

/// Numbers and codes, one pair a line, so that both directions read the same table.
const CODES: [(u16, ErrorCode); 26] = [
    (1, ErrorCode::BadRequest),
    (2, ErrorCode::Unsupported),
    (3, ErrorCode::HelloRequired),
    (4, ErrorCode::WrongCluster),
    (5, ErrorCode::NotLeader),
    (6, ErrorCode::StaleMap),
    (7, ErrorCode::Unavailable),
    (8, ErrorCode::Overloaded),
    (9, ErrorCode::TooLarge),
    (10, ErrorCode::QuotaExceeded),
    (11, ErrorCode::CrossShard),
    (12, ErrorCode::Conflict),
    (13, ErrorCode::LockedBy),
    (14, ErrorCode::Compacted),
    (15, ErrorCode::FutureRevision),
    (16, ErrorCode::SessionExpired),
    (17, ErrorCode::SequenceTooOld),
    (18, ErrorCode::NewEpoch),
    (19, ErrorCode::Deadline),
    (20, ErrorCode::ReadOnly),
    (21, ErrorCode::Cancelled),
    (22, ErrorCode::ShuttingDown),
    (23, ErrorCode::Internal),
    (24, ErrorCode::BadFrame),
    (25, ErrorCode::NamespaceUnknown),
    (26, ErrorCode::PinLost),
];

impl ErrorCode {
    /// The number on the wire.
    pub fn as_u16(self) -> u16 {
        if let ErrorCode::Other(number) = self {
            return number;
        }
        let pair = CODES.iter().find(|(_, code)| *code == self);
        pair.map(|(number, _)| *number)
            .expect("every code but Other stands in the table")
    }

    /// The code of this number; [`ErrorCode::Other`] when this version does not know it.
    pub fn from_u16(number: u16) -> ErrorCode {
        let pair = CODES.iter().find(|(known, _)| *known == number);
        pair.map_or(ErrorCode::Other(number), |(_, code)| *code)
    }
}

/// Whether the operation took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happened {
    /// It certainly did not and will not.
    NotDone,
    /// It may have, or may yet.
    Unknown,
}

/// The answer to a request that failed. Fields that say nothing for a code are zero or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// What went wrong.
    pub code: ErrorCode,
    /// Whether the operation took effect.
    pub happened: Happened,
    /// For people; empty when the code says it all.
    pub message: String,
    /// The limit that was passed.
    pub limit: u64,
    /// What was found where the limit holds.
    pub actual: u64,
    /// When a new attempt makes sense, 0 when nothing is known.
    pub retry_after_ms: u32,
    /// A revision, its meaning given by the code.
    pub revision: Revision,
    /// The epoch of the server's shard map.
    pub epoch: u64,
    /// Address `host:port` of a better place to ask.
    pub hint: String,
    /// The keys concerned.
    pub keys: Vec<Vec<u8>>,
}

impl WireError {
    /// An error without data, of an operation that did not happen.
    pub fn new(code: ErrorCode) -> WireError {
        WireError {
            code,
            happened: Happened::NotDone,
            message: String::new(),
            limit: 0,
            actual: 0,
            retry_after_ms: 0,
            revision: Revision(0),
            epoch: 0,
            hint: String::new(),
            keys: Vec::new(),
        }
    }

    /// Says that something is larger than allowed.
    pub fn too_large(limit: usize, actual: usize) -> WireError {
        WireError {
            limit: limit as u64,
            actual: actual as u64,
            ..WireError::new(ErrorCode::TooLarge)
        }
    }

    /// Adds words for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> WireError {
        self.message = message.into();
        self
    }

    /// Says that the operation may have happened.
    #[must_use]
    pub fn outcome_unknown(mut self) -> WireError {
        self.happened = Happened::Unknown;
        self
    }

    /// Appends the error's table to `out`.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        append_root(out, |builder| self.build(builder));
    }

    fn build<'b>(
        &self,
        builder: &mut FlatBufferBuilder<'b>,
    ) -> flatbuffers::WIPOffset<messages::Error<'b>> {
        let message = non_empty(&self.message).map(|text| builder.create_string(text));
        let hint = non_empty(&self.hint).map(|text| builder.create_string(text));
        let keys: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                let bytes = Some(builder.create_vector(key));
                messages::Key::create(builder, &messages::KeyArgs { bytes })
            })
            .collect();
        let keys = (!keys.is_empty()).then(|| builder.create_vector(&keys));
        let happened = match self.happened {
            Happened::NotDone => messages::Happened::NotDone,
            Happened::Unknown => messages::Happened::Unknown,
        };
        messages::Error::create(
            builder,
            &messages::ErrorArgs {
                code: messages::ErrorCode(self.code.as_u16()),
                happened,
                message,
                limit: self.limit,
                actual: self.actual,
                retry_after_ms: self.retry_after_ms,
                revision: self.revision.0,
                epoch: self.epoch,
                hint,
                keys,
            },
        )
    }

    /// Reads an error's table.
    pub(crate) fn decode(body: &[u8]) -> Result<WireError, BodyError> {
        let table = read_root::<messages::Error<'_>>(body, TableBudget::Lists)?;
        let keys = table.keys().map_or(Vec::new(), |keys| {
            keys.iter()
                .map(|key| key.bytes().bytes().to_vec())
                .collect()
        });
        Ok(WireError {
            code: ErrorCode::from_u16(table.code().0),
            // A value this version does not know promises nothing.
            happened: if table.happened() == messages::Happened::NotDone {
                Happened::NotDone
            } else {
                Happened::Unknown
            },
            message: table.message().unwrap_or_default().to_owned(),
            limit: table.limit(),
            actual: table.actual(),
            retry_after_ms: table.retry_after_ms(),
            revision: Revision(table.revision()),
            epoch: table.epoch(),
            hint: table.hint().unwrap_or_default().to_owned(),
            keys,
        })
    }
}

impl std::error::Error for WireError {}

impl std::fmt::Display for WireError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            ErrorCode::Other(number) => write!(formatter, "error {number}")?,
            ErrorCode::BadRequest => formatter.write_str("bad request")?,
            ErrorCode::Unsupported => formatter.write_str("not supported")?,
            ErrorCode::HelloRequired => formatter.write_str("the first request must be hello")?,
            ErrorCode::WrongCluster => formatter.write_str("this is another cluster")?,
            ErrorCode::NotLeader => formatter.write_str("not the leader of the shard")?,
            ErrorCode::StaleMap => write!(
                formatter,
                "the shard map is older than epoch {}",
                self.epoch
            )?,
            ErrorCode::Unavailable => formatter.write_str("the shard is unavailable")?,
            ErrorCode::Overloaded => formatter.write_str("overloaded")?,
            ErrorCode::TooLarge => {
                write!(
                    formatter,
                    "too large: {} where {} is allowed",
                    self.actual, self.limit
                )?;
            }
            ErrorCode::QuotaExceeded => {
                write!(
                    formatter,
                    "quota exceeded: {} used of {}",
                    self.actual, self.limit
                )?;
            }
            ErrorCode::CrossShard => formatter.write_str("the keys belong to several shards")?,
            ErrorCode::Conflict => formatter.write_str("conflict")?,
            ErrorCode::LockedBy => formatter.write_str("locked by a transaction")?,
            ErrorCode::Compacted => {
                write!(
                    formatter,
                    "compacted: the oldest revision is {}",
                    self.revision
                )?;
            }
            ErrorCode::FutureRevision => {
                write!(
                    formatter,
                    "a future revision: the current one is {}",
                    self.revision
                )?;
            }
            ErrorCode::SessionExpired => formatter.write_str("the session is unknown")?,
            ErrorCode::SequenceTooOld => formatter.write_str("the sequence number is too old")?,
            ErrorCode::NewEpoch => formatter.write_str("the shard has begun a new epoch")?,
            ErrorCode::Deadline => formatter.write_str("the deadline has passed")?,
            ErrorCode::ReadOnly => formatter.write_str("the store is read-only")?,
            ErrorCode::Cancelled => formatter.write_str("cancelled")?,
            ErrorCode::ShuttingDown => formatter.write_str("the server is shutting down")?,
            ErrorCode::Internal => formatter.write_str("internal error")?,
            ErrorCode::BadFrame => formatter.write_str("bad frame")?,
            ErrorCode::NamespaceUnknown => formatter.write_str("unknown namespace")?,
            ErrorCode::PinLost => formatter.write_str("the range was held too long")?,
        }
        if !self.message.is_empty() {
            write!(formatter, ": {}", self.message)?;
        }
        if self.happened == Happened::Unknown {
            formatter.write_str(" (it may have happened)")?;
        }
        if !self.hint.is_empty() {
            write!(formatter, " (ask {})", self.hint)?;
        }
        if self.retry_after_ms > 0 {
            write!(formatter, " (try again in {} ms)", self.retry_after_ms)?;
        }
        for key in &self.keys {
            write!(formatter, " [{}]", key.escape_ascii())?;
        }
        Ok(())
    }
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
