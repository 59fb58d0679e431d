//! For fuzzers: writes right checksums over fields that need not be right.

use super::bytes::{put, seeded_crc32, u64_at};
use super::header::seal_of;
use super::{BLOCK_BYTES, RECORD_HEADER_BYTES, SUB_HEADER_BYTES};
use crate::ids::{RecordSequence, SealKey, SegmentSequence};

/// Makes the checksums of a header fit itself and this body, and returns its digest. A first record, which follows
/// none, is left so.
pub(crate) fn mend_header(
    header: &mut [u8],
    body: &[u8],
    previous_digest: Option<u64>,
    seal: SealKey,
) -> u64 {
    if let Some(previous) = previous_digest
        && u64_at(header, 88) != 0
    {
        put(header, 88, previous.to_le_bytes());
    }
    let checksum = xxhash_rust::xxh3::xxh3_128(body);
    put(header, 104, checksum.to_le_bytes());
    let seal = seal_of(header, seal);
    put(header, 120, seal.to_le_bytes());
    let (segment, sequence) = place_of(header);
    let crc = seeded_crc32(segment, sequence, &header[..RECORD_HEADER_BYTES - 4]);
    put(header, RECORD_HEADER_BYTES - 4, crc.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(header)
}

/// Makes the checksum of a sub-header fit, in the record of this header.
pub(crate) fn mend_sub_header(header: &[u8], sub_header: &mut [u8]) {
    let (segment, sequence) = place_of(header);
    put(sub_header, 4, [0; 4]);
    let crc = seeded_crc32(segment, sequence, &sub_header[..SUB_HEADER_BYTES]);
    put(sub_header, 4, crc.to_le_bytes());
}

/// Makes the checksum of a mark fit.
pub(crate) fn mend_mark_block(block: &mut [u8]) {
    let crc = crc32fast::hash(&block[..BLOCK_BYTES - 4]);
    put(block, BLOCK_BYTES - 4, crc.to_le_bytes());
}

fn place_of(header: &[u8]) -> (SegmentSequence, RecordSequence) {
    (
        SegmentSequence(u64_at(header, 40)),
        RecordSequence(u64_at(header, 48)),
    )
}
