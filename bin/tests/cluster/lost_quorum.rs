//! Clusters that lose most of their voters for good, and go on with what is left.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::load::{self, Writers, Written};
use crate::losers::{Nodes, copy_directory};

/// What a shard passes over, so that no revision that was lost is given to something else.
const REVISIONS_PASSED: u64 = 1 << 40;

/// Some of everything, on all replicas.
async fn fill(nodes: &Nodes, among: &[u16]) {
    let client = nodes.client(among).await;
    for directory in 0..load::DIRECTORIES {
        let key = format!("/d{directory}/old");
        client
            .put(&key, "before")
            .await
            .expect("a cluster that is well");
    }
    nodes.await_agreement(among);
}

async fn check_filled(nodes: &Nodes, among: &[u16]) {
    let client = nodes.client(among).await;
    for directory in 0..load::DIRECTORIES {
        let key = format!("/d{directory}/old");
        let read = client.get(&key).await.expect("it is served");
        let row = read.row.unwrap_or_else(|| panic!("{key} is lost"));
        assert_eq!(row.value, b"before");
    }
}

/// What was acknowledged just before the loss may be gone, and nothing else may be in its place.
async fn check_written(nodes: &Nodes, written: &Written) {
    assert!(!written.acknowledged.is_empty(), "nothing was written");
    let client = nodes.client(&[1]).await;
    for (key, value) in &written.acknowledged {
        let read = client.get(key).await.expect("it is served");
        let is_right = read.row.is_none_or(|row| row.value == value.as_bytes());
        assert!(is_right, "{key} has another value");
    }
}

#[tokio::test]
async fn two_of_three_nodes_are_lost_and_the_third_goes_on() {
    let mut nodes = Nodes::start("recover-three", &[1, 2, 3], "shards = 3\n");
    fill(&nodes, &[1, 2, 3]).await;
    let client = nodes.client(&[1, 2, 3]).await;
    let writers = Writers::start(&client);
    tokio::time::sleep(Duration::from_millis(500)).await;
    nodes.kill(2);
    nodes.kill(3);
    let busy = nodes.recover(&["report", "--data", &nodes.data(1)]);
    busy.refused(3, "is locked: another metastore process uses this data");
    nodes.kill(1);
    let written = writers.stop().await;
    // The disk of node 2 turns up again later; that of node 3 does not.
    let old = nodes.beside("old-2");
    copy_directory(&nodes.path(2), &old);
    fs::remove_dir_all(nodes.path(2)).expect("it is there");
    fs::remove_dir_all(nodes.path(3)).expect("it is there");

    damaged_data_is_of_no_use(&nodes);
    let plan = plan_for_one(&nodes);
    let before = nodes.node_file(1);
    let apply = ["apply", "--data", &nodes.data(1), "--plan", &plan];
    let told = nodes.recover(&apply).done();
    assert!(told.contains("goes on with replica"), "{told}");
    assert!(
        told.contains("nothing was changed: --yes does it"),
        "{told}"
    );
    assert_eq!(nodes.node_file(1), before);
    interrupt(&nodes, &apply);
    let again = nodes.recover(&[&apply[..], &["--yes"]].concat()).done();
    assert!(again.contains("it is done already"), "{again}");

    nodes.launch(1);
    nodes.await_leaders(&[1], 3);
    check_filled(&nodes, &[1]).await;
    check_written(&nodes, &written).await;
    let client = nodes.client(&[1]).await;
    for directory in 0..load::DIRECTORIES {
        let key = format!("/d{directory}/new");
        let put = client.put(&key, "after").await.expect("it leads alone");
        assert!(put.revision.0 > REVISIONS_PASSED, "{}", put.revision);
    }
    old_node_is_refused(&mut nodes, &old);
    replicas_again(&mut nodes).await;
}

