//! Requests that no single node can answer: their shards live on several nodes, or are led from several.

use std::collections::BTreeSet;
use std::time::Duration;

use metastore_net::ErrorCode;
use metastore_net::async_client::Client;
use metastore_net::blocking::{Client as PlainClient, ClientError};
use metastore_statemachine::NamespaceId;

use crate::harness::{metastore, stderr, stdout};
use crate::load::Writers;
use crate::nodes::{NEWCOMER, Nodes, PATIENCE};

const DIRECTORIES: usize = 40;
const FILES: usize = 3;

/// Keys in so many directories that every shard has some, and what there is then.
async fn fill(client: &Client, top: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut batch = client.batch();
    for directory in 0..DIRECTORIES {
        for file in 0..FILES {
            let key = format!("{top}d{directory:02}/f{file}");
            batch.put(&key, "x");
            keys.insert(key);
        }
    }
    for answer in batch.await {
        answer.expect("a cluster that is well");
    }
    keys
}

async fn listed(client: &Client, prefix: &str) -> Vec<String> {
    let rows = client.range(prefix).keys_only().collect().await;
    let rows = rows.expect("a cluster that is well").rows;
    let text = |key| String::from_utf8(key).expect("text");
    rows.into_iter().map(|row| text(row.key)).collect()
}

/// A command of clients that is told of one node only.
fn run(nodes: &Nodes, node: u16, words: &[&str]) -> String {
    let output = metastore()
        .args(words)
        .args(["--connect", &nodes.address(node), "--timeout", "30s"])
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    stdout(&output)
}

/// Everything that a client may ask for, of each node.
async fn everything_works_at(nodes: &Nodes, node: u16) {
    let client = nodes.client_of(&[node]).await;
    let top = format!("/n{node}/");
    let keys = fill(&client, &top).await;
    let expected: Vec<String> = keys.iter().cloned().collect();
    assert_eq!(listed(&client, &top).await, expected);
    let mut reverse = client
        .range(&top)
        .reverse()
        .limit(50)
        .stream()
        .await
        .expect("a stream");
    let mut last = Vec::new();
    while let Some(row) = reverse.next().await.expect("a row") {
        last.push(String::from_utf8(row.key).expect("text"));
    }
    let backwards: Vec<String> = expected.iter().rev().take(50).cloned().collect();
    assert_eq!(last, backwards);
    assert_eq!(reverse.revisions().len(), 8, "one of each shard");
    let rolled = client.range(&top).delimiter(b'/').collect().await;
    assert_eq!(rolled.expect("prefixes").rows.len(), DIRECTORIES);
    let count = client.range(&top).count().await.expect("a count");
    assert_eq!(count.count, keys.len() as u64);
    assert_eq!(count.revisions.len(), 8);
    let rolled = client.range(&top).delimiter(b'/').count().await;
    assert_eq!(rolled.expect("a count").count, DIRECTORIES as u64);

    let key = format!("{top}d00/f0");
    let read = client.get(&key).await.expect("a get");
    let revision = read.row.expect("it is there").mod_revision;
    let many = client.get_many([&key, &format!("{top}d00/f1")]).await;
    assert_eq!(many.expect("two keys").rows.len(), 2);
    client.compact(&key, revision).await.expect("compaction");

    // The command line stays at the node as long as that can answer.
    assert_eq!(run(nodes, node, &["count", &top]).trim(), "120");
    let rolled = ["count", &top, "--delimiter", "/"];
    assert_eq!(run(nodes, node, &rolled).trim(), "40");
    let text = run(nodes, node, &["list", &top, "--keys-only"]);
    assert!(text.lines().eq(&expected), "{text}");
    let first = run(nodes, node, &["list", &top, "--keys-only", "--limit", "7"]);
    assert!(first.lines().eq(&expected[..7]), "{first}");

    let deleted = client.delete_range(&format!("{top}d0")).await;
    let deleted = deleted.expect("a range is deleted");
    assert_eq!((deleted.count, deleted.revisions.len()), (30, 8));
    let rest = run(nodes, node, &["delete", "--prefix", &top]);
    assert_eq!(rest.trim(), "90");
    assert_eq!(listed(&client, &top).await, Vec::<String>::new());
}

