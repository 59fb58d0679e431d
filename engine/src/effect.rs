//! What the core asks of its driver.

use metastore_wal::format::MarkSlot;
use metastore_wal::{FileNumber, LogBuffer, Ticket};
use thiserror::Error;

use crate::CoreId;
use crate::ids::{ConnectionId, LogReadTicket, RequestId, SnapshotId, SnapshotTicket};
use crate::members::MembersEffect;
use crate::mesh::MeshBatch;
use crate::peer::{PeerCore, PeerLane};
use crate::request::{Reply, RequestKind};

/// Why the process must stop at once.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HaltReason {
    /// A committed entry cannot be applied.
    #[error("replica {replica} cannot apply its committed entry {index}: {cause}")]
    Apply {
        /// The replica.
        replica: u64,
        /// The entry's index.
        index: u64,
        /// What the state machine says.
        cause: String,
    },
    /// A write of the log has not come back for so long that it counts as failed.
    #[error("a write of the log has not come back for {waited_ms} ms")]
    DiskHangs {
        /// How long.
        waited_ms: u64,
    },
    /// A committed entry is of a kind that this version does not know.
    #[error(
        "replica {replica}: committed entry {index} is of a kind that this version does not know"
    )]
    EntryKind {
        /// The replica.
        replica: u64,
        /// The entry's index.
        index: u64,
    },
}

/// Something that the driver must do.
#[derive(Debug)]
pub enum Effect {
    /// Write the buffer's bytes durably; answer with [`Input::LogWritten`](crate::Input::LogWritten). A write that fails, or is
    /// short and cannot be completed, halts the process.
    WriteLog {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The segment's file.
        file: FileNumber,
        /// Offset in the file, aligned.
        offset: u64,
        /// What to write; comes back with the completion.
        buffer: LogBuffer,
    },
    /// Write a mark block durably; answer with [`Input::MarkWritten`](crate::Input::MarkWritten).
    WriteMark {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Which of the two blocks.
        slot: MarkSlot,
        /// What to write; comes back with the completion.
        buffer: LogBuffer,
    },
    /// Read a part of a segment file that a record was written to, in the background, so that the log does not wait;
    /// answer with [`Input::LogRead`](crate::Input::LogRead), also when it failed. The file may hold another segment by
    /// then.
    ReadLog {
        /// Comes back with the completion.
        ticket: LogReadTicket,
        /// The segment's file.
        file: FileNumber,
        /// Offset in the file, aligned.
        offset: u64,
        /// How many bytes, aligned; they lie within the file.
        bytes: usize,
    },
    /// Create a segment file, fill it with zeros and sync it, in the background; answer with
    /// [`Input::SegmentPrepared`](crate::Input::SegmentPrepared). Where there is no space, try again later.
    PrepareSegment {
        /// The file.
        file: FileNumber,
        /// Its size.
        bytes: u64,
    },
    /// Remove a segment file; answer with [`Input::SegmentRemoved`](crate::Input::SegmentRemoved).
    RemoveSegment {
        /// The file.
        file: FileNumber,
    },
    /// Write bytes into the file of a snapshot that is being made, under a name of its own until it is finished; at
    /// offset 0 the file begins anew. In the background, so that the log does not wait; in order with the other
    /// effects of the same snapshot. Answer with [`Input::SnapshotDone`](crate::Input::SnapshotDone), also when it failed.
    WriteSnapshot {
        /// Comes back with the completion.
        ticket: SnapshotTicket,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Offset in the file, whole blocks of [`SNAPSHOT_WRITE_ALIGN_BYTES`](crate::SNAPSHOT_WRITE_ALIGN_BYTES).
        offset: u64,
        /// What to write: whole blocks, the end of the file excepted.
        bytes: Vec<u8>,
    },
    /// Everything of a snapshot is written: make its content durable, give it its name, make the name durable, in this
    /// order. Answer with [`Input::SnapshotDone`](crate::Input::SnapshotDone), also when it failed.
    FinishSnapshot {
        /// Comes back with the completion.
        ticket: SnapshotTicket,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Length of the file.
        bytes: u64,
    },
    /// Read a part of the file of a finished snapshot, in the background; answer with
    /// [`Input::SnapshotRead`](crate::Input::SnapshotRead), also when it failed or the file is not there.
    ReadSnapshot {
        /// Comes back with the completion.
        ticket: SnapshotTicket,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Offset in the file, whole blocks.
        offset: u64,
        /// How many bytes; where the file has fewer, the read has failed.
        bytes: usize,
    },
    /// Remove the file of a snapshot, finished or not; it need not be there. Answer with
    /// [`Input::SnapshotDone`](crate::Input::SnapshotDone), also when it failed: what is left is removed at the next start.
    RemoveSnapshot {
        /// Comes back with the completion.
        ticket: SnapshotTicket,
        /// Which snapshot.
        snapshot: SnapshotId,
    },
    /// Answer a request. Spans lie in [`Effects::arena`].
    Reply {
        /// Whose.
        connection: ConnectionId,
        /// Which request of it.
        request: RequestId,
        /// Which kind of request.
        kind: RequestKind,
        /// The answer.
        reply: Reply,
    },
    /// Hand messages to another core of this node; they arrive there as [`Input::Mesh`](crate::Input::Mesh).
    Forward {
        /// The core.
        core: CoreId,
        /// The messages.
        batch: MeshBatch,
    },
    /// Carry messages of replicas to a core of another node; they arrive there as
    /// [`Input::PeerMessages`](crate::Input::PeerMessages). Whatever they promise is durable. Batches of a lane are
    /// carried in their order and may be lost or repeated; where a link holds too many bytes it drops them. Where a
    /// connection has ended it says [`Input::PeerUnreachable`](crate::Input::PeerUnreachable).
    Send {
        /// The core.
        to: PeerCore,
        /// Over which of the connections.
        lane: PeerLane,
        /// A [`BatchHeader`](crate::BatchHeader) and its messages.
        batch: Vec<u8>,
    },
    /// What became of members of a shard, or of a replica of this core.
    Members(MembersEffect),
    /// Stop the process now, without cleaning up.
    Halt(HaltReason),
}

/// The effects of a turn, in the order in which they must be carried out, and the bytes they refer to.
#[derive(Debug, Default)]
pub struct Effects {
    /// What to do.
    pub queue: Vec<Effect>,
    /// The bytes of replies.
    pub arena: Vec<u8>,
}

/// Bytes of answers beyond which a turn answers no more; the next turn goes on.
const ARENA_BYTES_FULL: usize = 16 << 20;
/// Memory that an arena keeps from turn to turn.
const ARENA_BYTES_KEPT: usize = 1 << 20;

impl Effects {
    /// Forgets everything and keeps the memory, unless it grew far beyond what turns usually need.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.arena.clear();
        self.arena.shrink_to(ARENA_BYTES_KEPT);
    }

    /// Whether the turn has answered so much that the rest must wait for the next.
    pub(crate) fn is_full(&self) -> bool {
        self.arena.len() >= ARENA_BYTES_FULL
    }
}