/// A copy that has lost a part of its log is not taken for one that ends earlier.
fn damaged_data_is_of_no_use(nodes: &Nodes) {
    let damaged = nodes.beside("damaged");
    copy_directory(&nodes.path(1), &damaged);
    // The first record with an entry, far below what is known to be durable.
    let data = damaged.display().to_string();
    let inspected = nodes
        .run(&["wal", "inspect", "--json", "--data", &data])
        .done();
    let lines = inspected.lines().map(serde_json::from_str::<Value>);
    let mut lines = lines.map(|line| line.expect("JSON"));
    let has_entry = |line: &Value| !line["record"]["parts"][0]["first_entry"].is_null();
    let record = lines.find(has_entry).expect("something was written");
    let number = |name: &str| record["record"][name].as_u64().expect("a number");
    let segment = damaged.join(format!("core-0/log-{}.seg", number("file")));
    let mut bytes = fs::read(&segment).expect("it is there");
    let offset = usize::try_from(number("offset")).expect("it is in memory");
    bytes[offset + 200] ^= 1;
    fs::write(&segment, bytes).expect("it can be written");
    let text = nodes.recover(&["report", "--data", &data]).done();
    assert!(
        text.contains("entries of its log are damaged or lost"),
        "{text}"
    );
    let report = nodes.beside("damaged.json").display().to_string();
    fs::write(&report, text).expect("it can be written");
    let plan = nodes.beside("no-plan.json").display().to_string();
    nodes
        .recover(&["plan", &report, "--out", &plan, "--lost", "2,3"])
        .refused(1, "no node that is left has a copy of shards");
}

/// The plan for node 1, once everything that may be wrong was refused.
fn plan_for_one(nodes: &Nodes) -> String {
    let data = nodes.data(1);
    nodes
        .run(&["recover", "report", "--data", &data])
        .refused(2, "--unsafe-quorum");
    let report = nodes.report(1);
    let plan = nodes.beside("plan.json").display().to_string();
    let words = ["plan", &report, "--out", &plan, "--lost"];
    let of = |lost: &str| nodes.recover(&[&words[..], &[lost]].concat());
    of("2").refused(
        1,
        "node 3 is one of the cluster's, there is no report of it",
    );
    of("1,2,3").refused(1, "node 1 has a report and is said to be lost");
    of("2,3,9").refused(1, "the cluster knows of no such node");
    let told = of("2,3").done();
    assert!(told.contains("whatever came behind entry"), "{told}");
    assert!(told.contains("the lost nodes (2, 3) never run"), "{told}");
    of("2,3").refused(3, "File exists");
    plan
}

/// The plan is carried out, and its process ends in the middle: before it has written into the log, and after it. In
/// both cases the node does not start, and the same command goes on.
fn interrupt(nodes: &Nodes, apply: &[&str]) {
    let apply = [apply, &["--yes"]].concat();
    let log = nodes.path(1).join("core-0");
    let log_before = nodes.beside("log-before");
    copy_directory(&log, &log_before);
    let done = nodes.recover(&apply).done();
    assert!(done.contains("recoveries = [\""), "{done}");
    let finished = nodes.node_file(1);
    let unfinished = finished.replace("state = \"serving\"", "state = \"recovering\"");
    assert_ne!(unfinished, finished);
    for is_log_written in [false, true] {
        fs::write(nodes.path(1).join("node.toml"), &unfinished).expect("it can be written");
        if !is_log_written {
            fs::remove_dir_all(&log).expect("it is there");
            copy_directory(&log_before, &log);
        }
        nodes
            .run(&["serve", "--data", &nodes.data(1), "--admin", "off"])
            .refused(3, "a recovery of the cluster was begun");
        nodes
            .recover(&["report", "--data", &nodes.data(1)])
            .refused(3, "a recovery of the cluster was begun");
        let told = nodes.recover(&apply).done();
        assert_eq!(told.contains("goes on with replica"), !is_log_written);
        assert_eq!(nodes.node_file(1), finished);
    }
}

/// The old data of node 2 comes back: nobody hears it, and it says why.
fn old_node_is_refused(nodes: &mut Nodes, old: &std::path::Path) {
    fs::rename(old, nodes.path(2)).expect("it is there");
    nodes.launch(2);
    nodes.await_message(2, "the cluster was recovered without this node");
    nodes.await_message(1, "it was left out when the cluster was recovered");
    assert_eq!(nodes.leaders(2), 0, "it leads nothing");
    assert_eq!(nodes.leaders(1), 3);
    nodes.kill(2);
}

/// Two new nodes join, and every shard has three replicas.
async fn replicas_again(nodes: &mut Nodes) {
    nodes.note_recovery(1);
    for node in [4, 5] {
        nodes.join(node);
        nodes.add(node, &["--learn"]).done();
    }
    let promote = ["member", "promote", "--node"];
    // Of two voters none may fail, and of three one.
    nodes
        .operate(&[&promote[..], &["4", "--give-up-spare"]].concat())
        .done();
    nodes.operate(&[&promote[..], &["5"]].concat()).done();
    assert_eq!(nodes.voters(), vec![vec![1, 4, 5]; 3]);
    nodes.await_agreement(&[1, 4, 5]);
    nodes.kill(1);
    nodes.await_leaders(&[4, 5], 3);
    check_filled(nodes, &[4, 5]).await;
}

