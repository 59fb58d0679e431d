//! When segments begin, when they go, and what marks say about it.

use super::*;
use crate::format::{MarkSlot, MarkState, RecordKind};
use crate::log::{Holder, LogOptions, LogSpace};
use crate::recovery::Decision;
use crate::testing::{Place, Space, part, small_options};
use crate::{FileNumber, PartBody, Position, SegmentSequence};

/// Loses everything that is pending but marks, and recovers.
fn crash_losing_records(machine: Machine) -> Machine {
    let mut disk = machine.disk;
    for pending in machine
        .pending
        .iter()
        .filter(|pending| matches!(pending.place, Place::Mark(_)))
    {
        disk.write(pending);
    }
    Machine::restart(small_options(), disk)
}

#[test]
fn a_new_segment_begins_with_a_checkpoint_when_a_record_does_not_fit() {
    let mut machine = Machine::fresh(small_options());
    // A segment of eight blocks: the checkpoint, then three records of two blocks.
    write_entries(&mut machine, 1, 3);
    assert_eq!(machine.log.status().segment, SegmentSequence(1));
    machine.log.stage(append(1, 1, 3, 4, vec![two_blocks(4)]));
    machine.collect();
    let header = pending_header(&machine, 0);
    assert_eq!(
        (header.kind, header.segment),
        (RecordKind::Checkpoint, SegmentSequence(2))
    );
    assert_eq!(
        header.watermark.next(),
        header.sequence,
        "the whole old segment is known to be durable"
    );
    let marks = machine
        .pending
        .iter()
        .filter(|pending| matches!(pending.place, Place::Mark(_)))
        .count();
    assert_eq!(marks, 1, "a rotation writes a mark");
    machine.settle();
    assert_eq!(machine.durable, Position(4));
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(recovered.decision, Decision::Clean);
    assert_eq!(model.replicas[&ReplicaId(1)].entries.len(), 4);
}

#[test]
fn segments_are_released_after_a_snapshot_and_used_again() {
    let mut machine = Machine::fresh(small_options());
    for round in 0..20 {
        let first = round * 8 + 1;
        write_entries(&mut machine, first, first + 7);
        compact(&mut machine, first + 7);
        machine.idle();
        let recovered = machine.disk.recover().unwrap();
        assert_eq!(recovered.decision, Decision::Clean);
        assert_eq!(recovered.replicas[0].last_index, LogIndex(first + 7));
    }
    let status = machine.log.status();
    assert!(status.files <= 8, "{status:?}");
    assert!(status.segment.0 > 40, "{status:?}");
    let numbers: Vec<u64> = machine.disk.files.keys().map(|file| file.0).collect();
    assert!(
        numbers.iter().all(|&number| number <= 12),
        "files are used again: {numbers:?}"
    );
    machine.log.set_disk_short(true);
    machine.settle();
    let status = machine.log.status();
    assert_eq!(status.spares, small_options().spare_segments);
    assert_eq!(machine.disk.files.len(), status.files);
}

#[test]
fn what_is_released_while_the_disk_is_short_is_not_kept() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 8);
    machine.log.set_disk_short(true);
    compact(&mut machine, 8);
    machine.idle();
    let status = machine.log.status();
    assert!(
        status.spares <= small_options().spare_segments,
        "{status:?}"
    );
    assert_eq!(machine.disk.files.len(), status.files);
}

#[test]
fn a_released_file_is_not_touched_before_something_durable_says_so() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 6);
    compact(&mut machine, 6);
    assert!(machine.log.needs_mark());
    let status = machine.log.status();
    assert!(
        status.spares + status.segments_live < status.files,
        "some are released and wait: {status:?}"
    );
    // The record that names the release is on its way; until it is durable the file keeps its contents.
    machine.log.stage(append(1, 1, 6, 7, vec![two_blocks(7)]));
    machine.collect();
    assert_eq!(machine.log.status().spares, status.spares);
    machine.settle();
    assert_eq!(
        machine.log.status().segments_live + machine.log.status().spares,
        machine.log.status().files
    );
}

#[test]
fn an_idle_replica_can_be_moved_out_of_the_oldest_segment() {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(
        2,
        1,
        0,
        1,
        vec![entry(1, b'i', 10), entry(1, b'j', 10)],
    ));
    write_entries(&mut machine, 1, 8);
    compact(&mut machine, 8);
    let holder = Holder {
        replica: ReplicaId(2),
        first_index: LogIndex(1),
        last_index: LogIndex(2),
    };
    assert_eq!(machine.log.oldest_holders(), [holder]);
    let live = machine.log.status().segments_live;
    let entries = vec![entry(1, b'i', 10), entry(1, b'j', 10)];
    let body = PartBody::Rewrite {
        first_index: LogIndex(1),
        entries: entries.clone(),
    };
    machine.write(part(2, 1, 0, body));
    assert!(machine.log.status().segments_live < live);
    machine.idle();
    write_entries(&mut machine, 9, 16);
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(recovered.decision, Decision::Clean);
    let read: Vec<Entry> = model.replicas[&ReplicaId(2)]
        .entries
        .values()
        .cloned()
        .collect();
    assert_eq!(read, entries);
    assert_eq!(recovered.replicas[1].first_index, LogIndex(1));
}

