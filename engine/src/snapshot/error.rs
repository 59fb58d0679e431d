//! What can be wrong with a snapshot file.

use std::fmt;

use metastore_statemachine::SectionTag;

/// Why bytes are not a snapshot. The caller knows the file and adds its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The file does not begin as a snapshot does.
    #[error("offset 0: not a snapshot")]
    NotASnapshot,
    /// A later version wrote it.
    #[error("offset 0, header: needs a reader of version {reader_min} or later, this is {version}", version = super::SNAPSHOT_VERSION)]
    NewerFormat {
        /// The lowest version that can read it.
        reader_min: u16,
    },
    /// It is the snapshot of another cluster, shard, index or term.
    #[error("offset 0, header: another {field} than expected: {found:#x} instead of {expected:#x}")]
    WrongIdentity {
        /// What differs.
        field: &'static str,
        /// What was asked for.
        expected: u128,
        /// What the file says.
        found: u128,
    },
    /// Bytes are not those that were written.
    #[error("offset {offset}, {part}: the checksum does not match")]
    Checksum {
        /// Where the part begins.
        offset: u64,
        /// The part of the file.
        part: SnapshotPart,
    },
    /// The checksum matches, but a field says what cannot be.
    #[error("offset {offset}, {part}: {what} cannot be {found}")]
    Malformed {
        /// Where the part begins.
        offset: u64,
        /// The part of the file.
        part: SnapshotPart,
        /// The field.
        what: &'static str,
        /// Its content.
        found: u64,
    },
    /// A chunk is missing, doubled, or at the wrong place.
    #[error("offset {offset}, {part}: chunk {found} stands where chunk {expected} belongs")]
    WrongChunk {
        /// Where the chunk begins.
        offset: u64,
        /// The part of the file.
        part: SnapshotPart,
        /// The number that belongs there.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// Stored bytes do not decompress to what was stored.
    #[error("offset {offset}, {part}: the stored bytes cannot be decompressed")]
    Compression {
        /// Where the chunk begins.
        offset: u64,
        /// The part of the file.
        part: SnapshotPart,
    },
    /// The totals of the trailer are not those of the file.
    #[error("offset {offset}, trailer: {what} does not match what was read")]
    WrongTotal {
        /// Where the trailer begins.
        offset: u64,
        /// What differs.
        what: &'static str,
    },
    /// The file ends too early.
    #[error(
        "offset {offset}, {part}: the file ends after {available} bytes, the part needs {needed}"
    )]
    Truncated {
        /// Where the part begins.
        offset: u64,
        /// The part of the file.
        part: SnapshotPart,
        /// Length of the part as far as it is known.
        needed: u64,
        /// Bytes of it that are there.
        available: u64,
    },
    /// Something follows the trailer.
    #[error("offset {offset}: there are bytes behind the trailer")]
    TrailingBytes {
        /// Where they begin.
        offset: u64,
    },
}

/// A part of a snapshot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// The fixed part at the beginning.
    Header,
    /// The members behind it.
    Members,
    /// The header of a chunk whose section cannot be told.
    ChunkHeader {
        /// The section of the chunk before it; `None` for the first.
        after: Option<SectionTag>,
    },
    /// A chunk of a section.
    Section(SectionTag),
    /// The end of the file.
    Trailer,
}

impl fmt::Display for SnapshotPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotPart::Header => formatter.write_str("header"),
            SnapshotPart::Members => formatter.write_str("members"),
            SnapshotPart::ChunkHeader { after: None } => {
                formatter.write_str("header of the first chunk")
            }
            SnapshotPart::ChunkHeader {
                after: Some(section),
            } => {
                write!(
                    formatter,
                    "header of the chunk after one of section {section}"
                )
            }
            SnapshotPart::Section(section) => write!(formatter, "section {section}"),
            SnapshotPart::Trailer => formatter.write_str("trailer"),
        }
    }
}
