use super::*;
use crate::test_directory::TestDirectory;

#[test]
fn a_file_survives_the_round_trip_and_is_replaced_whole() {
    let directory = TestDirectory::new("node-file");
    assert_eq!(
        NodeFile::read(directory.path()).expect("no file is fine"),
        None
    );
    let mut file = sample();
    file.write(directory.path()).expect("writes");
    file.state = NodeState::Serving;
    file.write(directory.path()).expect("writes again");
    assert_eq!(NodeFile::read(directory.path()).expect("reads"), Some(file));
}

#[test]
fn data_from_before_the_history_was_a_choice_has_the_defaults() {
    let directory = TestDirectory::new("node-file-history");
    let file = NodeFile {
        history: HistoryBounds::default(),
        ..sample()
    };
    file.write(directory.path()).expect("writes");
    let path = directory.path().join(FILE_NAME);
    let text = fs::read_to_string(&path).expect("reads");
    let (before, after) = text.split_once("[history]").expect("it is written");
    let (_, replicas) = after.split_once("[[replica]]").expect("they come last");
    fs::write(&path, format!("{before}[[replica]]{replicas}")).expect("writes");
    assert_eq!(NodeFile::read(directory.path()).expect("reads"), Some(file));
}

#[test]
fn a_newer_format_is_named() {
    let directory = TestDirectory::new("node-file-newer");
    fs::write(
        directory.path().join(FILE_NAME),
        "format = 99\nnew_key = 1\n",
    )
    .expect("writes");
    let error = NodeFile::read(directory.path()).expect_err("newer");
    assert!(
        matches!(error, StartError::NodeFileFormat { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn an_unknown_key_is_named() {
    let directory = TestDirectory::new("node-file-key");
    sample().write(directory.path()).expect("writes");
    let path = directory.path().join(FILE_NAME);
    let text = fs::read_to_string(&path).expect("reads");
    fs::write(&path, format!("surprise = 1\n{text}")).expect("writes");
    let error = NodeFile::read(directory.path())
        .expect_err("unknown key")
        .to_string();
    assert!(error.contains("surprise"), "{error}");
}

/// What earlier programs wrote of a node that is alone, and what they read.
#[test]
fn a_node_that_is_alone_is_written_as_ever() {
    let golden = "format = 2\ncluster = \"0000000000000000000000000000abcd\"\nnode = 1\nseal = \"000000000000feed\"\nstate = \"formatted\"\nflush_method = \"write-then-sync\"\ncores = 2\nsegment_bytes = 67108864\nrecord_bytes_max = 4194304\n\n[history]\nrevisions_max = 100000\nage_ms_max = 60000\nbytes_max = 67108864\n\n[[replica]]\nreplica = 1\nshard = 0\ncore = 0\n\n[[replica]]\nreplica = 2\nshard = 1\ncore = 1\n\n[[replica]]\nreplica = 3\nshard = 2\ncore = 0\n";
    assert_eq!(sample().to_text(), golden);
    let read = NodeFile::parse(PathBuf::from("F"), golden);
    assert_eq!(read.expect("it can be read"), sample());
}

#[test]
fn a_node_of_a_cluster_is_written_with_all_that_it_knows_of_the_others() {
    let file = clustered_sample();
    let text = file.to_text();
    assert!(text.starts_with("format = 3\n"), "{text}");
    for expected in [
        "[[cluster_node]]\nid = 2\nclients = \"10.0.0.2:7400\"\npeers = \"10.0.0.2:8500\"\ncores = 2\n",
        "[[cluster_member]]\nshard = 0\nreplica = 2\nnode = 2\ncore = 1\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let read = NodeFile::parse(PathBuf::from("F"), &text).expect("it can be read");
    assert_eq!(read, file);
    assert_eq!((read.shards(), read.replicas.len()), (4, 2));
    assert_eq!(read.entry().map(|entry| entry.node), Some(NodeId(3)));
    // A node may have no replica at all.
    let mut new = crate::node::cluster::tests::new_cluster(&[1, 1]);
    (new.shards, new.replicas) = (Some(1), Some(1));
    let plan = new.place().expect("it can be");
    let idle = NodeFile {
        cluster: plan.id,
        node: NodeId(2),
        cores: 1,
        history: plan.history,
        replicas: Vec::new(),
        data_ids: std::iter::once((NodeId(2), 5)).collect(),
        cluster_plan: Some(plan),
        ..sample()
    };
    let read = NodeFile::parse(PathBuf::from("F"), &idle.to_text());
    assert_eq!(read.expect("it can be read"), idle);
}

#[test]
fn a_node_that_contradicts_its_cluster_is_refused_with_what_is_wrong() {
    let text = clustered_sample().to_text();
    for (old, new, expected) in [
        (
            "node = 3\n",
            "node = 4\n",
            "this is node 4, and no cluster_node has id = 4",
        ),
        (
            "node = 3\n",
            "node = 2\n",
            "this node has 1 cores, and the cluster_node with id = 2 has 2",
        ),
        (
            "format = 3",
            "format = 2",
            "cluster_node, cluster_member and cluster_data belong to format 3",
        ),
        (
            "[[replica]]\nreplica = 4\n",
            "[[replica]]\nreplica = 9\n",
            "replica 9 of shard 1 is here on core 0, and no cluster_member says so",
        ),
        (
            "shard = 1\ncore = 0\n",
            "shard = 2\ncore = 0\n",
            "shard 2 has two replicas here",
        ),
        (
            "shard = 1\ncore = 0\n",
            "shard = 1\ncore = 1\n",
            "shard 1 is on core 1, of 1",
        ),
        (
            "10.0.0.2:7400",
            "10.0.0.2",
            "node 2: clients: \"10.0.0.2\" has no port",
        ),
        (
            "10.0.0.2:7400",
            "10.0.0.1:7400",
            "node 2: clients of its cores include 10.0.0.1:7400",
        ),
        (
            "replica = 2\nnode = 2",
            "replica = 1\nnode = 2",
            "replica 1 is a member of shard 0 and of shard 0",
        ),
        ("id = 1", "id = 2", "two nodes have id = 2"),
        ("id = 1", "id = 1\nrack = 1", "unknown field `rack`"),
    ] {
        assert!(text.contains(old), "{old:?} in {text}");
        let changed = text.replacen(old, new, 1);
        let found = NodeFile::parse(PathBuf::from("F"), &changed);
        let found = found.expect_err("it is refused").to_string();
        assert!(
            found.starts_with("F") && found.contains(expected),
            "{found:?}, not {expected:?}"
        );
    }
}

/// Who knows nothing of recoveries must not read it: it would talk to nodes that were left out.
#[test]
fn a_node_of_a_cluster_that_was_recovered_has_a_format_of_its_own() {
    let mut file = recovering_sample();
    for state in [NodeState::Serving, NodeState::Recovering] {
        file.state = state;
        let text = file.to_text();
        assert!(text.starts_with("format = 4\n"), "{text}");
        let entry = "[[cluster_recovery]]\nid = \"000000000000000000000000000000cd\"\n";
        assert!(text.contains(entry), "{text}");
        let read = NodeFile::parse(PathBuf::from("F"), &text);
        assert_eq!(read.expect("it can be read"), file);
    }
    let text = file.to_text();
    let never = clustered_sample().to_text();
    for (wrong, expected) in [
        (
            text.replacen("format = 4", "format = 3", 1),
            "format 3 does not go with 2 cluster_recovery entries",
        ),
        (
            never.replacen("format = 3", "format = 4", 1),
            "format 4 does not go with 0 cluster_recovery entries",
        ),
        (
            never.replacen("\"formatted\"", "\"recovering\"", 1),
            "the state \"recovering\" belongs to format 4",
        ),
        (
            text.replacen("00000cd\"", "00000cx\"", 1),
            "is not a hexadecimal number of 128 bits",
        ),
    ] {
        let found = NodeFile::parse(PathBuf::from("F"), &wrong);
        let found = found.expect_err("it is refused").to_string();
        assert!(found.contains(expected), "{found:?}, not {expected:?}");
    }
}

#[test]
fn a_replica_that_was_removed_is_missed_by_nobody() {
    let mut file = clustered_sample();
    file.unlist(ReplicaId(4));
    assert_eq!(file.replicas.len(), 1);
    let read = NodeFile::parse(PathBuf::from("F"), &file.to_text());
    assert_eq!(read.expect("it can be read"), file);
}
