//! What can go wrong with a device.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::ids::FileNumber;

/// Why the device cannot be used, or not any more.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// Files in memory are gone with the machine.
    #[error("{} lies on {file_system}, which keeps its files in memory: a log there would not survive a crash", path.display())]
    FileSystemInMemory {
        /// The directory.
        path: PathBuf,
        /// What it lies on.
        file_system: &'static str,
    },
    /// The file system offers no direct I/O.
    #[error("{} lies on a file system without direct I/O", path.display())]
    NoDirectIo {
        /// The directory.
        path: PathBuf,
    },
    /// Direct I/O needs larger blocks than the log writes.
    #[error("{} needs direct I/O in units of {alignment_bytes} bytes, at most 4096 are supported", path.display())]
    Alignment {
        /// The directory.
        path: PathBuf,
        /// What it needs.
        alignment_bytes: u32,
    },
    /// The kernel was built without io_uring, or is older than 5.19.
    #[error("this kernel has no io_uring with what the log needs (Linux 5.19 or later)")]
    IoUringMissing {
        /// What the kernel said.
        source: io::Error,
    },
    /// io_uring is there but forbidden.
    #[error(
        "io_uring is forbidden: sysctl kernel.io_uring_disabled is {sysctl}; if that is 0, a seccomp filter, as containers have one, forbids it"
    )]
    IoUringForbidden {
        /// What the sysctl says.
        sysctl: String,
    },
    /// The buffers cannot be locked in memory.
    #[error(
        "{needed_bytes} bytes of buffers cannot be locked in memory: the limit is {limit_bytes} bytes (ulimit -l, LimitMEMLOCK)"
    )]
    LockedMemory {
        /// What is needed.
        needed_bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
    },
    /// The ring failed for another reason.
    #[error("the ring failed")]
    Ring {
        /// What the kernel said.
        source: io::Error,
    },
    /// A path could not be opened, listed or otherwise used.
    #[error("cannot use {}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A segment could not be prepared. What had been written of it is removed, so that it takes no space.
    #[error("cannot prepare segment file {file}")]
    Prepare {
        /// The file.
        file: FileNumber,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file that was to be prepared holds records.
    #[error("segment file {file} holds records and is not filled with zeros")]
    FileInUse {
        /// The file.
        file: FileNumber,
    },
    /// A segment could not be read.
    #[error("cannot read segment file {file} at {offset}")]
    Read {
        /// The file.
        file: FileNumber,
        /// Where.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A durable write failed. Nothing is known about the bytes any more.
    #[error("cannot write {} at {offset}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A flush failed. Nothing is known about what was written since the last one.
    #[error("cannot flush {}", path.display())]
    Flush {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}
