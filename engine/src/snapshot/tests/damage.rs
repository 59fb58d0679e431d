//! Damage of every kind to a small file: each is told by where and what, and nothing of it is read as a snapshot.

use super::*;

/// Where the parts of a file lie.
struct Layout {
    /// Beginning, end, and section of each chunk; `None` for the trailer.
    chunks: Vec<(usize, usize, Option<SectionTag>)>,
}

impl Layout {
    fn of(file: &[u8]) -> Layout {
        let mut start = SNAPSHOT_HEADER_BYTES + identity().members.len();
        let mut chunks = Vec::new();
        while start < file.len() {
            let stored = u32::from_le_bytes(file[start + 20..start + 24].try_into().unwrap());
            let end = start + CHUNK_HEADER_BYTES + stored as usize;
            let section = u16::from_le_bytes(file[start + 4..start + 6].try_into().unwrap());
            let is_block = file[start + 7] == 0;
            chunks.push((start, end, is_block.then_some(SectionTag(section))));
            start = end;
        }
        assert_eq!(start, file.len());
        Layout { chunks }
    }

    /// Where a fault at `position` must be told to be.
    fn part_at(&self, position: usize) -> (u64, SnapshotPart) {
        let chunks_start = self.chunks[0].0;
        if position < SNAPSHOT_HEADER_BYTES {
            return (0, SnapshotPart::Header);
        }
        if position < chunks_start {
            return (SNAPSHOT_HEADER_BYTES as u64, SnapshotPart::Members);
        }
        let index = self
            .chunks
            .iter()
            .position(|(_, end, _)| position < *end)
            .unwrap();
        let (start, _, section) = self.chunks[index];
        let part = if position < start + CHUNK_HEADER_BYTES {
            let after = index
                .checked_sub(1)
                .and_then(|before| self.chunks[before].2);
            SnapshotPart::ChunkHeader { after }
        } else {
            section.map_or(SnapshotPart::Trailer, SnapshotPart::Section)
        };
        (start as u64, part)
    }
}

#[test]
fn every_flipped_bit_is_told_by_offset_and_section() {
    let file = write(&identity(), &small_sections(), usize::MAX);
    let layout = Layout::of(&file);
    for position in 0..file.len() {
        let (offset, part) = layout.part_at(position);
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[position] ^= 1 << bit;
            let expected = if position < 8 {
                SnapshotError::NotASnapshot
            } else {
                SnapshotError::Checksum { offset, part }
            };
            for cut_bytes in [usize::MAX, 13] {
                assert_eq!(
                    read(None, &damaged, cut_bytes),
                    Err(expected),
                    "bit {bit} of byte {position}"
                );
            }
        }
    }
}

#[test]
fn every_file_that_ends_too_early_is_told_by_its_last_part() {
    let file = write(&identity(), &small_sections(), usize::MAX);
    let layout = Layout::of(&file);
    for length in 0..file.len() {
        let refused = read(None, &file[..length], usize::MAX);
        let Err(SnapshotError::Truncated {
            offset,
            part,
            needed,
            available,
        }) = refused
        else {
            panic!("{length} bytes: {refused:?}");
        };
        let (expected_offset, mut expected_part) = layout.part_at(length);
        if let Some((start, _, section)) = layout
            .chunks
            .iter()
            .find(|(start, ..)| *start as u64 == offset)
            && length >= start + CHUNK_HEADER_BYTES
        {
            expected_part = section.map_or(SnapshotPart::Trailer, SnapshotPart::Section);
        }
        assert_eq!(
            (offset, part),
            (expected_offset, expected_part),
            "{length} bytes"
        );
        assert_eq!(offset + available, length as u64);
        assert!(available < needed);
    }
}

#[test]
fn chunks_that_are_swapped_missing_or_doubled_are_told() {
    let file = write(&identity(), &small_sections(), usize::MAX);
    let layout = Layout::of(&file);
    let chunk = |index: usize| {
        let (start, end, _) = layout.chunks[index];
        &file[start..end]
    };
    let head = &file[..layout.chunks[0].0];
    let orders: [(&[usize], usize, u64, u64); 5] = [
        (&[1, 0, 2, 3], 0, 0, 1),
        (&[0, 2, 1, 3], 1, 1, 2),
        (&[0, 0, 1, 2, 3], 1, 1, 0),
        (&[0, 2, 3], 1, 1, 2),
        (&[0, 1, 3], 2, 2, 3),
    ];
    for (order, at, expected, found) in orders {
        let mut moved = head.to_vec();
        order
            .iter()
            .for_each(|index| moved.extend_from_slice(chunk(*index)));
        let offset = head.len()
            + order[..at]
                .iter()
                .map(|index| chunk(*index).len())
                .sum::<usize>();
        let section = layout.chunks[order[at]].2;
        let refused = SnapshotError::WrongChunk {
            offset: offset as u64,
            part: section.map_or(SnapshotPart::Trailer, SnapshotPart::Section),
            expected,
            found,
        };
        assert_eq!(read(None, &moved, usize::MAX), Err(refused), "{order:?}");
    }
    let doubled = [&file[..], chunk(3)].concat();
    let offset = file.len() as u64;
    assert_eq!(
        read(None, &doubled, 1),
        Err(SnapshotError::TrailingBytes { offset })
    );
}

#[test]
fn bytes_that_come_with_the_trailer_are_noticed() {
    let mut file = write(&identity(), &small_sections(), usize::MAX);
    let offset = file.len() as u64;
    file.push(0);
    for cut_bytes in [1, 7, usize::MAX] {
        assert_eq!(
            read(None, &file, cut_bytes),
            Err(SnapshotError::TrailingBytes { offset }),
            "cuts of {cut_bytes}"
        );
    }
}

#[test]
fn a_chunk_of_another_file_is_refused() {
    let file = write(&identity(), &small_sections(), usize::MAX);
    let layout = Layout::of(&file);
    let others = [
        SnapshotIdentity {
            index: LogIndex(1001),
            ..identity()
        },
        SnapshotIdentity {
            replica: ReplicaId(8),
            ..identity()
        },
        SnapshotIdentity {
            node: NodeId(2),
            ..identity()
        },
        SnapshotIdentity {
            members: b"MEMBERS".to_vec(),
            ..identity()
        },
    ];
    for other in others {
        let other = write(&other, &small_sections(), usize::MAX);
        for (index, (start, end, _)) in layout.chunks.iter().enumerate() {
            let mut mixed = file.clone();
            mixed[*start..*end].copy_from_slice(&other[*start..*end]);
            let after = index
                .checked_sub(1)
                .and_then(|before| layout.chunks[before].2);
            let refused = SnapshotError::Checksum {
                offset: *start as u64,
                part: SnapshotPart::ChunkHeader { after },
            };
            assert_eq!(read(None, &mixed, usize::MAX), Err(refused));
        }
    }
}
