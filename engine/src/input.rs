//! What happens to the core.

use metastore_wal::{FileNumber, LogBuffer, ReplicaId, ShardId, Ticket};

use crate::CoreId;
use crate::core::DiskSpace;
use crate::ids::{ConnectionId, LogReadTicket, RequestId, SnapshotTicket};
use crate::members::MembersInput;
use crate::memory::MemoryRoom;
use crate::mesh::MeshBatch;
use crate::peer::PeerCore;
use crate::request::Request;

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
    /// Messages of replicas on another node. Bytes that make no sense, or are not for this core, are dropped and
    /// counted.
    PeerMessages {
        /// The core that the connection belongs to, as its handshake proved.
        from: PeerCore,
        /// The batch of an [`Effect::Send`](crate::Effect::Send) there.
        batch: &'a [u8],
    },
    /// Messages to a core of another node were lost, or may have been: its connection ended.
    PeerUnreachable {
        /// The core.
        peer: PeerCore,
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
    /// A part of the log was read, or could not be.
    LogRead {
        /// Of [`Effect::ReadLog`](crate::Effect::ReadLog).
        ticket: LogReadTicket,
        /// The bytes, as many as were asked for.
        result: Result<&'a [u8], LogReadFailed>,
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
    /// What the node's memory leaves to this core, of [`MemoryShare::settle`](crate::MemoryShare::settle). A driver
    /// without a budget never says so, and then there is room for everything.
    Memory(MemoryRoom),
    /// How the disk stands has changed.
    DiskSpace(DiskSpace),
    /// Something that was asked for the file of a snapshot is done, or has failed for good. A failure costs the snapshot
    /// and nothing else.
    SnapshotDone {
        /// Of the effect.
        ticket: SnapshotTicket,
        /// Whether it was done.
        result: Result<(), SnapshotFailed>,
        /// The memory of [`Effect::WriteSnapshot`](crate::Effect::WriteSnapshot), to be used again; else empty.
        buffer: Vec<u8>,
    },
    /// A part of a snapshot's file was read, or could not be.
    SnapshotRead {
        /// Of [`Effect::ReadSnapshot`](crate::Effect::ReadSnapshot).
        ticket: SnapshotTicket,
        /// The bytes, as many as were asked for.
        result: Result<&'a [u8], SnapshotFailed>,
    },
    /// A shard that is led here is to be led by another voter. Nothing happens where that one is not close behind; nobody
    /// else is chosen instead.
    HandOver {
        /// The shard.
        shard: ShardId,
        /// Who shall lead it; `None` for whoever is best for it.
        to: Option<ReplicaId>,
    },
    /// Members of a shard are to change, or a replica is to live here or to go.
    Members(MembersInput),
    /// The process is to stop: what has been accepted is finished, nothing new is taken, and others lead its shards
    /// where they can.
    Drain,
}

/// A part of the log could not be read. Who carries the effect out tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogReadFailed;

/// The file of a snapshot could not be written. Who carries the effect out tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotFailed;
