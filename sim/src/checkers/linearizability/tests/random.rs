//! Small random histories, some of them spoilt, judged twice.

use super::brute_force::is_linearizable;
use super::compounds::*;
use super::*;
use crate::operation::{Compound, DirectoryRange, Step};
use crate::oracle::Model;
use crate::random::Random;
use metastore_net::blocking::OwnedDetail;
use metastore_statemachine::Command;

const OPERATIONS: usize = 6;
const HISTORIES: u64 = 4_000;

fn draw_mutation(random: &mut Random, number: usize) -> Mutation {
    let mutation = match random.below(4) {
        0 => delete(),
        1 => append(&format!("{number};")),
        _ => put(&format!("{number}")),
    };
    let mutation = match random.chance(300) {
        true => of_other(mutation),
        false => mutation,
    };
    match random.below(4) {
        0 if mutation.kind != CommandKind::Delete => if_absent(mutation),
        1 => if_revision(random.below(4), mutation),
        _ => mutation,
    }
}

fn draw_compound(random: &mut Random, number: usize) -> Compound {
    let (one, other) = (format!("{number}"), format!("{number}!"));
    match random.below(5) {
        0 => both(&one, &other).into(),
        1 => txn(
            vec![if_present(KEY)],
            vec![Step::Mutation(of_other(put(&one)))],
            vec![
                Step::Mutation(put(&other)),
                Step::DeleteRange(DirectoryRange::all(DIRECTORY)),
            ],
        )
        .into(),
        2 => txn(
            vec![if_all_before(random.below(5))],
            vec![
                Step::Mutation(draw_mutation(random, number)),
                Step::Get(OTHER.to_vec()),
            ],
            vec![Step::Txn(both(&one, &other))],
        )
        .into(),
        3 => commit(random.below(4), of_other(put(&one))).into(),
        _ => Compound::DeleteRange(DirectoryRange::all(DIRECTORY)),
    }
}

fn draw_action(random: &mut Random, number: usize) -> Action {
    match random.weighted(&[(4, 'm'), (3, 'c'), (2, 'r'), (1, 'l'), (1, 'n')]) {
        'm' => Action::Mutate(draw_mutation(random, number)),
        'c' => Action::Compound(draw_compound(random, number)),
        'r' => Action::Read {
            keys: vec![KEY.to_vec(), OTHER.to_vec()],
            at: None,
        },
        'l' => Action::Range {
            range: range(),
            until: None,
        },
        _ => Action::Count(range()),
    }
}

/// Does one thing at its moment and tells how it ended. What changes the store is written into the log.
fn act(store: &mut Model, log: &mut ShardLog, action: &Action, at: Moment) -> End {
    let revision = store.revision();
    let encoded = match action {
        Action::Read { keys, .. } => {
            let rows = keys.iter().map(|key| {
                store.row_at(key, revision).map(|row| FoundRow {
                    value: row.value.clone(),
                    create_revision: row.create_revision,
                    mod_revision: row.mod_revision,
                    version: row.version,
                })
            });
            let rows = rows.collect();
            return End::Rows { at, revision, rows };
        }
        Action::Range { range, .. } => {
            let rows = store.range(range, revision);
            return End::Listed { at, revision, rows };
        }
        Action::Count(range) => {
            let count = store.range(range, revision).len() as u64;
            return End::Counted {
                at,
                revision,
                count,
            };
        }
        Action::Mutate(mutation) => mutation.encoded(),
        Action::Compound(compound) => compound.encoded(),
    };
    let (command, _) = Command::decode(&encoded).expect("it is a command");
    let came_to = store.apply(&command);
    log.0.push(encoded);
    let outcome = OwnedOutcome {
        code: came_to.code,
        revision: came_to.revision,
        number: came_to.number,
        previous: None,
        detail: came_to.detail,
    };
    End::Outcome { at, outcome }
}

