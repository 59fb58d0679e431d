//! A chunk: one block of a section.

use metastore_bugs::{Mutant, is_planted};
use metastore_statemachine::SectionTag;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::error::{SnapshotError, SnapshotPart};
use super::header::FileSeed;
use crate::fields::{array_at, length_u32, put, u16_at, u32_at, u64_at, u128_at};

/// Length of a chunk's header.
pub const CHUNK_HEADER_BYTES: usize = 48;

/// Bytes of a section that one chunk holds at most.
pub const SNAPSHOT_BLOCK_BYTES: usize = 64 * 1024;

const MAGIC: [u8; 4] = *b"MSCK";
const CHECKSUM_OFFSET: usize = 40;

const _: () = assert!(CHECKSUM_OFFSET + 8 == CHUNK_HEADER_BYTES);

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkKind {
    /// A block of a section.
    Block,
    /// The end of the file.
    Trailer,
}

/// How a chunk's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// As they are.
    Plain,
    /// One block of snappy's raw format. Only where it is shorter.
    Snappy,
}

/// The header of a chunk.
///
/// ```text
///      0       1       2       3       4       5       6       7
///  0 | magic "MSCK"                  | section       | codec | kind  |
///  8 | number of the chunk, from 0                                   |
/// 16 | raw length                    | stored length                 |
/// 24 | xxh3-128 of the stored bytes                                  |
/// 32 |                                                               |
/// 40 | xxh3-64 of everything above                                   |
/// 48 | stored bytes ...                                              |
/// ```
///
/// * `codec`: 0 plain, 1 snappy. `kind`: 0 block, 1 trailer, which has section 0.
/// * Both checksums are seeded with the checksum of the file's header. The one of the header tells damage to the
///   lengths before they are used, so that what is told is damage and not a file that ends too early.
/// * The stored length is never above the raw length: what snappy would lengthen is stored plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    pub(super) kind: ChunkKind,
    pub(super) section: SectionTag,
    pub(super) codec: Codec,
    pub(super) number: u64,
    pub(super) raw_bytes: usize,
    pub(super) stored_bytes: usize,
    checksum: u128,
}

/// Makes chunks, with the scratch space that takes.
#[derive(Debug)]
pub(super) struct ChunkEncoder {
    compressor: snap::raw::Encoder,
    compressed: Vec<u8>,
}

impl ChunkHeader {
    /// Reads the header of the chunk with this number at `offset`.
    pub(super) fn decode(
        bytes: &[u8; CHUNK_HEADER_BYTES],
        seed: FileSeed,
        place: ChunkPlace,
    ) -> Result<ChunkHeader, SnapshotError> {
        let ChunkPlace {
            offset,
            number,
            after,
        } = place;
        let checksum = xxh3_64_with_seed(&bytes[..CHECKSUM_OFFSET], seed.0);
        let unknown = SnapshotPart::ChunkHeader { after };
        if array_at(bytes, 0) != MAGIC || u64_at(bytes, CHECKSUM_OFFSET) != checksum {
            let part = unknown;
            return Err(SnapshotError::Checksum { offset, part });
        }
        let malformed = |what, found| SnapshotError::Malformed {
            offset,
            part: unknown,
            what,
            found,
        };
        let header = ChunkHeader {
            kind: match bytes[7] {
                0 => ChunkKind::Block,
                1 => ChunkKind::Trailer,
                kind => return Err(malformed("the kind", kind.into())),
            },
            section: SectionTag(u16_at(bytes, 4)),
            codec: match bytes[6] {
                0 => Codec::Plain,
                1 => Codec::Snappy,
                codec => return Err(malformed("the codec", codec.into())),
            },
            number: u64_at(bytes, 8),
            raw_bytes: u32_at(bytes, 16) as usize,
            stored_bytes: u32_at(bytes, 20) as usize,
            checksum: u128_at(bytes, 24),
        };
        if header.raw_bytes == 0 || header.raw_bytes > SNAPSHOT_BLOCK_BYTES {
            return Err(malformed("the raw length", header.raw_bytes as u64));
        }
        let is_stored_right = match header.codec {
            Codec::Plain => header.stored_bytes == header.raw_bytes,
            Codec::Snappy => header.stored_bytes < header.raw_bytes,
        };
        if !is_stored_right {
            return Err(malformed("the stored length", header.stored_bytes as u64));
        }
        if header.number != number {
            return Err(SnapshotError::WrongChunk {
                offset,
                part: header.part(),
                expected: number,
                found: header.number,
            });
        }
        Ok(header)
    }

