//! Faults to order, for tests of whoever must halt: they take the same path as those of a device.

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The write with this number (the first is 1) fails with an error of the kernel, such as `EIO` or `ENOSPC`.
    WriteError {
        /// Which write.
        write: u64,
        /// The error.
        errno: i32,
    },
    /// The write with this number writes only its first bytes.
    ShortWrite {
        /// Which write.
        write: u64,
        /// How many bytes, a multiple of the device's block; 0 is a device that accepts nothing.
        bytes: u32,
    },
    /// The flush with this number fails. There are flushes only where the method says so.
    SyncError {
        /// Which flush.
        sync: u64,
        /// The error.
        errno: i32,
    },
}

/// The faults that a ring will meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    planned: Vec<Fault>,
}

impl Faults {
    /// No faults: what a server runs with.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// These faults.
    #[must_use]
    pub fn planned(planned: Vec<Fault>) -> Self {
        Self { planned }
    }

    /// How many bytes of the write get through, when that is planned.
    pub(super) fn short_write(&self, number: u64) -> Option<u32> {
        self.planned.iter().find_map(|fault| match *fault {
            Fault::ShortWrite { write, bytes } if write == number => Some(bytes),
            Fault::ShortWrite { .. } | Fault::WriteError { .. } | Fault::SyncError { .. } => None,
        })
    }

    /// The error of the write, when one is planned.
    pub(super) fn write_error(&self, number: u64) -> Option<i32> {
        self.planned.iter().find_map(|fault| match *fault {
            Fault::WriteError { write, errno } if write == number => Some(errno),
            Fault::ShortWrite { .. } | Fault::WriteError { .. } | Fault::SyncError { .. } => None,
        })
    }

    /// The error of the flush, when one is planned.
    pub(super) fn sync_error(&self, number: u64) -> Option<i32> {
        self.planned.iter().find_map(|fault| match *fault {
            Fault::SyncError { sync, errno } if sync == number => Some(errno),
            Fault::ShortWrite { .. } | Fault::WriteError { .. } | Fault::SyncError { .. } => None,
        })
    }
}
