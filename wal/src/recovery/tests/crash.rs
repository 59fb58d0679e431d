//! Power is lost at every point of a write: it is there, or it is not, and what was there before is untouched.

use crate::format::BLOCK_BYTES;
use crate::recovery::Decision;
use crate::testing::{
    Disk, Machine, Model, Pending, Place, append, entry, small_options, snapshot,
};
use crate::{LogIndex, RecordSequence, ReplicaId};

const SECTOR_BYTES: usize = 512;

/// Every way in which the sectors of a write of `sectors` may have arrived that is tried.
fn tears(sectors: usize) -> Vec<Vec<Sector>> {
    let mut tears = Vec::new();
    for boundary in 0..=sectors {
        tears.push(
            (0..sectors)
                .map(|sector| {
                    if sector < boundary {
                        Sector::New
                    } else {
                        Sector::Old
                    }
                })
                .collect(),
        );
        tears.push(
            (0..sectors)
                .map(|sector| {
                    if sector < boundary {
                        Sector::Old
                    } else {
                        Sector::New
                    }
                })
                .collect(),
        );
    }
    for single in 0..sectors {
        for (one, others) in [
            (Sector::New, Sector::Old),
            (Sector::Old, Sector::New),
            (Sector::Torn, Sector::New),
            (Sector::Torn, Sector::Old),
            (Sector::Garbage, Sector::New),
        ] {
            tears.push(
                (0..sectors)
                    .map(|sector| if sector == single { one } else { others })
                    .collect(),
            );
        }
    }
    tears
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sector {
    Old,
    New,
    /// The first half is new.
    Torn,
    Garbage,
}

/// The disk after a crash in which `pending` arrived like this, and whether all of it is there.
fn torn_disk(disk: &Disk, pending: &Pending, tear: &[Sector]) -> (Disk, bool) {
    let mut disk = disk.clone();
    let new = pending.buffer.as_slice();
    let target = disk.target(pending.place, new.len());
    for (index, sector) in tear.iter().enumerate() {
        let start = index * SECTOR_BYTES;
        let end = match sector {
            Sector::Old => start,
            Sector::New => start + SECTOR_BYTES,
            Sector::Torn => start + SECTOR_BYTES / 2,
            Sector::Garbage => {
                target[start..start + SECTOR_BYTES].fill(0xa5);
                continue;
            }
        };
        target[start..end].copy_from_slice(&new[start..end]);
    }
    let is_complete = target == new;
    (disk, is_complete)
}

/// Tears the one pending write of `machine` in every way and checks what is found.
fn tear_everywhere(machine: &Machine, before: &Model, after: &Model) {
    let [pending] = &machine.pending[..] else {
        panic!("{:?}", machine.pending)
    };
    let mut complete = 0;
    for tear in tears(pending.buffer.len() / SECTOR_BYTES) {
        let (disk, is_complete) = torn_disk(&machine.disk, pending, &tear);
        complete += usize::from(is_complete);
        let (recovered, found) = disk.replay().unwrap();
        assert_eq!(&found, if is_complete { after } else { before }, "{tear:?}");
        if is_complete {
            assert_eq!(recovered.decision, Decision::Clean);
        }
        check_that_void_stays_void(disk, &found);
    }
    assert!(complete >= 1, "at least one of them is the whole write");
}

/// Whatever a crash left behind never comes back, however often the log is opened and whatever is written.
fn check_that_void_stays_void(disk: Disk, found: &Model) {
    let mut machine = Machine::restart(small_options(), disk);
    machine.settle();
    assert_eq!(&machine.disk.replay().unwrap().1, found);
    let last = found.replicas.get(&ReplicaId(1)).map_or(0, |replica| {
        replica
            .entries
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
            .max(replica.snapshot.0.0)
    });
    machine.write(append(1, 9, last, last + 1, vec![entry(9, b'N', 30)]));
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(recovered.decision, Decision::Clean);
    let replica = &model.replicas[&ReplicaId(1)];
    assert_eq!(replica.entries[&(last + 1)], entry(9, b'N', 30));
    assert_eq!(replica.entries.keys().next_back(), Some(&(last + 1)));
}

/// Entries `first..=last` of replica 1, each with a segment's worth of history before them when `first` is high.
fn write_entries(machine: &mut Machine, first: u64, last: u64) {
    for index in first..=last {
        machine.write(append(
            1,
            1,
            index - 1,
            index,
            vec![entry(1, index as u8, 5000)],
        ));
    }
}

/// A log whose next record goes where an earlier use of the file left records.
fn on_used_ground() -> Machine {
    let mut machine = Machine::fresh(small_options());
    for round in 0..4 {
        let first = round * 6 + 1;
        write_entries(&mut machine, first, first + 5);
        machine.write(append(1, 1, first + 5, first + 6, vec![]));
        machine.write(snapshot(1, 1, first + 5));
        machine
            .log
            .set_first_index(ReplicaId(1), LogIndex(first + 6));
        machine.idle();
    }
    machine
}

fn pending_ground(machine: &mut Machine) -> Vec<u8> {
    let place = machine.pending[0].place;
    let length = machine.pending[0].buffer.len();
    machine.disk.target(place, length).to_vec()
}

#[test]
fn a_record_on_fresh_ground_is_there_or_not() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 1);
    let before = machine.disk.replay().unwrap().1;
    machine
        .log
        .stage(append(1, 1, 1, 2, vec![entry(1, b'n', 9000)]));
    machine
        .log
        .stage(append(2, 1, 0, 1, vec![entry(1, b'm', 100)]));
    machine.collect();
    assert!(pending_ground(&mut machine).iter().all(|&byte| byte == 0));
    let mut after = machine.disk.clone();
    after.write(&machine.pending[0]);
    tear_everywhere(&machine, &before, &after.replay().unwrap().1);
}

