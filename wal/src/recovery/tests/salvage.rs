//! A damaged log among peers: what is whole is what was written, and what is not is named.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;

use crate::format::{BLOCK_BYTES, Standing};
use crate::log::SegmentFile;
use crate::recovery::{
    Decision, MarkBlocks, Recovered, RecoveryError, SegmentSource, SurveyItem, recover,
    recover_among_peers, survey,
};
use crate::testing::{Disk, IDENTITY, Machine, Model, SEAL, append, entry, part, snapshot};
use crate::{FileNumber, LogIndex, LogOptions, PartBody, RecordSequence, ReplicaId};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 8 * BLOCK,
        record_bytes_max: 2 * BLOCK_BYTES,
        budget_bytes: 256 * BLOCK,
        spare_segments: 1,
        ..LogOptions::new(IDENTITY, SEAL)
    }
}

fn among_peers(disk: &Disk) -> Result<(Recovered, Model), RecoveryError<Infallible>> {
    let mut model = Model::default();
    let recovered = recover_among_peers(&mut disk.clone(), &IDENTITY, SEAL, &mut |event| {
        model.on_event(&event);
    })?;
    Ok((recovered, model))
}

/// A disk of which one block cannot be read.
struct Worn<'d> {
    disk: &'d mut Disk,
    file: FileNumber,
    offset: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

impl SegmentSource for Worn<'_> {
    type Error = Unreadable;

    fn files(&mut self) -> Result<Vec<SegmentFile>, Unreadable> {
        Ok(self.disk.files().unwrap())
    }

    fn read(&mut self, file: FileNumber, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let end = offset + into.len() as u64;
        if file == self.file && offset < self.offset + BLOCK && self.offset < end {
            return Err(Unreadable);
        }
        self.disk.read(file, offset, into).unwrap();
        Ok(())
    }

    fn marks(&mut self) -> Result<MarkBlocks, Unreadable> {
        Ok(self.disk.marks().unwrap())
    }
}

/// A number that follows from what went before.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the writer knows of a replica.
#[derive(Clone, Copy)]
struct Writer {
    term: u64,
    commit: u64,
    last: u64,
    /// The terms of its entries are those of `term`, from here on.
    term_from: u64,
    snapshot: u64,
}

/// A log of three replicas with everything that happens to logs, and a mark that covers all of it.
fn written(seed: u64) -> Machine {
    let mut chance = Chance(seed * 2 + 1);
    let mut machine = Machine::fresh(options());
    let mut writers = [Writer {
        term: 1,
        commit: 0,
        last: 0,
        term_from: 1,
        snapshot: 0,
    }; 3];
    for replica in 1..=3 {
        machine.write(snapshot(replica, 1, 1));
        let writer = &mut writers[replica as usize - 1];
        (writer.last, writer.commit, writer.snapshot) = (1, 1, 1);
        writer.term_from = 2;
    }
    for _ in 0..30 + chance.below(30) {
        if chance.below(12) == 0 {
            machine.idle();
            machine = Machine::restart(options(), machine.disk);
            machine.settle();
        }
        for _ in 0..=chance.below(2) {
            let replica = 1 + chance.below(3);
            let writer = &mut writers[replica as usize - 1];
            stage(&mut machine, replica, writer, &mut chance);
        }
        machine.settle();
    }
    machine.idle();
    machine
}

fn stage(machine: &mut Machine, replica: u64, writer: &mut Writer, chance: &mut Chance) {
    match chance.below(10) {
        0 => {
            // A new term, which may take back what is not committed.
            writer.term += 1;
            let first = writer.commit + 1 + chance.below(writer.last - writer.commit + 1);
            let (term, commit) = (writer.term, writer.commit);
            let entries = vec![entry(term, replica as u8, 30); 1 + chance.below(2) as usize];
            (writer.last, writer.term_from) = (first + entries.len() as u64 - 1, first);
            machine
                .log
                .stage(append(replica, term, commit, first, entries));
        }
        1 if writer.commit > writer.snapshot && writer.commit >= writer.term_from => {
            machine.settle();
            machine.write(snapshot(replica, writer.term, writer.commit));
            writer.snapshot = writer.commit;
            let first = LogIndex(writer.commit + 1);
            machine.log.set_first_index(ReplicaId(replica), first);
        }
        2 => {
            // A snapshot of another replica takes the place of everything.
            writer.term += 1;
            let index = writer.last + 2;
            machine.write(snapshot(replica, writer.term, index));
            (writer.commit, writer.last, writer.snapshot) = (index, index, index);
            writer.term_from = index + 1;
            let first = LogIndex(index + 1);
            machine.log.set_first_index(ReplicaId(replica), first);
        }
        3 => {
            let (term, commit) = (writer.term, writer.last);
            writer.commit = commit;
            machine
                .log
                .stage(append(replica, term, commit, commit + 1, vec![]));
        }
        4 if writer.last >= writer.term_from && writer.last > writer.snapshot => {
            let first = writer.term_from.max(writer.snapshot + 1);
            let count = writer.last + 1 - first;
            // Entries of one term are all alike here, but for their lengths: only those of the last write are known.
            let _ = count;
        }
        _ => {
            let (term, commit, first) = (writer.term, writer.commit, writer.last + 1);
            let bytes = 20 + chance.below(2_000) as usize;
            let entries = vec![entry(term, first as u8, bytes); 1 + chance.below(3) as usize];
            writer.last += entries.len() as u64;
            machine
                .log
                .stage(append(replica, term, commit, first, entries));
        }
    }
}

