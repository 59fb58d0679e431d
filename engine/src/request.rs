//! What clients ask of the core, and what it answers.

use metastore_statemachine::{Command, GetQuery, NamespaceId, RangeQuery, Revision, ShardList};
use metastore_wal::ShardId;
use thiserror::Error;

use crate::ids::RequestId;
use crate::peer::PeerCore;
use crate::span::Span;
use crate::status::CoreStatus;

/// A request of a client, already checked against the protocol; it borrows the receive buffer.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// One mutation: the command and the bytes it was decoded from.
    Command {
        /// The decoded command.
        command: Command<'a>,
        /// The same command as it stands in the log.
        bytes: &'a [u8],
    },
    /// Independent commands, back to back; each gets an answer of its own.
    Batch {
        /// How many.
        count: u32,
        /// Their bytes, checked.
        commands: &'a [u8],
    },
    /// One key.
    Get(GetQuery<'a>),
    /// Several keys of one shard, at one revision.
    GetMany {
        /// Their namespace.
        namespace: NamespaceId,
        /// The revision to read at, the newest when `None`.
        at: Option<Revision>,
        /// How many keys.
        count: u32,
        /// The keys, each as a length (u32, little-endian) and its bytes; checked.
        keys: &'a [u8],
    },
    /// Keys in order, streamed in chunks of about `chunk_bytes`.
    Range {
        /// What to read.
        query: RangeQuery<'a>,
        /// Of which shards.
        shards: ShardList<'a>,
        /// Bytes of rows in one chunk; the core bounds it.
        chunk_bytes: usize,
    },
    /// How many rows a range has. Its limit, direction and projection say nothing here.
    Count {
        /// What to count.
        query: RangeQuery<'a>,
        /// In which shards.
        shards: ShardList<'a>,
    },
    /// Ends the range or count that this connection opened with that request, unless it is complete already.
    Cancel(RequestId),
    /// What this core reports about itself.
    Status,
}

/// Which kind of request an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// [`Request::Command`].
    Command,
    /// [`Request::Batch`].
    Batch,
    /// [`Request::Get`].
    Get,
    /// [`Request::GetMany`].
    GetMany,
    /// [`Request::Range`].
    Range,
    /// [`Request::Count`].
    Count,
    /// [`Request::Cancel`].
    Cancel,
    /// [`Request::Status`].
    Status,
}

impl Request<'_> {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        match self {
            Request::Command { .. } => RequestKind::Command,
            Request::Batch { .. } => RequestKind::Batch,
            Request::Get(_) => RequestKind::Get,
            Request::GetMany { .. } => RequestKind::GetMany,
            Request::Range { .. } => RequestKind::Range,
            Request::Count { .. } => RequestKind::Count,
            Request::Cancel(_) => RequestKind::Cancel,
            Request::Status => RequestKind::Status,
        }
    }
}

/// Whether a mutation that was answered with an error may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It certainly was not and will not be.
    NotDone,
    /// It may have been, or may still be.
    Unknown,
}

/// Why a request was not answered with a result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// There is no such namespace.
    #[error("there is no namespace {0}")]
    UnknownNamespace(NamespaceId),
    /// This core's replica of the shard does not lead it.
    #[error("this node does not lead shard {shard}")]
    NotLeader {
        /// The shard.
        shard: ShardId,
        /// Where the replica lives that leads, as far as ours knows.
        leader: Option<PeerCore>,
    },
    /// The shard cannot answer now.
    #[error("shard {shard} cannot answer now")]
    Unavailable {
        /// The shard.
        shard: ShardId,
        /// Whether the request may have been carried out.
        happened: Happened,
    },
    /// A limit on waiting work is reached.
    #[error("too much work is waiting; try again in {retry_after_ms} ms")]
    Overloaded {
        /// When to try again.
        retry_after_ms: u32,
    },
    /// The request is larger than a limit.
    #[error("{actual} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The size in bytes.
        actual: u64,
    },
    /// The answer is larger than a limit.
    #[error("an answer of {actual} bytes is more than the limit of {limit}")]
    AnswerTooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The size in bytes, as far as it was put together.
        actual: u64,
        /// Whether the request was carried out.
        happened: Happened,
    },
    /// The keys of one request are in several shards.
    #[error("the keys are in several shards")]
    CrossShard {
        /// Some of those that are in another shard than the first, or the request's own key; ranges by their prefix.
        keys: Vec<Vec<u8>>,
    },
    /// The revision is older than the history that is kept.
    #[error("revisions below {oldest} are gone")]
    Compacted {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The revision has not happened yet.
    #[error("the newest revision is {current}")]
    FutureRevision {
        /// The newest revision.
        current: Revision,
    },
    /// A range took so long that the history it was reading from is gone.
    #[error("the range took too long: the state it was reading is gone")]
    RangeExpired,
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline {
        /// Whether the request may have been carried out.
        happened: Happened,
    },
    /// The keys of a range were deleted in part. Asking again goes on.
    #[error("{deleted} keys are deleted, and there may be more: {cause}")]
    DeletedInPart {
        /// How many, as far as is known.
        deleted: u64,
        /// Why it ended.
        cause: Box<RequestError>,
    },
    /// The log has used up its budget: reads go on, writes do not.
    #[error("the log has used {used_bytes} of its budget of {budget_bytes} bytes: no more writes")]
    LogBudget {
        /// `wal.budget` in bytes.
        budget_bytes: u64,
        /// Bytes of all segments.
        used_bytes: u64,
    },
    /// Keys and values take all the memory they may: what makes them larger is refused, deletes are not.
    #[error("keys and values take {used_bytes} of at most {limit_bytes} bytes of memory")]
    QuotaExceeded {
        /// What they may take.
        limit_bytes: u64,
        /// What they take.
        used_bytes: u64,
    },
    /// The disk is nearly full: reads go on, and of writes only what gives space back.
    #[error(
        "{free_bytes} bytes of disk are free, less than {low_bytes}: only deletes and compaction"
    )]
    DiskLow {
        /// What is free, in bytes.
        free_bytes: u64,
        /// `disk.low` in bytes.
        low_bytes: u64,
    },
    /// The client ended the range.
    #[error("the client ended the range")]
    Cancelled,
    /// The process is stopping.
    #[error("the server is stopping")]
    ShuttingDown,
}