#[tokio::test]
async fn any_of_three_nodes_takes_any_request() {
    let nodes = Nodes::start("cluster-any", 1, 8, &[]);
    for node in 1..=3 {
        everything_works_at(&nodes, node).await;
    }
}

#[tokio::test]
async fn nodes_with_different_numbers_of_cores_work_together() {
    let mut nodes = Nodes::start_with_cores("cluster-cores", [1, 2, 1], 8);
    for node in 1..=3 {
        everything_works_at(&nodes, node).await;
    }
    // Those that are left agree, and so does the one with more cores when it is back.
    nodes.kill(2);
    nodes.await_leaders();
    for node in [1, 3] {
        everything_works_at(&nodes, node).await;
    }
    nodes.launch(2);
    nodes.await_some(|nodes| nodes.replicas(2));
    everything_works_at(&nodes, 2).await;
    nodes.await_agreement();
}

#[tokio::test]
async fn any_of_four_nodes_takes_any_request_although_none_has_all_shards() {
    let mut nodes = Nodes::start_four("cluster-four", 1, 8);
    for node in 1..=NEWCOMER {
        everything_works_at(&nodes, node).await;
    }
    // A plain client that asks for everything is told that this node has not all of it.
    let mut plain = PlainClient::connect(nodes.address(1), PATIENCE).expect("it answers");
    let refused = plain.delete_range(
        NamespaceId::DEFAULT,
        metastore_statemachine::KeyRange::subtree(b"/"),
    );
    assert!(
        matches!(&refused, Err(ClientError::Server(error)) if error.code == ErrorCode::NotLeader),
        "{refused:?}"
    );
    // With a node gone each shard has two replicas left.
    nodes.kill(2);
    nodes.await_leaders();
    for node in [1, 3, 4] {
        everything_works_at(&nodes, node).await;
    }
}

#[tokio::test]
async fn who_has_no_replica_learns_who_leads() {
    let mut nodes = Nodes::start_four("cluster-learn", 1, 4);
    // Shard 0 has its replicas on nodes 1, 2 and 3, and begins at the first of them.
    nodes.kill(1);
    nodes.await_leaders();
    let leader = nodes.await_some(|nodes| nodes.leader(0));
    let is_told = |nodes: &Nodes| {
        let mut plain = PlainClient::connect(nodes.address(4), PATIENCE).ok()?;
        let map = plain.shard_map().ok()?;
        (map.shards[0].node_id == u32::from(leader)).then_some(())
    };
    nodes.await_some(is_told);
}

#[tokio::test]
async fn ranges_are_deleted_while_leaders_move() {
    let nodes = Nodes::start("cluster-delete", 1, 6, &[]);
    let client = nodes.client().await;
    let keys = fill(&client, "/gone/").await;
    let writers = Writers::start(&client);
    let mut deleted = 0;
    for round in 0..6_u32 {
        let shard = (round % 6).to_string();
        let moving = metastore()
            .args(["shard", "transfer-leader", "--shard", &shard])
            .args(["--connect", &nodes.address(1)])
            .spawn()
            .expect("the program can be started");
        let prefix = format!("/gone/d{}", round % 4);
        let range = client
            .delete_range(&prefix)
            .deadline(Duration::from_secs(20));
        deleted += range
            .await
            .expect("it goes on where the shard is led")
            .count;
        let moved = moving.wait_with_output().expect("it ends");
        drop(moved);
    }
    let written = writers.stop().await;
    assert!(written.failed.is_empty(), "{:?}", written.failed);
    assert_eq!(deleted, keys.len() as u64);
    assert_eq!(listed(&client, "/gone/").await, Vec::<String>::new());
}
