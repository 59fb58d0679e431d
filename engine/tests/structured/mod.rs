//! What a core promises about commands with structure.

use metastore_engine::{ConnectionId, Happened, Input, LogHistory, RequestError};
use metastore_statemachine::{
    Command, CommandKind, Commit, Compare, Existence, GetQuery, KeyRange, Operation, OutcomeCode,
    Revision, Structured, Txn,
};

use crate::harness::{Answer, TestNode, config, start};
use crate::{NAMESPACE, done, pair, subtree};

impl TestNode {
    fn structured(&mut self, core: usize, request: u64, structured: &Structured<'_>) {
        let key = structured.first_named().unwrap_or(b"k");
        self.structured_at(core, request, key, structured);
    }

    fn structured_at(&mut self, core: usize, request: u64, key: &[u8], what: &Structured<'_>) {
        let value = what.encode();
        let command = Command::structured(what.kind(), NAMESPACE, key, &value);
        self.command(core, request, &command);
    }

    fn rows(&mut self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.request(0, 900, subtree(prefix));
        let mut rows = Vec::new();
        loop {
            self.settle();
            let answers = self.take_answers();
            let [(900, Answer::Chunk(chunk, is_last))] = answers.as_slice() else {
                panic!("{answers:?}");
            };
            rows.extend(chunk.clone());
            if *is_last {
                return rows;
            }
            let connection = ConnectionId(1);
            self.step(0, Input::ConnectionDrained { connection });
        }
    }
}

