//! Transactions, commits, range deletes and compaction.

use super::*;
use crate::detail::{Branch, Detail, TxnResult};
use crate::structured::{
    Commit, Compare, Existence, KeyRange, Operation, RangeOperation, Structured, Subject, Txn,
};

/// What an outcome says, with its detail in words.
type Told = (OutcomeCode, u64, Option<i64>, String);

fn command_of(structured: &Structured<'_>, value: &mut Vec<u8>) -> Vec<u8> {
    *value = structured.encode();
    structured.first_named().unwrap_or(b"k").to_vec()
}

fn apply_in(
    machine: &mut StateMachine,
    namespace: NamespaceId,
    time: ShardTime,
    structured: &Structured<'_>,
) -> Told {
    let mut value = Vec::new();
    let key = command_of(structured, &mut value);
    let command = Command::structured(structured.kind(), namespace, &key, &value);
    let sealed = sealed(&[command], time);
    let mut told = None;
    machine
        .apply(&Batch::decode(&sealed).unwrap(), &mut |outcome| {
            let detail = match outcome.detail {
                None => String::new(),
                Some(Detail::Txn(results)) => told_results(&results),
                Some(Detail::ResumeAfter(key)) => format!("after {}", key.escape_ascii()),
                Some(Detail::ConflictKey(key)) => format!("key {}", key.escape_ascii()),
                Some(Detail::ConflictPrefix(key)) => format!("range {}", key.escape_ascii()),
                Some(Detail::FailedStep(step)) => format!("step {step}"),
                Some(Detail::ShardRevisions(_)) => unreachable!("a shard knows only itself"),
            };
            told = Some((outcome.code, outcome.revision.0, outcome.number, detail));
        })
        .unwrap();
    told.unwrap()
}

fn told_results(results: &crate::detail::TxnResults<'_>) -> String {
    let words: Vec<String> = results
        .iter()
        .map(|result| match result {
            TxnResult::Mutation { code, .. } => format!("{code:?}"),
            TxnResult::Get(None) => "none".to_owned(),
            TxnResult::Get(Some(row)) => format!("={}", row.value.escape_ascii()),
            TxnResult::Range { has_more, rows } => {
                let rows: Vec<_> = rows.map(|row| row.key.escape_ascii().to_string()).collect();
                format!("[{}]{}", rows.join(" "), if has_more { "+" } else { "" })
            }
            TxnResult::DeleteRange(count) => format!("-{count}"),
            TxnResult::Txn(results) => format!("({})", told_results(&results)),
        })
        .collect();
    let branch = match results.branch {
        Branch::Then => "then",
        Branch::Otherwise => "otherwise",
    };
    format!("{branch} {}", words.join(" "))
        .trim_end()
        .to_owned()
}

