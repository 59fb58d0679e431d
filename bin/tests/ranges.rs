//! A long range against a store, while its keys are changed.

mod harness;

use std::collections::BTreeMap;
use std::time::Duration;

use harness::{Store, TestDirectory};
use metastore_net::blocking::Client;
use metastore_net::{RangeRequest, Response, StatusReply};
use metastore_statemachine::{Command, NamespaceId, RangeQuery, Scope};

const NAMESPACE: NamespaceId = NamespaceId::DEFAULT;
const KEYS: u32 = 6_000;
const BATCH: u32 = 500;

fn connect(store: &Store) -> Client {
    let address = format!("127.0.0.1:{}", store.port);
    Client::connect(address.as_str(), Duration::from_secs(30)).expect("it serves")
}

fn key(number: u32) -> Vec<u8> {
    format!("/stream/{number:05}").into_bytes()
}

fn value(number: u32, round: u32) -> Vec<u8> {
    format!("{number} in round {round} {}", "v".repeat(250)).into_bytes()
}

/// Changes all keys: some are deleted in each round and come back in the next.
fn change_all(client: &mut Client, round: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut there = BTreeMap::new();
    for first in (0..KEYS).step_by(BATCH as usize) {
        let changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = (first..first + BATCH)
            .map(|step| {
                let number = step * 1_231 % KEYS;
                let is_put = !(number + round).is_multiple_of(4);
                (key(number), is_put.then(|| value(number, round)))
            })
            .collect();
        let commands: Vec<Command<'_>> = changes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => Command::put(NAMESPACE, key, value),
                None => Command::delete(NAMESPACE, key),
            })
            .collect();
        for answer in client.batch(&commands).expect("it serves") {
            answer.expect("no limit is reached");
        }
        let puts = changes
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        there.extend(puts);
    }
    there
}

fn history_bytes(status: &StatusReply) -> u64 {
    let bytes = status.replicas.iter().map(|replica| replica.history_bytes);
    bytes.sum()
}

/// One client takes a range chunk by chunk, another changes all keys between them, several times over.
#[test]
fn a_range_shows_one_revision_while_everything_changes() {
    let directory = TestDirectory::new("ranges-stream");
    let store = Store::start(
        &directory.path().join("data"),
        1,
        &["--wal-budget", "256MiB"],
    );
    let (mut reader, mut writer) = (connect(&store), connect(&store));
    let expected = change_all(&mut writer, 1);
    let subtree = RangeRequest::subtree(NAMESPACE, b"/stream/");
    let range = RangeRequest {
        query: RangeQuery {
            scope: Scope::Children { separator: b'/' },
            ..subtree.query
        },
        chunk_bytes: 4_096,
        ..subtree
    };
    let mut found = Vec::new();
    let mut revisions = Vec::new();
    let mut rounds = 1;
    reader.submit(|connection| connection.range(&range));
    while reader.pending_count() > 0 {
        reader
            .next_responses(|_, response| {
                let Response::Range(chunk) = response else {
                    panic!("not a chunk: {response:?}");
                };
                let rows = chunk.rows();
                found.extend(rows.map(|row| (row.key.to_vec(), row.value.to_vec())));
                revisions.extend(chunk.revisions().map(|read| read.revision));
            })
            .expect("it serves");
        if found.len() > rounds as usize * KEYS as usize / 5 {
            rounds += 1;
            change_all(&mut writer, rounds);
        }
    }
    assert!(rounds >= 4, "{rounds} rounds");
    assert_eq!(revisions.len(), 1, "one shard holds the directory");
    assert!(expected.len() > KEYS as usize / 2);
    assert!(
        found.into_iter().eq(expected),
        "the rows are those of the first round"
    );

    let status = writer.status().expect("it serves");
    let slices = status
        .stages
        .iter()
        .find(|stage| stage.name == "slice range");
    let slices = slices.expect("the kind is told");
    assert!(slices.count > 10, "{slices:?}");
    assert!(slices.p50_ns <= slices.p999_ns && slices.p999_ns <= slices.max_ns);
    let remembered = u64::from(rounds * KEYS) * 450;
    assert!(history_bytes(&status) < remembered, "{status:?}");
}

/// The turns that the store needs for lists that come all at once.
fn turns_for_lists(client: &mut Client, lists: u32) -> u64 {
    let turns = |client: &mut Client| {
        let status = client.status().expect("it serves");
        let counters = status.counters.iter();
        let turns = counters.filter(|counter| counter.name == "turns");
        turns.map(|counter| counter.value).sum::<u64>()
    };
    let before = turns(client);
    let list = RangeRequest::subtree(NAMESPACE, b"/short/");
    for _ in 0..lists {
        client.submit(|connection| connection.range(&list));
    }
    let mut rows = 0;
    while client.pending_count() > 0 {
        client
            .next_responses(|_, response| {
                let Response::Range(chunk) = response else {
                    panic!("not a chunk: {response:?}");
                };
                rows += chunk.count;
            })
            .expect("it serves");
    }
    assert_eq!(rows, lists);
    turns(client) - before
}

/// Short lists share turns: with one slice a turn the last would wait for as many turns as there are lists.
#[test]
fn short_lists_do_not_wait_for_a_turn_each() {
    // As many as a connection may have open.
    const LISTS: u32 = 32;
    let directory = TestDirectory::new("ranges-short");
    let store = Store::start(&directory.path().join("data"), 1, &[]);
    let mut client = connect(&store);
    client
        .put(NAMESPACE, b"/short/key", b"value")
        .expect("it serves");
    // Slices are bounded by time, which a busy machine takes away.
    let fewest = (0..20).map(|_| turns_for_lists(&mut client, LISTS)).min();
    let fewest = fewest.expect("there were attempts");
    assert!(
        fewest < u64::from(LISTS) / 2,
        "{fewest} turns for {LISTS} lists"
    );
}
