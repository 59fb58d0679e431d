//! Scenarios. The comparison with a plain model over random input is in `model`.

use super::*;
use crate::batch::{Batch, BatchBuilder, BatchError, Codec};
use crate::command::{Command, CommandError, CommandFlags, CommandKind, Feature};
use crate::outcome::{Outcome, OutcomeCode};
use crate::query::{Direction, GetQuery, Projection, RangeQuery, Scope};
use crate::row::Row;

mod delimiter;
mod model;
mod pinned;
mod reads;
mod snapshot;
mod structured;

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;

/// An outcome without its previous row, and the row's value.
type Seen = (OutcomeCode, u64, Option<i64>, Option<Vec<u8>>);

/// A state machine with the leader that feeds it.
struct Shard {
    machine: StateMachine,
    time: ShardTime,
}

impl Shard {
    fn new() -> Shard {
        Shard::with(Parameters::default())
    }

    fn with(parameters: Parameters) -> Shard {
        Shard {
            machine: StateMachine::new(parameters),
            time: ShardTime(1),
        }
    }

    /// Applies the commands as one batch.
    fn apply(&mut self, commands: &[Command<'_>]) -> Vec<Seen> {
        let mut seen = Vec::new();
        let sealed = sealed(commands, self.time);
        let batch = Batch::decode(&sealed).unwrap();
        self.machine
            .apply(&batch, &mut |outcome| seen.push(seen_of(&outcome)))
            .unwrap();
        assert_eq!(seen.len(), commands.len());
        seen
    }

    fn apply_one(&mut self, command: Command<'_>) -> Seen {
        self.apply(&[command]).remove(0)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> u64 {
        let (code, revision, ..) = self.apply_one(Command::put(NAMESPACE, key, value));
        assert_eq!(code, OutcomeCode::Done);
        revision
    }

    fn delete(&mut self, key: &[u8]) -> u64 {
        let (code, revision, ..) = self.apply_one(Command::delete(NAMESPACE, key));
        assert_eq!(code, OutcomeCode::Done);
        revision
    }

    fn get(&self, key: &[u8]) -> Option<Row<'_>> {
        self.machine
            .get(&GetQuery {
                namespace: NAMESPACE,
                key,
                at: None,
            })
            .unwrap()
    }

    fn value_at(&self, key: &[u8], at: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let row = self.machine.get(&GetQuery {
            namespace: NAMESPACE,
            key,
            at: Some(Revision(at)),
        })?;
        Ok(row.map(|row| row.value.to_vec()))
    }
}

fn seen_of(outcome: &Outcome<'_>) -> Seen {
    let previous = outcome.previous.map(|row| row.value.to_vec());
    (outcome.code, outcome.revision.0, outcome.number, previous)
}

fn sealed(commands: &[Command<'_>], time: ShardTime) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for command in commands {
        let mut bytes = Vec::new();
        command.encode_into(&mut bytes);
        builder.push(&bytes);
    }
    builder.seal(time, 1)
}

fn done(revision: u64) -> Seen {
    (OutcomeCode::Done, revision, None, None)
}

fn number(revision: u64, number: i64) -> Seen {
    (OutcomeCode::Done, revision, Some(number), None)
}

#[test]
fn every_change_in_a_batch_takes_the_next_revision() {
    let mut shard = Shard::new();
    let seen = shard.apply(&[
        Command::put(NAMESPACE, b"a", b"1"),
        Command::put(NAMESPACE, b"b", b"1"),
        Command::delete(NAMESPACE, b"absent"),
        Command::delete(NAMESPACE, b"a"),
        Command::put(NamespaceId(9), b"a", b"1"),
    ]);
    let absent = (OutcomeCode::Absent, 2, None, None);
    assert_eq!(seen, [done(1), done(2), absent, done(3), done(1)]);
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(3));
    assert_eq!(shard.machine.revision(NamespaceId(9)), Revision(1));
    assert_eq!(shard.machine.key_count(), 2);
}

#[test]
fn a_key_that_comes_back_begins_anew() {
    let mut shard = Shard::new();
    shard.put(b"k", b"1");
    shard.put(b"k", b"2");
    let row = shard.get(b"k").unwrap();
    assert_eq!(
        (row.create_revision, row.mod_revision, row.version),
        (Revision(1), Revision(2), 2)
    );
    shard.delete(b"k");
    assert_eq!(shard.get(b"k"), None);
    shard.put(b"k", b"3");
    let row = shard.get(b"k").unwrap();
    assert_eq!(
        (row.create_revision, row.mod_revision, row.version),
        (Revision(4), Revision(4), 1)
    );
}

