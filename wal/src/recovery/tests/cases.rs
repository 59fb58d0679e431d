//! Each case that recovery tells apart, by name.

use std::convert::Infallible;

use crate::format::{
    BLOCK_BYTES, BodyFault, RECORD_HEADER_BYTES, RecordEncoder, RecordFields, RecordHeader,
    RecordKind, Standing, SubHeader, SubHeaderKind,
};
use crate::recovery::{
    Concerned, Damage, DamageKind, Decision, MarkBlocks, RecoveryError, SegmentSource, SurveyItem,
    recover, survey,
};
use crate::testing::{Disk, IDENTITY, Machine, SEAL, append, entry, part, small_options, snapshot};
use crate::{
    ClusterId, CoreId, FileNumber, HardState, Identity, LogBuffer, LogIndex, LogOptions, NodeId,
    PartBody, RecordSequence, RecoveryEpoch, ReplicaId, SegmentFile, SegmentSequence, ShardId,
    Term,
};

const FIRST_FILE: FileNumber = FileNumber(1);

/// One segment: the checkpoint in block 0, then a record of one block for each of replica 1, 2, 1, 3.
fn one_segment() -> Machine {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(1, 1, 0, 1, vec![entry(1, b'a', 100)]));
    machine.write(append(2, 1, 0, 1, vec![entry(1, b'b', 100)]));
    machine.write(append(1, 1, 1, 2, vec![entry(1, b'c', 100)]));
    machine.write(append(3, 1, 0, 1, vec![entry(1, b'd', 100)]));
    machine
}

fn block(disk: &mut Disk, file: FileNumber, block: usize) -> &mut [u8] {
    &mut disk.files.get_mut(&file).unwrap()[block * BLOCK_BYTES..][..BLOCK_BYTES]
}

fn findings(disk: &Disk) -> Vec<Damage> {
    match disk.recover() {
        Err(RecoveryError::Corrupt { findings }) => findings,
        other => panic!("{other:?}"),
    }
}

fn header_of(disk: &mut Disk, file: FileNumber, number: usize) -> RecordHeader {
    RecordHeader::decode(block(disk, file, number), SEAL)
        .unwrap()
        .0
}

/// A record that follows the last one of `one_segment` in every respect, with contents of the caller's choice.
fn forge(
    disk: &mut Disk,
    place: usize,
    sub_headers: &[SubHeader],
    change: impl FnOnce(&mut RecordFields),
) {
    let (before, digest) = RecordHeader::decode(block(disk, FIRST_FILE, place - 1), SEAL).unwrap();
    let mut fields = RecordFields {
        seal: SEAL,
        identity: IDENTITY,
        kind: RecordKind::Parts,
        segment: before.segment,
        sequence: before.sequence.next(),
        oldest_live_segment: before.oldest_live_segment,
        epoch: before.epoch,
        cut: before.cut,
        watermark: before.sequence,
        previous_digest: digest,
    };
    change(&mut fields);
    let (buffer, _) =
        RecordEncoder::new(LogBuffer::new(0, BLOCK_BYTES), fields, sub_headers).finish();
    block(disk, FIRST_FILE, place).copy_from_slice(buffer.as_slice());
}

/// A part of replica 3 after `one_segment`, without entries.
fn next_part(last_index: u64) -> SubHeader {
    SubHeader {
        standing: Standing::Whole,
        kind: SubHeaderKind::Append,
        replica: ReplicaId(3),
        shard: ShardId(30),
        entry_count: 0,
        hard_state: HardState {
            term: Term(1),
            vote: ReplicaId(3),
            commit: LogIndex(0),
        },
        first_index: LogIndex(2),
        last_index: LogIndex(last_index),
        payload_bytes: 0,
        previous_sequence: RecordSequence(5),
        snapshot_index: LogIndex(0),
        snapshot_term: Term(0),
    }
}

