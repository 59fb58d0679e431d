//! Which snapshots a reader is told of before anything else. That it then finds every entry above them, and needs
//! none below, is checked with every replay of these tests.

use crate::recovery::{RecoveredSnapshot, ReplayEvent, recover};
use crate::testing::{Disk, IDENTITY, Machine, SEAL, append, entry, part, small_options, snapshot};
use crate::{LogIndex, PartBody, ReplicaId, SegmentSequence, Term};

/// The index and term of the snapshot that a recovery tells of replica 1.
fn told(disk: &Disk) -> Option<(u64, u64)> {
    let mut told: Vec<RecoveredSnapshot> = Vec::new();
    recover(&mut disk.clone(), &IDENTITY, SEAL, &mut |event| {
        if let ReplayEvent::Snapshots { snapshots } = event {
            told = snapshots.to_vec();
        }
    })
    .unwrap();
    // Checks what comes after it, too.
    disk.replay().unwrap();
    let of_first = told
        .iter()
        .find(|snapshot| snapshot.replica == ReplicaId(1))?;
    let members = format!("members at {}", of_first.snapshot.index);
    assert_eq!(of_first.snapshot.members, members.as_bytes());
    Some((of_first.snapshot.index.0, of_first.snapshot.term.0))
}

/// Fills segments with the entries from `first` to `last` of replica 1, each committed with the one after it.
fn write_entries(machine: &mut Machine, first: u64, last: u64) {
    for index in first..=last {
        let entries = vec![entry(1, index as u8, 5000)];
        machine.write(append(1, 1, index - 1, index, entries));
    }
}

#[test]
fn the_newest_of_several_snapshots_is_told() {
    let mut machine = Machine::fresh(small_options());
    assert_eq!(told(&machine.disk), None);
    write_entries(&mut machine, 1, 4);
    assert_eq!(told(&machine.disk), None);
    for index in [1, 3] {
        machine.write(snapshot(1, 1, index));
        assert_eq!(told(&machine.disk), Some((index, 1)));
    }
}

#[test]
fn a_snapshot_whose_own_segment_was_released_is_told_from_the_checkpoint() {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(2, 1, 0, 1, vec![entry(1, b'x', 10)]));
    write_entries(&mut machine, 1, 3);
    machine.write(snapshot(1, 1, 2));
    machine.log.set_first_index(ReplicaId(1), LogIndex(3));
    write_entries(&mut machine, 4, 9);
    // Everything moves out of the first segments: replica 2 and what replica 1 holds above its snapshot.
    for holder in [1, 2] {
        let entries = match holder {
            1 => (3..=9).map(|index| entry(1, index as u8, 5000)).collect(),
            _ => vec![entry(1, b'x', 10)],
        };
        let (commit, first) = if holder == 1 { (8, 3) } else { (0, 1) };
        let first_index = LogIndex(first);
        machine.write(part(
            holder,
            1,
            commit,
            PartBody::Rewrite {
                first_index,
                entries,
            },
        ));
    }
    machine.idle();
    let mut oldest = SegmentSequence(u64::MAX);
    recover(&mut machine.disk.clone(), &IDENTITY, SEAL, &mut |event| {
        if let ReplayEvent::Checkpoint { segment, .. } = event {
            oldest = oldest.min(segment);
        }
        assert!(
            !matches!(event, ReplayEvent::Snapshot { .. }),
            "its record is gone"
        );
    })
    .unwrap();
    assert!(oldest > SegmentSequence(1), "{oldest}");
    assert_eq!(told(&machine.disk), Some((2, 1)));
}

#[test]
fn a_snapshot_whose_record_was_torn_is_not_told() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 2);
    machine.write(snapshot(1, 1, 1));
    machine.log.stage(snapshot(1, 1, 2));
    machine.collect();
    let before = machine.disk.clone();
    assert_eq!(machine.pending.len(), 1);
    machine.complete(0);
    assert_eq!(told(&machine.disk), Some((2, 1)));
    assert_eq!(told(&before), Some((1, 1)));
}

#[test]
fn a_replica_that_is_gone_has_no_snapshot() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 2);
    machine.write(snapshot(1, 1, 1));
    machine.write(part(1, 1, 1, PartBody::Tombstone));
    assert_eq!(told(&machine.disk), None);
}

/// The writer keeps entries below a snapshot as long as somebody may want them, so the log and a snapshot overlap.
#[test]
fn entries_that_overlap_a_snapshot_are_handed_out_and_not_needed() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 6);
    machine.write(snapshot(1, 1, 5));
    machine.log.set_first_index(ReplicaId(1), LogIndex(3));
    write_entries(&mut machine, 7, 12);
    machine.idle();
    assert_eq!(told(&machine.disk), Some((5, 1)));
    let (recovered, model) = machine.disk.replay().unwrap();
    assert!(recovered.replicas[0].first_index <= LogIndex(3));
    assert_eq!(
        model.replicas[&ReplicaId(1)].snapshot,
        (LogIndex(5), Term(1))
    );
}