    /// The part of the file that the chunk is.
    pub(super) fn part(&self) -> SnapshotPart {
        match self.kind {
            ChunkKind::Block => SnapshotPart::Section(self.section),
            ChunkKind::Trailer => SnapshotPart::Trailer,
        }
    }

    /// Checks the stored bytes of the chunk at `offset` and puts what they hold into `raw`.
    pub(super) fn open(
        &self,
        stored: &[u8],
        seed: FileSeed,
        offset: u64,
        raw: &mut Vec<u8>,
    ) -> Result<(), SnapshotError> {
        assert_eq!(stored.len(), self.stored_bytes, "a chunk is opened whole");
        let part = self.part();
        let is_checked = !is_planted(Mutant::SnapshotChunkNotChecked);
        if is_checked && xxh3_128_with_seed(stored, seed.0) != self.checksum {
            return Err(SnapshotError::Checksum { offset, part });
        }
        raw.clear();
        match self.codec {
            Codec::Plain => raw.extend_from_slice(stored),
            Codec::Snappy => {
                // Nothing is allocated for a length that was not checked: the raw length was, in the header.
                let fits = snap::raw::decompress_len(stored) == Ok(self.raw_bytes);
                raw.resize(self.raw_bytes, 0);
                let length = snap::raw::Decoder::new().decompress(stored, raw);
                if !fits || length != Ok(self.raw_bytes) {
                    raw.clear();
                    return Err(SnapshotError::Compression { offset, part });
                }
            }
        }
        Ok(())
    }
}

/// Where a chunk stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkPlace {
    pub(super) offset: u64,
    /// Its number.
    pub(super) number: u64,
    /// The section of the chunk before it.
    pub(super) after: Option<SectionTag>,
}

/// What a chunk is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkContent<'a> {
    pub(super) kind: ChunkKind,
    pub(super) section: SectionTag,
    pub(super) number: u64,
    pub(super) raw: &'a [u8],
}

impl ChunkEncoder {
    pub(super) fn new() -> ChunkEncoder {
        ChunkEncoder {
            compressor: snap::raw::Encoder::new(),
            compressed: Vec::new(),
        }
    }

    /// Appends a chunk to `out` and returns its header's bytes.
    pub(super) fn encode_into(
        &mut self,
        content: ChunkContent<'_>,
        seed: FileSeed,
        out: &mut Vec<u8>,
    ) -> [u8; CHUNK_HEADER_BYTES] {
        let raw = content.raw;
        assert!(
            !raw.is_empty() && raw.len() <= SNAPSHOT_BLOCK_BYTES,
            "a chunk of {} bytes",
            raw.len()
        );
        let (codec, stored) = match self.compress(raw) {
            Some(compressed) if compressed.len() < raw.len() => (Codec::Snappy, compressed),
            Some(_) | None => (Codec::Plain, raw),
        };
        let mut header = [0; CHUNK_HEADER_BYTES];
        put(&mut header, 0, MAGIC);
        put(&mut header, 4, content.section.0.to_le_bytes());
        header[6] = match codec {
            Codec::Plain => 0,
            Codec::Snappy => 1,
        };
        header[7] = match content.kind {
            ChunkKind::Block => 0,
            ChunkKind::Trailer => 1,
        };
        put(&mut header, 8, content.number.to_le_bytes());
        put(&mut header, 16, length_u32(raw.len()).to_le_bytes());
        put(&mut header, 20, length_u32(stored.len()).to_le_bytes());
        let checksum = xxh3_128_with_seed(stored, seed.0);
        put(&mut header, 24, checksum.to_le_bytes());
        let checksum = xxh3_64_with_seed(&header[..CHECKSUM_OFFSET], seed.0);
        put(&mut header, CHECKSUM_OFFSET, checksum.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(stored);
        header
    }

    fn compress(&mut self, raw: &[u8]) -> Option<&[u8]> {
        self.compressed
            .resize(snap::raw::max_compress_len(raw.len()), 0);
        let length = self.compressor.compress(raw, &mut self.compressed).ok()?;
        self.compressed.get(..length)
    }
}
