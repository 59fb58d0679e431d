//! Targets for fuzzers: each takes any bytes, must never panic, asserts what the format promises, and says whether the
//! bytes were accepted.
//!
//! They are plain functions, so that the tests below drive them on every run with a corpus and seeded mutations,
//! and a fuzzer's harness is one call.

use metastore_statemachine::SectionTag;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use super::{
    CHUNK_HEADER_BYTES, SNAPSHOT_BLOCK_BYTES, SNAPSHOT_HEADER_BYTES, SnapshotError,
    SnapshotIdentity, SnapshotReader, SnapshotStep, SnapshotSummary, SnapshotWriter,
};
use crate::fields::{put, u32_at, u64_at};

/// What a file was read as.
type Content = (
    SnapshotIdentity,
    Vec<(SectionTag, Vec<u8>)>,
    SnapshotSummary,
);

/// Any file is read or refused, whatever the cuts, and one that can be read is written again with the same content.
pub fn fuzz_snapshot(data: &[u8]) -> bool {
    let content = read(data, usize::MAX);
    assert_eq!(read(data, 7), content);
    let Ok((identity, sections, _)) = content else {
        return false;
    };
    let mut file = Vec::new();
    let mut writer = SnapshotWriter::new(&identity, &mut file);
    for (section, bytes) in &sections {
        writer.push(*section, bytes);
        while writer.write_block(&mut file) {}
    }
    let summary = writer.finish(&mut file);
    let again = read(&file, usize::MAX);
    // Chunks that were shorter than they could be are joined, so only the order of sections and their bytes stay.
    assert_eq!(again, Ok((identity, joined(sections), summary)));
    true
}

fn read(data: &[u8], cut_bytes: usize) -> Result<Content, SnapshotError> {
    let mut reader = SnapshotReader::new(None);
    let mut identity = None;
    let mut sections = Vec::new();
    for piece in data.chunks(cut_bytes) {
        reader.feed(piece);
        loop {
            match reader.read_next()? {
                SnapshotStep::NeedMore | SnapshotStep::Finished(_) => break,
                SnapshotStep::Identity(found) => identity = Some(found.clone()),
                SnapshotStep::Section { section, bytes, .. } => {
                    assert!(!bytes.is_empty() && bytes.len() <= SNAPSHOT_BLOCK_BYTES);
                    sections.push((section, bytes.to_vec()));
                }
            }
        }
    }
    let summary = reader.finish()?.clone();
    let Some(identity) = identity else {
        panic!("a file was read to its end without its header");
    };
    Ok((identity, sections, summary))
}

/// The sections as they are written: the same section's bytes behind each other in blocks.
fn joined(sections: Vec<(SectionTag, Vec<u8>)>) -> Vec<(SectionTag, Vec<u8>)> {
    let mut joined: Vec<(SectionTag, Vec<u8>)> = Vec::new();
    for (section, bytes) in sections {
        match joined.last_mut() {
            Some((last, gathered)) if *last == section => gathered.extend_from_slice(&bytes),
            Some(_) | None => joined.push((section, bytes)),
        }
    }
    joined
        .into_iter()
        .flat_map(|(section, bytes)| {
            let blocks: Vec<_> = bytes
                .chunks(SNAPSHOT_BLOCK_BYTES)
                .map(|block| (section, block.to_vec()))
                .collect();
            blocks
        })
        .collect()
}

