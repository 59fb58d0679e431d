//! Histories that must be refused, each for its reason.

use super::*;

use NotLinearizable::{BackInTime, SameRevision, Unexplained, WithoutPlace, ZeroRevision};

#[test]
fn two_changes_make_one_revision() {
    assert_bad!(
        SameRevision { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), of_other(put("b")), 1)
        ]
    );
}

#[test]
fn a_change_makes_no_revision() {
    assert_bad!(ZeroRevision { .. }, vec![changed((1, 2), put("a"), 0)]);
}

#[test]
fn a_read_after_a_write_does_not_see_it() {
    assert_bad!(
        BackInTime { .. },
        vec![changed((1, 2), put("a"), 1), read((3, 4), 0, None)]
    );
}

#[test]
fn a_read_sees_less_than_an_earlier_read() {
    assert_bad!(
        BackInTime { .. },
        vec![
            changed((1, 20), put("a"), 1),
            read((2, 3), 1, row("a", 1, 1, 1)),
            read((4, 5), 0, None),
        ]
    );
}

#[test]
fn a_later_write_takes_an_earlier_place() {
    assert_bad!(
        BackInTime { .. },
        vec![
            changed((1, 2), put("a"), 2),
            changed((3, 4), of_other(put("b")), 1)
        ]
    );
}

#[test]
fn a_read_of_another_key_goes_back_behind_a_write() {
    assert_bad!(
        BackInTime { .. },
        vec![
            changed((1, 2), put("a"), 7),
            read_many((3, 4), 6, &[OTHER], vec![None]),
        ]
    );
}

#[test]
fn something_is_read_before_it_is_written() {
    assert_bad!(
        BackInTime { .. },
        vec![
            read((1, 2), 1, row("a", 1, 1, 1)),
            changed((3, 4), put("a"), 1),
        ]
    );
}

#[test]
fn a_value_comes_from_nowhere() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            read((3, 4), 1, row("b", 1, 1, 1))
        ]
    );
}

#[test]
fn an_acknowledged_write_is_lost() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            read((5, 6), 2, row("a", 1, 1, 1)),
        ]
    );
}

#[test]
fn an_acknowledged_write_is_lost_with_its_revision() {
    // After it another one takes the same place.
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            unknown(3, put("b")),
            read((5, 6), 1, row("b", 1, 1, 1)),
        ]
    );
}

#[test]
fn a_write_takes_place_twice() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), append("a"), 1),
            read((3, 4), 2, row("aa", 1, 2, 2)),
        ]
    );
}

#[test]
fn an_unknown_write_takes_place_twice() {
    assert_bad!(
        Unexplained { .. },
        vec![
            unknown(1, put("a")),
            read((2, 3), 1, row("a", 1, 1, 1)),
            changed((4, 5), put("b"), 2),
            read((6, 7), 3, row("a", 1, 3, 3)),
        ]
    );
}

#[test]
fn a_refused_write_took_place() {
    // What was refused is not in the history.
    assert_bad!(
        Unexplained { .. },
        vec![read((1, 2), 1, row("refused", 1, 1, 1))]
    );
}

#[test]
fn an_unknown_write_is_seen_before_it_is_sent() {
    assert_bad!(
        Unexplained { .. },
        vec![read((1, 2), 1, row("a", 1, 1, 1)), unknown(3, put("a")),]
    );
}

#[test]
fn an_unknown_write_comes_before_what_was_answered_when_it_was_sent() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), of_other(put("o")), 5),
            unknown(3, put("a")),
            read((4, 5), 5, row("a", 4, 4, 1)),
        ]
    );
}

#[test]
fn a_delete_is_undone() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), delete(), 2),
            read((5, 6), 2, row("a", 1, 1, 1)),
        ]
    );
}

#[test]
fn nobody_deleted_what_is_gone() {
    assert_bad!(
        Unexplained { .. },
        vec![changed((1, 2), put("a"), 1), read((3, 4), 1, None)]
    );
}

#[test]
fn a_delete_finds_nothing_where_something_is() {
    assert_bad!(
        Unexplained { .. },
        vec![changed((1, 2), put("a"), 1), absent((3, 4), 1)]
    );
}

#[test]
fn an_addition_is_not_in_the_sum() {
    assert_bad!(
        Unexplained { .. },
        vec![added((1, 2), 1, 1, 1), added((3, 4), 10, 2, 10)]
    );
}

#[test]
fn an_unknown_addition_is_in_the_sum_twice() {
    assert_bad!(
        Unexplained { .. },
        vec![unknown(1, add(1)), added((2, 3), 10, 5, 12)]
    );
}

#[test]
fn both_swaps_of_one_revision_succeed() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 9), if_revision(1, put("b")), 2),
            changed((4, 8), if_revision(1, put("c")), 3),
        ]
    );
}

#[test]
fn two_clients_create_one_key() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 9), if_absent(put("a")), 1),
            changed((2, 8), if_absent(put("b")), 2),
        ]
    );
}

#[test]
fn a_version_counts_a_change_that_nobody_made() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 3),
            read((5, 6), 3, row("b", 1, 3, 3)),
        ]
    );
}

#[test]
fn one_read_sees_two_moments() {
    assert_bad!(
        Unexplained { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), of_other(put("o")), 2),
            changed((5, 6), put("b"), 3),
            read_many(
                (7, 8),
                3,
                &[KEY, OTHER],
                vec![row("a", 1, 1, 1), row("o", 2, 2, 1)]
            ),
        ]
    );
}

#[test]
fn a_condition_that_holds_is_said_not_to() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            conflict((3, 4), if_revision(1, put("b")), 1),
        ]
    );
    assert_bad!(
        WithoutPlace { .. },
        vec![conflict((1, 2), if_absent(put("b")), 0)]
    );
}

#[test]
fn a_conflict_finds_what_was_overwritten_before_it_was_sent() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 4), put("b"), 2),
            conflict((5, 6), if_absent(put("c")), 1),
        ]
    );
}

#[test]
fn a_conflict_finds_what_was_written_after_it_was_answered() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            conflict((1, 2), if_absent(put("c")), 1),
            changed((3, 4), put("a"), 1),
        ]
    );
}

#[test]
fn a_conflict_finds_nothing_where_something_always_was() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            conflict((3, 4), if_revision(7, put("b")), 0),
        ]
    );
}

#[test]
fn a_conflict_finds_a_revision_that_another_key_made() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), of_other(put("o")), 1),
            conflict((3, 4), if_absent(put("a")), 1),
        ]
    );
}

#[test]
fn two_conflicts_go_back_in_time() {
    assert_bad!(
        WithoutPlace { .. },
        vec![
            changed((1, 2), put("a"), 1),
            changed((3, 20), put("b"), 2),
            conflict((4, 5), if_absent(put("x")), 2),
            conflict((6, 7), if_absent(put("y")), 1),
        ]
    );
}
