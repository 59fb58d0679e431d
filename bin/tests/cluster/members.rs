//! Nodes that come, go and are replaced, and leaders that are moved: asked for by commands, under load.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use metastore_net::blocking::Client as PlainClient;
use metastore_net::{AdminRequest, NodeStanding, OwnedNodeEntry};
use serde_json::Value;

use crate::harness::{metastore, stderr, stdout};
use crate::load::Writers;
use crate::nodes::{NEWCOMER, Nodes, PATIENCE};

/// How long writes may stand still while a leader hands over, on a machine that is busy with other tests.
const GAP_MAX: Duration = Duration::from_secs(1);

/// A command of operators, which is told of all nodes.
fn command(nodes: &Nodes, noun: &str, words: &[&str]) -> Command {
    let addresses: Vec<_> = (1..=NEWCOMER).map(|node| nodes.address(node)).collect();
    let mut command = metastore();
    command
        .arg(noun)
        .args(words)
        .args(["--connect", &addresses.join(",")]);
    command
}

pub(crate) fn run(nodes: &Nodes, noun: &str, words: &[&str]) -> Output {
    let output = command(nodes, noun, words).output();
    output.expect("the program can be started")
}

/// The same, which must do what it is asked for.
pub(crate) fn done(nodes: &Nodes, noun: &str, words: &[&str]) -> String {
    let output = run(nodes, noun, words);
    assert!(
        output.status.success(),
        "{noun} {words:?}: {}{}",
        stdout(&output),
        stderr(&output)
    );
    stdout(&output)
}

/// The same, which must end like that and say why.
fn refused(nodes: &Nodes, noun: &str, words: &[&str], code: i32, why: &str) {
    let output = run(nodes, noun, words);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {told}");
    assert!(told.contains(why), "{words:?}: {told}");
}

/// Makes the newcomer known.
pub(crate) fn add(nodes: &Nodes, more: &[&str]) -> String {
    let node = NEWCOMER.to_string();
    let (clients, peers) = (nodes.address(NEWCOMER), nodes.peer_address(NEWCOMER));
    let cores = nodes.cores(NEWCOMER).to_string();
    let mut words = vec!["add", "--node", &node, "--clients", &clients];
    words.extend(["--peers", &peers, "--cores", &cores]);
    words.extend(more);
    done(nodes, "member", &words)
}

/// What a list says, a line each.
fn listed(nodes: &Nodes, noun: &str) -> Vec<Value> {
    let text = done(nodes, noun, &["list", "--json"]);
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON")
}

/// On which nodes each shard has members, and what these are.
fn members(nodes: &Nodes) -> Vec<Vec<(u64, String)>> {
    let of_shard = |shard: &Value| {
        let members = shard["members"].as_array().expect("members").iter();
        let members = members.map(|member| {
            let part = member["part"].as_str().expect("a part");
            (member["node"].as_u64().expect("a node"), part.to_owned())
        });
        let mut members: Vec<_> = members.collect();
        members.sort_unstable();
        members
    };
    let shards = listed(nodes, "shard");
    for shard in &shards {
        assert_eq!(shard["joint"], false, "{shard}");
        assert!(!shard["leader"].is_null(), "{shard}");
    }
    shards.iter().map(of_shard).collect()
}

fn all_vote(on: [u64; 3]) -> Vec<(u64, String)> {
    on.map(|node| (node, "voter".to_owned())).into()
}

/// Some of everything, before anything happens.
pub(crate) async fn fill(nodes: &Nodes) {
    let client = nodes.client_of(&[1, 2]).await;
    for directory in 0..24 {
        let key = format!("/d{directory}/old");
        client
            .put(&key, &vec![b'x'; 10_000])
            .await
            .expect("a cluster that is well");
    }
}