#[test]
fn conditions_hold_or_change_nothing() {
    let mut shard = Shard::new();
    let put = Command::put(NAMESPACE, b"k", b"v");
    assert_eq!(shard.apply_one(put.with_if_absent()), done(1));
    assert_eq!(
        shard.apply_one(put.with_if_absent()),
        (OutcomeCode::Conflict, 1, None, None)
    );
    assert_eq!(
        shard.apply_one(
            put.with_expected_revision(Revision(7))
                .with_return_previous()
        ),
        (OutcomeCode::Conflict, 1, None, Some(b"v".to_vec()))
    );
    assert_eq!(
        shard.apply_one(put.with_expected_revision(Revision(1))),
        done(2)
    );
    let delete = Command::delete(NAMESPACE, b"k");
    assert_eq!(
        shard.apply_one(delete.with_expected_revision(Revision(1))),
        (OutcomeCode::Conflict, 2, None, None)
    );
    assert_eq!(
        shard.apply_one(delete.with_expected_revision(Revision(2))),
        done(3)
    );
    assert_eq!(
        shard.apply_one(put.with_expected_revision(Revision(2))),
        (OutcomeCode::Conflict, 0, None, None)
    );
    assert_eq!(
        shard.apply_one(put.with_expected_revision(Revision(0))),
        done(4)
    );
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(4));
}

#[test]
fn the_previous_row_comes_on_demand_and_only_if_it_existed() {
    let mut shard = Shard::new();
    let put = |value| Command::put(NAMESPACE, b"k", value).with_return_previous();
    assert_eq!(shard.apply_one(put(b"1")), done(1));
    assert_eq!(
        shard.apply_one(put(b"2")),
        (OutcomeCode::Done, 2, None, Some(b"1".to_vec()))
    );
    let delete = Command::delete(NAMESPACE, b"k").with_return_previous();
    assert_eq!(
        shard.apply_one(delete),
        (OutcomeCode::Done, 3, None, Some(b"2".to_vec()))
    );
    assert_eq!(
        shard.apply_one(delete),
        (OutcomeCode::Absent, 3, None, None)
    );
    assert_eq!(shard.apply_one(put(b"3")), done(4));
}

#[test]
fn counters_count() {
    let mut shard = Shard::new();
    let (five, two, max) = (
        5_i64.to_le_bytes(),
        2_i64.to_le_bytes(),
        i64::MAX.to_le_bytes(),
    );
    assert_eq!(
        shard.apply_one(Command::add_i64(NAMESPACE, b"n", &five)),
        number(1, 5)
    );
    assert_eq!(
        shard.apply_one(Command::add_i64(NAMESPACE, b"n", &two)),
        number(2, 7)
    );
    assert_eq!(
        shard.apply_one(Command::add_i64(NAMESPACE, b"n", &max)),
        (OutcomeCode::Overflow, 2, None, None)
    );
    assert_eq!(shard.get(b"n").unwrap().value, 7_i64.to_le_bytes());
    assert_eq!(
        shard.apply_one(Command::min_i64(NAMESPACE, b"n", &two)),
        number(3, 2)
    );
    assert_eq!(
        shard.apply_one(Command::max_i64(NAMESPACE, b"n", &five)),
        number(4, 5)
    );
    assert_eq!(
        shard.apply_one(Command::max_i64(NAMESPACE, b"m", &two)),
        number(5, 2)
    );
    assert_eq!(
        shard.apply_one(Command::min_i64(NAMESPACE, b"l", &two)),
        number(6, 2)
    );
}

#[test]
fn an_extreme_that_is_already_reached_takes_no_revision() {
    let mut shard = Shard::new();
    let (five, two) = (5_i64.to_le_bytes(), 2_i64.to_le_bytes());
    shard.apply_one(Command::max_i64(NAMESPACE, b"n", &five));
    shard.put(b"other", b"");
    assert_eq!(
        shard.apply_one(Command::max_i64(NAMESPACE, b"n", &two)),
        number(1, 5)
    );
    assert_eq!(
        shard.apply_one(Command::max_i64(NAMESPACE, b"n", &five)),
        number(1, 5)
    );
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(2));
    assert_eq!(shard.get(b"n").unwrap().version, 1);
    let zero = 0_i64.to_le_bytes();
    assert_eq!(
        shard.apply_one(Command::add_i64(NAMESPACE, b"n", &zero)),
        number(3, 5)
    );
}

#[test]
fn a_counter_needs_eight_bytes() {
    let mut shard = Shard::new();
    shard.put(b"text", b"seven b");
    shard.put(b"empty", b"");
    let one = 1_i64.to_le_bytes();
    for key in [&b"text"[..], b"empty"] {
        for command in [Command::add_i64, Command::max_i64, Command::min_i64] {
            let seen = shard.apply_one(command(NAMESPACE, key, &one));
            assert_eq!(seen, (OutcomeCode::NotANumber, 2, None, None));
        }
    }
}

#[test]
fn appending_stops_at_the_limit_of_values() {
    let mut shard = Shard::with(Parameters {
        value_bytes_max: 5,
        ..Parameters::default()
    });
    let append = |bytes| Command::append(NAMESPACE, b"log", bytes);
    assert_eq!(shard.apply_one(append(b"abc")), done(1));
    assert_eq!(shard.apply_one(append(b"de")), done(2));
    assert_eq!(
        shard.apply_one(append(b"f")),
        (OutcomeCode::TooLarge, 2, None, None)
    );
    assert_eq!(shard.get(b"log").unwrap().value, b"abcde");
}