impl Shard {
    fn tell(&mut self, structured: &Structured<'_>) -> Told {
        apply_in(&mut self.machine, NAMESPACE, self.time, structured)
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Operation<'a> {
    Operation::Mutation(Command::put(NAMESPACE, key, value))
}

fn then(operations: Vec<Operation<'_>>) -> Structured<'_> {
    Structured::Txn(Txn {
        then: operations,
        ..Txn::default()
    })
}

fn read(range: KeyRange<'_>) -> Operation<'_> {
    Operation::Range(RangeOperation {
        range,
        direction: Direction::Forward,
        projection: Projection::KeysAndValues,
        limit: 0,
    })
}

fn told(code: OutcomeCode, revision: u64, detail: &str) -> Told {
    (code, revision, None, detail.to_owned())
}

#[test]
fn a_transaction_takes_one_revision_and_its_reads_see_its_writes() {
    let mut shard = Shard::new();
    shard.put(b"d/a", b"1");
    shard.put(b"d/b", b"2");
    let directory = KeyRange::children(b"d/", b'/');
    let told_of = shard.tell(&Structured::Txn(Txn {
        compares: vec![
            Compare::value(b"d/a", b"1"),
            Compare::existence(b"d/c", Existence::Absent),
        ],
        then: vec![
            put(b"d/c", b"3"),
            Operation::Get(b"d/c"),
            Operation::Mutation(Command::delete(NAMESPACE, b"d/a")),
            Operation::Get(b"d/a"),
            read(directory),
            put(b"d/e/f", b"4"),
            Operation::DeleteRange(directory),
            read(KeyRange::subtree(b"d/")),
        ],
        otherwise: vec![Operation::Get(b"d/a")],
    }));
    let results = "then Done =3 Done none [d/b d/c] Done -2 [d/e/f]";
    assert_eq!(told_of, told(OutcomeCode::Done, 3, results));
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(3));
    let positions: Vec<_> = (3..8)
        .map(|position| {
            let change = shard.machine.change(ChangePosition(position)).unwrap();
            (
                change.revision.0,
                change.key.to_vec(),
                change.after.is_some(),
            )
        })
        .collect();
    let change = |key: &[u8], is_there| (3, key.to_vec(), is_there);
    assert_eq!(
        positions,
        [
            change(b"d/c", true),
            change(b"d/a", false),
            change(b"d/e/f", true),
            change(b"d/b", false),
            change(b"d/c", false),
        ]
    );
    assert_eq!(shard.value_at(b"d/a", 2), Ok(Some(b"1".to_vec())));
    assert_eq!(shard.value_at(b"d/c", 3), Ok(None));
}

#[test]
fn a_key_that_a_transaction_changes_twice_is_at_its_revision_what_the_last_made_of_it() {
    let mut shard = Shard::new();
    shard.put(b"k", b"1");
    let told_of = shard.tell(&then(vec![put(b"k", b"2"), put(b"k", b"3")]));
    assert_eq!(told_of, told(OutcomeCode::Done, 2, "then Done Done"));
    shard.put(b"k", b"4");
    assert_eq!(shard.value_at(b"k", 1), Ok(Some(b"1".to_vec())));
    assert_eq!(shard.value_at(b"k", 2), Ok(Some(b"3".to_vec())));
    let row = shard.get(b"k").unwrap();
    assert_eq!((row.version, row.mod_revision), (4, Revision(3)));
}

#[test]
fn a_step_that_cannot_be_done_leaves_everything_as_it_was() {
    let mut shard = Shard::new();
    shard.put(b"a", b"1");
    let before = shard.machine.next_change();
    let refused = shard.tell(&then(vec![
        put(b"a", b"2"),
        Operation::Txn(Txn {
            then: vec![
                put(b"b", b"1"),
                Operation::Mutation(Command::put(NAMESPACE, b"a", b"3").with_if_absent()),
            ],
            ..Txn::default()
        }),
    ]));
    // The conflict names what the step found: the version that the transaction had made.
    assert_eq!(refused, told(OutcomeCode::Conflict, 2, "step 3"));
    let operand = 1_i64.to_le_bytes();
    let add = Operation::Mutation(Command::add_i64(NAMESPACE, b"a", &operand));
    let refused = shard.tell(&then(vec![put(b"b", b"1"), add]));
    assert_eq!(refused, told(OutcomeCode::NotANumber, 1, "step 1"));
    assert_eq!(shard.get(b"a").unwrap().value, b"1");
    assert_eq!(shard.get(b"b"), None);
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(1));
    assert_eq!(shard.machine.next_change(), before);
}

#[test]
fn a_transaction_that_changes_nothing_takes_no_revision() {
    let mut shard = Shard::new();
    shard.put(b"a", b"1");
    let nothing = Operation::Mutation(Command::delete(NAMESPACE, b"absent"));
    let told_of = shard.tell(&then(vec![nothing, Operation::Get(b"a")]));
    assert_eq!(told_of, told(OutcomeCode::Done, 1, "then Absent =1"));
    assert_eq!(shard.machine.revision(NAMESPACE), Revision(1));
}

#[test]
fn a_condition_over_a_range_holds_if_it_holds_for_every_key_and_so_for_none() {
    let mut shard = Shard::new();
    let is_empty = |prefix| {
        Structured::Txn(Txn {
            compares: vec![Compare {
                subject: Subject::Range(KeyRange::subtree(prefix)),
                ..Compare::existence(b"", Existence::Absent)
            }],
            ..Txn::default()
        })
    };
    let all_one = |prefix| {
        Structured::Txn(Txn {
            compares: vec![Compare {
                subject: Subject::Range(KeyRange::subtree(prefix)),
                ..Compare::value(b"", b"1")
            }],
            ..Txn::default()
        })
    };
    shard.put(b"a/1", b"1");
    shard.put(b"a/2", b"1");
    let mut branch = |structured: &Structured<'_>| shard.tell(structured).3;
    assert_eq!(branch(&is_empty(b"a/")), "otherwise");
    assert_eq!(branch(&is_empty(b"b/")), "then");
    assert_eq!(branch(&all_one(b"a/")), "then");
    assert_eq!(branch(&all_one(b"b/")), "then");
    shard.put(b"a/3", b"2");
    let mut branch = |structured: &Structured<'_>| shard.tell(structured).3;
    assert_eq!(branch(&all_one(b"a/")), "otherwise");
}

#[test]
fn no_relation_holds_for_the_value_of_an_absent_key() {
    use crate::structured::Relation;
    let mut shard = Shard::new();
    for relation in [
        Relation::Equal,
        Relation::NotEqual,
        Relation::Less,
        Relation::Greater,
    ] {
        let told_of = shard.tell(&Structured::Txn(Txn {
            compares: vec![Compare {
                relation,
                ..Compare::value(b"absent", b"")
            }],
            ..Txn::default()
        }));
        assert_eq!(told_of.3, "otherwise");
    }
    let told_of = shard.tell(&Structured::Txn(Txn {
        compares: vec![Compare::mod_revision(b"absent", Revision(0))],
        ..Txn::default()
    }));
    assert_eq!(told_of.3, "then");
}

#[test]
fn a_transaction_beyond_its_budget_does_nothing() {
    let mut shard = Shard::with(Parameters {
        txn_visits_max: 5,
        txn_answer_bytes_max: 300,
        ..Parameters::default()
    });
    shard.put(b"d/1", b"");
    shard.put(b"d/2", b"");
    // One for each step, one for each key that the range finds.
    let steps = |puts: usize| {
        let mut steps = vec![put(b"x", b"new"); puts];
        steps.push(read(KeyRange::subtree(b"d/")));
        then(steps)
    };
    let over = told(OutcomeCode::OverBudget, 2, "");
    assert_eq!(shard.tell(&steps(3)), over);
    assert_eq!(shard.get(b"x"), None);
    assert_eq!(shard.tell(&steps(2)).0, OutcomeCode::Done);
    // 8 before the results, 8 before each, a row of 40 with key and value.
    shard.put(b"y", &[b'v'; 300 - 8 - 8 - 40 - 1]);
    assert_eq!(
        shard.tell(&then(vec![Operation::Get(b"y")])).0,
        OutcomeCode::Done
    );
    shard.put(b"y", &[b'v'; 300 - 8 - 8 - 40]);
    let get = then(vec![put(b"z", b""), Operation::Get(b"y")]);
    assert_eq!(shard.tell(&get).0, OutcomeCode::OverBudget);
    assert_eq!(shard.get(b"z"), None);
}

/// A limit over a range says that there is more; without one, more than fits is no answer.
#[test]
fn a_limit_leaves_rows_out_and_says_so() {
    let mut shard = Shard::new();
    for key in [b"d/1", b"d/2", b"d/3"] {
        shard.put(key, b"");
    }
    let mut limited = |limit, direction| {
        let operation = Operation::Range(RangeOperation {
            range: KeyRange::subtree(b"d/"),
            direction,
            projection: Projection::KeysOnly,
            limit,
        });
        shard.tell(&then(vec![put(b"d/4", b""), operation])).3
    };
    assert_eq!(limited(2, Direction::Forward), "then Done [d/1 d/2]+");
    assert_eq!(limited(2, Direction::Reverse), "then Done [d/4 d/3]+");
    assert_eq!(
        limited(4, Direction::Forward),
        "then Done [d/1 d/2 d/3 d/4]"
    );
}

fn commit(
    read_revision: u64,
    keys: Vec<&'static [u8]>,
    ranges: Vec<KeyRange<'static>>,
) -> Structured<'static> {
    Structured::Commit(Commit {
        read_revision: Revision(read_revision),
        read_keys: keys,
        read_ranges: ranges,
        mutations: vec![Command::put(NAMESPACE, b"done", b"")],
    })
}

