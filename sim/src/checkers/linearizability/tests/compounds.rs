//! Transactions, commits, deleted ranges, ranges and reads in the past: how they are written here, and histories of them
//! that must be accepted.

use super::*;
use crate::operation::{
    Commit, Compare, Compound, DirectoryRange, RangeOf, Step, Subject, Target, Txn,
};
use metastore_net::blocking::{OwnedDetail, OwnedRow, OwnedTxn, OwnedTxnResult};
use metastore_statemachine::{Branch, Direction, Existence, Relation, Scope};

pub(super) const DIRECTORY: &[u8] = b"/d/";

pub(super) fn txn(compares: Vec<Compare>, then: Vec<Step>, otherwise: Vec<Step>) -> Txn {
    Txn {
        compares,
        then,
        otherwise,
    }
}

/// Puts to both keys, or nothing.
pub(super) fn both(one: &str, other: &str) -> Txn {
    let steps = vec![
        Step::Mutation(put(one)),
        Step::Mutation(of_other(put(other))),
    ];
    txn(Vec::new(), steps, Vec::new())
}

pub(super) fn if_present(key: &[u8]) -> Compare {
    Compare {
        subject: Subject::Key(key.to_vec()),
        target: Target::Existence(Existence::Present),
        relation: Relation::Equal,
    }
}

/// Everything in the directory was last changed before this revision.
pub(super) fn if_all_before(revision: u64) -> Compare {
    Compare {
        subject: Subject::Range(DirectoryRange::all(DIRECTORY)),
        target: Target::ModRevision(Revision(revision)),
        relation: Relation::Less,
    }
}

pub(super) fn compound(compound: impl Into<Compound>) -> Action {
    Action::Compound(compound.into())
}

impl From<Txn> for Compound {
    fn from(txn: Txn) -> Compound {
        Compound::Txn(txn)
    }
}

impl From<Commit> for Compound {
    fn from(commit: Commit) -> Compound {
        Compound::Commit(commit)
    }
}

/// The result of a step that was done.
pub(super) fn done(revision: u64) -> OwnedTxnResult {
    OwnedTxnResult::Mutation(outcome(OutcomeCode::Done, revision))
}

pub(super) fn results(branch: Branch, results: Vec<OwnedTxnResult>) -> OwnedTxn {
    OwnedTxn { branch, results }
}

pub(super) fn finished(
    span: Span,
    asked: impl Into<Compound>,
    revision: u64,
    results: OwnedTxn,
) -> Operation {
    let outcome = OwnedOutcome {
        detail: Some(OwnedDetail::Txn(results)),
        ..outcome(OutcomeCode::Done, revision)
    };
    answered(span, compound(asked), outcome)
}

/// Both puts were done.
pub(super) fn both_done(span: Span, one: &str, other: &str, revision: u64) -> Operation {
    let each = vec![done(revision), done(revision)];
    finished(
        span,
        both(one, other),
        revision,
        results(Branch::Then, each),
    )
}

pub(super) fn swept(span: Span, revision: u64, count: i64) -> Operation {
    let range = DirectoryRange::all(DIRECTORY);
    let outcome = OwnedOutcome {
        number: Some(count),
        ..outcome(OutcomeCode::Done, revision)
    };
    answered(
        span,
        Action::Compound(Compound::DeleteRange(range)),
        outcome,
    )
}

pub(super) fn compacted(span: Span, to: u64, revision: u64) -> Operation {
    let compaction = Compound::Compact {
        key: KEY.to_vec(),
        revision: Revision(to),
    };
    let outcome = outcome(OutcomeCode::Done, revision);
    answered(span, Action::Compound(compaction), outcome)
}

pub(super) fn commit(read_revision: u64, mutation: Mutation) -> Commit {
    Commit {
        read_revision: Revision(read_revision),
        read_keys: vec![KEY.to_vec()],
        read_ranges: Vec::new(),
        mutations: vec![mutation],
    }
}

pub(super) fn refused(
    span: Span,
    asked: impl Into<Compound>,
    (code, revision): (OutcomeCode, u64),
    detail: Option<OwnedDetail>,
) -> Operation {
    let outcome = OwnedOutcome {
        detail,
        ..outcome(code, revision)
    };
    answered(span, compound(asked), outcome)
}

pub(super) fn range() -> RangeOf {
    RangeOf {
        prefix: DIRECTORY.to_vec(),
        scope: Scope::Children { separator: b'/' },
        ..RangeOf::everything()
    }
}

pub(super) fn owned(key: &[u8], found: Option<FoundRow>) -> OwnedRow {
    let found = found.expect("it is a row");
    OwnedRow {
        key: key.to_vec(),
        value: found.value,
        create_revision: found.create_revision,
        mod_revision: found.mod_revision,
        version: found.version,
        lease: 0,
    }
}

pub(super) fn listed(
    (sent, at): Span,
    range: RangeOf,
    revision: u64,
    rows: Vec<OwnedRow>,
) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Range { range, until: None },
        end: End::Listed {
            at: Moment(at),
            revision: Revision(revision),
            rows,
        },
    }
}

pub(super) fn counted((sent, at): Span, revision: u64, count: u64) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Count(range()),
        end: End::Counted {
            at: Moment(at),
            revision: Revision(revision),
            count,
        },
    }
}

/// A read of the key as it was at a revision.
pub(super) fn read_past((sent, at): Span, past: u64, found: Option<FoundRow>) -> Operation {
    Operation {
        sent: Moment(sent),
        action: Action::Read {
            keys: vec![KEY.to_vec()],
            at: Some(Revision(past)),
        },
        end: End::Rows {
            at: Moment(at),
            revision: Revision(past),
            rows: vec![found],
        },
    }
}

