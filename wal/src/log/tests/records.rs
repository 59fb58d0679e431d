//! What becomes a record, and when it counts.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::*;
use crate::format::RecordKind;
use crate::log::{LogOptions, LogOptionsError};
use crate::recovery::Decision;
use crate::testing::{IDENTITY, SEAL, part, small_options};
use crate::{EntryKind, HardState, Part, PartBody, Position, RecordSequence, ShardId, Term};

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
    let good = LogOptions::new(IDENTITY, SEAL);
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
