//! Disk faults on demand, for tests: the process must meet them on the same path as real ones.

use std::time::Duration;

/// What a broken disk answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFailure {
    /// `EIO`.
    InputOutput,
    /// `ENOSPC`.
    NoSpace,
}

/// A fault that a [`Ring`](super::Ring) pretends to have met. Writes and flushes are counted from 1, over all files.
///
/// The request still goes through the kernel, so that its completion arrives and wakes the core as any other; a failed
/// one writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One write fails.
    FailWrite {
        /// Which one.
        nth: u64,
        /// How.
        failure: DiskFailure,
    },
    /// One write stops early.
    ShortWrite {
        /// Which one.
        nth: u64,
        /// After how many bytes. What is written is this, rounded down to whole blocks.
        bytes: usize,
    },
    /// One flush fails. There are flushes only with [`FlushMethod::WriteThenSync`](super::FlushMethod::WriteThenSync).
    FailSync {
        /// Which one.
        nth: u64,
        /// How.
        failure: DiskFailure,
    },
    /// Every write begins late: a slow disk.
    SlowWrites {
        /// By how much.
        by: Duration,
    },
}

impl DiskFailure {
    /// The completion that the kernel would deliver.
    pub(super) fn result(self) -> i32 {
        match self {
            Self::InputOutput => -libc::EIO,
            Self::NoSpace => -libc::ENOSPC,
        }
    }
}
