//! What a log asks of its caller, and what it tells.

use crate::buffer::LogBuffer;
use crate::format::MarkSlot;
use crate::ids::{
    FileNumber, LogIndex, RecordSequence, RecoveryEpoch, ReplicaId, SegmentSequence, Ticket,
};
#[cfg(doc)]
use crate::log::{Log, LogOptions};

/// Something the caller must do for the log.
#[derive(Debug)]
pub enum LogEffect {
    /// One durable write of `buffer.as_slice()`; `offset` and length are multiples of 4096. The buffer comes back
    /// through [`Log::on_written`]. A write that fails is never reported: the process stops.
    Write {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The segment file.
        file: FileNumber,
        /// Where in the file.
        offset: u64,
        /// What to write.
        buffer: LogBuffer,
    },
    /// One durable write of a block of the mark file. The buffer comes back through [`Log::on_mark_written`].
    WriteMark {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Which block.
        slot: MarkSlot,
        /// What to write.
        buffer: LogBuffer,
    },
    /// Create a segment file, fill it with zeros, make file and directory durable; then [`Log::on_segment_prepared`].
    /// When there is no space, the caller tries again later.
    PrepareSegment {
        /// The file.
        file: FileNumber,
        /// Its length.
        bytes: u64,
    },
    /// Remove a segment file that is of no use: its length is wrong, or there are too many; then [`Log::on_segment_removed`].
    RemoveSegment {
        /// The file.
        file: FileNumber,
    },
}

/// Whether there is room for what clients want to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSpace {
    /// There is.
    Ok,
    /// The budget is spent but for the reserve, which belongs to what raft itself must write. Snapshots of the
    /// replicas that [`Log::oldest_holders`] names, or rewriting their entries, make room.
    Exhausted {
        /// The limit.
        budget_bytes: u64,
        /// What segments in use take.
        used_bytes: u64,
    },
    /// The segment being written nears its end and no spare is prepared but the one that is reserved for the next
    /// start: the disk is full, or slow to prepare.
    SpareMissing {
        /// What is left in the segment.
        remaining_bytes: u64,
    },
}

/// Entries that keep the oldest segment alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose entries they are.
    pub replica: ReplicaId,
    /// The lowest index in the segment.
    pub first_index: LogIndex,
    /// The highest index in the segment.
    pub last_index: LogIndex,
}

/// Counters and places, for metrics and people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Records made durable, checkpoints included.
    pub durable_writes: u64,
    /// Bytes of the records built so far, on their way or durable.
    pub record_bytes: u64,
    /// Data of entries in the records built so far.
    pub entry_bytes: u64,
    /// Padding in the records built so far, without checkpoints.
    pub padding_bytes: u64,
    /// Marks made durable.
    pub marks: u64,
    /// Segments that hold something needed.
    pub segments_live: usize,
    /// Prepared segments that wait for use.
    pub spares: usize,
    /// Every segment file there is.
    pub files: usize,
    /// The segment being written.
    pub segment: SegmentSequence,
    /// Where its next record goes.
    pub offset: u64,
    /// The newest record known to be durable.
    pub watermark: RecordSequence,
    /// The epoch of this run.
    pub epoch: RecoveryEpoch,
}