/// A read in the past that was refused.
pub(super) fn forgotten((sent, at): Span, past: u64, oldest: u64) -> Operation {
    let at = Moment(at);
    let oldest = Revision(oldest);
    Operation {
        end: End::Compacted { at, oldest },
        ..read_past((sent, at.0), past, None)
    }
}

pub(super) fn read_both(
    span: Span,
    revision: u64,
    one: Option<FoundRow>,
    other: Option<FoundRow>,
) -> Operation {
    read_many(span, revision, &[KEY, OTHER], vec![one, other])
}

fn assert_good(operations: Vec<Operation>) {
    assert_eq!(check(operations), Ok(Verdict::Linearizable));
}

#[test]
fn a_transaction_is_one_change_of_all_its_keys() {
    assert_good(vec![
        both_done((1, 9), "a", "b", 1),
        read_both((2, 3), 0, None, None),
        read_both((4, 5), 1, row("a", 1, 1, 1), row("b", 1, 1, 1)),
    ]);
}

#[test]
fn a_transaction_of_unknown_outcome_is_whole_or_not_at_all() {
    let lost = unknown_action(1, compound(both("a", "b")));
    assert_good(vec![lost.clone(), read_both((2, 3), 0, None, None)]);
    assert_good(vec![
        lost.clone(),
        read_both((2, 3), 4, row("a", 4, 4, 1), row("b", 4, 4, 1)),
    ]);
    assert_good(vec![
        lost,
        changed((2, 3), of_other(put("c")), 5),
        read_both((4, 5), 5, row("a", 4, 4, 1), row("c", 4, 5, 2)),
    ]);
}

#[test]
fn a_branch_is_taken_for_what_was_there() {
    let or = |key: &[u8]| {
        let compares = vec![if_present(key), if_all_before(9)];
        let then = vec![Step::Mutation(put("then"))];
        let otherwise = vec![
            Step::Get(KEY.to_vec()),
            Step::Mutation(of_other(put("else"))),
        ];
        txn(compares, then, otherwise)
    };
    let read = |found: Option<OwnedRow>| vec![OwnedTxnResult::Get(found), done(1)];
    assert_good(vec![
        finished((1, 2), or(KEY), 1, results(Branch::Otherwise, read(None))),
        finished((3, 4), or(OTHER), 2, results(Branch::Then, vec![done(2)])),
    ]);
}

#[test]
fn a_transaction_that_only_looked_has_the_revision_of_the_shard() {
    let looks = txn(Vec::new(), vec![Step::Get(KEY.to_vec())], Vec::new());
    let found = OwnedTxnResult::Get(Some(owned(KEY, row("a", 1, 1, 1))));
    assert_good(vec![
        changed((1, 2), put("a"), 1),
        finished((3, 9), looks, 1, results(Branch::Then, vec![found])),
        changed((4, 5), put("b"), 2),
    ]);
}

#[test]
fn a_commit_is_done_if_what_it_read_is_as_it_was() {
    let written = || results(Branch::Then, vec![done(3)]);
    let met = Some(OwnedDetail::ConflictKey(KEY.to_vec()));
    assert_good(vec![
        changed((1, 2), put("a"), 1),
        changed((3, 4), of_other(put("o")), 2),
        finished((5, 6), commit(1, of_other(put("p"))), 3, written()),
        changed((7, 8), put("b"), 4),
        refused(
            (9, 10),
            commit(1, of_other(put("q"))),
            (OutcomeCode::Conflict, 4),
            met,
        ),
    ]);
}

#[test]
fn a_range_is_deleted_at_one_revision_and_read_at_one() {
    let rows = vec![
        owned(KEY, row("a", 1, 1, 1)),
        owned(OTHER, row("b", 1, 1, 1)),
    ];
    assert_good(vec![
        both_done((1, 2), "a", "b", 1),
        listed((3, 8), range(), 1, rows),
        counted((3, 4), 1, 2),
        swept((5, 6), 2, 2),
        counted((7, 9), 2, 0),
        swept((10, 11), 2, 0),
    ]);
}

#[test]
fn a_range_is_read_backwards_up_to_its_limit_and_rolled_up() {
    let backwards = RangeOf {
        direction: Direction::Reverse,
        limit: 1,
        ..range()
    };
    let rolled_up = RangeOf {
        prefix: b"/".to_vec(),
        scope: Scope::Subtree,
        delimiter: Some(b'/'),
        ..RangeOf::everything()
    };
    let last = listed((3, 4), backwards, 1, vec![owned(OTHER, row("b", 1, 1, 1))]);
    let Action::Range { range, .. } = last.action else {
        panic!("it is a range");
    };
    assert_good(vec![
        both_done((1, 2), "a", "b", 1),
        Operation {
            action: Action::Range {
                range,
                until: Some(OTHER.to_vec()),
            },
            ..last
        },
        listed(
            (3, 4),
            rolled_up,
            1,
            vec![owned(DIRECTORY, row("", 0, 0, 0))],
        ),
    ]);
}

#[test]
fn the_past_stays_as_it_was_until_it_is_forgotten() {
    assert_good(vec![
        changed((1, 2), put("a"), 1),
        changed((3, 4), put("b"), 2),
        read_past((5, 6), 1, row("a", 1, 1, 1)),
        compacted((7, 20), 2, 2),
        read_past((8, 9), 1, row("a", 1, 1, 1)),
        forgotten((10, 11), 1, 2),
        read_past((21, 22), 2, row("b", 1, 2, 2)),
        refused(
            (23, 24),
            commit(1, put("c")),
            (OutcomeCode::Compacted, 2),
            None,
        ),
    ]);
}
