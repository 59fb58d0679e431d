//! What a node reads for others while it runs: its log for followers that lag, its snapshots for those that lag more.

use metastore_engine::{
    Input, LogReadFailed, LogReadTicket, SnapshotFailed, SnapshotId, SnapshotTicket, Time,
};
use metastore_wal::FileNumber;

use super::{Machine, Node};
use crate::disk::FileName;

/// A part of the log that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    pub(super) ticket: LogReadTicket,
    pub(super) file: FileNumber,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// A part of a snapshot that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRead {
    pub(super) ticket: SnapshotTicket,
    pub(super) snapshot: SnapshotId,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl Node {
    /// The disk has read, or failed. The file may be gone by now, or be another segment.
    pub(super) fn on_log_read(&mut self, now: Time, read: LogRead, machine: &mut Machine<'_>) {
        let file = FileName::Segment(read.file);
        let found = machine.disk.read(file, read.offset, read.bytes);
        let result = match &found {
            Ok(bytes) => Ok(bytes.as_slice()),
            Err(_) => Err(LogReadFailed),
        };
        let ticket = read.ticket;
        self.counters.log_reads += 1;
        self.step(now, Input::LogRead { ticket, result }, machine);
    }

    /// The disk has read, or failed. The snapshot may be gone by now.
    pub(super) fn on_snapshot_read(
        &mut self,
        now: Time,
        read: SnapshotRead,
        machine: &mut Machine<'_>,
    ) {
        let disk = &mut machine.disk;
        let found = disk.read_snapshot(read.snapshot, read.offset, read.bytes);
        let result = match &found {
            Ok(bytes) => Ok(bytes.as_slice()),
            Err(_) => Err(SnapshotFailed),
        };
        let ticket = read.ticket;
        self.counters.snapshot_reads += 1;
        self.step(now, Input::SnapshotRead { ticket, result }, machine);
    }
}
