//! Fixed-width little-endian fields at known offsets, and the seeded checksum.

use crate::ids::{RecordSequence, SegmentSequence};

/// The `N` bytes at `offset`. The caller has checked the length of `bytes` once for all its fields.
pub(super) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

pub(super) fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, offset))
}

/// Writes `field` at `offset`.
pub(super) fn put<const N: usize>(bytes: &mut [u8], offset: usize, field: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&field);
}

/// The crc32 of `bytes`, seeded with the place of the record they belong to: what an earlier use of a file left
/// behind, or what was written to a wrong place, never passes for a record of this place.
pub(super) fn seeded_crc32(
    segment: SegmentSequence,
    sequence: RecordSequence,
    bytes: &[u8],
) -> u32 {
    let mut seed = [0; 16];
    put(&mut seed, 0, segment.0.to_le_bytes());
    put(&mut seed, 8, sequence.0.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed);
    hasher.update(bytes);
    hasher.finalize()
}
