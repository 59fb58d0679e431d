//! What lies on the disk: records, sub-headers, entries and marks, little-endian, byte by byte.
//!
//! Nothing here reads or writes a file, and nothing decides what a finding means: decoding says what the bytes are.
//!
//! ```text
//! log-<n>.seg    | record (checkpoint) | record | record | ... | unused: zeros, or what an earlier use of the file left |
//! record         | header 128 | sub-header 96 x count | payloads | zeros to the next multiple of 4096 |
//! mark           | block 4096 | block 4096 |
//! ```
//!
//! Every multiple of 4096 in a segment is a place where a record may begin, and none begins elsewhere.

mod bytes;
mod entry;
mod header;
mod mark;
mod mend;
mod record;
mod sub_header;
#[cfg(test)]
mod tests;

pub use entry::{ENTRY_HEADER_BYTES, Entries, EntryRef, put_entry_header};
pub(crate) use header::HeaderRemains;
pub use header::{HeaderFault, RECORD_HEADER_BYTES, RecordHeader, RecordKind};
pub use mark::{Mark, MarkFault, MarkSlot, MarkState};
pub(crate) use mend::{mend_header, mend_mark_block, mend_sub_header};
pub use record::{BodyFault, RecordBody};
pub(crate) use record::{RecordEncoder, RecordFields};
pub use sub_header::{SUB_HEADER_BYTES, Standing, SubHeader, SubHeaderKind};

/// The unit of the log: records begin at multiples of it, and marks are as long as it.
pub const BLOCK_BYTES: usize = 4096;

/// The version this code writes.
pub const FORMAT_VERSION: u16 = 1;

/// The lowest version of a reader that understands what this code writes.
pub const FORMAT_VERSION_READER_MIN: u16 = 1;

/// No log lives long enough to count this far. What claims a higher index or sequence is refused where it is read, so
/// that no arithmetic behind it can overflow.
pub(crate) const NUMBER_MAX: u64 = u64::MAX / 4;

/// `length` rounded up to whole blocks.
#[must_use]
pub const fn round_up_to_blocks(length: usize) -> usize {
    length.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}
