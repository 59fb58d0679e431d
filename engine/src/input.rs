//! What happens to the core, and the messages between the cores of a node.

use metastore_statemachine::{NamespaceId, Revision};
use metastore_wal::{FileNumber, LogBuffer, ShardId, Ticket};

use crate::CoreId;
use crate::core::{RangePartKey, RangePlan, ReplyTo, Token};
use crate::effect::Span;
use crate::ids::{ConnectionId, RequestId, Time};
use crate::request::{ReadShape, Reply, Request};

/// One thing that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time passed; given when [`Core::next_deadline`](crate::Core::next_deadline) is reached.
    Tick,
    /// A client asks for something.
    Request {
        /// Its connection.
        connection: ConnectionId,
        /// The request's number.
        request: RequestId,
        /// Milliseconds that the client still waits, zero for the default.
        deadline_ms: u32,
        /// What it asks for.
        body: Request<'a>,
    },
    /// A client is gone: nothing more is sent to it.
    ConnectionClosed {
        /// Its connection.
        connection: ConnectionId,
    },
    /// Everything that was sent to a client has left: its ranges may go on.
    ConnectionDrained {
        /// Its connection.
        connection: ConnectionId,
    },
    /// Messages of another core of this node.
    Mesh {
        /// That core.
        from: CoreId,
        /// What it says.
        batch: &'a mut MeshBatch,
    },
    /// A write of the log is durable.
    LogWritten {
        /// Of [`Effect::WriteLog`](crate::Effect::WriteLog).
        ticket: Ticket,
        /// The buffer, to be used again.
        buffer: LogBuffer,
    },
    /// A mark block is durable.
    MarkWritten {
        /// Of [`Effect::WriteMark`](crate::Effect::WriteMark).
        ticket: Ticket,
        /// The buffer, to be used again.
        buffer: LogBuffer,
    },
    /// A segment file is filled with zeros and durable.
    SegmentPrepared {
        /// The file.
        file: FileNumber,
    },
    /// A segment file is gone.
    SegmentRemoved {
        /// The file.
        file: FileNumber,
    },
    /// The process is to stop: what has been accepted is finished, nothing new is taken.
    Drain,
}

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
    Failed(crate::RequestError),
}