#[test]
fn an_empty_directory_is_told_from_a_lost_log() {
    let recovered = Disk::new().recover().unwrap();
    assert_eq!(
        (recovered.decision, recovered.last_record),
        (Decision::Empty, RecordSequence(0))
    );
    let mut no_mark_file = Disk::new();
    no_mark_file.marks.clear();
    assert_eq!(no_mark_file.recover().unwrap().decision, Decision::Empty);
    let mut prepared = Disk::new();
    prepared.files.insert(FIRST_FILE, vec![0; 8 * BLOCK_BYTES]);
    assert_eq!(prepared.recover().unwrap().decision, Decision::Empty);

    let mut machine = one_segment();
    machine.idle();
    let mut lost = machine.disk;
    lost.files.clear();
    let found = findings(&lost);
    let what = DamageKind::RecordsMissing {
        first: RecordSequence(1),
        last: RecordSequence(5),
    };
    assert_eq!((found[0].file, found[0].what), (None, what));
    assert_eq!(
        found[0].concerned,
        Concerned::WholeCore {
            proven_intact: vec![]
        }
    );
}

#[test]
fn prepared_files_of_an_empty_log_are_used() {
    let mut disk = Disk::new();
    disk.files.insert(FileNumber(4), vec![0; 8 * BLOCK_BYTES]);
    let mut machine = Machine::restart(small_options(), disk);
    machine.write(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    assert!(machine.disk.files[&FileNumber(4)].starts_with(b"MSWALREC"));
}

#[test]
fn a_record_that_was_acknowledged_and_never_arrived_is_missed() {
    let mut machine = one_segment();
    machine.idle();
    block(&mut machine.disk, FIRST_FILE, 4).fill(0);
    let found = findings(&machine.disk);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].file, found[0].offset),
        (Some(FIRST_FILE), 4 * BLOCK_BYTES as u64)
    );
    let last = RecordSequence(5);
    assert_eq!(
        found[0].what,
        DamageKind::RecordsMissing { first: last, last }
    );
}

#[test]
fn a_missing_segment_is_missed() {
    let mut machine = Machine::fresh(small_options());
    for index in 1..=8 {
        machine.write(append(1, 1, index - 1, index, vec![entry(1, b'x', 5000)]));
    }
    machine.idle();
    let files: Vec<FileNumber> = machine.disk.files.keys().copied().collect();
    let used = files
        .iter()
        .filter(|file| machine.disk.files[file].starts_with(b"MSWALREC"));
    let used: Vec<FileNumber> = used.copied().collect();
    assert_eq!(used.len(), 3);
    for lost in used {
        let mut disk = machine.disk.clone();
        disk.files.remove(&lost);
        let found = findings(&disk);
        assert!(
            matches!(found[0].what, DamageKind::RecordsMissing { .. }),
            "{found:?}"
        );
    }
}

#[test]
fn later_records_prove_who_lost_nothing() {
    let mut machine = one_segment();
    machine.idle();
    // The header of the record of replica 2 is gone. Replica 1 has a later record that names an earlier one; of
    // replica 3, only this could have been the first.
    block(&mut machine.disk, FIRST_FILE, 2)[50] ^= 1;
    let found = findings(&machine.disk);
    assert_eq!(
        found[0].what,
        DamageKind::HeaderUnreadable {
            sequence: RecordSequence(3)
        }
    );
    let intact = vec![ShardId(10), ShardId(30)];
    assert_eq!(
        found[0].concerned,
        Concerned::WholeCore {
            proven_intact: intact
        }
    );
}

#[test]
fn a_later_checkpoint_proves_that_nobody_is_unknown() {
    let mut machine = one_segment();
    for index in 3..=8 {
        machine.write(append(1, 1, index - 1, index, vec![entry(1, b'x', 5000)]));
    }
    assert!(machine.log.status().segment.0 > 1);
    machine.idle();
    block(&mut machine.disk, FIRST_FILE, 2)[50] ^= 1;
    let found = findings(&machine.disk);
    assert_eq!(found[0].concerned, Concerned::Shards(vec![ShardId(20)]));
}

#[test]
fn every_damaged_record_is_named() {
    let mut machine = one_segment();
    machine.idle();
    block(&mut machine.disk, FIRST_FILE, 1)[300] ^= 1;
    block(&mut machine.disk, FIRST_FILE, 3)[300] ^= 1;
    let found = findings(&machine.disk);
    let named: Vec<_> = found
        .iter()
        .map(|damage| (damage.offset / BLOCK_BYTES as u64, damage.what))
        .collect();
    let body = |sequence| DamageKind::Body {
        sequence: RecordSequence(sequence),
        fault: BodyFault::Checksum,
    };
    assert_eq!(named, [(1, body(2)), (3, body(4))]);
    assert!(
        found
            .iter()
            .all(|damage| damage.concerned == Concerned::Shards(vec![ShardId(10)]))
    );
}

