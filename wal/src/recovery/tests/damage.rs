//! Every byte flipped, one at a time: what was durable is refused, the rest changes nothing.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::format::{BLOCK_BYTES, RECORD_HEADER_BYTES, SUB_HEADER_BYTES, SubHeaderKind};
use crate::recovery::{Concerned, Damage, DamageKind, Decision, RecoveryError, SurveyItem, survey};
use crate::testing::{Disk, IDENTITY, Machine, SEAL, append, entry, snapshot};
use crate::{FileNumber, LogOptions, RecordSequence, SegmentSequence, ShardId};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Segments of four blocks: small, because every byte is tried.
fn tiny_options() -> LogOptions {
    LogOptions {
        segment_bytes: 4 * BLOCK,
        record_bytes_max: 2 * BLOCK_BYTES,
        budget_bytes: 64 * BLOCK,
        spare_segments: 1,
        ..LogOptions::new(IDENTITY, SEAL)
    }
}

/// A record as it lies on the disk.
#[derive(Clone, Debug)]
struct Laid {
    file: FileNumber,
    range: Range<usize>,
    sequence: RecordSequence,
    sub_headers: usize,
    shards: BTreeSet<ShardId>,
    is_checkpoint: bool,
}

/// Three replicas over three segments, the first of which was released and lies stale in a file used again.
fn written() -> Machine {
    let mut machine = Machine::fresh(tiny_options());
    for index in 1..=4 {
        machine.write(append(1, 1, index - 1, index, vec![entry(1, b's', 100)]));
    }
    machine.write(append(1, 1, 4, 5, vec![]));
    machine.write(snapshot(1, 1, 4));
    machine
        .log
        .set_first_index(crate::ReplicaId(1), crate::LogIndex(5));
    machine.idle();
    machine.write(append(2, 1, 0, 1, vec![entry(1, b'b', 700)]));
    machine.log.stage(append(
        1,
        1,
        4,
        5,
        vec![entry(1, b'a', 300), entry(1, b'a', 200)],
    ));
    machine
        .log
        .stage(append(3, 2, 0, 1, vec![entry(2, b'c', 50)]));
    machine.settle();
    machine.write(append(2, 1, 1, 2, vec![entry(1, b'b', 20)]));
    machine.write(append(3, 2, 1, 2, vec![entry(2, b'c', 90)]));
    machine
}

/// The records from the oldest live segment on.
fn live_records(disk: &Disk) -> Vec<Laid> {
    let mut records = Vec::new();
    let mut oldest_live = SegmentSequence(0);
    survey(&mut disk.clone(), &IDENTITY, SEAL, &mut |item| {
        let SurveyItem::Record {
            file,
            offset,
            header,
            fault: None,
            parts,
        } = item
        else {
            panic!("{item:?}")
        };
        oldest_live = oldest_live.max(header.oldest_live_segment);
        let start = usize::try_from(offset).unwrap();
        let parts = parts.iter().flatten();
        let shards = parts
            .filter(|part| part.kind != SubHeaderKind::Checkpoint)
            .map(|part| part.shard);
        let laid = Laid {
            file,
            range: start..start + header.record_bytes as usize,
            sequence: header.sequence,
            sub_headers: header.sub_header_count as usize,
            shards: shards.collect(),
            is_checkpoint: offset == 0,
        };
        records.push((header.segment, laid));
    })
    .unwrap();
    let mut live: Vec<Laid> = records
        .into_iter()
        .filter(|(segment, _)| *segment >= oldest_live)
        .map(|(_, laid)| laid)
        .collect();
    live.sort_by_key(|laid| laid.sequence);
    live
}

fn with_flip<T>(
    disk: &mut Disk,
    file: FileNumber,
    index: usize,
    run: impl FnOnce(&Disk) -> T,
) -> T {
    let flip = |disk: &mut Disk| disk.files.get_mut(&file).unwrap()[index] ^= 0x10;
    flip(disk);
    let result = run(disk);
    flip(disk);
    result
}

fn findings(disk: &Disk) -> Vec<Damage> {
    match disk.recover() {
        Err(RecoveryError::Corrupt { findings }) => findings,
        other => panic!("{other:?}"),
    }
}

fn may_concern(concerned: &Concerned, shard: ShardId) -> bool {
    match concerned {
        Concerned::Shards(shards) => shards.contains(&shard),
        Concerned::WholeCore { proven_intact } => !proven_intact.contains(&shard),
    }
}