#[test]
fn a_commit_applies_only_if_nothing_that_was_read_has_changed() {
    let mut shard = Shard::new();
    shard.put(b"d/a", b"1");
    shard.put(b"d/b", b"1");
    let read = shard.put(b"e", b"1");
    let directory = || vec![KeyRange::children(b"d/", b'/')];
    assert_eq!(
        shard.tell(&commit(read, vec![b"d/a", b"absent"], directory())),
        told(OutcomeCode::Done, 4, "then Done")
    );
    let deleted = shard.delete(b"d/a");
    let conflict = |revision, detail| told(OutcomeCode::Conflict, revision, detail);
    assert_eq!(
        shard.tell(&commit(4, vec![b"d/b", b"d/a"], directory())),
        conflict(deleted, "key d/a")
    );
    assert_eq!(
        shard.tell(&commit(4, vec![b"d/b"], directory())),
        conflict(deleted, "range d/")
    );
    assert_eq!(
        shard.tell(&commit(4, vec![b"d/b"], vec![])).0,
        OutcomeCode::Done
    );
    let read = shard.machine.revision(NAMESPACE).0;
    // A key that was not there: it came, and a deeper one is no child.
    shard.put(b"d/deep/er", b"");
    assert_eq!(
        shard.tell(&commit(read, vec![], directory())).0,
        OutcomeCode::Done
    );
    let came = shard.put(b"d/new", b"");
    assert_eq!(
        shard.tell(&commit(came - 1, vec![], directory())),
        conflict(came, "range d/")
    );
    let now = shard.machine.revision(NAMESPACE).0;
    assert_eq!(
        shard.tell(&commit(now + 1, vec![], vec![])),
        told(OutcomeCode::FutureRevision, now, "")
    );
}

