//! Common prefixes and counts over several shards.

use std::collections::BTreeSet;

use metastore_engine::{ConnectionId, Input, Request, RequestError, RequestId};
use metastore_statemachine::{Command, Direction, RangeQuery, Revision, ShardList};

use crate::harness::{Answer, TestNode, config};
use crate::{NAMESPACE, subtree};

const DIRECTORIES: usize = 60;
const FILES: usize = 6;

/// Two cores and five shards with `/d00/s0/f` and the like, and what rolls up to what.
fn tree() -> TestNode {
    let mut node = TestNode::with(2, |core| {
        let mut config = config(core, 2, 5);
        config.settings.slice_visits_max = 7;
        config
    });
    for directory in 0..DIRECTORIES {
        for file in 0..FILES {
            let key = format!("/d{directory:02}/s{file}/f");
            node.command(0, 0, &Command::put(NAMESPACE, key.as_bytes(), b"v"));
        }
        let key = format!("/plain{directory:02}");
        node.command(0, 0, &Command::put(NAMESPACE, key.as_bytes(), b"v"));
    }
    node.settle();
    node.take_answers();
    node
}

fn query(prefix: &[u8], delimiter: Option<u8>) -> RangeQuery<'_> {
    let Request::Range { query, .. } = subtree(prefix) else {
        unreachable!("a range");
    };
    RangeQuery { delimiter, ..query }
}

/// Reads a range to its end and returns its keys.
fn keys(node: &mut TestNode, query: RangeQuery<'_>) -> Vec<String> {
    keys_among(node, query, ShardList::ALL)
}

/// The same in some shards only.
fn keys_among(node: &mut TestNode, query: RangeQuery<'_>, shards: ShardList<'_>) -> Vec<String> {
    let range = Request::Range {
        query,
        shards,
        chunk_bytes: 4096,
    };
    node.request(1, 1, range);
    let mut keys = Vec::new();
    for _ in 0..100 {
        node.settle();
        let mut answers = node.take_answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let Answer::Chunk(rows, is_last) = answers.remove(0).1 else {
            panic!("a range is answered with chunks");
        };
        keys.extend(
            rows.into_iter()
                .map(|(key, _)| String::from_utf8(key).expect("text")),
        );
        if is_last {
            return keys;
        }
        let connection = ConnectionId(1);
        node.step(1, Input::ConnectionDrained { connection });
    }
    panic!("the range does not end");
}

fn count(node: &mut TestNode, query: RangeQuery<'_>) -> u64 {
    count_among(node, query, ShardList::ALL)
}

fn count_among(node: &mut TestNode, query: RangeQuery<'_>, shards: ShardList<'_>) -> u64 {
    node.request(1, 2, Request::Count { query, shards });
    node.settle();
    match node.take_answers()[..] {
        [(2, Answer::Count(count))] => count,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn shards_that_have_the_same_prefix_show_it_once() {
    let mut node = tree();
    let mut expected: Vec<String> = (0..DIRECTORIES).map(|d| format!("/d{d:02}/")).collect();
    expected.extend((0..DIRECTORIES).map(|d| format!("/plain{d:02}")));
    let rolled_up = query(b"/", Some(b'/'));
    assert_eq!(keys(&mut node, rolled_up), expected);
    let reverse = RangeQuery {
        direction: Direction::Reverse,
        ..rolled_up
    };
    let mut reversed = expected.clone();
    reversed.reverse();
    assert_eq!(keys(&mut node, reverse), reversed);
    for limit in [1, 7, 61, 1_000] {
        let limited = RangeQuery { limit, ..rolled_up };
        let few = &expected[..expected.len().min(limit as usize)];
        assert_eq!(keys(&mut node, limited), few, "limit {limit}");
    }
}

#[test]
fn a_count_says_how_many_rows_a_range_has() {
    let mut node = tree();
    for prefix in [&b""[..], b"/", b"/d0", b"/d07/", b"/none"] {
        for delimiter in [None, Some(b'/'), Some(b'0')] {
            let query = query(prefix, delimiter);
            let rows = keys(&mut node, query);
            let different: BTreeSet<&String> = rows.iter().collect();
            assert_eq!(different.len(), rows.len());
            assert_eq!(
                count(&mut node, query),
                rows.len() as u64,
                "{prefix:?} by {delimiter:?}"
            );
        }
    }
    let status = node.cores[0].core.status();
    assert_eq!((status.waiting.ranges, status.waiting.range_parts), (0, 0));
}

#[test]
fn only_shards_that_are_named_are_read() {
    let mut node = tree();
    let all = query(b"/", None);
    let whole: BTreeSet<String> = keys(&mut node, all).into_iter().collect();
    let mut found = BTreeSet::new();
    for named in [&[0][..], &[1, 4], &[2, 3, 99], &[98, 99]] {
        let bytes: Vec<u8> = named.iter().flat_map(|id: &u32| id.to_le_bytes()).collect();
        let shards = ShardList::new(&bytes).expect("they ascend");
        let part = keys_among(&mut node, all, shards);
        assert_eq!(
            count_among(&mut node, all, shards),
            part.len() as u64,
            "{named:?}"
        );
        assert_eq!(part.is_empty(), named == [98, 99], "{named:?}");
        for key in part {
            assert!(found.insert(key), "no key is in two shards");
        }
    }
    assert_eq!(found, whole);
}

#[test]
fn a_count_stands_at_one_position_of_each_shard() {
    let mut node = tree();
    node.holds_slices = true;
    node.request(
        0,
        1,
        Request::Count {
            query: query(b"/", None),
            shards: ShardList::ALL,
        },
    );
    node.settle();
    for directory in 0..DIRECTORIES {
        let key = format!("/plain{directory:02}");
        node.command(0, 9, &Command::delete(NAMESPACE, key.as_bytes()));
        let key = format!("/later{directory:02}");
        node.command(0, 9, &Command::put(NAMESPACE, key.as_bytes(), b"v"));
    }
    node.settle();
    node.take_answers();
    node.holds_slices = false;
    node.settle();
    let all = DIRECTORIES * (FILES + 1);
    assert_eq!(node.take_answers(), [(1, Answer::Count(all as u64))]);
}

#[test]
fn a_count_that_is_late_cancelled_or_senseless_is_refused() {
    let mut node = tree();
    node.holds_slices = true;
    node.request_within(
        0,
        1,
        200,
        Request::Count {
            query: query(b"/", None),
            shards: ShardList::ALL,
        },
    );
    node.request(
        0,
        2,
        Request::Count {
            query: query(b"/", Some(b'/')),
            shards: ShardList::ALL,
        },
    );
    node.settle();
    node.pass_ms(250);
    node.settle();
    let answers = node.take_answers();
    assert!(
        matches!(
            answers[..],
            [(1, Answer::Error(RequestError::Deadline { .. }))]
        ),
        "{answers:?}"
    );
    node.request(0, 3, Request::Cancel(RequestId(2)));
    node.settle();
    let answers = node.take_answers();
    assert_eq!(
        answers,
        [
            (2, Answer::Error(RequestError::Cancelled)),
            (3, Answer::Other)
        ]
    );
    assert!(node.cores.iter().all(|core| !core.core.has_slice()));

    let at = RangeQuery {
        at: Some(Revision(1)),
        ..query(b"/", None)
    };
    node.request(
        0,
        4,
        Request::Count {
            query: at,
            shards: ShardList::ALL,
        },
    );
    node.settle();
    let answers = node.take_answers();
    assert!(
        matches!(
            &answers[..],
            [(4, Answer::Error(RequestError::CrossShard { .. }))]
        ),
        "{answers:?}"
    );
}
