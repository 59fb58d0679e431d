//! Nodes that end, or cannot go on, at bad moments: while another does not listen, before they ever served, while they
//! cannot write down what they are to forget.

use std::fs;
use std::time::{Duration, Instant};

use crate::load::DIRECTORIES;
use crate::members;
use crate::nodes::{NEWCOMER, Nodes};

/// A stop that waits for nobody takes this long at most, on a machine that is busy with other tests.
const STOP_MAX: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_node_stops_in_time_while_another_takes_nothing() {
    let mut nodes = Nodes::start("cluster-black-hole", 1, 3, &[]);
    let client = nodes.client_of(&[1, 2]).await;
    // It keeps its connections and reads nothing from them.
    nodes.signal(3, "STOP");
    nodes.await_some(|nodes| {
        let led = |shard| {
            [1, 2].into_iter().find(|&node| {
                let replicas = nodes.replicas(node).unwrap_or_default();
                let leads = |one: &metastore_net::ReplicaStatus| {
                    one.shard == shard && one.role == metastore_net::ReplicaRole::Leader
                };
                replicas.iter().any(leads)
            })
        };
        (0..3).all(|shard| led(shard).is_some()).then_some(())
    });
    // More than sockets hold, so that batches wait for it.
    let value = vec![b'x'; 500_000];
    for number in 0..DIRECTORIES {
        let key = format!("/d{number}/k");
        client.put(&key, &value).await.expect("two of three");
    }
    for node in [1, 2] {
        let began = Instant::now();
        // It checks that everything that was accepted was answered.
        nodes.stop(node);
        assert!(began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
    }
    nodes.signal(3, "CONT");
    nodes.launch(1);
    nodes.launch(2);
    nodes.await_leaders();
    let read = client.get("/d0/k").await.expect("a cluster that is well");
    assert_eq!(read.row.expect("it was acknowledged").value, value);
}

#[tokio::test]
async fn a_node_that_is_killed_before_it_served_comes_as_if_for_the_first_time() {
    let mut nodes = Nodes::start("cluster-first-steps", 1, 3, &[]);
    members::fill(&nodes).await;
    nodes.format_newcomer();
    // From before its first file to after its first word.
    for step in 0..12 {
        nodes.launch(NEWCOMER);
        tokio::time::sleep(Duration::from_millis(25 * step)).await;
        nodes.kill(NEWCOMER);
    }
    nodes.launch(NEWCOMER);
    nodes.await_some(|nodes| nodes.replicas(NEWCOMER));
    members::add(&nodes, &["--learn"]);
    members::done(&nodes, "member", &["promote", "--node", "4"]);
    nodes.await_agreement_of([1, 2, 4]);
    nodes.kill(3);
    nodes.await_leaders();
    let client = nodes.client_of(&[1, 2, 4]).await;
    client.put("/d0/k", "x").await.expect("three of four");
}

#[tokio::test]
async fn a_replica_stays_fenced_until_it_can_be_written_down_that_it_is_gone() {
    let mut nodes = Nodes::start("cluster-unlist", 1, 3, &[]);
    members::fill(&nodes).await;
    // Nothing can be written beside the file, as on a full disk.
    let in_the_way = nodes.data(3).join("node.toml.new");
    fs::create_dir(&in_the_way).expect("nothing is there");
    let words = [
        "remove",
        "--node",
        "3",
        "--give-up-spare",
        "--timeout",
        "5s",
    ];
    drop(members::run(&nodes, "member", &words));
    nodes.await_some(|nodes| {
        let told = nodes.messages(3);
        told.contains("stays on the list").then_some(())
    });
    assert_eq!(nodes.replicas(3).expect("it answers").len(), 3);
    // The others go on, and a start finds what was there.
    let client = nodes.client_of(&[1, 2]).await;
    client.put("/d0/k", "x").await.expect("two of two");
    nodes.kill(3);
    nodes.launch(3);
    nodes.await_some(|nodes| nodes.replicas(3));
    fs::remove_dir(&in_the_way).expect("it is empty");
    nodes.await_some(|nodes| (nodes.replicas(3)?.is_empty()).then_some(()));
    nodes.kill(3);
    nodes.launch(3);
    let replicas = nodes.await_some(|nodes| nodes.replicas(3));
    assert!(replicas.is_empty(), "{replicas:?}");
}