#[test]
fn a_commit_older_than_the_history_is_refused() {
    let mut shard = Shard::with(Parameters {
        history_revisions_max: 2,
        ..Parameters::default()
    });
    for _ in 0..5 {
        shard.put(b"other", b"");
    }
    assert_eq!(
        shard.tell(&commit(2, vec![b"k"], vec![])),
        told(OutcomeCode::Compacted, 3, "")
    );
    assert_eq!(
        shard.tell(&commit(3, vec![b"k"], vec![])).0,
        OutcomeCode::Done
    );
}

/// With more changes since the read than one may look at, the keys of the ranges are looked at instead.
#[test]
fn a_commit_looks_at_changes_or_at_keys_whichever_are_few() {
    let mut shard = Shard::with(Parameters {
        txn_visits_max: 10,
        ..Parameters::default()
    });
    for key in [b"d/1", b"d/2", b"d/3", b"d/4"] {
        shard.put(key, b"");
    }
    let read = shard.delete(b"d/4");
    (0..20).for_each(|_| {
        shard.put(b"busy", b"");
    });
    let range = || vec![KeyRange::subtree(b"d/")];
    assert_eq!(
        shard.tell(&commit(read, vec![], range())).0,
        OutcomeCode::Done
    );
    let deleted = shard.delete(b"d/3");
    (0..20).for_each(|_| {
        shard.put(b"busy", b"");
    });
    assert_eq!(
        shard.tell(&commit(read, vec![], range())),
        told(OutcomeCode::Conflict, deleted, "range d/")
    );
    let newest = shard.machine.revision(NAMESPACE).0;
    for number in 0..20_u8 {
        shard.put(&[b'w', number], b"");
    }
    let wide = || vec![KeyRange::subtree(b"w")];
    assert_eq!(
        shard.tell(&commit(newest, vec![], wide())).0,
        OutcomeCode::Conflict
    );
    let newest = shard.machine.revision(NAMESPACE).0;
    (0..20).for_each(|_| {
        shard.put(b"busy", b"");
    });
    assert_eq!(
        shard.tell(&commit(newest, vec![], wide())).0,
        OutcomeCode::OverBudget
    );
}

#[test]
fn a_range_is_deleted_slice_by_slice() {
    let mut shard = Shard::with(Parameters {
        sweep_keys_max: 2,
        sweep_visits_max: 100,
        ..Parameters::default()
    });
    for key in [&b"d/1"[..], b"d/2", b"d/3", b"d/x/y", b"d/z", b"e"] {
        shard.put(key, b"");
    }
    let directory = KeyRange::children(b"d/", b'/');
    let slice = |revision, count, detail: &str| {
        (OutcomeCode::Done, revision, Some(count), detail.to_owned())
    };
    let first = shard.tell(&Structured::DeleteRange(directory));
    assert_eq!(first, slice(7, 2, "after d/2"));
    let rest = KeyRange {
        start: b"d/2\0",
        ..directory
    };
    assert_eq!(shard.tell(&Structured::DeleteRange(rest)), slice(8, 2, ""));
    assert_eq!(
        shard.tell(&Structured::DeleteRange(directory)),
        slice(8, 0, "")
    );
    assert!(shard.get(b"d/x/y").is_some() && shard.get(b"e").is_some());
    assert_eq!(shard.machine.key_count(), 2);
    assert_eq!(shard.value_at(b"d/3", 7), Ok(Some(Vec::new())));
}

