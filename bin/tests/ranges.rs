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
