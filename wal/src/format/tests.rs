use std::path::PathBuf;

use super::*;
use crate::buffer::LogBuffer;
use crate::ids::{
    LogIndex, RecordSequence, RecoveryEpoch, ReplicaId, SegmentSequence, ShardId, Term,
};
use crate::part::HardState;
use crate::testing::{Disk, IDENTITY, Machine, SEAL, append, entry, part, small_options, snapshot};
use crate::{Entry, EntryKind, PartBody};

/// Set this to write the golden files anew, after a deliberate change of the format.
const REWRITE: &str = "METASTORE_REWRITE_GOLDEN";

fn compare_with_golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(format!("{name}.bin"));
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert!(golden == bytes, "{name} is not what earlier versions wrote");
}

fn fields(kind: RecordKind) -> RecordFields {
    RecordFields {
        seal: SEAL,
        identity: IDENTITY,
        kind,
        segment: SegmentSequence(5),
        sequence: RecordSequence(0x0102_0304),
        oldest_live_segment: SegmentSequence(4),
        epoch: RecoveryEpoch(3),
        cut: RecordSequence(0x0102_0000),
        watermark: RecordSequence(0x0102_0303),
        previous_digest: 0x1112_1314_1516_1718,
    }
}

fn sub_header(kind: SubHeaderKind) -> SubHeader {
    let hard_state = HardState {
        term: Term(9),
        vote: ReplicaId(0x21),
        commit: LogIndex(0x31),
    };
    SubHeader {
        standing: Standing::Whole,
        kind,
        replica: ReplicaId(0x21),
        shard: ShardId(0x41),
        entry_count: 0,
        hard_state,
        first_index: LogIndex(0x32),
        last_index: LogIndex(0x33),
        payload_bytes: 0,
        previous_sequence: RecordSequence(0x0102_0301),
        snapshot_index: LogIndex(0),
        snapshot_term: Term(0),
    }
}

/// A record of every kind of part.
fn record_of_parts() -> Vec<u8> {
    let entries = [
        entry(8, b'a', 5),
        Entry {
            term: Term(9),
            kind: EntryKind::ConfChange,
            data: ::bytes::Bytes::from_static(b"change"),
        },
    ];
    let entries_bytes = entries
        .iter()
        .map(|entry| entry.stored_bytes() as u32)
        .sum();
    let with_entries = |kind| SubHeader {
        entry_count: 2,
        payload_bytes: entries_bytes,
        ..sub_header(kind)
    };
    let snapshot = SubHeader {
        payload_bytes: 7,
        snapshot_index: LogIndex(0x32),
        snapshot_term: Term(8),
        ..sub_header(SubHeaderKind::Snapshot)
    };
    let sub_headers = [
        with_entries(SubHeaderKind::Append),
        with_entries(SubHeaderKind::Rewrite),
        snapshot,
        sub_header(SubHeaderKind::Tombstone),
    ];
    let buffer = LogBuffer::new(0, BLOCK_BYTES);
    let mut encoder = RecordEncoder::new(buffer, fields(RecordKind::Parts), &sub_headers);
    for entry in entries.iter().chain(&entries) {
        encoder.push_entry(entry);
    }
    encoder.push_bytes(b"members");
    encoder.finish().0.as_slice().to_vec()
}

fn checkpoint() -> Vec<u8> {
    let sub_header = SubHeader {
        payload_bytes: 7,
        snapshot_index: LogIndex(0x31),
        snapshot_term: Term(8),
        ..sub_header(SubHeaderKind::Checkpoint)
    };
    let mut encoder = RecordEncoder::new(
        LogBuffer::new(0, BLOCK_BYTES),
        fields(RecordKind::Checkpoint),
        &[sub_header],
    );
    encoder.push_bytes(b"members");
    encoder.finish().0.as_slice().to_vec()
}

fn mark() -> Mark {
    Mark {
        identity: IDENTITY,
        generation: 0x51,
        watermark: RecordSequence(0x0102_0304),
        segment: SegmentSequence(5),
        oldest_live_segment: SegmentSequence(4),
        epoch: RecoveryEpoch(3),
    }
}