/// The records from the oldest live segment on, with their places.
fn live_records(disk: &Disk) -> Vec<(RecordSequence, FileNumber, Range<usize>)> {
    let mut records = BTreeMap::new();
    let mut oldest_live = 0;
    survey(&mut disk.clone(), &IDENTITY, SEAL, &mut |item| {
        if let SurveyItem::Record {
            file,
            offset,
            header,
            ..
        } = item
        {
            oldest_live = oldest_live.max(header.oldest_live_segment.0);
            let start = usize::try_from(offset).unwrap();
            let range = start..start + header.record_bytes as usize;
            records.insert((header.segment.0, header.sequence), (file, range));
        }
    })
    .unwrap();
    let live = records
        .into_iter()
        .filter(|((segment, _), _)| *segment >= oldest_live);
    live.map(|((_, sequence), (file, range))| (sequence, file, range))
        .collect()
}

/// What is said of a damaged log is true, whatever is damaged: `truth` is what it held before.
fn check(disk: &Disk, truth: &(Recovered, Model), what: &str) -> BTreeMap<ReplicaId, Standing> {
    let (recovered, model) = match among_peers(disk) {
        Ok(found) => found,
        Err(RecoveryError::Corrupt { .. }) => return BTreeMap::new(),
        Err(error) => panic!("{what}: {error}"),
    };
    let mut standings = BTreeMap::new();
    for replica in &recovered.replicas {
        let id = replica.replica;
        standings.insert(id, replica.standing);
        let written = truth.0.replicas.iter().find(|known| known.replica == id);
        let written = written.expect("nothing is invented");
        if replica.standing == Standing::Lost {
            continue;
        }
        assert_eq!(replica.hard_state, written.hard_state, "{what}: {id}");
        assert_eq!(replica.last_index, written.last_index, "{what}: {id}");
        if replica.standing == Standing::Damaged {
            continue;
        }
        // The record of a snapshot may be lost, while all that it covers is there.
        assert!(replica.snapshot.index <= written.snapshot.index, "{what}");
        let (found, known) = (&model.replicas[&id], &truth.1.replicas[&id]);
        assert_eq!(found.hard_state, known.hard_state, "{what}: {id}");
        let above = written.snapshot.index.0 + 1..;
        let of_written: Vec<_> = found.entries.range(above.clone()).collect();
        let known: Vec<_> = known.entries.range(above).collect();
        assert_eq!(of_written, known, "{what}: {id}");
        let held = found.entries.range(replica.snapshot.index.0 + 1..);
        let held: Vec<u64> = held.map(|(&index, _)| index).collect();
        let needed: Vec<u64> = (replica.snapshot.index.0 + 1..=replica.last_index.0).collect();
        assert_eq!(held, needed, "{what}: {id}");
    }
    standings
}

fn truth(disk: &Disk) -> (Recovered, Model) {
    let truth = disk.replay().unwrap();
    assert_eq!(truth.0.decision, Decision::Clean);
    truth
}

fn fill(disk: &mut Disk, (file, range): (FileNumber, Range<usize>), bytes: &[u8]) {
    disk.files.get_mut(&file).unwrap()[range].copy_from_slice(bytes);
}

#[test]
fn an_undamaged_log_is_read_as_ever() {
    for seed in 1..40 {
        let disk = written(seed).disk;
        let (strict, model) = truth(&disk);
        let (found, found_model) = among_peers(&disk).unwrap();
        assert_eq!(found.replicas, strict.replicas);
        assert_eq!(found_model, model);
        assert_eq!(found.start, strict.start);
    }
}

