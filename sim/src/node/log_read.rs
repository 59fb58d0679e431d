//! How a node reads its log back for followers that lag.

use metastore_engine::{Input, LogReadFailed, LogReadTicket, Time};
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
}
