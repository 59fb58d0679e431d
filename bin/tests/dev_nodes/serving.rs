//! A cluster that serves: its life by one command.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Store, TestDirectory, free_ports, metastore, stderr, stdout};

/// How far above those for clients the ports for other nodes are.
const PEER_PORT_OFFSET: u16 = 1_000;
/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first of three ports that are free, as are those for other nodes.
fn ports() -> u16 {
    loop {
        let first = free_ports(3);
        let peers = first + PEER_PORT_OFFSET;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (peers..peers + 3).all(is_free) {
            return first;
        }
    }
}

/// Starts three nodes and waits until all of them serve.
fn start(data: &Path, port: u16) -> Store {
    Store::start_at(port, data, 1, &["--nodes", "3"])
}

/// The process of a node, as the greeting names it.
fn process_of(store: &Store, node: u16) -> String {
    let lines = &mut store.greeting.lines();
    let line = lines.find(|line| line.trim_start().starts_with(&format!("node {node} ")));
    let line = line.unwrap_or_else(|| panic!("node {node} in {}", store.greeting));
    line.rsplit(' ')
        .next()
        .expect("it ends with one")
        .to_owned()
}

/// A command against a node, which may have to wait until somebody leads.
fn ask(store: &Store, node: u16, arguments: &[&str]) -> String {
    let (name, rest) = arguments.split_first().expect("a command");
    let address = format!("127.0.0.1:{}", store.port + node - 1);
    let output = metastore()
        .args([name, "--timeout", "30s", "--connect", &address])
        .args(rest)
        .output()
        .expect("the program can be started");
    assert_eq!(
        output.status.code(),
        Some(0),
        "node {node}, {arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

/// Waits until no process uses the data of a node.
fn await_unused(data: &Path) {
    let began = Instant::now();
    let lock = fs::File::open(data.join("lock")).expect("it was used");
    while lock.try_lock().is_err() {
        assert!(began.elapsed() < PATIENCE, "{} is in use", data.display());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_takes_changes_at_any_node_and_loses_none_when_one_is_killed() {
    let directory = TestDirectory::new("dev-nodes");
    let data = directory.path().join("data");
    let store = start(&data, ports());
    assert!(
        store.greeting.contains("a cluster of 3 nodes"),
        "{}",
        store.greeting
    );
    for node in 1..=3 {
        let key = format!("/directory-{node}/file");
        ask(&store, node, &["put", &key, "before"]);
    }
    for node in 1..=3 {
        for other in 1..=3 {
            let key = format!("/directory-{other}/file");
            let value = ask(&store, node, &["get", &key]);
            assert_eq!(value.lines().last(), Some("before"));
        }
    }
    let victim = process_of(&store, 3);
    let killed = Command::new("kill").args(["-9", &victim]).status();
    assert!(killed.expect("kill can be started").success());
    for number in 0..12 {
        let key = format!("/later-{number}/file");
        ask(&store, 1, &["put", &key, "after"]);
        assert_eq!(ask(&store, 2, &["get", &key]).lines().last(), Some("after"));
    }
    let value = ask(&store, 2, &["get", "/directory-3/file"]);
    assert_eq!(value.lines().last(), Some("before"));

    let port = store.port;
    store.signal("TERM");
    let (code, errors, _) = store.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        errors.contains("a node has ended by itself node=3") && errors.contains("nodes_left=2"),
        "{errors}"
    );
    assert!(
        errors
            .lines()
            .any(|line| line.starts_with("node 1: ") && line.contains("stopped")),
        "{errors}"
    );

    let store = start(&data, port);
    for node in 1..=3 {
        let value = ask(&store, node, &["get", "/later-11/file"]);
        assert_eq!(value.lines().last(), Some("after"));
    }
}

#[test]
fn the_nodes_end_with_the_process_that_started_them_however_it_ends() {
    for signal in ["KILL", "INT"] {
        let directory = TestDirectory::new("dev-nodes-end");
        let data = directory.path().join("data");
        let store = start(&data, ports());
        store.signal(signal);
        let (code, errors, _) = store.wait();
        let expected = (signal == "INT").then_some(0);
        assert_eq!(code, expected, "{errors}");
        for node in 1..=3 {
            await_unused(&data.join(format!("node-{node}")));
        }
    }
}
