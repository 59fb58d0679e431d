//! Histories of commands on several keys, ranges and reads in the past that must be refused, each for its reason.

use super::compounds::*;
use super::*;
use crate::operation::{DirectoryRange, RangeOf, Step};
use metastore_net::blocking::{OwnedDetail, OwnedTxnResult};
use metastore_statemachine::{Branch, Direction};

use NotLinearizable::{BackInTime, SameRevision, Unexplained, WithoutPlace};

#[test]
fn a_transaction_is_seen_in_part() {
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 9), "a", "b", 1),
            read_both((2, 3), 1, row("a", 1, 1, 1), None),
        ]
    );
}

#[test]
fn a_transaction_of_unknown_outcome_is_there_in_part() {
    assert_bad!(
        Unexplained { .. },
        vec![
            unknown_action(1, compound(both("a", "b"))),
            read_both((2, 3), 4, row("a", 4, 4, 1), None),
        ]
    );
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), of_other(put("o")), 1),
            unknown_action(3, compound(both("a", "b"))),
            read_both((4, 5), 2, row("a", 2, 2, 1), row("o", 1, 1, 1)),
        ]
    );
}

#[test]
fn a_transaction_of_unknown_outcome_takes_two_revisions() {
    assert_bad!(
        Unexplained { .. },
        vec![
            unknown_action(1, compound(both("a", "b"))),
            read_both((2, 3), 5, row("a", 4, 4, 1), row("b", 5, 5, 1)),
        ]
    );
}

#[test]
fn a_transaction_of_unknown_outcome_is_done_twice() {
    assert_bad!(
        Unexplained { .. },
        vec![
            unknown_action(1, compound(both("a", "b"))),
            changed((2, 3), put("c"), 5),
            read_both((4, 5), 7, row("a", 4, 7, 3), row("b", 4, 7, 2)),
        ]
    );
}

#[test]
fn two_transactions_make_one_revision() {
    assert_bad!(
        SameRevision { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            both_done((3, 4), "c", "d", 1),
        ]
    );
}

#[test]
fn a_later_transaction_takes_an_earlier_revision() {
    assert_bad!(
        BackInTime { .. },
        vec![
            both_done((1, 2), "a", "b", 2),
            both_done((3, 4), "c", "d", 1),
        ]
    );
}

#[test]
fn the_wrong_branch_is_taken() {
    let asked = || {
        txn(
            vec![if_present(KEY)],
            vec![Step::Mutation(of_other(put("then")))],
            vec![Step::Mutation(of_other(put("else")))],
        )
    };
    assert_bad!(
        Unexplained { .. },
        vec![finished(
            (1, 2),
            asked(),
            1,
            results(Branch::Then, vec![done(1)])
        )]
    );
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            finished(
                (3, 4),
                asked(),
                2,
                results(Branch::Otherwise, vec![done(2)])
            ),
        ]
    );
}

#[test]
fn a_compare_over_a_range_holds_although_a_key_of_it_is_newer() {
    let asked = txn(
        vec![if_all_before(2)],
        vec![Step::Mutation(put("c"))],
        Vec::new(),
    );
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), of_other(put("b")), 2),
            finished((5, 6), asked, 3, results(Branch::Then, vec![done(3)])),
        ]
    );
}

#[test]
fn a_step_sees_what_was_there_before_the_step_before_it() {
    let asked = txn(
        Vec::new(),
        vec![Step::Mutation(put("b")), Step::Get(KEY.to_vec())],
        Vec::new(),
    );
    let stale = OwnedTxnResult::Get(Some(owned(KEY, row("a", 1, 1, 1))));
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            finished(
                (3, 4),
                asked,
                2,
                results(Branch::Then, vec![done(2), stale])
            ),
        ]
    );
}

#[test]
fn a_range_within_a_transaction_lacks_a_row() {
    let asked = txn(
        Vec::new(),
        vec![Step::Range {
            range: DirectoryRange::all(DIRECTORY),
            direction: Direction::Forward,
            limit: 0,
        }],
        Vec::new(),
    );
    let found = OwnedTxnResult::Range {
        has_more: false,
        rows: vec![owned(KEY, row("a", 1, 1, 1))],
    };
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            finished((3, 4), asked, 1, results(Branch::Then, vec![found])),
        ]
    );
}

#[test]
fn a_transaction_within_is_left_out() {
    let within = Step::Txn(both("a", "b"));
    let asked = txn(Vec::new(), vec![within], Vec::new());
    let each = results(Branch::Then, vec![done(1), done(1)]);
    let answer = results(Branch::Then, vec![OwnedTxnResult::Txn(each)]);
    assert_bad!(
        Unexplained { .. },
        vec![
            finished((1, 2), asked, 1, answer),
            read_both((3, 4), 1, row("a", 1, 1, 1), None),
        ]
    );
}

#[test]
fn a_transaction_fails_and_leaves_something() {
    let asked = txn(
        Vec::new(),
        vec![
            Step::Mutation(put("a")),
            Step::Mutation(of_other(if_revision(7, put("b")))),
        ],
        Vec::new(),
    );
    let failed = (OutcomeCode::Conflict, 0);
    assert_bad!(
        Unexplained { .. },
        vec![
            refused((1, 2), asked, failed, Some(OwnedDetail::FailedStep(1))),
            read((3, 4), 1, row("a", 1, 1, 1)),
        ]
    );
}