#[test]
fn what_the_edge_would_have_refused_halts() {
    let refuse = |command: Command<'_>| {
        let mut shard = Shard::new();
        let good = Command::put(NAMESPACE, b"good", b"");
        let sealed = sealed(&[good, command], ShardTime(1));
        shard
            .machine
            .apply(&Batch::decode(&sealed).unwrap(), &mut |_| ())
            .unwrap_err()
    };
    let put = Command::put(NAMESPACE, b"k", b"v");
    let at_one = |error| ApplyError::Command { position: 1, error };
    assert_eq!(
        refuse(Command::put(NAMESPACE, b"", b"")),
        at_one(CommandError::KeyEmpty)
    );
    assert_eq!(
        refuse(Command {
            kind: CommandKind::MaxI64,
            ..put
        }),
        at_one(CommandError::OperandNotI64 { length: 1 })
    );
    assert_eq!(
        refuse(put.with_lease(1)),
        at_one(CommandError::NotSupported {
            feature: Feature::Lease
        })
    );
    assert_eq!(
        refuse(Command::delete(NAMESPACE, b"k").with_if_absent()),
        at_one(CommandError::FlagNotAllowed {
            kind: CommandKind::Delete,
            flag: CommandFlags::IF_ABSENT
        })
    );
}

#[test]
fn what_cannot_be_read_halts() {
    let mut machine = StateMachine::new(Parameters::default());
    let mut bytes = sealed(&[Command::put(NAMESPACE, b"k", b"v")], ShardTime(1));
    Batch::set_codec(&mut bytes, Codec::Snappy);
    let error = machine
        .apply(&Batch::decode(&bytes).unwrap(), &mut |_| ())
        .unwrap_err();
    assert_eq!(
        error,
        ApplyError::Batch(BatchError::StillCompressed {
            codec: Codec::Snappy
        })
    );
    Batch::set_codec(&mut bytes, Codec::None);
    bytes[32] = 43;
    let error = machine
        .apply(&Batch::decode(&bytes).unwrap(), &mut |_| ())
        .unwrap_err();
    let unknown = CommandError::UnknownKind { kind: 43 };
    assert_eq!(
        error,
        ApplyError::Batch(BatchError::Command {
            position: 0,
            error: unknown
        })
    );
}

#[test]
fn time_that_goes_back_halts() {
    let mut shard = Shard::new();
    shard.time = ShardTime(10);
    shard.put(b"k", b"v");
    shard.put(b"k", b"v");
    assert_eq!(shard.machine.shard_time(), ShardTime(10));
    let sealed = sealed(&[Command::put(NAMESPACE, b"k", b"v")], ShardTime(9));
    let error = shard
        .machine
        .apply(&Batch::decode(&sealed).unwrap(), &mut |_| ())
        .unwrap_err();
    assert_eq!(
        error,
        ApplyError::TimeWentBack {
            from: ShardTime(10),
            to: ShardTime(9)
        }
    );
}

#[test]
fn the_hash_follows_what_was_applied_and_nothing_else() {
    let run = |last: &[u8], is_read: bool| {
        let mut shard = Shard::with(Parameters {
            history_revisions_max: 3,
            ..Parameters::default()
        });
        for round in 0..10 {
            if is_read {
                let _held_back = shard.machine.pin();
                shard.machine.reclaim(1);
            }
            shard.put(b"a", &[round]);
            shard.put(b"b", b"same");
            shard.delete(b"a");
        }
        shard.put(b"b", last);
        shard.machine.state_hash()
    };
    assert_eq!(run(b"x", false), run(b"x", false));
    assert_eq!(run(b"x", false), run(b"x", true));
    assert_ne!(run(b"x", false), run(b"y", false));
    // Replicas of two versions compare their hashes, so it may not change unnoticed.
    assert_eq!(run(b"x", false), GOLDEN_HASH);
}

const GOLDEN_HASH: u64 = 7_599_295_583_233_342_374;

#[test]
fn the_memory_of_what_was_deleted_comes_back() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 10,
        ..Parameters::default()
    });
    shard.put(b"stays", b"");
    let before = shard.machine.memory();
    for number in 0..1000_u32 {
        shard.put(&number.to_le_bytes(), &[0; 1000]);
    }
    assert!(shard.machine.memory().state_bytes > 1_000_000);
    for number in 0..1000_u32 {
        shard.delete(&number.to_le_bytes());
    }
    for _ in 0..20 {
        shard.put(b"stays", b"");
    }
    let after = shard.machine.memory();
    assert_eq!(after.state_bytes, before.state_bytes);
    assert!(after.history_bytes < 10 * 256, "{after:?}");
    assert_eq!(after.unanswering_bytes, 0);
    assert_eq!(shard.machine.key_count(), 1);
    let keys = &shard.machine.namespaces[&NAMESPACE].keys;
    assert_eq!(
        keys.forward_from(b"").count(),
        1,
        "no tombstone is left in the map"
    );
}