/// Operations that overlap, each of which took place at a moment of its own, and the log that they left.
fn draw_history(random: &mut Random, unknown_per_mille: u64) -> (Vec<Operation>, ShardLog) {
    let (mut store, mut log) = (Model::default(), ShardLog::default());
    let mut operations = Vec::new();
    for number in 0..OPERATIONS {
        let moment = 100 * (number as u64 + 1);
        let (early, late) = (random.below(250), random.below(250));
        let sent = Moment(moment.saturating_sub(early) * 10 + number as u64);
        let at = Moment((moment + late) * 10 + 10 + number as u64);
        let action = draw_action(random, number);
        let is_command = matches!(action, Action::Mutate(_) | Action::Compound(_));
        let end = match is_command && random.chance(unknown_per_mille) {
            // Half of them take place.
            true => {
                if random.chance(500) {
                    act(&mut store, &mut log, &action, at);
                }
                End::Unknown
            }
            false => act(&mut store, &mut log, &action, at),
        };
        operations.push(Operation { sent, action, end });
    }
    (operations, log)
}

/// Changes one answer a little.
fn spoil(random: &mut Random, operations: &mut [Operation]) {
    let victim = random.index(operations.len());
    let other = random.index(operations.len());
    let shifted = |revision: &mut Revision, random: &mut Random| {
        revision.0 = (revision.0 + random.below(3)).saturating_sub(1);
    };
    if random.chance(200) {
        let (sent, end) = (operations[other].sent, operations[victim].answered());
        if end.is_none_or(|answered| sent < answered) {
            operations[victim].sent = Moment(sent.0 + 1);
        }
        return;
    }
    match &mut operations[victim].end {
        End::Outcome { outcome, .. } => match &mut outcome.detail {
            Some(OwnedDetail::Txn(txn)) if random.chance(500) => {
                txn.results.pop();
            }
            Some(_) if random.chance(300) => outcome.detail = None,
            Some(_) | None => match outcome.number.as_mut() {
                Some(number) if random.chance(500) => *number += 1,
                Some(_) | None => shifted(&mut outcome.revision, random),
            },
        },
        End::Rows { revision, rows, .. } => match rows[0].as_mut() {
            Some(row) if random.chance(600) => {
                shifted(&mut row.mod_revision, random);
                row.version += random.below(2);
            }
            Some(_) if random.chance(300) => rows[0] = None,
            Some(_) | None => shifted(revision, random),
        },
        End::Listed { revision, rows, .. } => match rows.pop() {
            Some(_) if random.chance(500) => {}
            Some(row) => {
                rows.push(row);
                shifted(revision, random);
            }
            None => shifted(revision, random),
        },
        End::Counted {
            revision, count, ..
        } => match random.chance(500) {
            true => *count += 1,
            false => shifted(revision, random),
        },
        End::Compacted { .. } | End::Future { .. } | End::Unknown => {}
    }
}

#[test]
fn it_agrees_with_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let mut random = Random::new(seed);
        let unknown_per_mille = random.weighted(&[(1, 0), (1, 300)]);
        let (mut operations, _) = draw_history(&mut random, unknown_per_mille);
        if random.chance(600) {
            spoil(&mut random, &mut operations);
        }
        let found = check(operations.clone());
        if is_linearizable(&operations) {
            good += 1;
            assert_eq!(found, Ok(Verdict::Linearizable), "{seed}: {operations:#?}");
        } else {
            bad += 1;
            assert!(found.is_err(), "{seed}: {operations:#?}");
        }
    }
    assert!(good > HISTORIES / 3 && bad > HISTORIES / 5, "{good} {bad}");
}

#[test]
fn what_was_not_spoilt_is_always_accepted_with_its_log_and_without() {
    for seed in HISTORIES..2 * HISTORIES {
        let (operations, log) = draw_history(&mut Random::new(seed), 250);
        let history = history(operations);
        for log in [None, Some(&log)] {
            let found = history.check(log);
            assert_eq!(found, Ok(Verdict::Linearizable), "{seed}: {history:#?}");
        }
    }
}

/// With the log of what was really done, no history is accepted that trying every order refuses.
#[test]
fn a_log_lets_nothing_pass_that_no_order_explains() {
    let mut refused = 0;
    for seed in 2 * HISTORIES..3 * HISTORIES {
        let mut random = Random::new(seed);
        let (mut operations, log) = draw_history(&mut random, 250);
        spoil(&mut random, &mut operations);
        if !is_linearizable(&operations) {
            refused += 1;
            let found = history(operations.clone()).check(Some(&log));
            assert!(found.is_err(), "{seed}: {operations:#?}");
        }
    }
    assert!(refused > HISTORIES / 5, "{refused}");
}