/// When a replica frees what the history has let go of is its own affair, and a reader may hold it back: how far a slice
/// comes must not depend on it.
#[test]
fn what_a_reader_holds_does_not_change_what_a_command_comes_to() {
    let parameters = Parameters {
        history_revisions_max: 1,
        sweep_visits_max: 3,
        txn_visits_max: 6,
        ..Parameters::default()
    };
    let (mut held, mut free) = (Shard::with(parameters), Shard::with(parameters));
    for shard in [&mut held, &mut free] {
        for key in 0..8_u8 {
            shard.put(&[b'd', key], b"");
        }
    }
    let pin = held.machine.pin();
    for shard in [&mut held, &mut free] {
        for key in 0..5_u8 {
            shard.delete(&[b'd', key]);
        }
        shard.put(b"other", b"");
    }
    let all = KeyRange::subtree(b"d");
    for structured in [
        then(vec![read(all), put(b"x", b"")]),
        then(vec![
            Operation::DeleteRange(all),
            put(b"y", b""),
            put(b"z", b""),
        ]),
        commit(16, vec![], vec![all]),
        Structured::DeleteRange(all),
    ] {
        let both = (held.tell(&structured), free.tell(&structured));
        assert_eq!(both.0, both.1, "{structured:?}");
        assert_eq!(both.0.0, OutcomeCode::Done, "{structured:?}");
    }
    assert_eq!(held.machine.state_hash(), free.machine.state_hash());
    held.machine.unpin(pin);
}

#[test]
fn compaction_refuses_older_reads_at_once_and_frees_later() {
    let mut shard = Shard::new();
    for _ in 0..3000 {
        shard.put(b"k", b"value");
    }
    let compact = |revision| Structured::Compact(Revision(revision));
    assert_eq!(
        shard.tell(&compact(2000)),
        told(OutcomeCode::Done, 3000, "")
    );
    assert_eq!(
        shard.value_at(b"k", 1999),
        Err(ReadError::Compacted {
            oldest: Revision(2000)
        })
    );
    assert_eq!(shard.value_at(b"k", 2000), Ok(Some(b"value".to_vec())));
    let memory = shard.machine.memory();
    assert!(memory.unanswering_bytes > 1900 * 100, "{memory:?}");
    assert_eq!(shard.machine.change(ChangePosition(2000)), None);
    assert!(shard.machine.change(ChangePosition(2001)).is_some());
    let answering_bytes = memory.history_bytes - memory.unanswering_bytes;
    shard.machine.reclaim(usize::MAX);
    let memory = shard.machine.memory();
    assert_eq!(
        (memory.history_bytes, memory.unanswering_bytes),
        (answering_bytes, 0)
    );
    // Backwards it says that it is done, ahead of the present it refuses.
    assert_eq!(shard.tell(&compact(1000)).0, OutcomeCode::Done);
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(2000));
    assert_eq!(
        shard.tell(&compact(3001)),
        told(OutcomeCode::FutureRevision, 3000, "")
    );
    assert_eq!(shard.tell(&compact(3000)).0, OutcomeCode::Done);
    shard.machine.reclaim(usize::MAX);
    assert_eq!(shard.machine.memory().history_bytes, 0);
    assert_eq!(shard.value_at(b"k", 3000), Ok(Some(b"value".to_vec())));
}

#[test]
fn compacting_one_namespace_leaves_the_past_of_another() {
    let mut shard = Shard::new();
    let other = NamespaceId(9);
    for _ in 0..10 {
        shard.apply(&[
            Command::put(NAMESPACE, b"k", b"v"),
            Command::put(other, b"k", b"v"),
        ]);
    }
    shard.tell(&Structured::Compact(Revision(10)));
    assert_eq!(shard.machine.oldest_revision(NAMESPACE), Revision(10));
    assert_eq!(shard.machine.oldest_revision(other), Revision(0));
    let time = shard.time;
    apply_in(
        &mut shard.machine,
        other,
        time,
        &Structured::Compact(Revision(5)),
    );
    assert_eq!(shard.machine.oldest_revision(other), Revision(5));
    // Ten changes of each, in turn: the first five pairs and one more are let go of.
    assert_eq!(shard.machine.history.floor(), ChangePosition(12));
    shard.machine.reclaim(usize::MAX);
    let (seen, _) = (shard.machine.memory(), ());
    assert_eq!(seen.unanswering_bytes, 0);
}