/// Makes every checksum that can be found fit: behind them nothing would be reached by chance.
pub fn mend_snapshot(file: &mut [u8]) {
    if file.len() < SNAPSHOT_HEADER_BYTES {
        return;
    }
    let members_end = SNAPSHOT_HEADER_BYTES + u32_at(file, 36) as usize;
    if let Some(members) = file.get(SNAPSHOT_HEADER_BYTES..members_end) {
        let checksum = xxh3_64_with_seed(members, u64_at(file, 48));
        put(file, 64, checksum.to_le_bytes());
    }
    let seed = xxh3_64(&file[..72]);
    put(file, 72, seed.to_le_bytes());
    let mut start = members_end;
    while let Some(header) = file.get(start..start.saturating_add(CHUNK_HEADER_BYTES)) {
        let stored_start = start + CHUNK_HEADER_BYTES;
        let stored_end = stored_start + u32_at(header, 20) as usize;
        if let Some(stored) = file.get(stored_start..stored_end) {
            let checksum = xxh3_128_with_seed(stored, seed);
            put(file, start + 24, checksum.to_le_bytes());
        }
        let checksum = xxh3_64_with_seed(&file[start..start + 40], seed);
        put(file, start + 40, checksum.to_le_bytes());
        start = stored_end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % bound as u64) as usize
        }

        fn mutate(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..=self.below(3) {
                if bytes.is_empty() {
                    return;
                }
                let index = self.below(bytes.len());
                match self.below(6) {
                    0 => bytes.truncate(index),
                    1 => bytes.insert(index, self.below(256) as u8),
                    2 => bytes[index] ^= 1 << self.below(8),
                    3 => bytes[index] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                    4 => bytes[index] = bytes[index].wrapping_add(1),
                    _ => bytes[index] = self.below(256) as u8,
                }
            }
        }
    }

    fn with_checksums(data: &[u8]) -> Vec<u8> {
        let mut file = data.to_vec();
        mend_snapshot(&mut file);
        file
    }

    #[test]
    fn snapshots_survive_mutation() {
        let seed = include_bytes!("../../testdata/snapshot-small.bin");
        assert_eq!(with_checksums(seed), seed, "what is whole stays as it is");
        let mut random = Random(1);
        assert!(fuzz_snapshot(seed));
        for length in 0..seed.len() {
            assert!(!fuzz_snapshot(&seed[..length]));
        }
        for _ in 0..10_000 {
            let mut mutated = seed.to_vec();
            random.mutate(&mut mutated);
            fuzz_snapshot(&mutated);
            mend_snapshot(&mut mutated);
            fuzz_snapshot(&mutated);
        }
    }

    #[test]
    fn what_checksums_hide_is_refused_by_its_own_rule() {
        let seed = include_bytes!("../../testdata/snapshot-small.bin");
        let first_chunk = SNAPSHOT_HEADER_BYTES + 7;
        let compressed_chunk = first_chunk + CHUNK_HEADER_BYTES + 8;
        let refusal = |offset: usize, value: u8| {
            let mut file = seed.to_vec();
            file[offset] = value;
            read(&with_checksums(&file), usize::MAX)
                .unwrap_err()
                .to_string()
        };
        let cases = [
            (
                10,
                2,
                "offset 0, header: needs a reader of version 2 or later, this is 1",
            ),
            (
                38,
                2,
                "offset 0, header: the length of the members cannot be 131079",
            ),
            (
                first_chunk + 6,
                2,
                "offset 87, header of the first chunk: the codec cannot be 2",
            ),
            (
                first_chunk + 7,
                2,
                "offset 87, header of the first chunk: the kind cannot be 2",
            ),
            (
                first_chunk + 8,
                1,
                "offset 87, section counters: chunk 1 stands where chunk 0 belongs",
            ),
            (
                first_chunk + 16,
                0,
                "offset 87, header of the first chunk: the raw length cannot be 0",
            ),
            (
                first_chunk + 18,
                2,
                "offset 87, header of the first chunk: the raw length cannot be 131080",
            ),
            (
                first_chunk + 16,
                9,
                "offset 87, header of the first chunk: the stored length cannot be 8",
            ),
            (
                compressed_chunk + 16,
                43,
                "offset 143, section keys: the stored bytes cannot be decompressed",
            ),
            (
                compressed_chunk + 48,
                0xff,
                "offset 143, section keys: the stored bytes cannot be decompressed",
            ),
            (
                first_chunk + 4,
                9,
                "offset 507, trailer: the digest does not match what was read",
            ),
        ];
        for (offset, value, expected) in cases {
            assert_eq!(refusal(offset, value), expected);
        }
    }
}
