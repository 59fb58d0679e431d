//! What a whole file comes to.

use std::collections::BTreeMap;
use std::fmt;

use metastore_statemachine::SectionTag;
use xxhash_rust::xxh3::Xxh3;

use super::chunk::CHUNK_HEADER_BYTES;
use crate::fields::length_u32;

/// What a snapshot file holds, as its trailer says and its chunks confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// Length of the file.
    pub file_bytes: u64,
    /// Number of chunks, without the trailer.
    pub chunk_count: u64,
    /// Bytes of all sections before compression.
    pub raw_bytes: u64,
    /// The xxh3-128 of the header and of every chunk's header, and so of everything.
    pub digest: u128,
    /// The sections, ascending.
    pub sections: Vec<SectionTotal>,
}

/// What one section comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionTotal {
    /// The section.
    pub section: SectionTag,
    /// Number of its chunks.
    pub chunk_count: u64,
    /// Its bytes before compression.
    pub raw_bytes: u64,
}

/// Totals while a file is written or read.
///
/// The raw bytes of the trailer:
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | chunks before the trailer                                     |
///  8 | raw bytes of all of them                                      |
/// 16 | bytes of the file before the trailer                          |
/// 24 | digest: xxh3-128 of the file's header and members, and of     |
/// 32 | the header of every chunk, each of which covers its bytes     |
/// 40 | number of sections            | 0                             |
/// 48 | section       | 0                                             |   one after the other, ascending
/// 56 | chunks of the section                                         |
/// 64 | raw bytes of the section                                      |
/// ```
#[derive(Clone)]
pub(super) struct Totals {
    digest: Xxh3,
    chunk_count: u64,
    file_bytes: u64,
    sections: BTreeMap<SectionTag, SectionTotal>,
}

/// Most sections of a file, so that the trailer is one chunk.
const SECTION_COUNT_MAX: usize = 256;

impl Totals {
    /// The totals of a file that has a header and nothing else.
    pub(super) fn new(header_and_members: &[u8]) -> Totals {
        let mut digest = Xxh3::new();
        digest.update(header_and_members);
        Totals {
            digest,
            chunk_count: 0,
            file_bytes: header_and_members.len() as u64,
            sections: BTreeMap::new(),
        }
    }

    /// Number of the next chunk.
    pub(super) fn next_chunk(&self) -> u64 {
        self.chunk_count
    }

    /// Counts a chunk; `false` when it belongs to one section more than a file may have.
    #[must_use]
    pub(super) fn add(
        &mut self,
        section: SectionTag,
        header: &[u8; CHUNK_HEADER_BYTES],
        length: ChunkLength,
    ) -> bool {
        if self.sections.len() == SECTION_COUNT_MAX && !self.sections.contains_key(&section) {
            return false;
        }
        self.digest.update(header);
        self.chunk_count += 1;
        self.file_bytes += (CHUNK_HEADER_BYTES + length.stored_bytes) as u64;
        let total = self.sections.entry(section).or_insert(SectionTotal {
            section,
            chunk_count: 0,
            raw_bytes: 0,
        });
        total.chunk_count += 1;
        total.raw_bytes += length.raw_bytes as u64;
        true
    }

    /// The trailer's raw bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.chunk_count.to_le_bytes());
        bytes.extend_from_slice(&self.raw_bytes().to_le_bytes());
        bytes.extend_from_slice(&self.file_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.digest.digest128().to_le_bytes());
        bytes.extend_from_slice(&length_u32(self.sections.len()).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for total in self.sections.values() {
            bytes.extend_from_slice(&total.section.0.to_le_bytes());
            bytes.extend_from_slice(&[0; 6]);
            bytes.extend_from_slice(&total.chunk_count.to_le_bytes());
            bytes.extend_from_slice(&total.raw_bytes.to_le_bytes());
        }
        bytes
    }

    /// What a trailer says otherwise, if it does.
    pub(super) fn find_difference(&self, trailer: &[u8]) -> Option<&'static str> {
        let expected = self.encode();
        let fields = [
            ("the number of chunks", 0..8),
            ("the number of raw bytes", 8..16),
            ("the number of bytes", 16..24),
            ("the digest", 24..40),
            (
                "the list of sections",
                40..expected.len().max(trailer.len()),
            ),
        ];
        fields
            .into_iter()
            .find(|(_, range)| expected.get(range.clone()) != trailer.get(range.clone()))
            .map(|(what, _)| what)
    }

    /// The whole, with a trailer that is stored in so many bytes.
    pub(super) fn summary(&self, trailer_bytes: usize) -> SnapshotSummary {
        SnapshotSummary {
            file_bytes: self.file_bytes + trailer_bytes as u64,
            chunk_count: self.chunk_count,
            raw_bytes: self.raw_bytes(),
            digest: self.digest.digest128(),
            sections: self.sections.values().copied().collect(),
        }
    }

    fn raw_bytes(&self) -> u64 {
        self.sections.values().map(|total| total.raw_bytes).sum()
    }
}

/// How long a chunk is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkLength {
    pub(super) raw_bytes: usize,
    pub(super) stored_bytes: usize,
}

impl fmt::Debug for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Totals")
            .field("summary", &self.summary(0))
            .finish_non_exhaustive()
    }
}
