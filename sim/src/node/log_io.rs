//! One write of the log on its way through the disk.

use metastore_bugs::{Mutant, is_planted};
use metastore_engine::Ticket;
use metastore_wal::LogBuffer;

use super::{FlushMethod, NodeConfig};
use crate::disk::{Disk, FileName, IoTicket, WriteMode};

/// Names a write of the log within a life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IoId(pub(super) u64);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Record,
    Mark,
}

/// A write, until it is durable.
///
/// ```text
///   DurableWrite:    write ──> (short? the rest) ──> durable
///   WriteThenFlush:  write ──> (short? the rest) ──> flush ──> durable
/// ```
#[derive(Debug)]
pub(super) struct LogIo {
    target: Target,
    ticket: Ticket,
    file: FileName,
    offset: u64,
    buffer: LogBuffer,
    written_bytes: usize,
    is_flush_submitted: bool,
    /// Parts that have been submitted and are not done.
    outstanding: u32,
}

impl LogIo {
    pub(super) fn new(
        target: Target,
        ticket: Ticket,
        (file, offset): (FileName, u64),
        buffer: LogBuffer,
    ) -> LogIo {
        LogIo {
            target,
            ticket,
            file,
            offset,
            buffer,
            written_bytes: 0,
            is_flush_submitted: false,
            outstanding: 0,
        }
    }

    /// Submits what is not written yet.
    pub(super) fn submit_rest(&mut self, method: FlushMethod, disk: &mut Disk) -> IoTicket {
        self.outstanding += 1;
        let mode = match method {
            FlushMethod::DurableWrite => WriteMode::Durable,
            FlushMethod::WriteThenFlush => WriteMode::Cached,
        };
        let rest = &self.buffer.as_slice()[self.written_bytes..];
        let offset = self.offset + self.written_bytes as u64;
        disk.submit_write(self.file, offset, rest, mode)
    }

    pub(super) fn on_short(&mut self, written_bytes: usize) {
        self.outstanding -= 1;
        self.written_bytes += written_bytes;
    }

    /// All is written: the flush that must follow, unless it was submitted before.
    pub(super) fn next_flush(&mut self, config: &NodeConfig, disk: &mut Disk) -> Option<IoTicket> {
        let is_due = config.flush == FlushMethod::WriteThenFlush && !self.is_flush_submitted;
        is_due.then(|| {
            self.is_flush_submitted = true;
            // The flush takes the place of the write that is done.
            disk.submit_flush(self.file)
        })
    }

    /// The planted bug: a flush that does not wait for the write.
    pub(super) fn early_flush(&mut self, config: &NodeConfig, disk: &mut Disk) -> Option<IoTicket> {
        let is_planted = is_planted(Mutant::FlushBeforeWrite);
        if !is_planted || config.flush == FlushMethod::DurableWrite {
            return None;
        }
        self.is_flush_submitted = true;
        self.outstanding += 1;
        Some(disk.submit_flush(self.file))
    }

    /// A part is done; true when it was the last.
    pub(super) fn on_part_done(&mut self) -> bool {
        self.outstanding -= 1;
        self.outstanding == 0
    }

    pub(super) fn into_parts(self) -> (Target, Ticket, LogBuffer) {
        (self.target, self.ticket, self.buffer)
    }
}