#[test]
fn a_record_over_the_records_of_an_earlier_use_is_there_or_not() {
    let mut machine = on_used_ground();
    let mut index = 25;
    loop {
        let before = machine.disk.replay().unwrap().1;
        machine
            .log
            .stage(append(1, 1, index - 1, index, vec![entry(1, b'n', 5000)]));
        machine.collect();
        machine
            .pending
            .retain(|pending| matches!(pending.place, Place::Segment(..)));
        if pending_ground(&mut machine).starts_with(b"MSWALREC") {
            let mut after = machine.disk.clone();
            after.write(&machine.pending[0]);
            let after = after.replay().unwrap().1;
            tear_everywhere(&machine, &before, &after);
            break;
        }
        machine.settle();
        index += 1;
        assert!(index < 60, "a file is used again before long");
    }
}

#[test]
fn the_first_record_of_a_new_log_is_there_or_not() {
    let mut machine = Machine::fresh(small_options());
    machine.collect();
    let [pending] = &machine.pending[..] else {
        panic!()
    };
    for tear in tears(pending.buffer.len() / SECTOR_BYTES) {
        let (disk, is_complete) = torn_disk(&machine.disk, pending, &tear);
        let (recovered, found) = disk.replay().unwrap();
        assert_eq!(found, Model::default());
        assert_eq!(
            recovered.last_record,
            RecordSequence(u64::from(is_complete))
        );
        match recovered.decision {
            Decision::Clean => assert!(is_complete),
            Decision::Empty | Decision::TornTail => assert!(!is_complete),
            Decision::Corrupt => panic!("{tear:?}"),
        }
        check_that_void_stays_void(disk, &found);
    }
}

#[test]
fn the_checkpoint_of_a_new_segment_is_there_or_not() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 3);
    let before = machine.disk.replay().unwrap().1;
    machine
        .log
        .stage(append(1, 1, 3, 4, vec![entry(1, b'n', 5000)]));
    machine.collect();
    machine
        .pending
        .retain(|pending| matches!(pending.place, Place::Segment(..)));
    tear_everywhere(&machine, &before, &before);
}

#[test]
fn a_torn_cut_leads_to_the_same_cut_again() {
    // A crash leaves a torn record; the recovery after it crashes in every way while it makes its cut durable.
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 1);
    machine
        .log
        .stage(append(1, 1, 1, 2, vec![entry(1, b'n', 5000)]));
    machine.collect();
    let half: Vec<Sector> = (0..16)
        .map(|sector| if sector < 9 { Sector::New } else { Sector::Old })
        .collect();
    let (disk, _) = torn_disk(&machine.disk, &machine.pending[0], &half);
    let before = disk.replay().unwrap();
    assert_eq!(before.0.decision, Decision::TornTail);
    let mut machine = Machine::restart(small_options(), disk);
    machine.collect();
    tear_everywhere(&machine, &before.1, &before.1);
}

#[test]
fn a_torn_mark_changes_nothing() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 2);
    machine.idle();
    write_entries(&mut machine, 3, 3);
    let before = machine.disk.replay().unwrap().1;
    machine.log.on_idle();
    machine.collect();
    assert!(matches!(machine.pending[0].place, Place::Mark(_)));
    for tear in tears(BLOCK_BYTES / SECTOR_BYTES) {
        let (disk, _) = torn_disk(&machine.disk, &machine.pending[0], &tear);
        let (recovered, found) = disk.replay().unwrap();
        assert_eq!((recovered.decision, &found), (Decision::Clean, &before));
        check_that_void_stays_void(disk, &found);
    }
}

