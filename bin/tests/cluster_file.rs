//! A cluster before it runs: its file, and the data of its nodes.

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harness::{TestDirectory, metastore, refused, stderr, stdout};

/// Runs a command that ends by itself: its exit code, its output and its errors.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = metastore()
        .args(arguments)
        .output()
        .expect("the program can be started");
    (output.status.code(), stdout(&output), stderr(&output))
}

const THREE_NODES: [&str; 8] = [
    "cluster",
    "new",
    "--node",
    "127.0.0.1:7410",
    "--node",
    "127.0.0.1:7420",
    "--node",
    "127.0.0.1:7430",
];

/// The file of a cluster of three nodes in `directory`.
fn cluster_file(directory: &Path) -> PathBuf {
    let (code, text, errors) = run(&THREE_NODES);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let path = directory.join("cluster.toml");
    fs::write(&path, text).expect("it can be written");
    path
}

/// Formats `data` as a node of the cluster.
fn format(file: &Path, node: &str, data: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let (file, data) = (file.to_string_lossy(), data.to_string_lossy());
    let own = [
        "format",
        "--cluster",
        &file,
        "--node",
        node,
        "--data",
        &data,
    ];
    let small = [
        "--segment-bytes",
        "8MiB",
        "--wal-budget",
        "1GiB",
        "--flush",
        "dsync",
    ];
    run(&[&own[..], &small, more].concat())
}

#[test]
fn a_new_cluster_is_printed_with_a_name_of_its_own() {
    let (code, first, errors) = run(&THREE_NODES);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for expected in [
        "\nshards = 3\n",
        "\nreplicas = 3\n",
        "\n[history]\nmax_revisions = 100000\nmax_age = \"5m\"\nmax_bytes = \"64MiB\"\n",
        "[[node]]\nid = 2\nclients = \"127.0.0.1:7420\"\npeers = \"127.0.0.1:7520\"\ncores = 1\n",
    ] {
        assert!(first.contains(expected), "{first}");
    }
    let (_, second, _) = run(&THREE_NODES);
    let id = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("cluster = "));
        line.expect("it has a name").to_owned()
    };
    assert_ne!(id(&first), id(&second));
    let more = [
        "--cores",
        "2",
        "--shards",
        "7",
        "--replicas",
        "2",
        "--peer-port-offset",
        "5",
    ];
    let (code, text, errors) = run(&[&THREE_NODES[..], &more].concat());
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        errors.contains("of 2 replicas no more may be lost than of 1"),
        "{errors}"
    );
    assert!(
        text.contains("\nshards = 7\n") && text.contains("peers = \"127.0.0.1:7425\"\ncores = 2"),
        "{text}"
    );
}

