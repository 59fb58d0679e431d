//! How a ring is set up.

use std::os::fd::OwnedFd;

use super::super::fault::Fault;

/// How a write becomes durable. Which way is faster differs by device: see [`probe_flush_method`](crate::device::probe_flush_method).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMethod {
    /// Each write carries `RWF_DSYNC`: one request.
    Dsync,
    /// A plain write, and when it has completed with its full length, an `fdatasync` of the file.
    WriteThenSync,
}

/// How a ring is set up.
#[derive(Debug)]
pub struct RingOptions {
    /// How writes become durable.
    pub flush_method: FlushMethod,
    /// One end of a socket pair. A byte arrives at the other end whenever [`Ring::reap`](super::Ring::reap) has something to do.
    pub wake: Option<OwnedFd>,
    /// How many files can be registered at a time: all segments that a log's budget allows, and the marks. The process
    /// must be allowed to open one more than that (`RLIMIT_NOFILE`).
    pub files_max: u32,
    /// For tests.
    pub fault: Option<Fault>,
}

impl RingOptions {
    /// A ring that wakes nobody, for 512 files: four times what a log has by default.
    #[must_use]
    pub fn new(flush_method: FlushMethod) -> Self {
        Self {
            flush_method,
            wake: None,
            files_max: 512,
            fault: None,
        }
    }
}