#[test]
fn records_after_a_torn_one_are_void_for_ever_however_intact() {
    let mut options = small_options();
    options.writes_in_flight_max = 3;
    let mut machine = Machine::fresh(options.clone());
    machine.settle();
    for index in 1..=3 {
        machine
            .log
            .stage(append(1, 1, 0, index, vec![entry(1, b'o', 100)]));
        machine.collect();
    }
    // The first of three never arrives, the other two do.
    let mut disk = machine.disk.clone();
    disk.write(&machine.pending[1]);
    disk.write(&machine.pending[2]);
    for _ in 0..4 {
        let recovered = disk.recover().unwrap();
        assert!(recovered.replicas.is_empty());
        let mut machine = Machine::restart(options.clone(), disk);
        machine.settle();
        disk = machine.disk;
    }
    // The hole is filled by a record of a later epoch, and the two are still void.
    let mut machine = Machine::restart(options, disk);
    machine.write(append(1, 2, 0, 1, vec![entry(2, b'n', 100)]));
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(recovered.decision, Decision::Clean);
    assert_eq!(model.replicas[&ReplicaId(1)].entries.len(), 1);
    assert_eq!(
        model.replicas[&ReplicaId(1)].entries[&1],
        entry(2, b'n', 100)
    );
}

#[test]
fn a_crash_at_any_step_of_release_and_reuse_loses_nothing() {
    // The same history is cut off after each of its completions, with what was in flight lost, there, or halved.
    let run = |completions_max: usize| {
        let mut machine = Machine::fresh(small_options());
        let mut completions = 0;
        let mut drive = |machine: &mut Machine| loop {
            machine.collect();
            if machine.pending.is_empty() {
                break true;
            }
            if completions == completions_max {
                break false;
            }
            completions += 1;
            machine.complete(0);
        };
        for index in 1..=30 {
            machine.log.stage(append(
                1,
                1,
                index - 1,
                index,
                vec![entry(1, index as u8, 5000)],
            ));
            if !drive(&mut machine) {
                return (machine, true);
            }
            if index % 5 == 0 {
                machine.log.stage(append(1, 1, index, index + 1, vec![]));
                machine.log.stage(snapshot(1, 1, index));
                if !drive(&mut machine) {
                    return (machine, true);
                }
                machine
                    .log
                    .set_first_index(ReplicaId(1), LogIndex(index + 1));
                machine.log.on_idle();
                if !drive(&mut machine) {
                    return (machine, true);
                }
            }
        }
        (machine, false)
    };
    let mut durable_before = 0;
    for completions_max in 0.. {
        let (machine, is_cut) = run(completions_max);
        for arrived in [0, 1, 2] {
            let mut disk = machine.disk.clone();
            for pending in &machine.pending {
                let bytes = pending.buffer.as_slice();
                let arrived_bytes = bytes.len() * arrived / 2 / SECTOR_BYTES * SECTOR_BYTES;
                disk.target(pending.place, arrived_bytes)
                    .copy_from_slice(&bytes[..arrived_bytes]);
            }
            let (recovered, model) = disk.replay().unwrap();
            let last = recovered
                .replicas
                .first()
                .map_or(0, |replica| replica.last_index.0);
            assert!(
                last >= durable_before,
                "{completions_max} completions, {arrived} arrived"
            );
            if arrived == 0 {
                durable_before = last;
            }
            for (&index, found) in model.replicas.values().flat_map(|replica| &replica.entries) {
                assert_eq!(found, &entry(1, index as u8, 5000));
            }
            check_that_void_stays_void(disk, &model);
        }
        if !is_cut {
            assert!(
                machine.log.status().segment.0 > 8 && machine.disk.files.len() < 8,
                "files were used again"
            );
            return;
        }
    }
}

#[test]
fn a_segment_begun_in_vain_never_gives_its_number_to_another() {
    let mut options = small_options();
    options.writes_in_flight_max = 3;
    let mut machine = Machine::fresh(options.clone());
    write_entries(&mut machine, 1, 3);
    machine
        .log
        .stage(append(1, 1, 2, 4, vec![entry(1, b'l', 100)]));
    machine
        .log
        .stage(append(1, 1, 2, 5, vec![entry(1, b'v', 12_000)]));
    machine.collect();
    // The last record of the old segment is lost, the checkpoint of the next one is not.
    let mut disk = machine.disk.clone();
    for pending in machine
        .pending
        .iter()
        .filter(|pending| matches!(pending.place, Place::Segment(_, 0)))
    {
        disk.write(pending);
    }
    let begun = machine.log.status().segment;
    let recovered = disk.recover().unwrap();
    assert_eq!(recovered.decision, Decision::TornTail);
    let mut machine = Machine::start(options, recovered.start, disk);
    machine.settle();
    assert!(machine.log.status().segment > begun);
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(recovered.decision, Decision::Clean);
    assert_eq!(model.replicas[&ReplicaId(1)].entries.len(), 3);
}
