//! What can go wrong between the log and its disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::FileRef;

/// An error number of the operating system. Unlike [`io::Error`] it can be compared and copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

/// What was being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Opening or creating it.
    Open,
    /// Asking for its length, its device or its alignment.
    Inspect,
    /// Listing a directory.
    List,
    /// Reserving space for it.
    Reserve,
    /// Filling it with zeros.
    Fill,
    /// Reading it.
    Read {
        /// Where.
        offset: u64,
    },
    /// Writing it.
    Write {
        /// Where.
        offset: u64,
    },
    /// Flushing it.
    Sync,
    /// Giving it another name.
    Rename,
    /// Removing it.
    Remove,
}

/// Why io_uring cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingRefusal {
    /// The kernel has no io_uring, or a container hides it.
    Missing,
    /// The kernel is too old: Linux 6.0 is needed.
    TooOld,
    /// The setting `kernel.io_uring_disabled` forbids it.
    Disabled {
        /// 1: only members of `kernel.io_uring_group` and administrators may; 2: nobody may.
        setting: u8,
    },
    /// Something else forbids it, usually a container's system call filter.
    Forbidden,
    /// The kernel does not know an operation that is needed.
    Operation {
        /// Which one.
        name: &'static str,
    },
    /// Anything else.
    Other(Errno),
}

/// What can go wrong between the log and its disk.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// An operation on a file or directory failed.
    #[error("{deed} {}: {errno}", path.display())]
    File {
        /// What was being done.
        deed: Deed,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// The directory loses everything with the machine's memory.
    #[error("{} lies in a {file_system}, whose files do not survive a restart", path.display())]
    VolatileFileSystem {
        /// The directory.
        path: PathBuf,
        /// The type of its file system.
        file_system: &'static str,
    },
    /// Files there cannot be written past the page cache.
    #[error("{} lies in a file system without direct I/O", path.display())]
    NoDirectIo {
        /// The directory or file.
        path: PathBuf,
    },
    /// Direct I/O there needs larger blocks than the log writes.
    #[error("direct I/O to {} needs an alignment of {alignment_bytes} bytes, and the log writes blocks of 4096", path.display())]
    Alignment {
        /// The directory or file.
        path: PathBuf,
        /// What it needs.
        alignment_bytes: u32,
    },
    /// A file to be prepared holds something already.
    #[error("{} was to be filled with zeros but holds something", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The disk that holds a path cannot be found among the system's block devices.
    #[error("{} does not lie on one block device (device {major}:{minor})", path.display())]
    NoBlockDevice {
        /// The path.
        path: PathBuf,
        /// The number of its driver.
        major: u32,
        /// The number of the device within the driver.
        minor: u32,
    },
    /// A statistics file of the kernel does not look as expected.
    #[error("cannot make sense of {}", path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
    },
    /// io_uring cannot be used.
    #[error("io_uring cannot be used: {0}")]
    NoRing(RingRefusal),
    /// The ring's buffers may not be locked into memory.
    #[error(
        "the log's buffers need {needed_bytes} bytes of locked memory, and RLIMIT_MEMLOCK allows {limit_bytes}: raise it (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// What the buffers need.
        needed_bytes: u64,
        /// What the process may have.
        limit_bytes: u64,
    },
    /// The ring's table of files is larger than what the process may open.
    #[error(
        "the log needs {needed} open files, and RLIMIT_NOFILE allows {limit}: raise it (ulimit -n, LimitNOFILE=)"
    )]
    OpenFiles {
        /// What the ring needs.
        needed: u64,
        /// What the process may have.
        limit: u64,
    },
    /// The ring's table of files is full.
    #[error("the ring's table of {files_max} files is full")]
    FileTableFull {
        /// Its size.
        files_max: u32,
    },
    /// The ring's table of files could not be changed.
    #[error("registering {file} with the ring: {errno}")]
    Register {
        /// Which file.
        file: FileRef,
        /// What the system said.
        errno: Errno,
    },
    /// Handing requests to the kernel failed.
    #[error("entering the ring: {errno}")]
    Enter {
        /// What the system said.
        errno: Errno,
    },
    /// A write failed.
    #[error("writing {bytes} bytes of {file} at {offset}: {errno}")]
    Write {
        /// Which file.
        file: FileRef,
        /// Where the record begins.
        offset: u64,
        /// Its length.
        bytes: usize,
        /// What the system said.
        errno: Errno,
    },
    /// A write stopped early, and going on from there did not get further.
    #[error("writing {bytes} bytes of {file} at {offset} stopped after {written_bytes}")]
    ShortWrite {
        /// Which file.
        file: FileRef,
        /// Where the record begins.
        offset: u64,
        /// Its length.
        bytes: usize,
        /// How many of them arrived.
        written_bytes: usize,
    },
    /// A flush failed.
    #[error("flushing {file}: {errno}")]
    Sync {
        /// Which file.
        file: FileRef,
        /// What the system said.
        errno: Errno,
    },
    /// The byte that wakes the core's thread could not be sent.
    #[error("waking the core's thread: {errno}")]
    Wake {
        /// What the system said.
        errno: Errno,
    },
}

impl DeviceError {
    pub(super) fn file(deed: Deed, path: &Path, error: &io::Error) -> Self {
        Self::File {
            deed,
            path: path.to_owned(),
            errno: Errno::of(error),
        }
    }

    /// Whether the disk, or the user's share of it, is full: what a caller of [`super::prepare_segment`] waits out.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(
            self,
            Self::File {
                errno: Errno(libc::ENOSPC | libc::EDQUOT),
                ..
            }
        )
    }
}

impl Errno {
    /// The number in `error`. The few errors that the standard library makes up itself count as I/O errors.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(formatter)
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => formatter.write_str("opening"),
            Self::Inspect => formatter.write_str("inspecting"),
            Self::List => formatter.write_str("listing"),
            Self::Reserve => formatter.write_str("reserving space for"),
            Self::Fill => formatter.write_str("filling with zeros"),
            Self::Read { offset } => write!(formatter, "reading at {offset}"),
            Self::Write { offset } => write!(formatter, "writing at {offset}"),
            Self::Sync => formatter.write_str("flushing"),
            Self::Rename => formatter.write_str("renaming"),
            Self::Remove => formatter.write_str("removing"),
        }
    }
}

impl fmt::Display for RingRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter
                .write_str("the kernel does not offer it (Linux 6.0 or later is needed; some containers hide it)"),
            Self::TooOld => formatter.write_str("the kernel is older than Linux 6.0"),
            Self::Disabled { setting: 1 } => formatter.write_str(
                "kernel.io_uring_disabled is 1: add this user to kernel.io_uring_group, or set it to 0",
            ),
            Self::Disabled { setting } => {
                write!(formatter, "kernel.io_uring_disabled is {setting}: set it to 0")
            }
            Self::Forbidden => formatter.write_str(
                "it is forbidden, probably by a container's system call filter (seccomp): allow io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Self::Operation { name } => write!(formatter, "the kernel does not know its operation {name}"),
            Self::Other(errno) => errno.fmt(formatter),
        }
    }
}