#[test]
fn a_tombstone_frees_what_its_replica_held() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 6);
    machine.write(part(1, 1, 5, PartBody::Tombstone));
    machine.idle();
    assert_eq!(machine.log.status().segments_live, 1);
    let (recovered, model) = machine.disk.replay().unwrap();
    assert!(recovered.replicas.is_empty() && model.replicas.is_empty());
}

#[test]
fn clients_are_refused_before_the_budget_is_spent_and_raft_is_not() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    let mut index = 1;
    while machine.log.space() == LogSpace::Ok {
        write_entries(&mut machine, index, index);
        index += 1;
        assert!(index < 100);
    }
    // A budget of eight segments: seven are in use, one is left for what raft itself must write.
    let used_bytes = 7 * 8 * BLOCK;
    assert_eq!(
        machine.log.space(),
        LogSpace::Exhausted {
            budget_bytes: 64 * BLOCK,
            used_bytes
        }
    );
    compact(&mut machine, index - 1);
    machine.idle();
    assert_eq!(machine.log.space(), LogSpace::Ok);
    assert!(machine.log.status().files <= 8);
}

#[test]
fn files_never_outgrow_the_budget() {
    let mut machine = Machine::fresh(small_options());
    let mut staged = 0;
    while !machine.log.is_stalled() {
        staged += 1;
        machine
            .log
            .stage(append(1, 1, staged - 1, staged, vec![two_blocks(0)]));
        machine.settle();
        assert!(machine.disk.files.len() <= 8);
        assert!(staged < 100);
    }
    assert_eq!(machine.disk.files.len(), 8);
    assert_eq!(machine.durable, Position(staged - 1));
    let recovered = machine.disk.recover().unwrap();
    assert_eq!(recovered.replicas[0].last_index, LogIndex(staged - 1));
    // A start needs one segment more than the budget allows: without it nothing could ever be released.
    let mut machine = Machine::restart(small_options(), machine.disk);
    machine.settle();
    assert!(machine.log.is_ready());
    compact(&mut machine, staged - 1);
    machine.idle();
    assert!(machine.disk.files.len() <= 8, "{:?}", machine.log.status());
    assert_eq!(machine.log.space(), LogSpace::Ok);
}

#[test]
fn without_a_spare_the_log_waits_and_goes_on_when_one_is_ready() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    machine.space = Space::Full { waiting: None };
    let mut index = 0;
    while !machine.log.is_stalled() {
        index += 1;
        machine
            .log
            .stage(append(1, 1, index - 1, index, vec![two_blocks(0)]));
        machine.settle();
    }
    assert!(matches!(machine.log.space(), LogSpace::SpareMissing { .. }));
    assert_eq!(machine.durable, Position(index - 1));
    assert!(matches!(machine.space, Space::Full { waiting: Some(_) }));
    machine.free_space();
    machine.settle();
    assert!(!machine.log.is_stalled());
    assert_eq!(machine.durable, Position(index));
    assert_eq!(machine.log.space(), LogSpace::Ok);
}

#[test]
fn a_start_on_a_full_disk_finds_the_spare_that_clients_were_not_given() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    machine.space = Space::Full { waiting: None };
    let mut index = 0;
    while machine.log.space() == LogSpace::Ok {
        index += 1;
        machine
            .log
            .stage(append(1, 1, index - 1, index, vec![two_blocks(0)]));
        machine.settle();
    }
    assert!(!machine.log.is_stalled());
    let mut machine = Machine::restart(small_options(), machine.disk);
    machine.space = Space::Full { waiting: None };
    machine.settle();
    assert!(machine.log.is_ready());
}

