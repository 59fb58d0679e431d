//! Makes checksums, seals and digests of mutated bytes fit, so that what lies behind them is reached.

use super::SEAL;
use super::source::{MARKS_BYTES, SEGMENT_HEAD_BYTES, split_head};
use crate::format::{
    BLOCK_BYTES, RECORD_HEADER_BYTES, SUB_HEADER_BYTES, mend_header, mend_mark_block,
    mend_sub_header, round_up_to_blocks,
};

/// How a record refers to the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Digests {
    /// By the digest that this one has now.
    Chained,
    /// As the input says.
    AsFound,
}

/// A mark whose checksum fits.
pub fn mend_mark(block: &mut [u8]) {
    if block.len() >= BLOCK_BYTES {
        mend_mark_block(&mut block[..BLOCK_BYTES]);
    }
}

/// A record whose checksums and seal fit.
pub fn mend_record(record: &mut [u8]) {
    if record.len() >= RECORD_HEADER_BYTES {
        mend_record_after(record, None);
    }
}

/// A log whose checksums and seals fit, and whose records follow each other.
pub fn mend_log(log: &mut [u8]) {
    mend_blocks(log, Digests::Chained);
}

/// A log whose checksums and seals fit, and whose records refer to those before them as they did.
pub fn mend_log_apart(log: &mut [u8]) {
    mend_blocks(log, Digests::AsFound);
}

fn mend_blocks(log: &mut [u8], digests: Digests) {
    let (marks, mut rest) = log.split_at_mut(log.len().min(MARKS_BYTES));
    for block in marks.chunks_exact_mut(BLOCK_BYTES) {
        if block[0] != 0 {
            mend_mark_block(block);
        }
    }
    let mut previous = 0;
    while let Some((head, behind)) = rest.split_first_chunk_mut::<SEGMENT_HEAD_BYTES>() {
        let (_, used) = split_head(head);
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        let (content, behind) = behind.split_at_mut(used.min(behind.len()));
        let mut start = 0;
        while start + RECORD_HEADER_BYTES <= content.len() {
            if content[start] == b'M' {
                let digest = (digests == Digests::Chained).then_some(previous);
                previous = mend_padded(&mut content[start..], digest);
            }
            start += BLOCK_BYTES;
        }
        rest = behind;
    }
}

/// As [`mend_record_after`], for what is followed by zeros that are not written down.
fn mend_padded(content: &mut [u8], previous_digest: Option<u64>) -> u64 {
    if content.len() > 2 * BLOCK_BYTES {
        return mend_record_after(content, previous_digest);
    }
    let mut padded = content.to_vec();
    padded.resize(round_up_to_blocks(content.len()), 0);
    let digest = mend_record_after(&mut padded, previous_digest);
    content.copy_from_slice(&padded[..content.len()]);
    digest
}

/// Mends the record at the start of `bytes` and returns its digest.
fn mend_record_after(bytes: &mut [u8], previous_digest: Option<u64>) -> u64 {
    let (header, body) = bytes.split_at_mut(RECORD_HEADER_BYTES);
    let field = |at: usize| {
        let mut field = [0; 4];
        field.copy_from_slice(&header[at..at + 4]);
        u32::from_le_bytes(field) as usize
    };
    let (sub_headers, payload_bytes) = (field(36), field(100));
    let mut parts = body.chunks_exact_mut(SUB_HEADER_BYTES);
    for part in parts.by_ref().take(sub_headers) {
        mend_sub_header(header, part);
    }
    let used = sub_headers
        .saturating_mul(SUB_HEADER_BYTES)
        .saturating_add(payload_bytes);
    mend_header(header, &body[..used.min(body.len())], previous_digest, SEAL)
}