/// Two of five copies are left of each shard. One of them goes on, the other is told that it is gone, and its node learns
/// the shard anew.
#[tokio::test]
async fn of_two_copies_one_goes_on_and_the_other_goes() {
    let all = [1, 2, 3, 4, 5];
    let mut nodes = Nodes::start("recover-two", &all, "shards = 2\nreplicas = 5\n");
    fill(&nodes, &all).await;
    for node in all {
        nodes.kill(node);
    }
    for node in [3, 4, 5] {
        fs::remove_dir_all(nodes.path(node)).expect("it is there");
    }
    let (first, second) = (nodes.report(1), nodes.report(2));
    let plan = nodes.beside("plan.json").display().to_string();
    let words = ["plan", "--out", &plan, "--lost", "3,4,5", &first, &second];
    let told = nodes.recover(&words).done();
    assert!(told.contains("whatever came behind entry"), "{told}");
    for node in [1, 2] {
        let data = nodes.data(node);
        let words = ["apply", "--data", &data, "--plan", &plan, "--yes"];
        nodes.recover(&words).done();
        nodes.launch(node);
    }
    nodes.await_leaders(&[1, 2], 2);
    check_filled(&nodes, &[1, 2]).await;
    nodes.await_replicas(&[1, 2], 2);
    for node in [1, 2] {
        nodes.add(node, &["--learn", "--fewer-than", "2"]).done();
        let number = node.to_string();
        let promote = ["member", "promote", "--give-up-spare", "--node", &number];
        nodes.operate(&promote).done();
    }
    assert_eq!(nodes.voters(), vec![vec![1, 2]; 2]);
    nodes.await_agreement(&[1, 2]);
    check_filled(&nodes, &[1, 2]).await;
}

/// Each shard has its replicas on three of five nodes, so shards differ in who is left: some have a quorum, some have one
/// copy.
#[tokio::test]
async fn shards_that_have_a_quorum_stay_as_they_are() {
    let all = [1, 2, 3, 4, 5];
    let mut nodes = Nodes::start("recover-five", &all, "shards = 5\nreplicas = 3\n");
    fill(&nodes, &all).await;
    for node in all {
        nodes.kill(node);
    }
    for node in [4, 5] {
        fs::remove_dir_all(nodes.path(node)).expect("it is there");
    }
    let left = [1, 2, 3];
    let reports: Vec<String> = left.iter().map(|&node| nodes.report(node)).collect();
    let plan = nodes.beside("plan.json").display().to_string();
    let mut words: Vec<&str> = vec!["plan", "--out", &plan, "--lost", "4,5"];
    words.extend(reports.iter().map(String::as_str));
    let told = nodes.recover(&words).done();
    assert!(told.contains("3 shards have a quorum"), "{told}");
    let apply = |nodes: &Nodes, node| {
        let data = nodes.data(node);
        let words = ["apply", "--data", &data, "--plan", &plan, "--yes"];
        nodes.recover(&words).done()
    };
    // As long as one of them has still to do its part, it is not heard.
    apply(&nodes, 1);
    apply(&nodes, 2);
    for node in left {
        nodes.launch(node);
    }
    nodes.await_message(3, "the cluster was recovered without this node");
    nodes.kill(3);
    apply(&nodes, 3);
    nodes.launch(3);
    nodes.await_leaders(&left, 5);
    check_filled(&nodes, &left).await;
    nodes.note_recovery(1);
    nodes.join(6);
    nodes.add(6, &[]).done();
    for dead in ["4", "5"] {
        let words = ["member", "replace", "--dead", dead, "--with", "6"];
        // Shards of which both are lost have no quorum to replace with: they go on with one.
        nodes.operate(&words).done();
    }
    nodes.add(6, &["--learn", "--fewer-than", "3"]).done();
    let promote = ["member", "promote", "--node", "6", "--give-up-spare"];
    nodes.operate(&promote).done();
    let voters = nodes.voters();
    let counts: Vec<usize> = voters.iter().map(Vec::len).collect();
    assert_eq!(
        counts.iter().filter(|&&count| count == 3).count(),
        3,
        "{voters:?}"
    );
    assert_eq!(
        counts.iter().filter(|&&count| count == 2).count(),
        2,
        "{voters:?}"
    );
    check_filled(&nodes, &left).await;
}