#[test]
fn records_and_marks_are_what_they_always_were() {
    compare_with_golden("record-parts", &record_of_parts());
    compare_with_golden("record-checkpoint", &checkpoint());
    let mut block = vec![0; BLOCK_BYTES];
    mark().encode(&mut block);
    compare_with_golden("mark", &block);
}

#[test]
fn whole_logs_are_what_they_always_were() {
    let mut machine = Machine::fresh(small_options());
    machine.write(snapshot(1, 1, 1));
    machine.write(append(
        1,
        2,
        1,
        2,
        vec![entry(2, b'a', 10), entry(2, b'b', 20)],
    ));
    machine.write(part(2, 1, 0, PartBody::Tombstone));
    compare_with_golden("log-clean", &files_of(&machine.disk));
    machine
        .log
        .stage(append(1, 2, 2, 4, vec![entry(2, b'c', 5000)]));
    machine.collect();
    let pending = machine.pending.pop().unwrap();
    // The second of the two blocks never reached the disk.
    let half = pending.buffer.as_slice()[..BLOCK_BYTES].to_vec();
    machine
        .disk
        .target(pending.place, half.len())
        .copy_from_slice(&half);
    compare_with_golden("log-torn-tail", &files_of(&machine.disk));
    machine.idle_after_loss();
    compare_with_golden("log-recovered", &files_of(&machine.disk));
}

/// The mark blocks, then the segments in the order of their numbers.
fn files_of(disk: &Disk) -> Vec<u8> {
    let mut bytes = disk.marks.clone();
    for (file, content) in &disk.files {
        bytes.extend_from_slice(&file.0.to_le_bytes());
        let used = content
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        bytes.extend_from_slice(&(used as u64).to_le_bytes());
        bytes.extend_from_slice(&content[..used]);
    }
    bytes
}

#[test]
fn a_record_is_read_back_as_it_was_built() {
    let bytes = record_of_parts();
    let (header, _) = RecordHeader::decode(&bytes, SEAL).unwrap();
    assert_eq!(header.sequence, RecordSequence(0x0102_0304));
    assert_eq!(header.cut, RecordSequence(0x0102_0000));
    let body = RecordBody::decode(&header, &bytes).unwrap();
    let parts: Vec<_> = body.parts().collect();
    let kinds: Vec<_> = parts
        .iter()
        .map(|(sub_header, _)| sub_header.kind)
        .collect();
    use SubHeaderKind::{Append, Rewrite, Snapshot, Tombstone};
    assert_eq!(kinds, [Append, Rewrite, Snapshot, Tombstone]);
    let entries: Vec<_> = Entries::check(parts[0].1, 2).unwrap().collect();
    assert_eq!(
        entries[0],
        EntryRef {
            term: Term(8),
            kind: EntryKind::Normal,
            data: b"aaaaa"
        }
    );
    assert_eq!(
        entries[1],
        EntryRef {
            term: Term(9),
            kind: EntryKind::ConfChange,
            data: b"change"
        }
    );
    assert_eq!(parts[2].1, b"members");
}

#[test]
fn every_flipped_bit_of_a_record_is_noticed() {
    for original in [record_of_parts(), checkpoint()] {
        let mut bytes = original.clone();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                bytes[index] ^= 1 << bit;
                match RecordHeader::decode(&bytes, SEAL) {
                    Err(fault) => assert_eq!(
                        (fault, index < RECORD_HEADER_BYTES),
                        (HeaderFault::Unreadable, true)
                    ),
                    Ok((header, _)) => {
                        let fault = RecordBody::decode(&header, &bytes).unwrap_err();
                        let is_padding = index >= RECORD_HEADER_BYTES + header.body_bytes();
                        assert_eq!(
                            fault,
                            if is_padding {
                                BodyFault::Padding
                            } else {
                                BodyFault::Checksum
                            }
                        );
                    }
                }
                bytes[index] ^= 1 << bit;
            }
        }
        assert_eq!(bytes, original);
    }
}

