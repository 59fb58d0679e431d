//! The log's files and the ring that writes them: direct I/O through io_uring on Linux.
//!
//! It does **not** decide what is written, when, or what a file's content means: it carries out the effects of a
//! [`Log`](crate::Log) and says when each is durable. It never retries what failed. A failed write or flush of a log
//! leaves the disk in a state that nobody knows, so every error of a [`Ring`] means that the process must halt; only a
//! restart, which reads the disk, finds out what is there.
//!
//! ```text
//! core-0/mark           two blocks of 4 KiB
//! core-0/log-<n>.seg    segments, all of one length, filled with zeros before use
//! ```
//!
//! * [`check_directory`], [`probe_io_uring`] and [`probe_flush_method`] say whether and how a directory can be used.
//! * [`create_marks`], [`prepare_segment`], [`open_segment`], [`remove_segment`]: files. These block.
//! * [`BackgroundFile`]: files beside the log, which are written without getting in its way. These block, too.
//! * [`read_in_background`]: a part of a file, while the log is written. This blocks, too.
//! * [`Ring`]: durable writes on the core's thread.
//! * [`DirectorySource`]: what recovery reads.
//! * [`BlockDeviceFlushes`]: how many flushes the device has seen, so that tools can check what a number claims.
//!
//! Two small files hold all unsafe code: `queue` (the ring's memory and buffers) and `system` (system calls that the
//! standard library lacks).

mod background_file;
mod background_read;
mod directory;
mod error;
mod fault;
mod file_ref;
mod files;
mod flush_counter;
mod flush_probe;
mod pace;
mod queue;
mod ring;
mod ring_probe;
mod source;
mod space;
mod system;
#[cfg(test)]
mod test_directory;

pub use background_file::{BackgroundFile, remove_file};
pub use background_read::read_in_background;
pub use directory::{
    DirectoryFacts, check_directory, mark_path, segment_number, segment_path, sync_directory,
};
pub use error::{Deed, DeviceError, Errno, RingRefusal};
pub use fault::{DiskFailure, Fault};
pub use file_ref::FileRef;
pub use files::{create_marks, open_marks, open_segment, prepare_segment, remove_segment};
pub use flush_counter::{BlockDeviceFlushes, WriteCache};
pub use flush_probe::{FlushProbe, FlushTimings, probe_flush_method};
pub use pace::{Pace, Switch};
pub use ring::{Completion, FlushMethod, Ring, RingOptions, RingStatus};
pub use ring_probe::probe_io_uring;
pub use source::DirectorySource;
pub use space::{DiskReserve, FileSystemSpace};
pub use system::raise_open_files_limit;
