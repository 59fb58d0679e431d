//! Values that imitate records: what a client writes, wherever it comes to lie, is never taken for the log's own.

use crate::format::{
    BLOCK_BYTES, ENTRY_HEADER_BYTES, RECORD_HEADER_BYTES, RecordEncoder, RecordFields,
    RecordHeader, RecordKind, SUB_HEADER_BYTES,
};
use crate::recovery::{Decision, RecoveryError};
use crate::testing::{IDENTITY, Machine, Place, SEAL, append, entry, small_options};
use crate::{
    ClusterId, Entry, EntryKind, Identity, LogBuffer, RecordSequence, RecoveryEpoch, SealKey,
    SegmentSequence, Term,
};

/// A client that knows everything but the secret: a record that says, as damage would have it, that records before it
/// are missing.
fn imitation(identity: Identity, seal: SealKey) -> Vec<u8> {
    let fields = RecordFields {
        seal,
        identity,
        kind: RecordKind::Parts,
        segment: SegmentSequence(1),
        sequence: RecordSequence(1_000),
        oldest_live_segment: SegmentSequence(1),
        epoch: RecoveryEpoch(1),
        cut: RecordSequence(0),
        watermark: RecordSequence(999),
        previous_digest: 0,
    };
    let encoder = RecordEncoder::new(LogBuffer::new(0, BLOCK_BYTES), fields, &[]);
    encoder.finish().0.as_slice().to_vec()
}

/// A log whose last record, with `value` at its second block, was torn so that its header never reached the disk.
fn torn_before(value: &[u8]) -> Machine {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(1, 1, 0, 1, vec![entry(1, b'a', 100)]));
    let heads = RECORD_HEADER_BYTES + SUB_HEADER_BYTES + ENTRY_HEADER_BYTES;
    let mut data = vec![b'.'; BLOCK_BYTES - heads];
    data.extend_from_slice(value);
    machine.log.stage(append(
        1,
        1,
        1,
        2,
        vec![Entry {
            term: Term(1),
            kind: EntryKind::Normal,
            data: data.into(),
        }],
    ));
    machine.collect();
    let torn = machine.pending.pop().unwrap();
    let Place::Segment(file, offset) = torn.place else {
        panic!("a record is written to a segment");
    };
    let second = &torn.buffer.as_slice()[BLOCK_BYTES..2 * BLOCK_BYTES];
    assert_eq!(&second[..value.len()], value, "it lies at a block boundary");
    let place = Place::Segment(file, offset + BLOCK_BYTES as u64);
    machine
        .disk
        .target(place, BLOCK_BYTES)
        .copy_from_slice(second);
    machine
}

#[test]
fn a_value_that_imitates_a_record_is_void_with_the_record_that_holds_it() {
    let without_secret = SealKey(SEAL.0 ^ 1);
    let machine = torn_before(&imitation(IDENTITY, without_secret));
    let recovered = machine.disk.recover().unwrap();
    assert_ne!(recovered.decision, Decision::Corrupt);
    assert_eq!(recovered.last_record, RecordSequence(2));
    assert_eq!(recovered.watermark, RecordSequence(1));
}

#[test]
fn a_value_that_imitates_the_record_of_another_cluster_is_void_too() {
    let other = Identity {
        cluster: ClusterId(1),
        ..IDENTITY
    };
    let machine = torn_before(&imitation(other, SealKey(0)));
    assert_eq!(
        machine.disk.recover().unwrap().last_record,
        RecordSequence(2)
    );
}

/// What the two tests above guard against: the same bytes under the log's own seal are damage.
#[test]
fn the_same_bytes_under_the_seal_are_taken_for_a_record() {
    let machine = torn_before(&imitation(IDENTITY, SEAL));
    assert!(matches!(
        machine.disk.recover(),
        Err(RecoveryError::Corrupt { .. })
    ));
}

#[test]
fn the_seal_covers_the_header_and_nothing_else_opens_it() {
    let bytes = imitation(IDENTITY, SEAL);
    assert!(RecordHeader::decode(&bytes, SEAL).is_ok());
    for bit in 0..64 {
        assert!(
            RecordHeader::decode(&bytes, SealKey(SEAL.0 ^ (1 << bit))).is_err(),
            "bit {bit}"
        );
    }
    assert_eq!(
        format!("{SEAL:?}"),
        "SealKey(secret)",
        "it is never printed"
    );
}
