//! Histories that must be accepted.

use super::*;

fn assert_good(operations: Vec<Operation>) {
    assert_eq!(check(operations), Ok(Verdict::Linearizable));
}

#[test]
fn nothing_happened() {
    assert_good(Vec::new());
}

#[test]
fn one_after_the_other() {
    assert_good(vec![
        read((1, 2), 0, None),
        changed((3, 4), put("a"), 1),
        read((5, 6), 1, row("a", 1, 1, 1)),
        changed((7, 8), put("b"), 2),
        read((9, 10), 2, row("b", 1, 2, 2)),
        changed((11, 12), delete(), 3),
        absent((13, 14), 3),
        read((15, 16), 3, None),
    ]);
}

#[test]
fn at_the_same_time_any_order_will_do() {
    assert_good(vec![
        changed((1, 20), put("a"), 2),
        changed((2, 19), put("b"), 1),
        read((3, 18), 0, None),
        read((4, 17), 1, row("b", 1, 1, 1)),
        read((5, 16), 2, row("a", 1, 2, 2)),
    ]);
}

#[test]
fn a_change_may_be_seen_before_it_is_answered() {
    assert_good(vec![
        changed((1, 20), put("a"), 1),
        read((2, 3), 1, row("a", 1, 1, 1)),
        read((4, 5), 1, row("a", 1, 1, 1)),
    ]);
}

#[test]
fn revisions_may_skip() {
    assert_good(vec![
        changed((1, 2), put("a"), 5),
        changed((3, 4), put("b"), 900),
        read((5, 6), 1_000, row("b", 5, 900, 2)),
    ]);
}

#[test]
fn an_unknown_change_was_seen_or_not() {
    let lost = unknown(1, put("a"));
    assert_good(vec![lost.clone(), read((2, 3), 1, row("a", 1, 1, 1))]);
    assert_good(vec![lost.clone(), read((2, 3), 0, None)]);
    assert_good(vec![
        lost,
        read((2, 3), 0, None),
        // It may take place long after the client has given up.
        read((1_000, 1_001), 7, row("a", 7, 7, 1)),
    ]);
}

#[test]
fn a_version_tells_of_an_unknown_change_that_nobody_saw() {
    assert_good(vec![
        unknown(1, put("unseen")),
        changed((2, 3), put("a"), 5),
        read((4, 5), 5, row("a", 2, 5, 2)),
    ]);
}

#[test]
fn unknown_additions_are_in_the_sum_or_not() {
    assert_good(vec![
        added((1, 2), 1, 1, 1),
        unknown(3, add(10)),
        unknown(4, add(100)),
        added((5, 6), 1_000, 3, 1_101),
        read((7, 8), 3, count(1_101, 1, 3, 3)),
        added((9, 10), 10_000, 5, 11_111),
    ]);
}

#[test]
fn unknown_appends_stand_where_the_value_says() {
    assert_good(vec![
        changed((1, 2), append("a"), 1),
        unknown(3, append("b")),
        unknown(4, append("c")),
        changed((5, 6), append("d"), 4),
        read((7, 8), 4, row("acbd", 1, 4, 4)),
    ]);
}

#[test]
fn a_condition_found_what_an_unknown_change_left() {
    assert_good(vec![
        unknown(1, put("a")),
        changed((2, 3), if_revision(4, put("b")), 5),
        unknown(6, delete()),
        changed((7, 8), if_absent(put("c")), 9),
        read((9, 10), 9, row("c", 9, 9, 1)),
    ]);
}

#[test]
fn a_conflict_lies_between_two_changes() {
    assert_good(vec![
        changed((1, 2), put("a"), 1),
        conflict((3, 10), if_absent(put("x")), 1),
        changed((4, 5), put("b"), 2),
        conflict((6, 7), if_revision(1, put("y")), 2),
        changed((8, 9), delete(), 3),
        conflict((11, 12), if_revision(2, put("z")), 0),
    ]);
}

#[test]
fn conflicts_at_the_same_time_as_changes_of_other_keys() {
    assert_good(vec![
        changed((1, 2), put("a"), 1),
        changed((3, 4), of_other(put("o")), 2),
        conflict((5, 6), if_absent(put("x")), 1),
        changed((7, 8), of_other(put("p")), 3),
        conflict((9, 10), if_absent(put("y")), 1),
    ]);
}

#[test]
fn several_keys_at_one_revision() {
    assert_good(vec![
        changed((1, 2), put("a"), 1),
        changed((3, 9), of_other(put("o")), 2),
        read_many((4, 5), 1, &[KEY, OTHER], vec![row("a", 1, 1, 1), None]),
        read_many(
            (6, 7),
            2,
            &[KEY, OTHER],
            vec![row("a", 1, 1, 1), row("o", 2, 2, 1)],
        ),
    ]);
}

#[test]
fn a_search_that_grows_too_far_is_said_to_be_undecided() {
    let mut operations: Vec<Operation> = (0..40)
        .map(|number| unknown(1 + number, append(&format!("{number};"))))
        .collect();
    operations.push(read((100, 101), 1_000, row("nobody;", 1, 40, 40)));
    assert_eq!(check(operations), Ok(Verdict::Undecided));
}

#[test]
fn thousands_of_operations_are_checked_in_a_moment() {
    let mut operations = Vec::new();
    for number in 0..5_000_u64 {
        let span = (10 * number + 1, 10 * number + 5);
        operations.push(changed(span, put(&format!("{number}")), number + 1));
        let seen = row(&format!("{number}"), 1, number + 1, number + 1);
        operations.push(read((span.0 + 6, span.1 + 4), number + 1, seen));
    }
    assert_good(operations);
}

#[test]
fn a_maximum_that_changed_nothing_is_not_taken_for_a_lost_change_that_was_seen_before() {
    let maximum = mutation(CommandKind::MaxI64, &1_i64.to_le_bytes());
    let unchanged = OwnedOutcome {
        number: Some(5),
        ..outcome(OutcomeCode::Done, 1)
    };
    let history = vec![
        unknown(1, add(5)),
        read((2, 3), 1, count(5, 1, 1, 1)),
        answered((10, 11), Action::Mutate(maximum), unchanged),
    ];
    assert_good(history);
}
