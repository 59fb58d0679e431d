//! A log proposes where unknown outcomes stand. It is believed only as far as it explains what clients saw.

use super::compounds::*;
use super::*;

use NotLinearizable::{BackInTime, Invented, NotInLog, SameRevision, Unexplained};

fn log(actions: &[Action]) -> ShardLog {
    let encoded = actions.iter().map(|action| match action {
        Action::Mutate(mutation) => mutation.encoded(),
        Action::Compound(compound) => compound.encoded(),
        Action::Read { .. } | Action::Range { .. } | Action::Count(_) => panic!("it is no command"),
    });
    ShardLog(encoded.collect())
}

fn check_along(operations: Vec<Operation>, actions: &[Action]) -> Result<Verdict, NotLinearizable> {
    history(operations).check(Some(&log(actions)))
}

#[test]
fn what_was_never_answered_stands_where_the_log_has_it() {
    let lost: Vec<Action> = (0..60)
        .map(|number| Action::Mutate(append(&format!("{number};"))))
        .collect();
    let mut operations: Vec<Operation> = (1..)
        .zip(&lost)
        .map(|(sent, action)| unknown_action(sent, action.clone()))
        .collect();
    // Only every third of them was done, and not in the order in which they were sent.
    let done: Vec<Action> = lost.into_iter().rev().step_by(3).collect();
    let value: String = (0..60)
        .rev()
        .step_by(3)
        .map(|number| format!("{number};"))
        .collect();
    operations.push(read((100, 101), 20, row(&value, 1, 20, 20)));
    assert_eq!(
        check_along(operations.clone(), &done),
        Ok(Verdict::Linearizable)
    );
    let other_order: Vec<Action> = done.into_iter().rev().collect();
    let refused = check_along(operations, &other_order);
    assert!(matches!(refused, Err(Unexplained { .. })), "{refused:?}");
}

#[test]
fn an_answered_change_is_missing_in_the_log() {
    let operations = vec![changed((1, 2), put("a"), 1), changed((3, 4), put("b"), 2)];
    let refused = check_along(operations.clone(), &[Action::Mutate(put("a"))]);
    assert!(matches!(refused, Err(NotInLog { .. })), "{refused:?}");
    let swapped = [Action::Mutate(put("b")), Action::Mutate(put("a"))];
    let refused = check_along(operations, &swapped);
    assert!(matches!(refused, Err(NotInLog { .. })), "{refused:?}");
}

#[test]
fn two_answers_name_one_revision_of_the_log() {
    let operations = vec![changed((1, 2), put("a"), 1), changed((3, 4), put("b"), 1)];
    let refused = check_along(operations, &[Action::Mutate(put("a"))]);
    assert!(matches!(refused, Err(SameRevision { .. })), "{refused:?}");
}

#[test]
fn the_log_holds_what_nobody_asked_for() {
    let refused = check_along(Vec::new(), &[Action::Mutate(put("a"))]);
    assert!(matches!(refused, Err(Invented { .. })), "{refused:?}");
}

#[test]
fn the_log_holds_something_twice() {
    let twice = [Action::Mutate(put("a")), Action::Mutate(put("a"))];
    for operation in [changed((1, 2), put("a"), 1), unknown(1, put("a"))] {
        let refused = check_along(vec![operation], &twice);
        assert!(matches!(refused, Err(Invented { .. })), "{refused:?}");
    }
}

#[test]
fn the_log_has_something_before_it_was_sent() {
    let operations = vec![changed((1, 2), put("a"), 2), unknown(3, of_other(put("b")))];
    let order = [Action::Mutate(of_other(put("b"))), Action::Mutate(put("a"))];
    let refused = check_along(operations, &order);
    assert!(matches!(refused, Err(BackInTime { .. })), "{refused:?}");
}

#[test]
fn a_lost_transaction_that_the_log_has_is_there_as_a_whole() {
    let lost = compound(both("a", "b"));
    let operations = |other| {
        vec![
            unknown_action(1, lost.clone()),
            read_both((2, 3), 1, row("a", 1, 1, 1), other),
        ]
    };
    let order = [lost.clone()];
    let whole = check_along(operations(row("b", 1, 1, 1)), &order);
    assert_eq!(whole, Ok(Verdict::Linearizable));
    let refused = check_along(operations(None), &order);
    assert!(matches!(refused, Err(Unexplained { .. })), "{refused:?}");
}

#[test]
fn of_equal_commands_the_earliest_was_done() {
    let operations = vec![
        changed((1, 2), put("a"), 1),
        unknown(30, delete()),
        unknown(3, delete()),
        read((4, 5), 2, None),
    ];
    let order = [Action::Mutate(put("a")), Action::Mutate(delete())];
    assert_eq!(check_along(operations, &order), Ok(Verdict::Linearizable));
}
