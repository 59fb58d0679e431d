//! What the cores of a node tell each other, in one batch for each pair and turn.

use metastore_statemachine::{Direction, NamespaceId, Projection, RangeQuery, Revision, Scope};
use metastore_wal::{CoreId, ShardId};

use crate::ids::{ConnectionId, RequestId, Time};
use crate::request::{ReadShape, Reply, RequestError, RequestKind};
use crate::span::Span;

/// What one core tells another in one turn.
#[derive(Debug, Default)]
pub struct MeshBatch {
    pub(crate) messages: Vec<MeshMessage>,
    pub(crate) arena: Vec<u8>,
}

impl MeshBatch {
    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// What it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.messages.len() * size_of::<MeshMessage>()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// One message between cores. Spans lie in the arena of its [`MeshBatch`].
#[derive(Debug)]
pub(crate) enum MeshMessage {
    /// A checked command for a shard of the receiver.
    Command {
        /// Who gets the answer.
        reply_to: ReplyTo,
        /// Until when.
        deadline: Time,
        /// The shard.
        shard: ShardId,
        /// The command.
        command: Span,
    },
    /// A read of a shard of the receiver.
    Read {
        /// Who gets the answer.
        reply_to: ReplyTo,
        /// Until when.
        deadline: Time,
        /// The shard.
        shard: ShardId,
        /// What to read.
        read: ReadOp,
        /// The keys, each with its length.
        keys: Span,
    },
    /// Opens the receiver's part of a range.
    RangeOpen {
        /// Which part.
        part: RangePartKey,
        /// Until when the first chunk is of use.
        deadline: Time,
        /// What to read.
        plan: Box<RangePlan>,
    },
    /// Asks for the next chunk of a part.
    RangeNext {
        /// Which part.
        part: RangePartKey,
    },
    /// Ends a part.
    RangeClose {
        /// Which part.
        part: RangePartKey,
    },
    /// The answer to a command or a read.
    Answer {
        /// What was asked.
        token: Token,
        /// The answer.
        reply: Reply,
    },
    /// A chunk of a part of a range.
    PartChunk {
        /// Which part.
        part: RangePartKey,
        /// How it ends.
        chunk: PartChunk,
    },
}

/// The fixed part of a read; its keys are beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadOp {
    pub(crate) shape: ReadShape,
    pub(crate) namespace: NamespaceId,
    pub(crate) at: Option<Revision>,
    pub(crate) count: u32,
}

/// A chunk of one shard's part of a range.
#[derive(Debug)]
pub(crate) struct PartChunk {
    pub(crate) rows: Vec<u8>,
    /// Rows that were counted and are not in `rows`.
    pub(crate) counted: u64,
    pub(crate) revision: Revision,
    pub(crate) end: PartEnd,
}

/// How a chunk of a part ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartEnd {
    /// More may follow.
    More,
    /// The part has no more rows.
    Last,
    /// The part cannot go on.
    Failed(RequestError),
}

/// What is waiting for an answer, on the core where the request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A request of a connection.
    Request {
        /// The connection.
        connection: ConnectionId,
        /// The request.
        request: RequestId,
        /// Which kind of request.
        kind: RequestKind,
    },
    /// One command of a batch whose answers are being gathered.
    BatchItem {
        /// The batch.
        gather: u64,
        /// Position in the batch.
        item: u32,
        /// The connection that sent it, so that the shard's core knows who asks.
        connection: ConnectionId,
    },
    /// A slice of a range that is being deleted.
    Sweep {
        /// Which of those that this core drives.
        sweep: u64,
        /// Which of its shards, by position.
        part: usize,
    },
    /// Nobody any more: it was answered already, with an error.
    Nobody,
}

/// Where an answer goes. It travels with the request, so no core keeps a table of what it sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    /// The core where the request arrived.
    pub(crate) core: CoreId,
    /// What waits there.
    pub(crate) token: Token,
}

impl ReplyTo {
    /// Whose command it is; `None` when nobody waits any more.
    pub(crate) fn origin(&self) -> Option<(CoreId, ConnectionId)> {
        match self.token {
            Token::Request { connection, .. } | Token::BatchItem { connection, .. } => {
                Some((self.core, connection))
            }
            Token::Sweep { .. } | Token::Nobody => None,
        }
    }
}

/// One shard's part of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RangePartKey {
    /// The core that merges.
    pub(crate) home: CoreId,
    /// The range there.
    pub(crate) merge: u64,
    /// The shard that reads.
    pub(crate) shard: ShardId,
}

/// What is to become of the rows that a part reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartOutput {
    /// They are sent.
    Rows,
    /// They are counted.
    Count,
    /// Keys are counted; common prefixes are sent, because several shards may have the same.
    CountAndPrefixes,
}

/// What a part reads; it outlives the request's buffer.
#[derive(Debug, Clone)]
pub(crate) struct RangePlan {
    pub(crate) namespace: NamespaceId,
    prefix: Vec<u8>,
    start: Vec<u8>,
    end: Vec<u8>,
    scope: Scope,
    pub(crate) delimiter: Option<u8>,
    pub(crate) direction: Direction,
    projection: Projection,
    pub(crate) at: Option<Revision>,
    pub(crate) limit: u64,
    pub(crate) chunk_bytes: usize,
    pub(crate) output: PartOutput,
}

/// Bytes of rows in a chunk: what a client may ask for.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Bytes of common prefixes that a shard sends at once to whoever counts.
const CHUNK_BYTES_OF_COUNT: usize = 64 << 10;

impl RangePlan {
    pub(crate) fn new(query: &RangeQuery<'_>, chunk_bytes: usize) -> RangePlan {
        RangePlan {
            namespace: query.namespace,
            prefix: query.prefix.to_vec(),
            start: query.start.to_vec(),
            end: query.end.to_vec(),
            scope: query.scope,
            delimiter: query.delimiter,
            direction: query.direction,
            projection: query.projection,
            at: query.at,
            limit: query.limit,
            chunk_bytes: chunk_bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
            output: PartOutput::Rows,
        }
    }

    /// A plan that counts, over as many shards.
    pub(crate) fn of_count(query: &RangeQuery<'_>, shards: usize) -> RangePlan {
        let output = match query.delimiter {
            Some(_) if shards > 1 => PartOutput::CountAndPrefixes,
            Some(_) | None => PartOutput::Count,
        };
        RangePlan {
            direction: Direction::Forward,
            projection: Projection::KeysOnly,
            limit: 0,
            output,
            ..RangePlan::new(query, CHUNK_BYTES_OF_COUNT)
        }
    }

    pub(crate) fn query(&self) -> RangeQuery<'_> {
        RangeQuery {
            namespace: self.namespace,
            prefix: &self.prefix,
            start: &self.start,
            end: &self.end,
            scope: self.scope,
            delimiter: self.delimiter,
            direction: self.direction,
            projection: self.projection,
            at: self.at,
            limit: self.limit,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.prefix.len() + self.start.len() + self.end.len()
    }
}
