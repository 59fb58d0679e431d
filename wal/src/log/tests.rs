use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::*;
use crate::format::{BLOCK_BYTES, MarkState, RecordHeader, RecordKind};
use crate::ids::{ShardId, Term};
use crate::part::{Entry, EntryKind, HardState};
use crate::recovery::Decision;
use crate::testing::{
    IDENTITY, Machine, Place, Space, append, entry, part, small_options, snapshot,
};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// An entry that makes a record of exactly two blocks.
fn two_blocks(fill: u8) -> Entry {
    entry(1, fill, 5000)
}

/// Writes entries `first..=last` of replica 1, each in a record of two blocks.
fn write_entries(machine: &mut Machine, first: u64, last: u64) {
    for index in first..=last {
        machine.write(append(
            1,
            1,
            index - 1,
            index,
            vec![two_blocks(index as u8)],
        ));
    }
}

/// A durable snapshot at `index`, after which the entries up to it are given up.
fn compact(machine: &mut Machine, index: u64) {
    machine.write(append(1, 1, index, index + 1, vec![]));
    machine.write(snapshot(1, 1, index));
    machine
        .log
        .set_first_index(ReplicaId(1), LogIndex(index + 1));
}

fn pending_header(machine: &Machine, index: usize) -> RecordHeader {
    RecordHeader::decode(machine.pending[index].buffer.as_slice())
        .unwrap()
        .0
}