#[test]
fn a_copy_of_a_record_in_another_place_is_refused() {
    let mut machine = one_segment();
    machine.idle();
    let copy = block(&mut machine.disk, FIRST_FILE, 2).to_vec();
    let mut beyond = machine.disk.clone();
    block(&mut beyond, FIRST_FILE, 6).copy_from_slice(&copy);
    assert_eq!(
        findings(&beyond)[0].what,
        DamageKind::Misplaced {
            sequence: RecordSequence(3)
        }
    );
    let mut over_another = machine.disk.clone();
    block(&mut over_another, FIRST_FILE, 3).copy_from_slice(&copy);
    assert!(
        findings(&over_another)
            .iter()
            .any(|damage| damage.offset == 3 * BLOCK_BYTES as u64)
    );
}

#[test]
fn an_intact_record_in_a_wrong_place_is_refused_wherever_the_watermark_is() {
    let mut disk = one_segment().disk;
    // The next record, one block too far: the device put it there, and may have acknowledged it.
    forge(&mut disk, 5, &[next_part(1)], |_| {});
    let record = block(&mut disk, FIRST_FILE, 5).to_vec();
    block(&mut disk, FIRST_FILE, 5).fill(0);
    block(&mut disk, FIRST_FILE, 6).copy_from_slice(&record);
    let found = findings(&disk);
    assert_eq!(
        found[0].what,
        DamageKind::Misplaced {
            sequence: RecordSequence(6)
        }
    );
    assert_eq!(found[0].offset, 6 * BLOCK_BYTES as u64);
}

