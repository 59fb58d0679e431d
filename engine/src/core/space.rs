//! Whether there is room for what a client wants to write: in the log, and on the disk that snapshots need as well.

use metastore_statemachine::Command;
use metastore_wal::LogSpace;

use super::Core;
use crate::request::RequestError;

/// What clients are told to wait while a segment is being prepared.
const SEGMENT_RETRY_MS: u32 = 100;

/// How the disk of the data directory stands, as the driver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskSpace {
    /// There is room.
    #[default]
    Enough,
    /// So little is free that only what gives space back may be written.
    Low {
        /// What is free, in bytes.
        free_bytes: u64,
        /// `disk.low` in bytes: what must be free for anything else.
        low_bytes: u64,
    },
}

impl Core {
    pub(super) fn on_disk_space(&mut self, disk: DiskSpace) {
        self.disk = disk;
        // Spares kept for reuse are room that a short disk needs more.
        self.log.set_disk_short(disk != DiskSpace::Enough);
    }

    /// Whether the oldest segments should be released before their time: for the log's budget, or for the disk.
    pub(super) fn wants_relief(&self) -> bool {
        self.log.is_short() || (self.disk != DiskSpace::Enough && self.log.can_relieve_disk())
    }

    /// Refuses a command for which there is no room. Deletes pass as long as the log itself can take them: a full
    /// store would stay full otherwise.
    pub(super) fn check_space(&self, command: &[u8]) -> Result<(), RequestError> {
        let Some(refusal) = self.space_refusal() else {
            return Ok(());
        };
        let frees_space =
            Command::decode(command).is_ok_and(|(command, _)| command.kind.frees_space());
        if frees_space && self.log.has_room_to_free() {
            return Ok(());
        }
        Err(refusal)
    }

    /// Why an ordinary command is refused, if it is.
    fn space_refusal(&self) -> Option<RequestError> {
        if let DiskSpace::Low {
            free_bytes,
            low_bytes,
        } = self.disk
        {
            return Some(RequestError::DiskLow {
                free_bytes,
                low_bytes,
            });
        }
        match self.log.space() {
            LogSpace::Ok => None,
            LogSpace::Exhausted {
                budget_bytes,
                used_bytes,
            } => Some(RequestError::LogBudget {
                budget_bytes,
                used_bytes,
            }),
            // A segment is being prepared, or the disk is full and the driver tries again.
            LogSpace::SpareMissing { .. } => Some(RequestError::Overloaded {
                retry_after_ms: SEGMENT_RETRY_MS,
            }),
        }
    }

    /// Whether an ordinary command would find room.
    pub(super) fn accepts_writes(&self) -> bool {
        self.space_refusal().is_none()
    }
}