#[test]
fn the_first_write_is_a_checkpoint_and_nothing_is_ready_before_it() {
    let mut machine = Machine::fresh(small_options());
    machine
        .log
        .stage(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    machine.collect();
    assert_eq!(machine.pending.len(), 1);
    assert_eq!(pending_header(&machine, 0).kind, RecordKind::Checkpoint);
    assert!(!machine.log.is_ready() && !machine.log.is_idle());
    machine.complete(0);
    assert!(machine.log.is_ready());
    assert_eq!(machine.log.durable_position(), Position(0));
    machine.settle();
    assert_eq!(machine.log.durable_position(), Position(1));
    assert!(machine.log.is_idle());
}

#[test]
fn the_first_write_is_alone_even_when_several_may_be_in_flight() {
    let options = LogOptions {
        writes_in_flight_max: 4,
        ..small_options()
    };
    let mut machine = Machine::fresh(options);
    machine
        .log
        .stage(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    machine.collect();
    assert_eq!(
        machine.pending.len(),
        1,
        "the cut is durable before anything is written after it"
    );
}

#[test]
fn what_was_durable_is_found_again() {
    let mut machine = Machine::fresh(small_options());
    machine.write(snapshot(1, 1, 1));
    machine.write(append(
        1,
        2,
        1,
        2,
        vec![entry(2, b'a', 100), entry(2, b'b', 5000)],
    ));
    machine.write(append(2, 1, 0, 1, vec![entry(1, b'c', 0)]));
    machine.write(append(1, 2, 3, 4, vec![]));
    let (recovered, model) = machine.disk.replay().unwrap();
    assert_eq!(recovered.decision, Decision::Clean);
    assert_eq!(recovered.replicas.len(), 2);
    let replica = &recovered.replicas[0];
    assert_eq!(
        (replica.first_index, replica.last_index),
        (LogIndex(2), LogIndex(3))
    );
    let hard_state = HardState {
        term: Term(2),
        vote: ReplicaId(1),
        commit: LogIndex(3),
    };
    assert_eq!(replica.hard_state, hard_state);
    assert_eq!(&replica.snapshot.members[..], b"members at 1");
    let read = &model.replicas[&ReplicaId(1)];
    assert_eq!(read.entries[&3], entry(2, b'b', 5000));
    assert_eq!(read.hard_state, hard_state);
    assert_eq!(model.replicas[&ReplicaId(2)].entries[&1], entry(1, b'c', 0));
}

#[test]
fn what_gathers_during_a_write_is_the_next_record() {
    let mut machine = Machine::fresh(small_options());
    machine.settle();
    let writes = machine.log.status().durable_writes;
    machine
        .log
        .stage(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    machine.collect();
    for index in 2..=6 {
        machine
            .log
            .stage(append(1, 1, 0, index, vec![entry(1, b'b', 10)]));
    }
    machine
        .log
        .stage(append(2, 1, 0, 1, vec![entry(1, b'c', 10)]));
    machine.collect();
    assert_eq!(machine.pending.len(), 1, "one write is in flight");
    machine.settle();
    assert_eq!(machine.durable, Position(7));
    assert_eq!(machine.log.status().durable_writes, writes + 2);
    assert_eq!(machine.log.staged_bytes(), 0);
}

#[test]
fn only_the_contiguous_prefix_counts() {
    let options = LogOptions {
        writes_in_flight_max: 3,
        ..small_options()
    };
    let mut machine = Machine::fresh(options);
    machine.settle();
    for index in 1..=3 {
        machine
            .log
            .stage(append(1, 1, 0, index, vec![entry(1, b'a', 10)]));
        machine.collect();
    }
    assert_eq!(machine.pending.len(), 3);
    assert_eq!(
        pending_header(&machine, 2).watermark,
        RecordSequence(1),
        "only the checkpoint is known to be durable"
    );
    machine.complete(2);
    machine.complete(1);
    assert_eq!(machine.durable, Position(0));
    machine.complete(0);
    assert_eq!(machine.durable, Position(3));
}

#[test]
fn a_part_longer_than_a_record_is_durable_with_its_last_piece() {
    let mut machine = Machine::fresh(LogOptions {
        segment_bytes: 16 * BLOCK,
        budget_bytes: 64 * BLOCK,
        ..small_options()
    });
    machine.settle();
    let entries: Vec<Entry> = (0..10).map(|fill| entry(1, fill, 4000)).collect();
    let staged_bytes_before = machine.log.staged_bytes();
    let position = machine.log.stage(append(1, 1, 10, 1, entries.clone()));
    let mut commits = Vec::new();
    loop {
        machine.collect();
        if machine.pending.is_empty() {
            break;
        }
        assert!(machine.durable < position);
        machine.complete(0);
        commits.push(
            machine.disk.recover().unwrap().replicas[0]
                .hard_state
                .commit,
        );
    }
    assert_eq!(
        commits,
        [LogIndex(4), LogIndex(8), LogIndex(10)],
        "no piece claims what follows it"
    );
    assert_eq!(machine.durable, position);
    assert_eq!(machine.log.staged_bytes(), staged_bytes_before);
    let (_, model) = machine.disk.replay().unwrap();
    let read: Vec<Entry> = model.replicas[&ReplicaId(1)]
        .entries
        .values()
        .cloned()
        .collect();
    assert_eq!(read, entries);
}

#[test]
fn the_longest_entry_fits_and_a_longer_one_is_a_bug() {
    let options = small_options();
    let longest = options.entry_bytes_max();
    let mut machine = Machine::fresh(options);
    machine.write(append(1, 1, 0, 1, vec![entry(1, b'x', longest)]));
    let (_, model) = machine.disk.replay().unwrap();
    assert_eq!(
        model.replicas[&ReplicaId(1)].entries[&1].data.len(),
        longest
    );
    let staged = catch_unwind(AssertUnwindSafe(|| {
        machine
            .log
            .stage(append(1, 1, 0, 2, vec![entry(1, b'x', longest + 1)]));
    }));
    assert!(staged.is_err());
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
    machine.log.trim_spares();
    machine.settle();
    let status = machine.log.status();
    assert_eq!(status.spares, small_options().spare_segments);
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
fn what_a_consensus_protocol_never_asks_for_is_refused() {
    let vote = |term, vote| HardState {
        term: Term(term),
        vote: ReplicaId(vote),
        commit: LogIndex(2),
    };
    let with = |hard_state| Part {
        hard_state,
        ..append(1, 1, 2, 3, vec![])
    };
    let rewrite = |first, term| {
        let entries = vec![entry(term, b'r', 1)];
        part(
            1,
            2,
            2,
            PartBody::Rewrite {
                first_index: LogIndex(first),
                entries,
            },
        )
    };
    let bad = [
        ("a term that goes back", with(vote(1, 1))),
        ("a second vote in a term", with(vote(2, 9))),
        (
            "a committed entry replaced",
            append(1, 2, 2, 2, vec![entry(2, b'x', 1)]),
        ),
        ("a hole", append(1, 2, 2, 5, vec![entry(2, b'x', 1)])),
        ("a rewrite of other terms", rewrite(3, 1)),
        ("a rewrite of entries never held", rewrite(4, 2)),
        (
            "a snapshot that replaces committed entries",
            part(
                1,
                2,
                2,
                PartBody::Snapshot {
                    index: LogIndex(1),
                    term: Term(7),
                    members: Bytes::new(),
                },
            ),
        ),
        (
            "another shard",
            Part {
                shard: ShardId(77),
                ..append(1, 2, 2, 4, vec![])
            },
        ),
    ];
    for (what, part) in bad {
        let mut machine = Machine::fresh(small_options());
        machine.write(append(
            1,
            2,
            2,
            1,
            vec![entry(2, b'a', 1), entry(2, b'b', 1), entry(2, b'c', 1)],
        ));
        machine.log.stage(part);
        let outcome = catch_unwind(AssertUnwindSafe(|| machine.settle()));
        assert!(outcome.is_err(), "{what} was written");
    }
}

#[test]
fn options_that_contradict_each_other_are_named() {
    let good = LogOptions::new(IDENTITY);
    assert_eq!(good.validate(), Ok(()));
    assert_eq!(small_options().validate(), Ok(()));
    let record = LogOptions {
        record_bytes_max: 5000,
        ..good.clone()
    };
    assert_eq!(
        record.validate(),
        Err(LogOptionsError::RecordBytes {
            record_bytes_max: 5000
        })
    );
    let segment = LogOptions {
        segment_bytes: 4 << 20,
        ..good.clone()
    };
    assert!(matches!(
        segment.validate(),
        Err(LogOptionsError::SegmentBytes { .. })
    ));
    let budget = LogOptions {
        budget_bytes: 3 * good.segment_bytes,
        ..good.clone()
    };
    assert!(matches!(
        budget.validate(),
        Err(LogOptionsError::BudgetBytes { .. })
    ));
    let spares = LogOptions {
        spare_segments: 0,
        ..good.clone()
    };
    assert_eq!(spares.validate(), Err(LogOptionsError::SpareSegments));
    let writes = LogOptions {
        writes_in_flight_max: 0,
        ..good
    };
    assert_eq!(
        writes.validate(),
        Err(LogOptionsError::WritesInFlight {
            writes_in_flight_max: 0
        })
    );
}

#[test]
fn entries_of_both_kinds_keep_their_kind() {
    let mut machine = Machine::fresh(small_options());
    let change = Entry {
        term: Term(1),
        kind: EntryKind::ConfChange,
        data: Bytes::from_static(b"add 3"),
    };
    machine.write(append(1, 1, 0, 1, vec![change.clone(), entry(1, b'n', 3)]));
    let (_, model) = machine.disk.replay().unwrap();
    assert_eq!(model.replicas[&ReplicaId(1)].entries[&1], change);
    assert_eq!(
        model.replicas[&ReplicaId(1)].entries[&2].kind,
        EntryKind::Normal
    );
}