/// Bytes of the answer to one request: with its frame it stays below 4 MiB. Chunks of ranges have limits of their own.
pub(crate) const ANSWER_BYTES_MAX: usize = (4 << 20) - (64 << 10);

/// What clients are told to wait when a limit on waiting work is reached.
pub(crate) const OVERLOADED_RETRY_MS: u32 = 20;

impl RequestError {
    /// An answer of `actual` bytes cannot be given.
    pub(crate) fn answer_too_large(actual: usize, happened: Happened) -> RequestError {
        RequestError::AnswerTooLarge {
            limit: ANSWER_BYTES_MAX as u64,
            actual: actual as u64,
            happened,
        }
    }

    /// Whether the request may have been carried out.
    #[must_use]
    pub fn happened(&self) -> Happened {
        match self {
            RequestError::Unavailable { happened, .. }
            | RequestError::AnswerTooLarge { happened, .. }
            | RequestError::Deadline { happened } => *happened,
            RequestError::DeletedInPart { .. } => Happened::Unknown,
            RequestError::UnknownNamespace(_)
            | RequestError::NotLeader { .. }
            | RequestError::Overloaded { .. }
            | RequestError::TooLarge { .. }
            | RequestError::CrossShard { .. }
            | RequestError::Compacted { .. }
            | RequestError::FutureRevision { .. }
            | RequestError::RangeExpired
            | RequestError::LogBudget { .. }
            | RequestError::QuotaExceeded { .. }
            | RequestError::DiskLow { .. }
            | RequestError::Cancelled
            | RequestError::ShuttingDown => Happened::NotDone,
        }
    }
}

/// Whether a read asked for one key or for several, because their answers are laid out differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadShape {
    /// [`Request::Get`].
    One,
    /// [`Request::GetMany`].
    Many,
}

/// The answer to one command of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchItem {
    /// An encoded outcome.
    Outcome(Span),
    /// It was not carried out, or that is unknown.
    Error(RequestError),
}

/// An answer. Its spans lie in the byte arena of the [`Effects`](crate::Effects) that carry it.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An encoded outcome of one command.
    Outcome(Span),
    /// The answers to a batch, in its order.
    Batch(Vec<BatchItem>),
    /// The answer to a read.
    Rows {
        /// What was asked.
        shape: ReadShape,
        /// The shard that answered.
        shard: ShardId,
        /// The revision that was read.
        revision: Revision,
        /// One byte a key, 1 where it exists.
        found: Span,
        /// The encoded rows of those that exist, in the order of the keys.
        rows: Span,
    },
    /// A part of a range.
    Chunk {
        /// How many rows.
        count: u32,
        /// The encoded rows.
        rows: Span,
        /// What follows.
        end: ChunkEnd,
    },
    /// How many rows a range has.
    Count {
        /// Keys, and common prefixes where a delimiter was named.
        count: u64,
        /// For each shard, the revision at which it was counted.
        revisions: Vec<(ShardId, Revision)>,
    },
    /// The range, if there still was one, is over.
    Cancelled,
    /// What the core reports about itself.
    Status(Box<CoreStatus>),
    /// No result.
    Error(RequestError),
}

/// Whether more chunks of a range follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkEnd {
    /// They do.
    More,
    /// This is the last one. For each shard, the revision that the range was read at.
    Last(Vec<(ShardId, Revision)>),
}
