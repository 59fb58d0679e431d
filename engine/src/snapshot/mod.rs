//! The file of a snapshot, byte by byte: pure code over bytes.
//!
//! It does **not** open, write or sync a file, and does not know what sections mean: the state machine does. It makes
//! sure that what is read is what was written, by this shard, in this order, to the end.
//!
//! ```text
//! snap-<term>-<index>.snap
//! | header 80 | members | chunk | chunk | ... | trailer |
//!   chunk:   | header 48 | stored bytes |
//!   trailer: | header 48 | totals       |
//! ```
//!
//! * The bytes of a section are cut into **blocks** of 64 KiB, the last of a section shorter, wherever the cut falls. A
//!   block becomes a chunk: compressed where that pays, with a checksum. Blocks are small, so that making one is a
//!   slice far below half a millisecond, and reading one needs little memory.
//! * Every checksum is seeded with the header's own, which covers cluster, shard, replica, index and term: a chunk that
//!   strayed in from another file does not pass. Chunks are numbered, so none is missing, doubled or moved.
//! * The trailer holds totals and a digest over everything before it. A file without a trailer was not finished.
//! * The bytes depend on the state and on whose snapshot it is, and on nothing else: not on slices, time or order.
//!
//! A file is written under another name and gets its own when it is complete and synced. So after a crash a file of
//! this name is whole, or was damaged later; damage is told by offset and section, and never loaded.

mod chunk;
mod error;
pub mod fuzz;
mod header;
mod reader;
#[cfg(test)]
mod tests;
mod totals;
mod writer;

pub use chunk::{CHUNK_HEADER_BYTES, SNAPSHOT_BLOCK_BYTES};
pub use error::{SnapshotError, SnapshotPart};
pub use header::{SNAPSHOT_HEADER_BYTES, SNAPSHOT_MEMBERS_BYTES_MAX, SnapshotIdentity};
pub use metastore_statemachine::SectionTag;
pub use reader::{SnapshotReader, SnapshotStep};
pub use totals::{SectionTotal, SnapshotSummary};
pub use writer::SnapshotWriter;

/// The version this code writes.
pub const SNAPSHOT_VERSION: u16 = 1;

/// The lowest version of a reader that understands what this code writes.
pub const SNAPSHOT_VERSION_READER_MIN: u16 = 1;