/// A disk ran full when the segment was at its end, and the spares that were ready beside the one of the next start were
/// of no use: ordinary commands were refused because of the disk, so nothing began the next segment, and deletes, which
/// would have, were refused for want of room in this one.
#[test]
fn what_frees_space_may_begin_a_segment_that_is_ready() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    let mut index = 0;
    let mut write_one_block = |machine: &mut Machine| {
        index += 1;
        machine.write(append(1, 1, index - 1, index, vec![entry(1, b'd', 10)]));
    };
    while machine.log.status().offset < 8 * BLOCK {
        write_one_block(&mut machine);
    }
    machine.space = Space::Full { waiting: None };
    assert_eq!(machine.log.status().spares, 2);
    assert!(machine.log.has_room_to_free());
    let mut written = 0;
    while machine.log.has_room_to_free() {
        write_one_block(&mut machine);
        written += 1;
        assert!(written < 100);
    }
    assert!(written > 1, "it goes on in the new segment");
    assert_eq!(machine.log.status().spares, 1, "one is left for a start");
    let mut machine = Machine::restart(small_options(), machine.disk);
    machine.space = Space::Full { waiting: None };
    machine.settle();
    assert!(machine.log.is_ready());
}

#[test]
fn a_stalled_log_names_released_segments_by_a_mark() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    machine.space = Space::Full { waiting: None };
    let mut index = 0;
    // Fill every segment there is, but leave room for the snapshot's record.
    while machine.log.status().spares > 0 || machine.log.status().offset < 5 * BLOCK {
        index += 1;
        write_entries(&mut machine, index, index);
    }
    machine.log.stage(append(1, 1, index, index + 1, vec![]));
    let position = machine.log.stage(snapshot(1, 1, index));
    machine.settle();
    assert_eq!(machine.durable, position);
    // Nothing but the release can bring a spare now, and no record has room to name it.
    let position = machine
        .log
        .stage(append(1, 1, index, index + 1, vec![entry(1, b'z', 12_000)]));
    machine.settle();
    assert!(machine.log.is_stalled());
    machine
        .log
        .set_first_index(ReplicaId(1), LogIndex(index + 1));
    machine.settle();
    assert!(!machine.log.is_stalled());
    assert_eq!(machine.durable, position);
}

#[test]
fn a_mark_is_written_at_idleness_and_only_when_it_says_something_new() {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    assert!(machine.log.needs_mark());
    let marks = machine.log.status().marks;
    machine.log.on_idle();
    machine.settle();
    assert_eq!(machine.log.status().marks, marks + 1);
    machine.log.on_idle();
    machine.settle();
    assert_eq!(machine.log.status().marks, marks + 1);
    machine.write(append(1, 1, 1, 2, vec![entry(1, b'b', 10)]));
    machine.idle();
    let recovered = machine.disk.recover().unwrap();
    let generations: Vec<u64> = recovered
        .marks
        .iter()
        .map(|mark| match mark {
            MarkState::Valid(mark) => mark.generation,
            MarkState::Unwritten | MarkState::Unreadable => panic!("both blocks have been written"),
        })
        .collect();
    assert_eq!(generations, [1, 2], "they are written in turn");
    assert_eq!(recovered.watermark, recovered.last_record);
}

#[test]
fn files_of_another_length_are_not_reused() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 2);
    machine.idle();
    let options = LogOptions {
        segment_bytes: 16 * BLOCK,
        budget_bytes: 128 * BLOCK,
        ..small_options()
    };
    // A preparation was cut off as well.
    machine.disk.files.insert(FileNumber(99), vec![0; 5000]);
    let mut machine = Machine::restart(options, machine.disk);
    machine.settle();
    let lengths: Vec<usize> = machine.disk.files.values().map(Vec::len).collect();
    assert_eq!(
        lengths
            .iter()
            .filter(|&&length| length == 8 * BLOCK_BYTES)
            .count(),
        1,
        "the live one: {lengths:?}"
    );
    assert!(
        lengths
            .iter()
            .all(|&length| length == 8 * BLOCK_BYTES || length == 16 * BLOCK_BYTES)
    );
    write_entries(&mut machine, 3, 12);
    assert_eq!(
        machine.disk.recover().unwrap().replicas[0].last_index,
        LogIndex(12)
    );
}

#[test]
fn a_segment_stays_until_the_checkpoint_after_it_is_durable() {
    let mut machine = Machine::fresh(small_options());
    write_entries(&mut machine, 1, 1);
    machine.write(append(1, 1, 1, 2, vec![]));
    machine.write(snapshot(1, 1, 1));
    // The checkpoint of the next segment is on its way when the last entry is given up, and a mark goes out.
    machine
        .log
        .stage(append(1, 1, 1, 2, vec![entry(1, b'n', 13_000)]));
    machine.collect();
    assert_eq!(pending_header(&machine, 0).kind, RecordKind::Checkpoint);
    machine.complete(1);
    machine.log.set_first_index(ReplicaId(1), LogIndex(2));
    machine.log.on_idle();
    machine.collect();
    assert_eq!(machine.log.status().segments_live, 2);
    // The checkpoint is lost: only the old segment knows the hard state.
    let machine = crash_losing_records(machine);
    let recovered = machine.disk.recover().unwrap();
    assert_eq!(recovered.replicas[0].hard_state.commit, LogIndex(1));
}

