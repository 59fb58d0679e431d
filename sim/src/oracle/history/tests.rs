use super::*;
use crate::operation::{Condition, PreviousRow};
use metastore_statemachine::CommandKind;

const KEY: &[u8] = b"/d/k";

fn mutation(kind: CommandKind, value: &[u8]) -> Mutation {
    Mutation {
        kind,
        key: KEY.to_vec(),
        value: value.to_vec(),
        condition: Condition::Always,
        previous: PreviousRow::NotWanted,
    }
}

fn put(value: &[u8]) -> Mutation {
    mutation(CommandKind::Put, value)
}

fn if_absent(mutation: Mutation) -> Mutation {
    Mutation {
        condition: Condition::IfAbsent,
        ..mutation
    }
}

fn delete() -> Mutation {
    mutation(CommandKind::Delete, b"")
}

fn add(operand: i64) -> Mutation {
    mutation(CommandKind::AddI64, &operand.to_le_bytes())
}

/// A mutation that was done, sent and answered at these moments.
fn done(mutation: Mutation, revision: u64, sent: u64, answered: u64) -> Attempt {
    let end = AttemptEnd::Answered {
        code: OutcomeCode::Done,
        revision: Revision(revision),
        number: None,
        at: Moment(answered),
    };
    let sent = Moment(sent);
    Attempt {
        mutation,
        sent,
        end,
    }
}

fn added(operand: i64, revision: u64, sum: i64) -> Attempt {
    let end = AttemptEnd::Answered {
        code: OutcomeCode::Done,
        revision: Revision(revision),
        number: Some(sum),
        at: Moment(revision * 10 + 5),
    };
    Attempt {
        mutation: add(operand),
        sent: Moment(revision * 10),
        end,
    }
}

fn unknown(mutation: Mutation) -> Attempt {
    Attempt {
        mutation,
        sent: Moment(1),
        end: AttemptEnd::Unknown,
    }
}

fn row(value: &[u8], revision: u64, version: u64) -> Option<FoundRow> {
    Some(FoundRow {
        value: value.to_vec(),
        create_revision: Revision(1),
        mod_revision: Revision(revision),
        version,
    })
}

fn check(attempts: Vec<Attempt>, found: Option<FoundRow>) -> Result<(), Violation> {
    let mut history = History::default();
    attempts
        .into_iter()
        .for_each(|attempt| history.add_attempt(attempt));
    history.check(found.map(|row| (KEY.to_vec(), row)).into_iter().collect())
}

#[track_caller]
fn assert_fine(attempts: Vec<Attempt>, found: Option<FoundRow>) {
    assert_eq!(check(attempts, found), Ok(()));
}

#[track_caller]
fn assert_broken(attempts: Vec<Attempt>, found: Option<FoundRow>) {
    let checked = check(attempts, found);
    assert!(
        matches!(checked, Err(Violation::History { .. })),
        "{checked:?}"
    );
}

#[test]
fn an_acknowledged_write_is_there_unless_something_newer_is() {
    let first = || done(put(b"a"), 1, 1, 2);
    assert_fine(vec![first()], row(b"a", 1, 1));
    assert_broken(vec![first()], None);
    assert_broken(vec![first()], row(b"b", 1, 1));
    assert_fine(vec![first(), unknown(put(b"b"))], row(b"b", 2, 2));
    assert_fine(vec![first(), unknown(put(b"b"))], row(b"a", 1, 1));
    assert_fine(vec![first(), unknown(delete())], None);
    let second = || done(put(b"b"), 2, 3, 4);
    assert_broken(vec![first(), second()], row(b"a", 1, 1));
    assert_fine(vec![first(), second()], row(b"b", 2, 2));
    assert_fine(vec![first(), done(delete(), 2, 3, 4)], None);
    assert_broken(vec![first(), done(delete(), 2, 3, 4)], row(b"a", 1, 1));
}

#[test]
fn nothing_is_invented() {
    assert_broken(vec![], row(b"a", 1, 1));
    assert_broken(vec![unknown(put(b"a"))], row(b"b", 1, 1));
    assert_fine(vec![unknown(put(b"a"))], row(b"a", 1, 1));
    assert_fine(vec![unknown(put(b"a"))], None);
}

#[test]
fn revisions_agree_with_time() {
    let early = done(put(b"a"), 2, 1, 2);
    assert_broken(
        vec![early.clone(), done(put(b"b"), 1, 3, 4)],
        row(b"a", 2, 2),
    );
    assert_fine(vec![early, done(put(b"b"), 1, 1, 4)], row(b"a", 2, 2));
    let twice = vec![done(put(b"a"), 1, 1, 4), done(put(b"b"), 1, 1, 4)];
    assert_broken(twice, row(b"a", 1, 1));
}