/// What a finding must say about a flip at `index` of a record.
fn check_finding(laid: &Laid, index: usize, finding: &Damage, later: &[Laid]) {
    assert_eq!(
        (finding.file, finding.offset),
        (Some(laid.file), laid.range.start as u64),
        "byte {index} of {laid:?}"
    );
    let header_end = laid.range.start + RECORD_HEADER_BYTES;
    let is_in_header = index < header_end;
    let sequence = laid.sequence;
    let is_named = if is_in_header {
        finding.what == DamageKind::HeaderUnreadable { sequence }
    } else {
        matches!(finding.what, DamageKind::Body { sequence: found, .. } if found == sequence)
    };
    assert!(is_named, "byte {index} of {laid:?}: {finding:?}");
    for &shard in &laid.shards {
        assert!(
            may_concern(&finding.concerned, shard),
            "byte {index} of {laid:?}: {finding:?}"
        );
    }
    let sub_headers_end = header_end + laid.sub_headers * SUB_HEADER_BYTES;
    if index >= sub_headers_end && !laid.is_checkpoint {
        let shards = laid.shards.iter().copied().collect();
        assert_eq!(
            finding.concerned,
            Concerned::Shards(shards),
            "byte {index} of {laid:?}"
        );
    } else if !laid.is_checkpoint {
        // A replica with a later record, and no part in this one, proves by it that it lost nothing.
        for shard in later
            .iter()
            .flat_map(|record| &record.shards)
            .filter(|shard| !laid.shards.contains(shard))
        {
            assert!(
                !may_concern(&finding.concerned, *shard),
                "byte {index} of {laid:?}: {finding:?}"
            );
        }
    }
}

#[test]
fn every_flip_in_a_record_that_a_mark_covers_is_refused_and_named() {
    let mut machine = written();
    machine.idle();
    let mut disk = machine.disk;
    let records = live_records(&disk);
    assert_eq!(
        records.iter().filter(|laid| laid.is_checkpoint).count(),
        2,
        "two live segments"
    );
    assert_eq!(disk.recover().unwrap().decision, Decision::Clean);
    for (place, laid) in records.iter().enumerate() {
        for index in laid.range.clone() {
            let findings = with_flip(&mut disk, laid.file, index, findings);
            assert_eq!(findings.len(), 1, "byte {index} of {laid:?}: {findings:?}");
            check_finding(laid, index, &findings[0], &records[place + 1..]);
        }
    }
}

#[test]
fn a_flip_in_one_mark_changes_nothing() {
    let mut machine = written();
    machine.idle();
    let expected = machine.disk.replay().unwrap();
    for index in 0..machine.disk.marks.len() {
        machine.disk.marks[index] ^= 0x04;
        let (recovered, model) = machine.disk.replay().unwrap();
        assert_eq!(
            (recovered.replicas, model),
            (expected.0.replicas.clone(), expected.1.clone())
        );
        assert_eq!(
            (recovered.decision, recovered.last_record),
            (Decision::Clean, expected.0.last_record)
        );
        machine.disk.marks[index] ^= 0x04;
    }
}

#[test]
fn a_flip_outside_the_live_records_changes_nothing() {
    let mut machine = written();
    machine.idle();
    let mut disk = machine.disk;
    let records = live_records(&disk);
    let expected = disk.replay().unwrap();
    let files: Vec<(FileNumber, usize)> = disk
        .files
        .iter()
        .map(|(&file, bytes)| (file, bytes.len()))
        .collect();
    let mut stale_bytes = 0;
    for (file, length) in files {
        for index in 0..length {
            let is_live = records
                .iter()
                .any(|laid| laid.file == file && laid.range.contains(&index));
            let is_stale = disk.files[&file][index] != 0;
            if is_live || !is_stale && index % 16 != 0 {
                continue;
            }
            stale_bytes += usize::from(is_stale);
            let (recovered, model) =
                with_flip(&mut disk, file, index, |disk| disk.replay().unwrap());
            assert_eq!(
                recovered.decision,
                Decision::Clean,
                "byte {index} of {file}"
            );
            assert_eq!(
                (&recovered.replicas, &model),
                (&expected.0.replicas, &expected.1),
                "byte {index} of {file}"
            );
        }
    }
    assert!(
        stale_bytes > 400,
        "stale records of an earlier use were tried: {stale_bytes}"
    );
}

#[test]
fn a_flip_in_the_last_record_that_nothing_covers_is_cut_off_and_told() {
    let mut disk = written().disk;
    let records = live_records(&disk);
    let (last, before) = records.split_last().unwrap();
    let kept = before.last().unwrap().sequence;
    for index in last.range.clone() {
        let recovered = with_flip(&mut disk, last.file, index, |disk| disk.recover().unwrap());
        assert_eq!(
            (recovered.decision, recovered.last_record),
            (Decision::TornTail, kept),
            "byte {index}"
        );
        let torn = recovered.torn.unwrap();
        assert_eq!(
            (torn.file, torn.offset, torn.sequence),
            (last.file, last.range.start as u64, last.sequence)
        );
        let payload_start =
            last.range.start + RECORD_HEADER_BYTES + last.sub_headers * SUB_HEADER_BYTES;
        if index >= payload_start {
            assert_eq!(
                torn.shards(),
                last.shards.iter().copied().collect::<Vec<_>>()
            );
            assert!(torn.parts[0].indexes.is_some());
        }
    }
}

#[test]
fn a_flip_in_an_earlier_record_is_refused_without_any_mark() {
    let mut disk = written().disk;
    disk.marks.fill(0);
    let records = live_records(&disk);
    // The last record's watermark covers every record before it.
    for laid in &records[..records.len() - 1] {
        for index in laid.range.clone().step_by(37) {
            let findings = with_flip(&mut disk, laid.file, index, findings);
            assert_eq!(
                (findings[0].file, findings[0].offset),
                (Some(laid.file), laid.range.start as u64)
            );
        }
    }
}