#[test]
fn a_segment_stays_until_the_entries_rewritten_from_it_are_durable() {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(2, 1, 0, 1, vec![entry(1, b'i', 10)]));
    write_entries(&mut machine, 1, 8);
    compact(&mut machine, 8);
    let body = PartBody::Rewrite {
        first_index: LogIndex(1),
        entries: vec![entry(1, b'i', 10)],
    };
    machine.log.stage(part(2, 1, 0, body));
    machine.collect();
    machine.log.set_first_index(ReplicaId(1), LogIndex(9));
    machine.log.on_idle();
    machine.collect();
    let machine = crash_losing_records(machine);
    let (_, model) = machine.disk.replay().unwrap();
    assert_eq!(
        model.replicas[&ReplicaId(2)].entries[&1],
        entry(1, b'i', 10)
    );
}

#[test]
fn the_first_mark_after_a_start_spares_the_newest_one() {
    let mut machine = Machine::fresh(small_options());
    for round in 1..=3 {
        machine.write(append(1, 1, round - 1, round, vec![entry(1, b'a', 10)]));
        machine.idle();
        let newest = |machine: &Machine| {
            let marks = machine.disk.recover().unwrap().marks;
            let generation = |mark: &MarkState| match mark {
                MarkState::Valid(mark) => mark.generation,
                MarkState::Unwritten | MarkState::Unreadable => 0,
            };
            if generation(&marks[0]) > generation(&marks[1]) {
                MarkSlot::First
            } else {
                MarkSlot::Second
            }
        };
        let before = newest(&machine);
        machine = Machine::restart(small_options(), machine.disk);
        machine.settle();
        machine.log.on_idle();
        machine.collect();
        assert_eq!(machine.pending[0].place, Place::Mark(before.other()));
        machine.settle();
        assert_eq!(newest(&machine), before.other());
    }
}

#[test]
fn what_only_a_void_record_names_released_is_not_used_yet() {
    let options = LogOptions {
        writes_in_flight_max: 2,
        ..small_options()
    };
    let mut machine = Machine::fresh(options.clone());
    write_entries(&mut machine, 1, 4);
    machine.write(append(1, 1, 4, 5, vec![]));
    machine.write(snapshot(1, 1, 4));
    assert_eq!(machine.log.status().segments_live, 2);
    machine
        .log
        .stage(append(1, 1, 4, 5, vec![entry(1, b'l', 10)]));
    machine.collect();
    machine.log.set_first_index(ReplicaId(1), LogIndex(5));
    machine
        .log
        .stage(append(1, 1, 4, 6, vec![entry(1, b'v', 10)]));
    machine.collect();
    assert_eq!(
        pending_header(&machine, 1).oldest_live_segment,
        SegmentSequence(2)
    );
    // The record that names the release arrives, and the one before it does not.
    let mut disk = machine.disk.clone();
    disk.write(&machine.pending[1]);
    let recovered = disk.recover().unwrap();
    assert_eq!(recovered.decision, Decision::TornTail);
    let mut machine = Machine::start(options, recovered.start, disk);
    machine.collect();
    let status = machine.log.status();
    assert_eq!(
        status.spares + status.segments_live + 1,
        status.files,
        "{status:?}"
    );
    machine.settle();
    let status = machine.log.status();
    assert_eq!(
        status.spares + status.segments_live,
        status.files,
        "the new checkpoint names it: {status:?}"
    );
}

/// A recovery that meets damage in the newest record takes it for a torn one: what the record replaced outside the log
/// must stay until another record, or a mark, would tell the difference.
#[test]
fn a_position_is_covered_only_by_what_was_built_after_it_was_durable() {
    let mut machine = Machine::fresh(small_options());
    machine.write(append(1, 1, 0, 1, vec![two_blocks(1)]));
    let first = machine.durable;
    assert!(machine.log.covered_position() < first);
    // On its way before the first was durable, it cannot say so.
    machine.write(append(1, 1, 0, 2, vec![two_blocks(2)]));
    assert_eq!(machine.log.covered_position(), first);
    machine.idle();
    assert_eq!(machine.log.covered_position(), machine.durable);
}

#[test]
fn the_log_is_short_before_clients_are_refused() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    let mut last = 0;
    while !machine.log.is_short() {
        assert_eq!(machine.log.space(), LogSpace::Ok);
        last += 1;
        write_entries(&mut machine, last, last);
    }
    assert_eq!(machine.log.space(), LogSpace::Ok);
    compact(&mut machine, last);
    assert!(!machine.log.is_short());
}
