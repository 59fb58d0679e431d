//! Disk faults on demand, for tests: the process must meet them on the same path as real ones.

use std::time::Duration;

use crate::format::BLOCK_BYTES;

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
/// The request still goes through the kernel, so that its completion arrives and wakes the core as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One write fails, and nothing of it arrives.
    FailWrite {
        /// Which one.
        nth: u64,
        /// How.
        failure: DiskFailure,
    },
    /// One write fails after part of it has arrived, as when the power fails.
    TornWrite {
        /// Which one.
        nth: u64,
        /// How much arrives, rounded down to whole blocks.
        bytes: usize,
        /// How it fails.
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

impl Fault {
    /// By how much every write begins late.
    pub(super) fn write_delay(self) -> Option<Duration> {
        match self {
            Self::SlowWrites { by } => Some(by),
            Self::FailWrite { .. }
            | Self::TornWrite { .. }
            | Self::ShortWrite { .. }
            | Self::FailSync { .. } => None,
        }
    }

    /// What becomes of a write of `bytes`: how much is really written, and the result that is pretended.
    pub(super) fn on_write(self, nth_now: u64, bytes: usize) -> Option<Pretence> {
        let (nth, arriving_bytes, result) = match self {
            Self::FailWrite { nth, failure } => (nth, 0, failure.result()),
            Self::TornWrite {
                nth,
                bytes: torn_bytes,
                failure,
            } => (nth, torn_bytes, failure.result()),
            Self::ShortWrite {
                nth,
                bytes: short_bytes,
            } => {
                let short_bytes = short_bytes.min(bytes);
                (
                    nth,
                    short_bytes,
                    i32::try_from(short_bytes).expect("a record is shorter than 2 GiB"),
                )
            }
            Self::FailSync { .. } | Self::SlowWrites { .. } => return None,
        };
        let arriving_bytes = arriving_bytes.min(bytes);
        let written_bytes = arriving_bytes - arriving_bytes % BLOCK_BYTES;
        (nth == nth_now).then_some(Pretence {
            written_bytes,
            result,
        })
    }

    /// The result that is pretended for a flush.
    pub(super) fn on_sync(self, nth_now: u64) -> Option<i32> {
        match self {
            Self::FailSync { nth, failure } if nth == nth_now => Some(failure.result()),
            Self::FailSync { .. }
            | Self::FailWrite { .. }
            | Self::TornWrite { .. }
            | Self::ShortWrite { .. }
            | Self::SlowWrites { .. } => None,
        }
    }
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pretence {
    /// What really is written: whole blocks.
    pub(super) written_bytes: usize,
    /// The completion that is pretended.
    pub(super) result: i32,
}