#[test]
fn conditions_were_true_when_they_were_tried() {
    let first = || done(put(b"a"), 1, 1, 2);
    let second = || done(if_absent(put(b"b")), 2, 1, 4);
    assert_broken(vec![first(), second()], row(b"b", 2, 2));
    assert_fine(vec![first(), second(), unknown(delete())], row(b"b", 2, 1));
    let expects = |revision| {
        let mutation = Mutation {
            condition: Condition::IfRevision(Revision(revision)),
            ..put(b"c")
        };
        done(mutation, 3, 1, 9)
    };
    let between = || done(put(b"b"), 2, 1, 9);
    assert_broken(vec![first(), between(), expects(1)], row(b"c", 3, 3));
    assert_fine(vec![first(), between(), expects(2)], row(b"c", 3, 3));
}

#[test]
fn a_sum_has_what_was_acknowledged_and_at_most_what_was_tried() {
    let number = |sum: i64| sum.to_le_bytes();
    let known = || vec![added(2, 1, 2), added(5, 2, 7)];
    assert_fine(known(), row(&number(7), 2, 2));
    assert_broken(known(), row(&number(8), 2, 2));
    assert_broken(known(), row(&number(5), 2, 1));
    let with_open = || [known(), vec![unknown(add(9))]].concat();
    assert_fine(with_open(), row(&number(16), 3, 3));
    assert_broken(with_open(), row(&number(25), 4, 4));
    // An answer that forgot an earlier addition.
    assert_broken(vec![added(2, 1, 2), added(5, 2, 5)], row(&number(5), 2, 2));
}

#[test]
fn a_maximum_that_changes_nothing_has_the_revision_of_what_it_saw() {
    let number = |sum: i64| sum.to_le_bytes();
    let maximum = |revision, sent| {
        let mutation = mutation(CommandKind::MaxI64, &number(7));
        let end = AttemptEnd::Answered {
            code: OutcomeCode::Done,
            revision: Revision(revision),
            number: Some(7),
            at: Moment(sent + 5),
        };
        let sent = Moment(sent);
        Attempt {
            mutation,
            sent,
            end,
        }
    };
    let seven = || row(&number(7), 2, 2);
    let counted = || vec![added(2, 1, 2), added(5, 2, 7)];
    assert_fine([counted(), vec![maximum(2, 30)]].concat(), seven());
    assert_fine(
        [counted(), vec![maximum(3, 30)]].concat(),
        row(&number(7), 3, 3),
    );
    // What it saw, or made, is lost.
    assert_broken([counted(), vec![maximum(3, 30)]].concat(), seven());
    // It saw what was there before the last addition was answered.
    assert_broken([counted(), vec![maximum(1, 30)]].concat(), seven());
}

#[test]
fn what_a_read_saw_stays_and_reads_do_not_go_back() {
    let sighting = |sent, answered, row| Sighting {
        sent: Moment(sent),
        answered: Moment(answered),
        row,
    };
    let with_sightings = |sightings: Vec<Sighting>, found: Option<FoundRow>| {
        let mut history = History::default();
        history.add_attempt(unknown(put(b"a")));
        history.add_attempt(unknown(put(b"b")));
        for sighting in sightings {
            history.add_sighting(KEY, sighting);
        }
        history.check(found.map(|row| (KEY.to_vec(), row)).into_iter().collect())
    };
    let (a, b) = (|| row(b"a", 1, 1), || row(b"b", 2, 2));
    assert_eq!(
        with_sightings(vec![sighting(2, 3, a()), sighting(4, 5, b())], b()),
        Ok(())
    );
    let lost = with_sightings(vec![sighting(2, 3, b())], a());
    assert!(lost.is_err());
    let back = with_sightings(vec![sighting(2, 3, b()), sighting(4, 5, a())], b());
    assert!(back.is_err());
    let gone = with_sightings(vec![sighting(2, 3, b())], None);
    assert!(gone.is_err());
}

#[test]
fn the_next_part_begins_where_the_last_one_ended() {
    let mut history = History::default();
    let rows = |row: Option<FoundRow>| row.map(|row| (KEY.to_vec(), row)).into_iter().collect();
    history.add_attempt(done(put(b"a"), 5, 1, 2));
    assert_eq!(history.check(rows(row(b"a", 5, 1))), Ok(()));
    assert_eq!(history.check(rows(row(b"a", 5, 1))), Ok(()));
    assert!(history.check(rows(None)).is_err());
    // A revision that the key had before is not given again.
    history.add_attempt(done(put(b"b"), 5, 3, 4));
    assert!(history.check(rows(row(b"b", 5, 2))).is_err());
}