/// A node whose shards delete four keys at a time.
fn node(cores: usize, shards: u32) -> TestNode {
    TestNode::with(cores, |core| {
        let mut config = config(core, cores, shards);
        config.parameters.sweep_keys_max = 4;
        config
    })
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

fn detailed(code: OutcomeCode, revision: u64, detail: &str) -> Answer {
    Answer::Detailed(code, Revision(revision), None, detail.to_owned())
}

fn cross_shard(keys: &[&[u8]]) -> Answer {
    let keys = keys.iter().map(|key| key.to_vec()).collect();
    Answer::Error(RequestError::CrossShard { keys })
}

/// Forty keys in each of five directories, which lie in several shards.
fn fill(node: &mut TestNode) -> u64 {
    for directory in 0..5 {
        for file in 0..40 {
            let key = format!("/all/{directory}/{file:02}");
            node.command(0, 0, &Command::put(NAMESPACE, key.as_bytes(), b"v"));
        }
    }
    node.settle();
    node.take_answers();
    200
}

#[test]
fn a_transaction_is_answered_from_whichever_core_leads_its_shard() {
    let mut node = TestNode::new(2, 2);
    for (request, directory) in [(1, "/a/"), (2, "/a/b/")] {
        let (one, two) = (format!("{directory}1"), format!("{directory}2"));
        let txn = Structured::Txn(Txn {
            compares: vec![Compare::existence(one.as_bytes(), Existence::Absent)],
            then: vec![
                put(one.as_bytes(), b"x"),
                put(two.as_bytes(), b"y"),
                Operation::Get(one.as_bytes()),
            ],
            otherwise: vec![Operation::Get(two.as_bytes())],
        });
        node.structured(0, request, &txn);
        node.settle();
        let answer = detailed(OutcomeCode::Done, 1, "Then Done Done x");
        assert_eq!(node.take_answers(), [(request, answer)]);
        node.structured(1, request, &txn);
        node.settle();
        let answer = detailed(OutcomeCode::Done, 1, "Otherwise y");
        assert_eq!(node.take_answers(), [(request, answer)]);
    }
}

#[test]
fn what_lies_in_another_shard_is_named() {
    let mut node = TestNode::new(1, 2);
    // The shards of these directories differ: /a/ and /a/b/ are in different halves of the slots.
    node.structured(0, 1, &then(vec![put(b"/a/1", b""), put(b"/a/b/1", b"")]));
    let wide = KeyRange::subtree(b"/a/");
    node.structured(
        0,
        2,
        &then(vec![put(b"/a/1", b""), Operation::DeleteRange(wide)]),
    );
    let there = KeyRange::children(b"/a/b/", b'/');
    let commit = Structured::Commit(Commit {
        read_keys: vec![b"/a/1"],
        read_ranges: vec![there, KeyRange::children(b"/a/", b'/')],
        ..Commit::default()
    });
    node.structured(0, 3, &commit);
    let keys: Vec<String> = (0..20).map(|key| format!("/a/b/{key}")).collect();
    let mut operations = vec![put(b"/a/1", b"")];
    operations.extend(keys.iter().map(|key| Operation::Get(key.as_bytes())));
    node.structured(0, 4, &then(operations));
    node.settle();
    let eight: Vec<&[u8]> = keys.iter().take(8).map(String::as_bytes).collect();
    assert_eq!(
        node.take_answers(),
        [
            (1, cross_shard(&[b"/a/b/1"])),
            (2, cross_shard(&[b"/a/"])),
            (3, cross_shard(&[b"/a/b/"])),
            (4, cross_shard(&eight)),
        ]
    );
    assert_eq!(node.rows(b"/"), []);
}

#[test]
fn a_commit_that_read_something_old_is_told_what_has_changed() {
    let mut node = TestNode::new(2, 2);
    node.put("/a/1", "x");
    node.put("/a/2", "x");
    let commit = |read_revision| {
        Structured::Commit(Commit {
            read_revision: Revision(read_revision),
            read_keys: vec![b"/a/1"],
            read_ranges: vec![KeyRange::children(b"/a/", b'/')],
            mutations: vec![Command::delete(NAMESPACE, b"/a/1")],
        })
    };
    node.structured(1, 1, &commit(1));
    node.settle();
    let conflict = detailed(OutcomeCode::Conflict, 2, "ConflictPrefix([47, 97, 47])");
    assert_eq!(node.take_answers(), [(1, conflict)]);
    node.structured(1, 2, &commit(2));
    node.settle();
    let answer = detailed(OutcomeCode::Done, 3, "Then Done");
    assert_eq!(node.take_answers(), [(2, answer)]);
    assert_eq!(node.rows(b"/a/"), [pair("/a/2", "x")]);
}

#[test]
fn a_range_is_deleted_in_every_shard_that_has_keys_of_it() {
    let mut node = node(2, 4);
    let count = fill(&mut node);
    node.put("/other", "v");
    node.structured(1, 1, &Structured::DeleteRange(KeyRange::subtree(b"/all/")));
    node.settle();
    let answers = node.take_answers();
    let [(1, Answer::Detailed(OutcomeCode::Done, Revision(0), deleted, revisions))] =
        answers.as_slice()
    else {
        panic!("{answers:?}");
    };
    assert_eq!(*deleted, Some(i64::try_from(count).expect("few")));
    assert_eq!(revisions.split(' ').count(), 4, "{revisions}");
    assert_eq!(node.rows(b"/"), [pair("/other", "v")]);
    // In one shard, the revision is that shard's.
    node.put("/one/1", "v");
    node.put("/one/2", "v");
    node.take_answers();
    let one = KeyRange::children(b"/one/", b'/');
    node.structured(0, 2, &Structured::DeleteRange(one));
    node.settle();
    let answers = node.take_answers();
    let [(2, Answer::Detailed(OutcomeCode::Done, revision, Some(2), place))] = answers.as_slice()
    else {
        panic!("{answers:?}");
    };
    assert!(place.ends_with(&format!(":{revision}")), "{place}");
}

#[test]
fn a_range_is_deleted_in_the_shards_that_are_named_and_in_no_other() {
    let mut node = node(2, 4);
    let count = fill(&mut node);
    let range = KeyRange::subtree(b"/all/");
    let mut deleted = Vec::new();
    for (request, shards) in [
        (1, &[0, 3][..]),
        (2, &[1, 2]),
        (3, &[0, 1, 2, 3]),
        (4, &[9]),
    ] {
        let value = range.encode_delete(shards);
        let kind = CommandKind::DeleteRange;
        let command = Command::structured(kind, NAMESPACE, b"k", &value);
        node.command(1, request, &command);
        node.settle();
        let answers = node.take_answers();
        let [(_, Answer::Detailed(OutcomeCode::Done, _, Some(number), places))] =
            answers.as_slice()
        else {
            panic!("{answers:?}");
        };
        deleted.push(*number);
        let expected = shards.iter().filter(|&&shard| shard < 4).count();
        assert_eq!(places.split_whitespace().count(), expected, "{places}");
    }
    assert!(deleted[0] > 0 && deleted[1] > 0, "{deleted:?}");
    assert_eq!(deleted[2..], [0, 0]);
    assert_eq!(
        deleted.iter().sum::<i64>(),
        i64::try_from(count).expect("few")
    );
}

#[test]
fn others_are_served_between_the_slices_of_a_range_that_is_deleted() {
    let mut node = node(1, 1);
    fill(&mut node);
    node.structured(0, 1, &Structured::DeleteRange(KeyRange::subtree(b"/all/")));
    let mut answers = Vec::new();
    for round in 0..10 {
        node.command(0, 100 + round, &Command::put(NAMESPACE, b"/other", b"v"));
        node.turn();
        assert!(node.complete_write(0));
        node.turn();
        answers.extend(node.take_answers());
    }
    let first: Vec<u64> = answers
        .iter()
        .map(|(request, _)| *request)
        .take(5)
        .collect();
    assert_eq!(first, [100, 101, 102, 103, 104]);
    assert!(answers.iter().all(|(request, _)| *request != 1));
    node.settle();
    let answers = node.take_answers();
    assert!(matches!(
        answers.iter().find(|(request, _)| *request == 1),
        Some((_, Answer::Detailed(OutcomeCode::Done, _, Some(200), _)))
    ));
}

/// The first slice is applied, the second one's write never completes.
#[test]
fn a_deadline_tells_how_far_a_range_was_deleted_and_asking_again_goes_on() {
    let mut node = node(1, 1);
    fill(&mut node);
    let range = Structured::DeleteRange(KeyRange::subtree(b"/all/"));
    node.structured(0, 1, &range);
    node.turn();
    assert!(node.complete_write(0));
    node.turn();
    assert_eq!(node.take_answers(), []);
    node.pass_ms(6_000);
    node.turn();
    let happened = Happened::Unknown;
    let cause = Box::new(RequestError::Deadline { happened });
    let error = RequestError::DeletedInPart { deleted: 4, cause };
    assert_eq!(error.happened(), Happened::Unknown);
    assert_eq!(node.take_answers(), [(1, Answer::Error(error))]);
    node.settle();
    assert_eq!(node.cores[0].core.status().waiting.sweeps, 0);
    node.structured(0, 2, &range);
    node.settle();
    // The slice whose answer came too late had deleted four more.
    assert!(matches!(
        node.take_answers().as_slice(),
        [(2, Answer::Detailed(OutcomeCode::Done, _, Some(192), _))]
    ));
}

#[test]
fn a_range_is_not_deleted_further_when_its_connection_is_gone_or_the_node_stops() {
    let mut node = node(1, 1);
    fill(&mut node);
    let range = Structured::DeleteRange(KeyRange::subtree(b"/all/"));
    node.structured(0, 1, &range);
    node.turn();
    let connection = ConnectionId(1);
    node.step(0, Input::ConnectionClosed { connection });
    node.settle();
    node.take_answers();
    assert_eq!(node.rows(b"/all/").len(), 196);
    // The same within a batch.
    let (mut commands, value) = (Vec::new(), range.encode());
    Command::structured(range.kind(), NAMESPACE, b"k", &value).encode_into(&mut commands);
    let batch = metastore_engine::Request::Batch {
        count: 1,
        commands: &commands,
    };
    node.request(0, 1, batch);
    node.turn();
    node.step(0, Input::ConnectionClosed { connection });
    node.settle();
    node.take_answers();
    assert_eq!(node.rows(b"/all/").len(), 192);
    node.structured(0, 2, &range);
    node.turn();
    node.step(0, Input::Drain);
    assert!(!node.cores[0].core.is_drained());
    node.settle();
    let cause = Box::new(RequestError::ShuttingDown);
    let error = RequestError::DeletedInPart { deleted: 4, cause };
    assert_eq!(node.take_answers(), [(2, Answer::Error(error))]);
    assert!(node.cores[0].core.is_drained());
}

/// Each may take milliseconds: whoever else is on the core comes in between.
#[test]
fn many_transactions_are_spread_over_entries_and_turns() {
    const TXNS: u64 = 640;
    let mut node = TestNode::new(1, 1);
    let last = |node: &TestNode| node.cores[0].core.status().replicas[0].last.0;
    let turns = |node: &TestNode| node.cores[0].core.status().counters.turns;
    node.settle();
    let before = last(&node);
    for request in 0..TXNS {
        node.structured(0, request, &then(vec![put(b"/a/1", b"x")]));
    }
    node.turn();
    while node.complete_write(0) {
        let began = turns(&node);
        node.turn();
        let answered = node.take_answers().len() as u64;
        let taken = turns(&node) - began;
        assert!(answered <= taken * 64, "{answered} in {taken} turns");
    }
    assert!(last(&node) - before >= TXNS / 32);
    assert_eq!(
        node.cores[0].core.status().replicas[0].revision,
        Revision(TXNS)
    );
}

#[test]
fn only_so_many_ranges_are_deleted_at_a_time() {
    let mut node = TestNode::with(1, |core| {
        let mut config = config(core, 1, 1);
        config.settings.sweeps_max = 2;
        config
    });
    let range = Structured::DeleteRange(KeyRange::subtree(b"/all/"));
    for request in 1..=3 {
        node.structured(0, request, &range);
    }
    node.turn();
    assert!(matches!(
        node.take_answers().as_slice(),
        [(3, Answer::Error(RequestError::Overloaded { .. }))]
    ));
    node.settle();
    assert_eq!(node.take_answers().len(), 2);
}

/// Commands that are not durable yet fill what the core admits: the slice waits for room instead of giving up.
#[test]
fn a_slice_that_finds_no_room_is_sent_again() {
    let mut node = node(1, 1);
    fill(&mut node);
    let value = vec![b'v'; 15 << 10];
    let mut request = 100;
    loop {
        node.command(0, request, &Command::put(NAMESPACE, b"/large", &value));
        node.turn();
        let refused = node
            .take_answers()
            .iter()
            .any(|(_, answer)| matches!(answer, Answer::Error(RequestError::Overloaded { .. })));
        if refused {
            break;
        }
        request += 1;
        assert!(request < 1_000, "the core admits without end");
    }
    // The last part is for deletes, and what is small may still fit: fill it to the last hundred bytes.
    for key in [&[b'k'; 4_000][..], b"/small"] {
        while node.take_answers().is_empty() {
            node.command(0, request, &Command::delete(NAMESPACE, key));
            node.turn();
            request += 1;
        }
    }
    node.structured(0, 1, &Structured::DeleteRange(KeyRange::subtree(b"/all/")));
    node.settle();
    let is_there = |answers: &[(u64, Answer)]| answers.iter().any(|(request, _)| *request == 1);
    assert!(!is_there(&node.take_answers()));
    node.pass_ms(100);
    node.settle();
    let answers = node.take_answers();
    let answer = answers.iter().find(|(request, _)| *request == 1);
    assert!(
        matches!(
            answer,
            Some((_, Answer::Detailed(OutcomeCode::Done, _, Some(200), _)))
        ),
        "{answers:?}"
    );
}

/// Large enough to be compressed, among others in a batch, and applied once more by the next start.
#[test]
fn commands_with_structure_survive_compression_batches_and_a_restart() {
    let mut node = TestNode::new(1, 1);
    let keys: Vec<String> = (0..100).map(|key| format!("/d/{key:03}")).collect();
    let value = [b'v'; 60];
    let txn = then(keys.iter().map(|key| put(key.as_bytes(), &value)).collect());
    let mut commands = Vec::new();
    let mut push = |key: &[u8], what: &Structured<'_>| {
        let value = what.encode();
        Command::structured(what.kind(), NAMESPACE, key, &value).encode_into(&mut commands);
    };
    push(b"/d/000", &txn);
    push(
        b"/d/",
        &then(vec![Operation::DeleteRange(KeyRange {
            start: b"/d/001",
            ..KeyRange::children(b"/d/", b'/')
        })]),
    );
    push(b"/d/", &Structured::Compact(Revision(2)));
    node.request(
        0,
        1,
        metastore_engine::Request::Batch {
            count: 3,
            commands: &commands,
        },
    );
    node.settle();
    let answers = node.take_answers();
    let [(1, Answer::Batch(items))] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert!(matches!(
        &items[0],
        Answer::Detailed(OutcomeCode::Done, Revision(1), None, _)
    ));
    assert_eq!(items[1], detailed(OutcomeCode::Done, 2, "Then -99"));
    assert_eq!(items[2], done(2));
    let hash = |node: &TestNode| node.cores[0].core.status().replicas[0].state_hash;
    let before = hash(&node);
    let files = node.cores[0].files.clone();
    node.cores[0] =
        start(config(0, 1, 1), files, node.now, LogHistory::HasServed).expect("undamaged files");
    node.settle();
    assert_eq!(hash(&node), before);
    let value = String::from_utf8(value.to_vec()).expect("text");
    assert_eq!(node.rows(b"/d/"), [pair("/d/000", &value)]);
    let at = GetQuery {
        namespace: NAMESPACE,
        key: b"/d/000",
        at: Some(Revision(1)),
    };
    node.request(0, 2, metastore_engine::Request::Get(at));
    node.settle();
    let oldest = Revision(2);
    let compacted = Answer::Error(RequestError::Compacted { oldest });
    assert_eq!(node.take_answers(), [(2, compacted)]);
}