#[tokio::test]
async fn a_lost_node_is_replaced_under_load_and_no_request_fails() {
    let mut nodes = Nodes::start("cluster-replace", 2, 6, &[]);
    fill(&nodes).await;
    nodes.join();
    let told = add(&nodes, &[]);
    assert_eq!(told.lines().count(), 3, "{told}");
    nodes.kill(3);
    nodes.await_leaders();
    // Writes that were under way when the node was killed are of no interest here.
    let client = nodes.client_of(&[1, 2]).await;
    let writers = Writers::start(&client);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let replace = ["replace", "--dead", "3", "--with", "4"];
    let told = done(&nodes, "member", &replace);
    assert!(told.contains("6 shards changed"), "{told}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written = writers.stop().await;
    assert!(written.failed.is_empty(), "{:?}", written.failed);
    assert!(written.unknown.is_empty(), "{:?}", written.unknown);
    assert_eq!(members(&nodes), vec![all_vote([1, 2, 4]); 6]);
    nodes.await_agreement_of([1, 2, 4]);
    let again = done(&nodes, "member", &replace);
    assert!(
        again.contains("0 shards changed, 6 with nothing"),
        "{again}"
    );
    let known = listed(&nodes, "member");
    assert_eq!(known.len(), 4);
    assert_eq!(
        (&known[2]["answers"], &known[2]["voters"]),
        (&false.into(), &0.into())
    );
    assert_eq!(
        (&known[3]["answers"], &known[3]["voters"]),
        (&true.into(), &6.into())
    );
    // It counts: with another one gone, everything is there and more can be written.
    nodes.kill(1);
    let client = nodes.client_of(&[2, 4]).await;
    written.check(&client).await;
    client.put("/d0/more", "x").await.expect("two of three");
}

#[tokio::test]
async fn a_replacement_that_was_interrupted_goes_on_with_what_is_there() {
    let mut nodes = Nodes::start("cluster-interrupted", 1, 4, &[]);
    fill(&nodes).await;
    nodes.join();
    add(&nodes, &[]);
    nodes.kill(3);
    nodes.await_leaders();
    let replace = ["replace", "--dead", "3", "--with", "4", "--at-once", "1"];
    for word in ["learns", "votes"] {
        let mut child = command(&nodes, "member", &replace)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let told = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut told = told.lines().map(|line| line.expect("text"));
        assert!(told.any(|line| line.contains(word)), "it never {word}");
        child.kill().expect("it runs or has ended");
        child.wait().expect("it ends");
    }
    let told = done(&nodes, "member", &replace);
    assert!(told.contains("0 not done"), "{told}");
    assert_eq!(members(&nodes), vec![all_vote([1, 2, 4]); 4]);
    nodes.await_agreement_of([1, 2, 4]);
    let replicas = nodes.replicas(NEWCOMER).expect("it answers");
    assert_eq!(replicas.len(), 4, "one of each shard");
}

#[tokio::test]
async fn a_node_learns_votes_goes_and_comes_back() {
    let mut nodes = Nodes::start("cluster-moves", 2, 5, &[]);
    fill(&nodes).await;
    nodes.join();
    add(&nodes, &["--learn"]);
    let learns = [all_vote([1, 2, 3]), vec![(4, "learner".to_owned())]].concat();
    assert_eq!(members(&nodes), vec![learns; 5]);
    done(&nodes, "member", &["promote", "--node", "4"]);
    let votes = [all_vote([1, 2, 3]), vec![(4, "voter".to_owned())]].concat();
    assert_eq!(members(&nodes), vec![votes; 5]);
    done(&nodes, "member", &["remove", "--node", "3"]);
    assert_eq!(members(&nodes), vec![all_vote([1, 2, 4]); 5]);
    assert_eq!(nodes.replicas(3).expect("it answers").len(), 0);
    // Whoever asks a node where nothing lives any more is sent on.
    let client = nodes.client_of(&[3]).await;
    client.put("/d0/k", "x").await.expect("it is sent on");
    let short = "shard 4 would have 2 healthy of 2, and needs 3";
    refused(&nodes, "member", &["remove", "--node", "2"], 1, short);
    assert_eq!(members(&nodes), vec![all_vote([1, 2, 4]); 5]);
    // It comes back where it was in the beginning, before and after a start.
    let back = ["replace", "--dead", "2", "--with", "3", "--even-if-alive"];
    done(&nodes, "member", &back);
    assert_eq!(members(&nodes), vec![all_vote([1, 3, 4]); 5]);
    assert_eq!(nodes.replicas(2).expect("it answers").len(), 0);
    nodes.stop(3);
    nodes.launch(3);
    nodes.await_some(|nodes| nodes.replicas(3));
    nodes.await_agreement_of([1, 3, 4]);
    let client = nodes.client_of(&[1, 3, 4]).await;
    for directory in 0..24 {
        let row = client.get(&format!("/d{directory}/old")).await;
        assert!(row.expect("a cluster that is well").row.is_some());
    }
    let alone = ["remove", "--node", "1", "--give-up-spare"];
    done(&nodes, "member", &alone);
    client.put("/d0/k", "y").await.expect("two of two");
}

/// What a node tells of all nodes: their ids, their data, and whether they are gone.
fn told(nodes: &Nodes, node: u16) -> Option<Vec<(u32, u64, bool)>> {
    let mut client = PlainClient::connect(nodes.address(node), PATIENCE).ok()?;
    let told = client.admin(&AdminRequest::Nodes).ok()?.nodes;
    let entry = |entry: OwnedNodeEntry| {
        let is_gone = entry.standing == NodeStanding::Gone;
        (entry.node_id, entry.data_id, is_gone)
    };
    let mut told: Vec<_> = told.into_iter().map(entry).collect();
    told.sort_unstable();
    Some(told)
}

#[tokio::test]
async fn nodes_tell_each_other_which_data_a_node_has_that_they_never_met() {
    let mut nodes = Nodes::start("cluster-data", 1, 3, &[]);
    nodes.join();
    nodes.kill(2);
    nodes.await_leaders();
    add(&nodes, &[]);
    let own = told(&nodes, NEWCOMER).expect("it answers")[3];
    assert_ne!(own.1, 0);
    for node in [1, 3] {
        assert_eq!(told(&nodes, node).expect("it answers")[3], own);
    }
    // Who was away hears of it, data included, although nothing has gone between the two.
    nodes.launch(2);
    nodes.await_some(|nodes| (told(nodes, 2)?.get(3) == Some(&own)).then_some(()));
}

#[tokio::test]
async fn a_node_that_is_gone_is_forgotten_and_its_addresses_are_used_again() {
    let mut nodes = Nodes::start("cluster-forget", 1, 3, &[]);
    fill(&nodes).await;
    nodes.join();
    add(&nodes, &[]);
    let forget = |node| ["forget", "--node", node];
    refused(&nodes, "member", &forget("9"), 2, "there is no node 9");
    refused(&nodes, "member", &forget("3"), 1, "node 3 answers at");
    nodes.kill(3);
    nodes.await_leaders();
    let why = "node 3 has members of shards 0, 1 and 2";
    refused(&nodes, "member", &forget("3"), 1, why);
    done(&nodes, "member", &["replace", "--dead", "3", "--with", "4"]);
    // One that is away hears of it later.
    nodes.stop(2);
    nodes.await_some(|nodes| {
        (0..3)
            .all(|shard| nodes.leader(shard).is_some())
            .then_some(())
    });
    let text = done(&nodes, "member", &forget("3"));
    assert!(text.contains("node 1 has it off its list"), "{text}");
    assert!(text.contains("node 2 was not told"), "{text}");
    assert!(text.contains("node 4 has it off its list"), "{text}");
    nodes.launch(2);
    let is_gone = |nodes: &Nodes, node| {
        let told = told(nodes, node)?;
        let entry = told.iter().find(|(id, ..)| *id == 3)?;
        entry.2.then_some(())
    };
    nodes.await_some(|nodes| is_gone(nodes, 2));
    let ids = |nodes: &Nodes| {
        let rows = listed(nodes, "member").into_iter();
        rows.map(|row| row["node"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&nodes), [Some(1), Some(2), Some(4)]);
    // It comes back and is not heard, and its id is not given again.
    nodes.launch(3);
    nodes.await_some(|nodes| (nodes.counter(1, "peer_links_refused") > 0).then_some(()));
    nodes.kill(3);
    let (clients, peers) = (nodes.address(3), nodes.peer_address(3));
    let again = |id| {
        let words = [
            "add",
            "--node",
            id,
            "--clients",
            &clients,
            "--peers",
            &peers,
        ];
        run(&nodes, "member", &[&words[..], &["--cores", "1"]].concat())
    };
    let told_so = stderr(&again("3"));
    assert!(told_so.contains("its id is never used again"), "{told_so}");
    let another = again("5");
    assert!(another.status.success(), "{}", stderr(&another));
    assert_eq!(ids(&nodes).len(), 4);
}

#[tokio::test]
async fn the_lead_is_handed_over_without_a_failed_write() {
    let nodes = Nodes::start("cluster-transfer", 1, 3, &[]);
    let client = nodes.client().await;
    let writers = Writers::start(&client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leader = nodes.await_some(|nodes| nodes.leader(0));
    let to = (leader % 3 + 1).to_string();
    let words = ["transfer-leader", "--shard", "0", "--to", &to, "--json"];
    let told: Value = serde_json::from_str(&done(&nodes, "shard", &words)).expect("JSON");
    assert_eq!(told["node"].to_string(), to);
    assert_eq!(told["transferred"], true);
    let again: Value = serde_json::from_str(&done(&nodes, "shard", &words)).expect("JSON");
    assert_eq!(again["transferred"], false, "it leads already");
    let anybody = ["transfer-leader", "--shard", "0"];
    let told = done(&nodes, "shard", &anybody);
    assert!(!told.starts_with(&format!("node {to} ")), "{told}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let written = writers.stop().await;
    assert!(written.failed.is_empty(), "{:?}", written.failed);
    assert!(written.unknown.is_empty(), "{:?}", written.unknown);
    assert!(written.longest_gap < GAP_MAX, "{:?}", written.longest_gap);
    written.check(&client).await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let mut nodes = Nodes::start("cluster-refused", 1, 3, &[]);
    let member = |words: &[&str], code, why: &str| refused(&nodes, "member", words, code, why);
    let shard = |words: &[&str], code, why: &str| refused(&nodes, "shard", words, code, why);
    let known = "there is no node 9: the cluster knows of 1, 2 and 3";
    member(&["replace", "--dead", "9", "--with", "2"], 2, known);
    member(&["replace", "--dead", "2", "--with", "9"], 2, known);
    member(&["promote", "--node", "9"], 2, known);
    member(&["remove", "--node", "9"], 2, known);
    let same = "--dead and --with name the same node";
    member(&["replace", "--dead", "2", "--with", "2"], 2, same);
    let alive = format!("node 2 answers at {}", nodes.address(2));
    member(&["replace", "--dead", "2", "--with", "3"], 1, &alive);
    let taken = nodes.address(1);
    let words = ["add", "--node", "9", "--clients", &taken, "--peers"];
    let words = [&words[..], &["127.0.0.1:9", "--cores", "1"]].concat();
    member(&words, 1, "no node knows of node 9 now");
    let unknown = "there is no shard 7: the cluster has 3, from 0 on";
    shard(&["transfer-leader", "--shard", "7"], 2, unknown);
    let to_nobody = ["transfer-leader", "--shard", "0", "--to", "9"];
    shard(&to_nobody, 2, known);
    nodes.kill(3);
    nodes.await_leaders();
    let member = |words: &[&str], code, why: &str| refused(&nodes, "member", words, code, why);
    let has_one = "name another node by --with";
    member(&["replace", "--dead", "3", "--with", "2"], 1, has_one);
    let silent = "node 3 does not answer";
    member(&["replace", "--dead", "2", "--with", "3"], 3, silent);
}

#[tokio::test]
async fn members_of_shards_that_sleep_are_told_to_be_well_as_long_as_they_are() {
    let mut nodes = Nodes::start("cluster-asleep", 1, 3, &[]);
    // Until shards without work have gone to sleep, and whoever spoke before that was not heard of for long.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let healthy = |nodes: &Nodes, node: u64| {
        let shards = listed(nodes, "shard");
        let members = shards.iter().flat_map(|shard| {
            let members = shard["members"].as_array().expect("members").iter();
            members.filter(|member| member["node"] == node)
        });
        let said: Vec<_> = members.map(|member| member["healthy"].clone()).collect();
        assert_eq!(said.len(), 3, "{shards:?}");
        said
    };
    assert_eq!(healthy(&nodes, 3), [true, true, true]);
    nodes.kill(3);
    nodes.await_leaders();
    nodes.await_some(|nodes| (healthy(nodes, 3) == [false, false, false]).then_some(()));
}