#[test]
fn a_transaction_fails_although_every_step_could_be_done() {
    let failed = (OutcomeCode::Conflict, 0);
    assert_bad!(
        WithoutPlace { .. },
        vec![refused(
            (1, 2),
            both("a", "b"),
            failed,
            Some(OwnedDetail::FailedStep(1))
        )]
    );
}

#[test]
fn a_commit_is_done_although_what_it_read_has_changed() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            finished(
                (5, 6),
                commit(1, of_other(put("c"))),
                3,
                results(Branch::Then, vec![done(3)])
            ),
        ]
    );
}

#[test]
fn two_commits_that_read_what_the_other_wrote_are_both_done() {
    let mut other = commit(1, put("skew"));
    other.read_keys = vec![OTHER.to_vec()];
    let done_at = |revision| results(Branch::Then, vec![done(revision)]);
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            finished((3, 9), commit(1, of_other(put("skew"))), 2, done_at(2)),
            finished((4, 8), other, 3, done_at(3)),
        ]
    );
}

#[test]
fn a_commit_is_done_although_a_key_came_into_a_range_that_it_read() {
    let mut asked = commit(1, put("c"));
    asked.read_keys.clear();
    asked.read_ranges.push(DirectoryRange::all(DIRECTORY));
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), of_other(put("new")), 2),
            finished((5, 6), asked, 3, results(Branch::Then, vec![done(3)])),
        ]
    );
}

#[test]
fn a_commit_runs_into_what_did_not_change() {
    let met = Some(OwnedDetail::ConflictKey(KEY.to_vec()));
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            refused((3, 4), commit(1, put("b")), (OutcomeCode::Conflict, 1), met),
        ]
    );
}

#[test]
fn a_deleted_range_leaves_a_key() {
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            swept((3, 4), 2, 2),
            read_both((5, 6), 2, None, row("b", 1, 1, 1)),
        ]
    );
}

#[test]
fn a_deleted_range_counts_wrongly() {
    assert_bad!(
        Unexplained { .. },
        vec![both_done((1, 2), "a", "b", 1), swept((3, 4), 2, 1)]
    );
}

#[test]
fn a_deleted_range_of_unknown_outcome_is_deleted_in_part() {
    let range = DirectoryRange::all(DIRECTORY);
    let sweep = compound(crate::operation::Compound::DeleteRange(range));
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            unknown_action(3, sweep),
            read_both((4, 5), 2, None, row("b", 1, 1, 1)),
        ]
    );
}

#[test]
fn a_range_sees_two_moments() {
    let torn = vec![
        owned(KEY, row("a", 1, 1, 1)),
        owned(OTHER, row("d", 1, 2, 2)),
    ];
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            both_done((3, 10), "c", "d", 2),
            listed((4, 9), range(), 2, torn.clone()),
        ]
    );
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            both_done((3, 10), "c", "d", 2),
            listed((4, 9), range(), 1, torn),
        ]
    );
}

#[test]
fn a_range_skips_a_row_or_has_one_twice() {
    let (one, other) = (
        owned(KEY, row("a", 1, 1, 1)),
        owned(OTHER, row("b", 1, 1, 1)),
    );
    for rows in [
        vec![one.clone()],
        vec![other.clone()],
        vec![one.clone(), one.clone(), other.clone()],
        vec![other, one],
    ] {
        assert_bad!(
            Unexplained { .. },
            vec![
                both_done((1, 2), "a", "b", 1),
                listed((3, 4), range(), 1, rows)
            ]
        );
    }
}

#[test]
fn a_common_prefix_stands_for_nothing() {
    let rolled_up = RangeOf {
        delimiter: Some(b'-'),
        ..range()
    };
    let prefix = owned(b"/d/k-", row("", 0, 0, 0));
    assert_bad!(
        Unexplained { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            listed((3, 4), rolled_up, 1, vec![prefix]),
        ]
    );
}

#[test]
fn a_count_is_one_too_many() {
    assert_bad!(
        Unexplained { .. },
        vec![both_done((1, 2), "a", "b", 1), counted((3, 4), 1, 3)]
    );
}

#[test]
fn a_count_of_what_was_is_told_after_what_is() {
    assert_bad!(
        BackInTime { .. },
        vec![
            both_done((1, 2), "a", "b", 1),
            swept((3, 4), 2, 2),
            counted((5, 6), 1, 2),
        ]
    );
}

#[test]
fn the_past_has_changed() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            read_past((5, 6), 1, row("b", 1, 2, 2)),
        ]
    );
}

#[test]
fn the_future_is_read() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            read_past((1, 2), 1, row("a", 1, 1, 1)),
            changed((3, 4), put("a"), 1),
        ]
    );
}

#[test]
fn what_is_forgotten_is_read() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            compacted((5, 6), 2, 2),
            changed((7, 8), put("c"), 3),
            read_past((9, 10), 1, row("a", 1, 1, 1)),
        ]
    );
}

#[test]
fn something_is_forgotten_that_nobody_wanted_forgotten() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            forgotten((5, 6), 1, 2),
        ]
    );
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            refused(
                (5, 6),
                commit(1, put("c")),
                (OutcomeCode::Compacted, 2),
                None
            ),
        ]
    );
}

#[test]
fn the_row_before_a_change_is_another_one() {
    let asked = Mutation {
        previous: PreviousRow::Wanted,
        ..put("b")
    };
    let outcome = OwnedOutcome {
        previous: Some(owned(KEY, row("x", 1, 1, 1))),
        ..outcome(OutcomeCode::Done, 2)
    };
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            answered((3, 4), Action::Mutate(asked), outcome),
        ]
    );
}