#[test]
fn whatever_record_is_lost_what_is_said_of_the_rest_is_true() {
    let mut count: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 1..60 {
        let mut disk = written(seed).disk;
        let truth = truth(&disk);
        let records = live_records(&disk);
        for (number, (sequence, file, range)) in records.iter().enumerate() {
            let before = disk.files[file][range.clone()].to_vec();
            fill(&mut disk, (*file, range.clone()), &vec![0; range.len()]);
            let standings = check(&disk, &truth, &format!("seed {seed}, record {sequence}"));
            for standing in standings.values() {
                let name = match standing {
                    Standing::Whole => "whole",
                    Standing::Damaged => "damaged",
                    Standing::Lost => "lost",
                };
                *count.entry(name).or_default() += 1;
            }
            // A later checkpoint says how every replica stands.
            let has_later_checkpoint = records[number + 1..]
                .iter()
                .any(|(.., range)| range.start == 0);
            let is_any_lost = standings
                .values()
                .any(|standing| *standing == Standing::Lost);
            assert!(
                !(has_later_checkpoint && is_any_lost),
                "seed {seed}, record {sequence}"
            );
            fill(&mut disk, (*file, range.clone()), &before);
        }
    }
    assert!(count.values().all(|&count| count > 100), "{count:?}");
}

#[test]
fn a_damaged_body_names_its_replicas_and_the_others_are_whole() {
    for seed in 1..60 {
        let mut disk = written(seed).disk;
        let truth = truth(&disk);
        for (sequence, file, range) in live_records(&disk) {
            // The end of the payload or of the padding: header and sub-headers are intact.
            let last = range.end - 1;
            disk.files.get_mut(&file).unwrap()[last] ^= 0x10;
            let standings = check(&disk, &truth, &format!("seed {seed}, record {sequence}"));
            assert!(!standings.is_empty());
            assert!(
                standings
                    .values()
                    .all(|standing| *standing != Standing::Lost)
            );
            disk.files.get_mut(&file).unwrap()[last] ^= 0x10;
        }
    }
}

/// A replica that waits for its first snapshot holds nothing but the word that it is there: what others lost is not its own.
#[test]
fn a_replica_that_waits_to_join_is_whole_while_it_is_there() {
    let mut machine = Machine::fresh(options());
    machine.write(snapshot(1, 1, 1));
    machine.write(append(4, 1, 0, 1, vec![]));
    for index in 2..6 {
        machine.write(append(1, 1, index - 1, index, vec![entry(1, 1, 900)]));
    }
    machine.idle();
    let mut disk = machine.disk;
    let truth = truth(&disk);
    let mut damaged = 0;
    for (sequence, file, range) in live_records(&disk) {
        let last = range.end - 1;
        disk.files.get_mut(&file).unwrap()[last] ^= 0x10;
        let standings = check(&disk, &truth, &format!("record {sequence}"));
        if standings.get(&ReplicaId(1)) == Some(&Standing::Damaged) {
            damaged += 1;
            assert_eq!(standings.get(&ReplicaId(4)), Some(&Standing::Whole));
        }
        disk.files.get_mut(&file).unwrap()[last] ^= 0x10;
    }
    assert!(damaged >= 3, "{damaged}");
}

/// Found by the simulator: a block that could not be read, in the free end of a segment that had come there since, kept a
/// node from starting for ever.
#[test]
fn a_place_that_cannot_be_read_and_of_which_nobody_needs_anything_is_passed_over() {
    let mut disk = written(7).disk;
    let (_, model) = truth(&disk);
    let records = live_records(&disk);
    let mut tried = 0;
    for (&file, bytes) in &disk.files.clone() {
        let ends = records.iter().filter(|(_, of, _)| *of == file);
        let free = ends.map(|(_, _, range)| range.end).max();
        let last = bytes.len() - BLOCK_BYTES;
        if free.is_none_or(|free| free > last) {
            continue;
        }
        tried += 1;
        let mut worn = Worn {
            disk: &mut disk,
            file,
            offset: last as u64,
        };
        let mut found = Model::default();
        let recovered = recover_among_peers(&mut worn, &IDENTITY, SEAL, &mut |event| {
            found.on_event(&event);
        });
        assert_eq!(recovered.unwrap().decision, Decision::Clean);
        assert_eq!(found, model);
    }
    assert!(tried > 0);
}

