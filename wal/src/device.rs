//! The device side of the log: direct I/O through an io_uring of its own, and the files of a core's directory.
//!
//! It carries out what the log decides and decides nothing about durability itself. It does **not** retry: a write
//! or a flush that fails leaves the device in an unknown state, so every error is fatal to the process.
//!
//! This is the only module of the crate with unsafe code: `ring.rs`, where the kernel borrows buffers, and
//! `system.rs`, where the standard library has no name for a system call.

mod directory;
mod error;
mod faults;
mod prepare;
mod probe;
mod ring;
mod source;
mod system;
#[cfg(test)]
mod tests;

pub use directory::{DirectoryFacts, check_directory};
pub use error::DeviceError;
pub use faults::{Fault, Faults};
pub use prepare::{
    create_mark_file, mark_path, open_mark_file, open_segment, prepare_segment, remove_segment,
    segment_path,
};
pub use probe::{FlushMethod, FlushTimings, probe_flush_method, probe_io_uring};
pub use ring::{Completion, Ring, RingCounters, RingOptions};
pub use source::DirectorySource;