#[test]
fn a_cluster_that_cannot_be_is_not_printed() {
    for (more, expected) in [
        (
            &["--replicas", "4"][..],
            "replicas is 4, and there are 3 nodes",
        ),
        (
            &["--replicas", "0"],
            "replicas is 0, it must lie between 1 and 7",
        ),
        (
            &["--shards", "16385"],
            "shards is 16385, it must lie between 1 and 16384",
        ),
        (
            &["--cores", "0"],
            "node 1: cores is 0, it must lie between 1 and 1024",
        ),
        (
            &["--cores", "11"],
            "node 2: clients of its cores include 127.0.0.1:7420, which clients of node 1",
        ),
        (
            &["--peer-port-offset", "10"],
            "node 2: clients of its cores include 127.0.0.1:7420, which peers of node 1",
        ),
        (
            &["--peer-port-offset", "60000"],
            "--peer-port-offset 60000: the port for other nodes of --node 127.0.0.1:7410",
        ),
        (&["--node", "127.0.0.1"], "has no port; write it like"),
    ] {
        let (code, out, errors) = run(&[&THREE_NODES[..], more].concat());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    let (code, _, errors) = run(&["cluster", "new"]);
    assert_eq!(code, Some(2), "{errors}");
}

#[test]
fn every_node_is_formatted_from_the_same_file() {
    let directory = TestDirectory::new("cluster-format");
    let file = cluster_file(directory.path());
    let (mut clusters, mut maps) = (Vec::new(), BTreeSet::new());
    let mut data_ids = BTreeSet::new();
    for node in ["1", "2", "3"] {
        let data = directory.path().join(format!("node-{node}"));
        let (code, out, errors) = format(&file, node, &data, &[]);
        assert_eq!(code, Some(0), "{errors}");
        assert!(
            out.contains(&format!("as node {node} of cluster"))
                && out.contains("3 of 3 shards; clients at 127.0.0.1:74"),
            "{out}"
        );
        let (_, map) = out.rsplit_once(' ').expect("the map comes last");
        maps.insert(map.to_owned());
        let text = fs::read_to_string(data.join("node.toml")).expect("it is formatted");
        assert!(
            text.contains("format = 3\n") && text.contains(&format!("\nnode = {node}\n")),
            "{text}"
        );
        let plan = text
            .split_once("[[cluster_node]]")
            .expect("it knows the others")
            .1;
        // Behind it stands which data this node has, which is its own.
        let (plan, data_id) = plan.split_once("[[cluster_data]]").expect("it has data");
        clusters.push(plan.to_owned());
        data_ids.insert(data_id.to_owned());
        let (code, _, errors) = format(&file, node, &data, &[]);
        assert_eq!(code, Some(3));
        assert!(errors.contains("already"), "{errors}");
    }
    assert!(
        clusters.iter().all(|plan| *plan == clusters[0]),
        "all know the same"
    );
    assert_eq!(maps.len(), 1, "{maps:?}");
    assert_eq!(data_ids.len(), clusters.len(), "{data_ids:?}");
}

#[test]
fn what_the_file_does_not_allow_is_refused_and_makes_nothing() {
    let directory = TestDirectory::new("cluster-refused");
    let file = cluster_file(directory.path());
    let data = directory.path().join("data");
    for (node, more, expected) in [
        (
            "4",
            &[][..],
            "--node 4: the cluster has no such node, it has 1, 2, 3",
        ),
        (
            "1",
            &["--cores", "2"],
            "cores (--cores) = 2 contradicts the file of the cluster, which says 1 for node 1",
        ),
        (
            "1",
            &["--shards", "4"],
            "shards (--shards) = 4 contradicts the file of the cluster, which says 3",
        ),
        (
            "1",
            &["--set", "history.max_revisions=5"],
            "history.max_revisions = 5 contradicts the file",
        ),
        (
            "1",
            &["--set", "listen.advertise=db1"],
            "listen.advertise = db1 contradicts the data",
        ),
        (
            "1",
            &["--set", "peers.port=7410"],
            "127.0.0.1:7410 would be for clients and for other nodes",
        ),
    ] {
        let (code, _, errors) = format(&file, node, &data, more);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    let text = fs::read_to_string(&file).expect("it can be read");
    fs::write(&file, text.replace("id = 3", "id = 1")).expect("it can be written");
    let (code, _, errors) = format(&file, "1", &data, &[]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("cluster.toml: two nodes have id = 1"),
        "{errors}"
    );
    let (code, _, errors) = run(&["format", "--node", "1"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--cluster"), "{errors}");
    assert!(!data.exists());
}

#[test]
fn what_was_fixed_by_the_cluster_is_not_changed_by_a_start() {
    let directory = TestDirectory::new("cluster-fixed");
    let file = cluster_file(directory.path());
    let data = directory.path().join("data");
    let (code, _, errors) = format(&file, "2", &data, &[]);
    assert_eq!(code, Some(0), "{errors}");
    let before = fs::read(data.join("node.toml")).expect("it is formatted");
    for (more, expected) in [
        (
            &["--cores", "2"][..],
            "the data is laid out for 1 cores, but 2 were asked for",
        ),
        (
            &["--shards", "1"],
            "the data has 3 shards, but 1 were asked for",
        ),
        (
            &["--set", "history.max_age=1m"],
            "history.max_age in milliseconds is fixed",
        ),
        (
            &["--set", "listen.advertise=db1"],
            "where clients are told 127.0.0.1:7420",
        ),
        (&["--set", "peers.port=65536"], "peers.port is \"65536\""),
    ] {
        let small = ["--wal-budget", "1GiB"];
        let (code, errors) = refused(&data, 7420, &[more, &small].concat());
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    assert_eq!(fs::read(data.join("node.toml")).expect("still"), before);
}

#[test]
fn the_log_of_a_new_node_of_a_cluster_can_be_looked_at() {
    let directory = TestDirectory::new("cluster-wal");
    let text = stdout(
        &metastore()
            .args(THREE_NODES)
            .args(["--replicas", "1", "--shards", "2"])
            .output()
            .expect("the program can be started"),
    );
    let file = directory.path().join("cluster.toml");
    fs::write(&file, text).expect("it can be written");
    // The third has no replica at all.
    for node in ["1", "3"] {
        let data = directory.path().join(format!("node-{node}"));
        let (code, _, errors) = format(&file, node, &data, &[]);
        assert_eq!(code, Some(0), "{errors}");
        let (code, out, errors) = run(&["wal", "verify", "--data", &data.to_string_lossy()]);
        assert_eq!(code, Some(0), "{out}{errors}");
    }
}

#[test]
fn a_node_that_is_alone_listens_for_no_other_nodes() {
    let directory = TestDirectory::new("cluster-alone");
    let data = directory.path().join("data");
    for (more, expected) in [
        (
            "peers.port=7500",
            "peers.port is set, and the data is that of a node that is alone",
        ),
        ("peers.address=127.0.0.1", "peers.address is set"),
        (
            "listen.address=0.0.0.0",
            "listen.advertise = auto contradict each other",
        ),
    ] {
        let (code, _, errors) = run(&[
            "format",
            "--data",
            &data.to_string_lossy(),
            "--cores",
            "1",
            "--set",
            more,
        ]);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    assert!(!data.exists());
}
