//! What happens to a node, what it works with, and what it lets others see.

use metastore_engine::{
    ConnectionId, CoreId, HaltReason, MembersEffect, MeshBatch, PeerCore, PeerLane, ReplicaId,
    Reply, RequestId, RequestKind,
};
use metastore_wal::FileNumber;

use super::background_reads::{LogRead, SnapshotRead};
use super::log_io::IoId;
use crate::disk::{Disk, DiskError, FileName, IoTicket};
use crate::random::Random;
use crate::trace::Trace;

/// Something that happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The disk has done a part of a log write.
    Io(IoId, IoTicket),
    /// The disk has read a part of the log.
    LogRead(LogRead),
    /// The disk has read a part of a snapshot.
    SnapshotRead(SnapshotRead),
    /// A segment is to be prepared, or tried again.
    Prepare(FileNumber, u64),
    /// A segment is prepared.
    Prepared(FileNumber),
    /// A segment is removed.
    Removed(FileNumber),
    /// The oldest thing that was asked for the file of a snapshot is done.
    SnapshotDone,
    /// Enough has come in: the turn ends.
    Turn,
    /// A replica is on the node's list no more.
    Unlisted(ReplicaId),
    /// A slice of background work is done.
    Slice,
    /// The core wanted to be woken.
    Wake,
}

/// What a node works with.
pub struct Machine<'a> {
    /// Its disk.
    pub disk: &'a mut Disk,
    /// What happens to the node next, each with nanoseconds from now.
    pub events: &'a mut Vec<(u64, NodeEvent)>,
    /// Chance in the driver: how long a turn gathers input.
    pub random: &'a mut Random,
    /// Where inputs and effects are recorded.
    pub trace: Option<&'a mut Trace>,
}

impl Machine<'_> {
    pub(super) fn schedule(&mut self, delay_ns: u64, event: NodeEvent) {
        self.events.push((delay_ns, event));
    }
}

/// What a node lets its observers see.
pub enum Observed<'a> {
    /// A write or flush has completed.
    DiskChanged {
        /// The disk after it.
        disk: &'a Disk,
    },
    /// A record leaves for the disk.
    RecordSubmitted {
        /// The file.
        file: FileName,
        /// Where in it.
        offset: u64,
        /// The record.
        bytes: &'a [u8],
    },
    /// A mark leaves for the disk.
    MarkSubmitted {
        /// The mark.
        bytes: &'a [u8],
    },
    /// Messages leave for another core of the node.
    Forward {
        /// The core.
        core: CoreId,
        /// The messages.
        batch: MeshBatch,
    },
    /// Messages leave for a core of another node.
    Send {
        /// The core.
        to: PeerCore,
        /// Over which of the connections.
        lane: PeerLane,
        /// The messages.
        batch: Vec<u8>,
    },
    /// Something became of members, or of a replica.
    Members(MembersEffect),
    /// A request is answered.
    Answer {
        /// Whose.
        connection: ConnectionId,
        /// Which.
        request: RequestId,
        /// What kind of request it was.
        kind: RequestKind,
        /// The answer.
        reply: &'a Reply,
        /// Where its bytes are.
        arena: &'a [u8],
    },
}

/// Why a node stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The disk failed; a server halts at once.
    DiskFailed(DiskError),
    /// The core says so.
    Halt(HaltReason),
}
