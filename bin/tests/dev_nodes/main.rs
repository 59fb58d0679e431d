//! `metastore dev --nodes`: a cluster by one command.

#[path = "../harness/mod.rs"]
mod harness;
mod serving;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use harness::{TestDirectory, free_ports, metastore, refused, stderr, stdout};

/// What small nodes are started with.
const SMALL: [&str; 6] = [
    "--segment-bytes",
    "8MiB",
    "--wal-budget",
    "1GiB",
    "--flush",
    "dsync",
];

/// A node of `dev --nodes`, which this test starts in its parent's place.
#[test]
fn a_node_ends_in_order_when_its_standard_input_does() {
    let directory = TestDirectory::new("dev-node");
    let port = free_ports(1).to_string();
    let mut child = metastore()
        .args(["dev", "--dev-node", "--cores", "1", "--port", &port])
        .args(SMALL)
        .arg("--data")
        .arg(directory.path().join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let output = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let first = lines.next().expect("it serves");
    assert_eq!(first.expect("a pipe can be read"), "serving");
    let address = format!("127.0.0.1:{port}");
    let put = metastore()
        .args(["put", "--connect", &address, "/a", "1"])
        .output()
        .expect("the program can be started");
    assert_eq!(put.status.code(), Some(0), "{}", stderr(&put));
    drop(child.stdin.take());
    let status = child.wait().expect("it ends");
    let mut errors = String::new();
    let mut rest = child.stderr.take().expect("it is piped");
    rest.read_to_string(&mut errors)
        .expect("a pipe can be read");
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(errors.contains("stopped"), "{errors}");
}

#[test]
fn what_does_not_fit_is_refused_and_makes_nothing() {
    let directory = TestDirectory::new("dev-nodes-refused");
    let data = directory.path().join("data");
    for (more, expected) in [
        (&["--nodes", "0"][..], "0 is not in 1..=64"),
        (&["--nodes", "65"], "65 is not in 1..=64"),
        (
            &["--nodes", "3", "--cores", "400"],
            "3 nodes of 400 cores from port 7400 on do not fit",
        ),
        (
            &["--nodes", "3", "--port", "65000"],
            "3 nodes of 1 cores from port 65000 on do not fit",
        ),
        (
            &["--nodes", "3", "--listen", "0.0.0.0"],
            "listen.address (--listen): \"0.0.0.0:7400\" is no address that others can connect to",
        ),
        (
            &["--nodes", "3", "--set", "peers.port=8000"],
            "peers.port would be the same for every node",
        ),
        (
            &["--nodes", "3", "--set", "listen.advertise=db1"],
            "listen.advertise would be the same for every node",
        ),
        (
            &["--nodes", "3", "--fail-log-write", "1"],
            "cannot be used with",
        ),
    ] {
        let output = metastore()
            .arg("dev")
            .args(more)
            .arg("--data")
            .arg(&data)
            .output()
            .expect("the program can be started");
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert!(!data.exists(), "{more:?}");
    }
}

/// Makes the data of a cluster of two nodes in `data`, at this port.
fn make(data: &Path, port: u16) {
    let port = port.to_string();
    let node = |offset: u16| {
        let port: u16 = port.parse().expect("a number");
        format!("127.0.0.1:{}", port + offset)
    };
    let text = stdout(
        &metastore()
            .args(["cluster", "new", "--node", &node(0), "--node", &node(1)])
            .args(["--peer-port-offset", "1000"])
            .output()
            .expect("the program can be started"),
    );
    fs::create_dir_all(data).expect("it can be made");
    let file = data.join("cluster.toml");
    fs::write(&file, text).expect("it can be written");
    for node in ["1", "2"] {
        let formatted = metastore()
            .args(["format", "--node", node, "--cluster"])
            .arg(&file)
            .arg("--data")
            .arg(data.join(format!("node-{node}")))
            .args(SMALL)
            .output()
            .expect("the program can be started");
        assert_eq!(formatted.status.code(), Some(0), "{}", stderr(&formatted));
    }
}

#[test]
fn data_that_is_not_that_of_the_cluster_is_left_alone() {
    let directory = TestDirectory::new("dev-nodes-data");
    let port = free_ports(2);
    let refusal = |data: &Path, more: &[&str]| {
        let small = ["--wal-budget", "1GiB"];
        refused(data, port, &[&small[..], more].concat())
    };
    let strange = directory.path().join("strange");
    fs::create_dir(&strange).expect("it can be made");
    fs::write(strange.join("thesis.txt"), "important").expect("it can be written");
    let (code, errors) = refusal(&strange, &["--nodes", "2"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("holds no cluster.toml"), "{errors}");
    assert_eq!(fs::read_dir(&strange).expect("it can be read").count(), 1);

    let data = directory.path().join("data");
    let (code, errors) = refusal(&data, &["--nodes", "2", "--format", "never"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("holds no store") && !data.exists(),
        "{errors}"
    );
    make(&data, port);
    for (more, expected) in [
        (&["--nodes", "3"][..], "with nodes = 2, and 3 was asked for"),
        (&["--nodes", "2", "--cores", "2"], "with cores = 1, and 2"),
        (&["--nodes", "2", "--shards", "9"], "with shards = 2, and 9"),
        (
            &["--nodes", "2", "--set", "history.max_age=1m"],
            "with history.max_age in milliseconds = 300000, and 60000",
        ),
    ] {
        let (code, errors) = refusal(&data, more);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }

    // One node of another cluster.
    let other = directory.path().join("other");
    make(&other, port);
    fs::remove_dir_all(data.join("node-2")).expect("it can be removed");
    fs::rename(other.join("node-2"), data.join("node-2")).expect("it can be moved");
    let (code, errors) = refusal(&data, &["--nodes", "2"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("is not the data of node 2"), "{errors}");
}

#[test]
fn a_node_that_served_does_not_come_back_empty() {
    let directory = TestDirectory::new("dev-nodes-lost");
    let data = directory.path().join("data");
    let port = free_ports(2);
    make(&data, port);
    let node = data.join("node-1/node.toml");
    let text = fs::read_to_string(&node).expect("it is formatted");
    let served = text.replace("state = \"formatted\"", "state = \"serving\"");
    fs::write(&node, served).expect("it can be written");
    fs::remove_dir_all(data.join("node-2")).expect("it can be removed");
    let (code, errors) = refused(&data, port, &["--nodes", "2"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(
        errors.contains("node-2 holds no data, and other nodes of the cluster have served"),
        "{errors}"
    );
    assert!(!data.join("node-2").exists());
}
