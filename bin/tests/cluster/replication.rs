//! Three nodes that are well, and three that are gone all at once.

use std::thread;
use std::time::{Duration, Instant};

use metastore_net::ErrorCode;
use metastore_net::async_client::Error;
use metastore_net::blocking::{Client as PlainClient, ClientError, GetAnswer};
use metastore_statemachine::NamespaceId;

use crate::harness::{metastore, stdout};
use crate::load::{DIRECTORIES, Writers};
use crate::nodes::{Nodes, PATIENCE};

#[tokio::test]
async fn what_one_node_acknowledged_every_node_answers() {
    let nodes = Nodes::start("cluster-all", 2, 6, &[]);
    let first = nodes.client_of(&[1]).await;
    for directory in 0..DIRECTORIES {
        let key = format!("/d{directory}/key");
        first.put(&key, &key).await.expect("a cluster that is well");
    }
    for node in 1..=3 {
        // A plain client stays at this node, leader or not: a read is answered there, with all that was acknowledged.
        let mut plain = PlainClient::connect(nodes.address(node), Duration::from_secs(5))
            .expect("the node answers");
        for directory in 0..DIRECTORIES {
            let key = format!("/d{directory}/key");
            let answer = await_read(&mut plain, &key);
            assert_eq!(answer.row.expect("it was written").value, key.as_bytes());
        }
    }
    nodes.await_agreement();
    assert!(nodes.counter(1, "commands_applied") > 0);
}

#[test]
fn who_asks_the_wrong_node_is_told_the_right_one() {
    let nodes = Nodes::start("cluster-hint", 1, 3, &[]);
    let mut hints = 0;
    for node in 1..=3 {
        for directory in 0..DIRECTORIES {
            let key = format!("/d{directory}/key");
            hints += put_where_it_is_led(nodes.address(node), &key);
        }
        // The command line follows.
        let output = metastore()
            .args(["add", "--connect", &nodes.address(node), "/d0/count", "1"])
            .output()
            .expect("the program can be started");
        assert_eq!(stdout(&output).trim(), node.to_string());
    }
    // Each shard is led by one node of three; the lead may move meanwhile.
    assert!(hints >= DIRECTORIES, "somebody else took a write: {hints}");
}

/// Reads a key at a node, leader or not, as soon as that knows of one.
fn await_read(plain: &mut PlainClient, key: &str) -> GetAnswer {
    let began = Instant::now();
    loop {
        match plain.get(NamespaceId::DEFAULT, key.as_bytes()) {
            Ok(answer) => return answer,
            Err(ClientError::Server(error)) if error.code == ErrorCode::NotLeader => {}
            Err(error) => panic!("{key}: {error}"),
        }
        assert!(began.elapsed() < PATIENCE, "nobody leads");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a key by asking a node and whoever is named, and tells how often another was.
fn put_where_it_is_led(mut address: String, key: &str) -> u32 {
    let began = Instant::now();
    let mut hints = 0;
    loop {
        let mut plain = PlainClient::connect(&address, PATIENCE).expect("every node answers");
        match plain.put(NamespaceId::DEFAULT, key.as_bytes(), b"x") {
            Ok(_) => return hints,
            Err(ClientError::Server(error)) if error.code == ErrorCode::NotLeader => {
                assert!(began.elapsed() < PATIENCE, "nobody leads");
                if error.hint.is_empty() {
                    thread::sleep(Duration::from_millis(20));
                } else {
                    hints += 1;
                    address = error.hint;
                }
            }
            Err(error) => panic!("{key}: {error}"),
        }
    }
}

#[tokio::test]
async fn all_nodes_are_killed_at_once_and_nothing_is_lost() {
    let mut nodes = Nodes::start("cluster-power", 1, 3, &[]);
    let client = nodes.client().await;
    let writers = Writers::start(&client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for node in 1..=3 {
        nodes.kill(node);
    }
    for node in 1..=3 {
        nodes.launch(node);
    }
    nodes.await_leaders();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let written = writers.stop().await;
    assert!(written.failed.is_empty(), "{:?}", written.failed);
    written.check(&nodes.client().await).await;
    nodes.await_agreement();
}

#[tokio::test]
async fn one_node_of_three_acknowledges_nothing() {
    let mut nodes = Nodes::start("cluster-minority", 1, 3, &[]);
    let client = nodes.client().await;
    client
        .put("/a/k", "before")
        .await
        .expect("a cluster that is well");
    nodes.kill(2);
    nodes.kill(3);
    let deadline = Duration::from_secs(2);
    let alone = client.put("/a/k", "alone").deadline(deadline).await;
    assert!(
        matches!(
            alone,
            Err(Error::Deadline { .. } | Error::OutcomeUnknown { .. })
        ),
        "{alone:?}"
    );
    let read = client.get("/a/k").deadline(deadline).await;
    assert!(read.is_err(), "nobody may answer that alone: {read:?}");
    nodes.launch(2);
    nodes.await_leaders();
    client.put("/a/k", "together").await.expect("two of three");
    let row = client.get("/a/k").await.expect("two of three").row;
    assert_eq!(row.expect("it is there").value, b"together");
}

#[tokio::test]
async fn a_node_that_lost_its_disk_is_not_heard_under_its_old_id() {
    let mut nodes = Nodes::start("cluster-wiped", 1, 3, &[]);
    let client = nodes.client().await;
    client
        .put("/a/k", "kept")
        .await
        .expect("a cluster that is well");
    nodes.await_agreement();
    nodes.kill(2);
    nodes.wipe(2);
    nodes.launch(2);
    nodes.await_leaders();
    nodes.await_some(|nodes| (nodes.counter(1, "peer_links_refused") > 0).then_some(()));
    let told = nodes.messages(1);
    assert!(
        told.contains("node=2") && told.contains("formatted anew"),
        "{told}"
    );
    // With another node gone only the one that has forgotten everything could help.
    nodes.kill(3);
    let deadline = Duration::from_secs(2);
    let alone = client.put("/a/k", "lost").deadline(deadline).await;
    assert!(alone.is_err(), "{alone:?}");
    nodes.launch(3);
    nodes.await_some(|nodes| nodes.leader(0));
    client.put("/a/k", "again").await.expect("two of three");
}