#[test]
fn every_flipped_bit_of_a_mark_is_noticed() {
    let mut block = vec![0; BLOCK_BYTES];
    mark().encode(&mut block);
    assert_eq!(Mark::decode(&block), Ok(mark()));
    for index in 0..block.len() {
        for bit in 0..8 {
            block[index] ^= 1 << bit;
            assert_eq!(Mark::decode(&block), Err(MarkFault::Unreadable));
            block[index] ^= 1 << bit;
        }
    }
}

/// A mark has a checksum and no seal: what it says is used for arithmetic only within the bounds of headers.
#[test]
fn a_mark_that_counts_further_than_any_log_is_unreadable() {
    let beyond = super::NUMBER_MAX + 1;
    let marks = [
        Mark {
            generation: beyond,
            ..mark()
        },
        Mark {
            watermark: RecordSequence(beyond),
            ..mark()
        },
        Mark {
            segment: SegmentSequence(beyond),
            ..mark()
        },
        Mark {
            oldest_live_segment: SegmentSequence(beyond),
            ..mark()
        },
        Mark {
            epoch: RecoveryEpoch(beyond),
            ..mark()
        },
    ];
    for mark in marks {
        let mut block = vec![0; BLOCK_BYTES];
        mark.encode(&mut block);
        assert_eq!(Mark::decode(&block), Err(MarkFault::Unreadable), "{mark:?}");
    }
}

#[test]
fn a_damaged_payload_still_names_its_replicas() {
    let mut bytes = record_of_parts();
    let (header, _) = RecordHeader::decode(&bytes, SEAL).unwrap();
    let payload_start = RECORD_HEADER_BYTES + header.sub_header_count as usize * SUB_HEADER_BYTES;
    bytes[payload_start + 3] ^= 1;
    bytes[RECORD_HEADER_BYTES + SUB_HEADER_BYTES + 9] ^= 1;
    assert_eq!(
        RecordBody::decode(&header, &bytes).unwrap_err(),
        BodyFault::Checksum
    );
    let read = RecordBody::sub_headers_of(&header, &bytes);
    let is_readable: Vec<bool> = read.iter().map(Option::is_some).collect();
    assert_eq!(is_readable, [true, false, true, true]);
}

#[test]
fn a_newer_format_is_named_and_not_guessed_at() {
    let mut bytes = checkpoint();
    bytes[10..12].copy_from_slice(&2u16.to_le_bytes());
    let seal = super::header::seal_of(&bytes, SEAL);
    bytes[120..124].copy_from_slice(&seal.to_le_bytes());
    let crc = super::bytes::seeded_crc32(
        SegmentSequence(5),
        RecordSequence(0x0102_0304),
        &bytes[..124],
    );
    bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(
        RecordHeader::decode(&bytes, SEAL).unwrap_err(),
        HeaderFault::NewerFormat { reader_min: 2 }
    );

    let mut block = vec![0; BLOCK_BYTES];
    mark().encode(&mut block);
    block[10..12].copy_from_slice(&3u16.to_le_bytes());
    let crc = crc32fast::hash(&block[..BLOCK_BYTES - 4]);
    block[BLOCK_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(
        Mark::decode(&block),
        Err(MarkFault::NewerFormat { reader_min: 3 })
    );
}

#[test]
fn a_payload_that_is_not_exactly_its_entries_is_refused() {
    let bytes = record_of_parts();
    let (header, _) = RecordHeader::decode(&bytes, SEAL).unwrap();
    let body = RecordBody::decode(&header, &bytes).unwrap();
    let payload = body.parts().next().unwrap().1;
    assert!(Entries::check(payload, 2).is_some());
    assert!(Entries::check(payload, 1).is_none());
    assert!(Entries::check(payload, 3).is_none());
    for end in 0..payload.len() {
        assert!(Entries::check(&payload[..end], 2).is_none());
    }
    let mut unknown_kind = payload.to_vec();
    unknown_kind[12] = 3;
    assert!(Entries::check(&unknown_kind, 2).is_none());
}