/// Two records lost at a time, in every combination, and records that lie where others belong.
#[test]
fn what_is_said_is_true_when_two_records_are_lost_or_one_is_written_to_a_wrong_place() {
    for seed in 1..5 {
        let mut disk = written(seed).disk;
        let truth = truth(&disk);
        let records = live_records(&disk);
        for (one, (first, one_file, one_range)) in records.iter().enumerate() {
            let one_bytes = disk.files[one_file][one_range.clone()].to_vec();
            for (second, other_file, other_range) in records[one + 1..].iter().step_by(5) {
                let what = format!("seed {seed}, records {first} and {second}");
                let other_bytes = disk.files[other_file][other_range.clone()].to_vec();
                let zeros = vec![0; other_range.len().max(one_range.len())];
                fill(
                    &mut disk,
                    (*other_file, other_range.clone()),
                    &zeros[..other_range.len()],
                );
                fill(
                    &mut disk,
                    (*one_file, one_range.clone()),
                    &zeros[..one_range.len()],
                );
                check(&disk, &truth, &what);
                if one_range.len() == other_range.len() {
                    fill(&mut disk, (*other_file, other_range.clone()), &one_bytes);
                    check(&disk, &truth, &format!("{what}, misplaced"));
                    fill(&mut disk, (*one_file, one_range.clone()), &one_bytes);
                    check(&disk, &truth, &format!("{what}, twice"));
                }
                fill(&mut disk, (*one_file, one_range.clone()), &one_bytes);
                fill(&mut disk, (*other_file, other_range.clone()), &other_bytes);
            }
        }
    }
}

/// The first record of the next life says that a replica is damaged, and that counts until a snapshot comes.
#[test]
fn damage_is_remembered_until_a_snapshot_takes_the_place_of_everything() {
    let mut tried = 0;
    for (seed, place) in (1..30).flat_map(|seed| [1, 2, 3, 4].map(|place| (seed, place))) {
        let mut disk = written(seed).disk;
        let (sequence, file, range) = live_records(&disk).swap_remove(place);
        disk.files.get_mut(&file).unwrap()[range.end - 1] ^= 0x10;
        let Ok((recovered, _)) = among_peers(&disk) else {
            continue;
        };
        let damaged = recovered.replicas.iter();
        let damaged: Vec<_> = damaged
            .filter(|replica| replica.standing == Standing::Damaged)
            .cloned()
            .collect();
        let Some(replica) = damaged.first() else {
            continue;
        };
        tried += 1;
        let id = replica.replica.0;
        let mut machine = Machine::start(options(), recovered.start, disk);
        machine.idle();
        let what = format!("seed {seed}, record {sequence}");
        // Even where the damage itself were to heal.
        let mut healed = machine.disk.clone();
        healed.files.get_mut(&file).unwrap()[range.end - 1] ^= 0x10;
        for disk in [&machine.disk, &healed] {
            let (again, _) = among_peers(disk).unwrap();
            let again = again.replicas.iter().find(|found| found.replica.0 == id);
            assert_eq!(again, Some(replica), "{what}");
            // Who knows of no peers does not use it.
            let alone = recover(&mut disk.clone(), &IDENTITY, SEAL, &mut |_| {});
            assert!(
                matches!(alone, Err(RecoveryError::Corrupt { .. })),
                "{what}"
            );
        }
        let (term, index) = (replica.hard_state.term.0 + 1, replica.last_index.0 + 3);
        machine.write(snapshot(id, term, index));
        let first = LogIndex(index + 1);
        machine.log.set_first_index(ReplicaId(id), first);
        machine.write(append(id, term, index, index + 1, vec![entry(term, 1, 10)]));
        machine.idle();
        for _ in 0..2 {
            let (mended, model) = among_peers(&machine.disk).unwrap();
            let found = mended.replicas.iter().find(|found| found.replica.0 == id);
            let found = found.expect("it is there");
            assert_eq!(found.standing, Standing::Whole, "{what}");
            assert_eq!(found.last_index.0, index + 1, "{what}");
            let entries = &model.replicas[&ReplicaId(id)].entries;
            assert_eq!(entries.range(index + 1..).count(), 1, "{what}");
            machine = Machine::start(options(), mended.start, machine.disk);
            machine.idle();
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
#[should_panic(expected = "a damaged replica writes nothing but what takes its place")]
fn a_damaged_replica_writes_nothing() {
    let mut machine = written(1);
    machine.log.set_damaged(ReplicaId(1));
    machine.write(part(
        1,
        900,
        1,
        PartBody::Append {
            first_index: LogIndex(900),
            entries: Vec::new(),
        },
    ));
}
