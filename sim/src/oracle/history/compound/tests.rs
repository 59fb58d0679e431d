use metastore_statemachine::{Branch, ShardRevision};

use super::*;

const A: &[u8] = b"/d1/plain-0";
const B: &[u8] = b"/d1/plain-1";

fn put(key: &[u8], value: &[u8]) -> Mutation {
    Mutation {
        value: value.to_vec(),
        ..deletion(CommandKind::Put, key.to_vec())
    }
}

fn commit(read_keys: &[&[u8]]) -> Compound {
    Compound::Commit(Commit {
        read_revision: Revision(4),
        read_keys: read_keys.iter().map(|key| key.to_vec()).collect(),
        read_ranges: Vec::new(),
        mutations: vec![put(A, b"new a"), put(B, b"new b")],
    })
}

fn outcome(revision: u64, detail: OwnedDetail) -> OwnedOutcome {
    OwnedOutcome {
        code: OutcomeCode::Done,
        revision: Revision(revision),
        number: None,
        previous: None,
        detail: Some(detail),
    }
}

/// The answer to a commit that was done at a revision.
fn committed(revision: u64) -> OwnedOutcome {
    let put = OwnedTxnResult::Mutation(OwnedOutcome {
        detail: None,
        ..outcome(revision, OwnedDetail::FailedStep(0))
    });
    let results = OwnedTxn {
        branch: Branch::Then,
        results: vec![put.clone(), put],
    };
    outcome(revision, OwnedDetail::Txn(results))
}

fn swept(revision: u64) -> OwnedOutcome {
    let shard = ShardRevision {
        shard: 0,
        revision: Revision(revision),
    };
    outcome(revision, OwnedDetail::ShardRevisions(vec![shard]))
}

fn attempt(mutation: Mutation, revision: u64) -> Attempt {
    Attempt {
        mutation,
        sent: Moment(revision * 10),
        end: AttemptEnd::Answered {
            code: OutcomeCode::Done,
            revision: Revision(revision),
            number: None,
            at: Moment(revision * 10 + 5),
        },
    }
}

fn at(revision: u64) -> (Moment, Moment) {
    (Moment(revision * 10), Moment(revision * 10 + 5))
}

/// What is there in the end, each row with its value and revision.
fn rows(found: &[(&[u8], &[u8], u64)]) -> BTreeMap<Vec<u8>, FoundRow> {
    let found = found.iter().map(|&(key, value, revision)| {
        let row = FoundRow {
            value: value.to_vec(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: 1,
        };
        (key.to_vec(), row)
    });
    found.collect()
}

/// Both keys were put before, and the end of a commit is unknown.
fn unknown_commit() -> History {
    let mut history = History::default();
    history.add_attempt(attempt(put(A, b"old a"), 1));
    history.add_attempt(attempt(put(B, b"old b"), 2));
    history.add_unknown_compound(&commit(&[]), Moment(30));
    history
}

#[test]
fn what_nobody_knows_of_may_be_done_or_not_but_not_in_part() {
    let old = rows(&[(A, b"old a", 1), (B, b"old b", 2)]);
    assert_eq!(unknown_commit().check(old), Ok(()));
    let new = rows(&[(A, b"new a", 3), (B, b"new b", 3)]);
    assert_eq!(unknown_commit().check(new), Ok(()));
    for torn in [
        rows(&[(A, b"new a", 3), (B, b"old b", 2)]),
        rows(&[(A, b"old a", 1), (B, b"new b", 3)]),
    ] {
        assert!(unknown_commit().check(torn).is_err());
    }
}

#[test]
fn what_was_answered_is_there_on_every_key() {
    let done = || {
        let mut history = History::default();
        history.add_compound(&commit(&[]), &committed(5), at(5));
        history
    };
    let whole = rows(&[(A, b"new a", 5), (B, b"new b", 5)]);
    assert_eq!(done().check(whole), Ok(()));
    assert!(done().check(rows(&[(A, b"new a", 5)])).is_err());
    let other = rows(&[(A, b"new a", 5), (B, b"new b", 6)]);
    assert!(done().check(other).is_err());
}

#[test]
fn a_commit_is_not_done_over_a_change_of_what_it_had_read() {
    let key = b"/d1/plain-2";
    let with_change_at = |revision| {
        let mut history = History::default();
        history.add_attempt(attempt(put(key, b"read"), revision));
        history.add_compound(&commit(&[key]), &committed(7), at(7));
        history.check(rows(&[
            (A, b"new a", 7),
            (B, b"new b", 7),
            (key, b"read", revision),
        ]))
    };
    assert_eq!(with_change_at(4), Ok(()));
    assert!(with_change_at(5).is_err());
    assert_eq!(with_change_at(8), Ok(()));
}

#[test]
fn a_deleted_range_leaves_nothing_that_was_there_before() {
    let range = DirectoryRange {
        start: A.to_vec(),
        end: B.to_vec(),
        ..DirectoryRange::all(b"/d1/")
    };
    let swept_at = |revision| {
        let mut history = History::default();
        history.add_attempt(attempt(put(A, b"a"), 3));
        history.add_attempt(attempt(put(B, b"b"), 4));
        let sweep = Compound::DeleteRange(range.clone());
        history.add_compound(&sweep, &swept(revision), at(revision));
        history
    };
    assert_eq!(swept_at(5).check(rows(&[(B, b"b", 4)])), Ok(()));
    // The second key is not in the range, and the first one is gone.
    assert!(swept_at(5).check(rows(&[])).is_err());
    let both = rows(&[(A, b"a", 3), (B, b"b", 4)]);
    assert!(swept_at(5).check(both).is_err());
}
