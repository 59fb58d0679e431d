//! Parts of the log and of snapshots, read again for other nodes, on threads that may block.

use std::path::PathBuf;
use std::rc::Rc;

use metastore_engine::{
    Input, LogReadFailed, LogReadTicket, SnapshotFailed, SnapshotId, SnapshotTicket,
};
use metastore_wal::device::{self, DeviceError};
use metastore_wal::{FileNumber, LogBuffer};

use super::Driver;
use crate::log;
use crate::node::snapshot_files::snapshot_path;

impl Driver {
    /// Reads a part of a segment and hands it to the core.
    pub(super) async fn read_log(
        self: Rc<Self>,
        ticket: LogReadTicket,
        file: FileNumber,
        offset: u64,
        bytes: usize,
    ) {
        let path = device::segment_path(&self.log_directory, file);
        let read = self.read("a part of the log", path, offset, bytes).await;
        self.step(Input::LogRead {
            ticket,
            result: read
                .as_ref()
                .map(LogBuffer::as_slice)
                .map_err(|_told| LogReadFailed),
        });
        self.turn_wanted.set();
    }

    /// Reads a part of a snapshot's file and hands it to the core.
    pub(super) async fn read_snapshot(
        self: Rc<Self>,
        ticket: SnapshotTicket,
        snapshot: SnapshotId,
        offset: u64,
        bytes: usize,
    ) {
        let path = snapshot_path(&self.data, snapshot);
        let read = self.read("a part of a snapshot", path, offset, bytes).await;
        self.step(Input::SnapshotRead {
            ticket,
            result: read
                .as_ref()
                .map(LogBuffer::as_slice)
                .map_err(|_told| SnapshotFailed),
        });
        self.turn_wanted.set();
    }

    /// What cannot be read is told of here; the core asks again or does without.
    async fn read(
        &self,
        what: &'static str,
        path: PathBuf,
        offset: u64,
        bytes: usize,
    ) -> Result<LogBuffer, DeviceError> {
        let read = move || device::read_in_background(&path, offset, bytes);
        let read = self.blocking.read(read).await;
        if let Err(error) = &read {
            log::warning!(
                "what another node needs cannot be read",
                core = self.facts.hello.core_index,
                what = what,
                error = log::text(error),
            );
        }
        read
    }
}