#[test]
fn remains_of_an_older_epoch_are_void_when_the_cut_itself_was_torn() {
    let options = LogOptions {
        writes_in_flight_max: 3,
        ..small_options()
    };
    let mut machine = Machine::fresh(options.clone());
    machine.write(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    for index in 2..=4 {
        machine
            .log
            .stage(append(1, 1, 0, index, vec![entry(1, b'a', 10)]));
        machine.collect();
    }
    // Of three records in flight the first is lost, the others reach the disk.
    let lost = machine.pending[0].buffer.as_slice().len();
    let place = machine.pending[0].place;
    machine.complete(2);
    machine.complete(1);
    machine.disk.target(place, lost).fill(0);
    // The next start cuts them away, and is interrupted while it writes that down.
    let mut machine = Machine::restart(options.clone(), machine.disk);
    machine.collect();
    let torn = &machine.pending[0];
    let header = torn.buffer.as_slice()[..RECORD_HEADER_BYTES].to_vec();
    machine
        .disk
        .target(torn.place, RECORD_HEADER_BYTES)
        .copy_from_slice(&header);
    let recovered = machine.disk.recover().expect("nothing durable is damaged");
    assert_eq!(recovered.decision, Decision::TornTail);
    let mut machine = Machine::restart(options, machine.disk);
    machine.settle();
    assert!(machine.log.is_ready());
}

#[test]
fn a_copied_file_is_refused() {
    let mut machine = one_segment();
    machine.idle();
    let copy = machine.disk.files[&FIRST_FILE].clone();
    machine.disk.files.insert(FileNumber(77), copy);
    assert!(
        findings(&machine.disk)
            .iter()
            .all(|damage| damage.file == Some(FileNumber(77)))
    );
}

#[test]
fn an_intact_record_of_another_history_is_refused() {
    let mut disk = one_segment().disk;
    forge(&mut disk, 5, &[next_part(1)], |fields| {
        fields.previous_digest ^= 1
    });
    let found = findings(&disk);
    assert_eq!(
        found[0].what,
        DamageKind::ChainBroken {
            sequence: RecordSequence(6)
        }
    );
    // The same record with the right digest is the next record.
    forge(&mut disk, 5, &[next_part(1)], |_| {});
    assert_eq!(disk.recover().unwrap().last_record, RecordSequence(6));
}

#[test]
fn a_part_that_does_not_follow_its_replicas_last_one_is_refused() {
    let hole = DamageKind::HoleInReplica {
        sequence: RecordSequence(6),
        replica: ReplicaId(3),
    };
    let older_term = HardState {
        term: Term(0),
        ..next_part(1).hard_state
    };
    let wrong = [
        SubHeader {
            hard_state: older_term,
            ..next_part(1)
        },
        SubHeader {
            previous_sequence: RecordSequence(4),
            ..next_part(1)
        },
        SubHeader {
            shard: ShardId(31),
            ..next_part(1)
        },
        next_part(2),
    ];
    for sub_header in wrong {
        let mut disk = one_segment().disk;
        forge(&mut disk, 5, std::slice::from_ref(&sub_header), |_| {});
        let found = findings(&disk);
        assert_eq!(
            (found[0].what, found[0].offset),
            (hole, 5 * BLOCK_BYTES as u64),
            "{sub_header:?}"
        );
        assert_eq!(
            found[0].concerned,
            Concerned::Shards(vec![sub_header.shard])
        );
    }
}

#[test]
fn contents_that_contradict_themselves_are_refused_wherever_the_watermark_is() {
    let committed_beyond_its_log = SubHeader {
        hard_state: HardState {
            commit: LogIndex(2),
            ..next_part(1).hard_state
        },
        ..next_part(1)
    };
    let entries_without_payload = SubHeader {
        entry_count: 1,
        ..next_part(2)
    };
    let checkpoint_among_parts = SubHeader {
        kind: SubHeaderKind::Checkpoint,
        ..next_part(1)
    };
    for sub_header in [
        committed_beyond_its_log,
        entries_without_payload,
        checkpoint_among_parts,
    ] {
        let mut disk = one_segment().disk;
        forge(&mut disk, 5, std::slice::from_ref(&sub_header), |_| {});
        let what = DamageKind::Body {
            sequence: RecordSequence(6),
            fault: BodyFault::Malformed,
        };
        assert_eq!(findings(&disk)[0].what, what, "{sub_header:?}");
    }
}

#[test]
fn a_header_that_contradicts_itself_is_refused_wherever_it_lies() {
    let mut disk = one_segment().disk;
    // A record that claims to know that it is durable itself.
    forge(&mut disk, 5, &[next_part(1)], |fields| {
        fields.watermark = fields.sequence
    });
    let found = findings(&disk);
    assert_eq!(
        (found[0].what, found[0].offset),
        (DamageKind::HeaderMalformed, 5 * BLOCK_BYTES as u64)
    );
    assert_eq!(
        found[0].concerned,
        Concerned::WholeCore {
            proven_intact: vec![]
        }
    );
}

#[test]
fn a_record_that_the_end_of_its_file_cuts_off_is_torn() {
    let mut machine = one_segment();
    machine.write(append(1, 1, 2, 3, vec![entry(1, b'z', 5000)]));
    machine
        .disk
        .files
        .get_mut(&FIRST_FILE)
        .unwrap()
        .truncate(6 * BLOCK_BYTES);
    let recovered = machine.disk.recover().unwrap();
    assert_eq!(
        (recovered.decision, recovered.last_record),
        (Decision::TornTail, RecordSequence(5))
    );
    assert_eq!(recovered.torn.unwrap().offset, 5 * BLOCK_BYTES as u64);
}

#[test]
fn a_replica_that_committed_more_than_its_log_holds_is_refused() {
    // Entries that a snapshot voids by its last index, while the hard state still counts on them.
    let mut machine = one_segment();
    machine.write(append(
        3,
        1,
        0,
        2,
        vec![entry(1, b'e', 10), entry(1, b'f', 10)],
    ));
    machine.write(append(3, 1, 3, 4, vec![]));
    let mut disk = machine.disk;
    let reset = SubHeader {
        kind: SubHeaderKind::Snapshot,
        hard_state: HardState {
            commit: LogIndex(2),
            ..next_part(2).hard_state
        },
        first_index: LogIndex(3),
        snapshot_index: LogIndex(2),
        snapshot_term: Term(1),
        previous_sequence: RecordSequence(7),
        ..next_part(2)
    };
    forge(&mut disk, 7, &[reset], |_| {});
    match disk.recover() {
        Err(RecoveryError::CommitAboveLast {
            replica,
            shard,
            commit,
            last_index,
        }) => {
            assert_eq!((replica, shard), (ReplicaId(3), ShardId(30)));
            assert_eq!((commit, last_index), (LogIndex(3), LogIndex(2)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_checkpoint_that_contradicts_the_records_before_it_is_refused() {
    let mut machine = one_segment();
    machine.idle();
    let mut machine = Machine::restart(small_options(), machine.disk);
    machine.settle();
    let mut disk = machine.disk;
    let second = machine.log.status().segment;
    let file = *disk
        .files
        .iter()
        .find(|(_, bytes)| {
            RecordHeader::decode(bytes, SEAL).is_ok_and(|(header, _)| header.segment == second)
        })
        .unwrap()
        .0;
    let header = header_of(&mut disk, file, 0);
    let fields = RecordFields {
        seal: SEAL,
        identity: IDENTITY,
        kind: RecordKind::Checkpoint,
        segment: header.segment,
        sequence: header.sequence,
        oldest_live_segment: header.oldest_live_segment,
        epoch: header.epoch,
        cut: header.cut,
        watermark: header.watermark,
        previous_digest: header.previous_digest,
    };
    // It forgets every replica.
    let (buffer, _) = RecordEncoder::new(LogBuffer::new(0, BLOCK_BYTES), fields, &[]).finish();
    block(&mut disk, file, 0).copy_from_slice(buffer.as_slice());
    let found = findings(&disk);
    let what = DamageKind::CheckpointContradicts {
        sequence: header.sequence,
        replica: ReplicaId(1),
    };
    assert_eq!(
        (found[0].file, found[0].offset, found[0].what),
        (Some(file), 0, what)
    );
}

#[test]
fn entries_that_are_in_no_record_are_missed() {
    // A checkpoint claims entries whose records are said to be released, and no snapshot covers them.
    let mut disk = Disk::new();
    disk.files.insert(FIRST_FILE, vec![0; 8 * BLOCK_BYTES]);
    let claims = SubHeader {
        kind: SubHeaderKind::Checkpoint,
        first_index: LogIndex(1),
        previous_sequence: RecordSequence(0),
        ..next_part(7)
    };
    let fields = RecordFields {
        seal: SEAL,
        identity: IDENTITY,
        kind: RecordKind::Checkpoint,
        segment: crate::SegmentSequence(1),
        sequence: RecordSequence(1),
        oldest_live_segment: crate::SegmentSequence(1),
        epoch: crate::RecoveryEpoch(1),
        cut: RecordSequence(0),
        watermark: RecordSequence(0),
        previous_digest: 0,
    };
    let (buffer, _) =
        RecordEncoder::new(LogBuffer::new(0, BLOCK_BYTES), fields, &[claims]).finish();
    block(&mut disk, FIRST_FILE, 0).copy_from_slice(buffer.as_slice());
    let what = DamageKind::EntriesMissing {
        replica: ReplicaId(3),
        last: LogIndex(7),
    };
    assert_eq!(findings(&disk)[0].what, what);
}

#[test]
fn the_log_of_another_owner_is_refused() {
    let mut machine = one_segment();
    machine.idle();
    let mut recover_as =
        |identity: Identity| recover(&mut machine.disk, &identity, SEAL, &mut |_| {}).unwrap_err();
    let cluster = Identity {
        cluster: ClusterId(1),
        ..IDENTITY
    };
    assert!(
        matches!(recover_as(cluster), RecoveryError::OtherCluster { found } if found == IDENTITY)
    );
    let node = Identity {
        node: NodeId(1),
        ..IDENTITY
    };
    assert!(
        matches!(recover_as(node), RecoveryError::OtherNode { found } if found == IDENTITY.node)
    );
    let core = Identity {
        core: CoreId(1),
        ..IDENTITY
    };
    assert!(
        matches!(recover_as(core), RecoveryError::OtherCore { found } if found == IDENTITY.core)
    );
    // A mark alone betrays its owner as well as a segment alone.
    let mut segments_only = machine.disk.clone();
    segments_only.marks.fill(0);
    let mut marks_only = machine.disk.clone();
    marks_only.files.clear();
    for mut disk in [segments_only, marks_only] {
        let error = recover(&mut disk, &core, SEAL, &mut |_| {}).unwrap_err();
        assert!(matches!(error, RecoveryError::OtherCore { .. }));
    }
}

#[test]
fn two_damaged_marks_are_refused_and_one_is_not() {
    let mut machine = one_segment();
    machine.idle();
    machine.write(append(1, 1, 2, 3, vec![entry(1, b'y', 10)]));
    machine.idle();
    machine.disk.marks[9] ^= 1;
    assert_eq!(
        machine.disk.recover().unwrap().decision,
        Decision::Clean,
        "a crash can tear the one that is being written"
    );
    machine.disk.marks[BLOCK_BYTES + 9] ^= 1;
    // What they said is lost with them: the last record would look torn if it were damaged too.
    assert_eq!(findings(&machine.disk)[0].what, DamageKind::MarksUnreadable);
}

#[test]
fn a_file_that_ends_within_a_block_is_read_up_to_there() {
    let mut machine = one_segment();
    machine
        .disk
        .files
        .insert(FileNumber(50), vec![0xee; 5 * BLOCK_BYTES + 77]);
    machine.disk.files.insert(FileNumber(51), Vec::new());
    assert_eq!(machine.disk.recover().unwrap().decision, Decision::Clean);
    // A segment cut short loses what it held.
    machine.idle();
    machine
        .disk
        .files
        .get_mut(&FIRST_FILE)
        .unwrap()
        .truncate(4 * BLOCK_BYTES + 100);
    assert!(matches!(
        findings(&machine.disk)[0].what,
        DamageKind::RecordsMissing { .. }
    ));
}

#[test]
fn records_longer_than_what_is_read_at_once_are_read() {
    let options = LogOptions {
        segment_bytes: 8 << 20,
        record_bytes_max: 3 << 20,
        ..LogOptions::new(IDENTITY, SEAL)
    };
    let mut machine = Machine::fresh(options);
    for index in 1..=4 {
        machine.write(append(
            1,
            1,
            index - 1,
            index,
            vec![entry(1, index as u8, 2_500_000)],
        ));
    }
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(
        (recovered.decision, recovered.last_record.0),
        (Decision::Clean, 6)
    );
    assert_eq!(
        model.replicas[&ReplicaId(1)].entries[&4].data.len(),
        2_500_000
    );
}

/// A disk on which one place cannot be read.
struct Failing(Disk);

impl SegmentSource for Failing {
    type Error = (FileNumber, u64);

    fn files(&mut self) -> Result<Vec<SegmentFile>, Self::Error> {
        Ok(self
            .0
            .files()
            .unwrap_or_else(|never: Infallible| match never {}))
    }

    fn read(&mut self, file: FileNumber, offset: u64, _: &mut [u8]) -> Result<(), Self::Error> {
        Err((file, offset))
    }

    fn marks(&mut self) -> Result<MarkBlocks, Self::Error> {
        Ok([None, None])
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_an_empty_log() {
    let error = recover(
        &mut Failing(one_segment().disk),
        &IDENTITY,
        SEAL,
        &mut |_| {},
    )
    .unwrap_err();
    assert!(matches!(error, RecoveryError::Source((FIRST_FILE, 0))));
}

#[test]
fn a_survey_tells_what_recovery_would_do_and_changes_nothing() {
    let mut machine = one_segment();
    machine.idle();
    let mut records = Vec::new();
    let found = survey(&mut machine.disk, &IDENTITY, SEAL, &mut |item| {
        if let SurveyItem::Record {
            file,
            offset,
            header,
            fault,
            parts,
        } = item
        {
            records.push((file, offset, header.sequence.0, fault, parts.len()));
        }
    })
    .unwrap();
    let block = BLOCK_BYTES as u64;
    let expected: Vec<_> = (0..5)
        .map(|place| (FIRST_FILE, place * block, place + 1, None, 1))
        .collect();
    assert_eq!(records[1..], expected[1..]);
    assert_eq!(records[0], (FIRST_FILE, 0, 1, None, 0));
    assert_eq!(
        (found.decision, found.surviving_records, found.last_record.0),
        (Decision::Clean, 5, 5)
    );

    self::block(&mut machine.disk, FIRST_FILE, 2)[300] ^= 1;
    self::block(&mut machine.disk, FIRST_FILE, 3)[0] ^= 1;
    let before = machine.disk.clone();
    let (mut faults, mut remains) = (Vec::new(), Vec::new());
    let found = survey(&mut machine.disk, &IDENTITY, SEAL, &mut |item| match item {
        SurveyItem::Record {
            offset,
            fault: Some(fault),
            parts,
            ..
        } => faults.push((offset / block, fault, parts.len())),
        SurveyItem::Record { .. } => {}
        SurveyItem::Remains { offset, .. } => remains.push(offset / block),
    })
    .unwrap();
    assert_eq!(
        (faults, remains),
        (vec![(2, BodyFault::Checksum, 1)], vec![3])
    );
    assert_eq!(
        (found.decision, found.findings),
        (Decision::Corrupt, findings(&machine.disk))
    );
    assert_eq!(machine.disk, before);
}

#[test]
fn a_survey_names_damage_that_shows_only_in_the_replay() {
    let mut disk = one_segment().disk;
    forge(
        &mut disk,
        5,
        &[SubHeader {
            previous_sequence: RecordSequence(4),
            ..next_part(1)
        }],
        |_| {},
    );
    let found = survey(&mut disk, &IDENTITY, SEAL, &mut |_| {}).unwrap();
    assert_eq!(found.decision, Decision::Corrupt);
    assert!(matches!(
        found.findings[0].what,
        DamageKind::HoleInReplica { .. }
    ));
}

#[test]
fn a_received_snapshot_voids_the_entries_of_another_leader() {
    let mut machine = one_segment();
    machine.write(append(
        1,
        1,
        2,
        3,
        vec![entry(1, b'u', 10), entry(1, b'v', 10)],
    ));
    machine.write(part(
        1,
        5,
        3,
        PartBody::Snapshot {
            index: LogIndex(3),
            term: Term(4),
            members: bytes::Bytes::from_static(b"new"),
        },
    ));
    let (recovered, model) = machine.disk.replay().unwrap();
    let replica = &recovered.replicas[0];
    assert_eq!(
        (replica.first_index, replica.last_index),
        (LogIndex(4), LogIndex(3))
    );
    assert!(model.replicas[&ReplicaId(1)].entries.is_empty());
    // One of its own keeps what is above it, and what is below until it is given up.
    machine.write(append(
        2,
        1,
        0,
        2,
        vec![entry(1, b'w', 10), entry(1, b'x', 10)],
    ));
    machine.write(append(2, 1, 2, 4, vec![]));
    machine.write(snapshot(2, 1, 2));
    let (recovered, model) = machine.disk.replay().unwrap();
    let replica = &recovered.replicas[1];
    assert_eq!(
        (replica.first_index, replica.last_index),
        (LogIndex(1), LogIndex(3))
    );
    assert_eq!(model.replicas[&ReplicaId(2)].entries.len(), 3);
}

/// A record with a damaged body stands far above its own watermark, and nothing else is there: what was durable up to that
/// watermark is gone, however far away the record claims to be.
#[test]
fn a_lone_record_far_above_its_watermark_is_no_torn_tail() {
    let mut machine = one_segment();
    let fields = RecordFields {
        seal: SEAL,
        identity: IDENTITY,
        kind: RecordKind::Parts,
        segment: SegmentSequence(1),
        sequence: RecordSequence(1 << 24),
        oldest_live_segment: SegmentSequence(0),
        epoch: RecoveryEpoch(1),
        cut: RecordSequence(0),
        watermark: RecordSequence(1),
        previous_digest: 0,
    };
    let encoder = RecordEncoder::new(LogBuffer::new(0, BLOCK_BYTES), fields, &[next_part(1)]);
    let mut bytes = encoder.finish().0.as_slice().to_vec();
    bytes[RECORD_HEADER_BYTES] ^= 1;
    let file = machine.disk.files.get_mut(&FIRST_FILE).unwrap();
    file.fill(0);
    file[BLOCK_BYTES..2 * BLOCK_BYTES].copy_from_slice(&bytes);
    machine.disk.marks.fill(0);
    assert!(!findings(&machine.disk).is_empty());
}
