use crate::format::BLOCK_BYTES;
use crate::recovery::Decision;
use crate::testing::{Machine, append, entry, part, small_options, snapshot};
use crate::{
    HardState, LogEffect, LogIndex, LogSpace, PartBody, Position, ReplicaId, SegmentSequence, Term,
};

#[test]
fn the_first_write_is_a_checkpoint_and_nothing_is_ready_before_it() {
    let mut machine = Machine::fresh(small_options());
    machine
        .log
        .stage(append(1, 1, 0, 1, vec![entry(1, b'a', 10)]));
    machine.collect();
    assert_eq!(machine.pending.len(), 1);
    assert!(!machine.log.is_ready());
    machine.complete(0);
    assert!(machine.log.is_ready());
    assert_eq!(machine.log.durable_position(), Position(0));
    machine.settle();
    assert_eq!(machine.log.durable_position(), Position(1));
    assert!(machine.log.is_idle());
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
