//! The write-ahead log of a core: what is acknowledged from it survives a crash, and what did not survive is never
//! taken for what did.
//!
//! It does **not** know raft beyond terms, votes and indexes, it does not talk to a network, it has no clock, no
//! threads and no randomness. Everything but the feature `device` is pure code over bytes, so that a simulator runs
//! the same log as a server: whoever drives it carries out [`LogEffect`]s and reports back.
//!
//! ```text
//!   Part ──stage──> Log ──LogEffect──> device ──on_written──> Position is durable
//!                                        │
//!            ReplayEvent <──recover── segments + mark
//! ```
//!
//! * [`mod@format`]: the bytes on the disk.
//! * [`Log`]: from staged parts to records, segments and marks.
//! * [`recovery`]: from files back to replicas, and the one place that decides between a torn tail and damage.
//! * `device` (feature): direct I/O through io_uring, and the files of a directory.

mod buffer;
#[cfg(feature = "device")]
pub mod device;
pub mod format;
pub mod fuzz;
mod ids;
mod log;
mod part;
pub mod recovery;
mod replica;
#[cfg(test)]
mod testing;

pub use buffer::LogBuffer;
pub use ids::{
    ClusterId, CoreId, FileNumber, Identity, LogIndex, NodeId, RecordSequence, RecoveryEpoch,
    ReplicaId, SealKey, SegmentSequence, ShardId, Term, Ticket,
};
pub use log::{
    EntryPlace, Holder, Log, LogEffect, LogOptions, LogOptionsError, LogSpace, LogStart, LogStatus,
    ReadEnd, ScrubEnd, ScrubPlace, SegmentFile,
};
pub use part::{Entry, EntryKind, HardState, Part, PartBody, Position};
pub use recovery::{
    Recovered, RecoveredSnapshot, RecoveryError, ReplayEvent, SegmentSource, recover,
};
pub use replica::SnapshotPoint;
